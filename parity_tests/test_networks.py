"""Every registered network is the function that its PyTorch twin is."""

import functools
import math

import jax
import numpy as np
import pytest
import torch
from cases import NETWORKS, Network
from flax import nnx

import flaxnets
import torchref
from flaxnets.parity import assert_parity
from flaxnets.registry import get_entry

every_network = pytest.mark.parametrize("case", NETWORKS, ids=str)


@every_network
def test_outputs_gradients_and_buffers_are_torchs(case: Network, rng: np.random.Generator):
    report = assert_parity(*case.pair(), *case.inputs(rng), **case.check)
    print(report)


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
    shape = get_entry(case.name).input_shape
    model = nnx.eval_shape(functools.partial(flaxnets.create_model, case.name))
    output = nnx.eval_shape(lambda m, x: m(x), model, jax.ShapeDtypeStruct((2, *shape), np.float32))
    assert output.shape == (2, 10)


@every_network
def test_every_parameter_gets_a_gradient(case: Network, rng: np.random.Generator):
    model = flaxnets.create_model(case.name, **case.options)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    inputs = [jax.numpy.asarray(x, np.float32) for x in case.inputs(rng)]

    @jax.jit
    def gradient(params):
        return jax.grad(lambda p: (nnx.merge(graphdef, p, rest, copy=True)(*inputs) ** 2).sum())(params)

    named = dict(flaxnets.named_parameters(nnx.merge(graphdef, gradient(params), rest)))
    assert [name for name, g in named.items() if not np.abs(g.get_value()).max() > 0] == []


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
