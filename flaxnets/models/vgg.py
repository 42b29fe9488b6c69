"""VGG-11 of "Very deep convolutional networks for large-scale image recognition" (arXiv:1409.1556).

Deviation: the input has one channel.
"""

from flax import nnx

from flaxnets import nn
from flaxnets.models.blocks import dense_head
from flaxnets.registry import Recipe, register

PAPER = "arXiv:1409.1556"


def vgg_block(num_convs: int, in_channels: int, out_channels: int, *, rngs: nnx.Rngs) -> nn.Sequential:
    """Return 3x3 convolutions with ReLU, and a pooling that halves the image."""
    layers = []
    for _ in range(num_convs):
        layers.append(nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, rngs=rngs))
        layers.append(nn.ReLU())
        in_channels = out_channels
    layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
    return nn.Sequential(*layers)


@register(
    input_shape=(1, 224, 224),
    dataset="mnist",
    paper=PAPER,
    recipe=Recipe(epochs=4, batch_size=32, lr=2e-4, optimizer="adam", init="kaiming_uniform"),
)
def vgg11(
    *,
    in_channels: int = 1,
    num_classes: int = 10,
    conv_arch: tuple[tuple[int, int], ...] = ((1, 64), (1, 128), (2, 256), (2, 512), (2, 512)),
    fc_features: int | None = None,
    num_hiddens: int = 4096,
    rngs: nnx.Rngs,
) -> nn.Sequential:
    """Five blocks of ``(num_convs, out_channels)`` and three dense layers.

    By default, ``fc_features`` is the number for images of 224x224 pixels.
    """
    blocks = []
    for num_convs, out_channels in conv_arch:
        blocks.append(vgg_block(num_convs, in_channels, out_channels, rngs=rngs))
        in_channels = out_channels
    head = dense_head(fc_features or in_channels * 7 * 7, num_hiddens, num_classes, rngs=rngs)
    return nn.Sequential(*blocks, nn.Flatten(), *head)


@register(
    input_shape=(1, 224, 224),
    dataset="mnist",
    paper=PAPER,
    recipe=Recipe(epochs=4, batch_size=32, lr=2e-4, optimizer="adam", init="kaiming_uniform"),
)
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
    rngs: nnx.Rngs,
) -> nn.Sequential:
    """VGG-11 with named blocks of ``(num_convs, in_channels, out_channels)``."""
    net = nn.Sequential()
    for i, (num_convs, in_channels, out_channels) in enumerate(conv_arch):
        net.add_module(f"vgg_block_{i + 1}", vgg_block(num_convs, in_channels, out_channels, rngs=rngs))
    head = dense_head(fc_features, fc_hidden_units, num_classes, rngs=rngs)
    net.add_module("fc", nn.Sequential(nn.Flatten(), *head))
    return net
