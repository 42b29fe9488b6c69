"""Embedding lookup and one-hot encoding."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Inexact, Int, Integer, Num


def as_indices(values: jax.Array, name: str) -> jax.Array:
    """Convert indices to an array; raise RuntimeError if the dtype is not an integer type."""
    indices = jnp.asarray(values)
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise RuntimeError(f"{name}: expected integer indices, got dtype {indices.dtype}")
    return indices


def check_range(indices: jax.Array, size: int, name: str, error: type[Exception]) -> None:
    """Raise for an index out of range if values are known; under ``jax.jit`` such an index gives NaN."""
    if isinstance(indices, Tracer) or indices.size == 0:
        return
    known = np.asarray(indices)  # under an outer trace, jax.numpy would trace constants
    outside = known[(known < 0) | (known >= size)]
    if outside.size:
        raise error(f"{name}: expected indices from 0 to {size - 1}, got {outside[0]}")


def rows_at(weight: jax.Array, indices: jax.Array) -> jax.Array:
    """Return the rows at these indices; NaN for an index out of range."""
    missing = jnp.nan if jnp.issubdtype(weight.dtype, jnp.inexact) else None
    return weight.at[indices].get(mode="fill", fill_value=missing, wrap_negative_indices=False)


@jax.custom_jvp
def _scale_gradient(rows: jax.Array, scale: jax.Array) -> jax.Array:
    return rows


@_scale_gradient.defjvp
def _scale_gradient_jvp(primals: tuple, tangents: tuple) -> tuple:
    (rows, scale), (tangent, _) = primals, tangents
    return rows, tangent * scale


def scale_gradients_by_frequency(rows: jax.Array, indices: jax.Array, num_embeddings: int) -> jax.Array:
    """Return the rows unchanged, with gradients divided by the number of occurrences of each index."""
    counts = jnp.zeros(num_embeddings, jnp.int32).at[indices].add(1)[indices]
    return _scale_gradient(rows, (1 / counts.astype(rows.real.dtype))[..., None])


@jax.custom_jvp
def _with_value(weight: jax.Array, value: jax.Array) -> jax.Array:
    """Return ``value``; the gradient goes to ``weight``, as after an assignment outside of autograd."""
    return value


@_with_value.defjvp
def _with_value_jvp(primals: tuple, tangents: tuple) -> tuple:
    return primals[1], tangents[0]


def renormalize(
    weight: Inexact[Array, "rows dim"], input: Integer[Array, "..."], max_norm: float, norm_type: float = 2.0
) -> Inexact[Array, "rows dim"]:
    """Return the table with the rows in ``indices`` scaled down to ``max_norm`` where their norm is larger.

    Gradients ignore the scaling, as in torch.

    >>> scaled = renormalize(jnp.array([[3.0, 4.0], [6.0, 8.0]]), jnp.array([0]), 1.0)
    >>> jnp.linalg.norm(scaled, axis=1).round(3).tolist()
    [1.0, 10.0]
    """
    wide = weight.astype(jnp.promote_types(weight.dtype, jnp.float32))
    norms = jnp.linalg.norm(wide, norm_type, axis=1, keepdims=True)
    looked_up = jnp.zeros((len(weight), 1), bool).at[as_indices(input, "embedding").ravel()].set(True)
    scaled = (wide * (max_norm / (norms + 1e-7))).astype(weight.dtype)
    return _with_value(weight, jax.lax.stop_gradient(jnp.where(looked_up & (norms > max_norm), scaled, weight)))


def check_padding_idx(padding_idx: int | None, num_embeddings: int, name: str) -> int | None:
    """Return the index as a non-negative number, or None."""
    if padding_idx is None or -num_embeddings <= padding_idx < max(num_embeddings, 1):
        return padding_idx if padding_idx is None or padding_idx >= 0 else padding_idx + num_embeddings
    raise AssertionError(f"{name}: padding_idx must be within num_embeddings={num_embeddings}, got {padding_idx}")


def embedding(
    input: Integer[Array, "*shape"],
    weight: Num[Array, "rows dim"],
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Num[Array, "*shape dim"]:
    """Look up the rows of ``weight`` at the indices ``input``.

    Args:
        input: indices of any integer type and any shape.
        weight: the table ``(num_embeddings, embedding_dim)``.
        padding_idx: a row without gradient. Negative numbers count from the end.
        max_norm: the largest norm of a row; looked-up rows are scaled down to it. Torch also changes its table; here
            only :class:`flaxnets.nn.Embedding` changes its parameter.
        norm_type: exponent ``p`` of the norm.
        scale_grad_by_freq: whether to divide each row's gradient by the number of lookups of the row.
        sparse: no effect; gradients are dense.

    Raises:
        RuntimeError: for indices that are not integers, and a weight of other than two axes.
        IndexError: for an index out of range. Under ``jax.jit``, where values are unknown, such an index gives NaN.
        AssertionError: for a ``padding_idx`` that is out of range.

    See `torch.nn.functional.embedding
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.embedding.html>`_.

    >>> embedding(jnp.array([1, 0]), jnp.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[3.0, 4.0], [1.0, 2.0]]
    """
    indices, weight = as_indices(input, "embedding"), jnp.asarray(weight)
    if weight.ndim != 2:
        raise RuntimeError(f"embedding: expected a weight of 2 axes, got the shape {weight.shape}")
    padding_idx = check_padding_idx(padding_idx, len(weight), "embedding")
    check_range(indices, len(weight), "embedding", IndexError)
    if max_norm is not None:
        weight = renormalize(weight, indices, max_norm, norm_type)
    rows = rows_at(weight, indices)
    if scale_grad_by_freq:
        rows = scale_gradients_by_frequency(rows, indices, len(weight))
    if padding_idx is not None:
        rows = jnp.where((indices == padding_idx)[..., None], jax.lax.stop_gradient(rows), rows)
    return rows


def one_hot(tensor: Integer[Array, "*shape"], num_classes: int = -1) -> Int[Array, "*shape classes"]:
    """Return one-hot vectors: zeros, with a one at the class.

    Args:
        tensor: classes, of any integer type.
        num_classes: number of classes. -1 means the largest class plus one, which is unknown under ``jax.jit``.

    Raises:
        RuntimeError: for classes that are negative, not below ``num_classes``, or not integers; for an empty or a
            traced tensor without ``num_classes``. Under ``jax.jit`` a class out of range gives zeros.

    See `torch.nn.functional.one_hot
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.one_hot.html>`_.

    >>> one_hot(jnp.array([2, 0])).tolist()
    [[0, 0, 1], [1, 0, 0]]
    """
    classes = as_indices(tensor, "one_hot")
    traced = isinstance(classes, Tracer)
    if classes.size == 0 and num_classes <= 0:
        raise RuntimeError(f"one_hot: num_classes must not be -1 for an empty tensor, got {num_classes=}")
    if num_classes == -1:
        if traced:
            raise RuntimeError("one_hot: values are unknown under jit, got num_classes=-1. Fix: pass num_classes")
        num_classes = max(int(classes.max()), 0) + 1
    if not traced:
        check_range(classes, num_classes, "one_hot", RuntimeError)
    return jax.nn.one_hot(classes, num_classes, dtype=int)
