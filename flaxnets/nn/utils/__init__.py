"""``torch.nn.utils``: parametrised and pruned weights, gradient clipping, padded sequences, fused normalisation."""

from flaxnets.nn.utils import parametrizations as parametrizations
from flaxnets.nn.utils import parametrize as parametrize
from flaxnets.nn.utils import prune as prune
from flaxnets.nn.utils import rnn as rnn
from flaxnets.nn.utils import stateless as stateless
from flaxnets.nn.utils.checkpoints import (
    consume_prefix_in_state_dict_if_present as consume_prefix_in_state_dict_if_present,
)
from flaxnets.nn.utils.clip_grad import clip_grad_norm as clip_grad_norm
from flaxnets.nn.utils.clip_grad import clip_grad_norm_ as clip_grad_norm_
from flaxnets.nn.utils.clip_grad import clip_grad_value as clip_grad_value
from flaxnets.nn.utils.clip_grad import clip_grad_value_ as clip_grad_value_
from flaxnets.nn.utils.clip_grad import clip_grads_with_norm as clip_grads_with_norm
from flaxnets.nn.utils.clip_grad import clip_grads_with_norm_ as clip_grads_with_norm_
from flaxnets.nn.utils.clip_grad import get_total_norm as get_total_norm
from flaxnets.nn.utils.convert_parameters import parameters_to_vector as parameters_to_vector
from flaxnets.nn.utils.convert_parameters import vector_to_parameters as vector_to_parameters
from flaxnets.nn.utils.fusion import fuse_conv_bn_eval as fuse_conv_bn_eval
from flaxnets.nn.utils.fusion import fuse_conv_bn_weights as fuse_conv_bn_weights
from flaxnets.nn.utils.fusion import fuse_linear_bn_eval as fuse_linear_bn_eval
from flaxnets.nn.utils.fusion import fuse_linear_bn_weights as fuse_linear_bn_weights
from flaxnets.nn.utils.init import skip_init as skip_init
from flaxnets.nn.utils.memory_format import convert_conv2d_weight_memory_format as convert_conv2d_weight_memory_format
from flaxnets.nn.utils.memory_format import convert_conv3d_weight_memory_format as convert_conv3d_weight_memory_format
from flaxnets.nn.utils.parametrize import is_parametrized as is_parametrized
from flaxnets.nn.utils.parametrize import register_parametrization as register_parametrization
from flaxnets.nn.utils.parametrize import remove_parametrizations as remove_parametrizations
from flaxnets.nn.utils.spectral_norm import remove_spectral_norm as remove_spectral_norm
from flaxnets.nn.utils.spectral_norm import spectral_norm as spectral_norm
from flaxnets.nn.utils.weight_norm import remove_weight_norm as remove_weight_norm
from flaxnets.nn.utils.weight_norm import weight_norm as weight_norm
