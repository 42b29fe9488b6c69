"""Activation layers."""

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Float, Num

from flaxnets.nn import functional as F
from flaxnets.nn.module import Module


class ReLU(Module):
    """Applies ``max(input, 0)`` to every element; the gradient at 0 is 0.

    See `torch.nn.ReLU <https://docs.pytorch.org/docs/stable/generated/torch.nn.ReLU.html>`_.

    >>> ReLU()(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __call__(self, input: Num[Array, "*shape"]) -> Num[Array, "*shape"]:
        """Returns the positive part."""
        return F.relu(input)


class Sigmoid(Module):
    """Applies ``1 / (1 + exp(-input))`` to every element.

    See `torch.nn.Sigmoid <https://docs.pytorch.org/docs/stable/generated/torch.nn.Sigmoid.html>`_.

    >>> Sigmoid()(jnp.array([0.0])).tolist()
    [0.5]
    """

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns values between 0 and 1."""
        return F.sigmoid(input)
