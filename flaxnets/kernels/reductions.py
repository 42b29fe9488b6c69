"""Sums over the pixels of a batch, the second half of them as a product with ones; and reductions of rows.

XLA puts a sum, what it is of and what is made of it into one loop, on CPUs one that jumps from channel to channel; a
product of matrices it leaves alone.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.interpreters import ad

from flaxnets.kernels._primitives import primitive


def _columns_total(x: jax.Array) -> jax.Array:
    # Two rows of ones, of which one counts: XLA compiles each product with a single row, and calls a library for more.
    return (jnp.ones((2, len(x)), x.dtype) @ x)[0]


def _rows(vector: jax.Array, *, count: int) -> jax.Array:
    return jnp.broadcast_to(vector, (count, len(vector)))


_total_p, _rows_p = primitive("columns_total", _columns_total), primitive("equal_rows", _rows)
ad.deflinear2(_total_p, lambda ct, x: [_rows_p.bind(ct, count=x.aval.shape[0])])
ad.deflinear2(_rows_p, lambda ct, vector, count: [_total_p.bind(ct)])


def total(x: jax.Array) -> jax.Array:
    """Sums ``(N, H, W, C)`` over all axes but the channels.

    >>> total(jnp.ones((2, 3, 4, 1))).tolist()
    [24.0]
    """
    return _total_p.bind(x.sum(1).reshape(-1, x.shape[3]))


def spread(vector: jax.Array, like: jax.Array) -> jax.Array:
    """A vector of channels as ``(N, 1, W, C)``, to combine with ``like``; its gradient is summed as by :func:`total`.

    >>> spread(jnp.ones(3), jnp.ones((2, 5, 5, 3))).shape
    (2, 1, 5, 3)
    """
    n, _, width, channels = like.shape
    return _rows_p.bind(vector, count=n * width).reshape(n, 1, width, channels)


def over_last_axis(
    x: jax.Array, reduce: Callable[..., jax.Array], combine: Callable[[jax.Array, jax.Array], jax.Array]
) -> jax.Array:
    """Returns ``reduce(x, axis=-1, keepdims=True)``, where ``combine`` is what ``reduce`` is, of two arrays.

    Up to sixteen parts of a row are combined first, since XLA's reductions of rows are no vector loops on CPUs.

    >>> over_last_axis(jnp.ones((2, 70)), jnp.sum, jnp.add).tolist()
    [[70.0], [70.0]]
    """
    size = x.shape[-1]
    width = max(32, -(-size // 16))
    whole = size // width * width
    if whole <= width:
        return reduce(x, axis=-1, keepdims=True)
    parts = functools.reduce(combine, [x[..., i : i + width] for i in range(0, whole, width)])
    result = reduce(parts, axis=-1, keepdims=True)
    return result if whole == size else combine(result, reduce(x[..., whole:], axis=-1, keepdims=True))
