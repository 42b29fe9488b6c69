"""Complex numbers: parts, absolute values and angles."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from flaxnets.ops.promotion import floating


def view_as_complex(input: jax.Array) -> jax.Array:
    """Combine real and imaginary parts along the last axis into complex numbers.

    See `torch.view_as_complex <https://docs.pytorch.org/docs/stable/generated/torch.view_as_complex.html>`_.

    >>> view_as_complex(jnp.array([[1.0, 2.0]])).tolist()
    [(1+2j)]
    """
    if input.shape[-1:] != (2,):
        raise RuntimeError(f"view_as_complex: got shape {input.shape}. Expected a last axis of size 2")
    return jax.lax.complex(input[..., 0], input[..., 1])


def view_as_real(input: jax.Array) -> jax.Array:
    """Split complex numbers into real and imaginary parts along a new last axis.

    See `torch.view_as_real <https://docs.pytorch.org/docs/stable/generated/torch.view_as_real.html>`_.

    >>> view_as_real(jnp.array([1 + 2j])).tolist()
    [[1.0, 2.0]]
    """
    if not jnp.iscomplexobj(input):
        raise RuntimeError(f"view_as_real: got dtype {input.dtype}. Expected complex numbers")
    return jnp.stack([input.real, input.imag], axis=-1)


def polar(abs: jax.Array, angle: jax.Array) -> jax.Array:
    """Return complex numbers with these absolute values and angles.

    See `torch.polar <https://docs.pytorch.org/docs/stable/generated/torch.polar.html>`_.

    >>> polar(jnp.array([2.0]), jnp.array([0.0])).tolist()
    [(2+0j)]
    """
    size = jnp.where(abs == 0, 0, abs)  # blocks the gradient at zero
    return jax.lax.complex(*jnp.broadcast_arrays(size * jnp.cos(angle), size * jnp.sin(angle)))


def abs(input: ArrayLike) -> jax.Array:
    """Return absolute values; the gradient at zero is zero (``jnp.abs``: one).

    See `torch.abs <https://docs.pytorch.org/docs/stable/generated/torch.abs.html>`_.

    >>> abs(jnp.array([-2.0, 0.0])).tolist(), jax.grad(abs)(0.0).item()
    ([2.0, 0.0], 0.0)
    """
    array = jnp.asarray(input)
    return array * jnp.sign(array) if jnp.issubdtype(array.dtype, jnp.floating) else jnp.abs(array)


def sgn(input: ArrayLike) -> jax.Array:
    """Return ``input / abs(input)``, and zero for zero; for real numbers, the sign.

    See `torch.sgn <https://docs.pytorch.org/docs/stable/generated/torch.sgn.html>`_.

    >>> sgn(jnp.array([2j, 0j])).tolist()
    [1j, 0j]
    """
    array = jnp.asarray(input)
    if not jnp.iscomplexobj(array):
        return jnp.sign(array)
    nonzero = jnp.where(array == 0, 1, array)
    return jnp.where(array == 0, 0, nonzero / jnp.abs(nonzero))


def angle(input: ArrayLike) -> jax.Array:
    """Return the angles of complex numbers; for real numbers pi if negative (-0.0 excluded), else 0.

    See `torch.angle <https://docs.pytorch.org/docs/stable/generated/torch.angle.html>`_.

    >>> jnp.degrees(angle(jnp.array([1j, -1.0]))).round().tolist()
    [90.0, 180.0]
    """
    array = floating(input)
    if jnp.iscomplexobj(array):
        return jnp.angle(array)
    return jnp.where(array < 0, jnp.asarray(jnp.pi, array.dtype), jnp.where(jnp.isnan(array), array, 0))
