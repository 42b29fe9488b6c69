"""The compiled training and evaluation steps: pure functions of a state and a batch."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from flaxnets.training.objectives import Metrics

Objective = Callable[[Any, Any, jax.Array], Metrics]

# XLA's CPU backend runs convolutions faster without this fusion of them; matrix products keep it.
_COMPILER_OPTIONS = {"cpu": {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}}


class Batch(NamedTuple):
    """What a step sees: inputs, targets, and the weight of each example (0 for one that only fills up)."""

    inputs: Any
    targets: Any
    weights: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that changes from step to step.

    Attributes:
        params: the ``nnx.Param`` state of the model.
        model_state: its other state: batch statistics, buffers, random streams.
        opt_state: the optimizer's state.
        step: how many steps have been taken.
    """

    params: nnx.State
    model_state: nnx.State
    opt_state: optax.OptState
    step: jax.Array

    @classmethod
    def create(cls, model: nnx.Module, optimizer: optax.GradientTransformation) -> Self:
        """Returns the state before the first step, in arrays of its own: a step gives its old state away."""
        _, params, model_state = jax.tree.map(jnp.copy, nnx.split(model, nnx.Param, ...))
        return cls(params, model_state, optimizer.init(params), jnp.zeros((), int))

    def update_model(self, model: nnx.Module) -> None:
        """Puts the parameters and the other state into ``model``."""
        nnx.update(model, self.params, self.model_state)


def _graphdef(model: nnx.Module, training: bool) -> nnx.GraphDef:
    clone = nnx.clone(model)
    clone.train() if training else clone.eval()
    return nnx.graphdef(clone)


def _jit(function: Callable[..., Any], **options: Any) -> Any:
    return jax.jit(function, compiler_options=_COMPILER_OPTIONS.get(jax.default_backend()), **options)


def make_train_step(
    model: nnx.Module,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    transform: Callable[[Any], Batch] = lambda batch: batch,
) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
    """Returns a jit-compiled ``step(state, batch)`` that gives the next state and the metrics' sums.

    The state that is passed in is donated: its buffers are reused and it cannot be used again.

    Args:
        model: gives the structure; it is neither changed nor used for its values.
        optimizer: any optax transformation.
        objective: from outputs, targets and weights to sums; ``loss / count`` is minimised.
        transform: runs first, inside the step: makes a :class:`Batch` of what the step is given.

    >>> import flaxnets, jax.numpy as jnp
    >>> from flaxnets.training import classification
    >>> model, optimizer = flaxnets.create_model("mlp"), optax.sgd(0.1)
    >>> step = make_train_step(model, optimizer, classification)
    >>> batch = Batch(jnp.ones((4, 1, 28, 28)), jnp.zeros(4, int), jnp.ones(4))
    >>> state, metrics = step(TrainState.create(model, optimizer), batch)
    >>> int(state.step), int(metrics["count"])
    (1, 4)
    """
    graphdef = _graphdef(model, training=True)

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        inputs, targets, weights = transform(batch)

        def mean_loss(params: nnx.State) -> tuple[jax.Array, tuple[Metrics, nnx.State]]:
            merged = nnx.merge(graphdef, params, state.model_state, copy=True)
            metrics = objective(merged(inputs), targets, weights)
            _, _, model_state = nnx.split(merged, nnx.Param, ...)
            return metrics["loss"] / metrics["count"], (metrics, model_state)

        gradients, (metrics, model_state) = jax.grad(mean_loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, model_state, opt_state, state.step + 1), metrics  # type: ignore[arg-type]

    return _jit(step, donate_argnums=0)


def make_eval_step(
    model: nnx.Module, objective: Objective, transform: Callable[[Any], Batch] = lambda batch: batch
) -> Callable[[nnx.State, nnx.State, Any], Metrics]:
    """Returns a jit-compiled ``step(params, model_state, batch)`` that gives the metrics' sums in evaluation mode.

    Arguments are those of :func:`make_train_step`.

    >>> import flaxnets, jax.numpy as jnp
    >>> from flaxnets.training import classification
    >>> model = flaxnets.create_model("mlp")
    >>> _, params, model_state = nnx.split(model, nnx.Param, ...)
    >>> batch = Batch(jnp.ones((4, 1, 28, 28)), jnp.zeros(4, int), jnp.array([1.0, 1.0, 1.0, 0.0]))
    >>> int(make_eval_step(model, classification)(params, model_state, batch)["count"])
    3
    """
    graphdef = _graphdef(model, training=False)

    def step(params: nnx.State, model_state: nnx.State, batch: Any) -> Metrics:
        inputs, targets, weights = transform(batch)
        return objective(nnx.merge(graphdef, params, model_state, copy=True)(inputs), targets, weights)

    return _jit(step)
