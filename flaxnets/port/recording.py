"""Run a torch model once with instrumented source, and note what objects each place of the source met."""

import contextlib
import functools
import importlib.util
import inspect
import operator
import os
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from flaxnets.port._torch import torch
from flaxnets.port.bindings import bindings, storage
from flaxnets.port.errors import Refusal
from flaxnets.port.hooks import place, tensors, watched_hooks
from flaxnets.port.instruments import HOOK, compile_instrumented, in_place_operator
from flaxnets.port.lasting import Lasting
from flaxnets.port.names import is_function_apply, is_torchs
from flaxnets.port.plain_classes import READS_ATTRIBUTES, functions_of, plain_bases
from flaxnets.port.problems import (
    CHAINED,
    MEMBERSHIP,
    Problem,
    call_problem,
    changed_container,
    index_problem,
    repeated_index_problem,
    source_problem,
    tensor_problem,
    unwrapped,
)
from flaxnets.port.sites import RecordedFunction, Site, dtype_of, is_registered, kind, promotes_alike
from flaxnets.port.sources import FunctionSource
from flaxnets.port.untouched import copied, in_double, in_doubles, mapped, untouched

_STDLIB = sysconfig.get_paths()["stdlib"]
_FOREIGN = tuple(
    os.path.join(folder, "")
    for name in ("torch", "numpy", "jax", "flax", "einops", "libcst")
    if (found := importlib.util.find_spec(name)) is not None
    for folder in found.submodule_search_locations or ()
)


_JOINS = (torch.cat, torch.concat, torch.concatenate)


class Recorder:
    """Instruments functions when they are reached, and notes what their places meet.

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
        self._stack: list[tuple[types.FrameType, set[tuple[str, str]]]] = []
        self._unreadable: set[int] = set()
        self.module_calls: dict[int, Site] = {}
        self.module_classes: dict[tuple[str, str], type] = {}  # of the model, by their names
        self._without_module: set[int] = set()  # functions that were called with something else than a module first
        self.other_refusals: list[Refusal] = []
        self.lasting = Lasting(torch.nn.Module())
        self._is_paused = False
        self.has_functions = False  # of torch.autograd
        self._is_backward = False
        self._classes: set[type] = {int, float, str, bool, list, dict, tuple, torch.Tensor}
        self._nested: set[types.CodeType] = set()

    # Reaching functions.

    def is_user_code(self, function: types.FunctionType) -> bool:
        """Whether a function is the user's, and not one of Python's or of torch's."""
        return self.is_user_file(function.__code__.co_filename)

    def is_user_file(self, path: str) -> bool:
        """Whether a file is the user's, or of a library that builds on torch."""
        if path.startswith(_FOREIGN) or path.startswith("<frozen"):
            return False
        return not path.startswith(_STDLIB + os.sep) or "site-packages" in path

    def reach(self, callee: Any, force: bool = False) -> RecordedFunction | None:
        """Instrument a function of the user's; what is none stays as it is."""
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
            return None  # defined in an instrumented function, which notes what happens in it
        recorded = self._instrumented(function)
        if recorded is None:
            self._unreadable.add(id(function))
            return None
        self.of_function[id(function)] = recorded
        recorded.functions.append(function)
        self.lasting.reach(function)
        for name in function.__code__.co_names:  # functions that are passed on, as in map(f, xs)
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
        """Give all functions their code back."""
        for function, code, _ in self._changed.values():
            function.__code__ = code
            function.__globals__.pop(HOOK, None)

    def resume(self) -> None:
        """Instrument again what was reached before."""
        for function, _, instrumented in self._changed.values():
            self._switch(function, instrumented)

    # What the instrumented functions tell.

    def _site(self, number: int) -> Site:
        if self._is_paused:
            return Site()
        site = self.all_sites[number]
        site.hits += 1
        return site

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Note nothing in this context."""
        before, self._is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._is_paused = before

    def place_of_module(self, model: torch.nn.Module, path: str) -> tuple[str, int, str]:
        """Where the user's code calls a module, or what contains it."""
        places = {id(site): (r, span) for r in self.recorded.values() for (_, span), site in r.sites.items()}
        while path:
            site = self.module_calls.get(id(model.get_submodule(path)))
            if site is not None:
                recorded, span = places[id(site)]
                return recorded.source.path, span[0], recorded.source.text(span)
            path = path.rpartition(".")[0]
        return place(type(model).forward)

    def refusals(self) -> list[Refusal]:
        """The places that met what cannot be followed."""
        return self.other_refusals + [
            refusal
            for recorded in self.recorded.values()
            for (_, span), site in recorded.sites.items()
            for refusal in recorded.refusals(span, site)
        ]

    def ran(self, number: int) -> None:
        """A suite begins to run."""
        self._site(number)

    def attribute(self, number: int, value: Any, name: str) -> Any:
        """An attribute is read."""
        site, is_module = self._site(number), isinstance(value, torch.nn.Module)
        site.receivers.add(kind(value))
        if isinstance(value, torch.nn.Parameter):
            site.parameters.add(-1)
        self.reach_class(type(value))
        result = getattr(value, name)
        self.lasting.read(value, name, result)
        _add(site, tensor_problem(result))
        site.has_gradient |= isinstance(result, torch.Tensor) and result.requires_grad
        if is_module:
            self.attributes_read.add(name)
            site.owners.add(type(value))
            if is_registered(value, name):  # type: ignore[arg-type]
                site.results.add("variable")
                return result
        site.results.add(kind(result))
        if isinstance(result, (bool, torch.dtype)):
            site.outcomes.add(result)  # type: ignore[arg-type]
        return result

    def store(self, number: int, value: Any, name: str, reads: bool = False) -> Any:
        """An attribute is about to be set; ``reads`` if by an operator, from its value."""
        site = self._site(number)
        if not isinstance(value, torch.Tensor):
            self.lasting.store(value, name, site, reads)
        site.receivers.add(kind(value))
        if isinstance(value, torch.nn.Module):
            self.attributes_read.add(name)
            site.results.add("variable" if is_registered(value, name) else kind(getattr(value, name, None)))
            current = getattr(value, name) if reads else None
            if isinstance(current, torch.Tensor):
                site.has_gradient |= current.requires_grad
                site.changes.add(frozenset(self._changed_in_place(site, sys._getframe(1), current)))
        elif isinstance(value, torch.Tensor):
            site.has_gradient |= value.requires_grad
            site.changes.add(frozenset(self._changed_in_place(site, sys._getframe(1), value)))
        return value

    def subscript(self, number: int, value: Any, index: Any) -> Any:
        """An element is read."""
        site = self._site(number)
        site.receivers.add(kind(value))
        site.arguments.add(_index_kinds(index))
        self.reach_class(type(value))
        self.lasting.use(value)
        _add(site, index_problem(index))
        result = value[index]
        _add(site, tensor_problem(result))
        is_parameter = isinstance(value, torch.nn.Module) and isinstance(result, torch.nn.Parameter)
        site.results.add("variable" if is_parameter else kind(result))
        return result

    def store_item(self, number: int, symbol: str, value: Any, index: Any, new: Any) -> None:
        """An element is set, or changed by an operator."""
        site = self._site(number)
        site.receivers.add(kind(value))
        site.arguments.add(_index_kinds(index))
        self.lasting.change(value, site)
        _add(site, index_problem(index))
        if isinstance(value, torch.Tensor):
            _add(site, repeated_index_problem(index) if symbol else None)
            rank = getattr(index, "ndim", 0) if isinstance(index, torch.Tensor) else 0
            site.dtypes.add((dtype_of(value), dtype_of(new), str(value.ndim), str(rank), str(getattr(new, "ndim", 0))))
            site.changes.add(frozenset(self._changed_in_place(site, sys._getframe(1), value)))
        value[index] = in_place_operator(symbol)(value[index], new) if symbol else new

    def store_memo(self, number: int, symbol: str, value: Any, index: Any, new: Any) -> None:
        """An element is set that is looked up before."""
        site = self._site(number)
        if not self.lasting.remember(value, site):
            self.store_item(number, symbol, value, index, new)
            return
        site.receivers.add(kind(value))
        value[index] = new

    def store_into(self, number: int, value: Any) -> Any:
        """An element is about to be set, among other targets."""
        self._site(number).receivers.add(kind(value))
        return value

    def operator(self, number: int, symbol: str, left: Any, right: Any) -> Any:
        """A binary operator is applied."""
        site = self._site(number)
        result = getattr(operator, symbol)(left, right)
        self._note_operands(site, symbol, left, right, result)
        return result

    def in_place(self, number: int, symbol: str, left: Any, right: Any) -> Any:
        """An augmented assignment to a name."""
        site, before = self._site(number), dtype_of(left)
        result = in_place_operator(symbol)(left, right)
        self._note_operands(site, symbol, left, right, result)
        if isinstance(left, torch.Tensor) and result is left:
            site.dtypes.add((before, dtype_of(right), dtype_of(result)))
            site.changes.add(frozenset(self._changed_in_place(site, sys._getframe(1), left)))
        return result

    def _note_operands(self, site: Site, symbol: str, left: Any, right: Any, result: Any) -> None:
        site.arguments.add((kind(left), kind(right)))
        if isinstance(result, torch.Tensor):
            site.dtypes.add((dtype_of(left), dtype_of(right), dtype_of(result)))
            operands = [left, right, 1.0] if symbol == "truediv" else [left, right]
            site.is_plain &= promotes_alike(tuple(map(dtype_of, operands)), dtype_of(result))
            _add(site, tensor_problem(left) or tensor_problem(right) or tensor_problem(result))
        site.results.add(kind(result))

    def value(self, number: int, value: Any) -> Any:
        """An expression was computed."""
        site = self._site(number)
        site.results.add(kind(value))
        if isinstance(value, bool):
            site.outcomes.add(value)
        site.callees[:] = [value] if not isinstance(value, torch.Tensor) and not site.callees else site.callees
        return value

    def identity(self, number: int, value: Any) -> Any:
        """A value is about to be compared by ``is``."""
        self._site(number).results.add(kind(value))
        return value

    def membership(self, number: int, value: Any) -> Any:
        """A value is about to be looked for in a collection."""
        _add(self._site(number), MEMBERSHIP if isinstance(value, torch.Tensor) else None)
        return value

    def chain(self, number: int, value: Any) -> Any:
        """A value is compared with two others."""
        _add(self._site(number), CHAINED if isinstance(value, torch.Tensor) else None)
        return value

    def test(self, number: int, value: Any) -> Any:
        """A value is about to be tested."""
        site = self._site(number)
        site.on_tensor |= isinstance(value, torch.Tensor)
        site.outcomes.add(bool(value))
        return value

    def iterate(self, number: int, values: Any) -> Any:
        """A loop begins."""
        site = self._site(number)
        site.receivers.add(kind(values))
        self.reach_class(type(values))
        self.lasting.use(values)
        return _Noting(site, values)

    def call(self, number: int, function: Any, *arguments: Any, **keywords: Any) -> Any:
        """A call; runs it."""
        site, frame = self._site(number), sys._getframe(1)
        callee = function = unwrapped(function)  # a cache would hide what it calls
        while isinstance(callee, functools.partial):
            callee = callee.func
        if not any(_same(known, callee) for known in site.callees):
            site.callees.append(callee)
        self._reach_callee(callee)
        self._note_callee(site, callee, arguments, keywords)
        site.arguments.add(tuple(map(kind, arguments)))
        if self._is_backward and is_function_apply(callee):
            arguments = tuple(map(_with_gradient, arguments))  # so that backward computes all gradients
        receiver = getattr(function, "__self__", None)
        given: dict[int | str, Any] = {-1: receiver, **dict(enumerate(arguments)), **keywords}
        tensors = {key: value for key, value in given.items() if isinstance(value, torch.Tensor)}
        site.parameters |= {key for key, value in tensors.items() if isinstance(value, torch.nn.Parameter)}
        self._reach_arguments(site, given)
        versions = {key: _version(tensor) for key, tensor in tensors.items()}
        changed: set[tuple[str, str]] = set()
        self._stack.append((frame, changed))
        try:
            result = function(*arguments, **keywords)
        finally:
            self._stack.pop()
        _add(site, call_problem(callee, arguments, keywords, result))
        if isinstance(result, bool):
            site.outcomes.add(result)
        if callee is isinstance and result:
            site.matched |= {
                kind for kind in _classes(arguments[1]) if is_torchs(kind) and isinstance(arguments[0], kind)
            }
        is_method = isinstance(receiver, torch.Tensor)
        shown = (
            {0: receiver, **{i + 1: a for i, a in enumerate(arguments)}} if is_method else dict(enumerate(arguments))
        )
        site.note_kinds({**shown, **keywords})
        self._note_dtypes(site, [*shown.values(), *keywords.values()], result)
        if (
            any(callee is each for each in _JOINS)
            and len({part.ndim for part in next(iter([*arguments, *keywords.values()]))}) > 1
        ):
            site.is_plain = False  # torch leaves empty vectors out
        self._note_result(site, result, tensors)
        for key, tensor in tensors.items():
            if _version(tensor) != versions[key]:
                site.mutated.add(key)
                site.dtypes.add((dtype_of(tensor), *(dtype_of(a) for a in arguments[:1])))
                changed |= self._changed_in_place(site, frame, tensor)
        if changed:
            site.changes.add(frozenset(changed))
        return result

    def method_class(self, function: Any) -> type | None:
        """The module class of a method that a decorator hides, and that is called as a function of the module."""
        if not isinstance(function, types.FunctionType) or id(function) in self._without_module:
            return None
        return self.module_classes.get((function.__module__, function.__qualname__.rpartition(".")[0]))

    def _note_callee(self, site: Site, callee: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        if isinstance(callee, torch.nn.Module) and not self._is_paused:
            self.module_calls.setdefault(id(callee), site)
        if isinstance(callee, types.FunctionType) and not isinstance(next(iter(arguments), None), torch.nn.Module):
            self._without_module.add(id(callee))
        self.lasting.use(getattr(callee, "__self__", None))
        container = changed_container(callee)
        is_memo = getattr(callee, "__name__", "") == "setdefault" and self.lasting.remember(container, site)
        if container is not None and not is_memo:
            self.lasting.change(container, site)
        if (callee is setattr or callee is getattr) and len(arguments) > 1:
            owner, name = arguments[:2]
            if callee is setattr and not isinstance(owner, torch.Tensor):
                self.lasting.store(owner, name, site)
            elif callee is getattr:
                self.lasting.read(owner, name, None)
        _add(site, source_problem(callee, self._is_known, [*arguments, *keywords.values()]))

    def _is_known(self, function: types.FunctionType) -> bool:
        if function.__name__ == READS_ATTRIBUTES:
            return True
        for each in (function, inspect.unwrap(function)):  # a decorator of the user's is followed itself
            if not isinstance(each, types.FunctionType) or not self.is_user_code(each):
                return True
            if id(each) in self.of_function or each.__code__ in self._nested:
                return True
        return False

    def _note_dtypes(self, site: Site, operands: Sequence[Any], result: Any) -> None:
        tensors = [o for value in operands for o in (value if isinstance(value, (list, tuple)) else [value])]
        dtypes = [dtype_of(t) for t in tensors if isinstance(t, (torch.Tensor, float))]
        if isinstance(result, torch.Tensor) and dtypes:
            site.is_plain &= promotes_alike(tuple(sorted(set(dtypes))), dtype_of(result))

    def _note_result(self, site: Site, result: Any, tensors: Mapping[int | str, torch.Tensor]) -> None:
        is_registered = isinstance(result, torch.nn.Parameter) and not tensors
        site.results.add("variable" if is_registered else kind(result))
        if isinstance(result, torch.Tensor):
            site.returned.add(next((key for key, tensor in tensors.items() if tensor is result), None))
        else:
            site.returned.add(None)

    def _reach_callee(self, callee: Any) -> None:
        if is_function_apply(callee):
            self.has_functions = True
            for name in ("forward", "setup_context", "backward"):
                self.reach(getattr(callee.__self__, name))
        if isinstance(callee, torch.nn.Module):
            return  # methods of modules are instrumented from the beginning
        if isinstance(callee, (types.FunctionType, types.MethodType)):
            self.reach(callee)
        elif isinstance(callee, type):
            self.reach_class(callee)
            if isinstance(callee.__init__, types.FunctionType):
                self.reach(callee.__init__)
            if isinstance(callee.__new__, types.FunctionType):
                self.reach(callee.__new__)
        elif isinstance(inspect.getattr_static(type(callee), "__call__", None), types.FunctionType):
            self.reach(type(callee).__call__)

    def reach_class(self, kind: type) -> None:
        """Reach all methods of a class of the user's that is no module."""
        if kind in self._classes:
            return
        self._classes.add(kind)
        for base in plain_bases(kind):
            for _, function in functions_of(base):
                self.reach(function)

    def _reach_arguments(self, site: Site, given: Mapping[int | str, Any]) -> None:
        """Reach what a callee may call: functions, methods and classes among its arguments."""
        for key, value in given.items():
            while isinstance(value, functools.partial):
                value = value.func
            if key != -1 and isinstance(value, (types.FunctionType, types.MethodType, type)):
                site.passed[key] = value
                self._reach_callee(value)

    def _changed_in_place(
        self, site: Site, frame: types.FrameType | None, tensor: torch.Tensor
    ) -> set[tuple[str, str]]:
        """The bindings of what was changed in this function; those in the functions that called it are noted there."""
        self.lasting.change_tensor(storage(tensor), site)
        for each, changed in self._stack:
            changed |= bindings(each, tensor)
        return bindings(frame, tensor)

    # Running a model.

    def run(self, model: torch.nn.Module, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        """Run the model in training and in evaluation mode, in both precisions; its state is afterwards as before."""
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
                # Where torch.compile is used, its result would run, and not the source.
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
                # A model that cannot be differentiated has no gradient to record.
                with contextlib.nullcontext() if hooks.has_backward else contextlib.suppress(RuntimeError):
                    self._run_backward(model, *example())
            self.other_refusals += hooks.finish()

    def _run_in_double(self, model: torch.nn.Module, call: Callable[[], Any]) -> None:
        """In float64 what a model computes in float32 shows; a model with tensors of its own may not run so."""
        lasting, self.lasting = self.lasting, Lasting(model)
        self.lasting.objects |= lasting.objects
        self.lasting.begin()
        with contextlib.suppress(Exception), in_double(model), untouched(model), watched_hooks(model, self):
            model.eval()
            call()
        self.lasting.empty_memos()
        self.lasting = lasting

    def _run_backward(self, model: torch.nn.Module, arguments: Any, keywords: Any) -> None:
        """Compute gradients: of the parameters, and of arguments that are floating-point numbers."""
        sources: list[torch.Tensor] = [p for p in model.parameters() if p.requires_grad]

        def with_gradient(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or not value.is_floating_point():
                return value
            sources.append(value.requires_grad_())
            return value.clone()  # which the model may change

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
    """The outputs for other inputs than the example, of the same shapes."""

    def changed(tensor: torch.Tensor) -> torch.Tensor:
        flipped = tensor.detach().flip(-1) if tensor.ndim else tensor.detach().clone()
        return flipped * 1.5 if flipped.is_floating_point() else flipped

    rewind()
    with torch.no_grad():
        return model(*mapped(tuple(args), changed), **mapped(dict(kwargs), changed))


def _eager() -> contextlib.AbstractContextManager[Any]:
    """A context in which torch.compile does nothing; to import the compiler for this takes seconds."""
    is_used = "torch._dynamo" in sys.modules
    return torch.compiler.set_stance("force_eager") if is_used else contextlib.nullcontext()


class _Noting:
    """An iterable that notes the kinds of its items."""

    def __init__(self, site: Site, values: Any):
        self._site, self._values = site, values

    def __iter__(self) -> Iterator[Any]:
        for item in self._values:
            parts = item if isinstance(item, tuple) else (item,)
            self._site.arguments.add(
                tuple("parameter" if isinstance(p, torch.nn.Parameter) else kind(p) for p in parts)
            )
            yield item


def _with_gradient(value: Any) -> Any:
    is_constant = isinstance(value, torch.Tensor) and value.is_floating_point() and not value.requires_grad
    return value.detach().clone().requires_grad_() if is_constant else value


def _nested_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _nested_codes(constant)


def _add(site: Site, problem: Problem | None) -> None:
    if problem is not None:
        site.problems.add(problem)


def _is_torch_wrapper(callee: Any) -> bool:
    code = getattr(callee, "__code__", None)
    return hasattr(callee, "__wrapped__") and code is not None and code.co_filename.startswith(_FOREIGN)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, types.MethodType) and isinstance(b, types.MethodType):
        return a.__func__ is b.__func__
    bound = (types.BuiltinMethodType, types.MethodWrapperType)
    if isinstance(a, bound) and isinstance(b, bound):
        return a.__name__ == b.__name__ and type(a.__self__) is type(b.__self__)
    return a is b


def _index_kinds(index: Any) -> tuple[str, ...]:
    def one(part: Any) -> str:
        if isinstance(part, torch.Tensor):
            return "mask" if part.dtype in (torch.bool, torch.uint8) else "tensor" if part.ndim else "scalar tensor"
        return kind(part)

    return tuple(map(one, index)) if isinstance(index, tuple) else (one(index),)


def _classes(kinds: Any) -> Iterator[type]:
    """The classes in the second argument of ``isinstance``."""
    if isinstance(kinds, (tuple, types.UnionType)):
        for each in kinds if isinstance(kinds, tuple) else kinds.__args__:
            yield from _classes(each)
    elif isinstance(kinds, type):
        yield kinds


def _version(tensor: torch.Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
