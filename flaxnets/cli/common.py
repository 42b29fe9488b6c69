"""What the commands share: their errors, and how arguments become options."""

import contextlib
import inspect
import io
import itertools
import math
import sys
import typing
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import tyro

from flaxnets.registry import suggest

if TYPE_CHECKING:
    from flaxnets.data import Dataset, Split
    from flaxnets.data.complaints import BadFiles
    from flaxnets.training import LoadedRun

Options = TypeVar("Options")

INTERRUPTED = 130  # the shell's exit status for a command that SIGINT ended
EXIT_STATUS = (
    "Exit status: 0 done; 1 the work failed; 2 something that was given cannot be used; 130 interrupted by Ctrl-C."
)
SHELLS = ("bash", "zsh", "tcsh", "fish")


class UsageError(Exception):
    """Something that was given cannot be used: exit status 2; the message says what and why."""


class Failure(Exception):
    """The work failed, although all that was given can be used: exit status 1."""


def parse(kind: type[Options], arguments: Sequence[str], prog: str) -> Options:
    """Makes options of a command line; ``--help`` prints the docstring of their class and ends the program.

    In the docstring ``{prog}`` stands for the command's name.

    Args:
        kind: a dataclass whose fields are the options.
        arguments: what stands after the command's name.
        prog: the command's name.

    Raises:
        UsageError: for an option, a choice or a value that there is not; a mistyped one is told what is near.

    >>> import dataclasses
    >>> @dataclasses.dataclass(frozen=True)
    ... class Example:
    ...     count: int = 1
    ...     shape: Literal["round", "square"] = "round"
    >>> parse(Example, ["--count", "3"], "draw")
    Example(count=3, shape='round')
    >>> parse(Example, ["--shape", "squre"], "draw")
    Traceback (most recent call last):
    flaxnets.cli.common.UsageError: unknown --shape 'squre'; did you mean 'square'?
    """
    _check_names(kind, arguments)
    description = f"{(inspect.getdoc(kind) or '').replace('{prog}', prog)}\n\n{EXIT_STATUS}"
    with one_line_errors():
        return tyro.cli(
            kind, prog=prog, description=description, args=arguments, config=(tyro.conf.FlagCreatePairsOff,)
        )


def _check_names(kind: Any, arguments: Sequence[str]) -> None:
    """Says what is near a mistyped option or choice, which the parser does not."""
    hints = typing.get_type_hints(kind)
    choices = {f"--{name.replace('_', '-')}": _choices(hint) for name, hint in hints.items()}
    for argument, after in itertools.pairwise([*arguments, ""]):
        name, equals, value = argument.partition("=")
        name = name.replace("_", "-")
        if not argument.startswith("--") or name == "--help":
            continue
        if name not in choices:
            raise UsageError(f"unknown option {name}; {suggest(name, [*choices, '--help'])}")
        value = value if equals else after
        if choices[name] and value and value not in choices[name]:
            raise UsageError(f"unknown {name} {value!r}; {suggest(value, choices[name])}")


def _choices(hint: Any) -> list[str]:
    """The words of a Literal, alone or beside None."""
    literals = [part for part in (hint, *typing.get_args(hint)) if typing.get_origin(part) is Literal]
    return [word for literal in literals for word in typing.get_args(literal)]


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns the boxes in which tyro writes its errors into the one line of a UsageError."""
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            yield
    except SystemExit as ended:
        if not ended.code:
            raise
        rows = [row.strip("│ ") for row in box.getvalue().splitlines()[1:]]
        body = itertools.takewhile(_is_text, itertools.dropwhile(lambda row: not _is_text(row), rows))
        raise UsageError(" ".join(body)) from None


def _is_text(row: str) -> bool:
    return bool(row.strip("─-"))  # boxes are drawn with the one or the other, as the terminal can


def open_run(path: str, weights: Literal["best", "last"]) -> "LoadedRun":
    """Loads a run, as :func:`flaxnets.training.load_run`; what is compiled for it is kept.

    Raises:
        UsageError: if it cannot be used.
    """
    from flaxnets.cli.devices import keep_compiled
    from flaxnets.training import RunError, load_run

    keep_compiled(None)
    try:
        return load_run(path, weights)
    except RunError as error:
        raise UsageError(" ".join(str(error).split())) from error


def open_dataset(
    run: "LoadedRun",
    name: str | None,
    data_dir: str | None,
    csv_columns: tuple[str | None, str | None] = (None, None),
    bad_files: "BadFiles | None" = None,
) -> "Dataset":
    """Loads a dataset, the run's own if none is named; it must be for the run's task.

    Labels, or ids of characters, are those that the run's network knows by the same names.

    Args:
        run: the run.
        name: of the dataset.
        data_dir: the folder with the files of published datasets; that of the run if not given.
        csv_columns: as that of :func:`flaxnets.data.load`; those of the run if not given.
        bad_files: as that of :func:`flaxnets.data.load`; that of the run if not given.

    Raises:
        UsageError: if it cannot be used.
    """
    from flaxnets.data import Split, load, task_of
    from flaxnets.training import TASKS

    config = run.config
    name = name or config.get("dataset")
    if name is None:
        raise UsageError(f"{run.path} does not say what it was trained on; use --dataset")
    task = task_of(name) or config["task"]
    if task != config["task"]:
        raise UsageError(f"--dataset {name} is for {task}, and {run.path} for {config['task']}")
    if name.startswith("csv:"):
        image, label = csv_columns
        csv_columns = image or config.get("csv_image_column"), label or config.get("csv_label_column")
    try:
        data = load(
            name,
            data_dir or config.get("data_dir", "data"),
            bad_files=bad_files or config.get("bad_files", "stop"),
            warn=lambda words: print(words, file=sys.stderr),
            csv_columns=csv_columns,
            names=_known_names(run, name),
        )
    except (ImportError, OSError, ValueError) as error:
        raise UsageError(f"--dataset {name}: {error}") from error
    expected = tuple(config["input_shape"])
    if isinstance(data.test, Split) and not TASKS[data.task].fits_inputs and data.test.inputs.shape[1:] != expected:
        raise UsageError(f"--dataset {name} has examples of {data.test.inputs.shape[1:]}, and {run.path} of {expected}")
    size, known = data.model_options.get("vocab_size"), config["model_options"].get("vocab_size")
    if known is not None and size != known:
        raise UsageError(f"--dataset {name} has {size} characters, and {run.path} knows {known}")
    return data


def _known_names(run: "LoadedRun", name: str) -> Sequence[str] | None:
    """Returns the classes or characters that a run's network knows, None if they are those of the dataset."""
    from flaxnets.data import load

    own, names = run.config.get("dataset"), run.config.get("classes") or run.config.get("vocabulary")
    if names is None and run.config["task"] == "language" and own not in (None, name):  # of an older version
        try:
            vocabulary = load(own).vocabulary
        except (ImportError, OSError, ValueError) as error:
            raise UsageError(f"{run.path} does not say which characters it knows, those of {own}: {error}") from error
        names = vocabulary.tokens[1:] if vocabulary else None
    return names


def class_names(run: "LoadedRun", count: int) -> list[str]:
    """Returns the names of a network's outputs: numbers where its run has none."""
    names = (run.config.get("classes") or [])[:count]
    return [*names, *map(str, range(len(names), count))]


def examples_to_test(run: "LoadedRun", data: "Dataset", count: int | None = None) -> "Split":
    """Returns the first examples to evaluate on, or all of them; images in files are decoded for the run's network.

    Raises:
        UsageError: for a file that cannot be read any more.
    """
    import numpy as np

    from flaxnets.data import DataError, Split

    part = data.test if count is None else data.test.take(count)
    if isinstance(part, Split):
        return part
    try:
        return Split(*next(part.batches(np.arange(len(part)), len(part), image_shape=image_shape(run))))
    except DataError as error:
        raise UsageError(error) from error


def image_shape(run: "LoadedRun") -> tuple[int, int, int]:
    """Returns the channels, height and width in which images are stored for a run's network."""
    shape = run.config["input_shape"]
    shape = shape if len(shape) == 3 else (1, math.isqrt(shape[0]), math.isqrt(shape[0]))
    stored = run.config.get("mean")  # has a value for each channel of what was trained on
    return (len(stored) if stored else 1 if shape[0] == 1 else 3), shape[1], shape[2]
