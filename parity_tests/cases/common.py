"""The types of rows: a layer, a function, or a rejected call, each with its inputs."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from hypothesis.strategies import SearchStrategy

import flaxnets.nn as flax_nn
from flaxnets.parity import Constant

Maker = Callable[[np.random.Generator], tuple[Any, ...]]


def normal(*shapes: tuple[int, ...]) -> Maker:
    """Draw inputs from the normal distribution."""
    return lambda rng: tuple(rng.normal(size=shape) for shape in shapes)


def ties(*shape: int) -> Maker:
    """Draw small integral values: windows contain equal values and zeros."""
    return lambda rng: (rng.integers(-2, 3, shape).astype(np.float64),)


def given(*values: Any) -> Maker:
    """Use these inputs. Lists become arrays."""
    return lambda rng: tuple(np.asarray(value) if isinstance(value, list) else value for value in values)


def then(maker: Maker, *values: Any) -> Maker:
    """Append these inputs to the inputs of ``maker``."""
    return lambda rng: (*maker(rng), *given(*values)(rng))


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer with one combination of arguments.

    Attributes:
        name: Name in ``torch.nn`` and in ``flaxnets.nn``.
        inputs: Makes the arguments of a call.
        args: Positional arguments of the constructor.
        kwargs: Keyword arguments of the constructor.
        call: Keyword arguments of the call.
        build: Builds the module from ``torch.nn`` or ``flaxnets.nn``, for modules such as containers. Gets ``rngs`` for
            ``flaxnets.nn``.
        check: Options of :func:`flaxnets.parity.check`. Another gate than the default needs a comment with the reason.
    """

    name: str
    inputs: Maker
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    call: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    build: Callable[..., Any] | None = None
    check: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def make(self, nn: Any) -> Any:
        rngs = {"rngs": nnx.Rngs(0)} if nn is flax_nn else {}
        if self.build is not None:
            return self.build(nn, **rngs)
        return construct(nn, self.name, self.args, self.kwargs)

    def option_names(self) -> list[str]:
        """Return the names of the arguments of the constructor and of the call that the row has."""
        if self.build is not None:
            return [*self.call]
        positional = list(inspect.signature(getattr(flax_nn, self.name).__init__).parameters)[1:]
        return [*positional[: len(self.args)], *self.kwargs, *self.call]

    def pair(self) -> tuple[torch.nn.Module, nnx.Module]:
        torch.manual_seed(0)
        return self.make(torch.nn), self.make(flax_nn)

    def options(self) -> dict[str, Any]:
        return {**self.check, "kwargs": self.call}

    def __str__(self) -> str:
        arguments = [*map(_shown, self.args), *(f"{k}={_shown(v)}" for k, v in self.kwargs.items())]
        if self.build is not None:
            arguments = [f"form {self.build.__code__.co_firstlineno}"]
        return f"{self.name}({', '.join(arguments)}) of {_shapes(self.inputs, self.call)}"


def _shown(value: Any) -> str:
    # The repr of a function contains its address, which changes between processes.
    return getattr(value, "__name__", repr(value))


def _shapes(inputs: Maker, call: Mapping[str, Any]) -> str:
    leaves = jax.tree.leaves((inputs(np.random.default_rng(0)), dict(call)))
    arrays = [np.asarray(leaf.array if isinstance(leaf, Constant) else leaf) for leaf in leaves]
    return ", ".join(("" if a.dtype.kind == "f" else f"{a.dtype} ") + "x".join(map(str, a.shape)) for a in arrays)


def construct(nn: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Build a layer of torch or flaxnets with arguments converted to its arrays, and with ``rngs`` if needed."""
    kind = getattr(nn, name)
    to_array = jnp.asarray if nn is flax_nn else torch.tensor
    args, kwargs = [_float32(a, to_array) for a in args], {k: _float32(a, to_array) for k, a in kwargs.items()}
    takes_rngs = nn is flax_nn and "rngs" in inspect.signature(kind.__init__).parameters
    return kind(*args, **kwargs, **({"rngs": nnx.Rngs(0)} if takes_rngs else {}))


def layers(name: str, *rows: tuple[Any, ...]) -> list[Layer]:
    """Return the rows of a class: ``(inputs, positional, keyword, call's keywords)``. The last three are optional."""
    return [Layer(name, *row) for row in rows]


@dataclasses.dataclass(frozen=True)
class Function:
    """A function of ``torch.nn.functional`` with one combination of arguments, if no layer calls this function.

    Attributes:
        name: Name in both ``functional`` modules.
        inputs: Makes the positional arguments.
        kwargs: Keyword arguments.
        check: Options of :func:`flaxnets.parity.check`, as in :class:`Layer`.
    """

    name: str
    inputs: Maker
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    check: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def option_names(self) -> list[str]:
        """Return the names of the keyword arguments that the row has."""
        return [*self.kwargs]

    def pair(self) -> tuple[torch.nn.Module, nnx.Module]:
        return _TorchCall(self.name), _FlaxCall(self.name)

    def options(self) -> dict[str, Any]:
        return {**self.check, "kwargs": self.kwargs}

    def __str__(self) -> str:
        arguments = ", ".join(f"{k}={_shown(v)}" for k, v in self.kwargs.items())
        return f"{self.name}({arguments}) of {_shapes(self.inputs, {})}"


class _TorchCall(torch.nn.Module):
    def __init__(self, name: str):
        super().__init__()
        self.function = getattr(torch.nn.functional, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


class _FlaxCall(flax_nn.Module):
    def __init__(self, name: str):
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(flax_nn.functional, self.name)(*args, **kwargs)


def functions(name: str, *rows: tuple[Any, ...]) -> list[Function]:
    """Return the rows of a function: ``(inputs, keyword arguments)``. The last is optional."""
    return [Function(name, *row) for row in rows]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A layer or function with combinations of arguments and shapes that hypothesis draws.

    Attributes:
        name: Name of the class or function.
        cases: A strategy of :class:`Layer` or :class:`Function`.
        examples: Number of combinations.
    """

    name: str
    cases: SearchStrategy[Any]
    examples: int = 8

    def __str__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True)
class Rejected:
    """Arguments or inputs that torch rejects.

    Attributes:
        name: Name of the class or function.
        args: Positional arguments of the constructor; empty for a function.
        kwargs: Keyword arguments of the constructor or of the function.
        inputs: Makes the arguments of the call, or the shape of an array of ones. None if the constructor rejects.
        message: A regular expression for the message, which must contain the rejected value.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: Maker | tuple[int, ...] | None
    message: str

    def attempt(self, nn: Any, to_array: Callable[[Any], Any]) -> None:
        if inspect.isclass(getattr(nn, self.name, None)):
            target, kwargs = construct(nn, self.name, self.args, self.kwargs), {}
        else:
            target, kwargs = getattr(nn.functional, self.name), self.kwargs
        if self.inputs is None:
            return
        if isinstance(self.inputs, tuple):
            inputs: tuple[Any, ...] = (np.ones(self.inputs),)
        else:
            inputs = self.inputs(np.random.default_rng(0))
        target(*jax.tree.map(lambda leaf: _float32(leaf, to_array), inputs), **kwargs)

    def __str__(self) -> str:
        return f"{self.name}{self.args}{dict(self.kwargs) or ''}: {self.message}"


def _float32(leaf: Any, to_array: Callable[[Any], Any]) -> Any:
    leaf = leaf.array if isinstance(leaf, Constant) else leaf
    if not isinstance(leaf, np.ndarray):
        return leaf
    return to_array(leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf)


def rejected(name: str, *rows: tuple[Any, ...]) -> list[Rejected]:
    """Return the rows ``(args, kwargs, inputs, message)`` of a class or function."""
    return [Rejected(name, *row) for row in rows]
