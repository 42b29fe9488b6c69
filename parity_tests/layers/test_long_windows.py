"""Tests of pooling with large windows: values agree with torch, and gradients compile to small programs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from flaxnets.nn import functional as F

# Function, shape and arguments. Each window has more than eight elements along some axis.
POOLS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "9": ("max_pool1d", (2, 3, 30), {"kernel_size": 9, "stride": 2, "padding": 4}),
    "16 dilated": ("max_pool1d", (2, 3, 60), {"kernel_size": 16, "stride": 3, "padding": 8, "dilation": 3}),
    "25 to the end": ("max_pool1d", (2, 3, 60), {"kernel_size": 25, "stride": 4, "padding": 12, "ceil_mode": True}),
    "500": ("max_pool1d", (1, 2, 600), {"kernel_size": 500, "stride": 7, "padding": 250}),
    "13x13": ("max_pool2d", (2, 2, 14, 15), {"kernel_size": 13, "stride": 1, "padding": 6}),
    "3x12": ("max_pool2d", (2, 2, 9, 30), {"kernel_size": (3, 12), "stride": (2, 5), "padding": (1, 6)}),
    "10x11 dilated": ("max_pool2d", (1, 2, 30, 24), {"kernel_size": (10, 11), "dilation": (3, 2), "stride": 2}),
    "9x2x10": ("max_pool3d", (1, 2, 11, 4, 12), {"kernel_size": (9, 2, 10), "stride": 1, "padding": (4, 0, 5)}),
    "mean of 25": ("avg_pool1d", (2, 3, 60), {"kernel_size": 25, "stride": 4, "padding": 12}),
    "mean of 500": ("avg_pool1d", (1, 2, 600), {"kernel_size": 500, "stride": 7}),
    "mean of 14x14": ("avg_pool2d", (2, 2, 28, 29), {"kernel_size": 14, "padding": 7, "count_include_pad": False}),
    "mean to the end": ("avg_pool2d", (1, 2, 30, 31), {"kernel_size": (11, 4), "stride": 5, "ceil_mode": True}),
    "mean of 9x2x10": ("avg_pool3d", (1, 2, 11, 4, 12), {"kernel_size": (9, 2, 10), "stride": (1, 2, 1)}),
    "norm of 15x15": ("lp_pool2d", (1, 2, 20, 18), {"norm_type": 2.0, "kernel_size": 15, "stride": 2}),
}


def with_ties(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw an input with many equal values, and with images that only contain minus infinity."""
    x = rng.integers(-2, 3, shape).astype(np.float64)
    x[0, 0] = -np.inf
    return x


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def ours_and_torchs(name: str, x: np.ndarray, rng: np.random.Generator, **more: Any) -> tuple[list[Any], list[Any]]:
    """Return outputs, and the gradient of the first output for a random cotangent, of flaxnets and torch."""
    function, _, options = POOLS[name]
    leaf = torch.tensor(x, requires_grad=True)
    expected = getattr(torch.nn.functional, function)(leaf, **options, **more)
    expected = list(expected) if isinstance(expected, tuple) else [expected]
    cotangent = rng.normal(size=expected[0].shape)
    expected[0].backward(torch.tensor(cotangent))

    def pool(x: jax.Array) -> Any:
        y = getattr(F, function)(x, **options, **more)
        return (y[0], y[1:]) if isinstance(y, tuple) else (y, ())

    def both(x: jax.Array) -> Any:
        y, back, rest = jax.vjp(pool, x, has_aux=True)
        return [y, *rest, back(jnp.asarray(cotangent))[0]]

    assert leaf.grad is not None
    return jax.jit(both)(jnp.asarray(x)), [*(y.detach().numpy() for y in expected), leaf.grad.numpy()]


@pytest.mark.parametrize("name", POOLS)
def test_values_and_gradients_are_torchs(name, rng):
    got, expected = ours_and_torchs(name, rng.normal(size=POOLS[name][1]), rng)
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, (function, _, _) in POOLS.items() if "max" in function])
def test_the_first_of_equal_maxima_is_torchs(name, rng):
    got, expected = ours_and_torchs(name, with_ties(rng, POOLS[name][1]), rng, return_indices=True)
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["9", "16 dilated", "13x13", "9x2x10"])
def test_nan_is_the_maximum_as_in_torch(name, rng):
    x = rng.normal(size=POOLS[name][1])
    x[rng.random(x.shape) < 0.02] = np.nan
    got, expected = ours_and_torchs(name, x, rng, return_indices=True)
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, jnp.bfloat16], ids=lambda dtype: dtype.__name__)
def test_other_dtypes_keep_theirs(dtype, rng):
    x = jnp.asarray(rng.integers(0, 100, (2, 3, 40)), dtype)
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(x, np.float64), 11, 2)[..., ::3, :]
    got = F.max_pool1d(x, 11, 3)
    assert got.dtype == dtype
    np.testing.assert_array_equal(np.asarray(got, np.float64), windows.max(-1))
    if dtype != jnp.uint8:  # the sum of eleven elements overflows uint8
        expected = windows.mean(-1)
        expected = np.floor(expected) if dtype == jnp.int32 else expected
        np.testing.assert_allclose(np.asarray(F.avg_pool1d(x, 11, 3), np.float64), expected, rtol=1e-2)


@pytest.mark.parametrize("name", POOLS)
def test_a_gradient_is_a_small_program(name):
    function, shape, options = POOLS[name]

    def both(x: jax.Array) -> Any:
        y, back = jax.vjp(lambda x: getattr(F, function)(x, **options), x)
        return y, back(y)

    text = jax.jit(both).lower(jax.ShapeDtypeStruct(shape, jnp.float32)).as_text()
    assert len(text.splitlines()) < 800
