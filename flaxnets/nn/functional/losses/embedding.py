"""Losses of embeddings: cosine and triplet losses."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from flaxnets.nn.functional.distance import pairwise_distance
from flaxnets.nn.functional.losses._shared import (
    EPSILON,
    at_least_zero,
    broadcast,
    check_reduction,
    current_reduction,
    legacy_reduction,
    reduced,
)

Distance = Callable[[jax.Array, jax.Array], jax.Array]


def cosine_embedding_loss(
    input1: Float[Array, "..."],
    input2: Float[Array, "..."],
    target: Num[Array, "..."],
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    """Cosine embedding loss: ``1 - cos`` where the target is 1, ``max(0, cos - margin)`` where it is -1.

    Args:
        input1: vectors ``(N, D)`` or ``(D)``.
        input2: vectors whose shape broadcasts with that of ``input1``.
        target: 1 or -1, ``(N)`` or ``()``.
        margin: cosine up to which pairs with target -1 have zero loss.
        size_average: deprecated, use ``reduction``.
        reduce: deprecated, use ``reduction``.
        reduction: ``"none"`` (one loss per pair), ``"mean"`` or ``"sum"``.

    Raises:
        RuntimeError: for incompatible shapes.
        ValueError: for an unknown reduction.

    See `torch.nn.functional.cosine_embedding_loss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cosine_embedding_loss.html>`_.

    >>> float(cosine_embedding_loss(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]), jnp.array(1)))
    1.0
    """
    name = "cosine_embedding_loss"
    input1, input2, target = jnp.asarray(input1), jnp.asarray(input2), jnp.asarray(target)
    reduction = legacy_reduction(size_average, reduce, reduction)
    axis = target.ndim
    if axis > 1 or not input1.ndim == input2.ndim == axis + 1:
        raise RuntimeError(
            f"{name}: expected inputs (N, D) and a target (N), or inputs (D) and a target (), got the shapes "
            f"{input1.shape}, {input2.shape} and {target.shape}"
        )
    a, b = broadcast(name, input1, input2)
    square1, square2 = (jnp.square(x).sum(axis) + EPSILON for x in (input1, input2))
    product, square1, square2, target = broadcast(name, (a * b).sum(axis), square1, square2, target)
    cosine = product / jnp.sqrt(square1 * square2)
    alike, unlike = 1 - cosine, at_least_zero(cosine - margin)
    return reduced(jnp.where(target == 1, alike, 0) + jnp.where(target == -1, unlike, 0), reduction, name)


def triplet_margin_loss(
    anchor: Float[Array, "..."],
    positive: Float[Array, "..."],
    negative: Float[Array, "..."],
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    """Triplet loss ``max(0, margin + |anchor - positive| - |anchor - negative|)``.

    Args:
        anchor: vectors ``(*, D)``.
        positive: vectors that should be near ``anchor``, of the same rank; the shapes broadcast.
        negative: vectors that should be farther away, of the same rank; the shapes broadcast.
        margin: distance by which the negative should be farther away than the positive.
        p: exponent of the norm.
        eps: added to each element of the differences.
        swap: whether to use the distance of positive and negative if smaller than that of anchor and negative.
        size_average: deprecated, use ``reduction``.
        reduce: deprecated, use ``reduction``.
        reduction: ``"none"`` (one loss per triplet), ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: if the margin is not positive, or for an unknown reduction.
        RuntimeError: if the ranks differ, or the shapes do not broadcast.

    See `torch.nn.functional.triplet_margin_loss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.triplet_margin_loss.html>`_ and "Learning local
    feature descriptors with triplets and shallow convolutional neural networks" (Balntas et al., 2016).

    >>> float(triplet_margin_loss(jnp.zeros((1, 2)), jnp.zeros((1, 2)), jnp.full((1, 2), 9.0)))
    0.0
    """
    reduction = current_reduction(legacy_reduction(size_average, reduce, reduction), "triplet_margin_loss")
    return _of_triplets(
        "triplet_margin_loss",
        (anchor, positive, negative),
        lambda a, b: pairwise_distance(a, b, p, eps),
        margin,
        swap,
        reduction,
    )


def triplet_margin_with_distance_loss(
    anchor: Float[Array, "..."],
    positive: Float[Array, "..."],
    negative: Float[Array, "..."],
    *,
    distance_function: Distance | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    """:func:`triplet_margin_loss` with an arbitrary distance.

    Args:
        anchor: array that ``distance_function`` accepts.
        positive: array that should be near ``anchor``, of the same rank.
        negative: array that should be farther away, of the same rank.
        distance_function: function of two arrays. Default: :func:`pairwise_distance`.
        margin: distance by which the negative should be farther away than the positive.
        swap: whether to use the distance of positive and negative if smaller than that of anchor and negative.
        reduction: ``"none"`` (one loss per triplet), ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: if the margin is not positive, or for an unknown reduction.
        RuntimeError: if the ranks differ.

    See `torch.nn.functional.triplet_margin_with_distance_loss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.triplet_margin_with_distance_loss.html>`_.

    >>> far = lambda a, b: jnp.abs(a - b).max(-1)
    >>> triplet = jnp.zeros((1, 2)), jnp.ones((1, 2)), jnp.full((1, 2), 1.5)
    >>> float(triplet_margin_with_distance_loss(*triplet, distance_function=far))
    0.5
    """
    name = "triplet_margin_with_distance_loss"
    check_reduction(reduction, name)
    distance = pairwise_distance if distance_function is None else distance_function
    return _of_triplets(name, (anchor, positive, negative), distance, margin, swap, reduction)


def _of_triplets(
    name: str,
    triplet: tuple[jax.Array, jax.Array, jax.Array],
    distance: Distance,
    margin: float,
    swap: bool,
    reduction: str,
) -> jax.Array:
    if margin <= 0:
        raise ValueError(f"{name}: margin must be greater than 0, got {margin}")
    anchor, positive, negative = map(jnp.asarray, triplet)
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(
            f"{name}: anchor, positive and negative must have the same number of axes, got the shapes {anchor.shape}, "
            f"{positive.shape} and {negative.shape}"
        )
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = jnp.minimum(*broadcast(name, far, distance(positive, negative)))
    near, far = broadcast(name, near, far)
    return reduced(at_least_zero(margin + near - far), reduction, name)
