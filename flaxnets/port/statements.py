"""Translate statements: blocks, branches, contexts and definitions. A part of the translator."""

from collections.abc import Sequence
from typing import Any

from flaxnets.port import expressions as ex
from flaxnets.port._torch import libcst as cst
from flaxnets.port._torch import torch
from flaxnets.port.names import is_torchs
from flaxnets.port.scope import MISSING
from flaxnets.port.sites import Site

_FOLDED_CONTEXTS = (
    "no_grad", "enable_grad", "set_grad_enabled", "inference_mode", "autocast", "record_function", "profile",
    "nullcontext", "device", "sdp_kernel", "sdpa_kernel", "_DeviceContext",
)  # fmt: skip


class Statements:
    """Translate statements. A part of the translator."""

    # Attributes and methods that the translator defines.
    site: Any
    tree: Any
    root: Any
    scope: Any
    reads: Any
    refuse: Any
    check_test: Any
    check_context: Any
    check_decorator: Any
    small_statements: Any
    draws: bool
    has_rngs: bool
    module_class: type | None
    stopped: int
    _plain_names: set[int]
    _suites: dict[Any, Site]
    _tails: dict[int, Sequence[Any]]
    fills_memo: Any

    def _ran(self, block: Any) -> bool:
        site = self._suite_site(block.body[0])
        return site is not None and site.hits > 0

    def _suite_site(self, statement: Any) -> Site | None:
        """Return the site at the begin of a statement; None if it always runs after the statement before it."""
        span = self.tree.span(statement.body[0] if isinstance(statement, cst.SimpleStatementLine) else statement)
        return self._suites.get(span[:2])

    def visit_IndentedBlock(self, node: Any) -> bool:
        parent = self.reads.parent(node)
        is_visited = isinstance(parent, (cst.FunctionDef, cst.ClassDef)) or self._ran(node)
        if is_visited:
            self._note_tail(node)
        return is_visited

    def _note_tail(self, block: Any) -> None:
        """Record the statements of a block that never ran, because an earlier statement left the block."""
        starts = [i for i, s in enumerate(block.body) if i and (site := self._suite_site(s)) and not site.hits]
        if starts and not self.follows_unreached(block.body[starts[0] :]):
            self._tails |= {id(s): block.body[starts[0] :] for s in block.body[starts[0] :]}

    def follows_unreached(self, statements: Sequence[Any]) -> bool:
        """Whether statements that did not run are translated anyway."""
        return all(_is_harmless(cst.IndentedBlock([s])) for s in statements)

    def not_recorded(self, statements: Sequence[Any]) -> Any:
        """Return the statement that replaces statements which did not run. It raises an error with their text."""
        text = "\n".join(line.strip() for s in statements for line in ex.code(s).strip().splitlines())
        return cst.parse_statement(f"raise NotImplementedError({('not recorded: ' + text)!r})\n")

    visit_SimpleStatementSuite = visit_IndentedBlock

    def _leave_block(self, original_node: Any, updated_node: Any) -> Any:
        parent = self.reads.parent(original_node)
        is_definition = isinstance(parent, (cst.FunctionDef, cst.ClassDef))
        if is_definition or self._ran(original_node) or _is_harmless(original_node):
            if isinstance(original_node, cst.SimpleStatementSuite):
                updated_node = updated_node.with_changes(body=self.small_statements(original_node))
            return updated_node if updated_node.body else _block(updated_node, cst.parse_statement("pass\n"))
        return _block(updated_node, self.not_recorded([original_node]))

    leave_IndentedBlock = leave_SimpleStatementSuite = _leave_block

    def leave_If(self, original_node: cst.If, updated_node: cst.If) -> Any:
        self.check_test(original_node.test)
        known = True if self.fills_memo(original_node) else literal(updated_node.test)
        if known is None:
            return updated_node
        if isinstance(self.reads.parent(original_node), cst.If):  # an elif
            return cst.Else(updated_node.body) if known else updated_node.orelse or cst.RemoveFromParent()
        if known:
            return ex.spliced(updated_node.body, updated_node.leading_lines)
        if updated_node.orelse is None:
            return cst.RemoveFromParent()
        if isinstance(updated_node.orelse, cst.If):
            return updated_node.orelse
        return ex.spliced(updated_node.orelse.body, updated_node.leading_lines)

    def leave_While(self, original_node: Any, updated_node: Any) -> Any:
        self.check_test(original_node.test)
        return updated_node

    def leave_IfExp(self, original_node: Any, updated_node: Any) -> Any:
        self.check_test(original_node.test)
        known = literal(updated_node.test)
        if known is not None:
            return updated_node.body if known else updated_node.orelse
        return updated_node

    def leave_ImportFrom(self, original_node: Any, updated_node: Any) -> Any:
        names = [(a.asname.name.value if a.asname else a.name.value) for a in original_node.names]
        values = [self.scope.imported.get(name) for name in names]
        if original_node.relative and MISSING not in values:
            return cst.RemoveFromParent()  # the port has these objects under global names
        if all(
            is_torchs(v) or getattr(v, "__module__", None) not in (None, "builtins", "math", "numpy") for v in values
        ):
            return cst.RemoveFromParent()
        return updated_node

    def leave_Import(self, original_node: Any, updated_node: Any) -> Any:
        values = [self.scope.imported.get(ex.code(a.name).split(".")[0]) for a in original_node.names]
        return cst.RemoveFromParent() if all(is_torchs(v) for v in values) else updated_node

    def visit_With(self, node: cst.With) -> bool:
        self.stopped += self._stops_gradients(node)
        return True

    def _stops_gradients(self, node: cst.With) -> bool:
        for item in node.items:
            for value in self.site("context", item.item).callees:
                if type(value).__name__ in ("no_grad", "inference_mode"):
                    return True
                if type(value).__name__ == "set_grad_enabled" and not value.mode:
                    return True
        return False

    def leave_With(self, original_node: cst.With, updated_node: cst.With) -> Any:
        self.stopped -= self._stops_gradients(original_node)
        contexts = [v for item in original_node.items for v in self.site("context", item.item).callees]
        kinds = [type(v).__name__ for v in contexts]
        for context in contexts:
            self.check_context(context, original_node)
        if kinds and all(k in _FOLDED_CONTEXTS for k in kinds):
            return ex.spliced(updated_node.body, updated_node.leading_lines)
        if any(is_torchs(type(context)) for context in contexts):
            self.refuse(original_node, f"The context {kinds[0]} of torch is not supported.", "remove it.")
        return updated_node

    def leave_Return(self, original_node: Any, updated_node: Any) -> Any:
        if self.stopped and updated_node.value is not None and not self._is_nested(original_node):
            return updated_node.with_changes(value=_stopped(updated_node.value))
        return updated_node

    def _is_nested(self, node: Any) -> bool:
        return next(self.reads.enclosing(node, cst.FunctionDef), self.root) is not self.root

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        if original_node is not self.root:
            return updated_node.with_changes(returns=None)
        name = updated_node.name
        if name.value == "forward" and self.module_class is not None:
            name = cst.Name("__call__")
        updated_node = updated_node.with_changes(name=name, returns=None, decorators=[])
        if self.has_rngs and self.module_class is None:
            default = None if self.draws else cst.Name("None")
            updated_node = updated_node.with_changes(params=_with_keyword(updated_node.params, "rngs", default))
        return updated_node

    def visit_FunctionDef(self, node: Any) -> bool:
        if node is self.root:
            self.stopped += any(self._is_without_gradients(d) for d in node.decorators)
            for decorator in node.decorators:
                self.check_decorator(decorator)
        self._plain_names.add(id(node.name))
        return True

    def _is_without_gradients(self, decorator: Any) -> bool:
        node = decorator.decorator
        node = node.func if isinstance(node, cst.Call) else node
        return self.scope.static(node) in (torch.no_grad, torch.inference_mode)

    def visit_Decorator(self, node: Any) -> bool:
        return self.reads.parent(node) is not self.root


def literal(node: Any) -> bool | None:
    """Return the value of the expressions ``True`` and ``False``; None for others."""
    if isinstance(node, cst.Name) and not node.lpar and node.value in ("True", "False"):
        return node.value == "True"
    return None


def _with_keyword(params: Any, name: str, default: Any) -> Any:
    star = params.star_arg
    if not params.kwonly_params and isinstance(star, cst.MaybeSentinel):
        star = cst.ParamStar()
    added = cst.Param(cst.Name(name), default=default)
    return params.with_changes(star_arg=star, kwonly_params=[*params.kwonly_params, added])


def _stopped(value: Any) -> Any:
    return ex.fill("jax.lax.stop_gradient(x)", {"x": value})


def _block(block: Any, statement: Any) -> Any:
    """Return the block with this statement only."""
    if isinstance(block, cst.SimpleStatementSuite):
        return block.with_changes(body=statement.body)
    return block.with_changes(body=[statement])


def _is_harmless(block: Any) -> bool:
    """Return whether a block needs no translation: pass, continue or break."""
    lines = [block] if isinstance(block, cst.SimpleStatementSuite) else block.body
    if any(isinstance(line, cst.BaseCompoundStatement) for line in lines):
        return False
    statements = [statement for line in lines for statement in line.body]
    return all(isinstance(s, (cst.Pass, cst.Continue, cst.Break)) for s in statements)
