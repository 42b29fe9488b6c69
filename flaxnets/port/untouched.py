"""Run a torch module, and restore its state afterwards."""

import collections
import contextlib
import copy
import functools
import inspect
import random
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from flaxnets.port._torch import torch
from flaxnets.port.memos import memo_names

_CONTAINERS = (dict, list, set, collections.OrderedDict)

# While a module is in float64: the original values of its parameters and buffers, by the ids of the tensors.
_SINGLE: dict[int, torch.Tensor] = {}


def copied(tree: Any) -> Any:
    """Copy the tensors of the arguments, which the model may change."""
    return mapped(tree, lambda tensor: tensor.detach().clone().requires_grad_(tensor.requires_grad))


def in_doubles(tree: Any) -> Any:
    """Copy the arguments in float64."""
    return mapped(copied(tree), as_double)


def mapped(tree: Any, function: Callable[[torch.Tensor], Any]) -> Any:
    """Apply a function to each tensor of a tree; keep the order and type of dicts."""
    if isinstance(tree, torch.Tensor):
        return function(tree)
    if isinstance(tree, Mapping):
        return type(tree)({key: mapped(value, function) for key, value in tree.items()})  # type: ignore[call-arg]
    if not isinstance(tree, (list, tuple)):
        return tree
    values = [mapped(value, function) for value in tree]
    return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)


@contextlib.contextmanager
def untouched(model: torch.nn.Module) -> Iterator[Callable[[], None]]:
    """Restore the model's attributes, values and modes, and the random generators, after this context.

    Yields:
        A function that restores parameters, buffers and random generators, but no other attributes.
    """
    modules = [(m, _shallow(vars(m))) for m in model.modules()]
    shared = [(container, copy.copy(container)) for _, container, _ in _shared_containers(model)]
    plain = [v for m, _ in modules for v in vars(m).values() if isinstance(v, torch.Tensor)]
    registered = {id(t): (t, _value(t)) for t in [*model.parameters(), *model.buffers()]}
    others = {id(t): (t, t.detach().clone()) for t in plain if id(t) not in registered and t.layout is torch.strided}
    # Tensors that an earlier call of the user computed keep their gradients.
    computed = {key for key, (tensor, _) in others.items() if tensor.grad_fn is not None}
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()

    def rewind() -> None:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        for module, before in modules:
            if isinstance(module._buffers, dict):  # the buffers of a ScriptModule cannot be set
                module._buffers.update(before["_buffers"])
        _write(registered.values())

    try:
        yield rewind
    finally:
        rewind()
        for module, before in modules:
            _restore(vars(module), before)
        for container, before in shared:
            _refill(container, before)
        _write(others.values(), computed)


def _write(values: Iterable[tuple[torch.Tensor, torch.Tensor]], computed: Container[int] = ()) -> None:
    """Restore the values of tensors. Tensors that are not in ``computed`` are detached."""
    with torch.no_grad():
        for tensor, value in values:
            if tensor.grad_fn is not None and id(tensor) not in computed:
                tensor.detach_()  # an in-place operation attached the tensor to a graph
            if not torch.equal(tensor, value.to(tensor.dtype)):
                tensor.copy_(value)


def _value(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy of a tensor's values. While it is in float64, return the original values, to save memory."""
    single = _SINGLE.get(id(tensor))
    return tensor.detach().clone() if single is None else single


def _shallow(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a dict of attributes, and the containers among them, which forward can fill."""
    return {n: copy.copy(v) if type(v) in _CONTAINERS else v for n, v in attributes.items()}


@contextlib.contextmanager
def empty_caches(model: torch.nn.Module) -> Iterator[None]:
    """Empty the caches of the model's classes and files within this context, so that runs fill them again."""
    containers = list(_shared_containers(model))
    caches = [(each, dict(each)) for name, each, file in containers if type(each) is dict and name in _memo_names(file)]
    for cache, _ in caches:
        cache.clear()
    try:
        yield
    finally:
        for cache, before in caches:
            _refill(cache, before)


def _shared_containers(model: torch.nn.Module) -> Iterator[tuple[str, Any, ModuleType | None]]:
    """Yield the containers of the model's classes and of their files, which forward can fill: name, object and file."""
    seen = set()
    for cls in {cls for module in model.modules() for cls in type(module).__mro__}:
        if cls.__module__.partition(".")[0] in ("torch", "builtins", "typing", "abc"):
            continue
        file = sys.modules.get(cls.__module__)
        for owner in (cls, file):
            for name, value in list(vars(owner).items()) if owner is not None else ():
                if type(value) in _CONTAINERS and not name.startswith("__") and id(value) not in seen:
                    seen.add(id(value))
                    yield name, value, file


@functools.cache
def _memo_names(file: ModuleType | None) -> set[str]:
    try:
        return set() if file is None else memo_names(inspect.getsource(file))
    except (OSError, TypeError, SyntaxError):  # the module has no source
        return set()


def _refill(container: Any, before: Any) -> None:
    """Restore the elements that a container had before."""
    if isinstance(container, dict):
        if [*map(id, container), *map(id, container.values())] != [*map(id, before), *map(id, before.values())]:
            container.clear()
            container.update(before)
    elif isinstance(container, list):
        if [*map(id, container)] != [*map(id, before)]:
            container[:] = before
    elif container != before:
        container.clear()
        container.update(before)


def _restore(attributes: dict[str, Any], before: Mapping[str, Any]) -> None:
    for name in [name for name in attributes if name not in before]:
        del attributes[name]
    for name, value in before.items():
        current = attributes.get(name)
        if name in attributes and current is value:
            continue
        if type(current) is type(value) and isinstance(current, dict):
            if [*map(id, current), *map(id, current.values())] != [*map(id, value), *map(id, value.values())]:
                current.clear()
                current.update(value)
        elif type(current) is type(value) and isinstance(current, list):
            current[:] = value
        else:
            attributes[name] = value


def as_double(tensor: torch.Tensor) -> torch.Tensor:
    """Convert a floating-point or complex tensor to double precision."""
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor


@contextlib.contextmanager
def in_double(module: torch.nn.Module) -> Iterator[None]:
    """Convert parameters and buffers to float64 within this context. Closures see the change, too."""
    tensors = {id(t): t for t in (*module.parameters(), *module.buffers())}.values()
    values = [tensor.data for tensor in tensors]
    try:
        for tensor, value in zip(tensors, values, strict=True):
            tensor.data = as_double(value)
            if tensor.dtype != value.dtype:
                _SINGLE[id(tensor)] = value
        yield
    finally:
        for tensor in tensors:
            _SINGLE.pop(id(tensor), None)
        for tensor, value in zip(tensors, values, strict=True):
            tensor.data = value
