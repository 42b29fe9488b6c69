"""Run torch expressions in torch, and in JAX after a translation by the operator table."""

import ast
import dataclasses
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from flaxnets import ops
from flaxnets.nn import functional as F
from flaxnets.port.operators import DTYPES, PYTHON_OPERATORS, Call, Operator, is_plain, translate

MODULES = {"jax": jax, "jnp": jnp, "ops": ops, "F": F}
NUMBERS = (bool, int, float, complex)
DTYPE_NAMES = {getattr(torch, name.removeprefix("torch.")): text for name, text in DTYPES.items()}


def dtype_name(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")


def kind(value: Any) -> str:
    names = {torch.Tensor: "Tensor", torch.dtype: "dtype", torch.device: "device", torch.Size: "tuple"}
    return next((name for each, name in names.items() if isinstance(value, each)), type(value).__name__)


def leaves(value: Any) -> list[Any]:
    """Return the arrays and numbers in nested tuples and lists."""
    if isinstance(value, (tuple, list)):
        return [leaf for each in value for leaf in leaves(each)]
    return [value]


def torch_value(source: str, names: dict[str, Any]) -> Any:
    """Evaluate an expression in torch, without warnings about deprecated functions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return eval(source, {"torch": torch, "inf": np.inf, "nan": np.nan, **names})


@dataclasses.dataclass
class Translator(ast.NodeTransformer):
    """Translate the calls in a torch expression to JAX. Torch evaluates the arguments to find their types."""

    names: dict[str, Any]
    operators: list[Operator] = dataclasses.field(default_factory=list)
    key: str | None = None

    def evaluate(self, node: ast.AST) -> Any:
        return torch_value(ast.unparse(node), self.names)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        assert isinstance(node.func, ast.Attribute)
        root: ast.AST = node.func
        while isinstance(root, ast.Attribute):
            root = root.value
        receiver = None if ast.unparse(root) == "torch" else node.func.value
        args = [*([receiver] if receiver is not None else []), *node.args]
        name = f"torch.Tensor.{node.func.attr}" if receiver is not None else ast.unparse(node.func)
        values = [None if isinstance(each, ast.Starred) else self.evaluate(each) for each in args]
        keywords = {str(each.arg): self.evaluate(each.value) for each in node.keywords}
        operands = [
            dtype_name(v) if isinstance(v, torch.Tensor) else v
            for v in [*leaves(values), *keywords.values()]
            if isinstance(v, (*NUMBERS, torch.Tensor))
        ]
        result = self.evaluate(node)
        first = result[0] if isinstance(result, tuple) and result else result
        call = Call(
            name,
            [self.text(each) for each in args],
            {str(each.arg): self.text(each.value) for each in node.keywords},
            {i: kind(value) for i, value in enumerate(values)} | {key: kind(value) for key, value in keywords.items()},
            is_plain(operands, dtype_name(first) if isinstance(first, torch.Tensor) else None),
            self.key,
        )
        translation = translate(call)
        self.operators.append(translation.operator)
        return ast.parse(translation.expression, mode="eval").body

    def text(self, node: ast.AST) -> str:
        return ast.unparse(self.visit(node))

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        value = self.evaluate(node)
        if isinstance(value, torch.dtype) and isinstance(node.value, ast.Name) and node.value.id == "torch":
            return ast.parse(DTYPE_NAMES[value], mode="eval").body
        if isinstance(self.evaluate(node.value), torch.Tensor):
            translation = translate(Call(f"torch.Tensor.{node.attr}", [self.text(node.value)]))
            self.operators.append(translation.operator)
            return ast.parse(translation.expression, mode="eval").body
        return self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        return self.operation(node, type(node.op).__name__, [node.left, node.right])

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        return self.operation(node, type(node.ops[0]).__name__, [node.left, *node.comparators])

    def operation(self, node: ast.expr, name: str, operands: list[ast.expr]) -> ast.AST:
        if not any(isinstance(self.evaluate(each), torch.Tensor) for each in operands):
            return self.generic_visit(node)
        function = ast.parse(PYTHON_OPERATORS[name], mode="eval").body
        return self.visit_Call(ast.Call(function, operands, []))


@dataclasses.dataclass
class Case:
    """A torch expression, its translation to JAX, and the rows of the operator table in this translation."""

    source: str
    expression: str
    operators: list[Operator]
    inputs: list[str]


def translated(source: str, names: dict[str, Any], key: str | None = None) -> Case:
    tree = ast.parse(source, mode="eval").body
    used = sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in names} - {"torch"})
    translator = Translator(names, key=key)
    expression = ast.unparse(translator.visit(tree))
    return Case(source, expression, translator.operators, used)


def evaluated(expression: str, arrays: dict[str, Any]) -> Any:
    return eval(expression, {**MODULES, "inf": np.inf, "nan": np.nan, **arrays})
