"""Find and parse the source of a function, for instrumentation (ast) and for translation (libcst)."""

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
class _Candidate:
    node: FunctionNode
    statement: Any  # the innermost statement that contains the function; the function itself unless it is a lambda
    owner: str | None  # the class whose body contains the function


@functools.cache
def _index(path: str) -> dict[tuple[int, str], list[_Candidate]]:
    """Return all functions of a file by first line and name."""
    functions: dict[tuple[int, str], list[_Candidate]] = collections.defaultdict(list)

    def walk(node: ast.AST, statement: Any, owner: str | None) -> None:
        for child in ast.iter_child_nodes(node):
            inner = child if isinstance(child, ast.stmt) else statement
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                line = min([child.lineno, *(d.lineno for d in getattr(child, "decorator_list", ()))])
                functions[line, getattr(child, "name", "<lambda>")].append(_Candidate(child, inner, owner))
            walk(child, inner, child.name if isinstance(child, ast.ClassDef) else owner)

    lines = linecache.getlines(path)
    if lines:
        walk(ast.parse("".join(lines)), None, None)
    return functions


def _choose(candidates: list[_Candidate], code: types.CodeType) -> _Candidate:
    """Select the function of a code object among functions that begin on the same line, by column."""
    if len(candidates) == 1:
        return candidates[0]
    # The first instruction has the position of the definition.
    columns = [p[2] for p in code.co_positions() if p[2] and p[0] == code.co_firstlineno]
    first = min(columns, default=0)
    inside = [c for c in candidates if c.node.col_offset <= first]
    return max(inside or candidates, key=lambda c: c.node.col_offset)


class FunctionSource:
    """The source of one function.

    Args:
        code: The code object of the function.

    Raises:
        OSError: If the file of the function does not exist, or does not contain the function.
    """

    def __init__(self, code: types.CodeType):
        self.path, self.name, self.code = code.co_filename, code.co_name, code
        candidates = _index(self.path).get((code.co_firstlineno, code.co_name))
        if not candidates:
            raise OSError(f"no source of {code.co_name} in {code.co_filename}")
        candidate = _choose(candidates, code)
        self.node, self.owner, self._statement = candidate.node, candidate.owner, candidate.statement
        self.is_lambda = isinstance(self.node, ast.Lambda)

    @property
    def parameters(self) -> list[str]:
        """The names of the positional parameters."""
        return [each.arg for each in (*self.node.args.posonlyargs, *self.node.args.args)]

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
        """The libcst tree of the function, with comments and formatting."""
        first = min([self._statement.lineno, *(d.lineno for d in getattr(self._statement, "decorator_list", ()))])
        lines = [linecache.getline(self.path, line) for line in range(first, self._statement.end_lineno + 1)]
        if lines[0][:1].isspace():
            first, lines = first - 1, ["if True:\n", *lines]
        if not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        return Tree("".join(lines), first, self.span(self.node), self.is_lambda)


class Tree:
    """The libcst syntax tree of one function, with the positions of its nodes."""

    def __init__(self, text: str, first_line: int, span: Span, is_lambda: bool):
        wrapper = MetadataWrapper(cst.parse_module(text))
        ranges = wrapper.resolve(PositionProvider)
        self._spans = {id(node): _shifted(place, first_line - 1) for node, place in ranges.items()}
        self._module = wrapper.module  # keeps the nodes alive, so that their ids stay unique
        kind = cst.Lambda if is_lambda else cst.FunctionDef
        start = span[0], span[1]
        self.node: Any = next(node for node in ranges if isinstance(node, kind) and self.span(node)[:2] == start)

    def span(self, node: cst.CSTNode) -> Span:
        """Return the position of a node in the user's file. Raises KeyError for a node of another tree."""
        return self._spans[id(node)]


def _shifted(place: CodeRange, lines: int) -> Span:
    return place.start.line + lines, place.start.column, place.end.line + lines, place.end.column
