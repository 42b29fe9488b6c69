"""Torch's type promotion: arrays with axes have precedence over arrays without axes, and these over Python numbers."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


def python_dtype(number: Any) -> np.dtype:
    """Return the dtype that torch gives a Python number: int64 (without x64: int32), float32 or complex64.

    >>> python_dtype(1.5).name
    'float32'
    """
    if isinstance(number, bool):
        return np.dtype(bool)
    if isinstance(number, int):
        return jax.dtypes.canonicalize_dtype(int)
    return np.dtype(np.complex64 if isinstance(number, complex) else np.float32)


def _combine(stronger: np.dtype | None, weaker: np.dtype | None) -> np.dtype | None:
    """Return the stronger group's dtype, unless the weaker group has a higher category."""
    if stronger is None or weaker is None:
        return weaker if stronger is None else stronger
    if jnp.issubdtype(stronger, jnp.complexfloating):
        return stronger
    if jnp.issubdtype(stronger, jnp.floating):
        is_complex = jnp.issubdtype(weaker, jnp.complexfloating)
        return jnp.promote_types(stronger, jnp.complex64) if is_complex else stronger
    if jnp.issubdtype(stronger, jnp.bool) or jnp.issubdtype(weaker, jnp.inexact):
        return jnp.promote_types(stronger, weaker)
    return stronger


def result_type(*tensors: ArrayLike) -> np.dtype:
    """Return the dtype in which torch computes with these arrays and Python numbers.

    An array without axes does not widen an array with axes of the same category. A Python float combined with integers
    gives float32, even with ``jax_enable_x64``.

    See `torch.result_type <https://docs.pytorch.org/docs/stable/generated/torch.result_type.html>`_.

    >>> print(result_type(jnp.ones(3, jnp.bfloat16), jnp.float32(1.0)), result_type(jnp.arange(3), 0.5))
    bfloat16 float32
    """
    groups: list[list[np.dtype]] = [[], [], []]
    for tensor in tensors:
        if isinstance(tensor, (bool, int, float, complex)) and not isinstance(tensor, np.generic):
            groups[2].append(python_dtype(tensor))
        else:
            array = tensor if isinstance(tensor, jax.Array) else jnp.asarray(tensor)
            groups[0 if array.ndim else 1].append(array.dtype)
    promoted = [_all(dtypes) for dtypes in groups]
    result = _combine(_combine(promoted[0], promoted[1]), promoted[2])
    if result is None:
        raise ValueError(f"result_type: got {tensors!r}. Expected at least one array or number")
    return result


def _all(dtypes: list[np.dtype]) -> np.dtype | None:
    return functools.reduce(jnp.promote_types, dtypes) if dtypes else None


def promote(*tensors: ArrayLike) -> list[jax.Array]:
    """Cast arrays and Python numbers to the dtype in which torch computes (:func:`result_type`).

    >>> [array.dtype.name for array in promote(jnp.ones(3, jnp.float16), jnp.float32(2.0))]
    ['float16', 'float16']
    """
    dtype = result_type(*tensors)
    return [jnp.asarray(tensor).astype(dtype) for tensor in tensors]


def floating(input: ArrayLike) -> jax.Array:
    """Cast integers and booleans to float32, as torch does before ``exp``, ``sqrt``, ``/`` and similar functions.

    >>> floating(jnp.arange(2)).dtype.name
    'float32'
    """
    array = jnp.asarray(input)
    return array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(jnp.float32)
