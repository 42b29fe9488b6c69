"""Tests that the small networks of the benchmarks are equal in flaxnets, torch and plain Flax NNX."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from benchmarks import small_flaxnets, small_nnx, small_torch
from benchmarks.sizes import SMALL, get_size
from flaxnets.parity import assert_parity

# Options that make the networks smaller than in the benchmarks, and the shapes of their inputs.
OPTIONS = {
    "mobilenet": ({"channels": (8, 12)}, (2, 3, 16, 16)),
    "resnext": ({"channels": (64, 128)}, (2, 3, 8, 8)),
    "convnext": ({"channels": (8, 16)}, (2, 3, 16, 16)),
    "unet": ({"channels": (4, 8, 12)}, (2, 3, 8, 8)),
    "video_cnn": ({"channels": (4, 8)}, (2, 3, 4, 8, 8)),
    "tcn": ({"channels": (6, 6, 4)}, (2, 8, 12)),
}


def test_all_libraries_have_all_networks_and_sizes():
    for networks in (small_flaxnets.NETWORKS, small_torch.NETWORKS, small_nnx.NETWORKS, OPTIONS):
        assert set(networks) == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_outputs_gradients_and_buffers_are_those_of_the_torch_twin(name, rng):
    options, shape = OPTIONS[name]
    torch.manual_seed(0)
    ours = small_flaxnets.NETWORKS[name](**options, rngs=nnx.Rngs(0))
    twin, inputs = small_torch.NETWORKS[name](**options), rng.normal(size=shape)
    assert_parity(twin, ours, inputs, modes=["train"], dtypes=["float64"], runs=["jit"])


@pytest.mark.parametrize("name", SMALL)
def test_networks_in_flaxs_layers_have_the_twins_outputs_and_parameters_in_shape(name):
    options, shape = OPTIONS[name]

    def shapes(build, channels_last):
        def outputs_and_parameters(x):
            model = build(**options, rngs=nnx.Rngs(0))
            y = model(jnp.moveaxis(x, 1, -1) if channels_last else x)
            return jnp.moveaxis(y, -1, 1) if channels_last else y, nnx.state(model, nnx.Param)

        x = jax.ShapeDtypeStruct(shape, np.float32)
        y, parameters = jax.eval_shape(outputs_and_parameters, x)
        return y.shape, sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(parameters))

    ours = shapes(small_flaxnets.NETWORKS[name], channels_last=False)
    assert shapes(small_nnx.NETWORKS[name], channels_last=True) == ours
    pixels = shape[2:] if get_size(name).task == "segmentation" else ()
    assert ours[0] == (2, 10, *pixels)
