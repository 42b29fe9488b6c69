"""Test that ``find_cause`` names the cause of a difference. Each row is a typical mistake of a user."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from isolated_pairs import Pair

from flaxnets import nn
from flaxnets.parity.causes import find_cause

F = torch.nn.functional
R = np.random.default_rng(0)
IMAGES = R.normal(size=(2, 4, 9, 9))
ROWS = R.normal(size=(3, 6))
TOKENS = R.normal(size=(2, 5, 8))
IDS = R.integers(0, 7, (2, 5))


def rngs():
    return nnx.Rngs(0)


class Torch(torch.nn.Module):
    """A torch module with named layers and a function that computes the output."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs):
        return self.function(self, *inputs)


class Flax(nnx.Module):
    """A Flax module with named layers and a function that computes the output."""

    def __init__(self, function, **layers):
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def __call__(self, *inputs):
        return self.function(self, *inputs)


def blocks(torch_function, flax_function, torch_layers=None, flax_layers=None):
    return Torch(torch_function, **(torch_layers or {})), Flax(flax_function, **(flax_layers or {}))


def linears(*names, size=8, bias=True):
    return (
        {name: torch.nn.Linear(size, size, bias=bias) for name in names},
        {name: nnx.Linear(size, size, use_bias=bias, rngs=rngs()) for name in names},
    )


def conv_pair(size=3, *, torch_options=None, **options):
    return torch.nn.Conv2d(4, 6, size, **(torch_options or {})), nnx.Conv(4, 6, (size, size), rngs=rngs(), **options)


def flax_weights(**arrays):
    return {name: nnx.Param(jnp.zeros(shape)) for name, shape in arrays.items()}


def heads(x, n=2):
    return x.reshape(*x.shape[:2], n, -1).swapaxes(1, 2)


def attention(softmax, scale=None, mask=None):
    def run(q, k, v):
        scores = q @ k.swapaxes(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
        return softmax(mask(scores) if mask else scores) @ v

    return run


class LSTM(nnx.Module):
    def __init__(self, order="ifgo", biases=2, *, time_major=False):
        self.weight_ih_l0, self.weight_hh_l0 = nnx.Param(jnp.zeros((16, 8))), nnx.Param(jnp.zeros((16, 4)))
        self.bias_ih_l0, self.bias_hh_l0 = nnx.Param(jnp.zeros(16)), nnx.Param(jnp.zeros(16))
        self.order, self.biases, self.time_major = order, biases, time_major

    def __call__(self, x):
        h = c = jnp.zeros((x.shape[0 if not self.time_major else 1], 4))
        outputs = []
        for step in jnp.swapaxes(x, 0, 1) if not self.time_major else x:
            gates = step @ self.weight_ih_l0[...].T + h @ self.weight_hh_l0[...].T + self.bias_ih_l0[...]
            if self.biases == 2:
                gates = gates + self.bias_hh_l0[...]
            gate = dict(zip(self.order, jnp.split(gates, 4, axis=-1), strict=True))
            c = jax.nn.sigmoid(gate["f"]) * c + jax.nn.sigmoid(gate["i"]) * jnp.tanh(gate["g"])
            h = jax.nn.sigmoid(gate["o"]) * jnp.tanh(c)
            outputs.append(h)
        return jnp.stack(outputs, 0 if self.time_major else 1), (h[None], c[None])


class GRU(nnx.Module):
    def __init__(self, new):
        self.weight_ih_l0, self.weight_hh_l0 = nnx.Param(jnp.zeros((12, 8))), nnx.Param(jnp.zeros((12, 4)))
        self.bias_ih_l0, self.bias_hh_l0 = nnx.Param(jnp.zeros(12)), nnx.Param(jnp.zeros(12))
        self.new = new

    def __call__(self, x):
        h, outputs = jnp.zeros((x.shape[0], 4)), []
        weight, bias = jnp.split(self.weight_hh_l0[...].T, 3, 1)[2], self.bias_hh_l0[...][8:]
        for step in jnp.swapaxes(x, 0, 1):
            xr, xz, xn = jnp.split(step @ self.weight_ih_l0[...].T + self.bias_ih_l0[...], 3, -1)
            hr, hz, _ = jnp.split(h @ self.weight_hh_l0[...].T + self.bias_hh_l0[...], 3, -1)
            r, z = jax.nn.sigmoid(xr + hr), jax.nn.sigmoid(xz + hz)
            h = self.new(xn, r, z, h, weight, bias)
            outputs.append(h)
        return jnp.stack(outputs, 1), h[None]


def torch_block(act=F.relu):
    return lambda m, x: act(m.second(act(m.first(x))) + x)


CAUSES = {}


def row(name, cause, pair, *inputs, **options):
    CAUSES[name] = (cause, pair, inputs, options)


# Normalisation layers.
row("layer norm with Flax's eps", "epsilon", lambda: (torch.nn.LayerNorm(6), nnx.LayerNorm(6, rngs=rngs())), ROWS)
row(
    "an eps that nobody uses",
    "epsilon",
    lambda: (torch.nn.LayerNorm(6), nnx.LayerNorm(6, epsilon=3.7e-5, rngs=rngs())),
    ROWS,
)
row(
    "eps outside the root",
    "epsilon-outside-root",
    lambda: (
        torch.nn.GroupNorm(2, 4),
        Flax(
            lambda m, x: (
                _group_norm(x, 2, outside=True) * m.weight[...].reshape(-1, 1, 1) + m.bias[...].reshape(-1, 1, 1)
            ),
            **flax_weights(weight=(4,), bias=(4,)),
        ),
    ),
    IMAGES,
)
row(
    "batch norm with momentum of the other sense",
    "momentum-reversed",
    lambda: (torch.nn.BatchNorm2d(4), nn.BatchNorm2d(4, momentum=0.9)),
    IMAGES,
    training=True,
)
row(
    "nnx.BatchNorm with torch's momentum",
    "momentum-reversed+running-variance-biased",
    lambda: (torch.nn.BatchNorm2d(4), nnx.BatchNorm(4, momentum=0.1, epsilon=1e-5, rngs=rngs())),
    IMAGES,
    training=True,
    nhwc=True,
)
row(
    "nnx.BatchNorm",
    "running-variance-biased",
    lambda: (torch.nn.BatchNorm2d(4), nnx.BatchNorm(4, momentum=0.9, epsilon=1e-5, rngs=rngs())),
    IMAGES,
    training=True,
    nhwc=True,
)
row(
    "nnx.BatchNorm that never trains",
    "norm-mode",
    lambda: (
        Torch(lambda m, x: m.norm(x), norm=torch.nn.BatchNorm2d(4)),
        Flax(lambda m, x: m.norm(x, use_running_average=True), norm=nnx.BatchNorm(4, rngs=rngs())),
    ),
    IMAGES,
    training=True,
    nhwc=True,
)
row(
    "batch norm in training mode at inference",
    "norm-mode",
    lambda: (
        Torch(lambda m, x: m.norm(x), norm=torch.nn.BatchNorm2d(4)),
        Flax(lambda m, x: m.norm(x, use_running_average=False), norm=nnx.BatchNorm(4, momentum=0.9, rngs=rngs())),
    ),
    IMAGES,
    nhwc=True,
)
row(
    "group norm with other groups",
    "groups",
    lambda: (torch.nn.GroupNorm(2, 4), nnx.GroupNorm(4, num_groups=4, epsilon=1e-5, rngs=rngs())),
    IMAGES,
    nhwc=True,
)
row(
    "group norm for layer norm of channels",
    "norm-axes",
    lambda: (torch.nn.GroupNorm(1, 4), nnx.LayerNorm(4, epsilon=1e-5, rngs=rngs())),
    IMAGES,
    nhwc=True,
)
row(
    "layer norm for RMS norm",
    "norm-kind",
    lambda: (torch.nn.RMSNorm(6, eps=1e-6), nnx.LayerNorm(6, use_bias=False, rngs=rngs())),
    ROWS,
)
row(
    "layer norm without bias",
    "bias-missing",
    lambda: (torch.nn.LayerNorm(6), nnx.LayerNorm(6, use_bias=False, epsilon=1e-5, rngs=rngs())),
    ROWS,
)
row(
    "unbiased variance",
    "variance-unbiased",
    lambda: (
        torch.nn.LayerNorm(6, elementwise_affine=False),
        Flax(lambda m, x: (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, ddof=1, keepdims=True) + 1e-5)),
    ),
    ROWS,
)
row(
    "an eps written out",
    "epsilon",
    lambda: blocks(
        lambda m, x: x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
        lambda m, x: x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5),
    ),
    ROWS,
)
row(
    "a written-out eps outside the root",
    "epsilon-outside-root",
    lambda: blocks(
        lambda m, x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
        lambda m, x: x / (jnp.sqrt((x**2).mean(-1, keepdims=True)) + 1e-6),
    ),
    ROWS,
)
row(
    "eps in normalize",
    "epsilon",
    lambda: blocks(
        lambda m, x: F.normalize(x, dim=-1), lambda m, x: x / jnp.sqrt((x**2).sum(-1, keepdims=True) + 1e-6)
    ),
    ROWS,
)
row(
    "normalize along another axis",
    "norm-axes",
    lambda: blocks(lambda m, x: F.normalize(x, dim=1), lambda m, x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)),
    IMAGES,
)

# Activations.
row("tanh GELU", "gelu-approximation", lambda: (torch.nn.GELU(), Flax(lambda m, x: nnx.gelu(x))), ROWS)
row(
    "exact GELU",
    "gelu-approximation",
    lambda: (torch.nn.GELU(approximate="tanh"), Flax(lambda m, x: nnx.gelu(x, approximate=False))),
    ROWS,
)
row(
    "slope of a leaky ReLU",
    "negative-slope",
    lambda: (torch.nn.LeakyReLU(0.2), Flax(lambda m, x: nnx.leaky_relu(x))),
    ROWS,
)
row("alpha of an ELU", "alpha", lambda: (torch.nn.ELU(0.7), Flax(lambda m, x: nnx.elu(x))), ROWS)
row("softmax of another axis", "softmax-axis", lambda: (torch.nn.Softmax(1), Flax(lambda m, x: nnx.softmax(x))), IMAGES)
row(
    "log-softmax of another axis",
    "softmax-axis",
    lambda: blocks(lambda m, x: F.log_softmax(x, 1), lambda m, x: nnx.log_softmax(x)),
    TOKENS,
)
row(
    "an activation left out",
    "activation-missing",
    lambda: blocks(
        lambda m, x: m.second(F.relu(m.first(x))), lambda m, x: m.second(m.first(x)), *linears("first", "second")
    ),
    TOKENS,
)
row(
    "an activation applied twice",
    "activation-doubled",
    lambda: blocks(
        lambda m, x: m.second(torch.tanh(m.first(x))),
        lambda m, x: m.second(jnp.tanh(jnp.tanh(m.first(x)))),
        *linears("first", "second"),
    ),
    TOKENS,
)
row(
    "another activation",
    "activation-kind",
    lambda: blocks(
        lambda m, x: m.second(F.silu(m.first(x))),
        lambda m, x: m.second(nnx.relu(m.first(x))),
        *linears("first", "second"),
    ),
    TOKENS,
)
row("ReLU for ReLU6", "activation-kind", lambda: (torch.nn.ReLU6(), Flax(lambda m, x: nnx.relu(x))), ROWS * 9)
row(
    "an activation that torch lacks",
    "activation-extra",
    lambda: blocks(
        lambda m, x: m.second(F.relu(m.first(x))),
        lambda m, x: nnx.sigmoid(m.second(nnx.relu(m.first(x)))),
        *linears("first", "second"),
    ),
    TOKENS,
)
row(
    "an activation between two layers that torch lacks",
    "activation-extra",
    lambda: blocks(
        lambda m, x: m.second(m.first(x)), lambda m, x: m.second(nnx.relu(m.first(x))), *linears("first", "second")
    ),
    TOKENS,
)
row(
    "softmax before a loss",
    "activation-extra",
    lambda: blocks(lambda m, x: m.head(x), lambda m, x: nnx.softmax(m.head(x)), *linears("head")),
    TOKENS,
)
row(
    "the gate of a GLU",
    "gate-order",
    lambda: blocks(lambda m, x: F.glu(x, -1), lambda m, x: nnx.sigmoid(x[..., :4]) * x[..., 4:]),
    TOKENS,
)

# Convolutions, pooling, resizing.
row(
    "SAME with stride 2",
    "padding-same",
    lambda: conv_pair(torch_options={"stride": 2, "padding": 1}, strides=2, padding="SAME"),
    IMAGES[..., :8, :8],
    nhwc=True,
)
row(
    "no padding", "padding-missing", lambda: conv_pair(torch_options={"padding": 1}, padding="VALID"), IMAGES, nhwc=True
)
row("SAME by default", "padding-same", lambda: conv_pair(), IMAGES, nhwc=True)
row(
    "one-sided padding",
    "padding-one-sided",
    lambda: conv_pair(torch_options={"stride": 2, "padding": 1}, strides=2, padding=((0, 2), (0, 2))),
    IMAGES,
    nhwc=True,
)
row(
    "another padding",
    "padding",
    lambda: conv_pair(5, torch_options={"stride": 2, "padding": 2}, strides=2, padding=((1, 2), (1, 2))),
    IMAGES,
    nhwc=True,
)
row("another stride", "stride", lambda: conv_pair(torch_options={"stride": 2}, padding="VALID"), IMAGES, nhwc=True)
row(
    "another dilation", "dilation", lambda: conv_pair(torch_options={"dilation": 2}, padding="VALID"), IMAGES, nhwc=True
)
row("a convolution without bias", "bias-missing", lambda: conv_pair(padding="VALID", use_bias=False), IMAGES, nhwc=True)
row(
    "a linear layer without bias",
    "bias-missing",
    lambda: (torch.nn.Linear(6, 5), nnx.Linear(6, 5, use_bias=False, rngs=rngs())),
    ROWS,
)
row(
    "a flipped kernel",
    "kernel-flipped",
    lambda: (
        torch.nn.Conv2d(4, 6, 3),
        Flax(
            lambda m, x: nn.functional.conv2d(x, m.weight[...][..., ::-1, ::-1], m.bias[...]),
            **flax_weights(weight=(6, 4, 3, 3), bias=(6,)),
        ),
    ),
    IMAGES,
)
row(
    "height and width exchanged",
    "kernel-transposed",
    lambda: (
        torch.nn.Conv2d(4, 6, 3),
        Flax(
            lambda m, x: nn.functional.conv2d(x, m.weight[...].swapaxes(2, 3), m.bias[...]),
            **flax_weights(weight=(6, 4, 3, 3), bias=(6,)),
        ),
    ),
    IMAGES,
)
row(
    "a transposed weight",
    "kernel-transposed",
    lambda: (
        torch.nn.Linear(6, 6),
        Flax(lambda m, x: x @ m.weight[...] + m.bias[...], **flax_weights(weight=(6, 6), bias=(6,))),
    ),
    ROWS,
)
row(
    "a transposed convolution with a flipped kernel",
    "kernel-flipped",
    lambda: (
        torch.nn.ConvTranspose2d(4, 6, 2, stride=2),
        Flax(
            lambda m, x: nn.functional.conv_transpose2d(x, m.weight[...][..., ::-1, ::-1], m.bias[...], stride=2),
            **flax_weights(weight=(4, 6, 2, 2), bias=(6,)),
        ),
    ),
    IMAGES,
)
row(
    "a transposed convolution with another padding",
    "padding-transposed",
    lambda: (
        torch.nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1),
        Flax(
            lambda m, x: nn.functional.conv_transpose2d(x, m.weight[...], m.bias[...], stride=2)[..., 2:20, 2:20],
            **flax_weights(weight=(4, 6, 4, 4), bias=(6,)),
        ),
    ),
    IMAGES,
)
row("ceil_mode", "ceil-mode", lambda: (torch.nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d(2)), IMAGES)
row(
    "SAME max-pooling",
    "padding-same",
    lambda: (torch.nn.MaxPool2d(3, 2, padding=1), Flax(lambda m, x: nnx.max_pool(x, (3, 3), (2, 2), "SAME"))),
    IMAGES[..., :8, :8],
    nhwc=True,
)
row(
    "max-pooling with Flax's stride of 1",
    "stride",
    lambda: (torch.nn.MaxPool2d(2), Flax(lambda m, x: nnx.max_pool(x, (2, 2)))),
    IMAGES,
    nhwc=True,
)
row(
    "zeros around a max-pooling",
    "padding-value",
    lambda: (
        torch.nn.MaxPool2d(3, 2, padding=1),
        Flax(lambda m, x: nnx.max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), (2, 2))),
    ),
    IMAGES - 3,
    nhwc=True,
)
row(
    "count_include_pad",
    "count-include-pad",
    lambda: (
        torch.nn.AvgPool2d(3, 2, padding=1),
        Flax(lambda m, x: nnx.avg_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)), count_include_pad=False)),
    ),
    IMAGES,
    nhwc=True,
)
row(
    "a mean for a maximum",
    "pooling-kind",
    lambda: (torch.nn.MaxPool2d(2), Flax(lambda m, x: nnx.avg_pool(x, (2, 2), (2, 2)))),
    IMAGES,
    nhwc=True,
)
row(
    "a global maximum for a mean",
    "pooling-kind",
    lambda: (torch.nn.AdaptiveAvgPool2d(1), Flax(lambda m, x: x.max((1, 2), keepdims=True))),
    IMAGES,
    nhwc=True,
)
row("a sum for a mean", "reduction", lambda: blocks(lambda m, x: x.mean((2, 3)), lambda m, x: x.sum((2, 3))), IMAGES)
row(
    "a mean over another axis",
    "mean-axis",
    lambda: blocks(lambda m, x: x.mean(1), lambda m, x: x.mean(2)),
    R.normal(size=(2, 5, 5)),
)
row(
    "align_corners",
    "align-corners",
    lambda: (
        torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        Flax(lambda m, x: jax.image.resize(x, (*x.shape[:2], 18, 18), "bilinear")),
    ),
    IMAGES,
)
row(
    "antialias",
    "antialias",
    lambda: blocks(
        lambda m, x: F.interpolate(x, (4, 4), mode="bilinear"),
        lambda m, x: jax.image.resize(x, (*x.shape[:2], 4, 4), "bilinear"),
    ),
    IMAGES[..., :8, :8],
)
row(
    "half-pixel centres",
    "half-pixel",
    lambda: blocks(
        lambda m, x: F.interpolate(x, (6, 6), mode="nearest"),
        lambda m, x: jax.image.resize(x, (*x.shape[:2], 6, 6), "nearest"),
    ),
    IMAGES,
)
row(
    "another interpolation",
    "interpolation-method",
    lambda: blocks(lambda m, x: F.interpolate(x, (18, 18), mode="bilinear"), lambda m, x: x.repeat(2, 2).repeat(2, 3)),
    IMAGES,
)
row(
    "reflect padding",
    "padding-mode",
    lambda: (
        torch.nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
        nnx.Conv(4, 6, (3, 3), padding=((1, 1), (1, 1)), rngs=rngs()),
    ),
    IMAGES,
    nhwc=True,
)
row(
    "pixel shuffle with channels last",
    "channel-order",
    lambda: (
        torch.nn.PixelShuffle(2),
        Flax(
            lambda m, x: (
                x.reshape(*x.shape[:3], 2, 2, -1).swapaxes(2, 3).reshape(x.shape[0], x.shape[1] * 2, x.shape[2] * 2, -1)
            )
        ),
    ),
    R.normal(size=(2, 8, 3, 3)),
    nhwc=True,
)

# Recurrent layers.
row("order of gates", "gate-order", lambda: (torch.nn.LSTM(8, 4, batch_first=True), LSTM("ifog")), TOKENS)
row("one bias of two", "one-bias", lambda: (torch.nn.LSTM(8, 4, batch_first=True), LSTM(biases=1)), TOKENS)
row("time first", "batch-first", lambda: (torch.nn.LSTM(8, 4, batch_first=True), LSTM(time_major=True)), TOKENS)
row(
    "the reset gate before the product",
    "reset-gate-before-product",
    lambda: (
        torch.nn.GRU(8, 4, batch_first=True),
        GRU(lambda xn, r, z, h, w, b: (1 - z) * jnp.tanh(xn + (r * h) @ w + b) + z * h),
    ),
    TOKENS,
)
row(
    "a bias outside of the reset gate",
    "reset-gate-bias",
    lambda: (
        torch.nn.GRU(8, 4, batch_first=True),
        GRU(lambda xn, r, z, h, w, b: (1 - z) * jnp.tanh(xn + r * (h @ w) + b) + z * h),
    ),
    TOKENS,
)
row(
    "the update gate reversed",
    "update-gate-reversed",
    lambda: (
        torch.nn.GRU(8, 4, batch_first=True),
        GRU(lambda xn, r, z, h, w, b: z * jnp.tanh(xn + r * (h @ w + b)) + (1 - z) * h),
    ),
    TOKENS,
)
row(
    "no hidden bias of the new gate",
    "one-bias",
    lambda: (
        torch.nn.GRU(8, 4, batch_first=True),
        GRU(lambda xn, r, z, h, w, b: (1 - z) * jnp.tanh(xn + r * (h @ w)) + z * h),
    ),
    TOKENS,
)

# Attention.


def attend(torch_core, flax_core):
    def torch_function(m, x):
        q, k, v = (heads(layer(x)) for layer in (m.q, m.k, m.v))
        return torch_core(q, k, v).transpose(1, 2).flatten(2)

    def flax_function(m, x):
        q, k, v = (heads(layer(x)) for layer in (m.q, m.k, m.v))
        return flax_core(q, k, v).swapaxes(1, 2).reshape(x.shape)

    return lambda: blocks(torch_function, flax_function, *linears("q", "k", "v"))


SDPA = F.scaled_dot_product_attention
OWN = attention(lambda s: torch.softmax(s, -1))
row("no scale", "attention-scale", attend(SDPA, attention(nnx.softmax, 1.0)), TOKENS)
row("the scale of the whole embedding", "attention-scale", attend(SDPA, attention(nnx.softmax, 8**-0.5)), TOKENS)
row("no scale in written-out attention", "attention-scale", attend(OWN, attention(nnx.softmax, 1.0)), TOKENS)
row(
    "no causal mask",
    "causal-mask",
    attend(lambda q, k, v: SDPA(q, k, v, is_causal=True), attention(nnx.softmax)),
    TOKENS,
)
row(
    "a causal mask that torch lacks",
    "causal-mask",
    attend(SDPA, attention(nnx.softmax, mask=lambda s: jnp.where(jnp.tril(jnp.ones(s.shape[-2:], bool)), s, -jnp.inf))),
    TOKENS,
)
row("softmax over queries", "softmax-axis", attend(OWN, attention(lambda s: nnx.softmax(s, -2))), TOKENS)
MASK = np.array([[True, True, False, True, False]] * 2)
row(
    "polarity of a mask",
    "mask-polarity",
    lambda: blocks(
        lambda m, x, mask: x.masked_fill(~mask[..., None], 0.0), lambda m, x, mask: jnp.where(mask[..., None], 0.0, x)
    ),
    TOKENS,
    MASK,
)
row(
    "polarity of an attention mask",
    "mask-polarity",
    lambda: blocks(
        lambda m, x, mask: SDPA(x, x, x, mask[:, None]),
        lambda m, x, mask: attention(nnx.softmax, mask=lambda s: jnp.where(mask[:, None], -jnp.inf, s))(x, x, x),
    ),
    TOKENS,
    MASK,
)
row(
    "order of keys and values",
    "split-order",
    lambda: blocks(
        lambda m, x: OWN(*m.qkv(x).chunk(3, -1)),
        lambda m, x: (lambda q, v, k: attention(nnx.softmax)(q, k, v))(*jnp.split(m.qkv(x), 3, -1)),
        {"qkv": torch.nn.Linear(8, 24)},
        {"qkv": nnx.Linear(8, 24, rngs=rngs())},
    ),
    TOKENS,
)
row(
    "heads split in another order",
    "split-order",
    lambda: blocks(
        lambda m, x: x.view(2, 5, 2, 4).transpose(1, 2).softmax(-1),
        lambda m, x: nnx.softmax(x.reshape(2, 5, 4, 2).transpose(0, 3, 1, 2)),
    ),
    TOKENS,
)
row(
    "heads joined without a transposition",
    "transpose-reshape",
    lambda: blocks(lambda m, x: x.transpose(1, 2).reshape(2, 5, 8), lambda m, x: x.reshape(2, 5, 8)),
    R.normal(size=(2, 2, 5, 4)),
)
row(
    "no embedding scale",
    "embedding-scale",
    lambda: blocks(
        lambda m, i: m.embed(i) * math.sqrt(8),
        lambda m, i: m.embed(i),
        {"embed": torch.nn.Embedding(7, 8)},
        {"embed": nnx.Embed(7, 8, rngs=rngs())},
    ),
    IDS,
)
row(
    "positions from one",
    "position-offset",
    lambda: blocks(
        lambda m, i: m.embed(i) + m.position(torch.arange(i.shape[1])),
        lambda m, i: m.embed(i) + m.position(jnp.arange(i.shape[1]) + 1)[None],
        {"embed": torch.nn.Embedding(7, 8), "position": torch.nn.Embedding(7, 8)},
        {"embed": nnx.Embed(7, 8, rngs=rngs()), "position": nnx.Embed(7, 8, rngs=rngs())},
    ),
    IDS,
)
row(
    "rotary embedding of neighbours",
    "rotary-order",
    lambda: blocks(
        lambda m, x, c: x * c + torch.cat([-x[..., 4:], x[..., :4]], -1) * c.sin(),
        lambda m, x, c: x * c + jnp.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape) * jnp.sin(c),
    ),
    TOKENS,
    TOKENS[::-1].copy(),
)

# The composition of layers.
row(
    "activation before the sum",
    "residual-order",
    lambda: blocks(
        lambda m, x: F.relu(m.second(F.relu(m.first(x))) + x),
        lambda m, x: nnx.relu(m.second(nnx.relu(m.first(x)))) + x,
        *linears("first", "second"),
    ),
    TOKENS,
)
row(
    "activation after the sum",
    "residual-order",
    lambda: blocks(
        lambda m, x: F.gelu(m.first(x)) + x, lambda m, x: nnx.gelu(m.first(x) + x, approximate=False), *linears("first")
    ),
    TOKENS,
)
row(
    "no residual",
    "residual-missing",
    lambda: blocks(lambda m, x: m.first(x) + x, lambda m, x: m.first(x), *linears("first")),
    TOKENS,
)
row(
    "a residual that torch lacks",
    "residual-extra",
    lambda: blocks(lambda m, x: F.relu(m.first(x)), lambda m, x: nnx.relu(m.first(x)) + x, *linears("first")),
    TOKENS,
)


def with_norms(names, *norms):
    theirs, ours = linears(*names)
    theirs |= {name: torch.nn.LayerNorm(8) for name in norms}
    return theirs, ours | {name: nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs()) for name in norms}


def pre(m, x):
    x = x + m.first(m.norm1(x))
    return x + m.second(m.norm2(x))


def post(m, x):
    x = m.norm1(x + m.first(x))
    return m.norm2(x + m.second(x))


NORMS = ("first", "second"), "norm1", "norm2"
row("pre-norm for post-norm", "norm-order", lambda: blocks(post, pre, *with_norms(*NORMS)), TOKENS)
row("post-norm for pre-norm", "norm-order", lambda: blocks(pre, post, *with_norms(*NORMS)), TOKENS)
row(
    "a norm left out",
    "norm-missing",
    lambda: blocks(lambda m, x: m.norm1(m.first(x)), lambda m, x: m.first(x), *with_norms(("first",), "norm1")),
    TOKENS,
)
row(
    "activation before the norm",
    "activation-order",
    lambda: blocks(
        lambda m, x: F.relu(m.norm1(m.first(x))),
        lambda m, x: m.norm1(nnx.relu(m.first(x))),
        *with_norms(("first",), "norm1"),
    ),
    TOKENS,
)
row(
    "order of a concatenation",
    "concat-order",
    lambda: blocks(lambda m, x, y: torch.cat([x, y], 1), lambda m, x, y: jnp.concatenate([y, x], 1)),
    IMAGES,
    IMAGES * 2,
)
row(
    "flatten of channels last",
    "flatten-order",
    lambda: blocks(
        lambda m, x: m.head(x.flatten(1)),
        lambda m, x: m.head(x.reshape(x.shape[0], -1)),
        {"head": torch.nn.Linear(36, 5)},
        {"head": nnx.Linear(36, 5, rngs=rngs())},
    ),
    IMAGES[:, :, :3, :3],
    nhwc=True,
)
row(
    "an image made with channels last",
    "split-order",
    lambda: blocks(lambda m, x: x.view(3, 2, 1, 3) * 2, lambda m, x: x.reshape(3, 1, 3, 2) * 2),
    ROWS,
    nhwc=True,
)
row(
    "direction of a roll",
    "roll-direction",
    lambda: blocks(lambda m, x: torch.roll(x, (-1, -1), (2, 3)), lambda m, x: jnp.roll(x, (1, 1), (2, 3))),
    IMAGES,
)
row(
    "no layer scale",
    "factor-missing",
    lambda: blocks(
        lambda m, x: m.first(x) * m.gamma + x,
        lambda m, x: m.first(x) + x,
        linears("first")[0] | {"gamma": torch.nn.Parameter(torch.ones(8))},
        linears("first")[1],
    ),
    TOKENS,
)
row(
    "a factor that torch lacks",
    "factor",
    lambda: blocks(lambda m, x: m.first(x) + x, lambda m, x: m.first(x) * 0.3 + x, *linears("first")),
    TOKENS,
)
row(
    "another constant",
    "scale",
    lambda: blocks(lambda m, x: m.first(x) + x * 0.3, lambda m, x: m.first(x) + x * 0.45, *linears("first")),
    TOKENS,
)
row(
    "layers in another order",
    "layer-order",
    lambda: blocks(
        lambda m, x: m.second(torch.tanh(m.first(x))),
        lambda m, x: m.first(jnp.tanh(m.second(x))),
        *linears("first", "second"),
    ),
    TOKENS,
)
row(
    "a stopped gradient",
    "stop-gradient",
    lambda: blocks(
        lambda m, x: m.first(x) * m.second(x),
        lambda m, x: m.first(x) * jax.lax.stop_gradient(m.second(x)),
        *linears("first", "second"),
    ),
    TOKENS,
)
row(
    "a gradient that torch stops",
    "stop-gradient-missing",
    lambda: blocks(
        lambda m, x: m.first(x) * m.second(x).detach(),
        lambda m, x: m.first(x) * m.second(x),
        *linears("first", "second"),
    ),
    TOKENS,
)
row(
    "transposed operand",
    "transposed-operand",
    lambda: blocks(lambda m, x: x @ x, lambda m, x: x @ x.swapaxes(1, 2)),
    R.normal(size=(2, 4, 4)),
)


def norms(*names, size=8):
    return (
        {name: torch.nn.LayerNorm(size) for name in names},
        {name: nnx.LayerNorm(size, epsilon=1e-5, rngs=rngs()) for name in names},
    )


def joined(*sides):
    return {k: v for side, _ in sides for k, v in side.items()}, {k: v for _, side in sides for k, v in side.items()}


def embeddings():
    return {"e": torch.nn.Embedding(7, 8)}, {"e": nnx.Embed(7, 8, rngs=rngs())}


def with_positions(layers):
    return layers[0] | {"pos": torch.nn.Parameter(torch.ones(5, 8))}, layers[1] | flax_weights(pos=(5, 8))


def prenorm_block(m, x):
    x = x + m.first(m.norm(x))
    return x + m.second(m.other(x))


# Layers at a wrong position, or on a wrong array.
row(
    "one of two normalisations after its sum",
    "norm-order",
    lambda: blocks(
        prenorm_block,
        lambda m, x: (lambda y: y + m.second(m.other(y)))(m.norm(x + m.first(x))),
        *joined(linears("first", "second"), norms("norm", "other")),
    ),
    TOKENS,
)
row(
    "both branches from the input of the block",
    "residual-source",
    lambda: blocks(
        prenorm_block,
        lambda m, x: x + m.first(m.norm(x)) + m.second(m.other(x)),
        *joined(linears("first", "second"), norms("norm", "other")),
    ),
    TOKENS,
)
row(
    "a layer on the input of the module",
    "input-source",
    lambda: blocks(
        lambda m, x: torch.tanh(m.second(torch.relu(m.first(x)))) + torch.relu(m.first(x)),
        lambda m, x: jnp.tanh(m.second(x)) + nnx.relu(m.first(x)),
        *linears("first", "second"),
    ),
    TOKENS,
)
row(
    "normalisation of an image before its mean",
    "norm-order",
    lambda: blocks(lambda m, x: m.norm(x.mean((2, 3))), lambda m, x: m.norm(x).mean((1, 2)), *norms("norm", size=4)),
    IMAGES,
    nhwc=True,
)
row(
    "one layer in place of another",
    "layer-repeated",
    lambda: blocks(
        lambda m, x: torch.tanh(m.second(torch.tanh(m.first(x)))),
        lambda m, x: jnp.tanh(m.first(jnp.tanh(m.first(x)))),
        *linears("first", "second"),
    ),
    TOKENS,
)
row(
    "vectors of any length",
    "norm-missing",
    lambda: blocks(lambda m, x: F.normalize(m.first(x), dim=-1), lambda m, x: m.first(x), *linears("first")),
    TOKENS,
)

# Wrong elements, operators and functions.
row(
    "the mean for the first token",
    "pooling-kind",
    lambda: blocks(lambda m, x: m.first(x)[:, 0], lambda m, x: m.first(x).mean(1), *linears("first")),
    TOKENS,
)
row(
    "the last token for the mean",
    "pooling-kind",
    lambda: blocks(lambda m, x: m.first(x).mean(1), lambda m, x: m.first(x)[:, -1], *linears("first")),
    TOKENS,
)
row(
    "another token",
    "index",
    lambda: blocks(lambda m, x: m.first(x)[:, -1], lambda m, x: m.first(x)[:, 0], *linears("first")),
    TOKENS,
)
row(
    "tokens from the second one",
    "index",
    lambda: blocks(lambda m, x: m.first(x)[:, :-1], lambda m, x: m.first(x)[:, 1:], *linears("first")),
    TOKENS,
)
row(
    "the mean over one axis of two",
    "mean-axis",
    lambda: blocks(
        lambda m, x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
        lambda m, x: x * nnx.sigmoid(x.mean(1, keepdims=True)),
    ),
    IMAGES,
    nhwc=True,
)
row(
    "colours in the reverse order",
    "reverse-order",
    lambda: blocks(
        lambda m, x: m.conv(x),
        lambda m, x: m.conv(x[..., ::-1]),
        *({"conv": conv} for conv in conv_pair(padding="VALID")),
    ),
    IMAGES,
    nhwc=True,
)
row(
    "positions in the reverse order",
    "reverse-order",
    lambda: blocks(
        lambda m, x: m.first(x + m.pos), lambda m, x: m.first(x + m.pos[::-1]), *with_positions(linears("first"))
    ),
    TOKENS,
)
row(
    "token ids one place to the right",
    "token-shift",
    lambda: blocks(lambda m, ids: m.e(ids), lambda m, ids: m.e(jnp.roll(ids, 1, 1)), *embeddings()),
    IDS,
)
row(
    "a product for a sum",
    "operator-kind",
    lambda: blocks(
        lambda m, x: m.first(x) + m.second(x), lambda m, x: m.first(x) * m.second(x), *linears("first", "second")
    ),
    TOKENS,
)
row(
    "a sine for a cosine",
    "function-kind",
    lambda: blocks(lambda m, x: torch.cos(m.first(x)), lambda m, x: jnp.sin(m.first(x)), *linears("first")),
    TOKENS,
)
row(
    "a kernel that is not dilated",
    "dilation",
    lambda: conv_pair(torch_options={"dilation": 2, "padding": 2}, padding=1),
    IMAGES,
    nhwc=True,
)
row(
    "half of a branch",
    "factor",
    lambda: blocks(lambda m, x: x + m.first(x), lambda m, x: x + 0.5 * m.first(x), *linears("first")),
    TOKENS,
)
row(
    "a cubic kernel with another coefficient",
    "cubic-coefficient",
    lambda: blocks(
        lambda m, x: F.interpolate(x, (18, 18), mode="bicubic"),
        lambda m, x: jax.image.resize(x, (2, 18, 18, 4), "cubic"),
    ),
    IMAGES,
    nhwc=True,
)
row(
    "the whole axis repeated",
    "repeat-order",
    lambda: blocks(
        lambda m, x: m.first(x).repeat_interleave(2, 1) * 2,
        lambda m, x: jnp.tile(m.first(x), (1, 2, 1)) * 2,
        *linears("first"),
    ),
    TOKENS,
)
row(
    "each element repeated",
    "repeat-order",
    lambda: blocks(
        lambda m, x: m.first(x).repeat(1, 2, 1) * 2, lambda m, x: jnp.repeat(m.first(x), 2, 1) * 2, *linears("first")
    ),
    TOKENS,
)
row(
    "a sum from the end",
    "direction",
    lambda: blocks(
        lambda m, x: m.first(x).cumsum(1), lambda m, x: jnp.cumsum(m.first(x)[:, ::-1], 1)[:, ::-1], *linears("first")
    ),
    TOKENS,
)
row(
    "exchanged inputs",
    "exchanged-arguments",
    lambda: blocks(
        lambda m, x, y: m.first(x) * torch.sigmoid(m.second(y)),
        lambda m, x, y: m.first(y) * nnx.sigmoid(m.second(x)),
        *linears("first", "second"),
    ),
    TOKENS,
    TOKENS[::-1].copy(),
)
row(
    "another window of an image",
    "index",
    lambda: blocks(lambda m, x: x[:, :, 1:-1, 1:-1] * 2, lambda m, x: x[:, 2:, 2:] * 2),
    IMAGES,
    nhwc=True,
)
row(
    "scores without a mask",
    "mask-missing",
    lambda: blocks(
        lambda m, x: (m.first(x) @ x.mT).masked_fill(torch.ones(5, 5).triu(1) == 1, float("-inf")).softmax(-1) @ x,
        lambda m, x: nnx.softmax(m.first(x) @ x.swapaxes(1, 2)) @ x,
        *linears("first"),
    ),
    TOKENS,
)
row(
    "one more than a weight",
    "scale-plus-one",
    lambda: blocks(
        lambda m, x: m.first(x) * m.pos, lambda m, x: m.first(x) * (1 + m.pos[...]), *with_positions(linears("first"))
    ),
    TOKENS,
)
row(
    "a weight without the one that torch adds",
    "scale-plus-one",
    lambda: blocks(
        lambda m, x: m.first(x) * (1 + m.pos), lambda m, x: m.first(x) * m.pos[...], *with_positions(linears("first"))
    ),
    TOKENS,
)
row(
    "times the temperature, before a softmax that is no attention",
    "scale",
    lambda: blocks(
        lambda m, x: (m.first(x) / 0.07).softmax(-1), lambda m, x: nnx.softmax(m.first(x) * 0.07), *linears("first")
    ),
    TOKENS,
)
row(
    "positions as a factor, twice",
    "factor-doubled",
    lambda: blocks(
        lambda m, x: m.first(x) * m.pos + x,
        lambda m, x: m.first(x) * m.pos[...] * m.pos[...] + x,
        *with_positions(linears("first")),
    ),
    TOKENS,
)

# Loss functions.
LABELS = R.integers(0, 6, 3)


def cross_entropy(logits, labels):
    return -jnp.take_along_axis(nnx.log_softmax(logits), labels[:, None], 1)[:, 0]


row(
    "sum for mean",
    "reduction",
    lambda: (torch.nn.CrossEntropyLoss(), Flax(lambda m, x, y: cross_entropy(x, y).sum())),
    ROWS,
    LABELS,
)
row(
    "no label smoothing",
    "label-smoothing",
    lambda: (torch.nn.CrossEntropyLoss(label_smoothing=0.1), Flax(lambda m, x, y: cross_entropy(x, y).mean())),
    ROWS,
    LABELS,
)
row(
    "targets that torch ignores",
    "ignore-index",
    lambda: (torch.nn.CrossEntropyLoss(ignore_index=int(LABELS[0])), Flax(lambda m, x, y: cross_entropy(x, y).mean())),
    ROWS,
    LABELS,
)

# Precision.
row(
    "a cast to bfloat16",
    "dtype-cast",
    lambda: blocks(
        lambda m, x: m.second(torch.tanh(m.first(x))),
        lambda m, x: m.second(jnp.tanh(m.first(x)).astype(jnp.bfloat16).astype(jnp.float64)),
        *linears("first", "second"),
    ),
    TOKENS,
)
row(
    "a softmax in float32",
    "dtype-cast",
    lambda: blocks(
        lambda m, x: m.first(x).softmax(-1),
        lambda m, x: nnx.softmax(m.first(x).astype(jnp.float32)).astype(x.dtype),
        *linears("first"),
    ),
    TOKENS,
)
row(
    "a linear layer in bfloat16",
    "matmul-precision",
    lambda: (
        torch.nn.Linear(6, 5),
        Flax(
            lambda m, x: (
                jnp.dot(
                    x.astype(jnp.bfloat16), m.weight[...].T.astype(jnp.bfloat16), preferred_element_type=jnp.float32
                ).astype(x.dtype)
                + m.bias[...]
            ),
            **flax_weights(weight=(5, 6), bias=(5,)),
        ),
    ),
    ROWS,
)
row(
    "dtype of a layer",
    "dtype-cast",
    lambda: (torch.nn.Linear(6, 5), nnx.Linear(6, 5, dtype=jnp.bfloat16, rngs=rngs())),
    ROWS,
)
row(
    "a cast of torch's",
    "dtype-cast",
    lambda: blocks(
        lambda m, x: m.first(x).float().softmax(-1).double(), lambda m, x: nnx.softmax(m.first(x)), *linears("first")
    ),
    TOKENS,
)
row(
    "a softmax of torch's in float32",
    "dtype-cast",
    lambda: blocks(
        lambda m, x: F.softmax(m.first(x), -1, dtype=torch.float32).double(),
        lambda m, x: nnx.softmax(m.first(x)),
        *linears("first"),
    ),
    TOKENS,
)

# Two mistakes at once.
row(
    "eps and GELU",
    "gelu-approximation+epsilon",
    lambda: blocks(
        lambda m, x: F.gelu(m.norm(x)),
        lambda m, x: nnx.gelu(m.norm(x)),
        {"norm": torch.nn.LayerNorm(8)},
        {"norm": nnx.LayerNorm(8, epsilon=1e-3, rngs=rngs())},
    ),
    TOKENS,
)


def _group_norm(x, groups, outside):
    split = x.reshape(x.shape[0], groups, -1)
    centred = split - split.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return (centred / (jnp.sqrt(variance) + 1e-5 if outside else jnp.sqrt(variance + 1e-5))).reshape(x.shape)


@pytest.fixture(autouse=True)
def _float64():
    # Modules of users rely on numpy's broadcasting.
    with jax.enable_x64(True), jax.default_matmul_precision("float32"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize(("cause", "pair", "inputs", "options"), CAUSES.values(), ids=CAUSES)
def test_the_cause_is_named(cause, pair, inputs, options):
    isolated = Pair(*pair(), inputs, **options)
    result = find_cause(isolated)
    assert result is not None
    assert sorted(result.name.split("+")) == sorted(cause.split("+"))
    assert result.after <= 1 < result.before
    assert result.text
    assert result.fix


RIGHT = {
    "a linear layer": (lambda: (torch.nn.Linear(6, 5), nnx.Linear(6, 5, rngs=rngs())), ROWS, {}),
    "a convolution": (lambda: conv_pair(torch_options={"padding": 1}, padding="SAME"), IMAGES, {"nhwc": True}),
    "a batch norm": (lambda: (torch.nn.BatchNorm2d(4), nn.BatchNorm2d(4)), IMAGES, {"training": True}),
    "a residual block": (
        lambda: blocks(
            torch_block(), lambda m, x: nnx.relu(m.second(nnx.relu(m.first(x))) + x), *linears("first", "second")
        ),
        TOKENS,
        {},
    ),
}


@pytest.mark.parametrize(("pair", "inputs", "options"), RIGHT.values(), ids=RIGHT)
def test_equal_modules_have_no_cause(pair, inputs, options):
    assert find_cause(Pair(*pair(), (inputs,), **options)) is None


def unknown_mistakes():
    x = TOKENS
    yield (
        "one wrong element",
        blocks(lambda m, x: m.first(x), lambda m, x: m.first(x).at[0, 0, 0].add(0.1), *linears("first")),
        x,
    )
    yield (
        "a random matrix",
        blocks(
            lambda m, x: m.second(F.relu(m.first(x))),
            lambda m, x: nnx.relu(m.first(x)) @ jnp.asarray(R.normal(size=(8, 8))),
            *linears("first", "second"),
        ),
        x,
    )
    yield "NaN", blocks(lambda m, x: m.first(x), lambda m, x: m.first(x) * jnp.nan, *linears("first")), x
    yield "another shape", blocks(lambda m, x: m.first(x), lambda m, x: m.first(x)[:, :3, :5], *linears("first")), x


@pytest.mark.parametrize("name", ["one wrong element", "a random matrix", "NaN", "another shape"])
def test_an_unknown_mistake_has_no_cause(name):
    pair, inputs = next((pair, x) for case, pair, x in unknown_mistakes() if case == name)
    assert find_cause(Pair(*pair, (inputs,)), runs=800) is None
