"""Multilayer perceptrons."""

from flax import nnx

from flaxnets import nn
from flaxnets.registry import register


@register(input_shape=(1, 28, 28), dataset="mnist", epochs=10, batch_size=64, lr=0.1)
def mlp(*, num_inputs: int = 784, num_hiddens: int = 256, num_classes: int = 10, rngs: nnx.Rngs) -> nn.Sequential:
    """One hidden layer of ReLU units over the flattened image."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(num_inputs, num_hiddens, rngs=rngs),
        nn.ReLU(),
        nn.Linear(num_hiddens, num_classes, rngs=rngs),
    )
