"""Run commands in fresh processes under equal conditions, one after the other, in several rounds."""

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

# Settings of glibc's malloc. "keep": one heap whose freed memory stays in the process, as in the commands
# (flaxnets.cli.memory), so that no variant pays page faults for memory that it had before. "default": glibc's defaults.
ALLOCATORS: dict[str, dict[str, str]] = {
    "keep": {
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(2**40),
        "MALLOC_TOP_PAD_": str(2**26),
    },
    "default": {},
}
# Environment variables of the caller with these prefixes would change the results, and are removed.
_UNSET = ("XLA_", "JAX_", "TORCH", "OMP_", "MKL_", "KMP_", "OPENBLAS_", "MALLOC_", "GLIBC_", "LD_PRELOAD", "FLAXNETS_")


def parser(name: str, description: str | None, forms: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Create a parser with the options that all benchmarks share."""
    result = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    if forms:
        result.add_argument("--forms", nargs="+", choices=forms, default=list(forms))
        result.add_argument("--seconds", type=float, default=5.0, help="how long each process measures")
        result.add_argument("--threads", type=int, default=os.cpu_count())
    result.add_argument("--rounds", type=int, default=5, help="rounds: fresh processes per variant")
    result.add_argument("--allocator", choices=ALLOCATORS, default="keep", help="settings of glibc's malloc")
    result.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of speed.json, speed.md and speed.png")
    return result


def environment(allocator: str, caches: str) -> dict[str, str]:
    """Return the environment of each process: CPU only, one allocator, passive waiting, caches in ``caches``."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(_UNSET)}
    variables |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "XDG_CACHE_HOME": caches}
    # Spinning OpenMP threads make torch many times slower if another process runs.
    variables["OMP_WAIT_POLICY"] = "PASSIVE"
    path = os.pathsep.join([str(ROOT), *filter(None, [variables.get("PYTHONPATH")])])
    return variables | {"TORCHINDUCTOR_CACHE_DIR": f"{caches}/inductor", "PYTHONPATH": path} | ALLOCATORS[allocator]


def fresh(command: Sequence[str], env: Mapping[str, str]) -> dict[str, Any]:
    """Run a command, and parse the last line of its output as JSON.

    If the command fails, return the last line of its error output as ``unavailable``.
    """
    done = subprocess.run(command, env=dict(env), cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return {"unavailable": f"exit status {done.returncode}: {lines[-1] if lines else 'no message'}"}


def worker(form: str, network: str, options: argparse.Namespace, *more: str, python: str = sys.executable) -> list[str]:
    """Return the command line of a worker."""
    common = ["--seconds", str(options.seconds), "--threads", str(options.threads)]
    return [python, "-m", "benchmarks.worker", form, network, *common, *more]


def measure(
    commands: Mapping[str, Sequence[str]], rounds: int, allocator: str, threads: int | None = None
) -> dict[str, Any]:
    """Run every command once per round, in rotating order. With ``threads``, measure matrix products in each round too.

    Returns:
        ``forms``: the summary of each command over the rounds. With ``threads`` also ``ceiling``: the GFLOP/s of
        float32 matrix products, of the fastest library in each round.
    """
    results_by_command: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    ceilings = []
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as caches:
        env = environment(allocator, caches)
        for i in range(rounds):
            if threads:
                ceilings.append(max(_gemm(library, threads, env) for library in LIBRARIES))
            names = list(commands)
            for name in [*names[i % len(names) :], *names[: i % len(names)]]:
                if not (results_by_command[name] and "unavailable" in results_by_command[name][-1]):
                    results_by_command[name].append(fresh(commands[name], env))
                    print(f"  round {i + 1} of {rounds}: {name}: {_shown(results_by_command[name][-1])}", flush=True)
    return {
        "forms": {name: summarise(results) for name, results in results_by_command.items()},
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
    """Return the median, minimum and maximum of the rounds, and the values of all rounds."""
    values = list(values)
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": values}


def summarise(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise the rounds of one variant. The seconds of a round are the median of its samples."""
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
    """Return a field of the first CPU in ``/proc/cpuinfo``, such as ``model name``."""
    return Path("/proc/cpuinfo").read_text().partition(f"{field}\t: ")[2].partition("\n")[0]


def conditions(options: argparse.Namespace) -> str:
    """Describe the machine, the versions and the settings of a measurement in one line."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jaxlib", "flax", "torch"))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    return (
        f"{processor('model name')}, {getattr(options, 'threads', os.cpu_count())} threads, {versions}, "
        f"flaxnets at {commit.strip()}, allocator {options.allocator}, {options.rounds} rounds, "
        f"{datetime.date.today()}"
    )


def warn_if_busy() -> bool:
    """Print a warning and return True if other processes use the machine, which makes results unreliable."""
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"warning: the machine is busy (load {load:.1f}): do not publish these results", file=sys.stderr)
    return load > 0.5


def load(out: Path) -> dict[str, dict[str, Any]]:
    """Load all stored results, by section."""
    path = out / "speed.json"
    return json.loads(path.read_text()) if path.exists() else {}


def save(out: Path, section: str, key: str, record: Mapping[str, Any]) -> None:
    """Store a record in ``speed.json``. An earlier record with the same section and key is replaced."""
    sections = load(out)
    sections.setdefault(section, {})[key] = record
    out.mkdir(parents=True, exist_ok=True)
    (out / "speed.json").write_text(json.dumps(sections, indent=1, sort_keys=True) + "\n")
