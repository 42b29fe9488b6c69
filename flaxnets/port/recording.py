"""Run a torch model with instrumented source, and record the objects that each place of the source uses."""

import contextlib
import functools
import importlib.util
import inspect
import os
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from flaxnets.port._torch import torch
from flaxnets.port.errors import Refusal
from flaxnets.port.hooks import tensors, watched_hooks
from flaxnets.port.instruments import HOOK, compile_instrumented
from flaxnets.port.lasting import Lasting
from flaxnets.port.noting import Notes
from flaxnets.port.plain_classes import READS_ATTRIBUTES
from flaxnets.port.problems import (
    unwrapped,
)
from flaxnets.port.sites import RecordedFunction, Site
from flaxnets.port.sources import FunctionSource
from flaxnets.port.untouched import copied, in_double, in_doubles, mapped, untouched

_STDLIB = sysconfig.get_paths()["stdlib"]
_FOREIGN = tuple(
    os.path.join(folder, "")
    for name in ("torch", "numpy", "jax", "flax", "einops", "libcst")
    if (found := importlib.util.find_spec(name)) is not None
    for folder in found.submodule_search_locations or ()
)


class Recorder(Notes):
    """Instrument functions when they are first called, and record the objects that their operations use.

    >>> recorder = Recorder()
    >>> len(recorder.recorded)
    0
    """

    slice = slice

    def __init__(self) -> None:
        self.recorded: dict[types.CodeType, RecordedFunction] = {}
        self.of_function: dict[int, RecordedFunction] = {}
        self.all_sites: list[Site] = []
        self.attributes_read: set[str] = set()
        self._changed: dict[int, tuple[types.FunctionType, types.CodeType, types.CodeType]] = {}
        self._stack: list[tuple[types.FrameType, set[tuple[str, str]], set[Any]]] = []
        self.variables: dict[int, torch.Tensor] = {}  # registered tensors that were read
        self._unreadable: set[int] = set()
        self.module_calls: dict[int, Site] = {}
        self.module_classes: dict[tuple[str, str], type] = {}  # of the model, by their names
        self._without_module: set[int] = set()  # functions that were called with a first argument that is no module
        self.other_refusals: list[Refusal] = []
        self.lasting = Lasting(torch.nn.Module())
        self._is_paused = False
        self.has_functions = False  # whether the model calls a torch.autograd.Function
        self._is_backward = False
        self._classes: set[type] = {int, float, str, bool, list, dict, tuple, torch.Tensor}
        self._nested: set[types.CodeType] = set()

    # Instrumenting functions.

    def is_user_code(self, function: types.FunctionType) -> bool:
        """Whether a function is the user's, and not defined by Python or torch."""
        return self.is_user_file(function.__code__.co_filename)

    def is_user_file(self, path: str) -> bool:
        """Whether a file belongs to the user, or to a library that builds on torch."""
        if path.startswith(_FOREIGN) or path.startswith("<frozen"):
            return False
        return not path.startswith(_STDLIB + os.sep) or "site-packages" in path

    def reach(self, callee: Any, force: bool = False) -> RecordedFunction | None:
        """Instrument a function of the user. Other objects are ignored.

        Args:
            callee: The function or method.
            force: Instrument functions of torch and other libraries, too.

        Returns:
            The record of the function; None if it is not instrumented.
        """
        callee = unwrapped(callee)
        with contextlib.suppress(ValueError):
            callee = inspect.unwrap(callee) if _is_torch_wrapper(callee) else callee
        function = getattr(callee, "__func__", callee)
        if not isinstance(function, types.FunctionType) or function.__name__ == READS_ATTRIBUTES:
            return None
        if id(function) in self.of_function:
            return self.of_function[id(function)]
        if id(function) in self._unreadable or not (force or self.is_user_code(function)):
            return None
        if HOOK in function.__code__.co_names:
            return None  # the function is defined in an instrumented function, and is already instrumented
        recorded = self._instrumented(function)
        if recorded is None:
            self._unreadable.add(id(function))
            return None
        self.of_function[id(function)] = recorded
        recorded.functions.append(function)
        self.lasting.reach(function)
        for name in function.__code__.co_names:  # functions that are passed as arguments, as in map(f, xs)
            value = function.__globals__.get(name)
            if isinstance(value, types.FunctionType):
                self.reach(value)
        return recorded

    def _instrumented(self, function: types.FunctionType) -> RecordedFunction | None:
        code = function.__code__
        if code not in self.recorded:
            try:
                recorded = RecordedFunction(FunctionSource(code))
                instrumented = compile_instrumented(self, recorded)
            except (OSError, SyntaxError):
                return None
            self.recorded[code] = recorded
            self._nested.update(_nested_codes(instrumented))
            self._codes = {**getattr(self, "_codes", {}), code: instrumented}
        instrumented = self._codes[code]
        if instrumented.co_freevars != code.co_freevars:
            return None
        self._changed[id(function)] = (function, code, instrumented)
        self._switch(function, instrumented)
        return self.recorded[code]

    def _switch(self, function: types.FunctionType, code: types.CodeType) -> None:
        function.__code__ = code
        function.__globals__[HOOK] = self

    def restore(self) -> None:
        """Restore the original code of all functions."""
        for function, code, _ in self._changed.values():
            function.__code__ = code
            function.__globals__.pop(HOOK, None)

    def resume(self) -> None:
        """Use the instrumented code of all known functions again."""
        for function, _, instrumented in self._changed.values():
            self._switch(function, instrumented)

    # Running a model.

    def run(self, model: torch.nn.Module, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        """Run the model in training and evaluation mode, in both precisions. Its state is restored afterwards."""
        self.lasting = Lasting(model)
        for function in [each for recorded in self.recorded.values() for each in recorded.functions]:
            self.lasting.reach(function)
        for module in model.modules():
            for base in type(module).__mro__:
                self.module_classes[base.__module__, base.__qualname__] = base
                for value in vars(base).values():
                    self._reach_member(value)
        for value in list(self.lasting.objects.values()):
            self.reach_class(type(value))
        self.resume()
        try:
            for training in (True, False):
                # Without this, compiled functions of torch.compile would run instead of the instrumented source.
                with untouched(model) as rewind, _eager():
                    model.train(training)
                    self._run_once(model, lambda: (copied(arguments), copied(keywords)), rewind)
                    self.lasting.compare_memos(lambda: _run_on_others(model, arguments, keywords, rewind))
                self.lasting.empty_memos()
                with untouched(model) as rewind, _eager():
                    model.train(training)
                    self.lasting.compare_memos(lambda: _run_on_others(model, arguments, keywords, rewind))
                self.lasting.empty_memos()
            self._run_in_double(model, lambda: model(*in_doubles(arguments), **in_doubles(keywords)))
        finally:
            self.restore()
            self._stack.clear()

    def _run_once(self, model: torch.nn.Module, example: Callable[[], Any], rewind: Callable[[], None]) -> None:
        def call() -> Any:
            args, kwargs = example()
            return model(*args, **kwargs)

        def again() -> Any:
            rewind()
            return call()

        self.lasting.begin()
        with watched_hooks(model, self) as hooks:
            outputs = call()
            self.lasting.finish(again, outputs)
            if hooks.has_backward or self.has_functions:
                # A model that cannot be differentiated has no backward pass to record.
                with contextlib.nullcontext() if hooks.has_backward else contextlib.suppress(RuntimeError):
                    self._run_backward(model, *example())
            self.other_refusals += hooks.finish()

    def _run_in_double(self, model: torch.nn.Module, call: Callable[[], Any]) -> None:
        """Run the model in float64, which shows the parts that compute in float32 regardless of their input.

        Errors are ignored: a model with unregistered tensors may not run in float64.
        """
        lasting, self.lasting = self.lasting, Lasting(model)
        self.lasting.objects |= lasting.objects
        self.lasting.begin()
        with contextlib.suppress(Exception), in_double(model), untouched(model), watched_hooks(model, self):
            model.eval()
            call()
        self.lasting.empty_memos()
        self.lasting = lasting

    def _run_backward(self, model: torch.nn.Module, arguments: Any, keywords: Any) -> None:
        """Run the backward pass: gradients of the parameters and of floating-point arguments."""
        sources: list[torch.Tensor] = [p for p in model.parameters() if p.requires_grad]

        def with_gradient(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or not value.is_floating_point():
                return value
            sources.append(value.requires_grad_())
            return value.clone()  # the model may change its input in place, which a leaf tensor does not allow

        self._is_backward = True
        try:
            args, kwargs = jax.tree.map(with_gradient, (arguments, keywords))
            outputs = tensors(model(*args, **kwargs))
            total = sum(t.abs().sum() for t in outputs if t.requires_grad)
            if isinstance(total, torch.Tensor):
                torch.autograd.grad(total, sources, allow_unused=True)
        finally:
            self._is_backward = False

    def _reach_member(self, value: Any) -> None:
        if isinstance(value, property):
            for function in (value.fget, value.fset):
                self.reach(function)
        if isinstance(value, functools.cached_property):
            self.reach(value.func)
        function = unwrapped(value.__func__ if isinstance(value, (staticmethod, classmethod)) else value)
        if isinstance(function, types.FunctionType) and function.__name__ != "__init__":
            self.reach(function)


def _run_on_others(model: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], rewind: Any) -> Any:
    """Run the model on inputs with other values than the example, and return the outputs."""

    def changed(tensor: torch.Tensor) -> torch.Tensor:
        flipped = tensor.detach().flip(-1) if tensor.ndim else tensor.detach().clone()
        return flipped * 1.5 if flipped.is_floating_point() else flipped

    rewind()
    with torch.no_grad():
        return model(*mapped(tuple(args), changed), **mapped(dict(kwargs), changed))


def _eager() -> contextlib.AbstractContextManager[Any]:
    """Return a context in which torch.compile does nothing. The compiler is not imported, which takes seconds."""
    is_used = "torch._dynamo" in sys.modules
    return torch.compiler.set_stance("force_eager") if is_used else contextlib.nullcontext()


def _nested_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _nested_codes(constant)


def _is_torch_wrapper(callee: Any) -> bool:
    code = getattr(callee, "__code__", None)
    return hasattr(callee, "__wrapped__") and code is not None and code.co_filename.startswith(_FOREIGN)
