"""Decoder-only transformer whose head shares the weight of the token embedding, as in GPT-2."""

import jax
import jax.numpy as jnp
from flax import nnx


class SelfAttention(nnx.Module):
    def __init__(self, features, heads, rate, *, rngs):
        self.qkv = nnx.Linear(features, 3 * features, rngs=rngs)
        self.proj = nnx.Linear(features, features, rngs=rngs)
        self.drop = nnx.Dropout(rate, rngs=rngs)
        self.heads = heads

    def __call__(self, x):
        batch, length, features = x.shape
        q, k, v = jnp.split(self.qkv(x), 3, axis=-1)
        q = q.reshape(batch, length, self.heads, -1)
        k = k.reshape(batch, length, self.heads, -1)
        v = v.reshape(batch, length, self.heads, -1)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k)
        scores = scores / jnp.sqrt(q.shape[-1])
        mask = jnp.tril(jnp.ones((length, length), bool))
        scores = jnp.where(mask, scores, -jnp.inf)
        weights = jax.nn.softmax(scores, axis=-1)
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
        return self.drop(self.proj(y.reshape(batch, length, features)))


class FeedForward(nnx.Module):
    def __init__(self, features, rate, *, rngs):
        self.up = nnx.Linear(features, 4 * features, rngs=rngs)
        self.down = nnx.Linear(4 * features, features, rngs=rngs)
        self.drop = nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x):
        return self.drop(self.down(nnx.gelu(self.up(x))))


class DecoderLayer(nnx.Module):
    def __init__(self, features, heads, rate, *, rngs):
        self.norm_1 = nnx.LayerNorm(features, epsilon=1e-5, rngs=rngs)
        self.attention = SelfAttention(features, heads, rate, rngs=rngs)
        self.norm_2 = nnx.LayerNorm(features, epsilon=1e-5, rngs=rngs)
        self.ffn = FeedForward(features, rate, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm_1(x))
        return x + self.ffn(self.norm_2(x))


class GPT(nnx.Module):
    def __init__(self, vocab=32, context=16, layers=2, heads=2, features=16, rate=0.1, *, rngs):
        self.tokens = nnx.Embed(vocab, features, rngs=rngs)
        self.positions = nnx.Embed(context, features, rngs=rngs)
        self.drop = nnx.Dropout(rate, rngs=rngs)
        self.layers = nnx.List([DecoderLayer(features, heads, rate, rngs=rngs) for _ in range(layers)])
        self.final_norm = nnx.LayerNorm(features, epsilon=1e-5, rngs=rngs)

    def __call__(self, ids):
        x = self.tokens(ids) + self.positions(jnp.arange(ids.shape[1]))
        x = self.drop(x)
        for layer in self.layers:
            x = layer(x)
        return self.tokens.attend(self.final_norm(x))
