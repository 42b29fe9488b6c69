"""Checks and conversions of arguments that several layers share."""

import operator
from collections.abc import Iterable
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def per_axis(value: Any, n: int) -> tuple[Any, ...]:
    """Return ``value`` ``n`` times, or a sequence as a tuple; like torch's layers, which check the length when called.

    >>> per_axis(3, 2), per_axis([1, 2], 2)
    ((3, 3), (1, 2))
    """
    return tuple(value) if isinstance(value, Iterable) else (value,) * n


def to_sizes(
    value: Any, n: int, what: str, name: str, *, broadcast: bool = False, error: type[Exception] = RuntimeError
) -> tuple[int, ...]:
    """Return one int for each of ``n`` spatial axes, from one int or ``n`` of them.

    Args:
        value: the argument as the user passed it.
        n: number of spatial axes.
        what: name of the argument, for errors.
        name: name of the layer or function, for errors.
        broadcast: whether a sequence of one int is repeated for all axes.
        error: type of the error for a sequence of another length.

    Raises:
        TypeError: for elements that are no ints.

    >>> to_sizes([3], 2, "kernel_size", "Conv2d", broadcast=True)
    (3, 3)
    """
    sizes = to_ints(per_axis(value, n), what, name)
    if broadcast and len(sizes) == 1:
        sizes *= n
    if len(sizes) != n:
        raise error(f"{name}: {what} must be one int or {n} ints, got {value!r}")
    return sizes


def to_ints(values: Iterable[SupportsIndex], what: str, name: str) -> tuple[int, ...]:
    """Convert integers to ints; raise for floats and booleans, as torch does."""
    values = tuple(values)
    for value in values:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"{name}: {what} must be ints, got {value!r} in {values!r}")
    return tuple(map(operator.index, values))


def check_sizes(layer: str, **sizes: int) -> None:
    """Raise RuntimeError for a negative size, as torch does when it creates the tensor."""
    for name, size in sizes.items():
        if size < 0:
            raise RuntimeError(f"{layer}: {name} must not be negative, got {size}")


def as_float_like(input: ArrayLike, weight: jax.Array, layer: str) -> jax.Array:
    """Convert the input to an array; raise unless its dtype is that of the weight, as in torch's matrix products."""
    array = jnp.asarray(input)
    if array.dtype != weight.dtype:
        raise RuntimeError(
            f"{layer}: expected an input of dtype {weight.dtype}, that of the weight, got {array.dtype}; "
            "cast the input, or the module with .to(dtype)"
        )
    return array


def check_ndim(input: jax.Array, allowed: tuple[int, ...], layer: str, error: type[Exception]) -> None:
    """Raise unless the input's rank is one of ``allowed``."""
    if input.ndim not in allowed:
        expected = " or ".join(f"{n}D" for n in allowed)
        raise error(f"{layer}: expected {expected} input, got {input.ndim}D input of shape {input.shape}")


def along(vector: jax.Array, axis: int, ndim: int) -> jax.Array:
    """Reshape a vector to ``ndim`` axes with its elements along ``axis``, for broadcasting."""
    return vector.reshape(*(-1 if i == axis % ndim else 1 for i in range(ndim)))


def changed(module: Any, **defaults: Any) -> str:
    """Return the non-default options as ``repr`` prints them."""
    values = {name: getattr(module, name) for name in defaults}
    return "".join(f", {name}={value}" for name, value in values.items() if value != defaults[name])
