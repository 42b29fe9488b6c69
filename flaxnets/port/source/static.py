"""Translate expressions outside of functions (constants, class attributes, defaults), and write values as source."""

import argparse
import builtins
import collections
import dataclasses
import enum
import functools
import types
from collections.abc import Callable
from typing import Any

from flaxnets.port import expressions as ex
from flaxnets.port import operators
from flaxnets.port._torch import libcst as cst
from flaxnets.port._torch import torch
from flaxnets.port.names import dtype_text, function_text, is_library, is_torchs, qualified_name
from flaxnets.port.scope import MISSING
from flaxnets.port.source.files import SourceFile
from flaxnets.port.source.needs import twin


class UnwritableError(Exception):
    """Raised for an object or expression that cannot be written as JAX source."""


class StaticTranslator(cst.CSTTransformer):
    """Translate an expression at module or class level.

    Raises:
        UnwritableError: If a name of torch has no counterpart.
    """

    def __init__(self, file: SourceFile, references: Any, local: frozenset[str] = frozenset()):
        super().__init__()
        self.file, self.references, self.local = file, references, local
        self._depth = 0  # nesting depth of functions
        self._done: set[int] = set()

    def visit_Attribute(self, node: Any) -> bool:
        return self.file.static(node) is MISSING

    def visit_Lambda(self, node: Any) -> bool:
        return not self.references.recorded_functions(self.file, node)

    def leave_Lambda(self, original_node: Any, updated_node: Any) -> Any:
        """Translate a lambda that ran like other functions."""
        return self._translated(original_node) or updated_node

    def visit_FunctionDef(self, node: Any) -> bool:
        self._depth += 1
        return True

    def on_visit(self, node: Any) -> bool:
        """Skip the body of an inner function that ran, which is translated as a whole."""
        if isinstance(node, cst.FunctionDef) and self._depth and self.references.recorded_functions(self.file, node):
            self._done.add(id(node.body))
        return id(node) not in self._done and super().on_visit(node)

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        self._depth -= 1
        updated_node = updated_node.with_changes(name=original_node.name)
        translated = self._translated(original_node) if self._depth else None
        if translated is None:
            return updated_node
        return translated.with_changes(leading_lines=original_node.leading_lines, decorators=updated_node.decorators)

    def _translated(self, node: Any) -> Any:
        """Return the translation of a function that ran; None if it did not run."""
        recorded = self.references.recorded_functions(self.file, node)
        translations = (self.references.translated(r, r.functions[0], None) for r in recorded)
        by_text = {ex.code(new): new for new in translations}
        if len(by_text) > 1:
            raise UnwritableError(f"functions with the same source have different translations: {ex.code(node)}")
        return next(iter(by_text.values()), None)

    def leave_Arg(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(keyword=original_node.keyword)

    def visit_Decorator(self, node: Any) -> bool:
        self.references.at_import.add(id(self.file.static(node.decorator)))
        return True

    def leave_Name(self, original_node: Any, updated_node: Any) -> Any:
        if original_node.value in self.local:
            return updated_node
        return self._resolved(original_node, updated_node)

    def leave_Attribute(self, original_node: Any, updated_node: Any) -> Any:
        if self.file.static(original_node) is MISSING:
            return updated_node.with_changes(attr=original_node.attr)
        return self._resolved(original_node, updated_node)

    def leave_Call(self, original_node: Any, updated_node: Any) -> Any:
        callee = self.file.static(original_node.func)
        self.references.at_import.add(id(callee))
        if callee is MISSING or isinstance(callee, type) or not is_torchs(callee):
            return updated_node
        named = {a.keyword.value: ex.code(a.value) for a in updated_node.args if a.keyword}
        positional = [a.star + ex.code(a.value) for a in updated_node.args if not a.keyword]
        try:
            return ex.parse(operators.translate(operators.Call(qualified_name(callee), positional, named)).expression)
        except operators.UntranslatableError as error:
            raise UnwritableError(str(error)) from error

    def _resolved(self, original: Any, updated: Any) -> Any:
        value = self.file.static(original)
        text = ex.code(original)
        if value is MISSING or text == "__name__":
            return updated
        if isinstance(value, types.ModuleType):
            self.references.use_module(text.split(".")[0], value)
            return updated
        if getattr(builtins, text, MISSING) is value:
            return updated
        if isinstance(original, cst.Attribute):
            root = text.split(".")[0]
            module = vars(self.file.module).get(root)
            if isinstance(module, types.ModuleType) and is_library(module):
                self.references.use_module(root, module)
                return updated
            base = self.file.static(original.value)
            if isinstance(base, type) and not is_torchs(base):
                return updated.with_changes(
                    value=ex.parse(self.references.reference(base, base.__name__, base.__module__))
                )
            home = getattr(base, "__name__", self.file.module.__name__)
        else:
            home = self.file.module.__name__
        known = torch_text(value)
        return ex.parse(known or self.references.reference(value, text.rpartition(".")[2], home))


def torch_text(value: Any) -> str | None:
    """Return the expression for a class, function or dtype of torch; None for other objects.

    Raises:
        UnwritableError: If an object of torch has no counterpart.
    """
    if isinstance(value, torch.dtype):
        return dtype_text(value)
    if value is torch.Tensor:
        return "jax.Array"
    if value is torch.nn.Parameter or value is torch.nn.Buffer:
        return f"nn.{value.__name__}"
    if value is torch.Size:
        return "tuple"
    if value is torch.autograd.Function:
        return "ops.Function"
    if isinstance(value, (torch.nn.Module, torch.Tensor)) or not is_torchs(value):
        return None
    if isinstance(value, type) and issubclass(value, torch.nn.Module):
        ours = twin(value)
        if ours is not None:
            return f"nn.{ours.__name__}"
    elif callable(value) and not isinstance(value, type) and (text := function_text(value)):
        return text
    raise UnwritableError(f"{getattr(value, '__qualname__', value)} of torch has no counterpart")


def literal(value: Any, references: Any) -> str:
    """Return an expression that creates an equal object.

    Raises:
        UnwritableError: If there is no such expression.
    """

    def write(each: Any) -> str:
        return literal(each, references)

    if value is ...:
        return "..."
    if value is None or (isinstance(value, (bool, int, str, bytes, complex)) and not isinstance(value, enum.Enum)):
        return repr(value).replace("'", '"') if _is_simple_text(value) else repr(value)
    if isinstance(value, float):
        return repr(value) if value - value == 0 else f'float("{value}")'
    if isinstance(value, enum.Enum):
        return f"{references.reference(type(value), type(value).__name__, type(value).__module__)}.{value.name}"
    if isinstance(value, torch.Tensor):
        if value.numel() > 1000:
            raise UnwritableError(f"a tensor of {value.numel()} elements is too large for an argument in source")
        return f"jnp.array({value.tolist()}, {dtype_text(value.dtype)})"
    return torch_text(value) or _object(value, write, references)


def _object(value: Any, write: Callable[[Any], str], references: Any) -> str:
    def call(name: str, args: Any, keywords: Any) -> str:
        return f"{name}({', '.join([*map(write, args), *(f'{k}={write(v)}' for k, v in keywords.items())])})"

    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        return references.reference(value, value.__name__, value.__module__)
    if isinstance(value, functools.partial):
        references.use_module("functools", functools)
        return call("functools.partial", [value.func, *value.args], value.keywords)
    if isinstance(value, (types.SimpleNamespace, argparse.Namespace)):
        module = types if isinstance(value, types.SimpleNamespace) else argparse
        references.use_module(module.__name__, module)
        return call(f"{module.__name__}.{type(value).__name__}", [], vars(value))
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return call(references.reference(type(value), type(value).__name__, type(value).__module__), [], fields)
    return _container(value, write, references)


def _is_simple_text(value: Any) -> bool:
    return isinstance(value, str) and '"' not in repr(value) and "\\" not in repr(value)


def _container(value: Any, write: Any, references: Any) -> str:
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        name = references.reference(type(value), type(value).__name__, type(value).__module__)
        return f"{name}({', '.join(map(write, value))})"
    if isinstance(value, (torch.Size, tuple)):
        return f"({', '.join(map(write, value))}{',' if len(value) == 1 else ''})"
    if type(value) is list:
        return f"[{', '.join(map(write, value))}]"
    if type(value) in (set, frozenset):
        items = f"{{{', '.join(sorted(map(write, value)))}}}" if value else "set()"
        return items if type(value) is set else f"frozenset({items})"
    if isinstance(value, dict):
        items = f"{{{', '.join(f'{write(k)}: {write(v)}' for k, v in value.items())}}}"
        if type(value) is dict:
            return items
        if type(value) is collections.OrderedDict:
            references.use_module("collections", collections)
            return f"collections.OrderedDict({items})"
    raise UnwritableError(f"{value!r} ({type(value).__name__}) cannot be written as source")
