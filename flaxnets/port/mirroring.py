"""Rebuild a torch module object for object: torch's layers as their twins, the user's classes translated."""

import abc
import collections
import copy
import functools
import inspect
import operator
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from flaxnets import nn, ops
from flaxnets.port import expressions as ex
from flaxnets.port._torch import libcst as cst
from flaxnets.port._torch import torch
from flaxnets.port.closures import Closure, holds_state
from flaxnets.port.computed import class_before, computed_names, make_computed, twin
from flaxnets.port.errors import Refusal
from flaxnets.port.names import is_function_apply
from flaxnets.port.namespace import Namespace
from flaxnets.port.outcomes import array
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
from flaxnets.port.problems import layer_problem, tensor_problem, unwrapped
from flaxnets.port.recording import Recorder
from flaxnets.port.translation import function_text, is_torchs
from flaxnets.port.wrappers import Compiled, library_twin

_TORCHS_OWN = {
    "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "_is_full_backward_hook", "_version",
    "_flat_weights", "_flat_weight_refs", "_flat_weights_names", "_all_weights", "_reversed_padding_repeated_twice",
    "training", "call_super_init", "_compiled_call_impl", "_multirecipe", "_axes_lengths",
}  # fmt: skip


class FrozenList(list):
    """A list that a graph definition of NNX can hold."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))


class FrozenDict(dict):
    """A dict that a graph definition of NNX can hold."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))


class Mirror:
    """Makes Flax objects of torch's, each of them once.

    Args:
        recorder: what ran.
        model: the torch module.
    """

    def __init__(self, recorder: Recorder, model: torch.nn.Module):
        self.recorder, self.model = recorder, model
        self.paths = {id(module): path for path, module in model.named_modules()}
        self.space = Namespace(recorder)
        self.objects: dict[int, Any] = {}
        self.kept: list[Any] = []
        self.classes: dict[type, type] = {}
        self.classes_with_forward: dict[tuple[type, str], type] = {}
        self.functions: dict[int, Any] = {}

    def remember(self, original: Any, new: Any) -> Any:
        """Note what an object became; returns the new one."""
        self.objects[id(original)] = new
        self.kept.append(original)
        return new

    # Values.

    def value(self, value: Any) -> Any:
        """The counterpart of any object that a model's code can meet."""
        if id(value) in self.objects:
            return self.objects[id(value)]
        if isinstance(value, torch.nn.Module):
            return self.module(value)
        if isinstance(value, torch.Tensor):
            return self.remember(value, array(value))
        if isinstance(value, torch.dtype):
            return jnp.dtype(str(value).removeprefix("torch."))
        if isinstance(value, torch.Size):
            return tuple(value)
        if isinstance(value, torch.device):
            return None
        if isinstance(value, type):
            return self.cls(value)
        if isinstance(value, functools.partial):
            return self._partial(value)
        if isinstance(value, types.MethodType):
            return self._bound_method(value)
        value = unwrapped(value)
        if isinstance(value, (types.FunctionType, types.BuiltinFunctionType)):
            return self.function(value)
        return self._container(value)

    def _partial(self, value: functools.partial) -> Any:
        names = tuple(value.keywords)
        parts = [self.value(value.func), *map(self.value, value.args), *map(self.value, value.keywords.values())]

        def build(function: Any, *values: Any) -> Any:
            count = len(values) - len(names)
            return functools.partial(function, *values[:count], **dict(zip(names, values[count:], strict=True)))

        return _closed(build, parts)

    def _bound_method(self, value: types.MethodType) -> Any:
        owner = value.__self__
        if isinstance(owner, torch.nn.Module):
            name = "__call__" if value.__name__ == "forward" else value.__name__
            return Closure(operator.attrgetter(name), [self.module(owner)])
        if is_function_apply(value):
            return self.cls(owner).apply
        if self.is_translated(owner if isinstance(owner, type) else type(owner)):
            return getattr(self.value(owner), value.__name__)
        return types.MethodType(self.function(value.__func__), self.value(owner))

    def _container(self, value: Any) -> Any:
        if type(value) in (dict, collections.OrderedDict):
            return type(value)((self.value(k), self.value(v)) for k, v in list(value.items()))
        if self.is_translated(type(value)):
            return self._plain_object(value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(self.value, value))
        if type(value) in (list, tuple, set, frozenset, collections.deque):
            return type(value)(map(self.value, list(value)))  # to read an object may change what its library keeps
        return self._plain_object(value)

    # Functions.

    def function(self, function: Any) -> Any:
        """The translation of a function."""
        if id(function) in self.functions:
            return self.functions[id(function)]
        if is_torchs(function) and not _is_torchs_wrapper(function):
            text = function_text(function)
            return function if text is None else eval(text, self.space.globals)
        raw = inspect.unwrap(function) if _is_torchs_wrapper(function) else function
        if self.space.recorded(raw) is None:
            return function
        return self._translated(function, raw)

    def _translated(self, function: Any, raw: types.FunctionType) -> Any:
        name = self.space.name(raw, raw.__name__ if raw.__name__.isidentifier() else "function")

        def not_ready(*args: Any, **kwargs: Any) -> Any:
            return self.functions[id(function)](*args, **kwargs)

        self.functions[id(function)] = not_ready  # for functions that call themselves
        node = self.space.translate(raw, self.recorder.method_class(raw)).node
        cells = self._cells(raw)
        text = _definition(node, name, [n for n in raw.__code__.co_freevars])
        make = self.space.execute(text, raw.__qualname__, raw.__code__)["make"]
        defaults = [self.value(value) for value in raw.__defaults__ or ()]
        names = tuple(raw.__kwdefaults__ or ())
        keyword_defaults = [self.value(value) for value in (raw.__kwdefaults__ or {}).values()]

        def build(*parts: Any) -> Any:
            new = make(*parts[: len(cells)])
            values = parts[len(cells) :]
            new.__module__, new.__doc__ = raw.__module__, raw.__doc__  # which the code may read
            new.__defaults__ = values[: len(defaults)]
            new.__kwdefaults__ = (new.__kwdefaults__ or {}) | dict(zip(names, values[len(defaults) :], strict=True))
            return new

        new = _closed(build, [*cells, *defaults, *keyword_defaults])
        self.functions[id(function)] = self.functions[id(raw)] = new
        self.kept.append(function)
        self.space.globals[name] = new
        self.bind_globals()
        return new

    def _cells(self, raw: types.FunctionType) -> list[Any]:
        found = []
        for cell in raw.__closure__ or ():
            try:
                found.append(self.value(cell.cell_contents))
            except ValueError:
                found.append(None)
        return found

    def bind_globals(self) -> None:
        """Give every global name that a translation uses its value."""
        for value in list(self.space.kept):
            name = self.space.names[id(value)]
            if name not in self.space.globals:
                self.space.globals[name] = None  # against endless recursion
                self.space.globals[name] = self._outside(value, self._reader(value))

    def _reader(self, value: Any) -> types.CodeType | None:
        """The code of a function that reads a global object."""
        for code, recorded in self.recorder.recorded.items():
            for function in recorded.functions:
                if any(function.__globals__.get(name) is value for name in code.co_names):
                    return code
        return None

    def _outside(self, value: Any, code: types.CodeType | None) -> Any:
        """The counterpart of an object that a function or class finds outside of itself.

        A transformation of NNX makes new objects of the model's modules and parameters, which are not found there.
        """
        new = self.value(value)
        if holds_state(new) and self._is_of_model(value):
            path, line, name = (code.co_filename, code.co_firstlineno, code.co_name) if code else ("", 0, "")
            cause = f"{name} reads {_short(value)} of the model from outside of its arguments."
            self.space.refusals.append(
                Refusal(path, line, name, cause, "read it from self, or pass it as an argument.")
            )
        return new

    def _is_of_model(self, value: Any) -> bool:
        if isinstance(value, torch.nn.Module):
            return id(value) in self.paths
        if isinstance(value, torch.Tensor):
            return isinstance(self.objects.get(id(value)), nnx.Variable)
        if isinstance(value, (list, tuple, dict)):
            return any(map(self._is_of_model, value.values() if isinstance(value, dict) else value))
        return True

    # Classes.

    def cls(self, kind: Any) -> type:
        """The counterpart of a class."""
        if kind in self.classes:
            return self.classes[kind]
        if kind is torch.Tensor:
            return jax.Array
        if kind is torch.nn.Parameter:
            return nn.Parameter
        if kind is torch.nn.Module:
            return nn.Module
        if kind is torch.autograd.Function:
            return ops.Function
        if (wrapper := library_twin(kind)) is not None:
            return wrapper
        if issubclass(kind, torch.autograd.Function):
            return self._translated_class(kind)
        if not issubclass(kind, torch.nn.Module):
            return self._translated_class(kind) if self.is_translated(kind) else kind
        if is_torchs(kind):
            found = twin(kind)
            if found is None and kind.__name__ == "NonDynamicallyQuantizableLinear":
                found = nn.Linear
            return nn.Module if found is None else found
        return self._translated_class(kind)

    def _translated_class(self, kind: type) -> type:
        bases = [self.cls(base) if base is not object else object for base in kind.__bases__]
        if kind in self.classes:
            return self.classes[kind]
        name = self.space.name(kind, kind.__name__)
        members, definitions, free = {}, [], {}
        for attribute, value in vars(kind).items():
            text = self._method(kind, attribute, value, free)
            if text is not None:
                definitions.append(text)
            elif _is_class_attribute(attribute, value):
                members[attribute] = value
        if not issubclass(kind, (torch.nn.Module, torch.autograd.Function)):
            members, stubs = self._plain_members(kind)
            definitions += stubs
        body = "\n".join(definitions) or "pass"
        parameters = ", ".join([*(f"_base{i}" for i in range(len(bases))), *free])
        header = f"class {name}({', '.join(f'_base{i}' for i in range(len(bases)))}):"
        lines = "\n".join("        " + line for line in body.splitlines())
        text = f"def make({parameters}):\n    {header}\n{lines}\n    return {name}\n"
        outside = [self._outside(v, code) for v, code in free.values()]
        if kind in self.classes:  # made for what one of its bases or decorators reads
            return self.classes[kind]
        codes = [inspect.unwrap(f).__code__ for value in vars(kind).values() for f in _functions(value)]
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

    def is_translated(self, kind: type) -> bool:
        """Whether a class that is no module has methods that ran and met tensors, or holds functions that ran."""
        if not is_plain_class(kind):
            return False
        bases = plain_bases(kind)
        recorded = [self.space.recorded(function) for base in bases for _, function in functions_of(base)]
        methods = [r for r in recorded if r is not None and _ran(r)]
        if any(r.touches_tensors() for r in methods):
            return True
        return bool(methods) and any(self._holds_functions(value) for base in bases for value in vars(base).values())

    def _holds_functions(self, value: Any) -> bool:
        """Whether a list, tuple or dict holds functions that ran."""
        values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
        functions = [inspect.unwrap(each) for each in values if isinstance(each, types.FunctionType)]
        return any(r is not None and _ran(r) for r in map(self.space.recorded, functions))

    def _plain_members(self, kind: type) -> tuple[dict[str, Any], list[str]]:
        """Class attributes of a class that is no module, and methods in the place of those that did not run."""
        members, stubs = {}, []
        functions = {name: self.space.recorded(function) for name, function in functions_of(kind)}
        for name, value in vars(kind).items():
            recorded = functions.get(name)
            is_generated = name in functions and recorded is None  # such as a dataclass's
            if is_generated or is_kept_member(name) or (name in KEPT and name in functions):
                members[name] = value
            elif name not in functions and _is_class_attribute(name, value):
                members[name] = self.value(value)
            elif name in functions and recorded is not None and not _ran(recorded) and not is_independent(kind, value):
                decorator = "@property\n" if isinstance(value, property) else ""
                stubs.append(f"{decorator}def {name}(*args, **kwargs): ops.unreached({f'{kind.__name__}.{name}'!r})")
        return members, stubs

    def _plain_object(self, value: Any) -> Any:
        """An object of a class of the user's: of the translated class, and with counterparts of its attributes."""
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
        """Defaults of the methods, as objects."""
        for attribute, value in vars(kind).items():
            for function in _functions(value):
                raw = inspect.unwrap(function) if _is_torchs_wrapper(function) else function
                is_call = attribute == "forward" and issubclass(kind, torch.nn.Module)
                target = new.__dict__.get("__call__" if is_call else attribute)
                for translated in map(inspect.unwrap, _functions(target)):  # forward hooks wrap __call__
                    code = getattr(translated, "__code__", None)
                    if code is None or self.space.recorded(raw) is None:
                        continue
                    if raw.__defaults__:
                        translated.__defaults__ = tuple(self._outside(v, raw.__code__) for v in raw.__defaults__)
                    if raw.__kwdefaults__:
                        defaults = {name: self.value(default) for name, default in raw.__kwdefaults__.items()}
                        translated.__kwdefaults__ = (translated.__kwdefaults__ or {}) | defaults

    def _method(self, kind: type, attribute: str, value: Any, free: dict[str, Any]) -> str | None:
        """The text of a translated method; None for what is none, or did not run."""
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
        raw = inspect.unwrap(function) if _is_torchs_wrapper(function) else function
        recorded = self.space.recorded(raw)
        if recorded is None or not _ran(recorded):
            return None
        is_method = not static and issubclass(kind, torch.nn.Module)
        node = self.space.translate(raw, kind if is_method else None).node
        new_name = "__call__" if name == "forward" and is_method else name
        if name and isinstance(node, cst.Lambda):
            node = _lambda_function(node, new_name)
        elif name and raw.__code__.co_name != name:  # assigned, or made by a decorator
            node = node.with_changes(name=cst.Name(new_name))
        for variable, cell in zip(raw.__code__.co_freevars, raw.__closure__ or (), strict=False):
            if variable == "__class__":
                continue
            own = variable
            while own in free and free[own][0] is not cell.cell_contents:
                own += "_"
            free[own] = cell.cell_contents, raw.__code__
            node = node if own == variable else ex.renamed(node, variable, own)
        return ex.code(_without_defaults(node).with_changes(leading_lines=[], lines_after_decorators=[])).strip("\n")

    # Modules.

    def module(self, module: torch.nn.Module) -> Any:
        """The counterpart of a module, with all that is below it."""
        if id(module) in self.objects:
            return self.objects[id(module)]
        if not self.objects:
            self._all_variables(module)
        if self._is_refused(module):
            return self.remember(module, nn.Module())
        new = self.remember(module, _blank(self._class_of(module)))
        for name, parameter in module._parameters.items():
            new.register_parameter(name, None if parameter is None else self.objects[id(parameter)])
        for name, buffer in module._buffers.items():
            held = None if buffer is None else self.objects[id(buffer)]
            new.register_buffer(name, held, name not in module._non_persistent_buffers_set)
        for name, child in module._modules.items():
            new.add_module(name, None if child is None else self.module(child))
        computed = computed_names(module)
        for name, value in ({} if isinstance(new, Compiled) else vars(module)).items():
            if name not in _TORCHS_OWN and "hook" not in name and name not in computed and name != "forward":
                self._attribute(module, new, name, value)
        make_computed(module, new)
        object.__setattr__(new, "training", module.training)
        self._random_stream(module, new)
        return new

    def _class_of(self, module: torch.nn.Module) -> type:
        """The class for a module: one of its own where the constructor made another method its ``forward``."""
        kind, forward = self.cls(class_before(module)), vars(module).get("forward")
        if forward is None or kind is Compiled:
            return kind
        if getattr(forward, "__self__", None) is not module:
            place = self.recorder.place_of_module(self.model, self.paths.get(id(module), ""))
            fix = "override the method forward in a subclass, and use an instance of the subclass."
            self.space.refusals.append(Refusal(*place, "forward of this module is not a method of its own.", fix))
            return kind
        key = kind, forward.__name__
        if key not in self.classes_with_forward:

            def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
                return getattr(self, key[1])(*args, **kwargs)

            members = {"__call__": __call__, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
            self.classes_with_forward[key] = type(kind)(kind.__name__, (kind,), members)
        return self.classes_with_forward[key]

    def _all_variables(self, module: torch.nn.Module) -> None:
        """Make the variables of all parameters and buffers; one for all places that share it."""
        for each in module.modules():
            is_norm = isinstance(each, torch.nn.modules.batchnorm._NormBase)
            for parameter in each._parameters.values():
                self._variable(parameter, _parameter)
            for name, buffer in each._buffers.items():
                is_persistent = name not in each._non_persistent_buffers_set
                self._variable(buffer, functools.partial(_buffer, is_norm, is_persistent))

    def _variable(self, tensor: torch.Tensor | None, make: Callable[[torch.Tensor], nnx.Variable]) -> None:
        if tensor is not None and tensor_problem(tensor) is None and id(tensor) not in self.objects:
            self.remember(tensor, make(tensor))

    def _is_refused(self, module: torch.nn.Module) -> bool:
        """Whether a module has no counterpart; notes why."""
        path = self.paths.get(id(module), "")
        problem = layer_problem(module, path)
        if problem is not None:
            self.space.refusals.append(Refusal(*self.recorder.place_of_module(self.model, path), *problem))
            return True
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if (problem := tensor_problem(tensor)) is not None:
                place = self.recorder.place_of_module(self.model, path)
                self.space.refusals.append(Refusal(*place[:2], f"{path}.{name}".strip("."), *problem))
                return True
        return False

    def _attribute(self, module: Any, new: Any, name: str, value: Any) -> None:
        if is_torchs(type(module)) and isinstance(module, torch.nn.ParameterDict) and name == "_keys":
            value = tuple(value)
        if tensor_problem(value) is not None:
            return  # refused where it is read
        value = self.value(value)
        if isinstance(value, (dict, list, tuple)) and (holds_state(value) or nnx.has_data(value)):
            setattr(new, name, nnx.data(value))
            return
        if not isinstance(value, (jax.Array, nnx.Variable, nnx.Pytree)):
            try:
                hash(value := frozen(value))
            except TypeError:
                if name not in self.recorder.attributes_read:
                    return
                value = _hashable(value)
        setattr(new, name, value)

    def _random_stream(self, module: torch.nn.Module, new: Any) -> None:
        takes = "rngs" in inspect.signature(type(new).__init__).parameters and _has_stream(module)
        if takes or any(
            self.space.draws(f) for base in type(module).__mro__ for v in vars(base).values() for f in _functions(v)
        ):
            new.rngs = nnx.Rngs(len(self.kept)).dropout.fork()


def _closed(build: Callable[..., Any], parts: list[Any]) -> Any:
    """A function of its parts, which NNX sees if modules or variables are among them."""
    return Closure(build, parts) if any(map(holds_state, parts)) else build(*parts)


def _short(value: Any) -> str:
    kinds = {torch.nn.Module: "a module", torch.Tensor: "a parameter or buffer"}
    return next((word for kind, word in kinds.items() if isinstance(value, kind)), f"a {type(value).__name__}")


def _has_stream(module: torch.nn.Module) -> bool:
    if isinstance(module, (torch.nn.MultiheadAttention, torch.nn.RNNBase)):
        return module.dropout > 0
    if isinstance(module, (torch.nn.FractionalMaxPool2d, torch.nn.FractionalMaxPool3d)):
        return True
    return isinstance(module, (torch.nn.modules.dropout._DropoutNd, torch.nn.RReLU))


def _parameter(tensor: torch.Tensor) -> nnx.Variable:
    return nn.Parameter(array(tensor), requires_grad=tensor.requires_grad)


def _buffer(is_norm: bool, is_persistent: bool, tensor: torch.Tensor) -> nnx.Variable:
    value = array(tensor)
    return nnx.BatchStat(value) if is_norm else nn.Buffer(value, persistent=is_persistent)


def _holds_torchs(value: Any) -> bool:
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else (value,)
    kinds = (torch.Tensor, torch.nn.Module, torch.dtype, torch.Size)
    return any(isinstance(each, kinds) or (callable(each) and is_torchs(each)) for each in values)


def _blank(kind: type) -> Any:
    """An instance whose constructor did not run."""
    empty = type(kind)(kind.__name__, (kind,), {"__init__": lambda self: None})
    instance = empty()
    object.__setattr__(instance, "__class__", kind)
    return instance


def frozen(value: Any) -> Any:
    """Lists and dicts with a hash, as static attributes of NNX need."""
    if type(value) is list:
        return FrozenList(map(frozen, value))
    if type(value) is tuple:
        return tuple(map(frozen, value))
    if type(value) in (dict, collections.OrderedDict):
        return FrozenDict((k, frozen(v)) for k, v in value.items())
    if type(value) is set:
        return frozenset(value)
    return value


def _hashable(value: Any) -> Any:
    """The same object with a hash of its identity."""
    kind: Any = type(value)
    new = copy.copy(value)
    attributes = {"__hash__": object.__hash__, "__eq__": object.__eq__}
    new.__class__ = type(kind)(kind.__name__, (kind,), {"__module__": kind.__module__, **attributes})
    return new


def _functions(value: Any) -> list[Any]:
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


def _is_torchs_wrapper(function: Any) -> bool:
    return hasattr(function, "__wrapped__") and _is_torchs_code(function)


def _is_torchs_code(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and "/torch/" in code.co_filename


def _ran(recorded: Any) -> bool:
    return any(site.hits for (what, _), site in recorded.sites.items() if what == "suite")


def _lambda_function(node: Any, name: str) -> Any:
    """A function definition with the parameters and the body of a lambda."""
    function: Any = cst.parse_statement(f"def {name}(): return 0")
    body = function.body.with_changes(body=[cst.Return(node.body)])
    return function.with_changes(params=node.params, body=body)


def _without_defaults(function: Any) -> Any:
    """A function whose defaults are set later, as objects: their names may mean nothing where it is defined anew."""
    params = function.params

    def cleared(each: Any) -> Any:
        return each.with_changes(default=cst.Name("None")) if each.default is not None else each

    lists = {name: [*map(cleared, getattr(params, name))] for name in ("params", "posonly_params", "kwonly_params")}
    return function.with_changes(params=params.with_changes(**lists))


def _definition(node: Any, name: str, free: list[str]) -> str:
    """The text of a factory that makes a function."""
    if isinstance(node, cst.Lambda):
        node = _lambda_function(node, name)
    node = _without_defaults(node).with_changes(name=cst.Name(name), leading_lines=[], lines_after_decorators=[])
    lines = "\n".join("    " + line for line in ex.code(node).strip("\n").splitlines())
    return f"def make({', '.join(free)}):\n{lines}\n    return {name}\n"
