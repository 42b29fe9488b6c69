"""Sparse linear maps along axes, such as interpolation. Their gradients are sparse linear maps, and need no scatter."""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import ad

from flaxnets.kernels._primitives import batch_in_front, in_order, materialized, primitive

SLICES = 24  # largest number of added strided slices, which bounds the compile time; otherwise gathers are used
BLOCKS = 8  # strided slices of fewer elements are slower than a gather
LONG = 128  # XLA copies concatenated arrays row by row, which is fast for rows of at least this many elements
GATHERS = 32  # largest number of added gathers; more are one gather and a reduction


@dataclasses.dataclass(frozen=True, eq=False)
class AxisMap:
    """A sparse matrix that maps an axis of ``size`` to an axis of ``output`` elements. Compares by identity.

    Attributes:
        size: Number of elements of the axis.
        output: Number of elements of the result's axis.
        rows: Index of the result's element to which each entry adds.
        columns: Index of the axis's element that each entry multiplies.
        weights: Weights of the entries; None if all weights are 1.
    """

    size: int
    output: int
    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray | None = None

    @classmethod
    def of_taps(cls, size: int, index: np.ndarray, weight: np.ndarray | None = None) -> "AxisMap":
        """Create the map of an index and weights ``(output, count)``. Entries out of range count as zero."""
        output, count = index.shape
        inside = index.ravel() < size
        rows = np.repeat(np.arange(output), count)[inside]
        return cls(size, output, rows, index.ravel()[inside], None if weight is None else weight.ravel()[inside])

    @functools.cached_property
    def transposed(self) -> "AxisMap":
        """The map of the gradient."""
        order = np.argsort(self.columns, kind="stable")
        weights = None if self.weights is None else self.weights[order]
        new = AxisMap(self.output, self.size, self.columns[order], self.rows[order], weights)
        new.__dict__["transposed"] = self
        return new

    @functools.cached_property
    def is_selection(self) -> bool:
        """Whether each element of the result equals one element of the axis."""
        return self.weights is None and np.array_equal(self.rows, np.arange(self.output))

    @functools.cached_property
    def shifted(self) -> tuple[int, int, int]:
        """Start, stop and shift of the longest run of the result that copies a run of the axis."""
        if self.weights is not None:
            return 0, 0, 0
        shifts = np.zeros(self.output, int)
        shifts[self.rows] = self.columns - self.rows
        single = np.bincount(self.rows, minlength=self.output) == 1
        same = single[1:] & single[:-1] & (shifts[1:] == shifts[:-1])
        bounds = np.flatnonzero(np.concatenate([[True], ~same, [True]]))
        first, stop = max(itertools.pairwise(bounds.tolist()), key=lambda pair: pair[1] - pair[0])
        return (first, stop, int(shifts[first])) if single[first] else (0, 0, 0)

    def part(self, start: int, stop: int) -> "AxisMap":
        """Return the map to a range of the result; only for maps without weights."""
        inside = (start <= self.rows) & (self.rows < stop)
        return AxisMap(self.size, stop - start, self.rows[inside] - start, self.columns[inside])

    @functools.cached_property
    def uses_once(self) -> bool:
        """Whether each element of the axis is in at most one entry."""
        return len(np.unique(self.columns)) == len(self.columns)

    @functools.cached_property
    def slices(self) -> dict[tuple[int, ...], np.ndarray] | None:
        """Indices of entries by phase of the result, phase of the axis, shift and repetition; None if too many.

        If input and output consist of ``n`` blocks each, the result's elements at one position in their blocks are a
        sum of strided slices of the axis. The repetition numbers entries that are otherwise equal.
        """
        blocks = math.gcd(self.size, self.output)
        row, phase = np.divmod(self.rows, self.output // blocks)
        column, place = np.divmod(self.columns, self.size // blocks)
        _, first, equal = np.unique(np.stack([self.rows, self.columns]), axis=1, return_index=True, return_inverse=True)
        again = np.arange(len(self.rows)) - first[equal.ravel()] if len(first) < len(self.rows) else row * 0
        keys, inverse = np.unique(np.stack([phase, place, column - row, again], 1), axis=0, return_inverse=True)
        if len(keys) > SLICES:
            return None
        return {tuple(key): np.flatnonzero(inverse.ravel() == i) for i, key in enumerate(keys.tolist())}


Axes = list[tuple[int, AxisMap]]


def along(values: np.ndarray, ndim: int, axis: int) -> np.ndarray:
    """Reshape values to broadcast with an array of ``ndim`` axes. Their last axis becomes the negative ``axis``.

    >>> along(np.ones((2, 3)), 4, -2).shape
    (1, 2, 3, 1)
    """
    shape = (*values.shape, *(1,) * (-1 - axis))
    return values.reshape((1,) * (ndim - len(shape)) + shape)


def _sliced(x: jax.Array, axis: int, m: AxisMap) -> jax.Array:
    """Add strided slices for each phase of the result, and interleave the phases."""
    blocks, entries = math.gcd(m.size, m.output), m.slices
    assert entries is not None
    step, phases, last = m.size // blocks, m.output // blocks, x.ndim + axis
    shifts = [shift for _, _, shift, _ in entries]
    before, behind = max(0, -min(shifts)), max(0, max(shifts))
    pads = [(0, 0, 0)] * x.ndim
    pads[axis] = (before * step, behind * step, 0)
    padded = lax.pad(x, jnp.zeros((), x.dtype), pads)
    totals = [jnp.zeros((), x.dtype)] * phases
    for (phase, place, shift, _), at in entries.items():
        start = (before + shift) * step + place
        part = lax.slice_in_dim(padded, start, start + (blocks - 1) * step + 1, step, last)
        row = m.rows[at] // phases
        if m.weights is not None:
            weights = np.zeros(blocks, m.weights.dtype)
            weights[row] = m.weights[at]
            part = part * jnp.asarray(along(weights, x.ndim, axis), x.dtype)
        if len(at) < blocks - abs(shift):  # a weight of zero would not mask infinity and NaN
            mask = np.zeros(blocks, bool)
            mask[row] = True
            part = jnp.where(along(mask, x.ndim, axis), part, 0)
        totals[phase] = totals[phase] + part
    shape = (*x.shape[:last], blocks, *x.shape[last + 1 :])
    totals = [jnp.broadcast_to(total, shape) for total in totals]
    return jnp.stack(totals, last + 1).reshape(*shape[:last], m.output, *shape[last + 1 :])


def _take(x: jax.Array, axis: int, *indices: np.ndarray) -> jax.Array:
    """Index an axis and the following axes.

    The gather takes elements or rows of a matrix, because XLA would store a gather of several axes in another axis
    order, and copy the result.
    """
    last = x.ndim + axis
    is_known = all(isinstance(size, int) for size in x.shape)  # sizes may be symbolic in jax.export
    if not is_known or not 0 < x.size <= np.iinfo(np.int32).max or jax.device_count() > 1:
        for number, index in enumerate(indices, last):
            x = jnp.take(x, index, number, mode="clip")
        return x
    lead, sizes, rest = x.shape[:last], x.shape[last : last + len(indices)], x.shape[last + len(indices) :]
    places = np.ravel_multi_index(np.meshgrid(*indices, indexing="ij"), sizes).ravel().astype(np.int32)
    if rest:
        first = lax.iota(jnp.int32, math.prod(lead)) * math.prod(sizes)
        rows = x.reshape(-1, math.prod(rest))
        taken = rows.at[jnp.add.outer(first, places)].get(mode="promise_in_bounds")
    else:  # with vmap, XLA computes the index of each element once for all rows
        rows = x.reshape(math.prod(lead), math.prod(sizes))
        taken = jax.vmap(lambda row: row.at[places].get(mode="promise_in_bounds"))(rows)
    return taken.reshape(*lead, *map(len, indices), *rest)


def _gathered(x: jax.Array, axis: int, m: AxisMap) -> jax.Array:
    """Add one gather for each entry of the result's elements. Shorter sums are filled with zeros."""
    counts = np.bincount(m.rows, minlength=m.output)
    starts, count = np.cumsum(counts) - counts, int(counts.max(initial=1))
    place = np.arange(len(m.rows)) - starts[m.rows]
    index, weights = np.zeros((count, m.output), int), np.ones((count, m.output))
    index[place, m.rows], weights[place, m.rows] = m.columns, 1 if m.weights is None else m.weights
    last = x.ndim + axis

    def gather(index: np.ndarray, weights: np.ndarray, mask: np.ndarray) -> jax.Array:
        taken = _take(x, axis, index.ravel()).reshape(*x.shape[:last], *index.shape, *x.shape[last + 1 :])
        if (weights != 1).any():
            taken = taken * jnp.asarray(along(weights, taken.ndim, axis), x.dtype)
        return taken if mask.all() else jnp.where(along(mask, taken.ndim, axis), taken, 0)

    mask = np.arange(count)[:, None] < counts
    if count > GATHERS:
        return gather(index.T, weights.T, mask.T).sum(last + 1)
    return functools.reduce(jnp.add, map(gather, index, weights, mask))


def _joined(x: jax.Array, m: AxisMap) -> jax.Array:
    """Select elements of the last axis: one long slice, and a gather at each end."""
    first, stop, shift = m.shifted
    inner = lax.slice_in_dim(x, first + shift, stop + shift, axis=-1)
    ends = [materialized(_take(x, -1, columns)) for columns in (m.columns[:first], m.columns[stop:])]
    return lax.concatenate([ends[0], inner, ends[1]], x.ndim - 1)


def _spliced(x: jax.Array, axes: Axes) -> jax.Array:
    """Copy the part that all maps shift, and then write the ends of each axis."""
    pads, inner = [(0, 0, 0)] * x.ndim, x
    for axis, m in axes:
        first, stop, shift = m.shifted
        pads[axis] = (first, m.output - stop, 0)
        inner = lax.slice_in_dim(inner, first + shift, stop + shift, axis=x.ndim + axis)
    y = lax.pad(inner, jnp.zeros((), x.dtype), pads)
    for number, (axis, m) in enumerate(axes):
        for start, stop in ((0, m.shifted[0]), (m.shifted[1], m.output)):
            if start == stop:
                continue
            end, at = _gathered(x, axis, m.part(start, stop)), [0] * x.ndim
            at[axis] = start
            if axes[number + 1 :]:
                end = _spliced(materialized(end), axes[number + 1 :])
            for before, other in axes[:number]:
                at[before], last, shift = other.shifted
                end = lax.slice_in_dim(end, at[before] + shift, last + shift, axis=x.ndim + before)
            y = lax.dynamic_update_slice(y, end, [jnp.int32(place) for place in at])
    return y


def _resample(x: jax.Array, *, maps: tuple[AxisMap | None, ...]) -> jax.Array:
    """Apply the maps axis by axis. The last axis, read element by element, is mapped while the array is small."""
    axes = [(axis, m) for axis, m in enumerate(maps, -len(maps)) if m is not None]
    last = maps[-1]
    is_sliced = last is not None and math.gcd(last.size, last.output) >= BLOCKS and last.slices is not None
    if not is_sliced and all(m.is_selection for _, m in axes):
        first = min((axis for axis, _ in axes), default=-len(maps))
        if last is not None and first == -1 and last.shifted[1] - last.shifted[0] >= LONG:
            return _joined(x, last)
        indices = (np.arange(x.shape[axis]) if m is None else m.columns for axis, m in enumerate(maps, -len(maps)))
        return in_order(_take(x, first, *[*indices][len(maps) + first :]))
    if all(2 * (m.shifted[1] - m.shifted[0]) > m.output for _, m in axes):
        return _spliced(x, axes)
    if math.prod(m.output for _, m in axes) > math.prod(m.size for _, m in axes):
        axes.reverse()
    is_sum = False
    for axis, m in axes:
        slices = is_sliced and axis == -1
        if is_sum and not (slices and m.uses_once):  # otherwise XLA computes a sum again for each of its uses
            x = materialized(x)
        x = (_sliced if slices else _gathered)(x, axis, m)
        is_sum = len(m.rows) > m.output
    return x


_resample_p = primitive("resample", _resample)
ad.deflinear2(
    _resample_p,
    lambda ct, x, *, maps: [_resample_p.bind(ct, maps=tuple(None if m is None else m.transposed for m in maps))],
)


batch_in_front(_resample_p)


def resample(x: jax.Array, maps: tuple[AxisMap | None, ...]) -> jax.Array:
    """Map each of the last axes with its map. None leaves an axis unchanged.

    >>> import numpy as np
    >>> pairs = AxisMap.of_taps(3, np.array([[0, 1], [1, 2]]))
    >>> resample(jnp.array([1.0, 2.0, 4.0]), (pairs,)).tolist()
    [3.0, 6.0]
    """
    return _resample_p.bind(x, maps=maps)
