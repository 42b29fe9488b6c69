"""Translate f-strings: replace torch's shape methods, and use quotes that Python 3.11 can parse."""

from typing import Any

from flaxnets.port import expressions as ex
from flaxnets.port._torch import libcst as cst

_SHAPES = {"size": "x.shape", "dim": "x.ndim", "ndimension": "x.ndim", "numel": "x.size", "nelement": "x.size"}


def formatted(node: Any) -> Any:
    """Return a formatted string with torch's shape methods replaced.

    The expressions in an error message do not run in a recorded run without errors, so they are translated by the
    names of their methods.

    >>> ex.code(formatted(ex.parse("f'{x.size(0)} of {x.dim()}'")))
    "f'{x.shape[0]} of {x.ndim}'"
    """
    return node.visit(_Shapes()).visit(_Quotes(node.start[-1]))


class _Shapes(cst.CSTTransformer):
    def leave_Call(self, original_node: Any, updated_node: Any) -> Any:
        function, arguments = updated_node.func, updated_node.args
        name = function.attr.value if isinstance(function, cst.Attribute) else ""
        if name not in _SHAPES or len(arguments) > (name == "size") or any(a.keyword or a.star for a in arguments):
            return updated_node
        shape = ex.fill(_SHAPES[name], {"x": function.value})
        return ex.subscript(shape, ex.code(arguments[0].value)) if arguments else shape


class _Quotes(cst.CSTTransformer):
    """Give strings inside the expressions the other type of quotes than the outer string."""

    def __init__(self, quote: str):
        super().__init__()
        self.other = "'" if quote == '"' else '"'

    def leave_SimpleString(self, original_node: Any, updated_node: Any) -> Any:
        raw = updated_node.raw_value
        if len(updated_node.quote) > 1 or "\\" in raw or self.other in raw:
            return updated_node
        return updated_node.with_changes(value=f"{updated_node.prefix}{self.other}{raw}{self.other}")
