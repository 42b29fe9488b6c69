"""Handle code that did not run: translate static code, and replace other code by an error."""

import builtins
import types
from collections.abc import Iterator, Sequence
from typing import Any

from flaxnets.port import expressions as ex
from flaxnets.port._torch import libcst as cst
from flaxnets.port._torch import torch
from flaxnets.port.names import is_library, is_torchs
from flaxnets.port.scope import MISSING
from flaxnets.port.source.needs import initialiser, twin

_METHODS = {"append", "extend", "insert", "items", "keys", "values", "get", "update", "pop", "format", "join", "copy"}
_STATEMENTS = (
    cst.SimpleStatementLine, cst.Expr, cst.Assign, cst.AnnAssign, cst.AugAssign, cst.Return, cst.Raise, cst.Pass,
    cst.Continue, cst.Break, cst.If, cst.For, cst.Else, cst.Assert,
)  # fmt: skip
_REFUSED = (cst.Lambda, cst.FunctionDef, cst.ClassDef, cst.Await, cst.Yield, cst.With, cst.Try, cst.While, cst.Del)


class Unreached:
    """Decide which code of a function is translated although it did not run.

    Args:
        translator: The translator of the function.
    """

    def __init__(self, translator: Any):
        self.translator = translator

    def is_static(self, block: Any) -> bool:
        """Whether the translation of a block does not depend on the objects that it would use."""
        lines = block.body if isinstance(block, cst.IndentedBlock) else [cst.SimpleStatementLine(block.body)]
        return all(self._is_static_statement(line) for line in lines)

    def is_static_expression(self, node: Any) -> bool:
        """Whether the translation of an expression does not depend on the objects that it would use."""
        return all(self._is_known(each) for each in _walk(node))

    def _is_static_statement(self, node: Any) -> bool:
        if isinstance(node, cst.SimpleStatementLine):
            return all(self._is_static_statement(small) for small in node.body)
        if isinstance(node, cst.Raise):
            return not self._names_torch(node)
        if not isinstance(node, _STATEMENTS):
            return False
        return self.is_static_expression(node)

    def _names_torch(self, node: Any) -> bool:
        values = (self.translator.scope.lookup(n.value) for n in _walk(node) if isinstance(n, cst.Name))
        return any(is_torchs(value) for value in values if value is not MISSING)

    def _is_known(self, node: Any) -> bool:
        if isinstance(node, _REFUSED):
            return False
        if isinstance(node, cst.Call):
            return self._is_known_call(node)
        if not self.translator.builds and isinstance(node, (cst.Attribute, cst.BinaryOperation, cst.Subscript)):
            return False
        if isinstance(node, (cst.Name, cst.Attribute)):
            value = self.translator.scope.static(node)
            return value is MISSING or not is_torchs(value) or self._has_twin(value)
        return True

    def _has_twin(self, value: Any) -> bool:
        if isinstance(value, types.ModuleType) or value is torch.nn.Parameter or initialiser(value):
            return True
        return isinstance(value, type) and issubclass(value, torch.nn.Module) and twin(value) is not None

    def _is_known_call(self, node: Any) -> bool:
        callee = self.translator.scope.static(node.func)
        if callee is not MISSING:
            return self._is_known_callee(callee, node)
        if isinstance(node.func, cst.Name) and node.func.value == "super":
            return True
        if not isinstance(node.func, cst.Attribute):
            return False
        return node.func.attr.value in _METHODS or self.callees(node) != []

    def _is_known_callee(self, callee: Any, node: Any) -> bool:
        if isinstance(callee, type) and issubclass(callee, BaseException):
            return True
        if getattr(builtins, getattr(callee, "__name__", ""), None) is callee:
            return self.translator.builds or callee in (len, isinstance, print)
        if not self.translator.builds:
            return False
        if initialiser(callee):
            return isinstance(self.translator.reads.parent(node), cst.Expr) and isinstance(
                node.args[0].value, cst.Attribute
            )
        if is_torchs(callee):
            return callee is torch.nn.Parameter or self._has_twin(callee)
        module = getattr(callee, "__module__", "")
        return self._is_recorded(callee) or is_library(types.ModuleType(module or ""))

    def _is_recorded(self, callee: Any) -> bool:
        if isinstance(callee, type):
            return callee in self.translator.references.recorder.classes
        references = self.translator.references
        recorded = references.space.recorded(callee)
        return recorded is not None and references.recorder.ran_in_build(recorded)

    def callees(self, node: Any) -> list[Any]:
        """Return the method that ``self.method(...)`` calls as a list, empty if the method was not recorded."""
        function = node.func
        is_own = isinstance(function, cst.Attribute) and ex.code(function.value) == "self"
        method = getattr(self.translator.module_class, function.attr.value, None) if is_own else None
        return [method] if method is not None and self._is_recorded(method) else []


def stand_in(statements: Sequence[Any]) -> Any:
    """Return a statement that raises an error, with the original text as comments above it."""
    lines = "".join(ex.code(each) for each in statements).strip("\n").splitlines()
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    comments = [f"# {line[indent:]}".rstrip() for line in lines if line.strip()]
    text = 'raise NotImplementedError("the recorded model does not run this branch")\n'
    statement: Any = cst.parse_statement(text)
    return statement.with_changes(leading_lines=[cst.EmptyLine(comment=cst.Comment(comment)) for comment in comments])


def _walk(node: Any) -> Iterator[Any]:
    yield node
    for child in node.children:
        if isinstance(node, cst.Arg) and child is node.keyword:
            continue
        if isinstance(node, cst.Attribute) and child is node.attr:
            continue
        if isinstance(child, cst.Annotation):
            continue
        yield from _walk(child)
