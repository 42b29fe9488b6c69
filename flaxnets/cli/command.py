"""``flaxnets``: finds the command that was asked for, and turns its errors into a line and an exit status."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Union

import tyro

from flaxnets.cli.common import EXIT_STATUS, INTERRUPTED, SHELLS, Failure, UsageError, one_line_errors
from flaxnets.cli.memory import keep_memory
from flaxnets.registry import suggest

COMMANDS = ("train", "list", "summary", "predict", "evaluate", "export", "show")

_DESCRIPTION = f"""The classic networks of torch.nn as Flax NNX: train them, and use what was trained.

Examples:
  flaxnets list
  flaxnets predict --help
  flaxnets --tyro-write-completion bash flaxnets.bash

The last one writes what completes commands and options with the Tab key, for {", ".join(SHELLS[:-1])} or {SHELLS[-1]};
let the shell source that file when it starts.

{EXIT_STATUS}"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: the command and its arguments; those of the program if not given.

    Returns:
        The exit status: 0 done; 1 the work failed; 2 something that was given cannot be used; 130 interrupted.

    >>> main(["list", "softmax_regression"])
    softmax_regression  classification  7,850  1x28x28  -  mnist  epochs=10, batch_size=64, lr=0.1
    0
    """
    if argv is None:
        keep_memory()
        argv = sys.argv[1:]
    arguments = [*argv]
    name = arguments[0] if arguments else ""
    if name in COMMANDS:
        return run(_module(name).main, arguments[1:], f"flaxnets {name}")
    return run(lambda arguments, prog: _without_command(arguments), arguments, "flaxnets")


def run(command: Callable[[Sequence[str], str], int], arguments: Sequence[str], prog: str) -> int:
    """Runs the ``main`` of a command; turns its errors into a line and an exit status, which it returns.

    Args:
        command: takes the arguments and its name.
        arguments: what stands after its name.
        prog: its name.

    >>> run(lambda arguments, prog: len(arguments), [], "nothing")
    0
    """
    try:
        status = command(arguments, prog)
        sys.stdout.flush()
        return status
    except (UsageError, Failure) as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is written when Python ends
        return 1
    except SystemExit as ended:  # after --help
        return int(ended.code or 0)


def _module(name: str) -> Any:
    return importlib.import_module(f"flaxnets.cli.{name}")


def _without_command(arguments: Sequence[str]) -> int:
    """Prints the help or a shell's completion of all commands; anything else is a mistake."""
    if not arguments:
        raise UsageError(f"no command was given; known: {', '.join(COMMANDS)}")
    first, *rest = arguments
    completion = first in ("--tyro-print-completion", "--tyro-write-completion")
    if completion and (not rest or rest[0] not in SHELLS):
        raise UsageError(f"{first} needs a shell, one of {', '.join(SHELLS)}")
    if not completion and first not in ("-h", "--help"):
        what = "option" if first.startswith("-") else "command"
        known = ["--help", "--tyro-write-completion"] if what == "option" else [*COMMANDS]
        raise UsageError(f"unknown {what} {first!r}; {suggest(first, known)}")
    kinds = {name: _module(name).Options for name in COMMANDS}
    commands = [
        Annotated[kind, tyro.conf.subcommand(name, description=kind.__doc__.splitlines()[0])]
        for name, kind in kinds.items()
    ]
    every: Any = Union[tuple(commands)]  # noqa: UP007
    try:
        with one_line_errors():
            tyro.cli(every, prog="flaxnets", description=_DESCRIPTION, args=arguments)
    except OSError as error:
        raise UsageError(f"{first} {' '.join(rest)}: cannot write there: {error.strerror}") from error
    return 0
