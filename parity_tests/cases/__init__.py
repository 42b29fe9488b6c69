"""The tables that the tests run over: one row for every network, layer and function.

A public class or function without a row is a failure of test_coverage.py.
"""

from cases import (
    activation,
    containers,
    convolution,
    dropout,
    lazy,
    linear,
    losses,
    normalization,
    padding,
    pooling,
    recurrent,
    transformer,
    vision,
)
from cases.common import Function as Function
from cases.common import Layer as Layer
from cases.common import Rejected as Rejected
from cases.common import Sweep as Sweep
from cases.networks import NETWORKS as NETWORKS
from cases.networks import VARIANTS as VARIANTS
from cases.networks import Network as Network

FAMILIES = (
    activation,
    containers,
    convolution,
    dropout,
    lazy,
    linear,
    losses,
    normalization,
    padding,
    pooling,
    recurrent,
    transformer,
    vision,
)
LAYERS = [case for family in FAMILIES for case in family.LAYERS]
FUNCTIONS = [case for family in FAMILIES for case in family.FUNCTIONS]
SWEEPS = [sweep for family in FAMILIES for sweep in family.SWEEPS]
REJECTED = [row for family in FAMILIES for row in family.REJECTED]

# Public classes that no table of parity can hold, each with the reason.
WITHOUT_PARITY = {
    "Buffer": "a kind of variable, no layer; test_state.py holds it against register_buffer",
    "Container": "an empty base, deprecated in torch; test_containers.py",
    "LinearCrossEntropyOptions": "the options of LinearCrossEntropyLoss, whose rows give them",
    "ModuleDict": "computes nothing; test_containers.py",
    "ModuleList": "computes nothing; test_containers.py",
    "Parameter": "a kind of variable, no layer; test_containers.py",
    "ParameterDict": "computes nothing; the network dict_dense holds one",
    "ParameterList": "computes nothing; the network list_dense holds one",
    "Module": "abstract; test_state.py holds it against torch.nn.Module",
    "RNNBase": "the base of RNN, GRU and LSTM, whose rows run it",
    "RNNCellBase": "the base of the cells, whose rows run it",
    "UninitializedBuffer": "a kind of variable, no layer; test_lazy.py",
    "UninitializedParameter": "a kind of variable, no layer; test_lazy.py",
}

# Public classes of torch.nn that are not here, each with the reason.
NOT_IN_FLAXNETS: dict[str, str] = {}

# The same of torch.nn.functional; in-place forms, whose names end in an underscore, are never here.
FUNCTIONS_NOT_IN_FLAXNETS = {
    "assert_int_or_pair": "checks arguments inside torch",
    "boolean_dispatch": "chooses between functions inside torch",
    "grouped_mm": "a matrix product for GPUs alone, refused on CPU",
    "handle_torch_function": "serves subclasses of torch.Tensor",
    "has_torch_function": "the same",
    "has_torch_function_unary": "the same",
    "has_torch_function_variadic": "the same",
    "scaled_grouped_mm": "8-bit floating-point products of special GPUs",
    "scaled_mm": "the same",
}

# Functions that something of another name calls.
REACHED_BY = {
    "fractional_max_pool2d_with_indices": "FractionalMaxPool2d with return_indices",
    "fractional_max_pool3d_with_indices": "FractionalMaxPool3d with return_indices",
    "gumbel_softmax": "test_activations.py: torch draws its noise inside",
}
