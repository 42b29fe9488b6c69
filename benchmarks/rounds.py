"""Runs commands in fresh processes under equal conditions, one after the other, over several rounds."""

import argparse
import datetime
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LIBRARIES = ("numpy", "torch", "xla")

# What glibc's malloc does with freed memory. "keep": one heap that nothing is given back from, as the commands have it
# (flaxnets.cli.memory), so that no form waits for the kernel to hand out pages again. "default": as glibc has it.
ALLOCATORS: dict[str, dict[str, str]] = {
    "keep": {
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(2**40),
        "MALLOC_TOP_PAD_": str(2**26),
    },
    "default": {},
}
# Settings of the caller that would change what is measured.
_UNSET = ("XLA_", "JAX_", "TORCH", "OMP_", "MKL_", "KMP_", "OPENBLAS_", "MALLOC_", "GLIBC_", "LD_PRELOAD", "FLAXNETS_")


def parser(name: str, description: str | None, forms: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The options that all measurements share."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    if forms:
        made.add_argument("--forms", nargs="+", choices=forms, default=list(forms))
        made.add_argument("--seconds", type=float, default=5.0, help="how long each process measures")
        made.add_argument("--threads", type=int, default=os.cpu_count())
    made.add_argument("--rounds", type=int, default=5, help="fresh processes of each form")
    made.add_argument("--allocator", choices=ALLOCATORS, default="keep", help="of all forms alike")
    made.add_argument("--out", type=Path, default=ROOT / "docs", help="where speed.json, speed.md and speed.png are")
    return made


def environment(allocator: str, caches: str) -> dict[str, str]:
    """What every process gets: the CPU, one allocator, passive waiting, and empty caches in the first round."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_UNSET)}
    kept |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "XDG_CACHE_HOME": caches}
    # Spinning threads of OpenMP make torch many times slower wherever something else runs.
    kept["OMP_WAIT_POLICY"] = "PASSIVE"
    path = os.pathsep.join([str(ROOT), *filter(None, [kept.get("PYTHONPATH")])])
    return kept | {"TORCHINDUCTOR_CACHE_DIR": f"{caches}/inductor", "PYTHONPATH": path} | ALLOCATORS[allocator]


def fresh(command: Sequence[str], env: Mapping[str, str]) -> dict[str, Any]:
    """What a new process prints as its last line, or ``unavailable`` with the last line of its error."""
    done = subprocess.run(command, env=dict(env), cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return {"unavailable": f"exit status {done.returncode}: {lines[-1] if lines else 'no message'}"}


def worker(form: str, network: str, options: argparse.Namespace, *more: str, python: str = sys.executable) -> list[str]:
    """The command line of a worker."""
    common = ["--seconds", str(options.seconds), "--threads", str(options.threads)]
    return [python, "-m", "benchmarks.worker", form, network, *common, *more]


def measure(
    commands: Mapping[str, Sequence[str]], rounds: int, allocator: str, threads: int | None = None
) -> dict[str, Any]:
    """Runs every command once a round, in an order that turns, and with ``threads`` the matrix products' speed too.

    Returns:
        ``forms``: for each command the median over the rounds, the extremes, and the rest of what was found; and
        ``ceiling``: GFLOP/s of float32 matrix products, the best library of each round.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    ceilings = []
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as caches:
        env = environment(allocator, caches)
        for i in range(rounds):
            if threads:
                ceilings.append(max(_gemm(library, threads, env) for library in LIBRARIES))
            names = list(commands)
            for name in [*names[i % len(names) :], *names[: i % len(names)]]:
                if not (found[name] and "unavailable" in found[name][-1]):
                    found[name].append(fresh(commands[name], env))
                    print(f"  round {i + 1} of {rounds}: {name}: {_shown(found[name][-1])}", flush=True)
    return {
        "forms": {name: summarise(results) for name, results in found.items()},
        **({"ceiling": spread(ceilings)} if ceilings else {}),
    }


def _gemm(library: str, threads: int, env: Mapping[str, str]) -> float:
    return fresh([sys.executable, "-m", "benchmarks.ceiling", library, "--threads", str(threads)], env).get(
        "gflops", 0.0
    )


def _shown(result: Mapping[str, Any]) -> str:
    if "unavailable" in result:
        return result["unavailable"]
    return f"{statistics.median(result['seconds']) * 1e3:.4g} ms"


def spread(values: Iterable[float]) -> dict[str, Any]:
    """Median and extremes of the rounds, and all of them."""
    values = list(values)
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": values}


def summarise(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the rounds of one form: seconds a step as :func:`spread` has them, each round's the median of its samples."""
    failed = [result["unavailable"] for result in results if "unavailable" in result]
    if failed:
        return {"unavailable": failed[0]}
    row: dict[str, Any] = {"seconds": spread(statistics.median(result["seconds"]) for result in results)}
    if "compile_seconds" in results[0]:
        row["page_faults"] = statistics.median(result["page_faults"] for result in results)
        row["compile_seconds"] = results[0]["compile_seconds"]  # the caches are empty in the first round
        row["peak_megabytes"] = max(result["peak_megabytes"] for result in results)
        row["others"] = max(result["others"] for result in results)
        row["finite"] = all(result["finite"] for result in results)
    return row


def processor(field: str) -> str:
    """What Linux says of the first processor, such as its ``model name``."""
    return Path("/proc/cpuinfo").read_text().partition(f"{field}\t: ")[2].partition("\n")[0]


def conditions(options: argparse.Namespace) -> str:
    """Where and how something is measured, in words."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jaxlib", "flax", "torch"))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    return (
        f"{processor('model name')}, {getattr(options, 'threads', os.cpu_count())} threads, {versions}, "
        f"flaxnets at {commit.strip()}, allocator {options.allocator}, {options.rounds} rounds, "
        f"{datetime.date.today()}"
    )


def warn_if_busy() -> bool:
    """Says so, and returns True, if other processes take part of the machine: what is measured then is worth little."""
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"warning: the machine is busy (load {load:.1f}): do not publish this", file=sys.stderr)
    return load > 0.5


def load(out: Path) -> dict[str, dict[str, Any]]:
    """What was measured so far, by section."""
    path = out / "speed.json"
    return json.loads(path.read_text()) if path.exists() else {}


def save(out: Path, section: str, key: str, record: Mapping[str, Any]) -> None:
    """Puts a record in the place of the one before it."""
    found = load(out)
    found.setdefault(section, {})[key] = record
    out.mkdir(parents=True, exist_ok=True)
    (out / "speed.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
