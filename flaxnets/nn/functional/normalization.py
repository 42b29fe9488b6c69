"""Batch and instance normalisation, and the checks of all normalisations."""

import contextlib
import contextvars
import functools
import math
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from flaxnets import kernels
from flaxnets.kernels._primitives import materialized, with_materialized_gradient
from flaxnets.kernels.reductions import row_totals, spread_rows
from flaxnets.nn._arguments import along

Stat = nnx.Variable | jax.Array | None

_parts: contextvars.ContextVar[int] = contextvars.ContextVar("parts", default=1)


@contextlib.contextmanager
def statistics_of_parts(count: int) -> Iterator[None]:
    """Context in which :func:`batch_norm` normalises each of ``count`` equal parts of a batch by its own statistics.

    Running statistics move towards the mean of the statistics of the parts. The context matters while a function is
    traced.

    >>> with statistics_of_parts(2):
    ...     batch_norm(jnp.array([[1.0], [3.0], [5.0], [9.0]]), None, None, training=True, eps=1e-9).ravel().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """
    token = _parts.set(count)
    try:
        yield
    finally:
        _parts.reset(token)


def check_floating(name: str, input: jax.Array) -> None:
    """Raise unless the input is real floating-point."""
    if not jnp.issubdtype(input.dtype, jnp.floating):
        raise NotImplementedError(f"{name}: expected a floating-point input, got {input.dtype}; cast it")


def check_vectors(name: str, input: jax.Array, shape: tuple[int, ...], vectors: Mapping[str, Stat]) -> None:
    """Check that parameters and statistics have one shape and the input's dtype; half precision also allows float32."""
    present = {what: vector for what, vector in vectors.items() if vector is not None}
    for what, vector in present.items():
        if vector.shape != shape:
            raise RuntimeError(
                f"{name}: {what} has the shape {vector.shape}, but an input of shape {input.shape} needs {shape}"
            )
    dtypes = list(dict.fromkeys(jnp.dtype(vector.dtype) for vector in present.values()))
    is_half = input.dtype in (jnp.float16, jnp.bfloat16)
    if any(dtype != input.dtype for dtype in dtypes) and not (is_half and dtypes == [jnp.dtype(jnp.float32)]):
        raise RuntimeError(
            f"{name}: got an input of dtype {input.dtype} and {', '.join(present)} of {', '.join(map(str, dtypes))}; "
            "expected one dtype, or a half-precision input and all else in float32"
        )


def as_wide(input: jax.Array) -> jax.Array:
    """Convert half precision to float32, in which torch computes the statistics."""
    return input.astype(jnp.promote_types(input.dtype, jnp.float32))


def _move(running: Stat, new: jax.Array, momentum: ArrayLike) -> None:
    if isinstance(running, nnx.Variable):
        old = running[...]
        running[...] = ((1 - momentum) * old + momentum * jax.lax.stop_gradient(new)).astype(old.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _normalize_rows(
    x: jax.Array, weight: jax.Array, bias: jax.Array, axes: tuple[int, ...], eps: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    mean = _mean(x, axes)
    centred = x - mean
    var = _mean(jnp.square(centred), axes)
    return centred * (weight * jax.lax.rsqrt(var + eps)) + bias, mean, var


@_normalize_rows.defjvp
def _normalize_rows_jvp(axes: tuple[int, ...], eps: float, primals: tuple, tangents: tuple) -> tuple:
    """Derivative with one number per row for all row-wise terms, so that the transpose needs only two sums per row."""
    (x, weight, _), (dx, dweight, dbias) = primals, tangents
    dx = materialized(dx)  # otherwise each consumer of dx recomputes it
    y, mean, var = _normalize_rows(*primals, axes, eps)
    # Zero elements have a NaN variance, and one element is its own mean: the gradients are exactly zero.
    is_constant = not x.size or math.prod(x.shape[axis] for axis in axes) == 1
    rate, centred = jnp.zeros_like(var) if is_constant else jax.lax.rsqrt(var + eps), x - mean
    dmean, half_dvar = _mean(dx, axes), _mean(centred * dx, axes)
    rows = (*x.shape[:-1], 1)
    slope = jnp.broadcast_to(dweight * rate - weight * rate * jnp.square(rate) * half_dvar, rows)
    shift = jnp.broadcast_to(dbias - weight * rate * dmean, rows)
    dy = dx * (weight * rate) + centred * spread_rows(slope, x.shape[-1]) + spread_rows(shift, x.shape[-1])
    return (y, mean, var), (dy, dmean, 2 * half_dvar)


def _mean(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    count = math.prod(x.shape[axis] for axis in axes)
    return row_totals(x).sum(axes[:-1], keepdims=True) / count


# Jitted even in eager mode, like torch's single operation.
@functools.partial(jax.jit, static_argnums=(3, 4))
def normalize_rows(
    x: jax.Array, weight: jax.Array | None, bias: jax.Array | None, axes: tuple[int, ...], eps: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalise rows ``(N, G, C, S)`` by their statistics over ``axes``, which end with the last axis.

    Args:
        x: the rows.
        weight: ``G * C`` factors of the rows. None means 1.
        bias: ``G * C`` numbers added afterwards. None means 0.
        axes: the axes of mean and variance.
        eps: added to the variance.

    Returns:
        The normalised rows; the mean and the biased variance, with the axes kept. Several loops read the gradient of
        the rows, so the caller should materialize the gradient.
    """
    shape = (1, *x.shape[1:3], 1)
    weight = jnp.ones((1, 1, 1, 1), x.dtype) if weight is None else weight.reshape(shape).astype(x.dtype)
    bias = jnp.zeros((1, 1, 1, 1), x.dtype) if bias is None else bias.reshape(shape).astype(x.dtype)
    return _normalize_rows(x, weight, bias, axes, eps)


@functools.partial(jax.jit, static_argnums=5)  # see normalize_rows
def _normalize(
    x: jax.Array, mean: jax.Array, var: jax.Array, weight: jax.Array | None, bias: jax.Array | None, eps: float
) -> jax.Array:
    """Normalise with statistics of shape ``(C,)`` or ``(N, C)``."""

    def per_channel(stat: jax.Array) -> jax.Array:
        return stat.reshape(*([1] * (2 - stat.ndim)), *stat.shape, *([1] * (x.ndim - 2)))

    output = (x - per_channel(mean)) * per_channel(jax.lax.rsqrt(var + eps))
    if weight is not None:
        output = output * per_channel(weight)
    return output if bias is None else output + per_channel(bias)


def batch_norm(
    input: Float[Array, "n c *spatial"],
    running_mean: Stat,
    running_var: Stat,
    weight: Float[Array, " c"] | None = None,
    bias: Float[Array, " c"] | None = None,
    training: bool = False,
    momentum: ArrayLike = 0.1,
    eps: float = 1e-5,
    *,
    axis_name: str | None = None,
) -> Float[Array, "n c *spatial"]:
    """Normalise each channel over the batch and the spatial axes.

    In training mode the function normalises with the batch's mean and biased variance. Running statistics that are
    ``nnx.Variable`` objects move towards the batch's mean and *unbiased* variance, in place, by the fraction
    ``momentum``. Otherwise the function normalises with the running statistics. With ``axis_name`` the batch statistics
    are those over all devices along this axis.

    Raises:
        ValueError: in training mode, for only one value per channel, or an ``eps`` that is not positive; otherwise, for
            a negative ``eps``.
        RuntimeError: if the number of channels or the dtype does not match the statistics or parameters; in evaluation
            mode, without running statistics.
        IndexError: for an input without channels.
        NotImplementedError: for a non-floating-point input.

    See "Batch normalization" (arXiv:1502.03167) and `torch.nn.functional.batch_norm
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.batch_norm.html>`_.

    >>> batch_norm(jnp.array([[1.0], [3.0]]), None, None, training=True, eps=1e-9).tolist()
    [[-1.0], [1.0]]
    """
    input = jnp.asarray(input)
    if input.ndim < 2 or input.shape[1] == 0:
        raise IndexError(f"batch_norm: expected at least one channel on axis 1, got an input of shape {input.shape}")
    check_floating("batch_norm", input)
    parts = _parts.get() if training and axis_name is None else 1
    if len(input) % parts:
        raise ValueError(f"batch_norm: expected a batch that {parts} divides, got an input of shape {input.shape}")
    count = input.size // input.shape[1] // parts * (1 if axis_name is None else jax.lax.psum(1, axis_name))
    if training and count == 1:
        raise ValueError(
            f"batch_norm: expected more than 1 value per channel when training, got an input of shape {input.shape}"
        )
    if eps < 0 or (training and eps == 0):
        raise ValueError(f"batch_norm: eps must be positive (or 0 in evaluation mode), got {eps}")
    vectors = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    check_vectors("batch_norm", input, input.shape[1:2], vectors)
    x = as_wide(input)
    implementation, output = kernels.batch_norm_implementation(x, weight, bias, axis_name), None
    if training:
        if parts > 1:
            output, mean, var = _normalize_parts(x, weight, bias, eps, parts)
        elif implementation:
            output, mean, var = implementation(x, weight, bias, eps)
        elif axis_name is None:
            rows = x.reshape(*x.shape[:2], 1, math.prod(x.shape[2:]))
            output, mean, var = normalize_rows(rows, weight, bias, (0, 3), eps)
            output, mean, var = with_materialized_gradient(output.reshape(x.shape)), mean.ravel(), var.ravel()
        else:
            mean, var = _statistics_along(x, axis_name)
        if count:
            _move(running_mean, mean, momentum)
            _move(running_var, var * (count / (count - 1)), momentum)
    elif running_mean is None or running_var is None:
        raise RuntimeError("batch_norm: running_mean and running_var must not be None if training is False, got None")
    else:
        mean, var = running_mean[...], running_var[...]
    if output is None:
        output = _normalize(x, mean, var, weight, bias, eps)
    return output.astype(input.dtype)


def _normalize_parts(
    x: jax.Array, weight: jax.Array | None, bias: jax.Array | None, eps: float, parts: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalise each part of a batch, and return the means of their means and biased variances."""
    rows = x.reshape(parts, -1, x.shape[1], 1, math.prod(x.shape[2:]))
    output, mean, var = jax.vmap(lambda rows: normalize_rows(rows, weight, bias, (0, 3), eps))(rows)
    output = with_materialized_gradient(output.reshape(x.shape))
    return output, mean.reshape(parts, -1).mean(0), var.reshape(parts, -1).mean(0)


def _statistics_along(x: jax.Array, axis_name: str) -> tuple[jax.Array, jax.Array]:
    axes = (0, *range(2, x.ndim))
    mean = jax.lax.pmean(x.mean(axes), axis_name)
    return mean, jax.lax.pmean(jnp.square(x - along(mean, 1, x.ndim)).mean(axes), axis_name)


def instance_norm(
    input: Float[Array, "n c *spatial"],
    running_mean: Stat = None,
    running_var: Stat = None,
    weight: Float[Array, " c"] | None = None,
    bias: Float[Array, " c"] | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Float[Array, "n c *spatial"]:
    """Normalise each channel of each example over the spatial axes.

    With ``use_input_stats`` the function normalises with the example's own statistics. Running statistics that are
    ``nnx.Variable`` objects move towards the mean over the examples, as in :func:`batch_norm`. Otherwise the function
    normalises with the running statistics.

    Raises:
        ValueError: with ``use_input_stats``, for only one spatial element, or only one running statistic.
        RuntimeError: if the number of channels or the dtype does not match the statistics or parameters; without
            ``use_input_stats``, if there are no running statistics.
        NotImplementedError: for a non-floating-point input.

    See "Instance normalization" (arXiv:1607.08022) and `torch.nn.functional.instance_norm
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.instance_norm.html>`_.

    >>> instance_norm(jnp.array([[[1.0, 3.0]]]), eps=0.0).tolist()
    [[[-1.0, 1.0]]]
    """
    input = jnp.asarray(input)
    count = math.prod(input.shape[2:])
    if use_input_stats and count == 1:
        raise ValueError(
            f"instance_norm: expected more than 1 spatial element when training, got an input of shape {input.shape}"
        )
    if use_input_stats and (running_mean is None) != (running_var is None):
        raise ValueError("instance_norm: expected both running_mean and running_var, or neither, got one None")
    check_floating("instance_norm", input)
    vectors = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    check_vectors("instance_norm", input, input.shape[1:2], vectors)
    x = as_wide(input)
    if use_input_stats:
        rows = x.reshape(*x.shape[:2], 1, count)
        output, mean, var = normalize_rows(rows, weight, bias, (3,), eps)
        if count:
            _move(running_mean, mean.reshape(x.shape[:2]).mean(0), momentum)
            _move(running_var, (var.reshape(x.shape[:2]) * (count / (count - 1))).mean(0), momentum)
        return with_materialized_gradient(output.reshape(x.shape)).astype(input.dtype)
    if running_mean is None or running_var is None:
        raise RuntimeError(
            "instance_norm: running_mean and running_var must not be None without use_input_stats, got None"
        )
    return _normalize(x, running_mean[...], running_var[...], weight, bias, eps).astype(input.dtype)
