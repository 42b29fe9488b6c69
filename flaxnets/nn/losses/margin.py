"""Losses of scores that should differ by a margin."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, Num

from flaxnets.nn import functional as F
from flaxnets.nn.losses._base import Loss, MarginLoss, WeightedLoss


class HingeEmbeddingLoss(MarginLoss):
    """The input where the target is 1, and what it lacks to the margin where the target is -1.

    Args:
        margin: what distances with target -1 should have.
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.

    Raises:
        RuntimeError: when called, if the shapes do not broadcast.
        ValueError: when called, if there is no such reduction.

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
        """Take distances of any shape."""
        return F.hinge_embedding_loss(input, target, margin=self.margin, reduction=self.reduction)


class MarginRankingLoss(MarginLoss):
    """The loss ``max(0, margin - target * (input1 - input2))``.

    Args:
        margin: by how much the two should differ.
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one loss per pair), ``"mean"`` or ``"sum"``.

    Raises:
        RuntimeError: when called, if the numbers of axes differ, or the shapes do not broadcast.
        ValueError: when called, if there is no such reduction.

    See `torch.nn.MarginRankingLoss <https://docs.pytorch.org/docs/stable/generated/torch.nn.MarginRankingLoss.html>`_.

    >>> float(MarginRankingLoss()(jnp.array([1.0]), jnp.array([3.0]), jnp.array([1.0])))
    2.0
    """

    def __call__(
        self, input1: Float[Array, "..."], input2: Float[Array, "..."], target: Num[Array, "..."]
    ) -> Float[Array, "..."]:
        """Take scores of any shape, and targets that are 1 where the first should be larger, else -1."""
        return F.margin_ranking_loss(input1, input2, target, margin=self.margin, reduction=self.reduction)


class MultiMarginLoss(WeightedLoss):
    """The mean over the classes of ``max(0, margin - input[target] + input[class])**p``, the target left out.

    Buffers: ``weight (C,)``, if given.

    Args:
        p: 1 or 2.
        margin: by how much the target's score should exceed the others.
        weight: of each class as a target.
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one loss per example), ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: for another ``p``, or a weight that has not one axis; when called, if there is no such reduction.
        RuntimeError: when called, if the shapes do not fit, or a target is known to be no class.

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
        """Take scores ``(C)`` or ``(N, C)``, and targets ``()`` or ``(N)``."""
        return F.multi_margin_loss(
            input, target, p=self.p, margin=self.margin, weight=self._weight(), reduction=self.reduction
        )


class MultiLabelMarginLoss(Loss):
    """The sum of ``max(0, 1 - input[label] + input[other])`` over all labels and all classes that are none, over ``C``.

    Args:
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one loss per example), ``"mean"`` or ``"sum"``.

    Raises:
        RuntimeError: when called, if the shapes do not fit, or a target is known to be neither class nor -1.
        ValueError: when called, if there is no such reduction.

    See `torch.nn.MultiLabelMarginLoss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiLabelMarginLoss.html>`_.

    >>> float(MultiLabelMarginLoss()(jnp.array([0.5, 0.0]), jnp.array([0, -1])))
    0.25
    """

    def __call__(self, input: Float[Array, "..."], target: Integer[Array, "..."]) -> Float[Array, "..."]:
        """Take scores ``(C)`` or ``(N, C)``, and labels of that shape; those from the first -1 on do not count."""
        return F.multilabel_margin_loss(input, target, reduction=self.reduction)
