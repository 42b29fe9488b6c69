"""Normalisation of groups of channels, of features, and of each channel by its neighbours."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Inexact

from flaxnets.nn import functional as F
from flaxnets.nn._arguments import check_sizes
from flaxnets.nn.functional.response import cross_map_lrn2d
from flaxnets.nn.module import Module
from flaxnets.nn.parameter import Parameter, redraw, reserved


class GroupNorm(Module):
    """Normalises each group of channels of ``(N, C, ...)`` over its channels and the axes behind them.

    Parameters: ``weight`` (ones) and ``bias`` (zeros), both ``(num_channels,)``, if ``affine``.

    Args:
        num_groups: the number of groups.
        num_channels: the number of channels ``C``.
        eps: added to the variance.
        affine: whether to scale and shift each channel by learned parameters.
        dtype: of the parameters; float32 if not given.
        bias: whether ``affine`` shifts as well as scales.

    Raises:
        ValueError: for groups that do not divide the channels; at the call, for one value in all.
        ZeroDivisionError: for no groups.
        RuntimeError: for a negative number of channels; at the call, for a negative number of groups, and an input of
            fewer than two axes, another number of channels, or another dtype than the parameters' (half precision
            also with float32 ones).
        NotImplementedError: at the call, for an input not of floating-point numbers.

    See `torch.nn.GroupNorm <https://docs.pytorch.org/docs/stable/generated/torch.nn.GroupNorm.html>`_ and
    arXiv:1803.08494.

    >>> GroupNorm(2, 4, eps=1e-9)(jnp.array([[1.0, 3.0, 5.0, 9.0]])).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """

    weight: Parameter | Any
    bias: Parameter | Any

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: DTypeLike = jnp.float32,
        *,
        bias: bool = True,
    ):
        if num_groups == 0:
            raise ZeroDivisionError("GroupNorm: num_groups must be positive, got 0")
        if num_channels % num_groups:
            raise ValueError(f"GroupNorm: num_channels={num_channels} must be divisible by num_groups={num_groups}")
        if affine:
            check_sizes("GroupNorm", num_channels=num_channels)
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self.register_parameter("weight", reserved(num_channels, dtype=dtype) if affine else None)
        self.register_parameter("bias", reserved(num_channels, dtype=dtype) if affine and bias else None)
        self.reset_parameters()

    def reset_parameters(self, *, rngs: nnx.Rngs | None = None) -> None:
        """Set the weight to 1 and the bias to 0; draws nothing."""
        redraw(self, "weight", jnp.ones)
        redraw(self, "bias", jnp.zeros)

    def extra_repr(self) -> str:
        """Return the arguments."""
        options = f"eps={self.eps}, affine={self.affine}, bias={self.bias is not None}"
        return f"{self.num_groups}, {self.num_channels}, {options}"

    def __call__(self, input: Float[Array, "n c *spatial"]) -> Float[Array, "n c *spatial"]:
        """Normalises, scales and shifts."""
        weight = None if self.weight is None else self.weight[...]
        bias = None if self.bias is None else self.bias[...]
        return F.group_norm(input, self.num_groups, weight, bias, self.eps)


def _shape(layer: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    if not isinstance(normalized_shape, (int, Sequence)):
        raise TypeError(f"{layer}: normalized_shape must be one int or several, got {normalized_shape!r}")
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if min(shape, default=0) < 0:
        raise RuntimeError(f"{layer}: normalized_shape must not be negative, got {normalized_shape!r}")
    return shape


class LayerNorm(Module):
    """Normalises over the last axes.

    Parameters: ``weight`` (ones) and ``bias`` (zeros), both of shape ``normalized_shape``, if ``elementwise_affine``.

    Args:
        normalized_shape: the sizes of these axes, or one int for the last.
        eps: added to the variance.
        elementwise_affine: whether to scale and shift each element by learned parameters.
        bias: whether ``elementwise_affine`` shifts as well as scales.
        dtype: of the parameters; float32 if not given.

    Raises:
        TypeError: for a shape that is neither int nor sequence.
        RuntimeError: for a negative size; at the call, for an input with other last axes, or another dtype than the
            parameters' (half precision also with float32 ones), and if there are no axes to normalise over.
        NotImplementedError: at the call, for an input not of floating-point numbers.

    See `torch.nn.LayerNorm <https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html>`_ and
    arXiv:1607.06450.

    >>> LayerNorm(2, eps=1e-9)(jnp.array([[1.0, 3.0], [8.0, 4.0]])).tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    """

    weight: Parameter | Any
    bias: Parameter | Any

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: DTypeLike = jnp.float32,
    ):
        self.normalized_shape = _shape("LayerNorm", normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        has_bias = elementwise_affine and bias
        self.register_parameter("weight", reserved(*self.normalized_shape, dtype=dtype) if elementwise_affine else None)
        self.register_parameter("bias", reserved(*self.normalized_shape, dtype=dtype) if has_bias else None)
        self.reset_parameters()

    def reset_parameters(self, *, rngs: nnx.Rngs | None = None) -> None:
        """Set the weight to 1 and the bias to 0; draws nothing."""
        redraw(self, "weight", jnp.ones)
        redraw(self, "bias", jnp.zeros)

    def extra_repr(self) -> str:
        """Return the arguments."""
        options = f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        return f"{self.normalized_shape}, eps={self.eps}, {options}"

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Normalises, scales and shifts."""
        weight = None if self.weight is None else self.weight[...]
        bias = None if self.bias is None else self.bias[...]
        return F.layer_norm(input, self.normalized_shape, weight, bias, self.eps)


class RMSNorm(Module):
    """Divides by the root of the mean square over the last axes.

    Parameter: ``weight`` (ones), of shape ``normalized_shape``, if ``elementwise_affine``.

    Args:
        normalized_shape: the sizes of these axes, or one int for the last.
        eps: added to the mean square; if None, the machine epsilon of the input's dtype, of float32 for half precision.
        elementwise_affine: whether to scale each element by a learned parameter.
        dtype: of the parameter; float32 if not given.

    Raises:
        TypeError: for a shape that is neither int nor sequence.
        RuntimeError: for a negative size; at the call, for an input with other last axes, and if there are none.
        ValueError: at the call, for an input of fewer axes.
        NotImplementedError: at the call, for an input of integers.

    See `torch.nn.RMSNorm <https://docs.pytorch.org/docs/stable/generated/torch.nn.RMSNorm.html>`_ and
    arXiv:1910.07467.

    >>> RMSNorm(2)(jnp.array([[3.0, 3.0], [-2.0, 2.0]])).tolist()
    [[1.0, 1.0], [-1.0, 1.0]]
    """

    weight: Parameter | Any
    _extra_repr = "{normalized_shape}, eps={eps}, elementwise_affine={elementwise_affine}"

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: DTypeLike = jnp.float32,
    ):
        self.normalized_shape = _shape("RMSNorm", normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.register_parameter("weight", reserved(*self.normalized_shape, dtype=dtype) if elementwise_affine else None)
        self.reset_parameters()

    def reset_parameters(self, *, rngs: nnx.Rngs | None = None) -> None:
        """Set the weight to 1; draws nothing."""
        redraw(self, "weight", jnp.ones)

    def __call__(self, x: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
        """Normalises and scales."""
        return F.rms_norm(x, self.normalized_shape, None if self.weight is None else self.weight[...], self.eps)


class LocalResponseNorm(Module):
    """Divides each channel of ``(N, C, ...)`` by ``(k + alpha * s) ** beta``.

    Here ``s`` is the mean square of ``size`` neighbouring channels at the same place; channels outside are zeros.

    Args:
        size: the number of neighbours, the channel itself included.
        alpha: weight of the mean square.
        beta: exponent.
        k: what is added.

    Raises:
        ValueError: at the call, for an input of fewer than three axes.
        RuntimeError: at the call, for a size that is not positive.
        NotImplementedError: at the call, for an input not of floating-point numbers; torch rounds means of integers.

    See `torch.nn.LocalResponseNorm
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.LocalResponseNorm.html>`_ and "ImageNet classification
    with deep convolutional neural networks" (2012).

    >>> LocalResponseNorm(2, alpha=2.0, beta=1.0, k=0.0)(jnp.full((1, 2, 1), 2.0)).ravel().tolist()
    [0.5, 0.25]
    """

    _extra_repr = "{size}, alpha={alpha}, beta={beta}, k={k}"

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def __call__(self, input: Float[Array, "n c *spatial"]) -> Float[Array, "n c *spatial"]:
        """Divides by the neighbours' mean square."""
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)


class CrossMapLRN2d(Module):
    """:class:`LocalResponseNorm` of ``(N, C, H, W)`` as Lua Torch had it, with what torch made of it.

    In torch 2.13 channel 0 never leaves the running sum of squares, the window of an even ``size`` has one channel
    less, and the gradient sums its window one channel further down: it is not the derivative of the output. All that
    is the same here, so that old models compute what they did; new ones take :class:`LocalResponseNorm`.

    Args:
        size: the number of neighbours.
        alpha: weight of their mean square.
        beta: exponent.
        k: what is added.

    Raises:
        ValueError: at the call, for an input that is not 4D, or a negative size.
        ZeroDivisionError: at the call, for a size of 0.
        IndexError: at the call, for an input with no channels.
        RuntimeError: at the call, for an input not of floating-point numbers; at the gradient of ``size=1``, which
            torch has not.

    See `torch.nn.CrossMapLRN2d
    <https://github.com/pytorch/pytorch/blob/v2.13.0/torch/nn/modules/normalization.py>`_.

    >>> CrossMapLRN2d(3)(jnp.ones((1, 4, 2, 2))).shape
    (1, 4, 2, 2)
    """

    _extra_repr = "{size}, alpha={alpha}, beta={beta}, k={k}"

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float | int = 1):
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def __call__(self, input: Float[Array, "n c h w"]) -> Float[Array, "n c h w"]:
        """Divides by the neighbours' mean square."""
        return cross_map_lrn2d(input, self.size, self.alpha, self.beta, self.k)
