"""Products of matrices by oneDNN."""

from typing import Any

import jax
from jax.interpreters import ad

from flaxnets.kernels import onednn
from flaxnets.kernels._primitives import primitive


def _compute(a: jax.Array, b: jax.Array, *, transpose_a: bool, transpose_b: bool) -> jax.Array:
    return (a.T if transpose_a else a) @ (b.T if transpose_b else b)


_matmul = primitive("onednn_matmul", _compute, onednn.matmul)


def _product(a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> jax.Array:
    return _matmul.bind(a, b, transpose_a=transpose_a, transpose_b=transpose_b)


def _left(ct: Any, a: Any, b: Any, *, transpose_a: bool, transpose_b: bool) -> jax.Array:
    return _product(b, ct, transpose_b, True) if transpose_a else _product(ct, b, False, not transpose_b)


def _right(ct: Any, a: Any, b: Any, *, transpose_a: bool, transpose_b: bool) -> jax.Array:
    return _product(ct, a, True, transpose_a) if transpose_b else _product(a, ct, not transpose_a, False)


ad.defbilinear(_matmul, _left, _right)


def linear(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Returns ``x @ weight.T`` for a weight ``(out, in)`` and any number of axes before the last of ``x``.

    >>> import jax.numpy as jnp
    >>> linear(jnp.ones((2, 1, 3)), jnp.ones((2, 3))).tolist()
    [[[3.0, 3.0]], [[3.0, 3.0]]]
    """
    return _product(x.reshape(-1, x.shape[-1]), weight, False, True).reshape(*x.shape[:-1], weight.shape[0])
