"""Reading and writing by index and by mask."""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from flaxnets.ops._axes import resolve

Reduce = Literal["sum", "prod", "mean", "amax", "amin"]
Positions = tuple[jax.Array | slice, ...]


def _positions(index: jax.Array, axis: int) -> tuple[jax.Array, ...]:
    """Return one index array per axis: ``index`` along ``axis``, and the position along all others."""
    positions = list(jnp.indices(index.shape, sparse=True))
    positions[axis] = index
    return tuple(positions)


def gather(input: jax.Array, dim: int, index: jax.Array) -> jax.Array:
    """Gather the elements at ``index`` along an axis; the other axes of ``index`` may be shorter than the input's.

    See `torch.gather <https://docs.pytorch.org/docs/stable/generated/torch.gather.html>`_.

    >>> gather(jnp.array([[1, 2], [3, 4]]), 1, jnp.array([[1], [0]])).tolist()
    [[2], [3]]
    """
    axis = resolve(dim, input.ndim, "gather")
    if index.ndim == 0 or input.ndim == 0:
        return jnp.take(input.reshape(-1), index)
    if any(size > input.shape[i] for i, size in enumerate(index.shape) if i != axis) or index.ndim != input.ndim:
        raise RuntimeError(f"gather: got an index of shape {index.shape}. Expected one that fits in {input.shape}")
    cropped = input[tuple(slice(None) if i == axis else slice(size) for i, size in enumerate(index.shape))]
    return jnp.take_along_axis(cropped, index, axis=axis)


def take_along_dim(input: jax.Array, indices: jax.Array, dim: int | None = None) -> jax.Array:
    """Take the elements at ``indices`` along an axis; the other axes broadcast. Without ``dim``, flatten the input.

    See `torch.take_along_dim <https://docs.pytorch.org/docs/stable/generated/torch.take_along_dim.html>`_.

    >>> take_along_dim(jnp.array([[1, 2], [3, 4]]), jnp.array([[1]]), dim=1).tolist()
    [[2], [4]]
    """
    if dim is None:
        return jnp.take(input.reshape(-1), indices.reshape(-1))
    return jnp.take_along_axis(input, indices, axis=dim)


def scatter(
    input: jax.Array, dim: int, index: jax.Array, src: ArrayLike, *, reduce: Literal["add", "multiply"] | None = None
) -> jax.Array:
    """Write the elements of ``src`` to the positions ``index`` along an axis.

    Args:
        input: the array to write to.
        dim: the axis.
        index: the positions; its axes may be shorter than those of ``input`` and ``src``.
        src: an array, or one number.
        reduce: ``"add"`` or ``"multiply"`` combines the elements instead of overwriting.

    See `torch.scatter <https://docs.pytorch.org/docs/stable/generated/torch.scatter.html>`_.

    >>> scatter(jnp.zeros((2, 2)), 1, jnp.array([[1], [0]]), 5.0).tolist()
    [[0.0, 5.0], [5.0, 0.0]]
    """
    if input.ndim == 0:
        return scatter(input[None], 0, jnp.atleast_1d(index), jnp.atleast_1d(src), reduce=reduce)[0]
    target = input.at[_positions(index, resolve(dim, input.ndim, "scatter"))]
    values = _cropped(src, index).astype(input.dtype)
    if reduce not in (None, "add", "multiply"):
        raise RuntimeError(f"scatter: got {reduce=}. Expected None, 'add' or 'multiply'")
    return {None: target.set, "add": target.add, "multiply": target.multiply}[reduce](values)


def _cropped(src: ArrayLike, index: jax.Array) -> jax.Array:
    values = jnp.asarray(src)
    return values[tuple(map(slice, index.shape))] if values.ndim else values


def scatter_add(input: jax.Array, dim: int, index: jax.Array, src: jax.Array) -> jax.Array:
    """Add the elements of ``src`` at the positions ``index`` along an axis.

    See `torch.scatter_add <https://docs.pytorch.org/docs/stable/generated/torch.scatter_add.html>`_.

    >>> scatter_add(jnp.zeros(3), 0, jnp.array([1, 1]), jnp.array([2.0, 3.0])).tolist()
    [0.0, 5.0, 0.0]
    """
    return scatter(input, dim, index, src, reduce="add")


def scatter_reduce(
    input: jax.Array, dim: int, index: jax.Array, src: jax.Array, reduce: Reduce, *, include_self: bool = True
) -> jax.Array:
    """Reduce the elements of ``src`` into the positions ``index`` along an axis.

    Args:
        input: the array to reduce into.
        dim: the axis.
        index: the positions; its axes may be shorter than those of ``input`` and ``src``.
        src: the elements.
        reduce: ``"sum"``, ``"prod"``, ``"mean"``, ``"amax"`` or ``"amin"``.
        include_self: whether the reduction includes the elements of ``input`` at the positions.

    Raises:
        RuntimeError: for another reduction.

    See `torch.scatter_reduce <https://docs.pytorch.org/docs/stable/generated/torch.scatter_reduce.html>`_.

    >>> scatter_reduce(jnp.zeros(2), 0, jnp.array([1, 1]), jnp.array([2.0, 3.0]), "mean", include_self=False).tolist()
    [0.0, 2.5]
    """
    if input.ndim == 0:
        ones = jnp.atleast_1d(index), jnp.atleast_1d(src)
        return scatter_reduce(input[None], 0, *ones, reduce, include_self=include_self)[0]
    positions = _positions(index, resolve(dim, input.ndim, "scatter_reduce"))
    return _reduced(input, positions, _cropped(src, index), reduce, include_self)


def _reduced(
    input: jax.Array, positions: Positions, values: jax.Array, reduce: Reduce, include_self: bool
) -> jax.Array:
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise RuntimeError(f"scatter_reduce: got {reduce=}. Expected 'sum', 'prod', 'mean', 'amax' or 'amin'")
    counts = jnp.zeros(input.shape, int).at[positions].add(1)
    is_reached = counts > 0
    start = {"sum": 0, "mean": 0, "prod": 1, "amax": _limit(input, -1), "amin": _limit(input, 1)}[reduce]
    base = input if include_self else jnp.where(is_reached, jnp.asarray(start, input.dtype), input)
    if reduce in ("sum", "mean"):
        total = base.at[positions].add(values)
        if reduce == "sum":
            return total
        shares = jnp.where(is_reached, counts + include_self, 1)
        is_float = jnp.issubdtype(input.dtype, jnp.inexact)
        return total / shares.astype(input.dtype) if is_float else total // shares.astype(input.dtype)
    if reduce == "prod":
        return _product(base, positions, values)
    return _extreme(base, positions, values, reduce == "amax", is_reached & (not include_self))


def _limit(input: jax.Array, sign: int) -> ArrayLike:
    if jnp.issubdtype(input.dtype, jnp.floating):
        return sign * np.inf
    if jnp.issubdtype(input.dtype, jnp.bool):
        return sign > 0
    return jnp.iinfo(input.dtype).max if sign > 0 else jnp.iinfo(input.dtype).min


def _change(array: jax.Array) -> jax.Array:
    """Return zeros that carry the gradient of the array."""
    return jnp.where(jnp.isfinite(array), array - jax.lax.stop_gradient(array), 0)


def _extreme(
    base: jax.Array, positions: Positions, values: jax.Array, largest: bool, without_self: jax.Array
) -> jax.Array:
    """Scatter the extreme values; as in torch, tied elements share the gradient, which JAX does not define."""
    fixed, fixed_values = jax.lax.stop_gradient(base), jax.lax.stop_gradient(values)
    result = (fixed.at[positions].max if largest else fixed.at[positions].min)(fixed_values)
    if not jnp.issubdtype(base.dtype, jnp.floating):
        return result
    is_chosen = fixed_values == result[positions]
    is_kept = (fixed == result) & ~without_self
    ties = is_kept.astype(base.dtype).at[positions].add(is_chosen.astype(base.dtype))
    shared = jnp.where(is_kept, _change(base), 0).at[positions].add(jnp.where(is_chosen, _change(values), 0))
    return result + shared / jnp.maximum(ties, 1)


def _product(base: jax.Array, positions: Positions, values: jax.Array) -> jax.Array:
    """Scatter products; an element's gradient is the product of the others, even with zeros (undefined in JAX)."""
    fixed, fixed_values = jax.lax.stop_gradient(base), jax.lax.stop_gradient(values)
    result = fixed.at[positions].multiply(fixed_values)
    if not jnp.issubdtype(base.dtype, jnp.inexact):
        return result
    zeros = (fixed == 0).astype(int).at[positions].add((fixed_values == 0).astype(int))
    nonzero = jnp.where(fixed == 0, 1, fixed).at[positions].multiply(jnp.where(fixed_values == 0, 1, fixed_values))

    def others(element: jax.Array, product: jax.Array, zero_count: jax.Array) -> jax.Array:
        is_zero = element == 0
        return jnp.where(zero_count == is_zero, product / jnp.where(is_zero, 1, element), 0)

    change = _change(base) * others(fixed, nonzero, zeros)
    return result + change.at[positions].add(
        _change(values) * others(fixed_values, nonzero[positions], zeros[positions])
    )


def _along(index: jax.Array, axis: int) -> tuple[slice | jax.Array, ...]:
    return (*[slice(None)] * axis, jnp.atleast_1d(index))


def index_select(input: jax.Array, dim: int, index: jax.Array) -> jax.Array:
    """Select the elements of an axis at the indices of a vector; the axis is kept.

    See `torch.index_select <https://docs.pytorch.org/docs/stable/generated/torch.index_select.html>`_.

    >>> index_select(jnp.array([[1, 2], [3, 4]]), 1, jnp.array([1, 1])).tolist()
    [[2, 2], [4, 4]]
    """
    if input.ndim == 0:
        return input
    return jnp.take(input, jnp.atleast_1d(index), axis=dim)


def index_add(input: jax.Array, dim: int, index: jax.Array, source: jax.Array, *, alpha: complex = 1) -> jax.Array:
    """Add ``alpha * source`` to the elements of an axis at the indices of a vector.

    See `torch.index_add <https://docs.pytorch.org/docs/stable/generated/torch.index_add.html>`_.

    >>> index_add(jnp.zeros(3), 0, jnp.array([1, 1]), jnp.array([2.0, 3.0])).tolist()
    [0.0, 5.0, 0.0]
    """
    if input.ndim == 0:
        return index_add(input[None], 0, index, jnp.atleast_1d(source), alpha=alpha)[0]
    values = source if alpha == 1 else source * jnp.asarray(alpha, source.dtype)
    return input.at[_along(index, resolve(dim, input.ndim, "index_add"))].add(values)


def index_copy(input: jax.Array, dim: int, index: jax.Array, source: jax.Array) -> jax.Array:
    """Write ``source`` to the elements of an axis at the indices of a vector.

    See `torch.index_copy <https://docs.pytorch.org/docs/stable/generated/torch.index_copy.html>`_.

    >>> index_copy(jnp.zeros(3), 0, jnp.array([2, 0]), jnp.array([2.0, 3.0])).tolist()
    [3.0, 0.0, 2.0]
    """
    if input.ndim == 0:
        return index_copy(input[None], 0, index, jnp.atleast_1d(source))[0]
    return input.at[_along(index, resolve(dim, input.ndim, "index_copy"))].set(source)


def index_fill(input: jax.Array, dim: int, index: jax.Array, value: ArrayLike) -> jax.Array:
    """Write one value to the elements of an axis at the indices of a vector.

    See `torch.Tensor.index_fill
    <https://docs.pytorch.org/docs/stable/generated/torch.Tensor.index_fill.html>`_.

    >>> index_fill(jnp.zeros(3), 0, jnp.array([2, 0]), 1).tolist()
    [1.0, 0.0, 1.0]
    """
    if input.ndim == 0:
        return index_fill(input[None], 0, index, value)[0]
    return input.at[_along(index, resolve(dim, input.ndim, "index_fill"))].set(jnp.asarray(value).astype(input.dtype))


def index_reduce(
    input: jax.Array, dim: int, index: jax.Array, source: jax.Array, reduce: Reduce, *, include_self: bool = True
) -> jax.Array:
    """Reduce ``source`` into the elements of an axis at the indices of a vector.

    Arguments are those of :func:`scatter_reduce`, with a vector as index.

    See `torch.Tensor.index_reduce
    <https://docs.pytorch.org/docs/stable/generated/torch.Tensor.index_reduce.html>`_.

    >>> index_reduce(jnp.ones(2), 0, jnp.array([1, 1]), jnp.array([2.0, 3.0]), "prod").tolist()
    [1.0, 6.0]
    """
    if input.ndim == 0:
        return index_reduce(input[None], 0, index, jnp.atleast_1d(source), reduce, include_self=include_self)[0]
    return _reduced(input, _along(index, resolve(dim, input.ndim, "index_reduce")), source, reduce, include_self)


def index_put(
    input: jax.Array, indices: Sequence[jax.Array | None], values: ArrayLike, accumulate: bool = False
) -> jax.Array:
    """Write (or add) values at a tuple of indices; None means a whole axis.

    A single mask is an index as well: one value is written wherever the mask is true; several values are written in
    order.

    See `torch.Tensor.index_put_
    <https://docs.pytorch.org/docs/stable/generated/torch.Tensor.index_put_.html>`_.

    >>> index_put(jnp.zeros(3), (jnp.array([1, 1]),), jnp.array(2.0), accumulate=True).tolist()
    [0.0, 4.0, 0.0]
    """
    new = jnp.asarray(values).astype(input.dtype)
    mask = indices[0]
    if len(indices) == 1 and mask is not None and jnp.issubdtype(mask.dtype, jnp.bool):
        rest = input.ndim - mask.ndim
        if new.ndim == rest + 1:  # one value per true element of the mask
            order = jnp.cumsum(mask.reshape(-1)).reshape(mask.shape) - 1
            new = jnp.take(new, order, axis=0, mode="clip")
        mask = mask.reshape(*mask.shape, *[1] * rest)
        return jnp.where(mask, input + new if accumulate else new, input)
    target = input.at[tuple(slice(None) if index is None else index for index in indices)]
    return (target.add if accumulate else target.set)(new)


def masked_fill(input: jax.Array, mask: jax.Array, value: ArrayLike) -> jax.Array:
    """Write one value where the mask is true; the result has the input's dtype.

    See `torch.Tensor.masked_fill
    <https://docs.pytorch.org/docs/stable/generated/torch.Tensor.masked_fill.html>`_.

    >>> masked_fill(jnp.arange(3), jnp.array([True, False, True]), -1.0).tolist()
    [-1, 1, -1]
    """
    return jnp.where(mask, jnp.asarray(value).astype(input.dtype), input)


def masked_scatter(input: jax.Array, mask: jax.Array, source: jax.Array) -> jax.Array:
    """Write the elements of ``source``, in order, where the mask is true.

    See `torch.Tensor.masked_scatter
    <https://docs.pytorch.org/docs/stable/generated/torch.Tensor.masked_scatter.html>`_.

    >>> masked_scatter(jnp.zeros(3), jnp.array([True, False, True]), jnp.array([1.0, 2.0])).tolist()
    [1.0, 0.0, 2.0]
    """
    shape = jnp.broadcast_shapes(input.shape, mask.shape)
    input, mask = jnp.broadcast_to(input, shape), jnp.broadcast_to(mask, shape)
    order = jnp.cumsum(mask.reshape(-1)).reshape(shape) - 1
    return jnp.where(mask, jnp.take(source.reshape(-1), order, mode="clip"), input)


def put(input: jax.Array, index: jax.Array, source: jax.Array, accumulate: bool = False) -> jax.Array:
    """Write (or add) elements at indices into the flattened input.

    See `torch.Tensor.put_ <https://docs.pytorch.org/docs/stable/generated/torch.Tensor.put_.html>`_.

    >>> put(jnp.zeros((2, 2)), jnp.array([1, 2]), jnp.array([5.0, 6.0])).tolist()
    [[0.0, 5.0], [6.0, 0.0]]
    """
    target = input.reshape(-1).at[index.reshape(-1)]
    return (target.add if accumulate else target.set)(source.reshape(-1)).reshape(input.shape)


def select_scatter(input: jax.Array, src: jax.Array, dim: int, index: int) -> jax.Array:
    """Write ``src`` into one element of an axis.

    See `torch.select_scatter <https://docs.pytorch.org/docs/stable/generated/torch.select_scatter.html>`_.

    >>> select_scatter(jnp.zeros((2, 2)), jnp.ones(2), 1, 0).tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    return input.at[(*[slice(None)] * resolve(dim, input.ndim, "select_scatter"), index)].set(src)


def slice_scatter(
    input: jax.Array, src: jax.Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> jax.Array:
    """Write ``src`` into a slice of an axis.

    See `torch.slice_scatter <https://docs.pytorch.org/docs/stable/generated/torch.slice_scatter.html>`_.

    >>> slice_scatter(jnp.zeros(4), jnp.ones(2), 0, 1, 3).tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    axis = resolve(dim, input.ndim, "slice_scatter")
    return input.at[(*[slice(None)] * axis, slice(start, end, step))].set(src)


def _diagonal(shape: Sequence[int], offset: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(max(0, min(shape[0] + min(offset, 0), shape[1] - max(offset, 0))))
    return rows + max(-offset, 0), rows + max(offset, 0)


def diagonal_scatter(input: jax.Array, src: jax.Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> jax.Array:
    """Write ``src`` into a diagonal.

    See `torch.diagonal_scatter <https://docs.pytorch.org/docs/stable/generated/torch.diagonal_scatter.html>`_.

    >>> diagonal_scatter(jnp.zeros((2, 2)), jnp.ones(2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    matrices = jnp.moveaxis(input, (dim1, dim2), (-2, -1))
    written = matrices.at[(..., *_diagonal(matrices.shape[-2:], offset))].set(src)
    return jnp.moveaxis(written, (-2, -1), (dim1, dim2))


def diag_embed(input: jax.Array, offset: int = 0, dim1: int = -2, dim2: int = -1) -> jax.Array:
    """Return matrices with the last axis as their diagonal.

    See `torch.diag_embed <https://docs.pytorch.org/docs/stable/generated/torch.diag_embed.html>`_.

    >>> diag_embed(jnp.array([1, 2])).tolist()
    [[1, 0], [0, 2]]
    """
    size = input.shape[-1] + abs(offset)
    matrices = jnp.zeros((*input.shape[:-1], size, size), input.dtype)
    written = matrices.at[(..., *_diagonal((size, size), offset))].set(input)
    return jnp.moveaxis(written, (-2, -1), (dim1, dim2))


def fill_diagonal(input: jax.Array, fill_value: ArrayLike, wrap: bool = False) -> jax.Array:
    """Write one value to the main diagonal, like ``Tensor.fill_diagonal_``.

    See `torch.Tensor.fill_diagonal_
    <https://docs.pytorch.org/docs/stable/generated/torch.Tensor.fill_diagonal_.html>`_.

    >>> fill_diagonal(jnp.zeros((2, 2)), 1).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return jnp.fill_diagonal(input, jnp.asarray(fill_value).astype(input.dtype), wrap=wrap, inplace=False)
