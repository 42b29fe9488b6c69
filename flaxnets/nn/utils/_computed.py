"""Attributes of layers that are computed from other parameters on every read."""

import dataclasses
import functools
from collections.abc import Mapping, MutableMapping
from typing import Any

import jax
from flax import nnx

from flaxnets import state
from flaxnets._uninitialized import Uninitialized


@dataclasses.dataclass(frozen=True)
class Computation:
    """Computation of a layer's attribute ``name``. Equal computations share a class, because jit compares classes."""

    name: str

    def __call__(self, layer: Any) -> jax.Array:
        """Return the attribute."""
        raise NotImplementedError

    def assign(self, layer: Any, value: Any) -> None:
        """Set the attribute, if the computation can be inverted."""
        raise AttributeError(
            f"{self.name!r} is computed on every read, and cannot be assigned. Fix: assign its parameters "
            f"{', '.join(name for name, _ in state.own_variables(layer) if name.startswith(self.name + '_'))}"
        )

    def before_call(self, layer: Any) -> None:
        """Prepare a forward computation; runs before each call."""

    def before_load(
        self,
        layer: Any,
        state_dict: MutableMapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        missing_keys: list[str],
    ) -> None:
        """Rename entries of an old state dict to the current names."""


@dataclasses.dataclass(frozen=True)
class Parametrized(Computation):
    """Attribute that the list ``layer.parametrizations[name]`` computes."""

    def __call__(self, layer: Any) -> jax.Array:
        return layer.parametrizations[self.name]()

    def assign(self, layer: Any, value: Any) -> None:
        layer.parametrizations[self.name].right_inverse(value)

    def before_load(
        self,
        layer: Any,
        state_dict: MutableMapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        missing_keys: list[str],
    ) -> None:
        for parametrization in layer.parametrizations[self.name]:
            if hasattr(parametrization, "_rename_old"):
                parametrization._rename_old(state_dict, prefix, self.name)


@dataclasses.dataclass(frozen=True)
class Masked(Computation):
    """Pruned parameter: ``weight_orig`` where the mask ``weight_mask`` is 1, else 0."""

    def __call__(self, layer: Any) -> jax.Array:
        """Return the parameter."""
        orig, mask = (getattr(layer, self.name + suffix)[...] for suffix in ("_orig", "_mask"))
        return mask.astype(orig.dtype) * orig


def rename(state_dict: MutableMapping[str, Any], renames: Mapping[str, str]) -> None:
    """Rename entries of a state dict, if all old names are present."""
    if all(old in state_dict for old in renames):
        for old, new in renames.items():
            state_dict[new] = state_dict.pop(old)


@functools.cache
def _class(cls: Any, computations: tuple[Computation, ...]) -> type:
    by_name = {computation.name: computation for computation in computations}

    def set_attribute(self: Any, name: str, value: Any) -> None:
        if name in by_name:
            by_name[name].assign(self, value[...])
        else:
            cls.__setattr__(self, name, value)

    def load(
        self: Any, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing_keys: list[str], *rest: Any
    ) -> None:
        for computation in computations:
            computation.before_load(self, state_dict, prefix, local_metadata, missing_keys)
        loader = getattr(cls, "_load_from_state_dict", state.load_from_state_dict)
        loader(self, state_dict, prefix, local_metadata, strict, missing_keys, *rest)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        for computation in computations:
            computation.before_call(self)
        return cls.__call__(self, *args, **kwargs)

    members = {name: property(computation) for name, computation in by_name.items()} | {
        "__setattr__": set_attribute,
        "_load_from_state_dict": load,
        "_parametrized": cls,
        "__doc__": cls.__doc__,
        "__module__": cls.__module__,
    }
    if any(type(computation).before_call is not Computation.before_call for computation in computations):
        members["__call__"] = functools.wraps(cls.__call__)(call)
    is_parametrized = any(isinstance(computation, Parametrized) for computation in computations)
    return type(cls)(f"Parametrized{cls.__name__}" if is_parametrized else cls.__name__, (cls,), members)


def become_computed(module: nnx.Module) -> None:
    """Set the class of the module to the one with its computations and parametrizations, or to its original class."""
    cls = getattr(type(module), "_parametrized", type(module))
    parametrized = (Parametrized(name) for name in vars(module).get("parametrizations", ()))
    computations = (*computations_of(module), *parametrized)
    object.__setattr__(module, "__class__", _class(cls, computations) if computations else cls)


def computations_of(module: nnx.Module) -> tuple[Computation, ...]:
    """Return the computations that :func:`compute` added."""
    return vars(module).get("_computations", ())


def check_parameter(module: nnx.Module, name: str, utility: str) -> nnx.Param:
    """Return the parameter ``name``; raise if a computation cannot replace it."""
    if any(computation.name == name for computation in computations_of(module)):
        raise RuntimeError(f"{utility}: {name!r} of {type(module).__name__} is already computed")
    parameter = vars(module).get(name)
    if not isinstance(parameter, nnx.Param):
        raise ValueError(f"{utility}: {type(module).__name__} has no parameter {name!r}")
    if isinstance(parameter.get_value(), Uninitialized):
        raise ValueError(f"{utility}: {name!r} is uninitialized. Fix: call the lazy layer once on an example before")
    return parameter


def compute(module: nnx.Module, computation: Computation, variables: Mapping[str, nnx.Variable]) -> None:
    """Replace a parameter by the variables with these suffixes and a computation from them."""
    delattr(module, computation.name)
    for suffix, variable in variables.items():
        setattr(module, computation.name + suffix, variable)
    object.__setattr__(module, "_computations", (*computations_of(module), computation))
    become_computed(module)


def stop_computing(module: nnx.Module, cls: type[Computation], name: str, suffixes: tuple[str, ...]) -> None:
    """Turn an attribute into a parameter again, with its current value.

    The first suffix is that of the stored parameter. Raises ValueError if no computation of this type computes the
    attribute.
    """
    matches = [c for c in computations_of(module) if c.name == name and type(c) is cls]
    if not matches:
        computed = [c.name for c in computations_of(module) if type(c) is cls]
        raise ValueError(f"{name!r} of {type(module).__name__} is not computed this way. Expected one of {computed}")
    holder: Any = module
    restored = getattr(holder, name + suffixes[0]).copy(matches[0](holder))
    object.__setattr__(module, "_computations", tuple(c for c in computations_of(module) if c is not matches[0]))
    become_computed(module)
    for suffix in suffixes:
        delattr(module, name + suffix)
    setattr(module, name, restored)
