"""Pairs of whole models with different names, nesting and order, whose weights must match without a mapping."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import nn

Model = tuple[torch.nn.Module, nnx.Module, tuple[np.ndarray, ...]]
_rng = np.random.default_rng(0)


class Torch(nn.Module):
    """A torch module with named layers and a function that computes the output."""

    def __init__(self, function: Callable[..., Any], **layers: Any) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


class Flax(nnx.Module):
    """A Flax module with named layers and a function that computes the output."""

    def __init__(self, function: Callable[..., Any], **layers: Any) -> None:
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def __call__(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


def linear(size: int, out: int, **options: Any) -> nnx.Linear:
    return nnx.Linear(size, out, rngs=nnx.Rngs(0), **options)


def layer_norm(size: int) -> nnx.LayerNorm:
    return nnx.LayerNorm(size, epsilon=1e-5, rngs=nnx.Rngs(0))


def attention(size: int) -> nnx.MultiHeadAttention:
    return nnx.MultiHeadAttention(2, size, decode=False, rngs=nnx.Rngs(0))


def conv(size: int, out: int, kernel: int, groups: int = 1) -> nnx.Conv:
    options = {"feature_group_count": groups, "use_bias": False}
    return nnx.Conv(size, out, (kernel, kernel), padding=kernel // 2, rngs=nnx.Rngs(0), **options)


def batch_norm(size: int) -> nnx.BatchNorm:
    return nnx.BatchNorm(size, use_running_average=True, rngs=nnx.Rngs(0))


def transformer() -> Model:
    def encoder_layer() -> nnx.Module:
        def run(m: Any, x: Any) -> Any:
            x = m.ln1(x + m.att(x))
            return m.ln2(x + m.down(nnx.relu(m.up(x))))

        return Flax(run, up=linear(8, 16), down=linear(16, 8), ln2=layer_norm(8), ln1=layer_norm(8), att=attention(8))

    def decoder_layer() -> nnx.Module:
        def run(m: Any, x: Any, memory: Any) -> Any:
            x = m.norm_a(x + m.mixing(x))
            x = m.norm_b(x + m.looking(x, memory))
            return m.norm_c(x + m.down(nnx.relu(m.up(x))))

        norms = {f"norm_{letter}": layer_norm(8) for letter in "abc"}
        parts = {"mixing": attention(8), "looking": attention(8), "up": linear(8, 16), "down": linear(16, 8)}
        return Flax(run, **norms, **parts)

    def run(m: Any, source: Any, x: Any) -> Any:
        for layer in m.enc:
            source = layer(source)
        source = m.enc_norm(source)
        for layer in m.dec:
            x = layer(x, source)
        return m.dec_norm(x)

    theirs = nn.Transformer(8, 2, 2, 2, 16, batch_first=True, dropout=0.0)
    theirs.encoder.enable_nested_tensor = False
    encoder, decoder = [encoder_layer() for _ in range(2)], [decoder_layer() for _ in range(2)]
    ours = Flax(
        run, enc=nnx.List(encoder), dec=nnx.List(decoder), enc_norm=layer_norm(8), dec_norm=layer_norm(8)
    )  # fmt: skip
    return theirs, ours, (_rng.normal(size=(2, 5, 8)), _rng.normal(size=(2, 3, 8)))


def parallel_heads() -> Model:
    def torch_run(m: Any, x: Any) -> Any:
        x = torch.relu(m.fc1(x))
        return m.fc_logvar(x), m.fc_mu(x)

    def flax_run(m: Any, x: Any) -> Any:
        x = nnx.relu(m.enc(x))
        return m.log_var(x), m.mean(x)

    theirs = Torch(torch_run, fc1=nn.Linear(6, 5), fc_mu=nn.Linear(5, 3), fc_logvar=nn.Linear(5, 3))
    return (
        theirs,
        Flax(flax_run, enc=linear(6, 5), mean=linear(5, 3), log_var=linear(5, 3)),
        (_rng.normal(size=(2, 6)),),
    )


def _torch_experts() -> nn.Module:
    def run(m: Any, x: Any) -> Any:
        gates = torch.softmax(m.gate(x), -1)
        return sum(gates[:, i : i + 1] * expert(x) for i, expert in enumerate(m.experts))

    return Torch(run, gate=nn.Linear(6, 6), experts=nn.ModuleList([nn.Linear(6, 6) for _ in range(6)]))


def experts() -> Model:
    def run(m: Any, x: Any) -> Any:
        gates = nnx.softmax(m.router(x), -1)
        return sum(gates[:, i : i + 1] * branch(x) for i, branch in enumerate(m.branches))

    ours = Flax(run, router=linear(6, 6), branches=nnx.List([linear(6, 6) for _ in range(6)]))
    return _torch_experts(), ours, (_rng.normal(size=(2, 6)),)


def stacked_experts() -> Model:
    @nnx.split_rngs(splits=6)
    @nnx.vmap
    def make(rngs: nnx.Rngs) -> nnx.Linear:
        return nnx.Linear(6, 6, rngs=rngs)

    def run(m: Any, x: Any) -> Any:
        outputs = nnx.vmap(lambda branch, x: branch(x), in_axes=(0, None))(m.branches, x)
        return jnp.einsum("be,ebd->bd", nnx.softmax(m.router(x), -1), outputs)

    ours = Flax(run, router=linear(6, 6), branches=make(nnx.Rngs(0)))
    return _torch_experts(), ours, (_rng.normal(size=(2, 6)),)


def layers_of_two_way_lstms() -> Model:
    def both(features: int) -> nnx.Module:
        one, other = (nnx.RNN(nnx.LSTMCell(features, 5, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0)) for _ in range(2))
        return nnx.Bidirectional(one, other, rngs=nnx.Rngs(0))

    lstm = nn.LSTM(4, 5, 2, bidirectional=True, batch_first=True)
    theirs = Torch(lambda m, x: m.out(m.lstm(x)[0]), lstm=lstm, out=nn.Linear(10, 3))
    ours = Flax(
        lambda m, x: m.readout(m.layers[1](m.layers[0](x))), layers=nnx.List([both(4), both(10)]), readout=linear(10, 3)
    )
    return theirs, ours, (_rng.normal(size=(2, 5, 4)),)


def inverted_bottlenecks() -> Model:
    def torch_block() -> nn.Module:
        def run(m: Any, x: Any) -> Any:
            y = m.block(x)
            scale = torch.sigmoid(m.se.fc2(torch.relu(m.se.fc1(y.mean((2, 3), keepdim=True)))))
            return x + m.project(y * scale)

        first = [nn.Conv2d(4, 16, 1, bias=False), nn.BatchNorm2d(16), nn.SiLU()]
        second = [nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16), nn.SiLU()]
        excitation = Torch(lambda m, x: x, fc1=nn.Conv2d(16, 4, 1), fc2=nn.Conv2d(4, 16, 1))
        project = nn.Sequential(nn.Conv2d(16, 4, 1, bias=False), nn.BatchNorm2d(4))
        return Torch(run, block=nn.Sequential(*first, *second), se=excitation, project=project)

    def flax_block() -> nnx.Module:
        def run(m: Any, x: Any) -> Any:
            y = nnx.silu(m.dw_bn(m.dw(nnx.silu(m.expand_bn(m.expand(x))))))
            scale = nnx.sigmoid(m.excite(nnx.relu(m.squeeze(y.mean((1, 2))))))
            return x + m.out_bn(m.out(y * scale[:, None, None]))

        convs = {"expand": conv(4, 16, 1), "dw": conv(16, 16, 3, 16), "out": conv(16, 4, 1)}
        norms = {"expand_bn": batch_norm(16), "dw_bn": batch_norm(16), "out_bn": batch_norm(4)}
        return Flax(run, squeeze=linear(16, 4), excite=linear(4, 16), **convs, **norms)

    theirs = Torch(lambda m, x: m.net(x), net=nn.Sequential(torch_block(), torch_block()))
    return theirs, Flax(lambda m, x: m.b(m.a(x)), a=flax_block(), b=flax_block()), (_rng.normal(size=(2, 4, 5, 6)),)


def bottlenecks() -> Model:
    """Residual blocks whose shortcut has the shape of the last convolution; it runs first in Flax and last in torch."""

    def torch_block(size: int) -> nn.Module:
        def run(m: Any, x: Any) -> Any:
            y = torch.relu(m.bn2(m.conv2(torch.relu(m.bn1(m.conv1(x))))))
            return torch.relu(m.bn3(m.conv3(y)) + m.downsample(x))

        shapes = {1: (size, 4, 1), 2: (4, 4, 3), 3: (4, 16, 1)}
        layers = {f"conv{i}": nn.Conv2d(a, b, k, padding=k // 2, bias=False) for i, (a, b, k) in shapes.items()} | {
            f"bn{i}": nn.BatchNorm2d(b) for i, (_, b, _) in shapes.items()
        }
        shortcut = [nn.Conv2d(size, 16, 1, bias=False), nn.BatchNorm2d(16)] if size != 16 else []
        return Torch(run, **layers, downsample=nn.Sequential(*shortcut))

    def flax_block(size: int) -> nnx.Module:
        def run(m: Any, x: Any) -> Any:
            carried = m.bn_id(m.id(x)) if size != 16 else x
            for layer, norm in zip(m.c, m.n, strict=True):
                last = layer is m.c[2]
                x = norm(layer(x))
                x = x if last else nnx.relu(x)
            return nnx.relu(carried + x)

        shortcut = {"id": conv(size, 16, 1), "bn_id": batch_norm(16)} if size != 16 else {}
        norms = nnx.List([batch_norm(4), batch_norm(4), batch_norm(16)])
        return Flax(run, n=norms, c=nnx.List([conv(size, 4, 1), conv(4, 4, 3), conv(4, 16, 1)]), **shortcut)

    theirs = Torch(lambda m, x: m.l(x), l=nn.Sequential(torch_block(4), torch_block(16)))
    ours = Flax(lambda m, x: m.s2(m.s1(x)), s2=flax_block(16), s1=flax_block(4))
    return theirs, ours, (_rng.normal(size=(2, 4, 5, 6)),)


def scanned_blocks() -> Model:
    """Blocks stacked by vmap, with separate projections in place of torch's joint projection."""

    def torch_block() -> nn.Module:
        def run(m: Any, x: Any) -> Any:
            q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in m.attn(m.ln1(x)).chunk(3, -1))
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + m.proj(y.transpose(1, 2).flatten(2))
            return x + m.mlp(m.ln2(x))

        mlp = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8))
        norms = {"ln1": nn.LayerNorm(8), "ln2": nn.LayerNorm(8)}
        return Torch(run, **norms, attn=nn.Linear(8, 24), proj=nn.Linear(8, 8), mlp=mlp)

    class Block(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.attention_norm = nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)
            self.q, self.k, self.v, self.o = (nnx.Linear(8, 8, rngs=rngs) for _ in range(4))
            self.ffn_norm = nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)
            self.w1, self.w2 = nnx.Linear(8, 32, rngs=rngs), nnx.Linear(32, 8, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            y = self.attention_norm(x)
            q, k, v = (layer(y).reshape(*y.shape[:2], 2, 4) for layer in (self.q, self.k, self.v))
            x = x + self.o(jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape))
            return x + self.w2(jax.nn.gelu(self.w1(self.ffn_norm(x)), approximate=False))

    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def make(rngs: nnx.Rngs) -> Block:
        return Block(rngs)

    def torch_run(m: Any, x: Any) -> Any:
        return m.head(m.f(m.blocks(m.wte(x) + m.wpe(torch.arange(x.shape[1])))))

    def flax_run(m: Any, x: Any) -> Any:
        x = m.tok(x) + m.posn(jnp.arange(x.shape[1]))
        scan = nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return m.unembed(m.out_norm(scan(x, m.layers)))

    theirs = Torch(
        torch_run, wte=nn.Embedding(8, 8), wpe=nn.Embedding(8, 8),
        blocks=nn.Sequential(*[torch_block() for _ in range(3)]), f=nn.LayerNorm(8), head=nn.Linear(8, 8, bias=False),
    )  # fmt: skip
    embeddings = {name: nnx.Embed(8, 8, rngs=nnx.Rngs(0)) for name in ("tok", "posn")}
    unembed = linear(8, 8, use_bias=False)
    ours = Flax(flax_run, **embeddings, layers=make(nnx.Rngs(0)), out_norm=layer_norm(8), unembed=unembed)
    return theirs, ours, (_rng.integers(0, 8, (2, 6)),)


def parameters_of_blocks() -> Model:
    theirs = Torch(
        lambda m, x: m.fc(x + m.table[:4] + m.scale * x),
        table=nn.Parameter(torch.randn(9, 4)), scale=nn.Parameter(torch.ones(4)), fc=nn.Linear(4, 4),
    )  # fmt: skip
    ours = Flax(
        lambda m, x: m.out(x + m.rel[...][:4] + m.gamma[...] * x),
        out=linear(4, 4), gamma=nnx.Param(jnp.ones(4)), rel=nnx.Param(jnp.zeros((9, 4))),
    )  # fmt: skip
    return theirs, ours, (_rng.normal(size=(4, 4)),)


MODELS = (
    transformer, parallel_heads, experts, stacked_experts, layers_of_two_way_lstms, inverted_bottlenecks, bottlenecks,
    scanned_blocks, parameters_of_blocks,
)  # fmt: skip
