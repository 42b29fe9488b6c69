"""Max-pooling and average-pooling layers."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Real

from flaxnets.nn import functional as F
from flaxnets.nn._arguments import per_axis
from flaxnets.nn.module import Module

Size = int | Sequence[int]


class _MaxPool(Module):
    """Base class of max pooling of any number of spatial axes."""

    _extra_repr = (
        "kernel_size={kernel_size}, stride={stride}, padding={padding}, dilation={dilation}, ceil_mode={ceil_mode}"
    )

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

    def _arguments(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices


class MaxPool1d(_MaxPool):
    """Max pooling of ``(N, C, W)`` or ``(C, W)``; if elements tie, the first one gets the gradient.

    Args:
        kernel_size: size of the window: one int, or one int per spatial axis.
        stride: step of the window. Default: ``kernel_size``.
        padding: elements of minus infinity added on both sides; at most half the window.
        dilation: distance between the window's elements.
        return_indices: whether to also return the index of each maximum in the flattened spatial axes.
        ceil_mode: whether the last window may extend past the end of the input.

    Raises:
        RuntimeError: when called, for an input of the wrong rank, without channels, or smaller than the window; for a
            size that is not positive, or a padding of more than half the window.
        TypeError: when called, for a size that is not an int.
        NotImplementedError: when called, for a complex or boolean input.

    See `torch.nn.MaxPool1d <https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool1d.html>`_.

    >>> MaxPool1d(3, stride=2)(jnp.ones((8, 16, 13))).shape
    (8, 16, 6)
    """

    def __call__(self, input: Real[Array, "*n c w"]) -> Any:
        """Return the maximum of each window, with its index if ``return_indices``."""
        return F.max_pool1d(input, *self._arguments())


class MaxPool2d(_MaxPool):
    """Max pooling of ``(N, C, H, W)`` or ``(C, H, W)``.

    Arguments and errors are those of :class:`MaxPool1d`. Indices are ``row * W + column``.

    See `torch.nn.MaxPool2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html>`_.

    >>> MaxPool2d(3, stride=2)(jnp.ones((8, 16, 13, 13))).shape
    (8, 16, 6, 6)
    """

    def __call__(self, input: Real[Array, "*n c h w"]) -> Any:
        """Return the maximum of each window, with its index if ``return_indices``."""
        return F.max_pool2d(input, *self._arguments())


class MaxPool3d(_MaxPool):
    """Max pooling of ``(N, C, D, H, W)`` or ``(C, D, H, W)``.

    Arguments and errors are those of :class:`MaxPool1d`. Indices are ``(slice * H + row) * W + column``.

    See `torch.nn.MaxPool3d <https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool3d.html>`_.

    >>> MaxPool3d((1, 2, 2))(jnp.ones((2, 3, 4, 8, 8))).shape
    (2, 3, 4, 4, 4)
    """

    def __call__(self, input: Real[Array, "*n c d h w"]) -> Any:
        """Return the maximum of each window, with its index if ``return_indices``."""
        return F.max_pool3d(input, *self._arguments())


class AvgPool1d(Module):
    """Average pooling of ``(N, C, W)`` or ``(C, W)``; means of integers are truncated.

    Args:
        kernel_size: size of the window: one int, or one int per spatial axis.
        stride: step of the window. Default: ``kernel_size``.
        padding: zeros added on both sides; at most half the window.
        ceil_mode: whether the last window may extend past the end of the input.
        count_include_pad: whether the padding counts as elements of the mean.

    Raises:
        RuntimeError, TypeError, NotImplementedError: as :class:`MaxPool1d`.

    See `torch.nn.AvgPool1d <https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool1d.html>`_.

    >>> AvgPool1d(2)(jnp.ones((8, 6, 28))).shape
    (8, 6, 14)
    """

    _extra_repr = "kernel_size={kernel_size}, stride={stride}, padding={padding}"

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        # Of all pooling layers, torch stores tuples only in this one.
        self.kernel_size = per_axis(kernel_size, 1)
        self.stride = per_axis(kernel_size if stride is None else stride, 1)
        self.padding = per_axis(padding, 1)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def __call__(self, input: Real[Array, "*n c w"]) -> Real[Array, "*n c w_out"]:
        """Return the mean of each window."""
        return F.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class _AvgPool(Module):
    """Base class of average pooling over two and three spatial axes."""

    _extra_repr = "kernel_size={kernel_size}, stride={stride}, padding={padding}"

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

    def _arguments(self) -> tuple[Any, ...]:
        divisor = self.divisor_override
        return self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad, divisor


class AvgPool2d(_AvgPool):
    """Average pooling of ``(N, C, H, W)`` or ``(C, H, W)``.

    Arguments and errors are those of :class:`AvgPool1d`, and:

    Args:
        divisor_override: divisor of each sum. None means the number of elements.

    Raises:
        RuntimeError: when called, for a divisor of 0.
        IndexError: when called, for an input of fewer than three axes.

    See `torch.nn.AvgPool2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool2d.html>`_.

    >>> AvgPool2d(2)(jnp.ones((8, 6, 28, 28))).shape
    (8, 6, 14, 14)
    """

    def __call__(self, input: Real[Array, "*n c h w"]) -> Real[Array, "*n c h_out w_out"]:
        """Return the mean of each window."""
        return F.avg_pool2d(input, *self._arguments())


class AvgPool3d(_AvgPool):
    """Average pooling of ``(N, C, D, H, W)`` or ``(C, D, H, W)``.

    Arguments and errors are those of :class:`AvgPool2d`, but every wrong rank raises RuntimeError.

    See `torch.nn.AvgPool3d <https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool3d.html>`_.

    >>> AvgPool3d(2)(jnp.ones((2, 3, 4, 8, 8))).shape
    (2, 3, 2, 4, 4)
    """

    def __call__(self, input: Real[Array, "*n c d h w"]) -> Real[Array, "*n c d_out h_out w_out"]:
        """Return the mean of each window."""
        return F.avg_pool3d(input, *self._arguments())
