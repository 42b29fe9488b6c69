"""The loop around the steps: epochs, shuffling, evaluation."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from flaxnets import nn
from flaxnets.data import Split
from flaxnets.training.objectives import Metrics, Objective, means
from flaxnets.training.remat import Blocks
from flaxnets.training.step import Batch, NonFinite, TrainState, make_eval_step, make_train_step

Record = dict[str, Any]


# How many steps behind the last one the loop looks for a loss that is not finite, so that the device never waits.
_LAG = 3


def _gather(transform: Callable[[Any], Any]) -> Callable[..., Batch]:
    """Batches are chosen inside the step, from a dataset that stays on the device."""

    def gather(chosen: tuple[Any, Any, jax.Array, jax.Array], key: jax.Array | None = None) -> Batch:
        inputs, targets, indices, weights = chosen
        return Batch(transform(inputs[indices]), targets[indices], weights)

    return gather


def _total(sums: Sequence[Metrics]) -> dict[str, float]:
    host = jax.device_get(sums)
    return {name: sum(float(metrics[name]) for metrics in host) for name in host[0]}


class _Evaluator:
    """Evaluation over a whole split in batches of one size: the last one is filled up with examples of no weight."""

    def __init__(
        self,
        model: nnx.Module,
        split: Split,
        objective: Objective | nn.Module,
        transform: Callable[[Any], Any],
        batch_size: int,
    ):
        self.step = make_eval_step(model, objective, _gather(transform))
        self.data = jax.device_put((split.inputs, split.targets))
        size = min(batch_size, len(split))
        positions = np.arange(-(-len(split) // size) * size).reshape(-1, size)
        self.batches = [(np.minimum(p, len(split) - 1), (p < len(split)).astype(np.float32)) for p in positions]

    def __call__(self, params: nnx.State, model_state: nnx.State) -> Record:
        sums = [self.step(params, model_state, (*self.data, *batch)) for batch in self.batches]
        return means(_total(sums), "test")


def evaluate(
    model: nnx.Module,
    split: Split,
    *,
    objective: Objective | nn.Module,
    transform: Callable[[Any], Any] = lambda inputs: inputs,
    batch_size: int = 250,
) -> Record:
    """Returns the mean metrics of ``model`` in evaluation mode over all examples of ``split``.

    Arguments are those of :func:`fit`.

    >>> import functools, flaxnets
    >>> from flaxnets.data import fit_images, load
    >>> from flaxnets.training import classification
    >>> model, test = flaxnets.create_model("mlp"), load("digits").test
    >>> transform = functools.partial(fit_images, input_shape=(1, 28, 28))
    >>> sorted(evaluate(model, test, objective=classification, transform=transform))
    ['test_accuracy', 'test_loss']
    """
    _, params, model_state = nnx.split(model, nnx.Param, ...)
    return _Evaluator(model, split, objective, transform, batch_size)(params, model_state)


def _not_finite(sums: Sequence[Metrics], epoch: int) -> FloatingPointError:
    step = next(i for i, metrics in enumerate(jax.device_get(sums), start=1) if metrics["nonfinite"])
    return FloatingPointError(
        f"the loss or a gradient became infinite or NaN at step {step} of epoch {epoch}; the model keeps the last "
        "finite state. Lower the learning rate, clip the gradients, or leave such batches out with nonfinite='skip'"
    )


def fit(
    model: nnx.Module,
    train: Split,
    test: Split,
    *,
    objective: Objective | nn.Module,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    accumulate: int = 1,
    ema_decay: float | None = None,
    nonfinite: NonFinite = "stop",
    remat: Blocks = False,
    penalty: Callable[[nnx.State], jax.Array] | None = None,
    transform: Callable[[Any], Any] = lambda inputs: inputs,
    unit: str = "images",
    on_step: Callable[[int, int, Metrics], None] = lambda epoch, step, metrics: None,
    on_epoch: Callable[[Record], None] = lambda record: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Record]:
    """Trains ``model`` in place.

    Every epoch visits the examples in a new order, in batches of one size; the few that do not fill a last batch sit
    out that epoch, other ones each time.

    Args:
        model: the module to train; it holds the trained state when the call returns.
        train: examples to learn from; both parts stay on the device.
        test: examples to evaluate on after every epoch, all of them.
        objective: such as :func:`flaxnets.training.classification`, or a loss such as ``nn.CrossEntropyLoss()``.
        optimizer: one of :mod:`flaxnets.optim`, or any optax transformation.
        epochs: how often to go through ``train``.
        batch_size: examples a step; at most the size of ``train``.
        seed: decides the order of examples.
        accumulate: how many batches' gradients are averaged for one update.
        ema_decay: how much of a moving average of the parameters an update keeps; with it the average is what is
            evaluated, and what the model holds in the end.
        nonfinite: what a loss or gradient that is infinite or NaN does: ``"stop"`` ends the training with an error,
            ``"skip"`` leaves that batch out, ``"ignore"`` goes on.
        remat: the modules that are computed again in the backward pass, as in :func:`make_train_step`.
        penalty: as in :func:`make_train_step`.
        transform: from stored inputs to the model's, inside the compiled step.
        unit: what the objective counts.
        on_step: called after every step with epoch, step within it, and the metrics' sums, still on the device.
        on_epoch: called after every epoch with its record.
        should_stop: asked after every step and every epoch; True ends the training, without a record of an epoch that
            was not finished.

    Returns:
        One record an epoch: ``epoch``, ``train_loss``, ``train_accuracy`` (both in training mode, along the way),
        ``test_loss``, ``test_accuracy`` and ``images_per_second`` (of training, compilation apart). What the objective
        gives decides: without ``correct`` there is no accuracy, with ``log_perplexity`` there is a perplexity.

    Raises:
        FloatingPointError: with ``nonfinite="stop"``; the model then holds the last finite state.

    >>> import functools, flaxnets
    >>> from flaxnets import optim
    >>> from flaxnets.data import fit_images, load
    >>> from flaxnets.training import classification
    >>> data = load("digits")
    >>> records = fit(flaxnets.create_model("mlp"), data.train, data.test, objective=classification,
    ...     optimizer=optim.SGD(0.1), epochs=1, batch_size=32,
    ...     transform=functools.partial(fit_images, input_shape=(1, 28, 28)))
    >>> records[0]["test_accuracy"] > 0.5
    True
    """
    batch_size = min(batch_size, len(train))
    steps = len(train) // batch_size
    state = TrainState.create(model, optimizer, accumulate=accumulate, ema=ema_decay is not None, seed=seed)
    evaluator = _Evaluator(model, test, objective, transform, batch_size=250)
    data = jax.device_put((train.inputs, train.targets))
    weights = jnp.ones(batch_size)
    options = {"accumulate": accumulate, "ema_decay": ema_decay, "nonfinite": nonfinite}
    options |= {"remat": remat, "penalty": penalty}
    step = make_train_step(model, optimizer, objective, _gather(transform), **options)
    example = (*data, jnp.zeros(batch_size, jnp.int32), weights)
    step = step.lower(state, example).compile()  # type: ignore[attr-defined]  # so that no epoch's time includes it

    records: list[Record] = []
    for epoch in range(1, epochs + 1):
        order = np.random.default_rng((seed, epoch)).permutation(len(train)).astype(np.int32)
        started, sums = time.perf_counter(), []
        for i in range(steps):
            indices = jnp.asarray(order[i * batch_size : (i + 1) * batch_size])
            state, metrics = step(state, (*data, indices, weights))
            sums.append(metrics)
            on_step(epoch, i + 1, metrics)
            if nonfinite == "stop" and i >= _LAG and jax.device_get(sums[i - _LAG]["nonfinite"]):
                break
            if should_stop():
                state.update_model(model)
                return records
        total = _total(sums)  # waits for the last step
        if nonfinite == "stop" and total["nonfinite"]:
            state.update_model(model)
            raise _not_finite(sums, epoch)
        speed = {f"{unit}_per_second": round(total["count"] / (time.perf_counter() - started), 1)}
        test_means = evaluator(state.eval_params, state.model_state)
        records.append({"epoch": epoch, **means(total, "train"), **test_means, **speed})
        on_epoch(records[-1])
        if should_stop():
            break
    state.update_model(model)
    return records
