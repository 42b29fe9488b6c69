"""Adaptive softmax: a softmax over many classes, most of which are rare."""

import itertools
import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from flaxnets.nn import functional as F
from flaxnets.nn._arguments import check_ndim
from flaxnets.nn.containers import ModuleList, Sequential
from flaxnets.nn.linear import Linear
from flaxnets.nn.module import Module


class TargetLogProbability(NamedTuple):
    """Output of :class:`AdaptiveLogSoftmaxWithLoss`: each target's log-probability, and their negated mean."""

    output: jax.Array
    loss: jax.Array


class AdaptiveLogSoftmaxWithLoss(Module):
    """Adaptive softmax loss: log-probabilities of targets, with rare classes in clusters.

    The head computes the log-probabilities of the frequent classes and of each cluster. The projection of a cluster
    computes the log-probabilities within the cluster; the rarer the classes, the smaller the projection. Parameters:
    ``head.weight``, ``head.bias`` if ``head_bias``, and ``tail.i.0.weight``, ``tail.i.1.weight`` for each cluster
    ``i``. In JAX, shapes must not depend on targets, so every cluster is computed for every example. The result is
    torch's; only parameters are saved, not time.

    Args:
        in_features: size of the input's last axis.
        n_classes: the number of classes.
        cutoffs: the first class of each cluster, in increasing order.
        div_value: factor by which the number of features shrinks from one cluster's projection to the next.
        head_bias: whether the head has a bias.
        dtype: parameter dtype. Default: float32.
        rngs: random number generators for the initial weights.

    Raises:
        ValueError: for cutoffs that are empty, not in increasing order, or not between 1 and ``n_classes - 1``.
        TypeError: for cutoffs that are not integers.
        ZeroDivisionError: if ``div_value`` is 0.
        RuntimeError: for a negative size; when called, for incompatible shapes and dtypes, and for targets out of
            range. Where values are unknown, as under ``jax.jit``, targets out of range give NaN.

    See "Efficient softmax approximation for GPUs" (arXiv:1609.04309) and `torch.nn.AdaptiveLogSoftmaxWithLoss
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveLogSoftmaxWithLoss.html>`_.

    >>> layer = AdaptiveLogSoftmaxWithLoss(8, 10, cutoffs=[3, 6], rngs=nnx.Rngs(0))
    >>> output, loss = layer(jnp.ones((2, 8)), jnp.array([1, 7]))
    >>> output.shape, loss.shape, layer.log_prob(jnp.ones((2, 8))).shape
    ((2,), (), (2, 10))
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        dtype: DTypeLike = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ):
        self.in_features = in_features
        self.n_classes = n_classes
        self.cutoffs = (*_checked_cutoffs(cutoffs, n_classes), n_classes)
        self.div_value = div_value
        self.head_bias = head_bias
        self.shortlist_size = self.cutoffs[0]
        self.n_clusters = len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        if div_value == 0:
            raise ZeroDivisionError(f"AdaptiveLogSoftmaxWithLoss: div_value must not be 0, got {div_value}")
        self.head = Linear(in_features, self.head_size, head_bias, dtype, rngs=rngs)
        self.tail = ModuleList()
        for i, (low, high) in enumerate(itertools.pairwise(self.cutoffs)):
            hidden = int(in_features // div_value ** (i + 1))
            self.tail.append(
                Sequential(
                    Linear(in_features, hidden, False, dtype, rngs=rngs),
                    Linear(hidden, high - low, False, dtype, rngs=rngs),
                )
            )

    def reset_parameters(self, *, rngs: nnx.Rngs) -> None:
        """Reinitialise the parameters of the head and of all clusters."""
        self.head.reset_parameters(rngs=rngs)
        for projection in self.tail.modules():
            if isinstance(projection, Linear):
                projection.reset_parameters(rngs=rngs)

    def __call__(self, input_: Float[Array, "*n features"], target_: Int[Array, "*n"]) -> TargetLogProbability:
        """Return the targets' log-probabilities and their negated mean."""
        input_, target_ = jnp.asarray(input_), jnp.asarray(target_)
        _check_shapes(input_, target_)
        input, target = jnp.atleast_2d(input_), jnp.atleast_1d(target_)
        if not isinstance(target, Tracer) and ((target < 0) | (target >= self.n_classes)).any():
            raise RuntimeError(
                f"AdaptiveLogSoftmaxWithLoss: targets must be between 0 and {self.n_classes - 1}, got some between "
                f"{target.min()} and {target.max()}"
            )
        head = F.log_softmax(self.head(input), dim=1)
        output = jnp.where((target >= 0) & (target < self.shortlist_size), _select_column(head, target), jnp.nan)
        for i, (low, high) in enumerate(itertools.pairwise(self.cutoffs)):
            inside = (target >= low) & (target < high)
            # Targets in other clusters must contribute neither to the value nor to the gradient here.
            rows = jnp.where(inside[:, None], input, 0)
            within = _select_column(F.log_softmax(self.tail[i](rows), dim=1), target - low)
            output = jnp.where(inside, head[:, self.shortlist_size + i] + within, output)
        return TargetLogProbability(output.reshape(target_.shape), -output.mean())

    def log_prob(self, input: Float[Array, "n features"]) -> Float[Array, "n classes"]:
        """Return the log-probabilities of all classes."""
        input = jnp.asarray(input)
        check_ndim(input, (2,), "AdaptiveLogSoftmaxWithLoss", IndexError if input.ndim < 2 else RuntimeError)
        head = F.log_softmax(self.head(input), dim=1)
        parts = [head[:, : self.shortlist_size]]
        for i in range(self.n_clusters):
            cluster = head[:, self.shortlist_size + i, None]
            parts.append(F.log_softmax(self.tail[i](input), dim=1) + cluster)
        return jnp.concatenate(parts, axis=1)

    def predict(self, input: Float[Array, "n features"]) -> Int[Array, " n"]:
        """Return the most probable class of each example."""
        return self.log_prob(input).argmax(axis=1)


def _checked_cutoffs(cutoffs: Sequence[int], n_classes: int) -> list[int]:
    values = list(cutoffs)
    if not values:
        raise ValueError(f"AdaptiveLogSoftmaxWithLoss: expected at least one cutoff, got {values}")
    increasing = all(a < b for a, b in itertools.pairwise(values))
    if not increasing or values[0] <= 0 or values[-1] > n_classes - 1 or any(int(c) != c for c in values):
        raise ValueError(
            "AdaptiveLogSoftmaxWithLoss: cutoffs must be integers in increasing order between 1 and n_classes - 1 "
            f"= {n_classes - 1}, got {values}"
        )
    return [operator.index(cutoff) for cutoff in values]


def _check_shapes(input: jax.Array, target: jax.Array) -> None:
    if target.ndim > 1 or input.ndim != target.ndim + 1 or input.shape[:-1] != target.shape:
        raise RuntimeError(
            "AdaptiveLogSoftmaxWithLoss: expected an input (N, features) and a target (N), or (features) and (), got "
            f"the shapes {input.shape} and {target.shape}"
        )
    if target.dtype not in (jnp.int32, jnp.int64):
        raise RuntimeError(f"AdaptiveLogSoftmaxWithLoss: targets must be int32 or int64, got dtype {target.dtype}")


def _select_column(log_probabilities: jax.Array, classes: jax.Array) -> jax.Array:
    """Return one column of each row; a class out of range selects the nearest column."""
    columns = jnp.clip(classes, 0, log_probabilities.shape[1] - 1)
    return jnp.take_along_axis(log_probabilities, columns[:, None], axis=1)[:, 0]
