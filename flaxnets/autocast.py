"""Mixed precision like ``torch.autocast``: selected functions compute in a smaller dtype than the parameters."""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax.numpy as jnp
from jax.typing import DTypeLike

# Functions of torch.nn.functional that compute in float32 within torch.autocast("cpu"), directly or because a function
# that they call does.
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
    """Context in which convolutions, linear maps, attention, recurrent layers and ``prelu`` compute in ``dtype``.

    Float32 inputs, weights and biases of these functions are cast, and outputs have the dtype ``dtype``. The functions
    of :data:`FLOAT32`, and ``pad`` in modes that repeat elements, compute in float32: float16 and bfloat16 inputs are
    cast. The lists are those of ``torch.autocast("cpu")``, and additionally contain ``bilinear`` and all recurrent
    layers. All other functions compute in the dtype of their inputs. Normalization layers accept inputs of ``dtype``
    and keep parameters and statistics in float32.

    The context matters while a function is traced: enter it inside the function that is passed to ``jax.jit``, or
    before the first call.

    Args:
        dtype: the dtype to compute in; with None the context has no effect.

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
    """Cast float32 operands of a product to the dtype of :func:`autocast`; return other operands unchanged.

    >>> cast_operands(jnp.ones(2), None)
    (Array([1., 1.], dtype=float32), None)
    """
    dtype = _dtype.get()
    if dtype is None:
        return arrays
    wide = [getattr(array, "dtype", None) == jnp.float32 for array in arrays]
    return tuple(jnp.asarray(array, dtype) if cast else array for array, cast in zip(arrays, wide, strict=True))


def widen_operands(*arrays: Any) -> tuple[Any, ...]:
    """Cast half-precision operands to float32 within :func:`autocast`; return other operands unchanged.

    >>> with autocast(jnp.bfloat16):
    ...     widen_operands(jnp.ones(1, jnp.bfloat16), None)
    (Array([1.], dtype=float32), None)
    """
    if _dtype.get() is None:
        return arrays
    half = [getattr(array, "dtype", None) in (jnp.float16, jnp.bfloat16) for array in arrays]
    return tuple(jnp.asarray(array, jnp.float32) if cast else array for array, cast in zip(arrays, half, strict=True))


def in_float32(function: Function) -> Function:
    """Wrap a function so that its arguments go through :func:`widen_operands`.

    >>> with autocast(jnp.bfloat16):
    ...     in_float32(jnp.sin)(jnp.ones(1, jnp.bfloat16)).dtype
    dtype('float32')
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        args, named = widen_operands(*args), widen_operands(*kwargs.values())
        return function(*args, **dict(zip(kwargs, named, strict=True)))

    return wrapped  # type: ignore[return-value]
