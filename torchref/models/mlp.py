"""Multilayer perceptrons."""

from torch import nn

from torchref.registry import register


@register
def mlp(*, num_inputs: int = 784, num_hiddens: int = 256, num_classes: int = 10) -> nn.Sequential:
    """One hidden layer of ReLU units over the flattened image."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(num_inputs, num_hiddens),
        nn.ReLU(),
        nn.Linear(num_hiddens, num_classes),
    )
