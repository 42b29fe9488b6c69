"""Products of stacks of matrices, as in attention, by oneDNN if oneDNN is faster than XLA."""

import math

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from flaxnets.kernels import onednn
from flaxnets.kernels._primitives import Result, trilinear


def _compute(a: jax.Array, b: jax.Array, *, result: Result, dtype: DTypeLike) -> jax.Array:
    wide, (a, b) = a.dtype, (x.astype(dtype) for x in (a, b))
    left, right = {
        "output": lambda: (a, jnp.swapaxes(b, -1, -2)),
        "input": lambda: (a, b),
        "weight": lambda: (jnp.swapaxes(b, -1, -2), a),
    }[result]()
    return jnp.matmul(left, right, preferred_element_type=wide)


def _compute_on_cpu(a: jax.Array, b: jax.Array, *, result: Result, dtype: DTypeLike) -> jax.Array:
    # XLA's products are slow for bfloat16 and for transposed matrices.
    if dtype == jnp.bfloat16 or (result == "weight" and math.prod(a.shape) * b.shape[-1] >= 2**20):
        left, right = (b, a) if result == "weight" else (a, b)
        options = {"transpose_a": result == "weight", "transpose_b": result == "output"}
        return onednn.matmul(left.astype(dtype), right.astype(dtype), **options, dtype=a.dtype)
    return _compute(a, b, result=result, dtype=dtype)


_product = trilinear("product", _compute, _compute_on_cpu)


def product(a: jax.Array, b: jax.Array, dtype: DTypeLike, *, transpose_b: bool = False) -> jax.Array:
    """Compute ``a @ b`` or ``a @ b.T`` in float32, for stacks of matrices with equal leading axes.

    Args:
        a: Stack of float32 matrices.
        b: Stack of float32 matrices.
        dtype: Dtype to which operands are rounded, here and in the derivatives: float32 or bfloat16. Sums are
            accumulated in float32.
        transpose_b: Whether to transpose the matrices of ``b``.

    >>> import jax.numpy as jnp
    >>> product(jnp.ones((2, 1, 3)), jnp.ones((2, 4, 3)), jnp.bfloat16, transpose_b=True)[0].tolist()
    [[3.0, 3.0, 3.0, 3.0]]
    """
    return _product.bind(a, b, result="output" if transpose_b else "input", dtype=jnp.dtype(dtype))
