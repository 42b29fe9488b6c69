"""The help of a command: its docstring, and its options in groups."""

import ast
import dataclasses
import inspect
import itertools
import re
import shutil
import textwrap
import typing
from collections.abc import Iterator
from typing import Any, Literal

from flaxnets._startup import EXIT_STATUS as SIGNALS
from flaxnets.settings import OneOf

EXIT_STATUS = (
    "Exit status: 0 done; 1 the work failed; 2 an argument or a file cannot be used; "
    + "; ".join(f"{status} {words}" for status, words in zip(SIGNALS.values(), ("Ctrl-C", "SIGTERM"), strict=True))
    + "."
)
_LEFT = 26  # The description begins on the line of its option if the option fits in these columns.
_INDENT = " " * 6  # of a description below its option


def format_help(kind: Any, prog: str, columns: int | None = None) -> str:
    """Return the help of a command, with each sentence on a line of its own where the terminal is wide enough.

    Args:
        kind: the dataclass of its options. ``GROUPS``, if there is one, has the first field of each group, and its
            title.
        prog: the name of the command; in the docstring ``{prog}`` stands for it.
        columns: the width; by default the width of the terminal.

    >>> @dataclasses.dataclass
    ... class Options:
    ...     '''Draw shapes.'''
    ...     count: int = 1
    >>> format_help(Options, "draw").splitlines()[:3]
    ['usage: draw [options]', '', 'Draw shapes.']
    """
    columns = columns or shutil.get_terminal_size().columns
    fields = dataclasses.fields(kind)
    hints, docs = typing.get_type_hints(kind, include_extras=True), field_docs(kind)
    positional = {field.name: metavar(hints[field.name]) for field in fields if is_positional(hints[field.name])}
    lines = [" ".join(["usage:", prog, *positional.values(), "[options]"]), ""]
    lines += _description((inspect.getdoc(kind) or "").replace("{prog}", prog), columns)
    groups = {"": "Options", **getattr(kind, "GROUPS", {})}
    if positional:
        lines += ["", "Arguments:"]
        for name, shown in positional.items():
            lines += _entry(shown, docs.get(name, ""), columns)
    title = groups[""]
    for field in fields:
        title = groups.get(field.name, title)
        if field.name in positional:
            continue
        if title:
            lines += ["", f"{title}:"]
            title = ""
        lines += _option(field, hints[field.name], docs.get(field.name, ""), columns)
    lines += _entry("-h, --help", "Print this help.", columns)
    return "\n".join([*lines, "", EXIT_STATUS])


def flag_of(name: str) -> str:
    """Return the option of a field.

    >>> flag_of("batch_size")
    '--batch-size'
    """
    return f"--{name.replace('_', '-')}"


def is_positional(hint: Any) -> bool:
    """Return whether a field is an argument and not an option.

    >>> import tyro
    >>> is_positional(tyro.conf.Positional[str]), is_positional(str)
    (True, False)
    """
    import tyro

    marker = typing.get_args(tyro.conf.Positional[str])[1]
    return marker in typing.get_args(hint)[1:]


def metavar(hint: Any) -> str:
    """Return the word for the value of an option, and an empty text for a flag.

    >>> metavar(int | None), metavar(Literal["a", "b"]), metavar(bool)
    ('N', '{a,b}', '')
    """
    for extra in typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ():
        if getattr(extra, "metavar", None):
            return extra.metavar
    plain = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
    words = choices(hint)
    if words:
        return f"{{{','.join(words)}}}"
    parts = {part for part in (plain, *typing.get_args(plain)) if isinstance(part, type)}
    return next((word for part, word in _METAVARS.items() if part in parts), "TEXT")


_METAVARS = {bool: "", int: "N", float: "NUMBER"}


def choices(hint: Any) -> list[str]:
    """Return the words that an option can have: those of a Literal or of a registry. Empty if it can have others.

    >>> choices(Literal["a", "b"] | None)
    ['a', 'b']
    """
    if typing.get_origin(hint) is typing.Annotated:
        plain, *markers = typing.get_args(hint)
        names = [marker.names() for marker in markers if isinstance(marker, OneOf) and marker.listed]
        return [*names[0]] if names else choices(plain)
    literals = [part for part in (hint, *typing.get_args(hint)) if typing.get_origin(part) is Literal]
    return [word for literal in literals for word in typing.get_args(literal)]


def field_docs(kind: Any) -> dict[str, str]:
    """Return the string below each field of a dataclass."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, SyntaxError, ValueError):  # no source at hand
        return {}
    assert isinstance(tree, ast.ClassDef)
    return {
        field.target.id: " ".join(str(doc.value.value).split())
        for field, doc in itertools.pairwise(tree.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant)
    }


def _description(text: str, columns: int) -> Iterator[str]:
    """Wrap paragraphs. Indented lines are not changed."""
    for paragraph in text.split("\n\n"):
        if paragraph != text.split("\n\n")[0]:
            yield ""
        if re.search(r"^  ", paragraph, re.MULTILINE):
            yield from paragraph.splitlines()
        else:
            yield from textwrap.wrap(" ".join(paragraph.split()), columns)


def _option(field: "dataclasses.Field[Any]", hint: Any, doc: str, columns: int) -> Iterator[str]:
    flag, shown = flag_of(field.name), metavar(hint)
    for marker in getattr(hint, "__metadata__", ()):
        if isinstance(marker, OneOf) and marker.describe is not None:
            doc = f"{doc} {marker.describe()}"
    if len(flag) + len(shown) > columns - 4:
        doc, shown = f"{doc} One of {shown[1:-1].replace(',', ', ')}.", "NAME"
    if field.default not in (None, False, (), dataclasses.MISSING):
        doc = f"{doc} (default: {field.default})"
    if field.default is dataclasses.MISSING:
        doc = f"{doc} (required)"
    yield from _entry(f"{flag} {shown}".rstrip(), doc, columns)


def _entry(left: str, doc: str, columns: int) -> Iterator[str]:
    if len(left) < _LEFT - 2 and len(doc) <= columns - _LEFT:
        yield f"  {left.ljust(_LEFT - 2)}{doc}"
        return
    yield f"  {left}"
    for line in _sentences(doc, columns - len(_INDENT)):
        yield _INDENT + line


def _sentences(doc: str, width: int) -> Iterator[str]:
    """Break a line between sentences, and in a sentence that is longer than a line."""
    line = ""
    for sentence in re.split(r"(?<=[.!?]) (?=[A-Z(])", doc):
        if line and len(line) + 1 + len(sentence) > width:
            yield from textwrap.wrap(line, width)
            line = sentence
        else:
            line = f"{line} {sentence}".strip()
    yield from textwrap.wrap(line, width)
