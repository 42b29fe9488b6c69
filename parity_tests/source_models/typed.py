# ruff: noqa: RUF012, RUF013
"""Models with defaults, lists and attributes whose later values have other types than the first ones."""

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from port_models.common import Model
from torch import Tensor, nn


class Sum(nn.Module):
    """A sum that begins with a number."""

    def __init__(self, depth=3):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        out, count = 0.0, 0
        total = 0
        for layer in self.layers:
            count += 1
            out += layer(x)
            total = total + out
        return torch.tanh(total) / count


class Mlp(nn.Module):
    """Parameters whose default or annotation does not tell what they take."""

    def __init__(
        self, dim: int = None, ratio=4, act_layer: nn.Module = nn.GELU, norm_layer=None, drop=0, axes=(1, 2),
        mode: str = None, k: int = 3,
    ):  # fmt: skip
        super().__init__()
        dim = dim or 4
        norm_layer = norm_layer or nn.LayerNorm
        self.norm = norm_layer(dim)
        self.fc1, self.fc2 = nn.Linear(dim, int(dim * ratio)), nn.Linear(int(dim * ratio), dim)
        self.act, self.drop = act_layer(), nn.Dropout(drop)
        self.mode, self.axes = mode, axes
        self.pool = nn.AvgPool1d(k, 1, k // 2) if k else None

    def forward(self, x: Tensor, mask: Tensor = None, scale=1) -> Tensor:
        x = self.drop(self.fc2(self.act(self.fc1(self.norm(x)))))
        if mask is not None:
            x = x * mask
        return self.pool(x).sum(self.axes) * scale


class Mixin:
    def scaled(self, x):
        return x * self.scale + self.offset()


class Assembled(Mixin, nn.Module):
    """Lists and dicts that get other members than their first ones."""

    plan = [8, "R", 16]
    scale = 0.5

    def __init__(self, block=Mlp, depth=2):
        super().__init__()
        layers = [nn.Conv1d(3, 3, 1)]
        for step in self.plan:
            if step == "R":
                layers += [nn.ReLU()]
            else:
                layers.append(nn.Conv1d(3, 3, step // 8 * 2 - 1, padding="same"))
        self.features = nn.Sequential(*layers)
        self.blocks = nn.ModuleList(
            [block(ratio=2.5, drop=0.1, axes=(1,), act_layer=nn.ReLU, mode="a") for _ in range(depth)]
        )
        options = {"kernel_size": 1, "bias": False}
        self.last = nn.Conv1d(3, 3, **options)
        heads = {"a": nn.Linear(4, 2)}
        heads["b"] = nn.Identity()
        self.heads = nn.ModuleDict(heads)
        self.state = None

    def offset(self):
        return 1.0

    def forward(self, x):
        x = self.scaled(self.last(self.features(x)))
        self.state = x
        parts = [block(x, scale=x.mean()) for block in self.blocks]
        return {key: head(x) for key, head in self.heads.items()}, parts, self.state.mean()


@dataclass
class Config:
    dim: int = 4
    hidden: int = None
    dropout: float = 0
    names: list = None


class Configured(nn.Module):
    def __init__(self, cfg: Config = Config()):  # noqa: B008
        super().__init__()
        self.cfg = cfg
        self.fc = nn.Linear(cfg.dim, cfg.hidden or 3)
        self.drop = nn.Dropout(cfg.dropout)

    def forward(self, x):
        return self.drop(self.fc(x))


class Residual(nn.Module):
    def __init__(self, act=F.relu, stride=1, expansion=4):
        super().__init__()
        self.act, self.expansion = act, expansion
        self.down = None
        if stride != 1 or expansion != 1:
            self.down = nn.Linear(4, 4)

    def forward(self, x):
        identity = x
        if self.down is not None:
            identity = self.down(x)
        return self.act(x + identity)


class Stages(nn.Module):
    """Functions as defaults, and numbers in the places of others."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Residual(act=F.gelu), Residual(act=torch.tanh, stride=(2, 1))
        self.third = Residual(functools.partial(F.leaky_relu, negative_slope=0.1), expansion=0.5)
        self.lstm = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x, hidden=None):
        y, hidden = self.lstm(x, hidden)
        return self.third(self.second(self.first(y)))


def vectors(*shape):
    return lambda: (torch.randn(*shape),)


MODELS = [
    Model("sum_from_number", Sum, vectors(2, 4)),
    Model("assembled_layers", Assembled, vectors(2, 3, 4)),
    Model("configured_by_class", Configured, vectors(2, 4)),
    Model("stages_of_functions", Stages, vectors(2, 3, 4)),
]
