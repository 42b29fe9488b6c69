"""Cosine similarity and pairwise distance layers."""

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Float, Num

from flaxnets.nn import functional as F
from flaxnets.nn.module import Module


class CosineSimilarity(Module):
    """Cosine similarity along ``dim`` of the inputs, which broadcast.

    Args:
        dim: the axis of the vectors.
        eps: smallest length; shorter vectors count as this long.

    Raises:
        IndexError: when called, if the inputs lack the axis.
        RuntimeError: when called, for shapes that do not broadcast, or non-floating-point inputs.

    See `torch.nn.CosineSimilarity <https://docs.pytorch.org/docs/stable/generated/torch.nn.CosineSimilarity.html>`_.

    >>> CosineSimilarity()(jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 1.0]]))
    Array([0.70710677], dtype=float32)
    """

    def __init__(self, dim: int = 1, eps: float = 1e-8):
        self.dim = dim
        self.eps = eps

    def __call__(self, x1: Num[Array, "..."], x2: Num[Array, "..."]) -> Float[Array, "..."]:
        """Return the similarity of each pair of vectors."""
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """Pairwise distance: the norm of ``x1 - x2 + eps`` along the last axis of the inputs, which broadcast.

    Args:
        p: exponent of the norm.
        eps: added to each difference.
        keepdim: whether to keep the last axis, with one element.

    Raises:
        RuntimeError: when called, for shapes that do not broadcast, or an undefined norm of zero elements.

    See `torch.nn.PairwiseDistance <https://docs.pytorch.org/docs/stable/generated/torch.nn.PairwiseDistance.html>`_.

    >>> PairwiseDistance(eps=0.0)(jnp.array([[3.0, 4.0]]), jnp.zeros(2)).tolist()
    [5.0]
    """

    def __init__(self, p: float | int = 2.0, eps: float = 1e-6, keepdim: bool = False):
        self.norm = p
        self.eps = eps
        self.keepdim = keepdim

    def __call__(self, x1: Num[Array, "..."], x2: Num[Array, "..."]) -> Float[Array, "..."]:
        """Return the distance of each pair of vectors."""
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
