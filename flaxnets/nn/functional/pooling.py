"""Pooling over windows, one spatial axis after the other.

The maximum and the sum of a box are those of its rows' maxima and sums, so a window of ``k**n`` elements costs
``n*k`` slices. Among equal maxima the first in reading order wins, and gets the whole gradient, as in torch.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flaxnets.nn._arguments import check_ndim, to_tuple

Size = int | Sequence[int]
Arrays = tuple[jax.Array, ...]


def _output_size(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    reach = size + 2 * padding - dilation * (kernel - 1) - 1
    output = (reach + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (output - 1) * stride >= size + padding:  # a window may not begin in the padding at the end
        output -= 1
    return output


def _slices(
    x: jax.Array, axis: int, output: int, kernel: int, stride: int, padding: int, dilation: int, fill: float
) -> list[jax.Array]:
    """For each position in the window, what all windows along ``axis`` hold there."""
    length = (output - 1) * stride + dilation * (kernel - 1) + 1
    pads = [(0, 0, 0)] * x.ndim
    pads[axis] = (padding, length - padding - x.shape[axis], 0)  # a negative end cuts what no window reaches
    x = jax.lax.pad(x, jnp.asarray(fill, x.dtype), pads)
    return [
        jax.lax.slice_in_dim(x, dilation * k, dilation * k + (output - 1) * stride + 1, stride, axis)
        for k in range(kernel)
    ]


def _larger(best: Arrays, other: Arrays) -> Arrays:
    """The values, and what goes with them, of whichever has the larger first array; NaN is larger than all."""
    take = (other[0] > best[0]) | jnp.isnan(other[0])
    return tuple(jnp.where(take, b, a) for a, b in zip(best, other, strict=True))


def _sum(total: Arrays, other: Arrays) -> Arrays:
    return (total[0] + other[0],)


@dataclasses.dataclass(frozen=True)
class _Windows:
    """The windows of one pooling call, along each spatial axis; hashable, so that a reduction is compiled once."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output: tuple[int, ...]

    @property
    def axes(self) -> range:
        return range(-len(self.kernel), 0)

    def along(self, axis: int) -> tuple[int, int, int, int, int]:
        return self.output[axis], self.kernel[axis], self.stride[axis], self.padding[axis], self.dilation[axis]

    def counts(self, count_include_pad: bool) -> np.ndarray:
        """How many elements each window's sum is divided by."""
        total = np.ones((), np.int64)
        for axis in self.axes:
            output, kernel, stride, padding, _ = self.along(axis)
            size = self.size[axis]
            start = np.arange(output) * stride - padding
            end = np.minimum(start + kernel, size + padding)
            if not count_include_pad:
                start, end = np.maximum(start, 0), np.minimum(end, size)
            total = total[..., None] * (end - start)
        return total


def _windows(
    input: jax.Array,
    kernel: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
    n: int,
    name: str,
) -> _Windows:
    """Checks the arguments, and computes the output's sizes, as torch does."""
    check_ndim(input, (n + 1, n + 2), name, RuntimeError)
    size = input.shape[-n:]
    kernel = to_tuple(kernel, n, "kernel_size")
    stride = kernel if stride is None else to_tuple(stride, n, "stride")
    padding, dilation = to_tuple(padding, n, "padding"), to_tuple(dilation, n, "dilation")
    for what, values in (("kernel_size", kernel), ("stride", stride), ("dilation", dilation)):
        if min(values) <= 0:
            raise RuntimeError(f"{name}: {what} must be positive, got {values}")
    for pad, k, d in zip(padding, kernel, dilation, strict=True):
        if not 0 <= pad <= (d * (k - 1) + 1) // 2:
            raise RuntimeError(
                f"{name}: padding must be between 0 and half the kernel, got padding {padding} "
                f"for kernel_size {kernel} and dilation {dilation}"
            )
    output = tuple(
        _output_size(*sizes, ceil_mode) for sizes in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    if min(output) < 1:
        raise RuntimeError(
            f"{name}: the window {kernel} is larger than the input of shape {input.shape}; the output would "
            f"have the size {output}"
        )
    return _Windows(size, kernel, stride, padding, dilation, output)


# Compiled as a whole also where the caller is not: some forty small operations otherwise, each on its own.
@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _reduce(
    arrays: Arrays, windows: _Windows, fills: tuple[float, ...], combine: Callable[[Arrays, Arrays], Arrays]
) -> Arrays:
    # The last axis first: rows are read before columns, which decides whose a tie is.
    for axis in reversed(windows.axes):
        slices = [_slices(x, x.ndim + axis, *windows.along(axis), fill) for x, fill in zip(arrays, fills, strict=True)]
        arrays = functools.reduce(combine, zip(*slices, strict=True))
    return arrays


def max_pool2d(
    input: Float[Array, "*n c h w"],
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Takes the maximum of each window.

    With ``return_indices`` the result is a pair: the maxima ``(*n, c, h_out, w_out)`` and where in the input's plane
    each was, as ``row * W + column``.

    Raises:
        RuntimeError: for an input of the wrong rank or smaller than the window, a size that is not positive, or a
            padding of more than half the window.

    See `torch.nn.functional.max_pool2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_pool2d.html>`_.

    >>> max_pool2d(jnp.arange(16.0).reshape(1, 4, 4), 2).tolist()
    [[[5.0, 7.0], [13.0, 15.0]]]
    """
    input = jnp.asarray(input)
    windows = _windows(input, kernel_size, stride, padding, dilation, ceil_mode, 2, "max_pool2d")
    if not return_indices:
        return _reduce((input,), windows, (-np.inf,), _larger)[0]
    plane = np.arange(np.prod(windows.size)).reshape(windows.size)
    indices = jnp.broadcast_to(jnp.asarray(plane, int), input.shape)
    values, indices = _reduce((input, indices), windows, (-np.inf, -1.0), _larger)
    return values, indices


def avg_pool2d(
    input: Float[Array, "*n c h w"],
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Float[Array, "*n c h_out w_out"]:
    """Takes the mean of each window.

    Args:
        input: images.
        kernel_size: size of the window in pixels.
        stride: step of the window; the window's size if not given.
        padding: zeros added on both sides.
        ceil_mode: whether a last window may reach past the end.
        count_include_pad: whether the added zeros count as elements.
        divisor_override: what to divide each sum by, instead of the number of elements.

    Raises:
        RuntimeError: as :func:`max_pool2d`, and for a divisor of 0.
        IndexError: for an input of fewer than three axes.

    See `torch.nn.functional.avg_pool2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.avg_pool2d.html>`_.

    >>> avg_pool2d(jnp.arange(16.0).reshape(1, 4, 4), 2).tolist()
    [[[2.5, 4.5], [10.5, 12.5]]]
    """
    input = jnp.asarray(input)
    check_ndim(input, (3, 4), "avg_pool2d", IndexError if input.ndim < 3 else RuntimeError)  # torch's choice
    if divisor_override == 0:
        raise RuntimeError("avg_pool2d: divisor_override must not be 0")
    windows = _windows(input, kernel_size, stride, padding, 1, ceil_mode, 2, "avg_pool2d")
    (total,) = _reduce((input,), windows, (0.0,), _sum)
    divisor = windows.counts(count_include_pad) if divisor_override is None else np.int64(divisor_override)
    return total / np.broadcast_to(divisor, total.shape[-2:]).astype(input.dtype)[(None,) * (input.ndim - 2)]


def _adaptive_mean(x: jax.Array, axis: int, output: int) -> jax.Array:
    size = x.shape[axis]
    if size % output == 0:
        blocks = (*x.shape[:axis], output, size // output, *x.shape[axis + 1 :])
        return x.reshape(blocks).mean(axis + 1)
    starts = [i * size // output for i in range(output)]
    ends = [-(-(i + 1) * size // output) for i in range(output)]
    means = [jax.lax.slice_in_dim(x, a, b, axis=axis).mean(axis) for a, b in zip(starts, ends, strict=True)]
    return jnp.stack(means, axis)


def adaptive_avg_pool2d(
    input: Float[Array, "*n c h w"], output_size: int | Sequence[int | None] | None
) -> Float[Array, "*n c h_out w_out"]:
    """Takes the mean of as many windows as the output has elements; they overlap where the sizes do not divide.

    Args:
        input: images.
        output_size: one int or ``(h, w)``; None keeps the input's size.

    Raises:
        RuntimeError: for an input of the wrong rank, or a negative size.

    See `torch.nn.functional.adaptive_avg_pool2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_avg_pool2d.html>`_.

    >>> adaptive_avg_pool2d(jnp.arange(9.0).reshape(1, 3, 3), (2, None)).tolist()
    [[[1.5, 2.5, 3.5], [4.5, 5.5, 6.5]]]
    """
    x = jnp.asarray(input)
    check_ndim(x, (3, 4), "adaptive_avg_pool2d", RuntimeError)
    sizes = tuple(output_size) if isinstance(output_size, Sequence) else (output_size,) * 2
    if len(sizes) != 2 or any(size is not None and size < 0 for size in sizes):
        raise RuntimeError(f"adaptive_avg_pool2d: output_size must be one or two sizes, got {output_size!r}")
    for axis, size in zip((x.ndim - 2, x.ndim - 1), sizes, strict=True):
        if size is not None:
            x = _adaptive_mean(x, axis, size)
    return x
