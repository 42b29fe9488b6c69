"""Callbacks of :func:`flaxnets.training.fit`: the base class and the common callbacks."""

import contextlib
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from flaxnets.training.checkpoints import CheckpointError, Checkpoints
from flaxnets.training.processes import gather_texts

if TYPE_CHECKING:
    from flaxnets.training.loop import Loop
    from flaxnets.training.progress import Progress

Score = Callable[[Mapping[str, Any]], float]


def negative_loss(record: Mapping[str, Any]) -> float:
    """Return the default score of an epoch: the higher, the better."""
    return -record["test_loss"]


class Callback:
    """Base class of callbacks. Override the methods that you need.

    :func:`flaxnets.training.fit` calls each method for all callbacks in their order. ``loop`` is the
    :class:`flaxnets.training.Loop` of the run: read its progress, or call ``loop.stop(reason)``.

    Attributes:
        every: If set, ``on_step`` is also called after every multiple of this number of steps of an epoch, when one
            execution takes several steps.

    >>> class PrintLoss(Callback):
    ...     def on_epoch(self, loop, record):
    ...         print(f"epoch {record['epoch']}: {record['test_loss']:.3f}")
    """

    every: int | None = None

    def restore(self, loop: "Loop") -> None:
        """Continue from an earlier run with ``loop.restore``; called before ``on_start`` of all callbacks."""

    def on_start(self, loop: "Loop") -> None:
        """Called before the step is compiled. ``loop.epoch`` and ``loop.step`` tell where a resumed run continues."""

    def on_step(self, loop: "Loop") -> None:
        """Called after every execution. ``loop.metrics`` are still on the device; reading them blocks."""

    def on_epoch(self, loop: "Loop", record: dict[str, Any]) -> None:
        """Called after every epoch and its evaluation; the model has the trained state. ``record`` may be changed."""

    def on_end(self, loop: "Loop") -> None:
        """Called after the last step of a run without an error; the model has the trained state."""

    def close(self) -> None:
        """Release resources; called when the run returns or raises."""


class Checkpointing(Callback):
    """Save checkpoints after every epoch and at the end, and resume from the last one.

    A checkpoint that cannot be saved is a warning, unless it is the last.

    Args:
        checkpoints: The checkpoints.
        every: Also save after every multiple of this number of steps within an epoch.
        score: Score of an epoch's record, for the best checkpoints; the higher, the better.
        resume: Continue from the last checkpoint if there is one. The run then ends with the same bits as an
            uninterrupted one.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Checkpoints(folder) as checkpoints:
    ...     Checkpointing(checkpoints, every=100, resume=True).every
    100
    """

    def __init__(
        self, checkpoints: Checkpoints, *, every: int | None = None, score: Score = negative_loss, resume: bool = False
    ):
        self.checkpoints, self.every, self._score, self._resume = checkpoints, every, score, resume

    def restore(self, loop: "Loop") -> None:
        """Restore the last checkpoint; with many processes, the same checkpoint in all.

        Raises:
            CheckpointError: If no checkpoint can be used, or the processes do not read the same one.
        """
        if not self._resume:
            return
        with _errors_in_all(loop):
            checkpoint = self.checkpoints.restore_latest(loop.state)
        if loop.has_many_processes:
            steps = gather_texts("none" if checkpoint is None else str(checkpoint.step))
            if len({*steps}) > 1:
                raise CheckpointError(
                    f"{self.checkpoints.directory}: the last checkpoints of the processes are {', '.join(steps)}. "
                    "Expected one folder for all processes. Fix: use a folder on a shared file system"
                )
        if checkpoint is not None:
            loop.restore(checkpoint.state, checkpoint.progress)

    def on_step(self, loop: "Loop") -> None:
        """Save a checkpoint if one is due within the epoch."""
        is_due = self.every is not None and loop.step % self.every == 0
        if is_due and loop.step < loop.steps and loop.stop_reason is None:
            self._save_unless_busy(loop)

    def on_epoch(self, loop: "Loop", record: dict[str, Any]) -> None:
        """Save a checkpoint."""
        self._save_unless_busy(loop)

    def on_end(self, loop: "Loop") -> None:
        """Save the last checkpoint, and wait until it is on disk.

        Raises:
            CheckpointError: If it cannot be saved.
        """
        with _errors_in_all(loop):
            self._save(loop)
            self.checkpoints.wait()

    def _save_unless_busy(self, loop: "Loop") -> None:
        # With many processes, all must decide alike, and only process 0 knows whether a save is in progress.
        if self.checkpoints.busy and not loop.has_many_processes:
            return
        try:
            self._save(loop)
        except CheckpointError as error:
            warnings.warn(str(error), stacklevel=2)

    def _save(self, loop: "Loop") -> None:
        score = self._score(loop.records[-1]) if loop.records and not loop.step else None
        self.checkpoints.save(loop.updates, loop.state, loop.progress(), score)


@contextlib.contextmanager
def _errors_in_all(loop: "Loop") -> Iterator[None]:
    """Raise the CheckpointError of the first process that has one in all processes."""
    error = ""
    try:
        yield
    except CheckpointError as reason:
        if not loop.has_many_processes:
            raise
        error = str(reason)
    if loop.has_many_processes:
        for text in filter(None, gather_texts(error)):
            raise CheckpointError(text)


class EarlyStopping(Callback):
    """End the run after epochs without a better score.

    Args:
        patience: Number of epochs in a row without a better score.
        score: Score of an epoch's record; the higher, the better.
        first_epoch: Epochs before this one do not count.

    >>> EarlyStopping(patience=3).is_exhausted([{"epoch": epoch, "test_loss": epoch} for epoch in (1, 2, 3, 4)])
    True
    """

    def __init__(self, patience: int, score: Score = negative_loss, first_epoch: int = 1):
        self._patience, self._score, self._first_epoch = patience, score, first_epoch

    def is_exhausted(self, records: list[dict[str, Any]]) -> bool:
        """Return whether the last epochs had no better score."""
        scores = [self._score(record) for record in records if record["epoch"] >= self._first_epoch]
        return bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= self._patience

    def on_start(self, loop: "Loop") -> None:
        """Stop a resumed run that had ended."""
        if self.is_exhausted(loop.records):
            loop.stop(f"no better score for {self._patience} epochs")

    def on_epoch(self, loop: "Loop", record: dict[str, Any]) -> None:
        """Stop the run if its patience is exhausted."""
        self.on_start(loop)


class TimeLimit(Callback):
    """Stop the run after a time limit, at the end of the current step.

    Args:
        seconds: The limit, counted from the construction of this object.

    >>> TimeLimit(3600.0).is_over
    False
    """

    def __init__(self, seconds: float = math.inf):
        self._deadline = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        """Whether the time limit is reached."""
        return time.monotonic() > self._deadline

    def on_step(self, loop: "Loop") -> None:
        """Stop the run if the time limit is reached."""
        if self.is_over:
            loop.stop("the time limit was reached")

    def on_epoch(self, loop: "Loop", record: dict[str, Any]) -> None:
        """Stop the run if the time limit is reached."""
        self.on_step(loop)


class ProgressBar(Callback):
    """Show a progress bar with metrics, speed and remaining time, and print a line for every epoch.

    Outside a terminal only lines are printed. The bar shows "compiling" until the first step is done.
    """

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def on_start(self, loop: "Loop") -> None:
        """Start the bar."""
        from flaxnets.training.progress import Progress

        self._progress = Progress(loop.epochs, loop.steps, loop.unit)
        self._progress.start()
        if loop.updates:
            self._progress.resume(loop.epoch, loop.step)

    def on_step(self, loop: "Loop") -> None:
        """Update the bar."""
        assert self._progress is not None
        self._progress.step(loop.epoch, loop.step, loop.metrics)

    def on_epoch(self, loop: "Loop", record: dict[str, Any]) -> None:
        """Print the record."""
        assert self._progress is not None
        self._progress.epoch(record)

    def close(self) -> None:
        """Remove the bar."""
        if self._progress is not None:
            self._progress.stop()


class TensorBoard(Callback):
    """Write the records for TensorBoard; needs tensorboardX.

    Args:
        folder: Folder of the event files; created with the first record.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = folder
        self._writer: Any = None

    def on_epoch(self, loop: "Loop", record: dict[str, Any]) -> None:
        """Write a record."""
        from tensorboardX import SummaryWriter

        self._writer = self._writer or SummaryWriter(str(self.folder))
        for name, value in record.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, record["epoch"])
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


class PlotCurves(Callback):
    """Draw loss, and accuracy or perplexity, over the epochs when the run ends; needs matplotlib.

    Args:
        path: The PNG file to write, such as ``curves.png``.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = path

    def on_end(self, loop: "Loop") -> None:
        """Draw the curves."""
        from flaxnets.training.plots import plot_curves

        if loop.records:
            plot_curves(loop.records, self.path)
