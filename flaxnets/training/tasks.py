"""Tasks: the parts of training, evaluation and export that depend on the data (images, text or points)."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxnets.data import fit_images, time_major
from flaxnets.registry import Recipe
from flaxnets.run_config import RunConfig
from flaxnets.training.objectives import Objective, classification, language, regression


@dataclasses.dataclass(frozen=True)
class Task:
    """A task, such as classification.

    Attributes:
        objective: the loss and the metrics of a batch.
        torch_measure: the same for a network in PyTorch: from ``torch.nn.functional``, outputs, targets, weights and
            the label smoothing to the sums.
        unit: the name of an example, in the plural.
        metrics: the names of the metrics.
        score: the metric that says how good a network is.
        transform: converts stored inputs, with the shape of an example as ``input_shape``, to inputs of the network.
        draw: draws inputs of the network at random: from a generator, the number of examples, the shape of an example
            and the options of the network.
        batch_axis: the axis of the batch in the inputs of the network.
        dtype: the dtype of the inputs of the network.
        of_images: whether the examples are images. Then the transform resizes them to fit the network, and the network
            tells classes apart.
        of_text: whether the examples are text, whose vocabulary a network must keep.
        plots: draws the outputs for the test examples: from outputs, targets, the names of the outputs and a folder.
        defaults: the settings that the recipe of a network leaves open.
    """

    objective: Objective
    torch_measure: Callable[..., Mapping[str, Any]]
    unit: str
    metrics: tuple[str, ...]
    score: str
    transform: Callable[..., Any]
    draw: Callable[..., np.ndarray]
    batch_axis: int = 0
    dtype: Any = jnp.float32
    of_images: bool = False
    of_text: bool = False
    plots: Callable[[np.ndarray, np.ndarray, Sequence[str], Path], None] | None = None
    defaults: Recipe = dataclasses.field(default_factory=Recipe)

    def batch_shape(self, input_shape: Sequence[int], batch: Any) -> tuple[Any, ...]:
        """Return the shape of the network's inputs for a batch.

        >>> TASKS["language"].batch_shape((35,), 8)
        (35, 8)
        """
        shape = [*input_shape]
        shape.insert(self.batch_axis, batch)
        return tuple(shape)

    def example_inputs(self, input_shape: Sequence[int], batch: int = 1) -> jax.ShapeDtypeStruct:
        """Return the shape and dtype of the network's inputs for a batch."""
        return jax.ShapeDtypeStruct(self.batch_shape(input_shape, batch), self.dtype)

    def goodness(self, record: Mapping[str, Any]) -> float:
        """Return the test score of an epoch as a number that is larger for a better network.

        >>> TASKS["language"].goodness({"test_perplexity": 4.0})
        -4.0
        """
        value = record[f"test_{self.score}"]
        return value if self.score == "accuracy" else -value


def transform_of(config: RunConfig) -> Callable[[Any], Any]:
    """Return the function from stored inputs, such as images in uint8, to inputs of the network of a run.

    >>> config = RunConfig(arch="linear_regression", task="regression", input_shape=(2,))
    >>> transform_of(config)([[1.0, 2.0]])
    [[1.0, 2.0]]
    """
    statistics = {"mean": config.mean, "std": config.std}
    normalization = {name: values for name, values in statistics.items() if values is not None}
    return functools.partial(TASKS[config.task].transform, input_shape=config.input_shape, **normalization)


def _draw_values(
    rng: np.random.Generator, count: int, input_shape: Sequence[int], model_options: Mapping[str, Any]
) -> np.ndarray:
    return rng.normal(size=(count, *input_shape)).astype(np.float32)


def _draw_text(
    rng: np.random.Generator, count: int, input_shape: Sequence[int], model_options: Mapping[str, Any]
) -> np.ndarray:
    ids = rng.integers(0, model_options.get("vocab_size", 2), (count, *input_shape)).astype(np.int32)
    return np.asarray(time_major(jnp.asarray(ids)))


def _torch_classification(functional: Any, outputs: Any, targets: Any, weights: Any, label_smoothing: float) -> Any:
    targets = targets if targets.is_floating_point() else targets.long()
    losses = functional.cross_entropy(outputs, targets, reduction="none", label_smoothing=label_smoothing)
    correct = outputs.argmax(1) == (targets if targets.ndim == 1 else targets.argmax(1))
    return {"loss": (losses * weights).sum(), "correct": (correct * weights).sum(), "count": weights.sum()}


def _torch_language(functional: Any, outputs: Any, targets: Any, weights: Any, label_smoothing: float) -> Any:
    flat, weights = targets.T.reshape(-1), weights.repeat(targets.shape[1])
    sums = _torch_classification(functional, outputs[0], flat, weights, label_smoothing)
    return {**sums, "log_perplexity": sums["loss"]}


def _torch_regression(functional: Any, outputs: Any, targets: Any, weights: Any, label_smoothing: float) -> Any:
    losses = (outputs - targets).square().flatten(1).mean(1)
    return {"loss": (losses * weights).sum(), "count": weights.sum()}


def _plot_confusion(outputs: np.ndarray, targets: np.ndarray, names: Sequence[str], folder: Path) -> None:
    from flaxnets.training.plots import confusion_matrix, plot_confusion

    plot_confusion(confusion_matrix(outputs.argmax(-1), targets, len(names)), names, folder / "confusion.png")


def _transform_text(ids: Any, input_shape: Sequence[int]) -> Any:
    return time_major(ids)


def _transform_values(inputs: Any, input_shape: Sequence[int]) -> Any:
    return inputs


TASKS = {
    "classification": Task(
        objective=classification,
        torch_measure=_torch_classification,
        unit="images",
        metrics=("loss", "accuracy"),
        score="accuracy",
        transform=fit_images,
        draw=_draw_values,
        of_images=True,
        plots=_plot_confusion,
    ),
    "language": Task(
        objective=language,
        torch_measure=_torch_language,
        unit="characters",
        metrics=("loss", "accuracy", "perplexity"),
        score="perplexity",
        transform=_transform_text,
        draw=_draw_text,
        batch_axis=1,
        dtype=jnp.int32,
        of_text=True,
        defaults=Recipe(clip_norm=1.0),
    ),
    "regression": Task(
        objective=regression,
        torch_measure=_torch_regression,
        unit="examples",
        metrics=("loss",),
        score="loss",
        transform=_transform_values,
        draw=_draw_values,
    ),
}
