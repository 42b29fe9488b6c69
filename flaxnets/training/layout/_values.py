"""Arrays whose axes lie in another order than their names say."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import jax
import numpy as np
from jax import lax

# Logical axis i is axis order[i] of the physical array.
Order = tuple[int, ...]


def identity(ndim: int) -> Order:
    """The order of an array that lies as its axes are named."""
    return tuple(range(ndim))


def inverse(order: Sequence[int]) -> Order:
    """The logical axis at each physical one."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def ranks(positions: Sequence[int]) -> Order:
    """Which of them comes first, second ...: ``(5, 2, 3)`` gives ``(2, 0, 1)``."""
    return inverse(inverse(positions))


class Value:
    """What the pass knows of one value: arrays that hold it, and how its axes lie in them.

    An array is made in each order that somebody asks for, once: transposed values share what is made.

    Attributes:
        order: how the axes lie in the array that costs nothing.
        flexible: whether an array in any order costs the same, as that of a broadcast does.
    """

    def __init__(self, array: Any, order: Order | None = None):
        ndim = np.ndim(array)
        self.order = identity(ndim) if order is None else order
        self.flexible = False
        self._axes = self.order  # of the array, for each logical axis
        self._arrays: dict[Order, Any] = {identity(ndim): array}
        self._make: Callable[[Order], Any] = lambda permutation: lax.transpose(array, permutation)

    @classmethod
    def made(cls, make: Callable[[Order], Any], order: Order) -> Self:
        """A flexible value: ``make`` gives the array whose axes are these logical ones; ``order`` is as good as any."""
        value = cls.__new__(cls)
        value.order, value.flexible, value._axes = order, True, identity(len(order))
        value._arrays, value._make = {}, make
        return value

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.order)

    @property
    def is_logical(self) -> bool:
        """Whether the axes lie as they are named."""
        return self.order == identity(self.ndim)

    @property
    def wanted(self) -> Order:
        """The first order but the logical one that somebody has asked for, of a value that is given, not transposed."""
        return next((inverse(made) for made in self._arrays if made != identity(self.ndim)), identity(self.ndim))

    def transposed(self, permutation: Sequence[int]) -> "Value":
        """The same arrays with other names of the axes."""
        value = Value.__new__(Value)
        value.order = tuple(self.order[i] for i in permutation)
        value.flexible, value._axes = self.flexible, tuple(self._axes[i] for i in permutation)
        value._arrays, value._make = self._arrays, self._make
        return value

    def physical(self, order: Order) -> Any:
        """The array in which logical axis ``i`` is axis ``order[i]``."""
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
        """The array whose axes lie as they are named."""
        return self.physical(identity(self.ndim))


def common_order(values: Sequence[Value]) -> Order:
    """The order for values of one shape: the first that is not the logical one, of those that are not flexible."""
    candidates = [value for value in values if not value.flexible] or values
    return next((value.order for value in candidates if not value.is_logical), identity(candidates[0].ndim))


def bind(eqn: Any, arrays: Sequence[Any], **params: Any) -> list[jax.Array]:
    """Applies an equation to other arrays, with some parameters changed."""
    outputs = eqn.primitive.bind(*arrays, **eqn.primitive.get_bind_params({**eqn.params, **params}))
    return outputs if eqn.primitive.multiple_results else [outputs]


def apply_logical(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    """Applies an equation of which nothing is known."""
    return [Value(array) for array in bind(eqn, [value.logical for value in inputs])]
