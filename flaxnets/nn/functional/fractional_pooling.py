"""Fractional max pooling, after "Fractional Max-Pooling" (arXiv:1412.6071)."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from flaxnets.kernels._primitives import materialized
from flaxnets.kernels.windows import Arrays, larger
from flaxnets.nn._arguments import check_ndim, per_axis, to_sizes
from flaxnets.nn.functional._windows import Size, check_dtype, check_filled, flat_indices

Ratio = int | float | Sequence[int | float]


def _check_rank(input: jax.Array, n: int) -> None:
    check_ndim(input, (n + 1, n + 2), f"fractional_max_pool{n}d", IndexError if input.ndim <= n else RuntimeError)


def random_samples(key: jax.Array, input: jax.Array, n: int) -> jax.Array:
    """Draw the samples that determine the window positions: ``(N, C, n)`` numbers in ``[0, 1)``."""
    _check_rank(input, n)
    check_dtype(input, (jnp.floating,), f"fractional_max_pool{n}d")
    batch = 1 if input.ndim == n + 1 else input.shape[0]
    return jax.random.uniform(key, (batch, input.shape[-n - 1], n), input.dtype)


def _check_samples(samples: jax.Array, input: jax.Array, n: int, name: str) -> None:
    batch, channels = input.shape[:2]
    if samples.ndim != 3 or samples.shape[0] < batch or samples.shape[1:] != (channels, n):
        raise RuntimeError(
            f"{name}: expected _random_samples of shape {(batch, channels, n)} for an input of shape {input.shape}, "
            f"got {samples.shape}"
        )
    if samples.dtype != input.dtype:
        raise RuntimeError(f"{name}: expected _random_samples of the input's dtype {input.dtype}, got {samples.dtype}")


def _output_sizes(input: jax.Array, output_size: Any, output_ratio: Any, n: int, name: str) -> tuple[int, ...]:
    if output_size is None:
        if output_ratio is None:
            raise ValueError(f"{name}: expected output_size or output_ratio, got None for both")
        if n == 2 and not isinstance(output_ratio, Sequence):  # as in torch
            raise TypeError(f"{name}: output_ratio must be {n} numbers, got {output_ratio!r}")
        ratios = per_axis(output_ratio, n)
        if len(ratios) < n:
            raise IndexError(f"{name}: output_ratio must be one number or {n} numbers, got {output_ratio!r}")
        if len(ratios) > n:
            raise ValueError(f"{name}: output_ratio must be one number or {n} numbers, got {output_ratio!r}")
        output_size = [int(size * ratio) for size, ratio in zip(input.shape[-n:], ratios, strict=True)]
    sizes = to_sizes(output_size, n, "output_size", name)
    if min(sizes) < 0:
        raise RuntimeError(f"{name}: output_size must not be negative, got {output_size!r}")
    return sizes


def _starts(samples: jax.Array, size: int, kernel: int, output: int) -> jax.Array:
    """Return the start of each window, for each sample, in a new last axis."""
    last = jnp.full((*samples.shape, min(output, 1)), size - kernel)
    if output < 2:
        return last
    alpha = np.asarray(size - kernel, samples.dtype) / np.asarray(output - 1, samples.dtype)
    samples = samples[..., None]
    numbers = jnp.arange(output - 1).astype(samples.dtype).reshape(*[1] * (samples.ndim - 1), -1)
    return jnp.concatenate([((numbers + samples) * alpha).astype(int) - (samples * alpha).astype(int), last], -1)


# Compiled as a whole also where the caller is not, see _windows.reduce_windows.
@functools.partial(jax.jit, static_argnums=(2, 3))
def _maxima(
    x: jax.Array, samples: jax.Array, kernel: tuple[int, ...], output: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """The maxima of ``(N, C, *spatial)`` and their places, as one axis."""
    n, arrays = len(kernel), (jax.lax.stop_gradient(x), flat_indices(x, len(kernel)))
    for axis in reversed(range(2, n + 2)):
        k, out = kernel[axis - 2], output[axis - 2]
        starts = _starts(samples[..., axis - 2], x.shape[axis], k, out)
        starts = materialized(starts.reshape(*x.shape[:2], *(out if i == axis else 1 for i in range(2, n + 2))))

        def take(position: int, arrays: Arrays, starts: jax.Array = starts, axis: int = axis) -> Arrays:
            return tuple(jnp.take_along_axis(array, starts + position, axis, mode="clip") for array in arrays)

        best = take(0, arrays)
        for position in range(1, k):
            best = larger(best, take(position, arrays), None)
        arrays = tuple(map(materialized, best))
    # The gradient is then added to one element of the input for each window, instead of to one of each axis.
    place = arrays[1].reshape(*x.shape[:2], math.prod(output))
    flat = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
    return jnp.take_along_axis(flat, place, 2, mode="promise_in_bounds"), place


def _fractional_max_pool(
    n: int, input: Any, kernel_size: Any, output_size: Any, output_ratio: Any, return_indices: bool, samples: Any,
    key: jax.Array | None,
) -> Any:  # fmt: skip
    input, name = jnp.asarray(input), f"fractional_max_pool{n}d"
    _check_rank(input, n)
    output = _output_sizes(input, output_size, output_ratio, n, name)
    kernel = to_sizes(kernel_size, n, "kernel_size", name)
    if min(kernel) <= 0:
        raise ValueError(f"{name}: kernel_size must be positive, got {kernel_size!r}")
    if samples is None:
        if key is None:
            raise TypeError(f"{name}: expected _random_samples or a key, got None for both. Fix: pass key")
        samples = random_samples(key, input, n)
    check_dtype(input, (jnp.floating,), name)
    check_filled(input, 1, name)
    batched = input if input.ndim == n + 2 else input[None]
    samples = jnp.asarray(samples)
    _check_samples(samples, batched, n, name)
    for size, k, out in zip(batched.shape[2:], kernel, output, strict=True):
        if out + k - 1 + (n == 3) > size:  # torch requires one element more in three dimensions
            raise RuntimeError(
                f"{name}: the kernel_size {kernel} is too large for an output of size {output} from an input of "
                f"shape {input.shape}"
            )
    if n == 2:
        samples = jnp.flip(samples, -1)  # torch's order is w, h there and d, h, w here
    shape = (*input.shape[:-n], *output)
    values, place = (array.reshape(shape) for array in _maxima(batched, samples[: len(batched)], kernel, output))
    return (values, place) if return_indices else values


def fractional_max_pool2d(
    input: Float[Array, "*n c h w"],
    kernel_size: Size,
    output_size: Size | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: Float[Array, "n c 2"] | None = None,
    *,
    key: jax.Array | None = None,
) -> Any:
    """Fractional max pooling of images: windows have random steps that sum up to the input's size.

    With ``return_indices`` the result is a pair: the maxima ``(*n, c, h_out, w_out)`` and their indices in the input,
    ``row * W + column``. If elements tie, the first one gets the whole gradient.

    Args:
        input: images ``(N, C, H, W)`` or ``(C, H, W)``.
        kernel_size: size of the window: one int, or one int per spatial axis.
        output_size: size of the output: one int, or one int per spatial axis.
        output_ratio: size of the output relative to the input; ignored with ``output_size``.
        return_indices: whether to also return the indices.
        _random_samples: numbers in ``[0, 1)`` that determine the window positions, for the width and for the height.
        key: random key for the samples, if not passed.

    Raises:
        ValueError: without size and ratio, for too many ratios, or an empty window.
        RuntimeError: for a window too large for the output, a negative size, or samples of the wrong shape or dtype.
        IndexError: for an input of fewer than three axes, or too few ratios.
        TypeError: for a size that is not an int, or without samples and key.
        NotImplementedError: for a non-floating-point input.

    See `torch.nn.functional.fractional_max_pool2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.fractional_max_pool2d.html>`_.

    >>> fractional_max_pool2d(jnp.ones((1, 5, 5)), 2, output_ratio=(0.5, 0.7), key=jax.random.key(0)).shape
    (1, 2, 3)
    """
    return _fractional_max_pool(2, input, kernel_size, output_size, output_ratio, return_indices, _random_samples, key)


def fractional_max_pool3d(
    input: Float[Array, "*n c d h w"],
    kernel_size: Size,
    output_size: Size | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: Float[Array, "n c 3"] | None = None,
    *,
    key: jax.Array | None = None,
) -> Any:
    """Fractional max pooling of volumes; samples are for depth, height and width, in this order.

    Other arguments and errors are those of :func:`fractional_max_pool2d`. ``output_size + kernel_size`` must not exceed
    the input's size, which is one element stricter than in two dimensions.

    See `torch.nn.functional.fractional_max_pool3d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.fractional_max_pool3d.html>`_.

    >>> fractional_max_pool3d(jnp.ones((1, 5, 5, 5)), 2, output_size=3, key=jax.random.key(0)).shape
    (1, 3, 3, 3)
    """
    return _fractional_max_pool(3, input, kernel_size, output_size, output_ratio, return_indices, _random_samples, key)


def fractional_max_pool2d_with_indices(
    input: Float[Array, "*n c h w"],
    kernel_size: Size,
    output_size: Size | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: Float[Array, "n c 2"] | None = None,
    *,
    key: jax.Array | None = None,
) -> tuple[Float[Array, "*n c h_out w_out"], Int[Array, "*n c h_out w_out"]]:
    """:func:`fractional_max_pool2d` with ``return_indices=True``; ignores the argument.

    >>> fractional_max_pool2d_with_indices(jnp.ones((1, 5, 5)), 2, 1, key=jax.random.key(0))[1].tolist()
    [[[18]]]
    """
    return _fractional_max_pool(2, input, kernel_size, output_size, output_ratio, True, _random_samples, key)


def fractional_max_pool3d_with_indices(
    input: Float[Array, "*n c d h w"],
    kernel_size: Size,
    output_size: Size | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: Float[Array, "n c 3"] | None = None,
    *,
    key: jax.Array | None = None,
) -> tuple[Float[Array, "*n c d_out h_out w_out"], Int[Array, "*n c d_out h_out w_out"]]:
    """:func:`fractional_max_pool3d` with ``return_indices=True``; ignores the argument.

    >>> fractional_max_pool3d_with_indices(jnp.ones((1, 3, 3, 3)), 2, 1, key=jax.random.key(0))[1].tolist()
    [[[[13]]]]
    """
    return _fractional_max_pool(3, input, kernel_size, output_size, output_ratio, True, _random_samples, key)
