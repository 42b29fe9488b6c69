"""Parse the user's source files, and find their statements by the names that they define."""

import builtins
import importlib
import importlib.util
import inspect
import types
from collections.abc import Iterator
from typing import Any

from flaxnets.port._torch import libcst as cst
from flaxnets.port.scope import MISSING


class SourceFile:
    """The top-level statements of a Python module.

    Args:
        module: The module.

    Raises:
        OSError: If the module has no source.
    """

    def __init__(self, module: types.ModuleType):
        self.module = module
        self.tree = cst.parse_module(inspect.getsource(module))
        self.statements: dict[str, tuple[int, Any]] = {}  # by name: position and node of the last statement
        for position, statement in enumerate(_statements(self.tree.body)):
            for name in defined_names(statement):
                self.statements[name] = position, statement

    @property
    def has_late_annotations(self) -> bool:
        """Whether the module has ``from __future__ import annotations``."""
        return "annotations" in self.statements and "__future__" in _code(self.statements["annotations"][1])

    def static(self, node: Any) -> Any:
        """Return the object of a name or dotted path in the module; MISSING if there is none."""
        if isinstance(node, cst.Name):
            return vars(self.module).get(node.value, vars(builtins).get(node.value, MISSING))
        if isinstance(node, cst.Attribute):
            base = self.static(node.value)
            if isinstance(base, (types.ModuleType, type)):
                return getattr(base, node.attr.value, MISSING)
        return MISSING


def _statements(body: Any) -> Iterator[Any]:
    for statement in body:
        if isinstance(statement, (cst.If, cst.Try)):
            yield from _statements(statement.body.body)
            for part in (statement.orelse, *getattr(statement, "handlers", ())):
                if isinstance(part, cst.If):
                    yield from _statements([part])
                elif part is not None:
                    yield from _statements(part.body.body)
        else:
            yield statement


def defined_names(statement: Any) -> Iterator[str]:
    """Yield the names that a statement of a module or class binds."""
    if isinstance(statement, (cst.ClassDef, cst.FunctionDef)):
        yield statement.name.value
    for small in getattr(statement, "body", ()) if isinstance(statement, cst.SimpleStatementLine) else ():
        if isinstance(small, cst.Assign):
            yield from (t.target.value for t in small.targets if isinstance(t.target, cst.Name))
        elif isinstance(small, cst.AnnAssign) and isinstance(small.target, cst.Name):
            yield small.target.value
        elif isinstance(small, (cst.Import, cst.ImportFrom)) and not isinstance(small.names, cst.ImportStar):
            for alias in small.names:
                path = _code(alias.name)
                yield _code(alias.asname.name) if alias.asname else path.split(".")[0]


def imported_from(statement: Any, name: str, module: types.ModuleType) -> tuple[str, str] | None:
    """Return the module and the original name of the object that an import statement binds to ``name``."""
    for small in statement.body if isinstance(statement, cst.SimpleStatementLine) else ():
        if isinstance(small, cst.ImportFrom) and not isinstance(small.names, cst.ImportStar):
            path = _code(small.module) if small.module else ""
            package = vars(module).get("__package__") or ""
            source = importlib.util.resolve_name("." * len(small.relative) + path, package) if small.relative else path
            for alias in small.names:
                bound = _code(alias.asname.name if alias.asname else alias.name)
                if bound == name:
                    return source, _code(alias.name)
    return None


def _code(node: Any) -> str:
    return cst.Module([]).code_for_node(node)
