"""How models are built: configurations, registries, partials, inheritance, initialisation, buffers, tied weights."""

import copy
import functools
import itertools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from port_models.common import Model
from torch.nn.utils import spectral_norm, weight_norm
from torch.nn.utils.parametrizations import orthogonal

from source_models import layers
from source_models.layers import NORMS, ScaledLinear, init_bert_weights, make_norm
from source_models.layers import Block as InnerBlock

REGISTRY: dict[str, type[nn.Module]] = {}


def register(name: str) -> Callable[[type], type]:
    def wrap(cls: type) -> type:
        REGISTRY[name] = cls
        return cls

    return wrap


@register("plain")
class Plain(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.fc = nn.Linear(dim, dim)

    def forward(self, x):
        return self.fc(x)


@register("gated")
class Gated(Plain):
    """With a gate that no registry entry before had."""

    def __init__(self, dim: int):
        super().__init__(dim)
        self.gate = nn.Parameter(torch.full((dim,), 0.5))

    def forward(self, x):
        return torch.sigmoid(self.gate) * super().forward(x)


@register("unused")
class Unused(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, 1)

    def forward(self, x):
        return self.conv(x)


@dataclass
class Config:
    """What the model is made of."""

    dim: int = 4
    kinds: list[str] = field(default_factory=lambda: ["plain", "gated"])
    act: str = "gelu"

    @property
    def hidden(self) -> int:
        return 2 * self.dim


ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}


class Configured(nn.Module):
    """Built from a dataclass and a registry."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList([REGISTRY[kind](config.dim) for kind in config.kinds])
        self.head = nn.Sequential(
            nn.Linear(config.dim, config.hidden), ACTIVATIONS[config.act](), nn.Linear(config.hidden, 2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x) / self.config.hidden


class FromDict(nn.Module):
    def __init__(self, cfg, extra=None):
        super().__init__()
        self.net = nn.Sequential()
        for i, (kind, options) in enumerate(cfg["layers"]):
            self.net.add_module(f"{kind.lower()}{i}", getattr(nn, kind)(**options))
        self.depth = len(cfg["layers"])
        self.scale = cfg.get("scale", 1.0)
        self.bias = None if extra is None else nn.Parameter(torch.ones(extra.width) * extra.value)

    def forward(self, x):
        x = self.net(x) * self.scale
        return x if self.bias is None else x + self.bias


class Block(nn.Module):
    """A block whose name another file has too."""

    def __init__(self, dim: int, norm_layer: Callable[..., nn.Module] = nn.LayerNorm, act=nn.ReLU, **kwargs: Any):
        super().__init__()
        self.norm = norm_layer(dim)
        self.inner = InnerBlock(dim)
        self.out = ScaledLinear(dim, dim, **kwargs)
        self.act = act()

    def forward(self, x):
        return self.act(self.out(self.inner(self.norm(x))))


class SeveralFiles(nn.Module):
    def __init__(self, dim=4, depth=2, norm="layer"):
        super().__init__()
        norm_layer = functools.partial(nn.LayerNorm, eps=layers.EPS)
        self.blocks = nn.Sequential(*[Block(dim, norm_layer, scale="large", bias=i == 0) for i in range(depth)])
        self.norm = make_norm(norm, dim)
        self.other = NORMS["none"](dim)
        self.register_buffer("table", layers.table(3, dim), persistent=False)
        self.apply(init_bert_weights)

    def forward(self, x):
        return self.other(self.norm(self.blocks(x + self.table)))


class Sizes(NamedTuple):
    inner: int
    outer: int = 3


class WidthMixin:
    """Adds a width."""

    factor = 2

    @property
    def width(self) -> int:
        return self.factor * self.base

    @classmethod
    def default_sizes(cls):
        return Sizes(cls.factor + 1)

    @staticmethod
    def halve(x):
        return x / 2


class Inherited(WidthMixin, nn.Module):
    base = 3

    def __init__(self, *stages: nn.Module, **named: nn.Module):
        super().__init__()
        self.stages = nn.ModuleList(stages)
        for name, module in named.items():
            setattr(self, name, module)
        self.names = list(named)
        sizes = self.default_sizes()
        self.last = nn.Linear(self.width, sizes.outer)

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        for name in self.names:
            x = getattr(self, name)(x)
        return self.halve(self.last(x))


class Initialised(nn.Module):
    """Every way to set initial values."""

    def __init__(self, dim: int = 6):
        super().__init__()
        self.a = nn.Linear(dim, dim)
        self.b = nn.Conv1d(dim, dim, 3, padding=1)
        self.c = nn.Parameter(torch.empty(dim, dim))
        self.d = nn.Parameter(torch.randn(dim) * 0.1 + 1)
        self.e = nn.Parameter(torch.Tensor(2, dim), requires_grad=False)
        self.scale = nn.Parameter(torch.ones([]) * 3.5)
        bound = 1 / dim**0.5
        nn.init.uniform_(self.a.weight, -bound, bound)
        nn.init.constant_(self.a.bias, val=0.25)
        w = self.b.weight
        nn.init.xavier_normal_(w, gain=nn.init.calculate_gain("tanh"))
        with torch.no_grad():
            self.b.bias.fill_(-1.0)
            self.b.weight[:, :, 1] += 0.5
            self.d[0] = 7.0
        self.reset(self.c)
        self.e.data.uniform_(-1, 1)
        for name, p in self.named_parameters():
            if "bias" in name:
                p.requires_grad = False

    def reset(self, weight: torch.Tensor) -> None:
        nn.init.orthogonal_(weight)

    def forward(self, x):
        y = self.b(self.a(x).transpose(1, 2)).transpose(1, 2)
        return (y @ self.c + self.d + self.e.sum(0)) * self.scale


class Tied(nn.Module):
    def __init__(self, vocab: int = 7, dim: int = 4):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.layers = _clones(nn.Linear(dim, dim), 2)
        self.shared = self.layers[0]
        self.head = nn.Linear(dim, vocab, bias=False)
        self.head.weight = self.embed.weight
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = F.gelu(layer(x))
        return self.head(self.shared(x))


def _clones(module, n):
    "Produce n identical layers."
    return nn.ModuleList([copy.deepcopy(module) for _ in range(n)])


class Normed(nn.Module):
    """Weights that are computed from others."""

    def __init__(self):
        super().__init__()
        self.a = spectral_norm(nn.Linear(4, 4))
        self.b = weight_norm(nn.Conv1d(4, 4, 1), dim=0)
        self.c = orthogonal(nn.Linear(4, 4))
        self.d = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))

    def forward(self, x):
        x = self.b(self.a(x).transpose(1, 2)).transpose(1, 2)
        return self.d(self.c(x))


def _drop(x, p: float = 0.0, training: bool = False):
    if p == 0.0 or not training:
        return x
    mask = torch.rand(x.shape[0], 1, dtype=x.dtype) >= p
    return x * mask / (1 - p)


class Drop(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        return _drop(x, self.p, self.training)


class Noisy(nn.Module):
    """Draws random numbers when it is called."""

    def __init__(self, dim: int = 4, rates=(0.0, 0.2), factory: Callable[..., nn.Module] | None = None):
        super().__init__()
        rates = [r.item() for r in torch.linspace(*rates, 3)]
        self.drops = nn.ModuleList(Drop(r) if r > 0 else nn.Identity() for r in rates)
        self.fcs = nn.ModuleDict(OrderedDict((f"fc{i}", nn.Linear(dim, dim)) for i in range(3)))
        self.tail = factory(0.5) if factory else nn.Dropout(0.5)

    def forward(self, x):
        for drop, fc in zip(self.drops, self.fcs.values(), strict=True):
            x = drop(F.dropout(torch.relu(fc(x)), 0.1, training=self.training))
        return self.tail(x)


class Mixed(nn.Module):
    """One place that makes layers with and without random numbers."""

    def __init__(self, kinds=(nn.Linear, nn.LayerNorm), dim=4, bilinear=True):
        super().__init__()
        factories = [nn.Linear, lambda a, b: nn.LayerNorm(b), functools.partial(nn.Linear, bias=False)]
        self.layers = nn.Sequential(*(make(dim, dim) for make in factories))
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode="linear")
        else:
            self.up = nn.ConvTranspose1d(dim, dim, 2, stride=2)
        self.act = nn.ReLU(inplace=True) if bilinear else None
        self.last = lambda x: self.act(self.layers(x))

    def forward(self, x):
        return self.up(self.last(x))


def tower(dims=(4, 5, 3), dropout: float = 0.1, act: str = "tanh") -> nn.Sequential:
    """A tower of dense layers."""

    def layer(a: int, b: int) -> list[nn.Module]:
        # one layer and what follows it
        return [nn.Linear(a, b), nn.Tanh() if act == "tanh" else nn.ReLU(), nn.Dropout(dropout)]

    modules: list[nn.Module] = []
    for a, b in itertools.pairwise(dims):
        modules += layer(a, b)
    return nn.Sequential(*modules)


def vectors(*shape: int) -> Callable[[], tuple[Any, ...]]:
    return lambda: (torch.randn(*shape),)


CFG = {"layers": [("Linear", {"in_features": 4, "out_features": 3}), ("ReLU", {"inplace": True})], "scale": 0.5}
MODELS = [
    Model("configured", functools.partial(Configured, Config(act="relu")), vectors(2, 4)),
    Model("from_dict", functools.partial(FromDict, CFG, extra=SimpleNamespace(width=3, value=2.0)), vectors(2, 4)),
    Model("several_files", functools.partial(SeveralFiles, depth=3), vectors(2, 3, 4)),
    Model("inherited", lambda: Inherited(nn.Linear(4, 5), nn.ReLU(), end=nn.Linear(5, 6)), vectors(2, 4)),
    Model("initialised", Initialised, vectors(2, 3, 6)),
    Model("tied_clones", Tied, lambda: (torch.randint(0, 7, (2, 3)),)),
    Model("normed", Normed, vectors(2, 3, 4)),
    Model("noisy", functools.partial(Noisy, factory=Drop), vectors(2, 4)),
    Model("mixed", Mixed, vectors(2, 3, 4)),
    Model("tower", functools.partial(tower, dropout=0.2), vectors(2, 4)),
]
