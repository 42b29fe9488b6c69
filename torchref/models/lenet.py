"""LeNet-5 of "Gradient-based learning applied to document recognition" (LeCun et al., 1998), and variants.

Deviations: the second convolution reads all maps of the first pooling layer, pooling has no weights, and the last layer
is linear instead of Gaussian.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchref.models.blocks import ConvThenDense
from torchref.registry import register


@register
def lenet(*, in_channels: int = 1, num_classes: int = 10) -> nn.Sequential:
    """Two convolutions and three dense layers with sigmoids, for images of 28x28 pixels."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, kernel_size=5, padding=2),
        nn.Sigmoid(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.Sigmoid(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.Sigmoid(),
        nn.Linear(120, 84),
        nn.Sigmoid(),
        nn.Linear(84, num_classes),
    )


def _conv_with_maxpool(in_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, kernel_size=5),
        nn.Sigmoid(),
        nn.MaxPool2d(2, 2),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.Sigmoid(),
        nn.MaxPool2d(2, 2),
    )


@register
def lenet_maxpool(*, in_channels: int = 1, num_classes: int = 10) -> ConvThenDense:
    """LeNet with max-pooling and without padding, in a convolutional and a dense part."""
    conv = _conv_with_maxpool(in_channels)
    fc = nn.Sequential(
        nn.Linear(256, 120),
        nn.Sigmoid(),
        nn.Linear(120, 84),
        nn.Sigmoid(),
        nn.Linear(84, num_classes),
    )
    return ConvThenDense(conv, fc)


@register
def lenet_fc_batchnorm(*, in_channels: int = 1, num_classes: int = 10) -> ConvThenDense:
    """LeNet with max-pooling, and with batch normalization in the dense part."""
    conv = _conv_with_maxpool(in_channels)
    fc = nn.Sequential(
        nn.Linear(256, 120),
        nn.BatchNorm1d(120),
        nn.Sigmoid(),
        nn.Linear(120, 84),
        nn.BatchNorm1d(84),
        nn.Sigmoid(),
        nn.Linear(84, num_classes),
    )
    return ConvThenDense(conv, fc)


class LeNetReLU(nn.Module):
    """LeNet with ReLU and max-pooling as function calls, for images of 32x32 pixels."""

    def __init__(self, in_channels: int, num_classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of each image."""
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.reshape(x.shape[0], -1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


@register
def lenet_relu(*, in_channels: int = 1, num_classes: int = 10) -> LeNetReLU:
    """LeNet with ReLU and max-pooling, for images of one channel."""
    return LeNetReLU(in_channels, num_classes)


@register
def lenet_rgb(*, in_channels: int = 3, num_classes: int = 10) -> LeNetReLU:
    """LeNet with ReLU and max-pooling, for images of three channels."""
    return LeNetReLU(in_channels, num_classes)


class BatchNorm(nn.Module):
    """Batch normalization written from scratch, for ``(N, F)`` (``num_dims=2``) or ``(N, F, H, W)`` (``num_dims=4``).

    Unlike torch's layer, it updates the running variance with the *biased* variance of the batch, and its statistics
    are not in the state dict.
    """

    def __init__(self, num_features: int, num_dims: int, moving_var_init: float = 1.0):
        super().__init__()
        shape = (1, num_features) if num_dims == 2 else (1, num_features, 1, 1)
        self.gamma = nn.Parameter(torch.ones(shape))
        self.beta = nn.Parameter(torch.zeros(shape))
        self.moving_mean = nn.Buffer(torch.zeros(shape), persistent=False)
        self.moving_var = nn.Buffer(torch.full(shape, moving_var_init), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the input, and in training mode update the statistics with momentum 0.1."""
        if self.training:
            axes = (0, *range(2, x.ndim))
            mean = x.mean(axes, keepdim=True)
            var = ((x - mean) ** 2).mean(axes, keepdim=True)
            self.moving_mean = 0.9 * self.moving_mean + 0.1 * mean.detach()
            self.moving_var = 0.9 * self.moving_var + 0.1 * var.detach()
        else:
            mean, var = self.moving_mean, self.moving_var
        return self.gamma * (x - mean) / torch.sqrt(var + 1e-5) + self.beta


def _lenet_batchnorm(norm: Callable[[int, int], nn.Module], in_channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, kernel_size=5),
        norm(6, 4),
        nn.Sigmoid(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Conv2d(6, 16, kernel_size=5),
        norm(16, 4),
        nn.Sigmoid(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Flatten(),
        nn.Linear(256, 120),
        norm(120, 2),
        nn.Sigmoid(),
        nn.Linear(120, 84),
        norm(84, 2),
        nn.Sigmoid(),
        nn.Linear(84, num_classes),
    )


@register
def lenet_batchnorm(*, in_channels: int = 1, num_classes: int = 10) -> nn.Sequential:
    """LeNet with batch normalization before each sigmoid."""

    def norm(num_features: int, num_dims: int) -> nn.Module:
        return nn.BatchNorm2d(num_features) if num_dims == 4 else nn.BatchNorm1d(num_features)

    return _lenet_batchnorm(norm, in_channels, num_classes)


@register
def lenet_batchnorm_scratch(
    *, in_channels: int = 1, num_classes: int = 10, moving_var_init: float = 1.0
) -> nn.Sequential:
    """LeNet with batch normalization written from scratch."""

    def norm(num_features: int, num_dims: int) -> nn.Module:
        return BatchNorm(num_features, num_dims, moving_var_init)

    return _lenet_batchnorm(norm, in_channels, num_classes)
