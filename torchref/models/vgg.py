"""VGG-11 of "Very deep convolutional networks for large-scale image recognition" (arXiv:1409.1556).

Deviation: the input has one channel.
"""

from torch import nn

from torchref.models.blocks import dense_head
from torchref.registry import register


def vgg_block(num_convs: int, in_channels: int, out_channels: int) -> nn.Sequential:
    """Return 3x3 convolutions with ReLU, and a pooling that halves the image."""
    layers = []
    for _ in range(num_convs):
        layers.append(nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1))
        layers.append(nn.ReLU())
        in_channels = out_channels
    layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
    return nn.Sequential(*layers)


@register
def vgg11(
    *,
    in_channels: int = 1,
    num_classes: int = 10,
    conv_arch: tuple[tuple[int, int], ...] = ((1, 64), (1, 128), (2, 256), (2, 512), (2, 512)),
    fc_features: int | None = None,
    num_hiddens: int = 4096,
) -> nn.Sequential:
    """Five blocks of ``(num_convs, out_channels)`` and three dense layers.

    By default, ``fc_features`` is the number for images of 224x224 pixels.
    """
    blocks = []
    for num_convs, out_channels in conv_arch:
        blocks.append(vgg_block(num_convs, in_channels, out_channels))
        in_channels = out_channels
    head = dense_head(fc_features or in_channels * 7 * 7, num_hiddens, num_classes)
    return nn.Sequential(*blocks, nn.Flatten(), *head)


@register
def vgg11_named(
    *,
    num_classes: int = 10,
    conv_arch: tuple[tuple[int, int, int], ...] = (
        (1, 1, 64),
        (1, 64, 128),
        (2, 128, 256),
        (2, 256, 512),
        (2, 512, 512),
    ),
    fc_features: int = 512 * 7 * 7,
    fc_hidden_units: int = 4096,
) -> nn.Sequential:
    """VGG-11 with named blocks of ``(num_convs, in_channels, out_channels)``."""
    net = nn.Sequential()
    for i, (num_convs, in_channels, out_channels) in enumerate(conv_arch):
        net.add_module(f"vgg_block_{i + 1}", vgg_block(num_convs, in_channels, out_channels))
    head = dense_head(fc_features, fc_hidden_units, num_classes)
    net.add_module("fc", nn.Sequential(nn.Flatten(), *head))
    return net
