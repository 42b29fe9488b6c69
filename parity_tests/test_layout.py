"""Transposes moved through a traced function: the same numbers, bit by bit, from arrays that lie in another order."""

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import NETWORKS
from flax import nnx
from hypothesis import strategies as st
from jax import lax

import flaxnets
from flaxnets import nn, state
from flaxnets.training import Batch, TrainState, make_train_step
from flaxnets.training.layout import make_physical_step, sink_transposes
from flaxnets.training.step import _COMPILER_OPTIONS

CPU = _COMPILER_OPTIONS["cpu"]


def equations(function: Callable[..., Any], *args: Any) -> Iterator[Any]:
    """All equations of a traced function, those of inner ones too."""

    def walk(jaxpr: Any) -> Iterator[Any]:
        for eqn in jaxpr.eqns:
            yield eqn
            for inner in jax.tree.leaves(tuple(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
                if hasattr(inner, "eqns"):
                    yield from walk(getattr(inner, "jaxpr", inner))

    return walk(jax.make_jaxpr(function)(*args).jaxpr)


def transposes(function: Callable[..., Any], *args: Any) -> int:
    return sum(eqn.primitive.name == "transpose" for eqn in equations(function, *args))


def assert_same(actual: Any, expected: Any) -> None:
    """The same trees of the same bits."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    paths = jax.tree_util.tree_leaves_with_path(expected)
    for (path, b), a in zip(paths, jax.tree.leaves(actual), strict=True):
        if jnp.issubdtype(b.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


SHAPE = (2, 3, 4, 5)  # N, C, H, W
ONE, ROW = jnp.ones(()), jnp.arange(3.0)
WINDOW = functools.partial(lax.reduce_window, window_dimensions=(1, 1, 2, 3), window_strides=(1, 1, 2, 1))


def scatter(x: jax.Array) -> jax.Array:
    largest, back = jax.vjp(lambda x: WINDOW(x, -jnp.inf, lax.max, padding="SAME"), x)
    return back(largest)[0]


def scan(x: jax.Array) -> jax.Array:
    def body(carry: tuple[jax.Array, jax.Array], row: jax.Array) -> Any:
        total, wide = carry
        return (total + row * ROW[:, None, None], wide.T + row.max()), row - total

    (total, wide), ys = lax.scan(body, (jnp.zeros(SHAPE[1:]), jnp.ones((3, 3))), x, reverse=True)
    return (ys * total[None] + wide.sum()) / 4


def scan_channels(x: jax.Array) -> jax.Array:
    return lax.scan(lambda carry, row: (carry + row, carry * 2), jnp.zeros((2, 4, 5)), x.swapaxes(0, 1))[1]


def loop(x: jax.Array) -> jax.Array:
    return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * 2 - x), (0, x))[1]


def branch(x: jax.Array) -> jax.Array:
    return lax.cond(x[0, 0, 0, 0] > 1e9, lambda x: jnp.zeros(SHAPE), lambda x: x * 2 + 1, x)


def checkpointed(x: jax.Array) -> jax.Array:
    table = jnp.arange(60.0).reshape(1, 3, 4, 5)  # a constant inside, which the pass makes an argument
    squared, back = jax.vjp(jax.checkpoint(lambda x: jnp.square(x * jax.jit(lambda x: x + table)(x))), x)
    return back(squared)[0]


# A function of an NCHW array that lies as NHWC, and how many transposes it takes until a result of four axes is NHWC
# again, or another one as it is named.
RULES: dict[str, tuple[Callable[[jax.Array], Any], int]] = {
    "unary": (lambda x: -jnp.abs(x), 0),
    "with a number": (lambda x: jnp.clip(2 * x + 1, -3, ONE), 0),
    "with a vector": (lambda x: x * ROW[None, :, None, None] - jnp.broadcast_to(ROW[None, :, None, None], SHAPE), 0),
    "where": (lambda x: jnp.where(x > 0, x, jnp.zeros_like(x)), 0),
    "another dtype": (lambda x: x.astype(jnp.int32), 0),
    "with a logical array": (lambda x: x + jnp.arange(120.0).reshape(SHAPE), 1),
    "relu": (jax.nn.relu, 0),
    "sum to a vector": (lambda x: x.sum((0, 2, 3)), 0),
    "max over channels": (lambda x: x.max(1), 0),
    "sum over rows": (lambda x: x.sum(2), 1),
    "sum of all in another order": (lambda x: x.sum(), 1),
    "largest of all": (lambda x: x.max(), 0),
    "argmax": (lambda x: x.argmax(1), 0),
    "mean, kept": (lambda x: x - x.sum((2, 3), keepdims=True), 0),
    "concatenate": (lambda x: jnp.concatenate([x, 2 * x, jnp.zeros((2, 1, 4, 5))], 1), 0),
    "stack": (lambda x: jnp.stack([x, x + 1], 2).sum(2), 0),
    "split": (lambda x: operator.mul(*jnp.split(x[:, :2], 2, 1)), 0),
    "pad": (lambda x: lax.pad(x, 1.0, [(0, 0, 0), (1, 0, 0), (2, -1, 1), (0, 3, 0)]), 0),
    "slice": (lambda x: x[:, 1:, ::2, 1:4], 0),
    "dynamic slice": (lambda x: lax.dynamic_slice(x, (0, 1, x[0, 0, 0, 0].astype(int) * 0, 0), (2, 1, 4, 2)), 0),
    "dynamic update": (lambda x: lax.dynamic_update_slice(x, x[:, :1] * 2, (0, 2, 0, 0)), 0),
    "reverse": (lambda x: x[:, ::-1, :, ::-1], 0),
    "cumulative sum": (lambda x: jnp.cumsum(x, 1), 0),
    "sort": (lambda x: jnp.sort(x, 1), 0),
    "window": (lambda x: WINDOW(x, 0.0, lax.add, padding="VALID"), 0),
    "general window": (lambda x: WINDOW(x, 1.0, lax.mul, padding="VALID"), 0),
    "window's gradient": (scatter, 0),
    "window in another order": (lambda x: WINDOW(x.swapaxes(2, 3), -jnp.inf, lax.max, padding="VALID"), 2),
    "squeeze": (lambda x: jnp.squeeze(x[:, 1:2], 1), 0),
    "new axis": (lambda x: (x[:, :, None] * jnp.ones((1, 1, 2, 1, 1))).sum(2), 0),
    "parts of channels": (lambda x: (x.reshape(2, 3, 1, 4, 5) + 1).reshape(SHAPE), 0),
    "pixels in a row": (lambda x: (x.reshape(2, 3, 20) * 2).reshape(SHAPE), 0),
    "flatten": (lambda x: x.reshape(2, 60), 1),
    "barrier": (lambda x: lax.optimization_barrier((x, ROW))[0], 0),
    "used twice": (lambda x: (x.reshape(2, 60) @ jnp.ones((60, 2)), x.reshape(6, 20) * 2), 1),
    "unknown": (lambda x: lax.conv_general_dilated(x, jnp.ones((2, 3, 1, 1)), (1, 1), "VALID"), 2),
    "jit": (jax.jit(lambda x: x * 2), 0),
    "checkpoint": (checkpointed, 2),
    "scan": (scan, 1),
    "scan over an inner axis": (scan_channels, 2),
    "while": (loop, 0),
    "branches": (branch, 0),
}


@pytest.mark.parametrize("name", RULES)
def test_rule_keeps_the_numbers_and_needs_so_many_transposes(name, rng):
    """Whole numbers, so that sums are exact in every order."""
    inner, count = RULES[name]

    def function(x: jax.Array) -> Any:
        outputs = inner(lax.transpose(x, (0, 3, 1, 2)))
        return jax.tree.map(lambda y: lax.transpose(y, (0, 2, 3, 1)) if y.ndim == 4 else y, outputs)

    x = jnp.asarray(rng.integers(-3, 4, (2, 4, 5, 3)), jnp.float32)
    assert_same(jax.jit(sink_transposes(function))(x), jax.jit(function)(x))
    assert transposes(sink_transposes(function), x) == count
