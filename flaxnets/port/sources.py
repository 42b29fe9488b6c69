"""Find and parse the source of a function, for running and for rewriting."""

import ast
import collections
import dataclasses
import functools
import linecache
import types
from typing import Any

from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider

from flaxnets.port._torch import libcst as cst

Span = tuple[int, int, int, int]  # first line, first column, last line, last column; columns in characters
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclasses.dataclass
class _Found:
    node: FunctionNode
    statement: Any  # the innermost statement that holds it: itself, if it is no lambda
    owner: str | None  # the class whose body it stands in


@functools.cache
def _index(path: str) -> dict[tuple[int, str], list[_Found]]:
    """All functions of a file by their first line and name."""
    found: dict[tuple[int, str], list[_Found]] = collections.defaultdict(list)

    def walk(node: ast.AST, statement: Any, owner: str | None) -> None:
        for child in ast.iter_child_nodes(node):
            inner = child if isinstance(child, ast.stmt) else statement
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                line = min([child.lineno, *(d.lineno for d in getattr(child, "decorator_list", ()))])
                found[line, getattr(child, "name", "<lambda>")].append(_Found(child, inner, owner))
            walk(child, inner, child.name if isinstance(child, ast.ClassDef) else owner)

    lines = linecache.getlines(path)
    if lines:
        walk(ast.parse("".join(lines)), None, None)
    return found


def _choose(candidates: list[_Found], code: types.CodeType) -> _Found:
    """Of the functions that begin in one line, the one whose body has the code's columns."""
    if len(candidates) == 1:
        return candidates[0]
    # The first instruction's position is that of the definition.
    columns = [p[2] for p in code.co_positions() if p[2] and p[0] == code.co_firstlineno]
    first = min(columns, default=0)
    inside = [c for c in candidates if c.node.col_offset <= first]
    return max(inside or candidates, key=lambda c: c.node.col_offset)


class FunctionSource:
    """The source of one function.

    Args:
        code: the code object of the function.

    Raises:
        OSError: if the file of the function is not there, or does not have it.
    """

    def __init__(self, code: types.CodeType):
        self.path, self.name, self.code = code.co_filename, code.co_name, code
        candidates = _index(self.path).get((code.co_firstlineno, code.co_name))
        if not candidates:
            raise OSError(f"no source of {code.co_name} in {code.co_filename}")
        found = _choose(candidates, code)
        self.node, self.owner, self._statement = found.node, found.owner, found.statement
        self.is_lambda = isinstance(self.node, ast.Lambda)

    def span(self, node: ast.AST) -> Span:
        """Return the span of a node of the syntax tree."""
        return (*self._place(node.lineno, node.col_offset), *self._place(node.end_lineno, node.end_col_offset))  # type: ignore[attr-defined]

    def _place(self, line: int, column: int) -> tuple[int, int]:
        text = linecache.getline(self.path, line)
        return line, column if text.isascii() else len(text.encode()[:column].decode())

    def text(self, span: Span) -> str:
        """Return the source text of a span."""
        lines = [linecache.getline(self.path, line) for line in range(span[0], span[2] + 1)]
        lines[-1] = lines[-1][: span[3]]
        lines[0] = lines[0][span[1] :]
        return "".join(lines)

    @functools.cached_property
    def tree(self) -> "Tree":
        """The function for rewriting, with comments and formatting."""
        first = min([self._statement.lineno, *(d.lineno for d in getattr(self._statement, "decorator_list", ()))])
        lines = [linecache.getline(self.path, line) for line in range(first, self._statement.end_lineno + 1)]
        if lines[0][:1].isspace():
            first, lines = first - 1, ["if True:\n", *lines]
        if not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        return Tree("".join(lines), first, self.span(self.node), self.is_lambda)


class Tree:
    """One function in libcst's syntax tree, and the places of its nodes."""

    def __init__(self, text: str, first_line: int, span: Span, is_lambda: bool):
        wrapper = MetadataWrapper(cst.parse_module(text))
        ranges = wrapper.resolve(PositionProvider)
        self._spans = {id(node): _shifted(place, first_line - 1) for node, place in ranges.items()}
        self._kept = wrapper.module  # the ids stay those of its nodes
        kind = cst.Lambda if is_lambda else cst.FunctionDef
        wanted = span[0], span[1]
        self.node: Any = next(node for node in ranges if isinstance(node, kind) and self.span(node)[:2] == wanted)

    def span(self, node: cst.CSTNode) -> Span:
        """Where a node stands in the user's file; raises KeyError for a node that is not of this tree."""
        return self._spans[id(node)]


def _shifted(place: CodeRange, lines: int) -> Span:
    return place.start.line + lines, place.start.column, place.end.line + lines, place.end.column
