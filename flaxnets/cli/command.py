"""``flaxnets``: run a command, and turn its errors into one line and an exit status."""

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Union

import tyro

from flaxnets import _startup
from flaxnets._suggestions import suggest
from flaxnets._version import __version__
from flaxnets.cli.common import INTERRUPTED, SHELLS, Failure, UsageError, with_tyro_markers
from flaxnets.cli.help import EXIT_STATUS
from flaxnets.cli.memory import keep_memory

COMMANDS = ("train", "list", "summary", "predict", "evaluate", "export", "show", "port", "parity")

_DESCRIPTION = f"""The classic networks of torch.nn as Flax NNX: train, evaluate and export them.

Examples:
  flaxnets list
  flaxnets predict --help
  flaxnets --tyro-write-completion bash flaxnets.bash

The last example writes completions for the Tab key, for {", ".join(SHELLS[:-1])} or {SHELLS[-1]}.
Let the shell source that file when it starts.

{EXIT_STATUS}"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the command and its arguments. The default is the arguments of the program.

    Returns:
        The exit status: 0 done; 1 the work failed; 2 an argument or a file cannot be used; 130 interrupted by Ctrl-C;
        143 terminated by SIGTERM.

    >>> main(["export"])
    2
    """
    if argv is None:
        begin_program()
        argv = sys.argv[1:]
    arguments = [*argv]
    name = arguments[0] if arguments else ""
    if name in COMMANDS:
        return run(lambda arguments, prog: _module(name).main(arguments, prog), arguments[1:], f"flaxnets {name}")
    return run(lambda arguments, prog: _without_command(arguments), arguments, "flaxnets")


def begin_program() -> None:
    """Prepare the process of a command: its memory, and its closed streams. Call this once.

    >>> begin_program()
    """
    keep_memory()
    _startup.begun()
    # A file that is opened later must not get the number of a stream that is closed.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdout, sys.stderr = (
        open(os.devnull, "w", encoding="utf-8") if stream is None else stream  # noqa: SIM115
        for stream in (sys.stdout, sys.stderr)
    )


def run(command: Callable[[Sequence[str], str], int], arguments: Sequence[str], prog: str) -> int:
    """Run the ``main`` of a command, and turn its errors into one line and an exit status.

    Args:
        command: the function of the arguments and the name of the command.
        arguments: the words after the name of the command.
        prog: the name of the command.

    >>> run(lambda arguments, prog: len(arguments), [], "nothing")
    0
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for names that the terminal's encoding lacks
    try:
        status = command(arguments, prog)
        sys.stdout.flush()
        return status
    except (UsageError, Failure) as error:
        return _failed(prog, str(error), 2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        return INTERRUPTED
    except MemoryError:
        return _failed(prog, "out of memory", 1)
    except BrokenPipeError:  # the reader of the output, such as head, has ended
        _drop_output()
        return 1
    except OSError as error:
        status = _failed(prog, f"{error.filename or 'the output'}: {error.strerror or error}", 1)
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            return status
        _drop_output()
        return status
    except SystemExit as ended:  # after --help
        return int(ended.code or 0)


def _failed(prog: str, message: str, status: int) -> int:
    with contextlib.suppress(OSError):  # standard error is closed as well
        print(f"{prog}: error: {message}", file=sys.stderr, flush=True)
    return status


def _drop_output() -> None:
    """Discard the output that Python would write to a closed stream when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _module(name: str) -> Any:
    return importlib.import_module(f"flaxnets.cli.{name}")


def _without_command(arguments: Sequence[str]) -> int:
    """Print the help or a shell's completions of all commands. Other arguments are an error."""
    if not arguments:
        raise UsageError(f"no command was given; known: {', '.join(COMMANDS)}")
    first, *rest = arguments
    if first == "--version":
        print(f"flaxnets {__version__}")
        return 0
    completion = first in ("--tyro-print-completion", "--tyro-write-completion")
    if completion and (not rest or rest[0] not in SHELLS):
        raise UsageError(f"{first} needs a shell, one of {', '.join(SHELLS)}")
    if first == "--tyro-write-completion" and len(rest) < 2:
        raise UsageError(f"Unrecognized options: {', '.join(arguments)}. Expected a shell and a file")
    if not completion and first not in ("-h", "--help"):
        what = "option" if first.startswith("-") else "command"
        known = ["--help", "--version", "--tyro-write-completion"] if what == "option" else [*COMMANDS]
        raise UsageError(f"unknown {what} {first!r}; {suggest(first, known)}")
    kinds = {name: _module(name).Options for name in COMMANDS}
    commands = [
        Annotated[with_tyro_markers(kind), tyro.conf.subcommand(name, description=kind.__doc__.splitlines()[0])]
        for name, kind in kinds.items()
    ]
    every: Any = Union[tuple(commands)]  # noqa: UP007
    try:
        tyro.cli(every, prog="flaxnets", description=_DESCRIPTION, args=arguments)
    except OSError as error:
        raise UsageError(f"{first} {' '.join(rest)}: cannot write there: {error.strerror}") from error
    return 0
