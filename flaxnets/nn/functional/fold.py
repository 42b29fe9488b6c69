"""Unfold and fold: extract sliding windows, and sum windows up to images."""

import functools
import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from flaxnets.nn._arguments import check_ndim, to_sizes

Size = int | Sequence[int]
Axis = tuple[int, int, int, int]


def _window(kernel_size: Size, dilation: Size, padding: Size, stride: Size, name: str) -> list[Axis]:
    """Return kernel, dilation, padding and stride of each axis."""
    rows = []
    for what, value, least in (
        ("kernel_size", kernel_size, 1),
        ("dilation", dilation, 1),
        ("padding", padding, 0),
        ("stride", stride, 1),
    ):
        sizes = to_sizes(value, 2, what, name)
        if min(sizes) < least:
            raise RuntimeError(f"{name}: {what} must be at least {least}, got {sizes}")
        rows.append(sizes)
    return [*zip(*rows, strict=True)]


def _count(size: int, kernel: int, dilation: int, padding: int, stride: int) -> int:
    """Return the number of windows along an axis."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _check_not_empty(input: jax.Array, ndim: int, name: str) -> None:
    if 0 in input.shape[-ndim:]:
        raise RuntimeError(f"{name}: only the batch may be of size zero, got an input of shape {input.shape}")


def unfold(
    input: Shaped[Array, "*n c h w"],
    kernel_size: Size,
    dilation: Size = 1,
    padding: Size = 0,
    stride: Size = 1,
) -> Shaped[Array, "*n window windows"]:
    """Extract the sliding windows of images as columns (im2col).

    Args:
        input: ``(N, C, H, W)`` or ``(C, H, W)``.
        kernel_size: size of the window. Each size is one int or ``(h, w)``.
        dilation: distance between the window's elements.
        padding: zeros added on both sides.
        stride: step of the window.

    Returns:
        ``(N, C * kh * kw, L)``: one column for each of the L windows, in row-major order.

    Raises:
        RuntimeError: for sizes that are out of range, an input of more than four axes, an input with an empty axis
            other than the batch, or an input smaller than the window.
        IndexError: for an input of fewer than three axes.
        TypeError: for sizes that are not ints.

    See `torch.nn.functional.unfold <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.unfold.html>`_.

    >>> import jax.numpy as jnp
    >>> unfold(jnp.arange(6.0).reshape(1, 2, 3), (2, 2)).tolist()
    [[0.0, 1.0], [1.0, 2.0], [3.0, 4.0], [4.0, 5.0]]
    """
    window = _window(kernel_size, dilation, padding, stride, "unfold")
    input = jnp.asarray(input)
    check_ndim(input, (3, 4), "unfold", IndexError if input.ndim < 3 else RuntimeError)
    _check_not_empty(input, 3, "unfold")
    counts = [_count(size, *sizes) for size, sizes in zip(input.shape[-2:], window, strict=True)]
    if min(counts) < 1:
        raise RuntimeError(
            f"unfold: the window of (kernel, dilation, padding, stride) {window} is larger than the padded input "
            f"(input of shape {input.shape})"
        )
    return _take(input, tuple(window), tuple(counts))


def fold(
    input: Shaped[Array, "*n window windows"],
    output_size: Size,
    kernel_size: Size,
    dilation: Size = 1,
    padding: Size = 0,
    stride: Size = 1,
) -> Shaped[Array, "*n c h w"]:
    """Sum windows into images (col2im): the transpose of :func:`unfold`.

    Args:
        input: ``(N, C * kh * kw, L)`` or ``(C * kh * kw, L)``: one column per window, in row-major order.
        output_size: size of the images: one int or ``(h, w)``.
        kernel_size: size of the window, as in :func:`unfold`.
        dilation: distance between the window's elements.
        padding: elements that :func:`unfold` added on both sides; the output leaves them out.
        stride: step of the window.

    Returns:
        ``(N, C, H, W)``; overlapping windows are summed.

    Raises:
        RuntimeError: for sizes that are out of range, an input of the wrong rank, an input with an empty axis other
            than the batch, or a number of rows or columns that does not match the sizes.
        TypeError: for sizes that are not ints.

    See `torch.nn.functional.fold <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.fold.html>`_.

    >>> import jax.numpy as jnp
    >>> fold(jnp.ones((4, 2)), (2, 3), 2).tolist()
    [[[1.0, 2.0, 1.0], [1.0, 2.0, 1.0]]]
    """
    window = _window(kernel_size, dilation, padding, stride, "fold")
    output_size = to_sizes(output_size, 2, "output_size", "fold")
    input = jnp.asarray(input)
    check_ndim(input, (2, 3), "fold", RuntimeError)
    _check_not_empty(input, 2, "fold")
    counts = [_count(size, *sizes) for size, sizes in zip(output_size, window, strict=True)]
    kernel = [k for k, *_ in window]
    rows, columns = input.shape[-2:]
    if min(output_size) < 1 or min(counts) < 1 or rows % math.prod(kernel) or columns != math.prod(counts):
        raise RuntimeError(
            f"fold: output_size {output_size} and windows of (kernel, dilation, padding, stride) {window} need "
            f"an input of a multiple of {math.prod(kernel)} rows and of {counts[0]} * {counts[1]} columns, "
            f"got one of shape {input.shape}"
        )
    return _add(input, tuple(output_size), tuple(window), tuple(counts))


# Jitted even in eager mode: otherwise many small operations are dispatched one by one.
@functools.partial(jax.jit, static_argnums=(1, 2))
def _take(input: jax.Array, window: tuple[Axis, ...], counts: tuple[int, ...]) -> jax.Array:
    """Return the windows of the padded input."""
    pads = [(0, 0, 0)] * (input.ndim - 2) + [(padding, padding, 0) for _, _, padding, _ in window]
    x = jax.lax.pad(input, jnp.zeros((), input.dtype), pads)
    # Move the kernel's axes between the channels and the windows.
    for (kernel, dilation, _, stride), count, axis in zip(window, counts, (x.ndim - 2, x.ndim), strict=True):
        starts = [dilation * k for k in range(kernel)]
        ends = [start + (count - 1) * stride + 1 for start in starts]
        slices = [jax.lax.slice_in_dim(x, *ends, stride, axis) for ends in zip(starts, ends, strict=True)]
        x = jnp.stack(slices, -3)
    return x.reshape(*input.shape[:-3], math.prod(x.shape[-5:-2]), math.prod(counts))


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _add(
    input: jax.Array, output_size: tuple[int, ...], window: tuple[Axis, ...], counts: tuple[int, ...]
) -> jax.Array:
    """Return the sum of the windows at their positions in the image."""
    kernels = [kernel for kernel, *_ in window]
    channels = input.shape[-2] // math.prod(kernels)
    x = input.reshape(*input.shape[:-2], channels, *kernels, *counts)
    for axis in (-1, -2):
        kernel, dilation, padding, stride = window[axis]
        spread = []
        for k in range(kernel):
            element = jax.lax.index_in_dim(x, k, x.ndim - 3, keepdims=False)
            before = dilation * k - padding
            after = output_size[axis] - before - (counts[axis] - 1) * stride - 1
            pads = [(0, 0, 0)] * element.ndim
            pads[axis] = (before, after, stride - 1)
            spread.append(jax.lax.pad(element, jnp.zeros((), x.dtype), pads))
        x = functools.reduce(operator.add, spread)
    return x
