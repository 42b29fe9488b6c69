"""Deterministic initialisers."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

Key = jax.Array | None


def constant(
    key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, val: int | float | complex
) -> jax.Array:
    """Return an array filled with one value; integer dtypes drop its fraction.

    Raises:
        RuntimeError: for a complex value and a dtype that is not complex.

    See `torch.nn.init.constant_ <https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.constant_>`_.

    >>> constant(None, (2,), val=0.5).tolist()
    [0.5, 0.5]
    """
    if isinstance(val, complex) and not jnp.issubdtype(dtype, jnp.complexfloating):
        raise RuntimeError(f"constant: the complex value {val} requires a complex dtype, got {jnp.dtype(dtype)}")
    return jnp.full(tuple(shape), val, dtype)


def zeros(key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Return zeros.

    See `torch.nn.init.zeros_ <https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.zeros_>`_.

    >>> zeros(None, (2,)).tolist()
    [0.0, 0.0]
    """
    return jnp.zeros(tuple(shape), dtype)


def ones(key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Return ones.

    See `torch.nn.init.ones_ <https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.ones_>`_.

    >>> ones(None, (2,)).tolist()
    [1.0, 1.0]
    """
    return jnp.ones(tuple(shape), dtype)


def eye(key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Return the identity matrix, truncated or padded with zeros to the shape.

    Raises:
        ValueError: for a shape of other than two axes.

    See `torch.nn.init.eye_ <https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.eye_>`_.

    >>> eye(None, (2, 3)).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    if len(shape) != 2:
        raise ValueError(f"eye: expected a shape of two axes, got {tuple(shape)}")
    return jnp.eye(*shape, dtype=dtype)


def dirac(key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, groups: int = 1) -> jax.Array:
    """Return a convolution weight ``(out, in / groups, *kernel)`` that passes channels through unchanged (Dirac delta).

    Each group passes on as many channels as both sides have; their kernels are 1 at the centre and 0 elsewhere.

    Raises:
        ValueError: for a shape of other than 3, 4 or 5 axes, or groups that do not divide the first axis.
        ZeroDivisionError: for zero groups.
        IndexError: for a kernel of size 0.

    See `torch.nn.init.dirac_ <https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.dirac_>`_.

    >>> dirac(None, (2, 1, 3), groups=2).tolist()
    [[[0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]]]
    """
    if len(shape) not in (3, 4, 5):
        raise ValueError(f"dirac: expected a shape of 3, 4 or 5 axes, got {tuple(shape)}")
    if groups == 0:
        raise ZeroDivisionError(f"dirac: groups must not be 0, got {groups}")
    if shape[0] % groups:
        raise ValueError(f"dirac: groups={groups} must divide the first axis of the shape {tuple(shape)}")
    if 0 in shape[2:] and shape[0] and shape[1]:
        raise IndexError(f"dirac: a kernel of size 0 has no centre, got the shape {tuple(shape)}")
    channels = shape[0] // groups
    weight = np.zeros(tuple(shape), bool)
    middle = tuple(size // 2 for size in shape[2:])
    for group in range(groups):
        for channel in range(min(channels, shape[1])):
            weight[(group * channels + channel, channel, *middle)] = True
    return jnp.asarray(weight, dtype)
