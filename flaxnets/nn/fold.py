"""Layers that take sliding windows apart, and put them together again."""

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Shaped

from flaxnets.nn import functional as F
from flaxnets.nn.functional.fold import Size
from flaxnets.nn.module import Module


class Unfold(Module):
    """Return the windows of images ``(N, C, H, W)`` or ``(C, H, W)`` as columns ``(N, C * kh * kw, L)``.

    Args:
        kernel_size: size of the window, one int or ``(h, w)`` as all the sizes.
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
        """Take the input apart."""
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)


class Fold(Module):
    """Add windows ``(N, C * kh * kw, L)`` or ``(C * kh * kw, L)`` up to images ``(N, C, H, W)``.

    Args:
        output_size: of the images, one int or ``(h, w)`` as all the sizes.
        kernel_size: size of the window.
        dilation: distance between the window's elements.
        padding: elements that had been added on both sides, and are left out again.
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
        """Add the windows up."""
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)
