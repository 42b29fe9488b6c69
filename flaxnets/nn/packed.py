"""Packed sequences of torch, as padded ones with their lengths: what recurrent layers take and return for them."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped

from flaxnets.nn.utils.rnn import pad_sequence

Lengths = tuple[int, ...] | Int[Array, " n"]


class PaddedSequence(NamedTuple):
    """Sequences of several lengths in the place of a ``torch.nn.utils.rnn.PackedSequence``.

    Attributes:
        data: the sequences ``(T, N, *)``, time first; what is behind the end of one has no meaning.
        lengths: of each of them.
    """

    data: Shaped[Array, "t n ..."]
    lengths: Lengths

    @property
    def mask(self) -> Bool[Array, "t n"]:
        """Which steps are inside of their sequence."""
        return jnp.arange(self.data.shape[0])[:, None] < jnp.asarray(self.lengths)[None]

    def reversed(self) -> "PaddedSequence":
        """Each sequence from its end to its beginning."""
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
    """Say how long the sequences in a padded array are.

    Args:
        input: ``(T, N, *)``, or ``(N, T, *)`` with ``batch_first``.
        lengths: numbers; or an array, with which only :func:`pad_packed_sequence` with ``total_length`` works.
        batch_first: whether the batch's axis is the first.
        enforce_sorted: whether the lengths must not increase.

    Raises:
        RuntimeError: for lengths that increase, or are not between 1 and ``T``; if they are numbers.

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
            f"pack_padded_sequence: expected lengths that do not increase, got {list(lengths)}. "
            "Fix: enforce_sorted=False"
        )
    return PaddedSequence(data[: max(lengths)], lengths)


def pack_sequence(sequences: Sequence[Shaped[Array, "..."]], enforce_sorted: bool = True) -> PaddedSequence:
    """Pad sequences ``(L, *)`` and note their lengths.

    Args:
        sequences: arrays that differ in the first axis alone.
        enforce_sorted: whether the lengths must not increase.

    See `torch.nn.utils.rnn.pack_sequence
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pack_sequence.html>`_.

    >>> pack_sequence([jnp.ones((3, 2)), jnp.ones((1, 2))]).lengths
    (3, 1)
    """
    return pack_padded_sequence(pad_sequence(sequences), [len(s) for s in sequences], enforce_sorted=enforce_sorted)


def pad_packed_sequence(
    sequence: PaddedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Shaped[Array, "..."], Int[Array, " n"]]:
    """Return a padded array and the lengths.

    Args:
        sequence: from :func:`pack_padded_sequence`, or a recurrent layer's output for it.
        batch_first: whether the result is ``(N, T, *)`` and not ``(T, N, *)``.
        padding_value: what is behind the end of a sequence.
        total_length: ``T``; the longest sequence's length if not given.

    Raises:
        ValueError: without ``total_length``, for lengths that are an array, on whose values the shape would depend; and
            for a ``total_length`` that is too short.

    See `torch.nn.utils.rnn.pad_packed_sequence
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pad_packed_sequence.html>`_.

    >>> padded, lengths = pad_packed_sequence(pack_padded_sequence(jnp.ones((3, 2)), [3, 1]), batch_first=True)
    >>> padded.tolist(), lengths.tolist()
    ([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]], [3, 1])
    """
    data, lengths = sequence
    if isinstance(lengths, jax.Array) and total_length is None:
        raise ValueError(
            "pad_packed_sequence: the length of the result depends on the values of lengths. Expected numbers, or "
            "total_length. Fix: pass total_length, such as the padded input's length"
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
