"""Callbacks of instrumented functions: record objects, calls and changes. A part of the recorder."""

import contextlib
import functools
import inspect
import operator
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch.nn.utils import parametrize

from flaxnets.port._torch import torch
from flaxnets.port.bindings import bindings, storage
from flaxnets.port.computed import computed_names
from flaxnets.port.errors import Refusal
from flaxnets.port.hooks import place
from flaxnets.port.instruments import in_place_operator
from flaxnets.port.names import inner_function, is_function_apply, is_torchs
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
from flaxnets.port.sites import Site, dtype_of, is_registered, kind, promotes_alike

_JOINS = (torch.cat, torch.concat, torch.concatenate)


class Notes:
    """Record the objects that each place of the source uses."""

    # Attributes and methods that the recorder defines.
    _classes: Any
    _is_backward: Any
    _is_paused: Any
    _nested: Any
    _stack: Any
    _without_module: Any
    all_sites: Any
    attributes_read: Any
    has_functions: Any
    is_user_code: Any
    lasting: Any
    module_calls: Any
    module_classes: Any
    of_function: Any
    other_refusals: Any
    reach: Any
    recorded: Any
    variables: Any

    # Callbacks of the instrumented functions.

    def _site(self, number: int) -> Site:
        if self._is_paused:
            return Site()
        site = self.all_sites[number]
        site.hits += 1
        return site

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Record nothing in this context."""
        before, self._is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._is_paused = before

    def place_of_module(self, model: torch.nn.Module, path: str) -> tuple[str, int, str]:
        """Return the place in the user's code that calls a module, or the closest module around it that is called."""
        places = {id(site): (r, span) for r in self.recorded.values() for (_, span), site in r.sites.items()}
        while path:
            site = self.module_calls.get(id(model.get_submodule(path)))
            if site is not None:
                recorded, span = places[id(site)]
                return recorded.source.path, span[0], recorded.source.text(span)
            path = path.rpartition(".")[0]
        return place(type(model).forward)

    def refusals(self) -> list[Refusal]:
        """Return the refusals of all places."""
        return self.other_refusals + [
            refusal
            for recorded in self.recorded.values()
            for (_, span), site in recorded.sites.items()
            for refusal in recorded.refusals(span, site)
        ]

    def ran(self, number: int) -> None:
        """Record that a block begins to run."""
        self._site(number)

    def attribute(self, number: int, value: Any, name: str) -> Any:
        """Read an attribute."""
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
                self.variables[id(result)] = result
                return result
            owner: Any = value
            if isinstance(result, torch.Tensor) and (
                name in computed_names(owner) or parametrize.is_parametrized(owner, name)
            ):
                site.results.add("computed")
        site.results.add(kind(result))
        if isinstance(result, (bool, torch.dtype)):
            site.outcomes.add(result)  # type: ignore[arg-type]
        return result

    def store(self, number: int, value: Any, name: str, reads: bool = False) -> Any:
        """Record that an attribute is about to be set. ``reads``: by an augmented assignment, from its old value."""
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
        """Read an element."""
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
        """Set an element, or change it by an operator."""
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
        """Set an element of a dict that may be a cache: the function looks up the same key before."""
        site = self._site(number)
        if not self.lasting.remember(value, site):
            self.store_item(number, symbol, value, index, new)
            return
        site.receivers.add(kind(value))
        value[index] = new

    def store_into(self, number: int, value: Any) -> Any:
        """Record that an element is about to be set, as one of several targets."""
        self._site(number).receivers.add(kind(value))
        return value

    def operator(self, number: int, symbol: str, left: Any, right: Any) -> Any:
        """Apply a binary operator."""
        site = self._site(number)
        result = getattr(operator, symbol)(left, right)
        self._note_operands(site, symbol, left, right, result)
        return result

    def in_place(self, number: int, symbol: str, left: Any, right: Any) -> Any:
        """Apply the operator of an augmented assignment to a name."""
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
        """Record the value of an expression."""
        site = self._site(number)
        site.results.add(kind(value))
        if isinstance(value, bool):
            site.outcomes.add(value)
        site.callees[:] = [value] if not isinstance(value, torch.Tensor) and not site.callees else site.callees
        return value

    def identity(self, number: int, value: Any) -> Any:
        """Record a value that is about to be compared by ``is``."""
        self._site(number).results.add(kind(value))
        return value

    def membership(self, number: int, value: Any) -> Any:
        """Record a value that is about to be searched in a collection by ``in``."""
        _add(self._site(number), MEMBERSHIP if isinstance(value, torch.Tensor) else None)
        return value

    def chain(self, number: int, value: Any) -> Any:
        """Record a value of a chained comparison."""
        _add(self._site(number), CHAINED if isinstance(value, torch.Tensor) else None)
        return value

    def test(self, number: int, value: Any) -> Any:
        """Record a value that is about to be tested for truth."""
        site = self._site(number)
        site.on_tensor |= isinstance(value, torch.Tensor)
        site.outcomes.add(bool(value))
        return value

    def iterate(self, number: int, values: Any) -> Any:
        """Record that a loop begins, and return an iterable that records its items."""
        site = self._site(number)
        site.receivers.add(kind(values))
        self.reach_class(type(values))
        self.lasting.use(values)
        return _Noting(site, values)

    def call(self, number: int, function: Any, *arguments: Any, **keywords: Any) -> Any:
        """Run a call, and record callee, arguments, result and changed tensors."""
        site, frame = self._site(number), sys._getframe(1)
        callee = function = unwrapped(function)  # functools.cache would skip the call inside
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
        operands: dict[int | str, Any] = {-1: receiver, **dict(enumerate(arguments)), **keywords}
        tensors = {key: value for key, value in operands.items() if isinstance(value, torch.Tensor)}
        site.parameters |= {key for key, value in tensors.items() if isinstance(value, torch.nn.Parameter)}
        self._reach_arguments(site, operands)
        versions = {key: _version(tensor) for key, tensor in tensors.items()}
        changed: set[tuple[str, str]] = set()
        memories: set[Any] = set()  # storages of changed tensors; tensor.data does not share the version counter
        self._stack.append((frame, changed, memories))
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
            site.is_plain = False  # torch ignores empty vectors, JAX does not
        self._note_result(site, result, tensors)
        for key, tensor in tensors.items():
            if _version(tensor) != versions[key] or storage(tensor) in memories:
                site.mutated.add(key)
                site.dtypes.add((dtype_of(tensor), *(dtype_of(a) for a in arguments[:1])))
                changed |= self._changed_in_place(site, frame, tensor)
        if changed:
            site.changes.add(frozenset(changed))
        self._note_parameters(site, callee, operands)
        return result

    def _note_parameters(self, site: Site, callee: Any, operands: Mapping[int | str, Any]) -> None:
        """Record the tensors in the arguments of a user's function, and the parameters whose tensors it changed."""
        recorded = self.of_function.get(id(inner_function(callee)))
        if recorded is None:
            return
        names = recorded.source.parameters
        offset = isinstance(callee, types.MethodType)
        named = {
            key: names[key + offset] if isinstance(key, int) else key
            for key in operands
            if isinstance(key, str) or 0 <= key < len(names) - offset
        }
        tensors = {name: operands[key] for key, name in named.items() if isinstance(operands[key], torch.Tensor)}
        recorded.note_arguments(tensors, self.variables)
        recorded.changed |= {named[key] for key in site.mutated if key in named and named[key] in tensors}

    def method_class(self, function: Any) -> type | None:
        """Return the module class of a decorated method; None for other functions.

        A method that was called with something else than a module as the first argument is another function.
        """
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
        for each in (function, inspect.unwrap(function)):  # decorators of the user's code are instrumented, too
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
            return  # methods of modules are instrumented before the run
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
        """Instrument all methods of a user's class that is not a module."""
        if kind in self._classes:
            return
        self._classes.add(kind)
        for base in plain_bases(kind):
            for _, function in functions_of(base):
                self.reach(function)

    def _reach_arguments(self, site: Site, operands: Mapping[int | str, Any]) -> None:
        """Instrument the functions, methods and classes among the arguments, which the callee may call."""
        for key, value in operands.items():
            while isinstance(value, functools.partial):
                value = value.func
            if key != -1 and isinstance(value, (types.FunctionType, types.MethodType, type)):
                site.passed[key] = value
                self._reach_callee(value)

    def _changed_in_place(
        self, site: Site, frame: types.FrameType | None, tensor: torch.Tensor
    ) -> set[tuple[str, str]]:
        """Return the bindings of a changed tensor in this function. The calling functions record their own bindings."""
        self.lasting.change_tensor(storage(tensor), site)
        for each, changed, memories in self._stack:
            changed |= bindings(each, tensor)
            memories |= {storage(tensor)} - {None}
        return bindings(frame, tensor)


class _Noting:
    """An iterable that records the kinds of its items."""

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


def _add(site: Site, problem: Problem | None) -> None:
    if problem is not None:
        site.problems.add(problem)


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
    """Yield the classes in the second argument of ``isinstance``."""
    if isinstance(kinds, (tuple, types.UnionType)):
        for each in kinds if isinstance(kinds, tuple) else kinds.__args__:
            yield from _classes(each)
    elif isinstance(kinds, type):
        yield kinds


def _version(tensor: torch.Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
