"""The faster forms against the plain ones, alone and in networks, and what decides between them."""

import functools
import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import NETWORKS
from conftest import PRODUCTION

import flaxnets
from flaxnets import kernels
from flaxnets.kernels import choice, onednn, probe
from flaxnets.kernels.convolution import convolution
from flaxnets.nn import functional as F
from flaxnets.parity import assert_parity
from flaxnets.training import Batch, TrainState, classification, make_train_step

# Gates of the design: outputs relative to their maximum, gradients to the norm of all gradients.
GATES = {jnp.float64: (1e-12, 1e-10), jnp.float32: (1e-5, 1e-4)}

KINDS = [
    pytest.param("xla", jnp.float64, id="xla-float64"),
    pytest.param("xla", jnp.float32, id="xla-float32"),
    pytest.param("onednn", jnp.float32, id="onednn-float32"),
    pytest.param("onednn", jnp.float64, id="onednn-float64"),
]

CONV = {
    "3x3": ((2, 16, 9, 8), (5, 16, 3, 3), {"padding": 1}),
    "strided": ((2, 3, 9, 10), (4, 3, 3, 3), {"stride": 2, "padding": 1}),
    "strided, kernel not reaching the end": ((2, 16, 12, 11), (4, 16, 3, 2), {"stride": (3, 2)}),
    "1x1": ((2, 5, 6, 7), (4, 5, 1, 1), {}),
    "1x1 strided": ((2, 16, 7, 6), (4, 16, 1, 1), {"stride": 2}),
    "1x1 padded": ((2, 5, 4, 4), (4, 5, 1, 1), {"padding": 1}),
    "one channel": ((2, 1, 12, 11), (6, 1, 5, 5), {"padding": 2}),
    "one channel strided": ((2, 1, 13, 12), (6, 1, 4, 5), {"stride": (3, 2)}),
    "one channel, wide": ((2, 1, 16, 16), (20, 1, 7, 7), {"stride": 2, "padding": 3}),
    "dilated": ((2, 16, 11, 11), (4, 16, 3, 3), {"dilation": 2, "padding": 2}),
    "dilated and strided": ((2, 3, 12, 11), (4, 3, 3, 2), {"dilation": (2, 3), "stride": (2, 1), "padding": 1}),
    "more padding than kernel": ((2, 16, 4, 4), (4, 16, 2, 2), {"padding": 3}),
    "same": ((2, 3, 6, 6), (4, 3, 4, 3), {"padding": "same"}),
    "whole image": ((2, 16, 5, 5), (8, 16, 5, 5), {}),
    "weights larger than images": ((1, 64, 2, 2), (64, 64, 3, 3), {"padding": 1}),
    "unbatched": ((3, 6, 6), (4, 3, 3, 3), {}),
    "groups": ((2, 4, 6, 6), (4, 2, 3, 3), {"groups": 2}),
}

MAX_POOL = {
    "2x2": ((2, 3, 8, 6), {"kernel_size": 2}),
    "2x2 of odd sizes": ((2, 3, 7, 5), {"kernel_size": 2}),
    "overlapping": ((2, 3, 9, 8), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "stride 1": ((2, 3, 6, 6), {"kernel_size": 3, "stride": 1, "padding": 1}),
    "gaps": ((2, 3, 9, 9), {"kernel_size": 2, "stride": 3}),
    "uneven": ((2, 3, 9, 8), {"kernel_size": (4, 3), "stride": (1, 2), "padding": (2, 0)}),
    "ceil": ((2, 3, 8, 7), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    "ceil padded": ((2, 3, 8, 7), {"kernel_size": 3, "stride": 3, "padding": 1, "ceil_mode": True}),
    "dilated": ((2, 3, 9, 9), {"kernel_size": 2, "dilation": 2}),
    "unbatched": ((3, 6, 6), {"kernel_size": 2}),
}

AVG_POOL = {
    "2x2": ((2, 3, 8, 6), {"kernel_size": 2}),
    "2x3 of odd sizes": ((2, 3, 7, 8), {"kernel_size": (2, 3)}),
    "ceil": ((2, 3, 7, 7), {"kernel_size": 2, "ceil_mode": True}),
    "divisor": ((2, 3, 6, 6), {"kernel_size": 3, "divisor_override": 5}),
    "overlapping": ((2, 3, 7, 7), {"kernel_size": 3, "stride": 2, "padding": 1}),
}


def conv(options: dict[str, Any], x: Any, weight: Any, bias: Any) -> Any:
    return F.conv2d(x, weight, bias, **options)


def norm(x: Any, weight: Any, bias: Any) -> Any:
    return F.batch_norm(x, None, None, weight, bias, training=True)


FUNCTIONS = {
    **{f"conv, {name}": (functools.partial(conv, o), (x, w, w[:1])) for name, (x, w, o) in CONV.items()},
    **{f"max_pool, {name}": (functools.partial(F.max_pool2d, **o), (x,)) for name, (x, o) in MAX_POOL.items()},
    **{f"avg_pool, {name}": (functools.partial(F.avg_pool2d, **o), (x,)) for name, (x, o) in AVG_POOL.items()},
    "batch_norm": (norm, ((3, 4, 5, 6), (4,), (4,))),
    "batch_norm of vectors": (norm, ((5, 4), (4,), (4,))),
    "linear": (F.linear, ((3, 7), (5, 7), (5,))),
    "linear of more axes": (F.linear, ((3, 2, 7), (5, 7))),
    "linear of one output": (F.linear, ((3, 7), (7,))),
}


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def draw(rng: np.random.Generator, shapes: Any, dtype: Any) -> list[jax.Array]:
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def results(kind: kernels.Kind, function: Any, arrays: list[jax.Array], cotangent: Any = None) -> tuple[Any, Any]:
    """Output and gradients of a random cotangent, traced within ``use(kind)``."""

    def both(arrays: list[jax.Array], cotangent: Any) -> Any:
        with kernels.use(kind):
            y, back = jax.vjp(function, *arrays)
        return y, back(cotangent)

    return jax.jit(both)(arrays, cotangent)


def assert_close(got: tuple[Any, Any], expected: tuple[Any, Any], gates: tuple[float, float]) -> None:
    output, gradient = gates
    assert np.abs(got[0] - expected[0]).max() <= output * np.abs(expected[0]).max()
    scale = np.sqrt(sum(np.square(g).sum() for g in expected[1]))
    assert max(np.abs(a - b).max() for a, b in zip(got[1], expected[1], strict=True)) <= gradient * scale


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_form_gives_the_plain_ones_numbers(name, kind, dtype, rng):
    function, shapes = FUNCTIONS[name]
    arrays = draw(rng, shapes, dtype)
    (cotangent,) = draw(rng, [jax.eval_shape(function, *arrays).shape], dtype)
    expected = results("plain", function, arrays, cotangent)
    got = results(kind, function, arrays, cotangent)
    assert got[0].dtype == dtype
    assert_close(got, expected, GATES[dtype])
