"""Pixel-shuffle and channel-shuffle layers."""

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Shaped

from flaxnets.nn import functional as F
from flaxnets.nn.module import Module


class PixelShuffle(Module):
    """Move channels to pixels: ``(..., C r**2, H, W)`` becomes ``(..., C, H r, W r)``.

    Args:
        upscale_factor: the factor ``r``.

    Raises:
        TypeError: when called, for a factor that is not an int.
        RuntimeError: when called, for a factor that is not positive or whose square does not divide the channels, or
            an input of fewer than three axes.

    See `torch.nn.PixelShuffle <https://docs.pytorch.org/docs/stable/generated/torch.nn.PixelShuffle.html>`_ and
    arXiv:1609.05158.

    >>> PixelShuffle(2)(jnp.ones((1, 12, 3, 5))).shape
    (1, 3, 6, 10)
    """

    _extra_repr = "upscale_factor={upscale_factor}"

    def __init__(self, upscale_factor: int):
        self.upscale_factor = upscale_factor

    def __call__(self, input: Shaped[Array, "*n c h w"]) -> Shaped[Array, "*n c_out h_out w_out"]:
        """Return the input with channels moved to pixels."""
        return F.pixel_shuffle(input, self.upscale_factor)


class PixelUnshuffle(Module):
    """Undo :class:`PixelShuffle`: ``(..., C, H r, W r)`` becomes ``(..., C r**2, H, W)``.

    Args:
        downscale_factor: the factor ``r``.

    Raises:
        TypeError: when called, for a factor that is not an int.
        RuntimeError: when called, for a factor that is not positive or does not divide height and width, or an input
            of fewer than three axes.

    See `torch.nn.PixelUnshuffle <https://docs.pytorch.org/docs/stable/generated/torch.nn.PixelUnshuffle.html>`_ and
    arXiv:1609.05158.

    >>> PixelUnshuffle(2)(jnp.ones((1, 3, 6, 10))).shape
    (1, 12, 3, 5)
    """

    _extra_repr = "downscale_factor={downscale_factor}"

    def __init__(self, downscale_factor: int):
        self.downscale_factor = downscale_factor

    def __call__(self, input: Shaped[Array, "*n c h w"]) -> Shaped[Array, "*n c_out h_out w_out"]:
        """Return the input with pixels moved to channels."""
        return F.pixel_unshuffle(input, self.downscale_factor)


class ChannelShuffle(Module):
    """Interleave the channel groups of ``(N, C, ...)``: first all groups' first channels, then their second, ...

    Args:
        groups: the number of groups.

    Raises:
        TypeError: when called, for groups that are not an int.
        RuntimeError: when called, for groups that are not positive or do not divide the channels, or an input of fewer
            than three axes.

    See `torch.nn.ChannelShuffle <https://docs.pytorch.org/docs/stable/generated/torch.nn.ChannelShuffle.html>`_ and
    "ShuffleNet" (arXiv:1707.01083).

    >>> ChannelShuffle(2)(jnp.arange(4.0).reshape(1, 4, 1)).ravel().tolist()
    [0.0, 2.0, 1.0, 3.0]
    """

    _extra_repr = "groups={groups}"

    def __init__(self, groups: int):
        self.groups = groups

    def __call__(self, input: Shaped[Array, "n c *spatial"]) -> Shaped[Array, "n c *spatial"]:
        """Return the input with its channel groups interleaved."""
        return F.channel_shuffle(input, self.groups)
