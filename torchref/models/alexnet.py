"""AlexNet of "ImageNet classification with deep convolutional neural networks" (Krizhevsky et al., 2012).

Deviations: one tower instead of two, no local response normalization, and the input has one channel.
"""

from torch import nn

from torchref.models.blocks import ConvThenDense, dense_head
from torchref.registry import register

CHANNELS = (96, 256, 384, 384, 256)


def _convolutions(in_channels: int, channels: tuple[int, ...], padding: int) -> list[nn.Module]:
    c1, c2, c3, c4, c5 = channels
    return [
        nn.Conv2d(in_channels, c1, kernel_size=11, stride=4, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(c1, c2, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(c2, c3, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(c3, c4, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(c4, c5, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
    ]


@register
def alexnet(
    *,
    in_channels: int = 1,
    num_classes: int = 10,
    num_channels: tuple[int, ...] = CHANNELS,
    num_hiddens: int = 4096,
) -> nn.Sequential:
    """Five convolutions and three dense layers in one container."""
    conv = _convolutions(in_channels, num_channels, padding=1)
    head = dense_head(num_channels[-1] * 25, num_hiddens, num_classes)
    return nn.Sequential(*conv, nn.Flatten(), *head)


@register
def alexnet_split(
    *,
    in_channels: int = 1,
    num_classes: int = 10,
    num_channels: tuple[int, ...] = CHANNELS,
    num_hiddens: int = 4096,
) -> ConvThenDense:
    """AlexNet in a convolutional and a dense part; the first convolution has no padding."""
    conv = nn.Sequential(*_convolutions(in_channels, num_channels, padding=0))
    head = dense_head(num_channels[-1] * 25, num_hiddens, num_classes)
    return ConvThenDense(conv, nn.Sequential(*head))
