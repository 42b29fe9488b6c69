"""Losses for binary and multi-label classification."""

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num

from flaxnets.nn import functional as F
from flaxnets.nn.losses._base import Loss, WeightedLoss, optional_array, value
from flaxnets.nn.module import Buffer


class BCELoss(WeightedLoss):
    """Binary cross entropy of probabilities; logarithms are clamped to at least -100.

    Buffers: ``weight``, if passed.

    Args:
        weight: weight of each element; broadcasts to the input.
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: when called, if input and target differ in shape, or for an unknown reduction.
        RuntimeError: when called, if the weight does not broadcast, the dtypes differ, or a known input value is not in
            ``[0, 1]``.

    See `torch.nn.BCELoss <https://docs.pytorch.org/docs/stable/generated/torch.nn.BCELoss.html>`_.

    >>> round(float(BCELoss()(jnp.array([0.5]), jnp.array([1.0]))), 4)
    0.6931
    """

    def __call__(self, input: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the loss of probabilities of any shape."""
        return F.binary_cross_entropy(input, target, self._weight(), reduction=self.reduction)


class BCEWithLogitsLoss(WeightedLoss):
    """Binary cross entropy of logits, numerically stable: :class:`BCELoss` of the input's sigmoid.

    Buffers: ``weight`` and ``pos_weight``, if passed.

    Args:
        weight: weight of each element; broadcasts to the input.
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.
        pos_weight: weight of the positive part of each element's loss; broadcasts to the input.

    Raises:
        ValueError: when called, if input and target differ in shape, or for an unknown reduction.
        RuntimeError: when called, if a weight does not broadcast.

    See `torch.nn.BCEWithLogitsLoss <https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html>`_.

    >>> round(float(BCEWithLogitsLoss()(jnp.zeros(2), jnp.ones(2))), 4)
    0.6931
    """

    pos_weight: Buffer | None

    def __init__(
        self,
        weight: ArrayLike | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: ArrayLike | None = None,
    ):
        super().__init__(weight, size_average, reduce, reduction)
        self.register_buffer("pos_weight", optional_array(pos_weight))

    def __call__(self, input: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the loss of logits against target probabilities of the same shape."""
        return F.binary_cross_entropy_with_logits(
            input, target, self._weight(), pos_weight=value(self.pos_weight), reduction=self.reduction
        )


class SoftMarginLoss(Loss):
    """Soft margin loss ``log(1 + exp(-target * input))``; as in torch, large negative products overflow.

    Args:
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.

    Raises:
        RuntimeError: when called, if the target does not broadcast to the input's shape.
        ValueError: when called, for an unknown reduction.

    See `torch.nn.SoftMarginLoss <https://docs.pytorch.org/docs/stable/generated/torch.nn.SoftMarginLoss.html>`_.

    >>> round(float(SoftMarginLoss()(jnp.zeros(2), jnp.ones(2))), 4)
    0.6931
    """

    def __call__(self, input: Float[Array, "..."], target: Num[Array, "..."]) -> Float[Array, "..."]:
        """Return the loss of scores of any shape; targets are 1 or -1."""
        return F.soft_margin_loss(input, target, reduction=self.reduction)


class MultiLabelSoftMarginLoss(WeightedLoss):
    """Multi-label loss: binary cross entropy of logits, averaged over the classes.

    Buffers: ``weight (C,)``, if passed.

    Args:
        weight: weight of each class.
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one loss per example), ``"mean"`` or ``"sum"``.

    Raises:
        RuntimeError: when called, if the shapes do not broadcast.
        ValueError: when called, for an unknown reduction.

    See `torch.nn.MultiLabelSoftMarginLoss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiLabelSoftMarginLoss.html>`_.

    >>> round(float(MultiLabelSoftMarginLoss()(jnp.zeros((1, 2)), jnp.ones((1, 2)))), 4)
    0.6931
    """

    def __call__(self, input: Float[Array, "..."], target: Num[Array, "..."]) -> Float[Array, "..."]:
        """Return the loss of logits ``(*, C)``; targets have the same shape and are 0 or 1."""
        return F.multilabel_soft_margin_loss(input, target, self._weight(), reduction=self.reduction)
