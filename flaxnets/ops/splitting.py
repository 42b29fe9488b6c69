"""Splitting along an axis."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from flaxnets.ops._axes import resolve


def split(tensor: jax.Array, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[jax.Array, ...]:
    """Split into parts of one size, with a smaller last part, or into parts of explicit sizes.

    Raises:
        RuntimeError: for a size that is not positive, or sizes that do not sum to the axis.

    See `torch.split <https://docs.pytorch.org/docs/stable/generated/torch.split.html>`_.

    >>> [part.tolist() for part in split(jnp.arange(5), 2)]
    [[0, 1], [2, 3], [4]]
    """
    axis = resolve(dim, tensor.ndim, "split")
    size, sections = tensor.shape[axis], split_size_or_sections
    if isinstance(sections, Sequence):
        if sum(sections) != size or min(sections, default=0) < 0:
            raise RuntimeError(f"split: got sizes {list(sections)}. Expected a sum of {size}, the size of axis {dim}")
        stops = np.cumsum(sections)[:-1].tolist()
    elif sections > 0:
        stops = [*range(sections, size, sections)]
    elif sections == 0 == size:
        stops = []
    else:
        raise RuntimeError(f"split: got {split_size_or_sections}. Expected a positive size")
    return tuple(jnp.split(tensor, stops, axis=axis)) if not isinstance(sections, Sequence) or sections else ()


def chunk(input: jax.Array, chunks: int, dim: int = 0) -> tuple[jax.Array, ...]:
    """Split into at most ``chunks`` parts of equal size, with a smaller last part.

    Raises:
        RuntimeError: for fewer than one part.

    See `torch.chunk <https://docs.pytorch.org/docs/stable/generated/torch.chunk.html>`_.

    >>> [part.shape for part in chunk(jnp.ones((5, 2)), 3)]
    [(2, 2), (2, 2), (1, 2)]
    """
    if chunks < 1:
        raise RuntimeError(f"chunk: got {chunks=}. Expected at least 1")
    size = input.shape[resolve(dim, input.ndim, "chunk")]
    return split(input, [0] * chunks if size == 0 else -(-size // chunks), dim)
