"""Tests of idioms of model libraries. ``from_torch`` compares each model with torch in both modes."""

import jax.numpy as jnp
import pytest
import torch
from port_models import libraries
from torch import nn

from flaxnets.port import PortError, from_torch


def log_once(thing):
    assert thing.__module__ == __name__


def scaled(x, depth=1):
    log_once(scaled)
    return scaled(x * 2, depth - 1) if depth else x


class NamesItself(nn.Module):
    factor = 3

    def forward(self, x):
        return scaled(x) * NamesItself.factor


class ChoosesForward(nn.Module):
    def __init__(self, doubles):
        super().__init__()
        self.forward = self.double if doubles else self.triple

    def double(self, x):
        return x * 2

    def triple(self, x):
        return x * 3


class SumFromZero(nn.Module):
    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])

    def forward(self, x):
        out = 0
        for branch in self.branches:
            out += branch(x)
        out += x
        return out


class SuiteThatDoesNotRun(nn.Module):
    def forward(self, x):
        if x.ndim == 7:
            for part in x:
                return part
        return torch.jit.annotate(torch.Tensor, x + 1)


def sensitive():
    """Build a model with repeated normalization over two values, which amplifies rounding errors."""
    torch.manual_seed(0)
    return nn.Sequential(*(layer for _ in range(12) for layer in (nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())))


MODELS = {
    "functions and classes that name themselves": NamesItself,
    "one method as forward": lambda: nn.Sequential(ChoosesForward(True), ChoosesForward(False)),
    "a sum from zero": SumFromZero,
    "a suite that does not run": SuiteThatDoesNotRun,
    "dropout in place": lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.4, inplace=True)),
    "leaky units in place": lambda: nn.Sequential(nn.Linear(4, 4), nn.RReLU(inplace=True)),
    "alpha dropout in place": lambda: nn.Sequential(nn.Linear(4, 4), nn.AlphaDropout(0.3, inplace=True)),
    "sensitive to rounding": sensitive,
}


ALL_MODELS = MODELS | libraries.MODELS


@pytest.mark.parametrize("build", ALL_MODELS.values(), ids=ALL_MODELS)
def test_an_idiom_is_followed(build):
    from_torch(build(), torch.randn(2, 4, generator=torch.Generator().manual_seed(1)))


def test_a_function_as_forward_of_one_module_is_refused():
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].forward = torch.relu
    with pytest.raises(PortError, match="forward of this module is not a method of its own"):
        from_torch(model, torch.ones(2, 4))


def test_outputs_with_names_keep_their_class_and_names():
    output = from_torch(libraries.Encoder(), torch.ones(2, 4)).eval()(jnp.ones((2, 4)))
    assert type(output).__name__ == "EncoderOutput"
    assert output["last"] is output.last is output.to_tuple()[0]
    assert list(output) == ["last", "hidden"]


def test_random_numbers_of_decorated_methods_differ_from_call_to_call():
    port = from_torch(libraries.Encoder("eager", 0.5), torch.ones(2, 4)).train()
    assert (port(jnp.ones((2, 4))).last != port(jnp.ones((2, 4))).last).any()
