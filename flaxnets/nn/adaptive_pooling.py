"""Adaptive pooling layers, whose argument is the output's size."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Float

from flaxnets.nn import functional as F
from flaxnets.nn.module import Module

OutputSize = int | Sequence[int | None] | None


class _AdaptivePool(Module):
    """Base class of adaptive pooling."""

    _extra_repr = "output_size={output_size}"

    def __init__(self, output_size: OutputSize):
        self.output_size: Any = tuple(output_size) if isinstance(output_size, list) else output_size


class AdaptiveAvgPool1d(_AdaptivePool):
    """Adaptive average pooling of ``(N, C, W)`` or ``(C, W)`` to ``output_size`` elements.

    Windows overlap if the input's size is not a multiple of the output's size.

    Args:
        output_size: number of output elements.

    Raises:
        RuntimeError: when called, for an input of the wrong rank or without elements to pool, or a negative size.
        TypeError: when called, for a size that is not an int.
        NotImplementedError: when called, for a non-floating-point input.

    See `torch.nn.AdaptiveAvgPool1d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool1d.html>`_.

    >>> AdaptiveAvgPool1d(4)(jnp.ones((8, 512, 10))).shape
    (8, 512, 4)
    """

    def __call__(self, input: Float[Array, "*n c w"]) -> Float[Array, "*n c w_out"]:
        """Return the means."""
        return F.adaptive_avg_pool1d(input, self.output_size)


class AdaptiveAvgPool2d(_AdaptivePool):
    """Adaptive average pooling of ``(N, C, H, W)`` or ``(C, H, W)`` to ``output_size`` pixels.

    With an output size of 1, the layer averages over the last two axes of an input of any rank.

    Args:
        output_size: output size in pixels: one int or ``(h, w)``. None keeps the input's size.

    Raises:
        RuntimeError, TypeError, NotImplementedError: as :class:`AdaptiveAvgPool1d`.
        ValueError: when called, for a pair of sizes and an input of fewer than three axes.
        IndexError: when called, for the size 1 and an input of fewer than two axes.

    See `torch.nn.AdaptiveAvgPool2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool2d.html>`_.

    >>> AdaptiveAvgPool2d((1, 1))(jnp.ones((8, 512, 3, 3))).shape
    (8, 512, 1, 1)
    """

    def __call__(self, input: Float[Array, "*n h w"]) -> Float[Array, "*n h_out w_out"]:
        """Return the means."""
        return F.adaptive_avg_pool2d(input, self.output_size)


class AdaptiveAvgPool3d(_AdaptivePool):
    """Adaptive average pooling of ``(N, C, D, H, W)`` or ``(C, D, H, W)`` to ``output_size`` voxels.

    Arguments and errors are those of :class:`AdaptiveAvgPool2d`, for three axes.

    See `torch.nn.AdaptiveAvgPool3d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool3d.html>`_.

    >>> AdaptiveAvgPool3d((None, 2, 2))(jnp.ones((2, 3, 5, 7, 8))).shape
    (2, 3, 5, 2, 2)
    """

    def __call__(self, input: Float[Array, "*n d h w"]) -> Float[Array, "*n d_out h_out w_out"]:
        """Return the means."""
        return F.adaptive_avg_pool3d(input, self.output_size)


class _AdaptiveMaxPool(_AdaptivePool):
    def __init__(self, output_size: OutputSize, return_indices: bool = False):
        super().__init__(output_size)
        self.return_indices = return_indices


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Adaptive max pooling of ``(N, C, W)`` or ``(C, W)`` to ``output_size`` elements.

    Windows overlap if the input's size is not a multiple of the output's size. If elements tie, the first one gets the
    gradient.

    Args:
        output_size: number of output elements.
        return_indices: whether to also return the index of each maximum in the flattened spatial axes.

    Raises:
        RuntimeError: when called, for an input of the wrong rank or without elements to pool, or a negative size.
        TypeError: when called, for a size that is not an int.
        NotImplementedError: when called, for a non-floating-point input.

    See `torch.nn.AdaptiveMaxPool1d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveMaxPool1d.html>`_.

    >>> AdaptiveMaxPool1d(4)(jnp.ones((8, 512, 10))).shape
    (8, 512, 4)
    """

    def __call__(self, input: Float[Array, "*n c w"]) -> Any:
        """Return the maxima, with their indices if ``return_indices``."""
        return F.adaptive_max_pool1d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Adaptive max pooling of ``(N, C, H, W)`` or ``(C, H, W)`` to ``output_size`` pixels.

    Args:
        output_size: output size in pixels: one int or ``(h, w)``. None keeps the input's size.
        return_indices: whether to also return the index of each maximum: ``row * W + column``.

    Raises:
        RuntimeError, TypeError, NotImplementedError: as :class:`AdaptiveMaxPool1d`.
        ValueError: when called, for a pair of sizes and an input of fewer than three axes.

    See `torch.nn.AdaptiveMaxPool2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveMaxPool2d.html>`_.

    >>> AdaptiveMaxPool2d((5, None))(jnp.ones((1, 64, 8, 9))).shape
    (1, 64, 5, 9)
    """

    def __call__(self, input: Float[Array, "*n c h w"]) -> Any:
        """Return the maxima, with their indices if ``return_indices``."""
        return F.adaptive_max_pool2d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Adaptive max pooling of ``(N, C, D, H, W)`` or ``(C, D, H, W)`` to ``output_size`` voxels.

    Arguments and errors are those of :class:`AdaptiveMaxPool2d`, for three axes.

    See `torch.nn.AdaptiveMaxPool3d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveMaxPool3d.html>`_.

    >>> AdaptiveMaxPool3d(2)(jnp.ones((2, 3, 5, 7, 8))).shape
    (2, 3, 2, 2, 2)
    """

    def __call__(self, input: Float[Array, "*n c d h w"]) -> Any:
        """Return the maxima, with their indices if ``return_indices``."""
        return F.adaptive_max_pool3d(input, self.output_size, self.return_indices)
