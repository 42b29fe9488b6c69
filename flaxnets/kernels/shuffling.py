"""Channel shuffles: the exchange of two axes whose elements are long rows, and channels-last a gather."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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


def _interleaved(x: Any, *, groups: int) -> Any:
    return x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups).swapaxes(-1, -2).reshape(x.shape)


def _gathered(x: jax.Array, *, groups: int) -> jax.Array:
    """XLA is up to 20 times slower with the transposed array, whose rows are short."""
    places = _interleaved(np.arange(x.shape[-1]), groups=groups)
    # Mapped over rows: XLA would gather the columns of a whole array as rows, and transpose the result.
    return jax.vmap(lambda row: row.at[places].get(mode="clip"))(x.reshape(-1, x.shape[-1])).reshape(x.shape)


_interleaved_p = primitive("interleaved_groups", _interleaved, _gathered)
ad.deflinear2(_interleaved_p, lambda ct, x, *, groups: [_interleaved_p.bind(ct, groups=x.aval.shape[-1] // groups)])
batch_in_front(_interleaved_p)


def interleave(x: jax.Array, groups: int) -> jax.Array:
    """Return the first element of each group of the last axis, then the second of each, and so on.

    >>> interleave(jnp.arange(4), 2).tolist()
    [0, 2, 1, 3]
    """
    return _interleaved_p.bind(x, groups=groups)
