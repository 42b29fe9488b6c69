"""Max and sum pooling by comparing or adding rows of windows one after the other.

XLA vectorizes the axes after a pooled axis, and reads the rows of the pooled axis by a constant index. Padding, strides
and interleaved results are avoided, because XLA compiles them to a branch for each element. Gradients need no scatter.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import ad

from flaxnets.kernels._primitives import (
    batch_in_front,
    in_order,
    materialized,
    primitive,
    transposes_to,
    with_materialized_gradient,
)
from flaxnets.kernels.resampling import along
from flaxnets.kernels.windows import Taps

SHORT = 32  # largest window along an axis; longer windows share partial results in another implementation
UNROLLED = 80  # up to this many elements of a window are unrolled; longer windows are a reduction
TOGETHER = 27  # up to this many elements of a window, all axes are pooled at once
REUSED = 4  # if an element is in more windows on average, axes are pooled one by one

Group = tuple[Taps, ...]  # taps of consecutive axes that are pooled at once


def _rows(x: jax.Array, axis: int, indices: Sequence[np.ndarray], dtype: Any = np.int32) -> jax.Array:
    """Index consecutive axes, the first of which is the negative ``axis``, with one index for each."""
    first = x.ndim + axis
    axes = range(first, first + len(indices))
    steps = [np.unique(np.diff(index)) if len(index) > 1 else np.array([1]) for index in indices]
    if all(len(step) == 1 and step[0] > 0 for step in steps):
        for i, index, step in zip(axes, indices, steps, strict=True):
            x = lax.slice_in_dim(x, int(index[0]), int(index[-1]) + 1, int(step[0]), i)
        return x
    places = np.stack(np.meshgrid(*indices, indexing="ij"), -1).astype(dtype)
    numbers = lax.GatherDimensionNumbers(
        offset_dims=tuple(i for i in range(x.ndim) if i not in axes),
        collapsed_slice_dims=tuple(axes),
        start_index_map=tuple(axes),
    )
    sizes = tuple(1 if i in axes else size for i, size in enumerate(x.shape))
    return lax.gather(x, places, numbers, sizes, mode="promise_in_bounds")


def _sizes(group: Group) -> tuple[int, ...]:
    return tuple(taps.size for taps in group)


def _flat(indices: Sequence[np.ndarray], sizes: Sequence[int]) -> np.ndarray:
    """Return the flat index of each combination of indices, in row-major order."""
    return np.ravel_multi_index(np.meshgrid(*indices, indexing="ij"), sizes, mode="clip").astype(np.int32)


def _first_maxima(x: jax.Array, group: Group, axis: int, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """Return the maxima of windows and their flat indices: the first of equal maxima, and the last NaN."""

    def element(indices: Sequence[np.ndarray]) -> tuple[jax.Array, jax.Array]:
        value = _rows(x, axis, indices, dtype)
        return value, jnp.broadcast_to(along(_flat(indices, _sizes(group)), x.ndim, axis + len(group) - 1), value.shape)

    def larger(a: tuple[jax.Array, jax.Array], b: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        is_larger = (b[0] > a[0]) | jnp.isnan(b[0])
        return jnp.where(is_larger, b[0], a[0]), jnp.where(is_larger, b[1], a[1])

    return functools.reduce(larger, map(element, itertools.product(*(taps.index.T for taps in group))))


def _blocks(x: jax.Array, axis: int, index: np.ndarray) -> jax.Array:
    """Split an axis into windows and their elements."""
    last = x.ndim + axis
    taken = _rows(x, axis, [index.ravel()])
    return taken.reshape(*x.shape[:last], *index.shape, *x.shape[last + 1 :])


def _is_long(group: Group) -> bool:
    return len(group) == 1 and group[0].index.shape[1] > UNROLLED


def _values(x: jax.Array, *, group: Group, axis: int) -> jax.Array:
    if _is_long(group):
        blocks = _blocks(x, axis, group[0].index)
        # XLA's maximum of an axis may ignore NaN.
        return jnp.where(jnp.isnan(blocks).any(axis), jnp.nan, blocks.max(axis))
    return in_order(_first_maxima(x, group, axis, np.int32)[0])


def _places(x: jax.Array, *, group: Group, axis: int) -> jax.Array:
    """Return the flat index of each window's maximum within the group's axes, in row-major order."""
    if not _is_long(group):
        # The index has another dtype than for the values. XLA would store rows that two loops read by the same index.
        return in_order(_first_maxima(x, group, axis, np.uint32)[1])
    blocks = _blocks(x, axis, group[0].index)
    values = jnp.expand_dims(materialized(blocks.max(axis)), axis)
    number = lax.broadcasted_iota(jnp.int32, blocks.shape, x.ndim + axis + 1)
    first = jnp.where(blocks == values, number, blocks.shape[axis]).min(axis)
    nan = jnp.where(jnp.isnan(blocks), number, -1).max(axis)
    number = jnp.where(nan < 0, first, nan)
    start = along(group[0].index[:, 0], x.ndim, axis)
    return jnp.minimum(start + number, along(group[0].index[:, -1], x.ndim, axis))


def _merged(x: jax.Array, group: Group, axis: int) -> jax.Array:
    """Merge the axes of the group."""
    first = x.ndim + axis
    return x.reshape(*x.shape[:first], math.prod(x.shape[first : first + len(group)]), *x.shape[first + len(group) :])


def _take(x: jax.Array, places: jax.Array, *, group: Group, axis: int) -> jax.Array:
    """Return the element of each window at its index."""
    taken = jnp.take_along_axis(
        _merged(x, group, axis), _merged(places, group, axis), x.ndim + axis, mode="promise_in_bounds"
    )
    return taken.reshape(places.shape)


def _give(g: jax.Array, places: jax.Array, *, group: Group, axis: int) -> jax.Array:
    """Compute the transpose of :func:`_take`: each element compares its index with those of the windows around it."""
    own_index = _flat([np.arange(size) for size in _sizes(group)], _sizes(group))
    total = jnp.zeros((), g.dtype)
    for windows in itertools.product(*(taps.containing for taps in group)):
        is_window = np.stack(np.meshgrid(*windows, indexing="ij")).min(0) >= 0
        inside = [np.maximum(index, 0) for index in windows]
        own = along(np.where(is_window, own_index, -1), g.ndim, axis + len(group) - 1)
        hit = _rows(places, axis, inside) == own
        total = total + jnp.where(hit, _rows(g, axis, inside), 0)
    return in_order(total)


_values_p, _places_p = primitive("window_maxima", _values), primitive("window_places", _places)
_take_p, _give_p = primitive("window_take", _take), primitive("window_give", _give)
transposes_to(_take_p, _give_p)
transposes_to(_give_p, _take_p)


def _values_jvp(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
    values = _values_p.bind(*primals, **params)
    if type(tangents[0]) is ad.Zero:
        return values, ad.Zero(values.aval.to_tangent_aval())
    places = materialized(_places_p.bind(lax.stop_gradient(primals[0]), **params))
    return values, _take_p.bind(*tangents, places, **params)


ad.primitive_jvps[_values_p] = _values_jvp


def _added(x: jax.Array, *, taps: Taps, axis: int) -> jax.Array:
    total = jnp.zeros((), x.dtype)
    if taps.index.shape[1] > UNROLLED:
        return _blocks(x, axis, taps.index).sum(axis, where=along(taps.is_inside, x.ndim + 1, axis))
    for index, is_inside in zip(taps.index.T, taps.is_inside.T, strict=True):
        value = _rows(x, axis, [index])
        total = total + (value if is_inside.all() else jnp.where(along(is_inside, x.ndim, axis), value, 0))
    return in_order(total)


def _spread(g: jax.Array, *, taps: Taps, axis: int) -> jax.Array:
    """Compute the transpose of :func:`_added`."""
    total = jnp.zeros((), g.dtype)
    for windows in taps.containing:
        value, is_window = _rows(g, axis, [np.maximum(windows, 0)]), windows >= 0
        total = total + (value if is_window.all() else jnp.where(along(is_window, g.ndim, axis), value, 0))
    return in_order(total)


_added_p, _spread_p = primitive("window_sums", _added), primitive("window_spread", _spread)
ad.deflinear2(_added_p, lambda ct, x, **params: [_spread_p.bind(ct, **params)])
ad.deflinear2(_spread_p, lambda ct, g, **params: [_added_p.bind(ct, **params)])

for _each in (_values_p, _places_p, _take_p, _give_p, _added_p, _spread_p):
    batch_in_front(_each)


def _channels_last(x: jax.Array, n: int) -> jax.Array:
    first = x.ndim - n - 1
    return lax.transpose(x, (*range(first), *range(first + 1, x.ndim), first))


def _channels_first(x: jax.Array, n: int) -> jax.Array:
    first = x.ndim - n - 1
    return lax.transpose(x, (*range(first), x.ndim - 1, *range(first, x.ndim - 1)))


def max_pool(x: jax.Array, axes: Sequence[Taps], channels_last: bool, return_indices: bool = False) -> Any:
    """Return the maxima of windows of the last axes, and with ``return_indices`` their flat indices.

    The first of equal maxima, or the last NaN, gets the whole gradient.

    Args:
        x: Floating-point array ``(..., C, *spatial)``.
        axes: Windows of each spatial axis.
        channels_last: Whether the neighboring layers store arrays channels-last, so that the transposes cost nothing.
        return_indices: Whether to return the indices, too.

    >>> from flaxnets.kernels.windows import strided
    >>> windows = strided(size=2, kernel=2, stride=2, padding=0, dilation=1, output=1)
    >>> x = jnp.array([[[[1.0, 3.0], [3.0, 2.0]]]])
    >>> jax.grad(lambda x: max_pool(x, [windows, windows], channels_last=False).sum())(x).tolist()
    [[[[0.0, 1.0], [0.0, 0.0]]]]
    """
    n, order = len(axes), None
    elements = math.prod(taps.index.shape[1] for taps in axes)
    is_small = elements <= TOGETHER and math.prod(taps.index.size / taps.size for taps in axes) <= REUSED
    x = _channels_last(x, n) if channels_last else materialized(_channels_last(with_materialized_gradient(x), n))
    # The last axis comes first, so that ties are resolved in row-major order.
    groups = [(-1 - n, tuple(axes))] if is_small else [(i - n - 1, (axes[i],)) for i in reversed(range(n))]
    for axis, group in groups:
        if return_indices:
            places = _places_p.bind(lax.stop_gradient(x), group=group, axis=axis)
            if order is None:
                order = places
            else:
                behind = math.prod(taps.size for taps in axes[n + axis + 2 :])
                order = places * behind + _take_p.bind(order, places, group=group, axis=axis)
        x = _values_p.bind(x, group=group, axis=axis)
        x = materialized(x) if axis > -1 - n else x
    results = [x] if order is None else [x, order]
    if channels_last:
        results = [_channels_first(each, n) for each in results]
    else:
        results = [materialized(_channels_first(materialized(each), n)) for each in results]
    return results[0] if order is None else (results[0], results[1].astype(int))


def sum_pool(x: jax.Array, axes: Sequence[Taps], channels_last: bool) -> jax.Array:
    """Return the sums of windows of the last axes of ``(..., C, *spatial)``.

    ``channels_last`` selects a channels-last computation.

    >>> from flaxnets.kernels.windows import strided
    >>> rows, columns = (strided(size=n, kernel=2, stride=2, padding=0, dilation=1, output=2) for n in (4, 5))
    >>> sum_pool(jnp.ones((1, 1, 4, 5)), [rows, columns], channels_last=False).tolist()
    [[[[4.0, 4.0], [4.0, 4.0]]]]
    """
    n = len(axes)
    x = _channels_last(x, n) if channels_last else x
    # The first axis comes first, because its elements are whole rows, and the last axis is shorter afterwards.
    for i, taps in enumerate(axes):
        x = _added_p.bind(materialized(x) if i else x, taps=taps, axis=i - n - channels_last)
    return _channels_first(x, n) if channels_last else x
