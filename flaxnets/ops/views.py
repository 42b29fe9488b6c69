"""Writes through views, as torch changes a tensor by changing a part of it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def set_view(input: jax.Array, view: Callable[[jax.Array], jax.Array], value: jax.Array) -> jax.Array:
    """Return an array in which the elements of ``view`` have new values.

    Args:
        input: of any shape.
        view: a function that selects and rearranges elements, for example slicing, transposing or reshaping.
        value: the new elements; broadcasts to the view's shape.

    >>> set_view(jnp.zeros((2, 2)), lambda x: x.T[0], jnp.array([1.0, 2.0])).tolist()
    [[1.0, 0.0], [2.0, 0.0]]
    """
    indices = view(jnp.arange(input.size).reshape(input.shape))
    flat = input.reshape(-1).at[indices.reshape(-1)]
    new = jnp.broadcast_to(jnp.asarray(value, input.dtype), indices.shape)
    return flat.set(new.reshape(-1)).reshape(input.shape)


@jax.custom_jvp
def with_value(input: jax.Array, value: jax.Array) -> jax.Array:
    """Return ``value`` with the gradient of ``input``, as after a change of a torch tensor under ``no_grad``.

    Args:
        input: array that gets the gradients.
        value: the value; broadcasts to the shape of ``input``.

    >>> jax.grad(lambda x: with_value(x, jnp.round(x)) ** 2)(1.6).item()
    4.0
    """
    return jnp.broadcast_to(jnp.asarray(value, jnp.result_type(input)), jnp.shape(input))


@with_value.defjvp
def _with_value_jvp(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    return with_value(*primals), tangents[0]
