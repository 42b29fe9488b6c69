"""The networks of :mod:`parity_faults.blocks_torch` in the layers of flaxnets."""

import jax
import jax.numpy as jnp
from flax import nnx

from flaxnets import nn
from flaxnets.nn import functional as F


class Pyramid(nn.Module):
    def __init__(self, width=4, *, rngs):
        self.enter = nn.Conv2d(3, width, 3, padding=1, padding_mode="reflect", rngs=rngs)
        self.coarse = nn.Conv2d(width, width, 3, padding=1, rngs=rngs)
        self.leave = nn.Conv2d(width, 2, 1, rngs=rngs)

    def __call__(self, x):
        fine = F.silu(self.enter(x))
        coarse = F.interpolate(fine, scale_factor=0.5, mode="bilinear", align_corners=False)
        coarse = F.silu(self.coarse(coarse))
        up = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=True)
        return self.leave(fine + up)


class Thumbnail(nn.Module):
    def __init__(self, width=4, *, rngs):
        self.conv = nn.Conv2d(3, width, 3, rngs=rngs)
        self.out = nn.Linear(width * 5 * 5, 3, rngs=rngs)

    def __call__(self, x):
        x = jnp.tanh(self.conv(x))
        x = F.interpolate(x, size=(5, 5), mode="nearest")
        return self.out(x.reshape(x.shape[0], -1))


class TextClassifier(nn.Module):
    def __init__(self, vocab_size=20, dim=6, num_classes=4, *, rngs):
        self.embedding = nn.Embedding(vocab_size, dim, rngs=rngs)
        self.conv = nn.Conv1d(dim, 8, 3, padding=1, rngs=rngs)
        self.fc = nn.Linear(8, num_classes, rngs=rngs)
        self.loss = nn.CrossEntropyLoss(label_smoothing=0.1)

    def __call__(self, ids, labels):
        x = jnp.swapaxes(self.embedding(ids), 1, 2)
        x = F.gelu(self.conv(x)).max(2)
        logits = self.fc(x)
        return self.loss(logits, labels), logits


class SentenceEncoder(nn.Module):
    def __init__(self, vocab_size=20, dim=8, num_heads=2, num_layers=2, dropout=0.1, *, rngs):
        self.embedding = nn.Embedding(vocab_size, dim, padding_idx=0, rngs=rngs)
        layer = nn.TransformerEncoderLayer(dim, num_heads, 16, dropout, activation="gelu", batch_first=True, rngs=rngs)
        self.encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.pooler = nn.Linear(dim, dim, rngs=rngs)

    def __call__(self, ids):
        padding = ids == 0
        x = self.encoder(self.embedding(ids) * 8**0.5, src_key_padding_mask=padding)
        keep = (~padding)[..., None].astype(x.dtype)
        return jnp.tanh(self.pooler((x * keep).sum(1) / keep.sum(1)))


class HandwrittenLSTM(nn.Module):
    def __init__(self, input_size=5, hidden_size=6, num_outputs=3, *, rngs):
        self.hidden_size = hidden_size
        self.x2h = nn.Linear(input_size, 4 * hidden_size, rngs=rngs)
        self.h2h = nn.Linear(hidden_size, 4 * hidden_size, rngs=rngs)
        self.out = nn.Linear(hidden_size, num_outputs, rngs=rngs)

    def __call__(self, x):
        h = c = jnp.zeros((x.shape[0], self.hidden_size), x.dtype)
        for t in range(x.shape[1]):
            i, f, g, o = jnp.split(self.x2h(x[:, t]) + self.h2h(h), 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return self.out(h)


class SqueezeExcite(nn.Module):
    def __init__(self, channels, reduced, *, rngs):
        self.fc1 = nn.Conv2d(channels, reduced, 1, rngs=rngs)
        self.fc2 = nn.Conv2d(reduced, channels, 1, rngs=rngs)

    def __call__(self, x):
        s = x.mean((2, 3), keepdims=True)
        return x * jax.nn.sigmoid(self.fc2(F.relu(self.fc1(s))))


class MobileBlock(nn.Module):
    def __init__(self, channels, expansion=2, *, rngs):
        wide = expansion * channels
        self.expand = nn.Conv2d(channels, wide, 1, bias=False, rngs=rngs)
        self.bn1 = nn.BatchNorm2d(wide, eps=1e-3, momentum=0.01)
        self.depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False, rngs=rngs)
        self.bn2 = nn.BatchNorm2d(wide, eps=1e-3, momentum=0.01)
        self.se = SqueezeExcite(wide, channels, rngs=rngs)
        self.project = nn.Conv2d(wide, channels, 1, bias=False, rngs=rngs)
        self.bn3 = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)

    def __call__(self, x):
        y = F.silu(self.bn1(self.expand(x)))
        y = F.silu(self.bn2(self.depthwise(y)))
        return x + self.bn3(self.project(self.se(y)))


class MobileNet(nn.Module):
    def __init__(self, width=4, num_blocks=2, num_classes=5, *, rngs):
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1, rngs=rngs)
        self.blocks = nn.Sequential(*[MobileBlock(width, rngs=rngs) for _ in range(num_blocks)])
        self.fc = nn.Linear(width, num_classes, rngs=rngs)

    def __call__(self, x):
        x = F.hardswish(self.stem(x))
        return self.fc(self.blocks(x).mean((2, 3)))


class Generator(nn.Module):
    def __init__(self, latent=6, width=4, *, rngs):
        self.fc = nn.Linear(latent, 2 * width * 4 * 4, rngs=rngs)
        self.deconv1 = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False, rngs=rngs)
        self.bn1 = nn.BatchNorm2d(width)
        self.deconv2 = nn.ConvTranspose2d(width, 3, 3, stride=2, padding=1, output_padding=1, rngs=rngs)

    def __call__(self, z):
        x = F.relu(self.fc(z)).reshape(z.shape[0], -1, 4, 4)
        x = F.leaky_relu(self.bn1(self.deconv1(x)), 0.2)
        return jnp.tanh(self.deconv2(x))


class RMSNorm(nn.Module):
    def __init__(self, dim, eps=1e-5):
        self.eps = eps
        self.weight = nnx.Param(jnp.ones(dim))

    def __call__(self, x):
        return x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + self.eps) * self.weight[...]


class LlamaAttention(nn.Module):
    def __init__(self, dim, num_heads, *, rngs):
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, dim, bias=False, rngs=rngs)
        self.k_proj = nn.Linear(dim, dim, bias=False, rngs=rngs)
        self.v_proj = nn.Linear(dim, dim, bias=False, rngs=rngs)
        self.o_proj = nn.Linear(dim, dim, bias=False, rngs=rngs)

    def __call__(self, x, mask):
        n, t, d = x.shape
        q, k, v = (p(x).reshape(n, t, self.num_heads, -1) for p in (self.q_proj, self.k_proj, self.v_proj))
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / (d // self.num_heads) ** 0.5
        scores = jnp.where(mask, -1e9, scores)
        y = jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores, axis=-1), v)
        return self.o_proj(y.reshape(n, t, d))


class LlamaMLP(nn.Module):
    def __init__(self, dim, hidden, *, rngs):
        self.gate_proj = nn.Linear(dim, hidden, bias=False, rngs=rngs)
        self.up_proj = nn.Linear(dim, hidden, bias=False, rngs=rngs)
        self.down_proj = nn.Linear(hidden, dim, bias=False, rngs=rngs)

    def __call__(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class LlamaBlock(nn.Module):
    def __init__(self, dim, num_heads, *, rngs):
        self.input_norm = RMSNorm(dim)
        self.attention = LlamaAttention(dim, num_heads, rngs=rngs)
        self.mlp_norm = RMSNorm(dim)
        self.mlp = LlamaMLP(dim, 2 * dim, rngs=rngs)

    def __call__(self, x, mask):
        x = x + self.attention(self.input_norm(x), mask)
        return x + self.mlp(self.mlp_norm(x))


class Llama(nn.Module):
    def __init__(self, vocab_size=20, dim=8, num_heads=2, num_layers=2, *, rngs):
        self.embed = nn.Embedding(vocab_size, dim, rngs=rngs)
        self.layers = nn.ModuleList([LlamaBlock(dim, num_heads, rngs=rngs) for _ in range(num_layers)])
        self.norm = RMSNorm(dim)
        self.head = nn.Linear(dim, vocab_size, bias=False, rngs=rngs)

    def __call__(self, ids):
        x = self.embed(ids)
        mask = jnp.triu(jnp.ones((ids.shape[1], ids.shape[1]), bool), 1)
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(self.norm(x))


class Universal(nn.Module):
    def __init__(self, dim=6, steps=3, *, rngs):
        self.steps = steps
        self.norm = nn.LayerNorm(dim)
        self.block = nn.Sequential(
            nn.Linear(dim, 2 * dim, rngs=rngs), nn.Softplus(), nn.Linear(2 * dim, dim, rngs=rngs)
        )
        self.out = nn.Linear(dim, 2, rngs=rngs)

    def __call__(self, x):
        for _ in range(self.steps):
            x = x + self.block(self.norm(x))
        return self.out(x)


class TwoTowers(nn.Module):
    def __init__(self, dim=6, size=6, *, rngs):
        self.image = nn.Linear(dim, size, rngs=rngs)
        self.text = nn.Linear(dim, size, rngs=rngs)
        self.loss = nn.MSELoss()

    def __call__(self, images, texts, target):
        a = F.normalize(self.image(images), dim=-1)
        b = F.normalize(self.text(texts), dim=-1)
        logits = a @ b.T / 0.07
        return self.loss(logits, target), jax.nn.softmax(logits, axis=1)


class Dense(nnx.Module):
    """In the layer of Flax."""

    def __init__(self, in_features=768, out_features=32, *, rngs):
        self.dense = nnx.Linear(in_features, out_features, rngs=rngs)

    def __call__(self, x):
        return self.dense(x)
