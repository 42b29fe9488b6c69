"""Rewrite a function so that each operation calls a recorder."""

import ast
import contextlib
import copy
import operator
import types
from collections.abc import Callable
from typing import Any

from flaxnets.port.memos import lookups, texts
from flaxnets.port.sites import RecordedFunction, Site

HOOK = "__flaxnets_port__"  # the recorder, among the globals of an instrumented function


class _Instrument(ast.NodeTransformer):
    """Rewrite the operations of a function to calls of the recorder."""

    def __init__(self, recorder: Any, recorded: RecordedFunction):
        self.recorder, self.recorded = recorder, recorded
        self.depth = 0
        self.looked_up = set(lookups(recorded.source.node))

    def _tell(self, what: str, method: str, node: ast.AST, *arguments: ast.expr) -> ast.Call:
        site = self.recorded.sites.setdefault((what, self.recorded.source.span(node)), Site())
        self.recorder.all_sites.append(site)
        number = ast.Constant(len(self.recorder.all_sites) - 1)
        function = ast.Attribute(ast.Name(HOOK, ast.Load()), method, ast.Load())
        return ast.Call(function, [number, *arguments], [])

    def _mangled(self, name: str) -> str:
        owner = self.recorded.source.owner
        private = owner and name.startswith("__") and not name.endswith("__")
        return f"_{owner.lstrip('_')}{name}" if private and owner else name

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        if all(self._has_place(part.value) for part in node.values if isinstance(part, ast.FormattedValue)):
            self.generic_visit(node)
        return node

    def _has_place(self, node: ast.expr) -> bool:
        """Return whether the position of an expression in an f-string is correct. Python 3.11 reports wrong ones."""
        try:
            text = self.recorded.source.text(self.recorded.source.span(node))
            return ast.dump(ast.parse(f"({text})", mode="eval").body) == ast.dump(node)
        except (SyntaxError, IndexError):
            return False

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        value, name = self.visit(node.value), ast.Constant(self._mangled(node.attr))
        if isinstance(node.ctx, ast.Load):
            return self._tell("attribute", "attribute", node, value, name)
        node.value = self._tell("store", "store", node, value, name)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        original = copy.copy(node)
        node.value = self.visit(node.value)
        node.slice = self.visit(node.slice)
        if isinstance(node.ctx, ast.Load):
            return self._tell("subscript", "subscript", original, node.value, _as_value(node.slice))
        if isinstance(node.ctx, ast.Store):
            node.value = self._tell("store", "store_into", original, node.value)
        return node  # the call of the recorder for the whole statement does the rest

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id in ("super", "locals", "globals", "vars", "dir", "eval"):
            return node
        original = copy.copy(node)
        self.generic_visit(node)
        call = self._tell("call", "call", original, node.func, *node.args)
        call.keywords = node.keywords
        return call

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        original = copy.copy(node)
        name = ast.Constant(_OPERATORS[type(node.op)])
        self.generic_visit(node)
        return self._tell("operator", "operator", original, name, node.left, node.right)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        original = copy.copy(node)
        self.generic_visit(node)
        if len(node.ops) == 1 and isinstance(node.ops[0], (ast.In, ast.NotIn)):
            node.left = self._tell("membership", "membership", original, node.left)
        elif len(node.ops) == 1 and isinstance(node.ops[0], (ast.Is, ast.IsNot)):
            node.left = self._tell("identity", "identity", original, node.left)
        elif len(node.ops) > 1:
            node.left = self._tell("chain", "chain", original, node.left)
            node.comparators = [self._tell("chain", "chain", original, c) for c in node.comparators]
        return self._tell("compare", "value", original, node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if isinstance(node.op, ast.Not):
            node.operand = self._test(node.operand)
            return node
        self.generic_visit(node)
        return node

    def _test(self, node: ast.expr) -> ast.expr:
        return self._tell("test", "test", node, self.visit(node))

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        node.values = [*map(self._test, node.values[:-1]), self.visit(node.values[-1])]
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        node.test = self._test(node.test)
        node.body, node.orelse = self._branch(node.body), self._branch(node.orelse)
        return node

    def _branch(self, node: ast.expr) -> ast.expr:
        return self._tell("branch", "value", node, self.visit(node))

    def _suite(self, body: list[ast.stmt]) -> list[ast.stmt]:
        if not body:
            return body
        visited: list[ast.stmt] = []
        for i, statement in enumerate(body):
            if i == 0 or may_leave(body[i - 1]):
                visited.append(ast.Expr(self._tell("suite", "ran", statement)))
            visited += _as_list(self.visit(statement))
        return visited

    def visit_If(self, node: ast.If) -> ast.AST:
        node.test = self._test(node.test)
        node.body, node.orelse = self._suite(node.body), self._suite(node.orelse)
        return node

    def visit_While(self, node: ast.While) -> ast.AST:
        return self.visit_If(node)  # type: ignore[arg-type]

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.test = self._test(node.test)
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        node.iter = self._tell("iterate", "iterate", node.iter, self.visit(node.iter))
        node.target = self.visit(node.target)
        node.body, node.orelse = self._suite(node.body), self._suite(node.orelse)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        node.iter = self._tell("iterate", "iterate", node.iter, self.visit(node.iter))
        node.ifs = [self._test(test) for test in node.ifs]
        return node

    def visit_With(self, node: ast.With) -> ast.AST:
        for item in node.items:
            item.context_expr = self._tell("context", "value", item.context_expr, self.visit(item.context_expr))
        node.body = self._suite(node.body)
        return node

    def visit_Try(self, node: ast.Try) -> ast.AST:
        node.body, node.orelse = self._suite(node.body), self._suite(node.orelse)
        node.finalbody = self._suite(node.finalbody)
        for handler in node.handlers:
            handler.body = self._suite(handler.body)
        return node

    def visit_Match(self, node: ast.Match) -> ast.AST:
        node.subject = self.visit(node.subject)
        for case in node.cases:
            case.guard = case.guard and self._test(case.guard)
            case.body = self._suite(case.body)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if self.depth:
            node.decorator_list = [self.visit(d) for d in node.decorator_list]
            node.args = self.visit(node.args)
        self.depth += 1
        node.body = self._suite(node.body)
        self.depth -= 1
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        node.defaults = [self.visit(d) for d in node.defaults]
        node.kw_defaults = [d and self.visit(d) for d in node.kw_defaults]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node  # its methods are recorded when they are called

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return node
        return self.visit(ast.copy_location(ast.Assign([node.target], node.value), node))

    def visit_Assign(self, node: ast.Assign) -> Any:
        targets = [copy.copy(target) for target in node.targets]
        memos = [isinstance(t, ast.Subscript) and texts(t.slice, t.value) in self.looked_up for t in targets]
        if any(memos) and len(targets) > 1:
            return self._visit_targets(node)
        self.generic_visit(node)
        if len(targets) == 1 and isinstance(targets[0], ast.Subscript):
            method = "store_memo" if memos[0] else "store_item"
            return ast.Expr(self._store_item(targets[0], node.targets[0], node.value, "", method))
        return node

    def _visit_targets(self, node: ast.Assign) -> list[Any]:
        """Split an assignment to several targets into assignments of the first target that is a name."""
        name = next((target for target in node.targets if isinstance(target, ast.Name)), None)
        if name is None:
            self.generic_visit(node)
            return [node]
        read = ast.Name(name.id, ast.Load())
        others = [ast.Assign([target], copy.copy(read)) for target in node.targets if target is not name]
        parts = [ast.copy_location(each, node) for each in [ast.Assign([name], node.value), *others]]
        return [new for part in parts for new in _as_list(self.visit(part))]

    def _store_item(
        self, original: ast.expr, target: Any, value: ast.expr, symbol: str, method: str = "store_item"
    ) -> ast.Call:
        arguments = [ast.Constant(symbol), target.value, _as_value(target.slice), value]
        return self._tell("store", method, original, *arguments)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        target, symbol = copy.copy(node.target), _OPERATORS[type(node.op)]
        original = copy.copy(node)
        self.generic_visit(node)
        if isinstance(target, ast.Subscript):
            return ast.Expr(self._store_item(target, node.target, node.value, symbol))
        if isinstance(target, ast.Name):
            read = ast.Name(target.id, ast.Load())
            value = self._tell("operator", "in_place", original, ast.Constant(symbol), read, node.value)
            return ast.Assign([node.target], value)
        if isinstance(node.target, ast.Attribute) and isinstance(node.target.value, ast.Call):
            node.target.value.args.append(ast.Constant(True))
        node.value = self._tell("operator", "value", original, node.value)
        return node


def may_leave(statement: ast.AST) -> bool:
    """Whether a compound statement can leave its block, so that the statements after it may not run."""
    if not isinstance(statement, (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)):
        return False
    return any(isinstance(node, (ast.Return, ast.Raise, ast.Break, ast.Continue)) for node in ast.walk(statement))


_OPERATORS: dict[type, str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "truediv", ast.FloorDiv: "floordiv", ast.Mod: "mod",
    ast.Pow: "pow", ast.MatMult: "matmul", ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor",
    ast.LShift: "lshift", ast.RShift: "rshift",
}  # fmt: skip


def in_place_operator(symbol: str) -> Callable[[Any, Any], Any]:
    """Return the operator function of an augmented assignment."""
    return getattr(operator, "i" + symbol.rstrip("_"))


def _as_list(node: Any) -> list[Any]:
    return node if isinstance(node, list) else [] if node is None else [node]


def _as_value(index: ast.expr) -> ast.expr:
    """Return an index as an expression, with slices as calls."""
    if isinstance(index, ast.Slice):
        parts = [part or ast.Constant(None) for part in (index.lower, index.upper, index.step)]
        return ast.Call(ast.Attribute(ast.Name(HOOK, ast.Load()), "slice", ast.Load()), parts, [])
    if isinstance(index, ast.Tuple):
        return ast.Tuple([_as_value(part) for part in index.elts], ast.Load())
    return index


def compile_instrumented(recorder: Any, recorded: RecordedFunction) -> types.CodeType:
    """Compile the instrumented code of a recorded function."""
    source = recorded.source
    node: Any = copy.deepcopy(source.node)
    instrument = _Instrument(recorder, recorded)
    if isinstance(node, ast.Lambda):
        returned = ast.copy_location(ast.Return(node.body), node.body)
        body = instrument._suite([returned])
        node = ast.copy_location(ast.FunctionDef(source.name, node.args, body, [], None), node)
        node.name = "lambda_"
    else:
        node = instrument.visit(node)
    node.decorator_list, node.returns = [], None
    _strip_signature(node.args)
    inner: ast.stmt = node
    if source.owner:
        inner = ast.ClassDef(source.owner, [], [], [node], [])
    parameters = ast.arguments(
        [], [ast.arg(name) for name in source.code.co_freevars if name != "__class__"], None, [], [], None, []
    )
    # A function or class that uses its own name refers to the global of the module, unless the name is a free variable.
    is_global = inner.name not in source.code.co_freevars  # type: ignore[attr-defined]
    body = [ast.Global([inner.name]), inner] if is_global else [inner]  # type: ignore[attr-defined]
    factory = ast.FunctionDef("factory", parameters, body, [], None)
    for each in ast.walk(factory):
        if isinstance(each, (ast.FunctionDef, ast.ClassDef)):
            vars(each).setdefault("type_params", [])  # Python 3.12 needs it
    tree = ast.fix_missing_locations(ast.Module([factory], []))
    return _find_code(compile(tree, source.path, "exec", dont_inherit=True), node.name, node.lineno)


def _strip_signature(arguments: ast.arguments) -> None:
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    # The function object keeps its defaults. These placeholders only mark the arguments that have a default.
    arguments.defaults = [ast.Constant(None) for _ in arguments.defaults]
    arguments.kw_defaults = [None if d is None else ast.Constant(None) for d in arguments.kw_defaults]


def _find_code(code: types.CodeType, name: str, line: int) -> types.CodeType:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            if constant.co_name == name and constant.co_firstlineno == line:
                return constant
            with contextlib.suppress(LookupError):
                return _find_code(constant, name, line)
    raise LookupError(name)
