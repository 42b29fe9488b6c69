"""NiN of "Network in network" (arXiv:1312.4400).

Deviation: the input has one channel.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from flaxnets import nn
from flaxnets.nn import init
from flaxnets.registry import Recipe, register

PAPER = "arXiv:1312.4400"


def _even_output(name: str, key: jax.Array, old: jax.Array) -> jax.Array:
    """Initialize with Kaiming's weights and zero biases, but the last layer with nearly equal, positive outputs.

    Otherwise, the last ReLU soon outputs zero for some classes, which then get no gradient.

    >>> _even_output("7.4.bias", jax.random.key(0), jnp.zeros(3)).tolist()
    [6.0, 6.0, 6.0]
    """
    last = name.startswith("7.4.")
    if name.endswith("bias"):
        return jnp.full_like(old, 6.0 if last else 0.0)
    return init.kaiming_uniform(key, old.shape, old.dtype, nonlinearity="relu") * (0.1 if last else 1.0)


def nin_block(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int, *, rngs: nnx.Rngs
) -> nn.Sequential:
    """Return a convolution and two 1x1 convolutions, each with ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, rngs=rngs),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, kernel_size=1, rngs=rngs),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, kernel_size=1, rngs=rngs),
        nn.ReLU(),
    )


def _nin(
    pool: nn.Module, in_channels: int, num_classes: int, channels: tuple[int, ...], *, rngs: nnx.Rngs
) -> nn.Sequential:
    c1, c2, c3 = channels
    return nn.Sequential(
        nin_block(in_channels, c1, kernel_size=11, stride=4, padding=0, rngs=rngs),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nin_block(c1, c2, kernel_size=5, stride=1, padding=2, rngs=rngs),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nin_block(c2, c3, kernel_size=3, stride=1, padding=1, rngs=rngs),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Dropout(0.5, rngs=rngs),
        nin_block(c3, num_classes, kernel_size=3, stride=1, padding=1, rngs=rngs),
        pool,
        nn.Flatten(),
    )


@register(
    input_shape=(1, 224, 224),
    dataset="mnist",
    paper=PAPER,
    recipe=Recipe(
        epochs=6,
        batch_size=16,
        lr=3e-4,
        warmup_steps=100,
        optimizer="adam",
        clip_norm=1.0,
        init=_even_output,
        train_input_shape=(1, 96, 96),
    ),
)
def nin(
    *, in_channels: int = 1, num_classes: int = 10, num_channels: tuple[int, ...] = (96, 256, 384), rngs: nnx.Rngs
) -> nn.Sequential:
    """Four blocks; the channels of the last one are the classes and are averaged over the image."""
    return _nin(nn.AdaptiveAvgPool2d((1, 1)), in_channels, num_classes, num_channels, rngs=rngs)


@register(
    input_shape=(1, 224, 224),
    dataset="mnist",
    paper=PAPER,
    recipe=Recipe(
        epochs=6, batch_size=16, lr=3e-4, warmup_steps=100, optimizer="adam", clip_norm=1.0, init=_even_output
    ),
)
def nin_avgpool(
    *, in_channels: int = 1, num_classes: int = 10, num_channels: tuple[int, ...] = (96, 256, 384), rngs: nnx.Rngs
) -> nn.Sequential:
    """NiN with an average over a fixed 5x5 window, for images of 224x224 pixels."""
    return _nin(nn.AvgPool2d(5), in_channels, num_classes, num_channels, rngs=rngs)
