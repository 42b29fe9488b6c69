"""Small changes after translation that make source read well: spaces, quotes, names that nothing reads any more."""

import collections
from collections.abc import Iterator
from typing import Any

from flaxnets.port import expressions as ex
from flaxnets.port._torch import libcst as cst

_SPACE = cst.SimpleWhitespace(" ")
_NONE = cst.SimpleWhitespace("")


class Simplifier(cst.CSTTransformer):
    """``x[...].shape`` is ``x.shape``; operators have spaces around them, and strings double quotes."""

    def leave_Attribute(self, original_node: Any, updated_node: Any) -> Any:
        value = updated_node.value
        is_read = isinstance(value, cst.Subscript) and ex.code(value).endswith("[...]")
        if is_read and updated_node.attr.value in ("shape", "dtype", "ndim"):
            return updated_node.with_changes(value=value.value)
        return updated_node

    def leave_BinaryOperation(self, original_node: Any, updated_node: Any) -> Any:
        operator = updated_node.operator
        neutral = {cst.Add: "0", cst.Multiply: "1"}.get(type(operator))
        is_drawn = isinstance(updated_node.right, (cst.Call, cst.BinaryOperation)) and "rngs" in ex.code(
            updated_node.right
        )
        if is_drawn and neutral and ex.code(updated_node.left) in (neutral, f"{neutral}.0"):
            return updated_node.right  # mean and deviation of a standard distribution
        is_power = isinstance(operator, cst.Power) and all(map(_is_simple, (updated_node.left, updated_node.right)))
        return updated_node.with_changes(operator=_spaced(operator, _NONE if is_power else _SPACE))

    def _operator(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(operator=_spaced(updated_node.operator, _SPACE))

    leave_AugAssign = leave_ComparisonTarget = leave_BooleanOperation = _operator

    def leave_AssignTarget(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(whitespace_before_equal=_SPACE, whitespace_after_equal=_SPACE)

    def _elements(self, original_node: Any, updated_node: Any) -> Any:
        """No space after a last comma in one line."""
        field = next(f for f in ("args", "elements", "slice", "params") if hasattr(updated_node, f))
        items = list(getattr(updated_node, field))
        comma = items[-1].comma if items else None
        if not isinstance(comma, cst.Comma) or not isinstance(comma.whitespace_after, cst.SimpleWhitespace):
            return updated_node
        items[-1] = items[-1].with_changes(comma=comma.with_changes(whitespace_after=_NONE))
        return updated_node.with_changes(**{field: items})

    leave_Call = leave_Tuple = leave_List = leave_Set = leave_Dict = leave_Subscript = leave_Parameters = _elements

    def leave_Comma(self, original_node: Any, updated_node: Any) -> Any:
        if isinstance(updated_node.whitespace_after, cst.SimpleWhitespace):
            after = updated_node.whitespace_after
            updated_node = updated_node.with_changes(whitespace_after=_SPACE if after.value.strip(" ") == "" else after)
        return updated_node.with_changes(whitespace_before=_NONE)

    def leave_Arg(self, original_node: Any, updated_node: Any) -> Any:
        if not isinstance(updated_node.equal, cst.AssignEqual):
            return updated_node
        return updated_node.with_changes(equal=cst.AssignEqual(_NONE, _NONE))

    def leave_Param(self, original_node: Any, updated_node: Any) -> Any:
        if updated_node.default is None:
            return updated_node
        space = _NONE if updated_node.annotation is None else _SPACE
        return updated_node.with_changes(equal=cst.AssignEqual(space, space))

    def leave_SimpleString(self, original_node: Any, updated_node: Any) -> Any:
        return double_quoted(updated_node)


def double_quoted(node: Any) -> Any:
    """A string with double quotes, if it needs no more backslashes for them."""
    if node.quote not in ("'", "'''") or '"' in node.raw_value or "\\" in node.raw_value:
        return node
    quote = '"' * len(node.quote)
    return node.with_changes(value=f"{node.prefix}{quote}{node.raw_value}{quote}")


def _spaced(operator: Any, space: Any) -> Any:
    changes = {}
    for side in ("whitespace_before", "whitespace_after"):
        current = getattr(operator, side, None)
        if isinstance(current, cst.SimpleWhitespace) and "\\" not in current.value:
            changes[side] = space
    return operator.with_changes(**changes) if changes else operator


def _is_simple(node: Any) -> bool:
    """Whether an operand of a power is written without spaces: a name, a number, attributes of a name."""
    if isinstance(node, cst.UnaryOperation):
        return isinstance(node.operator, cst.Minus) and isinstance(node.expression, (cst.Integer, cst.Float))
    while isinstance(node, cst.Attribute):
        node = node.value
    return isinstance(node, (cst.Name, cst.Integer, cst.Float)) and not node.lpar


def without_unused(new: Any, original: Any) -> Any:
    """The function without assignments to names that were read before the translation, and are not now."""
    while True:
        unused = _reads(original).keys() - _reads(new).keys()
        shorter = new.visit(_Unused(frozenset(unused)))
        if shorter.deep_equals(new):
            return new
        new = shorter


def _reads(node: Any) -> collections.Counter[str]:
    return collections.Counter(_read_names(node))


def _read_names(node: Any) -> Iterator[str]:
    for child in node.children:
        is_name = isinstance(child, cst.Name)
        if is_name and not (
            (isinstance(node, cst.Attribute) and child is node.attr)
            or (isinstance(node, cst.Arg) and child is node.keyword)
            or (isinstance(node, cst.AssignTarget) and child is node.target)
            or (isinstance(node, (cst.Param, cst.FunctionDef)) and child is node.name)
        ):
            yield child.value
        yield from _read_names(child)


class _Unused(cst.CSTTransformer):
    def __init__(self, names: frozenset[str]):
        super().__init__()
        self.names = names

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        kept = [small for small in updated_node.body if not self._is_unused(small)]
        if len(kept) == len(updated_node.body):
            return updated_node
        return updated_node.with_changes(body=kept) if kept else cst.RemoveFromParent()

    def _is_unused(self, small: Any) -> bool:
        if not isinstance(small, cst.Assign) or len(small.targets) != 1:
            return False
        target = small.targets[0].target
        is_pure = not any(isinstance(each, (cst.Call, cst.Subscript, cst.NamedExpr)) for each in _walk(small.value))
        return isinstance(target, cst.Name) and target.value in self.names and is_pure


def _walk(node: Any) -> Iterator[Any]:
    yield node
    for child in node.children:
        yield from _walk(child)
