"""What a person sees of a run while it goes on."""

import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from flaxnets.training.objectives import Metrics, means

_EVERY = 0.2  # seconds between two looks at the metrics: each look waits for the device
_FORMATS = {"loss": ".4g", "perplexity": ".4g", "accuracy": ".2%"}


def describe(record: Mapping[str, Any], part: str, *names: str) -> str:
    """Returns metrics of a part in words: those named, or all that the record has.

    >>> describe({"test_loss": 0.25, "test_accuracy": 0.9, "train_loss": 0.5}, "test")
    'test loss 0.25  accuracy 90.00%'
    """
    has = [name for name in names or _FORMATS if f"{part}_{name}" in record]
    return f"{part} " + "  ".join(f"{name} {record[f'{part}_{name}']:{_FORMATS[name]}}" for name in has)


class Progress:
    """A progress bar with loss, accuracy and speed, and a line for every epoch.

    Args:
        epochs: how many there will be.
        steps: steps in each.
        unit: what the objective counts.

    >>> with Progress(epochs=1, steps=10) as progress:
    ...     progress.step(1, 1, {"loss": 64.0, "correct": 16.0, "count": 32.0})
    """

    def __init__(self, epochs: int, steps: int, unit: str = "images"):
        self._epochs = epochs
        self._unit = unit
        console = Console()
        self._bar = Bar(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(), console=console, transient=True,
            disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("compiling", total=steps, state="")
        self._looked = 0.0
        self._started = time.perf_counter()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, epoch: int, step: int, metrics: Metrics) -> None:
        """Shows where the run is; looks at the metrics only now and then."""
        now = time.perf_counter()
        if step == 1:
            self._started = now
        if now - self._looked < _EVERY and step != 1:
            return
        self._looked = now
        state = describe(means(metrics, "train"), "train")
        if step > 1:
            done = (step - 1) * float(metrics["count"])
            state += f"  {done / (time.perf_counter() - self._started):.0f} {self._unit}/s"
        self._bar.update(self._task, completed=step, description=f"epoch {epoch}/{self._epochs}", state=state)

    def epoch(self, record: dict[str, Any]) -> None:
        """Prints an epoch's record as a line that stays."""
        words = [f"{record['epoch']}/{self._epochs}", describe(record, "train"), describe(record, "test")]
        words.append(f"{record[f'{self._unit}_per_second']:.0f} {self._unit}/s")
        self._bar.console.print("  ".join(words), highlight=False, soft_wrap=True)
