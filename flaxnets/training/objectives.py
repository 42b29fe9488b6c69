"""What is minimised and what is reported, as sums over the examples of a batch."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from flaxnets import nn
from flaxnets.nn import functional as F
from flaxnets.optim.frozen import array_of
from flaxnets.optim.transformation import named_nodes
from flaxnets.state import is_frozen

Metrics = dict[str, jax.Array]
Objective = Callable[[Any, Any, jax.Array], Metrics]


def classification(
    outputs: Float[Array, "n classes"],
    targets: Int[Array, " n"] | Float[Array, "n classes"],
    weights: Float[Array, " n"],
    *,
    label_smoothing: float = 0.0,
) -> Metrics:
    """Cross-entropy of the logits, and how many examples have their largest logit at the target.

    Args:
        outputs: logits.
        targets: the right class of each example, or the probability of each class; then the most probable is right.
        weights: how much each example counts; 0 for one that only fills up a batch.
        label_smoothing: the part of the target that is spread over all classes.

    Returns:
        The weighted sums ``loss`` (in nats) and ``correct``, and ``count``, the sum of the weights.

    >>> sums = classification(jnp.array([[0.0, 9.0]]), jnp.array([1]), jnp.ones(1))
    >>> int(sums["correct"]), int(sums["count"])
    (1, 1)
    """
    losses = F.cross_entropy(outputs, targets, reduction="none", label_smoothing=label_smoothing)
    correct = outputs.argmax(-1) == (targets if targets.ndim == 1 else targets.argmax(-1))
    return {"loss": (losses * weights).sum(), "correct": (correct * weights).sum(), "count": weights.sum()}


def language(
    outputs: tuple[Float[Array, "tn vocab"], Any], targets: Int[Array, "n t"], weights: Float[Array, " n"]
) -> Metrics:
    """Cross-entropy of each character, given those before it.

    Args:
        outputs: logits of all windows' first characters, then of their second ones, ...; and the state, not used.
        targets: the right characters of each window.
        weights: how much each window counts.

    Returns:
        As :func:`classification`, with characters for examples; and ``log_perplexity``, which is ``loss`` again.

    >>> sums = language((jnp.zeros((6, 4)), None), jnp.ones((2, 3), int), jnp.ones(2))
    >>> int(sums["count"]), float(jnp.exp(sums["log_perplexity"] / sums["count"]).round(3))
    (6, 4.0)
    """
    logits, _ = outputs
    sums = classification(logits, targets.T.ravel(), jnp.tile(weights, targets.shape[1]))
    return {**sums, "log_perplexity": sums["loss"]}


def regression(outputs: Float[Array, "n ..."], targets: Float[Array, "n ..."], weights: Float[Array, " n"]) -> Metrics:
    """Squared error, a mean over the values of each example.

    Args:
        outputs: predictions.
        targets: the right values, in the same shape.
        weights: how much each example counts.

    Returns:
        The weighted sum ``loss``, and ``count``, the sum of the weights.

    Raises:
        ValueError: for outputs and targets of different shapes.

    >>> sums = regression(jnp.array([[1.0], [5.0]]), jnp.array([[1.0], [2.0]]), jnp.ones(2))
    >>> float(sums["loss"]), float(sums["count"])
    (9.0, 2.0)
    """
    if outputs.shape != targets.shape:
        raise ValueError(f"outputs of shape {outputs.shape} need targets of that shape, got {targets.shape}")
    losses = jnp.square(outputs - targets).reshape(len(weights), -1).mean(1)
    return {"loss": (losses * weights).sum(), "count": weights.sum()}


def as_objective(objective: Objective | nn.Module) -> Objective:
    """Returns the objective that a loss of :mod:`flaxnets.nn` of two arguments is; an objective as it is.

    ``loss / count`` is torch's mean: with weights of classes, ``count`` is the sum of those of the targets, and what
    ``ignore_index`` names does not count. Where targets are classes, ``correct`` is weighed as the loss is.

    Args:
        objective: an objective, or such a layer.

    Raises:
        ValueError: for a layer that has no reduction, or whose reduction is no mean.

    >>> objective = as_objective(nn.CrossEntropyLoss(ignore_index=2))
    >>> sums = objective(jnp.zeros((3, 4)), jnp.array([0, 1, 2]), jnp.ones(3))
    >>> int(sums["count"]), int(sums["correct"]), round(float(sums["loss"] / sums["count"]), 3)
    (2, 1, 1.386)
    """
    if not isinstance(objective, nnx.Module):
        return objective
    reduction = getattr(objective, "reduction", None)
    if reduction not in ("mean", "batchmean"):
        raise ValueError(
            f"{type(objective).__name__} has the reduction {reduction!r}; what is minimised is a mean over the batch, "
            "so that a loss to train with needs 'mean'"
        )
    every: Any = nnx.clone(objective)
    every.reduction = "none"

    def sums(outputs: Any, targets: Any, weights: jax.Array) -> Metrics:
        losses = every(outputs, targets)
        shares = jnp.ones_like(losses)
        classes = hasattr(every, "ignore_index") and not jnp.issubdtype(targets.dtype, jnp.inexact)
        if classes:
            known = targets != every.ignore_index
            shares = known * (1.0 if every.weight is None else every.weight[...][jnp.where(known, targets, 0)])
        weights = weights.reshape(-1, *[1] * (losses.ndim - 1))
        values = losses.size // len(losses) if reduction == "mean" else 1  # of each example
        found = {"loss": losses, "count": shares}
        if classes:
            found["correct"] = (outputs.argmax(1) == targets) * shares
        return {name: (array * weights).sum() / values for name, array in found.items()} | (
            {"count": weights.sum()} if reduction == "batchmean" else {}
        )

    return sums


def l2_penalty(
    scale: float, where: Callable[[str], bool] = lambda name: True
) -> Callable[[nnx.State], Float[Array, ""]]:
    """Returns the function of a model's parameters ``scale / 2 * (sum of their squares)``, to add to a loss.

    Its gradient is that of the ``weight_decay`` of all optimizers here but AdamW. Frozen parameters do not count.

    Args:
        scale: the factor, 0 or more.
        where: which parameters count, by their names.

    >>> penalty = l2_penalty(0.1, where=lambda name: name.endswith("weight"))
    >>> float(penalty({"weight": jnp.array([3.0, 4.0]), "bias": jnp.ones(2)}).round(3))
    1.25
    """

    def penalty(params: nnx.State) -> jax.Array:
        names, nodes, _ = named_nodes(params)
        trainable = [
            array_of(node) for name, node in zip(names, nodes, strict=True) if where(name) and not is_frozen(node)
        ]
        squares = [jnp.square(array).sum() for array in trainable if array is not None]
        return scale / 2 * sum(squares, jnp.zeros(()))

    return penalty


def means(sums: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """From an objective's sums to what is reported: ``loss``, and ``accuracy`` and ``perplexity`` where it gives them.

    >>> means({"loss": 2.0, "correct": 3.0, "count": 4.0}, "test")
    {'test_loss': 0.5, 'test_accuracy': 0.75}
    """
    count = float(sums["count"]) or math.nan  # nothing is left of a batch that was skipped
    mean = {name: float(value) / count for name, value in sums.items()}
    reported = {"loss": mean["loss"]}
    if "correct" in mean:
        reported["accuracy"] = mean["correct"]
    if "log_perplexity" in mean:
        log = mean["log_perplexity"]
        reported["perplexity"] = math.inf if log > 700 else math.exp(log)
    return {f"{prefix}_{name}": value for name, value in reported.items()}


def columns(executions: Sequence[tuple[int, Mapping[str, Any]]]) -> dict[str, list[float]]:
    """Return each metric's sums, step by step.

    Args:
        executions: The number of steps of each execution, and its metrics' sums; of several steps, with an axis of
            steps.

    >>> columns([(1, {"loss": 2.0}), (2, {"loss": np.array([3.0, 4.0, 0.0])})])
    {'loss': [2.0, 3.0, 4.0]}
    """
    counts, host = [count for count, _ in executions], jax.device_get([metrics for _, metrics in executions])
    return {
        name: [
            value
            for count, metrics in zip(counts, host, strict=True)
            for value in np.ravel(metrics[name])[:count].tolist()
        ]
        for name in host[0]
    }


def total(executions: Sequence[tuple[int, Mapping[str, Any]]]) -> dict[str, float]:
    """Return each metric's sum over all steps.

    Args:
        executions: As in :func:`columns`.

    >>> total([(1, {"loss": 2.0}), (1, {"loss": 3.0})])
    {'loss': 5.0}
    """
    return {name: sum(values) for name, values in columns(executions).items()}
