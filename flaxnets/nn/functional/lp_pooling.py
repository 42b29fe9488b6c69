"""Power-average (Lp) pooling."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from flaxnets.nn.functional._windows import Size
from flaxnets.nn.functional.pooling import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)

_AVG = {1: avg_pool1d, 2: avg_pool2d, 3: avg_pool3d}
_MAX = {1: max_pool1d, 2: max_pool2d, 3: max_pool3d}


def _lp_pool(n: int, input: Any, norm_type: Any, kernel_size: Any, stride: Any, ceil_mode: bool) -> jax.Array:
    input, name = jnp.asarray(input), f"lp_pool{n}d"
    if n > 1 and isinstance(kernel_size, Sequence) and len(kernel_size) != n:
        raise ValueError(f"{name}: kernel_size must be one int or {n} ints, got {kernel_size!r}")
    if isinstance(norm_type, (int, float)) and math.isinf(norm_type):
        sign = math.copysign(1, norm_type)
        size = input * jnp.sign(input)  # has torch's gradient of 0 at 0, unlike JAX's abs
        return sign * _MAX[n](sign * size, kernel_size, stride, 0, 1, ceil_mode)
    mean = _AVG[n](jnp.power(input, norm_type), kernel_size, stride, 0, ceil_mode)
    if n == 1 and isinstance(kernel_size, Sequence):
        raise TypeError(f"{name}: kernel_size must be an int for a finite norm_type, got {kernel_size!r}")
    count = math.prod(kernel_size) if isinstance(kernel_size, Sequence) else kernel_size**n
    mean = jnp.where(mean == 0, 0, mean)  # torch's gradient at 0 is 0, where a root has an infinite slope
    return jnp.power(mean * count, 1.0 / norm_type)


def lp_pool1d(
    input: Real[Array, "*n c w"],
    norm_type: int | float | Array,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> Float[Array, "*n c w_out"]:
    """Lp pooling: take the ``norm_type``-norm of each window; the gradient is 0 where the norm is 0.

    As in torch, powers are taken without absolute values: for an odd exponent, negative sums give NaN, and the
    exponent 1 gives the sum. A last window that extends past the end is scaled as if its missing elements had the mean
    of its others.

    Args:
        input: sequences ``(N, C, W)`` or ``(C, W)``.
        norm_type: the exponent. Infinity gives the largest absolute value, minus infinity the smallest.
        kernel_size: size of the window, an int.
        stride: step of the window. Default: ``kernel_size``.
        ceil_mode: whether the last window may extend past the end of the input.

    Raises:
        ZeroDivisionError: for the exponent 0.
        RuntimeError: for an input of the wrong rank or smaller than the window, or a size that is not positive.
        TypeError: for a size that is not an int.
        NotImplementedError: for a complex input.

    See `torch.nn.functional.lp_pool1d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.lp_pool1d.html>`_.

    >>> lp_pool1d(jnp.array([[3.0, 4.0, 0.0, 1.0]]), 2, 2).tolist()
    [[5.0, 1.0]]
    """
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Real[Array, "*n c h w"],
    norm_type: int | float | Array,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> Float[Array, "*n c h_out w_out"]:
    """Lp pooling of images, like :func:`lp_pool1d`; sizes are one int or ``(h, w)``.

    Raises:
        ValueError: for a ``kernel_size`` of the wrong length.
        IndexError: for an input of fewer than three axes.

    See `torch.nn.functional.lp_pool2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.lp_pool2d.html>`_.

    >>> lp_pool2d(jnp.ones((1, 2, 2)), 2, 2).tolist()
    [[[2.0]]]
    """
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Real[Array, "*n c d h w"],
    norm_type: int | float | Array,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> Float[Array, "*n c d_out h_out w_out"]:
    """Lp pooling of volumes, like :func:`lp_pool2d`, but every wrong rank raises RuntimeError.

    See `torch.nn.functional.lp_pool3d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.lp_pool3d.html>`_.

    >>> lp_pool3d(jnp.ones((1, 2, 2, 2)), 3, 2).tolist()
    [[[[2.0]]]]
    """
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)
