"""Multilayer perceptrons: plain, with dropout, with named layers, with shared layers and with control flow."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchref.registry import register


@register
def mlp(*, num_inputs: int = 784, num_hiddens: int = 256, num_classes: int = 10) -> nn.Sequential:
    """One hidden layer with ReLU, for flattened images."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(num_inputs, num_hiddens),
        nn.ReLU(),
        nn.Linear(num_hiddens, num_classes),
    )


@register
def mlp_dropout(
    *,
    num_inputs: int = 784,
    num_hiddens: int = 256,
    num_classes: int = 10,
    p1: float = 0.2,
    p2: float = 0.5,
) -> nn.Sequential:
    """Two hidden layers with dropout."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(num_inputs, num_hiddens),
        nn.ReLU(),
        nn.Dropout(p1),
        nn.Linear(num_hiddens, num_hiddens),
        nn.ReLU(),
        nn.Dropout(p2),
        nn.Linear(num_hiddens, num_classes),
    )


class NamedMLP(nn.Module):
    """One hidden layer; every layer is an attribute."""

    def __init__(self, num_inputs: int, num_hiddens: int, num_classes: int):
        super().__init__()
        self.hidden = nn.Linear(num_inputs, num_hiddens)
        self.act = nn.ReLU()
        self.output = nn.Linear(num_hiddens, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of each example."""
        return self.output(self.act(self.hidden(x)))


@register
def mlp_named(*, num_inputs: int = 784, num_hiddens: int = 256, num_classes: int = 10) -> NamedMLP:
    """One hidden layer with ReLU; the layers have names."""
    return NamedMLP(num_inputs, num_hiddens, num_classes)


class FunctionalMLP(nn.Module):
    """One hidden layer; the activation is a function call."""

    def __init__(self, num_inputs: int, num_hiddens: int, num_classes: int):
        super().__init__()
        self.hidden = nn.Linear(num_inputs, num_hiddens)
        self.out = nn.Linear(num_hiddens, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of each example."""
        return self.out(F.relu(self.hidden(x)))


@register
def mlp_functional(*, num_inputs: int = 20, num_hiddens: int = 256, num_classes: int = 10) -> FunctionalMLP:
    """One hidden layer with ReLU, for twenty features."""
    return FunctionalMLP(num_inputs, num_hiddens, num_classes)


class FancyMLP(nn.Module):
    """A layer that is used twice, a constant, and control flow that depends on values."""

    def __init__(self, num_units: int):
        super().__init__()
        self.rand_weight = nn.Buffer(torch.rand((num_units, num_units)), persistent=False)
        self.linear = nn.Linear(num_units, num_units)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of the outputs, halved until their norm is at most 1, then times 10 if it is below 0.8."""
        x = F.relu(self.linear(x) @ self.rand_weight + 1)
        x = self.linear(x)
        while x.norm() > 1:
            x = x / 2
        if x.norm() < 0.8:
            x = x * 10
        return x.sum()


@register
def fancy_mlp(*, num_units: int = 20) -> FancyMLP:
    """A layer that is used twice, with control flow in between."""
    return FancyMLP(num_units)


@register
def shared_linear() -> nn.Sequential:
    """One linear layer, applied twice: for weight 3 and input 1, the output is 9 and the weight's gradient is 6."""
    linear = nn.Linear(1, 1, bias=False)
    return nn.Sequential(linear, linear)


@register
def shared_mlp(*, num_inputs: int = 4, num_hiddens: int = 8) -> nn.Sequential:
    """A perceptron whose second and third hidden layers are the same module."""
    first = nn.Linear(num_inputs, num_hiddens)
    shared = nn.Linear(num_hiddens, num_hiddens)
    last = nn.Linear(num_hiddens, 1)
    return nn.Sequential(first, nn.ReLU(), shared, nn.ReLU(), shared, nn.ReLU(), last)
