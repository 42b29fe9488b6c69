"""Mixed precision as torch.autocast has it: what is computed in fewer bits, while parameters keep theirs."""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax.numpy as jnp
from jax.typing import DTypeLike

# The functions of torch.nn.functional that compute in float32 within torch.autocast("cpu"), themselves or since they
# call another one.
FLOAT32 = (
    "adaptive_avg_pool3d",
    "adaptive_max_pool3d",
    "adaptive_max_pool3d_with_indices",
    "avg_pool3d",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cross_entropy",
    "ctc_loss",
    "fractional_max_pool2d",
    "fractional_max_pool2d_with_indices",
    "fractional_max_pool3d",
    "fractional_max_pool3d_with_indices",
    "grid_sample",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "lp_pool3d",
    "margin_ranking_loss",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
)

Function = TypeVar("Function", bound=Callable[..., Any])

_dtype: contextvars.ContextVar[DTypeLike | None] = contextvars.ContextVar("autocast", default=None)


@contextlib.contextmanager
def autocast(dtype: DTypeLike | None = jnp.bfloat16) -> Iterator[None]:
    """Within it convolutions, linear maps, attention, recurrent layers and ``prelu`` compute in ``dtype``.

    Their float32 inputs, weights and biases are cast, and their outputs have that dtype. The functions of
    :data:`FLOAT32`, and ``pad`` in modes that repeat elements, compute in float32: their inputs of float16 and bfloat16
    are cast. These are the lists of ``torch.autocast("cpu")``, besides that torch has none for ``bilinear`` and for
    recurrent layers other than LSTM. All other functions compute as their inputs ask; normalisation takes inputs of
    ``dtype``, with its own parameters and statistics in float32.

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


def widen_operands(*arrays: Any) -> tuple[Any, ...]:
    """Returns what :func:`autocast` makes of the operands of :data:`FLOAT32`: half precision cast, all else as it is.

    >>> with autocast(jnp.bfloat16):
    ...     widen_operands(jnp.ones(1, jnp.bfloat16), None)
    (Array([1.], dtype=float32), None)
    """
    if _dtype.get() is None:
        return arrays
    half = [getattr(array, "dtype", None) in (jnp.float16, jnp.bfloat16) for array in arrays]
    return tuple(jnp.asarray(array, jnp.float32) if cast else array for array, cast in zip(arrays, half, strict=True))


def in_float32(function: Function) -> Function:
    """Wraps a function, so that its arguments are those of :func:`widen_operands`.

    >>> with autocast(jnp.bfloat16):
    ...     in_float32(jnp.sin)(jnp.ones(1, jnp.bfloat16)).dtype
    dtype('float32')
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        args, named = widen_operands(*args), widen_operands(*kwargs.values())
        return function(*args, **dict(zip(kwargs, named, strict=True)))

    return wrapped  # type: ignore[return-value]
