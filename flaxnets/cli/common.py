"""What the commands share: their errors, and how arguments become options."""

import contextlib
import dataclasses
import io
import itertools
import math
import os
import signal
import sys
import typing
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from flaxnets._startup import EXIT_STATUS as SIGNALS
from flaxnets.cli.help import format_help, is_positional, literal_choices, metavar
from flaxnets.registry import suggest

if TYPE_CHECKING:
    from flaxnets.data import Dataset, Split
    from flaxnets.data.complaints import BadFiles
    from flaxnets.training import LoadedRun

Options = TypeVar("Options")

INTERRUPTED = SIGNALS[signal.SIGINT]  # the shell's exit status for a command that SIGINT ended
SHELLS = ("bash", "zsh", "tcsh", "fish")

IS_PATH = "path"  # marks an option in which ~ stands for the user's folder
RunFolder = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN"), IS_PATH]
File = Annotated[str | None, tyro.conf.arg(metavar="FILE"), IS_PATH]
Folder = Annotated[str | None, tyro.conf.arg(metavar="FOLDER"), IS_PATH]
DatasetName = Annotated[str | None, tyro.conf.arg(metavar="DATASET"), IS_PATH]
Device = Annotated[str, tyro.conf.arg(metavar="DEVICE")]

_LARGEST = 2**31  # JAX counts in 32 bits


class UsageError(Exception):
    """Something that was given cannot be used: exit status 2; the message says what and why."""


class Failure(Exception):
    """The work failed, although all that was given can be used: exit status 1."""


def parse(kind: type[Options], arguments: Sequence[str], prog: str) -> Options:
    """Makes options of a command line; ``--help`` prints what they are and ends the program.

    Args:
        kind: a dataclass whose fields are the options. Those marked as ``IS_PATH`` get ``~`` expanded, also behind
            ``folder:``, ``csv:`` and ``text:``.
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
    if {"-h", "--help"} & {*arguments}:
        print(format_help(kind, prog))
        raise SystemExit(0)
    with one_line_errors():
        options: Any = tyro.cli(kind, prog=prog, args=arguments, config=(tyro.conf.FlagCreatePairsOff,))
    return dataclasses.replace(options, **_checked_values(options))


def _check_names(kind: Any, arguments: Sequence[str]) -> None:
    """Says what is near a mistyped option or choice, which the parser does not."""
    hints = typing.get_type_hints(kind)
    fields = [field.name for field in dataclasses.fields(kind)]
    choices = {f"--{name.replace('_', '-')}": literal_choices(hints[name]) for name in fields}
    for argument, after in itertools.pairwise([*arguments, ""]):
        name, equals, value = argument.partition("=")
        name = name.replace("_", "-")
        if not argument.startswith("--") or name in ("--help", "--"):
            continue
        if name not in choices:
            raise UsageError(f"unknown option {name}; {suggest(name, [*choices, '--help'])}")
        value = value if equals else after
        if choices[name] and value and value not in choices[name]:
            raise UsageError(f"unknown {name} {value!r}; {suggest(value, choices[name])}")


def _checked_values(options: Any) -> dict[str, Any]:
    """Returns values in which paths are expanded; UsageError for what no option can be."""
    hints, values = typing.get_type_hints(type(options), include_extras=True), {}
    for field in dataclasses.fields(options):
        hint, value = hints[field.name], getattr(options, field.name)
        name = metavar(hint) if is_positional(hint) else f"--{field.name.replace('_', '-')}"
        words = [value] if isinstance(value, str) else value if isinstance(value, tuple) else []
        if any(not word or "\0" in word for word in words):
            raise UsageError(f"{name} must be a text without NUL, got {value!r}")
        if type(value) is int and abs(value) >= _LARGEST and field.name != "seed":
            raise UsageError(f"{name} must be below {_LARGEST}, got {value}")
        if IS_PATH in getattr(hint, "__metadata__", ()) and words:
            expanded = tuple(map(expand_user, words))
            value = expanded if isinstance(value, tuple) else expanded[0]
        values[field.name] = value
    return values


def expand_user(path: str) -> str:
    """Returns a path, or the name of a dataset in files, with the user's folder for ``~``.

    >>> expand_user("folder:~/pets") == f"folder:{os.path.expanduser('~')}/pets"
    True
    """
    kind, colon, rest = path.partition(":")
    return f"{kind}:{os.path.expanduser(rest)}" if colon and kind in IN_FILES else os.path.expanduser(path)


IN_FILES = ("folder", "csv", "text")  # the datasets whose names have a path


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


def open_run(path: str, weights: Literal["best", "last"], device: str = "auto") -> "LoadedRun":
    """Loads a run, as :func:`flaxnets.training.load_run`, to compute on a device; what is compiled for it is kept.

    Raises:
        UsageError: if the run or the device cannot be used.
    """
    from flaxnets.cli.devices import choose_device, keep_compiled
    from flaxnets.training import RunError, load_run

    choose_device(device)
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
