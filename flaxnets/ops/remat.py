"""``torch.utils.checkpoint``: values that the backward pass recomputes instead of storing them."""

import functools
import types
from collections.abc import Callable, Iterable
from typing import Any

import jax
from flax import nnx


def checkpoint(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function and recompute its intermediate values in the backward pass.

    Modules are updated as in a plain call, including those that a closure or a method refers to.

    Args:
        function: a module, a method, or a function.
        *args: arguments of the function; non-arrays are constants.
        **kwargs: keyword arguments of the function.

    See `torch.utils.checkpoint.checkpoint <https://docs.pytorch.org/docs/stable/checkpoint.html>`_.

    >>> checkpoint(jax.numpy.sin, jax.numpy.zeros(2)).tolist()
    [0.0, 0.0]
    """
    leaves, structure = jax.tree.flatten((args, kwargs), is_leaf=_is_leaf)
    is_array = [isinstance(leaf, jax.Array) for leaf in leaves]
    constants = [None if a else leaf for a, leaf in zip(is_array, leaves, strict=True)]

    def run(modules: Any, arrays: list[jax.Array]) -> Any:
        remaining = iter(arrays)
        filled = [next(remaining) if a else leaf for a, leaf in zip(is_array, constants, strict=True)]
        inner_args, inner_kwargs = jax.tree.unflatten(structure, filled)
        return _with_modules(function, iter(modules))(*inner_args, **inner_kwargs)

    return nnx.remat(run)(_modules(function), [leaf for a, leaf in zip(is_array, leaves, strict=True) if a])


def checkpoint_sequential(functions: Iterable[Callable[..., Any]], segments: int, input: Any) -> Any:
    """Call functions in sequence, with a checkpoint for each segment but the last, which stores its values.

    Args:
        functions: an ``nn.Sequential``, or a list of modules or functions.
        segments: number of segments.
        input: input of the first function.

    See `torch.utils.checkpoint.checkpoint_sequential <https://docs.pytorch.org/docs/stable/checkpoint.html>`_.

    >>> checkpoint_sequential([jax.numpy.sin, jax.numpy.cos], 2, jax.numpy.zeros(2)).tolist()
    [1.0, 1.0]
    """
    layers = list(functions.children()) if hasattr(functions, "children") else list(functions)  # type: ignore[attr-defined]
    size = len(layers) // segments

    def run(part: list[Callable[..., Any]], value: Any) -> Any:
        for layer in part:
            value = layer(value)
        return value

    end = 0
    for start in range(0, size * (segments - 1), size):
        end = start + size
        part = layers[start:end]
        input = checkpoint(functools.partial(run, part), input)
    return run(layers[end:], input)


def _is_leaf(value: Any) -> bool:
    return isinstance(value, nnx.Module)


def _holds_modules(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_modules, value))
    return isinstance(value, nnx.Module)


def _modules(function: Any) -> list[Any]:
    """Return the modules that a function refers to, in the order that :func:`_with_modules` expects."""
    if isinstance(function, nnx.Module):
        return [function]
    if isinstance(function, types.MethodType):
        return [*_modules(function.__func__), *([function.__self__] if _holds_modules(function.__self__) else [])]
    if isinstance(function, functools.partial):
        return [*_modules(function.func), *[a for a in function.args if _holds_modules(a)]]
    if isinstance(function, types.FunctionType):
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        return [each for value in [*cells, *(function.__defaults__ or ())] for each in _in_cell(value)]
    return []


def _in_cell(value: Any) -> list[Any]:
    if _holds_modules(value):
        return [value]
    return _modules(value) if isinstance(value, (types.FunctionType, types.MethodType, functools.partial)) else []


def _with_modules(function: Any, modules: Any) -> Any:
    """Return the function with its modules replaced."""
    if isinstance(function, nnx.Module):
        return next(modules)
    if isinstance(function, types.MethodType):
        inner = _with_modules(function.__func__, modules)
        return types.MethodType(inner, next(modules) if _holds_modules(function.__self__) else function.__self__)
    if isinstance(function, functools.partial):
        inner = _with_modules(function.func, modules)
        args = [next(modules) if _holds_modules(a) else a for a in function.args]
        return functools.partial(inner, *args, **function.keywords)
    if isinstance(function, types.FunctionType):
        cells = tuple(types.CellType(_replaced(c.cell_contents, modules)) for c in function.__closure__ or ())
        defaults = tuple(_replaced(value, modules) for value in function.__defaults__ or ())
        new = types.FunctionType(function.__code__, function.__globals__, function.__name__, defaults, cells)
        new.__kwdefaults__ = function.__kwdefaults__
        return new
    return function


def _replaced(value: Any, modules: Any) -> Any:
    if _holds_modules(value):
        return next(modules)
    if isinstance(value, (types.FunctionType, types.MethodType, functools.partial)):
        return _with_modules(value, modules)
    return value
