"""Tidy translated source: spaces, quotes and unused names."""

import collections
from collections.abc import Collection, Iterator
from typing import Any

from flaxnets.port import expressions as ex
from flaxnets.port._torch import libcst as cst

_SPACE = cst.SimpleWhitespace(" ")
_NONE = cst.SimpleWhitespace("")


class Simplifier(cst.CSTTransformer):
    """Simplify ``x[...].shape`` to ``x.shape``, put spaces around operators, and use double quotes."""

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
            return updated_node.right  # 0 + x or 1 * x: mean 0 or standard deviation 1
        is_power = isinstance(operator, cst.Power) and all(map(_is_simple, (updated_node.left, updated_node.right)))
        return updated_node.with_changes(operator=_spaced(operator, _NONE if is_power else _SPACE))

    def _operator(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(operator=_spaced(updated_node.operator, _SPACE))

    leave_AugAssign = leave_ComparisonTarget = leave_BooleanOperation = _operator

    def leave_AssignTarget(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(whitespace_before_equal=_SPACE, whitespace_after_equal=_SPACE)

    def leave_Comma(self, original_node: Any, updated_node: Any) -> Any:
        if not isinstance(updated_node.whitespace_after, cst.SimpleWhitespace):
            return updated_node
        return updated_node.with_changes(whitespace_before=_NONE, whitespace_after=_SPACE)

    def leave_Comment(self, original_node: Any, updated_node: Any) -> Any:
        text = updated_node.value
        if text[1:2] in ("", " ", "!", ":", "#"):
            return updated_node
        return updated_node.with_changes(value=f"# {text[1:]}")

    def _bracket(self, original_node: Any, updated_node: Any) -> Any:
        side = "whitespace_after" if hasattr(updated_node, "whitespace_after") else "whitespace_before"
        is_simple = isinstance(getattr(updated_node, side), cst.SimpleWhitespace)
        return updated_node.with_changes(**{side: _NONE}) if is_simple else updated_node

    leave_LeftParen = leave_RightParen = leave_LeftSquareBracket = leave_RightSquareBracket = _bracket
    leave_LeftCurlyBrace = leave_RightCurlyBrace = _bracket

    def leave_If(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(
            test=_unwrapped(updated_node.test), whitespace_before_test=_SPACE, whitespace_after_test=_NONE
        )

    def leave_Return(self, original_node: Any, updated_node: Any) -> Any:
        if updated_node.value is None:
            return updated_node
        return updated_node.with_changes(value=_unwrapped(updated_node.value), whitespace_after_return=_SPACE)

    def leave_SimpleStatementSuite(self, original_node: Any, updated_node: Any) -> Any:
        """Move statements after a colon to new lines, except ``...``."""
        if ex.code(updated_node).strip() == "...":
            return updated_node
        body = [small.with_changes(semicolon=cst.MaybeSentinel.DEFAULT) for small in updated_node.body]
        lines = [cst.SimpleStatementLine([small]) for small in body]
        lines[-1] = lines[-1].with_changes(trailing_whitespace=updated_node.trailing_whitespace)
        return cst.IndentedBlock(lines)

    def leave_IndentedBlock(self, original_node: Any, updated_node: Any) -> Any:
        """Reduce blank lines to one, and put one around functions."""
        body = [updated_node.body[0]]
        for statement in updated_node.body[1:]:
            needs = any(isinstance(each, (cst.FunctionDef, cst.ClassDef)) for each in (body[-1], statement))
            body.append(statement.with_changes(leading_lines=_single_blanks(statement.leading_lines, needs)))
        return updated_node.with_changes(body=body)

    def leave_DictElement(self, original_node: Any, updated_node: Any) -> Any:
        if not isinstance(updated_node.whitespace_after_colon, cst.SimpleWhitespace):
            return updated_node
        return updated_node.with_changes(whitespace_before_colon=_NONE, whitespace_after_colon=_SPACE)

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(whitespace_before_colon=_NONE)

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        """Put each statement on its own line."""
        first, *others = (small.with_changes(semicolon=cst.MaybeSentinel.DEFAULT) for small in updated_node.body)
        if not others:
            return updated_node.with_changes(body=[first])
        *before, last = [cst.SimpleStatementLine([small]) for small in (first, *others)]
        before[0] = before[0].with_changes(leading_lines=updated_node.leading_lines)
        return cst.FlattenSentinel([*before, last.with_changes(trailing_whitespace=updated_node.trailing_whitespace)])

    def leave_TrailingWhitespace(self, original_node: Any, updated_node: Any) -> Any:
        space = _NONE if updated_node.comment is None else cst.SimpleWhitespace("  ")
        return updated_node.with_changes(whitespace=space)

    def _elements(self, original_node: Any, updated_node: Any) -> Any:
        """Remove the space after a trailing comma within a line."""
        fields = [f for f in ("args", "elements", "slice", "params", "kwonly_params") if getattr(updated_node, f, ())]
        items = list(getattr(updated_node, fields[-1])) if fields else []
        comma: Any = items[-1].comma if items else None
        is_last = isinstance(comma, cst.Comma) and getattr(updated_node, "star_kwarg", None) is None
        if fields == ["params"] and not isinstance(updated_node.star_arg, cst.MaybeSentinel):
            is_last = False
        if not is_last or not isinstance(comma.whitespace_after, cst.SimpleWhitespace):
            return updated_node
        items[-1] = items[-1].with_changes(comma=comma.with_changes(whitespace_after=_NONE))
        return updated_node.with_changes(**{fields[-1]: items})

    def leave_Call(self, original_node: Any, updated_node: Any) -> Any:
        if isinstance(updated_node.whitespace_before_args, cst.SimpleWhitespace):
            updated_node = updated_node.with_changes(whitespace_before_args=_NONE)
        return self._elements(original_node, updated_node.with_changes(whitespace_after_func=_NONE))

    leave_Tuple = leave_List = leave_Set = leave_Dict = leave_Subscript = leave_Parameters = _elements

    def leave_Arg(self, original_node: Any, updated_node: Any) -> Any:
        if isinstance(updated_node.whitespace_after_arg, cst.SimpleWhitespace):
            updated_node = updated_node.with_changes(whitespace_after_arg=_NONE)
        if not isinstance(updated_node.equal, cst.AssignEqual):
            return updated_node
        return updated_node.with_changes(equal=cst.AssignEqual(_NONE, _NONE))

    def leave_Param(self, original_node: Any, updated_node: Any) -> Any:
        if updated_node.default is None:
            return updated_node
        space = _NONE if updated_node.annotation is None else _SPACE
        return updated_node.with_changes(equal=cst.AssignEqual(space, space))

    def visit_FormattedString(self, node: Any) -> bool:
        return False  # Python 3.11 does not allow the outer quotes inside an f-string

    def leave_SimpleString(self, original_node: Any, updated_node: Any) -> Any:
        return double_quoted(updated_node)


def _unwrapped(node: Any) -> Any:
    """Remove redundant parentheses around a test or value on one line."""
    if not getattr(node, "lpar", ()) or isinstance(node, (cst.Tuple, cst.NamedExpr, cst.Yield, cst.GeneratorExp)):
        return node
    bare = node.with_changes(lpar=[], rpar=[])
    return node if "\n" in ex.code(bare) else bare


def _single_blanks(lines: Any, needs_one: bool) -> list[Any]:
    result: list[Any] = []
    for line in lines:
        if line.comment or not result or result[-1].comment:
            result.append(line)
    has_one = bool(result) and result[0].comment is None
    return [cst.EmptyLine(indent=False), *result] if needs_one and not has_one else result


def tidied(text: str) -> str:
    """Return the text of a definition, tidied by :class:`Simplifier`."""
    return cst.parse_module(text).visit(Simplifier()).code


def double_quoted(node: Any) -> Any:
    """Return a string with double quotes, unless they would need backslashes."""
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
    """Whether an operand of ``**`` is written without spaces: a name, a number, or attributes of a name."""
    if isinstance(node, cst.UnaryOperation):
        return isinstance(node.operator, cst.Minus) and isinstance(node.expression, (cst.Integer, cst.Float))
    while isinstance(node, cst.Attribute):
        node = node.value
    return isinstance(node, (cst.Name, cst.Integer, cst.Float)) and not node.lpar


def without_unused(new: Any, original: Any, added: Collection[str] = ()) -> Any:
    """Remove assignments to names that the translated function does not read any more.

    Args:
        new: The translated function.
        original: The original function. Names that it does not read either stay.
        added: Names that the translation added.
    """
    while True:
        reads = _reads(new).keys()
        unused, local = _reads(original).keys() - reads, set(added) - reads
        shorter = new.visit(_Unused(frozenset(unused | local), frozenset(local)))
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
    def __init__(self, names: frozenset[str], computed: frozenset[str]):
        super().__init__()
        self.names, self.computed = names, computed  # values of ``computed`` may be dropped even if they call functions

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        used = [small for small in updated_node.body if not self._is_unused(small)]
        if len(used) == len(updated_node.body):
            return updated_node
        return updated_node.with_changes(body=used) if used else cst.RemoveFromParent()

    def _is_unused(self, small: Any) -> bool:
        if not isinstance(small, cst.Assign) or len(small.targets) != 1:
            return False
        target = small.targets[0].target
        is_pure = not any(isinstance(each, (cst.Call, cst.Subscript, cst.NamedExpr)) for each in _walk(small.value))
        if not isinstance(target, cst.Name) or target.value not in self.names:
            return False
        return is_pure or target.value in self.computed


def _walk(node: Any) -> Iterator[Any]:
    yield node
    for child in node.children:
        yield from _walk(child)
