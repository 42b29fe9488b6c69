"""Linear and softmax regression."""

from collections import OrderedDict

from flax import nnx
from jaxtyping import Array, Float

from flaxnets import nn
from flaxnets.registry import Recipe, register


class LinearRegression(nn.Module):
    """One linear layer with one output, as an attribute."""

    def __init__(self, n_features: int, *, rngs: nnx.Rngs):
        self.linear = nn.Linear(n_features, 1, rngs=rngs)

    def __call__(self, x: Float[Array, "n features"]) -> Float[Array, "n 1"]:
        """Return one value for each example."""
        return self.linear(x)


@register(input_shape=(2,), task="regression", dataset="line", recipe=Recipe(epochs=10, batch_size=10, lr=0.03))
def linear_regression(*, n_features: int = 2, rngs: nnx.Rngs) -> LinearRegression:
    """Linear regression as a module."""
    return LinearRegression(n_features, rngs=rngs)


@register(input_shape=(2,), task="regression", dataset="line", recipe=Recipe(epochs=10, batch_size=10, lr=0.03))
def linear_regression_sequential(*, rngs: nnx.Rngs) -> nn.Sequential:
    """Linear regression as a container with one layer."""
    return nn.Sequential(nn.Linear(2, 1, rngs=rngs))


@register(input_shape=(1, 28, 28), dataset="mnist", recipe=Recipe(epochs=10, batch_size=64, lr=0.1))
def softmax_regression(*, num_inputs: int = 784, num_classes: int = 10, rngs: nnx.Rngs) -> nn.Sequential:
    """A linear classifier of flattened images; the layers have names."""
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), linear=nn.Linear(num_inputs, num_classes, rngs=rngs)))


@register(input_shape=(1, 28, 28), dataset="mnist", recipe=Recipe(epochs=10, batch_size=64, lr=0.1))
def softmax_regression_sequential(*, num_inputs: int = 784, num_classes: int = 10, rngs: nnx.Rngs) -> nn.Sequential:
    """A linear classifier of flattened images; the layers have numbers."""
    return nn.Sequential(nn.Flatten(), nn.Linear(num_inputs, num_classes, rngs=rngs))
