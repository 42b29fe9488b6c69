"""Write functions that a constructor stores as attributes as methods, or as closures that NNX can follow."""

from collections.abc import Collection, Iterator
from typing import Any

from flaxnets.port import expressions as ex
from flaxnets.port._torch import libcst as cst


def held_names(function: Any, local: Collection[str]) -> set[str]:
    """Return the local names of the constructor that a lambda reads."""
    parameters = {p.name.value for p in _all(function.params, cst.Param)}
    defaults = [p.default for p in _all(function.params, cst.Param) if p.default is not None and not _bound(p)]
    return {n.value for part in (function.body, *defaults) for n in _reads(part)} & set(local) - parameters


def read_names(node: Any, local: Collection[str]) -> set[str]:
    """Return the local names of the constructor that an expression reads."""
    return {name.value for name in _reads(node)} & set(local)


def _bound(parameter: Any) -> str | None:
    """Return the default of a lambda's parameter if it is a path from ``self``, as in ``lambda x, f=self.f: ...``."""
    text = "" if parameter.default is None else ex.code(parameter.default)
    return text if text.startswith("self.") and text.replace(".", "").isidentifier() else None


def self_path(constructor: Any, name: str) -> str | None:
    """Return the path from ``self`` that a local name always refers to; None if there is none."""
    if name == "self":
        return "self"
    values = [
        assign.value
        for assign in _all(constructor, cst.Assign)
        if any(isinstance(t.target, cst.Name) and t.target.value == name for t in assign.targets)
    ]
    text = ex.code(values[0]) if len(values) == 1 else ""
    return text if text.startswith("self.") and text.replace(".", "").isidentifier() else None


def assigned_targets(constructor: Any) -> Iterator[Any]:
    """Yield the targets of all assignments in the constructor."""
    return (target.target for target in _all(constructor, cst.AssignTarget))


def as_method(function: Any, name: str, paths: dict[str, str | None]) -> Any:
    """Return a method with the body of a lambda, in which local names are replaced by their paths from ``self``."""
    method: Any = cst.parse_statement(f"def {name}(self): return 0\n")
    bound = {p.name.value: _bound(p) for p in function.params.params}
    free_parameters = [
        p.with_changes(comma=cst.MaybeSentinel.DEFAULT) for p in function.params.params if not bound[p.name.value]
    ]
    parameters = function.params.with_changes(params=[cst.Param(cst.Name("self")), *free_parameters])
    body = function.body.visit(_Replace({n: ex.parse(p) for n, p in {**paths, **bound}.items() if p}))
    block = cst.IndentedBlock([cst.SimpleStatementLine([cst.Return(body)])])
    return method.with_changes(params=parameters, body=block)


def as_closure(closure: str, function: Any, names: list[str]) -> Any:
    """Return the expression ``Closure(lambda parts: function, [parts])``."""
    call = ex.parse(f"{closure}(lambda {', '.join(names)}: f, [{', '.join(names)}])")
    outer = call.args[0].value
    return call.with_changes(args=[call.args[0].with_changes(value=outer.with_changes(body=function)), call.args[1]])


class _Replace(cst.CSTTransformer):
    def __init__(self, values: dict[str, Any]):
        super().__init__()
        self.values = values

    def leave_Attribute(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(attr=original_node.attr)

    def leave_Arg(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(keyword=original_node.keyword)

    def leave_Name(self, original_node: Any, updated_node: Any) -> Any:
        value = self.values.get(original_node.value)
        return updated_node if value is None else value.deep_clone()


def _all(node: Any, kind: type) -> Iterator[Any]:
    if isinstance(node, kind):
        yield node
    for child in node.children:
        yield from _all(child, kind)


def _reads(node: Any) -> Iterator[Any]:
    if isinstance(node, cst.Name):
        yield node
    for child in node.children:
        is_word = (isinstance(node, cst.Attribute) and child is node.attr) or (
            isinstance(node, cst.Arg) and child is node.keyword
        )
        if not is_word:
            yield from _reads(child)
