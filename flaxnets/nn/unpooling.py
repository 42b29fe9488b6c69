"""Max-unpooling layers, which invert max pooling."""

from collections.abc import Sequence

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Float, Int

from flaxnets.nn import functional as F
from flaxnets.nn._arguments import per_axis
from flaxnets.nn.module import Module

Size = int | Sequence[int]


class _MaxUnpool(Module):
    """Base class of max unpooling of any number of spatial axes."""

    _extra_repr = "kernel_size={kernel_size}, stride={stride}, padding={padding}"

    spatial_axes: int

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0):
        self.kernel_size = per_axis(kernel_size, self.spatial_axes)
        self.stride = per_axis(kernel_size if stride is None else stride, self.spatial_axes)
        self.padding = per_axis(padding, self.spatial_axes)


class MaxUnpool1d(_MaxUnpool):
    """Max unpooling: write the maxima of a :class:`MaxPool1d` to their indices, with zeros elsewhere.

    Inputs are ``(N, C, W)`` or ``(C, W)``. If several maxima have the same index, the output has the last (on a GPU,
    any) of them, and each gets the gradient. Under ``jax.jit``, where values are unknown, an index out of range is
    dropped.

    Args:
        kernel_size: the ``kernel_size`` of the pooling.
        stride: the ``stride`` of the pooling. Default: ``kernel_size``.
        padding: the ``padding`` of the pooling.

    Raises:
        ValueError: when called, for an ``output_size`` that is negative, of the wrong length, or one that no pooling
            reduces to the input's size.
        RuntimeError: when called, for an input of the wrong rank, or indices of another shape, of non-integer dtype, or
            out of range.
        IndexError: when called, for sizes of the wrong length, or an input of far too few axes.
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
        """Return an array of ``output_size``. Default: the smallest size that the pooling reduces to the input's."""
        return F.max_unpool1d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool2d(_MaxUnpool):
    """Max unpooling of ``(N, C, H, W)`` or ``(C, H, W)``: write the maxima of a :class:`MaxPool2d` to their indices.

    Sizes are one int or ``(h, w)``. Arguments and errors are those of :class:`MaxUnpool1d`.

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
        """Return an array of ``output_size``. Default: the smallest size that the pooling reduces to the input's."""
        return F.max_unpool2d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool3d(_MaxUnpool):
    """Max unpooling of ``(N, C, D, H, W)`` or ``(C, D, H, W)``: write :class:`MaxPool3d`'s maxima to their indices.

    Arguments and errors are those of :class:`MaxUnpool1d`; a stride that is not positive raises RuntimeError.

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
        """Return an array of ``output_size``. Default: the smallest size that the pooling reduces to the input's."""
        return F.max_unpool3d(input, indices, self.kernel_size, self.stride, self.padding, output_size)
