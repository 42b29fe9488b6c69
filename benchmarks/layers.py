"""Time every layer: torch in its best memory format, flaxnets under plain ``jax.jit``, and flaxnets in the engine.

``python -m benchmarks.layers`` measures all rows of ``benchmarks/layer_rows.py``. ``python -m benchmarks.layers Conv2d
"*Pool*"`` measures the rows whose class name matches. ``--json FILE`` merges the results into a file. ``--write``
merges the results into ``docs/layers_speed.json`` and writes ``docs/layers_speed.md``.

A round measures the rows in random order. Two processes, one with PyTorch and one with JAX, prepare all cells of a row
(a variant in a direction), and then time one cell after the other, in turns. Each turn times every cell for
``--seconds``. Ratios are computed within a turn. The processes are replaced after every ``ROWS_A_PROCESS`` rows.
"""

import argparse
import fnmatch
import json
import os
import queue
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import layers_report, rounds
from benchmarks.layer_cells import DIRECTIONS, FORMS, STATISTICS
from benchmarks.layer_rows import ROWS

ROWS_A_PROCESS = 20
LIMIT = 600  # seconds that one request may take
SECONDS_A_ROW = 7.0  # to prepare a row and start processes, for the estimate of the total time


class Cell(NamedTuple):
    """One number of a row: a variant of ``FORMS`` and a direction of ``DIRECTIONS``."""

    form: str
    direction: str

    def __str__(self) -> str:
        return f"{self.form} {self.direction}"


CELLS = [Cell(form, direction) for direction in DIRECTIONS for form in FORMS]


class Lost(Exception):
    """Raised if a process ended or did not answer in time."""


class Process:
    """A process of ``benchmarks.layer_cells``, started at the first request."""

    def __init__(self, threads: int, env: Mapping[str, str]):
        self._command = [sys.executable, "-m", "benchmarks.layer_cells", "--threads", str(threads)]
        self._env = env
        self._process: Any = None
        self._answers: queue.Queue[str] = queue.Queue()

    def ask(self, *request: Any) -> dict[str, Any]:
        """Send a request, and return the answer. Raises :class:`Lost` if the process ends or does not answer."""
        process = self._process or self._start()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            answer = self._answers.get(timeout=LIMIT)
        except (OSError, queue.Empty):
            answer = ""
        if answer:
            return json.loads(answer)
        status = process.poll()
        self.end()
        raise Lost(f"no answer within {LIMIT} s" if status is None else f"exit status {status}")

    def _start(self) -> Any:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(self._command, env=dict(self._env), cwd=rounds.ROOT, text=True, **pipes)
        self._process, self._answers = process, (answers := queue.Queue())

        def read() -> None:
            for line in process.stdout or ():
                answers.put(line)
            process.wait()
            answers.put("")

        threading.Thread(target=read, daemon=True).start()
        return process

    def end(self) -> None:
        """End the process. The next request starts a new process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def measure_row(
    name: str, processes: Mapping[str, Process], options: argparse.Namespace, order: random.Random
) -> dict[str, Any]:
    """Return the seconds of each turn and of preparation for each cell, and the reasons of the cells that failed."""
    failed: dict[str, str] = {}
    absent: set[Cell] = set()
    while True:
        cells = [cell for cell in CELLS if cell not in absent and str(cell) not in failed]
        prepared, times = {}, {}
        cell = None
        try:
            for cell in cells:
                answer = processes[FORMS[cell.form]].ask("prepare", name, *cell)
                if "absent" in answer:
                    absent.add(cell)
                elif "failed" in answer:
                    failed[str(cell)] = answer["failed"]
                else:
                    prepared[str(cell)], times[cell] = answer["prepare_seconds"], []
            for _ in range(options.turns):
                for cell in order.sample(list(times), len(times)):
                    process = processes[FORMS[cell.form]]
                    answer = process.ask("time", name, *cell, options.seconds, options.statistic)
                    times[cell].append(answer["seconds"])
        except Lost as error:  # prepare the other cells again, in a new process
            failed[str(cell)] = str(error)
            continue
        return {
            "seconds": {str(cell): values for cell, values in times.items()},
            "prepare_seconds": prepared,
            "failed": failed,
        }


def merged(first: Mapping[str, Any] | None, second: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the results of a row from two rounds: concatenate the turns, and keep all failures."""
    if first is None:
        return dict(second)
    failed = {**first["failed"], **second["failed"]}
    both = [cell for cell in first["seconds"] if cell in second["seconds"]]
    return {
        "seconds": {cell: first["seconds"][cell] + second["seconds"][cell] for cell in both},
        "prepare_seconds": {cell: first["prepare_seconds"][cell] for cell in both},
        "failed": failed,
    }


def matching(patterns: Iterable[str]) -> list[str]:
    """Return the rows whose class name matches a pattern, or whose full name equals it.

    Raises:
        ValueError: If a pattern matches no row.
    """
    matches: dict[str, None] = {}
    for pattern in patterns:
        names = [key for key, row in ROWS.items() if pattern == key or fnmatch.fnmatchcase(row.name, pattern)]
        if not names:
            raise ValueError(f"no row matches {pattern!r}. Expected names of torch.nn such as Conv2d or '*Pool*'")
        matches |= dict.fromkeys(names)
    return list(matches)


def save(path: Path, conditions: str, results: Mapping[str, Any]) -> None:
    """Replace the results of these rows in a file, for this processor vendor and this version of JAX."""
    stored = layers_report.load(path)
    rows = {name: {**row, "conditions": conditions} for name, row in layers_report.rounded(results).items()}
    stored.setdefault(layers_report.key(), {}).update(rows)
    path.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layers", description=__doc__)
    parser.add_argument("patterns", nargs="*", default=["*"], help="patterns of names of classes and functions")
    parser.add_argument("--rounds", type=int, default=2, help="rounds, each with fresh processes")
    parser.add_argument("--turns", type=int, default=3, help="turns in each round")
    parser.add_argument("--seconds", type=float, default=0.1, help="seconds per cell and turn")
    parser.add_argument("--statistic", choices=STATISTICS, default="median", help="minimum: for busy machines")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--allocator", choices=rounds.ALLOCATORS, default="keep", help="settings of glibc's malloc")
    parser.add_argument("--json", type=Path, metavar="FILE", help="merge the results into this file")
    parser.add_argument("--missing", action="store_true", help="skip the rows that FILE (or docs) already has")
    parser.add_argument("--write", action="store_true", help="merge the results into docs, and write the page")
    options = parser.parse_args(arguments)
    busy = ", **on a busy machine**" if rounds.warn_if_busy() else ""
    conditions = f"{rounds.conditions(options)}, {options.turns} turns, {options.statistic} of each turn{busy}"
    names = matching(options.patterns)
    if options.missing:
        measured = layers_report.load(options.json or layers_report.JSON).get(layers_report.key(), {})
        names = [name for name in names if name not in measured]
    a_row = SECONDS_A_ROW + 1.1 * options.turns * options.seconds * len(CELLS)
    print(f"{len(names)} rows, about {len(names) * a_row * options.rounds / 60:.0f} minutes", flush=True)
    results: dict[str, Any] = {}
    paths = [path for path in (options.json, layers_report.JSON if options.write else None) if path]
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as caches:
        env = rounds.environment(options.allocator, caches)
        processes = {framework: Process(options.threads, env) for framework in set(FORMS.values())}
        try:
            for i in range(options.rounds):
                order = random.Random(i)
                for position, name in enumerate(order.sample(names, len(names))):
                    if position % ROWS_A_PROCESS == 0:
                        for process in processes.values():
                            process.end()
                    result = measure_row(name, processes, options, order)
                    results[name] = merged(results.get(name), result)
                    print(f"{i + 1}.{position + 1}/{len(names)} {layers_report.shown(name, results[name])}", flush=True)
                    for path in paths:
                        save(path, conditions, {name: results[name]})
        finally:
            for process in processes.values():
                process.end()
    if options.write:
        layers_report.write()


if __name__ == "__main__":
    main()
