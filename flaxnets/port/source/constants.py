"""Compute arrays whose values become Python numbers in a constructor with NumPy, so that JAX can trace ``build``."""

import builtins
from collections.abc import Iterator
from typing import Any

import numpy as np

from flaxnets.port import expressions as ex
from flaxnets.port._torch import libcst as cst

READS = {"item": "x.item()", "tolist": "x.tolist()", "numpy": "np.asarray(x)", "nonzero": "jnp.asarray(np.argwhere(x))"}
_PASSES = {"zip", "enumerate", "list", "tuple", "reversed", "sorted", "iter", "next", "map"}
_NUMBERS = {"int", "float", "bool", "complex", "range", "round", "min", "max", "sum"}


class Constants:
    """The expressions of a function whose values are read as Python numbers.

    Args:
        translator: The translator of the function.
    """

    def __init__(self, translator: Any):
        self._translator = translator
        self._found: set[int] = set()
        for call in _all(translator.root, cst.Call):
            for read in self._reads(call):
                self._follow(read)

    def __contains__(self, node: Any) -> bool:
        """Whether the values of an expression are read. False for parts of the expression."""
        return id(node) in self._found

    def _reads(self, call: Any) -> Iterator[Any]:
        """Yield the arrays whose values a call reads."""
        function = call.func
        if isinstance(function, cst.Attribute):
            if function.attr.value in READS and self._translator.is_tensor(function):
                yield function.value
        elif isinstance(function, cst.Name) and function.value in _NUMBERS:
            kinds = self._translator.site("call", call).kinds
            yield from (a.value for i, a in enumerate(call.args) if kinds.get(i) == "Tensor")

    def _follow(self, node: Any) -> None:
        """Record the calls that compute the value of an expression."""
        if isinstance(node, cst.Name):
            for value in self._values(node):
                self._follow(value)
        elif isinstance(node, (cst.Attribute, cst.Subscript)):
            self._follow(node.value)
        elif isinstance(node, (cst.Tuple, cst.List)):
            for element in node.elements:
                self._follow(element.value)
        elif isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value in _PASSES:
            for argument in node.args:
                self._follow(argument.value)
        elif isinstance(node, (cst.Call, cst.BinaryOperation, cst.UnaryOperation)) and id(node) not in self._found:
            self._found.add(id(node))
            for name in _all(node, cst.Name):
                for value in self._values(name):
                    if self._translator.site("call", value).results & {"tensor"}:
                        self._follow(value)

    def _values(self, name: Any) -> Iterator[Any]:
        """Yield the expressions that a local name is bound to, by assignments or loops."""
        loops = [loop.iter for loop in _all(self._translator.root, (cst.For, cst.CompFor)) if _binds(loop.target, name)]
        yield from loops
        for assign in _all(self._translator.root, cst.Assign):
            if any(_binds(target.target, name) for target in assign.targets):
                yield assign.value


def in_numpy(node: Any) -> Any:
    """Rewrite a translated expression so that it is computed eagerly, even while JAX traces.

    NumPy computes the expression if possible, else ``ops.concrete``.
    """
    translator = _ToNumPy()
    new = node.visit(translator)
    if not translator.failed:
        return new
    if isinstance(node, cst.Call) and _is_plain_call(node):
        first = cst.Arg(node.func, comma=cst.Comma(whitespace_after=cst.SimpleWhitespace(" ")))
        return node.with_changes(func=ex.parse("ops.concrete"), args=[first, *node.args])
    return ex.fill("ops.concrete(lambda: x)", {"x": node})


def _is_plain_call(call: Any) -> bool:
    """Whether a call is a call of ``ops`` with only names, numbers and attributes as arguments."""
    parts = (cst.Name, cst.Integer, cst.Float, cst.Attribute)
    is_simple = all(isinstance(a.value, parts) and not a.keyword and a.star != "**" for a in call.args)
    is_path = isinstance(call.func, cst.Attribute) and isinstance(call.func.value, cst.Name)
    return is_path and is_simple and bool(call.args) and ex.code(call.func.value) == "ops"


class _ToNumPy(cst.CSTTransformer):
    """Replace JAX by NumPy. Sets ``failed`` if NumPy has no counterpart."""

    def __init__(self) -> None:
        super().__init__()
        self.failed = False

    def leave_Attribute(self, original_node: Any, updated_node: Any) -> Any:
        name, base = original_node.attr.value, original_node.value
        self.failed |= name == "at"
        if isinstance(base, cst.Name) and base.value == "jnp":
            self.failed |= not hasattr(np, name)
            return updated_node.with_changes(value=cst.Name("np"))
        return updated_node

    def leave_Name(self, original_node: Any, updated_node: Any) -> Any:
        self.failed |= original_node.value in ("jax", "ops", "F", "nn", "nnx", "rngs")
        return updated_node

    def visit_Call(self, node: Any) -> bool:
        return not _is_linspace(node)

    def leave_Call(self, original_node: Any, updated_node: Any) -> Any:
        root = ex.code(original_node.func).split(".")[0]
        self.failed |= root == "self" or (isinstance(original_node.func, cst.Name) and not hasattr(builtins, root))
        if _is_linspace(original_node):
            dtype = ex.parse("f(dtype=np.float32)").args
            return updated_node.with_changes(func=ex.parse("np.linspace"), args=[*_joined(updated_node.args), *dtype])
        return updated_node


def _is_linspace(call: Any) -> bool:
    return ex.code(call.func) == "ops.linspace" and len(call.args) == 3 and not any(a.star for a in call.args)


def _joined(arguments: Any) -> list[Any]:
    return [a.with_changes(comma=cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))) for a in arguments]


def _binds(target: Any, name: Any) -> bool:
    if isinstance(target, cst.Name):
        return target.value == name.value
    return any(_binds(element.value, name) for element in getattr(target, "elements", ()))


def _all(node: Any, kind: Any) -> Iterator[Any]:
    if isinstance(node, kind):
        yield node
    for child in node.children:
        yield from _all(child, kind)
