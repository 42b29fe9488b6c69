"""Power-average (Lp) pooling layers."""

from collections.abc import Sequence

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Float, Real

from flaxnets.nn import functional as F
from flaxnets.nn.module import Module

Size = int | Sequence[int]


class _LPPool(Module):
    """Base class of Lp pooling of any number of spatial axes."""

    _extra_repr = "norm_type={norm_type}, kernel_size={kernel_size}, stride={stride}, ceil_mode={ceil_mode}"

    def __init__(self, norm_type: int | float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False):
        self.norm_type = norm_type
        self.kernel_size = kernel_size
        self.stride = stride
        self.ceil_mode = ceil_mode


class LPPool1d(_LPPool):
    """Lp pooling: take the norm of each window of ``(N, C, W)`` or ``(C, W)``; its gradient is 0 where the norm is 0.

    As in torch, powers are taken without absolute values: for an odd exponent, negative sums give NaN, and the
    exponent 1 gives the sum. A last window that extends past the end is scaled as if its missing elements had the
    mean of its others.

    Args:
        norm_type: the exponent. Infinity gives the largest absolute value, minus infinity the smallest.
        kernel_size: size of the window, an int.
        stride: step of the window. Default: ``kernel_size``.
        ceil_mode: whether the last window may extend past the end of the input.

    Raises:
        ZeroDivisionError: when called, for the exponent 0.
        RuntimeError: when called, for an input of the wrong rank or smaller than the window, or a size that is not
            positive.
        TypeError: when called, for an exponent that is not a number, or a size that is not an int.
        NotImplementedError: when called, for a complex input.

    See `torch.nn.LPPool1d <https://docs.pytorch.org/docs/stable/generated/torch.nn.LPPool1d.html>`_.

    >>> LPPool1d(2, 3, stride=2)(jnp.ones((8, 16, 13))).shape
    (8, 16, 6)
    """

    def __call__(self, input: Real[Array, "*n c w"]) -> Float[Array, "*n c w_out"]:
        """Return the norm of each window."""
        return F.lp_pool1d(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)


class LPPool2d(_LPPool):
    """Lp pooling: take the norm of each window of ``(N, C, H, W)`` or ``(C, H, W)``.

    Sizes are one int or ``(h, w)``. Arguments and errors are those of :class:`LPPool1d`, and:

    Raises:
        ValueError: when called, for a ``kernel_size`` of the wrong length.
        IndexError: when called, for an input of fewer than three axes.

    See `torch.nn.LPPool2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.LPPool2d.html>`_.

    >>> LPPool2d(1.2, (3, 2), stride=(2, 1))(jnp.ones((8, 16, 13, 13))).shape
    (8, 16, 6, 12)
    """

    def __call__(self, input: Real[Array, "*n c h w"]) -> Float[Array, "*n c h_out w_out"]:
        """Return the norm of each window."""
        return F.lp_pool2d(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)


class LPPool3d(_LPPool):
    """Lp pooling: take the norm of each window of ``(N, C, D, H, W)`` or ``(C, D, H, W)``.

    Arguments and errors are those of :class:`LPPool2d`, but every wrong rank raises RuntimeError.

    See `torch.nn.LPPool3d <https://docs.pytorch.org/docs/stable/generated/torch.nn.LPPool3d.html>`_.

    >>> LPPool3d(2, 2)(jnp.ones((2, 3, 4, 8, 8))).shape
    (2, 3, 2, 4, 4)
    """

    def __call__(self, input: Real[Array, "*n c d h w"]) -> Float[Array, "*n c d_out h_out w_out"]:
        """Return the norm of each window."""
        return F.lp_pool3d(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)
