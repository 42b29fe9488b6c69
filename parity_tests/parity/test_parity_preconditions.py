"""Test that models and inputs that cannot be compared raise one clear error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx

from flaxnets import nn
from flaxnets.parity import assert_parity, check
from flaxnets.parity.wrapping import as_nnx


class Noisy(torch.nn.Linear):
    def forward(self, input):
        return super().forward(input) + torch.randn(())


class NoisyInTraining(torch.nn.Linear):
    def forward(self, input):
        output = super().forward(input)
        return output * torch.rand_like(output) if self.training else output


class Root(torch.nn.Linear):
    def forward(self, input):
        return super().forward(input).sqrt()


class FlaxRoot(nnx.Linear):
    def __call__(self, inputs):
        return jnp.sqrt(super().__call__(inputs))


RNGS = nnx.Rngs(0)
INPUTS = np.random.default_rng(0).normal(size=(3, 4))
QUICK = {"dtypes": ("float64",), "runs": ("eager",)}
BAD = {
    "noise": (Noisy(4, 4), nnx.Linear(4, 4, rngs=RNGS), "Noisy in PyTorch is not deterministic in "),
    "noise in training": (
        NoisyInTraining(4, 4), nnx.Linear(4, 4, rngs=RNGS), r"not deterministic in training mode: .* changes by",
    ),
    "NaN": (Root(4, 4), FlaxRoot(4, 4, rngs=RNGS), r"Root in PyTorch returns NaN in training mode: output 0"),
    "other inputs": (
        torch.nn.Linear(5, 4), nn.Linear(5, 4, rngs=RNGS), r"Linear in PyTorch cannot be called on .* shapes \(3, 4\)",
    ),
    "inputs of another model": (
        torch.nn.Linear(5, 4), nnx.Linear(5, 4, rngs=RNGS), r"Linear in PyTorch cannot be called on .* shapes \(3, 4\)",
    ),
    "swapped": (nnx.Linear(4, 4, rngs=RNGS), torch.nn.Linear(4, 4), "first module is a Linear. Expected a torch"),
    "no model": (torch.nn.Linear(4, 4), 3, "int is not a JAX model. Expected a flax.nnx.Module, a flax.linen.Module"),
    "weights that a call overwrites": (
        torch.nn.Linear(4, 4), nnx.Sequential(nnx.WeightNorm(nnx.Linear(4, 4, rngs=RNGS), rngs=RNGS)),
        r"layers.0 is an nnx.WeightNorm, which overwrites the weights .* Fix: check the models without",
    ),
    "spectral normalisation": (
        torch.nn.Linear(4, 4), nnx.SpectralNorm(nnx.Linear(4, 4, rngs=RNGS), rngs=RNGS),
        r"the Flax module is an nnx.SpectralNorm, which overwrites the weights",
    ),
    "Linen on other inputs": (
        torch.nn.Linear(4, 4), linen.ConvTranspose(3, (1, 1, 1)), r"cannot be initialised on inputs .* \(3, 4\) in any",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("torch_module", "flax_module", "message"), BAD.values(), ids=BAD)
def test_what_proves_nothing_is_an_error(torch_module, flax_module, message):
    with pytest.raises((TypeError, ValueError), match=message):
        check(torch_module, flax_module, INPUTS, **QUICK)


def test_noise_in_training_leaves_the_evaluation_mode_to_compare():
    assert_parity(NoisyInTraining(4, 4), nnx.Linear(4, 4, rngs=RNGS), INPUTS, modes=("eval",), **QUICK)


class Depth(torch.nn.Module):
    """Stochastic depth: a residual branch that is dropped for some examples, written in two ways."""

    def __init__(self, kept):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.kept = kept

    def forward(self, x):
        y = self.linear(x)
        return x + (y * self.kept(y.new_empty(len(y), 1)) / 0.75 if self.training else y)


class FlaxDepth(nnx.Module):
    def __init__(self, *, rngs):
        self.linear = nnx.Linear(4, 4, rngs=rngs)
        self.drop = nnx.Dropout(0.25, broadcast_dims=(1,), rngs=rngs)

    def __call__(self, x):
        return x + self.drop(self.linear(x))


class FlaxDepthByHand(nnx.Module):
    def __init__(self, *, rngs):
        self.linear, self.rngs = nnx.Linear(4, 4, rngs=rngs), rngs

    def __call__(self, x, training):
        y = self.linear(x)
        if training:
            y = y * jax.random.bernoulli(self.rngs.dropout(), 0.75, (len(y), 1)) / 0.75
        return x + y


@pytest.mark.parametrize("flax_type", [FlaxDepth, FlaxDepthByHand])
@pytest.mark.parametrize(
    "kept", [lambda x: x.bernoulli_(0.75), lambda x: torch.bernoulli(torch.full_like(x, 0.75))], ids=["in place", "new"]
)
def test_stochastic_depth_is_the_same_on_both_sides(kept, flax_type):
    inputs = np.random.default_rng(1).normal(size=(9, 4))
    assert_parity(Depth(kept), flax_type(rngs=nnx.Rngs(0)), inputs, **QUICK)


def test_a_model_that_must_be_told_its_mode_is_located_in_too():
    class Wrong(FlaxDepthByHand):
        def __call__(self, x, training):
            return jax.nn.relu(super().__call__(x, training))

    inputs = np.random.default_rng(1).normal(size=(9, 4))
    report = check(Depth(lambda x: x.bernoulli_(0.75)), Wrong(rngs=nnx.Rngs(0)), inputs, **QUICK)
    assert report.location.cause.name == "activation-extra"


class TorchDropout(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.drop = torch.nn.Linear(4, 4), torch.nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.linear(x))


class FlaxDropout(nn.Module):
    """A Flax module with the names and layers of torch, and ``nnx.Dropout``."""

    def __init__(self, rate, *, rngs):
        self.linear, self.drop = nn.Linear(4, 4, rngs=rngs), nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x):
        return self.drop(self.linear(x))


def test_dropout_of_flax_under_the_names_of_torch_uses_the_same_masks():
    assert_parity(TorchDropout(), FlaxDropout(0.5, rngs=nnx.Rngs(0)), INPUTS, **QUICK)
    report = check(TorchDropout(), FlaxDropout(0.25, rngs=nnx.Rngs(0)), INPUTS, **QUICK)
    assert report.location.cause.name == "dropout-rate"


@pytest.mark.parametrize("is_equal", [True, False], ids=["equal names", "other names"])
def test_dropout_within_recurrent_layers_is_off_or_the_same_on_both_sides(is_equal):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = torch.nn.LSTM(4, 3, 2, dropout=0.5, proj_size=2)

        def forward(self, x):
            return self.rnn(x)[0]

    class FlaxNet(nn.Module):
        def __init__(self, *, rngs):
            setattr(self, "rnn" if is_equal else "reader", nn.LSTM(4, 3, 2, dropout=0.5, proj_size=2, rngs=rngs))

        def __call__(self, x):
            return (self.rnn if is_equal else self.reader)(x)[0]

    matching = None if is_equal else {"rnn": "reader"}
    report = check(Net(), FlaxNet(rngs=nnx.Rngs(0)), INPUTS[:, None], matching=matching, **QUICK)
    assert not report.failures, str(report)


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Conv(5, (3, 3), padding="VALID")(x)
        return linen.Dense(2)(jax.nn.relu(x).mean((1, 2)))


class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 5, 3)
        self.fc = torch.nn.Linear(5, 2)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))


@jax.tree_util.register_pytree_with_keys_class
class Affine:
    """A callable pytree, as in Equinox."""

    def __init__(self, weight, bias, activation=jax.nn.relu):
        self.weight, self.bias, self.activation = weight, bias, activation

    def tree_flatten_with_keys(self):
        names = ("weight", "bias", "activation")
        return [(jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names], None

    def tree_flatten(self):
        return (self.weight, self.bias, self.activation), None

    @classmethod
    def tree_unflatten(cls, aux, children):
        return cls(*children)

    def __call__(self, x):
        return self.activation(x @ self.weight.T + self.bias[None])


JAX = {
    "Linen, channels last": (TorchNet(), LinenNet(), np.random.default_rng(0).normal(size=(2, 3, 7, 8))),
    "Linen, a sequence": (torch.nn.Linear(6, 3), linen.Dense(3), np.random.default_rng(0).normal(size=(2, 5, 6))),
    "a callable pytree": (
        torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU()), Affine(jnp.ones((2, 4)), jnp.ones(2)), INPUTS,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("torch_module", "flax_module", "inputs"), JAX.values(), ids=JAX)
def test_other_models_of_jax_are_compared_as_they_are(torch_module, flax_module, inputs):
    report = check(torch_module, flax_module, inputs, **QUICK)
    assert report.passed, str(report)
    assert type(flax_module).__name__ in report.title
    assert report.worst("parameter gradient") is not None


def test_a_module_of_nnx_stays_what_it_is():
    module = nnx.Linear(4, 4, rngs=RNGS)
    assert as_nnx(module, torch.nn.Linear(4, 4), INPUTS) is module


KINK = {"a": [64.0, 1.0], "b": [-64.0, 1.0], "c": [1e-6, 1.0]}  # float32 rounds b + c to b


class TorchKink(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for name, values in KINK.items():
            self.register_parameter(name, torch.nn.Parameter(torch.tensor(values)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu((self.a + self.b) * x + self.c * x)


class FlaxKink(nnx.Module):
    def __init__(self, narrow: bool, rngs: nnx.Rngs) -> None:
        self.narrow = narrow
        for name, values in KINK.items():
            setattr(self, name, nnx.Param(jnp.array(values)))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jax.nn.relu(self.a * x + (self.b + self.c) * x)
        return y.astype(jnp.bfloat16).astype(y.dtype) if self.narrow and y.dtype == jnp.float32 else y


@pytest.mark.parametrize("narrow", [False, True])
def test_rounding_at_a_kink_is_no_fault_and_rounding_with_all_weights_is(narrow):
    report = check(TorchKink(), FlaxKink(narrow, rngs=nnx.Rngs(0)), np.ones(2), weights="torch")
    assert report.passed != narrow
    assert {each.dtype for each in report.failures} == ({"float32"} if narrow else set())
