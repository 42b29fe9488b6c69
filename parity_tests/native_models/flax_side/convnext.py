"""ConvNeXt of "A ConvNet for the 2020s" (arXiv:2201.03545)."""

import jax.numpy as jnp
from flax import nnx


class ConvNeXtBlock(nnx.Module):
    def __init__(self, features, scale=0.5, *, rngs):
        self.depthwise = nnx.Conv(features, features, (7, 7), padding=3, feature_group_count=features, rngs=rngs)
        self.norm = nnx.LayerNorm(features, epsilon=1e-6, rngs=rngs)
        self.expand = nnx.Linear(features, 4 * features, rngs=rngs)
        self.reduce = nnx.Linear(4 * features, features, rngs=rngs)
        self.layer_scale = nnx.Param(jnp.full((features,), scale))

    def __call__(self, x):
        y = self.norm(self.depthwise(x))
        y = self.reduce(nnx.gelu(self.expand(y), approximate=False))
        return x + self.layer_scale[...] * y


class ConvNeXt(nnx.Module):
    def __init__(self, features=(6, 10), depths=(1, 2), num_classes=10, *, rngs):
        self.stem = nnx.Conv(3, features[0], (4, 4), strides=4, padding="VALID", rngs=rngs)
        self.stem_norm = nnx.LayerNorm(features[0], epsilon=1e-6, rngs=rngs)
        self.stages = nnx.List()
        self.downsamples = nnx.List()
        for i, width in enumerate(features):
            if i > 0:
                norm = nnx.LayerNorm(features[i - 1], epsilon=1e-6, rngs=rngs)
                conv = nnx.Conv(features[i - 1], width, (2, 2), strides=2, padding="VALID", rngs=rngs)
                self.downsamples.append(nnx.Sequential(norm, conv))
            self.stages.append(nnx.List([ConvNeXtBlock(width, rngs=rngs) for _ in range(depths[i])]))
        self.head_norm = nnx.LayerNorm(features[-1], epsilon=1e-6, rngs=rngs)
        self.head = nnx.Linear(features[-1], num_classes, rngs=rngs)

    def __call__(self, x):
        x = self.stem_norm(self.stem(x))
        for i, stage in enumerate(self.stages):
            if i > 0:
                x = self.downsamples[i - 1](x)
            for block in stage:
                x = block(x)
        x = jnp.mean(x, axis=(1, 2))
        return self.head(self.head_norm(x))
