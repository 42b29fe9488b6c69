"""Margin and hinge losses."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, Num

from flaxnets.nn import functional as F
from flaxnets.nn.losses._base import Loss, MarginLoss, WeightedLoss


class HingeEmbeddingLoss(MarginLoss):
    """Hinge embedding loss: the input where the target is 1, ``max(0, margin - input)`` where it is -1.

    Args:
        margin: input above which elements with target -1 have zero loss.
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.

    Raises:
        RuntimeError: when called, if the shapes do not broadcast.
        ValueError: when called, for an unknown reduction.

    See `torch.nn.HingeEmbeddingLoss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.HingeEmbeddingLoss.html>`_.

    >>> HingeEmbeddingLoss(reduction="none")(jnp.array([0.25, 0.25]), jnp.array([1.0, -1.0])).tolist()
    [0.25, 0.75]
    """

    def __init__(
        self,
        margin: float = 1.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ):
        super().__init__(margin, size_average, reduce, reduction)

    def __call__(self, input: Float[Array, "..."], target: Num[Array, "..."]) -> Float[Array, "..."]:
        """Return the loss of distances of any shape; targets are 1 or -1."""
        return F.hinge_embedding_loss(input, target, margin=self.margin, reduction=self.reduction)


class MarginRankingLoss(MarginLoss):
    """Margin ranking loss ``max(0, margin - target * (input1 - input2))``.

    Args:
        margin: amount by which the two inputs should differ.
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one loss per pair), ``"mean"`` or ``"sum"``.

    Raises:
        RuntimeError: when called, if the ranks differ, or the shapes do not broadcast.
        ValueError: when called, for an unknown reduction.

    See `torch.nn.MarginRankingLoss <https://docs.pytorch.org/docs/stable/generated/torch.nn.MarginRankingLoss.html>`_.

    >>> float(MarginRankingLoss()(jnp.array([1.0]), jnp.array([3.0]), jnp.array([1.0])))
    2.0
    """

    def __call__(
        self, input1: Float[Array, "..."], input2: Float[Array, "..."], target: Num[Array, "..."]
    ) -> Float[Array, "..."]:
        """Return the loss of scores of any shape; targets are 1 where ``input1`` should be larger, else -1."""
        return F.margin_ranking_loss(input1, input2, target, margin=self.margin, reduction=self.reduction)


class MultiMarginLoss(WeightedLoss):
    """Multi-class margin loss: mean over the other classes of ``max(0, margin - input[target] + input[class])**p``.

    Buffers: ``weight (C,)``, if passed.

    Args:
        p: exponent, 1 or 2.
        margin: amount by which the target's score should exceed the others.
        weight: weight of each target class.
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one loss per example), ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: for another ``p``, or a weight of other than one axis; when called, for an unknown reduction.
        RuntimeError: when called, for incompatible shapes, or a known target that is out of range.

    See `torch.nn.MultiMarginLoss <https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiMarginLoss.html>`_.

    >>> float(MultiMarginLoss()(jnp.array([[1.0, 0.5]]), jnp.array([0])))
    0.25
    """

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        weight: ArrayLike | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ):
        super().__init__(weight, size_average, reduce, reduction)
        if p not in (1, 2):
            raise ValueError(f"MultiMarginLoss: p must be 1 or 2, got {p}")
        if weight is not None and jnp.ndim(weight) != 1:
            raise ValueError(f"MultiMarginLoss: weight must have one axis, got the shape {jnp.shape(weight)}")
        self.p = p
        self.margin = margin

    def __call__(self, input: Float[Array, "..."], target: Integer[Array, "..."]) -> Float[Array, "..."]:
        """Return the loss of scores ``(C)`` or ``(N, C)`` for targets ``()`` or ``(N)``."""
        return F.multi_margin_loss(
            input, target, p=self.p, margin=self.margin, weight=self._weight(), reduction=self.reduction
        )


class MultiLabelMarginLoss(Loss):
    """Multi-label margin loss: sum of ``max(0, 1 - input[label] + input[other])``, divided by ``C``.

    The sum is over all labels and all classes that are not labels.

    Args:
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one loss per example), ``"mean"`` or ``"sum"``.

    Raises:
        RuntimeError: when called, for incompatible shapes, or a known target that is neither a class nor -1.
        ValueError: when called, for an unknown reduction.

    See `torch.nn.MultiLabelMarginLoss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiLabelMarginLoss.html>`_.

    >>> float(MultiLabelMarginLoss()(jnp.array([0.5, 0.0]), jnp.array([0, -1])))
    0.25
    """

    def __call__(self, input: Float[Array, "..."], target: Integer[Array, "..."]) -> Float[Array, "..."]:
        """Return the loss of scores ``(C)`` or ``(N, C)``; labels have the same shape and end at the first -1."""
        return F.multilabel_margin_loss(input, target, reduction=self.reduction)
