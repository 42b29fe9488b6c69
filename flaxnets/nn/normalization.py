"""Group, layer, RMS and local response normalisation layers."""

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
    """Normalise each group of channels of ``(N, C, ...)`` over its channels and the axes after them.

    Parameters: ``weight`` (ones) and ``bias`` (zeros), both ``(num_channels,)``, if ``affine``.

    Args:
        num_groups: the number of groups.
        num_channels: the number of channels ``C``.
        eps: added to the variance.
        affine: whether to scale and shift each channel by learned parameters.
        dtype: parameter dtype. Default: float32.
        bias: whether ``affine`` shifts as well as scales.

    Raises:
        ValueError: for groups that do not divide the channels; when called, for an input of only one value.
        ZeroDivisionError: for zero groups.
        RuntimeError: for a negative number of channels; when called, for a negative number of groups, and an input of
            fewer than two axes, a different number of channels, or a dtype other than the parameters' (float16 and
            bfloat16 are also accepted with float32 parameters).
        NotImplementedError: when called, for a non-floating-point input.

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
        """Set the weight to 1 and the bias to 0; ``rngs`` is unused."""
        redraw(self, "weight", jnp.ones)
        redraw(self, "bias", jnp.zeros)

    def extra_repr(self) -> str:
        """Return the arguments for ``repr``."""
        options = f"eps={self.eps}, affine={self.affine}, bias={self.bias is not None}"
        return f"{self.num_groups}, {self.num_channels}, {options}"

    def __call__(self, input: Float[Array, "n c *spatial"]) -> Float[Array, "n c *spatial"]:
        """Normalise, scale and shift the input."""
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
    """Normalise over the last axes (layer normalisation).

    Parameters: ``weight`` (ones) and ``bias`` (zeros), both of shape ``normalized_shape``, if ``elementwise_affine``.

    Args:
        normalized_shape: the sizes of the last axes to normalise over, or one int for the last axis.
        eps: added to the variance.
        elementwise_affine: whether to scale and shift each element by learned parameters.
        bias: whether ``elementwise_affine`` shifts as well as scales.
        dtype: parameter dtype. Default: float32.

    Raises:
        TypeError: for a shape that is neither int nor sequence.
        RuntimeError: for a negative size; when called, for an empty shape, an input with other last axes, or a dtype
            other than the parameters' (float16 and bfloat16 are also accepted with float32 parameters).
        NotImplementedError: when called, for a non-floating-point input.

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
        """Set the weight to 1 and the bias to 0; ``rngs`` is unused."""
        redraw(self, "weight", jnp.ones)
        redraw(self, "bias", jnp.zeros)

    def extra_repr(self) -> str:
        """Return the arguments for ``repr``."""
        options = f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        return f"{self.normalized_shape}, eps={self.eps}, {options}"

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Normalise, scale and shift the input."""
        weight = None if self.weight is None else self.weight[...]
        bias = None if self.bias is None else self.bias[...]
        return F.layer_norm(input, self.normalized_shape, weight, bias, self.eps)


class RMSNorm(Module):
    """Divide by the root mean square over the last axes (RMS normalisation).

    Parameter: ``weight`` (ones), of shape ``normalized_shape``, if ``elementwise_affine``.

    Args:
        normalized_shape: the sizes of the last axes to normalise over, or one int for the last axis.
        eps: added to the mean square. None means the machine epsilon of the input's dtype (half precision: of float32).
        elementwise_affine: whether to scale each element by a learned parameter.
        dtype: parameter dtype. Default: float32.

    Raises:
        TypeError: for a shape that is neither int nor sequence.
        RuntimeError: for a negative size; when called, for an empty shape, and for an input with other last axes.
        ValueError: when called, for an input with fewer axes than ``normalized_shape``.
        NotImplementedError: when called, for an input of integers.

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
        """Set the weight to 1; ``rngs`` is unused."""
        redraw(self, "weight", jnp.ones)

    def __call__(self, x: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
        """Normalise and scale the input."""
        return F.rms_norm(x, self.normalized_shape, None if self.weight is None else self.weight[...], self.eps)


class LocalResponseNorm(Module):
    """Divide each channel of ``(N, C, ...)`` by ``(k + alpha * s) ** beta`` (local response normalisation).

    Here ``s`` is the mean square of ``size`` neighbouring channels at the same position, with zero padding.

    Args:
        size: the number of neighbouring channels, including the channel itself.
        alpha: weight of the mean square.
        beta: exponent.
        k: constant added to the weighted mean square.

    Raises:
        ValueError: when called, for an input of fewer than three axes.
        RuntimeError: when called, for a size that is not positive.
        NotImplementedError: when called, for a non-floating-point input.

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
        """Divide each channel by a power of its neighbours' mean square."""
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)


class CrossMapLRN2d(Module):
    """:class:`LocalResponseNorm` of ``(N, C, H, W)`` with the numbers of Lua Torch, as ported to torch.

    This layer reproduces three peculiarities of torch 2.13: channel 0 never leaves the running sum of squares; an even
    ``size`` gives a window with one channel less; the gradient sums its window one channel further down, so it is not
    the derivative of the output. Use the layer for old models, and :class:`LocalResponseNorm` for new ones.

    Args:
        size: the number of neighbouring channels, including the channel itself.
        alpha: weight of the mean square.
        beta: exponent.
        k: constant added to the weighted mean square.

    Raises:
        ValueError: when called, for an input that is not 4D, or a negative size.
        ZeroDivisionError: when called, for a size of 0.
        IndexError: when called, for an input with no channels.
        RuntimeError: when called, for a non-floating-point input; when differentiated, for ``size=1``, as in torch.

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
        """Divide each channel by a power of its neighbours' mean square."""
        return cross_map_lrn2d(input, self.size, self.alpha, self.beta, self.k)
