"""``torch.nn.functional`` as plain functions of JAX arrays.

``inplace=`` is accepted where torch accepts it, without effect: the result is always a new array.
"""

from flaxnets.autocast import FLOAT32 as _FLOAT32
from flaxnets.autocast import in_float32 as _in_float32
from flaxnets.nn.functional.activation import gelu as gelu
from flaxnets.nn.functional.activation import glu as glu
from flaxnets.nn.functional.activation import logsigmoid as logsigmoid
from flaxnets.nn.functional.activation import mish as mish
from flaxnets.nn.functional.activation import sigmoid as sigmoid
from flaxnets.nn.functional.activation import silu as silu
from flaxnets.nn.functional.activation import softplus as softplus
from flaxnets.nn.functional.activation import softsign as softsign
from flaxnets.nn.functional.activation import tanh as tanh
from flaxnets.nn.functional.activation import tanhshrink as tanhshrink
from flaxnets.nn.functional.adaptive_pooling import adaptive_avg_pool1d as adaptive_avg_pool1d
from flaxnets.nn.functional.adaptive_pooling import adaptive_avg_pool2d as adaptive_avg_pool2d
from flaxnets.nn.functional.adaptive_pooling import adaptive_avg_pool3d as adaptive_avg_pool3d
from flaxnets.nn.functional.adaptive_pooling import adaptive_max_pool1d as adaptive_max_pool1d
from flaxnets.nn.functional.adaptive_pooling import adaptive_max_pool1d_with_indices as adaptive_max_pool1d_with_indices
from flaxnets.nn.functional.adaptive_pooling import adaptive_max_pool2d as adaptive_max_pool2d
from flaxnets.nn.functional.adaptive_pooling import adaptive_max_pool2d_with_indices as adaptive_max_pool2d_with_indices
from flaxnets.nn.functional.adaptive_pooling import adaptive_max_pool3d as adaptive_max_pool3d
from flaxnets.nn.functional.adaptive_pooling import adaptive_max_pool3d_with_indices as adaptive_max_pool3d_with_indices
from flaxnets.nn.functional.attention import scaled_dot_product_attention as scaled_dot_product_attention
from flaxnets.nn.functional.conv import conv1d as conv1d
from flaxnets.nn.functional.conv import conv2d as conv2d
from flaxnets.nn.functional.conv import conv3d as conv3d
from flaxnets.nn.functional.conv import conv_tbc as conv_tbc
from flaxnets.nn.functional.conv_transpose import conv_transpose1d as conv_transpose1d
from flaxnets.nn.functional.conv_transpose import conv_transpose2d as conv_transpose2d
from flaxnets.nn.functional.conv_transpose import conv_transpose3d as conv_transpose3d
from flaxnets.nn.functional.distance import cosine_similarity as cosine_similarity
from flaxnets.nn.functional.distance import normalize as normalize
from flaxnets.nn.functional.distance import pairwise_distance as pairwise_distance
from flaxnets.nn.functional.distance import pdist as pdist
from flaxnets.nn.functional.dropout import alpha_dropout as alpha_dropout
from flaxnets.nn.functional.dropout import dropout as dropout
from flaxnets.nn.functional.dropout import dropout1d as dropout1d
from flaxnets.nn.functional.dropout import dropout2d as dropout2d
from flaxnets.nn.functional.dropout import dropout3d as dropout3d
from flaxnets.nn.functional.dropout import feature_alpha_dropout as feature_alpha_dropout
from flaxnets.nn.functional.embedding import embedding as embedding
from flaxnets.nn.functional.embedding import one_hot as one_hot
from flaxnets.nn.functional.embedding_bag import embedding_bag as embedding_bag
from flaxnets.nn.functional.fold import fold as fold
from flaxnets.nn.functional.fold import unfold as unfold
from flaxnets.nn.functional.fractional_pooling import fractional_max_pool2d as fractional_max_pool2d
from flaxnets.nn.functional.fractional_pooling import (
    fractional_max_pool2d_with_indices as fractional_max_pool2d_with_indices,
)
from flaxnets.nn.functional.fractional_pooling import fractional_max_pool3d as fractional_max_pool3d
from flaxnets.nn.functional.fractional_pooling import (
    fractional_max_pool3d_with_indices as fractional_max_pool3d_with_indices,
)
from flaxnets.nn.functional.grid import affine_grid as affine_grid
from flaxnets.nn.functional.grid import grid_sample as grid_sample
from flaxnets.nn.functional.hard_activation import hardshrink as hardshrink
from flaxnets.nn.functional.hard_activation import hardsigmoid as hardsigmoid
from flaxnets.nn.functional.hard_activation import hardswish as hardswish
from flaxnets.nn.functional.hard_activation import hardtanh as hardtanh
from flaxnets.nn.functional.hard_activation import relu6 as relu6
from flaxnets.nn.functional.hard_activation import softshrink as softshrink
from flaxnets.nn.functional.interpolate import interpolate as interpolate
from flaxnets.nn.functional.interpolate import upsample as upsample
from flaxnets.nn.functional.interpolate import upsample_bilinear as upsample_bilinear
from flaxnets.nn.functional.interpolate import upsample_nearest as upsample_nearest
from flaxnets.nn.functional.layer_norm import group_norm as group_norm
from flaxnets.nn.functional.layer_norm import layer_norm as layer_norm
from flaxnets.nn.functional.layer_norm import rms_norm as rms_norm
from flaxnets.nn.functional.linear import bilinear as bilinear
from flaxnets.nn.functional.linear import linear as linear
from flaxnets.nn.functional.losses.binary import binary_cross_entropy as binary_cross_entropy
from flaxnets.nn.functional.losses.binary import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from flaxnets.nn.functional.losses.binary import multilabel_soft_margin_loss as multilabel_soft_margin_loss
from flaxnets.nn.functional.losses.binary import soft_margin_loss as soft_margin_loss
from flaxnets.nn.functional.losses.classification import cross_entropy as cross_entropy
from flaxnets.nn.functional.losses.classification import nll_loss as nll_loss
from flaxnets.nn.functional.losses.ctc import ctc_loss as ctc_loss
from flaxnets.nn.functional.losses.embedding import cosine_embedding_loss as cosine_embedding_loss
from flaxnets.nn.functional.losses.embedding import triplet_margin_loss as triplet_margin_loss
from flaxnets.nn.functional.losses.embedding import (
    triplet_margin_with_distance_loss as triplet_margin_with_distance_loss,
)
from flaxnets.nn.functional.losses.likelihood import gaussian_nll_loss as gaussian_nll_loss
from flaxnets.nn.functional.losses.likelihood import kl_div as kl_div
from flaxnets.nn.functional.losses.likelihood import poisson_nll_loss as poisson_nll_loss
from flaxnets.nn.functional.losses.linear import linear_cross_entropy as linear_cross_entropy
from flaxnets.nn.functional.losses.margin import hinge_embedding_loss as hinge_embedding_loss
from flaxnets.nn.functional.losses.margin import margin_ranking_loss as margin_ranking_loss
from flaxnets.nn.functional.losses.margin import multi_margin_loss as multi_margin_loss
from flaxnets.nn.functional.losses.margin import multilabel_margin_loss as multilabel_margin_loss
from flaxnets.nn.functional.losses.regression import huber_loss as huber_loss
from flaxnets.nn.functional.losses.regression import l1_loss as l1_loss
from flaxnets.nn.functional.losses.regression import mse_loss as mse_loss
from flaxnets.nn.functional.losses.regression import smooth_l1_loss as smooth_l1_loss
from flaxnets.nn.functional.lp_pooling import lp_pool1d as lp_pool1d
from flaxnets.nn.functional.lp_pooling import lp_pool2d as lp_pool2d
from flaxnets.nn.functional.lp_pooling import lp_pool3d as lp_pool3d
from flaxnets.nn.functional.multi_head_attention import multi_head_attention_forward as multi_head_attention_forward
from flaxnets.nn.functional.normalization import batch_norm as batch_norm
from flaxnets.nn.functional.normalization import instance_norm as instance_norm
from flaxnets.nn.functional.padding import pad as pad
from flaxnets.nn.functional.pooling import avg_pool1d as avg_pool1d
from flaxnets.nn.functional.pooling import avg_pool2d as avg_pool2d
from flaxnets.nn.functional.pooling import avg_pool3d as avg_pool3d
from flaxnets.nn.functional.pooling import max_pool1d as max_pool1d
from flaxnets.nn.functional.pooling import max_pool1d_with_indices as max_pool1d_with_indices
from flaxnets.nn.functional.pooling import max_pool2d as max_pool2d
from flaxnets.nn.functional.pooling import max_pool2d_with_indices as max_pool2d_with_indices
from flaxnets.nn.functional.pooling import max_pool3d as max_pool3d
from flaxnets.nn.functional.pooling import max_pool3d_with_indices as max_pool3d_with_indices
from flaxnets.nn.functional.rectifier import celu as celu
from flaxnets.nn.functional.rectifier import elu as elu
from flaxnets.nn.functional.rectifier import leaky_relu as leaky_relu
from flaxnets.nn.functional.rectifier import prelu as prelu
from flaxnets.nn.functional.rectifier import relu as relu
from flaxnets.nn.functional.rectifier import rrelu as rrelu
from flaxnets.nn.functional.rectifier import selu as selu
from flaxnets.nn.functional.rectifier import threshold as threshold
from flaxnets.nn.functional.response import local_response_norm as local_response_norm
from flaxnets.nn.functional.softmax import gumbel_softmax as gumbel_softmax
from flaxnets.nn.functional.softmax import log_softmax as log_softmax
from flaxnets.nn.functional.softmax import softmax as softmax
from flaxnets.nn.functional.softmax import softmin as softmin
from flaxnets.nn.functional.unpooling import max_unpool1d as max_unpool1d
from flaxnets.nn.functional.unpooling import max_unpool2d as max_unpool2d
from flaxnets.nn.functional.unpooling import max_unpool3d as max_unpool3d
from flaxnets.nn.functional.vision import channel_shuffle as channel_shuffle
from flaxnets.nn.functional.vision import native_channel_shuffle as native_channel_shuffle
from flaxnets.nn.functional.vision import pixel_shuffle as pixel_shuffle
from flaxnets.nn.functional.vision import pixel_unshuffle as pixel_unshuffle

# Layers call these functions, too, so one list defines the operations that autocast computes in float32.
for _name in _FLOAT32:
    globals()[_name] = _in_float32(globals()[_name])


def __getattr__(name: str) -> None:
    function = name.removesuffix("_")
    if function in globals() and not name.startswith("_"):
        raise AttributeError(
            f"flaxnets.nn.functional.{name}: JAX arrays are immutable. Fix: x = F.{function}(x, ...)", name=name
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
