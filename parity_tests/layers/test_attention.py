"""Tests of attention, transformers and recurrent layers beyond the tables of cases."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from flaxnets import nn
from flaxnets.parity import transfer


def twins(name: str, *args, **kwargs) -> tuple[torch.nn.Module, nn.Module]:
    theirs = getattr(torch.nn, name)(*args, **kwargs)
    ours = getattr(nn, name)(*args, **kwargs, rngs=nnx.Rngs(0))
    transfer(theirs, ours)
    return theirs.eval(), ours.eval()


def test_weights_of_a_query_that_may_attend_to_nothing_are_nan_as_torchs(rng):
    theirs, ours = twins("MultiheadAttention", 6, 2)
    x = rng.normal(size=(4, 2, 6)).astype(np.float32)
    nobody = np.array([[False] * 4, [True] * 4])
    expected = theirs(*[torch.from_numpy(x)] * 3, torch.from_numpy(nobody))
    found = ours(x, x, x, jnp.asarray(nobody))
    for a, b in zip(expected, found, strict=True):
        assert np.isnan(b).any()
        np.testing.assert_allclose(b, a.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_torchs_inference_kernel_differs_at_padded_steps_alone(rng):
    """Check the statement in the docstring of TransformerEncoder."""
    layer = torch.nn.TransformerEncoderLayer(6, 2, 5, batch_first=True)
    theirs = torch.nn.TransformerEncoder(layer, 2).eval()
    ours = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 5, batch_first=True, rngs=nnx.Rngs(0)), 2)
    transfer(theirs, ours)
    x = rng.normal(size=(2, 4, 6)).astype(np.float32)
    padded = np.array([[False] * 4, [False, False, True, True]])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that nested tensors are a prototype
        expected = theirs(torch.from_numpy(x), src_key_padding_mask=torch.from_numpy(padded)).numpy()
    found = np.asarray(ours.eval()(x, src_key_padding_mask=jnp.asarray(padded)))
    np.testing.assert_allclose(found[~padded], expected[~padded], rtol=1e-4, atol=1e-5)
    assert (expected[padded] == 0).all()
    assert (found[padded] != 0).all()


def test_layers_of_a_stack_begin_alike_and_drop_differently():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, dropout=0.5, rngs=nnx.Rngs(0)), 2)
    first, second = encoder.layers
    np.testing.assert_array_equal(first.linear1.weight[...], second.linear1.weight[...])
    for name in ("self_attn", "dropout", "dropout1"):
        masks = [getattr(layer, name).draw_mask((100,)) for layer in (first, second)]
        assert (masks[0] != masks[1]).any()


def test_transformer_and_attention_begin_with_torchs_distributions():
    for name, kwargs in (
        ("MultiheadAttention", {"embed_dim": 64, "num_heads": 4, "add_bias_kv": True}),
        (
            "Transformer",
            {"d_model": 32, "nhead": 4, "num_encoder_layers": 1, "num_decoder_layers": 1, "batch_first": True},
        ),
    ):
        ours = getattr(nn, name)(**kwargs, rngs=nnx.Rngs(3)).state_dict()
        for key, expected in getattr(torch.nn, name)(**kwargs).state_dict().items():
            values, expected = np.asarray(ours[key]), expected.numpy()
            np.testing.assert_allclose(values.std(), expected.std(), rtol=12 / values.size**0.5, atol=1e-7)


def test_attention_drops_with_the_mask_that_is_given_and_draws_a_new_one_each_time():
    layer = nn.MultiheadAttention(4, 2, dropout=0.5, rngs=nnx.Rngs(0))
    x = jnp.ones((6, 3, 4))
    first, second = layer(x, x, x)[1], layer(x, x, x)[1]
    assert (first != second).any()
    mask = jnp.zeros((3, 2, 6, 6), bool).at[..., 0].set(True)
    weights = layer(x, x, x, average_attn_weights=False, dropout_mask=mask)[1]
    np.testing.assert_allclose(weights, mask * 2 / 6, rtol=1e-6)
    np.testing.assert_allclose(layer.eval()(x, x, x, dropout_mask=mask)[1], 1 / 6, rtol=1e-6)


def test_dropout_without_key_or_mask_says_so():
    x = jnp.ones((4, 3))
    with pytest.raises(ValueError, match="expected a random key or a mask"):
        nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5)


def test_square_subsequent_mask_is_torchs():
    expected = torch.nn.Transformer.generate_square_subsequent_mask(4).numpy()
    np.testing.assert_array_equal(nn.Transformer.generate_square_subsequent_mask(4), expected)
    assert nn.Transformer.generate_square_subsequent_mask(2, dtype=jnp.float16).dtype == jnp.float16
    with pytest.raises(RuntimeError, match="sz must not be negative, got -1"):
        nn.Transformer.generate_square_subsequent_mask(-1)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_stays_half_and_is_as_near_as_torchs(dtype, rng):
    q, k, v = (rng.normal(size=(2, 2, 5, 8)).astype(np.float32) for _ in range(3))
    exact = torch.nn.functional.scaled_dot_product_attention(*map(torch.from_numpy, (q, k, v))).numpy()
    halves = [torch.from_numpy(x).to(getattr(torch, dtype)) for x in (q, k, v)]
    theirs = torch.nn.functional.scaled_dot_product_attention(*halves).float().numpy()
    ours = nn.functional.scaled_dot_product_attention(*(jnp.asarray(x, dtype) for x in (q, k, v)))
    assert ours.dtype == dtype
    assert np.abs(np.asarray(ours, np.float32) - exact).max() <= 1.5 * np.abs(theirs - exact).max()
    layer = nn.TransformerEncoderLayer(8, 2, 4, rngs=nnx.Rngs(0)).to(dtype)
    assert layer(jnp.asarray(q[0], dtype)).dtype == dtype


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_packed_sequences_of_torch_are_refused_with_what_to_write(name):
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(3, 2), torch.ones(1, 2)])
    getattr(torch.nn, name)(2, 4)(packed)
    with pytest.raises(
        NotImplementedError, match=f"{name}: expected an array, got a PackedSequence; .*pack_padded_sequence"
    ):
        getattr(nn, name)(2, 4, rngs=nnx.Rngs(0))(packed)


@pytest.mark.parametrize(
    "args", [("LSTM", 3, 4, 2, True, False, 0.0, True, 2), ("RNN_RELU", 3, 4), ("GRU", 3, 4, 1, False)]
)
def test_bases_have_torchs_parameters(args):
    expected = torch.nn.RNNBase(*args).state_dict()
    found = nn.RNNBase(*args, rngs=nnx.Rngs(0)).state_dict()
    assert [(k, a.shape) for k, a in found.items()] == [(k, tuple(a.shape)) for k, a in expected.items()]
    assert isinstance(nn.LSTM(3, 4, rngs=nnx.Rngs(0)), nn.RNNBase)
    cell, other = torch.nn.RNNCellBase(3, 4, True, 2), nn.RNNCellBase(3, 4, True, 2, rngs=nnx.Rngs(0))
    assert {k: a.shape for k, a in other.state_dict().items()} == {
        k: tuple(a.shape) for k, a in cell.state_dict().items()
    }


def test_a_cell_step_by_step_is_the_layer(rng):
    layer, cell = nn.LSTM(3, 4, rngs=nnx.Rngs(0)), nn.LSTMCell(3, 4, rngs=nnx.Rngs(0))
    cell.load_state_dict({name.removesuffix("_l0"): array for name, array in layer.state_dict().items()})
    x = jnp.asarray(rng.normal(size=(5, 2, 3)), jnp.float32)
    output, (_, c_n) = layer(x)
    state = None
    for step, expected in zip(x, output, strict=True):
        state = cell(step, state)
        np.testing.assert_allclose(state[0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state[1], c_n[0], rtol=1e-5, atol=1e-6)


def test_a_stack_can_be_made_and_called_without_computing():
    def build():
        return nn.Transformer(4, 2, 1, 1, 8, rngs=nnx.Rngs(0))

    abstract = nnx.eval_shape(build)
    assert list(abstract.state_dict()) == list(build().state_dict())
    model = build()
    graphdef, state = nnx.split(model)
    out = jax.eval_shape(lambda s, x: nnx.merge(graphdef, s, copy=True)(x, x), state, jnp.ones((3, 2, 4)))
    assert out.shape == (3, 2, 4)
