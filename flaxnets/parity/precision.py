"""Functions of JAX that compute in float32 whatever the precision of their inputs, in float64 for a proof."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Within this context ``jax.nn.dot_product_attention`` computes float64 inputs in float64.

    JAX's own computes the scores and their softmax in float32. ``nnx.MultiHeadAttention`` calls it.

    >>> with jax.enable_x64(True), full_precision():
    ...     jax.nn.dot_product_attention(*[jnp.ones((1, 2, 1, 3))] * 3).dtype
    dtype('float64')
    """
    with mock.patch.object(jax.nn, "dot_product_attention", _in_float64(jax.nn.dot_product_attention)):
        yield


def _in_float64(original: Any) -> Any:
    @functools.wraps(original)
    def attention(
        query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, *,
        scale: float | None = None, is_causal: bool = False, **others: Any,
    ) -> Any:  # fmt: skip
        arrays = [jnp.asarray(each) for each in (query, key, value)]
        if any(each is not None for each in others.values()) or any(a.dtype != jnp.float64 for a in arrays):
            return original(query, key, value, bias, mask, scale=scale, is_causal=is_causal, **others)
        if arrays[0].ndim == 3:
            added = [None if each is None else each[None] for each in (bias, mask)]
            return attention(*[a[None] for a in arrays], *added, scale=scale, is_causal=is_causal)[0]
        q, k, v = arrays
        groups = q.shape[2] // k.shape[2]
        k, v = jnp.repeat(k, groups, axis=2), jnp.repeat(v, groups, axis=2)
        scores = jnp.einsum("btnh,bsnh->bnts", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
        scores = scores if bias is None else scores + bias
        keep = jnp.tril(jnp.ones(scores.shape[-2:], bool)) if is_causal else jnp.ones((), bool)
        keep = keep if mask is None else keep & mask
        weights = jax.nn.softmax(jnp.where(keep, scores, jnp.finfo(jnp.float64).min))
        return jnp.einsum("bnts,bsnh->btnh", weights, v)

    return attention
