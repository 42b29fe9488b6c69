"""The compiled training and evaluation steps: pure functions of a state and a batch."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.typing import DTypeLike

from flaxnets import kernels as forms
from flaxnets import nn
from flaxnets.autocast import autocast
from flaxnets.optim.frozen import mask, unmask
from flaxnets.training.objectives import Metrics, Objective, as_objective
from flaxnets.training.remat import Blocks, checkpoint
from flaxnets.training.train_state import Batch, TrainState, accumulated
from flaxnets.xla import compiler_options

NonFinite = Literal["ignore", "skip", "stop"]

# XLA's CPU backend gives convolutions and matrix products to YNNPACK. Its convolutions are slower, and so, with some
# weights by a factor of a hundred, are its products together with what surrounds them.
_COMPILER_OPTIONS = {"cpu": {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}}

Step = Callable[[TrainState, Any], tuple[TrainState, Metrics]]
Transform = Callable[[Any, jax.Array], Batch]
Kernels = Literal["auto"] | forms.Kind


def _graphdef(model: nnx.Module, training: bool, remat: Blocks = False) -> nnx.GraphDef:
    clone = nnx.clone(model)
    clone.train() if training else clone.eval()
    checkpoint(clone, remat)
    return nnx.graphdef(clone)


def jit_options() -> dict[str, Any]:
    """What steps are compiled with.

    >>> sorted(jit_options())
    ['compiler_options']
    """
    return {"compiler_options": compiler_options(_COMPILER_OPTIONS.get(jax.default_backend(), {}))}


def make_train_step(
    model: nnx.Module,
    optimizer: optax.GradientTransformation,
    objective: Objective | nn.Module,
    transform: Transform = lambda batch, key: batch,
    *,
    accumulate: int = 1,
    ema_decay: float | None = None,
    nonfinite: NonFinite = "ignore",
    remat: Blocks = False,
    compute_dtype: DTypeLike | None = None,
    penalty: Callable[[nnx.State], jax.Array] | None = None,
    kernels: Kernels = "auto",
) -> Step:
    """Returns a jit-compiled ``step(state, batch)`` that gives the next state and the metrics' sums.

    The state that is passed in is donated: its buffers are reused and it cannot be used again.

    Args:
        model: gives the structure; it is neither changed nor used for its values.
        optimizer: one of :mod:`flaxnets.optim`, or any optax transformation.
        objective: from outputs, targets and weights to sums, of which ``loss / count`` is minimised; or a loss of
            :mod:`flaxnets.nn`, such as ``nn.CrossEntropyLoss()``.
        transform: runs first, inside the step: makes a :class:`Batch` of what the step is given and of a random key,
            another one every step.
        accumulate: how many batches' gradients are averaged for one update.
        ema_decay: how much of the moving average of the parameters an update keeps; no average if not given.
        nonfinite: ``"skip"`` and ``"stop"`` leave the state as it was where the loss or a gradient is infinite or NaN,
            and report it as the metric ``nonfinite``, with all others 0.
        remat: the modules whose insides are computed again in the backward pass, which saves memory; True: the model's
            children. See :func:`flaxnets.training.checkpoint`.
        compute_dtype: what layers compute in within :func:`flaxnets.autocast`, such as ``jnp.bfloat16``; parameters,
            their updates and the loss keep float32.
        penalty: a function of the parameters that is added to what is minimised, but not to the metrics, such as
            :func:`flaxnets.training.l2_penalty`.
        kernels: the forms that the model's layers compute in, as :func:`flaxnets.kernels.use` has them; ``"auto"``:
            what :func:`flaxnets.kernels.choose` says.

    Raises:
        ValueError: for an ``accumulate`` below 1, unknown ``kernels``, a ``remat`` that chooses no module, or a loss
            whose reduction is no mean.
        RuntimeError: for ``kernels`` that do not work here.

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
    graphdef, transformation = _graphdef(model, True, remat), accumulated(optimizer, accumulate)
    measure = as_objective(objective)
    kind = forms.choose(kernels)

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        state = state.refrozen(transformation)
        inputs, targets, weights = transform(batch, jax.random.fold_in(state.key, state.position))

        def mean_loss(trainable: nnx.State) -> tuple[jax.Array, tuple[Metrics, nnx.State, nnx.State]]:
            params = unmask(trainable, state.params)
            merged = nnx.merge(graphdef, params, state.model_state, copy=True)
            outputs = _call(merged, inputs, kind, compute_dtype)
            metrics = measure(outputs, targets, weights)
            loss = metrics["loss"] / metrics["count"] + (penalty(params) if penalty is not None else 0)
            _, after, model_state = nnx.split(merged, nnx.Param, ...)  # a call may change parameters, too
            return loss, (metrics, after, model_state)

        gradients, (metrics, params, model_state) = jax.grad(mean_loss, has_aux=True)(mask(state.params))
        position = state.position + 1

        def advance(gradients: Any, params: Any, model_state: nnx.State) -> TrainState:
            trainable = mask(params)
            updates, opt_state = transformation.update(gradients, state.opt_state, trainable)
            params = unmask(optax.apply_updates(trainable, updates), params)
            updated = position % accumulate == 0
            ema_params = None
            if ema_decay is not None and state.ema_params is not None:
                rate = jnp.where(updated, 1 - ema_decay, 0.0)
                ema_params = jax.tree.map(functools.partial(_moved, rate=rate), state.ema_params, params)
            return dataclasses.replace(
                state, params=params, model_state=model_state, opt_state=opt_state, step=state.step + updated,
                position=position, ema_params=ema_params,
            )  # fmt: skip

        if nonfinite == "ignore":
            return advance(gradients, params, model_state), metrics
        finite = _all_finite((metrics["loss"], gradients))
        old = dataclasses.replace(state, position=position)
        new = _advance_if(finite, advance, old, gradients, params, model_state)
        metrics = {name: jnp.where(finite, value, 0) for name, value in metrics.items()}
        metrics["nonfinite"] = 1 - finite.astype(weights.dtype)
        return new, metrics

    return jax.jit(step, donate_argnums=0, **jit_options())


def _moved(average: jax.Array, new: jax.Array, rate: jax.Array) -> jax.Array:
    if not jnp.issubdtype(new.dtype, jnp.inexact):
        return new
    # An average stays the same, to the bit, where nothing has moved; the difference of infinities would be NaN.
    return average + jnp.where(new == average, 0, rate * (new - average))


def _call(merged: nnx.Module, inputs: Any, kind: forms.Kind, dtype: DTypeLike | None) -> Any:
    with forms.use(kind), autocast(dtype):
        outputs = merged(inputs)  # type: ignore[operator]
    if dtype is None:
        return outputs
    wide = jnp.promote_types(dtype, jnp.float32)
    return jax.tree.map(lambda x: x.astype(wide) if jnp.issubdtype(x.dtype, jnp.floating) else x, outputs)


def _advance_if(finite: jax.Array, advance: Callable[..., TrainState], old: TrainState, *operands: Any) -> TrainState:
    if jax.default_backend() == "cpu":  # one branch: a selection would copy the optimizer's slots
        return jax.lax.cond(finite, advance, lambda *_: old, *operands)
    # Here a branch would have to wait until the condition is known.
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), advance(*operands), old)


def _all_finite(tree: Any) -> jax.Array:
    return jnp.stack([_is_finite(leaf) for leaf in jax.tree.leaves(tree)]).all()


def _is_finite(array: jax.Array) -> jax.Array:
    # 0 times what is infinite or NaN is NaN; as sums and a product this takes a fifth of the time.
    if array.ndim == 2:
        return (array @ jnp.zeros(array.shape[1], array.dtype) == 0).all()
    if array.ndim > 2:  # a convolution's weight, whose first axis lies innermost between the steps
        summed = (0 * array).sum(tuple(range(2, array.ndim)))
        return (jnp.zeros(len(array), array.dtype) @ summed == 0).all()
    return jnp.isfinite(array).all()


def make_eval_step(
    model: nnx.Module,
    objective: Objective | nn.Module,
    transform: Callable[[Any], Batch] = lambda batch: batch,
    *,
    kernels: Kernels = "auto",
    compute_dtype: DTypeLike | None = None,
) -> Callable[[nnx.State, nnx.State, Any], Metrics]:
    """Returns a jit-compiled ``step(params, model_state, batch)`` that gives the metrics' sums in evaluation mode.

    Args:
        model: gives the structure.
        objective: as that of :func:`make_train_step`.
        transform: makes a :class:`Batch` of what the step is given.
        kernels: as those of :func:`make_train_step`.
        compute_dtype: as that of :func:`make_train_step`.

    >>> import flaxnets, jax.numpy as jnp
    >>> from flaxnets.training import classification
    >>> model = flaxnets.create_model("mlp")
    >>> _, params, model_state = nnx.split(model, nnx.Param, ...)
    >>> batch = Batch(jnp.ones((4, 1, 28, 28)), jnp.zeros(4, int), jnp.array([1.0, 1.0, 1.0, 0.0]))
    >>> int(make_eval_step(model, classification)(params, model_state, batch)["count"])
    3
    """
    graphdef, measure, kind = _graphdef(model, training=False), as_objective(objective), forms.choose(kernels)

    def step(params: nnx.State, model_state: nnx.State, batch: Any) -> Metrics:
        inputs, targets, weights = transform(batch)
        merged = nnx.merge(graphdef, params, model_state, copy=True)
        return measure(_call(merged, inputs, kind, compute_dtype), targets, weights)

    return jax.jit(step, **jit_options())


def make_predict_step(
    model: nnx.Module,
    transform: Callable[[Any], Batch] = lambda batch: batch,
    *,
    kernels: Kernels = "auto",
    compute_dtype: DTypeLike | None = None,
) -> Callable[[nnx.State, nnx.State, Any], Any]:
    """Returns a jit-compiled ``step(params, model_state, batch)`` that gives the outputs in evaluation mode.

    Arguments are those of :func:`make_eval_step`.

    >>> import flaxnets, jax.numpy as jnp
    >>> model = flaxnets.create_model("mlp")
    >>> _, params, model_state = nnx.split(model, nnx.Param, ...)
    >>> batch = Batch(jnp.ones((4, 1, 28, 28)), jnp.zeros(4, int), jnp.ones(4))
    >>> make_predict_step(model)(params, model_state, batch).shape
    (4, 10)
    """
    graphdef, kind = _graphdef(model, training=False), forms.choose(kernels)

    def step(params: nnx.State, model_state: nnx.State, batch: Any) -> Any:
        merged = nnx.merge(graphdef, params, model_state, copy=True)
        return _call(merged, transform(batch).inputs, kind, compute_dtype)

    return jax.jit(step, **jit_options())
