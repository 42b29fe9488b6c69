"""The networks of ``small_flaxnets.py`` in Flax NNX's own layers, in the style of Flax's documentation.

Each network has the same number of parameters as in ``small_flaxnets.py``. Inputs and outputs are channels last.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.plain_nnx import batch_norm, global_avg_pool, max_pool


def conv(
    c_in: int, c_out: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1, *, bias: bool = False,
    rngs: nnx.Rngs,
) -> nnx.Conv:  # fmt: skip
    return nnx.Conv(
        c_in, c_out, (kernel, kernel), stride, padding=padding, feature_group_count=groups, use_bias=bias, rngs=rngs
    )


class SqueezeExcite(nnx.Module):
    def __init__(self, channels: int, reduction: int = 4, *, rngs: nnx.Rngs):
        self.reduce = conv(channels, channels // reduction, 1, bias=True, rngs=rngs)
        self.expand = conv(channels // reduction, channels, 1, bias=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.expand(nnx.silu(self.reduce(x.mean((1, 2), keepdims=True))))
        return x * nnx.sigmoid(scale)


class InvertedResidual(nnx.Module):
    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int = 4, *, rngs: nnx.Rngs):
        hidden = c_in * expansion
        self.expand = nnx.Sequential(conv(c_in, hidden, 1, rngs=rngs), batch_norm(hidden, rngs=rngs), nnx.silu)
        depthwise = conv(hidden, hidden, 3, stride, 1, hidden, rngs=rngs)
        self.depthwise = nnx.Sequential(depthwise, batch_norm(hidden, rngs=rngs), nnx.silu)
        self.squeeze_excite = SqueezeExcite(hidden, rngs=rngs)
        self.project = nnx.Sequential(conv(hidden, c_out, 1, rngs=rngs), batch_norm(c_out, rngs=rngs))
        self.is_residual = stride == 1 and c_in == c_out

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.project(self.squeeze_excite(self.depthwise(self.expand(x))))
        return x + y if self.is_residual else y


def mobilenet(*, channels: Sequence[int] = (24, 40, 80), num_classes: int = 10, rngs: nnx.Rngs) -> nnx.Sequential:
    layers = [conv(3, 16, 3, 2, 1, rngs=rngs), batch_norm(16, rngs=rngs), nnx.silu]
    c_in = 16
    for width in channels:
        layers += [InvertedResidual(c_in, width, 2, rngs=rngs), InvertedResidual(width, width, 1, rngs=rngs)]
        c_in = width
    return nnx.Sequential(*layers, global_avg_pool, nnx.Linear(c_in, num_classes, rngs=rngs))


class ResNeXtBlock(nnx.Module):
    def __init__(self, c_in: int, c_out: int, stride: int, groups: int = 32, *, rngs: nnx.Rngs):
        width = c_out // 2
        self.conv1, self.bn1 = conv(c_in, width, 1, rngs=rngs), batch_norm(width, rngs=rngs)
        self.conv2 = conv(width, width, 3, stride, 1, groups, rngs=rngs)
        self.bn2 = batch_norm(width, rngs=rngs)
        self.conv3, self.bn3 = conv(width, c_out, 1, rngs=rngs), batch_norm(c_out, rngs=rngs)
        self.shortcut = (
            None
            if stride == 1 and c_in == c_out
            else nnx.Sequential(conv(c_in, c_out, 1, stride, rngs=rngs), batch_norm(c_out, rngs=rngs))
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = nnx.relu(self.bn2(self.conv2(y)))
        return nnx.relu(self.bn3(self.conv3(y)) + (x if self.shortcut is None else self.shortcut(x)))


def resnext(*, channels: Sequence[int] = (128, 256, 512), num_classes: int = 10, rngs: nnx.Rngs) -> nnx.Sequential:
    layers = [conv(3, 64, 3, 2, 1, rngs=rngs), batch_norm(64, rngs=rngs), nnx.relu]
    c_in = 64
    for stage, width in enumerate(channels):
        layers += [ResNeXtBlock(c_in, width, 2 if stage else 1, rngs=rngs), ResNeXtBlock(width, width, 1, rngs=rngs)]
        c_in = width
    return nnx.Sequential(*layers, global_avg_pool, nnx.Linear(c_in, num_classes, rngs=rngs))


class ConvNeXtBlock(nnx.Module):
    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.depthwise = conv(channels, channels, 7, 1, 3, channels, bias=True, rngs=rngs)
        self.norm = nnx.LayerNorm(channels, rngs=rngs)
        self.expand = nnx.Linear(channels, 4 * channels, rngs=rngs)
        self.project = nnx.Linear(4 * channels, channels, rngs=rngs)
        self.scale = nnx.Param(jnp.full((1, 1, 1, channels), 1e-6))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.norm(self.depthwise(x))
        return x + self.scale * self.project(nnx.gelu(self.expand(y), approximate=False))


def convnext(*, channels: Sequence[int] = (48, 96, 192), num_classes: int = 10, rngs: nnx.Rngs) -> nnx.Sequential:
    layers = [conv(3, channels[0], 4, 4, bias=True, rngs=rngs), nnx.LayerNorm(channels[0], rngs=rngs)]
    c_in = channels[0]
    for width in channels:
        if width != c_in:
            layers += [nnx.LayerNorm(c_in, rngs=rngs), conv(c_in, width, 2, 2, bias=True, rngs=rngs)]
        layers += [ConvNeXtBlock(width, rngs=rngs), ConvNeXtBlock(width, rngs=rngs)]
        c_in = width
    head = global_avg_pool, nnx.LayerNorm(c_in, rngs=rngs), nnx.Linear(c_in, num_classes, rngs=rngs)
    return nnx.Sequential(*layers, *head)


def double_conv(c_in: int, c_out: int, *, rngs: nnx.Rngs) -> nnx.Sequential:
    return nnx.Sequential(
        conv(c_in, c_out, 3, padding=1, rngs=rngs), batch_norm(c_out, rngs=rngs), nnx.relu,
        conv(c_out, c_out, 3, padding=1, rngs=rngs), batch_norm(c_out, rngs=rngs), nnx.relu,
    )  # fmt: skip


class UNet(nnx.Module):
    def __init__(self, channels: Sequence[int], num_classes: int, *, rngs: nnx.Rngs):
        pairs = list(pairwise(channels))
        ups = [nnx.ConvTranspose(c_out, c_in, (2, 2), (2, 2), rngs=rngs) for c_in, c_out in reversed(pairs)]
        self.first = double_conv(3, channels[0], rngs=rngs)
        self.down = nnx.List([double_conv(c_in, c_out, rngs=rngs) for c_in, c_out in pairs])
        self.up = nnx.List(ups)
        self.merge = nnx.List([double_conv(2 * c_in, c_in, rngs=rngs) for c_in, _ in reversed(pairs)])
        self.head = conv(channels[0], num_classes, 1, bias=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        skips = [self.first(x)]
        for block in self.down:
            skips.append(block(max_pool(2, 2)(skips[-1])))
        x = skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(jnp.concatenate([skips.pop(), up(x)], -1))
        return self.head(x)


def unet(*, channels: Sequence[int] = (16, 32, 64, 128), num_classes: int = 10, rngs: nnx.Rngs) -> UNet:
    return UNet(channels, num_classes, rngs=rngs)


def video_cnn(*, channels: Sequence[int] = (16, 32, 64), num_classes: int = 10, rngs: nnx.Rngs) -> nnx.Sequential:
    def pool(x: jax.Array) -> jax.Array:
        return nnx.max_pool(x, (2, 2, 2), (2, 2, 2))

    layers = []
    c_in = 3
    for width in channels:
        layers += [nnx.Conv(c_in, width, (3, 3, 3), padding=1, rngs=rngs), batch_norm(width, rngs=rngs), nnx.relu, pool]
        c_in = width
    return nnx.Sequential(*layers, lambda x: x.mean((1, 2, 3)), nnx.Linear(c_in, num_classes, rngs=rngs))


class CausalBlock(nnx.Module):
    def __init__(self, c_in: int, c_out: int, kernel_size: int, dilation: int, *, rngs: nnx.Rngs):
        options = {"padding": "CAUSAL", "kernel_dilation": dilation, "rngs": rngs}
        self.conv1 = nnx.Conv(c_in, c_out, kernel_size, **options)
        self.conv2 = nnx.Conv(c_out, c_out, kernel_size, **options)
        self.shortcut = None if c_in == c_out else nnx.Conv(c_in, c_out, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.relu(self.conv2(nnx.relu(self.conv1(x))))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


def tcn(
    *, channels: Sequence[int] = (64,) * 6, kernel_size: int = 5, num_classes: int = 10, rngs: nnx.Rngs
) -> nnx.Sequential:
    widths = pairwise((8, *channels))
    blocks = [CausalBlock(c_in, c_out, kernel_size, 2**i, rngs=rngs) for i, (c_in, c_out) in enumerate(widths)]
    return nnx.Sequential(*blocks, lambda x: x[:, -1], nnx.Linear(channels[-1], num_classes, rngs=rngs))


NETWORKS: dict[str, Callable[..., nnx.Module]] = {
    function.__name__: function for function in (mobilenet, resnext, convnext, unet, video_cnn, tcn)
}
