"""User-defined classes that are not modules: which of them a port translates, and their instances."""

import argparse
import builtins
import enum
import inspect
import sys
import types
from collections.abc import Iterator
from typing import Any

from flaxnets.port._torch import torch
from flaxnets.port.problems import Problem

# Methods that the translated class keeps unchanged if they did not run.
KEPT = frozenset(
    {"__repr__", "__str__", "__hash__", "__init_subclass__", "__class_getitem__", "__set_name__", "__del__"}
)
HOLDS_MODULES = Problem(
    "An object that is not a module contains modules or parameters, which NNX does not find there.",
    "make its class a torch.nn.Module, or pass the modules as arguments.",
)
# The recorder itself calls this method when it reads an attribute.
READS_ATTRIBUTES = "__getattribute__"
LIBRARIES = frozenset(
    {*sys.stdlib_module_names, "torch", "numpy", "jax", "jaxlib", "flax", "flaxnets", "einops", "libcst"} - {"__main__"}
)
# Classes of Python whose instances can have any attributes.
NAMESPACES = types.SimpleNamespace, argparse.Namespace
_OWN_KINDS = (torch.nn.Module, torch.Tensor, torch.autograd.Function, enum.Enum, BaseException, types.ModuleType)


def is_plain_class(kind: Any) -> bool:
    """Whether a class may be a user-defined class that is not a module.

    >>> is_plain_class(type("Scale", (), {"__module__": "net"})), is_plain_class(torch.nn.ReLU), is_plain_class(int)
    (True, False, False)
    """
    if not isinstance(kind, type) or issubclass(kind, _OWN_KINDS):
        return False
    return kind.__module__.split(".")[0] not in LIBRARIES


def plain_bases(kind: type) -> list[type]:
    """Return the user-defined classes among a class and its bases."""
    return [base for base in kind.__mro__ if is_plain_class(base)]


def functions_of(kind: type) -> Iterator[tuple[str, types.FunctionType]]:
    """Yield the attribute names and functions of a class, including those of properties and class methods."""
    for name, value in list(vars(kind).items()):
        parts = (value.fget, value.fset) if isinstance(value, property) else (getattr(value, "__func__", value),)
        for function in parts:
            function = inspect.unwrap(function) if callable(function) else function
            if isinstance(function, types.FunctionType):
                yield name, function


def attributes_of(value: Any) -> dict[str, Any]:
    """Return the attributes of an object, including those in slots."""
    slots = [name for base in type(value).__mro__ for name in _names(vars(base).get("__slots__", ()))]
    attributes = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return attributes | dict(getattr(value, "__dict__", {}))


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def is_kept_member(name: str) -> bool:
    """Whether a class attribute with underscores belongs to a dataclass or a named tuple."""
    return name.startswith("__dataclass") or name in ("__match_args__", "__annotations__", "_fields", "_field_defaults")


def is_independent(kind: type, function: Any) -> bool:
    """Whether a method that did not run works without torch: it uses only builtins and attributes of the class.

    >>> is_independent(dict, lambda self: tuple(self.keys())), is_independent(dict, lambda self: self["x"].exp())
    (True, False)
    """
    if not isinstance(function, types.FunctionType) or not {"__class__"}.issuperset(function.__code__.co_freevars):
        return False
    names = {name for code in _codes(function.__code__) for name in code.co_names}
    return all(hasattr(kind, name) or (hasattr(builtins, name) and name not in function.__globals__) for name in names)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def of_class(function: types.FunctionType, kind: type) -> types.FunctionType:
    """Return a copy of the function as a method of another class, to which its ``super()`` refers."""
    cells = tuple(types.CellType(kind) for _ in function.__code__.co_freevars)
    new = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
    new.__kwdefaults__, new.__doc__ = function.__kwdefaults__, function.__doc__
    return new


def blank(kind: Any, value: Any) -> Any:
    """Return an instance of a translated class with the items of an object, but without its attributes."""
    if isinstance(value, tuple):
        return tuple.__new__(kind, value)
    new = kind.__new__(kind)
    if isinstance(value, dict):
        dict.update(new, value)
    elif isinstance(value, list):
        list.extend(new, value)
    return new
