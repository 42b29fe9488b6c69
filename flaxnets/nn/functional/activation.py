"""Activation functions."""

import jax
import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Float, Num


def relu(input: Num[Array, "*shape"]) -> Num[Array, "*shape"]:
    """Returns ``max(input, 0)``; the gradient at 0 is 0.

    See `torch.nn.functional.relu <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.relu.html>`_.

    >>> relu(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return jax.nn.relu(input)


def sigmoid(input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns ``1 / (1 + exp(-input))``.

    See `torch.nn.functional.sigmoid
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.sigmoid.html>`_.

    >>> sigmoid(jnp.array([0.0])).tolist()
    [0.5]
    """
    return jax.nn.sigmoid(input)
