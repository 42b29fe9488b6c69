"""Base class of activation functions."""

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
    """The input as an array; torch has no kernels for integers, booleans or complex numbers here."""
    array = jnp.asarray(input)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise NotImplementedError(f"{name}: expected a floating-point input, got one of dtype {array.dtype}; cast it")
    return array


def as_floating_or_complex(input: ArrayLike, name: str) -> jax.Array:
    """The input as an array; torch has no kernels for integers or booleans here."""
    array = jnp.asarray(input)
    return array if jnp.issubdtype(array.dtype, jnp.complexfloating) else as_floating(array, name)


def as_inexact(input: ArrayLike, name: str) -> jax.Array:
    """The input as a floating-point or complex array: integers and booleans become float32."""
    array = jnp.asarray(input)
    return array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(jnp.float32)


def as_ordered(input: ArrayLike, name: str) -> jax.Array:
    """The input as an array of floating-point or integers."""
    array = jnp.asarray(input)
    if array.dtype == jnp.bool:
        raise RuntimeError(f"{name}: expected numbers, got an input of dtype bool; cast it")
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise NotImplementedError(f"{name}: complex numbers have no order, got an input of dtype {array.dtype}")
    return array


def resolve_dim(dim: int, ndim: int, name: str) -> int:
    """The axis ``dim`` counted from the front; a scalar has one."""
    axis, axes = operator.index(dim), max(ndim, 1)
    if not -axes <= axis < axes:
        raise IndexError(f"{name}: dim must be between {-axes} and {axes - 1}, got {dim}")
    return axis % axes


def computed_wide(take: Take = as_floating) -> Callable[[F], F]:
    """For what ``take`` accepts; half precision is computed in float32 and rounded at the end, as in torch."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapped(input: ArrayLike, *args: Any, **kwargs: Any) -> jax.Array:
            array = take(input, function.__name__)
            wide = array.astype(jnp.promote_types(array.dtype, jnp.float32))
            return function(wide, *args, **kwargs).astype(array.dtype)

        return cast(F, wrapped)

    return decorate
