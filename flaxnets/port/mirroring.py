"""Rebuild a torch module object by object: torch's layers become flaxnets layers, user classes are translated."""

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

from flaxnets import nn
from flaxnets.port import expressions as ex
from flaxnets.port._torch import libcst as cst
from flaxnets.port._torch import torch
from flaxnets.port.closures import Closure, holds_state
from flaxnets.port.computed import class_before, computed_names, make_computed
from flaxnets.port.errors import Refusal
from flaxnets.port.mirrored_classes import (
    ClassMirror,
    frozen,
    functions_in,
    is_torchs_wrapper,
    lambda_function,
    without_defaults,
)
from flaxnets.port.names import function_text, is_function_apply, is_torchs
from flaxnets.port.namespace import Namespace
from flaxnets.port.outcomes import array
from flaxnets.port.problems import layer_problem, tensor_problem, unwrapped
from flaxnets.port.recording import Recorder
from flaxnets.port.wrappers import Compiled

_TORCHS_OWN = {
    "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "_is_full_backward_hook", "_version",
    "_flat_weights", "_flat_weight_refs", "_flat_weights_names", "_all_weights", "_reversed_padding_repeated_twice",
    "training", "call_super_init", "_compiled_call_impl", "_multirecipe", "_axes_lengths",
}  # fmt: skip


class Mirror(ClassMirror):
    """Make the Flax counterpart of each torch object, once per object.

    Args:
        recorder: The recorder of the model's runs.
        model: The torch module.
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
        """Store the counterpart of an object, and return it."""
        self.objects[id(original)] = new
        self.kept.append(original)
        return new

    # Values.

    def value(self, value: Any) -> Any:
        """Return the counterpart of any object that the model's code can use."""
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
            return type(value)(map(self.value, list(value)))  # a copy: reading an object can change the container
        return self._plain_object(value)

    # Functions.

    def function(self, function: Any) -> Any:
        """Return the translation of a function."""
        if id(function) in self.functions:
            return self.functions[id(function)]
        if is_torchs(function) and not is_torchs_wrapper(function):
            text = function_text(function)
            return function if text is None else eval(text, self.space.globals)
        raw = inspect.unwrap(function) if is_torchs_wrapper(function) else function
        if self.space.recorded(raw) is None:
            return function
        return self._translated(function, raw)

    def _translated(self, function: Any, raw: types.FunctionType) -> Any:
        name = self.space.name(raw, raw.__name__ if raw.__name__.isidentifier() else "function")

        def not_ready(*args: Any, **kwargs: Any) -> Any:
            return self.functions[id(function)](*args, **kwargs)

        self.functions[id(function)] = not_ready  # for recursive functions
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
            new.__module__, new.__doc__ = raw.__module__, raw.__doc__  # the code may read these
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
        contents = []
        for cell in raw.__closure__ or ():
            try:
                contents.append(self.value(cell.cell_contents))
            except ValueError:
                contents.append(None)
        return contents

    def bind_globals(self) -> None:
        """Assign the value of each global name that translated code uses."""
        for value in list(self.space.kept):
            name = self.space.names[id(value)]
            if name not in self.space.globals:
                self.space.globals[name] = None  # prevents endless recursion
                self.space.globals[name] = self._outside(value, self._reader(value))

    def _reader(self, value: Any) -> types.CodeType | None:
        """Return the code of a function that reads a global object; None if there is none."""
        for code, recorded in self.recorder.recorded.items():
            for function in recorded.functions:
                if any(function.__globals__.get(name) is value for name in code.co_names):
                    return code
        return None

    def _outside(self, value: Any, code: types.CodeType | None) -> Any:
        """Return the counterpart of an object that a function or class reads from an outer scope.

        Modules and parameters of the model are refused: NNX transformations replace them by new objects, but not in
        outer scopes.
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

    # Modules.

    def module(self, module: torch.nn.Module) -> Any:
        """Return the counterpart of a module, with its submodules."""
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
            variable = None if buffer is None else self.objects[id(buffer)]
            new.register_buffer(name, variable, name not in module._non_persistent_buffers_set)
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
        """Return the class for a module. A module whose constructor replaced ``forward`` gets a subclass."""
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
        """Make the variables of all parameters and buffers, one variable for each shared tensor."""
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
        """Whether a module has no counterpart. Adds the refusal."""
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
            return  # the place that reads the tensor is refused
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
            self.space.draws(f) for base in type(module).__mro__ for v in vars(base).values() for f in functions_in(v)
        ):
            new.rngs = nnx.Rngs(len(self.kept)).dropout.fork()


def _closed(build: Callable[..., Any], parts: list[Any]) -> Any:
    """Build a function of its parts: a :class:`Closure` if the parts contain modules or variables."""
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


def _blank(kind: type) -> Any:
    """Create an instance without running the constructor."""
    empty = type(kind)(kind.__name__, (kind,), {"__init__": lambda self: None})
    instance = empty()
    object.__setattr__(instance, "__class__", kind)
    return instance


def _hashable(value: Any) -> Any:
    """Return a copy of the object that is hashed and compared by identity."""
    kind: Any = type(value)
    new = copy.copy(value)
    attributes = {"__hash__": object.__hash__, "__eq__": object.__eq__}
    hashable = type(kind)(kind.__name__, (kind,), {"__module__": kind.__module__, **attributes})
    object.__setattr__(new, "__class__", hashable)  # also works for a frozen dataclass
    return new


def _definition(node: Any, name: str, free: list[str]) -> str:
    """Return the text of a factory ``make`` that returns the function; its parameters are the free variables."""
    if isinstance(node, cst.Lambda):
        node = lambda_function(node, name)
    node = without_defaults(node).with_changes(name=cst.Name(name), leading_lines=[], lines_after_decorators=[])
    lines = "\n".join("    " + line for line in ex.code(node).strip("\n").splitlines())
    return f"def make({', '.join(free)}):\n{lines}\n    return {name}\n"
