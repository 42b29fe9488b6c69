"""Tests that batch statistics per device equal those of torch layers that get the examples of one device each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from flaxnets import nn
from flaxnets.nn.functional.normalization import statistics_of_parts
from flaxnets.training import Sharding, make_mesh

PARTS = 4
CASES = {
    "vectors": (nn.BatchNorm1d, torch.nn.BatchNorm1d, (8, 3), {}),
    "sequences": (nn.BatchNorm1d, torch.nn.BatchNorm1d, (8, 3, 5), {"momentum": None}),
    "images": (nn.BatchNorm2d, torch.nn.BatchNorm2d, (8, 3, 4, 4), {"affine": False}),
    "volumes": (nn.BatchNorm3d, torch.nn.BatchNorm3d, (4, 3, 2, 3, 2), {"momentum": 0.3}),
}


@pytest.mark.parametrize("case", CASES)
def test_each_part_of_a_batch_is_normalised_as_torch_normalises_it_alone(case, rng):
    flax_class, torch_class, shape, options = CASES[case]
    inputs, cotangent = rng.normal(size=(2, *shape))
    with jax.enable_x64(True):
        graphdef, state = nnx.split(flax_class(3, **options).double())

        def outputs(x):
            layer = nnx.merge(graphdef, state, copy=True)
            with statistics_of_parts(PARTS):
                return layer(x), (layer.running_mean[...], layer.running_var[...])

        output, pull, running = jax.vjp(outputs, jnp.asarray(inputs), has_aux=True)
        (gradient,) = pull(jnp.asarray(cotangent))
    buffers = []
    for i, part in enumerate(np.split(inputs, PARTS)):
        rows = slice(i * len(part), (i + 1) * len(part))
        twin = torch_class(3, dtype=torch.float64, **options)
        x = torch.tensor(part, requires_grad=True)
        expected = twin(x)
        expected.backward(torch.tensor(cotangent[rows]))
        np.testing.assert_allclose(output[rows], expected.detach(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(gradient[rows], x.grad, rtol=0, atol=1e-10)
        buffers.append((twin.running_mean.numpy(), twin.running_var.numpy()))
    np.testing.assert_allclose(running, np.mean(buffers, axis=0), rtol=0, atol=1e-12)


def test_parts_that_do_not_divide_a_batch_and_unknown_statistics_are_refused():
    with statistics_of_parts(3), pytest.raises(ValueError, match="expected a batch that 3 divides"):
        nn.BatchNorm1d(2)(jnp.ones((4, 2)))
    with statistics_of_parts(4), pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm1d(2)(jnp.ones((4, 2)))
    with pytest.raises(ValueError, match="batch_statistics='local'"):
        Sharding(make_mesh("data=1", jax.devices()[:1]), batch_statistics="local")  # type: ignore[arg-type]
