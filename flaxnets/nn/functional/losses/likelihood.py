"""Negative log-likelihood losses and the Kullback-Leibler divergence."""

import functools
import math
import warnings

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from flaxnets.nn.functional.losses._shared import (
    broadcast,
    check_floating,
    check_reduction,
    concrete,
    legacy_reduction,
    offenders,
    reduced,
)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _raised(x: jax.Array, low: float) -> jax.Array:
    """Return ``max(x, low)``; gradients ignore the clamping."""
    return jnp.maximum(x, low)


@_raised.defjvp
def _(low: float, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    return _raised(*primals, low), tangents[0]


def gaussian_nll_loss(
    input: Float[Array, "..."],
    target: Float[Array, "..."],
    var: Float[Array, "..."] | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    """Negative log-likelihood of the target under normal distributions with mean ``input``.

    Args:
        input: the means, of any shape.
        target: broadcasts with the input.
        var: the variances: one number, or of the input's shape, optionally with size 1 in one axis or without the last
            axis.
        full: whether to add the constant ``log(2 pi) / 2``.
        eps: the smallest variance. Smaller variances are clamped, which gradients ignore.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: if a known variance is negative, a variance has an incompatible shape, or for an unknown reduction.
        RuntimeError: if the shapes do not broadcast.
        TypeError: if ``var`` is a Python number other than a float.

    See `torch.nn.functional.gaussian_nll_loss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.gaussian_nll_loss.html>`_.

    >>> float(gaussian_nll_loss(jnp.zeros(3), jnp.ones(3), 1.0))
    0.5
    """
    input = jnp.asarray(input)
    var = _checked_variance(input, var)
    check_reduction(reduction, "gaussian_nll_loss")
    input, target, var = broadcast("gaussian_nll_loss", input, target, _raised(var, eps))
    loss = 0.5 * (jnp.log(var) + (input - target) ** 2 / var)
    return reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction, "gaussian_nll_loss")


def _checked_variance(input: jax.Array, var: jax.Array | float) -> jax.Array:
    """Return the variances with the input's rank."""
    if isinstance(var, (bool, int)):
        raise TypeError(f"gaussian_nll_loss: var must be an array or a float, got {var!r}")
    if isinstance(var, float):
        var = jnp.full(input.shape, var, input.dtype)
    values = concrete(var)
    if values is not None and (values < 0).any():
        raise ValueError(f"gaussian_nll_loss: var must not be negative, got {offenders(var, 0, math.inf)}")
    if var.shape == input.shape:
        return var
    if var.shape == input.shape[:-1]:
        return var[..., None]
    different = [b for a, b in zip(input.shape, var.shape, strict=False) if a != b]
    if input.ndim != var.ndim or sum(different) != 1:
        raise ValueError(
            f"gaussian_nll_loss: var must have the shape {input.shape} of the input, with size 1 in one axis or "
            f"without the last axis, got {var.shape}"
        )
    return var


def poisson_nll_loss(
    input: Num[Array, "..."],
    target: Num[Array, "..."],
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    """Negative log-likelihood of the target under Poisson distributions.

    Args:
        input: the rates, or their logarithms, of any shape.
        target: the counts; broadcasts with the input.
        log_input: whether ``input`` contains logarithms of the rates.
        full: whether to add Stirling's approximation of ``log(target!)`` for targets above 1.
        size_average: deprecated, use ``reduction``.
        eps: added to the rate before taking its logarithm.
        reduce: deprecated, use ``reduction``.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: for an unknown reduction.
        RuntimeError: if the shapes do not broadcast.

    See `torch.nn.functional.poisson_nll_loss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.poisson_nll_loss.html>`_.

    >>> float(poisson_nll_loss(jnp.zeros(2), jnp.ones(2)))
    1.0
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction, "poisson_nll_loss")
    input, target = broadcast("poisson_nll_loss", input, target)
    loss = jnp.exp(input) - target * input if log_input else input - target * jnp.log(input + eps)
    if full:
        stirling = target * jnp.log(target) - target + 0.5 * jnp.log(2 * math.pi * target)
        loss = loss + jnp.where(target <= 1, 0, stirling)
    return reduced(loss, reduction, "poisson_nll_loss")


def kl_div(
    input: Float[Array, "..."],
    target: Float[Array, "..."],
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Float[Array, "..."]:
    """Kullback-Leibler divergence of the target from the input's log-probabilities.

    Args:
        input: log-probabilities, of any shape.
        target: probabilities; broadcasts with the input.
        size_average: deprecated, use ``reduction``.
        reduce: deprecated, use ``reduction``.
        reduction: ``"none"`` (one term per element), ``"batchmean"`` (the sum divided by the batch size: the
            divergence), ``"sum"``, or ``"mean"`` over all terms, which warns, as in torch.
        log_target: whether ``target`` contains log-probabilities.

    Raises:
        ValueError: for an unknown reduction.
        RuntimeError: if the shapes do not broadcast, or for integers or complex numbers.

    See `torch.nn.functional.kl_div
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.kl_div.html>`_.

    >>> half = jnp.full((1, 2), 0.5)
    >>> float(kl_div(jnp.log(half), half, reduction="batchmean"))
    0.0
    """
    input, target = jnp.asarray(input), jnp.asarray(target)
    batch = input.shape[0] if reduction == "batchmean" and input.ndim else 1
    if size_average is not None or reduce is not None:
        reduction = legacy_reduction(size_average, reduce, reduction)
    elif reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides by the number of all elements. The divergence is defined with division by the "
            "batch size. Fix: use reduction='batchmean'",
            UserWarning,
            stacklevel=2,
        )
    check_floating("kl_div", input, target, error=RuntimeError)
    input, target = broadcast("kl_div", input, target)
    if log_target:
        loss = jnp.exp(target) * (target - input)
    else:
        loss = jax.scipy.special.xlogy(target, target) - target * input
    return reduced(loss, "sum" if reduction == "batchmean" else reduction, "kl_div") / batch
