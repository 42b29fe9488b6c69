"""What every form makes of a network: something to call again and again."""

import dataclasses
from collections.abc import Callable
from typing import Any

LEARNING_RATE, MOMENTUM = 0.01, 0.9


@dataclasses.dataclass(frozen=True)
class Job:
    """A step, and how to wait until what it returned is there.

    Attributes:
        step: makes one step and returns its loss, or the outputs.
        wait: returns when they are computed; PyTorch computes them at once.
    """

    step: Callable[[], Any]
    wait: Callable[[Any], Any] = lambda result: None


class Unavailable(Exception):
    """A form that a network does not have, or that cannot run on this machine; the message says why."""
