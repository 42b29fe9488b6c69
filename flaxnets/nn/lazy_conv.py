"""Lazy convolution layers, which read the number of input channels from their first input."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flaxnets.nn.conv import Conv1d, Conv2d, Conv3d
from flaxnets.nn.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from flaxnets.nn.lazy import LazyModuleMixin


class _LazyChannels(LazyModuleMixin):
    """Infer the number of input channels of a lazy convolution."""

    inferred = "in_channels"
    spatial_axes: int

    def _size(self, shape: tuple[int, ...]) -> int:
        n = self.spatial_axes
        if len(shape) not in (n + 1, n + 2):
            raise RuntimeError(
                f"{type(self).__name__}: expected {n + 1}D or {n + 2}D input, got {len(shape)}D input of shape {shape}"
            )
        return shape[-n - 1]


class _LazyConv(_LazyChannels):
    """Base class of lazy convolutions."""

    def __init__(
        self,
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
        sizes = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
        options = {"groups": groups, "bias": bias, "padding_mode": padding_mode, "dtype": dtype}
        self._begin({"out_channels": out_channels, **sizes, **options}, rngs)


class _LazyConvTranspose(_LazyChannels):
    """Base class of lazy transposed convolutions."""

    def __init__(
        self,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Sequence[int] = 1,
        padding_mode: str = "zeros",
        dtype: DTypeLike = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ):
        sizes = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "output_padding": output_padding}
        options = {"groups": groups, "bias": bias, "dilation": dilation, "padding_mode": padding_mode, "dtype": dtype}
        self._begin({"out_channels": out_channels, **sizes, **options}, rngs)


class LazyConv1d(_LazyConv, Conv1d):
    """A :class:`Conv1d` that reads ``in_channels`` from its first input (see :class:`LazyModuleMixin`).

    Arguments are those of :class:`Conv1d` without ``in_channels``.

    Raises:
        ValueError: as :class:`Conv1d`; on the first call, for groups that do not divide the channels.
        RuntimeError: on the first call, for an input of the wrong rank, an input that does not match the loaded
            parameters, or if a transformation traces the call.

    See `torch.nn.LazyConv1d <https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyConv1d.html>`_.

    >>> layer = LazyConv1d(6, kernel_size=3, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((8, 3, 5))).shape, layer.in_channels
    ((8, 6, 3), 3)
    """

    cls_to_become = Conv1d


class LazyConv2d(_LazyConv, Conv2d):
    """A :class:`Conv2d` that reads ``in_channels`` from its first input, like :class:`LazyConv1d`.

    See `torch.nn.LazyConv2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyConv2d.html>`_.

    >>> layer = LazyConv2d(6, kernel_size=3, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((8, 3, 5, 5))).shape, layer.in_channels
    ((8, 6, 3, 3), 3)
    """

    cls_to_become = Conv2d


class LazyConv3d(_LazyConv, Conv3d):
    """A :class:`Conv3d` that reads ``in_channels`` from its first input, like :class:`LazyConv1d`.

    See `torch.nn.LazyConv3d <https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyConv3d.html>`_.

    >>> layer = LazyConv3d(6, kernel_size=3, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((8, 3, 5, 5, 5))).shape, layer.in_channels
    ((8, 6, 3, 3, 3), 3)
    """

    cls_to_become = Conv3d


class LazyConvTranspose1d(_LazyConvTranspose, ConvTranspose1d):
    """A :class:`ConvTranspose1d` that reads ``in_channels`` from its first input, like :class:`LazyConv1d`.

    See `torch.nn.LazyConvTranspose1d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyConvTranspose1d.html>`_.

    >>> layer = LazyConvTranspose1d(6, kernel_size=3, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((8, 3, 5))).shape, layer.in_channels
    ((8, 6, 7), 3)
    """

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyConvTranspose, ConvTranspose2d):
    """A :class:`ConvTranspose2d` that reads ``in_channels`` from its first input, like :class:`LazyConv1d`.

    See `torch.nn.LazyConvTranspose2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyConvTranspose2d.html>`_.

    >>> layer = LazyConvTranspose2d(6, kernel_size=3, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((8, 3, 5, 5))).shape, layer.in_channels
    ((8, 6, 7, 7), 3)
    """

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyConvTranspose, ConvTranspose3d):
    """A :class:`ConvTranspose3d` that reads ``in_channels`` from its first input, like :class:`LazyConv1d`.

    See `torch.nn.LazyConvTranspose3d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyConvTranspose3d.html>`_.

    >>> layer = LazyConvTranspose3d(6, kernel_size=3, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((8, 3, 5, 5, 5))).shape, layer.in_channels
    ((8, 6, 7, 7, 7), 3)
    """

    cls_to_become = ConvTranspose3d
