"""Inputs of losses, and what silences the warnings that torch gives."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cases.common import Function, Maker
from flaxnets.parity import Constant

shapes = st.lists(st.integers(1, 4), max_size=3).map(tuple)

# Torch's old flags size_average and reduce.
FLAGS = ((False, None), (None, False), (True, True), (True, False), (False, True))


def quiet(kind: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A layer whose constructor warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(*args, **kwargs)


def warned(maker: Maker, message: str) -> Maker:
    """The inputs of ``maker``, of which both sides warn; pytest sets the filters back after each test."""

    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        warnings.filterwarnings("ignore", message)
        return maker(rng)

    return make


def legacy(name: str, inputs: Maker, count: int = 2, **kwargs: Any) -> list[Function]:
    """A function called with torch's old flags, of which it warns."""
    inputs = warned(inputs, "size_average and reduce")
    return [
        Function(name, inputs, {**kwargs, "size_average": average, "reduce": reduce})
        for average, reduce in FLAGS[:count]
    ]


def joined(*makers: Maker) -> Maker:
    """The inputs of all makers."""
    return lambda rng: tuple(value for maker in makers for value in maker(rng))


def uniform(shape: tuple[int, ...], low: float, high: float) -> Maker:
    """One input, drawn from the uniform distribution."""
    return lambda rng: (np.asarray(rng.uniform(low, high, shape)),)


def counts(shape: tuple[int, ...]) -> Maker:
    """Small whole numbers as floats."""
    return lambda rng: (np.asarray(rng.integers(0, 5, shape), np.float64),)


def probabilities(shape: tuple[int, ...]) -> Maker:
    """Distributions along the last axis."""
    return lambda rng: (rng.dirichlet(np.ones(shape[-1]), shape[:-1]),)


def signs(shape: tuple[int, ...]) -> Maker:
    """1 or -1, not differentiated."""
    return lambda rng: (Constant(np.asarray(rng.choice([-1.0, 1.0], shape))),)


def classes(shape: tuple[int, ...], count: int, low: int = 0) -> Maker:
    """Class indices."""
    return lambda rng: (np.asarray(rng.integers(low, count, shape)),)


def fixed(values: Any, constant: bool = False) -> Maker:
    """These values."""
    array = np.asarray(values)
    return lambda rng: (Constant(array) if constant else array,)
