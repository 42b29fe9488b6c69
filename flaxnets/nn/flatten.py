"""Layers that only change the shape."""

import jax.numpy as jnp
from jaxtyping import Array, Shaped

from flaxnets.nn.module import Module


class Flatten(Module):
    """Flattens the axes from ``start_dim`` to ``end_dim`` into one, in torch's memory order.

    Args:
        start_dim: the first axis to flatten.
        end_dim: the last one, itself included.

    Raises:
        IndexError: at the call, if the input has no such axis.
        RuntimeError: at the call, if ``start_dim`` comes after ``end_dim``.

    See `torch.nn.Flatten <https://docs.pytorch.org/docs/stable/generated/torch.nn.Flatten.html>`_.

    >>> Flatten()(jnp.ones((8, 16, 5, 5))).shape
    (8, 400)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        self.start_dim = start_dim
        self.end_dim = end_dim

    def __call__(self, input: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """Returns the input with the axes joined."""
        input = jnp.asarray(input)
        ndim = max(input.ndim, 1)  # torch flattens a scalar into one element
        for dim in (self.start_dim, self.end_dim):
            if not -ndim <= dim < ndim:
                raise IndexError(
                    f"Flatten: expected a dim from {-ndim} to {ndim - 1} for an input of shape {input.shape}, got {dim}"
                )
        start, end = self.start_dim % ndim, self.end_dim % ndim
        if start > end:
            raise RuntimeError(f"Flatten: start_dim={self.start_dim} comes after end_dim={self.end_dim}")
        return input.reshape(*input.shape[:start], -1, *input.shape[end + 1 :])
