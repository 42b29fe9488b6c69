"""The tables that the tests run over: one row for every network and layer. A public class without one is a failure."""

import dataclasses
import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import torch
from flax import nnx

import flaxnets
import flaxnets.nn as flax_nn
import torchref

Maker = Callable[[np.random.Generator], tuple[Any, ...]]


def normal(*shapes: tuple[int, ...]) -> Maker:
    """Inputs drawn from the normal distribution."""
    return lambda rng: tuple(rng.normal(size=shape) for shape in shapes)


def ties(*shape: int) -> Maker:
    """Small whole numbers: many equal values in a window, and many zeros."""
    return lambda rng: (rng.integers(-2, 3, shape).astype(np.float64),)


@dataclasses.dataclass(frozen=True)
class Network:
    """A registered network in a size that is quick to compute, at full depth.

    Attributes:
        name: in both registries.
        parameters: how many the network has with its defaults.
        options: what makes it small.
        inputs: the arguments of a call.
        check: options of :func:`flaxnets.parity.check`.
        unused: parameters that a call with these arguments does not use.
    """

    name: str
    parameters: int
    inputs: Maker
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    check: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    unused: tuple[str, ...] = ()

    def pair(self) -> tuple[torch.nn.Module, nnx.Module]:
        torch.manual_seed(0)
        return torchref.create_model(self.name, **self.options), flaxnets.create_model(self.name, **self.options)

    def __str__(self) -> str:
        return f"{self.name} of {dict(self.options)}" if self.options else self.name


def text(vocab_size: int, *states: tuple[int, ...]) -> Maker:
    """Ids of characters ``(T, N) = (5, 2)``, and the state before them: an array, or a tuple of arrays."""

    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        ids = rng.integers(0, vocab_size, (5, 2))
        arrays = tuple(rng.normal(size=shape) for shape in states)
        return (ids, *((arrays if len(arrays) > 1 else arrays[0],) if arrays else ()))

    return make


ALEXNET = {"num_channels": (3, 4, 5, 5, 4), "num_hiddens": 12}
VGG = {"conv_arch": ((1, 3), (1, 4), (2, 4), (2, 5), (2, 6)), "fc_features": 6, "num_hiddens": 12}
VGG_NAMED = {
    "conv_arch": ((1, 1, 3), (1, 3, 4), (2, 4, 4), (2, 4, 5), (2, 5, 6)), "fc_features": 6, "fc_hidden_units": 12,
}  # fmt: skip
NIN = {"num_channels": (4, 5, 6)}
SMALL_LM = {"vocab_size": 7, "num_hiddens": 6}

NETWORKS = [
    Network("linear_regression", 3, normal((4, 2))),
    Network("linear_regression_sequential", 3, normal((4, 2))),
    Network("softmax_regression", 7_850, normal((3, 1, 28, 28))),
    Network("softmax_regression_sequential", 7_850, normal((3, 1, 28, 28))),
    Network("mlp", 203_530, normal((3, 1, 28, 28))),
    Network("mlp_dropout", 269_322, normal((3, 1, 28, 28))),
    Network("mlp_named", 203_530, normal((3, 784))),
    Network("mlp_functional", 7_946, normal((3, 20))),
    Network("fancy_mlp", 420, normal((3, 20))),
    Network("shared_linear", 1, normal((3, 1))),
    Network("shared_mlp", 121, normal((3, 4))),
    Network("lenet", 61_706, normal((2, 1, 28, 28))),
    Network("lenet_maxpool", 44_426, normal((2, 1, 28, 28))),
    Network("lenet_relu", 61_706, normal((2, 1, 32, 32))),
    Network("lenet_rgb", 62_006, normal((2, 3, 32, 32))),
    Network("lenet_batchnorm", 44_878, normal((4, 1, 28, 28))),
    Network("lenet_fc_batchnorm", 44_834, normal((4, 1, 28, 28))),
    Network("lenet_batchnorm_scratch", 44_878, normal((4, 1, 28, 28))),
    Network("alexnet", 46_764_746, normal((2, 1, 224, 224)), ALEXNET),
    Network("alexnet_split", 46_764_746, normal((2, 1, 224, 224)), ALEXNET),
    Network("vgg11", 128_806_154, normal((2, 1, 32, 32)), VGG),
    Network("vgg11_named", 128_806_154, normal((2, 1, 32, 32)), VGG_NAMED),
    Network("nin", 1_992_166, normal((2, 1, 96, 96)), NIN),
    Network("nin_avgpool", 1_992_166, normal((2, 1, 224, 224)), NIN),
    Network("googlenet", 5_977_530, normal((2, 1, 64, 64)), {"width_divisor": 8}),
    Network("resnet18", 11_178_378, normal((3, 1, 33, 33)), {"num_channels": (4, 6, 8, 10)}),
    Network("densenet", 758_226, normal((2, 1, 64, 64)), {"num_channels": 8, "growth_rate": 4}),
    Network("rnn_lm", 80_412, text(7), SMALL_LM),
    Network("gru_lm", 226_844, text(7), SMALL_LM),
    Network("lstm_lm", 300_060, text(7), SMALL_LM),
    Network("centered", 0, normal((5,))),
    Network("my_linear", 18, normal((3, 5))),
    Network("list_dense", 52, normal((3, 4))),
    Network("dict_dense", 28, normal((3, 4)), unused=("params.linear2", "params.linear3")),
    Network("corr2d", 3, normal((6, 8))),
    Network("corr2d_multi", 24, normal((2, 3, 3))),
    Network("pool2d", 0, normal((3, 3))),
    Network("naming_cnn", 81_242, normal((2, 3, 5, 5))),
    Network("naming_cnn_parallel", 81_242, normal((2, 3, 5, 5))),
]

# Further forms of networks in the table above, for parity alone.
DEEP_LM = SMALL_LM | {"num_layers": 2, "bidirectional": True, "dropout": 0.4}
VARIANTS = [
    Network("linear_regression", 0, normal((4, 10)), {"n_features": 10}),
    Network("mlp_dropout", 0, normal((3, 1, 28, 28)), {"p1": 0.0, "p2": 0.9}),
    Network("lenet_batchnorm_scratch", 0, normal((4, 1, 28, 28)), {"moving_var_init": 0.0}),
    *(
        Network(f"{kind}_lm", 0, text(7, *[(layers, 2, 6)] * arrays), options)
        for kind, arrays in (("rnn", 1), ("gru", 1), ("lstm", 2))
        for layers, options in ((1, SMALL_LM), (4, DEEP_LM))
    ),
    Network("dict_dense", 0, normal((3, 4)), check={"kwargs": {"choice": "linear3"}}),
    Network("corr2d", 0, normal((7, 7)), {"kernel_size": (3, 2)}),
    Network("corr2d_multi", 0, normal((3, 5, 5)), {"in_channels": 3, "out_channels": 2, "kernel_size": (1, 1)}),
    Network("pool2d", 0, ties(5, 6), {"pool_size": (2, 3)}),
    Network("pool2d", 0, normal((5, 6)), {"pool_size": (3, 2), "mode": "avg"}),
]


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer in one combination of arguments.

    Attributes:
        name: in ``torch.nn`` and in ``flaxnets.nn``.
        inputs: the arguments of a call.
        args: positional arguments of the constructor.
        kwargs: keyword arguments of the constructor.
        build: for containers: makes the module out of either ``nn``, with ``rngs`` for the one that takes it.
    """

    name: str
    inputs: Maker
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    build: Callable[..., Any] | None = None

    def make(self, nn: Any) -> Any:
        rngs = {"rngs": nnx.Rngs(0)} if nn is flax_nn else {}
        if self.build is not None:
            return self.build(nn, **rngs)
        kind = getattr(nn, self.name)
        takes = inspect.signature(kind.__init__).parameters
        return kind(*self.args, **self.kwargs, **{k: v for k, v in rngs.items() if k in takes})

    def pair(self) -> tuple[torch.nn.Module, nnx.Module]:
        torch.manual_seed(0)
        return self.make(torch.nn), self.make(flax_nn)

    def __str__(self) -> str:
        arguments = [*map(repr, self.args), *(f"{k}={v!r}" for k, v in self.kwargs.items())]
        if self.build is not None:
            arguments = [f"form {self.build.__code__.co_firstlineno}"]
        shapes = ["x".join(map(str, np.shape(a))) for a in jax.tree.leaves(self.inputs(np.random.default_rng(0)))]
        return f"{self.name}({', '.join(arguments)}) of {', '.join(shapes)}"


def layers(name: str, *rows: tuple[Any, ...]) -> list[Layer]:
    """Rows of ``(inputs, positional arguments, keyword arguments)`` for one class; the last two may be left out."""
    return [Layer(name, *row) for row in rows]


def _sequential_of_names(nn: Any, **rngs: Any) -> Any:
    return nn.Sequential(OrderedDict(second=nn.Linear(3, 4, **rngs), first=nn.ReLU(), out=nn.Linear(4, 2, **rngs)))


def _sequential_of_twelve(nn: Any, **rngs: Any) -> Any:
    return nn.Sequential(*(nn.Linear(3, 3, **rngs) for _ in range(12)))


def _sequential_sharing(nn: Any, **rngs: Any) -> Any:
    shared = nn.Linear(3, 3, **rngs)
    return nn.Sequential(shared, nn.Sigmoid(), shared, nn.Sequential(shared, nn.ReLU()))


def _with_pair(*shapes: tuple[int, ...]) -> Maker:
    """An input and a pair of states."""

    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        x, h, c = normal(*shapes)(rng)
        return x, (h, c)

    return make


def _data_parallel(nn: Any, **rngs: Any) -> Any:
    return nn.DataParallel(nn.Sequential(nn.Linear(3, 2, **rngs), nn.BatchNorm1d(2)))


IMAGE = normal((2, 3, 7, 9))
LAYERS = [
    *layers(
        "Linear",
        (normal((4, 3)), (3, 5)),
        (normal((3,)), (3, 5)),
        (normal((2, 3, 4, 5)), (5, 1)),
        (normal((4, 3)), (3, 2), {"bias": False}),
        (normal((0, 3)), (3, 2)),
    ),
    *layers(
        "Conv2d",
        (IMAGE, (3, 4, 3)),
        (normal((3, 7, 9)), (3, 4, 3)),
        (IMAGE, (3, 4, (3, 2)), {"stride": (2, 1), "padding": (1, 0)}),
        (IMAGE, (3, 4, 3), {"padding": 2, "dilation": 2, "bias": False}),
        (IMAGE, (3, 6, 3), {"groups": 3}),
        (IMAGE, (3, 4, 1), {"stride": 3}),
        (IMAGE, (3, 4, (4, 3)), {"padding": "same", "dilation": (1, 2)}),
        (IMAGE, (3, 4, 3), {"padding": "valid"}),
        (IMAGE, (3, 4, 3), {"padding": (2, 1), "padding_mode": "reflect"}),
        (IMAGE, (3, 4, 3), {"padding": 1, "padding_mode": "replicate", "stride": 2}),
        (IMAGE, (3, 4, (4, 3)), {"padding": "same", "padding_mode": "circular"}),
        (normal((1, 1, 3, 3)), (1, 1, 3)),
    ),
    *layers(
        "MaxPool2d",
        (IMAGE, (2,)),
        (normal((3, 7, 9)), (3,)),
        (ties(2, 3, 8, 8), (3, 2, 1)),
        (ties(2, 3, 8, 8), (2,)),
        (ties(2, 3, 7, 9), ((3, 2),), {"stride": (2, 1), "padding": (1, 0), "ceil_mode": True}),
        (ties(2, 3, 9, 9), (3, 1), {"dilation": 2, "padding": 1}),
        (ties(2, 3, 7, 7), (3, 2, 1), {"return_indices": True, "ceil_mode": True}),
    ),
    *layers(
        "AvgPool2d",
        (IMAGE, (2,)),
        (normal((3, 7, 9)), (3,)),
        (IMAGE, (3, 2, 1)),
        (IMAGE, (3, 2, 1), {"ceil_mode": True}),
        (IMAGE, (3, 2, 1), {"ceil_mode": True, "count_include_pad": False}),
        (IMAGE, ((3, 2),), {"stride": (1, 3), "divisor_override": 5}),
    ),
    *layers(
        "AdaptiveAvgPool2d",
        (IMAGE, ((1, 1),)),
        (IMAGE, (3,)),
        (IMAGE, ((None, 4),)),
        (IMAGE, ((9, 11),)),
        (normal((3, 6, 9)), ((3, 3),)),
    ),
    *layers(
        "BatchNorm1d",
        (normal((5, 3)), (3,)),
        (normal((5, 3, 4)), (3,)),
        (normal((5, 3)), (3,), {"affine": False, "eps": 1e-3}),
        (normal((5, 3)), (3,), {"track_running_stats": False}),
        (normal((5, 3)), (3,), {"momentum": None}),
    ),
    *layers(
        "BatchNorm2d",
        (IMAGE, (3,)),
        (IMAGE, (3,), {"momentum": 0.3, "bias": False}),
        (IMAGE, (3,), {"momentum": None, "affine": False}),
        (IMAGE, (3, 1e-2), {"track_running_stats": False}),
        (normal((1, 3, 1, 2)), (3,)),
    ),
    *layers(
        "RNN",
        (normal((5, 2, 3)), (3, 4)),
        (
            normal((5, 2, 3), (4, 2, 4)),
            (3, 4, 2),
            {"nonlinearity": "relu", "bidirectional": True, "batch_first": False},
        ),
        (normal((2, 5, 3)), (3, 4, 2), {"batch_first": True, "bias": False, "dropout": 0.5}),
        (normal((5, 3), (1, 4)), (3, 4)),
    ),
    *layers(
        "GRU",
        (normal((5, 2, 3)), (3, 4)),
        (normal((5, 2, 3), (6, 2, 4)), (3, 4, 3), {"bidirectional": True, "dropout": 0.3}),
        (normal((2, 5, 3)), (3, 4, 2), {"batch_first": True, "bias": False}),
        (normal((1, 3), (1, 4)), (3, 4)),
    ),
    *layers(
        "LSTM",
        (normal((5, 2, 3)), (3, 4)),
        (_with_pair((5, 2, 3), (4, 2, 4), (4, 2, 4)), (3, 4, 2), {"bidirectional": True}),
        (_with_pair((2, 5, 3), (4, 2, 2), (4, 2, 4)), (3, 4, 2, True, True, 0.5, True, 2)),
        (_with_pair((5, 3), (2, 4), (2, 4)), (3, 4, 2), {"dropout": 0.2}),
        (normal((5, 2, 3)), (3, 4), {"bias": False, "proj_size": 1}),
    ),
    *layers("Dropout", (normal((4, 5)),), (normal((4, 5)), (0.3,)), (normal((4,)), (0.0,)), (normal((4,)), (1.0,))),
    *layers("Flatten", (IMAGE,), (IMAGE, (0, 2)), (IMAGE, (), {"start_dim": 2}), (normal((3,)), (0,))),
    *layers("ReLU", (ties(4, 5),), (normal((2, 3, 4)),), (normal(()),)),
    *layers("Sigmoid", (normal((4, 5)),), (lambda rng: (np.array([-800.0, -30.0, 0.0, 30.0, 800.0]),),)),
    Layer("DataParallel", normal((5, 3)), build=_data_parallel),
    Layer("Sequential", normal((2, 3)), build=_sequential_of_names),
    Layer("Sequential", normal((2, 3)), build=_sequential_of_twelve),
    Layer("Sequential", normal((2, 3)), build=_sequential_sharing),
    Layer("Sequential", normal((2, 3)), build=lambda nn, **rngs: nn.Sequential()),
]

# Public classes that no table of parity can hold, each with the reason.
WITHOUT_PARITY = {
    "Buffer": "a kind of variable, no layer; test_state.py holds it against register_buffer",
    "ParameterDict": "computes nothing; the network dict_dense holds one",
    "ParameterList": "computes nothing; the network list_dense holds one",
    "Module": "abstract; test_state.py holds it against torch.nn.Module",
}
