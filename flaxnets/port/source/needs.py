"""Find the constructors and functions that draw random numbers and therefore take ``rngs``."""

import functools
import importlib
import inspect
import types
from typing import Any

from flaxnets import nn
from flaxnets.port._torch import torch
from flaxnets.port.names import is_torchs
from flaxnets.port.namespace import Namespace, is_random
from flaxnets.port.sites import RecordedFunction
from flaxnets.port.source.building import SourceRecorder
from flaxnets.port.wrappers import library_twin

RANDOM_INITIALISERS = frozenset({
    "normal", "uniform", "trunc_normal", "orthogonal", "sparse", "kaiming_normal", "kaiming_uniform", "xavier_normal",
    "xavier_uniform",
})  # fmt: skip


def twin(kind: type) -> type | None:
    """Return the class of ``flaxnets.nn`` for a class of ``torch.nn``; None if there is none."""
    name = "Linear" if kind.__name__ == "NonDynamicallyQuantizableLinear" else kind.__name__
    return getattr(nn, name, None) if is_torchs(kind) else None


def initialiser(callee: Any) -> str | None:
    """Return the name in ``flaxnets.nn.init`` of an in-place function of ``torch.nn.init``; None for others."""
    name = getattr(callee, "__name__", "")
    if getattr(torch.nn.init, name, None) is not callee:
        return None
    plain = name.removesuffix("_")
    return plain if hasattr(nn.init, plain) and plain not in ("calculate_gain",) else None


def utility(callee: Any) -> str | None:
    """Return the path in ``flaxnets`` of a function of ``torch.nn.utils``; None for others."""
    module = getattr(callee, "__module__", None)
    if not isinstance(module, str) or not module.startswith("torch.nn.utils"):
        return None
    for space in ("nn.utils.parametrizations", "nn.utils.parametrize", "nn.utils.prune", "nn.utils"):
        theirs = importlib.import_module(f"torch.{space}")
        ours = functools.reduce(getattr, space.split(".")[1:], nn)
        name = getattr(callee, "__name__", "")
        if getattr(theirs, name, None) is callee and hasattr(ours, name):
            return f"{space}.{name}"
    return None


class Needs:
    """The constructors and functions that take ``rngs``: a fixed point over the recorded callees.

    Args:
        recorder: The recorder of the builder and the model.
        space: Tells which functions draw random numbers when the model is called.
    """

    def __init__(self, recorder: SourceRecorder, space: Namespace):
        self.recorder, self.space = recorder, space
        self._found: set[int] = set()
        built = [each for each in recorder.recorded.values() if recorder.ran_in_build(each)]
        while grown := [each for each in built if id(each) not in self._found and self._draws(each)]:
            self._found |= set(map(id, grown))

    def _draws(self, recorded: RecordedFunction) -> bool:
        sites = [site for (what, _), site in recorded.sites.items() if what == "call"]
        if any(self.of(callee) for site in sites for callee in [*site.callees, *site.passed.values()]):
            return True
        return recorded.source.name == "__init__" and any(self.keeps_stream(c) for c in self._owners(recorded))

    def _owners(self, recorded: RecordedFunction) -> list[type]:
        """Return the classes that define a function as a method."""
        return [c for c in self.recorder.classes if any(f in vars(c).values() for f in recorded.functions)]

    def recorded(self, recorded: RecordedFunction) -> bool:
        """Whether a recorded function takes ``rngs`` when the model is built."""
        return id(recorded) in self._found

    def of(self, callee: Any) -> bool:
        """Whether a class, function or bound method takes ``rngs``."""
        while isinstance(callee, functools.partial):
            callee = callee.func
        if isinstance(callee, type):
            return self._of_class(callee)
        if isinstance(callee, types.MethodType) and callee.__name__ == "__init__":
            owner = next((c for c in type(callee.__self__).__mro__ if vars(c).get("__init__") is callee.__func__), None)
            return owner is not None and self.of_constructor(owner, type(callee.__self__))
        if initialiser(callee):
            return initialiser(callee) in RANDOM_INITIALISERS
        path = utility(callee)
        if path:
            ours: Any = functools.reduce(getattr, path.split(".")[1:], nn)
            return "rngs" in inspect.signature(ours).parameters
        if isinstance(getattr(callee, "__self__", None), torch.nn.Module) and is_torchs(callee):
            method = getattr(twin(type(callee.__self__)), callee.__name__, None)
            return method is not None and "rngs" in inspect.signature(method).parameters
        if is_torchs(callee) or isinstance(getattr(callee, "__self__", None), torch.Tensor):
            return is_random(callee)
        recorded = self.space.recorded(inspect.unwrap(callee) if callable(callee) else callee)
        return recorded is not None and self.recorded(recorded)

    def _of_class(self, kind: type) -> bool:
        if (library := library_twin(kind)) is not None:
            return "rngs" in inspect.signature(library.__init__).parameters
        if not issubclass(kind, torch.nn.Module):
            recorded = self.space.recorded(kind.__init__)
            return recorded is not None and self.recorded(recorded)
        if not is_torchs(kind) and any(self.keeps_stream(c) for c in kind.__mro__):
            return True
        return self.of_constructor(next(c for c in kind.__mro__ if "__init__" in vars(c)), kind)

    def of_constructor(self, owner: type, kind: type) -> bool:
        """Whether the constructor of ``owner`` takes ``rngs``, where ``owner`` is ``kind`` or a base class."""
        if is_torchs(owner):
            ours = next((twin(c) for c in kind.__mro__ if is_torchs(c) and issubclass(c, owner) and twin(c)), None)
            return ours is not None and "rngs" in inspect.signature(ours.__init__).parameters
        recorded = self.space.recorded(vars(owner)["__init__"])
        return recorded is not None and self.recorded(recorded)

    def keeps_stream(self, kind: type) -> bool:
        """Whether a method that the class itself defines draws random numbers when the model is called."""
        if is_torchs(kind) or not issubclass(kind, torch.nn.Module):
            return False
        return any(self._draws_in_call(value) for value in vars(kind).values())

    def _draws_in_call(self, value: Any) -> bool:
        value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if not isinstance(value, types.FunctionType):
            return False
        recorded = self.space.recorded(value)
        return recorded is not None and self.recorder.ran_in_call(recorded) and self.space.draws(value)
