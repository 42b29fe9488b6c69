"""The arguments of a training step: the state of a run, and a batch."""

import dataclasses
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from flaxnets.optim import OptimizerState
from flaxnets.optim.frozen import mask

_GROWTH_INTERVAL = 2000  # steps


class Batch(NamedTuple):
    """The examples of one step.

    Attributes:
        inputs: Inputs of the model, whose first axis is usually the batch axis.
        targets: Targets, as the objective expects them.
        weights: Weight of each example, of shape (n,); 0 for an example that only fills the batch.
    """

    inputs: Any
    targets: Any
    weights: jax.Array


@runtime_checkable
class LazyBatch(Protocol):
    """A pytree from which the step itself computes its batch, such as rows to pick from a dataset on the device."""

    def make(self, key: jax.Array | None) -> Batch:
        """Return the batch; runs inside the compiled step. Without a key, return the batch for evaluation."""
        ...


def as_batch(batch: Any, key: jax.Array | None = None) -> Batch:
    """Return the batch that a step computes with.

    Args:
        batch: A :class:`Batch`, a pair of inputs and targets, or a :class:`LazyBatch`.
        key: Random key of a training step; None in evaluation.

    Raises:
        TypeError: For any other value.

    >>> as_batch((jnp.ones((2, 3)), jnp.zeros(2, int))).weights.tolist()
    [1.0, 1.0]
    """
    if isinstance(batch, Batch):
        return batch
    if isinstance(batch, tuple) and len(batch) == 2:
        return Batch(*batch, jnp.ones(len(batch[1]), jnp.float32))
    if isinstance(batch, LazyBatch):
        return batch.make(key)
    raise TypeError(
        f"a batch of type {type(batch).__name__}. Expected a Batch, a pair of inputs and targets, or an object with "
        "the method make. Fix: step(state, Batch(inputs, targets, weights))"
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossScale:
    """The factor of the loss in float16, with the defaults of ``torch.amp.GradScaler``.

    Attributes:
        factor: Begins with 2**16. A step with an infinite or NaN gradient halves the factor; 2000 finite steps in a row
            double the factor.
        finite_steps: Number of finite steps since the last change.

    >>> scale = LossScale.create().updated(jnp.array(False))
    >>> float(scale.factor), int(scale.finite_steps)
    (32768.0, 0)
    """

    factor: jax.Array
    finite_steps: jax.Array

    @classmethod
    def create(cls) -> Self:
        """Return the factor before the first step."""
        return cls(jnp.float32(2**16), jnp.zeros((), jnp.int32))

    def updated(self, finite: jax.Array) -> Self:
        """Return the factor after a step with gradients that are finite or not."""
        steps = jnp.where(finite, self.finite_steps + 1, 0)
        grows = steps == _GROWTH_INTERVAL
        grown = jnp.where(jnp.isfinite(2 * self.factor), 2 * self.factor, self.factor)
        factor = jnp.where(finite, jnp.where(grows, grown, self.factor), self.factor / 2)
        return dataclasses.replace(self, factor=factor, finite_steps=jnp.where(grows, 0, steps))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The complete state between two steps, as a pytree. A run continues from this state and the data.

    Attributes:
        params: The ``nnx.Param`` state of the model.
        model_state: The other state of the model: batch statistics, buffers, random streams.
        opt_state: The optimizer's state.
        step: Number of parameter updates.
        position: Number of batches over all epochs; larger than ``step`` if gradients are accumulated.
        key: Random key, from which each step derives the key of its batch by ``position``.
        ema_params: Moving average of the parameters, or None.
        loss_scale: Factor of the loss, or None.
    """

    params: nnx.State
    model_state: nnx.State
    opt_state: optax.OptState
    step: jax.Array
    position: jax.Array
    key: jax.Array
    ema_params: nnx.State | None = None
    loss_scale: LossScale | None = None

    @classmethod
    def create(
        cls,
        model: nnx.Module,
        optimizer: optax.GradientTransformation,
        *,
        accumulate: int = 1,
        ema: bool = False,
        seed: int = 0,
        loss_scale: bool = False,
    ) -> Self:
        """Create the state before the first step. The arrays are copies, because a step donates its state.

        Args:
            model: The module whose state is copied.
            optimizer: The optimizer of the step.
            accumulate: ``accumulate`` of the step.
            ema: Whether the step has an ``ema_decay``.
            seed: Seed of ``key``.
            loss_scale: Whether the step has a ``loss_scale``.
        """
        _, params, model_state = jax.tree.map(jnp.copy, nnx.split(model, nnx.Param, ...))
        opt_state = accumulated(optimizer, accumulate).init(mask(params))
        counts = jnp.zeros((), int), jnp.zeros((), int)
        ema_params = jax.tree.map(jnp.copy, params) if ema else None
        scale = LossScale.create() if loss_scale else None
        return cls(params, model_state, opt_state, *counts, jax.random.key(seed), ema_params, scale)

    @property
    def eval_params(self) -> nnx.State:
        """The parameters for evaluation: the moving average if there is one, otherwise ``params``."""
        return self.params if self.ema_params is None else self.ema_params

    def refrozen(self, optimizer: optax.GradientTransformation) -> Self:
        """Return the state with optimizer slots for the parameters that are currently trainable.

        Args:
            optimizer: The optimizer of the step, after :func:`accumulated`.
        """
        opt_state, ema_params = self.opt_state, self.ema_params
        fresh = jax.eval_shape(optimizer.init, mask(self.params))
        if jax.tree.structure(fresh) != jax.tree.structure(opt_state):
            opt_state = _carried_over(opt_state, optimizer.init(mask(self.params)))
        if ema_params is not None:  # its variables may be frozen where those of the parameters are not
            ema_params = jax.tree.unflatten(jax.tree.structure(self.params), jax.tree.leaves(ema_params))
        return dataclasses.replace(self, opt_state=opt_state, ema_params=ema_params)

    def update_model(self, model: nnx.Module) -> None:
        """Copy the parameters (their moving average if there is one) and the other state into ``model``."""
        nnx.update(model, *jax.tree.map(jnp.copy, (self.eval_params, self.model_state)))


def _carried_over(old: Any, fresh: Any) -> Any:
    """Copy slots from an old optimizer state into a fresh one. Optimizers here also keep slots of frozen parameters."""

    def flat(tree: Any) -> tuple[list[tuple[Any, Any]], Any]:
        return jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: isinstance(node, OptimizerState))

    old_leaves = dict(flat(old)[0])

    def choose(path: Any, new: Any) -> Any:
        before = old_leaves.get(path, new)
        if isinstance(new, OptimizerState):
            slots = {name: _carried_over(before.slots[name], tree) for name, tree in new.slots.items()}
            return OptimizerState(before.step, slots, {**new.missed, **before.missed})
        return new if before.size < new.size else before

    leaves, structure = flat(fresh)
    return structure.unflatten(choose(path, new) for path, new in leaves)


def accumulated(optimizer: optax.GradientTransformation, batches: int) -> optax.GradientTransformation:
    """Wrap an optimizer to update with the mean gradient of several batches.

    Raises:
        ValueError: If ``batches`` is less than 1.

    >>> params = {"weight": jnp.zeros(2)}
    >>> type(accumulated(optax.sgd(0.1), 2).init(params)).__name__
    'MultiStepsState'
    """
    if batches < 1:
        raise ValueError(f"accumulate must be at least 1, got {batches}")
    if batches == 1:
        return optimizer
    # None keeps the precision of the gradients, although the annotation lacks None; the default of optax is float32.
    steps = optax.MultiSteps(optimizer, batches, accumulator_dtype=None)  # pyright: ignore[reportArgumentType]
    return steps.gradient_transformation()
