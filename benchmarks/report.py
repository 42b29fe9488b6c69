"""Write ``speed.md`` and ``speed.png`` from ``speed.json``."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks import rounds
from benchmarks.sizes import SIZES
from benchmarks.worker import FORMS

TORCH = tuple(form for form in FORMS if form.startswith("torch"))
NAMES = {
    "torch": "torch",
    "torch_channels_last": "torch channels last",
    "torch_compile": "torch.compile",
    "nnx": "plain NNX",
    "flaxnets": "flaxnets",
}
COLORS = {
    "torch": "#f4a582",
    "torch_channels_last": "#d6604d",
    "torch_compile": "#b2182b",
    "nnx": "#92c5de",
    "flaxnets": "#2166ac",
}
Row = Mapping[str, Any]

BUSY = 0.1  # CPUs that other processes may use on average before a result is marked

_INTRODUCTION = """# Speed

Every number is the median over several rounds. Each round starts a fresh process for each variant, in rotating order.
Brackets show the minimum and the maximum over the rounds. All variants use the same data, batch size, threads and
allocator settings, float32, and SGD with momentum 0.9.

- *torch* is eager PyTorch in its default memory format. *Best torch* is the fastest of PyTorch's three variants.
- *plain NNX* is the network in Flax's own layers with `nnx.jit`, in the style of Flax's documentation
  (`benchmarks/plain_nnx.py`, `small_nnx.py`).
- *flaxnets* is the step of `flaxnets.training.fit`.

Ratios above 1 mean that flaxnets is faster. Ratios are computed within each round, so that a slow round does not change
them. [layers_speed.md](layers_speed.md) lists single layers.

Made by `python -m benchmarks.training`, `.versions`, `.inference`, `.scaling`, `.dispatch` and `.startup`."""

_TRAINING = """## Training

Examples (images, or windows of 35 characters) per second. Rows with `bfloat16` compute in bfloat16, in PyTorch with
`torch.autocast`. `mobilenet`, `resnext`, `convnext`, `unet`, `video_cnn` and `tcn` are small networks with other types
of convolutions, written for this benchmark (`benchmarks/small_flaxnets.py`)."""

_COST = """\
The GEMM ceiling is the fastest float32 matrix product of numpy, torch and XLA in the same rounds. A training step
counts as three times the multiply-adds of `flaxnets.summary` (forward, gradients of inputs, gradients of weights), with
two operations for each. This count includes a gradient of the images, which no variant computes. Compile time is the
difference between the first step and the later steps, with empty caches. Peak memory includes the whole process with
all libraries."""

_VERSIONS = """## Versions of JAX

Milliseconds per training step of flaxnets, with one column for each environment, and of the faster of PyTorch's two
eager variants. A ratio above 1 means that the last environment is faster than the first. Ratios are computed within
each round."""

_INFERENCE = """## Inference

Milliseconds per forward pass in evaluation mode. A pass ends when its result is available."""

_SCALING = """## Scaling

Milliseconds per training step. The exponent is the slope in a log-log plot; 1 means proportional. The last column is
the largest relative distance from the best line a + b n; 0 % means linear."""

_DISPATCH = """## Dispatch

Microseconds per training step of networks with almost no arithmetic. For `mlp` with one unit, the whole step is
overhead. For `resnet18` with one channel, most of the step passes arrays and starts operations. `fit` is the loop
around the step of flaxnets, which also selects the examples and checks the loss."""

_STARTUP = """## Start

Seconds from the start of a process to its end."""

_FIRST_STEP = """## First step

Difference in seconds between the first training step and the later steps, in a fresh process: tracing, compiling, and
converting the state. *Cold*: the compilation cache is empty. *Again*: the same program has run before."""

_COMPILING = """## Compiling

XLA compiles each distinct loop of a program separately, in 10 to 20 ms of processor time, on all cores. The step of
`densenet` has about 380 distinct loops, the step of `googlenet` about 410.

JAX caches compiled programs in a folder, except programs with oneDNN calls, because XLA cannot serialize these calls.
With `--backend auto`, every process that uses oneDNN compiles the training step of a convolutional network again. The
many small programs around the step are cached. `--backend xla` has no oneDNN calls: in the next process, the first step
takes about a fifth of the time.

These alternatives were measured, and are not faster overall:

- Separate programs between the oneDNN calls: `densenet` becomes 41 programs that can be cached, and 40 calls that
  compile in 0.6 s together. The step takes at least 1.2 times as long, because XLA fuses nothing across programs.
- Lower optimization levels of XLA: 10 to 60 % less compile time, and steps that take 1.2 to 4 times as long.
- Other splits of code generation, no loop unrolling, cheaper LLVM passes, other fusion emitters: no gain.
- Repeated blocks as functions that are not inlined: XLA copies a function for each call. Equal loops are compiled once
  in either case."""


def write(out: Path) -> None:
    """Write both files from all stored results."""
    records = rounds.load(out)
    sections = {"training": _training, "versions": _versions, "inference": _inference, "scaling": _scaling}
    sections |= {"dispatch": _dispatch, "startup": _startup, "first_step": _first_step}
    parts = [_INTRODUCTION]
    for name, section in sections.items():
        if name in records:
            parts += [*section(records[name]), _conditions(records[name])]
    parts.append(_COMPILING)
    (out / "speed.md").write_text("\n\n".join(parts) + "\n")
    if "training" in records:
        plot(records["training"], out / "speed.png")


def available(record: Row) -> dict[str, Row]:
    """Return the variants that were measured."""
    return {form: row for form, row in record["forms"].items() if "unavailable" not in row}


def best_torch(record: Row) -> str | None:
    """Return the PyTorch variant with the lowest median, or None if none was measured."""
    forms = available(record)
    return min(
        (form for form in TORCH if form in forms), key=lambda form: forms[form]["seconds"]["median"], default=None
    )


def ratios(record: Row) -> dict[str, dict[str, Any]]:
    """Return the speed of flaxnets relative to the best PyTorch variant and to plain NNX, in each round."""
    forms, result = available(record), {}
    for name, form in {"torch": best_torch(record), "nnx": "nnx"}.items():
        if form in forms and "flaxnets" in forms:
            theirs, ours = (forms[each]["seconds"]["rounds"] for each in (form, "flaxnets"))
            result[name] = rounds.spread(a / b for a, b in zip(theirs, ours, strict=True))
    return result


def microseconds(row: Row) -> str:
    """Format the time of a step of one variant: the median, and the minimum and maximum over the rounds."""
    if "unavailable" in row:
        return "n/a"
    median, least, most = (row["seconds"][key] * 1e6 for key in ("median", "min", "max"))
    return f"{median:.0f} ({least:.0f}-{most:.0f})"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(record: Row, shown: Callable[[Row], str]) -> list[str]:
    """Return one cell per variant, a dash for variants that were not measured."""
    rows = record["forms"]
    return ["-" if form not in rows else "n/a" if "unavailable" in rows[form] else shown(rows[form]) for form in FORMS]


def _ratio_cells(record: Row) -> list[str]:
    speedups = ratios(record)
    cells = []
    for name in ("torch", "nnx"):
        ratio = speedups.get(name)
        cells.append(_spread_cell(ratio) if ratio else "-")
    return cells


def _spread_cell(ratio: Row) -> str:
    return f"**{ratio['median']:.2f}** ({ratio['min']:.2f}-{ratio['max']:.2f})"


def _reasons(records: Mapping[str, Row]) -> list[str]:
    """Return one line per reason why variants are not available, with the networks."""
    names: dict[str, list[str]] = {}
    for name, record in records.items():
        for form, row in record["forms"].items():
            if "unavailable" in row:
                names.setdefault(f"{NAMES[form]}: {row['unavailable']}", []).append(f"`{name}`")
    return [f"n/a: {reason} ({', '.join(where)})." for reason, where in names.items()]


def _conditions(records: Mapping[str, Row]) -> str:
    """Return one line per set of conditions, with its networks. Marks records that were measured on a busy machine."""
    names_by_conditions: dict[str, list[str]] = {}
    for name, record in records.items():
        others = max(_others(record), default=0.0)
        busy = f" (**worth nothing**: others kept {others:.1f} processors busy)" if others > BUSY else ""
        names_by_conditions.setdefault(record["conditions"], []).append(f"`{name}`{busy}")
    return "\n".join(f"- {what}: {', '.join(names)}." for what, names in names_by_conditions.items())


def _others(tree: Any) -> Iterator[float]:
    for key, value in tree.items() if isinstance(tree, Mapping) else ():
        yield from [value] if key == "others" else _others(value)


def _ordered(records: Mapping[str, Row]) -> dict[str, Row]:
    """Sort records by the order of the networks in :data:`SIZES`, then by batch."""
    order = list(SIZES)
    return dict(sorted(records.items(), key=lambda item: (order.index(item[0].split()[0]), item[1].get("batch", 0))))


_RATIOS = ["flaxnets / best torch", "flaxnets / plain NNX"]


def _training(records: Mapping[str, Row]) -> list[str]:
    records = _ordered(records)
    speed = [
        [
            f"`{name}`",
            r["size"],
            *_cells(r, lambda row, r=r: _significant(r["batch"] / row["seconds"]["median"])),
            *_ratio_cells(r),
        ]
        for name, r in records.items()
    ]
    header = ["network", "batch x input", *NAMES.values(), *_RATIOS]
    cost = [[f"`{name}`", *_cost_cells(r)] for name, r in records.items()]
    shown = ["best torch", "plain NNX", "flaxnets"]
    costs = [f"{what}, {form}" for what in ("% of GEMM", "compile s", "peak MB") for form in shown]
    costs[3] = "compile s, torch.compile"
    return [_TRAINING, _table(header, speed), *_reasons(records), _COST, _table(["network", *costs], cost)]


def _cost_cells(record: Row) -> list[str]:
    forms, best = available(record), best_torch(record)

    def cells(chosen: Sequence[str | None], shown: Callable[[Row], str]) -> list[str]:
        return [shown(forms[form]) if form in forms else "-" for form in chosen]

    def percent(row: Row) -> str:
        operations = 3 * 2 * record["multiply_adds"] / row["seconds"]["median"]
        return f"{operations / record['ceiling']['median'] / 1e9:.1%}".rstrip("%")

    return [
        *cells((best, "nnx", "flaxnets"), percent),
        *cells(("torch_compile", "nnx", "flaxnets"), lambda row: f"{row['compile_seconds']:.1f}"),
        *cells((best, "nnx", "flaxnets"), lambda row: f"{row['peak_megabytes']:.0f}"),
    ]


def _significant(value: float) -> str:
    """Format a number with three significant digits, without an exponent."""
    digits = max(0, 2 - math.floor(math.log10(value)))
    return f"{round(value, 2 - math.floor(math.log10(value))):,.{digits}f}"


def _milliseconds(row: Row) -> str:
    return _significant(row["seconds"]["median"] * 1e3)


def _versions(records: Mapping[str, Row]) -> list[str]:
    records = _ordered(records)
    labels = list(dict.fromkeys(label for record in records.values() for label in record["versions"]))
    rows = []
    for name, record in records.items():
        forms, torch = available(record), best_torch(record)
        cells = [_milliseconds(forms[label]) if label in forms else "-" for label in labels]
        ratio = "-"
        if labels[0] in forms and labels[-1] in forms:
            first, last = (forms[label]["seconds"]["rounds"] for label in (labels[0], labels[-1]))
            ratio = _spread_cell(rounds.spread(a / b for a, b in zip(first, last, strict=True)))
        network, dtype = name.split()
        rows.append(
            [f"`{network}`", dtype, record["size"], _milliseconds(forms[torch]) if torch else "-", *cells, ratio]
        )
    return [_VERSIONS, _table(["network", "computed in", "batch x input", "torch", *labels, "ratio"], rows)]


def _inference(records: Mapping[str, Row]) -> list[str]:
    records = _ordered(records)
    rows = [
        [f"`{name.split()[0]}`", r["size"], *_cells(r, _milliseconds), *_ratio_cells(r)] for name, r in records.items()
    ]
    header = ["network", "batch x input", *NAMES.values(), *_RATIOS]
    return [_INFERENCE, _table(header, rows), *_reasons(records)]


def _scaling(records: Mapping[str, Row]) -> list[str]:
    parts = [_SCALING]
    for name, record in records.items():
        network, what = name.split()
        values, rows = record["values"], []
        for form, cells in record["forms"].items():
            if all("unavailable" not in row for row in cells.values()):
                seconds = [cells[str(value)]["seconds"]["median"] for value in values]
                exponent, off = _fit(values, seconds)
                shown = [_significant(second * 1e3) for second in seconds]
                rows.append([NAMES[form], *shown, f"{exponent:.2f}", f"{off:.0%}"])
        header = [f"`{network}`, {what}", *map(str, values), "exponent", "off a line"]
        parts.append(_table(header, rows))
    return parts


def _fit(values: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Return the exponent of a fitted power law, and the largest relative distance from a fitted line.

    The line minimizes the squares of the relative distances.
    """
    x, y = np.asarray(values, float), np.asarray(seconds, float)
    line = np.polyfit(x, y, 1, w=1 / y)
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]), float(np.abs(np.polyval(line, x) / y - 1).max())


def _dispatch(records: Mapping[str, Row]) -> list[str]:
    header = ["network", *NAMES.values(), "`fit`"]
    rows = []
    for name, record in records.items():
        fit = microseconds(record["forms"]["fit"]) if "fit" in record["forms"] else "-"
        rows.append([f"`{name}`", *_cells(record, microseconds), fit])
    return [_DISPATCH, _table(header, rows)]


def _startup(records: Mapping[str, Row]) -> list[str]:
    return [_STARTUP, _table(["command", "seconds"], [[f"`{name}`", _range(row)] for name, row in records.items()])]


def _first_step(records: Mapping[str, Row]) -> list[str]:
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for name, record in records.items():
        network, kernels, when = name.split()
        rows.setdefault((network, kernels), {})[when] = _range(record)
    header = ["network", "kernels", "cold", "again"]
    return [_FIRST_STEP, _table(header, [[f"`{n}`", k, row["cold"], row["again"]] for (n, k), row in rows.items()])]


def _range(record: Row) -> str:
    seconds = record["seconds"]
    return f"{seconds['median']:.2f} ({seconds['min']:.2f}-{seconds['max']:.2f})"


def plot(records: Mapping[str, Row], path: Path) -> None:
    """Plot the speed of each variant relative to the best PyTorch variant. Error bars: slowest and fastest round."""
    records = {name: record for name, record in _ordered(records).items() if best_torch(record)}
    figure = Figure(figsize=(9, 1.2 + 0.85 * len(records)), layout="constrained")
    axes = figure.add_subplot()
    height = 0.85 / len(FORMS)
    for i, form in enumerate(FORMS):
        positions, speeds, errors = [], [], []
        for place, record in enumerate(records.values()):
            forms = available(record)
            if form in forms:
                unit = forms[best_torch(record) or form]["seconds"]["median"]
                seconds = forms[form]["seconds"]
                speed = unit / seconds["median"]
                positions.append(place + (i - (len(FORMS) - 1) / 2) * height)
                speeds.append(speed)
                errors.append((speed - unit / seconds["max"], unit / seconds["min"] - speed))
        axes.barh(positions, speeds, height, color=COLORS[form], label=NAMES[form])
        axes.errorbar(
            speeds, positions, xerr=np.transpose(errors) if errors else None, fmt="none", ecolor="#444", lw=0.8
        )
        for place, speed, (_, above) in zip(positions, speeds, errors, strict=True):
            axes.annotate(
                f"{speed:.2f}", (speed + above, place), (3, 0), textcoords="offset points", fontsize=7, va="center"
            )
    axes.axvline(1, color="#444", lw=0.8, ls="--", zorder=0)
    axes.set_yticks(range(len(records)), [f"{name}\n{record['size']}" for name, record in records.items()])
    axes.invert_yaxis()
    axes.set_xlabel("training speed, the best form of PyTorch = 1 (longer is faster)")
    axes.margins(x=0.08, y=0.01)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(FORMS), frameon=False)
    figure.savefig(path, dpi=120)
