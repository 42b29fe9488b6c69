"""Inputs of losses, and functions that silence torch's warnings."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cases.common import Function, Maker
from flaxnets.parity import Constant

shapes = st.lists(st.integers(1, 4), max_size=3).map(tuple)

# Torch's deprecated flags size_average and reduce.
FLAGS = ((False, None), (None, False), (True, True), (True, False), (False, True))


def quiet(kind: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Build a layer without the warnings of its constructor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(*args, **kwargs)


def warned(maker: Maker, message: str) -> Maker:
    """Return the inputs of ``maker``, and ignore a warning of both libraries until pytest restores the filters."""

    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        warnings.filterwarnings("ignore", message)
        return maker(rng)

    return make


def legacy(name: str, inputs: Maker, count: int = 2, **kwargs: Any) -> list[Function]:
    """Return rows with torch's deprecated flags, without the warnings of them."""
    inputs = warned(inputs, "size_average and reduce")
    return [
        Function(name, inputs, {**kwargs, "size_average": average, "reduce": reduce})
        for average, reduce in FLAGS[:count]
    ]


def joined(*makers: Maker) -> Maker:
    """Concatenate the inputs of several makers."""
    return lambda rng: tuple(value for maker in makers for value in maker(rng))


def uniform(shape: tuple[int, ...], low: float, high: float) -> Maker:
    """Draw one input from the uniform distribution."""
    return lambda rng: (np.asarray(rng.uniform(low, high, shape)),)


def counts(shape: tuple[int, ...]) -> Maker:
    """Draw small counts as floats."""
    return lambda rng: (np.asarray(rng.integers(0, 5, shape), np.float64),)


def probabilities(shape: tuple[int, ...]) -> Maker:
    """Draw probabilities along the last axis."""
    return lambda rng: (rng.dirichlet(np.ones(shape[-1]), shape[:-1]),)


def signs(shape: tuple[int, ...]) -> Maker:
    """Draw 1 or -1, without gradients."""
    return lambda rng: (Constant(np.asarray(rng.choice([-1.0, 1.0], shape))),)


def classes(shape: tuple[int, ...], count: int, low: int = 0) -> Maker:
    """Draw class indices."""
    return lambda rng: (np.asarray(rng.integers(low, count, shape)),)


def fixed(values: Any, constant: bool = False) -> Maker:
    """Use these values."""
    array = np.asarray(values)
    return lambda rng: (Constant(array) if constant else array,)
