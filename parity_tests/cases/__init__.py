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

# Public names of torch.nn.utils that cannot exist in JAX: here they can be called, and say why not. test_utils_calls.py
# calls each of them.
UTILS_REFUSED = {
    "clip_grad_norm_": "gradients are values, which nothing can change in place",
    "clip_grad_value_": "the same",
    "clip_grads_with_norm_": "the same",
    "rnn.PackedSequence": "XLA compiles for arrays of fixed shapes",
    "rnn.pack_padded_sequence": "the same",
    "rnn.pack_sequence": "the same",
    "rnn.pad_packed_sequence": "the same",
    "rnn.unpack_sequence": "the same",
}

# Every other public name of torch.nn.utils and of flaxnets.nn.utils, and the file of the tests that hold it.
_OF_FILES = {
    "test_utils.py": """
        clip_grad_norm clip_grad_value clip_grads_with_norm get_total_norm parameters_to_vector vector_to_parameters
        fuse_conv_bn_eval fuse_conv_bn_weights fuse_linear_bn_eval fuse_linear_bn_weights
        is_parametrized register_parametrization remove_parametrizations
        parametrizations.spectral_norm parametrizations.weight_norm parametrize.ParametrizationList
        parametrize.is_parametrized parametrize.register_parametrization parametrize.remove_parametrizations
        parametrize.type_before_parametrizations
    """,
    "test_computed_weights.py": """
        spectral_norm weight_norm remove_spectral_norm remove_weight_norm parametrizations.orthogonal
        parametrize.cached parametrize.transfer_parametrizations_and_params
        prune.BasePruningMethod prune.PruningContainer prune.Identity prune.RandomUnstructured prune.L1Unstructured
        prune.RandomStructured prune.LnStructured prune.CustomFromMask prune.identity prune.random_unstructured
        prune.l1_unstructured prune.random_structured prune.ln_structured prune.global_unstructured
        prune.custom_from_mask prune.remove prune.is_pruned
    """,
    "test_utils_calls.py": """
        rnn.pad_sequence rnn.unpad_sequence rnn.invert_permutation stateless.functional_call skip_init
        convert_conv2d_weight_memory_format convert_conv3d_weight_memory_format
    """,
    "test_loading.py": "consume_prefix_in_state_dict_if_present",
}
UTILS = {name: file for file, names in _OF_FILES.items() for name in names.split()}
