"""Piecewise-linear activation functions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from flaxnets.nn.functional._elementwise import as_ordered, computed_wide


def hardtanh(
    input: Real[Array, "*shape"], min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Real[Array, "*shape"]:
    """Clamp every element to ``[min_val, max_val]``; the gradient at both bounds is 0.

    For integer inputs, the fractions of the bounds are dropped.

    Raises:
        ValueError: if ``min_val`` is larger than ``max_val``.
        RuntimeError: for booleans, and for unsigned integers with a negative bound.
        NotImplementedError: for complex numbers.

    See `torch.nn.functional.hardtanh
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.hardtanh.html>`_.

    >>> hardtanh(jnp.array([-2.0, 0.5, 2.0])).tolist()
    [-1.0, 0.5, 1.0]
    """
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val must not be larger than max_val, got {min_val} and {max_val}")
    array = as_ordered(input, "hardtanh")
    if jnp.issubdtype(array.dtype, jnp.integer):
        if jnp.issubdtype(array.dtype, jnp.unsignedinteger) and min_val < 0:
            raise RuntimeError(f"hardtanh: an input of dtype {array.dtype} allows no negative bounds, got {min_val}")
        return jnp.clip(array, int(min_val), int(max_val))
    bounded = jax.lax.stop_gradient(jnp.clip(array, min_val, max_val))
    return jnp.where((array <= min_val) | (array >= max_val), bounded, array)


def relu6(input: Real[Array, "*shape"], inplace: bool = False) -> Real[Array, "*shape"]:
    """Return ``min(max(input, 0), 6)``; the gradients at 0 and at 6 are 0. Raises the errors of :func:`hardtanh`.

    See "Convolutional deep belief networks on CIFAR-10" and `torch.nn.functional.relu6
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.relu6.html>`_.

    >>> relu6(jnp.array([-2.0, 0.5, 8.0])).tolist()
    [0.0, 0.5, 6.0]
    """
    return hardtanh(input, 0.0, 6.0)


@computed_wide()
def hardsigmoid(input: Float[Array, "*shape"], inplace: bool = False) -> Float[Array, "*shape"]:
    """Return ``relu6(input + 3) / 6``.

    Raises:
        NotImplementedError: for a non-floating-point input.

    See `torch.nn.functional.hardsigmoid
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.hardsigmoid.html>`_.

    >>> hardsigmoid(jnp.array([-4.0, 0.0, 4.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    shifted = (input + 3) / 6
    return jnp.where((input > -3) & (input < 3), shifted, jax.lax.stop_gradient(jnp.clip(shifted, 0, 1)))


@computed_wide()
def hardswish(input: Float[Array, "*shape"], inplace: bool = False) -> Float[Array, "*shape"]:
    """Return ``input * relu6(input + 3) / 6``.

    Raises:
        NotImplementedError: for a non-floating-point input.

    See "Searching for MobileNetV3" (arXiv:1905.02244) and `torch.nn.functional.hardswish
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.hardswish.html>`_.

    >>> hardswish(jnp.array([-4.0, 0.0, 4.0])).tolist()
    [-0.0, 0.0, 4.0]
    """
    curved = (input > -3) & (input < 3)
    x = jnp.where(curved, input, 0)
    outside = jnp.where(input <= -3, jax.lax.stop_gradient(input * 0), input)
    return jnp.where(curved, x * (x + 3) / 6, outside)


@computed_wide()
def hardshrink(input: Float[Array, "*shape"], lambd: float = 0.5) -> Float[Array, "*shape"]:
    """Return the input, with elements in ``[-lambd, lambd]`` set to 0.

    Raises:
        NotImplementedError: for a non-floating-point input.

    See `torch.nn.functional.hardshrink
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.hardshrink.html>`_.

    >>> hardshrink(jnp.array([-2.0, 0.5])).tolist()
    [-2.0, 0.0]
    """
    return jnp.where((input >= -lambd) & (input <= lambd), 0, input)


@computed_wide()
def softshrink(input: Float[Array, "*shape"], lambd: float = 0.5) -> Float[Array, "*shape"]:
    """Return the input, moved towards 0 by ``lambd``, with elements in ``[-lambd, lambd]`` set to 0.

    Raises:
        RuntimeError: if ``lambd`` is negative.
        NotImplementedError: for a non-floating-point input.

    See `torch.nn.functional.softshrink
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softshrink.html>`_.

    >>> softshrink(jnp.array([-2.0, 0.5])).tolist()
    [-1.5, 0.0]
    """
    if not lambd >= 0:
        raise RuntimeError(f"softshrink: lambd must not be negative, got {lambd}")
    return jnp.where((input >= -lambd) & (input <= lambd), 0, input - lambd * jnp.sign(input))
