"""Compare each row of the table of Flax layer types with torch: outputs and gradients in float64, at odd sizes."""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from flaxnets import nn
from flaxnets.parity import check, load_torch_weights, match, randomize
from flaxnets.parity.layouts import Order, to_torch
from flaxnets.parity.matching.layers import TABLE
from flaxnets.parity.matching.transforms import Transform
from flaxnets.parity.run import Call, prepare_flax, run_flax, run_torch

LAST, LAST_1D, LAST_3D = (0, 2, 3, 1), (0, 2, 1), (0, 2, 3, 4, 1)
Rngs = nnx.Rngs


@dataclasses.dataclass(frozen=True)
class Case:
    """A Flax layer and its torch layer.

    ``order`` is the axis order of Flax's input and output. ``change`` modifies the torch layer before the comparison.
    """

    name: str
    flax: Callable[[Rngs], nnx.Module]
    torch: Callable[[], torch.nn.Module]
    shape: tuple[int, ...]
    order: Order | None = None
    integers: int = 0
    change: Callable[[torch.nn.Module], None] = lambda module: None

    def __str__(self) -> str:
        return self.name


class Torch(torch.nn.Module):
    """A torch module with named layers and a function that computes the output."""

    def __init__(self, function: Callable[..., Any], **layers: Any) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


class Flax(nnx.Module):
    """A Flax module with named layers and a function that computes the output."""

    def __init__(self, function: Callable[..., Any], **layers: Any) -> None:
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def __call__(self, x: Any) -> Any:
        return self.function(self, x)


def parameter(*shape: int) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(*shape))


def param(*shape: int) -> nnx.Param:
    return nnx.Param(jnp.zeros(shape))


def flax_rnn(cell: type, rngs: Rngs, features: int = 3, hidden: int = 5) -> nnx.RNN:
    return nnx.RNN(cell(features, hidden, rngs=rngs), rngs=rngs)


def torch_rnn(kind: str, **options: Any) -> torch.nn.Module:
    return Torch(lambda m, x: m.rnn(x)[0], rnn=getattr(torch.nn, kind)(3, 5, batch_first=True, **options))


def no_hidden_candidate_bias(module: torch.nn.Module) -> None:
    """Set the hidden bias of the candidate gate to zero, because nnx.GRUCell does not have this bias."""
    for name, values in module.named_parameters():
        if "bias_hh" in name:
            values.data[2 * len(values) // 3 :] = 0


def torch_attention(m: Any, x: Any) -> Any:
    q, k, v = (layer(x).unflatten(-1, (2, 3)).transpose(1, 2) for layer in (m.q_proj, m.k_proj, m.v_proj))
    return m.o_proj(torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def torch_qkv(m: Any, x: Any) -> Any:
    q, k, v = (part.unflatten(-1, (2, 3)).transpose(1, 2) for part in m.c_attn(x).chunk(3, -1))
    return m.c_proj(torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def flax_qkv(m: Any, x: Any) -> Any:
    q, k, v = (part.reshape(*part.shape[:2], 2, 3) for part in jnp.split(m.qkv(x), 3, -1))
    return m.proj(jax.nn.dot_product_attention(q, k, v).reshape(x.shape))


def scanned(step: Callable[..., Any], x: Any, hidden: int, count: int) -> Any:
    state = (jnp.zeros((x.shape[0], hidden), x.dtype),) * count
    outputs = []
    for t in range(x.shape[1]):
        state = step(x[:, t], state)
        outputs.append(state[0])
    return jnp.stack(outputs, 1)


def lstm_step(gates: Callable[..., Any]) -> Callable[..., Any]:
    def step(x: Any, state: Any) -> Any:
        h, c = state
        i, f, g, o = gates(x, h)
        c = nnx.sigmoid(f) * c + nnx.sigmoid(i) * jnp.tanh(g)
        return nnx.sigmoid(o) * jnp.tanh(c), c

    return step


def two_linears(rngs: Rngs) -> nnx.Module:
    def run(m: Any, x: Any) -> Any:
        return scanned(lstm_step(lambda x, h: jnp.split(m.from_input(x) + m.from_hidden(h), 4, -1)), x, 5, 2)

    return Flax(run, from_hidden=nnx.Linear(5, 20, rngs=rngs), from_input=nnx.Linear(3, 20, use_bias=False, rngs=rngs))


def one_linear(rngs: Rngs) -> nnx.Module:
    def run(m: Any, x: Any) -> Any:
        return scanned(lstm_step(lambda x, h: jnp.split(m.gates(jnp.concatenate([x, h], -1)), 4, -1)), x, 5, 2)

    return Flax(run, gates=nnx.Linear(8, 20, rngs=rngs))


def eight_linears(rngs: Rngs) -> nnx.Module:
    def run(m: Any, x: Any) -> Any:
        gates = lambda x, h: [getattr(m, f"x_{g}")(x) + getattr(m, f"h_{g}")(h) for g in "ifgo"]  # noqa: E731
        return scanned(lstm_step(gates), x, 5, 2)

    layers = {f"x_{g}": nnx.Linear(3, 5, rngs=rngs) for g in "ofig"}
    return Flax(run, **layers, **{f"h_{g}": nnx.Linear(5, 5, use_bias=False, rngs=rngs) for g in "ofig"})


def four_linears(rngs: Rngs) -> nnx.Module:
    def run(m: Any, x: Any) -> Any:
        both = lambda x, h: jnp.concatenate([x, h], -1)  # noqa: E731
        names = ("input_gate", "forget_gate", "candidate", "output_gate")
        return scanned(lstm_step(lambda x, h: [getattr(m, name)(both(x, h)) for name in names]), x, 5, 2)

    names = ("forget_gate", "input_gate", "candidate", "output_gate")
    return Flax(run, **{name: nnx.Linear(8, 5, rngs=rngs) for name in names})


def raw_cell(rngs: Rngs) -> nnx.Module:
    def run(m: Any, x: Any) -> Any:
        gates = lambda x, h: jnp.split(x @ m.w_x[...] + h @ m.w_h[...] + m.b[...], 4, -1)  # noqa: E731
        return scanned(lstm_step(gates), x, 5, 2)

    return Flax(run, w_x=param(3, 20), w_h=param(5, 20), b=param(20))


def gru_of_linears(rngs: Rngs) -> nnx.Module:
    def run(m: Any, x: Any) -> Any:
        def step(x: Any, state: Any) -> Any:
            (h,) = state
            (xr, xz, xn), (hr, hz, hn) = jnp.split(m.ih(x), 3, -1), jnp.split(m.hh(h), 3, -1)
            z, n = nnx.sigmoid(xz + hz), jnp.tanh(xn + nnx.sigmoid(xr + hr) * hn)
            return ((1 - z) * n + z * h,)

        return scanned(step, x, 5, 1)

    return Flax(run, hh=nnx.Linear(5, 15, rngs=rngs), ih=nnx.Linear(3, 15, rngs=rngs))


def torch_cell(m: Any, x: Any) -> Any:
    h = c = torch.zeros(x.shape[0], 5, dtype=x.dtype)
    outputs = []
    for t in range(x.shape[1]):
        i, f, g, o = (m.x2h(x[:, t]) + m.h2h(h)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    return torch.stack(outputs, 1)


def stacked(rngs: Rngs) -> nnx.Module:
    class Block(nnx.Module):
        def __init__(self, rngs: Rngs) -> None:
            self.norm = nnx.LayerNorm(5, rngs=rngs)
            self.lin = nnx.Linear(5, 5, rngs=rngs)
            self.gamma = param(5)

        def __call__(self, x: Any) -> Any:
            return x + self.gamma[...] * jnp.tanh(self.lin(self.norm(x)))

    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def make(rngs: Rngs) -> Block:
        return Block(rngs)

    def run(m: Any, x: Any) -> Any:
        return nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(m.first(x), m.blocks)

    return Flax(run, first=nnx.Linear(5, 5, rngs=rngs), blocks=make(rngs))


def torch_stack() -> torch.nn.Module:
    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln, self.fc, self.scale = torch.nn.LayerNorm(5, eps=1e-6), torch.nn.Linear(5, 5), parameter(5)

        def forward(self, x: Any) -> Any:
            return x + self.scale * torch.tanh(self.fc(self.ln(x)))

    blocks = torch.nn.Sequential(*[Block() for _ in range(3)])
    return Torch(lambda m, x: m.layers(m.stem(x)), stem=torch.nn.Linear(5, 5), layers=blocks)


def layer_norm(m: Any, x: Any) -> Any:
    centred = x - x.mean(1, keepdim=True)
    normalised = centred / (x.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    return normalised * m.weight[:, None, None] + m.bias[:, None, None]


CASES = [
    Case("Linear", lambda r: nnx.Linear(5, 3, rngs=r), lambda: torch.nn.Linear(5, 3), (2, 4, 5)),
    Case(
        "Linear without bias",
        lambda r: nnx.Linear(3, 3, use_bias=False, rngs=r), lambda: torch.nn.Linear(3, 3, bias=False), (2, 3),
    ),
    Case(
        "Linear of a user's own parameters",
        lambda r: Flax(lambda m, x: x @ m.kernel[...] + m.bias[...], kernel=param(5, 3), bias=param(3)),
        lambda: torch.nn.Linear(5, 3), (2, 5),
    ),
    Case(
        "Linear against a torch user's own parameters",
        lambda r: nnx.Linear(5, 3, rngs=r),
        lambda: Torch(lambda m, x: x @ m.weight + m.bias, weight=parameter(5, 3), bias=parameter(3)), (2, 5),
    ),
    Case(
        "LinearGeneral",
        lambda r: Flax(
            lambda m, x: m.proj(x.reshape(-1, 3, 5)).reshape(-1, 14),
            proj=nnx.LinearGeneral((3, 5), (7, 2), axis=(-2, -1), rngs=r),
        ),
        lambda: torch.nn.Linear(15, 14), (2, 15),
    ),
    Case(
        "LinearGeneral with a batch axis",
        lambda r: nnx.LinearGeneral(5, 3, batch_axis={0: 2}, rngs=r),
        lambda: Torch(
            lambda m, x: torch.einsum("bti,boi->bto", x, m.weight) + m.bias[:, None],
            weight=parameter(2, 3, 5), bias=parameter(2, 3),
        ),
        (2, 4, 5),
    ),
    Case(
        "Einsum",
        lambda r: nnx.Einsum("...x,xy->...y", (5, 3), (3,), rngs=r), lambda: torch.nn.Linear(5, 3), (2, 5),
    ),
    Case(
        "Einsum with the contracted axis in between",
        lambda r: Flax(
            lambda m, x: m.mix(x).reshape(2, 4, 14), mix=nnx.Einsum("bti,hio->btho", (7, 5, 2), rngs=r)
        ),
        lambda: torch.nn.Linear(5, 14, bias=False), (2, 4, 5),
    ),
    Case("Conv of one dimension", lambda r: nnx.Conv(3, 5, 4, rngs=r), lambda: torch.nn.Conv1d(3, 5, 4, padding="same"),
         (2, 3, 7), LAST_1D),
    Case("Conv", lambda r: nnx.Conv(3, 5, (3, 2), strides=(2, 1), padding=((1, 1), (0, 0)), rngs=r),
         lambda: torch.nn.Conv2d(3, 5, (3, 2), (2, 1), (1, 0)), (2, 3, 7, 6), LAST),
    Case("Conv of three dimensions", lambda r: nnx.Conv(2, 3, (1, 2, 3), padding="VALID", rngs=r),
         lambda: torch.nn.Conv3d(2, 3, (1, 2, 3)), (2, 2, 3, 4, 5), LAST_3D),
    Case("Conv in groups", lambda r: nnx.Conv(6, 9, (3, 3), padding=1, feature_group_count=3, rngs=r),
         lambda: torch.nn.Conv2d(6, 9, 3, padding=1, groups=3), (2, 6, 5, 4), LAST),
    Case("Conv depthwise without bias",
         lambda r: nnx.Conv(5, 5, (3, 3), padding=1, feature_group_count=5, use_bias=False, rngs=r),
         lambda: torch.nn.Conv2d(5, 5, 3, padding=1, groups=5, bias=False), (2, 5, 5, 4), LAST),
    Case("Linear for a pointwise convolution", lambda r: nnx.Linear(3, 5, rngs=r), lambda: torch.nn.Conv2d(3, 5, 1),
         (2, 3, 4, 5), LAST),
    Case("ConvTranspose", lambda r: nnx.ConvTranspose(3, 5, (3, 2), (2, 2), padding="VALID", rngs=r),
         lambda: torch.nn.ConvTranspose2d(3, 5, (3, 2), 2), (2, 3, 4, 5), LAST),
    Case("ConvTranspose of a transposed kernel",
         lambda r: nnx.ConvTranspose(3, 5, (3, 2), (2, 2), padding="VALID", transpose_kernel=True, rngs=r),
         lambda: torch.nn.ConvTranspose2d(3, 5, (3, 2), 2), (2, 3, 4, 5), LAST),
    Case("ConvTranspose of one dimension", lambda r: nnx.ConvTranspose(4, 4, (3,), (2,), padding="VALID", rngs=r),
         lambda: torch.nn.ConvTranspose1d(4, 4, 3, 2), (2, 4, 5), LAST_1D),
    Case("BatchNorm", lambda r: nnx.BatchNorm(3, use_running_average=True, rngs=r), lambda: torch.nn.BatchNorm2d(3),
         (2, 3, 4, 5), LAST),
    Case("BatchNorm without bias", lambda r: nnx.BatchNorm(3, use_bias=False, use_scale=False, rngs=r),
         lambda: torch.nn.BatchNorm2d(3, affine=False), (2, 3, 4, 5), LAST),
    Case("LayerNorm", lambda r: nnx.LayerNorm(5, epsilon=1e-5, rngs=r), lambda: torch.nn.LayerNorm(5), (2, 5)),
    Case("LayerNorm without bias", lambda r: nnx.LayerNorm(5, epsilon=1e-5, use_bias=False, rngs=r),
         lambda: torch.nn.LayerNorm(5, bias=False), (2, 5)),
    Case("LayerNorm against a torch user's own",
         lambda r: nnx.LayerNorm(3, rngs=r), lambda: Torch(layer_norm, weight=parameter(3), bias=parameter(3)),
         (2, 3, 4, 5), LAST),
    Case("RMSNorm", lambda r: nnx.RMSNorm(5, rngs=r), lambda: torch.nn.RMSNorm(5, eps=1e-6), (2, 5)),
    Case("GroupNorm", lambda r: nnx.GroupNorm(6, 3, epsilon=1e-5, rngs=r), lambda: torch.nn.GroupNorm(3, 6),
         (2, 6, 5, 4), LAST),
    Case("InstanceNorm", lambda r: nnx.InstanceNorm(3, epsilon=1e-5, rngs=r),
         lambda: torch.nn.InstanceNorm2d(3, affine=True), (2, 3, 5, 4), LAST),
    Case("Embed", lambda r: nnx.Embed(7, 5, rngs=r), lambda: torch.nn.Embedding(7, 5), (2, 3), integers=7),
    Case("PReLU", lambda r: nnx.PReLU(), lambda: torch.nn.PReLU(), (2, 5)),
    Case("MultiHeadAttention", lambda r: nnx.MultiHeadAttention(2, 6, decode=False, rngs=r),
         lambda: Torch(lambda m, x: m.attn(x, x, x, need_weights=False)[0],
                       attn=torch.nn.MultiheadAttention(6, 2, batch_first=True)), (2, 4, 6)),
    Case("MultiHeadAttention without bias",
         lambda r: nnx.MultiHeadAttention(2, 6, use_bias=False, decode=False, rngs=r),
         lambda: Torch(lambda m, x: m.attn(x, x, x, need_weights=False)[0],
                       attn=torch.nn.MultiheadAttention(6, 2, bias=False, batch_first=True)), (2, 4, 6)),
    Case("MultiHeadAttention of separate layers", lambda r: nnx.MultiHeadAttention(2, 6, decode=False, rngs=r),
         lambda: Torch(torch_attention, **{f"{n}_proj": torch.nn.Linear(6, 6) for n in "kqvo"}), (2, 4, 6)),
    Case("MultiHeadAttention of a joint layer", lambda r: nnx.MultiHeadAttention(2, 6, decode=False, rngs=r),
         lambda: Torch(torch_qkv, c_attn=torch.nn.Linear(6, 18), c_proj=torch.nn.Linear(6, 6)), (2, 4, 6)),
    Case("joint layer of separate layers",
         lambda r: Flax(flax_qkv, qkv=nnx.Linear(6, 18, rngs=r), proj=nnx.Linear(6, 6, rngs=r)),
         lambda: Torch(torch_attention, **{f"{n}_proj": torch.nn.Linear(6, 6) for n in "qkvo"}), (2, 4, 6)),
    Case("joint layer of an attention",
         lambda r: Flax(flax_qkv, qkv=nnx.Linear(6, 18, rngs=r), proj=nnx.Linear(6, 6, rngs=r)),
         lambda: Torch(lambda m, x: m.attn(x, x, x, need_weights=False)[0],
                       attn=torch.nn.MultiheadAttention(6, 2, batch_first=True)), (2, 4, 6)),
    Case("LSTMCell", lambda r: flax_rnn(nnx.LSTMCell, r), lambda: torch_rnn("LSTM"), (2, 4, 3)),
    Case("OptimizedLSTMCell", lambda r: flax_rnn(nnx.OptimizedLSTMCell, r), lambda: torch_rnn("LSTM"), (2, 4, 3)),
    Case("GRUCell", lambda r: flax_rnn(nnx.GRUCell, r), lambda: torch_rnn("GRU"), (2, 4, 3),
         change=no_hidden_candidate_bias),
    Case("SimpleCell", lambda r: flax_rnn(nnx.SimpleCell, r), lambda: torch_rnn("RNN"), (2, 4, 3)),
    Case("Bidirectional",
         lambda r: nnx.Bidirectional(flax_rnn(nnx.OptimizedLSTMCell, r), flax_rnn(nnx.OptimizedLSTMCell, r), rngs=r),
         lambda: torch_rnn("LSTM", bidirectional=True), (2, 4, 3)),
    Case("layers of RNN",
         lambda r: Flax(lambda m, x: m.second(m.first(x)), first=flax_rnn(nnx.LSTMCell, r),
                        second=flax_rnn(nnx.LSTMCell, r, features=5)),
         lambda: torch_rnn("LSTM", num_layers=2), (2, 4, 3)),
    Case("LSTM of two linear layers", two_linears, lambda: torch_rnn("LSTM"), (2, 4, 3)),
    Case("LSTM of one linear layer", one_linear, lambda: torch_rnn("LSTM"), (2, 4, 3)),
    Case("LSTM of eight linear layers", eight_linears, lambda: torch_rnn("LSTM"), (2, 4, 3)),
    Case("LSTM of four linear layers", four_linears, lambda: torch_rnn("LSTM"), (2, 4, 3)),
    Case("LSTM of a user's own parameters", raw_cell, lambda: torch_rnn("LSTM"), (2, 4, 3)),
    Case("GRU of two linear layers", gru_of_linears, lambda: torch_rnn("GRU"), (2, 4, 3)),
    Case("OptimizedLSTMCell of two torch layers", lambda r: flax_rnn(nnx.OptimizedLSTMCell, r),
         lambda: Torch(torch_cell, x2h=torch.nn.Linear(3, 20), h2h=torch.nn.Linear(5, 20)), (2, 4, 3)),
    Case("layers of flaxnets under another name",
         lambda r: Flax(lambda m, x: m.head(m.core(x)[0]), core=nn.LSTM(3, 5, 2, batch_first=True, rngs=r),
                        head=nn.Linear(5, 2, rngs=r)),
         lambda: Torch(lambda m, x: m.fc(m.rnn(x)[0]), rnn=torch.nn.LSTM(3, 5, 2, batch_first=True),
                       fc=torch.nn.Linear(5, 2)), (2, 4, 3)),
    Case("batch norm and attention of flaxnets under other names",
         lambda r: Flax(lambda m, x: m.mix(m.bn(x), m.bn(x), m.bn(x))[0], bn=nn.BatchNorm1d(4),
                        mix=nn.MultiheadAttention(4, 2, rngs=r)),
         lambda: Torch(lambda m, x: m.attn(m.norm(x), m.norm(x), m.norm(x))[0], norm=torch.nn.BatchNorm1d(4),
                       attn=torch.nn.MultiheadAttention(4, 2)), (3, 4)),
    Case("layers stacked by vmap", stacked, torch_stack, (2, 5)),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _rank_promotion() -> Iterator[None]:
    """Allow implicit rank promotion: models of users add (features,) to (batch, features)."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("case", CASES, ids=str)
def test_weights_make_the_same_function(case: Case) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, case.integers, case.shape) if case.integers else rng.normal(size=case.shape)
    call = Call((x,), {}, training=False, dtype="float64")
    theirs = case.torch().double()
    randomize(theirs, rng)
    case.change(theirs)
    with jax.enable_x64(True):
        ours = case.flax(nnx.Rngs(0))
        matching = match(theirs, ours)
        ours = prepare_flax(ours, call)
        # A copy loses the order of definition, so that the order of execution must decide.
        assert set(match(theirs, ours, x).entries) == set(matching.entries)
        load_torch_weights(ours, theirs.state_dict(), matching)
        expected, cotangents = run_torch(theirs, call, None, rng)
        order = case.order or tuple(range(x.ndim))
        flax_call = dataclasses.replace(call, args=(x.transpose(order),))
        found = run_flax(ours, flax_call, [c.transpose(case.order or range(c.ndim)) for c in cotangents], jit=False)
    output = to_torch(found.outputs[0], case.order) if case.order else found.outputs[0]
    # JAX's attention computes the softmax in float32 for all input dtypes.
    tolerance = 1e-6 if "Attention" in case.name or "joint" in case.name else 1e-12
    np.testing.assert_allclose(output, expected.outputs[0], rtol=0, atol=tolerance)
    gradients = matching.expected_gradients(expected.parameter_gradients)
    assert matching.problems() == []
    assert set(gradients) == set(found.parameter_gradients)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(found.parameter_gradients[name], gradient, rtol=0, atol=10 * tolerance, err_msg=name)


def test_every_row_of_the_table_is_compared() -> None:
    types = {
        type(child)
        for case in CASES
        for _, child in nnx.iter_modules(nnx.eval_shape(lambda case=case: case.flax(nnx.Rngs(0))))
    }
    assert [row.type.__name__ for row in TABLE if row.type not in types] == []


def test_buffers_in_the_coordinates_of_flax() -> None:
    theirs, ours = torch.nn.BatchNorm1d(3), nnx.BatchNorm(3, rngs=nnx.Rngs(0))
    matching = match(theirs, ours)
    buffers = {"running_mean": np.arange(3.0), "running_var": np.ones(3), "num_batches_tracked": np.array(4)}
    assert {name: b.tolist() for name, b in matching.flax_buffers(buffers).items()} == {
        "mean": [0, 1, 2],
        "var": [1, 1, 1],
    }


@pytest.mark.parametrize(
    ("text", "tensors", "shape", "expected"),
    [
        ("rows(1:3) | transpose", [(4, 2)], (2, 2), [[2, 4], [3, 5]]),
        ("columns(1:2)", [(2, 3)], (2, 1), [[1], [4]]),
        ("concat", [(1, 2), (2, 2)], (3, 2), [[0, 1], [0, 1], [2, 3]]),
        ("concat(1) | transpose", [(2, 1), (2, 1)], (2, 2), [[0, 1], [0, 1]]),
        ("sum", [(2,), (2,)], (2,), [0, 2]),
        ("gru bias", [(3,), (3,)], (3,), [0, 2, 2]),
        ("transpose | stack", [(1, 2), (1, 2)], (2, 2, 1), [[[0], [1]], [[0], [1]]]),
        ("groups(2) | sum | stack", [(2,)] * 4, (2, 2), [[0, 2], [0, 2]]),
        ("transposed conv kernel", [(1, 1, 3)], (3, 1, 1), [[[2]], [[1]], [[0]]]),
    ],
)
def test_steps_of_transforms(text: str, tensors: list, shape: tuple, expected: list) -> None:
    arrays = [np.arange(np.prod(size), dtype=float).reshape(size) for size in tensors]
    assert Transform(text).apply(arrays, shape).tolist() == expected


@pytest.mark.parametrize(
    ("text", "tensors", "message"),
    [
        ("turn", [(2,)], "unknown transform: 'turn'"),
        ("rows(0:2) | turn(3)", [(2,)], r"unknown transform: 'turn\(3\)'"),
        ("transpose", [(2, 3)], r"converts \[\[2, 3\]\] to \[\[3, 2\]\]. Expected \[2, 3\]"),
        ("reshape(5)", [(2, 3)], r"'reshape\(5\)' does not fit tensors of the shapes \[\(2, 3\)\]"),
        ("same", [(2, 3), (2, 3)], r"converts \[\[2, 3\], \[2, 3\]\]"),
    ],
)
def test_transforms_that_do_not_fit(text: str, tensors: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Transform(text).apply([np.zeros(size) for size in tensors], (2, 3))


F = torch.nn.functional
ACTIVATIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "relu": (F.relu, jax.nn.relu),
    "relu6": (F.relu6, jax.nn.relu6),
    "leaky_relu": (F.leaky_relu, jax.nn.leaky_relu),
    "elu": (lambda x: F.elu(x, 0.3), lambda x: jax.nn.elu(x, 0.3)),
    "celu": (lambda x: F.celu(x, 0.3), lambda x: jax.nn.celu(x, 0.3)),
    "celu in place": (lambda x: torch.celu_(x.clone(), 0.3), lambda x: jax.nn.celu(x, 0.3)),
    "selu": (F.selu, jax.nn.selu),
    "gelu": (F.gelu, lambda x: jax.nn.gelu(x, approximate=False)),
    "tanh-approximated gelu": (lambda x: F.gelu(x, approximate="tanh"), jax.nn.gelu),
    "silu": (F.silu, jax.nn.silu),
    "mish": (F.mish, jax.nn.mish),
    "sigmoid": (torch.sigmoid, jax.nn.sigmoid),
    "log_sigmoid": (F.logsigmoid, jax.nn.log_sigmoid),
    "hard_sigmoid": (F.hardsigmoid, jax.nn.hard_sigmoid),
    "hard_sigmoid in place": (lambda x: F.hardsigmoid(x.clone(), inplace=True), jax.nn.hard_sigmoid),
    "hard_swish": (F.hardswish, jax.nn.hard_swish),
    "hard_tanh": (F.hardtanh, jax.nn.hard_tanh),
    "tanh": (torch.tanh, jnp.tanh),
    "softplus": (F.softplus, jax.nn.softplus),
    "soft_sign": (F.softsign, jax.nn.soft_sign),
    "softmax": (lambda x: F.softmax(x, -1), jax.nn.softmax),
    "log_softmax": (lambda x: F.log_softmax(x, -1), jax.nn.log_softmax),
    "glu": (F.glu, jax.nn.glu),
    "logsumexp": (lambda x: x.logsumexp(-1), lambda x: jax.nn.logsumexp(x, -1)),
    "erf": (torch.erf, jax.lax.erf),
    "rsqrt": (lambda x: torch.rsqrt(x.square() + 1), lambda x: jax.lax.rsqrt(jnp.square(x) + 1)),
}


@pytest.mark.parametrize(("of_torch", "of_jax"), ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activations_of_jax_are_equal_to_those_of_torch(of_torch: Callable, of_jax: Callable) -> None:
    theirs = Torch(lambda m, x: of_torch(m.fc(x)), fc=torch.nn.Linear(3, 4))
    ours = Flax(lambda m, x: of_jax(m.fc(x)), fc=nnx.Linear(3, 4, rngs=nnx.Rngs(0)))
    report = check(theirs, ours, 3 * np.random.default_rng(0).normal(size=(8, 3)), runs=("eager",))
    assert report.passed, report


def test_modules_are_not_changed_by_matching() -> None:
    theirs, ours = torch.nn.Linear(3, 2), nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    before = copy.deepcopy(theirs.state_dict()), ours.kernel[...]
    match(theirs, ours, np.ones((1, 3)))
    assert all((before[0][name] == value).all() for name, value in theirs.state_dict().items())
    assert (before[1] == ours.kernel[...]).all()
