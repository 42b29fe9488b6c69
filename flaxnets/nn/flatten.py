"""Flatten and Unflatten layers."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Shaped

from flaxnets.nn.module import Module


class Flatten(Module):
    """Flatten the axes from ``start_dim`` to ``end_dim`` into one, in torch's memory order.

    Args:
        start_dim: the first axis to flatten.
        end_dim: the last axis to flatten, inclusive.

    Raises:
        IndexError: when called, if the input lacks one of the axes.
        RuntimeError: when called, if ``start_dim`` comes after ``end_dim``.

    See `torch.nn.Flatten <https://docs.pytorch.org/docs/stable/generated/torch.nn.Flatten.html>`_.

    >>> Flatten()(jnp.ones((8, 16, 5, 5))).shape
    (8, 400)
    """

    _extra_repr = "start_dim={start_dim}, end_dim={end_dim}"

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        self.start_dim = start_dim
        self.end_dim = end_dim

    def __call__(self, input: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """Return the input with the axes joined."""
        input = jnp.asarray(input)
        ndim = max(input.ndim, 1)  # torch flattens a scalar into a vector of one element
        for dim in (self.start_dim, self.end_dim):
            if not -ndim <= dim < ndim:
                raise IndexError(
                    f"Flatten: expected a dim from {-ndim} to {ndim - 1} for an input of shape {input.shape}, got {dim}"
                )
        start, end = self.start_dim % ndim, self.end_dim % ndim
        if start > end:
            raise RuntimeError(f"Flatten: start_dim={self.start_dim} comes after end_dim={self.end_dim}")
        return input.reshape(*input.shape[:start], math.prod(input.shape[start : end + 1]), *input.shape[end + 1 :])


class Unflatten(Module):
    """Split the axis ``dim`` into axes of these sizes, in torch's memory order.

    Args:
        dim: the axis to split.
        unflattened_size: tuple or list of sizes. One size may be -1 and is then inferred. Named tensors and named
            sizes are not supported; torch removed them.

    Raises:
        TypeError: for sizes that are not a tuple or list of ints; when called, for a ``dim`` that is not an int.
        IndexError: when called, if the input lacks the axis.
        RuntimeError: when called, if the product of the sizes is not the size of the axis.

    See `torch.nn.Unflatten <https://docs.pytorch.org/docs/stable/generated/torch.nn.Unflatten.html>`_.

    >>> Unflatten(1, (2, 5, -1))(jnp.ones((3, 50))).shape
    (3, 2, 5, 5)
    """

    _extra_repr = "dim={dim}, unflattened_size={unflattened_size}"

    def __init__(self, dim: int, unflattened_size: Sequence[int]):
        if not isinstance(unflattened_size, (tuple, list)):
            raise TypeError(f"Unflatten: unflattened_size must be a tuple or list of ints, got {unflattened_size!r}")
        for size in unflattened_size:
            if not isinstance(size, int):
                raise TypeError(f"Unflatten: unflattened_size must be ints, got {size!r} in {unflattened_size!r}")
        self.dim = dim
        self.unflattened_size = tuple(unflattened_size)

    def __call__(self, input: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """Return the input with the axis split."""
        input = jnp.asarray(input)
        if not isinstance(self.dim, int):
            raise TypeError(f"Unflatten: dim must be an int, got {self.dim!r}")
        if input.ndim == 0:
            raise RuntimeError(f"Unflatten: the input has no axes, got dim={self.dim}")
        if not -input.ndim <= self.dim < input.ndim:
            raise IndexError(
                f"Unflatten: expected a dim from {-input.ndim} to {input.ndim - 1} for an input of shape "
                f"{input.shape}, got {self.dim}"
            )
        dim = self.dim % input.ndim
        sizes = self.unflattened_size
        known = math.prod(size for size in sizes if size != -1)
        if sizes.count(-1) == 1 and known > 0:
            sizes = tuple(input.shape[dim] // known if size == -1 else size for size in sizes)
        if not sizes or min(sizes) < 0 or math.prod(sizes) != input.shape[dim]:
            raise RuntimeError(
                f"Unflatten: the product of the sizes {self.unflattened_size} must be the size of the axis {self.dim}, "
                f"got an input of shape {input.shape}"
            )
        return input.reshape(*input.shape[:dim], *sizes, *input.shape[dim + 1 :])
