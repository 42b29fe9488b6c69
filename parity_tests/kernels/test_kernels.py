"""Tests of the faster implementations against the plain ones, alone and in networks, and of the choice between them."""

import functools
import json
import os
import re
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import NETWORKS
from jax.experimental import rnn

import flaxnets
from flaxnets import kernels
from flaxnets.kernels import onednn, probe
from flaxnets.kernels._primitives import in_order, materialized
from flaxnets.kernels.reductions import over_last_axis, row_totals, spread, total
from flaxnets.kernels.shuffling import exchange_rows, interleave
from flaxnets.nn import functional as F
from flaxnets.nn.functional.recurrent import scan_layers
from flaxnets.nn.functional.recurrent_steps import RECURRENCES, LayerWeights
from flaxnets.parity import assert_parity
from flaxnets.training import TASKS, Batch, Engine, StepOptions, TrainState, classification, make_train_step
from flaxnets.training.layout._interpreter import evaluate
from flaxnets.training.layout._values import Value
from flaxnets.training.step import jit_options

# The accepted errors: of outputs relative to their maximum, of gradients relative to the norm of all gradients.
GATES = {jnp.float64: (1e-12, 1e-10), jnp.float32: (1e-5, 1e-4)}

KINDS = [
    pytest.param("xla", jnp.float64, id="xla-float64"),
    pytest.param("xla", jnp.float32, id="xla-float32"),
    pytest.param("onednn", jnp.float32, id="onednn-float32"),
]

CONV = {
    "3x3": ((2, 16, 9, 8), (5, 16, 3, 3), {"padding": 1}),
    "more channels out": ((2, 8, 9, 8), (16, 8, 3, 3), {"padding": 1}),
    "strided": ((2, 3, 9, 10), (4, 3, 3, 3), {"stride": 2, "padding": 1}),
    "strided, kernel not reaching the end": ((2, 16, 12, 11), (4, 16, 3, 2), {"stride": (3, 2)}),
    "1x1": ((2, 5, 6, 7), (4, 5, 1, 1), {}),
    "1x1, more channels out": ((2, 5, 6, 7), (8, 5, 1, 1), {}),
    "1x1 strided": ((2, 16, 7, 6), (4, 16, 1, 1), {"stride": 2}),
    "1x1 padded": ((2, 5, 4, 4), (4, 5, 1, 1), {"padding": 1}),
    "one channel": ((2, 1, 12, 11), (6, 1, 5, 5), {"padding": 2}),
    "one channel strided": ((2, 1, 13, 12), (6, 1, 4, 5), {"stride": (3, 2)}),
    "one channel, large window": ((2, 1, 12, 11), (6, 1, 9, 8), {"padding": 2}),
    "one channel, wide": ((2, 1, 16, 16), (20, 1, 7, 7), {"stride": 2, "padding": 3}),
    "six channels in": ((2, 6, 9, 7), (16, 6, 5, 4), {"padding": (1, 2)}),
    "three channels in, dilated": ((2, 3, 9, 7), (16, 3, 3, 3), {"dilation": 2}),
    "dilated": ((2, 16, 11, 11), (4, 16, 3, 3), {"dilation": 2, "padding": 2}),
    "dilated and strided": ((2, 3, 12, 11), (4, 3, 3, 2), {"dilation": (2, 3), "stride": (2, 1), "padding": 1}),
    "more padding than kernel": ((2, 16, 4, 4), (4, 16, 2, 2), {"padding": 3}),
    "same": ((2, 3, 6, 6), (4, 3, 4, 3), {"padding": "same"}),
    "whole image": ((2, 16, 5, 5), (8, 16, 5, 5), {}),
    "many weights": ((1, 1024, 2, 3), (128, 1024, 3, 3), {"padding": 1}),
    "many weights, strided": ((1, 256, 7, 6), (512, 256, 3, 3), {"stride": (2, 3), "padding": (2, 0)}),
    "many weights, dilated": ((1, 512, 5, 4), (256, 512, 3, 3), {"dilation": (2, 1)}),
    "many weights, padded far": ((1, 1024, 1, 2), (256, 1024, 2, 2), {"padding": 2}),
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


RECURRENT = {
    "tanh": ("RNN_TANH", {"layers": 2, "directions": 2}),
    "tanh without bias": ("RNN_TANH", {"bias": False}),
    "relu": ("RNN_RELU", {"directions": 2}),
    "gru": ("GRU", {"layers": 2, "directions": 2}),
    "gru without bias": ("GRU", {"bias": False}),
    "gru, halves": ("GRU", {"directions": 2, "batch": 34}),
    "lstm": ("LSTM", {"layers": 2, "directions": 2}),
    "lstm without bias": ("LSTM", {"bias": False}),
    "lstm, one sequence": ("LSTM", {"directions": 2, "batch": 1}),
    "lstm, wide": ("LSTM", {"hidden": 136}),
    "lstm, halves": ("LSTM", {"directions": 2, "batch": 34}),
    "lstm with projections": ("LSTM", {"directions": 2, "projection": 2}),
}


def attend(options: dict[str, Any], *arrays: Any) -> Any:
    return F.scaled_dot_product_attention(*arrays, **options)


KEPT = np.random.default_rng(0).random((2, 3, 70, 90)) > 0.3
ATTENTION: dict[str, tuple[list[tuple[int, ...]], dict[str, Any]]] = {
    "all": ([(2, 3, 70, 16), (2, 3, 90, 16), (2, 3, 90, 24)], {}),
    "causal": ([(1, 2, 131, 8)] * 3, {"is_causal": True}),
    "causal, blocks": ([(1, 2, 300, 8), (1, 2, 290, 8), (1, 2, 290, 8)], {"is_causal": True}),
    "dropped, masked": (
        [(2, 3, 70, 16), (2, 3, 90, 16), (2, 3, 90, 24)],
        {"dropout_p": 0.3, "dropout_mask": KEPT, "attn_mask": KEPT[:1, :1] & (np.arange(70) != 5)[:, None]},
    ),
    "causal, blocks, dropped": (
        [(1, 1, 257, 8)] * 3,
        {"is_causal": True, "dropout_p": 0.5, "dropout_mask": np.random.default_rng(0).random((257, 257)) > 0.5},
    ),
    "no keys": ([(2, 3, 4), (2, 0, 4), (2, 0, 4)], {}),
}


def recurrent(mode: str, layers: int, directions: int, names: list[str], x: Any, *arrays: Any) -> Any:
    """Return outputs and last states as one vector. The first arrays are the initial states."""
    recurrence, count = RECURRENCES[mode], layers * directions
    hx, rest = arrays[: len(recurrence.states)], iter(arrays[len(recurrence.states) :])
    weights = [LayerWeights(**{name: next(rest) for name in names}) for _ in range(count)]
    by_layer = [weights[i : i + directions] for i in range(0, count, directions)]
    sizes = {name: state.shape[-1] for name, state in zip(recurrence.states, hx, strict=True)}
    output, last = scan_layers("RNN", recurrence, x, hx, by_layer, sizes)
    return jnp.concatenate([output.ravel(), *(state.ravel() for state in last)])


def recurrent_case(
    mode: str,
    layers: int = 1,
    directions: int = 1,
    bias: bool = True,
    projection: int = 0,
    batch: int = 3,
    hidden: int = 6,
) -> Any:
    steps, size = 5, 4
    recurrence, out = RECURRENCES[mode], projection or hidden
    gates, widths = recurrence.gates * hidden, [size] + [out * directions] * (layers - 1)
    states = [(layers * directions, batch, width) for width, _ in zip((out, hidden), recurrence.states, strict=False)]
    shapes = []
    for width in widths:
        own = {"weight_ih": (gates, width), "weight_hh": (gates, out)}
        own |= {"bias_ih": (gates,), "bias_hh": (gates,)} if bias else {}
        own |= {"weight_hr": (projection, hidden)} if projection else {}
        shapes += list(own.values()) * directions
    return functools.partial(recurrent, mode, layers, directions, list(own)), ((steps, batch, size), *states, *shapes)


# Functions of rows that consist of several blocks and a remainder, and the shapes of their arguments.
ROWS = {
    "softmax": (functools.partial(F.softmax, dim=-1), ((3, 2, 275),)),
    "softmax of short rows": (functools.partial(F.softmax, dim=1), ((3, 5),)),
    "log_softmax": (functools.partial(F.log_softmax, dim=-1), ((3, 275),)),
    "cross_entropy": (lambda x: F.cross_entropy(x, jnp.arange(4), label_smoothing=0.1), ((4, 275),)),
    "mse_loss": (F.mse_loss, ((5, 275), (5, 275))),
    "l1_loss of images": (F.l1_loss, ((2, 3, 4, 70), (2, 3, 4, 70))),
    "smooth_l1_loss, a sum": (functools.partial(F.smooth_l1_loss, reduction="sum"), ((300,), (300,))),
}

FUNCTIONS = {
    **ROWS,
    **{f"conv, {name}": (functools.partial(conv, o), (x, w, w[:1])) for name, (x, w, o) in CONV.items()},
    **{f"max_pool, {name}": (functools.partial(F.max_pool2d, **o), (x,)) for name, (x, o) in MAX_POOL.items()},
    **{f"avg_pool, {name}": (functools.partial(F.avg_pool2d, **o), (x,)) for name, (x, o) in AVG_POOL.items()},
    **{f"attention, {name}": (functools.partial(attend, o), shapes) for name, (shapes, o) in ATTENTION.items()},
    "linear, large": (F.linear, ((3, 2048), (2048, 2048), (2048,))),
    "linear, small": (F.linear, ((3, 8), (4, 8), (4,))),
    "linear, many rows": (F.linear, ((4, 64, 256), (128, 256), (128,))),
    "linear, one row": (F.linear, ((1, 1, 2050), (2049, 2050))),
    "linear, unbatched": (F.linear, ((2049,), (2050, 2049))),
    "sigmoid": (F.sigmoid, ((2, 6, 5, 4),)),
    "sigmoid of many channels": (F.sigmoid, ((2, 40, 3, 2),)),
    "sigmoid of vectors": (F.sigmoid, ((5, 4),)),
    "batch_norm": (norm, ((3, 4, 5, 6), (4,), (4,))),
    "batch_norm of many pixels": (norm, ((3, 4, 9, 10), (4,), (4,))),
    "batch_norm of vectors": (norm, ((5, 4), (4,), (4,))),
    "channel_shuffle": (functools.partial(F.channel_shuffle, groups=3), ((2, 6, 3, 5),)),
    "channel_shuffle of sequences": (functools.partial(F.channel_shuffle, groups=2), ((2, 6, 5),)),
    **{f"recurrent, {name}": recurrent_case(mode, **options) for name, (mode, options) in RECURRENT.items()},
}


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def draw(rng: np.random.Generator, shapes: Any, dtype: Any) -> list[jax.Array]:
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def results(kind: kernels.Backend, function: Any, arrays: list[jax.Array], cotangent: Any = None) -> tuple[Any, Any]:
    """Return the output and the gradients for a random cotangent, traced within ``use(kind)``."""

    def both(arrays: list[jax.Array], cotangent: Any) -> Any:
        with kernels.use(kind):
            y, back = jax.vjp(function, *arrays)
        return y, back(cotangent)

    return jax.jit(both)(arrays, cotangent)


def assert_close(got: tuple[Any, Any], expected: tuple[Any, Any], gates: tuple[float, float]) -> None:
    output, gradient = gates
    assert np.abs(got[0] - expected[0]).max() <= output * np.abs(expected[0]).max()
    scale = np.sqrt(sum(np.square(g).sum() for g in expected[1]))
    assert max(np.abs(a - b).max(initial=0) for a, b in zip(got[1], expected[1], strict=True)) <= gradient * scale


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


@pytest.mark.parametrize("kind", ["xla", "onednn"])
def test_max_pool_takes_ties_infinities_and_nan_as_the_plain_form(kind, rng):
    x = rng.integers(-1, 2, (2, 3, 9, 8)).astype(np.float32)
    x[0, 0] = -np.inf
    x[1, 1, 3:6, 2:4] = np.nan
    pool = functools.partial(F.max_pool2d, kernel_size=3, stride=2, padding=1)
    cotangent = jnp.asarray(rng.normal(size=(2, 3, 5, 4)), jnp.float32)
    expected, got = (results(name, pool, [jnp.asarray(x)], cotangent) for name in ("plain", kind))
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_allclose(got[1][0], expected[1][0], rtol=1e-5)


def block(x: Any, weight: Any, bias: Any, matrix: Any) -> Any:
    """Compute a convolution, a norm, a pool and a product, from ``(n, 16, 6, 6)`` to ``(n, 16, 6, 6)``."""
    x = F.batch_norm(F.conv2d(F.sigmoid(x), weight, bias, padding=1), None, None, bias, bias, training=True)
    return F.linear(F.max_pool2d(F.relu(x), 3, stride=1, padding=1), matrix)


BLOCK = ((2, 16, 6, 6), (16, 16, 3, 3), (16,), (6, 6))


def scanned(x: Any, *weights: Any) -> Any:
    return jax.lax.scan(lambda x, _: (block(x, *weights), None), x, None, length=3)[0]


def mapped(x: Any, *weights: Any) -> Any:
    return jax.vmap(block, in_axes=(0, None, None, None))(jnp.stack([x, 2 * x]), *weights)


def mapped_weights(x: Any, *weights: Any) -> Any:
    return jax.vmap(block, in_axes=(None, 0, 0, 0))(x, *(jnp.stack([w, -w]) for w in weights))


def forward_mode(x: Any, *weights: Any) -> Any:
    return jax.jvp(lambda x: block(x, *weights), (x,), (jnp.cos(x),))[1]


def second_derivative(x: Any, *weights: Any) -> Any:
    return jax.grad(lambda x: jnp.square(block(x, *weights)).sum())(x)


def rematerialised(x: Any, *weights: Any) -> Any:
    return jax.checkpoint(block)(x, *weights)


TRANSFORMED = [scanned, mapped, mapped_weights, forward_mode, second_derivative, rematerialised]


@pytest.mark.parametrize(("kind", "dtype"), [("xla", jnp.float64), ("onednn", jnp.float32), ("onednn", jnp.float64)])
@pytest.mark.parametrize("function", TRANSFORMED, ids=lambda function: function.__name__)
def test_forms_under_transformations_give_the_plain_ones_numbers(function, kind, dtype, rng):
    arrays = draw(rng, BLOCK, dtype)
    (cotangent,) = draw(rng, [jax.eval_shape(function, *arrays).shape], dtype)
    expected, got = (results(name, function, arrays, cotangent) for name in ("plain", kind))
    # In float32, the gradient of a bias before a norm consists of rounding errors, which three norms amplify.
    assert_close(got, expected, (1e-11, 1e-10) if dtype == jnp.float64 else (1e-4, 1e-3))


def squared_gradient(function: Any, x: Any, *rest: Any) -> Any:
    return jnp.square(jax.grad(lambda x: jnp.square(function(x, *rest)).sum())(x))


def mapped_over(function: Any, x: Any, *rest: Any) -> Any:
    return jax.vmap(lambda x: function(x, *rest))(jnp.stack([x, 2 * x]))


OPAQUE = [
    *((name, "xla", jnp.float64) for name in (*ROWS, "channel_shuffle", "channel_shuffle of sequences")),
    *((name, "xla", jnp.float64) for name in FUNCTIONS if name.startswith("recurrent")),
    ("linear, large", "onednn", jnp.float32),
    ("attention, all", "onednn", jnp.float32),
    ("recurrent, lstm, wide", "onednn", jnp.float32),
]


@pytest.mark.parametrize("transformed", [squared_gradient, mapped_over], ids=lambda function: function.__name__)
@pytest.mark.parametrize(("name", "kind", "dtype"), OPAQUE)
def test_opaque_forms_under_transformations_give_the_plain_ones_numbers(name, kind, dtype, transformed, rng):
    function, shapes = FUNCTIONS[name]
    function, arrays = functools.partial(transformed, function), draw(rng, shapes, dtype)
    (cotangent,) = draw(rng, [jax.eval_shape(function, *arrays).shape], dtype)
    expected, got = (results(name, function, arrays, cotangent) for name in ("plain", kind))
    assert_close(got, expected, (1e-11, 1e-10) if dtype == jnp.float64 else (1e-4, 1e-3))


def test_a_large_product_is_onednns_and_has_a_forward_mode(rng):
    arrays = draw(rng, [(3, 2048), (2048, 2048)], jnp.float32)

    def tangent(x: Any, weight: Any) -> Any:
        return jax.jvp(F.linear, (x, weight), (weight[:3], jnp.cos(weight)))[1]

    def chosen(*arrays: Any) -> Any:
        with kernels.use("onednn"):
            return tangent(*arrays)

    assert jax.jit(chosen).lower(*arrays).as_text().count("@__onednn$matmul") == 2
    expected = tangent(*arrays)
    np.testing.assert_allclose(jax.jit(chosen)(*arrays), expected, atol=1e-5 * np.abs(expected).max())


def test_of_a_small_product_the_weights_gradient_alone_is_onednns(rng):
    def gradients(x: Any, weight: Any) -> Any:
        with kernels.use("onednn"):
            return jax.grad(lambda *arrays: jnp.square(F.linear(*arrays)).sum(), (0, 1))(x, weight)

    arrays = draw(rng, [(64, 256), (128, 256)], jnp.float32)
    assert jax.jit(gradients).lower(*arrays).as_text().count("@__onednn$matmul") == 1


def test_attention_multiplies_transposed_scores_by_onednn_and_bfloat16_all_of_it(rng):
    def gradients(*arrays: Any) -> Any:
        with kernels.use("onednn"):
            return jax.grad(lambda *arrays: F.scaled_dot_product_attention(*arrays).sum(), (0, 1, 2))(*arrays)

    arrays = draw(rng, [(2, 8, 128, 16)] * 3, jnp.float32)
    for dtype, calls in ((jnp.float32, 2), (jnp.bfloat16, 6)):
        if dtype == jnp.float32 or onednn.has_bfloat16():
            text = jax.jit(gradients).lower(*(x.astype(dtype) for x in arrays)).as_text()
            assert text.count("@__onednn$matmul") == calls


@pytest.mark.parametrize("size", [1, 31, 64, 70, 512, 1000])
def test_a_reduction_of_rows_in_parts_is_the_reduction(size, rng):
    (x,) = draw(rng, [(2, size)], jnp.float64)
    np.testing.assert_allclose(over_last_axis(x, jnp.sum, jnp.add), x.sum(-1, keepdims=True), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(over_last_axis(x, jnp.max, jnp.maximum), x.max(-1, keepdims=True))


def sums_of_one(passed: Any, x: Any, w: Any) -> Any:
    y = passed(x * w)
    return y[:4].sum() + jnp.square(y[2:]).sum()


def derivatives(function: Any, *arrays: Any) -> Any:
    """Return forward-mode and second derivatives with respect to the first array, and mapped values."""
    values = jax.jvp(function, arrays, arrays)
    second = jax.grad(lambda x: jnp.square(jax.grad(function)(x, *arrays[1:])).sum())(arrays[0])
    return values, second, jax.vmap(function)(*(jnp.stack([a, -a]) for a in arrays))


def assert_same_derivatives(functions: Any, arrays: Any, rtol: float) -> None:
    both = [jax.tree.leaves(jax.jit(functools.partial(derivatives, function))(*arrays)) for function in functions]
    for got, expected in zip(*both, strict=True):
        np.testing.assert_allclose(got, expected, rtol=rtol)


def test_what_is_materialized_is_computed_once_and_has_the_same_numbers_and_derivatives(rng):
    arrays = draw(rng, [(16, 32), (16, 32)], jnp.float64)
    barred, plain = (functools.partial(sums_of_one, passed) for passed in (materialized, lambda y: y))
    assert_same_derivatives((barred, plain), arrays, rtol=1e-13)
    text = jax.jit(barred).lower(*arrays).compile().as_text()
    assert " call(" in text
    assert text.count(" multiply(") == 2  # the product, and the squares


def spread_pixels(vector: Any, like: Any) -> Any:
    return jnp.broadcast_to(vector, like.shape)


# Primitives with custom derivatives, the same functions without them, and the shapes of their operands.
PRIMITIVES = {
    "sums of pixels": (total, lambda x: x.sum((0, 1, 2)), [(2, 4, 5, 3)]),
    "sums of many pixels": (total, lambda x: x.sum((0, 1, 2)), [(3, 9, 10, 3)]),
    "vectors for pixels": (spread, spread_pixels, [(3,), (2, 4, 5, 3)]),
    "vectors for many pixels": (spread, spread_pixels, [(3,), (3, 9, 10, 3)]),
    "sums of rows": (row_totals, lambda x: x.sum(-1, keepdims=True), [(2, 3, 70)]),
    "sums of long rows": (row_totals, lambda x: x.sum(-1, keepdims=True), [(2, 275)]),
    "exchanged rows": (exchange_rows, lambda x: x.swapaxes(-3, -2), [(2, 3, 4, 5)]),
    "exchanged rows of many groups": (exchange_rows, lambda x: x.swapaxes(-3, -2), [(33, 34, 2)]),
    "interleaved channels": (
        lambda x: interleave(x, 3), lambda x: x.reshape(2, 5, 3, 4).swapaxes(2, 3).reshape(x.shape), [(2, 5, 12)]
    ),
    "order": (in_order, lambda x: x, [(2, 3)]),
}  # fmt: skip


@pytest.mark.parametrize("name", PRIMITIVES)
def test_a_primitive_has_the_numbers_and_derivatives_of_what_it_computes(name, rng):
    *functions, shapes = PRIMITIVES[name]

    def scaled(function: Any, x: Any, *rest: Any) -> Any:
        y = function(jnp.square(x), *rest)
        weight = jnp.cos(jnp.arange(float(y.size))).reshape(y.shape)
        return (weight * jnp.sin(y) * (rest[0] if rest else 1)).sum()

    # The terms of the second derivatives cancel, so the tolerance is larger.
    assert_same_derivatives([functools.partial(scaled, f) for f in functions], draw(rng, shapes, jnp.float64), 1e-9)


def test_a_norm_of_images_asks_for_image_and_gradient_channels_last(rng):
    x, weight, cotangent = draw(rng, [(2, 4, 3, 5), (4,), (2, 4, 3, 5)], jnp.float32)

    def gradient(x: Any, cotangent: Any) -> Any:
        with kernels.use("xla"):
            return jax.vjp(lambda x: norm(x, weight, weight), x)[1](cotangent)

    closed = jax.make_jaxpr(gradient)(x, cotangent)
    found = []

    def run(*arrays: Any) -> None:
        values = [Value(array) for array in arrays]
        outputs = evaluate(closed.jaxpr, closed.consts, values)
        found.extend([*(value.requested for value in values), *(value.order for value in outputs)])

    jax.eval_shape(run, x, cotangent)
    assert found == [(0, 3, 1, 2)] * 3


@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "has_xlas"),
    [
        ((2, 3, 9, 8), 3, 1, False),
        ((2, 3, 9, 8), 3, 2, True),
        ((2, 3, 8, 8), 2, 2, True),
        ((1, 2, 12, 12), 9, 1, True),
        ((2, 2, 5, 5, 5), 3, 1, True),
    ],
)
def test_the_default_maxima_of_short_windows_at_each_pixel_are_those_of_the_gradient(
    shape, kernel, stride, has_xlas, rng
):
    (x,) = draw(rng, [shape], jnp.float32)
    pool = F.max_pool2d if len(shape) == 4 else F.max_pool3d
    text = jax.jit(lambda x: pool(x, kernel, stride, 1)).lower(x).as_text()
    assert ("stablehlo.pad" in text) == has_xlas


def bias_gradient(x: Any) -> Any:
    return jax.grad(lambda bias: jnp.square(x + spread(bias, x)).sum())(jnp.zeros(x.shape[3], x.dtype))


@pytest.mark.parametrize("sums", [total, bias_gradient])
def test_xla_compiles_no_product_of_its_own_for_a_sum_over_pixels(sums, rng):
    (x,) = draw(rng, [(2, 4, 96, 64)], jnp.float32)
    text = jax.jit(sums, **jit_options()).lower(x).compile().as_text()
    # A library's product for two rows of sums: for one row, XLA would generate its own loops.
    assert "f32[2,64]" in text
    assert not re.search(r"f32\[1,64\]\S* dot\(", text)


def test_the_weights_gradient_of_a_stem_takes_a_slice_for_each_row_and_column(rng):
    def gradient(x: Any, weight: Any) -> Any:
        with kernels.use("onednn"):
            return jax.grad(lambda w: F.conv2d(x, w, stride=2, padding=3).sum())(weight)

    arrays = draw(rng, [(2, 1, 32, 32), (64, 1, 7, 7)], jnp.float32)
    assert jax.jit(gradient).lower(*arrays).as_text().count("stablehlo.slice") < 7 + 7 + 4


# For each mode and batch: the number of products with half the batch in the loops of a prediction, and of a gradient.
HALVES = [("GRU", 34, 2, 2), ("LSTM", 34, 0, 4), ("LSTM", 33, 0, 0), ("LSTM", 30, 0, 0), ("RNN_TANH", 34, 0, 0)]


@pytest.mark.parametrize(("mode", "batch", "in_prediction", "in_gradient"), HALVES)
def test_recurrent_layers_with_gates_take_halves_of_large_even_batches(mode, batch, in_prediction, in_gradient, rng):
    function, shapes = recurrent_case(mode, batch=batch)
    arrays = draw(rng, shapes, jnp.float32)

    def chosen(kind: kernels.Backend, *arrays: Any) -> Any:
        with kernels.use(kind):
            return function(*arrays)

    def count(kind: kernels.Backend, transformed: Any) -> int:
        text = jax.jit(transformed(functools.partial(chosen, kind))).lower(*arrays).as_text()
        return sum("dot_general" in line and f"tensor<{batch // 2}x" in line for line in text.splitlines())

    def gradient(f: Any) -> Any:
        return jax.grad(lambda *arrays: f(*arrays).sum())

    found = [count(kind, transformed) for kind in ("onednn", "xla") for transformed in (lambda f: f, gradient)]
    assert found == [in_prediction, in_gradient, 0, 0]


def test_recurrent_forms_say_that_they_have_no_forward_mode(rng):
    function, shapes = FUNCTIONS["recurrent, gru"]
    arrays = draw(rng, shapes, jnp.float32)
    with kernels.use("xla"), pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(function, arrays, arrays)


@pytest.fixture
def reference_cudnn(monkeypatch):
    """Replace cuDNN by JAX's reference with cuDNN's packed weights, and return a list of the shapes of its calls."""
    calls = []

    def lstm(x: Any, h: Any, c: Any, weights: Any, lengths: Any, **sizes: Any) -> Any:
        calls.append((x.shape, h.shape, c.shape))
        about = [sizes[name] for name in ("input_size", "hidden_size", "num_layers", "bidirectional")]
        unpacked = rnn.unpack_lstm_weights(weights, *about)
        return rnn.lstm_ref(x, h, c, *unpacked, lengths, *about[:3], sizes["dropout"], about[3])

    monkeypatch.setattr(rnn, "lstm", lstm)
    return calls


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name.startswith("recurrent")])
def test_cudnns_lstm_is_given_what_gives_the_plain_ones_numbers(name, rng, reference_cudnn):
    function, shapes = FUNCTIONS[name]
    arrays = draw(rng, shapes, jnp.float32)
    (cotangent,) = draw(rng, [jax.eval_shape(function, *arrays).shape], jnp.float32)
    expected, got = (results(kind, function, arrays, cotangent) for kind in ("plain", "cudnn"))
    assert_close(got, expected, GATES[jnp.float32])
    calls = {"": 4, " without bias": 1, ", one sequence": 2, ", wide": 1, ", halves": 2}
    batch = shapes[0][1]
    assert len(reference_cudnn) == calls.get(name.removeprefix("recurrent, lstm"), 0)
    hidden = shapes[1][2]
    assert reference_cudnn[:1] in ([], [((batch, 5, 4), (1, batch, hidden), (1, batch, hidden))])


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.bfloat16])
def test_cudnns_lstm_is_for_float32_alone(dtype, rng, reference_cudnn):
    function, shapes = FUNCTIONS["recurrent, lstm"]
    results("cudnn", function, arrays := draw(rng, shapes, dtype), jnp.zeros_like(function(*arrays)))
    assert not reference_cudnn


def test_a_train_step_takes_cudnns_lstm_where_there_is_one(monkeypatch, rng, reference_cudnn):
    model, optimizer = flaxnets.create_model("lstm_lm"), flaxnets.optim.SGD(0.1)
    characters = jnp.asarray(rng.integers(0, 28, (5, 2)))  # time first
    batch, state = Batch(characters, characters.T, jnp.ones(2, jnp.float32)), TrainState.create(model, optimizer)
    objective = TASKS["language"].objective
    expected, _ = make_train_step(model, optimizer, objective, backend="plain")(state, batch)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(rnn, "gpu_rnn", object())
    engine = Engine(model, optimizer, objective, StepOptions(backend="cudnn"))
    got = engine.train_state(engine.step(engine.init(), batch)[0])
    assert reference_cudnn
    for a, b in zip(jax.tree.leaves(got.params), jax.tree.leaves(expected.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    ("backend", "devices", "plugin"), [("cpu", 1, object()), ("gpu", 2, object()), ("gpu", 1, None)]
)
def test_cudnn_is_refused_where_it_cannot_work(backend, devices, plugin, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    monkeypatch.setattr(rnn, "gpu_rnn", plugin)
    with pytest.raises(RuntimeError, match=f"one GPU and JAX's CUDA plugin, got {devices} device.*{backend}.*'auto'"):
        kernels.choose("cudnn")


def test_a_materialized_array_is_stored_in_its_logical_order():
    def moved(x: jax.Array) -> jax.Array:
        return jnp.sin(materialized(jnp.moveaxis(x, 1, -1)))

    text = jax.jit(moved).lower(jnp.ones((2, 8, 5, 6), jnp.float32)).compile().as_text()
    calls = [line.strip() for line in text.splitlines() if " call(" in line]
    assert len(calls) == 1
    assert "f32[2,5,6,8]{3,2,1,0} call(" in calls[0]


def test_forms_run_eagerly(rng):
    arrays = draw(rng, BLOCK, jnp.float32)
    with kernels.use("onednn"):
        got = block(*arrays)
    np.testing.assert_allclose(got, block(*arrays), atol=1e-4)


@pytest.mark.parametrize(
    ("operands", "message"),
    [
        (((1, 5, 5, 2), (3, 3, 3, 4), ((0, 0), (0, 0)), jnp.float32), r"shapes \(1, 5, 5, 2\) and \(3, 3, 3, 4\)"),
        (((1, 5, 5, 2), (3, 3, 2, 4), ((0, 0), (-1, 0)), jnp.float32), r"no negative padding.*\(-1, 0\)"),
        (((1, 5, 2, 2), (3, 3, 2, 4), ((0, 0), (0, 0)), jnp.float32), r"must have elements.*\(1, 3, 0, 4\)"),
        (
            ((1, 5, 5, 2), (3, 3, 2, 4), ((0, 0), (0, 0)), jnp.float16),
            "float32 or all of bfloat16, got float16, float16",
        ),
    ],
)
def test_a_call_that_would_end_the_process_is_an_error(operands, message):
    x, kernel, pads, dtype = operands
    with pytest.raises(ValueError, match=message):
        onednn.convolution(
            jnp.ones(x, dtype), jnp.ones(kernel, dtype), stride=(1, 1), pads=pads, dilation=(1, 1),
            data_axes=(0, 3, 1, 2), kernel_axes=(2, 3, 0, 1),
        )  # fmt: skip


def test_operands_of_two_dtypes_or_wrong_groups_are_an_error():
    with pytest.raises(ValueError, match="float32 or all of bfloat16, got float32, bfloat16"):
        onednn.matmul(jnp.ones((2, 3), jnp.float32), jnp.ones((3, 2), jnp.bfloat16))
    with pytest.raises(ValueError, match=r"\(1, 5, 5, 4\) and \(3, 3, 2, 3\) do not fit with groups=2"):
        onednn.convolution(
            *(jnp.ones(shape, jnp.float32) for shape in ((1, 5, 5, 4), (3, 3, 2, 3))),
            stride=(1, 1), pads=((0, 0), (0, 0)), dilation=(1, 1),
            data_axes=(0, 3, 1, 2), kernel_axes=(2, 3, 0, 1), groups=2,
        )  # fmt: skip


def test_products_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match=r"shapes \(2, 3\) and \(2, 3\) do not fit"):
        onednn.matmul(jnp.ones((2, 3)), jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="transpose_a=False, transpose_b=True"):
        onednn.matmul(jnp.ones((2, 3)), jnp.ones((3, 2)), transpose_b=True)
    with pytest.raises(ValueError, match=r"shapes \(2, 3, 4\) and \(1, 4, 5\) do not fit"):
        onednn.matmul(jnp.ones((2, 3, 4)), jnp.ones((1, 4, 5)))
    with pytest.raises(ValueError, match="the result of float32 must be of float32 or the same, got bfloat16"):
        onednn.matmul(jnp.ones((2, 3), jnp.float32), jnp.ones((3, 2), jnp.float32), dtype=jnp.bfloat16)


SMALL = {
    "lenet_batchnorm": ("xla", "float64"),
    "resnet18": ("xla", "float64"),
    "densenet": ("xla", "float64"),
    "nin": ("onednn", "float32"),
    "googlenet": ("onednn", "float32"),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_network_of_forms_is_torchs(name, rng):
    kind, dtype = SMALL[name]
    (case,) = (case for case in NETWORKS if case.name == name)
    with jax.enable_x64(False), kernels.use(kind):
        options = {"runs": ("jit",), "modes": ("train",), "dtypes": (dtype,), "float32_gradients": "float64"}
        assert_parity(*case.pair(), *case.inputs(rng), **options)


def test_a_train_step_gives_the_same_state_with_all_kinds(rng):
    model, optimizer = flaxnets.create_model("lenet_batchnorm"), flaxnets.optim.SGD(0.1, momentum=0.9)
    batch = Batch(jnp.asarray(rng.normal(size=(4, 1, 28, 28)), jnp.float32), jnp.arange(4), jnp.ones(4, jnp.float32))
    after = {}
    for kind in ("plain", "xla", "onednn"):
        step = make_train_step(model, optimizer, classification, backend=kind)
        state, _ = step(TrainState.create(model, optimizer), batch)
        after[kind] = jax.tree.leaves((state.params, state.model_state))
    for kind in ("xla", "onednn"):
        for got, expected in zip(after[kind], after["plain"], strict=True):
            np.testing.assert_allclose(got, expected, atol=2e-5)


ON_TWO_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import flaxnets
from flaxnets.training import Batch, TrainState, classification, make_train_step
model, optimizer = flaxnets.create_model("lenet_batchnorm"), flaxnets.optim.SGD(0.1, momentum=0.9)
images = jnp.asarray(np.random.default_rng(0).normal(size=(8, 1, 28, 28)), jnp.float32)
batch = Batch(images, jnp.arange(8), jnp.ones(8))
mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
whole, parts = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
found = []
for kind, sharded in (("plain", False), ("auto", True)):
    state = TrainState.create(model, optimizer)
    given = (jax.device_put(state, whole), jax.device_put(batch, parts)) if sharded else (state, batch)
    step = make_train_step(model, optimizer, classification, backend=kind)
    text = step.lower(*given).compile().as_text()
    found.append(jax.tree.leaves(step(*given)[0].params))
assert " call(" in text and " all-reduce(" in text and " all-gather(" not in text and "onednn" not in text, text
for got, expected in zip(*found, strict=True):
    np.testing.assert_allclose(got, expected, atol=1e-5)
"""


def test_a_train_step_on_two_devices_takes_xlas_forms_and_gathers_no_images():
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run([sys.executable, "-c", ON_TWO_DEVICES], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_train_step_uses_what_is_chosen_and_takes_no_unknown_kind(monkeypatch):
    monkeypatch.setattr(probe, "passes", lambda: True)
    model, optimizer = flaxnets.create_model("lenet"), flaxnets.optim.SGD(0.1)
    state = TrainState.create(model, optimizer)
    batch = Batch(jnp.ones((2, 1, 28, 28), jnp.float32), jnp.arange(2), jnp.ones(2, jnp.float32))
    step = make_train_step(model, optimizer, classification)
    assert "__onednn$convolution" in step.lower(state, batch).as_text()
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert "onednn" not in make_train_step(model, optimizer, classification).lower(state, batch).as_text()
    with pytest.raises(ValueError, match="backend must be auto, plain, xla, onednn or cudnn, got 'mkl'"):
        make_train_step(model, optimizer, classification, backend="mkl")
    monkeypatch.setattr(probe, "passes", lambda: False)
    with pytest.raises(RuntimeError, match=rf"onednn.*does not work.*jaxlib {onednn.JAXLIB}"):
        make_train_step(model, optimizer, classification, backend="onednn")


@pytest.mark.parametrize(
    ("backend", "devices", "passes", "kind"),
    [("cpu", 1, True, "onednn"), ("cpu", 1, False, "xla"), ("cpu", 8, True, "xla"), ("gpu", 1, True, "plain")],
)
def test_what_is_chosen_depends_on_backend_devices_and_probe(backend, devices, passes, kind, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    monkeypatch.setattr(probe, "passes", lambda: passes)
    assert kernels.choose() == kind


@pytest.fixture
def verdicts(tmp_path, monkeypatch):
    """Return the path of an empty file of verdicts, with no verdict in memory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    probe.passes.cache_clear()
    yield tmp_path / "flaxnets" / "onednn.json"
    probe.passes.cache_clear()


WRONG = """
import jax
from flaxnets.kernels import convolution, probe
right = convolution._ONEDNN["weight"]
convolution._ONEDNN["weight"] = lambda *arguments: 1.001 * right(*arguments)
probe.compare()
"""


@pytest.mark.parametrize(
    ("program", "verdict"),
    [(probe.PROGRAM, True), (WRONG, False), ("import os; os.abort()", False)],
    ids=["right", "wrong numbers", "crash"],
)
def test_a_verdict_is_reached_in_another_process_and_kept(program, verdict, verdicts, monkeypatch):
    monkeypatch.setattr(probe, "PROGRAM", program)
    assert probe.passes() is verdict
    assert list(json.loads(verdicts.read_text()).values()) == [verdict]
    probe.passes.cache_clear()
    monkeypatch.setattr(probe, "PROGRAM", "import os; os.abort()" if verdict else "")
    assert probe.passes() is verdict  # the verdict is read from the file, and the program is not run
    assert kernels.choose() == ("onednn" if verdict else "xla")


@pytest.mark.parametrize("kept", ['{"jaxlib 0.0.0, that processor": false}', "no JSON", "[]"])
def test_a_verdict_of_another_version_does_not_count(kept, verdicts, monkeypatch):
    verdicts.parent.mkdir()
    verdicts.write_text(kept)
    monkeypatch.setattr(probe, "PROGRAM", "")
    assert probe.passes() is True
    (own,) = (key for key in json.loads(verdicts.read_text()) if onednn.JAXLIB in key)
    assert json.loads(verdicts.read_text())[own] is True


def test_other_versions_of_jaxlib_are_not_tried(verdicts, monkeypatch):
    monkeypatch.setattr(onednn, "JAXLIB", "0.10.9")
    assert probe.passes() is False
    assert not verdicts.exists()
    with pytest.raises(ValueError, match=r"one of the versions \('0.10.2', .*\), got 0.10.9"):
        onednn.matmul(jnp.ones((2, 2), jnp.float32), jnp.ones((2, 2), jnp.float32))


def test_a_process_that_takes_too_long_is_tried_again(verdicts, monkeypatch):
    monkeypatch.setattr(probe, "PROGRAM", "import time; time.sleep(60)")
    monkeypatch.setattr(probe, "_SECONDS", 0.1)
    assert probe.passes() is False
    assert not verdicts.exists()
    probe.passes.cache_clear()
    monkeypatch.setattr(probe, "PROGRAM", "")
    monkeypatch.setattr(probe, "_SECONDS", 60)
    assert probe.passes() is True


def test_a_folder_that_cannot_be_written_leaves_the_verdict_in_memory(verdicts, monkeypatch):
    verdicts.parent.write_text("a file where the folder should be")
    monkeypatch.setattr(probe, "PROGRAM", "")
    assert probe.passes() is True
