"""How a command ends before it can do so by itself: on a signal at any moment, or on an error of its imports.

Python imports this package before ``__main__``, and JAX takes a second: a handler that the command itself installed
would come too late. In a program that only uses the package, nothing here has an effect.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

EXIT_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_TRAIN = Path(__file__).parents[1] / "train.py"

_undo: list[Callable[[], object]] = []


def command_name() -> str | None:
    """Returns the name of the command that this process runs; None in any other program.

    >>> command_name()
    """
    program = sys.argv[0] if sys.argv else ""
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] if "-m" in sys.orig_argv else []
    if program == "-m":  # while Python imports the package to find its __main__
        return "flaxnets" if module == ["flaxnets"] else None
    path = Path(program)
    if path == Path(__file__).with_name("__main__.py") or path.name in ("flaxnets", "flaxnets.exe"):
        return "flaxnets"
    return "train.py" if path.name == _TRAIN.name and path.resolve() == _TRAIN else None


def _begin() -> None:
    """Handles signals and errors of imports from now on, if this process runs a command."""
    if command_name() is not None:
        for number in EXIT_STATUS:
            signal.signal(number, end)
        sys.excepthook = _end_with_error


def begun() -> None:
    """Leave errors to Python again: the imports of a command are done.

    >>> begun()
    """
    sys.excepthook = sys.__excepthook__


def end(number: int, frame: Any = None) -> None:
    """End the process at once, with a line and the exit status of a signal.

    Args:
        number: the signal.
        frame: where the signal came; not used.
    """
    for undo in reversed(_undo):
        with contextlib.suppress(Exception):
            undo()
    with contextlib.suppress(Exception):  # the signal may have come in the middle of a print
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        if os.isatty(1):
            os.write(1, b"\x1b[?25h")  # a progress bar hides the cursor
        after = b"\n" if os.isatty(2) else b""  # the terminal has written ^C
        os.write(2, after + f"{command_name() or 'flaxnets'}: {_WORDS[signal.Signals(number)]}\n".encode())
    os._exit(EXIT_STATUS[signal.Signals(number)])


@contextlib.contextmanager
def undone_at_end(undo: Callable[[], object]) -> Iterator[None]:
    """Call a function if a signal ends the process within the block.

    Args:
        undo: removes what must not be left behind; may be called in another thread.

    >>> with undone_at_end(lambda: print("not called")):
    ...     pass
    """
    _undo.append(undo)
    try:
        yield
    finally:
        _undo.remove(undo)


def _end_with_error(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    words = " ".join(str(error).split()) or kind.__name__
    print(f"{command_name()}: error: cannot start: {words}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(2)


_begin()
