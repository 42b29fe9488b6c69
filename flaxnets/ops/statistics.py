"""Variance and standard deviation with torch's correction, running sums, histograms."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import DTypeLike

from flaxnets.ops._axes import Dim, resolve, resolve_all
from flaxnets.ops.promotion import floating


def _variance(
    input: jax.Array, dim: Dim | bool, unbiased: bool, keepdim: bool, correction: float | None
) -> tuple[jax.Array, jax.Array]:
    """Return variance and mean; in torch's ``var(x, False)`` the second argument is ``unbiased``, not an axis."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    axes = resolve_all(dim, input.ndim, "var")
    correction = (1 if unbiased else 0) if correction is None else correction
    mean = input.mean(axis=axes, keepdims=True)
    count = input.size / max(mean.size, 1)
    squares = jnp.square(jnp.abs(input - mean)) if jnp.iscomplexobj(input) else jnp.square(input - mean)
    divisor = max(count - correction, 0.0)
    total = squares.sum(axis=axes, keepdims=keepdim)
    variance = total / divisor if divisor else total / jnp.zeros((), total.dtype)
    return variance, mean if keepdim else mean.squeeze(axes)


def root(squares: jax.Array) -> jax.Array:
    """Return the square root with gradient zero at zero, as in torch's norms and standard deviations.

    >>> jax.grad(root)(0.0).item()
    0.0
    """
    is_zero = squares == 0
    return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, squares)))


def var(
    input: jax.Array, dim: Dim = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> jax.Array:
    """Return the variance of all elements or along axes.

    Args:
        input: of any shape, floating-point or complex.
        dim: the axis or axes. None and () mean all. A bool here means ``unbiased``, as in torch.
        unbiased: whether to divide the sum of squares by ``n - 1`` instead of ``n``.
        keepdim: whether to keep the axes, with size 1.
        correction: number subtracted from ``n``, instead of ``unbiased``.

    See `torch.var <https://docs.pytorch.org/docs/stable/generated/torch.var.html>`_.

    >>> var(jnp.array([1.0, 3.0])).item(), var(jnp.array([1.0, 3.0]), correction=0).item()
    (2.0, 1.0)
    """
    return _variance(input, dim, unbiased, keepdim, correction)[0]


def std(
    input: jax.Array, dim: Dim = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> jax.Array:
    """Return the standard deviation; where it is zero, its gradient is zero. Arguments are those of :func:`var`.

    See `torch.std <https://docs.pytorch.org/docs/stable/generated/torch.std.html>`_.

    >>> std(jnp.array([[1.0, 5.0], [2.0, 2.0]]), 1, correction=0).tolist()
    [2.0, 0.0]
    """
    return root(_variance(input, dim, unbiased, keepdim, correction)[0])


def var_mean(
    input: jax.Array, dim: Dim = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> tuple[jax.Array, jax.Array]:
    """Return variance and mean. Arguments are those of :func:`var`.

    See `torch.var_mean <https://docs.pytorch.org/docs/stable/generated/torch.var_mean.html>`_.

    >>> [each.item() for each in var_mean(jnp.array([1.0, 3.0]))]
    [2.0, 2.0]
    """
    return _variance(input, dim, unbiased, keepdim, correction)


def std_mean(
    input: jax.Array, dim: Dim = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> tuple[jax.Array, jax.Array]:
    """Return standard deviation and mean. Arguments are those of :func:`var`.

    See `torch.std_mean <https://docs.pytorch.org/docs/stable/generated/torch.std_mean.html>`_.

    >>> [each.item() for each in std_mean(jnp.array([1.0, 5.0]), correction=0)]
    [2.0, 3.0]
    """
    variance, mean = _variance(input, dim, unbiased, keepdim, correction)
    return root(variance), mean


def cumsum(input: jax.Array, dim: int, *, dtype: DTypeLike | None = None) -> jax.Array:
    """Return running sums along an axis; integers and booleans give int64 (without x64: int32).

    See `torch.cumsum <https://docs.pytorch.org/docs/stable/generated/torch.cumsum.html>`_.

    >>> cumsum(jnp.array([True, False, True]), 0).tolist()
    [1, 1, 2]
    """
    array = _widened(input, dim, dtype, "cumsum")
    return jnp.cumsum(array, axis=dim) if array.ndim else array


def cumprod(input: jax.Array, dim: int, *, dtype: DTypeLike | None = None) -> jax.Array:
    """Return running products along an axis; integers and booleans give int64 (without x64: int32).

    See `torch.cumprod <https://docs.pytorch.org/docs/stable/generated/torch.cumprod.html>`_.

    >>> cumprod(jnp.array([2, 3, 4]), 0).tolist()
    [2, 6, 24]
    """
    array = _widened(input, dim, dtype, "cumprod")
    return jnp.cumprod(array, axis=dim) if array.ndim else array


def _widened(input: jax.Array, dim: int, dtype: DTypeLike | None, name: str) -> jax.Array:
    resolve(dim, input.ndim, name)
    if dtype is None:
        dtype = input.dtype if jnp.issubdtype(input.dtype, jnp.inexact) else int
    return input.astype(dtype)


def logcumsumexp(input: jax.Array, dim: int) -> jax.Array:
    """Return the logarithms of running sums of exponentials along an axis.

    See `torch.logcumsumexp <https://docs.pytorch.org/docs/stable/generated/torch.logcumsumexp.html>`_.

    >>> logcumsumexp(jnp.zeros(2), 0).round(3).tolist()
    [0.0, 0.6930000185966492]
    """
    axis = resolve(dim, input.ndim, "logcumsumexp")
    if jnp.iscomplexobj(input):
        raise NotImplementedError(f"logcumsumexp: got dtype {input.dtype}. Expected real numbers")
    return jax.lax.cumlogsumexp(input, axis=axis) if input.ndim else input


def cumulative_trapezoid(y: jax.Array, x: jax.Array | None = None, *, dx: float = 1, dim: int = -1) -> jax.Array:
    """Return running integrals along an axis by the trapezoidal rule.

    See `torch.cumulative_trapezoid
    <https://docs.pytorch.org/docs/stable/generated/torch.cumulative_trapezoid.html>`_.

    >>> cumulative_trapezoid(jnp.array([1.0, 3.0, 5.0])).tolist()
    [2.0, 6.0]
    """
    lines = jnp.moveaxis(floating(y), dim, -1)
    steps = dx if x is None else jnp.diff(x if x.ndim == 1 else jnp.moveaxis(x, dim, -1), axis=-1)
    areas = steps * (lines[..., 1:] + lines[..., :-1]) / 2
    return jnp.moveaxis(jnp.cumsum(areas, axis=-1), -1, dim)


def histc(input: jax.Array, bins: int = 100, min: float = 0, max: float = 0) -> jax.Array:
    """Count the elements in equal bins from ``min`` to ``max``; if both are equal, over the range of the data.

    See `torch.histc <https://docs.pytorch.org/docs/stable/generated/torch.histc.html>`_.

    >>> histc(jnp.array([1.0, 2.0, 1.0]), bins=4, min=0, max=3).tolist()
    [0.0, 2.0, 1.0, 0.0]
    """
    low, high = (min, max) if min != max else (input.min(), input.max())
    if min == max:
        equal = low == high
        low, high = jnp.where(equal, low - 1, low), jnp.where(equal, high + 1, high)
    bin_indices = jnp.floor((input.reshape(-1) - low) * (bins / (high - low))).astype(int)
    inside = (input.reshape(-1) >= low) & (input.reshape(-1) <= high)
    return jnp.zeros(bins, input.dtype).at[jnp.clip(bin_indices, 0, bins - 1)].add(inside.astype(input.dtype))


def bincount(input: jax.Array, weights: jax.Array | None = None, minlength: int = 0) -> jax.Array:
    """Count how often each integer occurs, or sum its weights.

    Args:
        input: a vector of non-negative integers.
        weights: weight of each element. Default: 1.
        minlength: smallest size of the result. Under ``jax.jit`` the size of the result: larger integers are ignored.

    Raises:
        RuntimeError: under ``jax.jit`` without ``minlength``, because the size depends on the values.

    See `torch.bincount <https://docs.pytorch.org/docs/stable/generated/torch.bincount.html>`_.

    >>> bincount(jnp.array([0, 2, 2]), minlength=4).tolist()
    [1, 0, 2, 0]
    """
    length = None
    if isinstance(input, Tracer):
        if minlength == 0:
            raise RuntimeError("bincount: got minlength=0 under jit. Expected the number of bins. Fix: pass minlength")
        length = minlength
    counts = jnp.bincount(input, weights=weights, minlength=minlength, length=length)
    return counts.astype(int) if weights is None else counts


class Histogram(NamedTuple):
    """Counts and bin edges from :func:`histogram`.

    >>> histogram(jnp.arange(4.0), 2).bin_edges.tolist()
    [0.0, 1.5, 3.0]
    """

    hist: jax.Array
    bin_edges: jax.Array


def histogram(
    input: jax.Array,
    bins: int | jax.Array,
    *,
    range: tuple[float, float] | None = None,
    weight: jax.Array | None = None,
    density: bool = False,
) -> Histogram:
    """Count the elements in bins; return the counts in the input's dtype, and the bin edges.

    See `torch.histogram <https://docs.pytorch.org/docs/stable/generated/torch.histogram.html>`_.

    >>> histogram(jnp.array([1.0, 2.0, 1.0]), 4, range=(0.0, 4.0)).hist.tolist()
    [0.0, 2.0, 1.0, 0.0]
    """
    counts, edges = jnp.histogram(input, bins, range=range, weights=weight, density=density)
    return Histogram(counts.astype(input.dtype), edges.astype(input.dtype))
