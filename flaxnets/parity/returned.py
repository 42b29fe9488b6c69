"""Pair the output arrays of a Flax module with those of a torch module, and find their axis orders."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from flaxnets.parity.layouts import Order, closest_order, to_torch

# The largest relative error of recorded values that counts as rounding errors of earlier layers.
AGREE = 1e-9


@dataclasses.dataclass(frozen=True)
class Returned:
    """One array that both modules return.

    Attributes:
        torch: position of the array in torch's outputs.
        flax: position of the array in Flax's outputs.
        order: the order of torch's axes in Flax; None if the two shapes do not fit.
        torch_shape: shape of the array in torch.
        flax_shape: shape of the array in Flax, which may have fewer or more axes of size 1.
        error: the relative error in this axis order.
    """

    torch: int
    flax: int
    order: Order | None
    torch_shape: tuple[int, ...]
    flax_shape: tuple[int, ...]
    error: float

    @property
    def is_squeezed(self) -> bool:
        """Whether one side has more axes of size 1 than the other side."""
        return len(self.torch_shape) != len(self.flax_shape)

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """Convert a Flax array to torch's axis order and shape."""
        if self.order is None or array.shape != self.flax_shape:
            return array
        if self.is_squeezed:
            return to_torch(array.squeeze(), self.order).reshape(self.torch_shape)
        return to_torch(array, self.order)

    def to_flax(self, array: np.ndarray) -> np.ndarray:
        """Convert a torch array to Flax's axis order and shape."""
        if self.order is None or array.shape != self.torch_shape:
            return array
        if self.is_squeezed:
            return np.transpose(array.squeeze(), self.order).reshape(self.flax_shape)
        return np.transpose(array, self.order)


def returned_by_both(
    torch_outputs: Sequence[np.ndarray], flax_outputs: Sequence[np.ndarray], likely: Sequence[Order] = ()
) -> list[Returned]:
    """Pair the outputs of two modules: by position if all shapes fit, otherwise by shapes and values.

    A recurrent layer of Flax returns the last state before the outputs, and without torch's layer axis.

    Args:
        torch_outputs: arrays that torch's module returned.
        flax_outputs: arrays that the Flax module returned.
        likely: axis orders to assume for outputs whose values agree in no order.

    >>> outputs, state = np.arange(24.0).reshape(2, 3, 4), np.arange(8.0).reshape(2, 4)
    >>> [(each.torch, each.flax, each.error) for each in returned_by_both([outputs, state[None]], [state, outputs])]
    [(0, 1, 0.0), (1, 0, 0.0)]
    """
    by_position = [
        _compared(a, b, i, i, likely) for i, (a, b) in enumerate(zip(torch_outputs, flax_outputs, strict=False))
    ]
    if len(torch_outputs) == len(flax_outputs) and all(each.order is not None for each in by_position):
        return by_position
    candidates = [
        _compared(a, b, i, j, likely)
        for (i, a), (j, b) in itertools.product(enumerate(torch_outputs), enumerate(flax_outputs))
    ]
    fitting = sorted((c for c in candidates if c.order is not None), key=lambda c: (c.error, abs(c.torch - c.flax)))
    result: list[Returned] = []
    for each in [*fitting, *by_position]:
        if all(each.torch != other.torch and each.flax != other.flax for other in result):
            result.append(each)
    return sorted(result, key=lambda each: each.torch)


def _compared(a: np.ndarray, b: np.ndarray, i: int, j: int, likely: Sequence[Order]) -> Returned:
    order, error = closest_order(a, b) if a.ndim == b.ndim else closest_order(a.squeeze(), b.squeeze())
    if not error <= AGREE and a.ndim == b.ndim:
        order = next((o for o in likely if len(o) == a.ndim and np.transpose(a, o).shape == b.shape), order)
    return Returned(i, j, order, a.shape, b.shape, float("inf") if np.isnan(error) else error)
