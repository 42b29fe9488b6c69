"""Modules that hold modules."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

import jax
import jax.numpy as jnp
from flax import nnx

from flaxnets.nn.module import Module
from flaxnets.state import own_modules, own_variables

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


class ParameterList(Module):
    """Holds parameters in a list; arrays that are not yet parameters become ones.

    Args:
        values: the parameters, named ``"0"``, ``"1"``, ...

    Raises:
        IndexError: for an index that is not there.

    See `torch.nn.ParameterList <https://docs.pytorch.org/docs/stable/generated/torch.nn.ParameterList.html>`_.

    >>> params = ParameterList([jnp.ones((2, 2)), jnp.ones((2, 1))])
    >>> len(params), params[-1].shape, list(params.state_dict())
    (2, (2, 1), ['0', '1'])
    """

    def __init__(self, values: Iterable[nnx.Param | jax.Array] | None = None):
        self.extend(values or ())

    def __len__(self) -> int:
        return len(self._members())

    def __iter__(self) -> Iterator[nnx.Param]:
        return iter(self._members())

    def _members(self) -> list[Any]:
        return [variable for _, variable in own_variables(self)]

    def __getitem__(self, idx: int) -> nnx.Param:
        if not -len(self) <= idx < len(self):
            raise IndexError(f"ParameterList has {len(self)} parameters, got the index {idx}")
        return self._members()[idx]

    def __setitem__(self, idx: int, param: nnx.Param | jax.Array) -> None:
        self[idx]  # raises for an index that is not there
        setattr(self, str(idx % len(self)), _as_parameter(param))

    def append(self, value: nnx.Param | jax.Array) -> "ParameterList":
        """Adds a parameter at the end."""
        self.register_parameter(str(len(self)), _as_parameter(value))
        return self

    def extend(self, values: Iterable[nnx.Param | jax.Array]) -> "ParameterList":
        """Adds parameters at the end."""
        for value in values:
            self.append(value)
        return self


class ParameterDict(Module):
    """Holds parameters by name, in order; arrays that are not yet parameters become ones.

    Args:
        parameters: names and parameters.

    Raises:
        KeyError: for a name that is not there, or that cannot be an attribute's.

    See `torch.nn.ParameterDict <https://docs.pytorch.org/docs/stable/generated/torch.nn.ParameterDict.html>`_.

    >>> params = ParameterDict({"first": jnp.ones((2, 2)), "again": jnp.ones((2, 1))})
    >>> "first" in params, list(params.keys()), params["again"].shape
    (True, ['first', 'again'], (2, 1))
    """

    def __init__(self, parameters: Mapping[str, nnx.Param | jax.Array] | None = None):
        for name, value in (parameters or {}).items():
            self[name] = value

    def _members(self) -> dict[str, Any]:
        return dict(own_variables(self))

    def __len__(self) -> int:
        return len(self._members())

    def __iter__(self) -> Iterator[str]:
        return iter(self._members())

    def __contains__(self, key: object) -> bool:
        return key in self._members()

    def __getitem__(self, key: str) -> nnx.Param:
        if key not in self:
            raise KeyError(f"ParameterDict has no parameter {key!r}, only {list(self)}")
        return self._members()[key]

    def __setitem__(self, key: str, parameter: nnx.Param | jax.Array) -> None:
        if key in self:
            setattr(self, key, _as_parameter(parameter))
        else:
            self.register_parameter(key, _as_parameter(parameter))

    def __delitem__(self, key: str) -> None:
        self[key]  # raises for a name that is not there
        delattr(self, key)

    def keys(self) -> Iterable[str]:
        """Returns the names."""
        return self._members().keys()

    def values(self) -> Iterable[nnx.Param]:
        """Returns the parameters."""
        return self._members().values()

    def items(self) -> Iterable[tuple[str, nnx.Param]]:
        """Returns names and parameters."""
        return self._members().items()


def _as_parameter(value: nnx.Param | jax.Array) -> nnx.Param:
    return value if isinstance(value, nnx.Param) else nnx.Param(jnp.asarray(value))


class DataParallel(Module):
    """Calls the module it holds; all it adds is ``module.`` before every name, as in checkpoints of torch's wrapper.

    How arrays are spread over devices is said with JAX's shardings, not by a module.

    Args:
        module: what to wrap.

    See `torch.nn.DataParallel <https://docs.pytorch.org/docs/stable/generated/torch.nn.DataParallel.html>`_.

    >>> import flaxnets.nn as nn
    >>> list(DataParallel(nn.BatchNorm1d(2)).state_dict())[:2]
    ['module.weight', 'module.bias']
    """

    def __init__(self, module: nnx.Module):
        self.module = _checked(module)

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        """Returns what the module returns."""
        return self.module(*inputs, **kwargs)


def _checked(module: Any) -> nnx.Module:
    if not isinstance(module, nnx.Module):
        raise TypeError(f"expected a Module, got {type(module).__name__}")
    return module
