"""Fill the expression of an operator-table row with the arguments of a call."""

import ast
import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence

MODULES = frozenset({"jax", "jnp", "ops", "F"})
# The name of the random key in the table's expressions.
RANDOM_KEY = "random_key"

Value = str | tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Bound:
    """The arguments of a call: by parameter name (``values``), and as they were passed (``args``, ``kwargs``)."""

    values: Mapping[str, Value]
    args: Sequence[str]
    kwargs: Mapping[str, str]


_ATOMS = (ast.Name, ast.Attribute, ast.Subscript, ast.Call, ast.Tuple, ast.List, ast.Constant, ast.Dict, ast.Set)


def atom(text: str) -> str:
    """Return the text of an expression, in parentheses unless it is atomic or already enclosed."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return f"({text})"
    is_open = isinstance(node, ast.Tuple) and not text.strip().startswith("(")
    return text if (isinstance(node, _ATOMS) and not is_open) or _is_enclosed(text.strip()) else f"({text})"


def _is_enclosed(text: str) -> bool:
    """Return whether one pair of parentheses encloses the whole expression."""
    if not text.startswith("(") or not text.endswith(")"):
        return False
    try:
        ast.parse(text[1:-1].strip(), mode="eval")
    except SyntaxError:
        return False
    return True


def _packed(values: tuple[str, ...]) -> str:
    """Return a single value unchanged, and several values as a tuple."""
    if len(values) == 1:
        return f"({values[0]},)" if values[0].startswith("*") else values[0]
    return f"({', '.join(values)})"


def fill(template: ast.expr, parameters: Collection[str], arguments: Bound) -> tuple[str, frozenset[str]]:
    """Return the text of the expression with the arguments filled in, and the modules that the expression names.

    Raises:
        KeyError: If the expression needs a random key and the call has none.
    """
    filling = _Filling(frozenset(parameters), arguments)
    code = ast.unparse(ast.fix_missing_locations(filling.required(template, tight=False)))
    text = re.sub(r"__(\d+)__", lambda match: filling.texts[int(match[1])], code)
    return text, frozenset(filling.modules)


class _Filling:
    """Replace the parameters in an expression by placeholders for the arguments; None for omitted arguments."""

    def __init__(self, parameters: frozenset[str], arguments: Bound):
        self.parameters, self.arguments = parameters, arguments
        self.modules: set[str] = set()
        self.texts: list[str] = []

    def placeholder(self, text: str) -> ast.expr:
        self.texts.append(text)
        return ast.Name(f"__{len(self.texts) - 1}__", ast.Load())

    def required(self, node: ast.expr, tight: bool = True) -> ast.expr:
        filled = self.optional(node, tight)
        if filled is None:
            raise ValueError(f"{ast.unparse(node)} is optional, but the row's expression requires it")
        return filled

    def optional(self, node: ast.expr, tight: bool) -> ast.expr | None:
        """Return the filled node; ``tight`` adds parentheses around an argument with operators."""
        if isinstance(node, ast.Name):
            return self.name(node, tight)
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.BoolOp) and isinstance(node.values[0], ast.Name):
            return self.alternative(node.values[0], node.values[1], tight)
        if isinstance(node, ast.Tuple):
            return ast.Tuple(self.sequence(node.elts), ast.Load())
        copy = type(node)(**{name: getattr(node, name) for name in node._fields})
        for name, value in ast.iter_fields(node):
            is_index = isinstance(node, ast.Subscript) and name == "slice"
            if isinstance(value, ast.expr):
                setattr(copy, name, self.required(value, tight=not is_index))
            elif isinstance(value, list):
                setattr(copy, name, [self.required(each) if isinstance(each, ast.expr) else each for each in value])
        return copy

    def name(self, node: ast.Name, tight: bool) -> ast.expr | None:
        if node.id == RANDOM_KEY:
            return self.placeholder(str(self.arguments.values[RANDOM_KEY]))
        if node.id not in self.parameters:
            self.modules |= MODULES & {node.id}
            return node
        value = self.arguments.values.get(node.id)
        if isinstance(value, tuple):
            value = _packed(value)
        if value is None:
            return None
        return self.placeholder(atom(value) if tight else value)

    def alternative(self, first: ast.Name, second: ast.expr, tight: bool) -> ast.expr | None:
        """Fill ``a or b``: ``b`` if the argument ``a`` was omitted or is None, else ``a``."""
        argument = self.arguments.values.get(first.id)
        return self.optional(second if argument in (None, "None") else first, tight)

    def call(self, node: ast.Call) -> ast.expr:
        function = self.required(node.func)
        keywords: list[ast.keyword] = []
        if isinstance(node.args[0] if node.args else None, ast.Constant) and ast.unparse(node.args[0]) == "...":
            # The callee has the same parameter names as torch: pass the arguments on unchanged.
            args = [self.placeholder(text) for text in self.arguments.args]
            keywords = [ast.keyword(name, self.placeholder(text)) for name, text in self.arguments.kwargs.items()]
        else:
            args = self.sequence(node.args)
        for each in node.keywords:
            value = self.optional(each.value, tight=False)
            keywords += [] if value is None else [ast.keyword(each.arg, value)]
        return ast.Call(function, args, keywords)

    def sequence(self, nodes: Sequence[ast.expr]) -> list[ast.expr]:
        """Fill a sequence of nodes: drop omitted arguments, and replace ``*shape`` by the values of ``shape``."""
        filled: list[ast.expr | None] = []
        for node in nodes:
            if not isinstance(node, ast.Starred):
                filled.append(self.optional(node, tight=False))
                continue
            value = self.arguments.values.get(node.value.id) if isinstance(node.value, ast.Name) else None
            if isinstance(value, tuple):
                filled += [self.placeholder(text) for text in value]
            elif isinstance(value, str):
                filled.append(self.placeholder(f"*{atom(value)}"))
            elif not isinstance(node.value, ast.Name):
                filled.append(ast.Starred(self.required(node.value), ast.Load()))
        return [each for each in filled if each is not None]
