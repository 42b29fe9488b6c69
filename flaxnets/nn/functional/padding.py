"""Padding of the last axes."""

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Shaped

from flaxnets.autocast import widen_operands
from flaxnets.kernels.resampling import AxisMap, resample
from flaxnets.nn._arguments import to_ints

# The repeating modes: torch's names and numpy's.
_REPEATING = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}

Pads = list[tuple[int, int]]


def pad(
    input: Shaped[Array, "..."], pad: Sequence[int], mode: str = "constant", value: ArrayLike | None = None
) -> Shaped[Array, "..."]:
    """Pad the last axes at both ends; negative paddings remove elements.

    Args:
        input: for ``'constant'`` an array of any rank. The other modes pad the last one, two or three axes; one or two
            axes (channels, or batch and channels) must precede them.
        pad: number of elements before and after the last axis, then before and after the last but one, and so on.
        mode: ``'constant'``; ``'reflect'``: mirrored, without repeating the elements at the ends; ``'replicate'``: the
            elements at the ends; ``'circular'``: the elements of the opposite end.
        value: the constant. None means zero.

    Raises:
        RuntimeError: for paddings that are not pairs, more pairs than axes, or paddings too large for the input; for a
            value with another mode than ``'constant'``, or a value that the dtype cannot represent.
        NotImplementedError: for an unknown mode, or a rank or number of padded axes that the mode does not support.
        TypeError: for paddings that are not ints, and a value that is not a number.

    See `torch.nn.functional.pad <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pad.html>`_.

    >>> import jax.numpy as jnp
    >>> pad(jnp.arange(3).reshape(1, 3), (2, 1), mode="reflect").tolist()
    [[2, 1, 0, 1, 2, 1]]
    """
    if not isinstance(pad, Iterable):
        raise TypeError(f"pad: pad must be a sequence of ints, got {pad!r}")
    sizes = to_ints(pad, "pad", "pad")
    input = jnp.asarray(input)
    if len(sizes) % 2 or len(sizes) > 2 * input.ndim:
        raise RuntimeError(
            f"pad: pad must be pairs of ints, at most one for each axis, got {sizes} "
            f"for an input of shape {input.shape}"
        )
    n = len(sizes) // 2
    pads = [(0, 0)] * (input.ndim - n) + [*zip(sizes[::2], sizes[1::2], strict=True)][::-1]
    if mode == "constant":
        fill = _fill(0 if value is None else value, input.dtype)
        _check_cropping(input, pads, mode)
        return jax.lax.pad(input, fill, [(before, after, 0) for before, after in pads])
    if mode not in _REPEATING:
        raise NotImplementedError(f"pad: mode must be one of {['constant', *_REPEATING]}, got {mode!r}")
    if value is not None and value != 0:
        raise RuntimeError(f"pad: mode {mode!r} does not support value, got {value!r}")
    if not 1 <= n <= 3 or input.ndim not in (n + 1, n + 2):
        raise NotImplementedError(
            f"pad: mode {mode!r} pads the last one, two or three axes, after one or two axes that are not padded, "
            f"got pad {sizes} for a {input.ndim}D input of shape {input.shape}"
        )
    if mode == "replicate" or (mode == "reflect" and n < 3):  # torch.autocast computes these modes in float32
        (input,) = widen_operands(input)
    return _repeat(input, pads, n, mode)


def _repeat(input: jax.Array, pads: Pads, n: int, mode: str) -> jax.Array:
    """Pad by repetition. As in torch, reflection and replication pad before they crop; circular padding crops first."""
    if mode == "circular":
        _check_cropping(input, pads, mode)
        input, pads = _crop(input, pads), _positive(pads)
    elif 0 in input.shape[input.ndim - n - 1 :]:
        raise RuntimeError(f"pad: mode {mode!r} does not support empty axes other than the batch, got {input.shape}")
    limits = {"reflect": -1, "circular": 0}
    output = [size + sum(ends) for size, ends in zip(input.shape[-n:], pads[-n:], strict=True)]
    for size, ends in zip(input.shape[-n:], pads[-n:], strict=True):
        too_large = mode in limits and max(ends) > size + limits[mode]
        # The output may have no elements along some axes, but not along all.
        if too_large or (mode != "circular" and (size + sum(ends) < 0 or max(output) < 1)):
            raise RuntimeError(
                f"pad: the {mode} padding {ends} of an axis of size {size} is too large, or removes too many elements "
                f"(input of shape {input.shape}, padding of all axes {pads})"
            )
    maps = tuple(
        _axis_map(size, *ends, _REPEATING[mode]) if any(ends) else None
        for size, ends in zip(input.shape[-n:], _positive(pads)[-n:], strict=True)
    )
    return _crop(resample(input, maps), pads)


@functools.lru_cache(maxsize=256)
def _axis_map(size: int, before: int, after: int, mode: Any) -> AxisMap:
    return AxisMap.of_taps(size, np.pad(np.arange(size), (before, after), mode)[:, None])


def _positive(pads: Pads) -> Pads:
    return [(max(before, 0), max(after, 0)) for before, after in pads]


def _crop(input: jax.Array, pads: Pads) -> jax.Array:
    stops = [size + min(after, 0) for size, (_, after) in zip(input.shape, pads, strict=True)]
    return jax.lax.slice(input, [max(-before, 0) for before, _ in pads], stops)


def _check_cropping(input: jax.Array, pads: Pads, mode: str) -> None:
    for size, (before, after) in zip(input.shape, pads, strict=True):
        if size + min(before, 0) + min(after, 0) < 0:
            raise RuntimeError(
                f"pad: the {mode} padding {(before, after)} removes more elements than an axis of size {size} has "
                f"(input of shape {input.shape})"
            )


def _fill(value: ArrayLike, dtype: jnp.dtype) -> jax.Array:
    """Convert the value to the input's dtype: truncate for integer dtypes, and raise if out of range."""
    if isinstance(value, jax.Array):
        return value.astype(dtype)
    if isinstance(value, (str, complex)) or jnp.ndim(value) > 0:
        raise TypeError(f"pad: value must be a real number, got {value!r}")
    number = float(value)
    is_integer = jnp.issubdtype(dtype, jnp.integer)
    if is_integer or (jnp.issubdtype(dtype, jnp.inexact) and math.isfinite(number)):
        info = jnp.iinfo(dtype) if is_integer else jnp.finfo(dtype)
        if not float(info.min) <= number <= float(info.max):
            raise RuntimeError(f"pad: the value {value!r} is out of the range of the input's dtype {dtype}")
    return jnp.asarray(np.asarray(number).astype(dtype))
