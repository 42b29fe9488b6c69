"""Sums over a batch of images in two steps, which XLA runs some ten times faster on CPUs than in one."""

import jax
import jax.numpy as jnp
from jax import lax


def total(x: jax.Array) -> jax.Array:
    """Sums ``(N, H, W, C)`` over all axes but the channels.

    >>> total(jnp.ones((2, 3, 4, 1))).tolist()
    [24.0]
    """
    return lax.optimization_barrier(x.sum((1, 2))).sum(0)


def spread(vector: jax.Array, like: jax.Array) -> jax.Array:
    """A vector of channels as ``(N, 1, 1, C)``, to combine with ``like``; its gradient is summed as by :func:`total`.

    >>> spread(jnp.ones(3), jnp.ones((2, 5, 5, 3))).shape
    (2, 1, 1, 3)
    """
    return lax.optimization_barrier(jnp.broadcast_to(vector, (like.shape[0], 1, 1, vector.size)))
