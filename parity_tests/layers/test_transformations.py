"""Tests that layers work with transformations of JAX: vmap, grad, remat and tracing of shapes."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import LAYERS, Layer
from flax import nnx
from jax import export

from flaxnets import nn, state_dict
from flaxnets.parity import Constant

FIRST = {case.name: case for case in reversed(LAYERS)}
every_layer = pytest.mark.parametrize("case", FIRST.values(), ids=FIRST)


def prepared(case: Layer, seed: int = 0) -> tuple[Callable[..., list[jax.Array]], Any, list[Any]]:
    """Return the layer in evaluation mode as a pure function of its state and of its array inputs."""
    _, module = case.pair()
    graphdef, state = nnx.split(module.eval())
    arguments = (case.inputs(np.random.default_rng(seed)), dict(case.call))
    leaves, structure = jax.tree.flatten(jax.tree.map(_plain, arguments))
    arrays = [jnp.asarray(leaf, np.float32 if leaf.dtype.kind == "f" else None) for leaf in leaves if _is_array(leaf)]

    def call(state: Any, arrays: list[jax.Array]) -> list[jax.Array]:
        remaining = iter(arrays)
        filled = [next(remaining) if _is_array(leaf) else leaf for leaf in leaves]
        args, kwargs = jax.tree.unflatten(structure, filled)
        return jax.tree.leaves(nnx.merge(graphdef, state, copy=True)(*args, **kwargs))

    return call, state, arrays


def _plain(leaf: Any) -> Any:
    return leaf.array if isinstance(leaf, Constant) else leaf


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray)


def close(found: list[jax.Array], expected: list[jax.Array]) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5)


@every_layer
def test_vmap_maps_over_whole_calls(case: Layer):
    call, state, first = prepared(case)
    second = [a + 0.5 if jnp.issubdtype(a.dtype, jnp.inexact) else a for a in first]
    stacked = [jnp.stack(pair) for pair in zip(first, second, strict=True)]
    mapped = jax.vmap(functools.partial(call, state))(stacked)
    expected = [call(state, first), call(state, second)]
    close(mapped, [jnp.stack(pair) for pair in zip(*expected, strict=True)])


@every_layer
def test_checkpoint_gives_the_same_gradients(case: Layer):
    call, state, arrays = prepared(case)
    floats = [a for a in arrays if jnp.issubdtype(a.dtype, jnp.floating)]

    def loss(state: Any, floats: list[jax.Array], function: Callable[..., list[jax.Array]]) -> jax.Array:
        remaining = iter(floats)
        filled = [next(remaining) if jnp.issubdtype(a.dtype, jnp.floating) else a for a in arrays]
        outputs = [o for o in function(state, filled) if jnp.issubdtype(o.dtype, jnp.inexact)]
        return sum((jnp.sum(jnp.sin(jnp.abs(o))) for o in outputs), jnp.zeros(()))

    plain = jax.jit(jax.grad(functools.partial(loss, function=call), argnums=1))(state, floats)
    again = jax.jit(jax.grad(functools.partial(loss, function=jax.checkpoint(call)), argnums=1))(state, floats)
    close(again, plain)


@every_layer
def test_eval_shape_makes_and_calls_the_layer_without_computing(case: Layer):
    call, state, arrays = prepared(case)
    abstract = nnx.eval_shape(lambda: case.make(nn))
    found = [(name, array.shape, array.dtype) for name, array in state_dict(abstract).items()]
    assert found == [(name, array.shape, array.dtype) for name, array in state_dict(case.make(nn)).items()]
    shapes = jax.eval_shape(call, state, arrays)
    assert [(s.shape, s.dtype) for s in shapes] == [(o.shape, o.dtype) for o in call(state, arrays)]


def test_layers_with_kernels_of_their_own_are_exported_for_every_batch_size(rng):
    rngs = {"rngs": nnx.Rngs(0)}
    net = nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1, groups=8, **rngs),
        nn.Conv2d(8, 16, 3, groups=4, **rngs),
        nn.ConvTranspose2d(16, 8, 4, stride=2, **rngs),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d(3),
        nn.LayerNorm(3),
    ).eval()
    shape = jax.ShapeDtypeStruct(export.symbolic_shape("n,8,12,12"), jnp.float32)
    program = export.export(jax.jit(lambda x: net(x)), platforms=["cpu", "cuda", "tpu"])(shape).serialize()
    x = jnp.asarray(rng.normal(size=(3, 8, 12, 12)), jnp.float32)
    np.testing.assert_allclose(export.deserialize(bytearray(program)).call(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: nn.Conv2d(4, 4, 3, groups=4, rngs=nnx.Rngs(0)), (2, 4, 6, 6)),
        (lambda: nn.MaxPool2d(3, 2), (2, 4, 7, 7)),
        (lambda: nn.LayerNorm(8), (3, 8)),
        (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (1, 2, 4, 4)),
        (lambda: nn.ChannelShuffle(2), (1, 4, 3, 3)),
        (lambda: nn.CircularPad1d(2), (1, 2, 200)),
    ],
    ids=["Conv2d", "MaxPool2d", "LayerNorm", "Upsample", "ChannelShuffle", "CircularPad1d"],
)
def test_layers_with_kernels_of_their_own_work_without_jit(build, shape, rng):
    layer, x = build(), jnp.asarray(rng.normal(size=shape), jnp.float32)
    gradient = jax.grad(lambda x: (layer(x) ** 2).sum())
    expected = gradient(x)
    with jax.disable_jit():
        np.testing.assert_allclose(gradient(x), expected, rtol=1e-5, atol=1e-5)
