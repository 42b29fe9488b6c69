"""The progress bar of a run."""

import time
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from flaxnets.training.objectives import Metrics, means

# Reading the metrics blocks on the device, so they are read at intervals of this many seconds: for a bar, for lines.
_EVERY, _EVERY_LINE = 0.2, 15.0
_FORMATS = {"loss": ".4g", "perplexity": ".4g", "accuracy": ".2%"}


def describe(record: Mapping[str, Any], part: str, *names: str) -> str:
    """Format the metrics of a part (``train`` or ``test``): the named metrics, or all metrics of the record.

    >>> describe({"test_loss": 0.25, "test_accuracy": 0.9, "train_loss": 0.5}, "test")
    'test loss 0.25  accuracy 90.00%'
    """
    has = [name for name in names or _FORMATS if f"{part}_{name}" in record]
    return f"{part} " + "  ".join(f"{name} {record[f'{part}_{name}']:{_FORMATS[name]}}" for name in has)


class Progress:
    """A progress bar with loss, accuracy, speed and remaining time, and one line for each epoch.

    Outside of a terminal, only lines are printed.

    Args:
        epochs: Number of epochs.
        steps: Steps of an epoch.
        unit: Unit of the objective's count, such as ``images``.

    >>> with Progress(epochs=1, steps=10) as progress:
    ...     progress.step(1, 1, {"loss": 64.0, "correct": 16.0, "count": 32.0})
    """

    def __init__(self, epochs: int, steps: int, unit: str = "images"):
        self._epochs = epochs
        self._unit = unit
        console = Console()
        self._bar = Bar(
            TextColumn("{task.description}"), BarColumn(bar_width=8), TextColumn("{task.percentage:3.0f}%"),
            TextColumn("{task.fields[state]}"), console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("compiling", total=steps, state="")
        self._steps = steps
        self._epoch, self._first, self._looked, self._started = 0, 0, 0.0, 0.0
        self._began: tuple[int, float] | None = None  # completed steps of all epochs at the first call, and its time

    def start(self) -> None:
        """Show the bar."""
        self._bar.start()

    def stop(self) -> None:
        """Remove the bar."""
        self._bar.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def resume(self, epoch: int, step: int) -> None:
        """Print where a resumed run continues."""
        self._print(f"resumed in epoch {epoch} after step {step}")

    def step(self, epoch: int, step: int, metrics: Metrics) -> None:
        """Show the progress. The metrics are read only at intervals."""
        now, terminal = time.perf_counter(), not self._bar.disable
        if epoch != self._epoch:
            self._epoch, self._first, self._started = epoch, step, now
            self._looked = now if not terminal else 0.0  # a line for a short epoch would repeat the epoch's line
        self._began = self._began or ((epoch - 1) * self._steps + step, now)
        if now - self._looked < (_EVERY if terminal else _EVERY_LINE) and (step < self._steps or not terminal):
            return
        self._looked = now
        state = describe(means({name: np.sum(sums) for name, sums in metrics.items()}, "train"), "train")
        if step > self._first:
            done = (step - self._first) * np.max(metrics["count"])
            state += f"  {done / (time.perf_counter() - self._started):.0f} {self._unit}/s"
        state += self._left(epoch, step)
        where = f"epoch {epoch}/{self._epochs}"
        testing = "testing" if step == self._steps else where
        self._bar.update(self._task, completed=step, description=testing, state=state.removeprefix("train "))
        if not terminal:
            self._print(f"{where}  step {step}/{self._steps}  {state}")

    def epoch(self, record: dict[str, Any]) -> None:
        """Print an epoch's record as a permanent line."""
        words = [f"{record['epoch']}/{self._epochs}", describe(record, "train"), describe(record, "test")]
        words.append(f"{record[f'{self._unit}_per_second']:.0f} {self._unit}/s")
        self._print("  ".join(words))

    def _left(self, epoch: int, step: int) -> str:
        """Format the remaining time of all epochs with their tests; empty before the first measurement."""
        assert self._began is not None
        position = (epoch - 1) * self._steps + step
        done, seconds = position - self._began[0], time.perf_counter() - self._began[1]
        if not done:
            return ""
        left = round(seconds / done * (self._epochs * self._steps - position))
        hours, minutes = divmod(left // 60, 60)
        return f"  {hours}:{minutes:02}:{left % 60:02} left" if hours else f"  {minutes}:{left % 60:02} left"

    def _print(self, line: str) -> None:
        self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)
