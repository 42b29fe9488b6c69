"""Hooks of torch: functions that run around a module's forward computation and its state dict."""

import dataclasses
import functools
import warnings
import weakref
from collections.abc import Callable
from typing import Any

Hook = Callable[..., Any]


@dataclasses.dataclass(frozen=True, eq=False)
class RegisteredHook:
    """Hook with its options; compared by identity, so that jit reuses the program of the same hook."""

    function: Hook
    with_kwargs: bool = False
    always_call: bool = False


class RemovableHandle:
    """Handle that removes a hook, by :meth:`remove` or at the end of a ``with`` block.

    See `torch.utils.hooks.RemovableHandle
    <https://github.com/pytorch/pytorch/blob/main/torch/utils/hooks.py>`_.

    >>> from flaxnets import nn
    >>> layer = nn.ReLU()
    >>> with layer.register_forward_hook(lambda module, args, output: output + 1):
    ...     float(layer(2.0))
    3.0
    >>> float(layer(2.0))
    2.0
    """

    def __init__(self, module: Any, registry: str, hook: RegisteredHook):
        self._module = weakref.ref(module)
        self._registry = registry
        self._hook = hook

    def remove(self) -> None:
        """Remove the hook from the module; no effect if already removed."""
        module = self._module()
        if module is not None:
            hooks = tuple(hook for hook in getattr(module, self._registry) if hook is not self._hook)
            object.__setattr__(module, self._registry, hooks)

    def __enter__(self) -> "RemovableHandle":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.remove()


def register(module: Any, registry: str, hook: RegisteredHook, prepend: bool) -> RemovableHandle:
    """Add a hook to the module's static tuple ``registry``."""
    enable()
    hooks = getattr(module, registry)
    object.__setattr__(module, registry, (hook, *hooks) if prepend else (*hooks, hook))
    return RemovableHandle(module, registry, hook)


# Maps classes to their forward computations. Calls only run hooks after the first hook of the process is registered:
# until then calls are as fast, and tracebacks as short, as without hooks.
computations: dict[Any, Callable[..., Any]] = {}
_enabled = False


def set_call(cls: Any, compute: Callable[..., Any]) -> None:
    """Make a call of the class's instances run ``compute`` between the hooks."""
    computations[cls] = compute
    cls.__call__ = _calling_hooks(compute) if _enabled else compute


def enable() -> None:
    """Make calls run hooks, including those of classes that are defined later."""
    global _enabled
    if not _enabled:
        _enabled = True
        for cls, compute in list(computations.items()):
            set_call(cls, compute)


def _calling_hooks(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method ``__call__`` of a class whose forward computation is ``call``."""

    @functools.wraps(call)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        # A call of super().__call__ is part of the same forward computation, so hooks must not run again.
        if (self._forward_hooks or self._forward_pre_hooks) and type(self).__call__ is __call__:
            return _call_with_hooks(self, call, args, kwargs)
        return call(self, *args, **kwargs)

    return __call__


def _call_with_hooks(module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    output = None
    waiting = [hook for hook in module._forward_hooks if hook.always_call]
    try:
        for hook in module._forward_pre_hooks:
            args, kwargs = _call_pre_hook(module, hook, args, kwargs)
        output = call(module, *args, **kwargs)
        for hook in module._forward_hooks:
            if hook in waiting:
                waiting.remove(hook)
            changed = _call_hook(module, hook, args, kwargs, output)
            output = output if changed is None else changed
    except Exception:
        for hook in waiting:
            try:
                changed = _call_hook(module, hook, args, kwargs, output)
                output = output if changed is None else changed
            except Exception as error:
                warnings.warn(
                    f"a forward hook with always_call=True raised {error!r}, which was ignored because another error "
                    "was raised before",
                    stacklevel=3,
                )
        raise
    return output


def _call_pre_hook(module: Any, hook: RegisteredHook, args: Any, kwargs: Any) -> tuple[Any, Any]:
    if not hook.with_kwargs:
        changed = hook.function(module, args)
        if changed is None:
            return args, kwargs
        return changed if isinstance(changed, tuple) else (changed,), kwargs
    changed = hook.function(module, args, kwargs)
    if changed is None:
        return args, kwargs
    if not isinstance(changed, tuple) or len(changed) != 2:
        raise RuntimeError(
            f"a forward pre-hook with with_kwargs=True returned {changed!r}. Expected None or a tuple (args, kwargs)."
        )
    return changed


def _call_hook(module: Any, hook: RegisteredHook, args: Any, kwargs: Any, output: Any) -> Any:
    if hook.with_kwargs:
        return hook.function(module, args, kwargs, output)
    return hook.function(module, args, output)
