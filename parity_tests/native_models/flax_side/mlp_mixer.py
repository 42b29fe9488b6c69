"""MLP-Mixer of "MLP-Mixer: an all-MLP architecture for vision" (arXiv:2105.01601)."""

import jax.numpy as jnp
from flax import nnx


class Mlp(nnx.Module):
    def __init__(self, features, hidden, rate, *, rngs):
        self.dense1 = nnx.Linear(features, hidden, rngs=rngs)
        self.dense2 = nnx.Linear(hidden, features, rngs=rngs)
        self.dropout = nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x):
        x = nnx.gelu(self.dense1(x), approximate=False)
        return self.dropout(self.dense2(self.dropout(x)))


class Mixer(nnx.Module):
    def __init__(self, features, patches, tokens_hidden, channels_hidden, rate, *, rngs):
        self.norm1 = nnx.LayerNorm(features, epsilon=1e-5, rngs=rngs)
        self.norm2 = nnx.LayerNorm(features, epsilon=1e-5, rngs=rngs)
        self.mix_tokens = Mlp(patches, tokens_hidden, rate, rngs=rngs)
        self.mix_channels = Mlp(features, channels_hidden, rate, rngs=rngs)

    def __call__(self, x):
        y = jnp.swapaxes(self.norm1(x), 1, 2)
        y = self.mix_tokens(y)
        x = x + jnp.swapaxes(y, 1, 2)
        return x + self.mix_channels(self.norm2(x))


class MlpMixer(nnx.Module):
    def __init__(self, image=16, patch=4, features=12, depth=2, num_classes=10, rate=0.1, *, rngs):
        self.embed = nnx.Conv(3, features, (patch, patch), strides=patch, rngs=rngs)
        self.mixers = nnx.Sequential(
            *[Mixer(features, (image // patch) ** 2, 10, 24, rate, rngs=rngs) for _ in range(depth)]
        )
        self.norm = nnx.LayerNorm(features, epsilon=1e-5, rngs=rngs)
        self.head = nnx.Linear(features, num_classes, rngs=rngs)

    def __call__(self, x):
        x = self.embed(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        x = self.norm(self.mixers(x))
        return self.head(x.mean(axis=1))
