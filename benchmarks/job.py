"""The job that each variant makes of a network: a step that the benchmark calls repeatedly."""

import dataclasses
from collections.abc import Callable
from typing import Any

LEARNING_RATE, MOMENTUM = 0.01, 0.9


@dataclasses.dataclass(frozen=True)
class Job:
    """A step, and a function that waits for its result.

    Attributes:
        step: Runs one step and returns the loss (training) or the outputs (inference).
        wait: Blocks until the result of ``step`` is computed. PyTorch on CPUs computes synchronously: no wait.
    """

    step: Callable[[], Any]
    wait: Callable[[Any], Any] = lambda result: None


class Unavailable(Exception):
    """Raised for a variant that does not exist for a network, or cannot run on this machine. The message says why."""
