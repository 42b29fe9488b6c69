"""Tests of mixed precision: each operation computes in the same dtype as under torch.autocast."""

import fnmatch
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from cases import FUNCTIONS, LAYERS
from flax import nnx

import flaxnets
from flaxnets import nn
from flaxnets.autocast import FLOAT32
from flaxnets.parity import Constant

VALUES = {
    "Linear": ((3, 5), (2, 3)),
    "Bilinear": ((3, 3, 5), (2, 3), (2, 3)),
    "Conv1d": ((3, 4, 3), (2, 3, 8)),
    "Conv2d": ((3, 4, 3), (2, 3, 8, 8)),
    "Conv3d": ((3, 4, 3), (2, 3, 5, 5, 5)),
    "ConvTranspose2d": ((3, 4, 3), (2, 3, 8, 8)),
    "BatchNorm2d": ((3,), (2, 3, 8, 8)),
    "LayerNorm": ((3,), (2, 3)),
    "RNN": ((3, 4), (5, 2, 3)),
    "GRU": ((3, 4), (5, 2, 3)),
    "LSTM": ((3, 4), (5, 2, 3)),
    "LSTMCell": ((3, 4), (2, 3)),
    "ReLU": ((), (2, 3)),
}
# torch.autocast does not support these on CPUs. In flaxnets they are cast like other recurrent and linear layers.
CAST_HERE_ALONE = {"Bilinear", "bilinear", "RNN", "GRU", "RNNBase", "LSTMCell", "GRUCell", "RNNCell"}

# Operations with rules of torch.autocast("cpu") that no function of torch.nn calls, or only under another name.
ELSEWHERE = {
    *("_addmm_activation", "_convolution", "addbmm", "addmm", "baddbmm", "bmm", "cat", "cdist", "fft_*", "index_copy"),
    *("inverse", "linalg_*", "matmul", "mm", "nanquantile", "pinverse", "polar", "prod", "quantile", "stack", "stft"),
    *("svd", "qr", "trace", "triangular_solve", "view_as_complex", "cholesky", "cholesky_*", "geqrf", "orgqr", "ormqr"),
    *("lu_solve", "_lu_with_info", "fake_quantize_per_tensor_affine"),
}
OTHER_NAMES = {
    "_grid_sampler_2d_cpu_fallback": "grid_sample",
    "_native_multi_head_attention": "multi_head_attention_forward",
    "cross_entropy_loss": "cross_entropy",
    "grid_sampler": "grid_sample",
    "grid_sampler_2d": "grid_sample",
    "grid_sampler_3d": "grid_sample",
    "mkldnn_rnn_layer": "LSTM",
    "multilabel_margin_loss_forward": "multilabel_margin_loss",
    "nll_loss2d": "nll_loss",
    "reflection_pad1d": "pad",
    "reflection_pad2d": "pad",
    "replication_pad1d": "pad",
    "replication_pad2d": "pad",
    "replication_pad3d": "pad",
}
# Operations that compute in the dtype of the context. For pad, the mode decides.
LOWER = {
    *("conv1d", "conv2d", "conv3d", "conv_tbc", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear"),
    *("prelu", "scaled_dot_product_attention", "multi_head_attention_forward", "LSTM", "pad", "affine_grid"),
}
# Functions that are in a list of torch.autocast because a function that they call is.
BY_ANOTHER = {"affine_grid", "lp_pool3d", "max_unpool1d"}
# Rows with outputs of higher precision than in torch, by name and dtype: torch has no rule for max_pool3d with indices,
# and an exponent that is an array is not a Python number.
WIDER_HERE = {("max_pool3d", "bfloat16"), ("lp_pool2d", "bfloat16")}
FIRST = {case.name: case for case in reversed([*LAYERS, *FUNCTIONS])}
PADDINGS = [case for case in [*LAYERS, *FUNCTIONS] if "pad" in case.name.lower()]


def first(outputs):
    return first(outputs[0]) if isinstance(outputs, tuple) else outputs


@pytest.mark.parametrize("name", VALUES)
def test_a_layer_computes_in_what_torch_autocast_computes_in(name, rng):
    arguments, *shapes = VALUES[name]
    torch.manual_seed(0)
    twin = getattr(torch.nn, name)(*arguments)
    layer = getattr(nn, name)(*arguments, **({"rngs": nnx.Rngs(0)} if len(arguments) > 1 else {}))
    layer.load_state_dict(twin.state_dict())
    inputs = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        expected = first(twin(*map(torch.from_numpy, inputs)))

    def loss(params, rest):
        with flaxnets.autocast(jnp.bfloat16):
            output = first(nnx.merge(graph, params, rest, copy=True)(*map(jnp.asarray, inputs)))
        return output.astype(jnp.float32).sum(), output

    graph, params, rest = nnx.split(layer, nnx.Param, ...)
    gradients, output = jax.grad(loss, has_aux=True)(params, rest)
    assert str(output.dtype) == ("bfloat16" if name in CAST_HERE_ALONE else str(expected.dtype).removeprefix("torch."))
    np.testing.assert_allclose(output.astype(np.float32), expected.float().numpy(), rtol=0.05, atol=0.02)
    assert all(gradient.dtype == jnp.float32 for gradient in jax.tree.leaves(gradients))


def torchs_list():
    operations = torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCPU")
    return {name.removeprefix("aten::").partition(".")[0] for name in operations}


def test_the_lists_are_torchs():
    inside = {
        OTHER_NAMES.get(name, name)
        for name in torchs_list()
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in ELSEWHERE)
    }
    assert inside | BY_ANOTHER == {name for name in FLOAT32 if not name.endswith("_with_indices")} | LOWER
    assert not {name for name in dir(nn.functional) for pattern in ELSEWHERE if fnmatch.fnmatchcase(name, pattern)}


def as_torch(leaf, dtype):
    if isinstance(leaf, Constant):
        leaf = leaf.array
    if not isinstance(leaf, np.ndarray):
        return leaf
    tensor = torch.from_numpy(leaf)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def as_jax(leaf, dtype):
    if isinstance(leaf, Constant):
        leaf = leaf.array
    if not isinstance(leaf, np.ndarray):
        return leaf
    return jnp.asarray(leaf, dtype if leaf.dtype.kind == "f" else None)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", [*FIRST.values(), *PADDINGS], ids=str)
def test_every_layer_and_function_gives_the_dtypes_that_torch_autocast_gives(case, dtype, rng):
    twin, layer = case.pair()
    inputs, call = case.inputs(rng), case.options()["kwargs"]
    args, kwargs = jax.tree.map(lambda leaf: as_torch(leaf, getattr(torch, dtype)), (tuple(inputs), dict(call)))
    try:
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = jax.tree.leaves(twin.eval()(*args, **kwargs))
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"torch: {error}"[:100])
    graph, state = nnx.split(layer.eval())
    args, kwargs = jax.tree.map(lambda leaf: as_jax(leaf, dtype), (tuple(inputs), dict(call)))
    leaves, structure = jax.tree.flatten((args, kwargs))
    is_array = [isinstance(leaf, jax.Array) for leaf in leaves]

    def outputs(state, arrays):
        arrays = iter(arrays)
        args, kwargs = structure.unflatten(
            [next(arrays) if array else leaf for leaf, array in zip(leaves, is_array, strict=True)]
        )
        with flaxnets.autocast(jnp.bfloat16):
            return nnx.merge(graph, state, copy=True)(*args, **kwargs)

    arrays = [leaf for leaf, array in zip(leaves, is_array, strict=True) if array]
    found = jax.tree.leaves(jax.eval_shape(outputs, state, arrays))
    wanted = [str(leaf.dtype).removeprefix("torch.") for leaf in expected if torch.is_tensor(leaf)]
    wanted = [{"int64": "int32", "complex128": "complex64"}.get(name, name) for name in wanted]
    if (case.name, dtype) in WIDER_HERE:
        wanted = ["float32" if name == "bfloat16" else name for name in wanted]
    if case.name in CAST_HERE_ALONE:
        wanted = ["bfloat16" if name == "float32" else name for name in wanted]
    assert [leaf.dtype.name for leaf in found] == wanted


def test_nothing_is_cast_outside_of_it():
    layer = nn.Linear(2, 2, rngs=nnx.Rngs(0))
    with flaxnets.autocast(jnp.bfloat16), flaxnets.autocast(None):
        assert layer(jnp.ones((1, 2))).dtype == jnp.float32
    assert layer(jnp.ones((1, 2))).dtype == jnp.float32
