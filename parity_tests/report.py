"""Write the coverage and the errors of the layer cases as a table for the documentation."""

from collections.abc import Iterable, Mapping
from typing import Any

HEADER = """# Layers

The tests compare every class and function of `flaxnets.nn` that computes with PyTorch {torch}. *Cases* is the number of
tested combinations of arguments and shapes. *Options* are the arguments that the cases set. The other columns are the
largest errors in float64, over training and evaluation mode, eager and jit. Errors of outputs and buffers are relative
to the largest value. Errors of gradients are relative to the norm of all gradients of inputs, or of all gradients of
parameters.

Made by `pytest parity_tests/layers/test_layers.py --eager --layers-report docs/layers.md`.

| name | cases | options | outputs | buffers | gradients |
|---|---|---|---|---|---|
"""


def measurement(name: str, options: Iterable[str], report: Any) -> dict[str, Any]:
    """Return the options and errors of one case, as plain values, which can be sent between processes."""

    def worst(*kinds: str) -> float | None:
        errors = [difference.error for kind in kinds if (difference := report.worst(kind, "float64"))]
        return max(errors, default=None)

    return {
        "name": name,
        "options": sorted(options),
        "outputs": worst("output"),
        "buffers": worst("buffer"),
        "gradients": worst("input gradient", "parameter gradient"),
    }


def layers_report(measured: Iterable[Mapping[str, Any]]) -> str:
    """Return the table of all measurements, one line for each name."""
    import torch

    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for measurement in measured:
        by_name.setdefault(measurement["name"], []).append(measurement)
    lines = []
    for name in sorted(by_name, key=str.lower):
        cases = by_name[name]
        options = ", ".join(f"`{o}`" for o in sorted({option for case in cases for option in case["options"]})) or "-"
        errors = [_largest(case[kind] for case in cases) for kind in ("outputs", "buffers", "gradients")]
        lines.append(f"| `{name}` | {len(cases)} | {options} | {' | '.join(errors)} |")
    total = sum(map(len, by_name.values()))
    return HEADER.format(torch=torch.__version__.split("+")[0]) + "\n".join(lines) + f"\n\n{total} cases in all.\n"


def _largest(errors: Iterable[float | None]) -> str:
    known = [error for error in errors if error is not None]
    return f"{max(known):.0e}" if known else "-"
