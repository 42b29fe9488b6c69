"""Layers that put maxima back to where a max-pooling found them."""

from collections.abc import Sequence

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Float, Int

from flaxnets.nn import functional as F
from flaxnets.nn._arguments import per_axis
from flaxnets.nn.module import Module

Size = int | Sequence[int]


class _MaxUnpool(Module):
    """Base class of unpoolings of any number of spatial axes."""

    _extra_repr = "kernel_size={kernel_size}, stride={stride}, padding={padding}"

    spatial_axes: int

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0):
        self.kernel_size = per_axis(kernel_size, self.spatial_axes)
        self.stride = per_axis(kernel_size if stride is None else stride, self.spatial_axes)
        self.padding = per_axis(padding, self.spatial_axes)


class MaxUnpool1d(_MaxUnpool):
    """Put the maxima ``(N, C, W)`` or ``(C, W)`` of a :class:`MaxPool1d` back to their places, with zeros elsewhere.

    Where several go to one place the last is there, on a GPU any; each of them gets the gradient.
    Under jit an index out of range cannot raise: its value goes nowhere.

    Args:
        kernel_size: as it was for the pooling, and so are ``stride`` and ``padding``.
        stride: the window's size if not given.
        padding: what the output is smaller by on both sides.

    Raises:
        ValueError: when called, for an output size that is negative, of another length, or no size that leads to the
            input's.
        RuntimeError: when called, for an input of the wrong rank, or indices of another shape, that are no integers,
            or out of range.
        IndexError: when called, for sizes of another length, or an input of far too few axes.
        TypeError: when called, for a size that is not an int.
        NotImplementedError: when called, for a non-floating-point input.

    See `torch.nn.MaxUnpool1d <https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxUnpool1d.html>`_.

    >>> maxima, indices = F.max_pool1d(jnp.array([[1.0, 4.0, 3.0, 2.0]]), 2, return_indices=True)
    >>> MaxUnpool1d(2)(maxima, indices).tolist()
    [[0.0, 4.0, 3.0, 0.0]]
    """

    spatial_axes = 1

    def __call__(
        self,
        input: Float[Array, "*n c w"],
        indices: Int[Array, "*n c w"],
        output_size: Sequence[int] | None = None,
    ) -> Float[Array, "*n c w_out"]:
        """Return an array of ``output_size``, or of the least size whose pooling has the input's."""
        return F.max_unpool1d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool2d(_MaxUnpool):
    """Put the maxima ``(N, C, H, W)`` or ``(C, H, W)`` of a :class:`MaxPool2d` back to their places.

    Arguments and errors are as of :class:`MaxUnpool1d`; sizes are one int or ``(h, w)``.

    See `torch.nn.MaxUnpool2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxUnpool2d.html>`_.

    >>> MaxUnpool2d(2)(jnp.ones((1, 3, 3)), jnp.zeros((1, 3, 3), int), output_size=(7, 6)).shape
    (1, 7, 6)
    """

    spatial_axes = 2

    def __call__(
        self,
        input: Float[Array, "*n c h w"],
        indices: Int[Array, "*n c h w"],
        output_size: Sequence[int] | None = None,
    ) -> Float[Array, "*n c h_out w_out"]:
        """Return an array of ``output_size``, or of the least size whose pooling has the input's."""
        return F.max_unpool2d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool3d(_MaxUnpool):
    """Put the maxima ``(N, C, D, H, W)`` or ``(C, D, H, W)`` of a :class:`MaxPool3d` back to their places.

    Arguments and errors are as of :class:`MaxUnpool1d`, and a stride that is not positive is a RuntimeError.

    See `torch.nn.MaxUnpool3d <https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxUnpool3d.html>`_.

    >>> MaxUnpool3d(2)(jnp.ones((1, 3, 3, 3)), jnp.zeros((1, 3, 3, 3), int)).shape
    (1, 6, 6, 6)
    """

    spatial_axes = 3

    def __call__(
        self,
        input: Float[Array, "*n c d h w"],
        indices: Int[Array, "*n c d h w"],
        output_size: Sequence[int] | None = None,
    ) -> Float[Array, "*n c d_out h_out w_out"]:
        """Return an array of ``output_size``, or of the least size whose pooling has the input's."""
        return F.max_unpool3d(input, indices, self.kernel_size, self.stride, self.padding, output_size)
