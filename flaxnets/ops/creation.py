"""Array creation with torch's default dtypes: float32 (even with ``jax_enable_x64``) and int64.

Without ``jax_enable_x64``, int64 means int32.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from flaxnets.ops.promotion import python_dtype


def tensor(data: Any, *, dtype: DTypeLike | None = None) -> jax.Array:
    """Create an array from a number, nested lists, or an array.

    Args:
        data: numbers in nested lists, which may contain arrays. An array keeps its dtype.
        dtype: dtype of the result. Default: float32, int64 (int32 without x64), bool or complex64, depending on the
            numbers.

    See `torch.tensor <https://docs.pytorch.org/docs/stable/generated/torch.tensor.html>`_.

    >>> tensor([1.0, 2.0]).dtype.name, tensor([]).dtype.name
    ('float32', 'float32')
    """
    if isinstance(data, (jax.Array, np.ndarray, np.generic)):
        return jnp.asarray(data, dtype)
    if isinstance(data, Sequence) and _holds_arrays(data):
        stacked = jnp.stack([tensor(each) for each in data])
        return stacked if dtype is None else stacked.astype(dtype)
    array = np.asarray(data)
    defaults = {"f": np.float32, "c": np.complex64, "i": int, "b": bool}
    return jnp.asarray(array, defaults.get(array.dtype.kind) if dtype is None else dtype)


def _holds_arrays(data: Any) -> bool:
    if isinstance(data, Sequence) and not isinstance(data, str):
        return any(map(_holds_arrays, data))
    return isinstance(data, (jax.Array, np.ndarray, np.generic))


def full(size: int | Sequence[int], fill_value: ArrayLike, *, dtype: DTypeLike | None = None) -> jax.Array:
    """Create an array of one value. Default dtype: that of the value: float32, int64 (int32 without x64) or bool.

    See `torch.full <https://docs.pytorch.org/docs/stable/generated/torch.full.html>`_.

    >>> full((2,), 3).tolist(), full((1,), 0.5).dtype.name
    ([3, 3], 'float32')
    """
    if dtype is None:
        dtype = python_dtype(fill_value) if isinstance(fill_value, (int, float, complex)) else None
    return jnp.full(size, fill_value, dtype)


def _step_count(start: float, end: float, step: float, name: str) -> int:
    if step == 0 or (end - start) * step < 0:
        raise RuntimeError(f"{name}: got {start=}, {end=}, {step=}. Expected a step that leads from start to end")
    return math.ceil((end - start) / step)


def arange(*bounds: float, dtype: DTypeLike | None = None) -> jax.Array:
    """Return the numbers ``start``, ``start + step``, ... below ``end``.

    Args:
        bounds: ``end``, or ``start, end``, or ``start, end, step``.
        dtype: dtype of the result. Default: int64 (int32 without x64) for integers, otherwise float32.

    Raises:
        RuntimeError: for a step of zero, or a step away from the end.

    See `torch.arange <https://docs.pytorch.org/docs/stable/generated/torch.arange.html>`_.

    >>> arange(1, 2, 0.5).tolist()
    [1.0, 1.5]
    """
    bounds = tuple(
        bound.item() if isinstance(bound, (jax.Array, np.generic, np.ndarray)) else bound for bound in bounds
    )
    start, end, step = (0, *bounds, 1) if len(bounds) == 1 else (*bounds, 1)[:3]
    if dtype is None:
        dtype = np.float32 if any(isinstance(bound, float) for bound in bounds) else python_dtype(0)
    # Rounded once; the last bits of torch's float32 results depend on the CPU's vector width.
    return jnp.asarray(np.asarray(start + step * np.arange(_step_count(start, end, step, "arange"))).astype(dtype))


def range(start: float, end: float, step: float = 1, *, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Return the numbers ``start``, ``start + step``, ... including the end, like ``torch.range``.

    See `torch.range <https://docs.pytorch.org/docs/stable/generated/torch.range.html>`_.

    >>> range(1, 2, 0.5).tolist()
    [1.0, 1.5, 2.0]
    """
    count = math.floor((end - start) / step) + 1
    return jnp.asarray((start + step * np.arange(count)).astype(dtype))


def linspace(start: ArrayLike, end: ArrayLike, steps: int, *, dtype: DTypeLike | None = None) -> jax.Array:
    """Return ``steps`` evenly spaced numbers from ``start`` to ``end``. Default dtype: float32.

    The second half is computed from the end, as in torch, so that the numbers are symmetric.

    See `torch.linspace <https://docs.pytorch.org/docs/stable/generated/torch.linspace.html>`_.

    >>> linspace(0, 1, 3).tolist()
    [0.0, 0.5, 1.0]
    """
    dtype = _bounds_dtype(start, end) if dtype is None else jnp.dtype(dtype)
    if any(isinstance(bound, jax.Array) for bound in (start, end)):
        return jnp.linspace(start, end, steps, dtype=dtype)
    exact = dtype if jnp.issubdtype(dtype, jnp.inexact) else np.dtype(np.float64)
    first, last = np.asarray(start).astype(exact), np.asarray(end).astype(exact)
    if steps == 1:
        return jnp.asarray(first.astype(dtype)[None])
    step = (last - first) / np.asarray(max(steps - 1, 1)).astype(exact)
    index = np.arange(steps).astype(exact)
    values = np.where(np.arange(steps) < steps // 2, first + step * index, last - step * index[::-1])
    return jnp.asarray(values.astype(dtype))


def _bounds_dtype(start: ArrayLike, end: ArrayLike) -> np.dtype:
    arrays = [bound.dtype for bound in (start, end) if isinstance(bound, (jax.Array, np.ndarray))]
    is_complex = any(isinstance(bound, complex) for bound in (start, end))
    return jnp.result_type(np.complex64 if is_complex else np.float32, *arrays)


def concrete(compute: Callable[..., Any], *arguments: Any) -> Any:
    """Compute arrays of constants as NumPy arrays, whose values are available even while JAX traces.

    >>> concrete(linspace, 0, 1, 3).tolist()
    [0.0, 0.5, 1.0]

    >>> jax.jit(lambda x: x * concrete(lambda: jnp.cumsum(jnp.ones(3))).tolist()[-1])(2.0).item()
    6.0
    """
    with jax.ensure_compile_time_eval():
        return jax.tree.map(np.asarray, compute(*arguments))


def logspace(
    start: ArrayLike, end: ArrayLike, steps: int, base: float = 10.0, *, dtype: DTypeLike = jnp.float32
) -> jax.Array:
    """Return ``steps`` powers of ``base`` with evenly spaced exponents from ``start`` to ``end``.

    See `torch.logspace <https://docs.pytorch.org/docs/stable/generated/torch.logspace.html>`_.

    >>> logspace(0, 2, 3).tolist()
    [1.0, 10.0, 100.0]
    """
    return jnp.power(jnp.asarray(base, dtype), linspace(start, end, steps, dtype=dtype))


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: DTypeLike | None = None) -> jax.Array:
    """Return row and column of each element of the lower triangle, as an array of shape ``(2, n)``.

    See `torch.tril_indices <https://docs.pytorch.org/docs/stable/generated/torch.tril_indices.html>`_.

    >>> tril_indices(2, 2).tolist()
    [[0, 1, 1], [0, 0, 1]]
    """
    return jnp.asarray(np.stack(np.tril_indices(row, offset, col)), dtype or int)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: DTypeLike | None = None) -> jax.Array:
    """Return row and column of each element of the upper triangle, as an array of shape ``(2, n)``.

    See `torch.triu_indices <https://docs.pytorch.org/docs/stable/generated/torch.triu_indices.html>`_.

    >>> triu_indices(2, 2).tolist()
    [[0, 0, 1], [0, 1, 1]]
    """
    return jnp.asarray(np.stack(np.triu_indices(row, offset, col)), dtype or int)
