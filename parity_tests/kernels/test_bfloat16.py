"""Tests of the engine's bfloat16 implementations on CPUs: they are as exact as PyTorch's, and need CPU support."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from benchmarks import bfloat16
from flaxnets import kernels
from flaxnets.kernels import onednn
from flaxnets.nn import functional as F

# A function of torch.nn.functional, the shapes of its arrays, and its options.
CASES: dict[str, tuple[str, list[tuple[int, ...]], dict[str, Any]]] = {
    "3x3": ("conv2d", [(3, 16, 9, 8), (8, 16, 3, 3), (8,)], {"padding": 1}),
    "3x3, strided": ("conv2d", [(3, 16, 9, 8), (8, 16, 3, 3), (8,)], {"padding": 1, "stride": 2}),
    "1x1": ("conv2d", [(3, 16, 9, 8), (24, 16, 1, 1), (24,)], {}),
    "one channel": ("conv2d", [(3, 1, 16, 16), (6, 1, 5, 5), (6,)], {"padding": 2}),
    "three channels": ("conv2d", [(3, 3, 16, 16), (24, 3, 7, 7), (24,)], {"padding": 3, "stride": 2}),
    "whole images, many weights": ("conv2d", [(2, 256, 3, 3), (512, 256, 3, 3), (512,)], {"padding": 1}),
    "groups": ("conv2d", [(3, 16, 9, 8), (16, 4, 3, 3), (16,)], {"padding": 1, "groups": 4}),
    "depthwise": ("conv2d", [(3, 16, 9, 8), (16, 1, 3, 3), (16,)], {"padding": 1, "groups": 16}),
    "depthwise, strided": ("conv2d", [(3, 16, 9, 8), (16, 1, 5, 5), (16,)], {"padding": 2, "stride": 2, "groups": 16}),
    "patches": ("conv2d", [(3, 3, 16, 16), (24, 3, 4, 4), (24,)], {"stride": 4}),
    "dilated sequence": ("conv1d", [(3, 16, 20), (16, 16, 3), (16,)], {"padding": 4, "dilation": 4}),
    "volume": ("conv3d", [(3, 8, 5, 6, 7), (16, 8, 3, 3, 3), (16,)], {"padding": 1}),
    "transposed": ("conv_transpose2d", [(3, 16, 6, 5), (16, 8, 4, 4), (8,)], {"stride": 2, "padding": 1}),
    "linear": ("linear", [(17, 33), (20, 33), (20,)], {}),
    "linear, one row": ("linear", [(1, 33), (20, 33), (20,)], {}),
    "attention": ("scaled_dot_product_attention", [(2, 3, 17, 16), (2, 3, 21, 16), (2, 3, 21, 24)], {}),
    "causal attention": ("scaled_dot_product_attention", [(2, 2, 257, 16)] * 3, {"is_causal": True}),
    "batch norm": ("batch_norm", [(4, 8, 6, 6)], {"running_mean": None, "running_var": None, "training": True}),
    "max pool": ("max_pool2d", [(3, 8, 9, 9)], {"kernel_size": 3, "stride": 2}),
    "average pool": ("avg_pool2d", [(3, 8, 9, 9)], {"kernel_size": 3}),
    "sigmoid": ("sigmoid", [(3, 8, 9, 9)], {}),
}


def error(results: Any, expected: Any) -> np.ndarray:
    """Return the root mean square errors of the output and of each gradient, relative to their root mean squares."""
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(results, expected, strict=True)]
    return np.array([np.sqrt(np.square(a - b).mean() / np.square(b).mean()) for a, b in pairs])


def torchs(name: str, arrays: list[np.ndarray], cotangent: np.ndarray | None, dtype: torch.dtype) -> list[Any]:
    function, _, options = CASES[name]
    tensors = [torch.tensor(array).to(dtype).requires_grad_() for array in arrays]
    output = getattr(torch.nn.functional, function)(*tensors, **options)
    ct = torch.ones_like(output) if cotangent is None else torch.tensor(cotangent).to(dtype)
    return [x.detach().double().numpy() for x in (output, *torch.autograd.grad(output, tensors, ct))]


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_are_no_further_off_than_twice_pytorchs(name, rng):
    function, shapes, options = CASES[name]
    # Both libraries get the same numbers.
    arrays = [jnp.asarray(rng.normal(size=shape), jnp.bfloat16) for shape in shapes]
    exact = [np.asarray(array, np.float64) for array in arrays]
    shape = torchs(name, exact, None, torch.float64)[0].shape
    cotangent = np.asarray(jnp.asarray(rng.normal(size=shape), jnp.bfloat16), np.float64)
    expected = torchs(name, exact, cotangent, torch.float64)
    allowed = 2 * error(torchs(name, exact, cotangent, torch.bfloat16), expected)

    @jax.jit
    def both(*arrays: jax.Array) -> Any:
        with kernels.use("onednn"):
            output, back = jax.vjp(functools.partial(getattr(F, function), **options), *arrays)
        return output, *back(jnp.asarray(cotangent, output.dtype))

    got = both(*arrays)
    assert {x.dtype for x in got} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_array_less(error(got, expected), np.maximum(allowed, 1e-9))


def test_only_processors_with_instructions_for_bfloat16_use_onednns_calls(monkeypatch):
    def block(x: jax.Array, weight: jax.Array, matrix: jax.Array) -> jax.Array:
        with kernels.use("onednn"):
            return F.linear(F.conv2d(x, weight).reshape(len(x), -1), matrix)

    arrays = [jnp.ones(shape, jnp.bfloat16) for shape in ((2, 16, 4, 4), (16, 16, 3, 3), (32, 64))]
    for has_bfloat16, calls in ((True, 2), (False, 0)):
        monkeypatch.setattr(onednn, "has_bfloat16", lambda answer=has_bfloat16: answer)
        assert jax.jit(lambda *arrays: block(*arrays)).lower(*arrays).as_text().count("@__onednn$") == calls


@pytest.mark.parametrize(
    ("flags", "has_bfloat16"),
    [("fpu avx2 avx512_bf16 sse", True), ("amx_tile amx_bf16", True), ("fpu avx512f avx512vl", False), (None, False)],
)
def test_the_processors_flags_say_whether_it_has_bfloat16(flags, has_bfloat16, monkeypatch, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    if flags:
        cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nprocessor\t: 1\nflags\t\t: {flags}\n")
    monkeypatch.setattr(onednn, "CPUINFO", cpuinfo)
    onednn.has_bfloat16.cache_clear()
    try:
        assert onednn.has_bfloat16() is has_bfloat16
    finally:
        onednn.has_bfloat16.cache_clear()


@pytest.mark.parametrize("name", ["softmax_regression", "lenet", "resnet18", "gru_lm", "lstm_lm"])
def test_networks_are_no_further_off_than_twice_torchs_autocast(name):
    errors = bfloat16.measure(bfloat16.networks()[name])
    for kind in bfloat16.BACKENDS:
        np.testing.assert_array_less(errors[kind], 2 * np.array(errors["torch"]))
