"""U-Net of "U-Net: convolutional networks for biomedical image segmentation" (arXiv:1505.04597)."""

import jax
import jax.numpy as jnp
from flax import nnx


class ConvBlock(nnx.Module):
    def __init__(self, in_features, features, *, rngs):
        self.conv_a = nnx.Conv(in_features, features, (3, 3), use_bias=False, rngs=rngs)
        self.norm_a = nnx.GroupNorm(features, num_groups=2, epsilon=1e-5, rngs=rngs)
        self.conv_b = nnx.Conv(features, features, (3, 3), use_bias=False, rngs=rngs)
        self.norm_b = nnx.GroupNorm(features, num_groups=2, epsilon=1e-5, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm_a(self.conv_a(x)))
        return nnx.relu(self.norm_b(self.conv_b(x)))


class UNet(nnx.Module):
    def __init__(self, in_features=3, num_classes=2, width=4, *, rngs):
        self.encoders = nnx.Dict(
            full=ConvBlock(in_features, width, rngs=rngs),
            half=ConvBlock(width, 2 * width, rngs=rngs),
            quarter=ConvBlock(2 * width, 4 * width, rngs=rngs),
        )
        self.upsample = nnx.ConvTranspose(4 * width, 2 * width, (2, 2), strides=(2, 2), padding="VALID", rngs=rngs)
        self.decoders = nnx.Dict(
            half=ConvBlock(4 * width, 2 * width, rngs=rngs), full=ConvBlock(3 * width, width, rngs=rngs)
        )
        self.mask = nnx.Conv(width, num_classes, (1, 1), rngs=rngs)

    def __call__(self, x):
        full = self.encoders["full"](x)
        half = self.encoders["half"](nnx.max_pool(full, (2, 2), strides=(2, 2)))
        quarter = self.encoders["quarter"](nnx.max_pool(half, (2, 2), strides=(2, 2)))
        y = self.decoders["half"](jnp.concatenate([half, self.upsample(quarter)], axis=-1))
        n, h, w, c = y.shape
        y = jax.image.resize(y, (n, 2 * h, 2 * w, c), "bilinear")
        y = self.decoders["full"](jnp.concatenate([full, y], axis=-1))
        return self.mask(y)
