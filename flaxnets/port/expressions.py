"""Build Python expressions as libcst trees: parse, add parentheses, fill templates."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from flaxnets.port._torch import libcst as cst

Expression = cst.BaseExpression

_BINARY: dict[type, int] = {
    cst.BitOr: 6, cst.BitXor: 7, cst.BitAnd: 8, cst.LeftShift: 9, cst.RightShift: 9, cst.Add: 10, cst.Subtract: 10,
    cst.Multiply: 11, cst.Divide: 11, cst.FloorDivide: 11, cst.Modulo: 11, cst.MatrixMultiply: 11, cst.Power: 13,
}  # fmt: skip
_ATOM = 15


def parse(text: str) -> Any:
    """Parse an expression."""
    return _parse(text).deep_clone()


@functools.lru_cache(4096)
def _parse(text: str) -> Any:
    return cst.parse_expression(text)


def code(node: cst.CSTNode) -> str:
    """Return the text of a node."""
    return cst.Module([]).code_for_node(node)


def precedence(node: cst.CSTNode) -> int:
    """Return the precedence of an expression: 15 for a name, 1 for a lambda."""
    if getattr(node, "lpar", ()):
        return _ATOM
    match node:
        case cst.BinaryOperation():
            return _BINARY[type(node.operator)]
        case cst.UnaryOperation():
            return 4 if isinstance(node.operator, cst.Not) else 12
        case cst.Comparison():
            return 5
        case cst.BooleanOperation():
            return 3 if isinstance(node.operator, cst.And) else 2
        case cst.IfExp() | cst.Lambda():
            return 1
        case cst.NamedExpr() | cst.Yield() | cst.StarredElement() | cst.GeneratorExp():
            return 0
        case cst.Tuple():
            return 0
        case cst.Await():
            return 14
    return _ATOM


def parenthesized(node: Any) -> Any:
    """Put an expression in parentheses."""
    return node.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


def _at_least(node: Any, level: int) -> Any:
    return node if precedence(node) >= level else parenthesized(node)


class _Parentheses(cst.CSTTransformer):
    """Add the parentheses that the text needs to parse to the same tree."""

    def leave_Attribute(self, original_node: Any, updated_node: Any) -> Any:
        value = updated_node.value
        if isinstance(value, cst.Integer):
            return updated_node.with_changes(value=parenthesized(value))
        return updated_node.with_changes(value=_at_least(value, _ATOM))

    def leave_Subscript(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(value=_at_least(updated_node.value, _ATOM))

    def leave_Call(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(func=_at_least(updated_node.func, _ATOM))

    def leave_Arg(self, original_node: Any, updated_node: Any) -> Any:
        value = updated_node.value
        if isinstance(value, (cst.NamedExpr, cst.Tuple)) or (
            isinstance(value, cst.GeneratorExp) and updated_node.keyword
        ):
            return updated_node.with_changes(value=_at_least(value, 1))
        return updated_node

    def leave_BinaryOperation(self, original_node: Any, updated_node: Any) -> Any:
        level = _BINARY[type(updated_node.operator)]
        if isinstance(updated_node.operator, cst.Power):
            left, right = 14, 12
        else:
            left, right = level, level + 1
        return updated_node.with_changes(
            left=_at_least(updated_node.left, left), right=_at_least(updated_node.right, right)
        )

    def leave_UnaryOperation(self, original_node: Any, updated_node: Any) -> Any:
        level = 4 if isinstance(updated_node.operator, cst.Not) else 12
        return updated_node.with_changes(expression=_at_least(updated_node.expression, level))

    def leave_Comparison(self, original_node: Any, updated_node: Any) -> Any:
        comparisons = [c.with_changes(comparator=_at_least(c.comparator, 6)) for c in updated_node.comparisons]
        return updated_node.with_changes(left=_at_least(updated_node.left, 6), comparisons=comparisons)

    def leave_BooleanOperation(self, original_node: Any, updated_node: Any) -> Any:
        level = 3 if isinstance(updated_node.operator, cst.And) else 2
        return updated_node.with_changes(
            left=_at_least(updated_node.left, level), right=_at_least(updated_node.right, level + 1)
        )

    def leave_IfExp(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(
            test=_at_least(updated_node.test, 2), body=_at_least(updated_node.body, 2),
            orelse=_at_least(updated_node.orelse, 1),
        )  # fmt: skip

    def _element(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(value=_at_least(updated_node.value, 1))

    leave_Element = leave_StarredElement = _element

    def leave_Index(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(value=_at_least(updated_node.value, 0))

    def leave_Expr(self, original_node: Any, updated_node: Any) -> Any:
        is_walrus = isinstance(updated_node.value, cst.NamedExpr)
        return updated_node.with_changes(value=_at_least(updated_node.value, 1)) if is_walrus else updated_node


def with_parentheses(tree: Any) -> Any:
    """Add the parentheses that the text of a tree needs."""
    return tree.visit(_Parentheses())


class _Fill(cst.CSTTransformer):
    """Replace the parameters of a template by arguments, and drop the arguments of absent parameters.

    Args:
        values: The arguments by parameter; a list for ``*sizes``.
        absent: The parameters without an argument.
    """

    def __init__(self, values: Mapping[str, Any], absent: frozenset[str]):
        self.values, self.absent = values, absent

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        return True

    def leave_Attribute(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(attr=original_node.attr)

    def visit_Arg_keyword(self, node: cst.Arg) -> None:
        return None

    def leave_Name(self, original_node: Any, updated_node: Any) -> Any:
        value = self.values.get(original_node.value)
        return updated_node if value is None or isinstance(value, list) else value.deep_clone()

    def leave_Call(self, original_node: Any, updated_node: Any) -> Any:
        arguments = []
        for old, new in zip(original_node.args, updated_node.args, strict=True):
            name = old.value.value if isinstance(old.value, cst.Name) else None
            if name in self.absent:
                continue
            values = self.values.get(name) if name else None
            if isinstance(values, list):
                arguments += [cst.Arg(v) if not isinstance(v, cst.Arg) else v for v in values]
                continue
            keyword = old.keyword
            arguments.append(new.with_changes(keyword=keyword, comma=cst.MaybeSentinel.DEFAULT))
        return updated_node.with_changes(args=arguments, func=updated_node.func)

    def leave_Tuple(self, original_node: Any, updated_node: Any) -> Any:
        elements = []
        for old, new in zip(original_node.elements, updated_node.elements, strict=True):
            name = old.value.value if isinstance(old.value, cst.Name) else None
            values = self.values.get(name) if name else None
            if isinstance(old, cst.StarredElement) and isinstance(values, list):
                elements += [_element_of(v) for v in values]
            elif name not in self.absent:
                elements.append(new)
        return updated_node.with_changes(elements=elements)


def _element_of(argument: Any) -> Any:
    if isinstance(argument, cst.Arg):
        return cst.StarredElement(argument.value) if argument.star == "*" else cst.Element(argument.value)
    return cst.Element(argument)


def fill(template: str, values: Mapping[str, Any], absent: Sequence[str] = ()) -> Any:
    """Parse a template, and replace its parameters by the expressions in ``values``."""
    filled = parse(template).visit(_Fill(values, frozenset(absent)))
    if isinstance(filled, cst.Tuple) and len(filled.elements) == 1:
        return parenthesized(filled)
    return filled


def subscript(value: Any, index: str) -> Any:
    """Return the expression ``value[index]``."""
    return parse(f"v[{index}]").with_changes(value=value)


def method(value: Any, name: str, *arguments: Any) -> Any:
    """Return the expression ``value.name(arguments)``."""
    return cst.Call(cst.Attribute(value, cst.Name(name)), [cst.Arg(a) for a in arguments])


def spliced(block: Any, leading_lines: Sequence[Any]) -> Any:
    """Replace a compound statement by the statements of its block."""
    if isinstance(block, cst.SimpleStatementSuite):
        return cst.SimpleStatementLine(block.body, leading_lines)
    first, *rest = block.body
    first = first.with_changes(leading_lines=[*leading_lines, *getattr(first, "leading_lines", ())])
    return cst.FlattenSentinel([first, *rest])


class _Renamed(cst.CSTTransformer):
    def __init__(self, old: str, new: str):
        self.old, self.new = old, new

    def leave_Name(self, original_node: Any, updated_node: Any) -> Any:
        return cst.Name(self.new) if original_node.value == self.old else updated_node

    def leave_Attribute(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(attr=original_node.attr)

    def leave_Arg(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(keyword=original_node.keyword)


def renamed(tree: Any, old: str, new: str) -> Any:
    """Rename a variable in a tree.

    >>> code(renamed(parse("f(x, f=a.f)"), "f", "g"))
    'g(x, f=a.f)'
    """
    return tree.visit(_Renamed(old, new))
