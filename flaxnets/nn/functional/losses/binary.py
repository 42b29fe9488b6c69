"""Losses for binary and multi-label classification."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from flaxnets.nn.functional.losses._shared import (
    EPSILON,
    broadcast,
    check_floating,
    check_reduction,
    expand,
    legacy_reduction,
    offenders,
    reduced,
)


@jax.custom_jvp
def _cross_entropy(x: jax.Array, target: jax.Array) -> jax.Array:
    """Torch's binary cross entropy: clamps logarithms to at least -100, and the derivative's denominator to 1e-12."""
    return (target - 1) * jnp.maximum(jnp.log1p(-x), -100) - target * jnp.maximum(jnp.log(x), -100)


@_cross_entropy.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (x, target), (dx, dtarget) = primals, tangents
    by_x = (x - target) / jnp.maximum((1 - x) * x, EPSILON)
    return _cross_entropy(x, target), by_x * dx + (jnp.log1p(-x) - jnp.log(x)) * dtarget


def binary_cross_entropy(
    input: Float[Array, "..."],
    target: Float[Array, "..."],
    weight: Float[Array, "..."] | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    """Binary cross entropy ``-(target * log(input) + (1 - target) * log(1 - input))``; logarithms are at least -100.

    Args:
        input: probabilities, of any shape.
        target: probabilities, of the same shape.
        weight: weight of each element; broadcasts to the input.
        size_average: deprecated, use ``reduction``.
        reduce: deprecated, use ``reduction``.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: if input and target differ in shape, or for an unknown reduction.
        RuntimeError: if the weight does not broadcast, input and target differ in dtype, or a known value is not in
            ``[0, 1]``.
        NotImplementedError: for integers or complex numbers.

    See `torch.nn.functional.binary_cross_entropy
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy.html>`_.

    >>> round(float(binary_cross_entropy(jnp.array([0.5]), jnp.array([1.0]))), 4)
    0.6931
    """
    input, target = jnp.asarray(input), jnp.asarray(target)
    reduction = legacy_reduction(size_average, reduce, reduction)
    if target.shape != input.shape:
        raise ValueError(f"binary_cross_entropy: target must have the input's shape {input.shape}, got {target.shape}")
    check_floating("binary_cross_entropy", input)
    if target.dtype != input.dtype:
        raise RuntimeError(f"binary_cross_entropy: expected a target of dtype {input.dtype}, got {target.dtype}")
    for name, values in (("input", input), ("target", target)):
        if wrong := offenders(values, 0, 1):
            raise RuntimeError(f"binary_cross_entropy: {name} must be between 0 and 1, got {wrong}")
    loss = _cross_entropy(input, target)
    if weight is not None:
        loss = loss * expand(weight, input.shape, "weight", "binary_cross_entropy")
    return reduced(loss, reduction, "binary_cross_entropy")


def binary_cross_entropy_with_logits(
    input: Float[Array, "..."],
    target: Float[Array, "..."],
    weight: Float[Array, "..."] | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Float[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    """Binary cross entropy of logits, numerically stable: :func:`binary_cross_entropy` of the input's sigmoid.

    Args:
        input: logits, of any shape.
        target: probabilities, of the same shape.
        weight: weight of each element; broadcasts to the input.
        size_average: deprecated, use ``reduction``.
        reduce: deprecated, use ``reduction``.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.
        pos_weight: weight of the positive part of each element's loss; broadcasts to the input.

    Raises:
        ValueError: if input and target differ in shape, or for an unknown reduction.
        RuntimeError: if a weight does not broadcast, or for a target of integers.
        NotImplementedError: for an input of integers or complex numbers.

    See `torch.nn.functional.binary_cross_entropy_with_logits
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy_with_logits.html>`_.

    >>> round(float(binary_cross_entropy_with_logits(jnp.zeros(2), jnp.ones(2))), 4)
    0.6931
    """
    name = "binary_cross_entropy_with_logits"
    input, target = jnp.asarray(input), jnp.asarray(target)
    reduction = legacy_reduction(size_average, reduce, reduction)
    if target.shape != input.shape:
        raise ValueError(f"{name}: target must have the input's shape {input.shape}, got {target.shape}")
    check_floating(name, input)
    check_floating(name, target, error=RuntimeError)
    log_sigmoid = jax.nn.log_sigmoid(input)
    if pos_weight is not None:
        log_sigmoid = ((expand(pos_weight, input.shape, "pos_weight", name) - 1) * target + 1) * log_sigmoid
    loss = (1 - target) * input - log_sigmoid
    if weight is not None:
        loss = loss * expand(weight, input.shape, "weight", name)
    return reduced(loss, reduction, name)


def soft_margin_loss(
    input: Float[Array, "..."],
    target: Num[Array, "..."],
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    """Soft margin loss ``log(1 + exp(-target * input))``; as in torch, large negative products overflow.

    Args:
        input: of any shape.
        target: 1 or -1 for each element; broadcasts to the input.
        size_average: deprecated, use ``reduction``.
        reduce: deprecated, use ``reduction``.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.

    Raises:
        RuntimeError: if the target does not broadcast, or for an input of integers.
        ValueError: for an unknown reduction.

    See `torch.nn.functional.soft_margin_loss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.soft_margin_loss.html>`_.

    >>> round(float(soft_margin_loss(jnp.zeros(2), jnp.ones(2))), 4)
    0.6931
    """
    input = jnp.asarray(input)
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_floating("soft_margin_loss", input, error=RuntimeError)
    target = expand(target, input.shape, "target", "soft_margin_loss")
    return reduced(jnp.log1p(jnp.exp(-target * input)), reduction, "soft_margin_loss")


def multilabel_soft_margin_loss(
    input: Float[Array, "..."],
    target: Num[Array, "..."],
    weight: Float[Array, "..."] | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    """Multi-label loss: binary cross entropy of logits, averaged over the classes.

    Args:
        input: logits ``(*, C)``.
        target: 0 or 1 for each class; broadcasts with the input.
        weight: weight of each class.
        size_average: deprecated, use ``reduction``.
        reduce: deprecated, use ``reduction``.
        reduction: ``"none"`` (losses ``(*)``), ``"mean"`` or ``"sum"``.

    Raises:
        RuntimeError: if the shapes do not broadcast.
        ValueError: for an unknown reduction.
        IndexError: for an input without axes.
        NotImplementedError: for an input of integers or complex numbers.

    See `torch.nn.functional.multilabel_soft_margin_loss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.multilabel_soft_margin_loss.html>`_.

    >>> round(float(multilabel_soft_margin_loss(jnp.zeros((1, 2)), jnp.ones((1, 2)))), 4)
    0.6931
    """
    name = "multilabel_soft_margin_loss"
    input = jnp.asarray(input)
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_floating(name, input)
    if input.ndim == 0:
        raise IndexError(f"{name}: expected an input of shape (*, C), got the shape ()")
    check_reduction(reduction, name)
    axis, classes = input.ndim - 1, input.shape[-1]
    a, b = broadcast(name, input, target)
    loss = -(b * jax.nn.log_sigmoid(a) + (1 - b) * jax.nn.log_sigmoid(-a))
    if weight is not None:
        loss, weight = broadcast(name, loss, weight)
        loss = loss * weight
    total = loss.sum(axis)
    return reduced(total / jnp.asarray(classes, total.dtype), reduction, name)
