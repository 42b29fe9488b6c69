"""Maxima of windows of an axis that differ in size and may overlap, whose gradients need no scatter."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from flaxnets.kernels._primitives import batch_in_front, materialized, primitive, transposes_to

UNROLLED = 64  # elements of a window that are compared one after the other; more are a reduction
GROUPS = 32  # groups of windows that are alike; more are gathered
SUMMED = 8  # groups whose gradients are added up as arrays of the input's size


def bounds(size: int, output: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each window of an axis begins and ends."""
    numbers = np.arange(output)
    return numbers * size // output, -(-(numbers + 1) * size // output)


def _column(values: np.ndarray, ndim: int, axis: int) -> np.ndarray:
    """Values along the negative axis, or along this and a new one behind it."""
    return values.astype(np.int32).reshape((1,) * (ndim + axis) + values.shape + (1,) * (-1 - axis))


def _take(x: jax.Array, places: jax.Array, *, axis: int, size: int) -> jax.Array:
    """The elements of the axis at the windows' places."""
    del size
    return jnp.take_along_axis(x, places, axis, mode="clip")


def _give(g: jax.Array, places: jax.Array, *, axis: int, size: int) -> jax.Array:
    """The transpose of :func:`_take`: each element asks the windows that it is in whether it is their place."""
    output, last = g.shape[axis], g.ndim + axis
    blocks = math.gcd(size, output)
    g, total = materialized(g), jnp.zeros((), g.dtype)
    if output // blocks <= SUMMED:
        for i, index in enumerate(_groups(size, output)):
            own_g, own_places = (
                lax.slice_in_dim(x.reshape(_resized(x, last, blocks, output // blocks)), i, i + 1, axis=last + 1)
                for x in (g, places)
            )
            part = jnp.where(own_places == _column(index, g.ndim, axis), own_g, 0)
            pads = [(0, 0, 0)] * part.ndim
            pads[last + 1] = (int(index[0, 0]), size // blocks - 1 - int(index[0, -1]), 0)
            total = total + lax.pad(part, jnp.zeros((), g.dtype), pads)
        return total.reshape(_resized(g, last, size))
    starts, ends = bounds(size, output)
    own = np.arange(size)
    first, final = np.searchsorted(ends, own, "right"), np.searchsorted(starts, own, "right") - 1
    for k in range((final - first).max() + 1):
        window = np.minimum(first + k, final)
        wanted = _column(np.where(first + k <= final, own, -1), g.ndim, axis)
        hit = jnp.take(places, window, last, mode="clip") == wanted
        total = total + jnp.where(hit, jnp.take(g, window, last, mode="clip"), 0)
    return total


_take_p, _give_p = primitive("adaptive_max_take", _take), primitive("adaptive_max_give", _give)
for _forward, _back in ((_take_p, _give_p), (_give_p, _take_p)):
    transposes_to(_forward, _back)
    batch_in_front(_forward)


def _resized(x: jax.Array, axis: int, *sizes: int) -> tuple[int, ...]:
    return (*x.shape[:axis], *sizes, *x.shape[axis + 1 :])


def _groups(size: int, output: int) -> list[np.ndarray]:
    """The windows' elements, ``(windows, elements)`` for each group of windows that are alike; in turn, one of each.

    Input and output consist of as many blocks as both sizes have common divisors, and blocks are alike.
    """
    blocks = math.gcd(size, output)
    starts, ends = bounds(size, output)
    if output // blocks > GROUPS:
        return [np.minimum(starts[:, None] + np.arange((ends - starts).max()), ends[:, None] - 1)]
    first = np.arange(blocks)[:, None] * (size // blocks)
    return [first + np.arange(starts[i], ends[i]) for i in range(output // blocks)]


def _windows(x: jax.Array, axis: int, index: np.ndarray) -> jax.Array:
    """The axis as two, windows and their elements."""
    count, length = index.shape
    step = x.shape[axis] // count
    if (index == index[0] + np.arange(count)[:, None] * step).all():
        blocks = lax.slice_in_dim(x, 0, count * step, axis=axis).reshape(_resized(x, axis, count, step))
        return lax.slice_in_dim(blocks, int(index[0, 0]), int(index[0, 0]) + length, axis=axis + 1)
    return jnp.take(x, index.ravel(), axis, mode="clip").reshape(_resized(x, axis, count, length))


def _order_of_largest(x: jax.Array, order: jax.Array, axis: int) -> jax.Array:
    """The order of the maxima along the axis: the lowest of equal ones, the highest of NaN."""
    is_short = x.shape[axis] <= UNROLLED

    def fold(combine: Any, array: jax.Array) -> jax.Array:
        if is_short:
            return functools.reduce(combine, (lax.index_in_dim(array, k, axis, False) for k in range(x.shape[axis])))
        return array.max(axis) if combine is jnp.maximum else array.min(axis)

    values = materialized(fold(jnp.maximum, x))  # else each comparison computes it once more
    is_largest = x == jnp.expand_dims(values, axis)
    first = fold(jnp.minimum, jnp.where(is_largest, order, np.iinfo(np.int32).max))
    nan = fold(jnp.maximum, jnp.where(jnp.isnan(x), order, -1))
    return jnp.where(nan < 0, first, nan)


def axis_maxima(
    x: jax.Array, order: jax.Array | None, axis: int, output: int, stride: int
) -> tuple[jax.Array, jax.Array]:
    """Takes the maxima of ``output`` windows of a negative axis; also returns the order of each.

    Among equal ones the lowest in reading order wins, and among NaN the highest. ``order`` is the order of each
    element along the axes before this one, if there are any, and ``stride`` the distance of neighbours along this axis.

    >>> axis_maxima(jnp.array([1.0, 3.0, 3.0]), None, -1, 2, 1)[1].tolist()
    [1, 1]
    """
    size, last = x.shape[axis], x.ndim + axis
    orders = []
    for index in _groups(size, output):
        own = jnp.asarray(_column(index * stride, x.ndim, axis))
        own = own if order is None else own + _windows(order, last, index)
        orders.append(_order_of_largest(_windows(lax.stop_gradient(x), last, index), own, last + 1))
    # Without a copy each element of the gradient would compare its windows once more.
    order = materialized(jnp.stack(orders, last + 1).reshape(_resized(x, last, output)))
    return _take_p.bind(x, order // stride % size, axis=axis, size=size), order
