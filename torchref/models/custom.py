"""Custom layers, each registered as a network."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchref.registry import register


class CenteredLayer(nn.Module):
    """Subtraction of the mean."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the elements minus their mean."""
        return x - x.mean()


@register
def centered() -> CenteredLayer:
    """A layer without parameters."""
    return CenteredLayer()


class MyLinear(nn.Module):
    """A linear layer with ReLU whose weight has the shape ``(in_units, units)``."""

    def __init__(self, in_units: int, units: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn((in_units, units)))
        self.bias = nn.Parameter(torch.randn((units,)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the ReLU of ``x @ weight + bias``."""
        return F.relu(F.linear(x, self.weight.T, self.bias))


@register
def my_linear(*, in_units: int = 5, units: int = 3) -> MyLinear:
    """A layer with parameters."""
    return MyLinear(in_units, units)


class ListDense(nn.Module):
    """A product with each matrix of a list, in order."""

    def __init__(self):
        super().__init__()
        shapes = [(4, 4), (4, 4), (4, 4), (4, 1)]
        self.params = nn.ParameterList([torch.randn(shape) for shape in shapes])

    def forward(self, x: Tensor) -> Tensor:
        """Return the product with all matrices."""
        for param in self.params:
            x = x @ param
        return x


@register
def list_dense() -> ListDense:
    """A list of parameters."""
    return ListDense()


class DictDense(nn.Module):
    """A product with a matrix that the caller chooses by name."""

    def __init__(self):
        super().__init__()
        shapes = {"linear1": (4, 4), "linear2": (4, 1), "linear3": (4, 2)}
        self.params = nn.ParameterDict({k: torch.randn(shape) for k, shape in shapes.items()})

    def forward(self, x: Tensor, choice: str = "linear1") -> Tensor:
        """Return the product with the matrix ``choice``."""
        return x @ self.params[choice]


@register
def dict_dense() -> DictDense:
    """A dictionary of parameters."""
    return DictDense()


class Conv2D(nn.Module):
    """Cross-correlation of one matrix with a learned kernel, plus a scalar."""

    def __init__(self, kernel_size: tuple[int, int]):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(kernel_size))
        self.bias = nn.Parameter(torch.randn((1,)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the cross-correlation."""
        return F.conv2d(x[None], self.weight[None, None], self.bias)[0]


@register
def corr2d(*, kernel_size: tuple[int, int] = (1, 2)) -> Conv2D:
    """Cross-correlation of one matrix."""
    return Conv2D(kernel_size)


class MultiChannelConv2D(nn.Module):
    """Cross-correlation of several channels with a learned kernel, summed over the channels."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple[int, int]):
        super().__init__()
        shape = (out_channels, in_channels, *kernel_size)
        self.weight = nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return the cross-correlation."""
        return F.conv2d(x, self.weight)


@register
def corr2d_multi(
    *, in_channels: int = 2, out_channels: int = 3, kernel_size: tuple[int, int] = (2, 2)
) -> MultiChannelConv2D:
    """Cross-correlation of several channels."""
    return MultiChannelConv2D(in_channels, out_channels, kernel_size)


class Pool2D(nn.Module):
    """The maximum or the mean of each window of one matrix."""

    def __init__(self, pool_size: tuple[int, int], mode: str):
        super().__init__()
        if mode not in ("max", "avg"):
            raise ValueError(f"mode must be 'max' or 'avg', got {mode!r}")
        self.pool_size = pool_size
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        """Return one value for each position of the window."""
        pool = F.max_pool2d if self.mode == "max" else F.avg_pool2d
        return pool(x[None], self.pool_size, stride=1)[0]


@register
def pool2d(*, pool_size: tuple[int, int] = (2, 2), mode: str = "max") -> Pool2D:
    """Pooling of one matrix with stride 1."""
    return Pool2D(pool_size, mode)
