"""Containers of parameters: ParameterList and ParameterDict."""

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, KeysView, Mapping
from typing import Any, NoReturn, TypeVar, overload

import jax
import numpy as np
from flax import nnx

from flaxnets.nn.module import Module
from flaxnets.nn.parameter import Parameter

L = TypeVar("L", bound="ParameterList")
D = TypeVar("D", bound="ParameterDict")


class _Container(Module):
    """Base class of both containers."""

    def _hold(self, name: str, value: Any) -> None:
        """Store an array as a parameter, and any other value unchanged."""
        if isinstance(value, (jax.Array, np.ndarray)):
            value = Parameter(jax.numpy.asarray(value))
        setattr(self, name, value)

    def extra_repr(self) -> str:
        """Return one line per value for ``repr``."""
        return "\n".join(f"  ({key}): {_described(value)}" for key, value in self._items())

    def _items(self) -> Iterable[tuple[Any, Any]]:
        raise NotImplementedError

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise RuntimeError: containers of parameters compute nothing."""
        raise RuntimeError(f"{type(self).__name__} should not be called, got {len(args) + len(kwargs)} arguments")


def _described(value: Any) -> str:
    if not isinstance(value, nnx.Variable):
        return f"Object of type: {type(value).__name__}"
    group = "Parameter" if isinstance(value, nnx.Param) else "Buffer"
    return f"{group} containing: [{value.dtype} of size {'x'.join(map(str, value.shape))}]"


class ParameterList(_Container):
    """List of parameters; arrays become parameters, other values are stored unchanged.

    Args:
        values: the parameters, which are named ``"0"``, ``"1"``, ...

    Raises:
        TypeError: for values that are not iterable, or a single array.
        IndexError: for an index out of range.
        RuntimeError: when called.

    See `torch.nn.ParameterList <https://docs.pytorch.org/docs/stable/generated/torch.nn.ParameterList.html>`_.

    >>> import jax.numpy as jnp
    >>> params = ParameterList([jnp.ones((2, 2)), jnp.ones((2, 1))])
    >>> len(params), params[-1].shape, list(params.state_dict())
    (2, (2, 1), ['0', '1'])
    """

    def __init__(self, values: Iterable[Any] | None = None):
        self._size = 0
        if values is not None:
            self.extend(values)

    def _name(self, idx: int) -> str:
        idx = operator.index(idx)
        if not -self._size <= idx < self._size:
            raise IndexError(f"ParameterList has {self._size} parameters, got the index {idx}")
        return str(idx % self._size)

    @overload
    def __getitem__(self, idx: int) -> Any: ...
    @overload
    def __getitem__(self: L, idx: slice) -> L: ...
    def __getitem__(self, idx: int | slice) -> Any:
        if isinstance(idx, slice):
            return type(self)(self[i] for i in range(*idx.indices(self._size)))
        return getattr(self, self._name(idx))

    def __setitem__(self, idx: int, param: Any) -> None:
        self._hold(self._name(idx), param)

    def _items(self) -> Iterable[tuple[int, Any]]:
        return enumerate(self)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(self._size))

    def __iadd__(self: L, parameters: Iterable[Any]) -> L:
        return self.extend(parameters)

    def append(self: L, value: Any) -> L:
        """Add a parameter at the end."""
        self._hold(str(self._size), value)
        self._size += 1
        return self

    def extend(self: L, values: Iterable[Any]) -> L:
        """Add parameters at the end."""
        if not isinstance(values, Iterable) or isinstance(values, (jax.Array, np.ndarray, nnx.Variable)):
            raise TypeError(f"ParameterList: expected an iterable of parameters, got {type(values).__name__}")
        for value in values:
            self.append(value)
        return self


class ParameterDict(_Container):
    """Ordered dict of parameters; arrays become parameters, other values are stored unchanged.

    As in torch, a plain dict is stored in the order of its sorted names. An ``OrderedDict``, a ``ParameterDict`` and
    pairs keep their order.

    Args:
        parameters: names and parameters, as a mapping or as pairs.

    Raises:
        TypeError: for a name that is not a string, or an argument that is neither a mapping nor pairs.
        ValueError: for elements that are not pairs.
        KeyError: for a name that is already an attribute, and on deleting an unknown name.
        AttributeError: on reading an unknown name, as in torch.
        RuntimeError: when called.

    See `torch.nn.ParameterDict <https://docs.pytorch.org/docs/stable/generated/torch.nn.ParameterDict.html>`_.

    >>> import jax.numpy as jnp
    >>> params = ParameterDict({"left": jnp.ones((2, 2)), "again": jnp.ones((2, 1))})
    >>> "left" in params, list(params.keys()), params["again"].shape
    (True, ['again', 'left'], (2, 1))
    """

    def __init__(self, parameters: Any = None):
        self._keys: tuple[str, ...] = ()
        if parameters is not None:
            self.update(parameters)

    def __getitem__(self, key: str) -> Any:
        if key not in self._keys:
            raise AttributeError(f"ParameterDict has no parameter {key!r}, only {list(self._keys)}")
        return getattr(self, key)

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in self._keys:
            self._check_new_name(key)
        self._hold(key, value)
        if key not in self._keys:
            self._keys = (*self._keys, key)

    def __delitem__(self, key: str) -> None:
        if key not in self._keys:
            raise KeyError(f"ParameterDict has no parameter {key!r}, only {list(self._keys)}")
        self._keys = tuple(known for known in self._keys if known != key)
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def copy(self) -> "ParameterDict":
        """Return a shallow copy with the same parameters."""
        return ParameterDict(OrderedDict(self.items()))

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the parameter ``key``, after inserting ``default`` if missing."""
        if key not in self:
            self[key] = default
        return self[key]

    def clear(self) -> None:
        """Remove all parameters."""
        for key in self._keys:
            del self[key]

    def pop(self, key: str) -> Any:
        """Remove and return the parameter ``key``."""
        value = self[key]
        del self[key]
        return value

    def popitem(self) -> tuple[str, Any]:
        """Remove and return the last name and parameter."""
        if not self._keys:
            raise KeyError("popitem: expected at least one parameter, got an empty ParameterDict")
        key = self._keys[-1]
        return key, self.pop(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the parameter ``key``, or ``default`` if missing."""
        return self[key] if key in self else default  # noqa: SIM401

    def fromkeys(self, keys: Iterable[str], default: Any = None) -> "ParameterDict":
        """Return a new dict that stores ``default`` under each of these names."""
        return ParameterDict((key, default) for key in keys)

    def keys(self) -> KeysView[str]:
        """Return the names."""
        return dict.fromkeys(self._keys).keys()

    def items(self) -> Iterable[tuple[str, Any]]:
        """Return pairs of names and parameters."""
        return ((key, self[key]) for key in self._keys)

    _items = items

    def values(self) -> Iterable[Any]:
        """Return the parameters."""
        return (self[key] for key in self._keys)

    def update(self, parameters: Any) -> None:
        """Insert or replace parameters; accepts the arguments of the constructor."""
        for key, value in as_pairs(parameters, "ParameterDict", sort=True):
            self[key] = value

    def __or__(self, other: "ParameterDict") -> "ParameterDict":
        copy = self.copy()
        copy.update(other)
        return copy

    def __ror__(self, other: "ParameterDict") -> "ParameterDict":
        copy = other.copy()
        copy.update(self)
        return copy

    def __ior__(self: D, other: "ParameterDict") -> D:
        self.update(other)
        return self


def as_pairs(source: Any, name: str, *, sort: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of a mapping or an iterable of pairs; ``sort`` applies to plain mappings only."""
    if not isinstance(source, Iterable):
        raise TypeError(f"{name}: expected a mapping or an iterable of pairs, got {type(source).__name__}")
    items = getattr(source, "items", None)
    if sort and isinstance(source, Mapping) and not isinstance(source, OrderedDict):
        yield from sorted(source.items())
    elif items is not None:
        yield from items()
    else:
        for position, pair in enumerate(source):
            if not isinstance(pair, Iterable):
                raise TypeError(f"{name}: element {position} must be a pair, got {type(pair).__name__}")
            pair = tuple(pair)
            if len(pair) != 2:
                raise ValueError(f"{name}: element {position} must be a pair, got {len(pair)} values")
            yield pair
