"""Tests of resampling and adaptive pooling: values agree with torch for many sizes, and transformations of JAX work."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.sharding import AxisType, PartitionSpec

from flaxnets.nn import functional as F

# Function, shape and arguments: sizes that divide evenly or not, larger and smaller outputs, single elements.
CALLS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "mean 7 to 3": ("adaptive_avg_pool2d", (2, 3, 7, 9), {"output_size": (3, 4)}),
    "mean 100 to 3": ("adaptive_avg_pool1d", (2, 3, 100), {"output_size": 3}),
    "mean 3 to 7": ("adaptive_avg_pool3d", (1, 2, 3, 4, 6), {"output_size": (7, 2, 4)}),
    "mean of nothing": ("adaptive_avg_pool2d", (0, 3, 7, 9), {"output_size": 4}),
    "maximum 14 to 4": ("adaptive_max_pool2d", (2, 3, 14, 9), {"output_size": (4, 5)}),
    "maximum 200 to 1": ("adaptive_max_pool1d", (2, 2, 200), {"output_size": 1}),
    "maximum 71 to 67": ("adaptive_max_pool1d", (1, 2, 71), {"output_size": 67}),
    "maximum 3 to 50": ("adaptive_max_pool2d", (1, 2, 3, 5), {"output_size": (50, 4)}),
    "maximum 16 to 5": ("adaptive_max_pool3d", (1, 2, 4, 6, 5), {"output_size": (3, 4, 2)}),
    "one element": ("adaptive_max_pool2d", (2, 1, 1, 1), {"output_size": (1, 3)}),
    "nearest by 2": ("interpolate", (2, 3, 4, 5), {"scale_factor": 2}),
    "nearest 7 to 4": ("interpolate", (2, 3, 7, 5), {"size": (4, 9)}),
    "bilinear by 2": ("interpolate", (2, 3, 4, 5), {"scale_factor": 2, "mode": "bilinear"}),
    "bilinear by 8": ("interpolate", (1, 2, 3, 4), {"scale_factor": 8, "mode": "bilinear", "align_corners": True}),
    "bilinear 9 to 4": ("interpolate", (1, 2, 9, 7), {"size": (4, 13), "mode": "bilinear"}),
    "bilinear from 1": ("interpolate", (1, 2, 1, 1), {"size": (3, 4), "mode": "bilinear"}),
    "bicubic 5 to 10": ("interpolate", (1, 2, 5, 6), {"size": (10, 4), "mode": "bicubic"}),
    "antialiased": ("interpolate", (1, 2, 21, 16), {"size": (6, 8), "mode": "bilinear", "antialias": True}),
    "trilinear": ("interpolate", (1, 2, 3, 4, 5), {"size": (6, 3, 10), "mode": "trilinear"}),
    "linear 90 to 60": ("interpolate", (1, 2, 90), {"size": 60, "mode": "linear"}),
    "nearest 16 to 32": ("interpolate", (1, 2, 8, 16), {"scale_factor": 2}),
    "reflected": ("pad", (2, 2, 9, 10), {"pad": (3, 2, 1, 4), "mode": "reflect"}),
    "reflected twice": ("pad", (2, 2, 4), {"pad": (3, 2), "mode": "reflect"}),
    "replicated": ("pad", (1, 2, 6, 7, 8), {"pad": (1, 2, 0, 1, 2, 0), "mode": "replicate"}),
    "wrapped": ("pad", (1, 2, 9, 10), {"pad": (1, 2, 2, 1), "mode": "circular"}),
    "wrapped by all": ("pad", (2, 2, 8), {"pad": (8, 1), "mode": "circular"}),
    "distances": ("pdist", (5, 19), {}),
    "distances, p=1": ("pdist", (4, 3), {"p": 1.0}),
    "distances, p=3": ("pdist", (4, 16), {"p": 3.0}),
}
LINEAR = [
    name for name, (function, shape, _) in CALLS.items() if function != "pdist" and "max" not in function and shape[0]
]


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def call(name: str, x: jax.Array) -> jax.Array:
    function, _, options = CALLS[name]
    return getattr(F, function)(x, **options)


def assert_torchs(name: str, x: np.ndarray, rng: np.random.Generator) -> None:
    function, _, options = CALLS[name]
    leaf = torch.tensor(x, requires_grad=True)
    expected = getattr(torch.nn.functional, function)(leaf, **options)
    cotangent = rng.normal(size=expected.shape)
    expected.backward(torch.tensor(cotangent))

    def both(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, back = jax.vjp(lambda x: call(name, x), x)
        return y, back(jnp.asarray(cotangent))[0]

    assert leaf.grad is not None
    for ours, theirs in zip(jax.jit(both)(x), (expected.detach(), leaf.grad), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", CALLS)
def test_values_and_gradients_are_torchs(name: str, rng: np.random.Generator):
    assert_torchs(name, rng.normal(size=CALLS[name][1]), rng)


@pytest.mark.parametrize("name", [name for name, (function, _, _) in CALLS.items() if "max" in function])
def test_ties_and_nan_are_torchs(name: str, rng: np.random.Generator):
    x = rng.integers(-1, 2, CALLS[name][1]).astype(np.float64)
    assert_torchs(name, x, rng)
    x[rng.random(x.shape) < 0.1] = np.nan
    function, _, options = CALLS[name]
    options = options | {"return_indices": True}
    expected = getattr(torch.nn.functional, function)(torch.tensor(x), **options)
    for ours, theirs in zip(getattr(F, function)(jnp.asarray(x), **options), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs.numpy())


@pytest.mark.parametrize("name", CALLS)
def test_gradients_need_no_scatter(name: str):
    def gradient(x: jax.Array) -> jax.Array:
        return jax.grad(lambda x: jnp.sin(call(name, x)).sum())(x)

    shape = jax.ShapeDtypeStruct(CALLS[name][1], jnp.float32)
    for function in (gradient, lambda x: jax.grad(lambda x: jax.vmap(gradient)(x[None]).sum())(x)):
        assert "scatter" not in jax.jit(function).lower(shape).as_text()


@pytest.mark.parametrize("name", [name for name in CALLS if CALLS[name][1][0]])
def test_transformations_agree(name: str, rng: np.random.Generator):
    x, tangent = (jnp.asarray(rng.normal(size=(2, *CALLS[name][1]))) for _ in range(2))

    def gradient(x: jax.Array) -> jax.Array:
        return jax.grad(lambda x: (call(name, x) ** 3).sum())(x)

    each = jnp.stack([gradient(one) for one in x])
    np.testing.assert_allclose(jax.vmap(gradient, in_axes=1)(jnp.moveaxis(x, 0, 1)), each, rtol=1e-12)
    np.testing.assert_allclose(
        jax.grad(lambda x: (jax.vmap(lambda x: call(name, x))(x) ** 3).sum())(x), each, rtol=1e-12
    )
    np.testing.assert_allclose(jax.lax.scan(lambda _, x: (None, gradient(x)), None, x)[1], each, rtol=1e-12)
    second = jax.jvp(gradient, (x[0],), (tangent[0],))[1]
    step = 1e-6
    numeric = (gradient(x[0] + step * tangent[0]) - gradient(x[0] - step * tangent[0])) / (2 * step)
    np.testing.assert_allclose(second, numeric, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.vjp(gradient, x[0])[1](tangent[0])[0], second, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", LINEAR)
def test_what_is_not_finite_stays_where_it_is(name: str, rng: np.random.Generator):
    x = rng.normal(size=CALLS[name][1])
    x.reshape(-1)[x.size // 2] = np.inf
    function, _, options = CALLS[name]
    expected = getattr(torch.nn.functional, function)(torch.tensor(x), **options)
    np.testing.assert_allclose(call(name, jnp.asarray(x)), expected.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["mean 7 to 3", "maximum 14 to 4", "bilinear by 2"])
def test_gradients_of_what_is_shared_are_summed_over_a_mesh(name: str, rng: np.random.Generator):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    x = jnp.asarray(rng.normal(size=CALLS[name][1]))

    def gradient(scale: jax.Array, x: jax.Array) -> jax.Array:
        return jax.grad(lambda scale: (call(name, scale * x) ** 2).sum())(scale)

    specs = (PartitionSpec(), PartitionSpec("data"))
    divided = jax.jit(jax.shard_map(gradient, mesh=mesh, in_specs=specs, out_specs=PartitionSpec()))
    np.testing.assert_allclose(divided(jnp.float64(1.5), x), gradient(jnp.float64(1.5), x), rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("name", ["mean 7 to 3", "maximum 14 to 4", "bilinear 9 to 4"])
def test_half_precision_is_rounded_once(name: str, dtype: Any, rng: np.random.Generator):
    x = jnp.asarray(rng.normal(size=CALLS[name][1]), dtype)
    y = call(name, x)
    assert y.dtype == dtype
    np.testing.assert_allclose(
        y.astype(jnp.float32), call(name, x.astype(jnp.float32)).astype(dtype).astype(jnp.float32), rtol=4e-3
    )
