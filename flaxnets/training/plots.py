"""Plots of a run: metrics over the epochs, the confusion matrix, filters and activations.

Each plot is a separate figure without the global state of pyplot, so that any thread may draw.
"""

import math
import os
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

_TRAIN, _TEST, _RATE = "tab:blue", "tab:orange", "tab:green"
_COUNTS = 20  # with more classes, the counts are too small to read
_LABELS = 100  # labels that fit on an axis
_FILTERS, _CHANNELS = 256, 16  # largest numbers of filters and channels that are drawn
Records = Sequence[Mapping[str, Any]]


def _save(figure: Figure, path: str | os.PathLike) -> None:
    """Write a PNG file atomically."""
    partial = Path(f"{path}.partial")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # the font may lack letters of the class names
            figure.savefig(partial, format="png", dpi=120)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def plot_curves(records: Records, path: str | os.PathLike, reference: Records | None = None) -> Figure:
    """Plot loss, accuracy or perplexity, and learning rate over the epochs, and mark the best epoch.

    Args:
        records: The records of all epochs, which :func:`flaxnets.training.fit` returns.
        path: The PNG file to write.
        reference: Records of the same run in PyTorch, drawn as dashed lines.

    Returns:
        The figure.

    Raises:
        ValueError: If ``records`` is empty.

    >>> import tempfile
    >>> records = [{"epoch": n, "train_loss": 1 / n, "test_loss": 1.1 / n} for n in (1, 2, 3)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plot_curves(records, f"{folder}/curves.png")
    >>> [axes.get_title() for axes in figure.axes]
    ['loss: best in test 0.3667, epoch 3']
    """
    if not records:
        raise ValueError("no records to plot. Expected one record for each epoch. Fix: train for at least one epoch")
    names = [name for name in ("loss", "accuracy", "perplexity") if f"test_{name}" in records[0]]
    # Language models are scored by perplexity, so their accuracy is not drawn.
    names = [name for name in names if (name, "perplexity") != ("accuracy", names[-1])]
    best = _best(records, names[-1])
    panels = [*names, *(["learning_rate"] if "learning_rate" in records[0] else [])]
    figure = Figure(figsize=(4.6 * len(panels), 3.6), layout="constrained")
    for i, name in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1, title=name.replace("_", " "), xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if name == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
        if name == "learning_rate":
            _line(axes, records, name, _RATE)
            continue
        ends = {part: _line(axes, records, f"{part}_{name}", color) for part, color in _COLORS.items()}
        for part in _COLORS if reference else ():
            _line(axes, reference or (), f"{part}_{name}", "black", dashes=(4, 3), linewidth=1)
        _label_ends(axes, ends)
        if best is not None:
            axes.plot([best["epoch"]], [best[f"test_{name}"]], "o", color=_TEST, mec="white", ms=9, label="best")
            if name == names[-1]:
                value = f"{best[f'test_{name}']:{'.2%' if name == 'accuracy' else '.4g'}}"
                axes.set_title(f"{name}: best in test {value}, epoch {best['epoch']}")
    if reference:
        figure.suptitle("colored: this run    dashed: the same in PyTorch", fontsize=10)
    _save(figure, path)
    return figure


_COLORS = {"train": _TRAIN, "test": _TEST}


def _best(records: Records, score: str) -> Mapping[str, Any] | None:
    """Return the record with the best test score, or None if no score is finite."""
    known = [record for record in records if math.isfinite(record[f"test_{score}"])]
    sign = -1 if score == "accuracy" else 1
    return min(known, key=lambda record: sign * record[f"test_{score}"], default=None)


def _line(axes: Axes, records: Records, name: str, color: str, **style: Any) -> tuple[float, float, str]:
    """Draw a metric over the epochs, and return the end of the line and its color."""
    xs = [record["epoch"] for record in records]
    ys = [value if math.isfinite(value) else math.nan for value in (record[name] for record in records)]
    marker = "o" if len(records) == 1 else None
    axes.plot(xs, ys, color=color, marker=marker, label=name, **style)
    known = [value for value in ys if not math.isnan(value)]
    return xs[-1], known[-1] if known else math.nan, color


def _label_ends(axes: Axes, ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Label two lines at their right ends, and move the labels apart if the ends are close."""
    known = {name: end for name, end in ends.items() if not math.isnan(end[1])}
    heights = [end[1] for end in known.values()]
    low, high = axes.get_ylim()
    close = len(heights) == 2 and abs(heights[0] - heights[1]) < 0.07 * (high - low)
    for name, (x, y, color) in known.items():
        shift = (6 if y >= max(heights) else -6) if close and heights[0] != heights[1] else 0
        if close and heights[0] == heights[1]:
            shift = 6 if name == "train" else -6
        axes.annotate(name, (x, y), (6, shift), textcoords="offset points", color=color, va="center", weight="bold")


def confusion_matrix(predictions: np.ndarray, targets: np.ndarray, num_classes: int) -> np.ndarray:
    """Count the examples of each true class (rows) by their predicted class (columns).

    Args:
        predictions: Predicted classes, of shape ``(n,)``.
        targets: True classes, of shape ``(n,)``.
        num_classes: Number of classes.

    Returns:
        Counts of shape ``(num_classes, num_classes)``.

    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    pairs = np.asarray(targets) * num_classes + np.asarray(predictions)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def plot_confusion(matrix: np.ndarray, classes: Sequence[str], path: str | os.PathLike) -> Figure:
    """Plot a confusion matrix. The colors show each row's shares; up to 20 classes, the cells show the counts.

    Args:
        matrix: Counts by true class (rows) and predicted class (columns).
        classes: Names of the classes.
        path: The PNG file to write.

    Returns:
        The figure.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plot_confusion(np.array([[9, 1], [2, 8]]), ["cat", "dog"], f"{folder}/confusion.png")
    >>> figure.axes[0].get_title()
    'accuracy 85.0%: 17 of 20'
    """
    matrix, count = np.asarray(matrix), len(classes)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    size = min(max(0.55 * count + 1.6, 4.2), 15)
    figure = Figure(figsize=(size + 0.9, size + 0.2), layout="compressed")
    axes = figure.add_subplot()
    # A linear scale would hide shares of about 1 %.
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    ticks = (0, 0.01, 0.1, 0.5, 1)
    bar = figure.colorbar(image, label="share of the true class", ticks=ticks, shrink=0.7, aspect=30, pad=0.01)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    right, total = int(np.trace(matrix)), int(matrix.sum())
    axes.set_title(f"accuracy {right / max(total, 1):.1%}: {right:,} of {total:,}")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    every = -(-count // _LABELS)
    names = [textwrap.shorten(name, 20, placeholder="…") for name in classes[::every]]
    long = max(map(len, names)) > 3
    font = min(10, 50 * (size - 2) / count * every)
    # Without parse_math=False, a dollar sign in a class name would begin a formula.
    axes.set_xticks(range(0, count, every), names, rotation=90 if long else 0, fontsize=font, parse_math=False)
    axes.set_yticks(range(0, count, every), names, fontsize=font, parse_math=False)
    if count <= _COUNTS:
        for (row, column), number in np.ndenumerate(matrix):
            if number:
                color = "white" if shares[row, column] > 0.3 else "black"
                axes.text(column, row, f"{number}", ha="center", va="center", color=color, fontsize=9)
    _save(figure, path)
    return figure


def plot_filters(weights: np.ndarray, path: str | os.PathLike) -> Figure:
    """Plot convolution filters as a grid of images.

    Filters of three channels are color images. Other filters show the mean over their channels, from blue to red.

    Args:
        weights: Weights of shape ``(filters, channels, height, width)``. The first 256 filters are drawn.
        path: The PNG file to write.

    Returns:
        The figure.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plot_filters(np.ones((6, 1, 5, 5)), f"{folder}/filters.png")
    >>> figure.axes[0].get_title()
    '6 filters of 1x5x5: red above 0, blue below'
    """
    count, channels, height, width = weights.shape
    drawn = weights[:_FILTERS].transpose(0, 2, 3, 1)
    drawn = drawn if channels == 3 else drawn.mean(-1, keepdims=True)
    drawn = drawn / (np.abs(drawn).max() or 1.0)
    columns = math.ceil(math.sqrt(len(drawn) * 1.6))
    rows = -(-len(drawn) // columns)
    picture = np.concatenate([_tiles(drawn[i * columns : (i + 1) * columns], columns) for i in range(rows)])
    inches = 0.75 if height <= 16 else 1.0
    figure = Figure(figsize=(max(inches * columns, 5), inches * rows * height / width + 0.5), layout="constrained")
    meaning = "gray is 0" if channels == 3 else "red above 0, blue below"
    axes = figure.add_subplot(title=f"{count} filters of {channels}x{height}x{width}: {meaning}")
    axes.set_axis_off()
    axes.imshow(picture / 2 + 0.5 if channels == 3 else picture[..., 0], cmap="RdBu_r", vmin=-1, vmax=1)
    _save(figure, path)
    return figure


def plot_activations(image: np.ndarray, outputs: Mapping[str, np.ndarray], path: str | os.PathLike) -> Figure:
    """Plot the outputs of layers for one example, one row for each layer.

    The first 16 channels of an image are drawn side by side. A vector is drawn as a strip.

    Args:
        image: Input of the network, of shape ``(channels, height, width)`` or ``(features,)``.
        outputs: Outputs by layer name, without the batch axis.
        path: The PNG file to write.

    Returns:
        The figure.

    >>> import tempfile
    >>> outputs = {"0 Conv2d": np.ones((6, 24, 24)), "1 Linear": np.arange(10.0)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plot_activations(np.zeros((1, 28, 28)), outputs, f"{folder}/activations.png")
    >>> len(figure.axes)
    3
    """
    rows = {"input": image, **outputs}
    rows = {name: np.ravel(array) if array.shape[1:] == (1, 1) else array for name, array in rows.items()}
    heights = [0.8 if array.ndim == 3 else 0.35 for array in rows.values()]
    figure = Figure(figsize=(13, sum(heights) + 0.12 * len(rows)), layout="constrained")
    grid = figure.add_gridspec(len(rows), 1, height_ratios=heights)
    for i, (name, array) in enumerate(rows.items()):
        axes = figure.add_subplot(grid[i])
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        shape = "x".join(map(str, array.shape))
        axes.set_ylabel(f"{name}\n{shape}", rotation=0, ha="right", va="center", fontsize=8)
        picture, aspect = (_channels(array), "equal") if array.ndim == 3 else (np.ravel(array)[None], "auto")
        axes.imshow(picture, cmap="viridis" if i else "gray", aspect=aspect, interpolation="nearest")
        axes.set_anchor("W")
    _save(figure, path)
    return figure


def _channels(array: np.ndarray) -> np.ndarray:
    """Return the first 16 channels side by side, each scaled to its range, padded to the width of 16 channels."""
    shown = array[:_CHANNELS, :, :, None]
    low, high = (bound((1, 2), keepdims=True) for bound in (shown.min, shown.max))
    return _tiles((shown - low) / np.where(high > low, high - low, 1), _CHANNELS)[..., 0]


def _tiles(images: np.ndarray, columns: int) -> np.ndarray:
    """Arrange images ``(n, height, width, channels)`` in a row of ``columns`` cells, with NaN in the gaps."""
    count, height, width, channels = images.shape
    gap = max(width // 12, 1)
    row = np.full((columns, height + gap, width + gap, channels), np.nan)
    row[:count, :height, :width] = images
    return row.transpose(1, 0, 2, 3).reshape(height + gap, -1, channels)
