"""Pixel shuffle, pixel unshuffle and channel shuffle."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from flaxnets import kernels
from flaxnets.kernels.shuffling import exchange_rows, interleave


def _image(name: str, what: str, factor: int, input: jax.Array) -> jax.Array:
    if not isinstance(factor, int):
        raise TypeError(f"{name}: {what} must be an int, got {factor!r}")
    if factor <= 0:
        raise RuntimeError(f"{name}: {what} must be positive, got {factor}")
    array = jnp.asarray(input)
    if array.ndim < 3:
        raise RuntimeError(f"{name}: expected an input of at least 3 axes, got {array.ndim} (shape {array.shape})")
    return array


def pixel_shuffle(input: Shaped[Array, "*n c h w"], upscale_factor: int) -> Shaped[Array, "*n c_out h_out w_out"]:
    """Move channels to pixels: ``(..., C r**2, H, W)`` becomes ``(..., C, H r, W r)``.

    Raises:
        TypeError: for a factor that is not an int.
        RuntimeError: for a factor that is not positive or whose square does not divide the channels, or an input of
            fewer than three axes.

    See "Real-time single image and video super-resolution" (arXiv:1609.05158) and
    `torch.nn.functional.pixel_shuffle
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pixel_shuffle.html>`_.

    >>> pixel_shuffle(jnp.arange(4).reshape(4, 1, 1), 2).tolist()
    [[[0, 1], [2, 3]]]
    """
    input, r = _image("pixel_shuffle", "upscale_factor", upscale_factor, input), upscale_factor
    *batch, c, h, w = input.shape
    if c % r**2:
        raise RuntimeError(f"pixel_shuffle: the square of upscale_factor={r} must divide the channels, got {c}")
    n = len(batch)
    blocks = input.reshape(*batch, c // r**2, r, r, h, w)
    return blocks.transpose(*range(n + 1), n + 3, n + 1, n + 4, n + 2).reshape(*batch, c // r**2, h * r, w * r)


def pixel_unshuffle(input: Shaped[Array, "*n c h w"], downscale_factor: int) -> Shaped[Array, "*n c_out h_out w_out"]:
    """Undo :func:`pixel_shuffle`: ``(..., C, H r, W r)`` becomes ``(..., C r**2, H, W)``.

    An empty input is returned with its shape unchanged, as in torch.

    Raises:
        TypeError: for a factor that is not an int.
        RuntimeError: for a factor that is not positive or does not divide height and width, or an input of fewer than
            three axes.

    See "Real-time single image and video super-resolution" (arXiv:1609.05158) and
    `torch.nn.functional.pixel_unshuffle
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pixel_unshuffle.html>`_.

    >>> pixel_unshuffle(jnp.arange(4).reshape(1, 2, 2), 2).ravel().tolist()
    [0, 1, 2, 3]
    """
    input, r = _image("pixel_unshuffle", "downscale_factor", downscale_factor, input), downscale_factor
    *batch, c, h, w = input.shape
    if h % r or w % r:
        raise RuntimeError(
            f"pixel_unshuffle: downscale_factor={r} must divide height and width, got an input of shape {input.shape}"
        )
    if input.size == 0:
        return input
    n = len(batch)
    blocks = input.reshape(*batch, c, h // r, r, w // r, r)
    return blocks.transpose(*range(n + 1), n + 2, n + 4, n + 1, n + 3).reshape(*batch, c * r**2, h // r, w // r)


def channel_shuffle(input: Shaped[Array, "n c *spatial"], groups: int) -> Shaped[Array, "n c *spatial"]:
    """Interleave the channel groups: first all groups' first channels, then their second channels, and so on.

    Raises:
        TypeError: for groups that are not an int.
        RuntimeError: for groups that are not positive or do not divide the channels, or an input of fewer than three
            axes.

    See "ShuffleNet" (arXiv:1707.01083) and `torch.nn.functional.channel_shuffle
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.ChannelShuffle.html>`_.

    >>> channel_shuffle(jnp.arange(4).reshape(1, 4, 1), 2).ravel().tolist()
    [0, 2, 1, 3]
    """
    input = _image("channel_shuffle", "groups", groups, input)
    n, c, *spatial = input.shape
    if c % groups:
        raise RuntimeError(f"channel_shuffle: groups={groups} must divide the channels, got {c}")
    if kernels.has_channels_last(input):
        return jnp.moveaxis(interleave(jnp.moveaxis(input, 1, -1), groups), -1, 1)
    return exchange_rows(input.reshape(n, groups, c // groups, math.prod(spatial))).reshape(input.shape)


def native_channel_shuffle(input: Shaped[Array, "n c *spatial"], groups: int) -> Shaped[Array, "n c *spatial"]:
    """:func:`channel_shuffle` under the name of torch's native kernel.

    See `torch.nn.functional.native_channel_shuffle
    <https://docs.pytorch.org/docs/stable/nn.functional.html>`_.

    >>> native_channel_shuffle(jnp.arange(4).reshape(1, 4, 1), 2).ravel().tolist()
    [0, 2, 1, 3]
    """
    return channel_shuffle(input, groups)
