"""Padding and packing of sequences of different lengths."""

import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped

from flaxnets.nn.utils import _refused


def pad_sequence(
    sequences: Iterable[jax.Array],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Shaped[Array, "..."]:
    """Stack arrays ``(L, *)`` of different lengths along a new axis, padded to the longest length.

    Args:
        sequences: the arrays; all axes but the first must be equal.
        batch_first: whether the output is ``(N, L, *)`` instead of ``(L, N, *)``.
        padding_value: value of the padding.
        padding_side: side of the padding: ``"right"`` or ``"left"``.

    Raises:
        RuntimeError: without sequences, for a non-iterable, an unknown side, or incompatible shapes.

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
        raise RuntimeError(f"pad_sequence: expected shapes (L, *) that differ only in L, got {shapes}")
    length = max(len(array) for array in arrays)
    # As in torch, the first sequence determines the dtype.
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
        lengths: lengths of the sequences. They determine shapes, so jit must not trace them.
        batch_first: whether the array is ``(N, L, *)``.

    Raises:
        ValueError: if the number of lengths is not the number of sequences.

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
    """Return the inverse permutation; None for None.

    See `its source <https://github.com/pytorch/pytorch/blob/main/torch/nn/utils/rnn.py>`_.

    >>> invert_permutation(jnp.array([2, 0, 1])).tolist()
    [1, 2, 0]
    """
    if permutation is None:
        return None
    permutation = jnp.asarray(permutation)
    return jnp.zeros_like(permutation).at[permutation].set(jnp.arange(len(permutation), dtype=permutation.dtype))


Lengths = tuple[int, ...] | Int[Array, " n"]


class PaddedSequence(NamedTuple):
    """Padded sequences with their lengths; replaces ``torch.nn.utils.rnn.PackedSequence``.

    Attributes:
        data: the sequences ``(T, N, *)``, time first. Elements after the end of a sequence have no meaning.
        lengths: length of each sequence.

    >>> PaddedSequence(jnp.zeros((2, 3)), (2, 1, 1)).mask.sum(0).tolist()
    [2, 1, 1]
    """

    data: Shaped[Array, "t n ..."]
    lengths: Lengths

    @property
    def mask(self) -> Bool[Array, "t n"]:
        """Mask of the steps within their sequence."""
        return jnp.arange(self.data.shape[0])[:, None] < jnp.asarray(self.lengths)[None]

    def reversed(self) -> "PaddedSequence":
        """The sequences in reverse order of their steps."""
        steps = jnp.arange(self.data.shape[0])[:, None]
        index = jnp.where(self.mask, jnp.asarray(self.lengths)[None] - 1 - steps, steps)
        index = index.reshape(index.shape + (1,) * (self.data.ndim - 2))
        return self._replace(data=jnp.take_along_axis(self.data, index, axis=0))


def pack_padded_sequence(
    input: Shaped[Array, "..."],
    lengths: Sequence[int] | Int[Array, " n"],
    batch_first: bool = False,
    enforce_sorted: bool = True,
) -> PaddedSequence:
    """Combine a padded array with the lengths of its sequences.

    Args:
        input: ``(T, N, *)``, or ``(N, T, *)`` with ``batch_first``.
        lengths: Python numbers, or an array. An array only works with ``total_length`` of :func:`pad_packed_sequence`.
        batch_first: whether the batch is the first axis.
        enforce_sorted: whether the lengths must be in non-increasing order.

    Raises:
        RuntimeError: for Python lengths that increase, or are not between 1 and ``T``.

    See `torch.nn.utils.rnn.pack_padded_sequence
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pack_padded_sequence.html>`_.

    >>> pack_padded_sequence(jnp.ones((5, 2, 3)), [4, 2]).data.shape
    (4, 2, 3)
    """
    data = jnp.swapaxes(input, 0, 1) if batch_first else input
    if isinstance(lengths, jax.Array):
        return PaddedSequence(data, lengths)
    lengths = tuple(map(int, lengths))
    if len(lengths) != data.shape[1] or not all(0 < length <= data.shape[0] for length in lengths):
        raise RuntimeError(
            f"pack_padded_sequence: expected {data.shape[1]} lengths between 1 and {data.shape[0]}, got {list(lengths)}"
        )
    if enforce_sorted and list(lengths) != sorted(lengths, reverse=True):
        raise RuntimeError(
            f"pack_padded_sequence: expected lengths in non-increasing order, got {list(lengths)}. "
            "Fix: enforce_sorted=False"
        )
    return PaddedSequence(data[: max(lengths)], lengths)


def pack_sequence(sequences: Sequence[Shaped[Array, "..."]], enforce_sorted: bool = True) -> PaddedSequence:
    """Pad sequences ``(L, *)`` and combine them with their lengths.

    Args:
        sequences: arrays that differ only in the first axis.
        enforce_sorted: whether the lengths must be in non-increasing order.

    See `torch.nn.utils.rnn.pack_sequence
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pack_sequence.html>`_.

    >>> pack_sequence([jnp.ones((3, 2)), jnp.ones((1, 2))]).lengths
    (3, 1)
    """
    return pack_padded_sequence(pad_sequence(sequences), [len(s) for s in sequences], enforce_sorted=enforce_sorted)


def pad_packed_sequence(
    sequence: PaddedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Shaped[Array, "..."], Int[Array, " n"]]:
    """Return the padded array and the lengths.

    Args:
        sequence: output of :func:`pack_padded_sequence`, or of a recurrent layer for such an input.
        batch_first: whether the result is ``(N, T, *)`` instead of ``(T, N, *)``.
        padding_value: value after the end of each sequence.
        total_length: the length ``T`` of the result. Default: the longest sequence's length.

    Raises:
        ValueError: for lengths that are an array, without ``total_length``, because the shape would depend on their
            values; and for a ``total_length`` that is too short.

    See `torch.nn.utils.rnn.pad_packed_sequence
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pad_packed_sequence.html>`_.

    >>> padded, lengths = pad_packed_sequence(pack_padded_sequence(jnp.ones((3, 2)), [3, 1]), batch_first=True)
    >>> padded.tolist(), lengths.tolist()
    ([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]], [3, 1])
    """
    data, lengths = sequence
    if isinstance(lengths, jax.Array) and total_length is None:
        raise ValueError(
            "pad_packed_sequence: the length of the result depends on the values of lengths. Expected Python numbers, "
            "or total_length. Fix: pass total_length, for example the padded input's length"
        )
    longest = data.shape[0]
    if total_length is not None and total_length < longest and not isinstance(lengths, jax.Array):
        raise ValueError(f"pad_packed_sequence: total_length must be at least {longest}, got {total_length}")
    mask = sequence.mask.reshape(sequence.mask.shape + (1,) * (data.ndim - 2))
    padded = jnp.where(mask, data, jnp.asarray(padding_value, data.dtype))
    if total_length is not None:
        widths = [(0, max(total_length - longest, 0))] + [(0, 0)] * (data.ndim - 1)
        padded = jnp.pad(padded, widths, constant_values=padding_value)[:total_length]
    return jnp.swapaxes(padded, 0, 1) if batch_first else padded, jnp.asarray(lengths, int)


def unpack_sequence(packed_sequences: PaddedSequence) -> list[Shaped[Array, "..."]]:
    """Return the sequences ``(L, *)``.

    Args:
        packed_sequences: output of :func:`pack_sequence`, or of a recurrent layer for such an input.

    Raises:
        ValueError: for lengths that are an array, because the shapes would depend on their values.

    See `torch.nn.utils.rnn.unpack_sequence
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.unpack_sequence.html>`_.

    >>> [s.tolist() for s in unpack_sequence(pack_sequence([jnp.array([1, 2]), jnp.array([3])]))]
    [[1, 2], [3]]
    """
    data, lengths = packed_sequences
    if isinstance(lengths, jax.Array):
        raise ValueError(
            "unpack_sequence: the shapes of the result depend on the values of lengths. Expected Python numbers. Fix: "
            "use pad_packed_sequence with total_length"
        )
    return [data[:length, i] for i, length in enumerate(lengths)]


PackedSequence: Any = _refused.refused(
    "PackedSequence",
    "XLA compiles programs for fixed shapes, but the shape of a packed sequence depends on the lengths. Fix: "
    "nn.utils.rnn.pack_padded_sequence, which returns the padded array and the lengths",
)
