"""Add annotations where a type checker would infer too narrow a type from a default or from a first assignment.

PyTorch models are seldom annotated. A checker then takes the type of a parameter from its default, and the type of a
list from its first elements, and rejects what the model does with the two.
"""

import ast
import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp

from flaxnets import nn

_CALLABLE = "callable"
_FITS = {"int": {"int", "bool"}, "float": {"float", "int", "bool"}, "str": {"str"}, "bool": {"bool"}}
_SPACES = {"jnp", "ops", "F", "jax"}  # of functions, in written files


def hinted(text: str) -> str:
    """Return the body of a written file with the annotations that a type checker needs.

    >>> print(hinted("def layer(width, act=nn.ReLU):\\n    return act()"))
    def layer(width, act: Callable[..., Any] = nn.ReLU):
        return act()
    """
    return _edited(text, _Hints(ast.parse(text)).edits())


@dataclasses.dataclass(frozen=True)
class _Edit:
    """Text for a range of the file: from a position to another one, each a line and a column in bytes."""

    start: tuple[int, int]
    end: tuple[int, int]
    text: str


def _edited(text: str, edits: Iterable[_Edit]) -> str:
    lines = [line.encode() for line in text.splitlines(keepends=True)]
    offsets = [0, *itertools.accumulate(map(len, lines))]
    content = b"".join(lines)
    for edit in sorted(edits, key=lambda each: each.start, reverse=True):
        first, last = (offsets[line - 1] + column for line, column in (edit.start, edit.end))
        content = content[:first] + edit.text.encode() + content[last:]
    return content.decode()


class _Function:
    """A function of the file: parameters, and the names and attributes that it tests, assigns and reads."""

    def __init__(self, node: ast.FunctionDef, owner: ast.ClassDef | None):
        self.node, self.owner = node, owner
        arguments = node.args
        self.positional = [*arguments.posonlyargs, *arguments.args]
        self.parameters = {each.arg: each for each in [*self.positional, *arguments.kwonlyargs]}
        defaults = dict(zip([p.arg for p in self.positional][::-1], arguments.defaults[::-1], strict=False))
        named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        self.defaults: dict[str, ast.expr] = defaults | {p.arg: d for p, d in named if d is not None}
        self.tested = {text for test in _tests(node) for text in _paths(test)}
        self.optional = {
            target.id
            for target, value in _assignments(ast.walk(node))
            if isinstance(target, ast.Name) and _may_be_none(value)
        }
        self.assigned = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
        self.met: dict[str, set[str]] = {}  # types of the arguments of calls in the file, by parameter

    @property
    def is_bound(self) -> bool:
        """Whether the first parameter is the object or the class."""
        decorators = {ast.unparse(each) for each in self.node.decorator_list}
        return self.owner is not None and "staticmethod" not in decorators

    def meet(self, arguments: Iterable[str], keywords: Mapping[str, str]) -> None:
        """Note the types of a call's arguments."""
        names = [p.arg for p in self.positional[self.is_bound :]]
        for name, kind in [*zip(names, arguments, strict=False), *keywords.items()]:
            if kind and name in self.parameters:
                self.met.setdefault(name, set()).add(kind)


class _Hints:
    """The annotations of one file."""

    def __init__(self, tree: ast.Module):
        self.tree = tree
        self.classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        every = [(node, owner) for node, owner in _functions(tree, None)]
        self.functions = {id(node): _Function(node, owner) for node, owner in every}
        self.top = {node.name: self.functions[id(node)] for node in tree.body if isinstance(node, ast.FunctionDef)}
        for function in self.functions.values():
            for call in _own_nodes(function.node):
                if isinstance(call, ast.Call):
                    self._meet(call, function)

    def edits(self) -> Iterator[_Edit]:
        """Yield all changes of the file."""
        for function in self.functions.values():
            yield from self._parameters(function)
            yield from self._containers(_own_nodes(function.node), list(ast.walk(function.node)), function)
        yield from self._containers(self.tree.body, list(ast.walk(self.tree)), None)
        for node in self.classes.values():
            yield from self._containers(node.body, list(ast.walk(self.tree)), None)
            yield from self._fields(node)
            yield from self._optional_attributes(node)
            yield from self._missing_attributes(node)

    # Types of expressions, as short text; empty if unknown.

    def kind(self, node: ast.expr | None, function: _Function | None = None) -> str:
        """Return the type that a checker infers from the text of an expression; empty if unknown."""
        match node:
            case ast.Name(id=name) if function is not None and name in function.parameters:
                return self._parameter_kind(function, name)
            case ast.Name(id=name) if function is not None and name in function.optional - function.tested:
                return "none"
            case ast.Name(id=name):
                return _CALLABLE if name in self.classes or name in self.top else ""
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.kind(operand, function)
            case ast.BinOp(left=left, op=operator, right=right):
                kinds = {self.kind(left, function), self.kind(right, function)}
                is_float = isinstance(operator, ast.Div) or "float" in kinds
                return "" if not kinds <= {"int", "float"} else "float" if is_float else "int"
            case ast.Tuple(elts=elements):
                return f"tuple[{', '.join(self.kind(each, function) for each in elements)}]"
            case ast.List(elts=elements) | ast.Dict(values=elements):
                kinds = sorted({self.kind(each, function) for each in elements})
                return f"{'list' if isinstance(node, ast.List) else 'dict'}[{' | '.join(kinds)}]"
        return _constant_kind(node)

    def _parameter_kind(self, function: _Function, name: str) -> str:
        """Return the type of a parameter that keeps the type of its default."""
        is_fixed = name not in function.assigned | function.tested
        default = function.defaults.get(name)
        is_free = function.parameters[name].annotation is None
        return self.kind(default) if is_fixed and is_free and default is not None else ""

    # Calls.

    def _meet(self, call: ast.Call, function: _Function) -> None:
        arguments, called = list(call.args), call.func
        if ast.unparse(called) in ("partial", "functools.partial") and arguments:
            called = arguments.pop(0)
        callee = self._callee(called, function)
        if callee is None or any(isinstance(each, ast.Starred) for each in arguments):
            return
        keywords = {each.arg: self.kind(each.value, function) for each in call.keywords if each.arg is not None}
        callee.meet((self.kind(each, function) for each in arguments), keywords)

    def _callee(self, node: ast.expr, function: _Function) -> _Function | None:
        match node:
            case ast.Name(id=name) if name in self.classes:
                return self.method(self.classes[name], "__init__")
            case ast.Name(id=name):
                return self.top.get(name)
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr=name) if function.owner is not None:
                owners = list(self.mro(function.owner))[1:]
                return next((f for owner in owners if (f := self._own_method(owner, name))), None)
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if function.owner is not None:
                method = self.method(function.owner, name)
                return method or self._called_attribute(function.owner, name)
        return None

    def _called_attribute(self, owner: ast.ClassDef, name: str) -> _Function | None:
        """The function that ``self.name(...)`` calls where the attribute is a module of the file."""
        for target, value in _assignments(ast.walk(owner)):
            if ast.unparse(target) == f"self.{name}" and isinstance(value, ast.Call):
                kind = self.classes.get(ast.unparse(value.func))
                return self.method(kind, "__call__") if kind else None
        return None

    def mro(self, node: ast.ClassDef) -> Iterator[ast.ClassDef]:
        """The class and its bases in the file."""
        yield node
        for base in node.bases:
            if isinstance(base, ast.Name) and base.id in self.classes:
                yield from self.mro(self.classes[base.id])

    def method(self, owner: ast.ClassDef, name: str) -> _Function | None:
        """A method of a class, or of its bases in the file."""
        return next((found for each in self.mro(owner) if (found := self._own_method(each, name))), None)

    def _own_method(self, owner: ast.ClassDef, name: str) -> _Function | None:
        nodes = [node for node in owner.body if isinstance(node, ast.FunctionDef) and node.name == name]
        return self.functions[id(nodes[-1])] if nodes else None

    # Parameters.

    def _parameters(self, function: _Function) -> Iterator[_Edit]:
        for name, parameter in function.parameters.items():
            default = function.defaults.get(name)
            if parameter.annotation is not None:
                new = self._corrected(function, name, ast.unparse(parameter.annotation), default)
                if new is not None:
                    yield _Edit(_start(parameter.annotation), _end(parameter.annotation), new)
            elif default is not None and (new := self._inferred(function, name, default)):
                line, column = _end(parameter)
                yield _Edit((line, column), (line, column + 1), f": {new} = ")  # for the equals sign

    def _inferred(self, function: _Function, name: str, default: ast.expr) -> str | None:
        """Return an annotation; None if the type of the default fits."""
        kind, met = self.kind(default, function), function.met.get(name, set())
        if kind == _CALLABLE:
            return _callable(function.node, name)
        if kind == "none":
            return "Any" if self._is_stored_unchecked(function, name) else None
        if kind in ("int", "bool") and met <= {"int", "float", "bool"} and "float" in met:
            return "float"
        fits = _FITS.get(kind, {kind})
        return "Any" if kind and not met <= fits else "Any" if _is_mixed(kind) else None

    def _is_stored_unchecked(self, function: _Function, name: str) -> bool:
        """Whether a parameter becomes an attribute that is used without a test for None."""
        if function.owner is None or name in function.assigned:
            return False
        attributes = [
            target.attr
            for target, value in _assignments(ast.walk(function.node))
            if isinstance(target, ast.Attribute) and isinstance(value, ast.Name) and value.id == name
        ]
        return any(self._is_unchecked(function.owner, attribute) for attribute in attributes)

    def _corrected(self, function: _Function, name: str, text: str, default: ast.expr | None) -> str | None:
        """Return a corrected annotation; None if the author's annotation accepts the default and all arguments."""
        kinds = set(function.met.get(name, ()))
        kind = self.kind(default) if default is not None else ""
        if kind == "none" and not _takes(text, "none"):
            is_tested = name in function.tested and not isinstance(function.parameters[name].annotation, ast.Constant)
            if is_tested and all(_takes(text, each) for each in kinds):
                return f"{text} | None"
            return "Any"
        if kind == _CALLABLE and _takes(text, "none") and "none" not in kinds and name not in function.tested:
            return _callable(function.node, name) if "Any" not in text else None
        wrong = {each for each in kinds | {kind} if each and not _takes(text, each)}
        if not wrong:
            return None
        if text in ("int", "bool") and wrong <= {"int", "float"}:
            return "float"
        return _callable(function.node, name) if wrong == {_CALLABLE} else "Any"

    # Lists and dicts that later hold other things than at first.

    def _containers(
        self, nodes: Iterable[ast.AST], users: list[ast.AST], function: _Function | None
    ) -> Iterator[_Edit]:
        done: set[str] = set()
        for node in nodes:
            if not isinstance(node, ast.Assign) or len(node.targets) != 1:
                continue
            target = node.targets[0]
            text = ast.unparse(target)
            is_own = text.startswith("self.") and function is not None and function.owner is not None
            if text in done or not (isinstance(target, ast.Name) or (is_own and text.count(".") == 1)):
                continue
            done.add(text)
            around = list(ast.walk(function.owner)) if is_own and function and function.owner else users
            values = [value for each, value in _assignments(around) if ast.unparse(each) == text]
            if any(type(value) is not type(node.value) for value in values):
                continue
            new = self._container(node.value, text, around, function)
            if new is not None:
                yield _Edit(_end(target), _end(target), f": {new}")

    def _container(self, value: ast.expr, text: str, users: list[ast.AST], function: _Function | None) -> str | None:
        """Return the annotation of a container; None if the type of its first elements fits."""
        is_dict = isinstance(value, ast.Dict) or (isinstance(value, ast.Call) and ast.unparse(value.func) == "dict")
        if is_dict:
            is_empty = not (value.keys if isinstance(value, ast.Dict) else value.keywords)  # type: ignore[union-attr]
            is_other = any(_unpacks(each, text) or _sets_item(each, text) for each in users)
            if is_empty or not (is_other or _is_mixed(self.kind(value, function))):
                return None
            keys = value.keys if isinstance(value, ast.Dict) else []
            is_text = all(self.kind(key) == "str" for key in keys if key is not None)
            return f"dict[{'str' if is_text else 'Any'}, Any]"
        if isinstance(value, ast.List) and value.elts:
            added = [element for each in users for element in _added(each, text)]
            makers = {_maker(each) for each in [*value.elts, *added]}
            if added and (len(makers) > 1 or "" in makers):
                is_layers = all(self._is_layer(each) for each in value.elts)
                return "list[nn.Module]" if is_layers else "list[Any]"
        return "list[Any]" if isinstance(value, ast.List) and _is_mixed(self.kind(value, function)) else None

    def _is_layer(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Call):
            return False
        text = ast.unparse(node.func)
        if text in self.classes:
            bases = [ast.unparse(base) for each in self.mro(self.classes[text]) for base in each.bases]
            return any(base.startswith("nn.") for base in bases)
        return text.startswith("nn.") and isinstance(getattr(nn, text[3:], None), type)

    # Attributes.

    def _fields(self, node: ast.ClassDef) -> Iterator[_Edit]:
        """Correct fields whose annotation does not accept their default."""
        for each in node.body:
            if isinstance(each, ast.AnnAssign) and each.value is not None:
                text, kind = ast.unparse(each.annotation), self.kind(each.value)
                if kind and not _takes(text, kind):
                    yield _Edit(_start(each.annotation), _end(each.annotation), "float" if kind == "float" else "Any")

    def _optional_attributes(self, owner: ast.ClassDef) -> Iterator[_Edit]:
        """Annotate attributes that can be None and are used without a test."""
        first: dict[str, ast.Assign] = {}
        optional: set[str] = set()
        for node in ast.walk(owner):
            if isinstance(node, ast.AnnAssign):
                first.setdefault(ast.unparse(node.target), ast.Assign([], node.value or ast.Constant(0)))
            if not isinstance(node, ast.Assign) or len(node.targets) != 1:
                continue
            text = ast.unparse(node.targets[0])
            if text.startswith("self.") and text.count(".") == 1:
                first.setdefault(text, node)
                if _may_be_none(node.value):
                    optional.add(text)
        for text in sorted(optional):
            if first[text].targets and self._is_unchecked(owner, text.removeprefix("self.")):
                target = first[text].targets[0]
                yield _Edit(_end(target), _end(target), ": Any")

    def _is_unchecked(self, owner: ast.ClassDef, attribute: str) -> bool:
        """Whether a method of a class, or of those that it is a base of, uses an attribute without a test."""
        text = f"self.{attribute}"
        related = [each for each in self.classes.values() if owner in self.mro(each)]
        for function in self.functions.values():
            if function.owner not in related or text in function.tested:
                continue
            if text in {ast.unparse(target) for target, value in _assignments(ast.walk(function.node))}:
                continue
            if any(_uses(node, text) for node in ast.walk(function.node)):
                return True
        return False

    def _missing_attributes(self, owner: ast.ClassDef) -> Iterator[_Edit]:
        """Declare attributes that a mixin reads and only its subclasses define."""
        bases = [ast.unparse(base) for each in self.mro(owner) for base in each.bases]
        if any(base not in self.classes for base in bases) or owner.decorator_list or owner.keywords:
            return
        known = {"__class__", "__dict__"}
        for each in self.mro(owner):
            for node in each.body:
                known |= {node.name} if isinstance(node, ast.FunctionDef | ast.ClassDef) else set()
                known |= {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
            known |= {n.attr for n in ast.walk(each) if _is_own(n) and not isinstance(n.ctx, ast.Load)}  # type: ignore
        read = [n.attr for n in ast.walk(owner) if _is_own(n) and n.attr not in known]  # type: ignore[attr-defined]
        if not read:
            return
        first = owner.body[0]
        has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        names = dict.fromkeys(read)
        indent = " " * first.col_offset
        if has_docstring:
            lines = "".join(f"\n{indent}{name}: Any" for name in names)
            yield _Edit(_end(first), _end(first), f"\n{lines}")
        else:
            above = min([first.lineno, *(each.lineno for each in getattr(first, "decorator_list", ()))])
            lines = "".join(f"{indent}{name}: Any\n" for name in names)
            yield _Edit((above, 0), (above, 0), f"{lines}\n")


# Nodes.


def _constant_kind(node: ast.expr | None) -> str:
    """Return the type of a constant, or of a class or function of a library."""
    match node:
        case ast.Constant(value=value):
            return "none" if value is None else type(value).__name__
        case ast.Attribute(value=ast.Name(id=space), attr=name):
            is_layer = space == "nn" and isinstance(getattr(nn, name, None), type)
            is_dtype = space == "jnp" and isinstance(getattr(jnp, name, None), type(jnp.float32))
            return _CALLABLE if is_layer or (space in _SPACES and not is_dtype) else ""
        case ast.Lambda():
            return _CALLABLE
        case ast.Call(func=called) if ast.unparse(called) in ("partial", "functools.partial"):
            return _CALLABLE
    return ""


def _functions(node: ast.AST, owner: ast.ClassDef | None) -> Iterator[tuple[ast.FunctionDef, ast.ClassDef | None]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            yield child, owner
        yield from _functions(child, child if isinstance(child, ast.ClassDef) else None if owner is child else owner)


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions inside of it."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef):
            yield from _own_nodes(child)


def _start(node: Any) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _end(node: Any) -> tuple[int, int]:
    return node.end_lineno, node.end_col_offset


def _tests(node: ast.AST) -> Iterator[ast.expr]:
    for each in ast.walk(node):
        match each:
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) | ast.Assert(test=test):
                yield test
            case ast.BoolOp(values=values):
                yield from values
            case ast.Compare():
                yield each
            case ast.comprehension(ifs=tests):
                yield from tests


def _paths(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, (ast.Name, ast.Attribute)):
            yield ast.unparse(each)


def _assignments(nodes: Iterable[ast.AST]) -> Iterator[tuple[ast.expr, ast.expr]]:
    for node in nodes:
        if isinstance(node, ast.Assign):
            yield from ((target, node.value) for target in node.targets)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield node.target, node.value


def _is_own(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def _may_be_none(value: ast.expr) -> bool:
    parts = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
    return any(isinstance(each, ast.Constant) and each.value is None for each in parts)


def _uses(node: ast.AST, text: str) -> bool:
    """Return whether a node uses an expression in a way that None does not support."""
    match node:
        case ast.Call(func=called, args=arguments, keywords=keywords):
            used = [called, *arguments, *(each.value for each in keywords)]
        case ast.Attribute(value=value) | ast.Subscript(value=value) | ast.For(iter=value):
            used = [value]
        case ast.comprehension(iter=value) | ast.UnaryOp(operand=value):
            used = [value]
        case ast.BinOp(left=left, right=right):
            used = [left, right]
        case _:
            return False
    return any(ast.unparse(each) == text for each in used)


def _unpacks(node: ast.AST, text: str) -> bool:
    return isinstance(node, ast.Call) and any(k.arg is None and ast.unparse(k.value) == text for k in node.keywords)


def _sets_item(node: ast.AST, text: str) -> bool:
    is_set = isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == text
    return is_set or (isinstance(node, ast.Call) and ast.unparse(node.func) in (f"{text}.update", f"{text}.setdefault"))


def _added(node: ast.AST, text: str) -> Iterator[ast.expr]:
    """What a statement adds to a list."""
    match node:
        case ast.Call(func=ast.Attribute(value=value, attr="append" | "extend" | "insert"), args=[*_, added]):
            is_list = ast.unparse(value) == text
        case ast.AugAssign(target=target, op=ast.Add(), value=added):
            is_list = ast.unparse(target) == text
        case ast.Assign(targets=[ast.Subscript(value=value)], value=added):
            is_list = ast.unparse(value) == text
        case _:
            return
    if is_list:
        yield from added.elts if isinstance(added, (ast.List, ast.Tuple)) else [added]


def _maker(node: ast.expr) -> str:
    """Return the class that makes an element, or the type of a constant; empty if unknown."""
    if isinstance(node, ast.Call):
        return ast.unparse(node.func)
    return type(node.value).__name__ if isinstance(node, ast.Constant) else ""


def _callable(function: ast.FunctionDef, name: str) -> str:
    """Return the annotation of a parameter that is called; Any if it is also inspected."""
    body = [node for statement in function.body for node in ast.walk(statement)]
    reads = [n for n in body if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == name]
    checks = [n for n in body if isinstance(n, ast.Call) and ast.unparse(n.func) in ("issubclass", "isinstance")]
    is_checked = any(name in _paths(argument) for call in checks for argument in call.args)
    return "Any" if reads or is_checked else "Callable[..., Any]"


def _is_mixed(kind: str) -> bool:
    """Return whether the elements of a container have different types."""
    return not kind.startswith("tuple") and " | " in kind and set(kind[kind.index("[") + 1 : -1].split(" | ")) not in (
        {"int", "float"}, {"float", "int"}, {"bool", "int"},
    )  # fmt: skip


@functools.cache
def _takes(annotation: str, kind: str) -> bool:
    """Return whether an annotation accepts values of a type; True if unclear."""
    parts = [part.strip() for part in annotation.split(" | ")] if "[" not in annotation else [annotation]
    return any(_takes_part(part, kind) for part in parts)


def _takes_part(annotation: str, kind: str) -> bool:
    if kind == "none":
        return any(word in annotation for word in ("None", "Optional", "Any", "object", "Final", "ClassVar"))
    if annotation in _FITS:
        return kind in _FITS[annotation] or kind == ""
    for name in ("tuple", "list", "dict"):
        if annotation.lower().partition("[")[0] == name:
            return kind.partition("[")[0] == name
    is_object = annotation == "jax.Array" or annotation.startswith("nn.")
    return not (is_object and kind)
