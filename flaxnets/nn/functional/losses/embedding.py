"""Losses of embeddings, that should be near or far."""

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
    """Take 1 less the cosine where the target is 1, and the cosine's excess over the margin where it is -1.

    Args:
        input1: vectors ``(N, D)`` or ``(D)``.
        input2: vectors of the same shape, or one that broadcasts with it.
        target: 1 or -1, ``(N)`` or ``()``.
        margin: what the cosine of vectors with target -1 may have.
        size_average: deprecated, use ``reduction``.
        reduce: deprecated, use ``reduction``.
        reduction: ``"none"`` (one loss per pair), ``"mean"`` or ``"sum"``.

    Raises:
        RuntimeError: if the shapes do not fit.
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
    """Take ``max(0, margin + |anchor - positive| - |anchor - negative|)``.

    Args:
        anchor: vectors ``(*, D)``.
        positive: what should be near, of the same shape, or one of as many axes that broadcasts with it.
        negative: what should be farther, as ``positive``.
        margin: by how much.
        p: of the norm.
        eps: added to each difference's elements.
        swap: whether to take the distance of positive and negative if that is the smaller one.
        size_average: deprecated, use ``reduction``.
        reduce: deprecated, use ``reduction``.
        reduction: ``"none"`` (one loss per triplet), ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: if the margin is not positive, or for an unknown reduction.
        RuntimeError: if the numbers of axes differ, or the shapes do not broadcast.

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
    """Take :func:`triplet_margin_loss` with any distance.

    Args:
        anchor: of any shape that the distance takes.
        positive: what should be near, of as many axes.
        negative: what should be farther, of as many axes.
        distance_function: of two arrays; :func:`pairwise_distance` if not given.
        margin: by how much.
        swap: whether to take the distance of positive and negative if that is the smaller one.
        reduction: ``"none"`` (one loss per triplet), ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: if the margin is not positive, or for an unknown reduction.
        RuntimeError: if the numbers of axes differ.

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
