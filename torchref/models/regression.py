"""Linear and softmax regression."""

from collections import OrderedDict

from torch import Tensor, nn

from torchref.registry import register


class LinearRegression(nn.Module):
    """One linear layer with one output, as an attribute."""

    def __init__(self, n_features: int):
        super().__init__()
        self.linear = nn.Linear(n_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return one value for each example."""
        return self.linear(x)


@register
def linear_regression(*, n_features: int = 2) -> LinearRegression:
    """Linear regression as a module."""
    return LinearRegression(n_features)


@register
def linear_regression_sequential() -> nn.Sequential:
    """Linear regression as a container with one layer."""
    return nn.Sequential(nn.Linear(2, 1))


@register
def softmax_regression(*, num_inputs: int = 784, num_classes: int = 10) -> nn.Sequential:
    """A linear classifier of flattened images; the layers have names."""
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), linear=nn.Linear(num_inputs, num_classes)))


@register
def softmax_regression_sequential(*, num_inputs: int = 784, num_classes: int = 10) -> nn.Sequential:
    """A linear classifier of flattened images; the layers have numbers."""
    return nn.Sequential(nn.Flatten(), nn.Linear(num_inputs, num_classes))
