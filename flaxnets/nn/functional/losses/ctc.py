"""Connectionist temporal classification."""

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
    """Take the negative log-probability of all alignments of the targets with the inputs.

    The gradient is torch's: that by the logits of which ``log_probs`` are the log-softmax.

    Args:
        log_probs: log-probabilities ``(T, N, C)`` or ``(T, C)``.
        targets: labels ``(N, S)``, or all examples' labels one after the other in one axis.
        input_lengths: how many steps of each example count; both lengths are arrays, or both tuples.
        target_lengths: how many labels of each example count.
        blank: the class that stands for no label.
        reduction: ``"none"`` for each example's loss, ``"sum"``, or ``"mean"`` of the losses over their targets'
            lengths.
        zero_infinity: whether an infinite loss, of a target too long for its input, and its gradient become zero.

    Raises:
        RuntimeError: if the shapes do not fit, a length is known to be out of range, or ``blank`` is no class.
        TypeError: if one of the lengths is an array, and the other is not.
        IndexError: if a label is known to be no class.
        ValueError: for an unknown reduction.
        NotImplementedError: in half precision, as in torch.

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
    """The lengths as an array of one axis, and of numpy where they are known."""
    arrays = isinstance(lengths, (jax.Array, np.ndarray))
    if arrays != isinstance(other, (jax.Array, np.ndarray)) or not (arrays or isinstance(lengths, Sequence)):
        raise TypeError(
            f"ctc_loss: input_lengths and target_lengths must both be arrays or both be tuples, got {type(lengths)} "
            f"as {name} and {type(other)}"
        )
    given = lengths if isinstance(lengths, (jax.Array, np.ndarray)) else np.asarray(lengths, np.int64)
    known = concrete(given)
    array = (given if known is None else known).reshape(-1)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise RuntimeError(f"ctc_loss: {name} must be integers, got {array.dtype}")
    if array.shape != scores.shape[1:2]:
        raise RuntimeError(f"ctc_loss: {name} must be {scores.shape[1]}, one an example, got {array.size}")
    if wrong := offenders(array, 0, np.inf if most is None else most):
        limit = "" if most is None else f", and at most {most}"
        raise RuntimeError(f"ctc_loss: {name} must not be negative{limit}, got {wrong}")
    return array


def _padded_labels(targets: jax.Array, counts: jax.Array | np.ndarray, shape: tuple[int, ...]) -> jax.Array:
    """The labels as ``(N, S)``; what is beyond an example's own is of no consequence."""
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
    """The log-probabilities of all beginnings that end at a step in a state, ``(T, N, S)``."""
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
    """Each example backwards along an axis, as far as its length; twice is the same again."""
    size = x.shape[axis]
    index = (lengths[:, None] - 1 - jnp.arange(size)[None]) % size
    kept = sorted((axis, batch_axis))
    index = index if kept[0] == batch_axis else index.T
    index = index.reshape([x.shape[i] if i in kept else 1 for i in range(x.ndim)])
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
    """Each class's probability at each step, less its share of the alignments."""
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
