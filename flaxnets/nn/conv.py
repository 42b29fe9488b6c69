"""Convolution layers."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Num

from flaxnets.nn import functional as F
from flaxnets.nn import init
from flaxnets.nn._arguments import changed, check_sizes, per_axis, to_ints, to_sizes
from flaxnets.nn.functional.conv import conv_nd, same_padding
from flaxnets.nn.module import Module
from flaxnets.nn.parameter import Parameter, redraw, reserved

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class ConvBase(Module):
    """Base class of convolutions and transposed convolutions of any number of spatial axes."""

    bias: Parameter | Any
    spatial_axes: int
    transposed: bool
    padding: Any
    padding_mode: str
    output_padding: tuple[int, ...]

    def _set_sizes(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int],
        dilation: int | Sequence[int],
        groups: int,
    ) -> None:
        n, name = self.spatial_axes, type(self).__name__
        in_channels, out_channels, groups = to_ints((in_channels, out_channels, groups), "channels and groups", name)
        check_sizes(name, in_channels=in_channels, out_channels=out_channels)
        if groups <= 0:
            raise ValueError(f"{name}: groups must be positive, got {groups}")
        for what, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(f"{name}: {what}={channels} must be divisible by groups={groups}")
        kernel_size = to_sizes(kernel_size, n, "kernel_size", name)
        check_sizes(name, **{f"kernel_size[{i}]": size for i, size in enumerate(kernel_size)})
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = per_axis(stride, n)
        self.dilation = per_axis(dilation, n)
        self.groups = groups

    def _draw_parameters(self, shape: tuple[int, ...], bias: bool, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.weight = reserved(*shape, dtype=dtype)
        self.register_parameter("bias", reserved(self.out_channels, dtype=dtype) if bias else None)
        self.reset_parameters(rngs=rngs)

    def reset_parameters(self, *, rngs: nnx.Rngs) -> None:
        """Reinitialise the parameters."""

        def draw_weight(shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
            return init.kaiming_uniform(rngs.params(), shape, dtype, a=math.sqrt(5))

        fan_in, _ = init.calculate_fan_in_and_fan_out(self.weight.shape)
        bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
        redraw(self, "weight", draw_weight)
        redraw(self, "bias", lambda shape, dtype: init.uniform(rngs.params(), shape, dtype, a=-bound, b=bound))

    def extra_repr(self) -> str:
        """Return the sizes and the non-default options for ``repr``."""
        zeros, ones = (0,) * self.spatial_axes, (1,) * self.spatial_axes
        sizes = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        options = changed(self, padding=zeros, dilation=ones, output_padding=zeros, groups=1)
        bias = ", bias=False" if self.bias is None else ""
        return sizes + options + bias + changed(self, padding_mode="zeros")


class _Conv(ConvBase):
    """Base class of convolutions of any number of spatial axes."""

    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: DTypeLike = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ):
        name = type(self).__name__
        self._set_sizes(in_channels, out_channels, kernel_size, stride, dilation, groups)
        if padding_mode not in PADDING_MODES:
            raise ValueError(f"{name}: padding_mode must be one of {PADDING_MODES}, got {padding_mode!r}")
        if isinstance(padding, str) and padding not in ("valid", "same"):
            raise ValueError(f"{name}: padding must be 'valid', 'same' or sizes, got {padding!r}")
        if padding == "same" and any(size != 1 for size in self.stride):
            raise ValueError(f"{name}: padding='same' requires stride 1, got stride={stride!r}")
        self.padding = padding if isinstance(padding, str) else per_axis(padding, self.spatial_axes)
        self.padding_mode = padding_mode
        self.output_padding = (0,) * self.spatial_axes
        self._draw_parameters((out_channels, in_channels // groups, *self.kernel_size), bias, dtype, rngs)

    def _apply(self, input: jax.Array) -> jax.Array:
        return self._conv_forward(input, self.weight[...], None if self.bias is None else self.bias[...])

    def _conv_forward(self, input: jax.Array, weight: jax.Array, bias: jax.Array | None) -> jax.Array:
        """Cross-correlate with ``weight`` instead of the layer's own; subclasses call this method, as in torch."""
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._pads(), self.padding_mode), 0
        n, name = self.spatial_axes, type(self).__name__
        return conv_nd(input, weight, bias, self.stride, padding, self.dilation, self.groups, n, name)

    def _pads(self) -> list[int]:
        """Return the padding in the order of :func:`flaxnets.nn.functional.pad`: the last axis first."""
        n, name = self.spatial_axes, type(self).__name__
        if not isinstance(self.padding, str):
            return [size for size in reversed(self.padding) for _ in range(2)]
        if self.padding == "valid":
            return [0] * (2 * n)
        pads = same_padding(self.kernel_size, to_sizes(self.dilation, n, "dilation", name, broadcast=True))
        return [size for ends in reversed(pads) for size in ends]


class Conv1d(_Conv):
    """Cross-correlate sequences ``(N, C_in, L)`` or ``(C_in, L)`` with a learned weight.

    Parameters: ``weight (out_channels, in_channels / groups, *kernel_size)`` and ``bias (out_channels,)``, drawn from
    the uniform distribution on ``+-1/sqrt(in_channels / groups * elements of the kernel)``. For a complex dtype the
    real and imaginary parts are both drawn so. Each size is one int, or one int per spatial axis.

    Args:
        in_channels: number of input channels.
        out_channels: number of output channels.
        kernel_size: size of the window.
        stride: step of the window.
        padding: elements added on both sides, ``'valid'`` (none) or ``'same'`` (the output has the input's size).
        dilation: distance between the window's elements.
        groups: number of blocks that the channels are divided into; each block has its own kernels.
        bias: whether to add a bias.
        padding_mode: values of the padding: ``'zeros'``, ``'reflect'``, ``'replicate'`` or ``'circular'``.
        dtype: parameter dtype. Default: float32.
        rngs: random number generators for the initial weights.

    Raises:
        ValueError: for groups that do not divide the channels, or an unknown padding or padding mode.
        TypeError: for sizes of other types than int; stride, padding and dilation are checked when called.
        RuntimeError: for a negative number of channels or kernel size; when called, for a stride, padding or dilation
            that is out of range or has too many elements, and for an input of the wrong rank, channel count or dtype,
            or smaller than the kernel.
        NotImplementedError: when called, for an input of the wrong rank with a padding mode other than ``'zeros'``.

    See `torch.nn.Conv1d <https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv1d.html>`_.

    >>> layer = Conv1d(3, 6, kernel_size=5, padding=2, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((8, 3, 28))).shape
    (8, 6, 28)
    """

    spatial_axes = 1

    def __call__(self, input: Num[Array, "*n c_in length"]) -> Num[Array, "*n c_out length_out"]:
        """Cross-correlate the input with the weight and add the bias."""
        return self._apply(input)


class Conv2d(_Conv):
    """Cross-correlate images ``(N, C_in, H, W)`` or ``(C_in, H, W)`` with a learned weight.

    Sizes are in pixels: one int or ``(h, w)``. Parameters, other arguments and errors are those of :class:`Conv1d`.

    See `torch.nn.Conv2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html>`_.

    >>> layer = Conv2d(1, 6, kernel_size=5, padding=2, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((8, 1, 28, 28))).shape
    (8, 6, 28, 28)
    """

    spatial_axes = 2

    def __call__(self, input: Num[Array, "*n c_in h w"]) -> Num[Array, "*n c_out h_out w_out"]:
        """Cross-correlate the input with the weight and add the bias."""
        return self._apply(input)


class Conv3d(_Conv):
    """Cross-correlate volumes ``(N, C_in, D, H, W)`` or ``(C_in, D, H, W)`` with a learned weight.

    Sizes are in voxels: one int or ``(d, h, w)``. Parameters, other arguments and errors are those of :class:`Conv1d`.

    See `torch.nn.Conv3d <https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv3d.html>`_.

    >>> layer = Conv3d(1, 6, kernel_size=(1, 3, 3), rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((8, 1, 4, 9, 9))).shape
    (8, 6, 4, 7, 7)
    """

    spatial_axes = 3

    def __call__(self, input: Num[Array, "*n c_in d h w"]) -> Num[Array, "*n c_out d_out h_out w_out"]:
        """Cross-correlate the input with the weight and add the bias."""
        return self._apply(input)
