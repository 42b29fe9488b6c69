"""Complex numbers and their two parts."""

import jax
import jax.numpy as jnp


def view_as_complex(input: jax.Array) -> jax.Array:
    """Make complex numbers of the last axis, which has the real and the imaginary part.

    See `torch.view_as_complex <https://docs.pytorch.org/docs/stable/generated/torch.view_as_complex.html>`_.

    >>> view_as_complex(jnp.array([[1.0, 2.0]])).tolist()
    [(1+2j)]
    """
    if input.shape[-1:] != (2,):
        raise RuntimeError(f"view_as_complex: got shape {input.shape}. Expected a last axis of size 2")
    return jax.lax.complex(input[..., 0], input[..., 1])


def view_as_real(input: jax.Array) -> jax.Array:
    """Put the real and the imaginary part of complex numbers into a new last axis.

    See `torch.view_as_real <https://docs.pytorch.org/docs/stable/generated/torch.view_as_real.html>`_.

    >>> view_as_real(jnp.array([1 + 2j])).tolist()
    [[1.0, 2.0]]
    """
    if not jnp.iscomplexobj(input):
        raise RuntimeError(f"view_as_real: got dtype {input.dtype}. Expected complex numbers")
    return jnp.stack([input.real, input.imag], axis=-1)


def polar(abs: jax.Array, angle: jax.Array) -> jax.Array:
    """Make complex numbers of their absolute values and angles.

    See `torch.polar <https://docs.pytorch.org/docs/stable/generated/torch.polar.html>`_.

    >>> polar(jnp.array([2.0]), jnp.array([0.0])).tolist()
    [(2+0j)]
    """
    return jax.lax.complex(*jnp.broadcast_arrays(abs * jnp.cos(angle), abs * jnp.sin(angle)))
