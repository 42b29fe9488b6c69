"""Constructors that compute numbers of Python from tensors: rates of dropout, sizes, positions."""

import functools

import torch
import torch.nn as nn
from port_models.common import Model


class Block(nn.Module):
    def __init__(self, dim, drop=0.0):
        super().__init__()
        self.fc = nn.Linear(dim, dim)
        self.drop = nn.Dropout(drop) if drop > 0.0 else nn.Identity()

    def forward(self, x):
        return x + self.drop(self.fc(x).relu())


class Rates(nn.Module):
    """Stochastic depth decay rule."""

    def __init__(self, dim=4, depths=(1, 2), rate=0.3):
        super().__init__()
        dpr = [x.item() for x in torch.linspace(0, rate, sum(depths))]  # stochastic depth decay rule
        self.blocks = nn.ModuleList([Block(dim, dpr[i]) for i in range(sum(depths))])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Stages(nn.Module):
    def __init__(self, dim=4, depths=(1, 2), rate=0.2):
        super().__init__()
        dp_rates = [x.tolist() for x in torch.linspace(0, rate, sum(depths)).split(depths)]
        self.stages = nn.ModuleList()
        for i, depth in enumerate(depths):
            self.stages.append(nn.Sequential(*[Block(dim, drop=dp_rates[i][j]) for j in range(depth)]))
        rates = torch.linspace(0.1, rate, len(depths)).tolist()
        self.tail = nn.ModuleList(nn.Dropout(r) for r in rates)

    def forward(self, x):
        for stage, drop in zip(self.stages, self.tail, strict=True):
            x = drop(stage(x))
        return x


class Indexed(nn.Module):
    """Tensors of numbers that are indexed."""

    def __init__(self, dim=4, depth=3, sizes=(2, 3)):
        super().__init__()
        dpr = torch.linspace(0, 0.25, depth)
        self.a = nn.ModuleList([Block(dim, dpr[i].item()) for i in range(depth)])
        self.b = nn.Dropout(p=float(dpr[depth - 1]))
        self.area = int(torch.tensor(sizes).prod())
        starts = torch.cumsum(torch.tensor([0, *sizes]), dim=0).tolist()
        self.out = nn.Linear(dim, self.area + starts[-1])

    def forward(self, x):
        for block in self.a:
            x = block(x)
        return self.out(self.b(x))


def decay(rate, depth):
    return torch.linspace(0, rate, depth) ** 2


class Helped(nn.Module):
    def __init__(self, dim=4, depth=3):
        super().__init__()
        self.keep = 1.0 - decay(0.5, depth).max().item()
        rates = decay(0.5, depth)
        self.drops = nn.Sequential(*(nn.Dropout(p.item()) for p in rates))
        for i, rate in enumerate(rates):
            self.add_module(f"block{i}", Block(dim, float(rate)))

    def forward(self, x):
        return self.block2(self.block1(self.block0(self.drops(x)))) * self.keep


def vectors(*shape):
    return lambda: (torch.randn(*shape),)


MODELS = [
    Model("rates", functools.partial(Rates, rate=0.4), vectors(2, 4)),
    Model("stages", Stages, vectors(2, 4)),
    Model("indexed_numbers", Indexed, vectors(2, 4)),
    Model("helped_numbers", Helped, vectors(2, 4)),
]
