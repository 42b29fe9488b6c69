"""Record the calls of a torch module, and run the module again with some of these calls changed."""

import collections
import contextlib
import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from flaxnets.parity._torch import torch


class Key(NamedTuple):
    """Identify one call of a run: a call of a module, or a call of a function inside that call.

    ``visit`` counts the calls of the module, and ``ordinal`` the calls of the function in this visit.
    """

    module: str
    visit: int
    function: str = ""  # Empty for the call of the module.
    ordinal: int = 0


@dataclasses.dataclass(frozen=True)
class Original:
    """The call that a change replaces. Calling this object makes the unchanged call."""

    call: Callable[..., Any]
    module: torch.nn.Module  # The called module, or the module that calls the function.
    root: torch.nn.Module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make the unchanged call."""
        return self.call(*args, **kwargs)


Change = Callable[[Original, tuple, dict], Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Note:
    """A change that makes the unchanged call and stores its result or its first argument.

    Attributes:
        memory: the list that stores the tensor.
        is_input: whether to store the first argument instead of the result.
    """

    memory: list[torch.Tensor]
    is_input: bool = False

    def __call__(self, original: Original, args: tuple, kwargs: dict) -> Any:
        """Make the call."""
        if self.is_input:  # Store the argument before the call, because inner calls may read it.
            self.memory[:] = args[:1]
            return original(*args, **kwargs)
        self.memory[:] = [original(*args, **kwargs)]
        return self.memory[0]


Plan = Mapping[Key, Change]


@dataclasses.dataclass(frozen=True)
class Described:
    """Shape, dtype and fingerprint of a recorded tensor, and its name if the tensor is a parameter or buffer."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    name: str | None = None
    token: int = 0  # Equal for the same tensor object.
    fingerprint: tuple[float, ...] | None = None

    @property
    def is_float(self) -> bool:
        """Whether the tensor has a floating-point dtype."""
        return self.dtype.is_floating_point


@dataclasses.dataclass(frozen=True, eq=False)
class Site:
    """One recorded call.

    Attributes:
        key: identifier of the call.
        function: name of the function without outer underscores, or class name of the called module.
        args: positional arguments, with each tensor replaced by a :class:`Described`.
        kwargs: keyword arguments, with the same replacement.
        result: the result, with the same replacement.
        module: the called module, or the module that calls the function.
        depth: number of module calls around this call.
        leaf: whether ``module`` is a torch.nn module without submodules.
        training: whether this module is in training mode.
        target: the called function; None for the call of a module.
    """

    key: Key
    function: str
    args: tuple
    kwargs: dict[str, Any]
    result: Any
    module: torch.nn.Module
    depth: int
    leaf: bool
    training: bool
    target: Any = None

    @property
    def is_module(self) -> bool:
        """Whether this is the call of a module, not of a function."""
        return not self.key.function

    @property
    def where(self) -> str:
        """The name and type of the module, for messages."""
        kind = type(self.module).__name__
        return f"{self.key.module} ({kind})" if self.key.module else kind

    @property
    def input(self) -> Described | None:
        """The first tensor argument."""
        first = self.args[0] if self.args else next(iter(self.kwargs.values()), None)
        return first if isinstance(first, Described) else None

    @property
    def keeps_shape(self) -> bool:
        """Whether the result has the shape of the input, and the input is floating-point."""
        result, first = self.result, self.input
        return isinstance(result, Described) and first is not None and first.is_float and result.shape == first.shape


_ALIASES = {
    "radd": "add", "iadd": "add", "rmul": "mul", "imul": "mul", "multiply": "mul", "isub": "sub", "idiv": "div",
    "truediv": "div", "rtruediv": "rdiv", "itruediv": "div", "true_divide": "div", "divide": "div", "concat": "cat",
    "concatenate": "cat", "unsafe_chunk": "chunk", "max_pool1d_with_indices": "max_pool1d",
    "max_pool2d_with_indices": "max_pool2d", "max_pool3d_with_indices": "max_pool3d", "swapaxes": "transpose",
    "swapdims": "transpose", "movedim": "moveaxis", "clip": "clamp", "mm": "matmul", "bmm": "matmul",
    "native_dropout": "dropout", "special_softmax": "softmax",
}  # fmt: skip


def function_name(function: Any) -> str:
    """Return the name of a function without outer underscores, with one name for all spellings of an operator."""
    name = getattr(function, "__name__", "").strip("_")
    return _ALIASES.get(name, name)


# Functions that are not recorded: they read properties of a tensor, or compute no values.
_UNSEEN = {
    "get", "set", "set_", "dim", "size", "is_floating_point", "is_complex", "numel", "stride", "is_contiguous",
    "len", "bool", "set_grad_enabled", "has_compatible_shallow_copy_type", "ndimension", "item", "int", "index",
    "hash", "requires_grad", "is_grad_enabled", "get_device", "element_size", "type", "contiguous",
    "is_autocast_enabled", "iter", "repr", "format",
}  # fmt: skip
_FUNCTIONS_OF_FUNCTIONS = (torch.nn.functional.multi_head_attention_forward,)


class Watched:
    """A copy of a module that records the calls of its submodules and of torch functions, and can change these calls.

    In-place operations work on a copy of their argument, so that a changed call cannot overwrite values that a gradient
    needs. A module that ignores the result of an in-place operation needs ``is_out_of_place = False``.

    >>> from torch.nn import Linear, ReLU, Sequential
    >>> watched = Watched(Sequential(Linear(2, 2), ReLU()))
    >>> sites = watched.record(lambda module: module(torch.ones(1, 2)))
    >>> [site.function for site in sites]
    ['linear', 'Linear', 'relu', 'ReLU', 'Sequential']
    """

    def __init__(self, module: torch.nn.Module):
        self.module = copy.deepcopy(module)
        self._source = module
        self._plan: Plan = {}
        self._sites: list[Site] | None = None
        self._stack: list[tuple[str, int, collections.Counter[str], torch.nn.Module]] = []
        self._visits: collections.Counter[str] = collections.Counter()
        self._names: dict[int, str] = {}
        self._tokens: dict[int, tuple[int, Any]] = {}
        self._passive = False
        self.is_out_of_place = True
        self._mode = _Mode(self)
        for name, child in self.module.named_modules():
            child.__class__ = _reporting(type(child), name, self)
        self._versions = {name: p._version for name, p in self.module.named_parameters()}

    def record(self, run: Callable[[torch.nn.Module], Any]) -> list[Site]:
        """Run the unchanged module and return its calls in order of completion."""
        self._sites = []
        try:
            self.run(run, {})
            return self._sites
        finally:
            self._sites, self._tokens = None, {}

    def run(self, run: Callable[[torch.nn.Module], Any], plan: Plan) -> Any:
        """Run the module with changed calls. The function ``run`` may copy the module first."""
        self._plan = plan
        self._stack.clear()
        self._passive = False
        return run(self.module)

    def fresh(self) -> torch.nn.Module:
        """Restore the module to its state before the last run, which is faster than a copy, and return the module."""
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                if parameter._version != self._versions[name]:
                    parameter.copy_(self._source.get_parameter(name))
                    self._versions[name] = parameter._version
        for name, source in self._source.named_modules():
            # Outcomes of earlier runs still use the old buffers, so that the module gets new ones.
            module = self.module.get_submodule(name)
            module._buffers.update({k: b if b is None else b.clone() for k, b in source._buffers.items()})
        return self.module

    @contextlib.contextmanager
    def _at_rest(self) -> Iterator[None]:
        """Return a context in which calls are neither recorded nor changed, since a change may call layers itself."""
        before, self._passive = self._passive, True
        try:
            yield
        finally:
            self._passive = before

    def call_module(
        self, name: str, module: torch.nn.Module, call: Callable[..., Any], args: tuple, kwargs: dict
    ) -> Any:
        """Make one call of a module."""
        if self._passive:
            return call(*args, **kwargs)
        if not self._stack:
            self._visits.clear()
            self._names = {id(tensor): n for n, tensor in [*module.named_parameters(), *module.named_buffers()]}
            self._root = module
            with self._mode:  # This mode must be above the function modes of the caller.
                result = self._visit(name, module, call, args, kwargs)
            # Even under no_grad, a view of an input may require a gradient.
            return result if torch.is_grad_enabled() else pytree.tree_map(_detached, result)
        return self._visit(name, module, call, args, kwargs)

    def _visit(self, name: str, module: torch.nn.Module, call: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        visit = self._visits[name]
        self._visits[name] += 1

        def original(*args: Any, **kwargs: Any) -> Any:
            before, self._passive = self._passive, False
            self._stack.append((name, visit, collections.Counter(), module))
            try:
                return call(*args, **kwargs)
            finally:
                self._stack.pop()
                self._passive = before

        depth = len(self._stack)
        return self._make(Key(name, visit), type(module).__name__, (original, module, depth), args, kwargs)

    def call_function(self, function: Any, args: tuple, kwargs: dict) -> Any:
        """Make one call of a torch function."""
        name = function_name(function)
        if self._passive or not self._stack or not name or name in _UNSEEN:
            return function(*args, **kwargs)
        if function in _FUNCTIONS_OF_FUNCTIONS:
            with self._mode, mock.patch.object(torch.nn.functional, "has_torch_function", return_value=False):
                return function(*args, **kwargs)
        module_name, visit, counter, module = self._stack[-1]
        key = Key(module_name, visit, name, counter[name])
        counter[name] += 1
        if _is_in_place(function, kwargs) and isinstance(args[0], torch.Tensor) and id(args[0]) not in self._names:
            if self.is_out_of_place:
                function = _out_of_place(function)
            elif key in self._plan:
                with self._at_rest():
                    result = self._plan[key](Original(_out_of_place(function), module, self._root), args, kwargs)
                return args[0].copy_(result)
        return self._make(key, name, (function, module, len(self._stack)), args, kwargs)

    def _make(self, key: Key, name: str, what: tuple[Any, torch.nn.Module, int], args: tuple, kwargs: dict) -> Any:
        call, module, depth = what
        if key in self._plan:
            with self._at_rest():
                return self._plan[key](Original(call, module, self._root), args, kwargs)
        result = call(*args, **kwargs)
        if self._sites is not None:
            with self._at_rest():
                described = pytree.tree_map(self._describe, (args, dict(kwargs), result))
            training = module.training
            module = self.module.get_submodule(key.module)  # The running copy must be freed after the run.
            leaf = type(module).__module__.startswith("torch.nn.modules") and not any(True for _ in module.children())
            target = call if key.function else None
            site = Site(key, name, *described, module=module, depth=depth, leaf=leaf, training=training, target=target)
            self._sites.append(site)
        return result

    def _describe(self, leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        # The dict keeps the tensor alive during the recording, so that no other tensor can get its id.
        token, _ = self._tokens.setdefault(id(leaf), (len(self._tokens), leaf))
        prints = fingerprint(leaf.detach().numpy()) if leaf.is_floating_point() else None
        return Described(tuple(leaf.shape), leaf.dtype, self._names.get(id(leaf)), token, prints)


def fingerprint(array: np.ndarray) -> tuple[float, ...]:
    """Return statistics that are equal for arrays with the same values in any order; the last number is the scale."""
    if not array.size:
        return (0.0,) * 5
    values = array.astype(np.float64)
    return (
        float(values.mean()), float(np.sqrt((values**2).mean())), float(values.max()), float(values.min()),
        float(np.abs(values).max()),
    )  # fmt: skip


class _Mode(TorchFunctionMode):
    def __init__(self, watched: Watched):
        super().__init__()
        self.watched = watched

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.watched.call_function(func, args, kwargs or {})


def _reporting(kind: type, name: str, watched: Watched) -> type:
    """Return a subclass whose calls go through ``watched``."""

    called: Any = kind.__call__

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        return watched.call_module(name, self, functools.partial(called, self), args, kwargs)

    members: dict[str, Any] = {"__call__": __call__, "__module__": kind.__module__}
    if not name:
        # run_torch() copies the module before each run. For a small module, the copy takes longer than the run.
        members["__deepcopy__"] = lambda self, memo: watched.fresh()
    return type(kind.__name__, (kind,), members)


def _is_in_place(function: Any, kwargs: dict) -> bool:
    name = getattr(function, "__name__", "")
    return kwargs.get("inplace") is True or (name.endswith("_") and not name.endswith("__"))


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, torch.Tensor) else leaf


def _out_of_place(function: Any) -> Callable[..., Any]:
    def call(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        return function(tensor.clone(), *args, **kwargs)

    return call


def submodule_call(original: Original, name: str, *args: Any, **kwargs: Any) -> Any:
    """Call a submodule of the running copy inside a change."""
    return original.root.get_submodule(name)(*args, **kwargs)
