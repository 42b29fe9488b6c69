"""Why a run ends early: signals, a time limit, no better score."""

import contextlib
import math
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from flaxnets import _startup

SIGNALS = _startup.EXIT_STATUS


class Stopping:
    """Asked after every step whether a run should end. Within it a first signal asks for that; a second one ends the
    program at once, and so does the first one as long as nothing of the run is worth keeping.

    Args:
        time_limit: in seconds; a step is done in any case.
        patience: how many epochs may pass without a better score.

    Attributes:
        started: whether the run has something to keep; True if not set.

    >>> with Stopping(time_limit=60, patience=2) as stopping:
    ...     stopping.scores = [0.5, 0.4, 0.3]
    ...     stopping.reason
    'no better score for 2 epochs'
    """

    def __init__(self, time_limit: float | None = None, patience: int | None = None):
        self.scores: Sequence[float] = []
        self.signal: int | None = None
        self.started = True
        self._deadline = math.inf if time_limit is None else time.monotonic() + time_limit
        self._patience = patience

    @property
    def reason(self) -> str | None:
        """None as long as the run goes on."""
        if self.signal is not None:
            return "interrupted" if self.signal == signal.SIGINT else "terminated"
        if not self.started:
            return None
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
        # Python calls a handler when the compiler has returned, which can be a minute later; this thread is told at
        # once.
        self._told, self._tell = socket.socketpair()
        self._tell.setblocking(False)
        self._previous_tell = signal.set_wakeup_fd(self._tell.fileno(), warn_on_full_buffer=False)
        self._previous = {number: signal.signal(number, self._request) for number in SIGNALS}
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_tell)
        self._tell.send(b"\0")
        self._thread.join()
        self._told.close()
        self._tell.close()

    def _request(self, number: int, frame: Any) -> None:
        self.signal = self.signal or number

    def _watch(self) -> None:
        count = 0
        while (number := self._told.recv(1)[0]) != 0:
            if number not in SIGNALS:
                continue
            count += 1
            if count > 1 or not self.started:
                _startup.end(number)  # whatever is being written is not there until it is whole
            with contextlib.suppress(OSError):
                print("\nstopping after this step (once more: at once)", file=sys.stderr)
