"""Embedding bags: sums, means and maxima of rows that are looked up in bags."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Integer

from flaxnets.nn._arguments import as_float_like
from flaxnets.nn.functional.embedding import as_indices, check_range, renormalize, rows_at, scale_gradients_by_frequency


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
        raise ValueError(f"embedding_bag: mode='max' does not support {scale_grad_by_freq=}, {sparse=}")
    if samples is not None and mode != "sum":
        raise NotImplementedError(f"embedding_bag: per_sample_weights require mode='sum', got mode={mode!r}")
    if not jnp.issubdtype(weight.dtype, jnp.floating):
        raise RuntimeError(f"embedding_bag: expected a floating-point weight, got dtype {weight.dtype}")


def _bounds(input: jax.Array, offsets: jax.Array | None, include_last_offset: bool) -> tuple[jax.Array, jax.Array]:
    """Return the start of each bag, and the end of the last."""
    length = input.size
    if input.ndim == 2:
        if offsets is not None:
            raise ValueError(
                f"embedding_bag: an input of 2 axes allows no offsets, got offsets of shape {offsets.shape}"
            )
        if input.shape[1] == 0:
            raise RuntimeError(
                f"embedding_bag: bags in an input of 2 axes cannot be empty, got the shape {input.shape}"
            )
        return jnp.arange(input.shape[0]) * input.shape[1], jnp.asarray(length)
    if offsets is None or offsets.ndim != 1:
        got = "None" if offsets is None else f"an array of shape {offsets.shape}"
        raise ValueError(f"embedding_bag: an input of 1 axis requires offsets of 1 axis, got {got}")
    offsets = as_indices(offsets, "embedding_bag")
    if include_last_offset and len(offsets) == 0:
        raise RuntimeError("embedding_bag: include_last_offset requires at least one offset, got 0")
    if not isinstance(offsets, Tracer) and len(offsets):
        known = np.asarray(offsets)  # under an outer trace, jax.numpy would trace constants
        if known[0] != 0:
            raise RuntimeError(f"embedding_bag: the first offset must be 0, got {known[0]}")
        if known[-1] > length or (known[1:] < known[:-1]).any():
            raise RuntimeError(
                f"embedding_bag: offsets must ascend up to the length {length} of the input, got {known.tolist()}"
            )
    return (offsets[:-1], offsets[-1]) if include_last_offset else (offsets, jnp.asarray(length))


def _maxima(rows: jax.Array, bag: jax.Array, bags: int) -> jax.Array:
    """Return the maximum of each bag: if elements tie, the first; NaN only if the first element is NaN."""
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
    """Look up rows of ``weight`` and reduce them over each bag; an empty bag gives zeros.

    Args:
        input: indices ``(bags, size)``, or ``(N,)`` with ``offsets``.
        weight: the table ``(num_embeddings, embedding_dim)``.
        offsets: start of each bag in an input of one axis; the first offset is 0.
        max_norm: as in :func:`embedding`.
        norm_type: exponent ``p`` of the norm.
        scale_grad_by_freq: whether to divide each row's gradient by the number of lookups of the row. This follows
            torch's documentation and its GPU kernel. If counts differ, torch's CPU kernel uses those of wrong indices.
        mode: ``"sum"``, ``"mean"`` or ``"max"``.
        sparse: no effect; gradients are dense.
        per_sample_weights: factors of the rows before the sum, of the input's shape.
        include_last_offset: whether the last offset is the end of the last bag, instead of the start of another bag.
            Indices after the last offset are then ignored.
        padding_idx: an index that every bag ignores. Negative numbers count from the end.

    Raises:
        ValueError: for incompatible shapes, an unknown mode, missing or superfluous offsets, and
            ``scale_grad_by_freq`` or ``sparse`` with ``mode="max"``.
        NotImplementedError: for ``per_sample_weights`` in another mode than ``"sum"``.
        RuntimeError: for a wrong dtype, a ``padding_idx`` out of range, and, if values are known, for an index out of
            range and for offsets that do not start with 0 or do not increase.

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
        weight = renormalize(weight, indices, max_norm, norm_type)
    rows = rows_at(weight, indices)
    if scale_grad_by_freq:
        rows = scale_gradients_by_frequency(rows, indices, num_rows)
    if per_sample_weights is not None:
        rows = rows * as_float_like(per_sample_weights, weight, "embedding_bag").reshape(-1, 1)

    position = jnp.arange(len(indices))
    is_used = position < end
    if padding_idx is not None:
        is_used &= indices != padding_idx % num_rows
    bag = jnp.where(is_used, jnp.searchsorted(starts, position, side="right") - 1, bags)  # segment sums drop this bag
    if mode == "max":
        return _maxima(rows, bag, bags)
    wide = rows.astype(jnp.promote_types(rows.dtype, jnp.float32))
    sums = jax.ops.segment_sum(wide, bag, bags)
    if mode == "mean":
        sums = sums / jnp.maximum(jax.ops.segment_sum(is_used.astype(sums.dtype), bag, bags), 1)[:, None]
    return sums.astype(rows.dtype)
