"""Max and average pooling."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Real

from flaxnets import kernels
from flaxnets.kernels.windows import Windows, larger
from flaxnets.nn._arguments import check_ndim
from flaxnets.nn.functional._windows import Size, added, flat_indices, lowest, reduce_windows, windows_of


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
@functools.partial(jax.jit, static_argnums=1)  # see _windows.reduce_windows
def _maxima(x: jax.Array, windows: Windows) -> jax.Array:
    implementation = kernels.default_max_pool_implementation(x, windows, is_differentiated=False)
    return implementation(x) if implementation else _reduced(x, windows)


@_maxima.defjvp
def _maxima_jvp(windows: Windows, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    implementation = kernels.default_max_pool_implementation(primals[0], windows, is_differentiated=True)
    return jax.jvp(implementation or functools.partial(_reduced, windows=windows), primals, tangents)


def _reduced(x: jax.Array, windows: Windows) -> jax.Array:
    return reduce_windows((x,), windows, (lowest(x.dtype),), larger)[0]


def _max_pool(
    n: int, input: Any, kernel_size: Size, stride: Size | None, padding: Size, dilation: Size, ceil_mode: bool,
    return_indices: bool,
) -> Any:  # fmt: skip
    input = jnp.asarray(input)
    windows = windows_of(input, n, f"max_pool{n}d", kernel_size, stride, padding, dilation, ceil_mode)
    fill = lowest(input.dtype)
    implementation = kernels.max_pool_implementation(input, windows)
    if implementation is not None:
        return implementation(input, return_indices=return_indices)
    if not return_indices:
        return _maxima(input, windows)
    return reduce_windows((input, flat_indices(input, n)), windows, (fill, 0), larger)


def max_pool1d(
    input: Real[Array, "*n c w"],
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Max pooling of sequences.

    With ``return_indices`` the result is a pair: the maxima ``(*n, c, w_out)`` and their indices in the input. If
    elements tie, the first one gets the whole gradient.

    Args:
        input: sequences ``(N, C, W)`` or ``(C, W)``.
        kernel_size: size of the window: one int, or one int per spatial axis.
        stride: step of the window. Default: ``kernel_size``.
        padding: elements of minus infinity added on both sides; at most half the window.
        dilation: distance between the window's elements.
        ceil_mode: whether the last window may extend past the end of the input.
        return_indices: whether to also return the indices.

    Raises:
        RuntimeError: for an input of the wrong rank, without channels, or smaller than the window; for a size that is
            not positive, or a padding of more than half the window.
        TypeError: for a size that is not an int.
        NotImplementedError: for a complex or boolean input.

    See `torch.nn.functional.max_pool1d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_pool1d.html>`_.

    >>> max_pool1d(jnp.array([[1.0, 5.0, 2.0, 0.0]]), 2).tolist()
    [[5.0, 2.0]]
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Real[Array, "*n c h w"],
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Max pooling of images, like :func:`max_pool1d`; indices are ``row * W + column``.

    See `torch.nn.functional.max_pool2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_pool2d.html>`_.

    >>> max_pool2d(jnp.arange(16.0).reshape(1, 4, 4), 2).tolist()
    [[[5.0, 7.0], [13.0, 15.0]]]
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Real[Array, "*n c d h w"],
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Max pooling of volumes, like :func:`max_pool1d`; indices are row-major.

    See `torch.nn.functional.max_pool3d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_pool3d.html>`_.

    >>> max_pool3d(jnp.arange(8.0).reshape(1, 2, 2, 2), 2).tolist()
    [[[[7.0]]]]
    """
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool1d_with_indices(
    input: Real[Array, "*n c w"],
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Real[Array, "*n c w_out"], Int[Array, "*n c w_out"]]:
    """:func:`max_pool1d` with ``return_indices=True``; ignores the argument.

    >>> [part.tolist() for part in max_pool1d_with_indices(jnp.array([[1.0, 5.0, 2.0, 0.0]]), 2)]
    [[[5.0, 2.0]], [[1, 2]]]
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool2d_with_indices(
    input: Real[Array, "*n c h w"],
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Real[Array, "*n c h_out w_out"], Int[Array, "*n c h_out w_out"]]:
    """:func:`max_pool2d` with ``return_indices=True``; ignores the argument.

    >>> max_pool2d_with_indices(jnp.arange(16.0).reshape(1, 4, 4), 2)[1].tolist()
    [[[5, 7], [13, 15]]]
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool3d_with_indices(
    input: Real[Array, "*n c d h w"],
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Real[Array, "*n c d_out h_out w_out"], Int[Array, "*n c d_out h_out w_out"]]:
    """:func:`max_pool3d` with ``return_indices=True``; ignores the argument.

    >>> max_pool3d_with_indices(jnp.arange(8.0).reshape(1, 2, 2, 2), 2)[1].tolist()
    [[[[7]]]]
    """
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def _avg_pool(
    n: int, input: Any, kernel_size: Size, stride: Size | None, padding: Size, ceil_mode: bool,
    count_include_pad: bool, divisor_override: int | None = None,
) -> jax.Array:  # fmt: skip
    input, name = jnp.asarray(input), f"avg_pool{n}d"
    if n == 2:  # as in torch
        check_ndim(input, (3, 4), name, IndexError if input.ndim < 3 else RuntimeError)
    windows = windows_of(input, n, name, kernel_size, stride, padding, 1, ceil_mode)
    if n == 3 and any(size < kernel for size, kernel in zip(windows.size, windows.kernel, strict=True)):
        raise RuntimeError(  # as in torch, three dimensions ignore the padding
            f"{name}: the window {windows.kernel} is larger than the input of shape {input.shape}"
        )
    if divisor_override == 0:
        raise RuntimeError(f"{name}: divisor_override must not be 0")
    if not isinstance(divisor_override, (int, np.integer, type(None))):
        raise TypeError(f"{name}: divisor_override must be an int, got {divisor_override!r}")
    divisor = windows.counts(count_include_pad) if divisor_override is None else divisor_override
    wide = jnp.promote_types(input.dtype, jnp.float32) if jnp.issubdtype(input.dtype, jnp.floating) else input.dtype
    x = input.astype(wide)
    implementation = kernels.sum_pool_implementation(x, windows)
    total = implementation(x) if implementation else reduce_windows((x,), windows, (0,), added)[0]
    return jax.lax.div(total, jnp.broadcast_to(jnp.asarray(divisor, wide), total.shape)).astype(input.dtype)


def avg_pool1d(
    input: Real[Array, "*n c w"],
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Real[Array, "*n c w_out"]:
    """Average pooling of sequences; means of integers are truncated.

    Args:
        input: sequences ``(N, C, W)`` or ``(C, W)``.
        kernel_size: size of the window: one int, or one int per spatial axis.
        stride: step of the window. Default: ``kernel_size``.
        padding: zeros added on both sides; at most half the window.
        ceil_mode: whether the last window may extend past the end of the input.
        count_include_pad: whether the padding counts as elements of the mean.

    Raises:
        RuntimeError, TypeError, NotImplementedError: as :func:`max_pool1d`.

    See `torch.nn.functional.avg_pool1d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.avg_pool1d.html>`_.

    >>> avg_pool1d(jnp.array([[1.0, 5.0, 2.0, 0.0]]), 2).tolist()
    [[3.0, 1.0]]
    """
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d(
    input: Real[Array, "*n c h w"],
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Real[Array, "*n c h_out w_out"]:
    """Average pooling of images, like :func:`avg_pool1d`.

    ``divisor_override`` replaces the number of elements as the divisor of each sum.

    Raises:
        RuntimeError: as :func:`avg_pool1d`, and for a divisor of 0.
        IndexError: for an input of fewer than three axes.

    See `torch.nn.functional.avg_pool2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.avg_pool2d.html>`_.

    >>> avg_pool2d(jnp.arange(16.0).reshape(1, 4, 4), 2).tolist()
    [[[2.5, 4.5], [10.5, 12.5]]]
    """
    return _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(
    input: Real[Array, "*n c d h w"],
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Real[Array, "*n c d_out h_out w_out"]:
    """Average pooling of volumes, like :func:`avg_pool2d`, but every wrong rank raises RuntimeError.

    The window must not be larger than the input; padding and ``ceil_mode`` do not extend the limit.

    See `torch.nn.functional.avg_pool3d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.avg_pool3d.html>`_.

    >>> avg_pool3d(jnp.arange(8.0).reshape(1, 2, 2, 2), 2, divisor_override=4).tolist()
    [[[[7.0]]]]
    """
    return _avg_pool(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
