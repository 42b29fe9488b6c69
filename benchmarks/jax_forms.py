"""The networks in JAX: in Flax's own layers with ``nnx.jit``, and as ``flaxnets.training.fit`` runs them."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import flaxnets
from benchmarks import plain_nnx
from benchmarks.job import LEARNING_RATE, MOMENTUM, Job, Unavailable
from benchmarks.sizes import Size
from flaxnets import optim
from flaxnets.training import TASKS, Batch, TrainState, make_train_step
from flaxnets.training.execution import compile_predict_step, compile_train_step
from flaxnets.training.step import Kernels, make_predict_step


def plain(size: Size, training: bool) -> Job:
    """``benchmarks.plain_nnx`` with the training step of Flax's documentation."""
    if size.network in plain_nnx.WITHOUT:
        raise Unavailable(plain_nnx.WITHOUT[size.network])
    model = plain_nnx.NETWORKS[size.network](**size.options, rngs=nnx.Rngs(0))
    inputs, targets = map(jnp.asarray, size.data())
    if size.task == "language":
        inputs, targets = inputs.T, targets.T
    elif inputs.ndim == 4:
        inputs = inputs.transpose(0, 2, 3, 1)
    if training:
        model.train()
        optimizer = nnx.Optimizer(model, optax.sgd(LEARNING_RATE, momentum=MOMENTUM), wrt=nnx.Param)
        train_step = _squared_error_step if size.task == "regression" else _cross_entropy_step
        return Job(lambda: train_step(model, optimizer, inputs, targets), jax.block_until_ready)
    model.eval()
    return Job(lambda: _predict(model, inputs), jax.block_until_ready)


@nnx.jit
def _cross_entropy_step(model: Any, optimizer: nnx.Optimizer, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    def loss_fn(model: Any) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(model(inputs), targets).mean()

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    return loss


@nnx.jit
def _squared_error_step(model: Any, optimizer: nnx.Optimizer, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    def loss_fn(model: Any) -> jax.Array:
        return jnp.square(model(inputs) - targets).mean()

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    return loss


@nnx.jit
def _predict(model: Any, inputs: jax.Array) -> jax.Array:
    return model(inputs)


def ours(size: Size, training: bool, compute_dtype: str | None = None, kernels: Kernels = "auto") -> Job:
    """The compiled steps that ``flaxnets.training.fit`` and ``predict`` make, with the settings of ``fit``."""
    model = flaxnets.create_model(size.network, **size.options)
    inputs, targets = map(jnp.asarray, size.data())
    batch = Batch(inputs, targets.T if size.task == "language" else targets, jnp.ones(size.batch))
    if not training:
        _, params, model_state = nnx.split(model, nnx.Param, ...)
        predict = compile_predict_step(
            make_predict_step(model, compute_dtype=compute_dtype, kernels=kernels), params, model_state, batch, kernels
        )

        def logits() -> jax.Array:
            outputs = predict(batch)
            return outputs[0] if isinstance(outputs, tuple) else outputs

        return Job(logits, jax.block_until_ready)
    optimizer = optim.SGD(LEARNING_RATE, momentum=MOMENTUM)
    objective = TASKS[size.task].objective
    step = make_train_step(model, optimizer, objective, nonfinite="stop", compute_dtype=compute_dtype, kernels=kernels)
    compiled, state = None, TrainState.create(model, optimizer)

    def run() -> jax.Array:
        nonlocal state, compiled
        if compiled is None:
            compiled, to_physical, _ = compile_train_step(step, state, batch, kernels)
            state = to_physical(state)
        state, metrics = compiled(state, batch)
        return metrics["loss"]

    return Job(run, jax.block_until_ready)
