"""The loop around the steps: epochs, shuffling, checkpoints."""

import dataclasses
import time
import warnings
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.typing import DTypeLike

from flaxnets import kernels as forms
from flaxnets import nn
from flaxnets.data import Split
from flaxnets.training.batches import Augment, Batches, Stream
from flaxnets.training.checkpoints import CheckpointError, Checkpoints
from flaxnets.training.evaluation import EVALUATION_BATCH, Evaluator, Record
from flaxnets.training.execution import Pace, columns, compile_train_step, is_fast_in_loops, total
from flaxnets.training.objectives import Metrics, Objective, means
from flaxnets.training.remat import Blocks
from flaxnets.training.step import Kernels, NonFinite, make_train_step
from flaxnets.training.train_state import TrainState

# How many executions behind the last one the loop looks for a loss that is not finite.
_LAG = 3


@dataclasses.dataclass
class _Place:
    """How far a run has come: what a checkpoint holds beside the state.

    Attributes:
        epoch: that which goes on.
        step: how many steps of it are done.
        sums: the metrics of its executions, and how many steps each took.
        records: of the epochs before.
    """

    epoch: int = 1
    step: int = 0
    sums: list[Any] = dataclasses.field(default_factory=list)
    records: list[Record] = dataclasses.field(default_factory=list)

    def next_epoch(self, record: Record) -> None:
        self.epoch, self.step, self.sums = self.epoch + 1, 0, []
        self.records.append(record)


def _not_finite(place: _Place) -> FloatingPointError:
    step = next(i for i, value in enumerate(columns(place.sums)["nonfinite"], start=1) if value)
    return FloatingPointError(
        f"the loss or a gradient became infinite or NaN at step {step} of epoch {place.epoch}; the model keeps the "
        "last finite state. Lower the learning rate, clip the gradients, or leave such batches out with "
        "nonfinite='skip'"
    )


def _was_not_finite(place: _Place) -> bool:
    """Looks at an execution that is long done, so that the device never waits."""
    return len(place.sums) > _LAG and bool(np.any(jax.device_get(place.sums[-1 - _LAG][1]["nonfinite"])))


def _restore(checkpoints: Checkpoints, state: TrainState) -> tuple[TrainState, _Place]:
    found = checkpoints.restore_latest(state)
    return (state, _Place()) if found is None else (found.state, _Place(**found.progress))


class _Saver:
    """Saves checkpoints on the way; one that cannot be saved is a warning, unless it is the last."""

    def __init__(
        self,
        checkpoints: Checkpoints | None,
        steps: int,
        every: int | None,
        score: Callable[[Record], float],
        to_logical: Callable[[Any], TrainState],
    ):
        self._checkpoints, self._steps, self._every, self._score = checkpoints, steps, every, score
        self._to_logical = to_logical

    def __call__(self, state: Any, place: _Place, last: bool = False) -> None:
        if self._checkpoints is None or not (last or self._due(place)):
            return
        score = self._score(place.records[-1]) if place.records and not place.step else None
        step = (place.epoch - 1) * self._steps + place.step
        try:
            self._checkpoints.save(step, self._to_logical(state), {**vars(place), "sums": list(place.sums)}, score)
        except CheckpointError as error:
            if last:
                raise
            warnings.warn(str(error), stacklevel=2)
        if last:
            self._checkpoints.wait()

    def _due(self, place: _Place) -> bool:
        if self._checkpoints is None or self._checkpoints.busy:
            return False
        return not place.step or (self._every is not None and place.step % self._every == 0)


def fit(
    model: nnx.Module,
    train: Split | Stream,
    test: Split | Stream,
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
    compute_dtype: DTypeLike | None = None,
    penalty: Callable[[nnx.State], jax.Array] | None = None,
    kernels: Kernels = "auto",
    steps_per_execution: int | Literal["auto"] = 1,
    transform: Callable[[Any], Any] = lambda inputs: inputs,
    augment: Augment | None = None,
    unit: str = "images",
    learning_rate: optax.Schedule | None = None,
    checkpoints: Checkpoints | None = None,
    checkpoint_every: int | None = None,
    score: Callable[[Record], float] = lambda record: -record["test_loss"],
    resume: bool = False,
    on_resume: Callable[[int, int, list[Record]], None] = lambda epoch, step, records: None,
    on_step: Callable[[int, int, Metrics], None] = lambda epoch, step, metrics: None,
    on_epoch: Callable[[Record], None] = lambda record: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Record]:
    """Trains ``model`` in place.

    Every epoch visits the examples in a new order, in batches of one size; the few that do not fill a last batch sit
    out that epoch, other ones each time.

    Args:
        model: the module to train; it holds the trained state when the call returns, and during ``on_epoch``.
        train: examples to learn from; the arrays of a :class:`flaxnets.data.Split` stay on the device.
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
        compute_dtype: as in :func:`make_train_step`.
        penalty: as in :func:`make_train_step`.
        kernels: as in :func:`make_train_step`; the state lies as they want it, and comes back as torch has it.
        steps_per_execution: how many steps the device takes at once, of a Split as ``train``; ``"auto"``: as many as
            take some milliseconds, where the model's layers are as fast so. It changes no bit of what comes out,
            but that 1 is another program than all others.
        transform: from stored inputs to the model's, inside the compiled step.
        augment: from stored inputs, targets and a random key to the model's inputs, and targets, in training; in place
            of ``transform``.
        unit: what the objective counts.
        learning_rate: the optimizer's schedule; with it the records have a ``learning_rate``, that of the last update.
        checkpoints: where the state is saved after every epoch, and where the call ends.
        checkpoint_every: also after so many steps of an epoch.
        score: how good an epoch's record is, the higher the better, for the best checkpoints.
        resume: go on from the last of ``checkpoints``, if there is one, to the bit as if nothing had happened.
        on_resume: called before a resumed run goes on, with the epoch, the steps of it that are done, and the records.
        on_step: called after every execution with epoch, step within it, and the metrics' sums, still on the device;
            if an execution takes several steps, they have an axis of steps, with 0 behind the last one.
        on_epoch: called after every epoch with its record.
        should_stop: asked after every execution and every epoch; True ends the training, without a record of an epoch
            that was not finished.

    Returns:
        One record an epoch: ``epoch``, ``train_loss``, ``train_accuracy`` (both in training mode, along the way),
        ``test_loss``, ``test_accuracy`` and ``images_per_second`` (of training, compilation apart). What the objective
        gives decides: without ``correct`` there is no accuracy, with ``log_perplexity`` there is a perplexity.

    Raises:
        FloatingPointError: with ``nonfinite="stop"``; the model then holds the last finite state.
        ValueError: as :func:`make_train_step`.
        RuntimeError: for ``kernels`` that do not work here.
        CheckpointError: if there are checkpoints to resume from and none can be used, or the last one cannot be saved.

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
    batches = Batches(train, batch_size, transform, augment)
    kernels = forms.choose(kernels)
    evaluator = Evaluator(model, test, objective, transform, EVALUATION_BATCH, kernels, compute_dtype)
    state = TrainState.create(model, optimizer, accumulate=accumulate, ema=ema_decay is not None, seed=seed)
    options = {"accumulate": accumulate, "ema_decay": ema_decay, "nonfinite": nonfinite, "remat": remat}
    step = make_train_step(
        model, optimizer, objective, batches, compute_dtype=compute_dtype, penalty=penalty, kernels=kernels, **options
    )
    example, pace = batches.example(), None
    several = steps_per_execution != 1 and isinstance(train, Split)
    if several and (steps_per_execution != "auto" or is_fast_in_loops(step, state, example)):
        pace = Pace(steps_per_execution, checkpoint_every)
        example = next(batches.epoch(seed, 1, pace=pace))
    step, to_physical, to_logical = compile_train_step(step, state, example, kernels)
    state, place = _restore(checkpoints, state) if checkpoints and resume else (state, _Place())
    state = to_physical(state)
    save = _Saver(checkpoints, batches.steps, checkpoint_every, score, to_logical)

    if place.epoch > 1 or place.step:
        on_resume(place.epoch, place.step, place.records)
    held = None  # the state that the model has
    while place.epoch <= epochs and not should_stop():
        started, before = time.perf_counter(), len(place.sums)
        for chosen in batches.epoch(seed, place.epoch, place.step, pace):
            began = time.perf_counter()
            state, metrics = step(state, chosen)
            count = 1
            if pace is not None:
                count = int(chosen.count)
                pace.see(began, metrics)
            place.step += count
            place.sums.append((count, metrics))
            on_step(place.epoch, place.step, metrics)
            if should_stop() or (nonfinite == "stop" and _was_not_finite(place)):
                break
            if place.step < batches.steps:
                save(state, place)
        sums = total(place.sums)  # waits for the last step
        if nonfinite == "stop" and sums["nonfinite"]:
            to_logical(state).update_model(model)
            raise _not_finite(place)
        if place.step < batches.steps:
            break
        count = total(place.sums[before:])["count"]
        logical = to_logical(state)
        record = {"epoch": place.epoch, **means(sums, "train"), **evaluator(logical.eval_params, logical.model_state)}
        record[f"{unit}_per_second"] = round(count / (time.perf_counter() - started), 1)
        if learning_rate is not None:
            record["learning_rate"] = np.asarray(learning_rate(jnp.maximum(logical.step - 1, 0))).item()
        place.next_epoch(record)
        logical.update_model(model)
        held = state
        on_epoch(record)
        save(state, place)
    if held is not state:
        to_logical(state).update_model(model)
    save(state, place, last=True)
    return place.records
