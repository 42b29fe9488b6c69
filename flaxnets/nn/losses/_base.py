"""Base classes of the loss layers."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from flaxnets.nn.functional.losses._shared import legacy_reduction
from flaxnets.nn.module import Buffer, Module


def optional_array(values: ArrayLike | None) -> jax.Array | None:
    """Convert the values to an array; None stays None."""
    return None if values is None else jnp.asarray(values)


def value(buffer: Buffer | None) -> jax.Array | None:
    """Return the value of a buffer; None stays None."""
    return None if buffer is None else buffer[...]


class Loss(Module):
    """Loss layer with a reduction and torch's deprecated arguments for it."""

    def __init__(self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"):
        self.reduction = legacy_reduction(size_average, reduce, reduction)


class WeightedLoss(Loss):
    """Loss layer with a reduction and a weight."""

    weight: Buffer | None

    def __init__(
        self,
        weight: ArrayLike | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ):
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", optional_array(weight))

    def _weight(self) -> jax.Array | None:
        return value(self.weight)


class MarginLoss(Loss):
    """Loss layer with a reduction and a margin."""

    def __init__(
        self,
        margin: float = 0.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ):
        super().__init__(size_average, reduce, reduction)
        self.margin = margin
