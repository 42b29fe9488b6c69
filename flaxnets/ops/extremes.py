"""Largest and smallest elements with their indices; only the selected element of an axis gets a gradient."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flaxnets.kernels._primitives import materialized
from flaxnets.ops._axes import Dim, ValuesIndices, resolve
from flaxnets.ops.promotion import promote

Finder = Callable[..., jax.Array]


def picked(input: jax.Array, indices: jax.Array, axis: int, keepdim: bool) -> ValuesIndices:
    """Return the elements at ``indices``, one per line along the axis, where ``indices`` has size 1."""
    values = jnp.take_along_axis(input, indices, axis=axis)
    return ValuesIndices(values, indices) if keepdim else ValuesIndices(values.squeeze(axis), indices.squeeze(axis))


def _extreme(
    input: jax.Array, dim: int | jax.Array, keepdim: bool, find: Finder, choose: Finder
) -> ValuesIndices | jax.Array:
    if isinstance(dim, jax.Array):
        return choose(*promote(input, dim))
    if input.ndim == 0:
        resolve(dim, 0, "max or min")
        return ValuesIndices(input, jnp.zeros((), int))
    return picked(input, find(input, axis=dim, keepdims=True).astype(int), dim, keepdim)


def _axes(dim: Dim) -> int | tuple[int, ...] | None:
    """Return the axes for JAX; as in torch, an empty sequence means all axes."""
    return dim if dim is None or isinstance(dim, int) else tuple(dim) or None


def amax(input: jax.Array, dim: Dim = None, keepdim: bool = False) -> jax.Array:
    """Return the largest elements along axes; tied elements share the gradient.

    For the gradient of ``jnp.max``, XLA may recompute the operand with different rounding, so that no element equals
    the maximum. Here the operand is computed only once.

    Args:
        input: of any shape.
        dim: the axes. Default: all.
        keepdim: whether to keep the axes, with size 1.

    See `torch.amax <https://docs.pytorch.org/docs/stable/generated/torch.amax.html>`_.

    >>> amax(jnp.array([[1, 3, 2]])).item()
    3
    """
    return materialized(input).max(axis=_axes(dim), keepdims=keepdim)


def amin(input: jax.Array, dim: Dim = None, keepdim: bool = False) -> jax.Array:
    """Return the smallest elements along axes; tied elements share the gradient.

    Arguments and result are those of :func:`amax`.

    See `torch.amin <https://docs.pytorch.org/docs/stable/generated/torch.amin.html>`_.

    >>> amin(jnp.array([[1, 3, 2]])).item()
    1
    """
    return materialized(input).min(axis=_axes(dim), keepdims=keepdim)


def max(input: jax.Array, dim: int | jax.Array, keepdim: bool = False) -> ValuesIndices | jax.Array:
    """Return the largest element of each line along an axis, and its first index.

    Args:
        input: of any shape.
        dim: the axis. If an array instead, the result is the elementwise maximum, as in ``jnp.maximum``.
        keepdim: whether to keep the axis, with size 1.

    Returns:
        The named tuple ``(values, indices)``, or an array if ``dim`` is an array.

    See `torch.max <https://docs.pytorch.org/docs/stable/generated/torch.max.html>`_.

    >>> values, indices = max(jnp.array([[1, 3, 2]]), 1)
    >>> values.tolist(), indices.tolist()
    ([3], [1])
    """
    return _extreme(input, dim, keepdim, jnp.argmax, jnp.maximum)


def min(input: jax.Array, dim: int | jax.Array, keepdim: bool = False) -> ValuesIndices | jax.Array:
    """Return the smallest element of each line along an axis, and its first index.

    Arguments and result are those of :func:`max`.

    See `torch.min <https://docs.pytorch.org/docs/stable/generated/torch.min.html>`_.

    >>> min(jnp.array([[1, 3, 2]]), 1).indices.tolist()
    [0]
    """
    return _extreme(input, dim, keepdim, jnp.argmin, jnp.minimum)


class MinMax(NamedTuple):
    """Minimum and maximum from :func:`aminmax`.

    >>> aminmax(jnp.arange(3)).max.item()
    2
    """

    min: jax.Array
    max: jax.Array


def aminmax(input: jax.Array, *, dim: int | None = None, keepdim: bool = False) -> MinMax:
    """Return the smallest and the largest element, over all elements or along an axis.

    See `torch.aminmax <https://docs.pytorch.org/docs/stable/generated/torch.aminmax.html>`_.

    >>> aminmax(jnp.array([[1, 3], [0, 5]]), dim=1).min.tolist()
    [1, 0]
    """
    if input.ndim == 0:
        return MinMax(input, input)
    return MinMax(input.min(axis=dim, keepdims=keepdim), input.max(axis=dim, keepdims=keepdim))


def _running(input: jax.Array, dim: int, name: str, accumulate: Finder) -> ValuesIndices:
    axis = resolve(dim, input.ndim, name)
    if input.ndim == 0:
        return ValuesIndices(input, jnp.zeros((), int))
    extremes = accumulate(jax.lax.stop_gradient(input), axis=axis)
    positions = jax.lax.broadcasted_iota(int, input.shape, axis)
    # Index of the last element that attains the running extreme; after a NaN, NaN is the extreme.
    indices = jax.lax.cummax(jnp.where((input == extremes) | jnp.isnan(input), positions, 0), axis=axis)
    return ValuesIndices(jnp.take_along_axis(input, indices, axis=axis), indices)


def cummax(input: jax.Array, dim: int) -> ValuesIndices:
    """Return the running maximum along an axis, and its last index.

    See `torch.cummax <https://docs.pytorch.org/docs/stable/generated/torch.cummax.html>`_.

    >>> cummax(jnp.array([1, 3, 2, 3]), 0).indices.tolist()
    [0, 1, 1, 3]
    """
    return _running(input, dim, "cummax", jax.lax.cummax)


def cummin(input: jax.Array, dim: int) -> ValuesIndices:
    """Return the running minimum along an axis, and its last index.

    See `torch.cummin <https://docs.pytorch.org/docs/stable/generated/torch.cummin.html>`_.

    >>> cummin(jnp.array([3, 1, 2]), 0).values.tolist()
    [3, 1, 1]
    """
    return _running(input, dim, "cummin", jax.lax.cummin)
