"""Layers that compare vectors."""

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Float, Num

from flaxnets.nn import functional as F
from flaxnets.nn.module import Module


class CosineSimilarity(Module):
    """The cosine of the angle between vectors along ``dim`` of the shape that the inputs broadcast to.

    Args:
        dim: the axis of the vectors.
        eps: what stands for the length of shorter vectors.

    Raises:
        IndexError: when called, if the inputs have not the axis.
        RuntimeError: when called, for shapes that do not broadcast, or inputs not of floating-point numbers.

    See `torch.nn.CosineSimilarity <https://docs.pytorch.org/docs/stable/generated/torch.nn.CosineSimilarity.html>`_.

    >>> CosineSimilarity()(jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 1.0]]))
    Array([0.70710677], dtype=float32)
    """

    def __init__(self, dim: int = 1, eps: float = 1e-8):
        self.dim = dim
        self.eps = eps

    def __call__(self, x1: Num[Array, "..."], x2: Num[Array, "..."]) -> Float[Array, "..."]:
        """Compare the vectors pairwise."""
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """The norm of ``x1 - x2 + eps`` along the last axis of the shape that the inputs broadcast to.

    Args:
        p: of the norm.
        eps: added to each difference.
        keepdim: whether to keep the last axis, with one element.

    Raises:
        RuntimeError: when called, for shapes that do not broadcast, or a norm of no elements that is not there.

    See `torch.nn.PairwiseDistance <https://docs.pytorch.org/docs/stable/generated/torch.nn.PairwiseDistance.html>`_.

    >>> PairwiseDistance(eps=0.0)(jnp.array([[3.0, 4.0]]), jnp.zeros(2)).tolist()
    [5.0]
    """

    def __init__(self, p: float | int = 2.0, eps: float = 1e-6, keepdim: bool = False):
        self.norm = p
        self.eps = eps
        self.keepdim = keepdim

    def __call__(self, x1: Num[Array, "..."], x2: Num[Array, "..."]) -> Float[Array, "..."]:
        """Measure the pairs."""
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
