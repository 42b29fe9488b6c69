"""Checks and conversions that several layers share."""

import operator
from collections.abc import Iterable
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def to_tuple(value: int | Iterable[int], length: int, name: str) -> tuple[int, ...]:
    """One int for every spatial axis, or the given ones."""
    result = tuple(value) if isinstance(value, Iterable) else (value,) * length
    if len(result) != length:
        raise RuntimeError(f"{name} must be one int or {length} of them, got {value!r}")
    return result


def to_ints(values: Iterable[SupportsIndex], what: str, name: str) -> tuple[int, ...]:
    """The given whole numbers; torch takes no floats for them, and no booleans."""
    values = tuple(values)
    for value in values:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"{name}: {what} must be made of ints, got {value!r} in {values!r}")
    return tuple(map(operator.index, values))


def check_sizes(layer: str, **sizes: int) -> None:
    """Torch cannot make a tensor with a negative dimension, and calls that a RuntimeError."""
    for name, size in sizes.items():
        if size < 0:
            raise RuntimeError(f"{layer}: {name} must not be negative, got {size}")


def as_float_like(input: ArrayLike, weight: jax.Array, layer: str) -> jax.Array:
    """The input as an array; torch refuses to mix dtypes, and so do the layers that multiply."""
    array = jnp.asarray(input)
    if array.dtype != weight.dtype:
        raise RuntimeError(
            f"{layer}: expected an input of dtype {weight.dtype}, that of the weight, got {array.dtype}; "
            "cast the input, or the module with .to(dtype)"
        )
    return array


def check_ndim(input: jax.Array, allowed: tuple[int, ...], layer: str, error: type[Exception]) -> None:
    """Raises if the input has not one of the numbers of axes that the layer takes."""
    if input.ndim not in allowed:
        expected = " or ".join(f"{n}D" for n in allowed)
        raise error(f"{layer}: expected {expected} input, got {input.ndim}D input of shape {input.shape}")


def along(vector: jax.Array, axis: int, ndim: int) -> jax.Array:
    """A vector as an array of ``ndim`` axes that has its elements along ``axis``, to combine with such arrays."""
    return vector.reshape(*(-1 if i == axis % ndim else 1 for i in range(ndim)))


def changed(module: Any, **defaults: Any) -> str:
    """What ``repr`` prints of options: those whose values are not the defaults."""
    values = {name: getattr(module, name) for name in defaults}
    return "".join(f", {name}={value}" for name, value in values.items() if value != defaults[name])
