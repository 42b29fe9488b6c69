"""Why a run ends early: signals, a time limit, no better score."""

import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}  # and the exit statuses that a shell gives for them


class Stopping:
    """Asked after every step whether a run should end. Within it a first signal asks for that; a second one ends the
    program at once.

    Args:
        time_limit: in seconds.
        patience: how many epochs may pass without a better score.

    >>> with Stopping(time_limit=60, patience=2) as stopping:
    ...     stopping.scores = [0.5, 0.4, 0.3]
    ...     stopping.reason
    'no better score for 2 epochs'
    """

    def __init__(self, time_limit: float | None = None, patience: int | None = None):
        self.scores: Sequence[float] = []
        self.signal: int | None = None
        self._deadline = math.inf if time_limit is None else time.monotonic() + time_limit
        self._patience = patience

    @property
    def reason(self) -> str | None:
        """None as long as the run goes on."""
        if self.signal is not None:
            return "interrupted" if self.signal == signal.SIGINT else "terminated"
        if self.exhausted:
            return f"no better score for {self._patience} epochs"
        if time.monotonic() > self._deadline:
            return "the time limit was reached"
        return None

    @property
    def exhausted(self) -> bool:
        """Whether it has been without a better score for too long."""
        if self._patience is None or not self.scores:
            return False
        return len(self.scores) - 1 - self.scores.index(max(self.scores)) >= self._patience

    @property
    def exit_status(self) -> int:
        """That of the signal; 0 without one."""
        return 0 if self.signal is None else SIGNALS[signal.Signals(self.signal)]

    def __enter__(self) -> "Stopping":
        self._previous = {number: signal.signal(number, self._request) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: Any) -> None:
        if self.signal is not None:
            os._exit(SIGNALS[signal.Signals(number)])  # whatever is being written is not there until it is whole
        self.signal = number
        print("\nstopping after this step (once more: at once)", file=sys.stderr)
