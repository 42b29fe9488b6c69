"""The value of parameters and buffers of lazy layers before their first call."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Uninitialized:
    """The value of a parameter or buffer of a lazy layer before the first call: a dtype without a shape.

    >>> import flaxnets.nn as nn
    >>> from flax import nnx
    >>> nn.LazyLinear(3, rngs=nnx.Rngs(0)).state_dict()["bias"]
    Uninitialized(dtype=dtype('float32'))
    """

    dtype: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Raise RuntimeError, as torch does."""
        raise RuntimeError(
            "an uninitialized parameter or buffer has no shape. "
            "Fix: call the module on an example, or load a state dict"
        )

    def astype(self, dtype: Any) -> "Uninitialized":
        """Return an uninitialized value of another dtype."""
        return Uninitialized(jnp.dtype(dtype))
