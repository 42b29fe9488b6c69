"""Losses for regression."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from flaxnets.kernels._primitives import materialized
from flaxnets.nn.functional.losses._shared import (
    broadcast,
    check_floating,
    check_reduction,
    legacy_reduction,
    reduced,
    warn_of_sizes,
)


@jax.custom_jvp
def _absolute(x: jax.Array) -> jax.Array:
    """Return ``|x|``; its derivative at 0 and at NaN is 0, as in torch."""
    return jnp.abs(x)


@_absolute.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    return _absolute(x), tangent * jnp.where(jnp.isnan(x), 0, jnp.sign(x))


def _weighted(loss: jax.Array, weight: jax.Array | None, shape: tuple[int, ...], reduction: str, name: str):
    """Multiply the loss by the weight and reduce; the mean divides by the sum of the weights."""
    if weight is None:
        return reduced(loss, reduction, name)
    loss = loss * _checked_weight(weight, shape, reduction, name)
    return loss.sum() / weight.sum() if reduction == "mean" else reduced(loss, reduction, name)


def _checked_weight(weight: jax.Array, shape: tuple[int, ...], reduction: str, name: str) -> jax.Array:
    check_reduction(reduction, name)
    if weight.shape != shape:
        raise ValueError(f"{name}: weight must have the input's shape {shape}, got {weight.shape}")
    return broadcast(name, weight)[0]


def l1_loss(
    input: Inexact[Array, "..."],
    target: Inexact[Array, "..."],
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Float[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    """Absolute error of input and target.

    Args:
        input: of any shape.
        target: of the same shape. Other shapes that broadcast warn.
        size_average: deprecated, use ``reduction``.
        reduce: deprecated, use ``reduction``.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.
        weight: weight of each element, in the input's shape. The mean then divides by the sum of the weights.

    Raises:
        RuntimeError: if the shapes do not broadcast.
        ValueError: for an unknown reduction, or a weight of the wrong shape.

    See `torch.nn.functional.l1_loss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.l1_loss.html>`_.

    >>> float(l1_loss(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])))
    1.5
    """
    input, target = jnp.asarray(input), jnp.asarray(target)
    warn_of_sizes("l1_loss", input, target)
    reduction = legacy_reduction(size_average, reduce, reduction)
    a, b = broadcast("l1_loss", input, target)
    difference = a - b
    loss = jnp.abs(difference) if jnp.iscomplexobj(difference) else _absolute(difference)
    return _weighted(loss, weight, input.shape, reduction, "l1_loss")


def mse_loss(
    input: Float[Array, "..."],
    target: Float[Array, "..."],
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Float[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    """Squared error of input and target.

    Arguments and errors are those of :func:`l1_loss`.

    Raises:
        NotImplementedError: for integers or complex numbers.

    See `torch.nn.functional.mse_loss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.mse_loss.html>`_.

    >>> float(mse_loss(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])))
    2.5
    """
    input, target = jnp.asarray(input), jnp.asarray(target)
    warn_of_sizes("mse_loss", input, target)
    reduction = legacy_reduction(size_average, reduce, reduction)
    a, b = broadcast("mse_loss", input, target)
    difference = a - b
    check_floating("mse_loss", difference)
    return _weighted(difference * difference, weight, input.shape, reduction, "mse_loss")


def huber_loss(
    input: Float[Array, "..."],
    target: Float[Array, "..."],
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Float[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    """Huber loss: half the squared error up to ``delta``, linear with slope ``delta`` beyond.

    Args:
        input: of any shape.
        target: of the same shape. Other shapes that broadcast warn.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.
        delta: error at which the loss changes from quadratic to linear.
        weight: weight of each element, in the input's shape. The mean still divides by the number of elements.

    Raises:
        RuntimeError: if the shapes do not broadcast, or ``delta`` is not positive.
        ValueError: for an unknown reduction, or a weight of the wrong shape.
        NotImplementedError: for integers or complex numbers.

    See `torch.nn.functional.huber_loss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.huber_loss.html>`_.

    >>> huber_loss(jnp.array([0.5, 3.0]), jnp.zeros(2), reduction="none").tolist()
    [0.125, 2.5]
    """
    input, target = jnp.asarray(input), jnp.asarray(target)
    warn_of_sizes("huber_loss", input, target)
    a, b = broadcast("huber_loss", input, target)
    check_floating("huber_loss", a - b)
    if delta <= 0:
        raise RuntimeError(f"huber_loss: delta must be positive, got {delta}")
    size = jnp.abs(a - b)
    delta = min(delta, float(jnp.finfo(size.dtype).max))  # inf times a difference of zero would be NaN
    square = jnp.where(size > delta, delta, size)
    loss = 0.5 * square * square + jnp.where(size > delta, delta * (size - delta), 0)
    if weight is not None:
        loss = loss * _checked_weight(weight, input.shape, reduction, "huber_loss")
    # XLA does not vectorize the sum of a loss with branches on CPUs, if it computes both in one loop.
    return reduced(materialized(loss), reduction, "huber_loss")


def smooth_l1_loss(
    input: Float[Array, "..."],
    target: Float[Array, "..."],
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Float[Array, "..."]:
    """Smooth L1 loss: absolute error minus ``beta / 2``; quadratic where the error is below ``beta``.

    Args:
        input: of any shape.
        target: of the same shape. Other shapes that broadcast warn.
        size_average: deprecated, use ``reduction``.
        reduce: deprecated, use ``reduction``.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.
        beta: error at which the loss changes from quadratic to linear. 0 gives :func:`l1_loss`.

    Raises:
        RuntimeError: if the shapes do not broadcast, or ``beta`` is negative.
        ValueError: for an unknown reduction.
        NotImplementedError: for integers or complex numbers.

    See `torch.nn.functional.smooth_l1_loss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.smooth_l1_loss.html>`_.

    >>> smooth_l1_loss(jnp.array([0.5, 3.0]), jnp.zeros(2), reduction="none").tolist()
    [0.125, 2.5]
    """
    input, target = jnp.asarray(input), jnp.asarray(target)
    warn_of_sizes("smooth_l1_loss", input, target)
    reduction = legacy_reduction(size_average, reduce, reduction)
    a, b = broadcast("smooth_l1_loss", input, target)
    if beta == 0:
        return l1_loss(a, b, reduction=reduction)
    check_floating("smooth_l1_loss", a - b)
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    size = jnp.abs(a - b)
    square = jnp.minimum(size, beta)
    loss = 0.5 * square / beta * square + jnp.maximum(size - beta, 0)
    return reduced(materialized(loss), reduction, "smooth_l1_loss")  # see huber_loss
