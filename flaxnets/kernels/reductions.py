"""Sums as products with ones, and reductions of rows.

XLA fuses a sum with its producers and consumers into one loop. On CPUs this loop strides over the channels, or adds one
element at a time. XLA does not fuse matrix products.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.interpreters import ad

from flaxnets.kernels._primitives import batch_in_front, primitive

SHORT = 16  # shorter rows use XLA's sum
# With at least LONG elements, PARTS slices are added before the product. XLA fuses up to 15 slices into the loop that
# adds them, and stores more slices first.
LONG, PARTS = 256, 8


def _parts(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array | None]:
    """Return the sum of ``PARTS`` equal parts of an axis, and the remaining elements or None."""
    size = x.shape[axis]
    width = size // PARTS
    parts = [jax.lax.slice_in_dim(x, i * width, (i + 1) * width, axis=axis) for i in range(PARTS)]
    rest = jax.lax.slice_in_dim(x, PARTS * width, size, axis=axis) if size % PARTS else None
    return functools.reduce(jnp.add, parts), rest


def _columns_total(x: jax.Array) -> jax.Array:
    # On several devices, the rows are sharded, and adding parts would need communication.
    if len(x) < LONG or jax.device_count() > 1:
        return _ones_times_columns(x)
    parts, rest = _parts(x, 0)
    total = _ones_times_columns(parts)
    return total if rest is None else total + rest.sum(0)


def _ones_times_columns(x: jax.Array) -> jax.Array:
    # Two rows of ones, because XLA compiles each product with a single row, and calls a library for more rows.
    return (jnp.ones((2, len(x)), x.dtype) @ x)[0]


def _rows(vector: jax.Array, *, count: int) -> jax.Array:
    return jnp.broadcast_to(vector, (count, len(vector)))


_total_p = primitive("columns_total", lambda x: x.sum(0), _columns_total)
_rows_p = primitive("equal_rows", _rows)
ad.deflinear2(_total_p, lambda ct, x: [_rows_p.bind(ct, count=x.aval.shape[0])])
ad.deflinear2(_rows_p, lambda ct, vector, count: [_total_p.bind(ct)])


def total(x: jax.Array) -> jax.Array:
    """Sum ``(N, H, W, C)`` over all axes but the channels.

    >>> total(jnp.ones((2, 3, 4, 1))).tolist()
    [24.0]
    """
    return _total_p.bind(x.reshape(-1, x.shape[3]))


def spread(vector: jax.Array, like: jax.Array) -> jax.Array:
    """Repeat a vector of channels in the shape of ``like``; its gradient is summed as by :func:`total`.

    >>> spread(jnp.ones(3), jnp.ones((2, 5, 5, 3))).shape
    (2, 5, 5, 3)
    """
    return spread_columns(vector, math.prod(like.shape[:-1])).reshape(like.shape)


def over_last_axis(
    x: jax.Array, reduce: Callable[..., jax.Array], combine: Callable[[jax.Array, jax.Array], jax.Array]
) -> jax.Array:
    """Return ``reduce(x, axis=-1, keepdims=True)``; ``combine`` is the same reduction of two arrays.

    Up to 16 parts of a row are combined first, because XLA does not vectorize reductions of rows on CPUs.

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


def spread_columns(vector: jax.Array, count: int) -> jax.Array:
    """Repeat a vector in ``count`` rows; its gradient is a product with ones.

    >>> spread_columns(jnp.ones(3), 2).shape
    (2, 3)
    """
    return _rows_p.bind(vector, count=count)


def _row_totals(x: jax.Array) -> jax.Array:
    return x.sum(-1, keepdims=True)


def _row_products(x: jax.Array) -> jax.Array:
    size = x.shape[-1]
    if size < SHORT:
        return _row_totals(x)
    if size < LONG:
        return _product_with_ones(x)
    parts, rest = _parts(x, -1)
    total = _product_with_ones(parts)
    return total if rest is None else total + _row_totals(rest)


def _product_with_ones(x: jax.Array) -> jax.Array:
    *lead, size = x.shape
    return (x.reshape(math.prod(lead), size) @ jnp.ones(size, x.dtype)).reshape(*lead, 1)


def _spread_rows(totals: jax.Array, *, size: int) -> jax.Array:
    return jnp.broadcast_to(totals, (*totals.shape[:-1], size))


_row_totals_p = primitive("row_totals", _row_totals, _row_products)
_spread_rows_p = primitive("spread_rows", _spread_rows)
ad.deflinear2(_row_totals_p, lambda ct, x: [_spread_rows_p.bind(ct, size=x.aval.shape[-1])])
ad.deflinear2(_spread_rows_p, lambda ct, totals, *, size: [_row_totals_p.bind(ct)])
batch_in_front(_row_totals_p)
batch_in_front(_spread_rows_p)


def row_totals(x: jax.Array) -> jax.Array:
    """Return ``x.sum(-1, keepdims=True)``, on CPUs as a product with ones.

    >>> row_totals(jnp.ones((2, 3))).tolist()
    [[3.0], [3.0]]
    """
    return _row_totals_p.bind(x)


def sum_by_rows(x: jax.Array) -> jax.Array:
    """Return the sum of all elements.

    >>> sum_by_rows(jnp.ones((2, 3))).tolist()
    6.0
    """
    return row_totals(x).sum()


def spread_rows(totals: jax.Array, size: int) -> jax.Array:
    """Repeat the only element of the last axis ``size`` times; the gradient is :func:`row_totals`.

    >>> spread_rows(jnp.ones((2, 1)), 3).shape
    (2, 3)
    """
    return _spread_rows_p.bind(totals, size=size)


def softmax(x: jax.Array) -> jax.Array:
    """Return the softmax of rows.

    >>> softmax(jnp.zeros((1, 4))).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    powers = jnp.exp(_below_maximum(x))
    return powers * spread_rows(1 / row_totals(powers), x.shape[-1])


def log_softmax(x: jax.Array) -> jax.Array:
    """Return the logarithm of the softmax of rows.

    >>> log_softmax(jnp.array([[0.0, -200.0]])).tolist()
    [[0.0, -200.0]]
    """
    x = _below_maximum(x)
    return x - spread_rows(jnp.log(row_totals(jnp.exp(x))), x.shape[-1])


def _below_maximum(x: jax.Array) -> jax.Array:
    return x - over_last_axis(jax.lax.stop_gradient(x), jnp.max, jnp.maximum)
