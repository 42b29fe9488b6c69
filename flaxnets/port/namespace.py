"""The global namespace of the translated functions and classes of one port."""

import builtins
import inspect
import linecache
import math
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxnets import nn, ops
from flaxnets.nn import functional as F
from flaxnets.port import operators
from flaxnets.port._torch import torch
from flaxnets.port.errors import PortError, Refusal
from flaxnets.port.names import free_name, is_torchs, qualified_name
from flaxnets.port.plain_classes import is_plain_class
from flaxnets.port.recording import Recorder
from flaxnets.port.sites import RecordedFunction
from flaxnets.port.translation import MODULES, Translation, translate

_FILES = iter(range(10**9))


class Namespace:
    """The globals of the translated code of one port.

    Args:
        recorder: The recorder of the model's runs.
    """

    def __init__(self, recorder: Recorder):
        self.recorder = recorder
        self.globals: dict[str, Any] = {
            "jax": jax, "jnp": jnp, "np": np, "math": math, "nn": nn, "nnx": nnx, "F": F, "ops": ops,
            "__name__": "flaxnets.port.translated",
        }  # fmt: skip
        self.names: dict[int, str] = {}
        self.kept: list[Any] = []  # the objects in ``names``, kept alive so that their ids stay unique
        self.refusals: list[Refusal] = []
        self._draws: dict[int, bool] = {}
        self._beside: set[int] | None = None

    def name(self, value: Any, hint: str) -> str:
        """Return the global name of an object of the user's code."""
        if id(value) not in self.names:
            self.names[id(value)] = self.free_name(hint)
            self.kept.append(value)
        return self.names[id(value)]

    def free_name(self, hint: str) -> str:
        """Return an unused global name."""
        return free_name(hint, {*self.globals, *self.names.values(), *MODULES, *dir(builtins)}, "_")

    def recorded(self, function: Any) -> RecordedFunction | None:
        """Return the record of a function; None if the function did not run."""
        function = getattr(function, "__func__", function)
        return self.recorder.of_function.get(id(function))

    def draws(self, function: Any) -> bool:
        """Whether a function, or a function that it calls, draws random numbers."""
        function = _function_of(function)
        if isinstance(function, (type, torch.nn.Module)):
            return False
        recorded = self.recorded(function)
        if recorded is None:
            return False
        if id(function) not in self._draws:
            self._draws[id(function)] = False
            self._draws[id(function)] = any(map(self._is_random, recorded.callees(function)))
        return self._draws[id(function)]

    def takes_rngs(self, function: Any) -> bool:
        """Whether the translated function has a parameter ``rngs``.

        It draws random numbers, or it is called at a place that also calls functions which draw.
        """
        function = _function_of(function)
        if self.recorded(function) is None or self.recorder.method_class(function) is not None:
            return False
        return self.draws(function) or id(function) in self._beside_random()

    def _beside_random(self) -> set[int]:
        if self._beside is None:
            self._beside = set()
            sites = [s for r in self.recorder.recorded.values() for (what, _), s in r.sites.items() if what == "call"]
            for site in sites:
                if len(site.callees) > 1 and any(map(self.draws, site.callees)):
                    functions = map(_function_of, site.callees)
                    self._beside |= {id(each) for each in functions if isinstance(each, types.FunctionType)}
        return self._beside

    def _is_random(self, callee: Any) -> bool:
        if isinstance(callee, types.MethodType) and isinstance(callee.__self__, torch.nn.Module):
            return False  # a module has its own random stream
        if is_torchs(callee) or isinstance(getattr(callee, "__self__", None), torch.Tensor):
            return is_random(callee)
        return self.draws(callee)

    def has_random_functions(self) -> bool:
        """Whether a function of the user's code draws random numbers."""
        return any(self.draws(f) for recorded in self.recorder.recorded.values() for f in recorded.functions)

    def translate(self, function: types.FunctionType, module_class: type | None) -> Translation:
        """Translate a function that ran, and collect its refusals."""
        recorded = self.recorded(function)
        assert recorded is not None
        try:
            translation = translate(recorded, function, self, module_class)
        except Exception as error:
            code, cause = function.__code__, f"The translation raised {type(error).__name__}: {error}."
            fix = "rewrite this function."
            raise PortError([Refusal(code.co_filename, code.co_firstlineno, code.co_name, cause, fix)]) from error
        self.refusals += translation.refusals
        for name, value in translation.globals.items():
            if isinstance(value, types.ModuleType):
                self.globals.setdefault(name, value)
        return translation

    def execute(self, text: str, title: str, code: types.CodeType | None) -> dict[str, Any]:
        """Execute source text with the port's globals, and return its definitions.

        Args:
            text: The definitions.
            title: The name of the translated function or class, for tracebacks.
            code: The original code of the function, or of the first method of a class.
        """
        place = f" in {code.co_filename}:{code.co_firstlineno}" if code else ""
        path = f"<port of {title}{place}, {next(_FILES)}>"
        linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
        definitions: dict[str, Any] = {}
        exec(compile(text, path, "exec", dont_inherit=True), self.globals, definitions)
        return definitions


def _function_of(callee: Any) -> Any:
    """Return the function of a method, or of a callable object."""
    function = getattr(callee, "__func__", callee)
    kind = type(function)
    method = inspect.getattr_static(kind, "__call__", None) if is_plain_class(kind) else None
    return method if isinstance(method, types.FunctionType) else function


def is_random(callee: Any) -> bool:
    """Whether a function or method of torch draws random numbers."""
    return operators.draws(qualified_name(callee))
