"""Small models that are written as those of large model libraries are."""

import abc
import collections
import collections.abc
import dataclasses
import functools

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import PackedSequence

# Outputs with names.


class Renames(type):
    """Wraps the constructor that ``dataclass`` makes, so that an old name is taken, too."""

    def __setattr__(cls, name, value):
        if name == "__init__":
            constructor = value

            @functools.wraps(constructor)
            def value(self, *args, **kwargs):
                if "states" in kwargs:
                    kwargs["hidden"] = kwargs.pop("states")
                constructor(self, *args, **kwargs)

        super().__setattr__(name, value)


KNOWN_OUTPUTS = set()


class Output(collections.OrderedDict, metaclass=Renames):
    def __init_subclass__(cls):
        KNOWN_OUTPUTS.add(cls)

    def __post_init__(self):
        if type(self) not in KNOWN_OUTPUTS:
            raise TypeError("define a subclass")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and framework_of(value) == "torch":
                self[field.name] = value

    def to_tuple(self):
        return tuple(self[key] for key in self)


def framework_of(value):
    text = str(type(value))
    return text.split(".")[0].removeprefix("<class '")


@dataclasses.dataclass
class EncoderOutput(Output):
    last: torch.Tensor | None = None
    hidden: torch.Tensor | None = None


# Decorators that methods and functions share.


def renames_arguments(old, new):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            if old in kwargs:
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return wrapper

    return decorate


@renames_arguments("size", "length")
def causal_mask(length, dtype):
    return torch.full((length, length), torch.finfo(dtype).min, dtype=dtype).triu(1)


def eager(module, q, k, v, mask, dropout=0.0):
    weights = (q @ k.transpose(-2, -1) * module.scale + mask).softmax(-1)
    return F.dropout(weights, dropout, training=module.training) @ v


def fused(module, q, k, v, mask, dropout=0.0):
    options = {"scale": module.scale} if module.scale else {}
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, **options)


class Registry(collections.abc.MutableMapping):
    shared = {"eager": eager, "fused": fused}

    def __init__(self):
        self.own = {}

    def __getitem__(self, key):
        return self.own[key] if key in self.own else self.shared[key]

    def __setitem__(self, key, value):
        self.own[key] = value

    def __delitem__(self, key):
        del self.own[key]

    def __iter__(self):
        return iter({**self.shared, **self.own})

    def __len__(self):
        return len({**self.shared, **self.own})


ATTENTION = Registry()


class Config:
    names = {"attention_kind": "kind"}

    def __init__(self, kind, dropout):
        self.kind, self.dropout = kind, dropout

    def __getattribute__(self, name):
        return super().__getattribute__(super().__getattribute__("names").get(name, name))


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config, self.scale = config, 0.5
        self.qkv = nn.Linear(4, 12)

    @renames_arguments("hidden", "x")
    def forward(self, x, mask):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        run = ATTENTION[self.config.attention_kind]
        return run(self, q, k, v, mask, dropout=self.config.dropout if self.training else 0.0)


class Encoder(nn.Module):
    def __init__(self, kind="eager", dropout=0.0):
        super().__init__()
        self.layers = nn.ModuleList([Attention(Config(kind, dropout)) for _ in range(2)])

    @renames_arguments("inputs", "x")
    def forward(self, x):
        hidden: torch.Tensor = x
        mask = causal_mask(size=len(x), dtype=x.dtype)
        for layer in self.layers:
            hidden = hidden + layer(hidden=hidden, mask=mask)
        return EncoderOutput(last=hidden, states=x * 2)

    def train(self, mode=True):
        return super().train(mode)

    def eval(self):
        return self.train(False)


# Questions about what a value is, and where it is.


def is_proxy(x):
    try:
        import torch.fx

        return isinstance(x, torch.fx.Proxy)
    except ImportError:
        return False


def is_fake(x):
    try:
        return isinstance(x, getattr(torch, "_subclasses").FakeTensor)  # noqa: B009
    except AttributeError:
        return False


def is_capturing():
    try:
        return torch.cuda.is_current_stream_capturing()
    except RuntimeError:
        return False


class AsksWhatThingsAre(nn.Module):
    def forward(self, x):
        if is_proxy(x) or is_fake(x) or is_capturing() or hasattr(x, "wrapped_by_a_tracer"):
            return x
        if isinstance(x, (PackedSequence, torch.Generator)) or torch.compiler.is_compiling():
            return x
        return x + (type(x) is torch.Tensor) + (type(x) == type(x * 2)) + (getattr(x, "weight_of", None) is None)


class DeviceByDefault(nn.Module):
    def positions(self, length, device=None):
        if device is None:
            device = self.missing.device
        return torch.arange(length, device=device)

    def forward(self, x):
        return x + self.positions(x.shape[-1], device=x.device)


class GrowsFromNothing(nn.Module):
    """A cache that begins as an empty vector."""

    def forward(self, x):
        keys = torch.tensor([], dtype=x.dtype)
        for part in x.chunk(2):
            keys = torch.cat([keys, part], dim=-2)
        return keys


class MarksInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Linear(4, 4)

    def forward(self, x):
        hidden = x[:, :]
        if self.training:
            hidden.requires_grad = True
        grid = torch.linspace(0, 1, 4, dtype=x.dtype)
        grid.requires_grad = False
        return self.conv(hidden) + grid


class KeepsBiases(nn.Module):
    """Computes biases once in evaluation mode, for each device."""

    def __init__(self, returns_early):
        super().__init__()
        self.returns_early, self.kept = returns_early, {}
        self.table = nn.Parameter(torch.randn(5, 2))

    def train(self, mode=True):
        super().train(mode)
        if self.kept:
            self.kept = {}

    def biases(self, device, length):
        if self.training:
            return self.table.exp()
        key = str(device)
        if self.returns_early:
            if (key, length) in self.kept:
                return self.kept[key, length]
            table = self.table.exp()
            self.kept[key, length] = table
            return table
        if key not in self.kept:
            self.kept[key] = self.table.exp()
        return self.kept[key]

    def forward(self, x):
        return x[..., None, :2] * self.biases(x.device, x.shape[-1])


class Layer(abc.ABC):
    @abc.abstractmethod
    def update(self, x): ...

    @abc.abstractmethod
    def longest(self): ...


class GrowingLayer(Layer):
    def __init__(self):
        self.values = None

    def update(self, x):
        self.values = x if self.values is None else torch.cat([self.values, x])
        return self.values

    def longest(self):
        return -1


class MakesCaches(nn.Module):
    """Makes an object of a class with abstract methods, of which one is not called."""

    def forward(self, x):
        layer = GrowingLayer()
        layer.update(x)
        return layer.update(x * 2)


class Processor:
    """An object that can be called, draws random numbers, and chooses by what is never installed."""

    def __call__(self, module, x):
        from .common import Model as row

        if module.kind == "fast":
            import flash_kernels_that_nobody_has as kernels

            return kernels.run(x)
        elif torch.jit.is_scripting():
            return x
        elif row is not None:
            return F.dropout(x, 0.5, training=module.training)
        return x


@dataclasses.dataclass
class Pair:
    first: torch.Tensor
    second: torch.Tensor | None = None


class OldPair(Pair):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


class CallsProcessor(nn.Module):
    def __init__(self):
        super().__init__()
        self.processor, self.kind = Processor(), "slow"

    def forward(self, x):
        if torch.jit.isinstance(x, torch.Tensor):
            x = x + 1
        return OldPair(self.processor(self, x), second=x)


class FrozenNorm(nn.BatchNorm1d):
    """A layer that stays in evaluation mode."""

    def train(self, mode=True):
        return super().train(False)


MODELS = {
    "outputs with names, decorators and a registry": Encoder,
    "options of a function as keywords": lambda: Encoder("fused"),
    "decorated methods that draw random numbers": lambda: Encoder("eager", 0.5),
    "options and random numbers": lambda: Encoder("fused", 0.5),
    "questions about what things are": AsksWhatThingsAre,
    "a device that is None by default": DeviceByDefault,
    "an empty vector among others": GrowsFromNothing,
    "inputs that are marked as having gradients": MarksInputs,
    "biases that are computed once": lambda: KeepsBiases(False),
    "biases that are looked up first": lambda: KeepsBiases(True),
    "a cache with abstract methods": MakesCaches,
    "an object that can be called, and imports": CallsProcessor,
    "a layer that overrides train": lambda: nn.Sequential(nn.Linear(4, 4), FrozenNorm(4)),
}
