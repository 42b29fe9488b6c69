"""Make the classes of a port: translate the model's classes, and replace torch's classes. A part of the mirror."""

import abc
import collections
import copy
import functools
import inspect
import types
from typing import Any

import jax

from flaxnets import nn, ops
from flaxnets.port import expressions as ex
from flaxnets.port._torch import libcst as cst
from flaxnets.port._torch import torch
from flaxnets.port.computed import twin
from flaxnets.port.errors import Refusal
from flaxnets.port.names import is_torchs
from flaxnets.port.plain_classes import (
    HOLDS_MODULES,
    KEPT,
    NAMESPACES,
    attributes_of,
    blank,
    functions_of,
    is_independent,
    is_kept_member,
    is_plain_class,
    of_class,
    plain_bases,
)
from flaxnets.port.problems import unwrapped
from flaxnets.port.wrappers import library_twin

_TWINS: dict[type, type] = {
    torch.Tensor: jax.Array, torch.nn.Parameter: nn.Parameter, torch.nn.Module: nn.Module,
    torch.autograd.Function: ops.Function, torch.nn.modules.linear.NonDynamicallyQuantizableLinear: nn.Linear,
}  # fmt: skip


class ClassMirror:
    """Make the counterparts of classes, and of objects that are not modules."""

    # Attributes and methods that the mirror defines.
    _outside: Any
    bind_globals: Any
    classes: Any
    remember: Any
    space: Any
    value: Any

    # Classes.

    def cls(self, kind: Any) -> type:
        """Return the counterpart of a class."""
        if kind in self.classes:
            return self.classes[kind]
        if kind in _TWINS:
            return _TWINS[kind]
        if (wrapper := library_twin(kind)) is not None:
            return wrapper
        if issubclass(kind, torch.autograd.Function):
            return self._translated_class(kind)
        if not issubclass(kind, torch.nn.Module):
            return self._translated_class(kind) if self.is_translated(kind) else kind
        return twin(kind) or nn.Module if is_torchs(kind) else self._translated_class(kind)

    def _translated_class(self, kind: type) -> type:
        bases = [self.cls(base) if base is not object else object for base in kind.__bases__]
        if kind in self.classes:
            return self.classes[kind]
        name = self.space.name(kind, kind.__name__)
        free: dict[str, Any] = {}
        members, definitions = self._members(kind, free)
        body = "\n".join(definitions) or "pass"
        parameters = ", ".join([*(f"_base{i}" for i in range(len(bases))), *free])
        header = f"class {name}({', '.join(f'_base{i}' for i in range(len(bases)))}):"
        lines = "\n".join("        " + line for line in body.splitlines())
        text = f"def make({parameters}):\n    {header}\n{lines}\n    return {name}\n"
        outside = [self._outside(v, code) for v, code in free.values()]
        if kind in self.classes:  # one of its bases or decorators refers to the class, and made it
            return self.classes[kind]
        codes = [inspect.unwrap(f).__code__ for value in vars(kind).values() for f in functions_in(value)]
        first = min(codes, key=lambda code: code.co_firstlineno, default=None)
        new = self.space.execute(text, kind.__qualname__, first)["make"](*bases, *outside)
        new.__qualname__, new.__module__, new.__doc__ = kind.__qualname__, kind.__module__, kind.__doc__
        self.classes[kind] = self.space.globals[name] = new
        for attribute, value in members.items():
            setattr(new, attribute, frozen(self._outside(value, None)))
        for attribute, value in vars(kind).items() if is_plain_class(kind) else ():
            if attribute not in vars(new) and is_independent(kind, value):
                setattr(new, attribute, of_class(value, new))
        if isinstance(new, abc.ABCMeta):
            new.__abstractmethods__ = getattr(kind, "__abstractmethods__", frozenset())  # type: ignore[attr-defined]
        self._complete(kind, new)
        self.bind_globals()
        return new

    def _members(self, kind: type, free: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the class attributes, and the text of the translated methods; add the methods' free variables."""
        texts = {name: self._method(kind, name, value, free) for name, value in vars(kind).items()}
        definitions = [text for text in texts.values() if text is not None]
        if not issubclass(kind, (torch.nn.Module, torch.autograd.Function)):
            members, stubs = self._plain_members(kind)
            return members, definitions + stubs
        read = self.space.recorder.attributes_read
        others = {n: v for n, v in vars(kind).items() if texts[n] is None and (n in read or not _holds_modules(v))}
        return {name: value for name, value in others.items() if _is_class_attribute(name, value)}, definitions

    def is_translated(self, kind: type) -> bool:
        """Return whether the port translates a class that is not a module: a method of it ran on tensors."""
        if not is_plain_class(kind):
            return False
        bases = plain_bases(kind)
        recorded = [self.space.recorded(function) for base in bases for _, function in functions_of(base)]
        methods = [r for r in recorded if r is not None and _ran(r)]
        if any(r.touches_tensors() for r in methods):
            return True
        return bool(methods) and any(self._holds_functions(value) for base in bases for value in vars(base).values())

    def _holds_functions(self, value: Any) -> bool:
        """Whether a list, tuple or dict contains functions that ran."""
        values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
        functions = [inspect.unwrap(each) for each in values if isinstance(each, types.FunctionType)]
        return any(r is not None and _ran(r) for r in map(self.space.recorded, functions))

    def _plain_members(self, kind: type) -> tuple[dict[str, Any], list[str]]:
        """Return the attributes of a class that is not a module, and stubs for its methods that did not run."""
        members, stubs = {}, []
        functions = {name: self.space.recorded(function) for name, function in functions_of(kind)}
        for name, value in vars(kind).items():
            recorded = functions.get(name)
            is_generated = name in functions and recorded is None  # for example by dataclasses
            if is_generated or is_kept_member(name) or (name in KEPT and name in functions):
                members[name] = value
            elif name not in functions and _is_class_attribute(name, value):
                members[name] = self.value(value)
            elif name in functions and recorded is not None and not _ran(recorded) and not is_independent(kind, value):
                decorator = "@property\n" if isinstance(value, property) else ""
                stubs.append(f"{decorator}def {name}(*args, **kwargs): ops.unreached({f'{kind.__name__}.{name}'!r})")
        return members, stubs

    def _plain_object(self, value: Any) -> Any:
        """Return an instance of the translated class, with the counterparts of the object's attributes."""
        attributes = attributes_of(value)
        if not is_plain_class(type(value)) and type(value) not in NAMESPACES:
            return value
        kind = self.cls(type(value))
        attributes_differ = any(_holds_torchs(each) or self._holds_functions(each) for each in attributes.values())
        if kind is type(value) and not attributes_differ:
            return value
        if any(isinstance(v, (torch.nn.Module, torch.nn.Parameter)) for v in attributes.values()):
            lines, first = inspect.getsourcelines(type(value))
            path = inspect.getsourcefile(type(value)) or ""
            self.space.refusals.append(Refusal(path, first, lines[0].strip(), *HOLDS_MODULES))
            return value
        new = self.remember(value, blank(kind, value) if kind is not type(value) else copy.copy(value))
        for name, attribute in attributes.items():
            object.__setattr__(new, name, self.value(attribute))
        return new

    def _complete(self, kind: type, new: type) -> None:
        """Set the defaults of the methods to the counterparts of the original defaults."""
        for attribute, value in vars(kind).items():
            for function in functions_in(value):
                raw = inspect.unwrap(function) if is_torchs_wrapper(function) else function
                is_call = attribute == "forward" and issubclass(kind, torch.nn.Module)
                target = new.__dict__.get("__call__" if is_call else attribute)
                for translated in map(inspect.unwrap, functions_in(target)):  # forward hooks wrap __call__
                    code = getattr(translated, "__code__", None)
                    if code is None or self.space.recorded(raw) is None:
                        continue
                    if raw.__defaults__:
                        translated.__defaults__ = tuple(self._outside(v, raw.__code__) for v in raw.__defaults__)
                    if raw.__kwdefaults__:
                        defaults = {name: self.value(default) for name, default in raw.__kwdefaults__.items()}
                        translated.__kwdefaults__ = (translated.__kwdefaults__ or {}) | defaults

    def _method(self, kind: type, attribute: str, value: Any, free: dict[str, Any]) -> str | None:
        """Return the text of a translated method; None if the value is not a method, or the method did not run."""
        value = unwrapped(value)
        if isinstance(value, functools.cached_property):
            value = property(value.func)
        if isinstance(value, property):
            getter = value.fget and self._method_text(kind, value.fget, free)
            setter = value.fset and self._method_text(kind, value.fset, free)
            texts = [f"@property\n{getter}"] if getter else []
            texts += [f"@{attribute}.setter\n{setter}"] if setter and getter else []
            return "\n".join(texts) or None
        for wrapper, decorator in ((staticmethod, "@staticmethod\n"), (classmethod, "@classmethod\n")):
            if isinstance(value, wrapper):
                text = self._method_text(kind, unwrapped(value.__func__), free, static=wrapper is staticmethod)
                return text and decorator + text
        if isinstance(value, types.FunctionType):
            return self._method_text(kind, value, free, name=attribute)
        return None

    def _method_text(
        self, kind: type, function: Any, free: dict[str, Any], static: bool = False, name: str = ""
    ) -> str | None:
        raw = inspect.unwrap(function) if is_torchs_wrapper(function) else function
        recorded = self.space.recorded(raw)
        if recorded is None or not _ran(recorded):
            return None
        is_method = not static and issubclass(kind, torch.nn.Module)
        node = self.space.translate(raw, kind if is_method else None).node
        new_name = "__call__" if name == "forward" and is_method else name
        if name and isinstance(node, cst.Lambda):
            node = lambda_function(node, new_name)
        elif name and raw.__code__.co_name != name:  # assigned, or made by a decorator
            node = node.with_changes(name=cst.Name(new_name))
        for variable, cell in zip(raw.__code__.co_freevars, raw.__closure__ or (), strict=False):
            if variable == "__class__":
                continue
            unique_name = variable
            while unique_name in free and free[unique_name][0] is not cell.cell_contents:
                unique_name += "_"
            free[unique_name] = cell.cell_contents, raw.__code__
            node = node if unique_name == variable else ex.renamed(node, variable, unique_name)
        return ex.code(without_defaults(node).with_changes(leading_lines=[], lines_after_decorators=[])).strip("\n")


class FrozenList(list):
    """A hashable list, for graph definitions of NNX."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))


class FrozenDict(dict):
    """A hashable dict, for graph definitions of NNX."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))


def _holds_torchs(value: Any) -> bool:
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else (value,)
    kinds = (torch.Tensor, torch.nn.Module, torch.dtype, torch.Size)
    return any(isinstance(each, kinds) or (callable(each) and is_torchs(each)) for each in values)


def _holds_modules(value: Any) -> bool:
    """Whether a list, tuple or dict contains modules, such as a table from which constructors select."""
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return isinstance(value, torch.nn.Module) or any(map(_holds_modules, values))


def frozen(value: Any) -> Any:
    """Return a hashable copy of lists and dicts, which NNX requires for static attributes."""
    if type(value) is list:
        return FrozenList(map(frozen, value))
    if type(value) is tuple:
        return tuple(map(frozen, value))
    if type(value) in (dict, collections.OrderedDict):
        return FrozenDict((k, frozen(v)) for k, v in value.items())
    if type(value) is set:
        return frozenset(value)
    return value


def functions_in(value: Any) -> list[Any]:
    """Return the functions of a class member: a function, a static or class method, or a property."""
    if isinstance(value, property):
        return [f for f in (value.fget, value.fset) if f is not None]
    if isinstance(value, functools.cached_property):
        return [value.func]
    value = unwrapped(value.__func__ if isinstance(value, (staticmethod, classmethod)) else value)
    return [value] if isinstance(value, types.FunctionType) else []


def _is_class_attribute(name: str, value: Any) -> bool:
    if name.startswith("__") or name in ("_backward_cls", "dump_patches", "training", "call_super_init", "_abc_impl"):
        return False
    return not isinstance(value, (types.FunctionType, property, staticmethod, classmethod, types.MemberDescriptorType))


def is_torchs_wrapper(function: Any) -> bool:
    """Whether a function is torch's wrapper around a function of the user."""
    return hasattr(function, "__wrapped__") and _is_torchs_code(function)


def _is_torchs_code(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and "/torch/" in code.co_filename


def _ran(recorded: Any) -> bool:
    return any(site.hits for (what, _), site in recorded.sites.items() if what == "suite")


def lambda_function(node: Any, name: str) -> Any:
    """Return a function definition with the parameters and the body of a lambda."""
    function: Any = cst.parse_statement(f"def {name}(): return 0")
    body = function.body.with_changes(body=[cst.Return(node.body)])
    return function.with_changes(params=node.params, body=body)


def without_defaults(function: Any) -> Any:
    """Replace the defaults of a function by None. The mirror sets the defaults as objects."""
    params = function.params

    def cleared(each: Any) -> Any:
        return each.with_changes(default=cst.Name("None")) if each.default is not None else each

    lists = {name: [*map(cleared, getattr(params, name))] for name in ("params", "posonly_params", "kwonly_params")}
    return function.with_changes(params=params.with_changes(**lists))
