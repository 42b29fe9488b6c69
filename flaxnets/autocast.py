"""Mixed precision as torch.autocast has it: what is computed in fewer bits, while parameters keep theirs."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

_dtype: contextvars.ContextVar[DTypeLike | None] = contextvars.ContextVar("autocast", default=None)


@contextlib.contextmanager
def autocast(dtype: DTypeLike | None = jnp.bfloat16) -> Iterator[None]:
    """Within it convolutions, linear maps and recurrent layers compute in ``dtype``; all else as its inputs ask.

    Their float32 inputs, weights and biases are cast, and their outputs have that dtype. Normalisation takes such
    inputs, with its own parameters and statistics in float32.

    It counts while a function is traced: enter it inside what is given to ``jax.jit``, or before the first call.

    Args:
        dtype: of the computation; None changes nothing.

    See `torch.autocast <https://docs.pytorch.org/docs/stable/amp.html>`_.

    >>> from flaxnets.nn import functional as F
    >>> with autocast(jnp.bfloat16):
    ...     print(F.linear(jnp.ones((1, 3)), jnp.ones((2, 3))).dtype)
    bfloat16
    """
    token = _dtype.set(dtype)
    try:
        yield
    finally:
        _dtype.reset(token)


def cast_operands(*arrays: Any) -> tuple[Any, ...]:
    """Returns what :func:`autocast` makes of the operands of a product: float32 arrays cast, all else as it is.

    >>> cast_operands(jnp.ones(2), None)
    (Array([1., 1.], dtype=float32), None)
    """
    dtype = _dtype.get()
    if dtype is None:
        return arrays
    wide = [getattr(array, "dtype", None) == jnp.float32 for array in arrays]
    return tuple(jnp.asarray(array, dtype) if cast else array for array, cast in zip(arrays, wide, strict=True))
