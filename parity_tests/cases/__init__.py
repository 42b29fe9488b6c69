"""The tables of test cases: rows for every network, layer and function.

test_coverage.py fails for a public class or function without a row.
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

# Public classes that cannot have a row in the tables of parity, each with the reason.
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

# Public classes of torch.nn that flaxnets does not have, each with the reason.
NOT_IN_FLAXNETS: dict[str, str] = {}

# Functions of torch.nn.functional that flaxnets does not have. In-place variants (name_) are never included.
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

# Functions that are tested by a class or test with another name.
REACHED_BY = {
    "fractional_max_pool2d_with_indices": "FractionalMaxPool2d with return_indices",
    "fractional_max_pool3d_with_indices": "FractionalMaxPool3d with return_indices",
    "gumbel_softmax": "test_activations.py: torch draws its noise inside",
}

# Public names of torch.nn.utils that cannot exist in JAX. In flaxnets they raise an error that says why.
# test_utils_calls.py calls each of them.
UTILS_REFUSED = {
    "clip_grad_norm_": "gradients are values, which nothing can change in place",
    "clip_grad_value_": "the same",
    "clip_grads_with_norm_": "the same",
    "rnn.PackedSequence": "XLA compiles for arrays of fixed shapes",
}

# All other public names of torch.nn.utils and flaxnets.nn.utils, by the test that compares them with torch.
_OF_TESTS = {
    "test_utils.py::test_clipped_gradients_and_their_norm_are_torchs": """
        clip_grad_norm clip_grads_with_norm get_total_norm
    """,
    "test_utils.py::test_gradients_clipped_by_value_are_torchs": "clip_grad_value",
    "test_utils.py::test_parameters_become_a_vector_and_come_back": "parameters_to_vector vector_to_parameters",
    "test_utils.py::test_fused_layers_are_torchs_and_do_what_the_two_did": """
        fuse_conv_bn_eval fuse_conv_bn_weights fuse_linear_bn_eval fuse_linear_bn_weights
    """,
    "test_utils.py::test_parametrizations_of_the_users_own": """
        register_parametrization parametrize.register_parametrization parametrize.ParametrizationList
    """,
    "test_utils.py::test_parametrised_layers_pass_through_what_nnx_does": """
        is_parametrized parametrize.is_parametrized parametrize.type_before_parametrizations
    """,
    "test_utils_calls.py::test_packed_sequences_come_back_as_from_torch": """
        rnn.pack_padded_sequence rnn.pack_sequence rnn.pad_packed_sequence rnn.unpack_sequence
    """,
    "test_utils_calls.py::test_recurrent_layers_take_sequences_of_several_lengths": "rnn.PaddedSequence",
    "test_utils.py::test_removing_leaves_what_torch_leaves": """
        remove_parametrizations parametrize.remove_parametrizations
    """,
    "test_utils.py::test_normalised_weights_have_torchs_names_outputs_gradients_and_buffers": """
        parametrizations.spectral_norm parametrizations.weight_norm
    """,
    "test_computed_weights.py::test_older_norms_have_torchs_names_outputs_gradients_and_buffers": """
        spectral_norm weight_norm
    """,
    "test_computed_weights.py::test_removing_an_older_norm_leaves_what_torch_leaves": """
        remove_spectral_norm remove_weight_norm
    """,
    "test_computed_weights.py::test_orthogonal_weights_are_torchs_with_their_gradients": "parametrizations.orthogonal",
    "test_computed_weights.py::test_cached_parametrisations_are_computed_once": "parametrize.cached",
    "test_computed_weights.py::test_parametrisations_are_transferred_as_in_torch": """
        parametrize.transfer_parametrizations_and_params
    """,
    "test_computed_weights.py::test_pruned_layers_have_torchs_masks_names_outputs_and_gradients": """
        prune.identity prune.Identity prune.l1_unstructured prune.L1Unstructured prune.ln_structured prune.LnStructured
        prune.custom_from_mask prune.CustomFromMask prune.remove prune.is_pruned
    """,
    "test_computed_weights.py::test_pruning_at_random_prunes_as_many": """
        prune.random_unstructured prune.RandomUnstructured prune.random_structured prune.RandomStructured
    """,
    "test_computed_weights.py::test_pruning_several_layers_at_once_is_torchs": "prune.global_unstructured",
    "test_computed_weights.py::test_a_users_own_method_and_a_container_prune_as_in_torch": """
        prune.BasePruningMethod prune.PruningContainer
    """,
    "test_utils_calls.py::test_padded_sequences_are_torchs_with_their_gradients": "rnn.pad_sequence",
    "test_utils_calls.py::test_unpadded_sequences_are_torchs": "rnn.unpad_sequence",
    "test_utils_calls.py::test_permutations_are_inverted_as_by_torch": "rnn.invert_permutation",
    "test_utils_calls.py::test_calls_with_other_arrays_are_torchs": "stateless.functional_call",
    "test_utils_calls.py::test_modules_without_initial_values_take_state_dicts_as_others_do": "skip_init",
    "test_utils_calls.py::test_memory_formats_change_no_value": """
        convert_conv2d_weight_memory_format convert_conv3d_weight_memory_format
    """,
    "test_loading.py::test_prefixes_are_consumed_as_by_torch": "consume_prefix_in_state_dict_if_present",
}
UTILS = {name: test for test, names in _OF_TESTS.items() for name in names.split()}
