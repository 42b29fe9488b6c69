"""Margin and hinge losses."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Num

from flaxnets.nn.functional.losses._shared import (
    at_least_zero,
    broadcast,
    check_integer,
    legacy_reduction,
    offenders,
    reduced,
)


def hinge_embedding_loss(
    input: Float[Array, "..."],
    target: Num[Array, "..."],
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    """Hinge embedding loss: the input where the target is 1, ``max(0, margin - input)`` where it is -1.

    Args:
        input: distances, of any shape.
        target: 1 or -1; broadcasts with the input.
        margin: input above which elements with target -1 have zero loss.
        size_average: deprecated, use ``reduction``.
        reduce: deprecated, use ``reduction``.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.

    Raises:
        RuntimeError: if the shapes do not broadcast.
        ValueError: for an unknown reduction.

    See `torch.nn.functional.hinge_embedding_loss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.hinge_embedding_loss.html>`_.

    >>> hinge_embedding_loss(jnp.array([0.25, 0.25]), jnp.array([1.0, -1.0]), reduction="none").tolist()
    [0.25, 0.75]
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    input, target = broadcast("hinge_embedding_loss", input, target)
    apart = jnp.where(target != 1, at_least_zero((margin - input).astype(input.dtype)), 0)
    return reduced(apart + jnp.where(target != -1, input, 0), reduction, "hinge_embedding_loss")


def margin_ranking_loss(
    input1: Float[Array, "..."],
    input2: Float[Array, "..."],
    target: Num[Array, "..."],
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    """Margin ranking loss ``max(0, margin - target * (input1 - input2))``.

    Args:
        input1: scores, of any shape.
        input2: scores, of the same rank.
        target: 1 where ``input1`` should be larger, -1 where ``input2`` should be larger; of the same rank.
        margin: amount by which the two inputs should differ.
        size_average: deprecated, use ``reduction``.
        reduce: deprecated, use ``reduction``.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.

    Raises:
        RuntimeError: if the ranks differ, or the shapes do not broadcast.
        ValueError: for an unknown reduction.

    See `torch.nn.functional.margin_ranking_loss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.margin_ranking_loss.html>`_.

    >>> float(margin_ranking_loss(jnp.array([1.0]), jnp.array([3.0]), jnp.array([1.0])))
    2.0
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    if not jnp.ndim(input1) == jnp.ndim(input2) == jnp.ndim(target):
        raise RuntimeError(
            "margin_ranking_loss: input1, input2 and target must have the same number of axes, got the shapes "
            f"{jnp.shape(input1)}, {jnp.shape(input2)} and {jnp.shape(target)}"
        )
    input1, input2, target = broadcast("margin_ranking_loss", input1, input2, target)
    return reduced(at_least_zero(-target * (input1 - input2) + margin), reduction, "margin_ranking_loss")


def multi_margin_loss(
    input: Float[Array, "..."],
    target: Integer[Array, "..."],
    p: int = 1,
    margin: float = 1.0,
    weight: Float[Array, " classes"] | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    """Multi-class margin loss: mean over the other classes of ``max(0, margin - input[target] + input[class])**p``.

    Args:
        input: scores ``(C)`` or ``(N, C)``.
        target: class indices ``()`` or ``(N)``.
        p: exponent, 1 or 2.
        margin: amount by which the target's score should exceed the others.
        weight: weight of each target class.
        size_average: deprecated, use ``reduction``.
        reduce: deprecated, use ``reduction``.
        reduction: ``"none"`` (one loss per target), ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: for another ``p``, a weight of other than one axis, or an unknown reduction.
        RuntimeError: for incompatible shapes, or a known target that is out of range. Unknown targets out of range
            (under jit) give NaN.

    See `torch.nn.functional.multi_margin_loss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.multi_margin_loss.html>`_.

    >>> float(multi_margin_loss(jnp.array([[1.0, 0.5]]), jnp.array([0])))
    0.25
    """
    input, target = jnp.asarray(input), jnp.asarray(target)
    reduction = legacy_reduction(size_average, reduce, reduction)
    if p not in (1, 2):
        raise ValueError(f"multi_margin_loss: p must be 1 or 2, got {p}")
    if weight is not None and jnp.ndim(weight) != 1:
        raise ValueError(f"multi_margin_loss: weight must have one axis, got the shape {jnp.shape(weight)}")
    scores = _as_matrix(input, "multi_margin_loss")
    count, classes = scores.shape
    if target.ndim > 1 or target.size != count:
        raise RuntimeError(
            f"multi_margin_loss: expected a target of shape ({count},) for an input of shape {input.shape}, got "
            f"{target.shape}"
        )
    check_integer("multi_margin_loss", target)
    if weight is not None and weight.shape != (classes,):
        raise RuntimeError(f"multi_margin_loss: weight must have the shape ({classes},), got {weight.shape}")
    if wrong := offenders(target, 0, classes - 1):
        raise RuntimeError(f"multi_margin_loss: targets must be in [0, {classes}), got {wrong}")
    index = target.reshape(count, 1)
    gap = margin - jnp.take_along_axis(scores, index, 1) + scores
    gap = jnp.where((jnp.arange(classes)[None] != index) & (gap > 0), gap, 0)
    terms = gap if p == 1 else gap * gap
    if weight is not None:
        terms = terms * weight[index]
    losses = jnp.where(_known(index, 0, classes), terms.sum(1) / classes, jnp.nan)
    return reduced(losses.reshape(target.shape), reduction, "multi_margin_loss")


def _as_matrix(input: jax.Array, name: str) -> jax.Array:
    """Return the scores as ``(N, C)``."""
    if input.ndim > 2 or 0 in input.shape[-1:]:
        raise RuntimeError(f"{name}: expected an input of shape (C) or (N, C), with C not 0, got {input.shape}")
    return input if input.ndim == 2 else input.reshape(1, -1)


def _known(labels: jax.Array, low: int, classes: int) -> jax.Array:
    """Return whether all labels of each row are in range, for labels whose values are unknown at trace time."""
    return ((labels >= low) & (labels < classes)).all(1)


def multilabel_margin_loss(
    input: Float[Array, "..."],
    target: Integer[Array, "..."],
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    """Multi-label margin loss: sum of ``max(0, 1 - input[label] + input[other])``, divided by ``C``.

    The sum is over all labels and all classes that are not labels.

    Args:
        input: scores ``(C)`` or ``(N, C)``.
        target: each example's labels, in the input's shape. Labels end at the first -1.
        size_average: deprecated, use ``reduction``.
        reduce: deprecated, use ``reduction``.
        reduction: ``"none"`` (one loss per example), ``"mean"`` or ``"sum"``.

    Raises:
        RuntimeError: for incompatible shapes, or a known target that is neither a class nor -1.
        ValueError: for an unknown reduction.

    See `torch.nn.functional.multilabel_margin_loss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.multilabel_margin_loss.html>`_.

    >>> float(multilabel_margin_loss(jnp.array([0.5, 0.0]), jnp.array([0, -1])))
    0.25
    """
    input, target = jnp.asarray(input), jnp.asarray(target)
    reduction = legacy_reduction(size_average, reduce, reduction)
    scores = _as_matrix(input, "multilabel_margin_loss")
    fits = target.shape == input.shape if input.ndim == 2 else target.ndim <= 1 and target.size == scores.size
    if not fits:
        raise RuntimeError(
            f"multilabel_margin_loss: expected a target of the input's shape {input.shape}, got {target.shape}"
        )
    check_integer("multilabel_margin_loss", target)
    classes = scores.shape[1]
    if wrong := offenders(target, -1, classes - 1):
        raise RuntimeError(f"multilabel_margin_loss: targets must be in [-1, {classes}), got {wrong}")
    labels = target.reshape(scores.shape)
    known = _known(labels, -1, classes)
    counts = jnp.cumprod(labels >= 0, axis=1).astype(bool)
    labels = jnp.where(counts, labels, 0)
    is_label = ((labels[:, :, None] == jnp.arange(classes)[None, None]) & counts[:, :, None]).any(1)
    gap = 1 - jnp.take_along_axis(scores, labels, 1)[:, :, None] + scores[:, None, :]
    positive = counts[:, :, None] & ~is_label[:, None, :] & (gap > 0)
    losses = jnp.where(known, jnp.where(positive, gap, 0).sum((1, 2)) / classes, jnp.nan)
    return reduced(losses.reshape(input.shape[:-1]), reduction, "multilabel_margin_loss")
