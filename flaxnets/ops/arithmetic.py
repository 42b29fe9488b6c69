"""Arithmetic with torch's type promotion, rounding modes and gradients at bounds."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from flaxnets.ops.complex_numbers import abs as absolute
from flaxnets.ops.promotion import floating, promote, result_type

Rounding = Literal["floor", "trunc"] | None


def add(input: ArrayLike, other: ArrayLike, *, alpha: complex = 1) -> jax.Array:
    """Return ``input + alpha * other`` in torch's result dtype.

    See `torch.add <https://docs.pytorch.org/docs/stable/generated/torch.add.html>`_.

    >>> add(jnp.array([1, 2]), 0.5, alpha=2).tolist()
    [2.0, 3.0]
    """
    left, right = promote(input, other)
    return left + right if alpha == 1 else left + right * jnp.asarray(alpha, left.dtype)


def sub(input: ArrayLike, other: ArrayLike, *, alpha: complex = 1) -> jax.Array:
    """Return ``input - alpha * other`` in torch's result dtype.

    See `torch.sub <https://docs.pytorch.org/docs/stable/generated/torch.sub.html>`_.

    >>> sub(jnp.array([1, 2]), jnp.array([1, 1]), alpha=3).tolist()
    [-2, -1]
    """
    left, right = promote(input, other)
    return left - right if alpha == 1 else left - right * jnp.asarray(alpha, left.dtype)


def rsub(input: ArrayLike, other: ArrayLike, *, alpha: complex = 1) -> jax.Array:
    """Return ``other - alpha * input`` in torch's result dtype.

    >>> rsub(jnp.array([1, 2]), 5).tolist()
    [4, 3]
    """
    return sub(other, input, alpha=alpha)


def mul(input: ArrayLike, other: ArrayLike) -> jax.Array:
    """Return ``input * other`` in torch's result dtype.

    See `torch.mul <https://docs.pytorch.org/docs/stable/generated/torch.mul.html>`_.

    >>> mul(jnp.array([1, 2]), 0.5).dtype.name
    'float32'
    """
    left, right = promote(input, other)
    return left * right


def div(input: ArrayLike, other: ArrayLike, *, rounding_mode: Rounding = None) -> jax.Array:
    """Return ``input / other``; without a rounding mode, integers are divided in float32.

    Args:
        input: the dividend.
        other: the divisor; broadcasts with the input.
        rounding_mode: ``"floor"`` rounds down, ``"trunc"`` towards zero. Both keep integer dtypes, with gradient zero.

    Raises:
        RuntimeError: for another rounding mode.

    See `torch.div <https://docs.pytorch.org/docs/stable/generated/torch.div.html>`_.

    >>> div(jnp.array([-7, 7]), 2, rounding_mode="trunc").tolist()
    [-3, 3]
    """
    left, right = promote(input, other)
    if rounding_mode is None:
        return floating(left) / floating(right)
    if rounding_mode == "floor":
        # The gradient of a step function is zero, but JAX would differentiate the remainder inside floor_divide.
        return jnp.floor_divide(jax.lax.stop_gradient(left), jax.lax.stop_gradient(right))
    if rounding_mode != "trunc":
        raise RuntimeError(f"div: got rounding_mode={rounding_mode!r}. Expected None, 'trunc' or 'floor'")
    if jnp.issubdtype(left.dtype, jnp.integer):
        return jax.lax.div(*jnp.broadcast_arrays(left, right))
    return jnp.trunc(left / right)


def floor_divide(input: ArrayLike, other: ArrayLike) -> jax.Array:
    """Return ``input / other`` rounded down, in torch's result dtype.

    See `torch.floor_divide <https://docs.pytorch.org/docs/stable/generated/torch.floor_divide.html>`_.

    >>> floor_divide(jnp.array([-7, 7]), 2).tolist()
    [-4, 3]
    """
    return div(input, other, rounding_mode="floor")


def remainder(input: ArrayLike, other: ArrayLike) -> jax.Array:
    """Return the remainder of a division that rounds down, with the sign of the divisor.

    See `torch.remainder <https://docs.pytorch.org/docs/stable/generated/torch.remainder.html>`_.

    >>> remainder(jnp.array([-7.0, 7.0]), -3).tolist()
    [-1.0, -2.0]
    """
    return jnp.remainder(*promote(input, other))


def fmod(input: ArrayLike, other: ArrayLike) -> jax.Array:
    """Return the remainder of a division that rounds towards zero, with the sign of the dividend.

    See `torch.fmod <https://docs.pytorch.org/docs/stable/generated/torch.fmod.html>`_.

    >>> fmod(jnp.array([-7.0, 7.0]), -3).tolist()
    [-1.0, 1.0]
    """
    return jnp.fmod(*promote(input, other))


def pow(input: ArrayLike, exponent: ArrayLike) -> jax.Array:
    """Return ``input ** exponent`` in torch's result dtype.

    See `torch.pow <https://docs.pytorch.org/docs/stable/generated/torch.pow.html>`_.

    >>> pow(jnp.array([1, 4]), 0.5).tolist()
    [1.0, 2.0]
    """
    dtype = result_type(input, exponent)
    if isinstance(exponent, int) and not isinstance(exponent, bool):
        return jnp.asarray(input).astype(dtype) ** exponent
    base, power = promote(input, exponent)
    if jnp.issubdtype(dtype, jnp.inexact):
        # 0 ** 0 has gradient zero for both arguments.
        base = jnp.where((base == 0) & (power == 0), 1, base)
    return jnp.power(base, power)


def float_power(input: ArrayLike, exponent: ArrayLike) -> jax.Array:
    """Return ``input ** exponent`` in float64 or complex128 (without x64: float32 or complex64).

    See `torch.float_power <https://docs.pytorch.org/docs/stable/generated/torch.float_power.html>`_.

    >>> float_power(jnp.array([1, 4]), 0.5).tolist()
    [1.0, 2.0]
    """
    dtype = complex if jnp.iscomplexobj(input) or jnp.iscomplexobj(exponent) else float
    return jnp.power(jnp.asarray(input).astype(dtype), jnp.asarray(exponent).astype(dtype))


def addcmul(input: ArrayLike, tensor1: ArrayLike, tensor2: ArrayLike, *, value: complex = 1) -> jax.Array:
    """Return ``input + value * tensor1 * tensor2``.

    See `torch.addcmul <https://docs.pytorch.org/docs/stable/generated/torch.addcmul.html>`_.

    >>> addcmul(jnp.ones(2), jnp.arange(2.0), jnp.array([3.0, 3.0]), value=0.5).tolist()
    [1.0, 2.5]
    """
    base, left, right = promote(input, tensor1, tensor2)
    return base + jnp.asarray(value, base.dtype) * left * right


def addcdiv(input: ArrayLike, tensor1: ArrayLike, tensor2: ArrayLike, *, value: complex = 1) -> jax.Array:
    """Return ``input + value * tensor1 / tensor2``.

    See `torch.addcdiv <https://docs.pytorch.org/docs/stable/generated/torch.addcdiv.html>`_.

    >>> addcdiv(jnp.ones(2), jnp.arange(2.0), jnp.array([2.0, 4.0]), value=2).tolist()
    [1.0, 1.5]
    """
    base, left, right = promote(input, tensor1, tensor2)
    return base + jnp.asarray(value, base.dtype) * left / right


def lerp(input: ArrayLike, end: ArrayLike, weight: ArrayLike) -> jax.Array:
    """Return ``input + weight * (end - input)``.

    See `torch.lerp <https://docs.pytorch.org/docs/stable/generated/torch.lerp.html>`_.

    >>> lerp(jnp.zeros(2), jnp.array([2.0, 4.0]), 0.25).tolist()
    [0.5, 1.0]
    """
    start, stop = jnp.asarray(input), jnp.asarray(end)
    return start + jnp.asarray(weight, start.dtype) * (stop - start)


def clamp(input: ArrayLike, min: ArrayLike | None = None, max: ArrayLike | None = None) -> jax.Array:
    """Clamp the elements to a range; an element on a bound gets its whole gradient, which ``jnp.clip`` halves.

    Args:
        input: of any shape.
        min: the lower bound, a number or an array that broadcasts. None means no bound.
        max: the upper bound, likewise. Where ``max`` is below ``min``, the result is ``max``.

    Raises:
        ValueError: without any bound.

    See `torch.clamp <https://docs.pytorch.org/docs/stable/generated/torch.clamp.html>`_.

    >>> clamp(jnp.array([-1.0, 0.5, 2.0]), 0, 1).tolist()
    [0.0, 0.5, 1.0]
    """
    if min is None and max is None:
        raise ValueError("clamp: got min=None and max=None. Expected at least one bound")
    bounds = [bound for bound in (min, max) if bound is not None]
    result, *bounds = promote(input, *bounds)
    for bound, compare in zip(bounds, [jnp.less] * (min is not None) + [jnp.greater], strict=False):
        # A NaN bound makes the result NaN.
        result = jnp.where(compare(result, bound) | jnp.isnan(bound), bound, result)
    return result


def frac(input: jax.Array) -> jax.Array:
    """Return the fractional part, with the sign of the input.

    See `torch.frac <https://docs.pytorch.org/docs/stable/generated/torch.frac.html>`_.

    >>> frac(jnp.array([1.5, -0.25])).tolist()
    [0.5, -0.25]
    """
    return input - jnp.trunc(input)


class Frexp(NamedTuple):
    """Mantissa and exponent from :func:`frexp`.

    >>> frexp(jnp.array([6.0])).exponent.tolist()
    [3]
    """

    mantissa: jax.Array
    exponent: jax.Array


def frexp(input: jax.Array) -> Frexp:
    """Split numbers into a mantissa in ``[0.5, 1)`` and a power of two.

    See `torch.frexp <https://docs.pytorch.org/docs/stable/generated/torch.frexp.html>`_.

    >>> frexp(jnp.array([6.0])).mantissa.tolist()
    [0.75]
    """
    return Frexp(*jnp.frexp(input))


def ldexp(input: ArrayLike, other: ArrayLike) -> jax.Array:
    """Return ``input * 2 ** other``; integers become float32.

    See `torch.ldexp <https://docs.pytorch.org/docs/stable/generated/torch.ldexp.html>`_.

    >>> ldexp(jnp.array([1.0, 3.0]), jnp.array([2, 1])).tolist()
    [4.0, 6.0]
    """
    return mul(input, pow(2.0, other))


def logit(input: ArrayLike, eps: float | None = None) -> jax.Array:
    """Return ``log(input / (1 - input))``, after clamping the input to ``[eps, 1 - eps]``.

    See `torch.logit <https://docs.pytorch.org/docs/stable/generated/torch.logit.html>`_.

    >>> logit(jnp.array([0.0, 0.5]), eps=0.5).tolist()
    [0.0, 0.0]
    """
    array = floating(input)
    if eps is not None:
        array = clamp(array, eps, 1 - eps)
    return jnp.log(array / (1 - array))


def copysign(input: ArrayLike, other: ArrayLike) -> jax.Array:
    """Return the absolute values of the input with the signs of ``other``; integers become float32.

    See `torch.copysign <https://docs.pytorch.org/docs/stable/generated/torch.copysign.html>`_.

    >>> copysign(jnp.array([1.0, -2.0]), -0.0).tolist()
    [-1.0, -2.0]
    """
    size, sign = map(floating, promote(input, other))
    return absolute(size) * jnp.copysign(jnp.ones_like(sign), sign)


def atan2(input: ArrayLike, other: ArrayLike) -> jax.Array:
    """Return the angles of points ``(other, input)``; the gradient at the origin is zero.

    See `torch.atan2 <https://docs.pytorch.org/docs/stable/generated/torch.atan2.html>`_.

    >>> jnp.degrees(atan2(jnp.array([1.0, 0.0]), jnp.array([1.0, 0.0]))).tolist()
    [45.0, 0.0]
    """
    y, x = jnp.broadcast_arrays(*map(floating, promote(input, other)))
    is_origin = (y == 0) & (x == 0)
    fixed = jax.lax.stop_gradient
    return jnp.where(is_origin, jnp.arctan2(fixed(y), fixed(x)), jnp.arctan2(y, jnp.where(is_origin, 1, x)))


def fmax(input: ArrayLike, other: ArrayLike) -> jax.Array:
    """Return the larger elements, ignoring NaN where possible; of equal elements, the first gets the gradient.

    See `torch.fmax <https://docs.pytorch.org/docs/stable/generated/torch.fmax.html>`_.

    >>> fmax(jnp.array([1.0, jnp.nan]), jnp.array([2.0, 3.0])).tolist()
    [2.0, 3.0]
    """
    left, right = promote(input, other)
    return jnp.where((left >= right) | jnp.isnan(right), left, right)


def fmin(input: ArrayLike, other: ArrayLike) -> jax.Array:
    """Return the smaller elements, ignoring NaN where possible; of equal elements, the first gets the gradient.

    See `torch.fmin <https://docs.pytorch.org/docs/stable/generated/torch.fmin.html>`_.

    >>> fmin(jnp.array([1.0, jnp.nan]), jnp.array([2.0, 3.0])).tolist()
    [1.0, 3.0]
    """
    left, right = promote(input, other)
    return jnp.where((left <= right) | jnp.isnan(right), left, right)
