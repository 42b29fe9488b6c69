"""Normalisation with statistics of a batch or of each example, and what all normalisations check."""

import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from flaxnets import kernels
from flaxnets.nn._arguments import along

Stat = nnx.Variable | jax.Array | None


def check_floating(name: str, input: jax.Array) -> None:
    """Raises if the input is not of real floating-point numbers."""
    if not jnp.issubdtype(input.dtype, jnp.floating):
        raise NotImplementedError(f"{name}: expected a floating-point input, got {input.dtype}; cast it")


def check_vectors(name: str, input: jax.Array, shape: tuple[int, ...], vectors: Mapping[str, Stat]) -> None:
    """Parameters and statistics have one shape and the input's dtype; beside half precision also float32."""
    given = {what: vector for what, vector in vectors.items() if vector is not None}
    for what, vector in given.items():
        if vector.shape != shape:
            raise RuntimeError(
                f"{name}: {what} has the shape {vector.shape}, but an input of shape {input.shape} needs {shape}"
            )
    found = {jnp.dtype(vector.dtype) for vector in given.values()}
    is_half = input.dtype in (jnp.float16, jnp.bfloat16)
    if found - {input.dtype} and not (is_half and found == {jnp.dtype(jnp.float32)}):
        raise RuntimeError(
            f"{name}: got an input of dtype {input.dtype} and {', '.join(given)} of {', '.join(map(str, found))}; "
            "expected one dtype, or a half-precision input and all else in float32"
        )


def as_wide(input: jax.Array) -> jax.Array:
    """Half precision as float32, in which torch takes the statistics."""
    return input.astype(jnp.promote_types(input.dtype, jnp.float32))


def _affine(x: jax.Array, weight: jax.Array | None, bias: jax.Array | None) -> jax.Array:
    """Channels times their weights plus their biases."""
    x = x if weight is None else x * along(weight, 1, x.ndim)
    return x if bias is None else x + along(bias, 1, x.ndim)


def _move(running: Stat, new: jax.Array, momentum: ArrayLike) -> None:
    if isinstance(running, nnx.Variable):
        old = running[...]
        running[...] = ((1 - momentum) * old + momentum * jax.lax.stop_gradient(new)).astype(old.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _standardize(x: jax.Array, axes: tuple[int, ...], eps: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    mean = x.mean(axes, keepdims=True)
    centred = x - mean
    var = jnp.square(centred).mean(axes, keepdims=True)
    return centred * jax.lax.rsqrt(var + eps), mean, var


@_standardize.defjvp
def _standardize_jvp(axes: tuple[int, ...], eps: float, primals: tuple, tangents: tuple) -> tuple:
    """Two means of the tangent; its transpose has two of the cotangent."""
    (x,), (dx,) = primals, tangents
    y, mean, var = _standardize(x, axes, eps)
    dmean, slope = dx.mean(axes, keepdims=True), (y * dx).mean(axes, keepdims=True)
    dy = (dx - dmean - y * slope) * jax.lax.rsqrt(var + eps)
    return (y, mean, var), (dy, dmean, 2 * slope * jnp.sqrt(var + eps))


# Compiled as a whole also where the caller is not, as torch's is one operation.
@functools.partial(jax.jit, static_argnums=(1, 2))
def standardize(x: jax.Array, axes: tuple[int, ...], eps: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns ``x`` of mean 0 and variance 1 over the axes, the mean and the biased variance, which keep the axes."""
    return _standardize(x, axes, eps)


@functools.partial(jax.jit, static_argnums=5)  # see standardize
def _normalize(
    x: jax.Array, mean: jax.Array, var: jax.Array, weight: jax.Array | None, bias: jax.Array | None, eps: float
) -> jax.Array:
    """Statistics are ``(C,)``, or ``(N, C)``."""

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
    """Normalises each channel over the batch and the spatial axes.

    In training the batch's own mean and biased variance serve, and running statistics that are given as
    ``nnx.Variable`` are moved towards the batch's mean and *unbiased* variance, in place, by the fraction ``momentum``.
    Otherwise the running statistics serve. With ``axis_name`` the batch is that of all devices along this axis.

    Raises:
        ValueError: in training, if there is only one value for each channel, or ``eps`` is not positive; else, if
            ``eps`` is negative.
        RuntimeError: if the number of channels or the dtype does not fit the statistics or parameters; out of
            training, if there are no running statistics.
        IndexError: if the input has no channels.
        NotImplementedError: if the input is not of floating-point numbers.

    See "Batch normalization" (arXiv:1502.03167) and `torch.nn.functional.batch_norm
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.batch_norm.html>`_.

    >>> batch_norm(jnp.array([[1.0], [3.0]]), None, None, training=True, eps=1e-9).tolist()
    [[-1.0], [1.0]]
    """
    input = jnp.asarray(input)
    if input.ndim < 2 or input.shape[1] == 0:
        raise IndexError(f"batch_norm: expected at least one channel on axis 1, got an input of shape {input.shape}")
    check_floating("batch_norm", input)
    count = input.size // input.shape[1] * (1 if axis_name is None else jax.lax.psum(1, axis_name))
    if training and count == 1:
        raise ValueError(
            f"batch_norm: expected more than 1 value per channel when training, got an input of shape {input.shape}"
        )
    if eps < 0 or (training and eps == 0):
        raise ValueError(f"batch_norm: eps must be positive (0 out of training is allowed), got {eps}")
    vectors = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    check_vectors("batch_norm", input, input.shape[1:2], vectors)
    x = as_wide(input)
    form, output = kernels.batch_norm_form(x, weight, bias, axis_name), None
    if training:
        if form:
            output, mean, var = form(x, weight, bias, eps)
        elif axis_name is None:
            output, mean, var = standardize(x, (0, *range(2, x.ndim)), eps)
            output, mean, var = _affine(output, weight, bias), mean.ravel(), var.ravel()
        else:
            mean, var = _statistics_along(x, axis_name)
        if count:
            _move(running_mean, mean, momentum)
            _move(running_var, var * (count / (count - 1)), momentum)
    elif running_mean is None or running_var is None:
        raise RuntimeError("batch_norm: running_mean and running_var must be given when training is False, got None")
    else:
        mean, var = running_mean[...], running_var[...]
    if output is None:
        output = _normalize(x, mean, var, weight, bias, eps)
    return output.astype(input.dtype)


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
    """Normalises each channel of each example over the spatial axes.

    With ``use_input_stats`` the example's own statistics serve, and running statistics that are given as
    ``nnx.Variable`` are moved, as :func:`batch_norm` moves them, towards the examples' mean. Otherwise the running
    statistics serve.

    Raises:
        ValueError: with ``use_input_stats``, if there is only one spatial element, or only one running statistic.
        RuntimeError: if the number of channels or the dtype does not fit the statistics or parameters; without
            ``use_input_stats``, if there are no running statistics.
        NotImplementedError: if the input is not of floating-point numbers.

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
        raise ValueError("instance_norm: running_mean and running_var must be given both or neither, got one None")
    check_floating("instance_norm", input)
    vectors = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    check_vectors("instance_norm", input, input.shape[1:2], vectors)
    x = as_wide(input)
    if use_input_stats:
        output, mean, var = standardize(x, tuple(range(2, x.ndim)), eps)
        if count:
            _move(running_mean, mean.reshape(x.shape[:2]).mean(0), momentum)
            _move(running_var, (var.reshape(x.shape[:2]) * (count / (count - 1))).mean(0), momentum)
        return _affine(output, weight, bias).astype(input.dtype)
    if running_mean is None or running_var is None:
        raise RuntimeError(
            "instance_norm: running_mean and running_var must be given without use_input_stats, got None"
        )
    return _normalize(x, running_mean[...], running_var[...], weight, bias, eps).astype(input.dtype)
