"""Tests that every registered network computes the same as its PyTorch counterpart."""

import functools
import math

import jax
import numpy as np
import pytest
import torch
from cases import NETWORKS, VARIANTS, Network
from conftest import PRODUCTION
from flax import nnx

import flaxnets
import torchref
from flaxnets.parity import assert_parity
from flaxnets.registry import get_entry

every_network = pytest.mark.parametrize("case", NETWORKS, ids=lambda case: case.name)


@pytest.mark.parametrize("case", [*NETWORKS, *VARIANTS], ids=str)
def test_outputs_gradients_and_buffers_are_torchs(case: Network, rng: np.random.Generator):
    pair, inputs = case.pair(), case.inputs(rng)
    # Equality is proved in float64. To save time, float32 is tested only compiled, but with the compiler options that
    # training uses.
    print(assert_parity(*pair, *inputs, dtypes=["float64"], **case.check))
    print(assert_parity(*pair, *inputs, dtypes=["float32"], runs=["jit"], compiler_options=PRODUCTION, **case.check))


@every_network
def test_full_size_has_torchs_names_and_shapes(case: Network):
    with torch.device("meta"):
        torch_module = torchref.create_model(case.name)
    flax_module = nnx.eval_shape(functools.partial(flaxnets.create_model, case.name))
    expected = {name: tuple(tensor.shape) for name, tensor in torch_module.state_dict().items()}
    found = {name: tuple(array.shape) for name, array in flaxnets.state_dict(flax_module).items()}
    assert list(found.items()) == list(expected.items())
    count = sum(math.prod(parameter.shape) for _, parameter in flaxnets.named_parameters(flax_module))
    assert count == sum(parameter.numel() for parameter in torch_module.parameters()) == case.parameters


@every_network
def test_full_size_takes_the_registered_input(case: Network):
    entry = get_entry(case.name)
    model = nnx.eval_shape(functools.partial(flaxnets.create_model, case.name))

    def output_shapes(shape, dtype=np.float32):
        output = nnx.eval_shape(lambda m, x: m(x), model, jax.ShapeDtypeStruct(shape, dtype))
        return [leaf.shape for leaf in jax.tree.leaves(output)]

    if entry.task == "classification":
        assert output_shapes((2, *entry.input_shape)) == [(2, 10)]
    elif entry.task == "regression":
        assert output_shapes((2, *entry.input_shape)) == [(2, 1)]
    elif entry.task == "language":
        assert output_shapes((*entry.input_shape, 2), np.int32)[0] == (2 * entry.input_shape[0], 28)
    else:
        assert output_shapes(entry.input_shape if case.name in UNBATCHED else (2, *entry.input_shape))


UNBATCHED = ("centered", "corr2d", "corr2d_multi", "pool2d")


@every_network
def test_every_parameter_gets_a_gradient(case: Network, rng: np.random.Generator):
    model = flaxnets.create_model(case.name, **case.options)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    inputs = [jax.numpy.asarray(x, np.float32 if x.dtype.kind == "f" else None) for x in case.inputs(rng)]

    @jax.jit
    def gradient(params):
        def total(p):
            outputs = jax.tree.leaves(nnx.merge(graphdef, p, rest, copy=True)(*inputs))
            return sum((output**2).sum() for output in outputs)

        return jax.grad(total)(params)

    named = dict(flaxnets.named_parameters(nnx.merge(graphdef, gradient(params), rest)))
    without = [name for name, g in named.items() if not np.abs(g.get_value()).max() > 0]
    assert without == list(case.unused)


def test_densenet_has_the_documented_channels():
    model = nnx.eval_shape(functools.partial(flaxnets.create_model, "densenet"))
    x = jax.ShapeDtypeStruct((1, 1, 96, 96), np.float32)
    channels = []
    for module in list(model)[:8]:
        x = nnx.eval_shape(lambda m, x: m(x), module, x)
        channels.append(x.shape[1])
    assert channels == [64, 192, 96, 224, 112, 240, 120, 248]


def test_resnet18_halves_the_image_in_each_block_but_the_first():
    model = nnx.eval_shape(functools.partial(flaxnets.create_model, "resnet18"))
    x = jax.ShapeDtypeStruct((1, 1, 96, 96), np.float32)
    shapes = []
    for module in list(model)[:5]:
        x = nnx.eval_shape(lambda m, x: m(x), module, x)
        shapes.append(x.shape[1:])
    assert shapes == [(64, 24, 24), (64, 24, 24), (128, 12, 12), (256, 6, 6), (512, 3, 3)]


def test_a_shared_linear_layer_is_squared_and_its_gradient_is_the_sum():
    model = flaxnets.create_model("shared_linear")
    model.load_state_dict({"0.weight": [[3.0]] * np.ones((1, 1)), "1.weight": 3 * np.ones((1, 1))})
    x = jax.numpy.ones((1, 1))
    assert model(x).item() == 9
    assert nnx.grad(lambda m: m(x).sum())(model)["0"]["weight"].get_value().item() == 6


def test_the_centered_layer_takes_the_mean_off():
    x = jax.numpy.arange(1.0, 6.0)
    assert flaxnets.create_model("centered")(x).tolist() == [-2, -1, 0, 1, 2]


def test_lenet_on_32_pixels_has_ten_parameter_tensors():
    shapes = [parameter.shape for _, parameter in flaxnets.named_parameters(flaxnets.create_model("lenet_relu"))]
    assert len(shapes) == 10
    assert shapes[0] == (6, 1, 5, 5)
