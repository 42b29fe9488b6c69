"""Refuse syntax that cannot be ported, and handle code that did not run. A part of the translator."""

import types
from typing import Any

from flaxnets.port import expressions as ex
from flaxnets.port import operators
from flaxnets.port._torch import libcst as cst
from flaxnets.port._torch import torch
from flaxnets.port.names import is_torchs, qualified_name
from flaxnets.port.problems import CARRIED

_TEXTS = (eval, exec, compile, globals, locals, vars, __import__)
# Other parts of the translator handle calls of these classes.
_KNOWN_CLASSES = (torch.nn.Parameter, torch.Size, torch.nn.Module, torch.device, torch.Tensor)
_OWN_MODULES = ("nn", "F")  # a port uses flaxnets modules with these names
_CAST_DECORATORS = ("autocast", "custom_fwd", "custom_bwd")


class Refusing:
    """Refuse code that cannot be ported. A part of the translator."""

    # Attributes and methods that the translator defines.
    site: Any
    refuse: Any
    reads: Any
    recorded: Any
    scope: Any
    tree: Any
    root: Any
    refusals: list[Any]

    # Tests of values.

    def check_test(self, test: Any) -> None:
        """Refuse a test of a tensor's value, and suggest the code that replaces it."""
        if not self.site("test", test).on_tensor:
            return
        self.refuse(
            test, "Python branches on the value of a tensor, which is known only when the program runs.",
            self._choice(test, self.reads.parent(test)),
        )  # fmt: skip

    def _choice(self, test: Any, parent: Any) -> str:
        """Return the fix for a branch on a value, with the user's own expressions."""
        text = ex.code(test)
        if isinstance(parent, cst.While):
            return f"write jax.lax.while_loop(lambda x: {text}, body, x), or a fixed number of steps with torch.where."
        if isinstance(parent, cst.CompIf):
            return f"keep all elements, and select by torch.where({text}, a, b)."
        target, first, second = "", "a", "b"
        if isinstance(parent, cst.IfExp):
            first, second = ex.code(parent.body), ex.code(parent.orelse)
        elif isinstance(parent, cst.If) and (assignments := _assignments(parent)):
            target, first, second = assignments
        where = f"{target}torch.where({text}, {first}, {second})"
        cond = f"{target}jax.lax.cond({text}, lambda: {first}, lambda: {second})"
        return f"write {where}; in JAX this is {where.replace('torch.', 'jnp.', 1)}, or {cond}."

    def leave_CompIf(self, original_node: Any, updated_node: Any) -> Any:
        self.check_test(original_node.test)
        return updated_node

    def leave_MatchCase(self, original_node: Any, updated_node: Any) -> Any:
        if original_node.guard is not None:
            self.check_test(original_node.guard)
        return updated_node

    def leave_Assert(self, original_node: Any, updated_node: Any) -> Any:
        if isinstance(updated_node.test, cst.Name) and updated_node.test.value == "True":
            return cst.RemoveFromParent()
        if not self.site("test", original_node.test).on_tensor:
            return updated_node
        arguments = [updated_node.test, *([updated_node.msg] if updated_node.msg else [])]
        return cst.Expr(cst.Call(ex.parse("ops.assert_values"), [cst.Arg(a) for a in arguments]))

    # Statements.

    def leave_Global(self, original_node: Any, updated_node: Any) -> Any:
        names = ", ".join(item.name.value for item in original_node.names)
        self.refuse(original_node, f"This sets the global {names}, which a compiled program cannot.", CARRIED.fix)
        return updated_node

    def leave_Nonlocal(self, original_node: Any, updated_node: Any) -> Any:
        if next(self.reads.enclosing(original_node, cst.FunctionDef), None) is self.root:
            names = ", ".join(item.name.value for item in original_node.names)
            self.refuse(original_node, f"This sets {names}, which outlives the call.", CARRIED.fix)
        return updated_node

    def leave_Try(self, original_node: Any, updated_node: Any) -> Any:
        """Refuse handlers that ran: JAX raises other exceptions. Handlers that never ran are removed."""
        if not original_node.handlers or not self.recorded.touches_tensors(self.tree.span(original_node)):
            return updated_node
        if self.tries_memo(original_node):  # type: ignore[attr-defined]
            return ex.spliced(updated_node.handlers[0].body, updated_node.leading_lines)
        if any(self._ran(handler.body) for handler in original_node.handlers):  # type: ignore[attr-defined]
            self.refuse(
                original_node, "This depends on an exception of torch. JAX may raise another exception or none.",
                "test the shape or the dtype before the operation.",
            )  # fmt: skip
            return updated_node
        body = _lines(updated_node.body) + (_lines(updated_node.orelse.body) if updated_node.orelse else [])
        block = cst.IndentedBlock(body)
        if updated_node.finalbody is not None:
            return updated_node.with_changes(body=block, handlers=[], orelse=None)
        return ex.spliced(block, updated_node.leading_lines)

    # Calls.

    def check_call(self, callee: Any, original: Any) -> None:
        """Refuse functions that execute program text or access names, and unsupported classes of torch."""
        if any(callee is each for each in _TEXTS):
            self.refuse(
                original, f"{callee.__name__}() executes the text of a program or accesses its names.",
                "write the code directly.",
            )  # fmt: skip
        elif self._is_unknown_class(callee) and not isinstance(self.reads.parent(original), cst.WithItem):
            self.refuse_torchs(original, qualified_name(callee))

    def _is_unknown_class(self, callee: Any) -> bool:
        is_class = isinstance(callee, type) and is_torchs(callee)
        return is_class and not issubclass(callee, (*_KNOWN_CLASSES, Exception))

    def refuse_torchs(self, original: Any, name: str) -> None:
        """Refuse a function or attribute of torch, with the reason from the operator table."""
        cause, _, fix = (operators.reason(name) or operators.NOT_IN_TABLE).partition(" Fix: ")
        self.refuse(original, f"{name}: {cause.rstrip('.')}.", f"{fix or 'write it with supported operations'}.")

    def check_context(self, context: Any, original: Any) -> None:
        """Refuse ``torch.autocast`` that changes dtypes, and ``contextlib.suppress`` around operations of tensors."""
        if type(context).__name__ == "suppress" and self.recorded.touches_tensors(self.tree.span(original)):
            self.refuse(
                original, "This depends on an exception of torch. JAX may raise another exception or none.",
                "test the shape or the dtype before the operation.",
            )  # fmt: skip
        if type(context).__name__ == "autocast" and context._enabled and context.device == "cpu":
            self.refuse(
                original, "torch.autocast changes the dtypes of operations. The port does not support this.",
                "convert the tensors with .to(dtype), or use flaxnets.autocast around the port.",
            )  # fmt: skip

    def check_decorator(self, node: Any) -> None:
        """Refuse a decorator of the function that changes dtypes."""
        function = node.decorator.func if isinstance(node.decorator, cst.Call) else node.decorator
        value = self.scope.static(function)
        if is_torchs(value) and getattr(value, "__name__", "") in _CAST_DECORATORS:
            self.refuse(node, f"The port does not support the decorator {value.__name__}.", "remove it.")

    def check_names(self, tree: Any) -> None:
        """Refuse names of torch that remain in a translated function."""
        translator = self

        class Names(cst.CSTVisitor):
            def visit_Attribute(self, node: Any) -> bool:
                node.value.visit(self)
                return False

            def visit_Arg(self, node: Any) -> bool:
                node.value.visit(self)
                return False

            def visit_Name(self, node: Any) -> None:
                value = translator.scope.lookup(node.value)
                if isinstance(value, types.ModuleType) and is_torchs(value) and node.value not in _OWN_MODULES:
                    translator._refuse_name(node)

        tree.body.visit(Names())

    def _refuse_name(self, node: Any) -> None:
        try:
            self.tree.span(node)
        except KeyError:
            if self.refusals:
                return  # the name is a part of a place that is already refused
            node = self.root.name if isinstance(self.root, cst.FunctionDef) else self.root
        else:
            while isinstance(parent := self.reads.parent(node), (cst.Attribute, cst.Call)):
                if isinstance(parent, cst.Call) and parent.func is not node:
                    break
                node = parent
        self.refuse(
            node, f"{ex.code(node)} is torch's and not in the operator table.", "write it with supported operations."
        )

    # Code that did not run.

    def is_unreached(self, what: str, node: Any) -> bool:
        """Whether an expression never ran, although the block around it did."""
        if isinstance(self.root, cst.FunctionDef) and self.root.name.value == "__init__":
            return False
        try:
            site = self.recorded.sites.get((what, self.tree.span(node)))
        except KeyError:
            return False
        return site is not None and not site.hits and not self._is_in_unreached_block(node)

    def _is_in_unreached_block(self, node: Any) -> bool:
        blocks = self.reads.enclosing(node, cst.IndentedBlock, cst.SimpleStatementSuite)
        return any(not self._ran(block) for block in blocks if not self._is_root_body(block))  # type: ignore[attr-defined]

    def _is_root_body(self, block: Any) -> bool:
        return self.reads.parent(block) is self.root

    def unreached(self, node: Any) -> Any:
        """Return an expression that raises an error with the original text."""
        text = " ".join(ex.code(node).split())
        return ex.parse(f"ops.unreached({text!r})")


def _lines(block: Any) -> list[Any]:
    """Return the statements of a block, each on its own line."""
    is_suite = isinstance(block, cst.SimpleStatementSuite)
    return [cst.SimpleStatementLine([s]) for s in block.body] if is_suite else list(block.body)


def _assignments(statement: Any) -> tuple[str, str, str] | None:
    """Return ``("name = ", value, value)`` if both branches assign only to the same name; else None."""
    first = _only_assignment(statement.body)
    if first is None:
        return None
    if statement.orelse is None:
        return f"{first[0]} = ", first[1], first[0]
    second = _only_assignment(getattr(statement.orelse, "body", None))
    if second is None or second[0] != first[0]:
        return None
    return f"{first[0]} = ", first[1], second[1]


def _only_assignment(block: Any) -> tuple[str, str] | None:
    statements = [s for line in getattr(block, "body", ()) for s in getattr(line, "body", [line])]
    if len(statements) != 1 or not isinstance(statements[0], (cst.Assign, cst.AugAssign)):
        return None
    statement = statements[0]
    if isinstance(statement, cst.Assign):
        return ex.code(statement.targets[0].target), ex.code(statement.value)
    symbol = ex.code(statement.operator).strip().removesuffix("=")
    target = ex.code(statement.target)
    return target, f"{target} {symbol} {ex.code(statement.value)}"
