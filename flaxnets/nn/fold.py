"""Unfold and Fold layers: extract sliding windows, and sum windows up to images."""

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Shaped

from flaxnets.nn import functional as F
from flaxnets.nn.functional.fold import Size
from flaxnets.nn.module import Module


class Unfold(Module):
    """Extract the sliding windows of ``(N, C, H, W)`` or ``(C, H, W)`` as columns ``(N, C * kh * kw, L)`` (im2col).

    Args:
        kernel_size: size of the window. Each size is one int or ``(h, w)``.
        dilation: distance between the window's elements.
        padding: zeros added on both sides.
        stride: step of the window.

    Raises:
        RuntimeError, IndexError, TypeError: when called, as :func:`flaxnets.nn.functional.unfold`.

    See `torch.nn.Unfold <https://docs.pytorch.org/docs/stable/generated/torch.nn.Unfold.html>`_.

    >>> Unfold(kernel_size=(2, 3))(jnp.ones((2, 5, 3, 4))).shape
    (2, 30, 4)
    """

    _extra_repr = "kernel_size={kernel_size}, dilation={dilation}, padding={padding}, stride={stride}"

    def __init__(self, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1):
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def __call__(self, input: Shaped[Array, "*n c h w"]) -> Shaped[Array, "*n window windows"]:
        """Return the windows as columns."""
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)


class Fold(Module):
    """Sum windows ``(N, C * kh * kw, L)`` or ``(C * kh * kw, L)`` into images ``(N, C, H, W)`` (col2im).

    Args:
        output_size: size of the images. Each size is one int or ``(h, w)``.
        kernel_size: size of the window.
        dilation: distance between the window's elements.
        padding: elements that the extraction added on both sides; the output leaves them out.
        stride: step of the window.

    Raises:
        RuntimeError, TypeError: when called, as :func:`flaxnets.nn.functional.fold`.

    See `torch.nn.Fold <https://docs.pytorch.org/docs/stable/generated/torch.nn.Fold.html>`_.

    >>> Fold(output_size=(4, 5), kernel_size=2)(jnp.ones((2, 12, 12))).shape
    (2, 3, 4, 5)
    """

    _extra_repr = (
        "output_size={output_size}, kernel_size={kernel_size}, dilation={dilation}, padding={padding}, stride={stride}"
    )

    def __init__(self, output_size: Size, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1):
        self.output_size = output_size
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def __call__(self, input: Shaped[Array, "*n window windows"]) -> Shaped[Array, "*n c h w"]:
        """Return the sum of the windows."""
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)
