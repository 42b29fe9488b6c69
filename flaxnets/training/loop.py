"""The loop around the steps of an engine: epochs, evaluation and callbacks."""

import contextlib
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from flaxnets.training.batches import Batches, Pace
from flaxnets.training.callbacks import Callback
from flaxnets.training.engine import Engine, EngineState, Record
from flaxnets.training.objectives import Metrics, columns, means
from flaxnets.training.optimizers import learning_rate
from flaxnets.training.processes import StopFlags, first_process, gather_texts
from flaxnets.training.train_state import TrainState

# The loop checks the metrics of this many executions before the last one, so that the device never waits for the host.
_LAG = 3


class Loop:
    """The progress of a run, which :func:`fit` passes to its callbacks.

    Attributes:
        engine: The engine.
        epochs: Number of epochs of the run.
        steps: Number of steps of an epoch.
        unit: Unit of the objective's count, such as ``images``.
        epoch: Number of the current epoch, from 1. In ``on_epoch``, the number of the next epoch.
        step: Number of completed steps of this epoch.
        metrics: Sums of the metrics of the last execution, still on the device. After an execution of several steps
            they have an axis of steps, with 0 after the last step.
        records: Records of the finished epochs.
        stop_reason: Why the run ends before its last epoch; None while the run continues.
        has_many_processes: Whether the run has many processes, which take the same steps.
    """

    def __init__(self, engine: Engine, state: TrainState, epochs: int, steps: int, unit: str = "images"):
        self.engine, self.epochs, self.steps, self.unit = engine, epochs, steps, unit
        self.epoch, self.step, self.sums, self.records = 1, 0, [], []
        self.metrics: Metrics = {}
        self.stop_reason: str | None = None
        self.has_many_processes = engine.sharding is not None and engine.sharding.has_many_processes
        self._request: str | None = None
        self._flags: StopFlags | None = None
        self._state: TrainState | EngineState = state
        self._train_state: TrainState | None = None

    @property
    def state(self) -> TrainState:
        """The state with names and logical shapes. Later steps do not change its arrays."""
        if self._train_state is None:
            self._train_state = self.engine.train_state(self._state)
        return self._train_state

    @property
    def updates(self) -> int:
        """Number of completed steps of all epochs."""
        return (self.epoch - 1) * self.steps + self.step

    def stop(self, reason: str) -> None:
        """End the run after this step. An epoch that is not finished has no record.

        With many processes, one of them can call this; all of them stop at the same step, a few steps later.
        """
        if self.has_many_processes:
            self._request = self._request or reason
        else:
            self.stop_reason = self.stop_reason or reason

    def _agree_after_step(self) -> None:
        """Stop if any process has requested it some executions ago."""
        if self.has_many_processes and self.stop_reason is None:
            assert self.engine.sharding is not None
            self._flags = self._flags or StopFlags(self.engine.sharding.mesh)
            if self._flags.exchange(self._request is not None):
                self._agree()

    def _agree(self) -> None:
        """Stop if any process has requested it so far. Blocks on all processes."""
        if self.has_many_processes and self.stop_reason is None:
            self._flags = None
            self.stop_reason = next(filter(None, gather_texts(self._request or "")), None)

    def progress(self) -> dict[str, Any]:
        """Return the progress for a checkpoint, in values that JSON can store or arrays on the device."""
        return {"epoch": self.epoch, "step": self.step, "sums": list(self.sums), "records": self.records}

    def restore(self, state: TrainState, progress: Mapping[str, Any]) -> None:
        """Continue from a checkpoint.

        Args:
            state: The state of a run with the same model and optimizer.
            progress: What :meth:`progress` returned when the state was saved.
        """
        self._state, self._train_state = state, None
        self.epoch, self.step = progress["epoch"], progress["step"]
        self.sums, self.records = list(progress["sums"]), list(progress["records"])

    def _execute(self, batch: Any, count: int) -> None:
        self._state, self.metrics = self.engine.step(self._state, batch)
        self._train_state = None
        self.step += count
        self.sums.append((count, self.metrics))

    def _finish_epoch(self, record: Record) -> None:
        self.epoch, self.step, self.sums = self.epoch + 1, 0, []
        self.records.append(record)

    def _was_not_finite(self) -> bool:
        """Check an earlier execution, whose metrics are available without waiting."""
        return len(self.sums) > _LAG and bool(np.any(jax.device_get(self.sums[-1 - _LAG][1]["nonfinite"])))

    def _not_finite(self, flags: list[float]) -> FloatingPointError:
        step = next(i for i, value in enumerate(flags, start=1) if value)
        return FloatingPointError(
            f"the loss or a gradient became infinite or NaN at step {step} of epoch {self.epoch}; the model keeps the "
            "last finite state. Fix: lower the learning rate, clip the gradients, or skip these batches with "
            "nonfinite='skip'"
        )


def fit(
    engine: Engine,
    train: Batches,
    test: Batches,
    *,
    epochs: int,
    seed: int = 0,
    callbacks: Iterable[Callback] = (),
    steps_per_execution: int | Literal["auto"] = 1,
    unit: str = "images",
) -> list[Record]:
    """Train the model of an engine in place.

    Every epoch visits the examples in a new order, in batches of one size. Examples that do not fill the last batch
    are skipped; each epoch skips different examples.

    Args:
        engine: The engine. Its model has the trained state when the call returns, and in ``on_epoch``.
        train: Training batches.
        test: Batches for the evaluation after every epoch.
        epochs: Number of passes through ``train``.
        seed: Seed of the order of examples and of the random keys of the batches.
        callbacks: See :class:`flaxnets.training.Callback`.
        steps_per_execution: Number of steps of an execution of the device, for a :class:`flaxnets.data.Split` in
            ``train``. ``"auto"`` batches steps until one execution takes about 10 ms. Results are bit-identical for
            every value except 1.
        unit: Unit of the objective's count.

    Returns:
        One record for each epoch: ``epoch``, ``train_loss``, ``train_accuracy`` (means over the training steps),
        ``test_loss``, ``test_accuracy``, ``images_per_second`` (of training, without compilation), and the
        ``learning_rate`` of the last update for an optimizer of :mod:`flaxnets.optim`. Accuracy or perplexity are
        present if the objective returns ``correct`` or ``log_perplexity``.

    Raises:
        FloatingPointError: With ``nonfinite="stop"``; the model then has the last finite state.
        CheckpointError: From :class:`flaxnets.training.Checkpointing`, if no checkpoint can be used to resume from, or
            the last one cannot be saved.

    >>> import functools, flaxnets
    >>> from flaxnets import optim
    >>> from flaxnets.data import fit_images, load
    >>> from flaxnets.training import classification
    >>> data, transform = load("digits"), functools.partial(fit_images, input_shape=(1, 28, 28))
    >>> engine = Engine(flaxnets.create_model("mlp"), optim.SGD(0.1), classification)
    >>> train, test = Batches(data.train, 32, transform), Batches(data.test, transform=transform)
    >>> fit(engine, train, test, epochs=1)[0]["test_accuracy"] > 0.5
    True
    """
    callbacks, train = list(callbacks), train.placed(engine.sharding)
    test = test.placed(engine.sharding, fill=True)
    loop = Loop(engine, engine.init(seed), epochs, train.steps, unit)
    with contextlib.ExitStack() as stack:
        for callback in callbacks:
            stack.callback(callback.close)
        for callback in callbacks:
            callback.restore(loop)
        for callback in callbacks:
            callback.on_start(loop)
        loop._agree()
        pace = _pace(loop, train, steps_per_execution, callbacks)
        engine.compile(loop.state, train.example() if pace is None else next(train.epoch(seed, 1, pace=pace)))
        while loop.epoch <= epochs and loop.stop_reason is None:
            trained = _train_epoch(loop, train, seed, pace, callbacks)
            if trained is None:
                break
            _finish_epoch(loop, test, *trained, callbacks)
        engine.update_model(loop.state)
        for callback in callbacks:
            callback.on_end(loop)
    return loop.records


def _pace(
    loop: Loop, train: Batches, steps_per_execution: int | Literal["auto"], callbacks: list[Callback]
) -> Pace | None:
    if steps_per_execution == 1 or not train.is_stored:
        return None
    if steps_per_execution == "auto" and not loop.engine.is_fast_in_loops(loop.state, train.example()):
        return None
    every = [callback.every for callback in callbacks if callback.every is not None]
    agree = first_process if loop.has_many_processes else bool
    return Pace(steps_per_execution, math.gcd(*every) if every else None, agree)


def _train_epoch(
    loop: Loop, train: Batches, seed: int, pace: Pace | None, callbacks: list[Callback]
) -> tuple[Record, float] | None:
    """Train until the epoch ends; return the mean metrics and the speed, or None if the run stops before."""
    started, first, stops = time.perf_counter(), loop.step, loop.engine.options.nonfinite == "stop"
    for batch in train.epoch(seed, loop.epoch, loop.step, pace):
        began = time.perf_counter()
        loop._execute(batch, 1 if pace is None else int(batch.count))
        if pace is not None:
            pace.update(began, loop.metrics)
        if stops and loop._was_not_finite():
            break
        for callback in callbacks:
            callback.on_step(loop)
        loop._agree_after_step()
        if loop.stop_reason is not None:
            break
    steps = columns(loop.sums)  # blocks on the last step
    if stops and any(steps["nonfinite"]):
        loop.engine.update_model(loop.state)
        raise loop._not_finite(steps["nonfinite"])
    if loop.step < loop.steps:
        return None
    speed = round(sum(steps["count"][first:]) / (time.perf_counter() - started), 1)
    return means({name: sum(values) for name, values in steps.items()}, "train"), speed


def _finish_epoch(loop: Loop, test: Batches, trained: Record, speed: float, callbacks: list[Callback]) -> None:
    """Evaluate, make the record of an epoch, and call the callbacks."""
    record = {"epoch": loop.epoch, **trained, **loop.engine.evaluate(loop.state, test)}
    record[f"{loop.unit}_per_second"] = speed
    rate = learning_rate(loop.engine.optimizer, jnp.maximum(loop.state.step - 1, 0))
    if rate is not None:
        record["learning_rate"] = np.asarray(jax.device_get(rate)).item()
    loop._finish_epoch(record)
    loop.engine.update_model(loop.state)
    for callback in callbacks:
        callback.on_epoch(loop, record)
    loop._agree()
