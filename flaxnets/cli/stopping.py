"""What ends a run early."""

import contextlib
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

from flaxnets import _startup
from flaxnets.training.callbacks import Callback

if TYPE_CHECKING:
    from flaxnets.training import Loop

SIGNALS = _startup.EXIT_STATUS
_REASONS: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stopping(Callback):
    """End a run after the step during which SIGINT or SIGTERM arrives, and remember why a run has ended.

    A context manager. Within it the first signal asks for the end of the run. A second signal ends the program at
    once, and so does the first one before the run has anything to save.

    Attributes:
        signal: Number of the first signal; None without one.
        started: Whether the run has something to save.
        reason: Why the run has ended before its last epoch; None otherwise.

    >>> with Stopping() as stopping:
    ...     stopping.signal is None
    True
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.started = True
        self.reason: str | None = None

    @property
    def exit_status(self) -> int:
        """Exit status of the program: that of the signal, or 0."""
        return 0 if self.signal is None else SIGNALS[signal.Signals(self.signal)]

    def on_step(self, loop: "Loop") -> None:
        """Stop the run if a signal has arrived."""
        self.started = True
        if self.signal is not None:
            loop.stop(_REASONS[self.signal])

    def on_epoch(self, loop: "Loop", record: dict[str, Any]) -> None:
        """Stop the run if a signal has arrived."""
        self.on_step(loop)

    def on_end(self, loop: "Loop") -> None:
        """Remember why the run has ended. The signal may have been that of another process."""
        self.reason = loop.stop_reason
        names = {reason: number for number, reason in _REASONS.items()}
        self.signal = self.signal or names.get(self.reason or "")

    def __enter__(self) -> "Stopping":
        # Python calls a handler only when the compiler has returned, which can take a minute. The operating system
        # writes to this socket at once.
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
                _startup.end(number)  # a file that is being written is not visible under its name yet
            with contextlib.suppress(OSError):
                print("\nstopping after this step (once more: at once)", file=sys.stderr)
