"""Markers for the fields of option dataclasses, and the conversion of values from YAML and JSON to their types.

A marker stands in the annotation of a field. It is the only place that says what is allowed for the field:

>>> @dataclasses.dataclass(frozen=True)
... class Options:
...     count: Annotated[int, POSITIVE] = 1
>>> find_out_of_range(Options, Options(count=0))
OutOfRange(name='count', value=0, expected='positive')
"""

import dataclasses
import enum
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated as Annotated
from typing import Any, Literal, NamedTuple

IS_PATH = "path"  # ~ stands for the user's folder
IMAGES_ONLY = "images only"  # the setting has an effect for images alone
REPEATED = "repeated"  # an option of one value that can be repeated, in contrast to an option of several values


class OnResume(enum.Enum):
    """What happens to a setting when a run is resumed with another value. A setting without a marker is ``FIXED``."""

    FIXED = "another value is another run"
    NEW_PHASE = "the run continues in a new phase"
    FREE = "the run continues: the setting does not change its results"
    UNSAVED = "the setting is for one call of the command"


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that a setting may have.

    Attributes:
        expected: the range in words, after "must be".
        contains: whether a number is in the range.
    """

    expected: str
    contains: Callable[[float], bool]


POSITIVE = Range("positive", lambda value: 0 < value < math.inf)
PROBABILITY = Range("a probability", lambda value: 0 <= value <= 1)
SEED = Range("between 0 and 2**32 - 1", lambda value: 0 <= value < 2**32)


def at_least(low: float, *, below: float = math.inf) -> Range:
    """Return the range from a number to below another.

    >>> at_least(0, below=1).expected
    'at least 0 and below 1'
    """
    return Range(f"at least {low} and below {below}", lambda value: low <= value < below)


@dataclasses.dataclass(frozen=True)
class OneOf:
    """A setting that is a name of a registry.

    Attributes:
        names: returns the names.
        with_path: whether a name with a colon and a path is allowed as well.
        listed: whether ``--help`` and completions list the names.
        describe: returns sentences for ``--help``, in place of a list.
    """

    names: Callable[[], Sequence[str]]
    with_path: bool = False
    listed: bool = True
    describe: Callable[[], str] | None = None


@dataclasses.dataclass(frozen=True)
class Metavar:
    """The word for a value in ``--help``."""

    metavar: str


@dataclasses.dataclass(frozen=True)
class Aliases:
    """Older names of an option, such as ``--kernels``."""

    aliases: tuple[str, ...]


class OutOfRange(NamedTuple):
    """A value that is not in the range of its field."""

    name: str
    value: Any
    expected: str


def markers(kind: type) -> dict[str, tuple[Any, ...]]:
    """Return the markers of each field of a dataclass."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: getattr(hints[field.name], "__metadata__", ()) for field in dataclasses.fields(kind)}


def fields_with(kind: type, marker: Any) -> list[str]:
    """Return the names of the fields that have a marker.

    >>> from flaxnets.run_config import RunOptions
    >>> fields_with(RunOptions, IS_PATH)[:2]
    ['init_from', 'dataset']
    """
    return [name for name, found in markers(kind).items() if marker in found]


def find_out_of_range(kind: type, values: object) -> OutOfRange | None:
    """Return the first field that is out of its range, ``None`` if all are in range.

    Args:
        kind: the dataclass that declares the ranges.
        values: an object with attributes of these names. ``None`` is in every range.
    """
    for name, found in markers(kind).items():
        value = getattr(values, name)
        for marker in found:
            if isinstance(marker, Range) and value is not None and not marker.contains(value):
                return OutOfRange(name, value, marker.expected)
    return None


def convert(name: str, value: Any, hint: Any) -> Any:
    """Convert a value of a YAML or JSON file to the type of a field.

    Args:
        name: the name of the field, for the error message.
        value: the value. Numbers may be text, as YAML reads ``1e-3``.
        hint: the annotation of the field.

    Raises:
        ValueError: if the value has another type.

    >>> convert("lr", "1e-3", float | None), convert("freeze", ["a"], tuple[str, ...])
    (0.001, ('a',))
    >>> convert("remat", 3, bool)
    Traceback (most recent call last):
    ValueError: remat must be true or false, got 3
    """
    hint = _plain(hint)
    origin = typing.get_origin(hint)
    if value is None or hint is Any:
        return value
    if origin is tuple:
        element = typing.get_args(hint)[0]
        return tuple(convert(name, each, element) for each in (value if isinstance(value, (list, tuple)) else [value]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise ValueError(f"{name} must be a mapping, got {value!r}")
        return value
    if isinstance(value, bool) != (hint is bool) or isinstance(value, (dict, list)):
        raise ValueError(f"{name} must be {'true or false' if hint is bool else 'one value'}, got {value!r}")
    if hint is int and isinstance(value, float):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if hint in (int, float):
        try:
            return hint(value)
        except (TypeError, ValueError, OverflowError) as error:
            words = "a whole number" if hint is int else "a number"
            raise ValueError(f"{name} must be {words}, got {value!r}") from error
    if origin is Literal and value not in typing.get_args(hint):
        raise ValueError(f"{name} must be one of {', '.join(typing.get_args(hint))}, got {value!r}")
    return value if hint is bool else str(value)


def _plain(hint: Any) -> Any:
    """Return an annotation without its markers and without ``None``."""
    if typing.get_origin(hint) is Annotated:
        return _plain(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (only,) = (part for part in typing.get_args(hint) if part is not type(None))
        return _plain(only)
    return hint


def plain_hints(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the name of each field of a dataclass, and its type without markers and without ``None``.

    >>> from flaxnets.run_config import RunOptions
    >>> dict(plain_hints(RunOptions))["epochs"]
    <class 'int'>
    """
    hints = typing.get_type_hints(kind)
    return ((field.name, _plain(hints[field.name])) for field in dataclasses.fields(kind))
