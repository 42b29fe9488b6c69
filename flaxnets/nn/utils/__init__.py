"""``torch.nn.utils``: parametrised weights, clipped gradients, parameters as a vector, fused normalisations."""

from flaxnets.nn.utils import parametrizations as parametrizations
from flaxnets.nn.utils import parametrize as parametrize
from flaxnets.nn.utils.checkpoints import (
    consume_prefix_in_state_dict_if_present as consume_prefix_in_state_dict_if_present,
)
from flaxnets.nn.utils.clip_grad import clip_grad_norm as clip_grad_norm
from flaxnets.nn.utils.clip_grad import clip_grad_value as clip_grad_value
from flaxnets.nn.utils.clip_grad import clip_grads_with_norm as clip_grads_with_norm
from flaxnets.nn.utils.clip_grad import get_total_norm as get_total_norm
from flaxnets.nn.utils.convert_parameters import parameters_to_vector as parameters_to_vector
from flaxnets.nn.utils.convert_parameters import vector_to_parameters as vector_to_parameters
from flaxnets.nn.utils.fusion import fuse_conv_bn_eval as fuse_conv_bn_eval
from flaxnets.nn.utils.fusion import fuse_conv_bn_weights as fuse_conv_bn_weights
from flaxnets.nn.utils.fusion import fuse_linear_bn_eval as fuse_linear_bn_eval
from flaxnets.nn.utils.fusion import fuse_linear_bn_weights as fuse_linear_bn_weights
from flaxnets.nn.utils.parametrizations import spectral_norm as spectral_norm
from flaxnets.nn.utils.parametrizations import weight_norm as weight_norm
from flaxnets.nn.utils.parametrize import is_parametrized as is_parametrized
from flaxnets.nn.utils.parametrize import register_parametrization as register_parametrization
from flaxnets.nn.utils.parametrize import remove_parametrizations as remove_parametrizations
