"""Models that keep tables that they compute once, and that name layers by formatted strings."""

import functools

import torch
from torch import nn

from port_models.common import Model

TABLES = {}


@functools.lru_cache(maxsize=8)
def ramp(length, dtype=torch.float32):
    return torch.arange(length, dtype=dtype)


class Tables(nn.Module):
    """Each method keeps its result in another way."""

    shared = {}

    def __init__(self):
        super().__init__()
        self.cache, self.masks, self.ramps, self.waves = {}, {}, {}, {}
        self.scale = nn.Parameter(torch.ones(4))

    def tested(self, n, device):
        key = (n, str(device))
        if key not in self.cache:
            self.cache[key] = torch.arange(n, device=device).float()
        return self.cache[key]

    def returned(self, n):
        if n in self.masks:
            return self.masks[n][-1]
        mask = torch.ones(n, n).tril()
        self.masks[n] = mask
        return mask[-1]

    def looked_up(self, n):
        table = self.ramps.get(n)
        if table is None:
            table = self.ramps[n] = torch.linspace(0, 1, n)
        return table

    def named(self, n):
        if (table := self.waves.get(n)) is None:
            table = self.waves[n] = torch.sin(torch.arange(n).float())
        return table

    def by_default(self, n):
        return self.cache.setdefault(n, torch.arange(n).float() ** 2)

    def tried(self, n):
        try:
            return self.cache[-n]
        except KeyError:
            self.cache[-n] = torch.arange(n).float().sqrt()
        return self.cache[-n]

    def of_the_class(self, n):
        if n not in self.shared:
            self.shared[n] = torch.ones(n).cumsum(0)
        return self.shared[n]

    def of_the_file(self, n):
        if n not in TABLES:
            TABLES[n] = torch.full((n,), 0.5)
        return TABLES[n]

    @functools.lru_cache(maxsize=4)
    def cached(self, n):
        return torch.arange(n).float() / n

    @staticmethod
    @functools.cache
    def static(n):
        return torch.ones(n) * 3

    @functools.cache
    def width(self, n):
        return n + 1

    @functools.cached_property
    def flipped(self):
        return torch.arange(4).float().flip(0)

    def forward(self, x):
        n = x.shape[-1]
        x = x * self.scale + self.tested(n, x.device) + self.returned(n) + self.looked_up(n) + self.named(n)
        x = x + self.by_default(n) + self.tried(n) + self.of_the_class(n) + self.of_the_file(n) + self.cached(n)
        return x + self.static(n) + self.width(n) + self.flipped + ramp(n)


class Named(nn.Module):
    """Chooses layers by formatted strings, and has messages with the shapes of tensors."""

    def __init__(self):
        super().__init__(); self.calls = 0  # fmt: skip  # noqa: E702
        for i in (2, 3):
            setattr(self, f"layer{i}", nn.Linear(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.size(-1) == 4, f"expected 4, got {x.size()} of {x.dim()}: {x.size(-1)} in {'x'}"
        weights = {f"{tuple(x.size())} {'float32'}": 2.0}
        x = getattr(self, f"layer{x.dim()}")(x) * weights[f"{tuple(x.shape)} {'float32'}"]
        return getattr(self, f"layer{x.size(0)}")(x)


MODELS = [
    Model("caches", Tables, lambda: (torch.randn(2, 4),)),
    Model("named_layers", Named, lambda: (torch.randn(2, 3, 4),)),
]
