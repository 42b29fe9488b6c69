"""Cases of pooling."""

import math

import jax.numpy as jnp
import numpy as np
import torch
from hypothesis import strategies as st

from cases.common import (
    Function,
    Layer,
    Maker,
    Sweep,
    functions,
    given,
    layers,
    normal,
    then,
    ties,
)
from cases.pooling_rejected import REJECTED as REJECTED
from flaxnets.parity import Constant

LINE, IMAGE, VOLUME = normal((2, 3, 11)), normal((2, 3, 7, 9)), normal((2, 2, 4, 5, 6))
NAN, INF = math.nan, math.inf


def constant(*shape: int) -> Maker:
    """Draw inputs without gradients, for empty outputs, whose gradient torch cannot compute."""
    return lambda rng: (Constant(rng.normal(size=shape)),)


def with_values(shape: tuple[int, ...], *values: float) -> Maker:
    """Draw normal values, and put these values at random positions."""

    def make(rng: np.random.Generator) -> tuple[np.ndarray]:
        array = rng.normal(size=shape)
        array.flat[rng.choice(array.size, len(values), replace=False)] = values
        return (array,)

    return make


def pooled(n: int, shape: tuple[int, ...], *args: object) -> Maker:
    """Draw normal values, and return their maxima and indices as torch computes them."""

    def make(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        pool = getattr(torch.nn.functional, f"max_pool{n}d_with_indices")
        return tuple(part.numpy() for part in pool(torch.from_numpy(rng.normal(size=shape)), *args))

    return make


def samples(nn: object, *shape: int) -> object:
    """Return the same samples as an array of torch or JAX."""
    array = np.random.default_rng(0).random(shape).astype(np.float32)
    return torch.from_numpy(array) if nn is torch.nn else jnp.asarray(array)


MAX = [
    *layers(
        "MaxPool1d",
        (LINE, (2,)),
        (normal((3, 11)), (3,)),
        (ties(2, 3, 12), (3, 2, 1)),
        (ties(2, 3, 12), ((4,),), {"stride": (3,), "padding": (2,), "ceil_mode": True}),
        (ties(2, 3, 13), (3, 1), {"dilation": 2, "padding": 1}),
        (ties(2, 3, 13), (2, 3), {"dilation": (5,), "padding": 1, "return_indices": True}),
        (ties(2, 3, 10), (3, 2, 1), {"return_indices": True, "ceil_mode": True}),
        (LINE, (2, (), 0, 1, True, True)),
        (normal((0, 3, 11)), (2,)),
        (normal((1, 1, 1)), (1,), {"return_indices": True}),
        (with_values((2, 3, 11), NAN, NAN, NAN, INF, -INF), (4, 2, 2), {"return_indices": True}),
        (given(np.full((1, 2, 7), -INF)), (4, 2, 2), {"return_indices": True}),
        (given(np.full((1, 2, 9), -INF)), (3, 1, 1, 2)),
    ),
    *layers(
        "MaxPool2d",
        (IMAGE, (2,)),
        (normal((3, 7, 9)), (3,)),
        (ties(2, 3, 8, 8), (3, 2, 1)),
        (ties(2, 3, 8, 8), (2,)),
        (ties(2, 3, 7, 9), ((3, 2),), {"stride": (2, 1), "padding": (1, 0), "ceil_mode": True}),
        (ties(2, 3, 9, 9), (3, 1), {"dilation": 2, "padding": 1}),
        (ties(2, 3, 7, 7), (3, 2, 1), {"return_indices": True, "ceil_mode": True}),
        (ties(3, 7, 9), ((3,), (2,), (1,), (1,)), {"return_indices": True}),
        (ties(2, 3, 6, 6), (2, ()), {"dilation": (2, 1)}),
        (normal((0, 3, 4, 4)), (2,)),
        (normal((1, 1, 1, 1)), (1,)),
        (with_values((2, 3, 5, 6), NAN, NAN, NAN, INF, -INF), (3, 2, 1), {"return_indices": True}),
        (given(np.full((1, 2, 5, 4), -INF)), (3, 2, 1), {"return_indices": True}),
        (given(np.full((1, 2, 5, 5), -INF)), (3, 1, 1, 2)),
        (given(np.arange(24).reshape(1, 2, 4, 3) % 7), (2, 1, 1), {"return_indices": True}),
    ),
    *layers(
        "MaxPool3d",
        (VOLUME, (2,)),
        (normal((2, 4, 5, 6)), (3,)),
        (ties(1, 2, 4, 5, 6), (3, 2, 1)),
        (ties(1, 2, 4, 5, 6), ((2, 3, 1),), {"stride": (1, 2, 3), "padding": (1, 0, 0), "ceil_mode": True}),
        (ties(1, 2, 5, 5, 5), (2, 1), {"dilation": (2, 1, 3), "padding": 1}),
        (ties(1, 2, 4, 5, 6), (3, 2, 1, 1, True, True)),
        (ties(2, 4, 5, 6), ((2,), 1), {"return_indices": True}),
        (normal((0, 2, 2, 2, 2)), (2,)),
        (normal((1, 1, 1, 1, 1)), (1,)),
        (with_values((1, 2, 4, 4, 4), NAN, NAN, NAN, INF, -INF), (3, 1, 1), {"return_indices": True}),
        (given(np.full((1, 1, 3, 4, 3), -INF)), (2, 2, 1), {"return_indices": True}),
        (given(np.arange(48).reshape(1, 2, 4, 3, 2) % 7), (2, 1), {"return_indices": True}),
    ),
]

AVG = [
    *layers(
        "AvgPool1d",
        (LINE, (2,)),
        (normal((3, 11)), ((3,),)),
        (LINE, (3, 2, 1)),
        (LINE, (4, 3, 2), {"ceil_mode": True}),
        (LINE, (4, (3,), (2,), True, False)),
        (LINE, (3,), {"padding": 1, "count_include_pad": False}),
        (LINE, (5, ()), {"ceil_mode": True}),
        (normal((0, 3, 11)), (2,)),
        (normal((1, 1, 1)), (1,)),
        (with_values((2, 3, 11), NAN, INF, -INF), (3, 2)),
        (given(np.arange(20).reshape(2, 2, 5) - 9), (3, 2)),
    ),
    *layers(
        "AvgPool2d",
        (IMAGE, (2,)),
        (normal((3, 7, 9)), (3,)),
        (IMAGE, (3, 2, 1)),
        (IMAGE, (3, 2, 1), {"ceil_mode": True}),
        (IMAGE, (3, 2, 1), {"ceil_mode": True, "count_include_pad": False}),
        (IMAGE, ((3, 2),), {"stride": (1, 3), "divisor_override": 5}),
        (IMAGE, ((3,), (2,), (1,), False, False, -2)),
        (IMAGE, ((2, 4), ()), {"padding": (1, 2), "count_include_pad": False}),
        (normal((0, 3, 4, 4)), (2,)),
        (normal((1, 1, 1, 1)), (1,)),
        (with_values((1, 2, 5, 5), NAN, INF, -INF), (3, 1, 1)),
        (given(np.arange(36).reshape(1, 2, 6, 3) - 9), (3, 2), {"padding": 1}),
    ),
    *layers(
        "AvgPool3d",
        (VOLUME, (2,)),
        (normal((2, 4, 5, 6)), (3,)),
        (VOLUME, (3, 2, 1)),
        (VOLUME, (3, 2, 1), {"ceil_mode": True}),
        (VOLUME, (3, 2, 1, True, False)),
        (VOLUME, ((1, 3, 2),), {"stride": (1, 2, 3), "divisor_override": 5}),
        (VOLUME, ((2, 1, 4), (), (1, 0, 2)), {"count_include_pad": False}),
        (VOLUME, ((2,), (3,), (1,), True, True, -3)),
        (normal((0, 2, 2, 2, 2)), (2,)),
        (normal((1, 1, 1, 1, 1)), (1,)),
        (with_values((1, 2, 4, 4, 4), NAN, INF, -INF), (2, 1)),
        (given(np.arange(48).reshape(1, 2, 4, 3, 2) - 9), (2, 1)),
    ),
]

ADAPTIVE = [
    *layers(
        "AdaptiveAvgPool1d",
        (LINE, (1,)),
        (LINE, (4,)),
        (LINE, ((11,),)),
        (LINE, ([13],)),
        (normal((3, 12)), (), {"output_size": 3}),
        (constant(2, 3, 5), (0,)),
        (normal((0, 3, 5)), (2,)),
        (constant(2, 0, 5), (2,)),
        (normal((1, 1, 1)), (3,)),
        (with_values((2, 3, 11), NAN, INF, -INF), (4,)),
    ),
    *layers(
        "AdaptiveAvgPool2d",
        (IMAGE, ((1, 1),)),
        (IMAGE, (3,)),
        (IMAGE, ((None, 4),)),
        (IMAGE, ((9, 11),)),
        (normal((3, 6, 9)), ((3, 3),)),
        (IMAGE, ([2, None],)),
        (IMAGE, ((None, None),)),
        (IMAGE, (), {"output_size": (1, 4)}),
        (constant(2, 3, 5, 4), ((0, 2),)),
        (normal((0, 3, 5, 4)), (2,)),
        (constant(2, 0, 5, 4), (2,)),
        (normal((4, 5)), (1,)),
        (normal((2, 2, 2, 3, 4)), ((1, 1),)),
        (with_values((1, 2, 5, 5), NAN, INF, -INF), (3,)),
    ),
    *layers(
        "AdaptiveAvgPool3d",
        (VOLUME, (1,)),
        (VOLUME, (3,)),
        (VOLUME, ((None, 4, 2),)),
        (VOLUME, ((5, 5, 7),)),
        (normal((2, 4, 5, 6)), ((2, 5, 3),)),
        (VOLUME, (), {"output_size": [2, None, None]}),
        (VOLUME, ((1, 1, 2),)),
        (constant(2, 2, 3, 4, 2), ((0, 2, 2),)),
        (normal((0, 2, 3, 2, 2)), (2,)),
        (normal((3, 4, 5)), (1,)),
        (normal((2, 2, 2, 2, 3, 2)), ((1, 1, 1),)),
        (with_values((1, 2, 4, 4, 5), NAN, INF, -INF), (3,)),
    ),
    *layers(
        "AdaptiveMaxPool1d",
        (LINE, (1,)),
        (ties(2, 3, 11), (4,)),
        (ties(2, 3, 11), ((4,), True)),
        (ties(2, 3, 11), ([13],), {"return_indices": True}),
        (ties(3, 12), (), {"output_size": 3, "return_indices": True}),
        (constant(2, 3, 5), (0,)),
        (normal((0, 3, 5)), (2,), {"return_indices": True}),
        (normal((1, 1, 1)), (3,)),
        (with_values((2, 3, 11), NAN, NAN, NAN, INF, -INF), (2, True)),
        (given(np.full((1, 2, 7), -INF)), (3, True)),
    ),
    *layers(
        "AdaptiveMaxPool2d",
        (IMAGE, (1,)),
        (ties(2, 3, 7, 9), (3,)),
        (ties(2, 3, 7, 9), (3, True)),
        (ties(2, 3, 7, 9), ((None, 4), True)),
        (ties(2, 3, 7, 9), ([2, None],), {"return_indices": True}),
        (ties(2, 3, 4, 5), ((6, 7),), {"return_indices": True}),
        (ties(3, 6, 9), (), {"output_size": (3, 3), "return_indices": True}),
        (IMAGE, ((None, None), True)),
        (constant(2, 3, 5, 4), ((0, 2), True)),
        (normal((0, 3, 5, 4)), (2, True)),
        (normal((1, 1, 1, 1)), (1, True)),
        (with_values((2, 3, 5, 6), NAN, NAN, NAN, INF, -INF), (2, True)),
        (given(np.full((1, 2, 5, 4), -INF)), (3, True)),
    ),
    *layers(
        "AdaptiveMaxPool3d",
        (VOLUME, (1,)),
        (ties(2, 2, 4, 5, 6), (3,)),
        (ties(2, 2, 4, 5, 6), (3, True)),
        (ties(2, 2, 4, 5, 6), ((None, 4, 2), True)),
        (ties(2, 2, 4, 5, 6), ([2, None, None],), {"return_indices": True}),
        (ties(2, 3, 2, 3), ((4, 3, 5),), {"return_indices": True}),
        (ties(2, 4, 6, 4), (), {"output_size": (2, 3, 4), "return_indices": True}),
        (constant(2, 2, 3, 4, 2), ((0, 2, 2), True)),
        (normal((0, 2, 3, 2, 2)), (2, True)),
        (normal((1, 1, 1, 1, 1)), (1, True)),
        (with_values((1, 2, 4, 4, 5), NAN, NAN, NAN, INF, -INF), (2, True)),
        (given(np.full((1, 1, 3, 4, 3), -INF)), (2, True)),
    ),
]

FRACTIONAL = [
    *layers(
        "FractionalMaxPool2d",
        (IMAGE, (2,), {"output_size": (4, 5)}),
        (IMAGE, (3, 4, None, True)),
        (normal((3, 7, 9)), ((2, 3),), {"output_ratio": 0.5, "return_indices": True}),
        (ties(2, 3, 9, 9), (2,), {"output_ratio": (0.7, 0.4), "return_indices": True}),
        (ties(2, 3, 7, 9), ((7, 9), 1), {"return_indices": True}),
        (IMAGE, (2, (6, 8))),
        (IMAGE, (2,), {"output_ratio": 0.01}),
        (normal((0, 3, 5, 5)), (2, 2)),
        (with_values((2, 3, 7, 7), NAN, NAN, NAN, INF, -INF), (3, 4), {"return_indices": True}),
        (given(np.full((1, 2, 5, 6), -INF)), (2, 3), {"return_indices": True}),
        (IMAGE, (), {}, {}, lambda nn, **r: nn.FractionalMaxPool2d(2, 4, None, True, samples(nn, 2, 3, 2))),
        (normal((3, 8, 9)), (), {}, {}, lambda nn, **r: nn.FractionalMaxPool2d(
            (3, 2), output_ratio=(0.6, 0.4), _random_samples=samples(nn, 4, 3, 2), **r)),
    ),
    *layers(
        "FractionalMaxPool3d",
        (VOLUME, (2,), {"output_size": (2, 2, 3)}),
        (VOLUME, (1, 3, None, True)),
        (normal((2, 5, 6, 7)), ((2, 3, 1),), {"output_ratio": 0.5, "return_indices": True}),
        (ties(1, 2, 6, 6, 6), (2,), {"output_ratio": (0.6, 0.5, 0.35), "return_indices": True}),
        (ties(2, 2, 4, 5, 6), ((3, 4, 5), 1), {"return_indices": True}),
        (VOLUME, (2,), {"output_ratio": 0.01}),
        (normal((0, 3, 5, 5, 5)), (2, 2)),
        (with_values((1, 2, 5, 5, 5), NAN, NAN, NAN, INF, -INF), (2, 3), {"return_indices": True}),
        (given(np.full((1, 1, 5, 4, 4), -INF)), (2, 2), {"return_indices": True}),
        (VOLUME, (), {}, {}, lambda nn, **r: nn.FractionalMaxPool3d(2, 2, None, True, samples(nn, 2, 2, 3))),
        (normal((2, 6, 8, 7)), (), {}, {}, lambda nn, **r: nn.FractionalMaxPool3d(
            (3, 2, 1), output_ratio=(0.4, 0.5, 0.8), _random_samples=samples(nn, 4, 2, 3), **r)),
    ),
]  # fmt: skip

UNPOOL = [
    *layers(
        "MaxUnpool1d",
        (pooled(1, (2, 3, 8), 2), (2,)),
        (pooled(1, (3, 9), 3), ((3,),)),
        (pooled(1, (2, 3, 9), 2), (2,), {}, {"output_size": (9,)}),
        (pooled(1, (2, 3, 9), 2), (2,), {}, {"output_size": [2, 3, 9]}),
        (pooled(1, (2, 3, 9), 3, 2, 1), (3, 2, 1), {}, {"output_size": [9]}),
        (pooled(1, (2, 3, 8), 3, 1), (3,), {"stride": 1}),
        (pooled(1, (2, 3, 8), 4, 2, 1), (4,), {"stride": (2,), "padding": (1,)}),
        (given(np.full((1, 2, 3), 1.5), [[[1, 1, 1], [0, 2, 0]]]), (2, 1)),
        (then(normal((0, 3, 2)), np.zeros((0, 3, 2), np.int64)), (2,)),
        (then(normal((1, 1, 1)), [[[0]]]), (1,)),
        (then(constant(1, 2, 2), np.zeros((1, 2, 2), np.int64)), (0,)),
        (then(with_values((1, 2, 4), NAN, INF, -INF), [[[1, 2, 5, 6], [0, 3, 4, 7]]]), (2,)),
    ),
    *layers(
        "MaxUnpool2d",
        (pooled(2, (2, 3, 4, 6), 2), (2,)),
        (pooled(2, (3, 6, 6), 3), (3,)),
        (pooled(2, (2, 3, 5, 7), 2), (2,), {}, {"output_size": (5, 7)}),
        (pooled(2, (2, 3, 5, 7), 2), (2,), {}, {"output_size": [2, 3, 5, 7]}),
        (pooled(2, (2, 3, 7, 6), 3, 2, 1), (3, 2, 1), {}, {"output_size": (7, 6)}),
        (pooled(2, (2, 3, 5, 5), (3, 2), (1, 2)), ((3, 2),), {"stride": (1, 2)}, {"output_size": (5, 5)}),
        (pooled(2, (2, 2, 6, 6), 4, 2, 1), (4,), {"stride": (2, 2), "padding": (1, 1)}),
        (given(np.full((1, 1, 2, 2), 1.5), [[[[3, 3], [3, 0]]]]), (2,)),
        (then(normal((0, 3, 2, 2)), np.zeros((0, 3, 2, 2), np.int64)), (2,)),
        (then(normal((1, 1, 1, 1)), [[[[0]]]]), (1,)),
        (then(constant(1, 2, 2, 2), np.zeros((1, 2, 2, 2), np.int64)), (2, 2, 2)),
    ),
    *layers(
        "MaxUnpool3d",
        (pooled(3, (2, 2, 4, 4, 4), 2), (2,)),
        (pooled(3, (2, 4, 4, 4), 2), (2,)),
        (pooled(3, (1, 2, 5, 4, 5), 2), (2,), {}, {"output_size": (5, 4, 5)}),
        (pooled(3, (1, 2, 5, 4, 5), 2), (2,), {}, {"output_size": [1, 2, 5, 4, 5]}),
        (pooled(3, (1, 1, 5, 5, 4), 3, 2, 1), (3, 2, 1), {}, {"output_size": (5, 5, 4)}),
        (pooled(3, (1, 2, 4, 4, 4), (1, 2, 3), 1), ((1, 2, 3),), {"stride": (1, 1, 1)}),
        (pooled(3, (1, 1, 6, 6, 6), 4, 2, 1), (4,), {"stride": 2, "padding": (1, 1, 1)}),
        (given(np.full((1, 1, 1, 2, 2), 1.5), [[[[[7, 7], [7, 0]]]]]), (2,)),
        (then(normal((0, 1, 2, 2, 2)), np.zeros((0, 1, 2, 2, 2), np.int64)), (2,)),
        (then(normal((1, 1, 1, 1, 1)), [[[[[0]]]]]), (1,)),
    ),
]

# Several zeros in a row make windows of norm 0.
ZEROS = [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 3.0]
SPECIAL_ZEROS = {
    1: given(np.array(ZEROS).reshape(1, 1, 8)),
    2: given(np.array([ZEROS, ZEROS[::-1]]).reshape(1, 2, 2, 4)),
    3: given(np.array([*ZEROS, *np.zeros(8)]).reshape(1, 2, 2, 2, 2)),
}


def positive(*shape: int) -> Maker:
    return lambda rng: (rng.uniform(0.1, 2, shape),)


LP = [
    *layers(
        "LPPool1d",
        (LINE, (2, 3)),
        (normal((3, 11)), (2, 3, 1)),
        (positive(2, 3, 11), (1.5, 3), {"stride": 2, "ceil_mode": True}),
        (positive(2, 3, 11), (3, 2, (1,))),
        (LINE, (1, 3, (), True)),
        (LINE, (INF, 3)),
        (ties(2, 3, 12), (INF, (3,), 2)),
        (ties(2, 3, 12), (-INF, 3, 2, True)),
        (positive(2, 3, 11), (-1, 2)),
        (positive(2, 3, 11), (0.5, 2)),
        (SPECIAL_ZEROS[1], (2, 2)),
        (SPECIAL_ZEROS[1], (1, 2, 1)),
        (SPECIAL_ZEROS[1], (1.5, 2, 1)),
        (SPECIAL_ZEROS[1], (INF, 2, 1)),
        (constant(2, 3, 11), (3, 2)),  # some norms are NaN
        (given(Constant(np.array([[1, NAN, 2, INF, 3, -INF, 4, 5]]))), (2.0, 2)),
        (normal((0, 3, 11)), (), {"norm_type": 2, "kernel_size": 2}),
    ),
    *layers(
        "LPPool2d",
        (IMAGE, (2, 3)),
        (normal((3, 7, 9)), (2, (3, 2))),
        (positive(2, 3, 7, 9), (1.5, (3, 2)), {"stride": (2, 1), "ceil_mode": True}),
        (positive(2, 3, 7, 9), (3, 2, (1,))),
        (IMAGE, (1, 3, (), True)),
        (IMAGE, (INF, (3, 2))),
        (ties(2, 3, 7, 9), (-INF, 3, 2, True)),
        (positive(2, 3, 4, 4), (-1, 2)),
        (positive(2, 3, 4, 4), (0.5, 2)),
        (SPECIAL_ZEROS[2], (2, 2)),
        (SPECIAL_ZEROS[2], (1, 2, 1)),
        (SPECIAL_ZEROS[2], (1.5, 2, 1)),
        (SPECIAL_ZEROS[2], (INF, 2, 1)),
        (normal((0, 3, 4, 4)), (), {"norm_type": 2, "kernel_size": 2}),
    ),
    *layers(
        "LPPool3d",
        (VOLUME, (2, 3)),
        (normal((2, 4, 5, 6)), (2, (3, 2, 1))),
        (positive(2, 2, 4, 5, 6), (1.5, (3, 2, 1)), {"stride": (2, 1, 3), "ceil_mode": True}),
        (positive(1, 2, 4, 5, 6), (3, 2, (1,))),
        (VOLUME, (1, 3, (), True)),
        (VOLUME, (INF, (3, 2, 1))),
        (ties(1, 2, 4, 5, 6), (-INF, 3, 2, True)),
        (positive(1, 2, 4, 4, 4), (-1, 2)),
        (SPECIAL_ZEROS[3], (2, 2)),
        (SPECIAL_ZEROS[3], (1, 2, 1)),
        (SPECIAL_ZEROS[3], (1.5, (1, 2, 2), 1)),
        (SPECIAL_ZEROS[3], (INF, 2, 1)),
        (normal((0, 2, 2, 2, 2)), (), {"norm_type": 2, "kernel_size": 2}),
    ),
]

LAYERS: list[Layer] = [*MAX, *AVG, *ADAPTIVE, *FRACTIONAL, *UNPOOL, *LP]

CUBE = normal((1, 2, 4, 4, 4))
FUNCTIONS: list[Function] = [
    *functions(
        "max_pool1d_with_indices",
        (ties(2, 3, 8), {"kernel_size": 2}),
        (then(ties(2, 3, 8), 3, 1, 1, 1, True), {"return_indices": False}),
    ),
    *functions(
        "max_pool2d_with_indices",
        (ties(2, 3, 4, 5), {"kernel_size": 2}),
        (then(ties(2, 3, 4, 5), 3, 1, 1, 1, True), {"return_indices": False}),
    ),
    *functions(
        "max_pool3d_with_indices",
        (ties(1, 2, 4, 4, 4), {"kernel_size": 2}),
        (then(ties(1, 2, 4, 4, 4), 3, 1, 1, 1, True), {"return_indices": False}),
    ),
    # In these functions ceil_mode comes before return_indices.
    *functions("max_pool1d", (then(ties(2, 3, 8), 3, 2, 0, 1, True, True),)),
    *functions("max_pool2d", (then(ties(2, 3, 4, 5), 3, 2, 0, 1, True, True),)),
    *functions("max_pool3d", (then(ties(1, 2, 4, 4, 4), 3, 2, 0, 1, True, True),)),
    *functions("adaptive_max_pool1d_with_indices", (then(ties(2, 3, 8), 3), {"return_indices": False})),
    *functions("adaptive_max_pool2d_with_indices", (then(ties(2, 3, 4, 5), (3, None)), {"return_indices": False})),
    *functions("adaptive_max_pool3d_with_indices", (then(ties(2, 4, 4, 4), (3, None, 1)), {"return_indices": False})),
    *functions("max_unpool1d", (pooled(1, (2, 3, 8), 2), {"kernel_size": 2, "output_size": (8,)})),
    *functions("max_unpool2d", (pooled(2, (2, 3, 4, 6), 2), {"kernel_size": 2, "output_size": (4, 6)})),
    *functions("max_unpool3d", (pooled(3, (1, 2, 4, 4, 4), 2), {"kernel_size": 2, "output_size": (4, 4, 4)})),
    *functions(
        "lp_pool1d",
        (then(normal((2, 3, 8)), 2, 3), {"stride": 1, "ceil_mode": True}),
        (then(positive(2, 3, 8), np.float64(2.5)), {"kernel_size": 2}),
    ),
    *functions("lp_pool2d", (then(positive(2, 3, 4, 4), np.float64(2.5)), {"kernel_size": 2})),
    *functions("lp_pool3d", (then(positive(1, 2, 4, 4, 4), np.float64(2.5)), {"kernel_size": 2})),
]


def _sizes(n: int, largest: int) -> st.SearchStrategy:
    return st.lists(st.integers(1, largest), min_size=n, max_size=n).map(tuple)


@st.composite
def _windows(draw: st.DrawFn, name: str, n: int, **options: st.SearchStrategy) -> Layer:
    """Draw a layer whose windows fit its input."""
    kernel, stride = draw(_sizes(n, 3)), draw(_sizes(n, 3))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    dilation = draw(_sizes(n, 2)) if name.startswith("Max") else (1,) * n
    size = tuple(d * (k - 1) + 1 + draw(st.integers(0, 3)) for d, k in zip(dilation, kernel, strict=True))
    kwargs = {option: draw(strategy) for option, strategy in options.items()}
    kwargs |= {"dilation": dilation} if name.startswith("Max") else {}
    batch = draw(st.sampled_from([(), (0,), (2,)]))
    return Layer(name, ties(*batch, 2, *size), (kernel, stride, padding), {"ceil_mode": draw(st.booleans()), **kwargs})


@st.composite
def _adaptive(draw: st.DrawFn, name: str, n: int) -> Layer:
    size, output = draw(_sizes(n, 7)), draw(_sizes(n, 7))
    kwargs = {"return_indices": draw(st.booleans())} if "Max" in name else {}
    return Layer(name, ties(2, *size), (output,), kwargs)


SWEEPS: list[Sweep] = [
    *(Sweep(f"MaxPool{n}d", _windows(f"MaxPool{n}d", n, return_indices=st.booleans())) for n in (1, 2, 3)),
    *(Sweep(f"AvgPool{n}d", _windows(f"AvgPool{n}d", n, count_include_pad=st.booleans())) for n in (1, 2, 3)),
    *(Sweep(name, _adaptive(name, n)) for n in (1, 2, 3) for name in (f"AdaptiveAvgPool{n}d", f"AdaptiveMaxPool{n}d")),
]
