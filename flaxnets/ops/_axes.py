"""Axis arguments as in torch: one axis, several, or None for all."""

import operator
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax

Dim = int | Sequence[int] | None


class ValuesIndices(NamedTuple):
    """Elements and the index of each element along the axis.

    >>> import jax.numpy as jnp
    >>> values, indices = ValuesIndices(jnp.ones(1), jnp.zeros(1, int))
    """

    values: jax.Array
    indices: jax.Array


def resolve(dim: int, ndim: int, name: str) -> int:
    """Return the axis as a non-negative number; as in torch, an array without axes counts as having one axis."""
    axis, axes = operator.index(dim), max(ndim, 1)
    if not -axes <= axis < axes:
        raise IndexError(f"{name}: got dim={dim}. Expected an axis from {-axes} to {axes - 1}")
    return axis % axes


def resolve_all(dim: Dim, ndim: int, name: str) -> tuple[int, ...]:
    """Return the axes as non-negative numbers; None and () mean all axes."""
    dims = tuple(dim) if isinstance(dim, Iterable) else () if dim is None else (dim,)
    axes = tuple(resolve(each, ndim, name) for each in dims)
    if len(set(axes)) < len(axes):
        raise RuntimeError(f"{name}: got dim={dim}, which repeats an axis. Expected different axes")
    return axes[:ndim] or tuple(range(ndim))


def unpacked(values: tuple) -> tuple:
    """Return the values of ``f(2, 3)`` or of ``f((2, 3))`` as a tuple."""
    return tuple(values[0]) if len(values) == 1 and isinstance(values[0], (tuple, list)) else values
