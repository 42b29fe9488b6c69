"""Sequences of several lengths: padded ones, and back. Packed ones cannot exist here."""

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Shaped

from flaxnets.nn.utils import _refused


def pad_sequence(
    sequences: Iterable[jax.Array],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Shaped[Array, "..."]:
    """Stack arrays ``(L, *)`` of several lengths along a new axis, padded to the longest one.

    Args:
        sequences: the arrays; all but the first axis must be the same.
        batch_first: whether the output is ``(N, L, *)``; otherwise it is ``(L, N, *)``.
        padding_value: what the padding is.
        padding_side: whether the padding is to the ``"right"`` or to the ``"left"`` of a sequence.

    Raises:
        RuntimeError: if there are no sequences, they are no iterable, the side is another, or shapes do not fit.

    See `torch.nn.utils.rnn.pad_sequence
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pad_sequence.html>`_.

    >>> pad_sequence([jnp.array([1, 2, 3]), jnp.array([4])], batch_first=True).tolist()
    [[1, 2, 3], [4, 0, 0]]
    """
    if not isinstance(sequences, Iterable):
        raise RuntimeError(f"pad_sequence: expected an iterable of arrays, got {type(sequences).__name__}")
    arrays = [jnp.asarray(sequence) for sequence in sequences]
    if not arrays:
        raise RuntimeError("pad_sequence: expected at least one sequence, got none")
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"pad_sequence: padding_side must be 'left' or 'right', got {padding_side!r}")
    if any(array.ndim == 0 or array.shape[1:] != arrays[0].shape[1:] for array in arrays):
        shapes = [array.shape for array in arrays]
        raise RuntimeError(f"pad_sequence: expected shapes (L, *) that differ in L alone, got {shapes}")
    length = max(len(array) for array in arrays)
    # As in torch, the first sequence decides the dtype.
    padded = [_padded(array.astype(arrays[0].dtype), length, padding_value, padding_side) for array in arrays]
    return jnp.stack(padded, axis=0 if batch_first else 1)


def _padded(array: jax.Array, length: int, value: float, side: str) -> jax.Array:
    widths = [0, 0]
    widths[side == "right"] = length - len(array)
    padding = [tuple(widths), *[(0, 0)] * (array.ndim - 1)]
    return jnp.pad(array, padding, constant_values=jnp.asarray(value).astype(array.dtype))


def unpad_sequence(
    padded_sequences: Shaped[Array, "..."], lengths: Int[Array, " n"] | Sequence[int], batch_first: bool = False
) -> list[jax.Array]:
    """Return the sequences that :func:`pad_sequence` padded on the right.

    Args:
        padded_sequences: an array ``(L, N, *)``.
        lengths: of the sequences; not traced by jit, as shapes depend on them.
        batch_first: whether the array is ``(N, L, *)``.

    Raises:
        ValueError: if there are not as many lengths as sequences.

    See `torch.nn.utils.rnn.unpad_sequence
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.unpad_sequence.html>`_.

    >>> [row.tolist() for row in unpad_sequence(jnp.array([[1, 2, 3], [4, 0, 0]]), [3, 1], batch_first=True)]
    [[1, 2, 3], [4]]
    """
    rows = padded_sequences if batch_first else jnp.swapaxes(padded_sequences, 0, 1)
    if len(rows) != len(lengths):
        raise ValueError(f"unpad_sequence: expected {len(rows)} lengths, got {len(lengths)}")
    return [row[: max(operator.index(length), 0)] for row, length in zip(rows, lengths, strict=True)]


def invert_permutation(permutation: Int[Array, " n"] | None) -> Int[Array, " n"] | None:
    """Return the permutation that undoes one; None for None.

    See `its source <https://github.com/pytorch/pytorch/blob/main/torch/nn/utils/rnn.py>`_.

    >>> invert_permutation(jnp.array([2, 0, 1])).tolist()
    [1, 2, 0]
    """
    if permutation is None:
        return None
    permutation = jnp.asarray(permutation)
    return jnp.zeros_like(permutation).at[permutation].set(jnp.arange(len(permutation), dtype=permutation.dtype))


_REASON = (
    "XLA compiles programs for arrays of fixed shapes, and a packed sequence has another shape for other lengths. Fix: "
    "call the recurrent layer on nn.utils.rnn.pad_sequence(sequences), and use its outputs up to each length"
)

PackedSequence: Any = _refused.refused("PackedSequence", _REASON)
pack_padded_sequence: Any = _refused.refused("pack_padded_sequence", _REASON)
pad_packed_sequence: Any = _refused.refused("pad_packed_sequence", _REASON)
pack_sequence: Any = _refused.refused("pack_sequence", _REASON)
unpack_sequence: Any = _refused.refused("unpack_sequence", _REASON)
