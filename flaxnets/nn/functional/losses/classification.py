"""Losses for multi-class classification."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Num

from flaxnets import kernels
from flaxnets.nn._arguments import along
from flaxnets.nn.functional.losses._shared import (
    check_floating,
    check_integer,
    concrete,
    current_reduction,
    legacy_reduction,
    reduced,
)


def nll_loss(
    input: Float[Array, "..."],
    target: Integer[Array, "..."],
    weight: Float[Array, " classes"] | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    """Negative log-likelihood: the target class's log-probability, times -1 and the class's weight.

    Args:
        input: log-probabilities ``(C)``, ``(N, C)`` or ``(N, C, *)``.
        target: class indices ``()``, ``(N)`` or ``(N, *)``.
        weight: weight of each class.
        size_average: deprecated, use ``reduction``.
        ignore_index: target value that contributes nothing.
        reduce: deprecated, use ``reduction``.
        reduction: ``"none"`` (one loss per target), ``"sum"``, or ``"mean"``, which divides the sum by the sum of the
            targets' weights; NaN if that is zero.

    Raises:
        ValueError: if the batch sizes differ, for an input without axes, or for an unknown reduction.
        RuntimeError: if other sizes differ, the weight has the wrong size or dtype, or the target is not of integers.
        IndexError: if a known target is out of range. Unknown targets out of range (under jit) give NaN.

    See `torch.nn.functional.nll_loss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.nll_loss.html>`_.

    >>> float(nll_loss(jnp.array([[-1.0, -2.0]]), jnp.array([1])))
    2.0
    """
    input, target = jnp.asarray(input), jnp.asarray(target)
    reduction = current_reduction(legacy_reduction(size_average, reduce, reduction), "nll_loss")
    _check_shapes(input, target)
    if input.ndim == 1:
        target = target.reshape(())
    check_integer("nll_loss", target)
    losses, weights = target_losses(input, target, weight, ignore_index, "nll_loss")
    return weighted_reduction(losses, weights, reduction)


def _check_shapes(input: jax.Array, target: jax.Array) -> None:
    shapes = f"an input of shape {input.shape} and a target of shape {target.shape}"
    if input.ndim == 0:
        raise ValueError(f"nll_loss: expected an input of shape (C), (N, C) or (N, C, *), got {shapes}")
    if input.ndim == 1:
        if target.ndim > 1:
            raise RuntimeError(f"nll_loss: expected one target for an input without a batch, got {shapes}")
        if target.size != 1:
            raise ValueError(f"nll_loss: expected one target for an input without a batch, got {shapes}")
        return
    if target.ndim == 0 or target.shape[0] != input.shape[0]:
        raise ValueError(f"nll_loss: expected a target for each of the {input.shape[0]} examples, got {shapes}")
    expected = (input.shape[0], *input.shape[2:])
    if target.shape != expected:
        raise RuntimeError(f"nll_loss: expected a target of shape {expected}, got {shapes}")


def checked_weight(weight: jax.Array, classes: int, input: jax.Array, name: str) -> jax.Array:
    """Check shape and dtype of the class weights against the input; raise RuntimeError if they differ."""
    weight = jnp.asarray(weight)
    if weight.shape != (classes,):
        raise RuntimeError(f"{name}: weight must have the shape ({classes},), one per class, got {weight.shape}")
    if weight.dtype != input.dtype:
        raise RuntimeError(f"{name}: expected a weight of dtype {input.dtype}, that of the input, got {weight.dtype}")
    return weight


def check_classes(target: jax.Array, classes: int, ignore_index: int, name: str) -> None:
    """Raise IndexError if a known target is neither a class nor ``ignore_index``."""
    values = concrete(target)
    if values is not None:
        outside = values[((values < 0) | (values >= classes)) & (values != ignore_index)]
        if outside.size:
            raise IndexError(f"{name}: targets must be in [0, {classes}), got {outside[0]}")


def target_losses(
    log_probs: jax.Array, target: jax.Array, weight: jax.Array | None, ignore_index: int, name: str
) -> tuple[jax.Array, jax.Array]:
    """Return each target's weighted loss and its weight; both are zero for ignored targets."""
    axis = min(log_probs.ndim - 1, 1)
    classes = log_probs.shape[axis]
    if weight is not None:
        weight = checked_weight(weight, classes, log_probs, name)
    target = target.astype(int)
    check_classes(target, classes, ignore_index, name)
    ignored = target == ignore_index
    known = (target >= 0) & (target < classes)
    index = jnp.where(known & ~ignored, target, 0)
    picked = jnp.take_along_axis(log_probs, jnp.expand_dims(index, axis), axis).squeeze(axis)
    weights = jnp.ones_like(picked) if weight is None else weight[index]
    weights = jnp.where(ignored, 0, jnp.where(known, weights, jnp.nan))
    return jnp.where(ignored, 0, -weights * picked), weights


def weighted_reduction(losses: jax.Array, weights: jax.Array, reduction: str) -> jax.Array:
    """Return the losses, their sum, or their sum divided by the sum of the weights."""
    if reduction == "none":
        return losses
    return losses.sum() / weights.sum() if reduction == "mean" else losses.sum()


def cross_entropy(
    input: Float[Array, "..."],
    target: Num[Array, "..."],
    weight: Float[Array, " classes"] | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Float[Array, "..."]:
    """Cross entropy of the softmax of the input with class indices or class probabilities as targets.

    Args:
        input: logits ``(C)``, ``(N, C)`` or ``(N, C, *)``.
        target: class indices ``()``, ``(N)`` or ``(N, *)``, or class probabilities in the input's shape.
        weight: weight of each class.
        size_average: deprecated, use ``reduction``.
        ignore_index: class index that contributes nothing.
        reduce: deprecated, use ``reduction``.
        reduction: ``"none"`` (one loss per target), ``"sum"``, or ``"mean"``, which divides the sum by the sum of the
            targets' weights, or, for probabilities, by the number of targets.
        label_smoothing: share of the target that the uniform distribution replaces (arXiv:1512.00567).

    Raises:
        ValueError, IndexError: as :func:`nll_loss`.
        RuntimeError: as :func:`nll_loss`, and for a smoothing above 1, a target of the input's shape that is of
            integers, or, with target probabilities, an ``ignore_index`` that is a class.
        NotImplementedError: for an input of integers or complex numbers.

    See `torch.nn.functional.cross_entropy
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html>`_.

    >>> round(float(cross_entropy(jnp.zeros((1, 2)), jnp.array([1]))), 4)
    0.6931
    """
    input, target = jnp.asarray(input), jnp.asarray(target)
    reduction = current_reduction(legacy_reduction(size_average, reduce, reduction), "cross_entropy")
    soft = input.shape == target.shape
    if soft and not jnp.issubdtype(target.dtype, jnp.floating):
        raise RuntimeError(f"cross_entropy: target probabilities must be floating-point, got {target.dtype}")
    if soft and ignore_index >= 0:
        raise RuntimeError(f"cross_entropy: target probabilities do not support ignore_index, got {ignore_index}")
    if label_smoothing > 1:
        raise RuntimeError(f"cross_entropy: label_smoothing must be between 0 and 1, got {label_smoothing}")
    if soft and input.ndim == 0:
        raise IndexError("cross_entropy: expected an input of shape (C), (N, C) or (N, C, *), got the shape ()")
    check_floating("cross_entropy", input)
    log_probs = _log_softmax(input)
    if soft:
        return _of_probabilities(log_probs, target, weight, reduction, label_smoothing)
    if label_smoothing > 0:
        return _smoothed(log_probs, target, weight, ignore_index, reduction, label_smoothing)
    return nll_loss(log_probs, target, weight, ignore_index=ignore_index, reduction=reduction)


def _log_softmax(input: jax.Array) -> jax.Array:
    """Log-softmax along the classes; half precision is computed in float32, as in torch."""
    if input.ndim == 0:
        return input
    wide, axis = input.astype(jnp.promote_types(input.dtype, jnp.float32)), min(input.ndim - 1, 1)
    implementation = kernels.softmax_implementation(wide, axis, log=True)
    return (implementation(wide) if implementation else jax.nn.log_softmax(wide, axis)).astype(input.dtype)


def _of_probabilities(
    log_probs: jax.Array, target: jax.Array, weight: jax.Array | None, reduction: str, label_smoothing: float
) -> jax.Array:
    axis = min(log_probs.ndim - 1, 1)
    classes = log_probs.shape[axis]
    if label_smoothing > 0:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    terms = log_probs * target
    if weight is not None:
        terms = terms * along(checked_weight(weight, classes, log_probs, "cross_entropy"), axis, terms.ndim)
    return reduced(-terms.sum(axis), reduction, "cross_entropy")


def _smoothed(
    log_probs: jax.Array,
    target: jax.Array,
    weight: jax.Array | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> jax.Array:
    """Mix the loss of class indices with that of the uniform distribution; both means use the same divisor."""
    _check_shapes(log_probs, target)
    if log_probs.ndim == 1:
        target = target.reshape(())
    check_integer("cross_entropy", target)
    losses, weights = target_losses(log_probs, target, weight, ignore_index, "cross_entropy")
    axis = min(log_probs.ndim - 1, 1)
    terms = log_probs if weight is None else log_probs * along(weight, axis, log_probs.ndim)
    uniform = jnp.where(target == ignore_index, 0, -terms.sum(axis))
    hard, soft = (weighted_reduction(each, weights, reduction) for each in (losses, uniform))
    return (1 - label_smoothing) * hard + soft * (label_smoothing / log_probs.shape[axis])
