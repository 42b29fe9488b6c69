"""Grouped convolutions as one product of all windows: a small program that compiles fast."""

import itertools
import math

import jax
import jax.numpy as jnp
from jax import lax

from flaxnets.kernels.convolution_nd import Window, add_bias

MOST = 100_000_000  # largest number of elements of all windows


def is_small(x: jax.Array, window: Window) -> bool:
    """Return whether a convolution has groups of several channels, and windows that fit into memory."""
    windows = math.prod((x.shape[0], x.shape[1], *window.output, *window.kernel))
    return 1 < window.groups < x.shape[1] and math.prod(window.kernel) <= 64 and windows <= MOST


def grouped_convolution(x: jax.Array, weight: jax.Array, bias: jax.Array | None, *, window: Window) -> jax.Array:
    """Compute a convolution, with input and weight in torch's layout.

    >>> x, weight = jnp.ones((1, 4, 4)), jnp.ones((2, 2, 3))
    >>> window = Window((4,), (3,), (1,), ((0, 0),), (1,), groups=2, channels_last=False)
    >>> grouped_convolution(x, weight, None, window=window).tolist()
    [[[6.0, 6.0], [6.0, 6.0]]]
    """
    x = jnp.pad(x, [(0, 0), (0, 0), *((max(a, 0), max(b, 0)) for a, b in window.pads)])
    begins = [max(-a, 0) for a, _ in window.pads]
    taps = []
    for tap in itertools.product(*map(range, window.kernel)):
        starts = [b + t * d for b, t, d in zip(begins, tap, window.dilation, strict=True)]
        ends = [a + (o - 1) * s + 1 for a, o, s in zip(starts, window.output, window.stride, strict=True)]
        taps.append(lax.slice(x, (0, 0, *starts), (*x.shape[:2], *ends), (1, 1, *window.stride)))
    n, groups = x.shape[0], window.groups
    windows = jnp.stack(taps).reshape(len(taps), n, groups, x.shape[1] // groups, -1)
    kernel = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], len(taps))
    y = jnp.einsum("tngip,goit->ngop", windows, kernel, precision=window.precision)
    return add_bias(y.reshape(n, weight.shape[0], *window.output), bias, 1)
