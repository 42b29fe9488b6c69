"""Decorators, functions of autograd, packed sequences, plain classes, einops and checkpoints in written source."""

import functools
import logging
import time

import torch
import torch.nn as nn
from einops import rearrange, reduce
from einops.layers.torch import Rearrange, Reduce
from port_models.common import Model
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

logger = logging.getLogger(__name__)
LAYERS = {}


def register(name):
    """Adds a class to the table of layers."""

    def add(cls):
        LAYERS[name] = cls
        return cls

    return add


def logged(function):
    """Logs shapes and seconds."""

    @functools.wraps(function)
    def wrapper(self, x, *args, **kwargs):
        started = time.perf_counter()
        out = function(self, x, *args, **kwargs)
        logger.debug("%s: %s in %f s", function.__name__, x.shape, time.perf_counter() - started)
        return out

    return wrapper


def checked(ndim):
    def decorate(function):
        def inner(self, x):
            if x.dim() != ndim:
                raise ValueError(f"expected {ndim} axes, got {x.dim()}")
            return function(self, x).clamp(min=-1.0)

        return inner

    return decorate


def timed_build(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        started = time.perf_counter()
        model = function(*args, **kwargs)
        model_seconds = time.perf_counter() - started
        logger.info("built in %f s", model_seconds)
        return model

    return wrapper


def with_defaults(**defaults):
    """A decorator that changes what a builder gets."""

    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **{**defaults, **kwargs})

        return wrapper

    return decorate


@register("dense")
class Dense(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc = nn.Linear(dim, dim)

    @logged
    def forward(self, x):
        return self.fc(x)


@register("scaled")
class Scaled(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), 0.5))

    @staticmethod
    @functools.lru_cache(maxsize=8)
    def offsets(n):
        return tuple(i / n for i in range(n))

    @checked(2)
    def forward(self, x):
        return x * self.scale + x.new_tensor(self.offsets(x.shape[1]))


class Decorated(nn.Module):
    def __init__(self, dim=4, kinds=("dense", "scaled"), bias=False):
        super().__init__()
        self.layers = nn.ModuleList([LAYERS[kind](dim) for kind in kinds])
        self.out = nn.Linear(dim, 2, bias=bias)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.out(x)


@timed_build
def timed_model(dim=4):
    """Passes everything on."""
    return Decorated(dim)


@with_defaults(bias=True)
def biased_model(dim=4, bias=False):
    return Decorated(dim, bias=bias)


class Swish(torch.autograd.Function):
    """Saves memory."""

    @staticmethod
    def forward(ctx, x, beta):
        ctx.save_for_backward(x)
        ctx.beta = beta
        return x * torch.sigmoid(beta * x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(ctx.beta * x)
        return grad_output * (s + ctx.beta * x * s * (1 - s)), None


class Activated(nn.Module):
    """Blocks with a function of autograd, computed again in backward."""

    def __init__(self, dim=4):
        super().__init__()
        self.a = nn.Linear(dim, 2 * dim)
        self.b = nn.Linear(2 * dim, dim)

    def inner(self, x):
        return self.b(Swish.apply(self.a(x), 1.5))

    def forward(self, x):
        x = x + checkpoint(self.inner, x, use_reentrant=False)
        return checkpoint(self.a, x, use_reentrant=False)


class Packed(nn.Module):
    def __init__(self, vocab=9, dim=4):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim, padding_idx=0)
        self.rnn = nn.LSTM(dim, 3, batch_first=True, bidirectional=True)
        self.out = nn.Linear(6, 2)

    def forward(self, ids, lengths):
        packed = pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
        packed, (h, _) = self.rnn(packed)
        states, _ = pad_packed_sequence(packed, batch_first=True, total_length=ids.size(1))
        return self.out(states), torch.cat([h[0], h[1]], dim=-1)


class Normalizer:
    """No module: scales as its settings say."""

    def __init__(self, mean, std=1.0):
        self.mean, self.std = mean, std
        self.calls = []

    @property
    def scale(self):
        return 1.0 / self.std

    def __call__(self, x):
        return self.center(x) * self.scale

    def center(self, x):
        return torch.sub(x, self.mean)


class Plain(nn.Module):
    def __init__(self, dim=4):
        super().__init__()
        self.normalize = Normalizer(0.25, std=2.0)
        self.fc = nn.Linear(dim, dim)

    def forward(self, x):
        return self.normalize(self.fc(x)).relu()


class Rearranged(nn.Module):
    def __init__(self, size=4, patch=2, dim=6):
        super().__init__()
        self.to_patches = nn.Sequential(
            Rearrange("b c (h p1) (w p2) -> b (h w) (p1 p2 c)", p1=patch, p2=patch),
            nn.Linear(3 * patch**2, dim),
        )
        self.pool = Reduce("b n d -> b d", "mean")
        self.size = size // patch

    def forward(self, x):
        x = self.to_patches(x)
        y = rearrange(x, "b (h w) d -> b d h w", h=self.size)
        return self.pool(x) + reduce(y, "b d h w -> b d", "max")


class Listed(nn.Module):
    """Modules in plain lists and dicts, which torch does not register, beside a registered container."""

    def __init__(self, dim=4):
        super().__init__()
        self.stages = nn.ModuleList([nn.Linear(dim, dim), nn.Linear(dim, dim)])
        self.order = [self.stages[1], self.stages[0]]
        self.acts = {"a": nn.ReLU(), "b": nn.Tanh()}
        self.steps = [("a", self.stages[0]), ("b", self.stages[1])]

    def forward(self, x):
        for layer in self.order:
            x = layer(x)
        for name, layer in self.steps:
            x = self.acts[name](layer(x))
        return x


def halved(cls):
    """Replaces a method of a class."""
    forward = cls.forward
    cls.forward = lambda self, x: forward(self, x) / 2
    return cls


def quartered(cls):
    forward = cls.forward

    @functools.wraps(forward)
    def wrapper(self, x):
        return forward(self, x) / 4

    cls.forward = wrapper
    return cls


@quartered
class Replaced(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x)


@halved
class Halved(Dense):
    def __init__(self, dim=4):
        super().__init__(dim)


def vectors(*shape):
    return lambda: (torch.randn(*shape),)


MODELS = [
    Model("decorated_methods", functools.partial(Decorated, kinds=("dense", "scaled", "dense")), vectors(2, 4)),
    Model("timed_model", timed_model, vectors(2, 4)),
    Model("biased_model", biased_model, vectors(2, 4)),
    Model("activated", Activated, vectors(2, 4)),
    Model("packed", Packed, lambda: (torch.randint(1, 9, (3, 5)), torch.tensor([5, 2, 3]))),
    Model("plain_class", Plain, vectors(2, 4)),
    Model("rearranged", Rearranged, vectors(2, 3, 4, 4)),
    Model("listed", Listed, vectors(2, 4)),
]
