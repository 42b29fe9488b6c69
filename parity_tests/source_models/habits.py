"""Habits of research code that a written source keeps: registries, class methods, abstract bases, tables of modules."""

from __future__ import annotations

import abc
import collections
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import torch
from port_models.common import Model
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, weight_norm

T = TypeVar("T", bound=type)


class Registry(Generic[T]):
    """Classes by name."""

    def __init__(self, name: str):
        self._name = name
        self._items: dict[str, T] = {}

    def register(self, name: str | None = None):
        def decorator(item: T) -> T:
            self._items[name or item.__name__.lower()] = item
            return item

        return decorator

    def build(self, name: str, *args, **kwargs):
        return self._items[name](*args, **kwargs)


HEADS: Registry[type[nn.Module]] = Registry("head")


class Pool(enum.Enum):
    MEAN = "mean"
    MAX = "max"


class Head(nn.Module, abc.ABC):
    """What all heads have."""

    @property
    @abc.abstractmethod
    def classes(self) -> int: ...

    @abc.abstractmethod
    def logits(self, x: Tensor) -> Tensor:
        """Compute logits."""

    def scale(self, x):
        raise NotImplementedError

    def forward(self, x):
        return self.scale(self.logits(x)) * self.classes


@HEADS.register("pooled")
class PooledHead(Head):
    scale_by: ClassVar[float] = 2.0

    def __init__(self, dim, pool=Pool.MEAN):
        super().__init__()
        self.pool = pool
        self.fc = nn.Linear(dim, 3)

    @property
    def classes(self):
        return self.fc.out_features

    def logits(self, x):
        if self.pool is Pool.MEAN:
            x = x.mean(dim=1)
        elif self.pool == Pool.MAX:
            x = x.amax(dim=1)
        return self.fc(x)

    def scale(self, x):
        return x * self.scale_by


@HEADS.register()
class Unused(Head):
    pass


@dataclass(frozen=True)
class Config:
    dim: int = 4
    extras: dict[str, Any] = field(default_factory=dict)


class Sine(nn.Module):
    def __init__(self, w0=1.0):
        super().__init__()
        self.w0 = w0

    def forward(self, x):
        return torch.sin(self.w0 * x)


class Registered(nn.Module):
    """Chooses from tables, takes a frozen configuration, and has a constructor of its own beside ``__init__``."""

    Parts = collections.namedtuple("Parts", ["first", "second"])
    activations = {"sine": Sine(2.0), "relu": nn.ReLU()}  # noqa: RUF012

    def __init__(self, config: Config, act="sine"):
        super().__init__()
        self.config = config
        self.act = self.activations[act]
        self.head = HEADS.build("pooled", config.dim)
        self.register_load_state_dict_pre_hook(self._rename)

    def _rename(self, module, state_dict, prefix, *args):
        state_dict.pop("old", None)

    @classmethod
    def named(cls, name="tiny", **options):
        return cls(Config({"tiny": 4, "small": 8}[name]), **options)

    def forward(self, x):
        parts: Registered.Parts = self.Parts(x, self.act(x))
        return self.head(parts.first + parts.second) * len(self.config.extras or "x")


def zero_module(module):
    """Set all parameters to zero, and return the module."""
    for p in module.parameters():
        p.detach().zero_()
    return module


class Drawn(nn.Module):
    """Constructors without gradients, marks on parameters, tables of indices, and weights that are computed."""

    def __init__(self, dim=4):
        super().__init__()
        self.zero = zero_module(nn.Linear(dim, dim))
        self.normed = weight_norm(nn.Linear(dim, dim))
        self.normed.weight.data.normal_(0, 0.01)  # has no effect
        self.parametrized = parametrizations.weight_norm(nn.Linear(dim, dim))
        self.parametrized.weight.data.normal_(0, 0.01)
        with torch.no_grad():
            decay = torch.ones(dim)
            for i in range(dim):
                decay[i] = -5 + 8 * (i / (dim - 1)) ** 0.7
            self.decay = nn.Parameter(decay)
        self.decay._no_weight_decay = True
        self.register_buffer("pairs", torch.triu(torch.ones(3, 3), diagonal=1).nonzero().t().contiguous())

    def forward(self, x):
        i, j = self.pairs
        y = self.normed(x) + self.parametrized(self.zero(x)) * torch.exp(self.decay)
        return y[..., i] * y[..., j]


def ema_inplace(average, new, decay: float):
    average.data.mul_(decay).add_(new, alpha=1 - decay)


class Averages(nn.Module):
    """Functions that change the buffers that they get."""

    def __init__(self, dim=4):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.register_buffer("average", torch.zeros(dim))
        self.register_buffer("count", torch.zeros(()))

    @torch.no_grad()
    def update(self, average, *, new, count):
        count += 1
        average *= 0.9
        average[0] += 1
        self.pull(average)
        average.copy_(average + new)

    def pull(self, values):
        values.lerp_(torch.ones_like(values), 0.5)

    def forward(self, x):
        y = x * self.weight
        if self.training:
            ema_inplace(self.average, y.mean((0, 1)), 0.9)
            self.update(self.average, new=y.mean((0, 1)), count=self.count)
        return y - self.average


class Generated(nn.Module):
    """A layer with weights that another one makes."""

    def __init__(self, dim=4):
        super().__init__()
        self.target = nn.Sequential(nn.Linear(dim, dim), nn.Tanh())
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        fast = {name: p * self.scale for name, p in self.target.named_parameters()}
        return torch.func.functional_call(self.target, fast, (x,))


class Solved(nn.Module):
    """A constructor that solves least squares, and a mask through ``data``."""

    def __init__(self, dim=4, act: Callable[..., nn.Module] = nn.SiLU):
        super().__init__()
        self.act = act()
        self.weight = nn.Parameter(torch.linalg.lstsq(torch.eye(dim) * 2, torch.ones(dim, 2)).solution)

    def forward(self, x):
        y = self.act(x) @ self.weight
        ids = torch.arange(0, y.shape[1], out=torch.LongTensor(y.shape[1]))
        y.data.masked_fill_((ids > 1)[:, None], -1.0)
        return F.softmax(y, dim=1)


def vectors(*shape):
    return lambda: (torch.randn(*shape),)


MODELS = [
    Model("registered", Registered.named, vectors(2, 3, 4)),
    Model("drawn", Drawn, vectors(2, 3, 4)),
    Model("averages", Averages, vectors(2, 3, 4)),
    Model("generated", Generated, vectors(2, 4)),
    Model("solved", Solved, vectors(2, 3, 4)),
]
