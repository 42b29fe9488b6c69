"""Adaptive average and max pooling."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from flaxnets import kernels
from flaxnets.kernels.pooling import max_pool, sum_pool
from flaxnets.kernels.windows import adaptive, bounds
from flaxnets.nn._arguments import along, check_ndim, to_sizes
from flaxnets.nn.functional._windows import check_dtype, check_filled


def _output_sizes(output_size: Any, input: jax.Array, n: int, name: str) -> tuple[int, ...]:
    if n > 1 and isinstance(output_size, Sequence):
        if input.ndim <= len(output_size):
            raise ValueError(
                f"{name}: expected at least {len(output_size) + 1} axes for the output_size {output_size!r}, got an "
                f"input of shape {input.shape}"
            )
        spatial = input.shape[input.ndim - len(output_size) :]
        output_size = [axis if size is None else size for size, axis in zip(output_size, spatial, strict=True)]
    sizes = to_sizes(output_size, n, "output_size", name)
    if min(sizes) < 0:
        raise RuntimeError(f"{name}: output_size must not be negative, got {output_size!r}")
    return sizes


@functools.partial(jax.jit, static_argnums=(1, 2))  # see _windows.reduce_windows
def _means(input: jax.Array, sizes: tuple[int, ...], channels_last: bool) -> jax.Array:
    x = input.astype(jnp.promote_types(input.dtype, jnp.float32))
    if 0 in (*sizes, *x.shape[-len(sizes) :]):  # the mean of no elements is NaN
        return jnp.full(x.shape[: -len(sizes)] + sizes, jnp.nan, input.dtype)
    axes = list(enumerate(sizes, x.ndim - len(sizes)))
    counts = [(axis, np.subtract(*reversed(bounds(x.shape[axis], output)))) for axis, output in axes]
    x = sum_pool(x, [adaptive(x.shape[axis], output) for axis, output in axes], channels_last)
    for axis, count in counts:
        x = x / along(jnp.asarray(count, x.dtype), axis, x.ndim)
    return x.astype(input.dtype)


def _adaptive_avg_pool(n: int, input: Any, output_size: Any) -> jax.Array:
    x, name = jnp.asarray(input), f"adaptive_avg_pool{n}d"
    sizes = _output_sizes(output_size, x, n, name)
    if n > 1 and set(sizes) == {1}:  # as in torch, for any number of leading axes
        if x.ndim < n:
            raise IndexError(f"{name}: expected at least {n}D input, got {x.ndim}D input of shape {x.shape}")
    else:
        check_ndim(x, (n + 1, n + 2), name, RuntimeError)
        if sizes != (1,):  # of the whole axis: a plain mean
            check_filled(x, 1 if n == 3 else x.ndim - n, name)
    check_dtype(x, (jnp.floating,), name)
    return _means(x, sizes, kernels.has_channels_last(x))


def adaptive_avg_pool1d(input: Float[Array, "*n c w"], output_size: int | Sequence[int]) -> Float[Array, "*n c w_out"]:
    """Adaptive average pooling of ``(N, C, W)`` or ``(C, W)`` to ``output_size`` elements.

    Windows overlap if the input's size is not a multiple of the output's size.

    Args:
        input: sequences ``(N, C, W)`` or ``(C, W)``.
        output_size: number of output elements.

    Raises:
        RuntimeError: for an input of the wrong rank or without elements to pool, or a negative size.
        TypeError: for a size that is not an int.
        NotImplementedError: for a non-floating-point input.

    See `torch.nn.functional.adaptive_avg_pool1d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_avg_pool1d.html>`_.

    >>> adaptive_avg_pool1d(jnp.array([[1.0, 2.0, 3.0]]), 2).tolist()
    [[1.5, 2.5]]
    """
    return _adaptive_avg_pool(1, input, output_size)


def adaptive_avg_pool2d(
    input: Float[Array, "*n h w"], output_size: int | Sequence[int | None]
) -> Float[Array, "*n h_out w_out"]:
    """Adaptive average pooling of images, like :func:`adaptive_avg_pool1d`; an ``output_size`` of 1 accepts any rank.

    Args:
        input: images ``(N, C, H, W)`` or ``(C, H, W)``.
        output_size: one int or ``(h, w)``. None keeps the input's size.

    Raises:
        ValueError: for a pair of sizes, and an input of fewer than three axes.
        IndexError: for an input of fewer than two axes.

    See `torch.nn.functional.adaptive_avg_pool2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_avg_pool2d.html>`_.

    >>> adaptive_avg_pool2d(jnp.arange(9.0).reshape(1, 3, 3), (2, None)).tolist()
    [[[1.5, 2.5, 3.5], [4.5, 5.5, 6.5]]]
    """
    return _adaptive_avg_pool(2, input, output_size)


def adaptive_avg_pool3d(
    input: Float[Array, "*n d h w"], output_size: int | Sequence[int | None]
) -> Float[Array, "*n d_out h_out w_out"]:
    """Adaptive average pooling of volumes, like :func:`adaptive_avg_pool2d`.

    See `torch.nn.functional.adaptive_avg_pool3d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_avg_pool3d.html>`_.

    >>> adaptive_avg_pool3d(jnp.arange(8.0).reshape(1, 2, 2, 2), 1).tolist()
    [[[[3.5]]]]
    """
    return _adaptive_avg_pool(3, input, output_size)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _maxima(x: jax.Array, sizes: tuple[int, ...], channels_last: bool, return_indices: bool) -> Any:
    if 0 in sizes:
        x = jnp.zeros(x.shape[: -len(sizes)] + sizes, x.dtype)
        return (x, x.astype(int)) if return_indices else x
    axes = [adaptive(size, output) for size, output in zip(x.shape[-len(sizes) :], sizes, strict=True)]
    return max_pool(x, axes, channels_last, return_indices)


def _adaptive_max_pool(n: int, input: Any, output_size: Any, return_indices: bool) -> Any:
    x, name = jnp.asarray(input), f"adaptive_max_pool{n}d"
    sizes = _output_sizes(output_size, x, n, name)
    check_ndim(x, (n + 1, n + 2), name, RuntimeError)
    check_filled(x, 1, name)
    check_dtype(x, (jnp.floating,), name)
    return _maxima(x, sizes, kernels.has_channels_last(x), return_indices)


def adaptive_max_pool1d(
    input: Float[Array, "*n c w"], output_size: int | Sequence[int], return_indices: bool = False
) -> Any:
    """Adaptive max pooling of ``(N, C, W)`` or ``(C, W)`` to ``output_size`` elements.

    Windows overlap if the input's size is not a multiple of the output's size. With ``return_indices`` the result is a
    pair: the maxima ``(*n, c, w_out)`` and their indices in the input. If elements tie, the first one gets the whole
    gradient.

    Args:
        input: sequences ``(N, C, W)`` or ``(C, W)``.
        output_size: number of output elements.
        return_indices: whether to also return the indices.

    Raises:
        RuntimeError: for an input of the wrong rank or without elements to pool, or a negative size.
        TypeError: for a size that is not an int.
        NotImplementedError: for a non-floating-point input.

    See `torch.nn.functional.adaptive_max_pool1d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_max_pool1d.html>`_.

    >>> adaptive_max_pool1d(jnp.array([[1.0, 3.0, 2.0, 0.0]]), 2).tolist()
    [[3.0, 2.0]]
    """
    return _adaptive_max_pool(1, input, output_size, return_indices)


def adaptive_max_pool2d(
    input: Float[Array, "*n c h w"], output_size: int | Sequence[int | None], return_indices: bool = False
) -> Any:
    """Adaptive max pooling of images, like :func:`adaptive_max_pool1d`.

    Args:
        input: images ``(N, C, H, W)`` or ``(C, H, W)``.
        output_size: one int or ``(h, w)``. None keeps the input's size.
        return_indices: whether to also return the indices, ``row * W + column``.

    Raises:
        ValueError: for a pair of sizes, and an input of fewer than three axes.

    See `torch.nn.functional.adaptive_max_pool2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_max_pool2d.html>`_.

    >>> adaptive_max_pool2d(jnp.arange(9.0).reshape(1, 3, 3), (1, None)).tolist()
    [[[6.0, 7.0, 8.0]]]
    """
    return _adaptive_max_pool(2, input, output_size, return_indices)


def adaptive_max_pool3d(
    input: Float[Array, "*n c d h w"], output_size: int | Sequence[int | None], return_indices: bool = False
) -> Any:
    """Adaptive max pooling of volumes, like :func:`adaptive_max_pool2d`, with row-major indices.

    See `torch.nn.functional.adaptive_max_pool3d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_max_pool3d.html>`_.

    >>> adaptive_max_pool3d(jnp.arange(8.0).reshape(1, 2, 2, 2), 1).tolist()
    [[[[7.0]]]]
    """
    return _adaptive_max_pool(3, input, output_size, return_indices)


def adaptive_max_pool1d_with_indices(
    input: Float[Array, "*n c w"], output_size: int | Sequence[int], return_indices: bool = False
) -> tuple[Float[Array, "*n c w_out"], Int[Array, "*n c w_out"]]:
    """:func:`adaptive_max_pool1d` with ``return_indices=True``; ignores the argument.

    >>> adaptive_max_pool1d_with_indices(jnp.array([[1.0, 3.0, 2.0, 0.0]]), 2)[1].tolist()
    [[1, 2]]
    """
    return _adaptive_max_pool(1, input, output_size, True)


def adaptive_max_pool2d_with_indices(
    input: Float[Array, "*n c h w"], output_size: int | Sequence[int | None], return_indices: bool = False
) -> tuple[Float[Array, "*n c h_out w_out"], Int[Array, "*n c h_out w_out"]]:
    """:func:`adaptive_max_pool2d` with ``return_indices=True``; ignores the argument.

    >>> adaptive_max_pool2d_with_indices(jnp.arange(9.0).reshape(1, 3, 3), (1, None))[1].tolist()
    [[[6, 7, 8]]]
    """
    return _adaptive_max_pool(2, input, output_size, True)


def adaptive_max_pool3d_with_indices(
    input: Float[Array, "*n c d h w"], output_size: int | Sequence[int | None], return_indices: bool = False
) -> tuple[Float[Array, "*n c d_out h_out w_out"], Int[Array, "*n c d_out h_out w_out"]]:
    """:func:`adaptive_max_pool3d` with ``return_indices=True``; ignores the argument.

    >>> adaptive_max_pool3d_with_indices(jnp.arange(8.0).reshape(1, 2, 2, 2), 1)[1].tolist()
    [[[[7]]]]
    """
    return _adaptive_max_pool(3, input, output_size, True)
