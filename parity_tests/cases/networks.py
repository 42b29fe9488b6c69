"""Cases of registered networks: one row for each, and rows for other options of them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from flax import nnx

import flaxnets
import torchref
from cases.common import Maker, normal, ties


@dataclasses.dataclass(frozen=True)
class Network:
    """A registered network with options that make it small but keep its depth.

    Attributes:
        name: Name in both registries.
        parameters: Number of parameters with default options.
        options: The options that make the network small.
        inputs: Makes the arguments of a call.
        check: Options of :func:`flaxnets.parity.check`.
        unused: Names of the parameters that a call with these arguments does not use.
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
    """Draw character ids ``(T, N) = (5, 2)``, and the initial state: an array, or a tuple of arrays."""

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

# Other options of networks in the table above, only for parity.
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
