"""Implementations of layers for each backend, chosen by :func:`use` and by shape."""

from flaxnets.kernels.choice import Backend as Backend
from flaxnets.kernels.choice import batch_norm_implementation as batch_norm_implementation
from flaxnets.kernels.choice import choose as choose
from flaxnets.kernels.choice import convolution_implementation as convolution_implementation
from flaxnets.kernels.choice import default_max_pool_implementation as default_max_pool_implementation
from flaxnets.kernels.choice import has_channels_last as has_channels_last
from flaxnets.kernels.choice import linear_implementation as linear_implementation
from flaxnets.kernels.choice import lstm_implementation as lstm_implementation
from flaxnets.kernels.choice import max_pool_implementation as max_pool_implementation
from flaxnets.kernels.choice import product_implementation as product_implementation
from flaxnets.kernels.choice import recurrence_implementation as recurrence_implementation
from flaxnets.kernels.choice import samples_channels_last as samples_channels_last
from flaxnets.kernels.choice import sigmoid_implementation as sigmoid_implementation
from flaxnets.kernels.choice import small_programs as small_programs
from flaxnets.kernels.choice import softmax_implementation as softmax_implementation
from flaxnets.kernels.choice import sum_implementation as sum_implementation
from flaxnets.kernels.choice import sum_pool_implementation as sum_pool_implementation
from flaxnets.kernels.choice import use as use
from flaxnets.kernels.convolution_nd import add_bias as add_bias
from flaxnets.kernels.onednn import has_bfloat16 as has_bfloat16
from flaxnets.kernels.reductions import over_last_axis as over_last_axis
