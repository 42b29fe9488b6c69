"""Input conversion and precision of the activation functions."""

import functools
import operator
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

F = TypeVar("F", bound=Callable[..., jax.Array])
Take = Callable[[ArrayLike, str], jax.Array]


def as_floating(input: ArrayLike, name: str) -> jax.Array:
    """Convert the input to an array; raise for integers, booleans and complex numbers, as torch does."""
    array = jnp.asarray(input)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise NotImplementedError(f"{name}: expected a floating-point input, got one of dtype {array.dtype}; cast it")
    return array


def as_floating_or_complex(input: ArrayLike, name: str) -> jax.Array:
    """Convert the input to an array; raise for integers and booleans, as torch does."""
    array = jnp.asarray(input)
    return array if jnp.issubdtype(array.dtype, jnp.complexfloating) else as_floating(array, name)


def as_inexact(input: ArrayLike, name: str) -> jax.Array:
    """Convert the input to a floating-point or complex array; integers and booleans become float32."""
    array = jnp.asarray(input)
    return array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(jnp.float32)


def as_ordered(input: ArrayLike, name: str) -> jax.Array:
    """Convert the input to an array; raise for booleans and complex numbers."""
    array = jnp.asarray(input)
    if array.dtype == jnp.bool:
        raise RuntimeError(f"{name}: expected numbers, got an input of dtype bool; cast it")
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise NotImplementedError(f"{name}: expected real numbers, got an input of dtype {array.dtype}")
    return array


def resolve_dim(dim: int, ndim: int, name: str) -> int:
    """Return the axis ``dim`` as a non-negative number; a scalar counts as having one axis."""
    axis, axes = operator.index(dim), max(ndim, 1)
    if not -axes <= axis < axes:
        raise IndexError(f"{name}: dim must be between {-axes} and {axes - 1}, got {dim}")
    return axis % axes


def computed_wide(take: Take = as_floating) -> Callable[[F], F]:
    """Decorate a function to convert its input with ``take`` and compute half precision in float32, as in torch."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapped(input: ArrayLike, *args: Any, **kwargs: Any) -> jax.Array:
            array = take(input, function.__name__)
            wide = array.astype(jnp.promote_types(array.dtype, jnp.float32))
            return function(wide, *args, **kwargs).astype(array.dtype)

        return cast(F, wrapped)

    return decorate
