"""Plant common faults in Flax layers and networks: ``check`` must find and name each fault."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import flaxnets
import torchref
from flaxnets import nn
from flaxnets.nn import functional as F
from flaxnets.parity import assert_parity, check, relative_error


class TransposedLinear(nn.Linear):
    def __call__(self, input):
        return F.linear(input, self.weight[...].T, self.bias[...])


class BiasedVariance(nn.BatchNorm2d):
    def __call__(self, input):
        count = input.size // input.shape[1]
        before = self.running_var[...]
        output = super().__call__(input)
        if self.training:
            unbiased = (self.running_var[...] - 0.9 * before) / 0.1
            self.running_var[...] = 0.9 * before + 0.1 * unbiased * (count - 1) / count
        return output


class MomentumOfTheOtherSense(nn.BatchNorm2d):
    def __init__(self, num_features):
        super().__init__(num_features, momentum=0.9)


class ForgottenCounter(nn.BatchNorm2d):
    def __call__(self, input):
        before = self.num_batches_tracked[...]
        output = super().__call__(input)
        self.num_batches_tracked[...] = before
        return output


class WrongPadding(nn.Conv2d):
    def __call__(self, input):
        return F.conv2d(jnp.pad(input, ((0, 0), (0, 0), (2, 0), (1, 1))), self.weight[...], self.bias[...])


class FlippedKernel(nn.Conv2d):
    def __call__(self, input):
        return F.conv2d(input, self.weight[...][..., ::-1, ::-1], self.bias[...], padding=self.padding)


class LastOfEqualMaxima(nn.MaxPool2d):
    def __call__(self, input):
        return super().__call__(input[..., ::-1, ::-1])[..., ::-1, ::-1]


class WrongGradient(nn.ReLU):
    def __call__(self, input):
        return jnp.maximum(input, 0)  # Its gradient at 0 is 1/2.


class NoScaling(nn.Dropout):
    def __call__(self, input):
        return super().__call__(input) * (1 - self.p) if self.training else input


def _network(module: nnx.Module, name: str, replacement: nnx.Module) -> nnx.Module:
    *path, last = name.split(".")
    setattr(module.get_submodule(".".join(path)), last, replacement)
    return module


def _resnet(module):
    return module.create_model("resnet18", num_channels=(4, 6))


IMAGES = np.random.default_rng(1).normal(size=(2, 1, 33, 33))
TIES = np.random.default_rng(2).integers(-1, 2, (2, 3, 8, 8)).astype(float)

QUICK = {"dtypes": ("float64",), "runs": ("jit",)}

# Description of the fault -> (torch module, Flax module with the fault, inputs, words that the report must contain).
FAULTS = {
    "a transposed weight": lambda r: (torch.nn.Linear(3, 3), TransposedLinear(3, 3, rngs=r), np.eye(3), ["output 0"]),
    "a biased running variance, deep inside": lambda r: (
        _resnet(torchref),
        _network(_resnet(flaxnets), "2.0.bn2", BiasedVariance(6)),
        IMAGES,
        ["buffer 2.0.bn2.running_var", "fault is in 2.0.bn2 (BatchNorm2d): buffer running_var"],
    ),
    "momentum of the other sense": lambda r: (
        torch.nn.BatchNorm2d(3), MomentumOfTheOtherSense(3), TIES, ["buffer running_mean", "buffer running_var"],
    ),
    "a counter that stands still": lambda r: (
        torch.nn.BatchNorm2d(3), ForgottenCounter(3), TIES, ["buffer num_batches_tracked"],
    ),
    "a padding on the wrong side, deep inside": lambda r: (
        _resnet(torchref),
        _network(_resnet(flaxnets), "2.1.conv1", WrongPadding(6, 6, 3, padding=1, rngs=r)),
        IMAGES,
        ["fault is in 2.1.conv1 (Conv2d): output 0"],
    ),
    "a flipped kernel": lambda r: (
        torch.nn.Conv2d(3, 2, 3), FlippedKernel(3, 2, 3, rngs=r), TIES, ["output 0", "parameter gradient weight"],
    ),
    "a tie's gradient to the last maximum": lambda r: (
        torch.nn.MaxPool2d(2), LastOfEqualMaxima(2), TIES, ["input gradient 0"],
    ),
    "a gradient at the kink": lambda r: (torch.nn.ReLU(), WrongGradient(), TIES, ["input gradient 0"]),
    "dropout without scaling": lambda r: (torch.nn.Dropout(0.5), NoScaling(0.5, rngs=r), TIES, ["output 0 (train"]),
    "another eps": lambda r: (torch.nn.BatchNorm2d(3), nn.BatchNorm2d(3, eps=1.1e-5), TIES, ["output 0", "float64"]),
    "parameters in another order": lambda r: (
        torch.nn.Sequential(torch.nn.ReLU()), _reordered(), TIES, ["only in Flax, not in torch: 0.weight"],
    ),
    "a missing bias": lambda r: (
        torch.nn.Linear(3, 2), nn.Linear(3, 2, bias=False, rngs=r), np.eye(3), ["state dict: missing in Flax: bias"],
    ),
    "another shape": lambda r: (
        torch.nn.Linear(3, 2), nn.Linear(2, 2, rngs=r), np.eye(3), ["weight is [(2, 3), 'float'] in torch"],
    ),
    "a buffer outside the state dict that should be in it": lambda r: (
        torch.nn.BatchNorm2d(3), _hidden_statistics(), TIES, ["state dict: missing in Flax: running_mean"],
    ),
    "an output of another shape": lambda r: (
        torch.nn.Flatten(), nn.Flatten(0), TIES, ["torch returns ['float64[2, 192]"],
    ),
    "a shared module that is not shared": lambda r: (
        _twice(torch.nn, torch.nn.Linear(3, 3)), nn.Sequential(nn.Linear(3, 3, rngs=r), nn.Linear(3, 3, rngs=r)),
        np.eye(3), ["parameters: only in Flax, not in torch: 1.weight, 1.bias"],
    ),
}  # fmt: skip


def _reordered() -> nnx.Module:
    return nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False))


def _hidden_statistics() -> nnx.Module:
    norm = nn.BatchNorm2d(3)
    for buffer in norm.buffers():
        buffer.set_metadata("persistent", False)
    return norm


def _twice(nn, layer):
    return nn.Sequential(layer, layer)


@pytest.mark.parametrize("plant", FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_caught_and_named(plant):
    torch_module, flax_module, inputs, words = plant(nnx.Rngs(0))
    report = check(torch_module, flax_module, inputs, **QUICK)
    assert not report.passed
    for word in words:
        assert word in str(report)
    with pytest.raises(AssertionError, match="NOT equal"):
        assert_parity(torch_module, flax_module, inputs, **QUICK)


@pytest.mark.parametrize(("kind", "passes"), [(nn.Linear, True), (TransposedLinear, False)])
def test_float32_gradients_measured_against_float64_still_find_faults(kind, passes):
    pair = torch.nn.Linear(3, 3), kind(3, 3, rngs=nnx.Rngs(0))
    report = check(*pair, np.eye(3), dtypes=("float32",), runs=("jit",), float32_gradients="float64")
    assert report.passed == passes
    assert any(failure.kind == "parameter gradient" for failure in report.failures) != passes


def test_the_order_of_names_counts():
    class Swapped(nn.Module):
        def __init__(self):
            self.bias = nnx.Param(jnp.zeros(2))
            self.weight = nnx.Param(jnp.zeros((2, 3)))

    report = check(torch.nn.Linear(3, 2), Swapped(), np.eye(3))
    assert "the order differs: torch ['weight', 'bias'], Flax ['bias', 'weight']" in str(report)


def test_nothing_compared_is_not_a_pass():
    assert not check(torch.nn.ReLU(), nn.ReLU(), np.ones(2), modes=()).passed


@pytest.mark.parametrize(
    ("a", "b", "passes"),
    [
        ([1.0, np.nan], [1.0, np.nan], True),
        ([1.0, np.nan], [1.0, 2.0], False),
        ([1.0, 2.0], [1.0, np.nan], False),
        ([1.0, np.inf], [1.0, np.inf], True),
        ([1.0, np.inf], [1.0, -np.inf], False),
        ([0.0, 0.0], [0.0, 1e-3], False),
        ([1.0], [1.0, 1.0], False),
    ],
)
def test_nan_infinity_zero_and_shape_are_compared_honestly(a, b, passes):
    assert (relative_error(np.array(a), np.array(b)) <= 1e-12) == passes


def test_the_modules_that_are_compared_do_not_change():
    torch_module, flax_module = torch.nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    before = {k: v.clone() for k, v in torch_module.state_dict().items()}
    check(torch_module, flax_module, np.random.default_rng(0).normal(size=(4, 3)))
    for name, array in flax_module.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
        assert (torch_module.state_dict()[name] == before[name]).all()
    assert not jax.config.jax_enable_x64


class Positive(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x):
        return torch.relu(self.linear(x))


class Linear(nn.Module):
    def __init__(self, *, rngs):
        self.linear = nn.Linear(4, 4, rngs=rngs)

    def __call__(self, x):
        return self.linear(x)


def test_the_first_of_two_modules_with_one_fault_is_named_even_if_its_inputs_hide_the_fault():
    theirs = torch.nn.Sequential(Positive(), Positive())
    with torch.no_grad():
        for parameter in theirs[0].parameters():
            parameter.abs_()
        theirs[1].linear.bias.sub_(0.5)
    ours = nn.Sequential(Linear(rngs=nnx.Rngs(0)), Linear(rngs=nnx.Rngs(1)))
    images = np.abs(np.random.default_rng(0).normal(size=(3, 4)))
    report = check(theirs, ours, images, weights="torch", **QUICK)
    assert report.location.torch_name == "0"
    assert report.location.cause.name == "activation-missing"


class Masked(torch.nn.Module):
    """Call an attention layer with a mask that marks the positions to ignore."""

    def __init__(self):
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x, mask):
        return self.attention(x, x, x, key_padding_mask=mask)[0]


class MaskedTheOtherWay(nn.Module):
    def __init__(self, *, rngs):
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, rngs=rngs)

    def __call__(self, x, mask):
        return self.attention(x, x, x, key_padding_mask=~mask)[0]


def test_a_module_that_is_right_is_not_blamed_for_the_mask_it_is_called_on():
    inputs = np.random.default_rng(0).normal(size=(2, 5, 4)), np.arange(5) >= np.array([[2], [3]])
    report = check(Masked(), MaskedTheOtherWay(rngs=nnx.Rngs(0)), *inputs, **QUICK)
    assert report.location.torch_name == ""
    assert report.location.cause.name == "mask-polarity"
