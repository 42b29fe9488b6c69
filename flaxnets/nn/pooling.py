"""Pooling layers."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Float

from flaxnets.nn import functional as F
from flaxnets.nn.module import Module

Size = int | tuple[int, int]


class MaxPool2d(Module):
    """Takes the maximum of each window of ``(N, C, H, W)`` or ``(C, H, W)``.

    Args:
        kernel_size: size of the window in pixels, one int or ``(h, w)``.
        stride: step of the window; the window's size if not given.
        padding: pixels of minus infinity added on both sides, at most half the window.
        dilation: distance between the window's elements.
        return_indices: whether to return also where each maximum was, as ``row * W + column``.
        ceil_mode: whether a last window may reach past the end.

    Raises:
        RuntimeError: at the call, for an input of the wrong rank or smaller than the window, or a bad size.

    See `torch.nn.MaxPool2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html>`_.

    >>> MaxPool2d(3, stride=2)(jnp.ones((8, 16, 13, 13))).shape
    (8, 16, 6, 6)
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ):
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def __call__(self, input: Float[Array, "*n c h w"]) -> Any:
        """Returns each window's maximum (and its place); of equal ones the first gets the gradient."""
        return F.max_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )


class AvgPool2d(Module):
    """Takes the mean of each window of ``(N, C, H, W)`` or ``(C, H, W)``.

    Args:
        kernel_size: size of the window in pixels, one int or ``(h, w)``.
        stride: step of the window; the window's size if not given.
        padding: zeros added on both sides, at most half the window.
        ceil_mode: whether a last window may reach past the end.
        count_include_pad: whether the added zeros count as elements.
        divisor_override: what to divide each sum by, instead of the number of elements.

    Raises:
        RuntimeError: at the call, for an input of the wrong rank or smaller than the window, or a bad size.

    See `torch.nn.AvgPool2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool2d.html>`_.

    >>> AvgPool2d(2)(jnp.ones((8, 6, 28, 28))).shape
    (8, 6, 14, 14)
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ):
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def __call__(self, input: Float[Array, "*n c h w"]) -> Float[Array, "*n c h_out w_out"]:
        """Returns each window's mean."""
        return F.avg_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            self.divisor_override,
        )  # fmt: skip


class AdaptiveAvgPool2d(Module):
    """Takes the mean of as many windows of ``(N, C, H, W)`` or ``(C, H, W)`` as the output has pixels.

    Args:
        output_size: pixels of the output, one int or ``(h, w)``; None keeps the input's size.

    Raises:
        RuntimeError: at the call, for an input of the wrong rank.

    See `torch.nn.AdaptiveAvgPool2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool2d.html>`_.

    >>> AdaptiveAvgPool2d((1, 1))(jnp.ones((8, 512, 3, 3))).shape
    (8, 512, 1, 1)
    """

    def __init__(self, output_size: int | Sequence[int | None] | None):
        self.output_size = tuple(output_size) if isinstance(output_size, Sequence) else output_size

    def __call__(self, input: Float[Array, "*n c h w"]) -> Float[Array, "*n c h_out w_out"]:
        """Returns the means."""
        return F.adaptive_avg_pool2d(input, self.output_size)
