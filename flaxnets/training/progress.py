"""What a person sees of a run while it goes on."""

import time
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from flaxnets.training.objectives import Metrics

_EVERY = 0.2  # seconds between two looks at the metrics: each look waits for the device


class Progress:
    """A progress bar with loss, accuracy and images a second, and a line for every epoch.

    Args:
        epochs: how many there will be.
        steps: steps in each.
        batch_size: examples in each step.

    >>> with Progress(epochs=1, steps=10, batch_size=32) as progress:
    ...     progress.step(1, 1, {"loss": 64.0, "correct": 16.0, "count": 32.0})
    """

    def __init__(self, epochs: int, steps: int, batch_size: int):
        self._epochs = epochs
        self._batch_size = batch_size
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
        count = float(metrics["count"])
        state = f"loss {float(metrics['loss']) / count:.4f}"
        if "correct" in metrics:
            state += f"  accuracy {float(metrics['correct']) / count:.1%}"
        if step > 1:
            state += f"  {(step - 1) * self._batch_size / (time.perf_counter() - self._started):.0f} images/s"
        self._bar.update(self._task, completed=step, description=f"epoch {epoch}/{self._epochs}", state=state)

    def epoch(self, record: dict[str, Any]) -> None:
        """Prints an epoch's record as a line that stays."""
        words = [f"{record['epoch']}/{self._epochs}"]
        for part in ("train", "test"):
            words.append(f"{part} loss {record[f'{part}_loss']:.4f}")
            if f"{part}_accuracy" in record:
                words.append(f"accuracy {record[f'{part}_accuracy']:.2%}")
        words.append(f"{record['images_per_second']:.0f} images/s")
        self._bar.console.print("  ".join(words), highlight=False, soft_wrap=True)
