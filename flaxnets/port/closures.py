"""Closures over modules or parameters, as NNX nodes that transformations can follow."""

from collections.abc import Callable, Sequence
from typing import Any

from flax import nnx


class Closure(nnx.Pytree):
    """A callable that contains modules as NNX nodes, so that NNX transformations can replace them.

    Args:
        build: Makes the function from the parts.
        parts: Modules, variables and other objects that the function uses.

    >>> import jax.numpy as jnp
    >>> from flaxnets import nn
    >>> linear = nn.Linear(3, 2, rngs=nnx.Rngs(0))
    >>> closure = Closure(lambda module: lambda x: module(x).shape, [linear])
    >>> closure(jnp.ones((4, 3)))
    (4, 2)
    """

    def __init__(self, build: Callable[..., Callable[..., Any]], parts: Sequence[Any]):
        self._build = build
        self._parts = nnx.data(list(parts))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._build(*self._parts)(*args, **kwargs)


def holds_state(value: Any) -> bool:
    """Return whether an object is or contains a module or a variable."""
    if isinstance(value, (nnx.Pytree, nnx.Variable)):
        return True
    if isinstance(value, dict):
        return any(map(holds_state, value.values()))
    return isinstance(value, (list, tuple)) and any(map(holds_state, value))
