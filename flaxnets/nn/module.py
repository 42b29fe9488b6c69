"""Base class of every layer and network: an ``nnx.Module`` with torch's registration order and method names."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from flaxnets import state
from flaxnets._uninitialized import Uninitialized
from flaxnets.nn import _placement, hooks
from flaxnets.nn.parameter import Buffer, Parameter, adopt

M = TypeVar("M", bound="Module")


class _Empty(NamedTuple):
    """An attribute whose value is None, registered as a parameter, buffer or module."""

    name: str
    registered_type: type
    persistent: bool = True


class Module(nnx.Module):
    """Base class for all layers and networks.

    Assign parameters (:class:`Parameter` or ``nnx.Param``), buffers (``nnx.BatchStat``, :class:`Buffer`) and modules in
    ``__init__``, in torch's order. Define the computation in ``__call__`` or, as in torch, in ``forward``; each name
    then refers to both. An array that is assigned to a buffer sets its value.

    ``training`` is the mode of the module, as in torch. It is static, so ``train()`` or ``eval()`` before a
    jit-compiled call determines which mode is compiled.

    Raises:
        TypeError: on assigning a non-parameter to a parameter, a non-module to a module, or a non-array to a buffer.
            None is accepted everywhere.

    See `torch.nn.Module <https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html>`_.

    >>> import jax.numpy as jnp
    >>> class Scale(Module):
    ...     def __init__(self):
    ...         self.weight = nnx.Param(jnp.ones(()))
    ...         self.register_buffer("mean", jnp.zeros(()))
    ...     def forward(self, input):
    ...         self.mean = 0.9 * self.mean + 0.1 * input.mean()
    ...         return input * self.weight
    >>> scale = Scale()
    >>> scale(jnp.ones(3)).tolist(), {name: float(value) for name, value in scale.state_dict().items()}
    ([1.0, 1.0, 1.0], {'weight': 1.0, 'mean': 0.10000000149011612})
    """

    training: bool = True
    _extra_repr: str = ""  # format string of extra_repr, with attribute names in braces
    _order: tuple[str, ...] = ()
    _empty: tuple[_Empty, ...] = ()
    _forward_pre_hooks: tuple[hooks.RegisteredHook, ...] = ()
    _forward_hooks: tuple[hooks.RegisteredHook, ...] = ()
    _state_dict_pre_hooks: tuple[hooks.RegisteredHook, ...] = ()
    _state_dict_hooks: tuple[hooks.RegisteredHook, ...] = ()
    _version: int = 1
    _load_state_dict_pre_hooks: tuple[hooks.RegisteredHook, ...] = ()
    _load_state_dict_post_hooks: tuple[hooks.RegisteredHook, ...] = ()
    _has_extra_state: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._has_extra_state = cls.get_extra_state is not Module.get_extra_state
        owner: type = next(base for base in cls.__mro__ if {"__call__", "forward"} & vars(base).keys())
        if owner is not cls and issubclass(owner, Module):
            return  # both names were set when the owner was defined
        call, forward = vars(owner).get("__call__"), vars(owner).get("forward")
        parent = next(base for base in cls.__mro__[1:] if base in hooks.computations)
        if hooks.computations[parent] is parent.forward:  # otherwise the parent's __call__ calls forward, and is kept
            call, forward = call or forward, forward or call
        if forward is not None:
            cls.forward = forward
        if call is not None:
            hooks.set_call(cls, call)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; a subclass defines this method or ``__call__``. Hooks run in ``__call__`` only.

        Raises:
            NotImplementedError: if the class defines neither.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no forward computation. Fix: define the method forward or __call__."
        )

    __call__ = forward

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self._forward_hooks or self._forward_pre_hooks:
            hooks.enable()  # a module with hooks may come from another process

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # registered parameters, buffers and modules

    # Registration of parameters, buffers and modules.

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "forward":
            raise AttributeError(
                f"{type(self).__name__}: forward cannot be replaced on an instance, because jit would not see it. "
                "Fix: define forward in a subclass, or use register_forward_hook."
            )
        adopt_all(value)
        slot = self._slot(name)
        if slot is not None:
            value = self._checked(slot, value)
        if isinstance(value, (nnx.Variable, nnx.Module)):
            self._register(slot, name, value)
        elif slot is None:
            if _is_array(value):
                self._forget_static(name)
                value = nnx.data(value)  # while JAX traces, NNX does not recognise arrays
            super().__setattr__(name, value)
        elif value is None:
            self._register_none(slot)
        else:
            vars(self)[name].set_value(_own(value))

    def _slot(self, name: str) -> _Empty | None:
        """Return the registration of ``name``, with or without a value."""
        value = vars(self).get(name)
        if isinstance(value, nnx.Module):
            return _Empty(name, nnx.Module)
        if isinstance(value, nnx.Variable):
            return _Empty(name, type(value), value.get_metadata("persistent", True))
        return next((empty for empty in self._empty if empty.name == name), None)

    def _checked(self, slot: _Empty, value: Any) -> Any:
        """Check a value as torch does for this registration; wrap arrays for empty buffers."""
        if value is None or isinstance(value, nnx.Param):
            return value
        if issubclass(slot.registered_type, nnx.Param):
            raise _wrong_type(
                value, "parameter", slot.name, "a Parameter or None", f"module.{slot.name}.set_value(array)"
            )
        if isinstance(value, nnx.Module):
            return value
        if issubclass(slot.registered_type, nnx.Module):
            raise _wrong_type(value, "child module", slot.name, "a Module or None", f"del module.{slot.name}")
        if isinstance(value, nnx.Variable):
            # An array under two names would diverge after the next assignment, so a buffer of another name is copied.
            is_others = any(other is value for name, other in vars(self).items() if name != slot.name)
            if not is_others:
                return value
            value = value.get_value()
        if not _is_array(value):
            raise _wrong_type(value, "buffer", slot.name, "an array, a Buffer or None", "jnp.asarray(value)")
        if vars(self).get(slot.name) is not None:
            return value
        return slot.registered_type(_own(value), **({} if slot.persistent else {"persistent": False}))

    def _register(self, slot: _Empty | None, name: str, value: nnx.Variable | nnx.Module) -> None:
        self._forget_static(name)
        super().__setattr__(name, value)
        order = self._order
        if slot is not None and _group(slot.registered_type) != _group(type(value)):
            order = _without(order, name)
        if name not in order:
            order = (*order, name)
        self._set_static("_order", order)
        self._set_static("_empty", tuple(empty for empty in self._empty if empty.name != name))

    def _forget_static(self, name: str) -> None:
        """Delete a static attribute, because NNX refuses to replace it by an array or state."""
        current = vars(self).get(name)
        if name in vars(self) and not isinstance(current, (nnx.Variable, nnx.Module)) and not _is_array(current):
            super().__delattr__(name)

    def _register_none(self, slot: _Empty) -> None:
        super().__setattr__(slot.name, None)
        if slot.name not in self._order:
            self._set_static("_order", (*self._order, slot.name))
        self._set_static("_empty", (*(empty for empty in self._empty if empty.name != slot.name), slot))

    def _set_static(self, name: str, value: tuple[Any, ...]) -> None:
        if getattr(self, name) != value:
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._set_static("_order", _without(self._order, name))
        self._set_static("_empty", tuple(empty for empty in self._empty if empty.name != name))

    def add_module(self, name: str, module: nnx.Module | None) -> None:
        """Register ``module`` as the child ``name``.

        Raises:
            TypeError: if ``module`` is not a module.
            KeyError: if the name is empty, contains a dot, or is an existing attribute that is not a module.
        """
        if module is not None and not isinstance(module, nnx.Module):
            raise TypeError(f"{name!r} must be a Module or None, got {type(module).__name__}")
        slot = _Empty(name, nnx.Module)
        self._check_slot(slot)
        self._set_registered(slot, module)

    def register_module(self, name: str, module: nnx.Module | None) -> None:
        """Register a child; the same as :meth:`add_module`."""
        self.add_module(name, module)

    def register_parameter(self, name: str, param: nnx.Param | None) -> None:
        """Register ``param`` as the parameter ``name``; raises the errors of :meth:`add_module`."""
        slot = _Empty(name, Parameter)
        self._check_slot(slot)
        if param is not None and not isinstance(param, nnx.Param):
            raise TypeError(f"{name!r} must be a Parameter, an nnx.Param or None, got {type(param).__name__}")
        self._set_registered(slot, param)

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Register an array, a Buffer or None as the buffer ``name``; raises the errors of :meth:`add_module`.

        Args:
            name: name of the attribute.
            tensor: the value.
            persistent: whether the state dict contains the buffer.
        """
        slot = _Empty(name, Buffer, persistent)
        self._check_slot(slot)
        if isinstance(tensor, nnx.Variable) and not isinstance(tensor, nnx.Param):
            if tensor.get_metadata("persistent", True) != persistent:
                tensor.set_metadata(persistent=persistent)
        elif _is_array(tensor) or isinstance(tensor, nnx.Param):
            tensor = Buffer(_own(tensor[...]), persistent=persistent)
        elif tensor is not None:
            raise TypeError(f"{name!r} must be an array, a Buffer or None, got {tensor!r} ({type(tensor).__name__})")
        self._set_registered(slot, tensor)

    def _check_slot(self, slot: _Empty) -> None:
        known = self._slot(slot.name)
        if known is None or _group(known.registered_type) != _group(slot.registered_type):
            self._check_new_name(slot.name)

    def _set_registered(self, slot: _Empty, value: Any) -> None:
        if value is None:
            self._register_none(slot)
        else:
            setattr(self, slot.name, value)

    def _check_new_name(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a name must be a string, got {name!r}")
        if name == "" or "." in name:
            raise KeyError(f"a name must not be empty or contain a dot, got {name!r}")
        if hasattr(self, name):
            raise KeyError(f"{type(self).__name__} already has an attribute {name!r}")

    # Hooks.

    def register_forward_pre_hook(
        self, hook: hooks.Hook, *, prepend: bool = False, with_kwargs: bool = False
    ) -> hooks.RemovableHandle:
        """Call ``hook(module, args)`` before every call of the module.

        The hook may return new arguments: one value or a tuple. Under ``jit`` a hook runs when JAX traces the call: it
        receives tracers, and values that it stores must leave the compiled function as outputs.

        Args:
            hook: the function.
            prepend: whether the hook runs before the hooks that are already registered.
            with_kwargs: whether the hook is called as ``hook(module, args, kwargs)`` and returns None or a pair.

        Returns:
            A handle that removes the hook.
        """
        return hooks.register(self, "_forward_pre_hooks", hooks.RegisteredHook(hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: hooks.Hook, *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> hooks.RemovableHandle:
        """Call ``hook(module, args, output)`` after every call of the module.

        A return value other than None replaces the output. For ``jit`` see :meth:`register_forward_pre_hook`.

        Args:
            hook: the function.
            prepend: whether the hook runs before the hooks that are already registered.
            with_kwargs: whether the hook is called as ``hook(module, args, kwargs, output)``.
            always_call: whether the hook also runs if the call raises; the output is then None.

        Returns:
            A handle that removes the hook.

        >>> from flaxnets import nn
        >>> net, features = nn.Sequential(nn.Flatten(), nn.ReLU()), {}
        >>> handle = net[0].register_forward_hook(lambda module, args, output: features.update(flat=output))
        >>> net(jnp.ones((2, 3, 4))).shape, features["flat"].shape
        ((2, 12), (2, 12))
        >>> handle.remove()
        """
        registered = hooks.RegisteredHook(hook, with_kwargs, always_call)
        return hooks.register(self, "_forward_hooks", registered, prepend)

    def register_full_backward_hook(self, hook: hooks.Hook, prepend: bool = False) -> NoReturn:
        """Raise NotImplementedError: JAX has no backward pass to hook into."""
        raise NotImplementedError(
            "register_full_backward_hook: JAX transforms functions and has no backward pass to hook into. "
            "Fix: nnx.grad returns the gradients; jax.custom_vjp changes the gradient of a function."
        )

    register_backward_hook = register_full_backward_pre_hook = register_full_backward_hook

    # Modes and gradients.

    # Flax's methods return nothing; torch's return the module.

    def train(self: M, mode: bool = True, **attributes: Any) -> M:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Put this module and all below it in training mode, or in evaluation mode with ``mode=False``.

        Raises:
            ValueError: if the mode is not a bool.
        """
        if not isinstance(mode, bool):
            raise ValueError(f"train: expected mode to be True or False, got {mode!r}")
        switch = super().train if mode else super().eval
        switch(training=mode, **attributes)
        below: list[Any] = [module for module in self.modules() if module is not self]
        for module in below:
            if isinstance(module, Module) and type(module).train is not Module.train:
                module.train(mode)  # a module may override train to stay in evaluation mode
        return self

    def eval(self: M, **attributes: Any) -> M:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Put this module and all below it in evaluation mode."""
        return self.train(False, **attributes)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Freeze (``requires_grad=False``) or unfreeze all parameters of this module.

        Raises:
            RuntimeError: for unfreezing a parameter of integers.

        >>> from flaxnets import nn
        >>> model = nn.Sequential(nn.Linear(2, 3, rngs=nnx.Rngs(0)), nn.Linear(3, 1, rngs=nnx.Rngs(1)))
        >>> model.requires_grad_(False)[1].requires_grad_()
        Linear(in_features=3, out_features=1, bias=True)
        >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        ['1.weight', '1.bias']
        """
        for name, parameter in self.named_parameters():
            adopt(parameter)
            if not isinstance(parameter, Parameter):
                raise TypeError(
                    f"{name!r} is of the class {type(parameter).__name__}, which cannot be frozen. Expected a "
                    "Parameter. Fix: derive the class from flaxnets.nn.Parameter."
                )
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Do nothing: in JAX gradients are values that ``nnx.grad`` returns; modules do not accumulate them."""

    # State under torch's names.

    def state_dict(
        self, *, destination: dict[str, Any] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """Return the arrays of all parameters and persistent buffers; see :func:`flaxnets.state.state_dict`.

        Args:
            destination: a dict to fill and return.
            prefix: put before every name without a separator, as in torch: ``"model."``.
            keep_vars: whether the values are the variables instead of their arrays.
        """
        result = state.state_dict(self, prefix, keep_vars)
        if destination is None:
            return result
        destination.update(result)
        return destination

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
        """Load the parameters and buffers of this module only; subclasses override this method to load old state dicts.

        As in torch, an override changes ``state_dict``, which is a copy, and then calls this method. The saved module's
        ``_version`` is ``local_metadata.get("version")``, if the state dict has metadata. The arguments are those of
        :func:`flaxnets.state.load_from_state_dict`.
        """
        arguments = (state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        for hook in self._load_state_dict_pre_hooks:
            hook.function(*(self,) * hook.with_kwargs, *arguments)
        state.load_from_state_dict(self, *arguments)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., None]) -> hooks.RemovableHandle:
        """Call ``hook`` before the parameters and buffers of this module are loaded.

        The call is ``hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys,
        error_msgs)``, with the arguments of ``_load_from_state_dict``. The hook may change the state dict, which is a
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
        """Call ``hook(module, incompatible_keys)`` after this module and all submodules are loaded.

        The hook may change the lists of missing and unexpected keys in place, which changes the result of the load.
        """
        registered = hooks.RegisteredHook(hook, with_kwargs=False)
        return hooks.register(self, "_load_state_dict_post_hooks", registered, prepend=False)

    def get_extra_state(self) -> Any:
        """Return non-array state for the state dict; a subclass must define ``set_extra_state``, too."""
        raise NotImplementedError(f"{type(self).__name__} has no extra state. Fix: define get_extra_state.")

    def set_extra_state(self, state: Any) -> None:
        """Restore the state that ``get_extra_state`` returned; ``load_state_dict`` calls this method."""
        raise NotImplementedError(f"{type(self).__name__} supports no extra state. Fix: define set_extra_state.")

    def register_state_dict_pre_hook(self, hook: hooks.Hook) -> hooks.RemovableHandle:
        """Call ``hook(module, prefix, keep_vars)`` before the module's part of a state dict is created."""
        return hooks.register(self, "_state_dict_pre_hooks", hooks.RegisteredHook(hook), prepend=False)

    def register_state_dict_post_hook(self, hook: hooks.Hook) -> hooks.RemovableHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata)`` afterwards; the hook changes the dict in place."""
        return hooks.register(self, "_state_dict_hooks", hooks.RegisteredHook(hook), prepend=False)

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nnx.Param]]:
        """See :func:`flaxnets.state.named_parameters`."""
        return state.named_parameters(self, prefix, recurse, remove_duplicate=remove_duplicate)

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nnx.Variable]]:
        """See :func:`flaxnets.state.named_buffers`."""
        return state.named_buffers(self, prefix, recurse, remove_duplicate=remove_duplicate)

    def named_modules(
        self, memo: set[nnx.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nnx.Module]]:
        """See :func:`flaxnets.state.named_modules`."""
        return state.named_modules(self, prefix, remove_duplicate=remove_duplicate, memo=memo)

    def named_children(self) -> Iterator[tuple[str, nnx.Module]]:
        """See :func:`flaxnets.state.named_children`."""
        return state.named_children(self)

    def parameters(self, recurse: bool = True) -> Iterator[Any]:
        """Yield each parameter once; with ``recurse=False`` only those of this module."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def buffers(self, recurse: bool = True) -> Iterator[nnx.Variable]:
        """Yield each buffer once; with ``recurse=False`` only those of this module."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def modules(self) -> Iterator[nnx.Module]:
        """Yield this module and each submodule once, parents first."""
        return (module for _, module in self.named_modules())

    def children(self) -> Iterator[nnx.Module]:
        """Yield each direct child once."""
        return (child for _, child in self.named_children())

    def get_submodule(self, target: str) -> nnx.Module:
        """Return the submodule of a dotted name; ``""`` is this module.

        Raises:
            AttributeError: for an unknown module.
        """
        module = dict(state.named_modules(self, remove_duplicate=False)).get(target)
        if module is None:
            raise AttributeError(f"{type(self).__name__} has no submodule {target!r}")
        return module

    def set_submodule(self, target: str, module: nnx.Module, strict: bool = False) -> None:
        """Replace the submodule of a dotted name, or add a new one to an existing module.

        Args:
            target: the dotted name.
            module: the new module.
            strict: whether the name must already refer to a module.

        Raises:
            ValueError: if the name is empty or ``module`` is not a module.
            AttributeError: if a parent module does not exist, or the name refers to an attribute that is not a module.

        >>> from flaxnets import nn
        >>> net = nn.Sequential(nn.Flatten(), nn.Sequential(nn.ReLU()))
        >>> net.set_submodule("1.0", nn.Tanh())
        >>> net[1]
        Sequential(
          (0): Tanh()
        )
        """
        if target == "" or not isinstance(module, nnx.Module):
            raise ValueError(f"set_submodule: expected a name and a Module, got {target!r} and {module!r}")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if (strict or hasattr(parent, name)) and not isinstance(getattr(parent, name, None), nnx.Module):
            raise AttributeError(f"{type(parent).__name__} has no submodule {name!r}")
        setattr(parent, name, module)

    def get_parameter(self, target: str) -> nnx.Param:
        """Return the parameter of a dotted name.

        Raises:
            AttributeError: for an unknown parameter.
        """
        return self._get_variable(target, "parameter")

    def get_buffer(self, target: str) -> nnx.Variable:
        """Return the buffer of a dotted name.

        Raises:
            AttributeError: for an unknown buffer.
        """
        return self._get_variable(target, "buffer")

    def _get_variable(self, target: str, group: str) -> Any:
        path, _, name = target.rpartition(".")
        variable = vars(self.get_submodule(path)).get(name)
        if not isinstance(variable, nnx.Variable) or _group(type(variable)) != group:
            raise AttributeError(f"{type(self).__name__} has no {group} {target!r}")
        return variable

    def apply(self: M, fn: Callable[[nnx.Module], Any]) -> M:
        """Call ``fn`` on every submodule, children first, and finally on this module."""

        def walk(module: nnx.Module) -> None:
            for _, child in state.named_children(module):
                walk(child)
            fn(module)

        walk(self)
        return self

    # Devices and dtypes.

    def to(
        self: M,
        *args: Any,
        device: Any = None,
        dtype: Any = None,
        non_blocking: bool = False,
        memory_format: Any = None,
    ) -> M:
        """Move parameters and buffers to a device, and cast floating-point ones, in place.

        Calls are those of torch: ``to("cpu")``, ``to(jax.devices()[0])``, ``to(jnp.bfloat16)``, ``to("cuda:1",
        jnp.float16)``, ``to(other_array)``. Torch's dtypes and devices are accepted, too. Random streams move with the
        module. A device may be a ``jax.sharding.Sharding``.

        Args:
            *args: the device, the dtype, or both in this order, or an array with the wanted device and dtype.
            device: device of the arrays.
            dtype: floating-point or complex.
            non_blocking: no effect: JAX moves arrays asynchronously.
            memory_format: no effect: XLA chooses the layout.

        Raises:
            RuntimeError: for an unknown device.
            TypeError: for a dtype that is neither floating-point nor complex, or another invalid argument.

        >>> from flaxnets import nn
        >>> nn.Linear(2, 1, rngs=nnx.Rngs(0)).to("cpu", jnp.bfloat16).weight.dtype
        dtype(bfloat16)
        """
        device, dtype = _placement.parse_to(args, device, dtype)
        if dtype is not None:
            state.cast(self, dtype)
        if device is not None:
            nnx.update(self, jax.tree.map(lambda array: _placement.moved(array, device), nnx.state(self)))
        return self

    def cuda(self: M, device: Any = None) -> M:
        """Move parameters and buffers to a GPU: ``to("cuda")``."""
        return self.to("cuda" if device is None else device)

    def cpu(self: M) -> M:
        """Move parameters and buffers to the CPU: ``to("cpu")``."""
        return self.to("cpu")

    def xpu(self: M, device: Any = None) -> M:
        """Move parameters and buffers to an XPU; raises RuntimeError if JAX has none."""
        return self.to("xpu" if device is None else device)

    def ipu(self: M, device: Any = None) -> M:
        """Move parameters and buffers to an IPU; raises RuntimeError if JAX has none."""
        return self.to("ipu" if device is None else device)

    def mtia(self: M, device: Any = None) -> M:
        """Move parameters and buffers to an MTIA device; raises RuntimeError if JAX has none."""
        return self.to("mtia" if device is None else device)

    def to_empty(self: M, *, device: Any = None, recurse: bool = True) -> M:
        """Replace parameters and buffers by zeros on a device, before values are loaded.

        Use this method for a module from ``nnx.eval_shape``, which has shapes but no values.

        Args:
            device: device of the arrays. Default: JAX's default device.
            recurse: whether to include submodules.
        """
        device = None if device is None else _placement.as_device(device)
        for _, variable in state.named_variables(self, recurse=recurse, remove_duplicate=True):
            value = variable.get_raw_value()
            if not isinstance(value, Uninitialized):
                variable.set_value(jnp.zeros(value.shape, value.dtype, device=device))
        return self

    def share_memory(self) -> NoReturn:
        """Raise NotImplementedError: JAX arrays are not shared between processes."""
        raise NotImplementedError(
            "share_memory: JAX arrays are not shared between processes. Fix: pass state_dict() as numpy arrays, or use "
            "jax.distributed."
        )

    def compile(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise NotImplementedError: ``nnx.jit`` compiles functions."""
        raise NotImplementedError("compile: JAX compiles functions. Fix: nnx.jit(lambda model, x: model(x))(model, x)")

    def half(self: M) -> M:
        """Cast the floating-point parameters and buffers to float16."""
        return self.to(jnp.float16)

    def bfloat16(self: M) -> M:
        """Cast the floating-point parameters and buffers to bfloat16."""
        return self.to(jnp.bfloat16)

    def double(self: M) -> M:
        """Cast the floating-point parameters and buffers to float64; requires ``jax_enable_x64``."""
        return self.to(jnp.float64)

    # Text.

    def extra_repr(self) -> str:
        """Return the text that ``repr`` prints between the parentheses, before the submodules."""
        return self._extra_repr.format_map(vars(self))

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        lines = self.extra_repr().splitlines()
        is_leaf = len(lines) == 1
        for name, child in self._registered_modules():
            is_leaf = False
            lines.append(f"({name}): " + repr(child).replace("\n", "\n  "))
        inner = lines[0] if is_leaf else "".join(f"\n  {line}" for line in lines) + "\n" * bool(lines)
        return f"{self._get_name()}({inner})"

    def __str__(self) -> str:
        return repr(self)

    def _registered_modules(self) -> Iterator[tuple[str, nnx.Module | None]]:
        """Yield the children under all their names, including those that are None."""
        empty = {slot.name for slot in self._empty if issubclass(slot.registered_type, nnx.Module)}
        for name in self._order:
            value = vars(self).get(name)
            if name in empty or isinstance(value, nnx.Module):
                yield name, value

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name[0].isdigit()]

    # These two method names hide the builtins in annotations that follow in this class.

    def type(self: M, dst_type: DTypeLike) -> M:
        """Cast all parameters and buffers to a dtype, including those of integers."""
        dtype = _placement.as_dtype(dst_type)
        for _, variable in state.named_variables(self, remove_duplicate=True):
            variable.set_value(variable.get_raw_value().astype(dtype))
        return self

    def float(self: M) -> M:
        """Cast the floating-point parameters and buffers to float32."""
        return self.to(jnp.float32)


hooks.set_call(Module, Module.forward)


def adopt_all(value: Any) -> None:
    """Make plain ``nnx.Param``s freezable: the value itself, or those of a plain Flax module."""
    if isinstance(value, nnx.Variable):
        adopt(value)
    elif isinstance(value, nnx.Module) and not isinstance(value, Module):
        for _, parameter in state.named_parameters(value):
            adopt(parameter)


def _is_array(value: Any) -> bool:
    return isinstance(value, (jax.Array, np.ndarray, np.generic))


def _own(array: Any) -> jax.Array:
    """Return a JAX array that no other code can change: copy numpy arrays."""
    return array if isinstance(array, jax.Array) else jnp.array(array)


def _group(cls: Any) -> str:
    if issubclass(cls, nnx.Module):
        return "module"
    return "parameter" if issubclass(cls, nnx.Param) else "buffer"


def _without(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(known for known in names if known != name)


def _wrong_type(value: Any, group: str, name: str, expected: str, fix: str) -> TypeError:
    type_name = "Array" if isinstance(value, jax.Array) else type(value).__name__
    return TypeError(f"cannot assign {type_name!r} as {group} {name!r} ({expected} expected). Fix: {fix}.")
