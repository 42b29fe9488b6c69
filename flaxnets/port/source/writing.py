"""Write the file: docstring, imports, definitions in dependency order, and ``build``."""

import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from flaxnets.port import expressions as ex
from flaxnets.port._torch import libcst as cst
from flaxnets.port._torch import torch
from flaxnets.port.errors import PortError
from flaxnets.port.source.building import SourceRecorder
from flaxnets.port.source.definitions import Definition, Definitions, lambda_function
from flaxnets.port.source.hints import hinted
from flaxnets.port.source.layout import laid_out
from flaxnets.port.source.needs import twin
from flaxnets.port.source.static import UnwritableError, literal

_HELPERS = {
    "_make": '''def _make(factory: Callable[..., Any], *args: Any, rngs: nnx.Rngs, **kwargs: Any) -> Any:
    """Call a class or a function, with ``rngs`` if it takes the argument."""
    function = factory
    while isinstance(function, functools.partial):
        function = function.func
    signature = inspect.signature(function.__init__ if isinstance(function, type) else function)
    return factory(*args, rngs=rngs, **kwargs) if "rngs" in signature.parameters else factory(*args, **kwargs)
''',
}
_HELPER_MODULES = {"_make": ("functools", "inspect")}

_STANDARD = {
    "jax": "import jax", "jnp": "import jax.numpy as jnp", "np": "import numpy as np", "math": "import math",
    "nnx": "from flax import nnx", "nn": "from flaxnets import nn", "ops": "from flaxnets import ops",
    "F": "from flaxnets.nn import functional as F", "Any": "from typing import Any",
    "Callable": "from collections.abc import Callable",
}  # fmt: skip


class Writer:
    """Write the source of a Flax model.

    Args:
        recorder: The recorder of the builder and the model.
        model: The model that the builder returned.
        builder: The class, function or partial.
    """

    def __init__(self, recorder: SourceRecorder, model: torch.nn.Module, builder: Callable[[], torch.nn.Module]):
        self.definitions = Definitions(recorder)
        self.model, self.builder = model, builder

    def write(self) -> str:
        """Return the text of the file.

        Raises:
            PortError: If places cannot be translated. All places are listed.
        """
        try:
            build = self._build()
            self.definitions.complete()
        except UnwritableError as error:
            message = f"The builder cannot be written as source: {error}. Expected a class, a function or a partial."
            raise PortError(message=message) from error
        late = self._is_late()
        needed = self._needed(build, late)
        refusals = [*self.definitions.refusals, *(refusal for each in needed for refusal in each.refusals)]
        if refusals:
            raise PortError(refusals)
        helpers = [_HELPERS[name] for name in sorted(self.definitions.helpers)]
        body = hinted(_joined([*helpers, *(each.text for each in self._ordered(needed, late)), build]))
        between = "\n\n" if _is_block(body) else "\n"
        return laid_out(f"{self._docstring()}\n{self._imports(body, late)}{between}{body}")

    def _is_late(self) -> bool:
        files = [self.definitions.file(d.key[0]) for d in self.definitions.found.values()]
        return any(file.has_late_annotations for file in files if file is not None)

    # The builder.

    def _build(self) -> str:
        target, args, keywords = _unwrapped(self.builder)
        kind = type(self.model)
        returns = f"nn.{kind.__name__}" if twin(kind) else "nn.Module"
        if isinstance(target, types.FunctionType) and target.__name__ == "<lambda>":
            return self._lambda(target, returns)
        if isinstance(target, types.FunctionType) and target.__closure__ and "<locals>" in target.__qualname__:
            names = ", ".join(target.__code__.co_freevars)
            raise UnwritableError(f"{target.__qualname__} reads {names} of the function around it")
        if target is kind and twin(kind):
            name = f"nn.{kind.__name__}"
        elif is_class_method(target):
            owner = getattr(target, "__self__")  # noqa: B009  # pyright knows no bound methods here
            name = f"{self.definitions.reference(owner, owner.__name__, owner.__module__)}.{target.__name__}"
        else:
            name = self.definitions.reference(target, target.__name__, target.__module__)
        self.definitions.complete()
        if not twin(kind) and kind in self.definitions.recorder.classes:
            returns = self.definitions.reference(kind, kind.__name__, kind.__module__)
        named = inspect.signature(target).bind_partial(*args).arguments if args else {}
        if any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(target).parameters.values()):
            named = {}
        else:
            args = ()
        options = {**named, **keywords}
        parameters = [self._parameter(target, key, value) for key, value in options.items()]
        arguments = [*(literal(a, self.definitions) for a in args), *(f"{key}={key}" for key in options)]
        arguments += ["rngs=rngs"] if self.definitions.needs.of(target) else []
        head = ", ".join([*parameters, "rngs: nnx.Rngs"])
        return (
            f"\ndef build(*, {head}) -> {returns}:\n"
            f'    """Make the model, with new parameters."""\n'
            f"    return {name}({', '.join(arguments)})\n"
        )

    def _parameter(self, target: Any, key: str, value: Any) -> str:
        kind = {bool: "bool", int: "int", float: "float", str: "str"}.get(type(value))
        text = literal(value, self.definitions)
        return f"{key}: {kind} = {text}" if kind else f"{key}={text}"

    def _lambda(self, target: types.FunctionType, returns: str) -> str:
        recorded = self.definitions.space.recorded(target)
        if recorded is None:
            raise UnwritableError("the source of the lambda is not available")
        node = lambda_function(self.definitions.translated(recorded, target, None))
        used = {name.value for name in _names(node)}
        options = {name: v for name, v in inspect.getclosurevars(target).nonlocals.items() if name in used}
        head = ", ".join([*(self._parameter(target, key, value) for key, value in options.items()), "rngs: nnx.Rngs"])
        params: Any = cst.parse_statement(f"def build(*, {head}) -> {returns}: pass\n")
        docstring = cst.parse_statement('"""Make the model, with new parameters."""\n')
        body = node.body.with_changes(body=[docstring, *node.body.body])
        return "\n" + ex.code(params.with_changes(body=body))

    # The order.

    def _needed(self, build: str, late: bool) -> list[Definition]:
        """Return the definitions that ``build`` uses directly or indirectly."""
        by_name = {each.name: each for each in self.definitions.found.values()}
        pending = {node.value for node in _names(cst.parse_module(build))}
        needed: set[str] = set()
        while pending := {name for name in pending if name in by_name and name not in needed}:
            needed |= pending
            pending = set().union(*(by_name[name].references(late)[1] | by_name[name].brings for name in pending))
        return [each for each in by_name.values() if each.name in needed]

    def _ordered(self, found: list[Definition], late: bool) -> list[Definition]:
        by_name = {each.name: each for each in found}
        uses = {each.name: each.references(late) for each in found}
        ranks = self._ranks(found, by_name, uses)
        found.sort(key=lambda each: (ranks[each.key[0]], each.position))
        ordered: dict[str, Definition] = {}

        def visit(each: Definition, above: tuple[str, ...]) -> None:
            if each.name in ordered or each.name in above:
                return
            for name in sorted(uses[each.name][0] & by_name.keys(), key=lambda n: found.index(by_name[n])):
                visit(by_name[name], (*above, each.name))
            ordered[each.name] = each

        for each in found:
            visit(each, ())
        return list(ordered.values())

    def _ranks(self, found: Any, by_name: Any, uses: Any) -> dict[str, int]:
        """Return the order of the user's modules: a module comes after the modules that it uses."""
        needed: dict[str, dict[str, None]] = {}
        for each in found:
            others = (by_name[name].key[0] for name in sorted(uses[each.name][1] & by_name.keys()))
            needed.setdefault(each.key[0], {}).update(dict.fromkeys(others))
        ranks: dict[str, int] = {}

        def visit(module: str, above: tuple[str, ...]) -> None:
            if module in ranks or module in above:
                return
            for other in needed[module]:
                visit(other, (*above, module))
            ranks[module] = len(ranks)

        for module in needed:
            visit(module, ())
        return ranks

    # The head.

    def _docstring(self) -> str:
        target, *_ = _unwrapped(self.builder)
        if target.__name__ == "<lambda>":
            origin = f"{type(self.model).__module__}.{type(self.model).__qualname__}"
        else:
            origin = f"{target.__module__}.{target.__qualname__}"
        torchs = sys.modules.get(target.__module__.split(".")[0])
        version = getattr(torchs, "__version__", None)
        of = f" ({target.__module__.split('.')[0]} {version})" if isinstance(version, str) else ""
        return (
            f'"""{origin}{of} in Flax.\n\n'
            "Translated from the PyTorch source by flaxnets: names, parameters and outputs are those of the original.\n"
            'The licence of the original applies.\n"""\n'
        )

    def _imports(self, body: str, late: bool) -> str:
        tree = cst.parse_module(body)
        used = {node.value for node in _names(tree)}
        lines = {line for name, line in _STANDARD.items() if name in used}
        for name in self.definitions.helpers:
            lines |= {f"import {module}" for module in _HELPER_MODULES[name]}
        for name, module in self.definitions.modules.items():
            if name in used:
                path = module.__name__
                lines.add(f"import {path}" if path.split(".")[0] == name else f"import {path} as {name}")
        for name, (module, original) in self.definitions.imports.items():
            if name in used and f"from {module} import {original}" != _STANDARD.get(name):
                lines.add(f"from {module} import {original}" + (f" as {name}" if name != original else ""))
        return "\n\n".join(sorted_imports(lines, late)) + "\n"


def is_class_method(builder: Any) -> bool:
    """Whether a builder is a class method, bound to its class."""
    return isinstance(builder, types.MethodType) and isinstance(builder.__self__, type)


def _names(node: Any) -> Iterator[Any]:
    if isinstance(node, cst.Name):
        yield node
    if isinstance(node, cst.SimpleString) and node.raw_value.isidentifier():
        yield cst.Name(node.raw_value)
    for child in node.children:
        if not (isinstance(node, cst.Attribute) and child is node.attr):
            yield from _names(child)


def sorted_imports(lines: set[str], late: bool = False) -> Iterator[str]:
    """Yield the groups of import statements, sorted as isort sorts them."""
    merged: dict[str, list[str]] = {}
    plain = []
    for line in lines:
        if line.startswith("from ") and " as " not in line:
            module, _, name = line.removeprefix("from ").partition(" import ")
            merged.setdefault(module, []).append(name)
        else:
            plain.append(line)
    merged_lines = [f"from {m} import {', '.join(sorted(n, key=_case))}" for m, n in merged.items()]
    if late:
        yield "from __future__ import annotations"
    every = [*plain, *merged_lines]
    standard = [line for line in every if line.split()[1].split(".")[0] in sys.stdlib_module_names]
    for group in (standard, [line for line in every if line not in standard]):
        if group:
            yield "\n".join(sorted(group, key=lambda line: (line.startswith("from "), line.split()[1], line)))


def _case(name: str) -> tuple[int, str]:
    """Return the sort key of isort for names: constants, classes, functions."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2), name


def _joined(parts: list[str]) -> str:
    """Join definitions: no blank lines between constants, two around classes and functions."""
    text = ""
    for previous, part in zip([None, *parts], parts, strict=False):
        if previous is not None:
            text += "\n\n" if _is_block(part) or _is_block(previous) else "\n" * part.startswith("#")
        text += part.strip("\n") + "\n"
    return text


def _is_block(part: str) -> bool:
    code = [line for line in part.splitlines() if not line.startswith("#")]
    return bool(code) and code[0].startswith(("class ", "def ", "@"))


def _unwrapped(builder: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    args: tuple[Any, ...] = ()
    keywords: dict[str, Any] = {}
    while isinstance(builder, functools.partial):
        args, keywords = (*builder.args, *args), {**builder.keywords, **keywords}
        builder = builder.func
    return builder, args, keywords
