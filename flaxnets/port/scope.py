"""Resolve the names of a function, and find the places that read them."""

import ast
import builtins
import importlib
import types
from collections.abc import Callable, Iterator
from typing import Any

from flaxnets.port._torch import libcst as cst
from flaxnets.port.sources import FunctionSource, Span

MISSING: Any = object()


class Scope:
    """The names of one function: parameters, locals, and names of objects that are known before the function runs.

    Args:
        source: The source of the function.
        function: The function.
    """

    def __init__(self, source: FunctionSource, function: types.FunctionType):
        self.source, self.function = source, function
        self.locals = set(_bound_names(source.node))
        self.imported = self._imports()
        self.cells = dict(_cells(function))

    def _imports(self) -> dict[str, Any]:
        imported: dict[str, Any] = {}
        package = self.function.__globals__.get("__package__") or ""
        for node in ast.walk(self.source.node):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    module = _module(alias.name)
                    top = _module(alias.name.split(".")[0])
                    imported[alias.asname or alias.name.split(".")[0]] = module if alias.asname else top
            elif isinstance(node, ast.ImportFrom):
                module = _module("." * node.level + (node.module or ""), package)
                imported.update(
                    {alias.asname or alias.name: getattr(module, alias.name, MISSING) for alias in node.names}
                )
        return imported

    def lookup(self, name: str) -> Any:
        """Return the object that a name refers to in every call of the function; MISSING for locals."""
        if name in self.imported:
            return self.imported[name]
        if name in self.locals:
            return MISSING
        if name in self.cells:
            return self.cells[name]
        if name in self.function.__globals__:
            return self.function.__globals__[name]
        return vars(builtins).get(name, MISSING)

    def static(self, node: Any) -> Any:
        """Return the object of a name, or of a dotted path that starts at a module or class; else MISSING."""
        if isinstance(node, cst.Name):
            return self.lookup(node.value)
        if isinstance(node, cst.Attribute):
            base = self.static(node.value)
            if isinstance(base, (types.ModuleType, type)):
                return getattr(base, node.attr.value, MISSING)
        if isinstance(node, cst.Call) and len(node.args) == 2 and self.static(node.func) is getattr:
            base, name = self.static(node.args[0].value), node.args[1].value
            if isinstance(base, types.ModuleType) and isinstance(name, cst.SimpleString):
                return getattr(base, str(name.evaluated_value), MISSING)
        return MISSING


def local_names(function: types.FunctionType) -> frozenset[str]:
    """Return the names that a function and its inner functions bind; empty if the source is not available."""
    try:
        return frozenset(_bound_names(FunctionSource(function.__code__).node))
    except OSError:
        return frozenset()


def _module(name: str, package: str = "") -> Any:
    """Import a module that a function imports; MISSING if it does not exist, as in code that did not run."""
    try:
        return importlib.import_module(name, package)
    except ImportError:
        return MISSING


def _bound_names(function: ast.AST) -> Iterator[str]:
    outside: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            outside.update(node.names)
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load) and node.id not in outside:
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.ExceptHandler)) and node is not function:
            yield node.name or ""


def _cells(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:  # the cell is still empty
            continue


class Reads:
    """Find the places that read a name, and the nodes that enclose a node."""

    def __init__(self, root: cst.CSTNode, span: Callable[[cst.CSTNode], Span]):
        self.parents: dict[int, cst.CSTNode] = {}
        self._span, self._loads = span, []
        self._captured: set[str] = set()  # names that an inner function reads, at an unknown time
        self._walk(root, is_inside=False)

    def _walk(self, node: cst.CSTNode, is_inside: bool) -> None:
        for child in node.children:
            self.parents[id(child)] = node
            if isinstance(child, cst.Name) and not _is_target(node, child):
                self._loads.append((child.value, child))
                self._captured |= {child.value} if is_inside else set()
            self._walk(child, is_inside or isinstance(child, (cst.FunctionDef, cst.Lambda)))

    def parent(self, node: cst.CSTNode) -> Any:
        """Return the parent of a node."""
        return self.parents.get(id(node))

    def enclosing(self, node: cst.CSTNode, *kinds: type) -> Iterator[Any]:
        """Yield the enclosing nodes of these classes, innermost first."""
        current = self.parent(node)
        while current is not None:
            if isinstance(current, kinds):
                yield current
            current = self.parent(current)

    def is_live(self, name: str, after: cst.CSTNode) -> bool:
        """Whether a name is read after a node, or in the next iteration of an enclosing loop."""
        if name in self._captured:
            return True
        end = self._span(after)[2:]
        loops = [self._span(loop) for loop in self.enclosing(after, cst.For, cst.While)]
        inside = self._span(after)
        for loaded, node in self._loads:
            if loaded != name:
                continue
            place = self._span(node)
            if place[:2] >= end:
                return True
            within = inside[:2] <= place[:2] <= inside[2:]
            if not within and any(loop[:2] <= place[:2] < loop[2:] for loop in loops):
                return True
        return False

    def read_before(self, name: str, node: cst.CSTNode) -> bool:
        """Whether a name is read before a node in the same statement."""
        statement = next(self.enclosing(node, cst.SimpleStatementLine, cst.If, cst.For, cst.While, cst.With), None)
        if statement is None:
            return False
        begin, here = self._span(statement)[:2], self._span(node)[:2]
        return any(n == name and begin <= self._span(load)[:2] < here for n, load in self._loads)


def _is_target(parent: cst.CSTNode, child: cst.Name) -> bool:
    match parent:
        case cst.Attribute():
            return child is parent.attr
        case cst.Arg():
            return child is parent.keyword
        case cst.Param() | cst.FunctionDef() | cst.ClassDef():
            return child is parent.name
        case cst.AssignTarget() | cst.AnnAssign() | cst.CompFor() | cst.For() | cst.NamedExpr():
            return child is getattr(parent, "target", None)
        case cst.AsName() | cst.ImportAlias():
            return True
    return False
