"""What is minimised and what is reported, as sums over the examples of a batch."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flaxnets.nn import functional as F

Metrics = dict[str, jax.Array]


def classification(
    outputs: Float[Array, "n classes"],
    targets: Int[Array, " n"],
    weights: Float[Array, " n"],
    *,
    label_smoothing: float = 0.0,
) -> Metrics:
    """Cross-entropy of the logits, and how many examples have their largest logit at the target.

    Args:
        outputs: logits.
        targets: the right class of each example.
        weights: how much each example counts; 0 for one that only fills up a batch.
        label_smoothing: the part of the target that is spread over all classes.

    Returns:
        The weighted sums ``loss`` (in nats) and ``correct``, and ``count``, the sum of the weights.

    >>> sums = classification(jnp.array([[0.0, 9.0]]), jnp.array([1]), jnp.ones(1))
    >>> int(sums["correct"]), int(sums["count"])
    (1, 1)
    """
    losses = F.cross_entropy(outputs, targets, reduction="none", label_smoothing=label_smoothing)
    correct = outputs.argmax(-1) == targets
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


def means(sums: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """From an objective's sums to what is reported: ``loss``, and ``accuracy`` and ``perplexity`` where it gives them.

    >>> means({"loss": 2.0, "correct": 3.0, "count": 4.0}, "test")
    {'test_loss': 0.5, 'test_accuracy': 0.75}
    """
    mean = {name: float(value) / float(sums["count"]) for name, value in sums.items()}
    reported = {"loss": mean["loss"]}
    if "correct" in mean:
        reported["accuracy"] = mean["correct"]
    if "log_perplexity" in mean:
        log = mean["log_perplexity"]
        reported["perplexity"] = math.inf if log > 700 else math.exp(log)
    return {f"{prefix}_{name}": value for name, value in reported.items()}
