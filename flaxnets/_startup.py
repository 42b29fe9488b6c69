"""Signals and import errors of a command before its own code runs.

Python imports this package before ``__main__``, and importing JAX takes a second, so a signal handler of the command
itself would be installed too late. In a program that only imports the package, this module has no effect.
"""

# Few modules with short import times: a signal before they are imported prints a traceback.
import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType

EXIT_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_HERE = os.path.dirname(os.path.abspath(__file__))

_undo: list[Callable[[], object]] = []


def command_name() -> str | None:
    """Return the name of the command that this process runs; None in any other program.

    >>> command_name()
    """
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # while Python imports the package to find its __main__
        module = sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] if "-m" in sys.orig_argv else []
        return "flaxnets" if module == ["flaxnets"] else None
    path = os.path.abspath(program)
    if path == os.path.join(_HERE, "__main__.py") or os.path.basename(path) in ("flaxnets", "flaxnets.exe"):
        return "flaxnets"
    return "train.py" if path == os.path.join(os.path.dirname(_HERE), "train.py") else None


def begun() -> None:
    """Restore Python's handling of errors after the imports of a command.

    >>> begun()
    """
    sys.excepthook = sys.__excepthook__


def end(number: int, frame: object = None) -> None:
    """End the process at once, with a message and the exit status of a signal.

    Args:
        number: the signal.
        frame: the interrupted frame; None if another thread ends the process.
    """
    for undo in reversed(_undo):
        _try(undo)
    if frame is not None:  # flushing fails within a print; another thread would wait for this one
        _try(sys.stdout.flush)
    if os.isatty(1):
        _try(lambda: os.write(1, b"\x1b[?25h"))  # show the cursor, which a progress bar hides
    after = "\n" if os.isatty(2) else ""  # after the terminal's ^C
    line = f"{after}{command_name() or 'flaxnets'}: {_WORDS[signal.Signals(number)]}\n"
    _try(lambda: os.write(2, line.encode()))
    os._exit(EXIT_STATUS[signal.Signals(number)])


def _try(function: Callable[[], object]) -> None:
    try:  # noqa: SIM105  (importing contextlib takes too long)
        function()
    except Exception:  # the process ends anyway
        pass


class undone_at_end:
    """Context in which a function is called if a signal ends the process.

    Args:
        undo: cleans up, for example removes temporary files; may be called in another thread.

    >>> with undone_at_end(lambda: print("not called")):
    ...     pass
    """

    def __init__(self, undo: Callable[[], object]):
        self._undo = undo

    def __enter__(self) -> None:
        _undo.append(self._undo)

    def __exit__(self, *_: object) -> None:
        _undo.remove(self._undo)


def _end_with_error(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    words = " ".join(str(error).split()) or kind.__name__
    print(f"{command_name()}: error: cannot start: {words}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(2)


if command_name() is not None:
    for _number in EXIT_STATUS:
        signal.signal(_number, end)
    sys.excepthook = _end_with_error
