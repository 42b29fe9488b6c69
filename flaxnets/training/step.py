"""Training, evaluation and prediction steps: pure functions of a state and a batch, and their compiled forms."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.typing import DTypeLike

from flaxnets import kernels, nn
from flaxnets.autocast import autocast
from flaxnets.nn.functional.normalization import statistics_of_parts
from flaxnets.optim.frozen import mask, unmask
from flaxnets.training.objectives import Metrics, Objective, as_objective
from flaxnets.training.options import Backend, StepOptions
from flaxnets.training.remat import Blocks, checkpoint
from flaxnets.training.sharding import Sharding
from flaxnets.training.train_state import Batch, TrainState, accumulated, as_batch
from flaxnets.xla import compiler_options

# XLA's CPU compiler calls YNNPACK for convolutions and matrix products. Convolutions of YNNPACK are slower. Fused
# products of YNNPACK are up to 100 times slower for some weights. This option leaves only products that are not fused.
_COMPILER_OPTIONS = {"cpu": {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}}

Step = Callable[[TrainState, Any], tuple[TrainState, Metrics]]
EvalStep = Callable[[nnx.State, nnx.State, Any], Metrics]
PredictStep = Callable[[nnx.State, nnx.State, Any], Any]
Transform = Callable[[Any, jax.Array | None], Batch]


def jit_options() -> dict[str, Any]:
    """Return the options of ``jax.jit`` that every step is compiled with.

    >>> sorted(jit_options())
    ['compiler_options']
    """
    return {"compiler_options": compiler_options(_COMPILER_OPTIONS.get(jax.default_backend(), {}))}


def train_function(
    model: nnx.Module,
    optimizer: optax.GradientTransformation,
    objective: Objective | nn.Module,
    options: StepOptions,
    transform: Transform = as_batch,
    sharding: Sharding | None = None,
) -> Step:
    """Return the training step as a pure function that is not compiled.

    The other arguments are those of :func:`make_train_step`.

    Args:
        sharding: The mesh that the state is on. The step gathers parameters and reduces gradients as its rules say.
    """
    graphdef, transformation = _graphdef(model, True, options.remat), accumulated(optimizer, options.accumulate)
    measure = as_objective(objective)

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        state, scale = state.refrozen(transformation), state.loss_scale
        if (scale is None) != (options.loss_scale is None):
            raise ValueError(
                f"loss_scale={options.loss_scale!r} and a state {'without' if scale is None else 'with'} a loss scale. "
                "Fix: TrainState.create(..., loss_scale=True) for StepOptions(loss_scale='dynamic')"
            )
        inputs, targets, weights = transform(batch, jax.random.fold_in(state.key, state.position))

        def mean_loss(trainable: nnx.State) -> tuple[jax.Array, tuple[Metrics, nnx.State, nnx.State]]:
            params = unmask(trainable, whole)
            merged = nnx.merge(graphdef, params, state.model_state, copy=True)
            with statistics_of_parts(1 if sharding is None else sharding.parts(len(weights))):
                outputs = _call(merged, inputs, options.backend, options.compute_dtype)
            metrics = measure(outputs, targets, weights)
            loss = metrics["loss"] / metrics["count"] + (options.penalty(params) if options.penalty is not None else 0)
            _, after, model_state = nnx.split(merged, nnx.Param, ...)  # a call may change parameters, too
            if sharding is not None:  # a parameter that the call leaves unchanged keeps its shards
                after = jax.tree.map(
                    lambda new, whole, shard: shard if new is whole else new, after, params, state.params
                )
            return (loss if scale is None else scale.factor * loss), (metrics, after, model_state)

        whole = state.params if sharding is None else sharding.gather(state.params)
        gradients, (metrics, params, model_state) = jax.grad(mean_loss, has_aux=True)(mask(whole))
        if sharding is not None:
            # Without the first placement, XLA would shard layers as it shards the gradients of their weights.
            gradients, params = sharding.scatter((sharding.gather(gradients), params))
        if scale is not None:
            gradients = jax.tree.map(lambda gradient: gradient / scale.factor, gradients)
        position = state.position + 1

        def advance(gradients: Any, params: Any, model_state: nnx.State) -> TrainState:
            trainable = mask(params)
            updates, opt_state = transformation.update(gradients, state.opt_state, trainable)
            params = unmask(optax.apply_updates(trainable, updates), params)
            updated = position % options.accumulate == 0
            ema_params = None
            if options.ema_decay is not None and state.ema_params is not None:
                rate = jnp.where(updated, 1 - options.ema_decay, 0.0)
                ema_params = jax.tree.map(functools.partial(_moved, rate=rate), state.ema_params, params)
            return dataclasses.replace(
                state, params=params, model_state=model_state, opt_state=opt_state, step=state.step + updated,
                position=position, ema_params=ema_params,
            )  # fmt: skip

        if options.nonfinite == "ignore" and scale is None:
            return advance(gradients, params, model_state), metrics
        finite = _all_finite((metrics["loss"], gradients), is_sharded=sharding is not None)
        old = dataclasses.replace(state, position=position)
        new = _advance_if(finite, advance, old, gradients, params, model_state)
        if scale is not None:  # gradients that overflow are no failure
            new = dataclasses.replace(new, loss_scale=scale.updated(finite))
            finite = jnp.isfinite(metrics["loss"])
        if options.nonfinite != "ignore":
            metrics = {name: jnp.where(finite, value, 0) for name, value in metrics.items()}
            metrics["nonfinite"] = 1 - finite.astype(weights.dtype)
        return new, metrics

    return step


def predict_function(
    model: nnx.Module,
    transform: Transform = as_batch,
    *,
    backend: Backend,
    compute_dtype: DTypeLike | None,
    sharding: Sharding | None = None,
) -> PredictStep:
    """Return ``step(params, model_state, batch)``, not compiled, that gives the outputs in evaluation mode.

    The arguments are those of :func:`make_predict_step`, and the ``sharding`` of :func:`train_function`.
    """
    graphdef, backend = _graphdef(model, training=False), kernels.choose(backend)

    def step(params: nnx.State, model_state: nnx.State, batch: Any) -> Any:
        whole = params if sharding is None else sharding.gather(params)
        merged = nnx.merge(graphdef, whole, model_state, copy=True)
        return _call(merged, transform(batch, None).inputs, backend, compute_dtype)

    return step


def eval_function(
    model: nnx.Module,
    objective: Objective | nn.Module,
    transform: Transform = as_batch,
    *,
    backend: Backend,
    compute_dtype: DTypeLike | None,
    sharding: Sharding | None = None,
) -> EvalStep:
    """Return ``step(params, model_state, batch)``, not compiled, that gives the metrics' sums in evaluation mode.

    The arguments are those of :func:`make_eval_step`, and the ``sharding`` of :func:`train_function`.
    """
    predict = predict_function(model, backend=backend, compute_dtype=compute_dtype, sharding=sharding)
    measure = as_objective(objective)

    def step(params: nnx.State, model_state: nnx.State, batch: Any) -> Metrics:
        batch = transform(batch, None)
        return measure(predict(params, model_state, batch), batch.targets, batch.weights)

    return step


def make_train_step(
    model: nnx.Module,
    optimizer: optax.GradientTransformation,
    objective: Objective | nn.Module,
    transform: Transform = as_batch,
    **options: Any,
) -> Step:
    """Return a jit-compiled ``step(state, batch)`` that gives the next state and the metrics' sums.

    The state that is passed in is donated: its buffers are reused, and it cannot be used again. See
    :class:`flaxnets.training.Engine` for a step that also keeps the state in the backend's layout.

    Args:
        model: Module that gives the structure; neither changed nor used for its values.
        optimizer: One of :mod:`flaxnets.optim`, or any optax transformation.
        objective: Function from outputs, targets and weights to sums; the step minimises ``loss / count``. Or a loss
            of :mod:`flaxnets.nn`, such as ``nn.CrossEntropyLoss()``.
        transform: Function from ``batch`` and a random key of this step to a :class:`Batch`; runs first, inside the
            step.
        **options: Fields of :class:`flaxnets.training.StepOptions`. The default of ``nonfinite`` is ``"ignore"`` here,
            because only ``fit`` reads the metric ``nonfinite``.

    Raises:
        TypeError: For an unknown option.
        ValueError: For an option out of range, a ``remat`` that matches no module, or a loss whose reduction is not
            a mean.
        RuntimeError: For a ``backend`` that does not work on this machine.

    >>> import flaxnets, jax.numpy as jnp
    >>> from flaxnets import optim
    >>> from flaxnets.training import classification
    >>> model, optimizer = flaxnets.create_model("mlp"), optim.SGD(0.1)
    >>> step = make_train_step(model, optimizer, classification)
    >>> batch = Batch(jnp.ones((4, 1, 28, 28)), jnp.zeros(4, int), jnp.ones(4))
    >>> state, metrics = step(TrainState.create(model, optimizer), batch)
    >>> int(state.step), int(metrics["count"])
    (1, 4)
    """
    step = train_function(model, optimizer, objective, StepOptions(**{"nonfinite": "ignore", **options}), transform)
    return jax.jit(step, donate_argnums=0, **jit_options())


def make_eval_step(
    model: nnx.Module,
    objective: Objective | nn.Module,
    transform: Transform = as_batch,
    *,
    backend: Backend = "auto",
    compute_dtype: DTypeLike | None = None,
) -> EvalStep:
    """Return a jit-compiled ``step(params, model_state, batch)`` that gives the metrics' sums in evaluation mode.

    Args:
        model: Module that gives the structure.
        objective: Objective, as in :func:`make_train_step`.
        transform: Function from ``batch`` and None to a :class:`Batch`. Evaluation has no random key.
        backend: As in :class:`flaxnets.training.StepOptions`.
        compute_dtype: As in :class:`flaxnets.training.StepOptions`.

    >>> import flaxnets, jax.numpy as jnp
    >>> from flaxnets.training import classification
    >>> model = flaxnets.create_model("mlp")
    >>> _, params, model_state = nnx.split(model, nnx.Param, ...)
    >>> batch = Batch(jnp.ones((4, 1, 28, 28)), jnp.zeros(4, int), jnp.array([1.0, 1.0, 1.0, 0.0]))
    >>> int(make_eval_step(model, classification)(params, model_state, batch)["count"])
    3
    """
    step = eval_function(model, objective, transform, backend=backend, compute_dtype=compute_dtype)
    return jax.jit(step, **jit_options())


def make_predict_step(
    model: nnx.Module,
    transform: Transform = as_batch,
    *,
    backend: Backend = "auto",
    compute_dtype: DTypeLike | None = None,
) -> PredictStep:
    """Return a jit-compiled ``step(params, model_state, batch)`` that gives the outputs in evaluation mode.

    The arguments are those of :func:`make_eval_step`.

    >>> import flaxnets, jax.numpy as jnp
    >>> model = flaxnets.create_model("mlp")
    >>> _, params, model_state = nnx.split(model, nnx.Param, ...)
    >>> batch = Batch(jnp.ones((4, 1, 28, 28)), jnp.zeros(4, int), jnp.ones(4))
    >>> make_predict_step(model)(params, model_state, batch).shape
    (4, 10)
    """
    return jax.jit(predict_function(model, transform, backend=backend, compute_dtype=compute_dtype), **jit_options())


def _graphdef(model: nnx.Module, training: bool, remat: Blocks = False) -> nnx.GraphDef:
    clone = nnx.clone(model)
    clone.train() if training else clone.eval()
    checkpoint(clone, remat)
    return nnx.graphdef(clone)


def _call(merged: nnx.Module, inputs: Any, backend: Any, dtype: DTypeLike | None) -> Any:
    with kernels.use(backend), autocast(dtype):
        outputs = merged(inputs)  # type: ignore[operator]
    if dtype is None:
        return outputs
    wide = jnp.promote_types(dtype, jnp.float32)
    return jax.tree.map(lambda x: x.astype(wide) if jnp.issubdtype(x.dtype, jnp.floating) else x, outputs)


def _moved(average: jax.Array, new: jax.Array, rate: jax.Array) -> jax.Array:
    if not jnp.issubdtype(new.dtype, jnp.inexact):
        return new
    # An unchanged parameter keeps every bit of the average, and the difference of two infinities would be NaN.
    return average + jnp.where(new == average, 0, rate * (new - average))


def _advance_if(finite: jax.Array, advance: Callable[..., TrainState], old: TrainState, *operands: Any) -> TrainState:
    if jax.default_backend() == "cpu":  # a branch, because a selection would copy the optimizer's slots
        return jax.lax.cond(finite, advance, lambda *_: old, *operands)
    # On accelerators a branch would wait until the condition is known.
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), advance(*operands), old)


def _all_finite(tree: Any, is_sharded: bool) -> jax.Array:
    # Devices then exchange one truth value for an array, and not a sum for each row.
    check = (lambda array: jnp.isfinite(array).all()) if is_sharded else _is_finite
    return jnp.stack([check(leaf) for leaf in jax.tree.leaves(tree)]).all()


def _is_finite(array: jax.Array) -> jax.Array:
    # 0 times infinity or NaN is NaN. Sums and a product are five times faster than isfinite.
    if array.ndim == 2:
        return (array @ jnp.zeros(array.shape[1], array.dtype) == 0).all()
    if array.ndim > 2:  # a convolution's weight, whose first axis is innermost between the steps
        summed = (0 * array).sum(tuple(range(2, array.ndim)))
        return (jnp.zeros(len(array), array.dtype) @ summed == 0).all()
    return jnp.isfinite(array).all()
