"""Sums, means and maxima of rows of a table that are looked up in bags."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Integer

from flaxnets.nn._arguments import as_float_like
from flaxnets.nn.functional.embedding import as_indices, check_range, renormalized, rows_at, scaled_by_frequency


def _check_options(
    input: jax.Array, weight: jax.Array, mode: str, scale_grad_by_freq: bool, sparse: bool, samples: jax.Array | None
) -> None:
    if samples is not None and samples.shape != input.shape:
        raise ValueError(
            f"embedding_bag: per_sample_weights must have the input's shape {input.shape}, got {samples.shape}"
        )
    if weight.ndim != 2:
        raise ValueError(f"embedding_bag: expected a weight of 2 axes, got the shape {weight.shape}")
    if input.ndim not in (1, 2):
        raise ValueError(f"embedding_bag: expected an input of 1 or 2 axes, got the shape {input.shape}")
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f"embedding_bag: mode must be 'sum', 'mean' or 'max', got {mode!r}")
    if mode == "max" and (scale_grad_by_freq or sparse):
        raise ValueError(f"embedding_bag: mode='max' does not go with {scale_grad_by_freq=}, {sparse=}")
    if samples is not None and mode != "sum":
        raise NotImplementedError(f"embedding_bag: per_sample_weights need mode='sum', got mode={mode!r}")
    if not jnp.issubdtype(weight.dtype, jnp.floating):
        raise RuntimeError(f"embedding_bag: expected a floating-point weight, got dtype {weight.dtype}")


def _bounds(input: jax.Array, offsets: jax.Array | None, include_last_offset: bool) -> tuple[jax.Array, jax.Array]:
    """Where each bag begins, and where the last one ends."""
    length = input.size
    if input.ndim == 2:
        if offsets is not None:
            raise ValueError(f"embedding_bag: an input of 2 axes takes no offsets, got some of shape {offsets.shape}")
        if input.shape[1] == 0:
            raise RuntimeError(
                f"embedding_bag: bags in an input of 2 axes cannot be empty, got the shape {input.shape}"
            )
        return jnp.arange(input.shape[0]) * input.shape[1], jnp.asarray(length)
    if offsets is None or offsets.ndim != 1:
        got = "None" if offsets is None else f"an array of shape {offsets.shape}"
        raise ValueError(f"embedding_bag: an input of 1 axis needs offsets of 1 axis, got {got}")
    offsets = as_indices(offsets, "embedding_bag")
    if include_last_offset and len(offsets) == 0:
        raise RuntimeError("embedding_bag: include_last_offset needs at least one offset, got 0")
    if not isinstance(offsets, Tracer) and len(offsets):
        known = np.asarray(offsets)  # jax.numpy would trace where something around is traced
        if known[0] != 0:
            raise RuntimeError(f"embedding_bag: the first offset must be 0, got {known[0]}")
        if known[-1] > length or (known[1:] < known[:-1]).any():
            raise RuntimeError(
                f"embedding_bag: offsets must ascend up to the length {length} of the input, got {known.tolist()}"
            )
    return (offsets[:-1], offsets[-1]) if include_last_offset else (offsets, jnp.asarray(length))


def _maxima(rows: jax.Array, bag: jax.Array, bags: int) -> jax.Array:
    """The maximum of each bag, from its first element on: of equal ones the first, and NaN only if it comes first."""
    position = jnp.arange(len(rows))[:, None]
    begins = jax.ops.segment_min(position, bag, bags).at[bag].get(mode="fill", fill_value=-1)
    ranks = jnp.where(jnp.isnan(rows), jnp.where(position == begins, jnp.inf, -jnp.inf), rows)
    ranks = jax.lax.stop_gradient(ranks)
    highest = jax.ops.segment_max(ranks, bag, bags).at[bag].get(mode="fill", fill_value=jnp.nan)
    first = jax.ops.segment_min(jnp.where(ranks == highest, position, len(rows)), bag, bags)
    padded = jnp.concatenate([rows, jnp.zeros((1, rows.shape[1]), rows.dtype)])
    return jnp.take_along_axis(padded, jnp.minimum(first, len(rows)), axis=0)


def embedding_bag(
    input: Integer[Array, "..."],
    weight: Float[Array, "rows dim"],
    offsets: Integer[Array, " offsets"] | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Float[Array, "..."] | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Float[Array, "bags dim"]:
    """Look up rows of ``weight`` and reduces them bag by bag; an empty bag gives zeros.

    Args:
        input: indices, ``(bags, size)``, or ``(N,)`` with ``offsets``.
        weight: the table.
        offsets: where each bag begins in an input of one axis; the first is 0.
        max_norm: as of :func:`embedding`.
        norm_type: the p of that norm.
        scale_grad_by_freq: whether to divide each row's gradient by how often it is looked up. (Torch's kernel for CPU
            counts another index than it should where the counts differ; this is what is documented, and what its
            kernel for GPU does.)
        mode: ``"sum"``, ``"mean"`` or ``"max"``.
        sparse: accepted and without effect: gradients are dense.
        per_sample_weights: of the input's shape; each row is multiplied by its own before the sum.
        include_last_offset: whether the last offset is no bag's beginning, but the end of the last bag; what comes
            after it is left out.
        padding_idx: an index that is left out of every bag; negative counts from the end.

    Raises:
        ValueError: for shapes that do not fit, an unknown mode, offsets missing or not wanted, and
            ``scale_grad_by_freq`` or ``sparse`` with ``mode="max"``.
        NotImplementedError: for ``per_sample_weights`` in another mode than ``"sum"``.
        RuntimeError: for a wrong dtype, a ``padding_idx`` that is not there, and, where values are known, for an index
            that is not there and for offsets that do not begin with 0 or do not ascend.

    See `torch.nn.functional.embedding_bag
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.embedding_bag.html>`_.

    >>> table = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> embedding_bag(jnp.array([0, 1, 2]), table, jnp.array([0, 2]), mode="sum").tolist()
    [[4.0, 6.0], [5.0, 6.0]]
    """
    input, weight = jnp.asarray(input), jnp.asarray(weight)
    _check_options(input, weight, mode, scale_grad_by_freq, sparse, per_sample_weights)
    starts, end = _bounds(input, offsets, include_last_offset)
    num_rows, bags = len(weight), len(starts)
    if padding_idx is not None and not -num_rows <= padding_idx < num_rows:
        raise RuntimeError(f"embedding_bag: padding_idx must be from {-num_rows} to {num_rows - 1}, got {padding_idx}")
    indices = as_indices(input, "embedding_bag").reshape(-1)
    check_range(indices, num_rows, "embedding_bag", RuntimeError)
    if max_norm is not None:
        weight = renormalized(weight, indices, max_norm, norm_type)
    rows = rows_at(weight, indices)
    if scale_grad_by_freq:
        rows = scaled_by_frequency(rows, indices, num_rows)
    if per_sample_weights is not None:
        rows = rows * as_float_like(per_sample_weights, weight, "embedding_bag").reshape(-1, 1)

    position = jnp.arange(len(indices))
    kept = position < end
    if padding_idx is not None:
        kept &= indices != padding_idx % num_rows
    bag = jnp.where(kept, jnp.searchsorted(starts, position, side="right") - 1, bags)  # segment sums drop this bag
    if mode == "max":
        return _maxima(rows, bag, bags)
    wide = rows.astype(jnp.promote_types(rows.dtype, jnp.float32))
    sums = jax.ops.segment_sum(wide, bag, bags)
    if mode == "mean":
        sums = sums / jnp.maximum(jax.ops.segment_sum(kept.astype(sums.dtype), bag, bags), 1)[:, None]
    return sums.astype(rows.dtype)
