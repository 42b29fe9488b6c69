"""Run the builder of a model with the recorder, and separate functions that build from functions that compute."""

import contextlib
import functools
import random
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flaxnets.port._torch import torch
from flaxnets.port.names import is_torchs
from flaxnets.port.recording import Recorder
from flaxnets.port.sites import RecordedFunction, Site
from flaxnets.port.source.decorating import Passing


class SourceRecorder(Recorder):
    """A recorder that also records constructors and the functions that they call."""

    def __init__(self) -> None:
        super().__init__()
        self._hits_in_build: dict[int, int] = {}
        self.classes: dict[type, None] = {}  # the user's classes, in the order of their first use
        self.passing = Passing()
        self.model = torch.nn.Module()

    def build(self, builder: Callable[[], torch.nn.Module]) -> torch.nn.Module:
        """Call the builder, and return the model. The random generators are restored afterwards."""
        target: Any = builder
        args, keywords = (), {}
        while isinstance(target, functools.partial):
            args, keywords, target = (*target.args, *args), {**target.keywords, **keywords}, target.func
        self._reach_callee(target)
        self.resume()
        self.passing.begins(self, target, args, keywords)
        try:
            with same_random_state():
                model = builder()
            self.passing.ends(self, model)
            self.model = model
            return model
        finally:
            self.restore()
            self._stack.clear()
            self._hits_in_build = {id(recorded): _hits(recorded) for recorded in self.recorded.values()}
            for site in self.all_sites:
                site.problems.clear()  # problems concern compiled programs, but constructors are not compiled

    def _reach_callee(self, callee: Any) -> None:
        super()._reach_callee(callee)
        if isinstance(callee, type):
            for base in callee.__mro__:
                if base is not object and not is_torchs(base):
                    self.classes[base] = None
                for value in vars(base).values():
                    self._reach_member(value)
                if isinstance(vars(base).get("__init__"), types.FunctionType):
                    self.reach(vars(base)["__init__"])

    def _note_callee(self, site: Site, callee: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        super()._note_callee(site, callee, arguments, keywords)
        self.passing.begins(site, callee, arguments, keywords)

    def _note_result(self, site: Site, result: Any, tensors: Mapping[int | str, torch.Tensor]) -> None:
        super()._note_result(site, result, tensors)
        self.passing.ends(site, result)

    def holds_state(self, kind: type | None, name: str) -> bool:
        """Whether an attribute of modules of a class is a container of modules or parameters."""
        owners = [m for m in self.model.modules() if kind is not None and isinstance(m, kind)]
        return any(isinstance(value := vars(m).get(name), (list, tuple, dict)) and _holds_state(value) for m in owners)

    def ran_in_build(self, recorded: RecordedFunction) -> bool:
        """Whether a function ran while the model was built."""
        return self._hits_in_build.get(id(recorded), 0) > 0

    def ran_in_call(self, recorded: RecordedFunction) -> bool:
        """Whether a function ran while the model was called."""
        return _hits(recorded) > self._hits_in_build.get(id(recorded), 0)


def _holds_state(value: Any) -> bool:
    if isinstance(value, (list, tuple, dict)):
        return any(map(_holds_state, value.values() if isinstance(value, dict) else value))
    if isinstance(value, types.MethodType):
        return _holds_state(value.__self__)
    return isinstance(value, (torch.nn.Module, torch.nn.Parameter))


def _hits(recorded: RecordedFunction) -> int:
    return sum(site.hits for (what, _), site in recorded.sites.items() if what == "suite")


@contextlib.contextmanager
def same_random_state() -> Iterator[None]:
    """Restore the global random generators after this context."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
