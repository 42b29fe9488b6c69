"""Sequential containers of modules: Sequential and ModuleList."""

import itertools
import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn, TypeVar, overload

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from flax import nnx

from flaxnets.nn.module import Module

R = TypeVar("R", bound="_Row")
S = TypeVar("S", bound="Sequential")


class _Row(Module):
    """Base class of containers with a sequence of modules."""

    def __len__(self) -> int:
        return len(self._members())

    def __iter__(self) -> Iterator[Any]:
        return (module for _, module in self._members())

    def _members(self) -> list[tuple[str, Any]]:
        """Return the names and modules; as in torch, a member may be None."""
        return list(self._registered_modules())

    def _at(self, idx: int) -> tuple[str, Any]:
        idx = operator.index(idx)
        if not -len(self) <= idx < len(self):
            raise IndexError(f"{type(self).__name__} has {len(self)} modules, got the index {idx}")
        return self._members()[idx]

    def __setitem__(self, idx: int, module: nnx.Module) -> None:
        setattr(self, self._at(idx)[0], checked(module))

    def __delitem__(self, idx: int | slice) -> None:
        gone = self._members()[idx] if isinstance(idx, slice) else [self._at(idx)]
        names = {name for name, _ in gone}
        self._replace([module for name, module in self._members() if name not in names])

    def _replace(self, modules: list[Any]) -> None:
        """Hold these modules instead, named by their positions."""
        for name, _ in self._members():
            delattr(self, name)
        for module in modules:
            self.append(module)

    def _insert(self, index: int, module: nnx.Module) -> None:
        names = [name for name, _ in self._members()]
        if index < len(self) and names != [str(i) for i in range(len(self))]:
            raise KeyError(f"{type(self).__name__}: named modules cannot be moved, got the names {names}")
        modules = list(self)
        if index == len(self):
            self.append(module)
        else:
            self._replace([*modules[:index], module, *modules[index:]])

    def append(self: R, module: nnx.Module | None) -> R:
        """Add a module at the end, named by its position."""
        self.add_module(str(len(self)), checked(module))
        return self

    def extend(self: R, modules: Iterable[nnx.Module | None]) -> R:
        """Add modules at the end."""
        if not isinstance(modules, Iterable):
            raise TypeError(f"{type(self).__name__}: expected an iterable of modules, got {type(modules).__name__}")
        for module in list(modules):
            self.append(module)
        return self


class Sequential(_Row):
    """Chain of modules: each module is called on the output of the previous module.

    A Sequential can be indexed, sliced, added to another one and multiplied by a number, as in torch. After a deletion,
    the remaining modules are renamed by their positions.

    Args:
        *args: the modules, which are named ``"0"``, ``"1"``, ...; or one ``OrderedDict`` of names and modules.

    Raises:
        TypeError: for a member that is not a module.
        IndexError: for an index out of range.

    See `torch.nn.Sequential <https://docs.pytorch.org/docs/stable/generated/torch.nn.Sequential.html>`_.

    >>> import flaxnets.nn as nn
    >>> net = Sequential(nn.Flatten(), nn.Linear(4, 2, rngs=nnx.Rngs(0)), nn.ReLU())
    >>> net(jnp.ones((3, 2, 2))).shape
    (3, 2)
    >>> len(net), type(net[-1]).__name__, len(net[:2]), len(net + net), len(2 * net)
    (3, 'ReLU', 2, 6, 6)
    """

    @overload
    def __init__(self, *args: nnx.Module) -> None: ...
    @overload
    def __init__(self, arg: OrderedDict[str, Any], /) -> None: ...
    def __init__(self, *args: Any) -> None:
        named = args[0].items() if len(args) == 1 and isinstance(args[0], OrderedDict) else enumerate(args)
        for name, module in named:
            self.add_module(str(name), checked(module))

    def __call__(self, input: Any) -> Any:
        """Return the output of the last module."""
        for module in self:
            input = module(input)
        return input

    @overload
    def __getitem__(self, idx: int) -> Any: ...
    @overload
    def __getitem__(self: S, idx: slice) -> S: ...
    def __getitem__(self, idx: int | slice) -> Any:
        if isinstance(idx, slice):
            return type(self)(OrderedDict(self._members()[idx]))
        return self._at(idx)[1]

    def pop(self, key: int | slice) -> Any:
        """Remove and return the module at an index, or the modules of a slice."""
        popped = self[key]
        del self[key]
        return popped

    def insert(self: S, index: int, module: nnx.Module) -> S:
        """Insert a module before an index.

        Raises:
            AssertionError: if ``module`` is not a module.
            IndexError: for an index out of range.
            KeyError: if modules with names other than numbers would have to move.
        """
        if not isinstance(module, nnx.Module):
            raise AssertionError(f"expected a Module, got {type(module).__name__}")
        if not -len(self) <= index <= len(self):
            raise IndexError(f"{type(self).__name__} has {len(self)} modules, got the index {index}")
        self._insert(index % len(self) if index < 0 else index, module)
        return self

    def __add__(self, other: "Sequential") -> "Sequential":
        return Sequential(*self, *_checked_row(other))

    def __iadd__(self: S, other: "Sequential") -> S:
        return self.extend(_checked_row(other))

    def __mul__(self, other: int) -> "Sequential":
        return Sequential(*list(self) * _checked_factor(other))

    def __rmul__(self, other: int) -> "Sequential":
        return self * other

    def __imul__(self: S, other: int) -> S:
        names = [name for name, _ in self._members()]
        if _checked_factor(other) > 1 and names != [str(i) for i in range(len(self))]:
            raise KeyError(f"{type(self).__name__}: named modules cannot be repeated, got the names {names}")
        return self.extend(list(self) * (other - 1))


def _checked_row(other: Any) -> Sequential:
    if not isinstance(other, Sequential):
        raise ValueError(f"only a Sequential can be added to a Sequential, got {type(other).__name__}")
    return other


def _checked_factor(factor: Any) -> int:
    if not isinstance(factor, int):
        raise TypeError(f"a Sequential can be multiplied by an int, got {factor!r}")
    if factor <= 0:
        raise ValueError(f"a Sequential can be multiplied by a positive int, got {factor}")
    return factor


class ModuleList(_Row):
    """List of modules; it cannot be called.

    Args:
        modules: the modules, which are named ``"0"``, ``"1"``, ...

    Raises:
        TypeError: for a member that is not a module.
        IndexError: for an index out of range.
        NotImplementedError: when called.

    See `torch.nn.ModuleList <https://docs.pytorch.org/docs/stable/generated/torch.nn.ModuleList.html>`_.

    >>> import flaxnets.nn as nn
    >>> blocks = ModuleList([nn.ReLU(), nn.Sigmoid()])
    >>> blocks.insert(0, nn.Flatten())
    >>> [type(block).__name__ for block in blocks], len(blocks[1:]), len(blocks + [nn.ReLU()])
    (['Flatten', 'ReLU', 'Sigmoid'], 2, 4)
    """

    def __init__(self, modules: Iterable[nnx.Module | None] | None = None):
        if modules is not None:
            self.extend(modules)

    def __repr__(self) -> str:
        lines, first = [], 0
        for text, group in itertools.groupby(map(repr, self)):
            count = len(list(group))
            label = f"({first}): " if count == 1 else f"({first}-{first + count - 1}): {count} x "
            lines.append("\n  " + (label + text).replace("\n", "\n  "))
            first += count
        return f"{self._get_name()}({''.join(lines)}" + "\n" * bool(lines) + ")"

    def __call__(self, *input: Any) -> NoReturn:
        """Raise NotImplementedError."""
        refuse_call(self)

    @overload
    def __getitem__(self, idx: int) -> Any: ...
    @overload
    def __getitem__(self: R, idx: slice) -> R: ...
    def __getitem__(self, idx: int | slice) -> Any:
        if isinstance(idx, slice):
            return type(self)(module for _, module in self._members()[idx])
        return self._at(idx)[1]

    def pop(self, key: int | slice) -> Any:
        """Remove and return the module at an index, or the modules of a slice."""
        popped = self[key]
        del self[key]
        return popped

    def insert(self, index: int, module: nnx.Module) -> None:
        """Insert a module before an index.

        Raises:
            TypeError: if ``module`` is not a module.
            KeyError: for a negative index, as in torch.
            IndexError: for an index beyond the end.
        """
        checked(module)
        if not 0 <= index <= len(self):
            error = KeyError if index < 0 else IndexError
            raise error(f"ModuleList.insert: expected an index from 0 to {len(self)}, got {index}")
        self._insert(index, module)

    def __add__(self, other: Iterable[nnx.Module]) -> "ModuleList":
        return ModuleList([*self, *other])

    def __iadd__(self: R, modules: Iterable[nnx.Module]) -> R:
        return self.extend(modules)


def checked(module: Any) -> Any:
    """Return a module or None, which torch's containers accept as well; raise TypeError for anything else."""
    if module is not None and not isinstance(module, nnx.Module):
        raise TypeError(f"expected a Module, got {type(module).__name__}")
    return module


def refuse_call(module: Module) -> NoReturn:
    """Raise NotImplementedError, for a container that cannot be called."""
    raise NotImplementedError(f"{type(module).__name__} cannot be called. Fix: call the modules that it contains")
