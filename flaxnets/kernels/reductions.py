"""Sums over the pixels of a batch, the second half of them as a product with ones.

XLA puts a sum, what it is of and what is made of it into one loop, on CPUs one that jumps from channel to channel; a
product of matrices it leaves alone.
"""

import jax
import jax.numpy as jnp


def total(x: jax.Array) -> jax.Array:
    """Sums ``(N, H, W, C)`` over all axes but the channels.

    >>> total(jnp.ones((2, 3, 4, 1))).tolist()
    [24.0]
    """
    columns = x.sum(1).reshape(-1, x.shape[3])
    return (jnp.ones((1, len(columns)), x.dtype) @ columns)[0]


def spread(vector: jax.Array, like: jax.Array) -> jax.Array:
    """A vector of channels as ``(N, 1, W, C)``, to combine with ``like``; its gradient is summed as by :func:`total`.

    >>> spread(jnp.ones(3), jnp.ones((2, 5, 5, 3))).shape
    (2, 1, 5, 3)
    """
    n, _, width, channels = like.shape
    return (jnp.ones((n * width, 1), vector.dtype) @ vector[None]).reshape(n, 1, width, channels)
