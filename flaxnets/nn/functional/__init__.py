"""``torch.nn.functional`` as plain functions of JAX arrays."""

from flaxnets.nn.functional.activation import relu as relu
from flaxnets.nn.functional.activation import sigmoid as sigmoid
from flaxnets.nn.functional.conv import conv2d as conv2d
from flaxnets.nn.functional.dropout import dropout as dropout
from flaxnets.nn.functional.linear import linear as linear
from flaxnets.nn.functional.normalization import batch_norm as batch_norm
from flaxnets.nn.functional.pooling import adaptive_avg_pool2d as adaptive_avg_pool2d
from flaxnets.nn.functional.pooling import avg_pool2d as avg_pool2d
from flaxnets.nn.functional.pooling import max_pool2d as max_pool2d
