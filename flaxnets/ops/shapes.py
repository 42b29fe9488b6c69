"""Shapes: expand, flatten, squeeze, windows, repetition."""

import operator
from collections.abc import Sequence
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from flaxnets.ops._axes import Dim, resolve, unpacked


def expand(input: jax.Array, *size: int | Sequence[int]) -> jax.Array:
    """Broadcast axes of size 1 and add leading axes; -1 keeps the size of an axis.

    Raises:
        RuntimeError: for fewer sizes than axes, or -1 for a new axis.
        ValueError: for a size that differs from an axis of size other than 1.

    See `torch.Tensor.expand <https://docs.pytorch.org/docs/stable/generated/torch.Tensor.expand.html>`_.

    >>> expand(jnp.ones((3, 1)), 2, -1, 4).shape
    (2, 3, 4)
    """
    sizes = unpacked(size)
    new = len(sizes) - input.ndim
    if new < 0 or any(each == -1 for each in sizes[:new]):
        raise RuntimeError(f"expand: got sizes {sizes} for shape {input.shape}. Expected -1 for existing axes only")
    shape = [input.shape[i - new] if isinstance(n, int) and n == -1 else n for i, n in enumerate(sizes)]
    return jnp.broadcast_to(input, shape)


def flatten(input: jax.Array, start_dim: int = 0, end_dim: int = -1) -> jax.Array:
    """Merge the axes from ``start_dim`` to ``end_dim`` into one.

    Raises:
        RuntimeError: for a ``start_dim`` after ``end_dim``.

    See `torch.flatten <https://docs.pytorch.org/docs/stable/generated/torch.flatten.html>`_.

    >>> flatten(jnp.ones((2, 3, 4)), 1).shape
    (2, 12)
    """
    start, end = resolve(start_dim, input.ndim, "flatten"), resolve(end_dim, input.ndim, "flatten")
    if start > end:
        raise RuntimeError(f"flatten: got {start_dim=} after {end_dim=}. Expected start_dim <= end_dim")
    return input.reshape(*input.shape[:start], prod(input.shape[start : end + 1]), *input.shape[end + 1 :])


def unflatten(input: jax.Array, dim: int, sizes: Sequence[int]) -> jax.Array:
    """Split one axis into several; one size may be -1.

    See `torch.unflatten <https://docs.pytorch.org/docs/stable/generated/torch.unflatten.html>`_.

    >>> unflatten(jnp.ones((2, 12)), 1, (3, -1)).shape
    (2, 3, 4)
    """
    axis = resolve(dim, input.ndim, "unflatten")
    known = -prod(sizes) if -1 in sizes else prod(sizes)
    inner = [input.shape[axis] // max(known, 1) if size == -1 else size for size in sizes]
    if prod(inner) != input.shape[axis]:
        raise RuntimeError(f"unflatten: got sizes {tuple(sizes)}. Expected a product of {input.shape[axis]}")
    return input.reshape(*input.shape[:axis], *inner, *input.shape[axis + 1 :])


def squeeze(input: jax.Array, dim: Dim = None) -> jax.Array:
    """Remove axes of size 1: all, or those of ``dim``; axes of other sizes are kept.

    See `torch.squeeze <https://docs.pytorch.org/docs/stable/generated/torch.squeeze.html>`_.

    >>> squeeze(jnp.ones((1, 3, 1)), (0, 1)).shape
    (3, 1)
    """
    if dim is None:
        return jnp.squeeze(input)
    dims = dim if isinstance(dim, Sequence) else (dim,)
    axes = {resolve(each, input.ndim, "squeeze") for each in dims}
    return jnp.squeeze(input, tuple(axis for axis in axes if input.ndim and input.shape[axis] == 1))


def unfold(input: jax.Array, dimension: int, size: int, step: int) -> jax.Array:
    """Return windows of ``size`` elements along an axis, every ``step`` elements, in a new last axis.

    Raises:
        RuntimeError: for windows larger than the axis, and for a step that is not positive.

    See `torch.Tensor.unfold <https://docs.pytorch.org/docs/stable/generated/torch.Tensor.unfold.html>`_.

    >>> unfold(jnp.arange(5), 0, 3, 2).tolist()
    [[0, 1, 2], [2, 3, 4]]
    """
    axis = resolve(dimension, input.ndim, "unfold")
    input = jnp.atleast_1d(input)
    if size > input.shape[axis] or step <= 0:
        raise RuntimeError(f"unfold: got {size=}, {step=} for an axis of size {input.shape[axis]}")
    starts = np.arange(0, input.shape[axis] - size + 1, step)
    windows = jnp.take(input, starts[:, None] + np.arange(size), axis=axis)
    return jnp.moveaxis(windows, axis + 1, -1)


def meshgrid(*tensors: jax.Array | Sequence[jax.Array], indexing: str = "ij") -> tuple[jax.Array, ...]:
    """Return the coordinates of a grid, one array per axis; the first input varies along the first axis.

    See `torch.meshgrid <https://docs.pytorch.org/docs/stable/generated/torch.meshgrid.html>`_.

    >>> [grid.tolist() for grid in meshgrid(jnp.arange(2), jnp.arange(2))]
    [[[0, 0], [1, 1]], [[0, 1], [0, 1]]]
    """
    return tuple(jnp.meshgrid(*map(jnp.atleast_1d, unpacked(tensors)), indexing=indexing))


def cartesian_prod(*tensors: jax.Array) -> jax.Array:
    """Return all combinations of elements of vectors, one per row.

    See `torch.cartesian_prod <https://docs.pytorch.org/docs/stable/generated/torch.cartesian_prod.html>`_.

    >>> cartesian_prod(jnp.arange(2), jnp.array([5, 6])).tolist()
    [[0, 5], [0, 6], [1, 5], [1, 6]]
    """
    if len(tensors) == 1:
        return tensors[0]
    return jnp.stack([grid.reshape(-1) for grid in meshgrid(*tensors)], axis=1)


def combinations(input: jax.Array, r: int = 2, with_replacement: bool = False) -> jax.Array:
    """Return the combinations of ``r`` elements of a vector, one per row.

    See `torch.combinations <https://docs.pytorch.org/docs/stable/generated/torch.combinations.html>`_.

    >>> combinations(jnp.array([1, 2, 3])).tolist()
    [[1, 2], [1, 3], [2, 3]]
    """
    grid = np.stack(np.meshgrid(*[np.arange(input.shape[0])] * r, indexing="ij"), -1).reshape(-1, r)
    steps = np.diff(grid, axis=1)
    chosen = grid[((steps >= 0) if with_replacement else (steps > 0)).all(axis=1)]
    return input[chosen]


def atleast(ndim: int, *tensors: ArrayLike | Sequence[ArrayLike]) -> jax.Array | tuple[jax.Array, ...]:
    """Add axes of size 1 up to ``ndim`` (1, 2 or 3) axes, like ``torch.atleast_1d`` to ``atleast_3d``.

    >>> atleast(2, jnp.ones(3)).shape
    (1, 3)
    """
    arrays = unpacked(tensors)
    widened = tuple([jnp.atleast_1d, jnp.atleast_2d, jnp.atleast_3d][ndim - 1](array) for array in arrays)
    return widened[0] if arrays is tensors and len(arrays) == 1 else widened


def cat(tensors: Sequence[jax.Array], dim: int = 0) -> jax.Array:
    """Concatenate arrays along an axis, like ``jnp.concatenate``; as in torch, empty vectors are ignored.

    See `torch.cat <https://docs.pytorch.org/docs/stable/generated/torch.cat.html>`_.

    >>> cat([jnp.zeros(0), jnp.ones((1, 2))]).shape
    (1, 2)
    """
    dtype = jnp.result_type(*(tensor.dtype for tensor in tensors))
    joined = [tensor for tensor in tensors if tensor.shape != (0,)] or tensors[:1]
    return jnp.concatenate([tensor.astype(dtype) for tensor in joined], axis=dim)


def to(input: jax.Array, *target: jax.Array | DTypeLike | None, dtype: DTypeLike | None = None) -> jax.Array:
    """Cast to a dtype or to the dtype of another array; other targets (None, a device's name) have no effect.

    See `torch.Tensor.to <https://docs.pytorch.org/docs/stable/generated/torch.Tensor.to.html>`_.

    >>> to(jnp.ones(2), jnp.int8).dtype.name, to(jnp.ones(2), None).dtype.name
    ('int8', 'float32')
    """
    for each in (*target, dtype):
        if isinstance(each, jax.Array):
            return input.astype(each.dtype)
        if each is not None and not isinstance(each, (bool, str, jax.Device)):
            return input.astype(each)
    return input


def narrow(input: jax.Array, dim: int, start: int | jax.Array, length: int) -> jax.Array:
    """Return ``length`` elements of an axis from ``start`` on; ``start`` may be traced.

    Raises:
        RuntimeError: for a range outside the axis.

    See `torch.narrow <https://docs.pytorch.org/docs/stable/generated/torch.narrow.html>`_.

    >>> narrow(jnp.arange(5), 0, 1, 3).tolist()
    [1, 2, 3]
    """
    axis = resolve(dim, input.ndim, "narrow")
    if isinstance(start, jax.Array):
        return jax.lax.dynamic_slice_in_dim(input, start, length, axis=axis)
    size = input.shape[axis]
    first = operator.index(start) + (size if start < 0 else 0)
    if not 0 <= first <= first + length <= size:
        raise RuntimeError(f"narrow: got {start=}, {length=}. Expected a range in an axis of size {size}")
    return jax.lax.slice_in_dim(input, first, first + length, axis=axis)


def select(input: jax.Array, dim: int, index: int | jax.Array) -> jax.Array:
    """Select one element of an axis, and remove the axis.

    Raises:
        IndexError: for an index out of range.

    See `torch.select <https://docs.pytorch.org/docs/stable/generated/torch.select.html>`_.

    >>> select(jnp.array([[1, 2], [3, 4]]), 1, -1).tolist()
    [2, 4]
    """
    axis = resolve(dim, input.ndim, "select")
    if isinstance(index, jax.Array):
        return jax.lax.dynamic_index_in_dim(input, index, axis, keepdims=False)
    if not -input.shape[axis] <= index < input.shape[axis]:
        raise IndexError(f"select: got {index=}. Expected an index of an axis of size {input.shape[axis]}")
    return jax.lax.index_in_dim(input, index, axis, keepdims=False)
