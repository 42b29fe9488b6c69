"""Multi-head attention with its projections; arrays are ``(L, N, E)`` until they are split into heads."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float

from flaxnets.autocast import cast_operands
from flaxnets.nn.functional.attention import Mask, attention_scores, scaled_dot_product_attention, weigh_values
from flaxnets.nn.functional.dropout import dropout
from flaxnets.nn.functional.linear import linear

_NAME = "multi_head_attention_forward"


def multi_head_attention_forward(
    query: Float[Array, "l *n embed"], key: Float[Array, "s *n k_in"], value: Float[Array, "s *n v_in"],
    embed_dim_to_check: int, num_heads: int,
    in_proj_weight: Float[Array, "embed_3 embed"] | None, in_proj_bias: Float[Array, " embed_3"] | None,
    bias_k: Float[Array, "1 1 embed"] | None, bias_v: Float[Array, "1 1 embed"] | None,
    add_zero_attn: bool, dropout_p: float,
    out_proj_weight: Float[Array, "out embed"], out_proj_bias: Float[Array, " out"] | None,
    training: bool = True, key_padding_mask: Mask | None = None, need_weights: bool = True,
    attn_mask: Mask | None = None, use_separate_proj_weight: bool = False,
    q_proj_weight: Float[Array, "embed embed"] | None = None,
    k_proj_weight: Float[Array, "embed k_in"] | None = None,
    v_proj_weight: Float[Array, "embed v_in"] | None = None,
    static_k: Float[Array, "heads static head_dim"] | None = None,
    static_v: Float[Array, "heads static head_dim"] | None = None,
    average_attn_weights: bool = True, is_causal: bool = False,
    *, dropout_key: jax.Array | None = None, dropout_mask: Bool[Array, "..."] | None = None,
) -> tuple[Float[Array, "l *n out"], Float[Array, "..."] | None]:  # fmt: skip
    """Multi-head attention: project query, key and value, let each head attend, and project the joined outputs.

    Args:
        query: ``(L, N, E)``, or unbatched ``(L, E)``.
        key: ``(S, N, E_k)`` or ``(S, E_k)``.
        value: ``(S, N, E_v)`` or ``(S, E_v)``.
        embed_dim_to_check: the expected ``E``.
        num_heads: number of heads; must divide ``E``.
        in_proj_weight: the stacked projections of query, key and value, ``(3*E, E)``.
        in_proj_bias: their biases ``(3*E,)``.
        bias_k: an additional key for all queries, ``(1, 1, E)``; requires ``bias_v``.
        bias_v: the value of ``bias_k``, of the same shape.
        add_zero_attn: whether to append a key and value of zeros.
        dropout_p: probability of zeroing each attention weight.
        out_proj_weight: weight of the output projection.
        out_proj_bias: bias of the output projection.
        training: whether to apply dropout.
        key_padding_mask: ``(N, S)`` or ``(S,)``: True for keys to ignore, or numbers to add to their scores.
        need_weights: whether to return the attention weights. A query that may attend to no key gets NaN with
            ``need_weights``, and zeros without.
        attn_mask: ``(L, S)`` or ``(N*num_heads, L, S)``: True where a query may not attend, or numbers to add.
        use_separate_proj_weight: whether to use the three following weights instead of ``in_proj_weight``.
        q_proj_weight: ``(E, E)``.
        k_proj_weight: ``(E, E_k)``.
        v_proj_weight: ``(E, E_v)``.
        static_k: projected keys ``(N*num_heads, S, E/num_heads)`` that replace those of ``key``.
        static_v: projected values of that shape that replace those of ``value``.
        average_attn_weights: whether to average the returned weights over the heads.
        is_causal: a promise that ``attn_mask`` is the causal mask. With ``need_weights=False`` and no
            ``key_padding_mask``, a causal mask then replaces ``attn_mask``.
        dropout_key: random key for the dropout mask.
        dropout_mask: the weights ``(N, num_heads, L, S)`` to keep, instead of a drawn mask; ``bias_k`` and
            ``add_zero_attn`` each make ``S`` larger by one.

    Returns:
        The outputs, of the query's shape, and the weights ``(N, L, S)`` or ``(N, num_heads, L, S)`` after dropout, or
        None. Unbatched results have no ``N``.

    Raises:
        AssertionError: for incompatible shapes of query, key, value or ``key_padding_mask``, masks of integers, and
            weights that are missing or of the wrong shape.
        RuntimeError: for an ``attn_mask`` of the wrong shape or dtype, for ``is_causal`` without ``attn_mask``, and for
            dtypes or features that do not match the weights.

    See "Attention is all you need" (arXiv:1706.03762) and `torch.nn.MultiheadAttention
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html>`_.

    >>> x, eye = jnp.ones((3, 4)), jnp.eye(4)
    >>> output, weights = multi_head_attention_forward(
    ...     x, x, x, 4, 2, jnp.concatenate([eye, eye, eye]), None, None, None, False, 0.0, eye, None)
    >>> output.shape, weights.shape
    ((3, 4), (3, 3))
    """
    query, key, value = jnp.asarray(query), jnp.asarray(key), jnp.asarray(value)
    batched = _check_ranks(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:
        query, key, value = query[:, None], key[:, None], value[:, None]
        key_padding_mask = None if key_padding_mask is None else jnp.asarray(key_padding_mask)[None]
    if is_causal and attn_mask is None:
        raise RuntimeError(f"{_NAME}: is_causal=True is a promise about attn_mask and requires it, got attn_mask=None")
    causal = is_causal and key_padding_mask is None and not need_weights
    padding = _additive(key_padding_mask, "key_padding_mask", query.dtype)
    mask = None if causal else _additive(attn_mask, "attn_mask", query.dtype)
    _check_sizes(query, key, value, embed_dim_to_check, num_heads, use_separate_proj_weight)
    _check_attn_mask(mask, (query.shape[1] * num_heads, query.shape[0], key.shape[0]))

    separate = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else None
    q, k, v = _project(query, key, value, in_proj_weight, in_proj_bias, separate)
    k, v = _with_bias(k, v, bias_k, bias_v, static_k, static_v)
    heads = query.shape[1], num_heads
    q, k, v = _split(q, heads), _split(k, heads, static_k, "static_k"), _split(v, heads, static_v, "static_v")
    lengths = f"keys and values must have the same shape, got {k.shape} and {v.shape}; pass static_k with static_v"
    _require(k.shape[2] == v.shape[2], lengths, RuntimeError)
    if add_zero_attn:
        k, v = (jnp.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0))) for x in (k, v))
    mask = _merge(mask, padding, heads, k.shape[2], (bias_k is not None) + add_zero_attn)
    drop = functools.partial(dropout, p=dropout_p, training=training, key=dropout_key, mask=dropout_mask)
    attention: jax.Array | None = None
    if need_weights:
        output, attention = _attend(q, k, v, mask, drop)
        attention = attention.mean(axis=1) if average_attn_weights else attention
    else:
        dropout_p = dropout_p if training else 0.0
        output = scaled_dot_product_attention(
            q, k, v, mask, dropout_p, causal, dropout_key=dropout_key, dropout_mask=dropout_mask
        )
    output = linear(output.transpose(2, 0, 1, 3).reshape(query.shape), out_proj_weight, out_proj_bias)
    if batched:
        return output, attention
    return output[:, 0], None if attention is None else attention[0]


def _require(condition: bool, message: str, error: type[Exception] = AssertionError) -> None:
    if not condition:
        raise error(f"{_NAME}: {message}")


def _check_ranks(
    query: jax.Array, key: jax.Array, value: jax.Array, padding: Any, mask: Any, num_heads: int
) -> bool:  # fmt: skip
    """Check the ranks and return whether there is a batch axis."""
    ndim = query.ndim
    _require(ndim in (2, 3), f"expected an unbatched 2D or a batched 3D query, got {ndim}D of shape {query.shape}")
    for name, array in (("key", key), ("value", value)):
        _require(array.ndim == ndim, f"for a {ndim}D query {name} must be {ndim}D, got the shape {array.shape}")
    if padding is not None:
        shape = jnp.shape(padding)
        _require(len(shape) == ndim - 1, f"for a {ndim}D query key_padding_mask must be {ndim - 1}D, got {shape}")
    if mask is not None:
        shape, unbatched = jnp.shape(mask), (num_heads, query.shape[0], key.shape[0])
        _require(len(shape) in (2, 3), f"attn_mask must be 2D or 3D, got the shape {shape}")
        fits = ndim == 3 or len(shape) == 2 or shape == unbatched
        _require(fits, f"for a 2D query a 3D attn_mask must be of shape {unbatched}, got {shape}")
    return ndim == 3


def _check_sizes(
    query: jax.Array, key: jax.Array, value: jax.Array, embed_dim: int, num_heads: int, separate: bool
) -> None:
    size = query.shape[-1]
    _require(size == embed_dim, f"the query must have {embed_dim} features, got {size} (shape {query.shape})")
    _require(size % num_heads == 0, f"embed_dim={size} must be divisible by num_heads={num_heads}")
    same = key.shape[:2] == value.shape[:2] if separate else key.shape == value.shape
    _require(same, f"key and value must have the same length and batch, got the shapes {key.shape} and {value.shape}")
    batches = f"query and key must have the same batch size, got the shapes {query.shape} and {key.shape}"
    _require(query.shape[1] == key.shape[1], batches, RuntimeError)


def _check_attn_mask(mask: jax.Array | None, shape: tuple[int, int, int]) -> None:
    if mask is not None:
        expected = shape[-mask.ndim :]
        _require(mask.shape == expected, f"attn_mask must be of shape {expected}, got {mask.shape}", RuntimeError)


def _additive(mask: ArrayLike | None, name: str, dtype: DTypeLike) -> jax.Array | None:
    """Return the mask as numbers to add to the scores; True becomes ``-inf``."""
    if mask is None:
        return None
    mask = jnp.asarray(mask)
    _require(
        mask.dtype == jnp.bool_ or jnp.issubdtype(mask.dtype, jnp.floating),
        f"{name} must be of bools or of floating-point numbers, got {mask.dtype}",
    )
    return jnp.where(mask, -jnp.inf, 0).astype(dtype) if mask.dtype == jnp.bool_ else mask


def _project(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    packed: jax.Array | None,
    bias: jax.Array | None,
    separate: tuple[jax.Array | None, ...] | None,
) -> tuple[jax.Array, ...]:
    size, inputs = query.shape[-1], (query, key, value)
    error = RuntimeError if separate is None else AssertionError
    if separate is not None:
        for name, weight, x in zip("qkv", separate, inputs, strict=True):
            shape = (size, x.shape[-1])
            actual = None if weight is None else weight.shape
            _require(actual == shape, f"{name}_proj_weight must be of shape {shape}, got {actual}")
        weights = [jnp.asarray(weight) for weight in separate]
    else:
        if packed is None:
            raise AssertionError(
                f"{_NAME}: expected in_proj_weight or use_separate_proj_weight=True, got None and False"
            )
        shape = (3 * size, size)
        _require(packed.shape == shape, f"in_proj_weight must be of shape {shape}, got {packed.shape}", error)
        weights = jnp.split(packed, 3)
    if bias is None:
        return tuple(linear(x, weight) for x, weight in zip(inputs, weights, strict=True))
    _require(bias.shape == (3 * size,), f"in_proj_bias must be of shape {(3 * size,)}, got {bias.shape}", error)
    return tuple(map(linear, inputs, weights, jnp.split(bias, 3)))


def _with_bias(
    k: jax.Array,
    v: jax.Array,
    bias_k: jax.Array | None,
    bias_v: jax.Array | None,
    static_k: jax.Array | None,
    static_v: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    if bias_k is None and bias_v is None:
        return k, v
    if bias_k is None or bias_v is None:
        raise AssertionError(
            f"{_NAME}: bias_k and bias_v require each other, got only {'bias_v' if bias_k is None else 'bias_k'}"
        )
    for name, static in (("static_k", static_k), ("static_v", static_v)):
        _require(static is None, f"bias_k and bias_v cannot be appended to {name}, got both")
    shape, last = (1, 1, k.shape[2]), (1, *k.shape[1:])
    for name, bias in (("bias_k", bias_k), ("bias_v", bias_v)):
        _require(bias.shape == shape, f"{name} must be of shape {shape}, got {bias.shape}", RuntimeError)
    return jnp.concatenate([k, jnp.broadcast_to(bias_k, last)]), jnp.concatenate([v, jnp.broadcast_to(bias_v, last)])


def _split(x: jax.Array, heads: tuple[int, int], static: jax.Array | None = None, name: str = "") -> jax.Array:
    """Split ``(L, N, E)`` into ``(N, heads, L, E / heads)``, or reshape ``static`` to that."""
    batch, size = math.prod(heads), x.shape[-1] // heads[1]
    if static is None:
        return x.reshape(-1 if x.size else x.shape[0], *heads, size).transpose(1, 2, 0, 3)
    fits = static.shape[0] == batch and static.shape[2] == size
    _require(fits, f"{name} must be of shape ({batch}, S, {size}), got {static.shape}")
    return static.reshape(*heads, *static.shape[1:])


def _merge(
    mask: jax.Array | None, padding: jax.Array | None, heads: tuple[int, int], length: int, extra: int
) -> jax.Array | None:
    """Return the sum of both masks, of the rank of the scores; no mask applies to the last ``extra`` keys."""
    if mask is not None:
        axes = (1, 1) if mask.ndim == 2 else heads
        mask = _widened(mask.reshape(*axes, *mask.shape[-2:]), extra)
        message = f"for keys of length {length} attn_mask has {mask.shape[-1]} columns; static_k and static_v change it"
        _require(mask.shape[-1] == length, message, RuntimeError)
    if padding is None:
        return mask
    padding = _widened(padding, extra)
    expected = (heads[0], length)
    _require(padding.shape == expected, f"key_padding_mask must be of shape {expected}, got {padding.shape}")
    padding = padding[:, None, None]
    return padding if mask is None else mask + padding


def _widened(mask: jax.Array, extra: int) -> jax.Array:
    return jnp.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, extra)]) if extra else mask


def _attend(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None, drop: Callable[[jax.Array], jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Return the heads' outputs and the attention weights."""
    (mask,) = cast_operands(mask)
    if mask is not None and mask.dtype != q.dtype:
        raise RuntimeError(f"{_NAME}: masks must be of bools or of the query's dtype {q.dtype}, got {mask.dtype}")
    weights = drop(jax.nn.softmax(attention_scores(q, k, mask), axis=-1)).astype(q.dtype)
    return weigh_values(weights, v).astype(q.dtype), weights
