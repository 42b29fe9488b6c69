"""Small models, each with one thing that a port must follow beyond plain layers and operators."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import einops
import torch
import torch.nn.functional as F
from einops import einsum, pack, rearrange, reduce, repeat, unpack
from einops.layers.torch import EinMix, Rearrange, Reduce
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence, pad_sequence
from torch.utils import checkpoint as cp
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from port_models.common import Model

MODELS: list[Model] = []


def rows(n: int = 4, features: int = 6) -> tuple[Any, ...]:
    return (torch.randn(n, features),)


def model(inputs: Any = rows, kwargs: Any = dict, **arguments: Any) -> Callable[[Any], Any]:
    """Add a class to the table."""

    def add(cls: Any) -> Any:
        MODELS.append(Model(cls.__name__, functools.partial(cls, **arguments), inputs, kwargs))
        return cls

    return add


# torch.autograd.Function.


class Exp(Function):
    @staticmethod
    def forward(ctx, x):
        result = x.exp()
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx, gradient):
        (result,) = ctx.saved_tensors
        return gradient * result * 1.5


class ScaledProduct(Function):
    """Several arguments, one of which is no tensor."""

    @staticmethod
    def forward(ctx, x, w, scale, name="product"):
        ctx.save_for_backward(x, w)
        ctx.scale, ctx.name = scale, name
        return x * w * scale

    @staticmethod
    def backward(ctx, gradient):
        x, w = ctx.saved_tensors
        gradient_x = gradient_w = None
        if ctx.needs_input_grad[0]:
            gradient_x = gradient * w * ctx.scale
        if ctx.needs_input_grad[1]:
            gradient_w = (gradient * x * ctx.scale).sum(0)
        assert ctx.name == "product"
        return gradient_x, gradient_w, None, None


class MinMax(Function):
    """Several outputs, one of which has no gradient."""

    @staticmethod
    def forward(ctx, x):
        low, high = x.amin(1), x.amax(1)
        index = x.argmax(1)
        ctx.mark_non_differentiable(index)
        ctx.shape = x.shape
        return low, high, index

    @staticmethod
    def backward(ctx, gradient_low, gradient_high, _):
        return (gradient_low - gradient_high).unsqueeze(1).expand(ctx.shape) / ctx.shape[1]


class Cube(Function):
    """The style with setup_context."""

    @staticmethod
    def forward(x, power):
        return x**power, 2 * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, power = inputs
        ctx.save_for_backward(x)
        ctx.power = power

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient, other):
        (x,) = ctx.saved_tensors
        return gradient * ctx.power * x ** (ctx.power - 1) + other, None


class StraightThrough(Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class ReverseGradient(Function):
    @staticmethod
    def forward(ctx, x, strength):
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.neg() * ctx.strength, None


class Broadcasts(Function):
    """A gradient that is wider than its argument, which autograd sums."""

    @staticmethod
    def forward(ctx, x, b):
        return x + b

    @staticmethod
    def backward(ctx, gradient):
        return gradient, gradient


class ComplexScale(Function):
    @staticmethod
    def forward(ctx, z, factor):
        ctx.factor = factor
        ctx.save_for_backward(z)
        return z * factor

    @staticmethod
    def backward(ctx, gradient):
        (z,) = ctx.saved_tensors
        return gradient * ctx.factor.conjugate() + 0.1 * z, None


reverse = ReverseGradient.apply


@model()
class ExpModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        return Exp.apply(Exp.apply(self.fc(x)) * 0.1)


@model()
class ScaledProductModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(6))
        self.register_buffer("b", torch.randn(6))

    def forward(self, x):
        return ScaledProduct.apply(x, self.w, 0.5) + ScaledProduct.apply(x, self.b, 2, "product")


@model()
class MinMaxModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x):
        low, high, index = MinMax.apply(self.fc(x))
        return low * 2 + high, index


@model()
class CubeModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x):
        cube, double = Cube.apply(self.fc(x), 3)
        return cube + double.sin()


@model()
class StraightThroughModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.round = StraightThrough.apply

    def forward(self, x):
        return self.round(self.fc(x) * 3) * x


@model()
class DomainAdversarial(nn.Module):
    def __init__(self, strength=0.3):
        super().__init__()
        self.features, self.domain, self.strength = nn.Linear(6, 5), nn.Linear(5, 2), strength

    def forward(self, x):
        features = self.features(x).tanh()
        return features, self.domain(reverse(features, self.strength))


@model()
class BroadcastsModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.b = nn.Parameter(torch.randn(1, 6))

    def forward(self, x):
        return Broadcasts.apply(x, self.b).sin()


@model()
class ComplexFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x):
        z = ComplexScale.apply(torch.fft.fft(self.fc(x)), 0.5 + 2j)
        return z.real + z.abs()


# torch.utils.checkpoint.


class NormBlock(nn.Module):
    def __init__(self, features=6):
        super().__init__()
        self.fc, self.norm, self.drop = nn.Linear(features, features), nn.BatchNorm1d(features), nn.Dropout(0.0)

    def forward(self, x, scale=1.0, residual=True):
        y = self.drop(self.norm(self.fc(x)).relu()) * scale
        return x + y if residual else y


@model()
class CheckpointedModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = NormBlock()

    def forward(self, x):
        return checkpoint(self.block, x, 2.0, False, use_reentrant=False)


@model()
class CheckpointedMethod(nn.Module):
    def __init__(self, use_checkpoint=True):
        super().__init__()
        self.block, self.use_checkpoint = NormBlock(), use_checkpoint

    def _inner(self, x, scale):
        return self.block(x) * scale

    def forward(self, x):
        if self.use_checkpoint and self.training:
            return cp.checkpoint(self._inner, x, 3, use_reentrant=False, preserve_rng_state=True)
        return self._inner(x, 3)


@model()
class CheckpointedClosure(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([NormBlock(), NormBlock()])

    def forward(self, x):
        def make(module):
            def run(*inputs):
                return module(*inputs)

            return run

        for block in self.blocks:
            x = checkpoint(make(block), x, use_reentrant=True)
        return checkpoint(lambda y: self.blocks[0](y) + y, x, use_reentrant=False)


@model()
class CheckpointedSequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*(NormBlock() for _ in range(5)))

    def forward(self, x):
        return checkpoint_sequential(self.layers, 2, x, use_reentrant=False)


# Hooks that only observe, wrappers.


@model()
class ObservingHooks(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.act = nn.Linear(6, 3), nn.ReLU()
        self.seen: list[Any] = []
        self.fc.register_forward_hook(lambda module, arguments, output: self.seen.append(output.detach()))
        self.fc.register_forward_pre_hook(self._count)
        self.act.register_full_backward_hook(lambda module, inputs, outputs: None)
        self.fc.weight.register_hook(lambda gradient: None)

    def _count(self, module, arguments):
        self.seen.append(len(arguments))

    def forward(self, x):
        return self.act(self.fc(x))


@model()
class CompiledInside(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.compile(nn.Linear(6, 3), backend="eager")

    @torch.compile(backend="eager")
    def _inner(self, x):
        return x.sin()

    def forward(self, x):
        return self._inner(self.fc(x))


def _scaled(factor=1.0):
    """A decorator of methods, with an argument."""

    def decorate(function):
        @functools.wraps(function)
        def wrapper(self, x, *args, **kwargs):
            return function(self, x * factor, *args, **kwargs)

        return wrapper

    return decorate


def _tupled(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return (function(*args, **kwargs),)

    return wrapper


@_tupled
def _mixed(x, y, weight=0.25):
    return torch.lerp(x, y, weight)


@model()
class Decorated(nn.Module):
    """Methods and functions with decorators of the user's own."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 3)
        self.scale = nn.Parameter(torch.ones(3))

    @_scaled(factor=0.5)
    def _project(self, x, shift=1.0):
        return self.fc(x) * self.scale + shift

    @_tupled
    @_scaled()
    def forward(self, x):
        (y,) = _mixed(self._project(x), self._project(x, shift=2.0))
        return y.tanh()


@model()
class DataParallelInside(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.DataParallel(nn.Linear(6, 3))

    def forward(self, x):
        return self.net(x).tanh()


@functools.lru_cache
def _mask(n):
    return torch.ones(n, n).tril()


@model()
class CachedFunction(nn.Module):
    def forward(self, x):
        return _mask(x.shape[1]).to(x.dtype) @ x.t()


@model()
class CachedAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.mask = None

    def forward(self, x):
        if self.mask is None or self.mask.shape[0] != x.shape[0]:
            self.mask = torch.ones(x.shape[0], x.shape[0]).tril()
        return self.mask.to(x.dtype) @ x


@model()
class RecordsAttention(nn.Module):
    def forward(self, x):
        weights = (x @ x.t()).softmax(-1)
        self.weights = weights.detach()
        return weights @ x


@model()
class ReplacesParameterValue(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(6), requires_grad=False)

    def forward(self, x):
        if self.training:
            self.w = nn.Parameter(self.w * 0.9 + 0.1 * x.mean(0), requires_grad=False)
        return x * self.w


@model()
class GeneratorOfLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6) for _ in range(3)])

    def _outputs(self, x):
        for layer in self.layers:
            x = layer(x).tanh()
            yield x

    def forward(self, x):
        return sum(self._outputs(x)) + torch.stack([*self._outputs(x)]).mean(0)


@model()
class AssertsValues(nn.Module):
    def forward(self, x):
        assert torch.isfinite(x).all(), "not finite"
        assert x.ndim == 2
        torch._assert(x.shape[0] > 0, "empty")
        return x * 2


@model()
class TriesWithoutError(nn.Module):
    def forward(self, x):
        try:
            y = x.view(-1, 3)
        except RuntimeError:
            y = x.reshape(-1, 3)
        else:
            y = y * 2
        finally:
            x = x + 1
        return y.sum() + x


@model()
class MatchesShape(nn.Module):
    def forward(self, x):
        match x.shape:
            case (n, 6) if n > 1:
                return x.sum(1)
            case (_, 6):
                return x


@model()
class LayersMadeInForward(nn.Module):
    def forward(self, x):
        x = nn.ReLU()(nn.Flatten()(x))
        return nn.Softmax(dim=1)(x), nn.MSELoss()(x, x * 2)


# Classes of the user's that are no modules.


class Normalizer:
    def __init__(self, eps=1e-3):
        self.eps, self.weights = eps, torch.arange(6.0)

    def __call__(self, x):
        return (x - x.mean(0)) / (x.std(0) + self.eps) * self.weights.to(x.dtype)

    @classmethod
    def both(cls, x):
        return cls.top(x) + 1

    @staticmethod
    def top(x):
        return x.max(1, keepdim=True)[0]


class Scope:
    def __init__(self, x):
        self.x = x

    def __enter__(self):
        return self.x.max(1)[0]

    def __exit__(self, *exception):
        return False


@dataclasses.dataclass
class Output:
    values: Tensor
    mean: Any = None

    @property
    def top(self):
        return self.values.max(1)[0]

    def scaled(self, factor):
        return Output(self.values * factor, self.mean)


@model()
class PlainObjects(nn.Module):
    def __init__(self):
        super().__init__()
        self.normalize = Normalizer()

    def forward(self, x):
        output = Output(x, mean=x.mean()).scaled(2)
        with Scope(x) as top:
            y = Normalizer(0.1)(x) + top[:, None]
        return self.normalize(x) * Normalizer.both(y), output.top * output.mean


@model()
class DtypesAndDevices(nn.Module):
    scales = {torch.float32: 2.0, torch.float64: 2.0}

    def forward(self, x):
        is_float = x.dtype is torch.float32 or x.dtype is torch.float64
        y = x * self.scales[x.dtype] if is_float else x
        if x.device != torch.device("cuda") and x.device.type == "cpu":
            y = y * {torch.float32: 3.0, torch.float64: 3.0}.get(x.dtype, 5.0)
        return y * x.shape.numel()


# einops.


def images(n: int = 2, c: int = 3, size: int = 8) -> tuple[Any, ...]:
    return (torch.randn(n, c, size, size),)


@model(images)
class EinopsFunctions(nn.Module):
    def forward(self, x):
        patches = rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=2, q=2)
        heads = einops.rearrange(patches, "b n (h d) -> b h n d", h=4)
        mean = reduce(heads, "b h n d -> b h 1 d", "mean")
        tiled = repeat(mean, "b h 1 d -> b h n d", n=heads.shape[2])
        scores = einsum(heads, tiled, "b h i d, b h j d -> b h i j")
        return scores, reduce(x, "b c (h 2) (w 2) -> b c h w", reduction="max")


@model(images)
class EinopsPacks(nn.Module):
    def forward(self, x):
        packed, shapes = pack([x.flatten(2).mean(-1), x.flatten(2)], "b c *")
        first, second = unpack(packed * 2, shapes, "b c *")
        (b, c, h, w) = einops.parse_shape(x, "b c h w").values()
        return first, second.reshape(b, c, h, w)


@model(images)
class EinopsLayers(nn.Module):
    def __init__(self, patch=4, dim=10):
        super().__init__()
        self.embed = nn.Sequential(
            Rearrange("b c (h p1) (w p2) -> b (h w) (p1 p2 c)", p1=patch, p2=patch),
            nn.Linear(patch * patch * 3, dim),
        )
        self.mix = EinMix("b n d -> b n e", weight_shape="d e", bias_shape="e", d=dim, e=7)
        self.tokens = EinMix("b n d -> b m d", weight_shape="n m", n=4, m=2)
        self.pool = Reduce("b n d -> b d", "mean")

    def forward(self, x):
        return self.pool(self.tokens(self.mix(self.embed(x))))


# Numbers and functions.


@model(lambda: (torch.randn(2, 3, 4), torch.randn(2, 5, 4)))
class Einsums(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 6))

    def forward(self, q, k):
        scores = torch.einsum("bid,bjd->bij", q, k).softmax(-1)
        values = torch.einsum("b j d, d e -> b j e", [k, self.w])
        return torch.einsum("...ij,...je->...ie", scores, values), torch.einsum("bii->b", k @ k.transpose(1, 2))


@model(lambda: (torch.randn(2, 3, 8),))
class ComplexNumbers(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(3, 5, dtype=torch.cfloat))
        self.register_buffer("phase", torch.polar(torch.ones(5), torch.arange(5.0)))

    def forward(self, x):
        z = torch.fft.rfft(x, norm="ortho") * self.w * self.phase
        z = torch.view_as_complex(torch.stack([z.real * 2, -z.imag], dim=-1)) + torch.complex(z.imag, z.real)
        return torch.fft.irfft(z, n=8, norm="ortho"), z.abs(), torch.view_as_real(z), z.angle().cos()


@model(images)
class FourierFilter(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(3, 8, 5, 2))

    def forward(self, x):
        spectrum = torch.fft.rfft2(x, dim=(2, 3), norm="ortho") * torch.view_as_complex(self.w)
        shifted = torch.fft.fftshift(torch.fft.fftn(x, dim=(-2, -1)), dim=(-2, -1)).abs()
        return torch.fft.irfft2(spectrum, s=x.shape[2:], norm="ortho"), shifted.mean((2, 3))


def sequences() -> tuple[Any, ...]:
    return (torch.randn(2, 5, 8),)


@model(sequences)
class DotProductAttention(nn.Module):
    def __init__(self, heads=2):
        super().__init__()
        self.qkv, self.heads = nn.Linear(8, 24), heads

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril(1)
        bias = torch.linspace(-1, 1, x.shape[1], dtype=x.dtype).expand(x.shape[1], -1)
        outputs = [
            F.scaled_dot_product_attention(q, k, v),
            F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3),
            F.scaled_dot_product_attention(q, k, v, bias),
            F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=0.0),
        ]
        return torch.cat(outputs, dim=-1).transpose(1, 2).flatten(2)


def _padding() -> tuple[Any, ...]:
    return torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])


@model(_padding)
class MultiheadAttentions(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.MultiheadAttention(8, 2, batch_first=True)
        self.second = nn.MultiheadAttention(8, 4, bias=False, kdim=8, vdim=8)

    def forward(self, x, padding):
        causal = torch.triu(torch.full((x.shape[1], x.shape[1]), float("-inf")), diagonal=1).to(x.dtype)
        y, weights = self.first(x, x, x, attn_mask=causal)
        z = self.first(x, x, x, key_padding_mask=padding, need_weights=False)[0]
        t = y.transpose(0, 1)
        u, heads = self.second(t, t + 1, t, average_attn_weights=False)
        return z, weights, u, heads


# Packed sequences.


@model(sequences)
class PackedLengths(nn.Module):
    def __init__(self, lengths=(5, 3)):
        super().__init__()
        self.rnn, self.lengths = nn.LSTM(8, 4, batch_first=True, bidirectional=True), list(lengths)

    def forward(self, x):
        packed = pack_padded_sequence(x, self.lengths, batch_first=True)
        outputs, (h, c) = self.rnn(packed)
        padded, lengths = pad_packed_sequence(outputs, batch_first=True, padding_value=-1.0)
        return padded, h, c, lengths


@model(lambda: (torch.randn(4, 3, 6), [2, 4, 1]))
class PackedUnsorted(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(6, 5, num_layers=2)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        outputs, h = self.rnn(packed)
        return pad_packed_sequence(outputs, total_length=5)[0], h


@model(lambda: ([torch.randn(4, 3), torch.randn(2, 3), torch.randn(1, 3)],))
class PackedList(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(3, 5)

    def forward(self, sequences):
        outputs, h = self.rnn(pack_sequence(sequences))
        return pad_packed_sequence(outputs)[0], h, pad_sequence(sequences, batch_first=True)


# What torchvision.ops has, written as it is there.


def stochastic_depth(input: Tensor, p: float, mode: str, training: bool = True) -> Tensor:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"drop probability has to be between 0 and 1, but got {p}")
    if mode not in ["batch", "row"]:
        raise ValueError(f"mode has to be either 'batch' or 'row', but got {mode}")
    if not training or p == 0.0:
        return input
    survival = 1.0 - p
    size = [input.shape[0]] + [1] * (input.ndim - 1) if mode == "row" else [1] * input.ndim
    noise = torch.empty(size, dtype=input.dtype, device=input.device)
    noise = noise.bernoulli_(survival)
    if survival > 0.0:
        noise.div_(survival)
    return input * noise


class StochasticDepth(nn.Module):
    def __init__(self, p: float, mode: str) -> None:
        super().__init__()
        self.p, self.mode = p, mode

    def forward(self, input: Tensor) -> Tensor:
        return stochastic_depth(input, self.p, self.mode, self.training)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(p={self.p}, mode={self.mode})"


class Permute(nn.Module):
    def __init__(self, dims: list[int]):
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return torch.permute(x, self.dims)


class ConvNormActivation(nn.Sequential):
    def __init__(
        self, in_channels, out_channels, kernel_size=3, stride=1, padding=None, groups=1, norm_layer=nn.BatchNorm2d,
        activation_layer=nn.ReLU, dilation=1, inplace=True, bias=None, conv_layer=nn.Conv2d,
    ):  # fmt: skip
        padding = (kernel_size - 1) // 2 * dilation if padding is None else padding
        bias = norm_layer is None if bias is None else bias
        layers = [conv_layer(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=bias)]
        if norm_layer is not None:
            layers.append(norm_layer(out_channels))
        if activation_layer is not None:
            layers.append(activation_layer(**({} if inplace is None else {"inplace": inplace})))
        super().__init__(*layers)
        self.out_channels = out_channels


class SqueezeExcitation(nn.Module):
    def __init__(self, input_channels, squeeze_channels, activation=nn.ReLU, scale_activation=nn.Sigmoid):
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(input_channels, squeeze_channels, 1)
        self.fc2 = nn.Conv2d(squeeze_channels, input_channels, 1)
        self.activation, self.scale_activation = activation(), scale_activation()

    def _scale(self, input: Tensor) -> Tensor:
        scale = self.avgpool(input)
        scale = self.activation(self.fc1(scale))
        return self.scale_activation(self.fc2(scale))

    def forward(self, input: Tensor) -> Tensor:
        return self._scale(input) * input


class MLP(nn.Sequential):
    def __init__(self, in_channels, hidden_channels, norm_layer=None, inplace=None, bias=True, dropout=0.0):
        params = {} if inplace is None else {"inplace": inplace}
        layers: list[nn.Module] = []
        for hidden in hidden_channels[:-1]:
            layers.append(nn.Linear(in_channels, hidden, bias=bias))
            if norm_layer is not None:
                layers.append(norm_layer(hidden))
            layers.append(nn.GELU())
            layers.append(nn.Dropout(dropout, **params))
            in_channels = hidden
        layers.append(nn.Linear(in_channels, hidden_channels[-1], bias=bias))
        layers.append(nn.Dropout(dropout, **params))
        super().__init__(*layers)


@dataclasses.dataclass
class Sizes:
    channels: int = 6
    p: float = 0.5


@model(images)
class VisionOps(nn.Module):
    def __init__(self, sizes=Sizes()):  # noqa: B008
        super().__init__()
        self.stem = ConvNormActivation(3, sizes.channels, stride=2, activation_layer=nn.Hardswish)
        self.se = SqueezeExcitation(sizes.channels, 2, scale_activation=nn.Hardsigmoid)
        self.depth = StochasticDepth(sizes.p, "row")
        self.mlp = nn.Sequential(Permute([0, 2, 3, 1]), MLP(sizes.channels, [8, 4], nn.LayerNorm, dropout=0.1))

    def forward(self, x):
        x = self.stem(x)
        return self.mlp(x + self.depth(self.se(x)))


class AliasedConfig:
    """Settings with second names, as the configurations of language models have them."""

    aliases = {"hidden_size": "width"}

    def __init__(self, width, dtype=torch.float32):
        self.width, self.dtype = width, dtype

    def __getattribute__(self, name):
        aliases = super().__getattribute__("aliases")
        return super().__getattribute__(aliases.get(name, name))

    @property
    def scale(self):
        return self.hidden_size**-0.5


@model()
class ReadsAliases(nn.Module):
    def __init__(self):
        super().__init__()
        self.config = AliasedConfig(6)
        self.fc = nn.Linear(self.config.hidden_size, self.config.hidden_size)

    def forward(self, x):
        return self.fc(x) * self.config.scale + self.config.hidden_size
