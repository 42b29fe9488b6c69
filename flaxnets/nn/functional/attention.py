"""Scaled dot-product attention."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flaxnets import kernels
from flaxnets.autocast import cast_operands
from flaxnets.nn.functional.dropout import dropout

Mask = Bool[Array, "..."] | Float[Array, "..."]

# The smallest number of queries in a block of causal attention.
_CAUSAL_BLOCK = 128


def scaled_dot_product_attention(
    query: Float[Array, "*nq l e"],
    key: Float[Array, "*nk s e"],
    value: Float[Array, "*nv s ev"],
    attn_mask: Mask | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
    dropout_key: jax.Array | None = None,
    dropout_mask: Bool[Array, "..."] | None = None,
) -> Float[Array, "*n l ev"]:
    """Return ``softmax(query @ key.T * scale + mask) @ value``; a query that may attend to no key gets zeros.

    Half precision is computed in float32 and rounded at the end. Leading axes broadcast.

    Args:
        query: ``(..., heads, L, E)``.
        key: ``(..., heads, S, E)``.
        value: ``(..., heads, S, Ev)``.
        attn_mask: broadcasts to ``(..., heads, L, S)``: True where a query may attend to a key, or numbers to add.
        dropout_p: probability of zeroing each attention weight, in training and evaluation alike.
        is_causal: whether query ``i`` attends to no key after ``i``.
        scale: factor of the scores. Default: ``1 / sqrt(E)``.
        enable_gqa: whether key and value may have fewer heads than the query (grouped-query attention). Each of their
            heads serves a group of query heads.
        dropout_key: random key for the dropout mask.
        dropout_mask: the attention weights to keep, instead of a drawn mask; broadcasts to the shape of the weights.

    Raises:
        RuntimeError: for incompatible shapes, dtypes that differ or are not floating-point, a mask together with
            ``is_causal``, and a ``dropout_p`` that is not in ``[0, 1]``.
        IndexError: for ``enable_gqa`` without a head axis.
        ValueError: for dropout without ``dropout_key`` or ``dropout_mask``.

    See "Attention is all you need" (arXiv:1706.03762) and `torch.nn.functional.scaled_dot_product_attention
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html>`_.

    >>> value = jnp.array([[1.0], [3.0], [5.0]])
    >>> scaled_dot_product_attention(jnp.zeros((3, 2)), jnp.zeros((3, 2)), value, is_causal=True).ravel().tolist()
    [1.0, 2.0, 3.0]
    """
    query, key, value = map(jnp.asarray, cast_operands(query, key, value))
    _check_dtypes(query, key, value)
    if enable_gqa:
        key, value = _repeat_heads(key, query), _repeat_heads(value, query)
    batch = _check_shapes(query, key, value)
    if not 0 <= dropout_p <= 1:
        raise RuntimeError(
            f"scaled_dot_product_attention: dropout_p must be a probability between 0 and 1, got {dropout_p}"
        )
    length, keys = query.shape[-2], key.shape[-2]
    mask = _check_mask((*batch, length, keys), attn_mask, is_causal, query.dtype)
    query, key, value = (jnp.broadcast_to(x, batch + x.shape[-2:]) for x in (query, key, value))
    keep = None
    if dropout_p > 0:
        ones = jnp.ones((*batch, length, keys), jnp.promote_types(query.dtype, jnp.float32))
        keep = dropout(ones, dropout_p, key=dropout_key, mask=dropout_mask)
    if not is_causal:
        return _attend(query, key, value, mask, keep, scale)
    # Split the queries into blocks, to skip the scores of a block's queries with later keys.
    blocks = min(max(length // _CAUSAL_BLOCK, 1), 4)
    ends = [length * (i + 1) // blocks for i in range(blocks)]
    means = [
        _attend(
            query[..., start:end, :],
            key[..., :end, :],
            value[..., :end, :],
            jnp.tri(end - start, min(end, keys), start, dtype=bool),
            None if keep is None else keep[..., start:end, :end],
            scale,
        )
        for start, end in itertools.pairwise([0, *ends])
    ]
    return means[0] if blocks == 1 else jnp.concatenate(means, axis=-2)


def _attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
    keep: jax.Array | None,
    scale: float | None,
) -> jax.Array:
    scores = attention_scores(query, key, mask, scale)
    return _weighted_mean(_operations(scores, value), scores, value.astype(scores.dtype), keep).astype(value.dtype)


def _check_dtypes(query: jax.Array, key: jax.Array, value: jax.Array) -> None:
    dtypes = [x.dtype for x in (query, key, value)]
    if len(set(dtypes)) > 1:
        raise RuntimeError(
            "scaled_dot_product_attention: query, key and value must have one dtype, got "
            f"{', '.join(map(str, dtypes))}; cast them to the same"
        )
    if not jnp.issubdtype(query.dtype, jnp.floating):
        error = NotImplementedError if jnp.issubdtype(query.dtype, jnp.complexfloating) else RuntimeError
        raise error(f"scaled_dot_product_attention: expected floating-point arrays, got {query.dtype}")


def _check_shapes(query: jax.Array, key: jax.Array, value: jax.Array) -> tuple[int, ...]:
    """Return the shape that the leading axes of all three broadcast to."""
    shapes = query.shape, key.shape, value.shape
    try:
        if min(map(len, shapes)) >= 2 and key.shape[-1] == query.shape[-1] and key.shape[-2] == value.shape[-2]:
            return jnp.broadcast_shapes(*(shape[:-2] for shape in shapes))
    except ValueError:
        pass
    raise RuntimeError(
        "scaled_dot_product_attention: expected query (..., L, E), key (..., S, E) and value (..., S, Ev), and leading "
        f"axes that broadcast, got the shapes {shapes[0]}, {shapes[1]} and {shapes[2]}"
    )


def _repeat_heads(x: jax.Array, query: jax.Array) -> jax.Array:
    if min(x.ndim, query.ndim) < 3:
        raise IndexError(
            f"scaled_dot_product_attention: enable_gqa requires the axes (heads, length, features), got {x.shape}"
        )
    heads, query_heads = x.shape[-3], query.shape[-3]
    if not heads or query_heads % heads:
        raise RuntimeError(
            f"scaled_dot_product_attention: the query's number of heads must be a multiple of the {heads} heads of key "
            f"and value, got {query_heads}"
        )
    return jnp.repeat(x, query_heads // heads, axis=-3)


def _check_mask(shape: tuple[int, ...], attn_mask: jax.Array | None, is_causal: bool, dtype: DTypeLike) -> Mask | None:
    """Check the mask and reshape it to the rank of the scores ``(..., L, S)``."""
    name = "scaled_dot_product_attention"
    if is_causal and attn_mask is not None:
        raise RuntimeError(f"{name}: expected either attn_mask or is_causal, got is_causal=True and {attn_mask.shape}")
    if attn_mask is None:
        return None
    mask = jnp.asarray(attn_mask)
    if mask.dtype not in (jnp.bool_, jnp.float32, dtype):
        raise RuntimeError(f"{name}: attn_mask must be of dtype bool, float32 or {dtype}, got {mask.dtype}")
    if mask.ndim > len(shape) or any(m not in (1, s) for m, s in zip(mask.shape[::-1], shape[::-1], strict=False)):
        raise RuntimeError(f"{name}: attn_mask must broadcast to the scores {shape}, got a mask of shape {mask.shape}")
    return mask.reshape((1,) * (len(shape) - mask.ndim) + mask.shape)


def attention_scores(
    query: Float[Array, "*n l e"], key: Float[Array, "*n s e"], mask: Mask | None, scale: float | None = None
) -> Float[Array, "*n l s"]:
    """Return ``query @ key.T * scale``, plus a mask of numbers, or ``-inf`` where a mask of bools is False.

    >>> attention_scores(jnp.ones((1, 4)), jnp.ones((2, 4)), jnp.array([[True, False]])).tolist()
    [[2.0, -inf]]
    """
    size = query.shape[-1]
    scale = 1 / math.sqrt(max(size, 1)) if scale is None else scale
    dtype = jnp.promote_types(query.dtype, jnp.float32)
    implementation = kernels.product_implementation(query, key, query.dtype)
    if implementation is None:
        scores = jnp.matmul(query.astype(dtype) * scale, jnp.swapaxes(key, -1, -2).astype(dtype))
    else:
        scores = implementation(query.astype(dtype), key.astype(dtype), transpose_b=True) * scale
    if mask is None:
        return scores
    return jnp.where(mask, scores, -jnp.inf) if mask.dtype == jnp.bool_ else scores + mask.astype(dtype)


def weigh_values(weights: Float[Array, "*n l s"], value: Float[Array, "*n s ev"]) -> Float[Array, "*n l ev"]:
    """Return ``weights @ value``, with both rounded to the dtype of ``value`` if that is faster.

    >>> weigh_values(jnp.ones((1, 3)), jnp.ones((3, 2))).tolist()
    [[3.0, 3.0]]
    """
    return _operations(weights, value).multiply(weights, value.astype(weights.dtype))


class _Operations(NamedTuple):
    """Implementations of matrix products and row reductions, chosen when attention is called."""

    multiply: Callable[[jax.Array, jax.Array], jax.Array]
    reduce: Callable[..., jax.Array]


def _reduce(x: jax.Array, reduce: Callable[..., jax.Array], combine: Any) -> jax.Array:
    return reduce(x, axis=-1, keepdims=True)


def _operations(weights: jax.Array, value: jax.Array) -> _Operations:
    implementation = kernels.product_implementation(weights, value, value.dtype)
    if implementation is None:
        return _Operations(jnp.matmul, _reduce)
    return _Operations(implementation, kernels.over_last_axis)


# A fused softmax and product. The weights are many more than the outputs, so the outputs are divided by the sum instead
# of the weights, and the gradient needs no sum over the weights.
@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _weighted_mean(operations: _Operations, scores: jax.Array, value: jax.Array, keep: jax.Array | None) -> jax.Array:
    """Return ``(softmax(scores) * keep) @ value``. A row whose scores are all ``-inf`` gives zeros with zero gradient.

    ``keep`` has no gradient.
    """
    return _parts(operations, scores, value, keep)[0]


def _parts(
    operations: _Operations, scores: jax.Array, value: jax.Array, keep: jax.Array | None
) -> tuple[jax.Array, ...]:
    """Return the weighted mean, the weights before and after ``keep``, and the sum of the former."""
    lowest = jnp.finfo(scores.dtype).min
    top = operations.reduce(scores, functools.partial(jnp.max, initial=lowest), jnp.maximum)
    weights = jnp.exp(scores - jax.lax.stop_gradient(top))
    total = operations.reduce(weights, jnp.sum, jnp.add)
    total = jnp.where(total == 0, 1, total)
    masked_weights = weights if keep is None else weights * keep
    return operations.multiply(masked_weights, value) / total, weights, masked_weights, total


@_weighted_mean.defjvp
def _weighted_mean_jvp(
    operations: _Operations, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[jax.Array, jax.Array]:
    (scores, value, keep), (d_scores, d_value, _) = primals, tangents
    mean, weights, masked_weights, total = _parts(operations, scores, value, keep)
    # The transpose then subtracts a product of gradient and mean, where a softmax's would sum over all scores.
    change = (weights * d_scores).sum(axis=-1, keepdims=True)
    multiply = operations.multiply
    return mean, (
        multiply(masked_weights * d_scores, value) - change * mean + multiply(masked_weights, d_value)
    ) / total
