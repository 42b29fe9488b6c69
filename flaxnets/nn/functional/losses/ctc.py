"""Connectionist temporal classification (CTC) loss."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Num

from flaxnets.nn.functional.losses._shared import check_floating, concrete, current_reduction, offenders

Lengths = Integer[Array, "..."] | Sequence[int]


def ctc_loss(
    log_probs: Float[Array, "t *n c"],
    targets: Num[Array, "..."],
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Float[Array, "..."]:
    """Connectionist temporal classification (CTC): negative log-probability of all alignments of target and input.

    The gradient is torch's: the gradient with respect to the logits whose log-softmax is ``log_probs``.

    Args:
        log_probs: log-probabilities ``(T, N, C)`` or ``(T, C)``.
        targets: labels ``(N, S)``, or the concatenated labels of all examples in one axis.
        input_lengths: number of steps of each example. Both lengths must be arrays, or both tuples.
        target_lengths: number of labels of each example.
        blank: index of the blank class.
        reduction: ``"none"`` (one loss per example), ``"sum"``, or ``"mean"`` of the losses divided by the target
            lengths.
        zero_infinity: whether to replace infinite losses (targets too long for their inputs) and their gradients by 0.

    Raises:
        RuntimeError: for incompatible shapes, a known length that is out of range, or a ``blank`` that is out of range.
        TypeError: if one of the lengths is an array, and the other is not.
        IndexError: for a known label that is out of range.
        ValueError: for an unknown reduction.
        NotImplementedError: for half precision, as in torch.

    See `torch.nn.functional.ctc_loss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.ctc_loss.html>`_ and "Connectionist Temporal
    Classification: Labelling Unsegmented Sequence Data with Recurrent Neural Networks" (Graves et al., 2006).

    >>> log_probs = jnp.log(jnp.full((2, 1, 2), 0.5))
    >>> round(float(jnp.exp(-ctc_loss(log_probs, jnp.array([[1]]), (2,), (1,)))), 4)
    0.75
    """
    log_probs, targets = jnp.asarray(log_probs), jnp.asarray(targets)
    reduction = current_reduction(reduction, "ctc_loss")
    _check(log_probs, targets, blank)
    batched = log_probs.ndim == 3
    scores = log_probs if batched else log_probs[:, None]
    targets = targets[None] if not batched and targets.ndim == 1 else targets
    steps = _lengths(input_lengths, target_lengths, "input_lengths", scores, scores.shape[0])
    counts = _lengths(target_lengths, input_lengths, "target_lengths", scores, None)
    labels = _padded_labels(targets, counts, scores.shape)
    steps, counts = jnp.asarray(steps, int), jnp.asarray(counts, int)
    states = jnp.full((labels.shape[0], 2 * labels.shape[1] + 1), blank).at[:, 1::2].set(labels)
    losses = jnp.asarray(_negative_log_likelihood(scores, states, steps, counts, zero_infinity))
    if zero_infinity:
        losses = jnp.where(losses == jnp.inf, 0, losses)
    if reduction == "mean":
        return (losses / jnp.maximum(counts, 1).astype(losses.dtype)).mean()
    if reduction == "sum":
        return losses.sum()
    return losses if batched else losses[0]


def _check(log_probs: jax.Array, targets: jax.Array, blank: int) -> None:
    if log_probs.ndim not in (2, 3):
        raise RuntimeError(f"ctc_loss: expected log_probs of shape (T, N, C) or (T, C), got {log_probs.shape}")
    if log_probs.size == 0:
        raise RuntimeError(f"ctc_loss: log_probs must not be empty, got the shape {log_probs.shape}")
    check_floating("ctc_loss", log_probs)
    if log_probs.dtype not in (jnp.float32, jnp.float64):
        raise NotImplementedError(f"ctc_loss: expected log_probs in float32 or float64, got {log_probs.dtype}")
    if not 0 <= blank < log_probs.shape[-1]:
        raise RuntimeError(f"ctc_loss: blank must be a class, in [0, {log_probs.shape[-1]}), got {blank}")
    if targets.ndim not in (1, 2):
        raise RuntimeError(f"ctc_loss: expected targets of shape (N, S) or (sum of lengths), got {targets.shape}")


def _lengths(
    lengths: Lengths, other: Lengths, name: str, scores: jax.Array, most: int | None
) -> jax.Array | np.ndarray:
    """Return the lengths as an array of one axis; a numpy array if the values are known."""
    arrays = isinstance(lengths, (jax.Array, np.ndarray))
    if arrays != isinstance(other, (jax.Array, np.ndarray)) or not (arrays or isinstance(lengths, Sequence)):
        raise TypeError(
            f"ctc_loss: input_lengths and target_lengths must both be arrays or both be tuples, got {type(lengths)} "
            f"as {name} and {type(other)}"
        )
    values = lengths if isinstance(lengths, (jax.Array, np.ndarray)) else np.asarray(lengths, np.int64)
    known = concrete(values)
    array = (values if known is None else known).reshape(-1)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise RuntimeError(f"ctc_loss: {name} must be integers, got {array.dtype}")
    if array.shape != scores.shape[1:2]:
        raise RuntimeError(f"ctc_loss: expected {scores.shape[1]} {name}, one per example, got {array.size}")
    if wrong := offenders(array, 0, np.inf if most is None else most):
        limit = "" if most is None else f", and at most {most}"
        raise RuntimeError(f"ctc_loss: {name} must not be negative{limit}, got {wrong}")
    return array


def _padded_labels(targets: jax.Array, counts: jax.Array | np.ndarray, shape: tuple[int, ...]) -> jax.Array:
    """Return the labels as ``(N, S)``; elements beyond an example's length are arbitrary."""
    _, batch, classes = shape
    known = concrete(counts)
    if targets.ndim == 2:
        most = 0 if known is None else known.max(initial=0)
        if targets.shape[0] != batch or targets.shape[1] < most:
            raise RuntimeError(
                f"ctc_loss: expected targets of at least the shape ({batch}, {most}), got {targets.shape}"
            )
        labels = targets
    else:
        if known is not None and targets.size != known.sum():
            raise RuntimeError(f"ctc_loss: expected {known.sum()} targets in one axis, got {targets.size}")
        width = targets.size if known is None else known.max(initial=0)
        starts = jnp.cumsum(jnp.asarray(counts)) - jnp.asarray(counts)
        index = starts[:, None] + jnp.arange(width)[None]
        labels = jnp.take(targets, index, mode="clip") if width else jnp.zeros((batch, 0), int)
    values = concrete(labels)
    if known is not None and values is not None:
        used = values[np.arange(labels.shape[1])[None] < known[:, None]]
        if wrong := offenders(used, 0, classes - 1):
            raise IndexError(f"ctc_loss: targets must be in [0, {classes}), got {wrong}")
    return labels.astype(int)


def _logsumexp(terms: list[jax.Array]) -> jax.Array:
    top = functools.reduce(jnp.maximum, terms)
    top = jnp.where(top == -jnp.inf, 0, top)
    return jnp.log(sum(jnp.exp(term - top) for term in terms)) + top


def _forward(emissions: jax.Array, states: jax.Array) -> jax.Array:
    """Return the log-probabilities of all prefixes that end at each step in each state, ``(T, N, S)``."""
    nothing = jnp.full(emissions.shape[1:], -jnp.inf, emissions.dtype)
    may_skip = jnp.pad(states[:, 2:] != states[:, :-2], ((0, 0), (min(2, states.shape[1]), 0)))

    def shifted(alpha: jax.Array, by: int) -> jax.Array:
        return jnp.concatenate([nothing[:, :by], alpha[:, : max(alpha.shape[1] - by, 0)]], 1)

    def step(alpha: jax.Array, emission: jax.Array) -> tuple[jax.Array, jax.Array]:
        skipped = jnp.where(may_skip, shifted(alpha, 2), -jnp.inf)
        alpha = _logsumexp([alpha, shifted(alpha, 1), skipped]) + emission
        return alpha, alpha

    first = nothing.at[:, :2].set(emissions[0, :, :2])
    return jnp.concatenate([first[None], jax.lax.scan(step, first, emissions[1:])[1]])


def _flipped(x: jax.Array, lengths: jax.Array, axis: int, batch_axis: int) -> jax.Array:
    """Reverse each example along an axis up to its length; applying this twice restores the array."""
    size = x.shape[axis]
    index = (lengths[:, None] - 1 - jnp.arange(size)[None]) % size
    kept_axes = sorted((axis, batch_axis))
    index = index if kept_axes[0] == batch_axis else index.T
    index = index.reshape([x.shape[i] if i in kept_axes else 1 for i in range(x.ndim)])
    return jnp.take_along_axis(x, index, axis)


def _emissions(log_probs: jax.Array, states: jax.Array) -> jax.Array:
    return jnp.take_along_axis(log_probs, states[None], 2)


def _loss_of(alpha: jax.Array, steps: jax.Array, counts: jax.Array) -> jax.Array:
    batch = jnp.arange(alpha.shape[1])
    ends = alpha[jnp.maximum(steps - 1, 0), batch]
    last = ends[batch, 2 * counts]
    before = jnp.where(counts > 0, ends[batch, jnp.maximum(2 * counts - 1, 0)], -jnp.inf)
    without_steps = jnp.where(counts == 0, 0.0, jnp.inf).astype(alpha.dtype)
    return jnp.where(steps == 0, without_steps, -_logsumexp([last, before]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _negative_log_likelihood(
    log_probs: jax.Array, states: jax.Array, steps: jax.Array, counts: jax.Array, zero_infinity: bool
) -> jax.Array:
    return _loss_of(_forward(_emissions(log_probs, states), states), steps, counts)


def _save(log_probs: jax.Array, states: jax.Array, steps: jax.Array, counts: jax.Array, zero_infinity: bool):
    alpha = _forward(_emissions(log_probs, states), states)
    loss = _loss_of(alpha, steps, counts)
    return loss, (log_probs, states, steps, counts, alpha, loss)


def _gradient(zero_infinity: bool, saved: tuple, cotangent: jax.Array) -> tuple:
    """Gradient: each class's probability at each step, minus its share of the alignments."""
    log_probs, states, steps, counts, alpha, loss = saved
    emissions = _emissions(log_probs, states)
    lengths = 2 * counts + 1
    backwards = _flipped(_flipped(emissions, lengths, 2, 1), steps, 0, 1)
    beta = _forward(backwards, _flipped(states, lengths, 1, 0))
    beta = _flipped(_flipped(beta, steps, 0, 1), lengths, 2, 1)
    share = jnp.exp(alpha + beta + loss[None, :, None] - emissions)
    share = jnp.where((jnp.arange(states.shape[1])[None] < lengths[:, None])[None], share, 0)
    batch = jnp.arange(states.shape[0])[:, None]
    shares = jnp.zeros_like(log_probs).at[:, batch, states].add(share)
    undefined = (log_probs == -jnp.inf) | (loss == jnp.inf)[None, :, None]
    gradient = (jnp.exp(log_probs) - jnp.where(undefined, jnp.nan, shares)) * cotangent[None, :, None]
    counted = (jnp.arange(log_probs.shape[0])[:, None] < steps[None])[..., None]
    if zero_infinity:
        counted = counted & (loss != jnp.inf)[None, :, None]
    return jnp.where(counted, gradient, 0), None, None, None


_negative_log_likelihood.defvjp(_save, _gradient)
