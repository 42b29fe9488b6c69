"""NiN of "Network in network" (arXiv:1312.4400).

Deviation: the input has one channel.
"""

from torch import nn

from torchref.registry import register


def nin_block(in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int) -> nn.Sequential:
    """Return a convolution and two 1x1 convolutions, each with ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, kernel_size=1),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, kernel_size=1),
        nn.ReLU(),
    )


def _nin(pool: nn.Module, in_channels: int, num_classes: int, channels: tuple[int, ...]) -> nn.Sequential:
    c1, c2, c3 = channels
    return nn.Sequential(
        nin_block(in_channels, c1, kernel_size=11, stride=4, padding=0),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nin_block(c1, c2, kernel_size=5, stride=1, padding=2),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nin_block(c2, c3, kernel_size=3, stride=1, padding=1),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Dropout(0.5),
        nin_block(c3, num_classes, kernel_size=3, stride=1, padding=1),
        pool,
        nn.Flatten(),
    )


@register
def nin(
    *, in_channels: int = 1, num_classes: int = 10, num_channels: tuple[int, ...] = (96, 256, 384)
) -> nn.Sequential:
    """Four blocks; the channels of the last one are the classes and are averaged over the image."""
    return _nin(nn.AdaptiveAvgPool2d((1, 1)), in_channels, num_classes, num_channels)


@register
def nin_avgpool(
    *, in_channels: int = 1, num_classes: int = 10, num_channels: tuple[int, ...] = (96, 256, 384)
) -> nn.Sequential:
    """NiN with an average over a fixed 5x5 window, for images of 224x224 pixels."""
    return _nin(nn.AvgPool2d(5), in_channels, num_classes, num_channels)
