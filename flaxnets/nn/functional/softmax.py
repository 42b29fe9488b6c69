"""Softmax, log-softmax, softmin and Gumbel-softmax."""

import warnings

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

from flaxnets import kernels
from flaxnets.nn.functional._elementwise import as_floating, resolve_dim


def _implicit_dim(name: str, ndim: int, stacklevel: int) -> int:
    dim = 0 if ndim in (0, 1, 3) else 1
    message = f"{name}: the implicit dim={dim} for an input of {ndim} axes is deprecated. Fix: pass dim"
    warnings.warn(message, UserWarning, stacklevel=stacklevel)
    return dim


def _normalized(input: jax.Array, dim: int, dtype: DTypeLike | None, log: bool, name: str) -> jax.Array:
    array = as_floating(input if dtype is None else input.astype(dtype), name)
    axis = resolve_dim(dim, array.ndim, name)
    # Torch sums half precision in float32.
    wide = jnp.atleast_1d(array.astype(jnp.promote_types(array.dtype, jnp.float32)))
    implementation = kernels.softmax_implementation(wide, axis, log)
    output = implementation(wide) if implementation else (jax.nn.log_softmax if log else jax.nn.softmax)(wide, axis)
    return output.reshape(array.shape).astype(array.dtype)


def softmax(
    input: Shaped[Array, "*shape"], dim: int | None = None, _stacklevel: int = 3, dtype: DTypeLike | None = None
) -> Float[Array, "*shape"]:
    """Return ``exp(input)`` divided by its sum along the axis ``dim``.

    Args:
        input: of any shape.
        dim: the axis. None means 0 for inputs of 0, 1 or 3 axes and 1 for others, with a warning.
        _stacklevel: stack level of the warning.
        dtype: dtype that the input is cast to first, and dtype of the result.

    Raises:
        IndexError: for an axis that the input lacks.
        TypeError: for an axis that is not an integer.
        NotImplementedError: for an input, or a ``dtype``, that is not floating-point.

    See `torch.nn.functional.softmax
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softmax.html>`_.

    >>> softmax(jnp.zeros((1, 4)), dim=1).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    input = jnp.asarray(input)
    dim = _implicit_dim("softmax", input.ndim, _stacklevel) if dim is None else dim
    return _normalized(input, dim, dtype, False, "softmax")


def softmin(
    input: Shaped[Array, "*shape"], dim: int | None = None, _stacklevel: int = 3, dtype: DTypeLike | None = None
) -> Float[Array, "*shape"]:
    """Return :func:`softmax` of the negated input; arguments and errors are the same.

    Raises:
        RuntimeError: for booleans, which cannot be negated.

    See `torch.nn.functional.softmin
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softmin.html>`_.

    >>> softmin(jnp.zeros((1, 4)), dim=1).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    input = jnp.asarray(input)
    if input.dtype == jnp.bool:
        raise RuntimeError("softmin: expected numbers, got an input of dtype bool; cast it")
    dim = _implicit_dim("softmin", input.ndim, _stacklevel) if dim is None else dim
    return _normalized(-input, dim, dtype, False, "softmin")


def log_softmax(
    input: Shaped[Array, "*shape"], dim: int | None = None, _stacklevel: int = 3, dtype: DTypeLike | None = None
) -> Float[Array, "*shape"]:
    """Return the logarithm of :func:`softmax` without overflow; arguments and errors are the same.

    See `torch.nn.functional.log_softmax
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.log_softmax.html>`_.

    >>> log_softmax(jnp.array([0.0, -200.0]), dim=0).tolist()
    [0.0, -200.0]
    """
    input = jnp.asarray(input)
    dim = _implicit_dim("log_softmax", input.ndim, _stacklevel) if dim is None else dim
    return _normalized(input, dim, dtype, True, "log_softmax")


def gumbel_softmax(
    logits: Float[Array, "*shape"],
    tau: float = 1,
    hard: bool = False,
    eps: float = 1e-10,
    dim: int = -1,
    *,
    key: jax.Array | None = None,
    noise: Float[Array, "*shape"] | None = None,
) -> Float[Array, "*shape"]:
    """Draw from the categorical distribution of ``logits`` along an axis, differentiably.

    Args:
        logits: unnormalised log-probabilities.
        tau: the temperature. Small values give nearly one-hot vectors.
        hard: whether the result is one-hot, with the gradient of the soft result.
        eps: deprecated, no effect.
        dim: the axis of the categories.
        key: random key for the noise.
        noise: samples of the standard Gumbel distribution, instead of drawn ones.

    Raises:
        IndexError: for an axis that the input lacks, or, with ``hard``, an axis of size 0.
        RuntimeError: for logits that are not floating-point.
        ValueError: for neither ``key`` nor ``noise``.

    See "Categorical reparameterization with Gumbel-softmax" (arXiv:1611.01144) and `torch.nn.functional.gumbel_softmax
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.gumbel_softmax.html>`_.

    >>> gumbel_softmax(jnp.zeros(3), hard=True, noise=jnp.array([0.5, 2.0, 1.0])).tolist()
    [0.0, 1.0, 0.0]
    """
    logits = jnp.asarray(logits)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise RuntimeError(f"gumbel_softmax: expected floating-point logits, got dtype {logits.dtype}; cast them")
    if eps != 1e-10:
        warnings.warn(f"gumbel_softmax: eps is deprecated and has no effect, got {eps}", UserWarning, stacklevel=2)
    if noise is None:
        if key is None:
            raise ValueError("gumbel_softmax: expected a random key or noise, got neither. Fix: pass key")
        noise = jax.random.gumbel(key, logits.shape, jnp.promote_types(logits.dtype, jnp.float32))
    soft = softmax((logits + jnp.asarray(noise, logits.dtype)) / tau, dim)
    if not hard:
        return soft
    axis, shape = resolve_dim(dim, logits.ndim, "gumbel_softmax"), logits.shape
    if shape and shape[axis] == 0:
        raise IndexError(f"gumbel_softmax: the axis {dim} must have at least one category, got logits of shape {shape}")
    flat = jnp.atleast_1d(soft)
    chosen = jax.nn.one_hot(flat.argmax(axis), flat.shape[axis], axis=axis, dtype=soft.dtype).reshape(shape)
    return chosen - jax.lax.stop_gradient(soft) + soft
