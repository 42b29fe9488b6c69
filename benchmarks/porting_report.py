"""Store the results of ports in ``porting.json``, and write ``porting_speed.md`` from this file."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import results

_INTRODUCTION = """# Ports of other libraries' models

`python -m benchmarks.port --out docs` ports models with random weights, each in a fresh process, and compares each port
with PyTorch in float64, in training and in evaluation mode. Images have the smallest size that the model takes, in
batches of 2. Models with stochastic depth are ported a second time, with rate 0, for the comparison in training mode.
Seconds include the comparisons; CPU seconds are the sum over all threads. [porting.md](porting.md) describes
`from_torch`."""

_PEERS = """## Speed of a ported model

Milliseconds of forward and backward in evaluation mode, float32, median of rounds, by
`python -m benchmarks.port_peers`. torchax and torch2jax run PyTorch's own modules under JAX."""


def save(out: Path, section: str, name: str, result: Mapping[str, Any]) -> None:
    """Put a result into ``porting.json``, and write the page."""
    results.save(out / "porting.json", (out / "porting_speed.md", page), section, name, result)


def page(known: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page for all results."""
    parts = [_INTRODUCTION]
    for section, rows in sorted(known.items()):
        if section != "peers":
            parts.append(_models(section, rows))
    if known.get("peers"):
        parts += [_PEERS, _speeds(known["peers"])]
    return "\n\n".join(parts) + "\n"


def _models(section: str, results: Mapping[str, Any]) -> str:
    passed = sum(result["passed"] for result in results.values())
    seconds = statistics.median(result["cpu_seconds"] for result in results.values())
    rows = "\n".join(f"| `{name}` | {_cells(result)} |" for name, result in sorted(results.items()))
    return (
        f"## {section}\n\n{passed} of {len(results)} models pass. The median of CPU seconds is {seconds:.1f}.\n\n"
        "| model | million parameters | image size | result | seconds | CPU seconds |\n|---|---|---|---|---|---|\n"
        + rows
    )


def _cells(result: Mapping[str, Any]) -> str:
    cause = (result["cause"].splitlines() or ["fails"])[0].replace("|", "\\|")
    passed = "passes" if result["passed"] else cause
    times = f"{result['seconds']:.1f} | {result['cpu_seconds']:.1f}"
    return f"{result['parameters'] / 1e6:.1f} | {result['size']} | {passed} | {times}"


def _speeds(results: Mapping[str, Mapping[str, float]]) -> str:
    forms = ("flaxnets", "torchax", "torch2jax")
    rows = "\n".join(
        f"| {name} | " + " | ".join(str(result.get(form, "not run")) for form in forms) + " |"
        for name, result in sorted(results.items())
    )
    return f"| model | {' | '.join(forms)} |\n|---|---|---|---|\n{rows}"
