"""The sigmoid of images with few channels, computed in NHWC."""

from typing import Any

import jax
from jax import lax

from flaxnets.kernels._primitives import materialized


@jax.custom_jvp
def _sigmoid(x: jax.Array) -> jax.Array:
    # XLA's loop over the channels alone would be too short for SIMD vectors, so the image becomes one axis. The calls
    # of `materialized` keep XLA from removing the reshapes.
    rows = materialized(x).reshape(len(x), -1)
    return materialized(jax.nn.sigmoid(rows)).reshape(x.shape)


@_sigmoid.defjvp
def _sigmoid_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    y = _sigmoid(*primals)
    return y, tangents[0] * (y * (1 - y))


def sigmoid(x: jax.Array) -> jax.Array:
    """Compute ``1 / (1 + exp(-x))`` for floating-point images ``(N, C, H, W)``.

    >>> import jax.numpy as jnp
    >>> sigmoid(jnp.zeros((1, 1, 1, 2))).tolist()
    [[[[0.5, 0.5]]]]
    """
    return lax.transpose(_sigmoid(lax.transpose(x, (0, 2, 3, 1))), (0, 3, 1, 2))
