"""Pooling windows, and their reduction one spatial axis after the other.

The maximum or sum of a box is that of its rows' maxima or sums. A window of ``k**n`` elements therefore costs ``n*k``
slices, or about ``n*log2(k)`` if the window is long. If elements tie for the maximum, the first in row-major order gets
the whole gradient, as in torch; among several NaN, the last.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxnets.kernels._primitives import materialized
from flaxnets.kernels.windows import COMBINED, Arrays, Windows
from flaxnets.nn._arguments import check_ndim, to_sizes

Size = int | Sequence[int]
Number = int | float
Combine = Callable[[Arrays, Arrays, jax.Array | None], Arrays]


def check_dtype(input: jax.Array, kinds: tuple[Any, ...], name: str) -> None:
    """Raise unless the dtype is of one of the kinds, such as ``jnp.floating``."""
    if not any(jnp.issubdtype(input.dtype, kind) for kind in kinds):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise NotImplementedError(f"{name}: expected {expected} input, got {input.dtype}; cast it with .astype")


def check_filled(input: jax.Array, first: int, name: str) -> None:
    """Raise if an axis from ``first`` on has no elements."""
    if 0 in input.shape[first:]:
        raise RuntimeError(
            f"{name}: expected no axis of size 0 from axis {first} on, got an input of shape {input.shape}"
        )


def _output_size(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    reach = size + 2 * padding - dilation * (kernel - 1) - 1
    output = (reach + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (output - 1) * stride >= size + padding:  # drop a last window that would start in the padding
        output -= 1
    return output


def windows_of(
    input: jax.Array,
    n: int,
    name: str,
    kernel: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
) -> Windows:
    """Check the arguments and compute the output's sizes, as torch does."""
    check_dtype(input, (jnp.floating, jnp.integer), name)
    check_ndim(input, (n + 1, n + 2), name, RuntimeError)
    check_filled(input, input.ndim - n - 1, name)
    size = input.shape[-n:]
    convert = functools.partial(to_sizes, n=n, name=name, broadcast=True)
    kernel = convert(kernel, what="kernel_size")
    no_stride = stride is None or (isinstance(stride, Sequence) and not stride)
    stride = kernel if no_stride else convert(stride, what="stride")
    padding, dilation = convert(padding, what="padding"), convert(dilation, what="dilation")
    for what, values in (("kernel_size", kernel), ("stride", stride), ("dilation", dilation)):
        if min(values) <= 0:
            raise RuntimeError(f"{name}: {what} must be positive, got {values}")
    if any(not 0 <= pad <= k // 2 for pad, k in zip(padding, kernel, strict=True)):
        raise RuntimeError(
            f"{name}: padding must be between 0 and half the kernel, got padding {padding} for kernel_size {kernel}"
        )
    output = tuple(
        _output_size(*sizes, ceil_mode) for sizes in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    if min(output) < 1:
        raise RuntimeError(
            f"{name}: the window {kernel} is larger than the input of shape {input.shape}; the output would "
            f"have the size {output}"
        )
    return Windows(size, kernel, stride, padding, dilation, output)


# Jitted even in eager mode: otherwise about forty small operations are dispatched one by one.
@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def reduce_windows(arrays: Arrays, windows: Windows, fills: tuple[Number, ...], combine: Combine) -> Arrays:
    """Reduce each window of the arrays; ``fills`` has each array's padding value."""
    # Reducing the last axis first visits elements in row-major order, which decides between tied maxima.
    for axis in reversed(windows.axes):
        reduce = _reduce_long if windows.kernel[axis] > COMBINED else _reduce_short
        arrays = reduce(arrays, windows, fills, combine, axis)
    return arrays


def _reduce_short(arrays: Arrays, windows: Windows, fills: tuple[Number, ...], combine: Combine, axis: int) -> Arrays:
    """Reduce short windows: one slice per position in the window."""
    slices = zip(*(windows.slices(x, axis, fill) for x, fill in zip(arrays, fills, strict=True)), strict=True)
    arrays = next(slices)
    for position, other in enumerate(slices, 1):
        arrays = combine(arrays, other, windows.first(axis, position, other[0].shape))
    return arrays


def _reduce_long(arrays: Arrays, windows: Windows, fills: tuple[Number, ...], combine: Combine, axis: int) -> Arrays:
    """Reduce long windows from blocks of 1, 2, 4, ... elements, following the binary digits of the window's length.

    One slice per position would need hundreds of slices, whose gradient XLA compiles for minutes.
    """
    kernel, dilation = windows.kernel[axis], windows.dilation[axis]
    dense = dataclasses.replace(windows, stride=(1,) * len(windows.stride))
    blocks = tuple(windows.padded(x, axis, fill) for x, fill in zip(arrays, fills, strict=True))
    done, span, total = 0, 1, ()
    while True:
        if kernel & span:
            part = tuple(windows.starts(x, axis, done) for x in blocks)
            total = combine(total, part, windows.first(axis, done, part[0].shape)) if done else part
            done += span
        if done == kernel:
            return total
        before = tuple(jax.lax.slice_in_dim(x, 0, x.shape[axis] - dilation * span, axis=axis) for x in blocks)
        after = tuple(jax.lax.slice_in_dim(x, dilation * span, x.shape[axis], axis=axis) for x in blocks)
        # Without materialisation, XLA recomputes the shorter blocks twice in each longer block, recursively.
        blocks = tuple(map(materialized, combine(before, after, dense.first(axis, span, before[0].shape))))
        span *= 2


def added(total: Arrays, other: Arrays, first: jax.Array | None) -> Arrays:
    """Add two arrays."""
    return (total[0] + other[0],)


def flat_indices(input: jax.Array, n: int) -> jax.Array:
    """The number of each element within its own volume of ``n`` axes, in reading order."""
    size = input.shape[input.ndim - n :]
    return jnp.broadcast_to(jnp.arange(int(np.prod(size))).reshape(size), input.shape)


def lowest(dtype: Any) -> Number:
    """Return the smallest value of the dtype."""
    return -np.inf if jnp.issubdtype(dtype, jnp.floating) else int(jnp.iinfo(dtype).min)
