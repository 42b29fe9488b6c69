"""Training objectives and metrics, as weighted sums over the examples of a batch."""

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
    """Compute the cross-entropy and the number of correct predictions.

    Args:
        outputs: Logits.
        targets: Class of each example, or the probabilities of all classes. Of probabilities, the largest is the
            correct class.
        weights: Weight of each example; 0 for examples that only fill a batch.
        label_smoothing: Share of the target that is spread over all classes.

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
    """Compute the cross-entropy and the perplexity of a language model.

    Args:
        outputs: Logits in time-major order, and the model's state, which is not used.
        targets: Target tokens of each window.
        weights: Weight of each window.

    Returns:
        The sums of :func:`classification` over all tokens, and ``log_perplexity``, which equals ``loss``.

    >>> sums = language((jnp.zeros((6, 4)), None), jnp.ones((2, 3), int), jnp.ones(2))
    >>> int(sums["count"]), float(jnp.exp(sums["log_perplexity"] / sums["count"]).round(3))
    (6, 4.0)
    """
    # Rows in the order of the windows, because a mesh shards windows.
    logits = outputs[0].reshape(*targets.T.shape, -1).swapaxes(0, 1)
    rows = logits.reshape(targets.size, -1)
    sums = classification(rows, targets.ravel(), jnp.repeat(weights, targets.shape[1]))
    return {**sums, "log_perplexity": sums["loss"]}


def regression(outputs: Float[Array, "n ..."], targets: Float[Array, "n ..."], weights: Float[Array, " n"]) -> Metrics:
    """Compute the mean squared error of each example.

    Args:
        outputs: Predictions.
        targets: Target values, of the same shape.
        weights: Weight of each example.

    Returns:
        The weighted sum ``loss``, and ``count``, the sum of the weights.

    Raises:
        ValueError: If outputs and targets have different shapes.

    >>> sums = regression(jnp.array([[1.0], [5.0]]), jnp.array([[1.0], [2.0]]), jnp.ones(2))
    >>> float(sums["loss"]), float(sums["count"])
    (9.0, 2.0)
    """
    if outputs.shape != targets.shape:
        raise ValueError(f"outputs of shape {outputs.shape} need targets of that shape, got {targets.shape}")
    losses = jnp.square(outputs - targets).reshape(len(weights), -1).mean(1)
    return {"loss": (losses * weights).sum(), "count": weights.sum()}


def as_objective(objective: Objective | nn.Module) -> Objective:
    """Convert a loss module of :mod:`flaxnets.nn` to an objective.

    ``loss / count`` is torch's mean: ``count`` sums the class weights of the targets, and targets equal to
    ``ignore_index`` do not count. If targets are classes, ``correct`` has the same weights as the loss.

    Args:
        objective: A loss module of two arguments, or an objective, which is returned unchanged.

    Raises:
        ValueError: If the reduction of the module is not a mean.

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
            f"{type(objective).__name__} has the reduction {reduction!r}. Training minimises a mean over the batch. "
            "Expected 'mean' or 'batchmean'. Fix: pass reduction='mean'"
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
        values_per_example = losses.size // len(losses) if reduction == "mean" else 1
        metrics = {"loss": losses, "count": shares}
        if classes:
            metrics["correct"] = (outputs.argmax(1) == targets) * shares
        return {name: (array * weights).sum() / values_per_example for name, array in metrics.items()} | (
            {"count": weights.sum()} if reduction == "batchmean" else {}
        )

    return sums


def l2_penalty(
    scale: float, where: Callable[[str], bool] = lambda name: True
) -> Callable[[nnx.State], Float[Array, ""]]:
    """Create an L2 penalty: a function from a model's parameters to ``scale / 2 * (sum of their squares)``.

    The gradient equals the ``weight_decay`` of all optimizers here except AdamW. Frozen parameters are skipped.

    Args:
        scale: Non-negative factor.
        where: Predicate of a parameter's name; only matching parameters are penalized.

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
    """Convert an objective's sums to the reported means: ``loss``, and ``accuracy`` and ``perplexity`` if available.

    >>> means({"loss": 2.0, "correct": 3.0, "count": 4.0}, "test")
    {'test_loss': 0.5, 'test_accuracy': 0.75}
    """
    count = float(sums["count"]) or math.nan  # a skipped batch has a count of 0
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
