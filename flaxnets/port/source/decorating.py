"""The user's decorators: which wrapper each decorator made, and whether it passes arguments and result on unchanged."""

import contextlib
import dataclasses
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


@dataclasses.dataclass
class _Call:
    """A call that has not returned yet.

    Attributes:
        place: The place of the call.
        function: The called function; for a class, its constructor.
        arguments: The arguments, without the object of a constructor.
        inner: For each call of the decorated function inside the wrapper: whether the arguments are the same, and the
            result.
    """

    place: Any
    function: Any
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    constructs: bool
    inner: list[list[Any]] = dataclasses.field(default_factory=list)


class Passing:
    """Record which decorators change the arguments or the result of the decorated function.

    >>> passing = Passing()
    >>> passing.begins(None, print, (), {})
    >>> passing.ends(None, None)
    >>> passing.passes_on(print)
    False
    """

    def __init__(self) -> None:
        self._running: list[_Call] = []
        self._met: set[int] = set()
        self._altered: set[int] = set()

    def begins(self, place: Any, callee: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        """Record that a call begins."""
        constructs = isinstance(callee, type)
        function = callee.__init__ if constructs else getattr(callee, "__func__", callee)
        if isinstance(callee, types.MethodType):
            arguments = (callee.__self__, *arguments)
        above = self._running[-1] if self._running else None
        if above and inside(above.function) is function:
            passed = arguments[1:] if above.constructs else arguments
            above.inner.append([_same((tuple(passed), dict(keywords)), above.arguments)])
        self._running.append(_Call(place, function, (tuple(arguments), dict(keywords)), constructs))

    def ends(self, place: Any, result: Any) -> None:
        """Record that a call returned."""
        while self._running and self._running[-1].place is not place:
            self._running.pop()  # calls that raised an exception
        if not self._running:
            return
        call = self._running.pop()
        above = self._running[-1] if self._running else None
        if above and above.inner and inside(above.function) is call.function:
            above.inner[-1].append(result)
        if inside(call.function) is not None:
            self._met.add(id(call.function))
            is_passed = len(call.inner) == 1 and len(call.inner[0]) == 2 and call.inner[0][0]
            if not is_passed or not (call.constructs or call.inner[0][1] is result):
                self._altered.add(id(call.function))

    def passes_on(self, function: Any) -> bool:
        """Whether each call of the wrapper called the decorated function once, with the same arguments and result."""
        return id(function) in self._met and id(function) not in self._altered


def _same(a: Any, b: Any) -> bool:
    if len(a[0]) != len(b[0]) or [*a[1]] != [*b[1]]:
        return False
    return all(x is y for x, y in zip([*a[0], *a[1].values()], [*b[0], *b[1].values()], strict=True))


def inside(function: Any) -> Any:
    """Return the function that was passed to the decorator of ``function``; None if there is none."""
    return getattr(function, "__wrapped__", None)


def layers(value: Any, name: str = "") -> Iterator[Any]:
    """Yield a decorated function and the functions inside it, outermost first.

    Args:
        value: The function.
        name: The name in the definition. It identifies the decorated function if the decorator does not use
            ``functools.wraps``.
    """
    while value is not None:
        yield value
        inner = inside(value)
        if inner is None and isinstance(value, types.FunctionType) and name not in ("", value.__code__.co_name):
            inner = next(
                (each for each in _closure_functions(value) if any(_is_named(f, name) for f in layers(each, name))),
                None,
            )
        value = inner


def _is_named(value: Any, name: str) -> bool:
    return isinstance(value, types.FunctionType) and value.__code__.co_name == name


def _closure_functions(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # the cell is still empty
            if isinstance(cell.cell_contents, types.FunctionType):
                yield cell.cell_contents


def made_by(decorator: Any, wrapper: types.FunctionType) -> bool:
    """Whether a decorator, or a global function that it uses, defines a wrapper."""
    return wrapper.__code__ in _codes(decorator, set())


def _codes(function: Any, known: set[types.CodeType]) -> set[types.CodeType]:
    """Return the code objects of a function, of its inner functions, and of the global functions that they use."""
    if not isinstance(function, types.FunctionType) or function.__code__ in known:
        return known
    pending = [function.__code__]
    while pending:
        code = pending.pop()
        known.add(code)
        pending += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        for name in code.co_names:
            _codes(function.__globals__.get(name), known)
    return known
