"""DenseNet of "Densely connected convolutional networks" (arXiv:1608.06993).

Deviations: no bottleneck layers, convolutions have a bias, four layers per block, and the input has one channel.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxnets import nn
from flaxnets.registry import Recipe, register


def conv_block(in_channels: int, num_channels: int, *, rngs: nnx.Rngs) -> nn.Sequential:
    """Return normalization, activation and a 3x3 convolution."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        nn.ReLU(),
        nn.Conv2d(in_channels, num_channels, kernel_size=3, padding=1, rngs=rngs),
    )


def transition_block(in_channels: int, num_channels: int, *, rngs: nnx.Rngs) -> nn.Sequential:
    """Return a 1x1 convolution that reduces the channels, and a pooling that halves the image."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        nn.ReLU(),
        nn.Conv2d(in_channels, num_channels, kernel_size=1, rngs=rngs),
        nn.AvgPool2d(kernel_size=2, stride=2),
    )


class DenseBlock(nn.Module):
    """Block in which each convolution gets the concatenation of the input and all previous outputs."""

    def __init__(self, num_convs: int, in_channels: int, growth_rate: int, *, rngs: nnx.Rngs):
        blocks = [conv_block(in_channels + i * growth_rate, growth_rate, rngs=rngs) for i in range(num_convs)]
        self.net = nn.Sequential(*blocks)
        self.out_channels = in_channels + num_convs * growth_rate

    def __call__(self, x: Float[Array, "n c h w"]) -> Float[Array, "n c_out h w"]:
        """Return the input and the outputs of all blocks, concatenated along the channels."""
        for block in self.net:
            x = jnp.concatenate((x, block(x)), axis=1)
        return x


@register(
    input_shape=(1, 96, 96), dataset="mnist", paper="arXiv:1608.06993", recipe=Recipe(epochs=5, batch_size=32, lr=0.02)
)
def densenet(
    *,
    in_channels: int = 1,
    num_classes: int = 10,
    num_channels: int = 64,
    growth_rate: int = 32,
    num_convs_in_dense_blocks: tuple[int, ...] = (4, 4, 4, 4),
    rngs: nnx.Rngs,
) -> nn.Sequential:
    """A 7x7 convolution, then dense blocks; transitions between them halve the channels."""
    b1 = nn.Sequential(
        nn.Conv2d(in_channels, num_channels, kernel_size=7, stride=2, padding=3, rngs=rngs),
        nn.BatchNorm2d(num_channels),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )
    blocks = []
    channels = num_channels
    for i, num_convs in enumerate(num_convs_in_dense_blocks):
        if i > 0:
            blocks.append(transition_block(channels, channels // 2, rngs=rngs))
            channels //= 2
        blocks.append(DenseBlock(num_convs, channels, growth_rate, rngs=rngs))
        channels = blocks[-1].out_channels
    return nn.Sequential(
        b1,
        *blocks,
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
        nn.Linear(channels, num_classes, rngs=rngs),
    )
