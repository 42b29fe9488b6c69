"""Max unpooling: write maxima to the indices where a max pooling read them."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from flaxnets.nn._arguments import check_ndim, to_sizes
from flaxnets.nn.functional._windows import Size, check_dtype, check_filled


def _scatter(rows: jax.Array, indices: jax.Array, length: int) -> Any:
    numbers = jnp.broadcast_to(jnp.arange(rows.shape[0])[:, None], indices.shape)
    return jnp.zeros((rows.shape[0], length), rows.dtype).at[numbers, indices]


# If several values have the same index, JAX passes the gradient only to the value in the output, and torch to all
# of these values.
@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _place(rows: jax.Array, indices: jax.Array, length: int) -> jax.Array:
    return _scatter(rows, indices, length).set(rows, mode="drop", wrap_negative_indices=False)


@_place.defjvp
def _place_jvp(length: int, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    tangent = _scatter(tangents[0], primals[1], length).add(tangents[0], mode="drop", wrap_negative_indices=False)
    return _place(*primals, length), tangent


def _unpooled_size(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    output_size: Sequence[int] | None, name: str,
) -> tuple[int, ...]:  # fmt: skip
    n = len(kernel)
    sizes = tuple((s - 1) * step + k - 2 * p for s, k, step, p in zip(size, kernel, stride, padding, strict=True))
    if output_size is not None:
        if not isinstance(output_size, Sequence):
            raise TypeError(f"{name}: output_size must be a sequence, got {output_size!r}")
        requested = tuple(output_size)[2:] if len(output_size) == n + 2 else tuple(output_size)
        if len(requested) != n:
            raise ValueError(f"{name}: output_size must have {n} or {n + 2} elements, got {output_size!r}")
        if any(
            not default - step < length < default + step
            for length, default, step in zip(requested, sizes, stride, strict=True)
        ):
            raise ValueError(
                f"{name}: output_size must be less than a stride {tuple(stride)} away from {sizes}, got {output_size!r}"
            )
        sizes = to_sizes(requested, n, "output_size", name)
    if min(sizes) < 0:
        raise ValueError(f"{name}: the output_size must not be negative, got {sizes}")
    return sizes


def _check_indices(indices: jax.Array, input: jax.Array, sizes: tuple[int, ...], name: str) -> None:
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise RuntimeError(f"{name}: expected integer indices, got {indices.dtype}")
    if indices.shape != input.shape:
        raise RuntimeError(f"{name}: expected indices of the input's shape {input.shape}, got {indices.shape}")
    volume = int(np.prod(sizes))
    if isinstance(indices, Tracer) or not indices.size or not volume:
        return
    values = np.asarray(indices)  # under jit, jax.numpy would trace even constants
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= volume:
        raise RuntimeError(
            f"{name}: expected indices from 0 to {volume - 1} for an output of size {sizes}, got "
            f"{low if low < 0 else high}"
        )


def _max_unpool(
    n: int, input: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> jax.Array:
    input, indices, name = jnp.asarray(input), jnp.asarray(indices), f"max_unpool{n}d"
    convert = functools.partial(to_sizes, n=n, name=name, error=IndexError)
    kernel, padding = convert(kernel_size, what="kernel_size"), convert(padding, what="padding")
    stride = kernel if stride is None else convert(stride, what="stride")
    check_ndim(input, (n + 1, n + 2), name, IndexError if input.ndim < n else RuntimeError)
    sizes = _unpooled_size(input.shape[-n:], kernel, stride, padding, output_size, name)
    if n == 3 and min(stride) <= 0:  # torch checks the stride only in three dimensions
        raise RuntimeError(f"{name}: stride must be positive, got {stride}")
    check_dtype(input, (jnp.floating,), name)
    check_filled(input, 1, name)
    _check_indices(indices, input, sizes, name)
    lead, rows = input.shape[:-n], int(np.prod(input.shape[:-n]))
    columns, volume = int(np.prod(input.shape[-n:])), int(np.prod(sizes))
    return _place(input.reshape(rows, columns), indices.reshape(rows, columns), volume).reshape(*lead, *sizes)


def max_unpool1d(
    input: Float[Array, "*n c w"],
    indices: Int[Array, "*n c w"],
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Float[Array, "*n c w_out"]:
    """Max unpooling: write the maxima of :func:`max_pool1d` to their indices, with zeros elsewhere.

    If several maxima have the same index, the output has the last (on a GPU, any) of them, and each gets the gradient,
    as in torch. Under ``jax.jit``, where values are unknown, an index out of range is dropped.

    Args:
        input: the maxima, ``(N, C, W)`` or ``(C, W)``.
        indices: their indices.
        kernel_size: the ``kernel_size`` of the pooling.
        stride: the ``stride`` of the pooling. Default: ``kernel_size``.
        padding: the ``padding`` of the pooling.
        output_size: the shape before the pooling, or its spatial part. Default: the smallest size that the pooling
            reduces to the input's.

    Raises:
        ValueError: for an ``output_size`` that is negative, of the wrong length, or one that no pooling reduces to the
            input's size.
        RuntimeError: for an input of the wrong rank, or indices of the wrong shape, not integers, or out of range.
        IndexError: for sizes of the wrong length, or an input of far too few axes.
        TypeError: for a size that is not an int.
        NotImplementedError: for a non-floating-point input.

    See `torch.nn.functional.max_unpool1d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_unpool1d.html>`_.

    >>> max_unpool1d(jnp.array([[5.0, 2.0]]), jnp.array([[1, 2]]), 2).tolist()
    [[0.0, 5.0, 2.0, 0.0]]
    """
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Float[Array, "*n c h w"],
    indices: Int[Array, "*n c h w"],
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Float[Array, "*n c h_out w_out"]:
    """Max unpooling of images: write the maxima of :func:`max_pool2d` to their indices, like :func:`max_unpool1d`.

    See `torch.nn.functional.max_unpool2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_unpool2d.html>`_.

    >>> max_unpool2d(jnp.array([[[5.0]]]), jnp.array([[[2]]]), 2).tolist()
    [[[0.0, 0.0], [5.0, 0.0]]]
    """
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Float[Array, "*n c d h w"],
    indices: Int[Array, "*n c d h w"],
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Float[Array, "*n c d_out h_out w_out"]:
    """Max unpooling of volumes, like :func:`max_unpool1d`; the stride must be positive.

    See `torch.nn.functional.max_unpool3d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_unpool3d.html>`_.

    >>> max_unpool3d(jnp.array([[[[5.0]]]]), jnp.array([[[[2]]]]), (1, 2, 2)).tolist()
    [[[[0.0, 0.0], [5.0, 0.0]]]]
    """
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)
