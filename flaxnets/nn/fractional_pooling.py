"""Fractional max-pooling layers, whose windows have random positions."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from flaxnets.nn import functional as F
from flaxnets.nn._arguments import per_axis
from flaxnets.nn.functional.fractional_pooling import random_samples
from flaxnets.nn.module import Buffer, Module

Size = int | Sequence[int]
Ratio = int | float | Sequence[int | float]


class _FractionalMaxPool(Module):
    """Base class of fractional max pooling."""

    spatial_axes: int

    def __init__(
        self,
        kernel_size: Size,
        output_size: Size | None = None,
        output_ratio: Ratio | None = None,
        return_indices: bool = False,
        _random_samples: Float[Array, "n c d"] | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ):
        n, name = self.spatial_axes, type(self).__name__
        self.kernel_size = per_axis(kernel_size, n)
        if not all(size > 0 for size in self.kernel_size):
            raise ValueError(f"{name}: kernel_size must be positive, got {kernel_size!r}")
        if (output_size is None) == (output_ratio is None):
            raise ValueError(
                f"{name}: expected either output_size or output_ratio, got {output_size!r} and {output_ratio!r}"
            )
        if _random_samples is not None and not isinstance(_random_samples, (jax.Array, np.ndarray)):
            raise TypeError(f"{name}: _random_samples must be an array or None, got {_random_samples!r}")
        if _random_samples is None and rngs is None:
            raise TypeError(f"{name}: expected rngs or _random_samples, got None for both. Fix: pass rngs")
        self.return_indices = return_indices
        self._random_samples = None if _random_samples is None else Buffer(jnp.asarray(_random_samples))
        self.output_size = None if output_size is None else per_axis(output_size, n)
        self.output_ratio = None if output_ratio is None else per_axis(output_ratio, n)
        if self.output_ratio is not None:
            if len(self.output_ratio) < n:
                raise IndexError(f"{name}: output_ratio must be one number or {n} numbers, got {output_ratio!r}")
            if not all(0 < ratio < 1 for ratio in self.output_ratio[:n]):
                raise ValueError(f"{name}: output_ratio must be between 0 and 1, got {output_ratio!r}")
        self.rngs = rngs.dropout.fork() if _random_samples is None and rngs is not None else None

    def draw_samples(self, input: Float[Array, "..."]) -> Float[Array, "n c d"]:
        """Draw the samples that determine the window positions for the next input."""
        assert self.rngs is not None
        return random_samples(self.rngs(), input, self.spatial_axes)

    def _arguments(self, input: Any) -> tuple[Any, ...]:
        input = jnp.asarray(input)
        samples = self.draw_samples(input) if self._random_samples is None else self._random_samples[...]
        return input, self.kernel_size, self.output_size, self.output_ratio, self.return_indices, samples


class FractionalMaxPool2d(_FractionalMaxPool):
    """Fractional max pooling of ``(N, C, H, W)`` or ``(C, H, W)``: windows have random steps.

    The steps sum up to the input's size. Each call draws new samples per example and channel, also in evaluation mode,
    from a random stream forked from ``rngs.dropout``. With ``_random_samples`` the samples are fixed and stored as a
    buffer.

    Args:
        kernel_size: size of the window: one int or ``(h, w)``.
        output_size: size of the output: one int or ``(h, w)``.
        output_ratio: size of the output relative to the input: one number or two. Replaces ``output_size``.
        return_indices: whether to also return the index of each maximum: ``row * W + column``.
        _random_samples: numbers in ``[0, 1)`` of shape ``(N, C, 2)``, for the width and for the height.
        rngs: random number generators for the samples; required without ``_random_samples``.

    Raises:
        ValueError: unless exactly one of output size and ratio is passed, for a ratio that is not between 0 and 1, or
            a window that is not positive.
        TypeError: for samples that are not an array, or neither samples nor ``rngs``; for a size that is not an int.
        RuntimeError: when called, for a window too large for the output, a negative size, or samples of the wrong
            shape or dtype.
        IndexError: for too few ratios; when called, for an input of too few axes.
        NotImplementedError: when called, for a non-floating-point input.

    See "Fractional Max-Pooling" (arXiv:1412.6071) and `torch.nn.FractionalMaxPool2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.FractionalMaxPool2d.html>`_.

    >>> FractionalMaxPool2d(3, output_ratio=(0.5, 0.4), rngs=nnx.Rngs(0))(jnp.ones((8, 16, 50, 30))).shape
    (8, 16, 25, 12)
    """

    spatial_axes = 2

    def __call__(self, input: Float[Array, "*n c h w"]) -> Any:
        """Return the maximum of each window, with its index if ``return_indices``."""
        return F.fractional_max_pool2d(*self._arguments(input))


class FractionalMaxPool3d(_FractionalMaxPool):
    """Fractional max pooling of ``(N, C, D, H, W)`` or ``(C, D, H, W)``: windows have random steps.

    Arguments and errors are those of :class:`FractionalMaxPool2d`, for three axes. The samples are for depth, height
    and width. The sum of ``output_size`` and ``kernel_size`` must not exceed the input's size (in two dimensions: the
    input's size plus one).

    See `torch.nn.FractionalMaxPool3d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.FractionalMaxPool3d.html>`_.

    >>> FractionalMaxPool3d(2, output_size=3, rngs=nnx.Rngs(0))(jnp.ones((8, 6, 5, 7, 8))).shape
    (8, 6, 3, 3, 3)
    """

    spatial_axes = 3

    def __call__(self, input: Float[Array, "*n c d h w"]) -> Any:
        """Return the maximum of each window, with its index if ``return_indices``."""
        return F.fractional_max_pool3d(*self._arguments(input))
