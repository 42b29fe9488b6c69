"""Write ``docs/layers_speed.md`` from ``docs/layers_speed.json``."""

import collections
import importlib.metadata
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.layer_cells import DIRECTIONS, FORMS
from benchmarks.rounds import ROOT, processor

JSON, MARKDOWN = ROOT / "docs" / "layers_speed.json", ROOT / "docs" / "layers_speed.md"
_MAKERS = {"GenuineIntel": "Intel", "AuthenticAMD": "AMD"}
_TORCH = [form for form, framework in FORMS.items() if framework == "torch"]
_OURS = [form for form, framework in FORMS.items() if framework == "jax"]

_INTRODUCTION = """# Speed of layers

The tables contain every class of `torch.nn` that computes, and the functions of `torch.nn.functional` without a class.

- *torch*: milliseconds of eager PyTorch. Images and volumes use the faster of PyTorch's two memory formats.
- *plain*: ratio for the layer under `jax.jit` with default settings and images `(N, C, H, W)`.
- *engine*: ratio for the layer compiled by `flaxnets.training.fit`: within `kernels.use(kernels.choose())`, with arrays
  in the preferred layout of the backend.

Ratios above 1 mean that flaxnets is faster than PyTorch.

*Forward* is one call without gradients in evaluation mode (dropout: in training mode). *Forward + backward* computes
the gradients of all inputs and parameters for a random cotangent, in training mode. All arrays are float32. A call
ends when its result is available. *Compile* is the compile time of the plain forward + backward in seconds, with empty
caches.

All cells of a row are timed one after the other, in several turns. Times and ratios are medians over the turns. Each
ratio is computed within one turn. Rows are sorted by their lowest ratio. A dash means that nothing was measured.

Made by `python -m benchmarks.layers --write`."""


def key() -> str:
    """Return the vendor of this processor and the version of JAX, such as ``Intel, JAX 0.10.2``."""
    vendor = processor("vendor_id")
    return f"{_MAKERS.get(vendor, vendor)}, JAX {importlib.metadata.version('jax')}"


def load(path: Path) -> dict[str, Any]:
    """Load the results of a file, by :func:`key`. Returns an empty dictionary if the file does not exist."""
    return json.loads(path.read_text()) if path.exists() else {}


def rounded(tree: Any) -> Any:
    """Round the floats of nested results to four significant digits."""
    if isinstance(tree, Mapping):
        return {name: rounded(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [rounded(value) for value in tree]
    return float(f"{tree:.4g}") if isinstance(tree, float) else tree


def torch_seconds(row: Mapping[str, Any], direction: str) -> list[float] | None:
    """Return torch's seconds of each turn, in the memory format with the lower median."""
    measured = [row["seconds"].get(f"{form} {direction}") for form in _TORCH]
    return min(filter(None, measured), key=statistics.median, default=None)


def ratios(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the speed of each flaxnets cell relative to torch: the median of the ratios of the turns."""
    result = {}
    for direction in DIRECTIONS:
        theirs = torch_seconds(row, direction)
        for form in _OURS:
            ours = row["seconds"].get(f"{form} {direction}")
            if theirs and ours:
                result[f"{form} {direction}"] = statistics.median(a / b for a, b in zip(theirs, ours, strict=True))
    return result


def _cells(row: Mapping[str, Any]) -> list[str]:
    speedups, cells = ratios(row), []
    for direction in DIRECTIONS:
        theirs = torch_seconds(row, direction)
        cells.append("-" if theirs is None else f"{statistics.median(theirs) * 1e3:.3g}")
        for form in _OURS:
            cell = f"{form} {direction}"
            cells.append(f"{speedups[cell]:.2f}" if cell in speedups else "failed" if cell in row["failed"] else "-")
    seconds = row["prepare_seconds"].get("plain both")
    return [*cells, "-" if seconds is None else f"{seconds:.1f}"]


def shown(name: str, row: Mapping[str, Any]) -> str:
    """Return the results of a row as one line of text."""
    failures = [f"{cell}: {reason}" for cell, reason in row["failed"].items()]
    return " | ".join([name, *_cells(row), *failures])


def _rank(item: tuple[str, Mapping[str, Any]]) -> tuple[float, str]:
    name, row = item
    is_failed = any(cell.split()[0] in _OURS for cell in row["failed"])
    return 0.0 if is_failed else min(ratios(row).values(), default=float("inf")), name


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of all rows, the lowest ratio first."""
    columns = ("torch ms", *_OURS)
    header = ["layer", *(f"{column}, {what}" for what in ("forward", "forward + backward") for column in columns)]
    lines: list[Sequence[str]] = [[*header, "compile s"], ["---"] * (len(header) + 1)]
    lines += [[f"`{name}`", *_cells(row)] for name, row in sorted(rows.items(), key=_rank)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write() -> None:
    """Write the page from all stored results."""
    stored = load(JSON)
    parts = [_INTRODUCTION]
    for name, rows in sorted(stored.items()):
        conditions = collections.Counter(row["conditions"] for row in rows.values())
        lines = [f"- {each}: {count} rows." for each, count in conditions.items()]
        parts += [f"## {name}", "\n".join(lines), table(rows), *_failures(rows)]
    MARKDOWN.write_text("\n\n".join(parts) + "\n")


def _failures(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [f"- `{name}`, {cell}: {why}" for name, row in rows.items() for cell, why in row["failed"].items()]
    return ["Failed:", "\n".join(lines)] if lines else []
