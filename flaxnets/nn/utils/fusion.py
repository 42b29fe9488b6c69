"""Fusion of a batch normalisation in evaluation mode into the weights of the layer before it."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxnets.nn._arguments import along
from flaxnets.nn.parameter import Parameter

L = TypeVar("L", bound=nnx.Module)
Vector = Float[Array, " features"]


def _fused(
    weight: jax.Array,
    bias: jax.Array | None,
    axis: int,
    mean: jax.Array,
    var: jax.Array,
    eps: float,
    scale: jax.Array | None,
    shift: jax.Array | None,
) -> tuple[nnx.Param, nnx.Param]:
    bias_dtype = weight.dtype if bias is None else bias.dtype
    factor = jax.lax.rsqrt(var + jnp.asarray(eps, var.dtype)) * (1 if scale is None else scale)
    shifted = (-mean if bias is None else bias - mean) * factor + (0 if shift is None else shift)
    return (
        nnx.Param((weight * along(factor, axis, weight.ndim)).astype(weight.dtype)),
        nnx.Param(shifted.astype(bias_dtype)),
    )


def fuse_conv_bn_weights(
    conv_w: Float[Array, "..."],
    conv_b: Vector | None,
    bn_rm: Vector,
    bn_rv: Vector,
    bn_eps: float,
    bn_w: Vector | None,
    bn_b: Vector | None,
    transpose: bool = False,
) -> tuple[nnx.Param, nnx.Param]:
    """Return the weight and bias of one convolution equal to a convolution followed by a batch normalisation.

    Args:
        conv_w: weight of the convolution.
        conv_b: bias of the convolution.
        bn_rm: running mean.
        bn_rv: running variance.
        bn_eps: number added to the running variance.
        bn_w: weight of the normalisation.
        bn_b: bias of the normalisation.
        transpose: whether the convolution is transposed, with the weight ``(in, out, *kernel)``.

    See `torch.nn.utils.fuse_conv_bn_weights
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.fuse_conv_bn_weights.html>`_.

    >>> one = jnp.ones(1)
    >>> weight, bias = fuse_conv_bn_weights(jnp.ones((1, 1, 3)), None, one, 4 * one, 0.0, 6 * one, one)
    >>> weight[...].tolist(), bias[...].tolist()
    ([[[3.0, 3.0, 3.0]]], [-2.0])
    """
    return _fused(conv_w, conv_b, 1 if transpose else 0, bn_rm, bn_rv, bn_eps, bn_w, bn_b)


def fuse_linear_bn_weights(
    linear_w: Float[Array, "out in"],
    linear_b: Vector | None,
    bn_rm: Vector,
    bn_rv: Vector,
    bn_eps: float,
    bn_w: Vector | None,
    bn_b: Vector | None,
) -> tuple[nnx.Param, nnx.Param]:
    """Return the weight and bias of one linear layer, as :func:`fuse_conv_bn_weights` does for convolutions.

    See `torch.nn.utils.fuse_linear_bn_weights
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.fuse_linear_bn_weights.html>`_.

    >>> one = jnp.ones(1)
    >>> weight, bias = fuse_linear_bn_weights(jnp.ones((1, 2)), one, one, 4 * one, 0.0, 6 * one, one)
    >>> weight[...].tolist(), bias[...].tolist()
    ([[3.0, 3.0]], [1.0])
    """
    return _fused(linear_w, linear_b, 0, bn_rm, bn_rv, bn_eps, bn_w, bn_b)


def _statistics(layer: Any, bn: Any) -> tuple[Any, Any, Any, Any, Any]:
    if layer.training or bn.training:
        raise AssertionError(
            f"only layers in evaluation mode can be fused, got training={layer.training} and training={bn.training}"
        )
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError(f"only a normalisation with running statistics can be fused, got {bn.running_mean=}")
    weight, bias = (None if parameter is None else parameter[...] for parameter in (bn.weight, bn.bias))
    return bn.running_mean[...], bn.running_var[...], bn.eps, weight, bias


def _freeze_as(fused: Any, layer: Any) -> None:
    """Freeze the parameters that are frozen in the layer; as in torch, this includes a bias that the layer lacks."""
    for name in ("weight", "bias"):
        parameter = vars(fused).get(name)
        if isinstance(parameter, Parameter):
            parameter.requires_grad = getattr(getattr(layer, name), "requires_grad", False)


def fuse_conv_bn_eval(conv: L, bn: nnx.Module, transpose: bool = False) -> L:
    """Return a new convolution equal to ``conv`` followed by ``bn``.

    Args:
        conv: a convolution, in evaluation mode.
        bn: a batch normalisation with running statistics, in evaluation mode.
        transpose: whether the convolution is transposed.

    Raises:
        AssertionError: in training mode, or without running statistics.

    See `torch.nn.utils.fuse_conv_bn_eval
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.fuse_conv_bn_eval.html>`_.

    >>> from flaxnets import nn
    >>> conv = nn.Conv2d(1, 2, 3, rngs=nnx.Rngs(0)).eval()
    >>> fuse_conv_bn_eval(conv, nn.BatchNorm2d(2).eval())(jnp.ones((1, 1, 3, 3))).shape
    (1, 2, 1, 1)
    """
    statistics = _statistics(conv, bn)
    fused: Any = nnx.clone(conv)
    bias = None if fused.bias is None else fused.bias[...]
    fused.weight, fused.bias = fuse_conv_bn_weights(fused.weight[...], bias, *statistics, transpose)
    _freeze_as(fused, conv)
    return fused


def fuse_linear_bn_eval(linear: L, bn: nnx.Module) -> L:
    """Return a new linear layer equal to ``linear`` followed by ``bn``.

    Args:
        linear: a linear layer, in evaluation mode.
        bn: a batch normalisation with running statistics, in evaluation mode. It has one feature or as many features as
            the layer.

    Raises:
        AssertionError: in training mode, without running statistics, or for a different number of features.

    See `torch.nn.utils.fuse_linear_bn_eval
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.fuse_linear_bn_eval.html>`_.

    >>> from flaxnets import nn
    >>> linear = nn.Linear(3, 2, rngs=nnx.Rngs(0)).eval()
    >>> fuse_linear_bn_eval(linear, nn.BatchNorm1d(2).eval())(jnp.ones((4, 3))).shape
    (4, 2)
    """
    statistics = _statistics(linear, bn)
    fused: Any = nnx.clone(linear)
    features = len(statistics[0])
    if features not in (fused.out_features, 1):
        raise AssertionError(
            f"the normalisation must have {fused.out_features} features, like the layer, or 1, got {features}"
        )
    bias = None if fused.bias is None else fused.bias[...]
    fused.weight, fused.bias = fuse_linear_bn_weights(fused.weight[...], bias, *statistics)
    _freeze_as(fused, linear)
    return fused
