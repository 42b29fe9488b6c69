"""Products of vectors with a matrix, by oneDNN if oneDNN is faster than XLA."""

import jax
import jax.numpy as jnp

from flaxnets.kernels import onednn
from flaxnets.kernels._primitives import Library, Result, trilinear


def times_transposed(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Compute ``x @ weight.T``. One row is a matrix times a column, which is ten times faster in XLA.

    >>> import jax.numpy as jnp
    >>> times_transposed(jnp.ones((1, 3)), jnp.ones((2, 3))).tolist()
    [[3.0, 3.0]]
    """
    return (weight @ x.T).T if len(x) == 1 else x @ weight.T


def _compute(a: jax.Array, b: jax.Array, *, result: Result) -> jax.Array:
    return {"output": lambda: times_transposed(a, b), "input": lambda: a @ b, "weight": lambda: b.T @ a}[result]()


def _compute_on_cpu(a: jax.Array, b: jax.Array, *, result: Result) -> jax.Array:
    is_half = a.dtype == jnp.bfloat16  # XLA's products of bfloat16 are slow for every size
    if result == "weight":
        if is_half or len(a) * a.shape[1] * b.shape[1] >= 2**20:
            return onednn.matmul(b, a, transpose_a=True)
    elif is_half or (len(a) > 1 and b.size >= 2**22):  # XLA reorders large matrices before the product
        return onednn.matmul(a, b, transpose_b=result == "output")
    return _compute(a, b, result=result)


_product = trilinear("linear", _compute, _compute_on_cpu)


def linear(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Compute ``x @ weight.T`` for ``x`` ``(..., in)`` and a weight ``(out, in)``; on CPUs, of float32 or bfloat16.

    >>> import jax.numpy as jnp
    >>> linear(jnp.ones((1, 3)), jnp.ones((2, 3))).tolist()
    [[3.0, 3.0]]
    """
    rows = x.reshape(-1, x.shape[-1])
    return _product.bind(rows, weight, result="output").reshape(*x.shape[:-1], len(weight))


def weight_gradient(x: jax.Array, g: jax.Array, library: Library) -> jax.Array:
    """Compute the gradient ``(out, in)`` of a weight from ``x`` ``(..., in)`` and the output's gradient ``(..., out)``.

    >>> import jax.numpy as jnp
    >>> weight_gradient(jnp.ones((2, 3)), jnp.ones((2, 1)), "xla").tolist()
    [[2.0, 2.0, 2.0]]
    """
    if library == "onednn":
        return _product.bind(x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1]), result="weight")
    # A reshape of (T, N, in) would gather a batch that is sharded over devices.
    rows = list(range(x.ndim - 1))
    return jnp.tensordot(g, x, axes=(rows, rows))
