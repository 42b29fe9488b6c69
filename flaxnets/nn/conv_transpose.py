"""Transposed convolution layers."""

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Num

from flaxnets.nn._arguments import per_axis, to_sizes
from flaxnets.nn.conv import ConvBase
from flaxnets.nn.functional.conv_transpose import conv_transpose_nd


class _ConvTranspose(ConvBase):
    """Base class of transposed convolutions of any number of spatial axes."""

    transposed = True

    def __init__(
        self,
        in_channels: int,
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
        if padding_mode != "zeros":
            raise ValueError(f"{type(self).__name__}: padding_mode must be 'zeros', got {padding_mode!r}")
        self._set_sizes(in_channels, out_channels, kernel_size, stride, dilation, groups)
        self.padding = per_axis(padding, self.spatial_axes)
        self.output_padding = per_axis(output_padding, self.spatial_axes)
        self.padding_mode = padding_mode
        self._draw_parameters((in_channels, out_channels // groups, *self.kernel_size), bias, dtype, rngs)

    def _apply(self, input: jax.Array, output_size: Sequence[int] | None) -> jax.Array:
        n, name = self.spatial_axes, type(self).__name__
        extra = self.output_padding if output_size is None else self._fill_up(jnp.asarray(input), output_size)
        bias = None if self.bias is None else self.bias[...]
        arguments = (self.stride, self.padding, extra, self.groups, self.dilation)
        return conv_transpose_nd(input, self.weight[...], bias, *arguments, n, name)

    def _fill_up(self, input: jax.Array, output_size: Sequence[int]) -> tuple[int, ...]:
        """Return the output padding that leads to ``output_size``."""
        n, name = self.spatial_axes, type(self).__name__
        if not isinstance(output_size, Iterable):
            raise TypeError(f"{name}: output_size must be a sequence of ints, got {output_size!r}")
        others = input.ndim - n
        if len(output_size) not in (n, n + (2 if others == 2 else 1)):
            raise ValueError(
                f"{name}: output_size must have {n} elements, or as many as the input of shape {input.shape} has axes, "
                f"got {tuple(output_size)}"
            )
        spatial_size = tuple(output_size)[-n:]
        sizes = ((getattr(self, what), what) for what in ("stride", "padding", "dilation"))
        stride, padding, dilation = (to_sizes(value, n, what, name, broadcast=True) for value, what in sizes)
        smallest = [
            (size - 1) * s - 2 * p + d * (k - 1) + 1
            for size, s, p, d, k in zip(input.shape[-n:], stride, padding, dilation, self.kernel_size, strict=True)
        ]
        largest = [least + s - 1 for least, s in zip(smallest, stride, strict=True)]
        if any(not least <= size <= most for size, least, most in zip(spatial_size, smallest, largest, strict=True)):
            raise ValueError(
                f"{name}: output_size must be from {smallest} to {largest} for an input of shape {input.shape}, "
                f"got {spatial_size}"
            )
        return tuple(size - least for size, least in zip(spatial_size, smallest, strict=True))


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution: spread each element of ``(N, C_in, L)`` or ``(C_in, L)`` over a learned window.

    The layer is the gradient of :class:`~flaxnets.nn.Conv1d` with respect to its input. Parameters:
    ``weight (in_channels, out_channels / groups, *kernel_size)`` and ``bias (out_channels,)``, drawn from the uniform
    distribution on ``+-1/sqrt(out_channels / groups * elements of the kernel)``. Each size is one int, or one int per
    spatial axis. An axis of L elements becomes one of
    ``(L - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + output_padding + 1``.

    Args:
        in_channels: number of input channels.
        out_channels: number of output channels.
        kernel_size: size of the window.
        stride: step of the window in the output.
        padding: elements removed from both sides of the output.
        output_padding: elements added at the end of the output; must be less than ``stride`` or ``dilation``.
        groups: number of blocks that the channels are divided into; each block has its own kernels.
        bias: whether to add a bias.
        dilation: distance between the window's elements.
        padding_mode: must be ``'zeros'``, as in torch.
        dtype: parameter dtype. Default: float32.
        rngs: random number generators for the initial weights.

    Raises:
        ValueError: for groups that do not divide the channels, or another padding mode; when called, for an
            ``output_size`` of the wrong length, or one that no output padding can produce.
        TypeError: for sizes of other types than int; all but channels and kernel size are checked when called.
        RuntimeError: for a negative number of channels or kernel size; when called, for other sizes that are out of
            range or have too many elements, an input of the wrong rank, channel count or dtype, and a padding that
            leaves no output.

    See `torch.nn.ConvTranspose1d <https://docs.pytorch.org/docs/stable/generated/torch.nn.ConvTranspose1d.html>`_.

    >>> layer = ConvTranspose1d(3, 6, kernel_size=3, stride=2, padding=1, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((8, 3, 10))).shape, layer(jnp.ones((8, 3, 10)), output_size=(20,)).shape
    ((8, 6, 19), (8, 6, 20))
    """

    spatial_axes = 1

    def __call__(
        self, input: Num[Array, "*n c_in length"], output_size: Sequence[int] | None = None
    ) -> Num[Array, "*n c_out length_out"]:
        """Spread the input; ``output_size``, with or without the leading axes, replaces the output padding."""
        return self._apply(input, output_size)


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution: spread each pixel of ``(N, C_in, H, W)`` or ``(C_in, H, W)`` over a learned window.

    Parameters, arguments and errors are those of :class:`ConvTranspose1d`.

    See `torch.nn.ConvTranspose2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.ConvTranspose2d.html>`_.

    >>> layer = ConvTranspose2d(3, 6, kernel_size=4, stride=2, padding=1, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((8, 3, 5, 7))).shape
    (8, 6, 10, 14)
    """

    spatial_axes = 2

    def __call__(
        self, input: Num[Array, "*n c_in h w"], output_size: Sequence[int] | None = None
    ) -> Num[Array, "*n c_out h_out w_out"]:
        """Spread the input; ``output_size``, with or without the leading axes, replaces the output padding."""
        return self._apply(input, output_size)


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution of volumes ``(N, C_in, D, H, W)`` or ``(C_in, D, H, W)``.

    Parameters, arguments and errors are those of :class:`ConvTranspose1d`.

    See `torch.nn.ConvTranspose3d <https://docs.pytorch.org/docs/stable/generated/torch.nn.ConvTranspose3d.html>`_.

    >>> layer = ConvTranspose3d(3, 6, kernel_size=2, stride=2, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((8, 3, 2, 3, 4))).shape
    (8, 6, 4, 6, 8)
    """

    spatial_axes = 3

    def __call__(
        self, input: Num[Array, "*n c_in d h w"], output_size: Sequence[int] | None = None
    ) -> Num[Array, "*n c_out d_out h_out w_out"]:
        """Spread the input; ``output_size``, with or without the leading axes, replaces the output padding."""
        return self._apply(input, output_size)
