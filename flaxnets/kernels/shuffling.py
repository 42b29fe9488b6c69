"""Exchange of two axes whose elements are long rows, as in a channel shuffle."""

import jax
import jax.numpy as jnp
from jax.interpreters import ad

from flaxnets.kernels._primitives import batch_in_front, primitive

PARTS = 32  # so many slices at most are stacked, which bounds the compile time


def _exchanged(x: jax.Array) -> jax.Array:
    return x.swapaxes(-3, -2)


def _stacked(x: jax.Array) -> jax.Array:
    """XLA copies what is stacked a row at a time, and the elements of a transposed array one by one."""
    groups, each, _ = x.shape[-3:]
    if not 0 < min(groups, each) <= PARTS:
        return _exchanged(x)
    if groups <= each:
        return jnp.stack([x[..., i, :, :] for i in range(groups)], -2)
    return jnp.stack([x[..., i, :] for i in range(each)], -3)


_exchanged_p = primitive("exchanged_rows", _exchanged, _stacked)
ad.deflinear2(_exchanged_p, lambda ct, x: [_exchanged_p.bind(ct)])
batch_in_front(_exchanged_p)


def exchange_rows(x: jax.Array) -> jax.Array:
    """Return ``x.swapaxes(-3, -2)``.

    >>> exchange_rows(jnp.arange(4).reshape(2, 2, 1)).ravel().tolist()
    [0, 2, 1, 3]
    """
    return _exchanged_p.bind(x)
