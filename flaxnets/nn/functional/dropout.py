"""Dropout of elements and of whole channels."""

import math
import warnings

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Shaped

# SELU's lowest value, negated: alpha dropout sets elements to it, then restores mean and variance.
_SELU_LIMIT = 1.7580993408473766

Key = jax.Array | None
Mask = Bool[Array, "..."] | None


def check_probability(p: float, name: str) -> None:
    """Raise ValueError unless ``p`` is in ``[0, 1]``."""
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: the dropout probability must be between 0 and 1, got {p}")


def channels_of(shape: tuple[int, ...], leading: int) -> tuple[int, ...]:
    """Return the shape of a mask with one element for each index of the first ``leading`` axes."""
    if len(shape) < leading:
        raise RuntimeError(f"dropout of channels: expected at least {leading} axes, got an input of shape {shape}")
    return (*shape[:leading], *(1 for _ in shape[leading:]))


def spatial_leading(ndim: int, spatial_axes: int) -> int:
    """Return the number of leading axes (batch, channels); for 2d, torch reads three axes as ``(N, C, L)``."""
    return 2 if spatial_axes == 2 or ndim == spatial_axes + 2 else 1


def _drop(
    input: jax.Array,
    p: float,
    training: bool,
    key: Key,
    mask: Mask,
    leading: int | None,
    name: str,
    alpha: bool = False,
) -> jax.Array:
    check_probability(p, name)
    if not training or p == 0 or input.size == 0:
        return input
    if p == 1:
        return input * jnp.zeros_like(input)
    if not jnp.issubdtype(input.dtype, jnp.floating):
        error = NotImplementedError if jnp.issubdtype(input.dtype, jnp.complexfloating) else RuntimeError
        raise error(f"{name}: expected a floating-point input, got one of dtype {input.dtype}; cast it")
    shape = input.shape if leading is None else channels_of(input.shape, leading)
    if mask is None:
        if key is None:
            raise ValueError(
                f"{name}: expected a random key or a mask of the elements to keep, got neither. Fix: pass key"
            )
        mask = jax.random.bernoulli(key, 1 - p, shape)
    keep = jnp.broadcast_to(mask, input.shape).astype(input.dtype)
    if not alpha:
        return input * (keep / (1 - p))
    scale = 1 / math.sqrt((_SELU_LIMIT**2 * p + 1) * (1 - p))
    limit = _SELU_LIMIT * scale
    return input * (keep * scale) + ((keep - 1) * limit + limit * p)


def dropout(
    input: Shaped[Array, "*shape"],
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    key: Key = None,
    mask: Mask = None,
) -> Shaped[Array, "*shape"]:
    """Zero each element with probability ``p`` and multiply the others by ``1 / (1 - p)``.

    Args:
        input: of any shape.
        p: probability of zeroing an element.
        training: if False, the input is returned unchanged.
        inplace: no effect: JAX arrays are immutable.
        key: random key for the mask.
        mask: the elements to keep, instead of a drawn mask; broadcasts to the input's shape.

    Raises:
        ValueError: if ``p`` is not in ``[0, 1]``, or for neither ``key`` nor ``mask``.
        RuntimeError: in training, for an input of integers or booleans.
        NotImplementedError: in training, for a complex input.

    See `torch.nn.functional.dropout
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.dropout.html>`_.

    >>> dropout(jnp.ones(3), p=0.5, mask=jnp.array([True, False, True])).tolist()
    [2.0, 0.0, 2.0]
    """
    return _drop(jnp.asarray(input), p, training, key, mask, None, "dropout")


def dropout1d(
    input: Shaped[Array, "*n c l"],
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    key: Key = None,
    mask: Mask = None,
) -> Shaped[Array, "*n c l"]:
    """:func:`dropout` of whole channels of ``(N, C, L)`` or ``(C, L)``; the mask is ``(N, C, 1)`` or ``(C, 1)``.

    Raises:
        RuntimeError: for an input of other than two or three axes; also raises the errors of :func:`dropout`.

    See "Efficient object localization using convolutional networks" (arXiv:1411.4280) and
    `torch.nn.functional.dropout1d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.dropout1d.html>`_.

    >>> dropout1d(jnp.ones((2, 3)), mask=jnp.array([[True], [False]])).tolist()
    [[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]]
    """
    check_probability(p, "dropout1d")
    input = jnp.asarray(input)
    if input.ndim not in (2, 3):
        raise RuntimeError(f"dropout1d: expected 2D or 3D input, got {input.ndim}D input of shape {input.shape}")
    return _drop(input, p, training, key, mask, spatial_leading(input.ndim, 1), "dropout1d")


def dropout2d(
    input: Shaped[Array, "*shape"],
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    key: Key = None,
    mask: Mask = None,
) -> Shaped[Array, "*shape"]:
    """:func:`dropout` of whole channels of ``(N, C, H, W)``; the mask is ``(N, C, 1, 1)``.

    As in torch, an input of three axes is read as ``(N, C, L)``, not as ``(C, H, W)``, with a warning. Inputs of other
    ranks warn as well, and their mask covers the first two axes.

    Raises:
        RuntimeError: in training, for an input of fewer than two axes; also raises the errors of :func:`dropout`.

    See "Efficient object localization using convolutional networks" (arXiv:1411.4280) and
    `torch.nn.functional.dropout2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.dropout2d.html>`_.

    >>> dropout2d(jnp.ones((1, 2, 1, 2)), mask=jnp.array([[[[True]], [[False]]]])).tolist()
    [[[[2.0, 2.0]], [[0.0, 0.0]]]]
    """
    check_probability(p, "dropout2d")
    input = jnp.asarray(input)
    if input.ndim == 3:
        message = f"dropout2d: reads the input of shape {input.shape} as (N, C, L). Fix: use dropout1d"
        warnings.warn(message, UserWarning, stacklevel=2)
    elif input.ndim != 4:
        _warn_of_axes("dropout2d", input.shape, "3D or 4D")
    return _drop(input, p, training, key, mask, spatial_leading(input.ndim, 2), "dropout2d")


def dropout3d(
    input: Shaped[Array, "*shape"],
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    key: Key = None,
    mask: Mask = None,
) -> Shaped[Array, "*shape"]:
    """:func:`dropout` of whole channels of ``(N, C, D, H, W)`` or ``(C, D, H, W)``.

    The mask is ``(N, C, 1, 1, 1)`` or ``(C, 1, 1, 1)``. As in torch, inputs of other ranks warn, and their mask covers
    the first axis.

    Raises:
        RuntimeError: in training, for an input without axes; also raises the errors of :func:`dropout`.

    See "Efficient object localization using convolutional networks" (arXiv:1411.4280) and
    `torch.nn.functional.dropout3d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.dropout3d.html>`_.

    >>> dropout3d(jnp.ones((2, 1, 1, 2)), mask=jnp.array([[[[True]]], [[[False]]]])).tolist()
    [[[[2.0, 2.0]]], [[[0.0, 0.0]]]]
    """
    check_probability(p, "dropout3d")
    input = jnp.asarray(input)
    if input.ndim not in (4, 5):
        _warn_of_axes("dropout3d", input.shape, "4D or 5D")
    return _drop(input, p, training, key, mask, spatial_leading(input.ndim, 3), "dropout3d")


def _warn_of_axes(name: str, shape: tuple[int, ...], expected: str) -> None:
    message = f"{name}: expected {expected} input, got shape {shape}, which is deprecated. Fix: use dropout"
    warnings.warn(message, UserWarning, stacklevel=3)


def alpha_dropout(
    input: Shaped[Array, "*shape"],
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    key: Key = None,
    mask: Mask = None,
) -> Shaped[Array, "*shape"]:
    """Set each element with probability ``p`` to SELU's lowest value, then restore mean 0 and variance 1.

    Arguments and errors are those of :func:`dropout`.

    See "Self-normalizing neural networks" (arXiv:1706.02515) and `torch.nn.functional.alpha_dropout
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.alpha_dropout.html>`_.

    >>> dropped = alpha_dropout(jnp.ones(2), training=True, mask=jnp.array([True, False]))
    >>> [round(value, 3) for value in dropped.tolist()]
    [1.666, -0.779]
    """
    return _drop(jnp.asarray(input), p, training, key, mask, None, "alpha_dropout", alpha=True)


def feature_alpha_dropout(
    input: Shaped[Array, "*shape"],
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    key: Key = None,
    mask: Mask = None,
) -> Shaped[Array, "*shape"]:
    """:func:`alpha_dropout` of whole channels of ``(N, C, ...)``; the mask is ``(N, C, 1, ...)``.

    Raises:
        RuntimeError: in training, for an input of fewer than two axes; also raises the errors of :func:`dropout`.

    See "Self-normalizing neural networks" (arXiv:1706.02515) and `torch.nn.functional.feature_alpha_dropout
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.feature_alpha_dropout.html>`_.

    >>> dropped = feature_alpha_dropout(jnp.ones((1, 2)), training=True, mask=jnp.array([[True, False]]))
    >>> [round(value, 3) for value in dropped[0].tolist()]
    [1.666, -0.779]
    """
    return _drop(jnp.asarray(input), p, training, key, mask, 2, "feature_alpha_dropout", alpha=True)
