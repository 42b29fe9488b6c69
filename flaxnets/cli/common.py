"""What the commands share: errors, the parsing of command lines, runs and their data."""

import contextlib
import dataclasses
import io
import os
import shlex
import signal
import sys
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from flaxnets._startup import EXIT_STATUS as SIGNALS
from flaxnets._suggestions import suggest
from flaxnets.cli.help import choices, field_docs, flag_of, format_help, is_positional, metavar
from flaxnets.run_config import DatasetName as DatasetName
from flaxnets.run_config import Device as Device
from flaxnets.run_config import File as File
from flaxnets.run_config import Folder as Folder
from flaxnets.settings import IS_PATH as IS_PATH
from flaxnets.settings import REPEATED, SEED, Aliases, Metavar, OneOf, fields_with, find_out_of_range, plain_hints

if TYPE_CHECKING:
    from flaxnets.data import Dataset, Split
    from flaxnets.data.complaints import BadFiles
    from flaxnets.training import LoadedRun

Options = TypeVar("Options")

INTERRUPTED = SIGNALS[signal.SIGINT]  # the shell's exit status for a command that SIGINT ended
SHELLS = ("bash", "zsh", "tcsh", "fish")

RunFolder = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN"), IS_PATH]

_LARGEST = 2**31  # JAX counts in 32 bits


class UsageError(Exception):
    """An argument or a file cannot be used: exit status 2. The message names it and the reason."""


class Failure(Exception):
    """The work failed, although all arguments can be used: exit status 1."""


def parse(kind: type[Options], arguments: Sequence[str], prog: str, default: Options | None = None) -> Options:
    """Parse a command line. ``--help`` prints the options and ends the program.

    Args:
        kind: a dataclass whose fields are the options. In a field with the marker ``IS_PATH`` a ``~`` is expanded, also
            behind ``folder:``, ``csv:`` and ``text:``.
        arguments: the words after the name of the command.
        prog: the name of the command.
        default: options to use where the command line has none. ``--no-x`` then unsets the flag ``x``.

    Raises:
        UsageError: for an unknown option or choice, with similar names, or a value of a wrong type or out of range.

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
    wants_help = bool({"-h", "--help"} & {*arguments})
    words = _CommandLine(kind, prog, arguments, negatable=default is not None).checked(needs_all=not wants_help)
    if wants_help:
        print(format_help(kind, prog))
        raise SystemExit(0)
    parser_kind: Any = with_tyro_markers(kind)
    defaults = {} if default is None else {"default": parser_kind(**_values(default))}
    flags = (tyro.conf.FlagCreatePairsOff,) if default is None else ()
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # the words were checked: this error would be a box of text
            options = tyro.cli(parser_kind, prog=prog, args=words, config=flags, console_outputs=False, **defaults)
    except SystemExit as ended:
        raise UsageError(f"cannot parse {shlex.join(arguments)}; see {prog} --help") from ended
    found: Any = expand_paths(kind(**_values(options)))
    check_values(found)
    return found


def _values(options: Any) -> dict[str, Any]:
    return {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}


def with_tyro_markers(kind: Any) -> Any:
    """Return a dataclass with tyro's markers in place of the markers of :mod:`flaxnets.settings`."""
    hints, docs = typing.get_type_hints(kind, include_extras=True), field_docs(kind)
    fields = [(field, hints[field.name]) for field in dataclasses.fields(kind)]
    if not any(_tyro_arguments(hint) for _, hint in fields):
        return kind
    made: Any = dataclasses.make_dataclass(
        kind.__name__,
        [(field.name, _with_tyro_marker(hint, docs.get(field.name)), _copied(field)) for field, hint in fields],
        frozen=True,
    )
    made.__doc__ = kind.__doc__
    return made


def _with_tyro_marker(hint: Any, doc: str | None) -> Any:
    markers = getattr(hint, "__metadata__", ())
    if not any(isinstance(marker, type(_ANY_ARGUMENT)) for marker in markers):  # tyro takes one of them
        hint = Annotated[hint, tyro.conf.arg(help=doc, **_tyro_arguments(hint))]
    return tyro.conf.UseAppendAction[hint] if REPEATED in markers else hint


_ANY_ARGUMENT = tyro.conf.arg()


def _tyro_arguments(hint: Any) -> dict[str, Any]:
    """Return the arguments of ``tyro.conf.arg`` for our markers."""
    arguments: dict[str, Any] = {}
    for marker in getattr(hint, "__metadata__", ()):
        if isinstance(marker, Aliases):
            arguments["aliases"] = marker.aliases
        elif isinstance(marker, Metavar):
            arguments["metavar"] = marker.metavar
        elif isinstance(marker, OneOf) and marker.listed:
            arguments["constructor"] = tyro.extras.literal_type_from_choices(marker.names())
    return arguments


def _copied(field: "dataclasses.Field[Any]") -> Any:
    return dataclasses.field() if field.default is dataclasses.MISSING else dataclasses.field(default=field.default)


class _CommandLine:
    """The words of a command line, checked in the order in which they stand.

    Tyro reports an error as a box of text and has no public interface to the error itself.
    """

    def __init__(self, kind: Any, prog: str, arguments: Sequence[str], *, negatable: bool):
        self._kind, self._prog, self._words, self._negatable = kind, prog, [*arguments], negatable
        self._hints = typing.get_type_hints(kind, include_extras=True)
        self._types = dict(plain_hints(kind))
        fields = [*dataclasses.fields(kind)]
        self._positional = [field for field in fields if is_positional(self._hints[field.name])]
        self._options = {flag_of(field.name): field for field in fields if field not in self._positional}
        self._aliases = {
            alias: flag
            for flag, field in self._options.items()
            for marker in getattr(self._hints[field.name], "__metadata__", ())
            if isinstance(marker, Aliases)
            for alias in marker.aliases
        }

    def checked(self, *, needs_all: bool) -> list[str]:
        """Return the words with the newest names of options.

        Args:
            needs_all: whether an option that is required and missing is an error.

        Raises:
            UsageError: for the first word that is wrong.
        """
        found, positional, given = [], [], set()
        joined: dict[str, list[str]] = {}
        words = self._words[::-1]
        while words:
            word = words.pop()
            if word in ("-h", "--help"):
                continue
            if not word.startswith("--") or word == "--":
                positional.append(word)
                found.append(word)
                continue
            name, equals, value = word.partition("=")
            name = self._known_name(flag_of(name.removeprefix("--")))
            given.add(name)
            values = [value] if equals else self._values_after(name, words)
            self._check(name, values, equals)
            if self._has_several(name):
                joined.setdefault(name, []).extend(values)
            else:
                found += [f"{name}={value}"] if equals else [name, *values]
        if needs_all:
            self._check_complete(positional, given)
        # "--input A --input B" is "--input A B".
        return [*found, *(word for name, values in joined.items() for word in (name, *values))]

    def _known_name(self, name: str) -> str:
        name = self._aliases.get(name, name)
        field = self._options.get(f"--{name.removeprefix('--no-')}")
        negated = self._negatable and field is not None and self._types[field.name] is bool
        if name not in self._options and not negated:
            raise UsageError(f"unknown option {name}; {suggest(name, [*self._options, '--help'])}")
        return name

    def _has_several(self, name: str) -> bool:
        """Return whether an option takes several values at once."""
        field = self._options.get(name)
        if field is None or typing.get_origin(self._types[field.name]) is not tuple:
            return False
        return REPEATED not in getattr(self._hints[field.name], "__metadata__", ())

    def _values_after(self, name: str, words: list[str]) -> list[str]:
        """Take the values of an option from the words that follow, which are in reverse order."""
        field = self._options.get(name)
        if field is None or self._types[field.name] is bool:
            return []
        values: list[str] = []
        while words and not words[-1].startswith("--") and (self._has_several(name) or not values):
            values.append(words.pop())
        if not values:
            raise UsageError(f"{name} needs a value. Expected {metavar(self._hints[field.name])}")
        return values

    def _check(self, name: str, values: Sequence[str], equals: str) -> None:
        field = self._options.get(name)
        kind = bool if field is None else self._types[field.name]
        if kind is bool:
            if equals:
                raise UsageError(f"{name} takes no value, got {values[0]!r}")
            return
        assert field is not None
        hint = self._hints[field.name]
        known = choices(hint)
        for value in values:
            if known and value and value not in known:
                raise UsageError(f"unknown {name} {value!r}; {suggest(value, known)}")
            if kind in (int, float):
                try:
                    kind(value)
                except ValueError as error:
                    raise UsageError(f"Error parsing {name}: {error}. Expected {metavar(hint)}") from error

    def _check_complete(self, positional: Sequence[str], given: set[str]) -> None:
        fields, docs = self._positional, field_docs(self._kind)
        many = any(typing.get_origin(self._types[field.name]) is tuple for field in fields)
        if len(positional) > len(fields) and not many:
            raise UsageError(f"Unrecognized options: {' '.join(positional[len(fields) :])}")
        required = [field for field in fields if field.default is dataclasses.MISSING]
        missing = [f"{metavar(self._hints[f.name])} {docs.get(f.name, '')}" for f in required[len(positional) :]]
        for name, field in self._options.items():
            if field.default is dataclasses.MISSING and name not in given:
                missing.append(f"{name} {metavar(self._hints[field.name])} {docs.get(field.name, '')}")
        if missing:
            raise UsageError(f"Missing from {self._prog}: {'; '.join(missing)}")


def expand_paths(options: Options) -> Options:
    """Return options with the user's folder for ``~`` in fields with the marker ``IS_PATH``."""
    fields: Any = options
    values = {name: getattr(options, name) for name in fields_with(type(options), IS_PATH)}
    paths = {
        name: tuple(map(expand_user, value)) if isinstance(value, tuple) else expand_user(value)
        for name, value in values.items()
        if value is not None
    }
    return dataclasses.replace(fields, **paths)


def check_values(options: Any) -> None:
    """Check options against the markers of their fields.

    Args:
        options: a dataclass of options, from a command line or a file.

    Raises:
        UsageError: for text that cannot be a value, a number out of range, or a name that no registry has.
    """
    hints = typing.get_type_hints(type(options), include_extras=True)
    shown = {name: metavar(hint) if is_positional(hint) else flag_of(name) for name, hint in hints.items()}
    for name, value in _values(options).items():
        _check_text(shown[name], value)
        for marker in getattr(hints[name], "__metadata__", ()):
            if isinstance(marker, OneOf):
                _check_name(shown[name], value, marker)
    wrong = find_out_of_range(type(options), options)
    if wrong:
        raise UsageError(f"{shown[wrong.name]} must be {wrong.expected}, got {wrong.value}")
    for name, value in _values(options).items():
        if type(value) is int and abs(value) >= _LARGEST and SEED not in getattr(hints[name], "__metadata__", ()):
            raise UsageError(f"{shown[name]} must be below {_LARGEST}, got {value}")


def _check_text(shown: str, value: Any) -> None:
    words = [value] if isinstance(value, str) else value if isinstance(value, tuple) else []
    if any(not word or "\0" in word for word in words):
        raise UsageError(f"{shown} must be a text without NUL, got {value!r}")


def _check_name(shown: str, value: Any, one_of: OneOf) -> None:
    if value is None or (one_of.with_path and ":" in value):
        return
    known = [*one_of.names()]
    if value not in known:
        raise UsageError(f"unknown {shown} {value!r}; {suggest(value, known)}")


def expand_user(path: str) -> str:
    """Return a path, or the name of a dataset in files, with the user's folder for ``~``.

    >>> expand_user("folder:~/pets") == f"folder:{os.path.expanduser('~')}/pets"
    True
    """
    if ":" not in path:
        return os.path.expanduser(path)
    from flaxnets.data import map_path

    mapped = map_path(path, os.path.expanduser)
    return os.path.expanduser(path) if mapped == path else mapped


def open_run(path: str, weights: Literal["best", "last"], device: str = "auto") -> "LoadedRun":
    """Load a run with :func:`flaxnets.training.load_run`, choose a device, and cache compiled programs.

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
    """Load a dataset for the task of a run.

    Labels, or ids of characters, are the positions of their names among those that the network knows.

    Args:
        run: the run.
        name: the name of the dataset. The default is the dataset of the run.
        data_dir: the folder with the files of published datasets. The default is the folder of the run.
        csv_columns: as in :func:`flaxnets.data.load`. The default is as in the run.
        bad_files: as in :func:`flaxnets.data.load`. The default is as in the run.

    Raises:
        UsageError: if the dataset cannot be used.
    """
    from flaxnets.data import Split, load, task_of
    from flaxnets.training import TASKS

    config = run.config
    name = name or config.dataset
    if name is None:
        raise UsageError(f"{run.path} does not say what it was trained on; use --dataset")
    task = task_of(name) or config.task
    if task != config.task:
        raise UsageError(f"--dataset {name} is for {task}, and {run.path} for {config.task}")
    if name.startswith("csv:"):
        image, label = csv_columns
        csv_columns = image or config.csv_image_column, label or config.csv_label_column
    try:
        data = load(
            name,
            data_dir or config.data_dir,
            bad_files=bad_files or config.bad_files,
            warn=lambda words: print(words, file=sys.stderr),
            csv_columns=csv_columns,
            names=_known_names(run, name),
        )
    except (ImportError, OSError, ValueError) as error:
        raise UsageError(f"--dataset {name}: {error}") from error
    shape = data.test.inputs.shape[1:] if isinstance(data.test, Split) else config.input_shape
    if not TASKS[data.task].of_images and shape != config.input_shape:
        raise UsageError(f"--dataset {name} has examples of {shape}, and {run.path} of {config.input_shape}")
    size, known = data.model_options.get("vocab_size"), config.model_options.get("vocab_size")
    if known is not None and size != known:
        raise UsageError(f"--dataset {name} has {size} characters, and {run.path} knows {known}")
    return data


def _known_names(run: "LoadedRun", name: str) -> Sequence[str] | None:
    """Return the classes or characters that a run's network knows, ``None`` if they are those of the dataset."""
    from flaxnets.data import load
    from flaxnets.training import TASKS

    own, names = run.config.dataset, run.config.names
    if names is None and TASKS[run.config.task].of_text and own not in (None, name):  # of an older version
        try:
            vocabulary = load(own or "").vocabulary
        except (ImportError, OSError, ValueError) as error:
            raise UsageError(f"{run.path} does not say which characters it knows, those of {own}: {error}") from error
        names = vocabulary.tokens[1:] if vocabulary else None
    return names


def class_names(run: "LoadedRun", count: int) -> list[str]:
    """Return the names of a network's outputs, numbers where its run has none."""
    names = (run.config.classes or ())[:count]
    return [*names, *map(str, range(len(names), count))]


def examples_to_test(run: "LoadedRun", data: "Dataset", count: int | None = None) -> "Split":
    """Return the first examples to evaluate on, or all of them. Images in files are decoded for the run's network.

    Raises:
        UsageError: for a file that cannot be read.
    """
    import numpy as np

    from flaxnets.data import DataError, Split

    part = data.test if count is None else data.test.take(count)
    if isinstance(part, Split):
        return part
    try:
        return Split(*next(part.batches(np.arange(len(part)), len(part), image_shape=run.config.image_shape)))
    except DataError as error:
        raise UsageError(error) from error
