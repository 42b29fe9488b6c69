"""Values of the layout pass: logical arrays that are stored in another axis order."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import jax
import numpy as np
from jax import lax

# Logical axis i is axis order[i] of the physical array.
Order = tuple[int, ...]


def identity(ndim: int) -> Order:
    """Return the logical axis order."""
    return tuple(range(ndim))


def inverse(order: Sequence[int]) -> Order:
    """Return the logical axis of each physical axis."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def ranks(positions: Sequence[int]) -> Order:
    """Return the rank of each position: ``(5, 2, 3)`` gives ``(2, 0, 1)``."""
    return inverse(inverse(positions))


class Value:
    """A logical array, and its physical arrays in the axis orders that were requested so far.

    Each physical array is computed once, at the first request. Transposed values share these arrays.

    Attributes:
        order: The axis order that needs no transpose.
        flexible: Whether all axis orders have the same cost, as for a broadcast.
    """

    def __init__(self, array: Any, order: Order | None = None):
        ndim = np.ndim(array)
        self.order = identity(ndim) if order is None else order
        self.flexible = False
        self._axes = self.order  # axis of the array for each logical axis
        self._arrays: dict[Order, Any] = {identity(ndim): array}
        self._make: Callable[[Order], Any] = lambda permutation: lax.transpose(array, permutation)

    @classmethod
    def deferred(cls, make: Callable[[Order], Any], order: Order) -> Self:
        """Create a flexible value. ``make`` computes the array with the given sequence of logical axes."""
        value = cls.__new__(cls)
        value.order, value.flexible, value._axes = order, True, identity(len(order))
        value._arrays, value._make = {}, make
        return value

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.order)

    @property
    def is_logical(self) -> bool:
        """Whether the array is stored in logical order."""
        return self.order == identity(self.ndim)

    @property
    def requested(self) -> Order:
        """The first non-logical order that a consumer requested; only for a value that is not transposed."""
        logical = identity(self.ndim)
        return next((inverse(permutation) for permutation in self._arrays if permutation != logical), logical)

    def transposed(self, permutation: Sequence[int]) -> "Value":
        """Return the value with permuted logical axes, sharing the same arrays."""
        value = Value.__new__(Value)
        value.order = tuple(self.order[i] for i in permutation)
        value.flexible, value._axes = self.flexible, tuple(self._axes[i] for i in permutation)
        value._arrays, value._make = self._arrays, self._make
        return value

    def physical(self, order: Order) -> Any:
        """Return the array in which logical axis ``i`` is axis ``order[i]``."""
        permutation = tuple(self._axes[i] for i in inverse(order))
        if permutation not in self._arrays:
            self._arrays[permutation] = self._make(permutation)
        return self._arrays[permutation]

    @property
    def native(self) -> Any:
        """The array in :attr:`order`."""
        return self.physical(self.order)

    @property
    def logical(self) -> Any:
        """The array in logical order."""
        return self.physical(identity(self.ndim))


def common_order(values: Sequence[Value]) -> Order:
    """Return the first non-logical order of values of one shape. Flexible values count only if all are flexible."""
    candidates = [value for value in values if not value.flexible] or values
    return next((value.order for value in candidates if not value.is_logical), identity(candidates[0].ndim))


def bind(eqn: Any, arrays: Sequence[Any], **params: Any) -> list[jax.Array]:
    """Apply an equation to other arrays, with some parameters replaced."""
    outputs = eqn.primitive.bind(*arrays, **eqn.primitive.get_bind_params({**eqn.params, **params}))
    return outputs if eqn.primitive.multiple_results else [outputs]


def apply_logical(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    """Apply an equation to arrays in logical order, for which no rule is needed."""
    return [Value(array) for array in bind(eqn, [value.logical for value in inputs])]
