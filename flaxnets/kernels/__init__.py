"""Forms of the layers' computations that are faster than the plain ones, chosen by :func:`use` and by shape."""

from flaxnets.kernels.choice import Kind as Kind
from flaxnets.kernels.choice import batch_norm_form as batch_norm_form
from flaxnets.kernels.choice import choose as choose
from flaxnets.kernels.choice import convolution_form as convolution_form
from flaxnets.kernels.choice import default_max_pool_form as default_max_pool_form
from flaxnets.kernels.choice import has_channels_last as has_channels_last
from flaxnets.kernels.choice import linear_form as linear_form
from flaxnets.kernels.choice import lstm_form as lstm_form
from flaxnets.kernels.choice import max_pool_form as max_pool_form
from flaxnets.kernels.choice import product_form as product_form
from flaxnets.kernels.choice import recurrence_form as recurrence_form
from flaxnets.kernels.choice import samples_channels_last as samples_channels_last
from flaxnets.kernels.choice import sigmoid_form as sigmoid_form
from flaxnets.kernels.choice import small_programs as small_programs
from flaxnets.kernels.choice import softmax_form as softmax_form
from flaxnets.kernels.choice import sum_form as sum_form
from flaxnets.kernels.choice import sum_pool_form as sum_pool_form
from flaxnets.kernels.choice import use as use
from flaxnets.kernels.convolution_nd import add_bias as add_bias
from flaxnets.kernels.onednn import has_bfloat16 as has_bfloat16
from flaxnets.kernels.reductions import over_last_axis as over_last_axis
