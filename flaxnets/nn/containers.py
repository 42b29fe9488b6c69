"""Modules that hold modules."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, overload

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from flax import nnx

from flaxnets.nn.module import Module
from flaxnets.state import own_modules

S = TypeVar("S", bound="Sequential")


class Sequential(Module):
    """Calls its modules one after the other, each on the output of the one before.

    Args:
        *args: the modules, named ``"0"``, ``"1"``, ...; or one ``OrderedDict`` of names and modules.

    Raises:
        TypeError: for a member that is no module.

    See `torch.nn.Sequential <https://docs.pytorch.org/docs/stable/generated/torch.nn.Sequential.html>`_.

    >>> import flaxnets.nn as nn
    >>> net = Sequential(nn.Flatten(), nn.Linear(4, 2, rngs=nnx.Rngs(0)), nn.ReLU())
    >>> net(jnp.ones((3, 2, 2))).shape
    (3, 2)
    >>> len(net), type(net[-1]).__name__, len(net[:2])
    (3, 'ReLU', 2)
    """

    @overload
    def __init__(self, *args: nnx.Module) -> None: ...
    @overload
    def __init__(self, arg: OrderedDict[str, nnx.Module], /) -> None: ...
    def __init__(self, *args: Any) -> None:
        named = args[0].items() if len(args) == 1 and isinstance(args[0], OrderedDict) else enumerate(args)
        for name, module in named:
            self.add_module(str(name), _checked(module))

    def __call__(self, input: Any) -> Any:
        """Returns the output of the last module."""
        for module in self:
            input = module(input)
        return input

    def __len__(self) -> int:
        return len(self._members())

    def __iter__(self) -> Iterator[nnx.Module]:
        return (module for _, module in self._members())

    def _members(self) -> list[tuple[str, nnx.Module]]:
        return list(own_modules(self))

    @overload
    def __getitem__(self, idx: int) -> nnx.Module: ...
    @overload
    def __getitem__(self: S, idx: slice) -> S: ...
    def __getitem__(self, idx: int | slice) -> Any:
        if isinstance(idx, slice):
            return type(self)(OrderedDict(self._members()[idx]))
        return self._at(idx)[1]

    def __setitem__(self, idx: int, module: nnx.Module) -> None:
        setattr(self, self._at(idx)[0], _checked(module))

    def _at(self, idx: int) -> tuple[str, nnx.Module]:
        if not -len(self) <= idx < len(self):
            raise IndexError(f"{type(self).__name__} has {len(self)} modules, got the index {idx}")
        return self._members()[idx]

    def append(self: S, module: nnx.Module) -> S:
        """Adds a module at the end, named by its position."""
        self.add_module(str(len(self)), _checked(module))
        return self

    def extend(self: S, modules: Iterable[nnx.Module]) -> S:
        """Adds modules at the end."""
        for module in modules:
            self.append(module)
        return self


def _checked(module: Any) -> nnx.Module:
    if not isinstance(module, nnx.Module):
        raise TypeError(f"a member of Sequential must be a Module, got {type(module).__name__}")
    return module
