"""Small models with odd habits: stored functions, subclassed layers, aliases, containers, weights that are computed."""

import functools

import torch
import torch.nn.functional as F
from torch import einsum, nn
from torch.nn.functional import relu as rl
from torch.nn.utils import parametrizations, parametrize, prune

from port_models.common import Model, images


def scale(k):
    def apply(t):
        return t * k

    return apply


class Lambda(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


class Lambdas(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(
            Lambda(lambda x: x.view(x.size(0), -1)),
            Lambda(functools.partial(F.leaky_relu, negative_slope=0.3)),
            Lambda(scale(2.0)),
            Lambda(torch.tanh),
            Lambda(lambda t: t.unsqueeze(1).squeeze(1)),
        )

    def forward(self, x):
        return self.a(x)


class StdConv(nn.Conv2d):
    def forward(self, x):
        w = self.weight
        v, m = torch.var_mean(w, dim=[1, 2, 3], keepdim=True, unbiased=False)
        return self._conv_forward(x, (w - m) / torch.sqrt(v + 1e-5), self.bias)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = StdConv(3, 4, 3, padding=1)
        self.g = nn.GroupNorm(2, 4)
        self.tied = self.c

    def forward(self, x):
        return self.tied(x) + rl(self.g(self.c(x)), inplace=True)


class Ema(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("steps", torch.tensor(0), persistent=False)

    def forward(self, x):
        self.mean.mul_(0.9).add_(x.mean((0, 2, 3)), alpha=0.1)
        self.steps += 1
        self.mean = self.mean + 1
        return x - self.mean.view(1, -1, 1, 1)


class Alias(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        y = x * 1
        z = self.act(y)
        y += 1
        return z + y


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(5, 4, 2, batch_first=True, bidirectional=True)
        self.h = nn.Linear(8, 2)

    def forward(self, x):
        o, (h, c) = self.rnn(x.flatten(2).transpose(1, 2)[..., :3].repeat(1, 1, 2)[..., :5])
        return self.h(o[:, -1]), h


class Dicts(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.ParameterDict({"a": nn.Parameter(torch.randn(3)), "b": nn.Parameter(torch.randn(3))})
        self.q = nn.ParameterList([nn.Parameter(torch.randn(1)) for _ in range(2)])
        self.m = nn.ModuleDict({"x": nn.Identity(), "y": nn.Softplus()})

    def forward(self, x):
        for k, v in self.p.items():
            x = x * v[:, None, None]
        for q in self.q:
            x = x + q
        return {k: m(x) for k, m in self.m.items()}


class NoneList(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.ModuleList([nn.ReLU(), None])

    def forward(self, x):
        for m in self.l:
            x = m(x) if m is not None else x * 2
        return x


class Tables(nn.Module):
    TABLE = {"gelu": F.gelu, "sq": lambda t: t.pow(2)}

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(3, 3))
        self.kind = "sq"
        self.const = torch.arange(3.0).double()

    def forward(self, x, mask=None):
        b, c, *hw = x.shape
        y = einsum("bchw,cd->bdhw", x, self.w)
        v, i = y.flatten(1).topk(4, dim=-1)
        best = torch.max(y, dim=1)[1]
        z = torch.zeros_like(y)
        z[:, 0] = 1
        z[y > 0] = 2.0
        z[..., 0] += 5
        f = self.TABLE[self.kind]
        parts = [t.sum(-1) for t in y.split([1, 2], dim=1)]
        return f(y) + z + self.const[None, :, None, None], v, y.gather(1, best.unsqueeze(1)), parts


class Drop(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = 0.5

    @torch.no_grad()
    def helper(self, x):
        return F.dropout(x, self.p, self.training)

    def forward(self, x):
        x = self.helper(x)
        for _ in range(3):
            if not self.training or torch.rand(1).item() > 0.5:
                x = x.clamp(min=-1).mul(2)
        return x


class Closures(nn.Module):
    """Functions that hold modules, parameters and methods."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.gain = nn.Parameter(torch.randn(4))
        second = self.second
        self.both = lambda x: second(torch.tanh(self.first(x)))
        self.scaled = functools.partial(self.times, gain=self.gain)
        self.later = lambda x, layer=self.first: layer(x)
        self.steps = [(self.first, 2), (self.method, 1)]
        self.table = {"second": self.second, "twice": self.method}

    @staticmethod
    def times(x, gain):
        return x * gain

    def method(self, x):
        return self.second(x) * 2

    def forward(self, x):
        x = self.later(self.scaled(self.both(x)))
        for layer, times in self.steps:
            for _ in range(times):
                x = layer(x)
        return self.table["twice"](x) + self.table["second"](x)


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).transpose(-1, -2)


class Gained(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.k = k
        self.s = nn.Parameter(torch.rand(1))

    def forward(self, x):
        return x * self.k * self.s


class Parametrized(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 4))
        self.lin = nn.Linear(4, 4)
        parametrize.register_parametrization(self, "w", Symmetric())
        parametrize.register_parametrization(self.lin, "weight", Symmetric())
        parametrize.register_parametrization(self.lin, "weight", Gained(2.0))
        parametrize.register_parametrization(self.lin, "bias", Gained(3.0))

    def forward(self, x):
        with parametrize.cached():
            return self.lin(x @ self.w) + self.lin.weight.sum() + self.w.T


def pruned():
    return prune.random_structured(prune.l1_unstructured(nn.Linear(4, 4), "weight", 5), "weight", 1, 0)


def hooked():
    return nn.utils.weight_norm(nn.utils.spectral_norm(nn.Linear(4, 4)), "bias", None)


def normalized():
    first = parametrizations.weight_norm(nn.Linear(4, 4))
    return nn.Sequential(
        first,
        parametrizations.spectral_norm(nn.Linear(4, 4)),
        parametrizations.orthogonal(nn.Linear(4, 4)),
        parametrizations.orthogonal(nn.Linear(4, 4), orthogonal_map="cayley", use_trivialization=False),
        parametrizations.weight_norm(nn.Linear(4, 4), dim=None),
        first,
    )


def square():
    return (torch.randn(4, 4),)


MODELS = [
    *(Model(kind.__name__.lower(), kind, images(size=8)) for kind in (Lambdas, Tied, Ema, Alias, Recurrent, Dicts)),
    *(Model(kind.__name__.lower(), kind, images(size=8)) for kind in (NoneList, Tables, Drop)),
    *(Model(make.__name__.lower(), make, square) for make in (Closures, Parametrized, pruned, hooked, normalized)),
]
