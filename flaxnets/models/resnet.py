"""ResNet of "Deep residual learning for image recognition" (arXiv:1512.03385).

Deviations: convolutions have a bias, the convolution of the shortcut has no batch normalization, and the input has one
channel.
"""

from flax import nnx
from jaxtyping import Array, Float

from flaxnets import nn
from flaxnets.nn import functional as F
from flaxnets.registry import Recipe, register


class Residual(nn.Module):
    """Two 3x3 convolutions whose output is added to the input, or to a 1x1 convolution of the input."""

    def __init__(
        self, in_channels: int, num_channels: int, use_1x1conv: bool = False, stride: int = 1, *, rngs: nnx.Rngs
    ):
        self.conv1 = nn.Conv2d(in_channels, num_channels, kernel_size=3, padding=1, stride=stride, rngs=rngs)
        self.conv2 = nn.Conv2d(num_channels, num_channels, kernel_size=3, padding=1, rngs=rngs)
        self.conv3 = None
        if use_1x1conv:
            self.conv3 = nn.Conv2d(in_channels, num_channels, kernel_size=1, stride=stride, rngs=rngs)
        self.bn1 = nn.BatchNorm2d(num_channels)
        self.bn2 = nn.BatchNorm2d(num_channels)

    def __call__(self, x: Float[Array, "n c h w"]) -> Float[Array, "n c_out h_out w_out"]:
        """Return the ReLU of the sum of the two branches."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.conv3 is not None:
            x = self.conv3(x)
        return F.relu(y + x)


def resnet_block(
    in_channels: int, num_channels: int, num_residuals: int, first_block: bool = False, *, rngs: nnx.Rngs
) -> nn.Sequential:
    """Return residual blocks of one width; the first halves the image, except in the network's first block."""
    blocks = []
    for i in range(num_residuals):
        if i == 0 and not first_block:
            blocks.append(Residual(in_channels, num_channels, use_1x1conv=True, stride=2, rngs=rngs))
        else:
            blocks.append(Residual(num_channels, num_channels, rngs=rngs))
    return nn.Sequential(*blocks)


@register(
    input_shape=(1, 96, 96), dataset="mnist", paper="arXiv:1512.03385", recipe=Recipe(epochs=5, batch_size=32, lr=0.02)
)
def resnet18(
    *,
    in_channels: int = 1,
    num_classes: int = 10,
    num_channels: tuple[int, ...] = (64, 128, 256, 512),
    num_residuals: int = 2,
    rngs: nnx.Rngs,
) -> nn.Sequential:
    """Four blocks of two residual units each, after a 7x7 convolution."""
    b1 = nn.Sequential(
        nn.Conv2d(in_channels, num_channels[0], kernel_size=7, stride=2, padding=3, rngs=rngs),
        nn.BatchNorm2d(num_channels[0]),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )
    blocks = []
    channels = num_channels[0]
    for i, width in enumerate(num_channels):
        blocks.append(resnet_block(channels, width, num_residuals, first_block=i == 0, rngs=rngs))
        channels = width
    return nn.Sequential(
        b1,
        *blocks,
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
        nn.Linear(channels, num_classes, rngs=rngs),
    )
