"""Writing through views: what torch does to a tensor by changing a part of it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def set_view(input: jax.Array, view: Callable[[jax.Array], jax.Array], value: jax.Array) -> jax.Array:
    """Return an array whose elements that ``view`` shows have new values.

    Args:
        input: of any shape.
        view: a function that picks and rearranges elements, as slices, transposes and reshapes do.
        value: the new elements, of a shape that broadcasts to the view's.

    >>> set_view(jnp.zeros((2, 2)), lambda x: x.T[0], jnp.array([1.0, 2.0])).tolist()
    [[1.0, 0.0], [2.0, 0.0]]
    """
    places = view(jnp.arange(input.size).reshape(input.shape))
    flat = input.reshape(-1).at[places.reshape(-1)]
    new = jnp.broadcast_to(jnp.asarray(value, input.dtype), places.shape)
    return flat.set(new.reshape(-1)).reshape(input.shape)
