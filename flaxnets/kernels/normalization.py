"""Batch normalization whose gradient needs two sums over the batch, computed in NHWC."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from flaxnets.kernels._primitives import in_order, materialized, with_materialized_gradient
from flaxnets.kernels.reductions import spread, total


def _row(vector: jax.Array) -> jax.Array:
    return vector.reshape(1, 1, 1, -1)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _normalize(x: jax.Array, weight: jax.Array, bias: jax.Array, eps: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the normalised images, and the mean and biased variance of each channel."""
    count = x.size // x.shape[3]
    mean = total(x) / count
    var = total(jnp.square(x - _row(mean))) / count
    scale = weight * lax.rsqrt(var + eps)
    return x * _row(scale) + _row(bias - mean * scale), mean, var


@_normalize.defjvp
def _normalize_jvp(eps: float, primals: Any, tangents: Any) -> Any:
    (x, weight, _), (dx, dweight, dbias) = primals, tangents
    dx = materialized(dx)  # otherwise every consumer computes the tangent again
    y, mean, var = _normalize(*primals, eps)
    count = x.size // x.shape[3]
    rate = lax.rsqrt(var + eps)
    centred, scale = x - _row(mean), weight * rate
    dmean, half_dvar = total(dx) / count, total(dx * centred) / count
    # The transposes of the two `spread` calls are the two sums over the batch.
    slope, shift = dweight * rate - scale * jnp.square(rate) * half_dvar, dbias - scale * dmean
    return (y, mean, var), (dx * _row(scale) + centred * spread(slope, x) + spread(shift, x), dmean, 2 * half_dvar)


# Compiled also in eager mode, because torch's batch normalization is one operation.
@functools.partial(jax.jit, static_argnums=3)
def batch_norm(x: jax.Array, weight: jax.Array, bias: jax.Array, eps: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalise images ``(N, C, H, W)`` or vectors ``(N, C)``; also return each channel's mean and biased variance.

    >>> y, mean, var = batch_norm(jnp.array([[[[1.0, 3.0]]]]), jnp.ones(1), jnp.zeros(1), 0.0)
    >>> y.ravel().tolist(), mean.tolist(), var.tolist()
    ([-1.0, 1.0], [2.0], [1.0])
    """
    if x.ndim == 2:
        y, mean, var = _normalize(x[:, None, None], weight, bias, eps)
        return with_materialized_gradient(y.reshape(x.shape)), mean, var
    # Without `in_order`, loops over the image and its gradient may stride through memory.
    y, mean, var = _normalize(in_order(lax.transpose(x, (0, 2, 3, 1))), weight, bias, eps)
    return lax.transpose(with_materialized_gradient(y), (0, 3, 1, 2)), mean, var
