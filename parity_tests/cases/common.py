"""What a row of the tables is: a layer, a function, or a call that is rejected, and the inputs they are called on."""

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
    """Inputs drawn from the normal distribution."""
    return lambda rng: tuple(rng.normal(size=shape) for shape in shapes)


def ties(*shape: int) -> Maker:
    """Small whole numbers: many equal values in a window, and many zeros."""
    return lambda rng: (rng.integers(-2, 3, shape).astype(np.float64),)


def given(*values: Any) -> Maker:
    """These very inputs; lists become arrays."""
    return lambda rng: tuple(np.asarray(value) if isinstance(value, list) else value for value in values)


def then(maker: Maker, *values: Any) -> Maker:
    """The inputs of ``maker``, and these after them."""
    return lambda rng: (*maker(rng), *given(*values)(rng))


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer in one combination of arguments.

    Attributes:
        name: in ``torch.nn`` and in ``flaxnets.nn``.
        inputs: the arguments of a call.
        args: positional arguments of the constructor.
        kwargs: keyword arguments of the constructor.
        call: keyword arguments of the call.
        build: for containers and the like: makes the module out of either ``nn``, with ``rngs`` for the one that
            takes it.
        check: options of :func:`flaxnets.parity.check`; a gate other than the design's needs a reason beside it.
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
        """Which arguments of the constructor and of the call the row gives, by name."""
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
    return getattr(value, "__name__", repr(value))  # a function's repr has its address, another one in every process


def _shapes(inputs: Maker, call: Mapping[str, Any]) -> str:
    leaves = jax.tree.leaves((inputs(np.random.default_rng(0)), dict(call)))
    arrays = [np.asarray(leaf.array if isinstance(leaf, Constant) else leaf) for leaf in leaves]
    return ", ".join(("" if a.dtype.kind == "f" else f"{a.dtype} ") + "x".join(map(str, a.shape)) for a in arrays)


def construct(nn: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """A layer of either ``nn``, whose arrays the arguments become; flaxnets' own get ``rngs`` if they take it."""
    kind = getattr(nn, name)
    to_array = jnp.asarray if nn is flax_nn else torch.tensor
    args, kwargs = [_float32(a, to_array) for a in args], {k: _float32(a, to_array) for k, a in kwargs.items()}
    takes_rngs = nn is flax_nn and "rngs" in inspect.signature(kind.__init__).parameters
    return kind(*args, **kwargs, **({"rngs": nnx.Rngs(0)} if takes_rngs else {}))


def layers(name: str, *rows: tuple[Any, ...]) -> list[Layer]:
    """Rows of ``(inputs, positional, keyword, call's keyword arguments)`` for one class; the last three may lack."""
    return [Layer(name, *row) for row in rows]


@dataclasses.dataclass(frozen=True)
class Function:
    """A function of ``torch.nn.functional``, for those that no layer's row reaches, in one combination of arguments.

    Attributes:
        name: in both ``functional`` modules.
        inputs: positional arguments.
        kwargs: keyword arguments.
        check: as of :class:`Layer`.
    """

    name: str
    inputs: Maker
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    check: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def option_names(self) -> list[str]:
        """The keyword arguments that the row gives."""
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
    """Rows of ``(inputs, keyword arguments)`` for one function; the last may lack."""
    return [Function(name, *row) for row in rows]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A layer or function in combinations of arguments and shapes that hypothesis chooses.

    Attributes:
        name: of the class or function.
        cases: a strategy whose values are of :class:`Layer` or :class:`Function`.
        examples: how many are tried.
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
        name: of the class, or of the function.
        args: positional arguments of the constructor (of a function's row: none).
        kwargs: keyword arguments of the constructor, or of the function.
        inputs: what the call gets: a maker, the shape of an array of ones, or None if the constructor rejects already.
        message: a regular expression that the message matches; it has the offending value.
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
    """Rows of ``(args, kwargs, inputs, message)`` for one class or function."""
    return [Rejected(name, *row) for row in rows]
