"""Convolution layers."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flaxnets.nn import init
from flaxnets.nn._arguments import check_ndim, check_sizes, to_tuple
from flaxnets.nn.functional.conv import conv_nd, same_padding
from flaxnets.nn.module import Module

_PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _check_channels(name: str, in_channels: int, out_channels: int, groups: int) -> None:
    check_sizes(name, in_channels=in_channels, out_channels=out_channels)
    if groups <= 0:
        raise ValueError(f"{name}: groups must be positive, got {groups}")
    for what, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if channels % groups:
            raise ValueError(f"{name}: {what}={channels} must be divisible by groups={groups}")


class _Conv(Module):
    """What the convolutions of every number of spatial axes have in common."""

    spatial_axes: int

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
        n, name = self.spatial_axes, type(self).__name__
        _check_channels(name, in_channels, out_channels, groups)
        if padding_mode not in _PAD_MODES:
            raise ValueError(f"{name}: padding_mode must be one of {list(_PAD_MODES)}, got {padding_mode!r}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = to_tuple(kernel_size, n, "kernel_size")
        self.stride = to_tuple(stride, n, "stride")
        self.dilation = to_tuple(dilation, n, "dilation")
        self.groups = groups
        self.padding_mode = padding_mode
        if isinstance(padding, str):
            if padding not in ("valid", "same"):
                raise ValueError(f"{name}: padding must be 'valid', 'same' or sizes, got {padding!r}")
            if padding == "same" and any(stride != 1 for stride in self.stride):
                raise ValueError(f"{name}: padding='same' needs stride 1, got stride={stride!r}")
            self.padding = padding
        else:
            self.padding = to_tuple(padding, n, "padding")

        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = nnx.Param(init.kaiming_uniform(rngs.params(), shape, dtype, a=math.sqrt(5)))
        self.bias = None
        if bias:
            fan_in, _ = init.calculate_fan_in_and_fan_out(shape)
            bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
            self.bias = nnx.Param(init.uniform(rngs.params(), (out_channels,), dtype, a=-bound, b=bound))

    def _apply(self, input: jax.Array) -> jax.Array:
        padding = self.padding
        if self.padding_mode != "zeros" and padding != "valid":
            input, padding = self._pad(jnp.asarray(input)), 0
        bias = None if self.bias is None else self.bias[...]
        return conv_nd(
            input, self.weight[...], bias, self.stride, padding, self.dilation, self.groups, type(self).__name__
        )

    def _pad(self, input: jax.Array) -> jax.Array:
        n = self.spatial_axes
        check_ndim(input, (n + 1, n + 2), type(self).__name__, RuntimeError)
        if isinstance(self.padding, str):
            pads = same_padding(self.kernel_size, self.dilation)
        else:
            pads = [(size, size) for size in self.padding]
        # jnp.pad would repeat a reflection, or wrap around several times, where torch refuses.
        largest = {"reflect": -1, "circular": 0}.get(self.padding_mode)
        for size, pad in zip(input.shape[-n:], pads, strict=True):
            if largest is not None and max(pad) > size + largest:
                raise RuntimeError(
                    f"{type(self).__name__}: the {self.padding_mode} padding {pads} is too large for an input of "
                    f"shape {input.shape}"
                )
        return jnp.pad(input, [(0, 0)] * (input.ndim - n) + pads, mode=_PAD_MODES[self.padding_mode])


class Conv2d(_Conv):
    """Cross-correlates images ``(N, C_in, H, W)`` or ``(C_in, H, W)`` with a learned weight.

    Parameters: ``weight (out_channels, in_channels / groups, kh, kw)`` and ``bias (out_channels,)``, drawn from the
    uniform distribution on ``+-1/sqrt(in_channels / groups * kh * kw)``. Sizes are in pixels, one int or ``(h, w)``.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: size of the window.
        stride: step of the window.
        padding: pixels added on both sides, or ``'valid'`` (none), or ``'same'`` (as many as keep the size).
        dilation: distance between the window's elements.
        groups: number of blocks that the channels are divided into.
        bias: whether to add a bias.
        padding_mode: what is added: ``'zeros'``, ``'reflect'``, ``'replicate'`` or ``'circular'``.
        dtype: of the parameters; float32 if not given.
        rngs: the source of the initial weights.

    Raises:
        ValueError: for groups that do not divide the channels, or an unknown padding or padding mode.
        RuntimeError: for a negative size; at the call for an input of the wrong rank, channel count or dtype, or
            smaller than the kernel.

    See `torch.nn.Conv2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html>`_.

    >>> layer = Conv2d(1, 6, kernel_size=5, padding=2, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((8, 1, 28, 28))).shape
    (8, 6, 28, 28)
    """

    spatial_axes = 2

    def __call__(self, input: Float[Array, "*n c_in h w"]) -> Float[Array, "*n c_out h_out w_out"]:
        """Cross-correlates the input with the weight and adds the bias."""
        return self._apply(input)
