"""Losses of embeddings: cosine and triplet losses."""

from collections.abc import Callable

import jax
import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Float, Num

from flaxnets.nn import functional as F
from flaxnets.nn.distance import PairwiseDistance
from flaxnets.nn.losses._base import Loss, MarginLoss


class CosineEmbeddingLoss(MarginLoss):
    """Cosine embedding loss: ``1 - cos`` where the target is 1, ``max(0, cos - margin)`` where it is -1.

    Args:
        margin: cosine up to which pairs with target -1 have zero loss.
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one loss per pair), ``"mean"`` or ``"sum"``.

    Raises:
        RuntimeError: when called, for incompatible shapes.
        ValueError: when called, for an unknown reduction.

    See `torch.nn.CosineEmbeddingLoss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.CosineEmbeddingLoss.html>`_.

    >>> float(CosineEmbeddingLoss()(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]]), jnp.array([1])))
    1.0
    """

    def __call__(
        self, input1: Float[Array, "..."], input2: Float[Array, "..."], target: Num[Array, "..."]
    ) -> Float[Array, "..."]:
        """Return the loss of vectors ``(N, D)`` or ``(D)``; targets ``(N)`` or ``()`` are 1 or -1."""
        return F.cosine_embedding_loss(input1, input2, target, margin=self.margin, reduction=self.reduction)


class TripletMarginLoss(Loss):
    """Triplet loss ``max(0, margin + |anchor - positive| - |anchor - negative|)``.

    Args:
        margin: distance by which the negative should be farther away than the positive.
        p: exponent of the norm.
        eps: added to each element of the differences.
        swap: whether to use the distance of positive and negative if smaller than that of anchor and negative.
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one loss per triplet), ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: if the margin is not positive; when called, for an unknown reduction.
        RuntimeError: when called, if the ranks differ, or the shapes do not broadcast.

    See `torch.nn.TripletMarginLoss <https://docs.pytorch.org/docs/stable/generated/torch.nn.TripletMarginLoss.html>`_
    and "Learning local feature descriptors with triplets and shallow convolutional neural networks" (Balntas et al.,
    2016).

    >>> float(TripletMarginLoss()(jnp.zeros((1, 2)), jnp.zeros((1, 2)), jnp.full((1, 2), 9.0)))
    0.0
    """

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ):
        super().__init__(size_average, reduce, reduction)
        _check_margin(margin, "TripletMarginLoss")
        self.margin = margin
        self.p = p
        self.eps = eps
        self.swap = swap

    def __call__(
        self, anchor: Float[Array, "..."], positive: Float[Array, "..."], negative: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """Return the loss of vectors ``(*, D)``."""
        return F.triplet_margin_loss(
            anchor,
            positive,
            negative,
            margin=self.margin,
            p=self.p,
            eps=self.eps,
            swap=self.swap,
            reduction=self.reduction,
        )


def _check_margin(margin: float, name: str) -> None:
    if margin <= 0:
        raise ValueError(f"{name}: margin must be greater than 0, got {margin}")


class TripletMarginWithDistanceLoss(Loss):
    """:class:`TripletMarginLoss` with an arbitrary distance.

    Args:
        distance_function: function or module of two arrays. Default: the Euclidean distance.
        margin: distance by which the negative should be farther away than the positive.
        swap: whether to use the distance of positive and negative if smaller than that of anchor and negative.
        reduction: ``"none"`` (one loss per triplet), ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: if the margin is not positive; when called, for an unknown reduction.
        RuntimeError: when called, if the ranks differ.

    See `torch.nn.TripletMarginWithDistanceLoss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.TripletMarginWithDistanceLoss.html>`_.

    >>> loss = TripletMarginWithDistanceLoss(distance_function=lambda a, b: jnp.abs(a - b).max(-1))
    >>> float(loss(jnp.zeros((1, 2)), jnp.ones((1, 2)), jnp.full((1, 2), 1.5)))
    0.5
    """

    def __init__(
        self,
        *,
        distance_function: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ):
        super().__init__(reduction=reduction)
        _check_margin(margin, "TripletMarginWithDistanceLoss")
        self.distance_function = PairwiseDistance() if distance_function is None else distance_function
        self.margin = margin
        self.swap = swap

    def __call__(
        self, anchor: Float[Array, "..."], positive: Float[Array, "..."], negative: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """Return the loss of inputs that ``distance_function`` accepts."""
        return F.triplet_margin_with_distance_loss(
            anchor,
            positive,
            negative,
            distance_function=self.distance_function,
            margin=self.margin,
            swap=self.swap,
            reduction=self.reduction,
        )
