"""The base class of every layer and network: ``nnx.Module`` that remembers torch's order and speaks torch's names."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flaxnets import state
from flaxnets.nn import hooks

M = TypeVar("M", bound="Module")


class Buffer(nnx.Variable):
    """State that is not trained and is no batch statistic; ``persistent=False`` keeps it out of the state dict.

    See `torch.nn.Module.register_buffer
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.register_buffer>`_.

    >>> import jax.numpy as jnp
    >>> Buffer(jnp.zeros(3), persistent=False).shape
    (3,)
    """


class Module(nnx.Module):
    """Base class for all layers and networks.

    Assign parameters (``nnx.Param``), buffers (``nnx.BatchStat``, :class:`Buffer`) and modules in ``__init__``, in
    torch's order, and compute in ``__call__``. ``training`` says which mode the module is in, as in torch; it is
    static, so that ``train()`` and ``eval()`` before a jit-compiled call choose which form is compiled.

    See `torch.nn.Module <https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html>`_.

    >>> import jax.numpy as jnp
    >>> class Scale(Module):
    ...     def __init__(self):
    ...         self.weight = nnx.Param(jnp.ones(()))
    ...     def __call__(self, input):
    ...         return input * self.weight
    >>> list(Scale().state_dict())
    ['weight']
    """

    training: bool = True
    _order: tuple[str, ...] = ()
    _version: int = 1
    _load_state_dict_pre_hooks: tuple[hooks.RegisteredHook, ...] = ()
    _load_state_dict_post_hooks: tuple[hooks.RegisteredHook, ...] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        is_state = isinstance(value, (nnx.Variable, nnx.Module))
        if is_state and vars(self).get(name, value) is None:
            super().__delattr__(name)  # NNX keeps what was None for static, and would refuse state in its place
        super().__setattr__(name, value)
        if is_state and name not in self._order:
            object.__setattr__(self, "_order", (*self._order, name))

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        object.__setattr__(self, "_order", tuple(known for known in self._order if known != name))

    def train(self: M, mode: bool = True, **attributes: Any) -> M:
        """Puts this module and all below it in training mode, or in evaluation mode with ``mode=False``."""
        if not mode:
            return self.eval(**attributes)
        super().train(training=True, **attributes)
        return self

    def eval(self: M, **attributes: Any) -> M:
        """Puts this module and all below it in evaluation mode."""
        super().eval(training=False, **attributes)
        return self

    def state_dict(self) -> dict[str, jax.Array]:
        """See :func:`flaxnets.state.state_dict`."""
        return state.state_dict(self)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> state.IncompatibleKeys:
        """See :func:`flaxnets.state.load_state_dict`."""
        return state.load_state_dict(self, state_dict, strict, assign=assign)

    def _load_from_state_dict(
        self,
        state_dict: MutableMapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Load this module's own parameters and buffers; subclasses override it to load old state dicts.

        As in torch, an override changes ``state_dict``, which is a copy, and then calls this method. ``_version`` of
        the module that was saved is ``local_metadata.get("version")``, if the state dict has metadata. The arguments
        are those of :func:`flaxnets.state.load_from_state_dict`.
        """
        arguments = (state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        for hook in self._load_state_dict_pre_hooks:
            hook.function(*(self,) * hook.with_kwargs, *arguments)
        state.load_from_state_dict(self, *arguments)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., None]) -> hooks.RemovableHandle:
        """Call ``hook`` before this module's own parameters and buffers are loaded.

        Its arguments are this module and those of ``_load_from_state_dict``: ``hook(module, state_dict, prefix,
        local_metadata, strict, missing_keys, unexpected_keys, error_msgs)``. It may change the state dict, which is a
        copy, and the lists.
        """
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(
        self, hook: Callable[..., None], with_module: bool = False
    ) -> hooks.RemovableHandle:
        """Call ``hook`` as :meth:`register_load_state_dict_pre_hook` does, without the module as first argument."""
        registered = hooks.RegisteredHook(hook, with_kwargs=with_module)
        return hooks.register(self, "_load_state_dict_pre_hooks", registered, prepend=False)

    def register_load_state_dict_post_hook(self, hook: Callable[..., None]) -> hooks.RemovableHandle:
        """Call ``hook(module, incompatible_keys)`` after this module and all below it have been loaded.

        The hook may change the two lists in place; what they have then is what is missing or unexpected.
        """
        registered = hooks.RegisteredHook(hook, with_kwargs=False)
        return hooks.register(self, "_load_state_dict_post_hooks", registered, prepend=False)

    def named_parameters(self) -> Iterator[tuple[str, nnx.Param]]:
        """See :func:`flaxnets.state.named_parameters`."""
        return state.named_parameters(self)

    def named_buffers(self) -> Iterator[tuple[str, nnx.Variable]]:
        """See :func:`flaxnets.state.named_buffers`."""
        return state.named_buffers(self)

    def named_modules(self) -> Iterator[tuple[str, nnx.Module]]:
        """See :func:`flaxnets.state.named_modules`."""
        return state.named_modules(self)

    def named_children(self) -> Iterator[tuple[str, nnx.Module]]:
        """See :func:`flaxnets.state.named_children`."""
        return state.named_children(self)

    def parameters(self) -> Iterator[nnx.Param]:
        """Yields each parameter once."""
        return (parameter for _, parameter in self.named_parameters())

    def buffers(self) -> Iterator[nnx.Variable]:
        """Yields each buffer once."""
        return (buffer for _, buffer in self.named_buffers())

    def modules(self) -> Iterator[nnx.Module]:
        """Yields this module and each one below it once, parents first."""
        return (module for _, module in self.named_modules())

    def children(self) -> Iterator[nnx.Module]:
        """Yields each direct child once."""
        return (child for _, child in self.named_children())

    def get_submodule(self, target: str) -> nnx.Module:
        """Returns the module of a dotted name; ``""`` is this module.

        Raises:
            AttributeError: if there is no module of that name.
        """
        found = dict(state.named_modules(self, remove_duplicate=False)).get(target)
        if found is None:
            raise AttributeError(f"{type(self).__name__} has no submodule {target!r}")
        return found

    def add_module(self, name: str, module: nnx.Module | None) -> None:
        """Holds ``module`` as the child ``name``.

        Raises:
            TypeError: if it is no module.
            KeyError: if the name is empty, has a dot, or is an attribute already.
        """
        if module is not None and not isinstance(module, nnx.Module):
            raise TypeError(f"{name!r} must be a Module or None, got {type(module).__name__}")
        self._check_new_name(name)
        setattr(self, name, module)

    def register_parameter(self, name: str, param: nnx.Param | None) -> None:
        """Holds ``param`` as the parameter ``name``; raises as :meth:`add_module` does."""
        if param is not None and not isinstance(param, nnx.Param):
            raise TypeError(f"{name!r} must be an nnx.Param or None, got {type(param).__name__}")
        self._check_new_name(name)
        setattr(self, name, param)

    def register_buffer(self, name: str, tensor: jax.Array | None, persistent: bool = True) -> None:
        """Holds ``tensor`` as the buffer ``name``, and in the state dict; raises as :meth:`add_module`."""
        self._check_new_name(name)
        setattr(self, name, None if tensor is None else Buffer(tensor, persistent=persistent))

    def _check_new_name(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a name must be a string, got {name!r}")
        if name == "" or "." in name:
            raise KeyError(f"a name must be neither empty nor have a dot, got {name!r}")
        if hasattr(self, name):
            raise KeyError(f"{type(self).__name__} has an attribute {name!r} already")

    def apply(self: M, fn: Callable[[nnx.Module], Any]) -> M:
        """Calls ``fn`` on every module below this one, children first, and at last on this one."""
        for module in reversed(list(self.modules())):
            fn(module)
        return self

    def to(self: M, dtype: DTypeLike) -> M:
        """Casts the floating-point parameters and buffers to ``dtype``, in place."""
        state.cast(self, dtype)
        return self

    def half(self: M) -> M:
        """Casts the floating-point parameters and buffers to float16."""
        return self.to(jnp.float16)

    def bfloat16(self: M) -> M:
        """Casts the floating-point parameters and buffers to bfloat16."""
        return self.to(jnp.bfloat16)

    def double(self: M) -> M:
        """Casts the floating-point parameters and buffers to float64; needs ``jax_enable_x64``."""
        return self.to(jnp.float64)

    def float(self: M) -> M:
        """Casts the floating-point parameters and buffers to float32."""
        return self.to(jnp.float32)
