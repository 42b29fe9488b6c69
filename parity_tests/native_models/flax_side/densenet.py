"""Densely connected network of "Densely connected convolutional networks" (arXiv:1608.06993)."""

import jax.numpy as jnp
from flax import nnx


class Unit(nnx.Module):
    def __init__(self, in_features, growth, *, rngs):
        self.norms = nnx.List(
            [
                nnx.BatchNorm(in_features, momentum=0.9, rngs=rngs),
                nnx.BatchNorm(2 * growth, momentum=0.9, rngs=rngs),
            ]
        )
        self.convs = nnx.List(
            [
                nnx.Conv(in_features, 2 * growth, (1, 1), use_bias=False, rngs=rngs),
                nnx.Conv(2 * growth, growth, (3, 3), padding="SAME", use_bias=False, rngs=rngs),
            ]
        )

    def __call__(self, x):
        y = x
        for i in range(2):
            y = self.convs[i](nnx.relu(self.norms[i](y)))
        return jnp.concatenate([x, y], axis=-1)


class Transition(nnx.Module):
    def __init__(self, in_features, features, *, rngs):
        self.norm = nnx.BatchNorm(in_features, momentum=0.9, rngs=rngs)
        self.conv = nnx.Conv(in_features, features, (1, 1), use_bias=False, rngs=rngs)

    def __call__(self, x):
        x = self.conv(nnx.relu(self.norm(x)))
        return nnx.avg_pool(x, (2, 2), strides=(2, 2))


class DenseNet(nnx.Module):
    def __init__(self, features=8, growth=4, layers=(2, 2), num_classes=10, *, rngs):
        self.conv_in = nnx.Conv(3, features, (3, 3), use_bias=False, rngs=rngs)
        body = []
        for i, count in enumerate(layers):
            for _ in range(count):
                body.append(Unit(features, growth, rngs=rngs))
                features += growth
            if i + 1 < len(layers):
                body.append(Transition(features, features // 2, rngs=rngs))
                features //= 2
        self.body = nnx.Sequential(*body)
        self.norm_out = nnx.BatchNorm(features, momentum=0.9, rngs=rngs)
        self.logits = nnx.Linear(features, num_classes, rngs=rngs)

    def __call__(self, x):
        x = self.conv_in(x)
        x = nnx.avg_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)), count_include_pad=True)
        x = nnx.relu(self.norm_out(self.body(x)))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((0, 1), (0, 1)))
        return self.logits(jnp.mean(x, axis=(1, 2)))
