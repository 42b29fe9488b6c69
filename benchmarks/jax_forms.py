"""The JAX variants of the networks: Flax's layers with ``nnx.jit``, and the steps of ``flaxnets.training.fit``."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import flaxnets
from benchmarks import plain_nnx, small_flaxnets, small_nnx
from benchmarks.job import LEARNING_RATE, MOMENTUM, Job, Unavailable
from benchmarks.sizes import Size
from flaxnets import kernels as layer_kernels
from flaxnets import nn, optim
from flaxnets.training import TASKS, Batch, Engine, StepOptions
from flaxnets.training.engine import compile_predict_step
from flaxnets.training.options import Backend
from flaxnets.training.step import predict_function


def create(size: Size) -> nnx.Module:
    """Create the network from layers of flaxnets."""
    builder = small_flaxnets.NETWORKS.get(size.network)
    if builder is None:
        return flaxnets.create_model(size.network, **size.options)
    return builder(rngs=nnx.Rngs(0), **size.options)


def plain(size: Size, training: bool, compute_dtype: str | None = None) -> Job:
    """Create a job from ``benchmarks.plain_nnx`` or ``small_nnx``, with the training step of Flax's documentation."""
    if compute_dtype is not None:
        raise Unavailable("plain NNX is measured in float32 only")
    if size.network in plain_nnx.WITHOUT:
        raise Unavailable(plain_nnx.WITHOUT[size.network])
    networks = plain_nnx.NETWORKS | small_nnx.NETWORKS
    model = networks[size.network](**size.options, rngs=nnx.Rngs(0))
    inputs, targets = map(jnp.asarray, size.data())
    if size.task == "language":
        inputs, targets = inputs.T, targets.T
    elif inputs.ndim > 2:
        inputs = jnp.moveaxis(inputs, 1, -1)
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


def ours(size: Size, training: bool, compute_dtype: str | None = None, backend: Backend = "auto") -> Job:
    """Create a job from the compiled step of ``flaxnets.training.fit`` or ``predict``, with the settings of ``fit``."""
    model = create(size)
    inputs, targets = map(jnp.asarray, size.data())
    batch = Batch(inputs, targets.T if size.task == "language" else targets, jnp.ones(size.batch))
    if not training:
        _, params, model_state = nnx.split(model, nnx.Param, ...)
        backend = layer_kernels.choose(backend)
        step = predict_function(model, backend=backend, compute_dtype=compute_dtype)
        predict = compile_predict_step(step, params, model_state, batch, backend)

        def logits() -> jax.Array:
            outputs = predict(batch)
            return outputs[0] if isinstance(outputs, tuple) else outputs

        return Job(logits, jax.block_until_ready)
    optimizer = optim.SGD(LEARNING_RATE, momentum=MOMENTUM)
    objective = nn.CrossEntropyLoss() if size.task == "segmentation" else TASKS[size.task].objective
    engine = Engine(model, optimizer, objective, StepOptions(compute_dtype=compute_dtype, backend=backend))
    state: Any = engine.init()

    def run() -> jax.Array:
        nonlocal state
        state, metrics = engine.step(state, batch)
        return metrics["loss"]

    return Job(run, jax.block_until_ready)
