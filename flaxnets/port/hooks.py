"""Watch the hooks of a torch model: drop hooks that only observe, refuse hooks that change values."""

import contextlib
import functools
import linecache
from collections.abc import Callable, Iterator
from typing import Any

from torch.nn.modules import module as torch_module

from flaxnets.port._torch import torch
from flaxnets.port.errors import Refusal

_FORWARD = "write what it does into forward, or into a module around this one."
_BACKWARD = "write the function with its gradient as a torch.autograd.Function, which becomes a jax.custom_vjp."
_GLOBAL = {
    "forward": ("_global_forward_hooks", "_global_forward_pre_hooks"),
    "backward": ("_global_backward_hooks", "_global_backward_pre_hooks"),
}
_OWN = {"forward": ("_forward_hooks", "_forward_pre_hooks"), "backward": ("_backward_hooks", "_backward_pre_hooks")}


class WatchedHooks:
    """Record which hooks change values.

    Args:
        model: The model.
        recorder: The recorder, which is paused while a hook runs.
    """

    def __init__(self, model: torch.nn.Module, recorder: Any):
        self.recorder = recorder
        self.refusals: dict[int, Refusal] = {}
        self._changed_objects: dict[int, tuple[Any, str]] = {}
        self._tables: list[tuple[dict[int, Any], dict[int, Any]]] = []
        for direction, fix in (("forward", _FORWARD), ("backward", _BACKWARD)):
            for name in _GLOBAL[direction]:
                self._watch(getattr(torch_module, name), "all modules", fix)
            for path, module in model.named_modules():
                for name in () if isinstance(module, torch.jit.ScriptModule) else _OWN[direction]:
                    self._watch(getattr(module, name), f"the module {path!r}", fix)
        self.has_backward = any(getattr(m, name, None) for m in model.modules() for name in _OWN["backward"])
        for path, parameter in model.named_parameters():
            table = parameter._backward_hooks
            if table:
                self.has_backward = True
                self._watch(table, f"the parameter {path!r}", _BACKWARD)

    def _watch(self, table: dict[int, Any], owner: str, fix: str) -> None:
        hooks = {key: hook for key, hook in table.items() if type(hook).__module__.split(".")[0] != "torch"}
        if hooks:
            self._tables.append((table, hooks))
            table.update({key: self._watched(hook, owner, fix) for key, hook in hooks.items()})

    def restore(self) -> None:
        """Restore the original hooks of the model."""
        for table, hooks in self._tables:
            table.update(hooks)

    def _watched(self, hook: Callable[..., Any], owner: str, fix: str) -> Callable[..., Any]:
        @functools.wraps(hook, updated=())
        def watched(*arguments: Any) -> Any:
            before = self._state(arguments)
            with self.recorder.paused():
                result = hook(*arguments)
            last = arguments[-1]
            if (result is not None and result is not last) or self._state(arguments) != before:
                self.refuse(hook, f"The hook of {owner} changes values.", fix)
            for key, (value, state) in self._objects().items():
                if state != self._last.get(key):
                    self._changed_objects[key] = value, owner
                    self.hooks_of[key] = hook
            return result

        self.hooks_of: dict[int, Any] = {}
        return watched

    def _state(self, arguments: Any) -> list[tuple[int, int]]:
        """Return the ids and version counters of the tensors that a hook could change."""
        self._last = {key: state for key, (_, state) in self._objects().items()}
        values = list(tensors(arguments))
        for module in (a for a in arguments if isinstance(a, torch.nn.Module)):
            used = self.recorder.attributes_read | ({*vars(module)} if _is_torchs(module) else set())
            values += [v for v in (*module._parameters.values(), *module._buffers.values()) if v is not None]
            values += [v for name, v in vars(module).items() if name in used and isinstance(v, torch.Tensor)]
        return [(id(v), 0 if v.is_inference() else v._version) for v in values]

    def _objects(self) -> dict[int, tuple[Any, tuple[int, ...]]]:
        """Return the containers that exist before the run, each with the ids of its items."""
        result = {}
        for key, value in self.recorder.lasting.objects.items():
            items = vars(value) if not isinstance(value, (list, dict, set)) and hasattr(value, "__dict__") else value
            result[key] = value, tuple(map(id, items.values() if isinstance(items, dict) else items))
        return result

    def refuse(self, hook: Any, cause: str, fix: str) -> None:
        """Add a refusal for a hook, with the place of its definition."""
        self.refusals.setdefault(id(hook), Refusal(*place(hook), cause, fix))

    def finish(self) -> list[Refusal]:
        """Return all refusals, including those of hooks that store values which the model reads."""
        for key, (_, owner) in self._changed_objects.items():
            if key in self.recorder.lasting.used:
                self.refuse(self.hooks_of[key], f"The hook of {owner} changes what forward reads.", _FORWARD)
        return list(self.refusals.values())


@contextlib.contextmanager
def watched_hooks(model: torch.nn.Module, recorder: Any) -> Iterator[WatchedHooks]:
    """Watch the hooks of a model within this context."""
    watched = WatchedHooks(model, recorder)
    try:
        yield watched
    finally:
        watched.restore()


def place(function: Any) -> tuple[str, int, str]:
    """Return file, line and text of a function's definition."""
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    function = function if hasattr(function, "__code__") else type(function).__call__
    code = getattr(function, "__code__", None)
    if code is None:
        return "", 0, repr(function)
    return code.co_filename, code.co_firstlineno, linecache.getline(code.co_filename, code.co_firstlineno).strip()


def _is_torchs(module: torch.nn.Module) -> bool:
    return type(module).__module__.split(".")[0] == "torch"


def tensors(tree: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested lists, tuples and dicts."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            yield from tensors(item)
    elif isinstance(tree, dict):
        yield from tensors(list(tree.values()))
