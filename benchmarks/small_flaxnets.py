"""Six small networks with types of convolutions that ``flaxnets.models`` does not use.

``small_torch.py`` has the same networks in torch.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx

from flaxnets import nn
from flaxnets.nn import functional as F


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, reduction: int = 4, *, rngs: nnx.Rngs):
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, channels // reduction, 1, rngs=rngs)
        self.expand = nn.Conv2d(channels // reduction, channels, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.expand(F.silu(self.reduce(self.pool(x))))
        return x * F.sigmoid(scale)


class InvertedResidual(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int = 4, *, rngs: nnx.Rngs):
        hidden = c_in * expansion
        self.expand = nn.Sequential(
            nn.Conv2d(c_in, hidden, 1, bias=False, rngs=rngs), nn.BatchNorm2d(hidden), nn.SiLU()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False, rngs=rngs),
            nn.BatchNorm2d(hidden),
            nn.SiLU(),
        )
        self.squeeze_excite = SqueezeExcite(hidden, rngs=rngs)
        self.project = nn.Sequential(nn.Conv2d(hidden, c_out, 1, bias=False, rngs=rngs), nn.BatchNorm2d(c_out))
        self.is_residual = stride == 1 and c_in == c_out

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.project(self.squeeze_excite(self.depthwise(self.expand(x))))
        return x + y if self.is_residual else y


def mobilenet(*, channels: Sequence[int] = (24, 40, 80), num_classes: int = 10, rngs: nnx.Rngs) -> nn.Sequential:
    """Inverted residuals with squeeze-excite, as in EfficientNet."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 2, 1, bias=False, rngs=rngs), nn.BatchNorm2d(16), nn.SiLU()]
    c_in = 16
    for width in channels:
        layers += [InvertedResidual(c_in, width, 2, rngs=rngs), InvertedResidual(width, width, 1, rngs=rngs)]
        c_in = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, num_classes, rngs=rngs))


class ResNeXtBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int, groups: int = 32, *, rngs: nnx.Rngs):
        width = c_out // 2
        self.conv1, self.bn1 = nn.Conv2d(c_in, width, 1, bias=False, rngs=rngs), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=groups, bias=False, rngs=rngs)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, c_out, 1, bias=False, rngs=rngs), nn.BatchNorm2d(c_out)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and c_in == c_out
            else nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False, rngs=rngs), nn.BatchNorm2d(c_out))
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


def resnext(*, channels: Sequence[int] = (128, 256, 512), num_classes: int = 10, rngs: nnx.Rngs) -> nn.Sequential:
    """ResNeXt blocks with 32 groups."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 2, 1, bias=False, rngs=rngs), nn.BatchNorm2d(64), nn.ReLU()]
    c_in = 64
    for stage, width in enumerate(channels):
        layers += [ResNeXtBlock(c_in, width, 2 if stage else 1, rngs=rngs), ResNeXtBlock(width, width, 1, rngs=rngs)]
        c_in = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, num_classes, rngs=rngs))


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of images ``(N, C, H, W)``."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return super().__call__(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels, rngs=rngs)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, 4 * channels, rngs=rngs)
        self.project = nn.Linear(4 * channels, channels, rngs=rngs)
        self.scale = nn.Parameter(jnp.full((1, channels, 1, 1), 1e-6))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.norm(self.depthwise(x).transpose(0, 2, 3, 1))
        y = self.project(F.gelu(self.expand(y)))
        return x + self.scale * y.transpose(0, 3, 1, 2)


def convnext(*, channels: Sequence[int] = (48, 96, 192), num_classes: int = 10, rngs: nnx.Rngs) -> nn.Sequential:
    """ConvNeXt blocks after a patch convolution."""
    layers: list[nn.Module] = [nn.Conv2d(3, channels[0], 4, 4, rngs=rngs), LayerNorm2d(channels[0], eps=1e-6)]
    c_in = channels[0]
    for width in channels:
        if width != c_in:
            layers += [LayerNorm2d(c_in, eps=1e-6), nn.Conv2d(c_in, width, 2, 2, rngs=rngs)]
        layers += [ConvNeXtBlock(width, rngs=rngs), ConvNeXtBlock(width, rngs=rngs)]
        c_in = width
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(c_in, eps=1e-6), nn.Linear(c_in, num_classes, rngs=rngs)
    return nn.Sequential(*layers, *head)


def double_conv(c_in: int, c_out: int, *, rngs: nnx.Rngs) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=False, rngs=rngs), nn.BatchNorm2d(c_out), nn.ReLU(),
        nn.Conv2d(c_out, c_out, 3, padding=1, bias=False, rngs=rngs), nn.BatchNorm2d(c_out), nn.ReLU(),
    )  # fmt: skip


class UNet(nn.Module):
    def __init__(self, channels: Sequence[int], num_classes: int, *, rngs: nnx.Rngs):
        pairs = list(pairwise(channels))
        self.first = double_conv(3, channels[0], rngs=rngs)
        self.down = nn.ModuleList([double_conv(c_in, c_out, rngs=rngs) for c_in, c_out in pairs])
        self.up = nn.ModuleList([nn.ConvTranspose2d(c_out, c_in, 2, 2, rngs=rngs) for c_in, c_out in reversed(pairs)])
        self.merge = nn.ModuleList([double_conv(2 * c_in, c_in, rngs=rngs) for c_in, _ in reversed(pairs)])
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(channels[0], num_classes, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        skips = [self.first(x)]
        for block in self.down:
            skips.append(block(self.pool(skips[-1])))
        x = skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(jnp.concatenate([skips.pop(), up(x)], 1))
        return self.head(x)


def unet(*, channels: Sequence[int] = (16, 32, 64, 128), num_classes: int = 10, rngs: nnx.Rngs) -> UNet:
    """A U-Net with transposed convolutions: logits for every pixel."""
    return UNet(channels, num_classes, rngs=rngs)


def video_cnn(*, channels: Sequence[int] = (16, 32, 64), num_classes: int = 10, rngs: nnx.Rngs) -> nn.Sequential:
    """A network of 3-d convolutions for short videos."""
    layers: list[nn.Module] = []
    c_in = 3
    for width in channels:
        layers += [nn.Conv3d(c_in, width, 3, padding=1, rngs=rngs), nn.BatchNorm3d(width), nn.ReLU(), nn.MaxPool3d(2)]
        c_in = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(c_in, num_classes, rngs=rngs))


class CausalBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, kernel_size: int, dilation: int, *, rngs: nnx.Rngs):
        self.padding = (kernel_size - 1) * dilation
        self.conv1 = nn.Conv1d(c_in, c_out, kernel_size, dilation=dilation, rngs=rngs)
        self.conv2 = nn.Conv1d(c_out, c_out, kernel_size, dilation=dilation, rngs=rngs)
        self.shortcut = nn.Identity() if c_in == c_out else nn.Conv1d(c_in, c_out, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = F.relu(self.conv1(F.pad(x, (self.padding, 0))))
        y = F.relu(self.conv2(F.pad(y, (self.padding, 0))))
        return F.relu(y + self.shortcut(x))


class TCN(nn.Module):
    def __init__(self, channels: Sequence[int], kernel_size: int, num_classes: int, *, rngs: nnx.Rngs):
        widths = pairwise((8, *channels))
        blocks = [CausalBlock(c_in, c_out, kernel_size, 2**i, rngs=rngs) for i, (c_in, c_out) in enumerate(widths)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels[-1], num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.blocks(x)[:, :, -1])


def tcn(*, channels: Sequence[int] = (64,) * 6, kernel_size: int = 5, num_classes: int = 10, rngs: nnx.Rngs) -> TCN:
    """A temporal convolutional network: dilated causal 1-d convolutions, and logits for each sequence."""
    return TCN(channels, kernel_size, num_classes, rngs=rngs)


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    function.__name__: function for function in (mobilenet, resnext, convnext, unet, video_cnn, tcn)
}
