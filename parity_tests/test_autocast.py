"""Mixed precision: what is computed in bfloat16 is what torch.autocast computes in it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import flaxnets
from flaxnets import nn

LAYERS = {
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
# torch has no autocast for these on CPU; in flaxnets they are recurrent layers and linear maps like the others.
CAST_HERE_ALONE = {"Bilinear", "RNN", "GRU", "LSTMCell"}


def first(outputs):
    return first(outputs[0]) if isinstance(outputs, tuple) else outputs


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_in_what_torch_autocast_computes_in(name, rng):
    arguments, *shapes = LAYERS[name]
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


def test_nothing_is_cast_outside_of_it():
    layer = nn.Linear(2, 2, rngs=nnx.Rngs(0))
    with flaxnets.autocast(jnp.bfloat16), flaxnets.autocast(None):
        assert layer(jnp.ones((1, 2))).dtype == jnp.float32
    assert layer(jnp.ones((1, 2))).dtype == jnp.float32
