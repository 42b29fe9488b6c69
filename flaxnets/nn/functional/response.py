"""Local response normalisation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flaxnets.nn.functional.normalization import as_wide, check_floating


def local_response_norm(
    input: Float[Array, "n c *spatial"], size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Float[Array, "n c *spatial"]:
    """Divide by ``(k + alpha * s) ** beta``, where ``s`` is the mean square of ``size`` neighbouring channels.

    Channels outside count as zeros. For an even ``size``, the window has one more channel below than above.

    Raises:
        ValueError: if the input has fewer than three axes.
        RuntimeError: if ``size`` is not positive.
        TypeError: if ``size`` is not an int.
        NotImplementedError: for a non-floating-point input.

    See "ImageNet classification with deep convolutional neural networks" (2012) and
    `torch.nn.functional.local_response_norm
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.local_response_norm.html>`_.

    >>> local_response_norm(jnp.ones((1, 2, 1)), 2, alpha=2.0, beta=1.0).ravel().tolist()
    [0.5, 0.3333333432674408]
    """
    input = jnp.asarray(input)
    if input.ndim < 3:
        raise ValueError(f"local_response_norm: expected at least 3 axes, got an input of shape {input.shape}")
    if not isinstance(size, int):
        raise TypeError(f"local_response_norm: size must be an int, got {size!r}")
    if size <= 0:
        raise RuntimeError(f"local_response_norm: size must be positive, got {size}")
    check_floating("local_response_norm", input)
    x = as_wide(input)
    ones, none = (1,) * (x.ndim - 2), ((0, 0),) * (x.ndim - 2)
    total = jax.lax.reduce_window(
        jnp.square(x),
        np.zeros((), x.dtype),
        jax.lax.add,
        (1, size, *ones),
        (1, 1, *ones),
        ((0, 0), (size // 2, (size - 1) // 2), *none),
    )
    return (x / (total / size * alpha + k) ** beta).astype(input.dtype)


def _shifted(x: jax.Array, by: int) -> jax.Array:
    """Return the array with channel ``c + by`` at position ``c``, and zeros where there is none."""
    by = max(-x.shape[1], min(by, x.shape[1]))
    return jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (-by, by, 0), (0, 0, 0), (0, 0, 0)])


def _running_sums(entering: jax.Array, leaving: jax.Array, first: int, later: int) -> jax.Array:
    """Sum over a running window that starts with ``first`` channels; each channel leaves ``later`` steps afterwards."""
    changes = _shifted(entering, first - 1).at[:, 0].set(entering[:, :first].sum(1))
    return jnp.cumsum(changes - _shifted(leaving, -later), 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _cross_map(x: jax.Array, size: int, alpha: float, beta: float, k: float | int) -> jax.Array:
    return _cross_map_forward(x, size, alpha, beta, k)[0]


def _cross_map_forward(x: jax.Array, size: int, alpha: float, beta: float, k: float | int) -> tuple:
    reach = (size - 1) // 2 + 1
    squares = jnp.square(x)
    scale = _running_sums(squares, squares.at[:, 0].set(0), reach, reach) * (alpha / size) + k
    output = x * scale**-beta
    return output, (x, output, scale)


def _cross_map_backward(
    size: int, alpha: float, beta: float, k: float | int, saved: tuple, gradient: jax.Array
) -> tuple:
    x, output, scale = saved
    before = size - size // 2
    if before >= size:
        raise RuntimeError(f"CrossMapLRN2d: torch has no gradient for size={size}. Fix: use LocalResponseNorm")
    ratio = gradient * output / scale
    sums = _running_sums(ratio, ratio, size - before, before + 1)
    return (scale**-beta * gradient - 2 * alpha * beta / size * x * sums,)


_cross_map.defvjp(_cross_map_forward, _cross_map_backward)


def cross_map_lrn2d(input: Float[Array, "n c h w"], size: int, alpha: float, beta: float, k: float | int) -> jax.Array:
    """Implementation of :class:`flaxnets.nn.CrossMapLRN2d`."""
    input = jnp.asarray(input)
    if input.ndim != 4:
        raise ValueError(f"CrossMapLRN2d: expected 4D input, got {input.ndim}D input of shape {input.shape}")
    if size == 0:
        raise ZeroDivisionError("CrossMapLRN2d: size must be positive, got 0")
    if size < 0:
        raise ValueError(f"CrossMapLRN2d: size must be positive, got {size}")
    if input.shape[1] == 0:
        raise IndexError(f"CrossMapLRN2d: expected at least one channel, got an input of shape {input.shape}")
    if not jnp.issubdtype(input.dtype, jnp.floating):
        raise RuntimeError(f"CrossMapLRN2d: expected a floating-point input, got {input.dtype}; cast it")
    x = as_wide(input)
    return jnp.asarray(_cross_map(x, size, alpha, beta, k)).astype(input.dtype)
