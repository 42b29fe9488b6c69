"""Tests that plots show the numbers of the records."""

import math

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics

from flaxnets.training.plots import confusion_matrix, plot_activations, plot_confusion, plot_curves, plot_filters


def records(names: list[str], epochs: int, rng: np.random.Generator) -> list[dict[str, float]]:
    return [{"epoch": epoch, **dict(zip(names, rng.random(len(names)), strict=True))} for epoch in range(1, epochs + 1)]


def both(*names: str) -> list[str]:
    return [f"{part}_{name}" for part in ("train", "test") for name in names]


# The metrics of a run's records, and the panels that show them.
RUNS = {
    "images": (
        [*both("loss", "accuracy"), "learning_rate", "images_per_second"],
        ["loss", "accuracy", "learning_rate"],
    ),
    "text": ([*both("loss", "accuracy", "perplexity"), "learning_rate"], ["loss", "perplexity", "learning_rate"]),
    "points": (both("loss"), ["loss"]),
}


def lines(axes) -> dict[tuple[str, str], np.ndarray]:
    """Return the lines of a panel by name and line style (solid or dashed)."""
    return {(str(line.get_label()), line.get_linestyle()): np.asarray(line.get_xydata()) for line in axes.get_lines()}


@pytest.mark.parametrize("epochs", [1, 7])
@pytest.mark.parametrize(("names", "panels"), RUNS.values(), ids=RUNS)
def test_curves_are_the_records(names, panels, epochs, tmp_path, rng):
    ours, torchs = records(names, epochs, rng), records(names, epochs, rng)
    figure = plot_curves(ours, tmp_path / "curves.png", torchs)
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    assert len(figure.axes) == len(panels)
    for axes, panel in zip(figure.axes, panels, strict=True):
        assert axes.get_title().startswith(panel.replace("_", " "))
        drawn = lines(axes)
        for name in [panel] if panel == "learning_rate" else both(panel):
            expected = [[record["epoch"], record[name]] for record in ours]
            np.testing.assert_array_equal(drawn[name, "-"], expected)
            if panel != "learning_rate":
                expected = [[record["epoch"], record[name]] for record in torchs]
                np.testing.assert_array_equal(drawn[name, "--"], expected)


BEST = {
    "the highest accuracy": ("accuracy", [0.5, 0.9, 0.8], 2, "best in test 90.00%, epoch 2"),
    "the lowest perplexity": ("perplexity", [9.0, math.inf, 4.0, 5.0], 3, "best in test 4, epoch 3"),
    "the lowest loss": ("loss", [0.25, 0.5], 1, "best in test 0.25, epoch 1"),
}


@pytest.mark.parametrize(("score", "values", "epoch", "words"), BEST.values(), ids=BEST)
def test_the_best_epoch_is_marked(score, values, epoch, words, tmp_path):
    rows = [
        {"epoch": i + 1, **dict.fromkeys(both("loss"), 1.0), **dict.fromkeys(both(score), value)}
        for i, value in enumerate(values)
    ]
    axes = plot_curves(rows, tmp_path / "curves.png").axes[-1]
    assert words in axes.get_title()
    np.testing.assert_array_equal(lines(axes)["best", "None"], [[epoch, values[epoch - 1]]])


def test_labels_of_lines_that_end_together_are_apart(tmp_path):
    rows = [{"epoch": epoch, "train_loss": 1 / epoch, "test_loss": 1.001 / epoch} for epoch in (1, 2, 3)]
    figure = plot_curves(rows, tmp_path / "curves.png")
    figure.canvas.draw()
    low, high = sorted((text.get_window_extent() for text in figure.axes[0].texts), key=lambda extent: extent.y0)
    assert low.y1 <= high.y0 + 4  # pixels: letters without ascenders leave this much space


def test_infinite_values_leave_a_gap(tmp_path):
    rows = [{"epoch": epoch, "train_loss": math.inf, "test_loss": math.nan} for epoch in (1, 2)]
    axes = plot_curves(rows, tmp_path / "curves.png").axes[0]
    assert np.isnan(lines(axes)["train_loss", "-"][:, 1]).all()
    assert axes.get_title() == "loss"


def test_no_record_no_curves(tmp_path):
    with pytest.raises(ValueError, match=r"no records to plot\. Expected one record"):
        plot_curves([], tmp_path / "curves.png")
    assert list(tmp_path.iterdir()) == []


def test_confusion_is_counted_as_scikit_learn_does(rng):
    targets, predictions = rng.integers(0, 5, 300), rng.integers(0, 4, 300)
    expected = metrics.confusion_matrix(targets, predictions, labels=range(6))
    np.testing.assert_array_equal(confusion_matrix(predictions, targets, 6), expected)


@pytest.mark.parametrize("count", [2, 10, 20, 21, 100, 150])
def test_confusion_shows_shares_and_few_classes_counts(count, tmp_path, rng):
    matrix = rng.integers(0, 4, (count, count)) + 50 * np.eye(count, dtype=int)
    matrix[1] = 0  # a class without examples
    names = [f"the class number {i}" for i in range(count)]
    axes, bar = plot_confusion(matrix, names, tmp_path / "confusion.png").axes
    shares = matrix / np.maximum(matrix.sum(1), 1)[:, None]
    np.testing.assert_array_equal(axes.images[0].get_array(), shares)
    written = {text.get_position(): text.get_text() for text in axes.texts}
    expected = {(j, i): str(n) for (i, j), n in np.ndenumerate(matrix) if n} if count <= 20 else {}
    assert written == expected
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == names[:: 1 if count <= 100 else 2]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    right, total = np.trace(matrix), matrix.sum()
    assert axes.get_title() == f"accuracy {right / total:.1%}: {right:,} of {total:,}"
    assert bar.get_ylabel() == "share of the true class"
    with Image.open(tmp_path / "confusion.png") as picture:
        assert max(picture.size) < 2_000


# The shape of the filters, and the pixels of the picture that the second filter fills.
FILTERS = {
    "one channel": ((6, 1, 5, 5), (slice(0, 5), slice(6, 11))),
    "a color image": ((5, 3, 4, 6), (slice(0, 4), slice(7, 13))),
    "many channels": ((300, 7, 3, 3), (slice(0, 3), slice(4, 7))),
}


@pytest.mark.parametrize(("shape", "cells"), FILTERS.values(), ids=FILTERS)
def test_filters_keep_their_proportions(shape, cells, tmp_path, rng):
    weights = rng.normal(size=shape)
    (axes,) = plot_filters(weights, tmp_path / "filters.png").axes
    drawn = np.asarray(axes.images[0].get_array())[cells]
    expected = weights[1].transpose(1, 2, 0) if shape[1] == 3 else weights[1].mean(0)
    drawn = 2 * drawn - 1 if shape[1] == 3 else drawn
    ratio = drawn / expected
    np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-6)
    assert axes.get_title().startswith(f"{shape[0]} filters of ")


def test_activations_have_a_row_for_each_layer(tmp_path, rng):
    outputs = {"0 Conv2d": rng.normal(size=(20, 8, 8)), "1 Linear": rng.normal(size=10), "2 ReLU": np.zeros((2, 4, 4))}
    outputs["3 AvgPool2d"] = rng.normal(size=(12, 1, 1))
    figure = plot_activations(rng.random((1, 8, 8)), outputs, tmp_path / "activations.png")
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "input\n1x8x8", "0 Conv2d\n20x8x8", "1 Linear\n10", "2 ReLU\n2x4x4", "3 AvgPool2d\n12",
    ]  # fmt: skip
    pictures = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    np.testing.assert_array_equal(pictures[2], outputs["1 Linear"][None])
    channel = outputs["0 Conv2d"][3]
    np.testing.assert_allclose(pictures[1][:8, 27:35], (channel - channel.min()) / np.ptp(channel))
    assert pictures[1].shape == (9, 16 * 9)
    np.testing.assert_array_equal(pictures[3][:4, :4], 0)
    np.testing.assert_array_equal(pictures[4], outputs["3 AvgPool2d"].reshape(1, 12))


def test_a_picture_appears_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    path.write_text("the one before")

    def save(figure, partial, **options):
        partial.write_text("half a pict")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", save)
    with pytest.raises(OSError, match="No space left on device"):
        plot_curves([{"epoch": 1, "train_loss": 1.0, "test_loss": 1.0}], path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("curves.png", "the one before")]
