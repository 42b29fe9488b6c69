"""Products of vectors with a matrix so large that reading it takes the time."""

from typing import Any, Literal

import jax
from jax.interpreters import ad

from flaxnets.kernels import onednn
from flaxnets.kernels._primitives import primitive

Result = Literal["output", "input", "weight"]


def _compute(a: jax.Array, b: jax.Array, *, result: Result) -> jax.Array:
    return {"output": lambda: a @ b.T, "input": lambda: a @ b, "weight": lambda: a.T @ b}[result]()


def _compute_on_cpu(a: jax.Array, b: jax.Array, *, result: Result) -> jax.Array:
    if result == "weight" or len(a) == 1:  # what XLA is faster at
        return (b @ a.T).T if result == "output" else _compute(a, b, result=result)
    return onednn.matmul(a, b, transpose_b=result == "output")


# The operands are input and weight, output and weight, output and input: each of the three is linear in both, and its
# transposes are the two others.
_product = primitive("linear", _compute, _compute_on_cpu)


def _left(ct: jax.Array, a: jax.Array, b: jax.Array, *, result: Result) -> jax.Array:
    if result == "weight":
        return _product.bind(b, ct, result="output")
    return _product.bind(ct, b, result="input" if result == "output" else "output")


def _right(ct: jax.Array, a: jax.Array, b: jax.Array, *, result: Result) -> jax.Array:
    if result == "weight":
        return _product.bind(a, ct, result="input")
    return _product.bind(*((ct, a) if result == "output" else (a, ct)), result="weight")


ad.defbilinear(_product, _left, _right)


def linear(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Returns ``x @ weight.T`` for an ``x`` ``(..., in)`` and a weight ``(out, in)``; on CPUs, of float32.

    >>> import jax.numpy as jnp
    >>> linear(jnp.ones((1, 3)), jnp.ones((2, 3))).tolist()
    [[3.0, 3.0]]
    """
    rows: Any = x.reshape(-1, x.shape[-1])
    return _product.bind(rows, weight, result="output").reshape(*x.shape[:-1], len(weight))
