"""Vision transformer of "An image is worth 16x16 words" (arXiv:2010.11929)."""

import jax
import jax.numpy as jnp
from flax import nnx


class MlpBlock(nnx.Module):
    def __init__(self, features, hidden, rate, *, rngs):
        self.wi = nnx.Linear(features, hidden, rngs=rngs)
        self.wo = nnx.Linear(hidden, features, rngs=rngs)
        self.drop = nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x):
        x = self.drop(nnx.gelu(self.wi(x), approximate=False))
        return self.drop(self.wo(x))


class EncoderBlock(nnx.Module):
    def __init__(self, features, heads, hidden, rate, *, rngs):
        self.norm_attention = nnx.LayerNorm(features, epsilon=1e-6, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, features, decode=False, rngs=rngs)
        self.norm_mlp = nnx.LayerNorm(features, epsilon=1e-6, rngs=rngs)
        self.mlp = MlpBlock(features, hidden, rate, rngs=rngs)
        self.drop = nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x):
        x = x + self.drop(self.attention(self.norm_attention(x)))
        return x + self.mlp(self.norm_mlp(x))


class VisionTransformer(nnx.Module):
    def __init__(self, image=16, patch=4, features=16, depth=2, heads=4, hidden=32, num_classes=10, rate=0.1, *, rngs):
        self.patches = nnx.Conv(3, features, (patch, patch), strides=patch, padding="VALID", rngs=rngs)
        self.cls = nnx.Param(jnp.zeros((1, 1, features)))
        tokens = (image // patch) ** 2 + 1
        self.positions = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, tokens, features)))
        self.drop = nnx.Dropout(rate, rngs=rngs)
        self.encoder = nnx.List([EncoderBlock(features, heads, hidden, rate, rngs=rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(features, epsilon=1e-6, rngs=rngs)
        self.classifier = nnx.Linear(features, num_classes, rngs=rngs)

    def __call__(self, images):
        x = self.patches(images)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        cls = jnp.broadcast_to(self.cls[...], (x.shape[0], 1, x.shape[-1]))
        x = jnp.concatenate([cls, x], axis=1)
        x = self.drop(x + self.positions[...])
        for block in self.encoder:
            x = block(x)
        return self.classifier(self.norm(x)[:, 0])
