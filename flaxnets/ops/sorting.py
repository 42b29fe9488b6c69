"""Sorting and related functions; NaN is larger than every number, and equal elements keep their order."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from flaxnets.ops._axes import ValuesIndices, resolve
from flaxnets.ops.extremes import picked


def argsort(input: jax.Array, dim: int = -1, descending: bool = False, stable: bool = True) -> jax.Array:
    """Return the indices that sort an axis.

    Args:
        input: of any shape.
        dim: the axis.
        descending: whether to sort in descending order (NaN first).
        stable: no effect; sorting is always stable.

    See `torch.argsort <https://docs.pytorch.org/docs/stable/generated/torch.argsort.html>`_.

    >>> argsort(jnp.array([2, 1, 2]), descending=True).tolist()
    [0, 2, 1]
    """
    axis = resolve(dim, input.ndim, "argsort")
    if input.ndim == 0:
        return jnp.zeros((), int)
    if not descending:
        return jnp.argsort(input, axis=axis, stable=True).astype(int)
    # Reversing before and after sorts NaN first and keeps the order of equal elements.
    reversed_order = jnp.argsort(jnp.flip(input, axis), axis=axis, stable=True).astype(int)
    return input.shape[axis] - 1 - jnp.flip(reversed_order, axis)


def sort(input: jax.Array, dim: int = -1, descending: bool = False, stable: bool = True) -> ValuesIndices:
    """Sort an axis and return ``(values, indices)``. Arguments are those of :func:`argsort`.

    See `torch.sort <https://docs.pytorch.org/docs/stable/generated/torch.sort.html>`_.

    >>> values, indices = sort(jnp.array([2.0, 1.0, 3.0]), descending=True)
    >>> values.tolist(), indices.tolist()
    ([3.0, 2.0, 1.0], [2, 0, 1])
    """
    indices = argsort(input, dim, descending)
    return _along(input, indices, dim)


def _along(input: jax.Array, indices: jax.Array, dim: int) -> ValuesIndices:
    return ValuesIndices(jnp.take_along_axis(input, indices, axis=dim) if input.ndim else input, indices)


def _axis_of(name: str, input: jax.Array, dim: int, k: int, lowest: int) -> int:
    """Return the axis as a non-negative number; raise RuntimeError for a ``k`` out of range."""
    axis = resolve(dim, input.ndim, name)
    size = input.shape[axis] if input.ndim else 1
    if not lowest <= k <= size:
        raise RuntimeError(f"{name}: got {k=}. Expected a number from {lowest} to {size}, the size of axis {dim}")
    return axis


def topk(input: jax.Array, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesIndices:
    """Return the ``k`` largest (or smallest) elements along an axis, and their indices.

    Args:
        input: of any shape.
        k: number of elements.
        dim: the axis.
        largest: whether to return the largest elements instead of the smallest.
        sorted: no effect; the result is always sorted.

    Raises:
        RuntimeError: for a ``k`` larger than the axis.

    See `torch.topk <https://docs.pytorch.org/docs/stable/generated/torch.topk.html>`_.

    >>> topk(jnp.array([1.0, 3.0, 2.0]), 2).indices.tolist()
    [1, 2]
    """
    axis = _axis_of("topk", input, dim, k, 0)
    if input.ndim == 0:
        return ValuesIndices(input, jnp.zeros((), int))
    if largest and jnp.issubdtype(input.dtype, jnp.number):
        _, indices = jax.lax.top_k(jnp.moveaxis(jax.lax.stop_gradient(input), axis, -1), k)
        indices = jnp.moveaxis(indices, -1, axis).astype(int)
    else:
        indices = jax.lax.slice_in_dim(argsort(input, axis, largest), 0, k, axis=axis)
    return _along(input, indices, axis)


def kthvalue(input: jax.Array, k: int, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """Return the ``k``-th smallest element along an axis, counted from 1, and its index.

    Raises:
        RuntimeError: for a ``k`` that is not between 1 and the size of the axis.

    See `torch.kthvalue <https://docs.pytorch.org/docs/stable/generated/torch.kthvalue.html>`_.

    >>> kthvalue(jnp.array([3.0, 1.0, 2.0]), 2).values.item()
    2.0
    """
    axis = _axis_of("kthvalue", input, dim, k, 1)
    if input.ndim == 0:
        return ValuesIndices(input, jnp.zeros((), int))
    return picked(input, jax.lax.slice_in_dim(argsort(input, axis), k - 1, k, axis=axis), axis, keepdim)


def _shared(input: jax.Array, chosen: jax.Array) -> jax.Array:
    """Return the selected element; all equal elements share its gradient."""
    if not jnp.issubdtype(input.dtype, jnp.floating):
        return chosen
    fixed = jax.lax.stop_gradient
    is_equal = fixed(input) == fixed(chosen)
    return fixed(chosen) + jnp.where(is_equal, input - fixed(input), 0).sum() / jnp.maximum(is_equal.sum(), 1)


def _median(input: jax.Array, dim: int | None, keepdim: bool, ignore_nan: bool) -> jax.Array | ValuesIndices:
    if dim is None or input.ndim == 0:
        flat = _median(input.reshape(-1), 0, False, ignore_nan)
        assert isinstance(flat, ValuesIndices)
        return _shared(input, flat.values) if dim is None else flat
    axis = resolve(dim, input.ndim, "median")
    order = argsort(input, axis)
    is_nan = jnp.isnan(input)
    last = input.shape[axis] - 1
    numbers = jnp.sum(~is_nan, axis=axis, keepdims=True)
    middle = jnp.maximum(numbers - 1, 0) // 2 if ignore_nan else jnp.full_like(numbers, last // 2)
    indices = jnp.take_along_axis(order, middle, axis=axis)
    if not ignore_nan:
        first_nan = jnp.argmax(is_nan, axis=axis, keepdims=True)
        indices = jnp.where(is_nan.any(axis=axis, keepdims=True), first_nan, indices)
    return picked(input, indices, axis, keepdim)


def median(input: jax.Array, dim: int | None = None, keepdim: bool = False) -> jax.Array | ValuesIndices:
    """Return the lower median of all elements, or ``(values, indices)`` along an axis; NaN if any element is NaN.

    See `torch.median <https://docs.pytorch.org/docs/stable/generated/torch.median.html>`_.

    >>> median(jnp.array([1.0, 4.0, 3.0, 2.0])).item()
    2.0
    """
    return _median(input, dim, keepdim, ignore_nan=False)


def nanmedian(input: jax.Array, dim: int | None = None, keepdim: bool = False) -> jax.Array | ValuesIndices:
    """Return the lower median of the elements that are not NaN; otherwise like :func:`median`.

    See `torch.nanmedian <https://docs.pytorch.org/docs/stable/generated/torch.nanmedian.html>`_.

    >>> nanmedian(jnp.array([1.0, jnp.nan, 3.0, 2.0])).item()
    2.0
    """
    return _median(input, dim, keepdim, ignore_nan=True)


def mode(input: jax.Array, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """Return the most frequent element along an axis (the smallest if tied), and its last index.

    See `torch.mode <https://docs.pytorch.org/docs/stable/generated/torch.mode.html>`_.

    >>> mode(jnp.array([2, 1, 2, 1, 3])).values.item()
    1
    """
    axis = resolve(dim, input.ndim, "mode")
    if input.ndim == 0:
        return ValuesIndices(input, jnp.zeros((), int))
    order = argsort(input, axis)
    values = jnp.take_along_axis(input, order, axis=axis)
    # Length of the run of equal elements that ends at each position; the longest run ends at the mode's last index.
    starts = jnp.ones_like(values, bool)
    before = jax.lax.slice_in_dim(values, 0, values.shape[axis] - 1, axis=axis)
    after = jax.lax.slice_in_dim(values, 1, None, axis=axis)
    changes = jnp.concatenate([jax.lax.slice_in_dim(starts, 0, 1, axis=axis), before != after], axis=axis)
    positions = jax.lax.broadcasted_iota(int, values.shape, axis)
    lengths = positions - jax.lax.cummax(jnp.where(changes, positions, 0), axis=axis)
    best = jnp.argmax(lengths, axis=axis, keepdims=True)
    return picked(input, jnp.take_along_axis(order, best, axis=axis), axis, keepdim)


def searchsorted(
    sorted_sequence: jax.Array,
    input: ArrayLike,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: jax.Array | None = None,
) -> jax.Array:
    """Return the insertion index of each element in a sorted sequence.

    Args:
        sorted_sequence: a vector, or rows of sequences with the leading axes of ``input``.
        input: the elements, or one number.
        out_int32: whether the result is int32 instead of int64.
        right: whether to insert after equal elements.
        side: ``"left"`` or ``"right"``, instead of ``right``.
        sorter: the indices that sort ``sorted_sequence``, if unsorted.

    See `torch.searchsorted <https://docs.pytorch.org/docs/stable/generated/torch.searchsorted.html>`_.

    >>> searchsorted(jnp.array([1, 3, 5]), jnp.array([3, 6])).tolist()
    [1, 3]
    """
    values = jnp.asarray(input)
    side = side or ("right" if right else "left")
    if sorter is not None:
        sorted_sequence = jnp.take_along_axis(sorted_sequence, sorter, axis=-1)
    dtype = jnp.int32 if out_int32 else int
    if sorted_sequence.ndim == 1:
        return jnp.searchsorted(sorted_sequence, values, side=side).astype(dtype)
    rows, elements = (array.reshape(-1, array.shape[-1]) for array in (sorted_sequence, values))
    insertion = jax.vmap(lambda row, each: jnp.searchsorted(row, each, side=side))(rows, elements)
    return insertion.reshape(values.shape).astype(dtype)


def bucketize(input: ArrayLike, boundaries: jax.Array, *, out_int32: bool = False, right: bool = False) -> jax.Array:
    """Return the index of the bucket between sorted boundaries for each element.

    See `torch.bucketize <https://docs.pytorch.org/docs/stable/generated/torch.bucketize.html>`_.

    >>> bucketize(jnp.array([3, 6]), jnp.array([1, 3, 5]), right=True).tolist()
    [2, 3]
    """
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)
