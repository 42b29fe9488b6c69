"""Rectifier functions: ReLU and its variants."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from flaxnets.autocast import cast_operands
from flaxnets.nn._arguments import along, as_float_like
from flaxnets.nn.functional._elementwise import as_floating, as_ordered, computed_wide

# With these constants, the fixed point of SELU has mean 0 and variance 1.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@jax.custom_jvp
def _relu(x: jax.Array) -> jax.Array:
    return jnp.maximum(x, 0)


# As in torch, NaN passes the gradient on.
_relu.defjvps(lambda tangent, output, x: jnp.where(x <= 0, 0, tangent))


def relu(input: Real[Array, "*shape"], inplace: bool = False) -> Real[Array, "*shape"]:
    """Return ``max(input, 0)``; the gradient at 0 is 0.

    Raises:
        RuntimeError: for booleans.
        NotImplementedError: for complex numbers.

    See `torch.nn.functional.relu <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.relu.html>`_.

    >>> relu(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return _relu(as_ordered(input, "relu"))


def threshold(
    input: Real[Array, "*shape"], threshold: float, value: float, inplace: bool = False
) -> Real[Array, "*shape"]:
    """Return the input where it is above ``threshold``, and ``value`` elsewhere.

    For integer inputs, the fractions of ``threshold`` and ``value`` are dropped.

    Raises:
        NotImplementedError: for booleans and complex numbers.

    See `torch.nn.functional.threshold
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.threshold.html>`_.

    >>> threshold(jnp.array([0.5, 2.0]), 1.0, -3.0).tolist()
    [-3.0, 2.0]
    """
    array = jnp.asarray(input)
    if jnp.issubdtype(array.dtype, jnp.integer):
        threshold, value = int(threshold), int(value)
    else:
        array = as_floating(array, "threshold")
    return jnp.where(array <= threshold, jnp.asarray(value, array.dtype), array)


@computed_wide()
def leaky_relu(
    input: Float[Array, "*shape"], negative_slope: float = 0.01, inplace: bool = False
) -> Float[Array, "*shape"]:
    """Multiply elements that are not positive by ``negative_slope``, which is also the gradient at 0.

    Raises:
        NotImplementedError: for a non-floating-point input.

    See `torch.nn.functional.leaky_relu
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.leaky_relu.html>`_.

    >>> leaky_relu(jnp.array([-2.0, 2.0]), 0.5).tolist()
    [-1.0, 2.0]
    """
    return jnp.where(input > 0, input, input * negative_slope)


def prelu(input: Float[Array, "*shape"], weight: Float[Array, "..."]) -> Float[Array, "*shape"]:
    """Multiply elements that are not positive by a learned slope.

    Args:
        input: of any shape.
        weight: one slope, or one slope per channel (axis 1 of the input).

    Raises:
        RuntimeError: for a weight of the wrong size or dtype.
        NotImplementedError: for a non-floating-point input.

    See "Delving deep into rectifiers" (arXiv:1502.01852) and `torch.nn.functional.prelu
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.prelu.html>`_.

    >>> prelu(jnp.array([-2.0, 2.0]), jnp.array([0.5])).tolist()
    [-1.0, 2.0]
    """
    input, weight = map(jnp.asarray, cast_operands(input, weight))
    array = as_floating(as_float_like(input, weight, "prelu"), "prelu")
    if weight.ndim > 1:
        raise RuntimeError(f"prelu: expected a weight of at most one axis, got the shape {weight.shape}")
    channels = array.shape[1] if array.ndim > 1 else 1
    if weight.size != 1 and (array.ndim == 0 or weight.size != channels):
        raise RuntimeError(
            f"prelu: expected one slope, or one for each of the {channels} channels of an input of shape "
            f"{array.shape}, got {weight.size}"
        )
    slopes = weight.reshape((1,) * array.ndim) if weight.size == 1 else along(weight, 1, array.ndim)
    return _prelu(array, slopes)


@computed_wide()
def _prelu(input: jax.Array, slopes: jax.Array) -> jax.Array:
    positive = input > 0
    # Where the slope is unused, an infinite input must not reach the slope's gradient.
    return jnp.where(positive, input, slopes.astype(input.dtype) * jnp.where(positive, 0, input))


@computed_wide()
def rrelu(
    input: Float[Array, "*shape"],
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
    *,
    key: jax.Array | None = None,
    samples: Float[Array, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """Multiply elements that are not positive by a slope, which training mode draws at random for each element.

    Args:
        input: of any shape.
        lower: the smallest slope.
        upper: the largest slope.
        training: if False, the slope is ``(lower + upper) / 2``.
        inplace: no effect: JAX arrays are immutable.
        key: random key for the slopes.
        samples: the slopes, instead of drawn ones; broadcasts to the input's shape.

    Raises:
        RuntimeError: for bounds that are not finite, or ``lower`` above ``upper``.
        ValueError: in training mode, for neither ``key`` nor ``samples``.
        NotImplementedError: for a non-floating-point input.

    See "Empirical evaluation of rectified activations in convolution network" (arXiv:1505.00853) and
    `torch.nn.functional.rrelu <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.rrelu.html>`_.

    >>> rrelu(jnp.array([-2.0, 2.0]), training=True, samples=jnp.array([0.25, 0.3])).tolist()
    [-0.5, 2.0]
    """
    if not (math.isfinite(lower) and math.isfinite(upper) and lower <= upper):
        raise RuntimeError(f"rrelu: expected finite bounds with lower <= upper, got lower={lower} and upper={upper}")
    if not training:
        return leaky_relu(input, (lower + upper) / 2)
    if samples is None:
        if key is None:
            raise ValueError("rrelu: expected a random key or samples of the slopes, got neither. Fix: pass key")
        samples = jax.random.uniform(key, input.shape, input.dtype, lower, upper)
    slopes = jnp.broadcast_to(jnp.asarray(samples, input.dtype), input.shape)
    return jnp.where(input > 0, input, input * slopes)


@jax.custom_jvp
def _expm1(x: jax.Array) -> jax.Array:
    return jnp.expm1(x)


# JAX computes expm1(x) + 1, which loses all digits for very negative x.
_expm1.defjvps(lambda tangent, output, x: tangent * jnp.exp(x))


def _exponential(input: jax.Array, alpha: float, scale: float = 1.0, input_scale: float = 1.0) -> jax.Array:
    negative = input <= 0
    below = _expm1(jnp.where(negative, input, 0) * input_scale) * (alpha * scale)
    return jnp.where(negative, below, input * scale)


@computed_wide()
def elu(input: Float[Array, "*shape"], alpha: float = 1.0, inplace: bool = False) -> Float[Array, "*shape"]:
    """Apply ``alpha * (exp(input) - 1)`` to elements that are not positive; the gradient at 0 is ``alpha``.

    Raises:
        NotImplementedError: for a non-floating-point input.

    See "Fast and accurate deep network learning by exponential linear units" (arXiv:1511.07289) and
    `torch.nn.functional.elu <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.elu.html>`_.

    >>> elu(jnp.array([-200.0, 2.0])).tolist()
    [-1.0, 2.0]
    """
    return _exponential(input, alpha)


@computed_wide()
def selu(input: Float[Array, "*shape"], inplace: bool = False) -> Float[Array, "*shape"]:
    """Return a scaled :func:`elu`, whose constants preserve mean 0 and variance 1.

    Raises:
        NotImplementedError: for a non-floating-point input.

    See "Self-normalizing neural networks" (arXiv:1706.02515) and `torch.nn.functional.selu
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.selu.html>`_.

    >>> selu(jnp.array([0.0])).tolist()
    [0.0]
    """
    return _exponential(input, SELU_ALPHA, SELU_SCALE)


@computed_wide()
def celu(input: Float[Array, "*shape"], alpha: float = 1.0, inplace: bool = False) -> Float[Array, "*shape"]:
    """Apply ``alpha * (exp(input / alpha) - 1)`` to elements that are not positive.

    Raises:
        RuntimeError: if ``alpha`` is 0.
        NotImplementedError: for a non-floating-point input.

    See "Continuously differentiable exponential linear units" (arXiv:1704.07483) and `torch.nn.functional.celu
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.celu.html>`_.

    >>> celu(jnp.array([-200.0, 2.0]), 3.0).tolist()
    [-3.0, 2.0]
    """
    if alpha == 0:
        raise RuntimeError(f"celu: alpha must not be 0, got {alpha}")
    return _exponential(input, alpha, input_scale=1 / alpha)
