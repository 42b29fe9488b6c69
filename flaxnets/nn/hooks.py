"""Functions that are called when a state dict is loaded, as torch's hooks are."""

import dataclasses
import weakref
from collections.abc import Callable
from typing import Any

Hook = Callable[..., Any]


@dataclasses.dataclass(frozen=True, eq=False)
class RegisteredHook:
    """A hook with its options; compared by identity, so that jit takes the same hook for the same program."""

    function: Hook
    with_kwargs: bool
    always_call: bool = False


class RemovableHandle:
    """Removes a hook, by :meth:`remove` or at the end of a ``with`` block.

    See `torch.utils.hooks.RemovableHandle
    <https://github.com/pytorch/pytorch/blob/main/torch/utils/hooks.py>`_.

    >>> from flaxnets import nn
    >>> layer = nn.BatchNorm1d(2)
    >>> with layer.register_load_state_dict_post_hook(lambda module, keys: keys.missing_keys.clear()):
    ...     layer.load_state_dict({})
    IncompatibleKeys(missing_keys=[], unexpected_keys=[])
    """

    def __init__(self, module: Any, kind: str, hook: RegisteredHook):
        self._module = weakref.ref(module)
        self._kind = kind
        self._hook = hook

    def remove(self) -> None:
        """Removes the hook from the module; does nothing if the hook was removed before."""
        module = self._module()
        if module is not None:
            hooks = tuple(hook for hook in getattr(module, self._kind) if hook is not self._hook)
            object.__setattr__(module, self._kind, hooks)

    def __enter__(self) -> "RemovableHandle":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.remove()


def register(module: Any, kind: str, hook: RegisteredHook, prepend: bool) -> RemovableHandle:
    """Adds a hook to the module's attribute ``kind``, a static tuple."""
    hooks = getattr(module, kind)
    object.__setattr__(module, kind, (hook, *hooks) if prepend else (*hooks, hook))
    return RemovableHandle(module, kind, hook)
