"""Pooling of images whose gradients need no scatter; inside, images are NHWC."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from flaxnets.kernels._primitives import materialized, primitive, transposes_to
from flaxnets.kernels.windows import Windows, larger


def _largest(x: jax.Array, places: jax.Array, axis: int, windows: Windows, unit: int) -> tuple[jax.Array, ...]:
    """The largest along ``axis`` and its place: the first of equal ones, the last NaN, padding never."""
    elements = zip(windows.slices(x, axis, -jnp.inf, 1), windows.slices(places, axis, 0, 1), strict=True)
    best = next(elements)
    for k, (value, own) in enumerate(elements, 1):
        best = larger(best, (value, own + jnp.uint8(k * unit)), windows.first(axis, k, value.shape, 1))
    return best


def _maxima(x: jax.Array, windows: Windows) -> tuple[jax.Array, ...]:
    """The maxima, and their places in their windows: ``row * width + column``."""
    values, places = _largest(x, jnp.zeros(x.shape, jnp.uint8), -1, windows, 1)
    return _largest(values, places, -2, windows, windows.kernel[1])


def _take(x: jax.Array, places: jax.Array, *, windows: Windows) -> jax.Array:
    """The element of each window at its place."""
    total = jnp.zeros((), x.dtype)
    for i, rows in enumerate(windows.slices(x, -2, 0, 1)):
        for j, elements in enumerate(windows.slices(rows, -1, 0, 1)):
            total = total + jnp.where(places == i * windows.kernel[1] + j, elements, 0)
    return total


def _give(g: jax.Array, places: jax.Array, *, windows: Windows) -> jax.Array:
    """The transpose of :func:`_take`."""
    size, kernel, stride, padding = windows.size, windows.kernel, windows.stride, windows.padding
    blocks = [-(-(size[i] + padding[i]) // stride[i]) for i in (0, 1)]
    back = [-(-kernel[i] // stride[i]) - 1 for i in (0, 1)]  # so many windows before also reach a position
    pads = [(0, 0, 0), *((back[i], blocks[i] - windows.output[i], 0) for i in (0, 1)), (0, 0, 0)]
    g = lax.pad(g, jnp.zeros((), g.dtype), pads)
    places = lax.pad(places, jnp.uint8(255), pads)
    whole = _side_by_side(g, places, kernel) if kernel == stride else _overlapping(g, places, windows, blocks, back)
    whole = whole.reshape(g.shape[0], blocks[0] * stride[0], blocks[1] * stride[1], g.shape[3])
    return whole[:, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]


def _side_by_side(g: jax.Array, places: jax.Array, kernel: Sequence[int]) -> jax.Array:
    """``(N, blocks, kernel, blocks, kernel, C)``: each position asks whether it is its only window's place."""
    n, height, width, channels = g.shape
    shape = (n, height, kernel[0], width, kernel[1], channels)
    own = lax.broadcasted_iota(jnp.uint8, shape, 2) * kernel[1] + lax.broadcasted_iota(jnp.uint8, shape, 4)
    places, g = (lax.broadcast_in_dim(x, shape, (0, 1, 3, 5)) for x in (places, g))
    return jnp.where(places == own, g, 0)


def _overlapping(g: jax.Array, places: jax.Array, windows: Windows, blocks: list[int], back: list[int]) -> jax.Array:
    """``(N, blocks, stride, blocks, stride, C)``: for each position between two windows, all that have it, added up."""
    kernel, stride = windows.kernel, windows.stride

    def phase(row: int, column: int) -> jax.Array:
        total = jnp.zeros((), g.dtype)
        for i in range(row, kernel[0], stride[0]):
            for j in range(column, kernel[1], stride[1]):
                start = (0, back[0] - i // stride[0], back[1] - j // stride[1], 0)
                end = (g.shape[0], start[1] + blocks[0], start[2] + blocks[1], g.shape[3])
                here = lax.slice(places, start, end) == i * kernel[1] + j
                total = total + jnp.where(here, lax.slice(g, start, end), 0)
        return jnp.broadcast_to(total, (g.shape[0], *blocks, g.shape[3]))

    rows = [jnp.stack([phase(row, column) for column in range(stride[1])], 3) for row in range(stride[0])]
    return jnp.stack(rows, 2)


_take_p, _give_p = primitive("max_pool_take", _take), primitive("max_pool_give", _give)


transposes_to(_take_p, _give_p)
transposes_to(_give_p, _take_p)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _max_pool(x: jax.Array, windows: Windows) -> jax.Array:
    return _maxima(x, windows)[0]


@_max_pool.defjvp
def _max_pool_jvp(windows: Windows, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    values, places = _maxima(primals[0], windows)
    return values, _take_p.bind(tangents[0], materialized(places), windows=windows)


def max_pool(x: jax.Array, windows: Windows) -> jax.Array:
    """The maxima of windows of at most 255 elements in images ``(N, C, H, W)`` of floating-point numbers.

    Among equal ones the first gets the whole gradient.

    >>> from flaxnets.nn.functional._windows import windows_of
    >>> windows = windows_of(jnp.ones((1, 1, 2, 2)), 2, "max_pool2d", 2, 2, 0, 1, False)
    >>> jax.grad(lambda x: max_pool(x, windows).sum())(jnp.array([[[[1.0, 3.0], [3.0, 2.0]]]])).tolist()
    [[[[0.0, 1.0], [0.0, 0.0]]]]
    """
    return lax.transpose(_max_pool(lax.transpose(x, (0, 2, 3, 1)), windows), (0, 3, 1, 2))


def sum_pool(x: jax.Array, windows: Windows) -> jax.Array:
    """The sums of windows that lie side by side in images ``(N, C, H, W)``; what remains at the end is left out.

    >>> from flaxnets.nn.functional._windows import windows_of
    >>> x = jnp.ones((1, 1, 4, 5))
    >>> sum_pool(x, windows_of(x, 2, "avg_pool2d", 2, 2, 0, 1, False)).tolist()
    [[[[4.0, 4.0], [4.0, 4.0]]]]
    """
    (height, width), (kh, kw) = windows.output, windows.kernel
    x = lax.transpose(x, (0, 2, 3, 1))[:, : height * kh, : width * kw]
    blocks = x.reshape(x.shape[0], height, kh, width, kw, x.shape[3])
    return lax.transpose(blocks.sum((2, 4)), (0, 3, 1, 2))
