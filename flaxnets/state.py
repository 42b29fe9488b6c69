"""Parameters and buffers of a module, under torch's names and in torch's order.

NNX sorts attributes by name when it merges a module. Therefore :class:`flaxnets.nn.Module` stores the order of
registration in a static attribute, ``_order``. For a plain Flax module, the order is the order of its attributes.
"""

import functools
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer

from flaxnets import _checkpoints, _conversion
from flaxnets._uninitialized import Uninitialized

# Flax bookkeeping, which is neither a parameter nor a buffer in torch.
_NOT_STATE = (nnx.RngState, nnx.Intermediate, nnx.Cache)

_EXTRA_STATE = "_extra_state"

# Key of the option ``cast`` in the local metadata, next to torch's "assign_to_params_buffers".
_CAST = "flaxnets.cast"


class IncompatibleKeys(NamedTuple):
    """Keys that the mapping of :func:`load_state_dict` lacks, and keys of the mapping that the module lacks."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def is_frozen(variable: Any) -> bool:
    """Return whether a variable gets no gradient, for example because of ``requires_grad=False``.

    >>> from flaxnets import nn
    >>> parameter = nn.Parameter(jnp.ones(2), requires_grad=False)
    >>> is_frozen(parameter), is_frozen(nnx.Param(jnp.ones(2)))
    (True, False)
    """
    return isinstance(variable, nnx.Variable) and bool(variable.get_metadata().get("frozen", False))


def _attributes(module: nnx.Module) -> Iterator[tuple[str, Any]]:
    attributes = vars(module)
    order = attributes.get("_order", ())
    yield from ((name, attributes[name]) for name in order if name in attributes)
    yield from ((name, value) for name, value in attributes.items() if name not in order)


def own_modules(module: nnx.Module) -> Iterator[tuple[str, nnx.Module]]:
    """Yield the name and the module of each direct child; a shared module is listed under each of its names."""
    return ((name, value) for name, value in _attributes(module) if isinstance(value, nnx.Module))


def named_children(module: nnx.Module) -> Iterator[tuple[str, nnx.Module]]:
    """Yield the name and the module of each direct child, in order of registration; a shared module is listed once.

    >>> import flaxnets.nn as nn
    >>> from flax import nnx
    >>> [name for name, _ in named_children(nn.Sequential(nn.Flatten(), nn.ReLU()))]
    ['0', '1']
    """
    seen: set[int] = set()
    for name, child in own_modules(module):
        if id(child) not in seen:
            seen.add(id(child))
            yield name, child


def own_variables(module: nnx.Module) -> Iterator[tuple[str, nnx.Variable]]:
    """Yield the name and the variable of each direct parameter, then of each direct buffer."""
    variables = [
        (name, value)
        for name, value in _attributes(module)
        if isinstance(value, nnx.Variable) and not isinstance(value, _NOT_STATE)
    ]
    yield from ((name, value) for name, value in variables if isinstance(value, nnx.Param))
    yield from ((name, value) for name, value in variables if not isinstance(value, nnx.Param))


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def named_modules(
    module: nnx.Module, prefix: str = "", *, remove_duplicate: bool = True, memo: set[nnx.Module] | None = None
) -> Iterator[tuple[str, nnx.Module]]:
    """Yield the dotted name and the module of ``module`` itself (name ``""``) and of all submodules, parents first.

    Args:
        module: the root.
        prefix: prefix of every name.
        remove_duplicate: whether a shared module is listed once, under its first name.
        memo: modules to skip together with their submodules; listed modules are added to it.

    >>> import flaxnets.nn as nn
    >>> [name for name, _ in named_modules(nn.Sequential(nn.Sequential(nn.ReLU()), nn.Flatten()))]
    ['', '0', '0.0', '1']
    """
    seen = {id(skipped) for skipped in memo or ()}

    def walk(node: nnx.Module, name: str) -> Iterator[tuple[str, nnx.Module]]:
        if remove_duplicate and id(node) in seen:
            return
        seen.add(id(node))
        if memo is not None:
            memo.add(node)
        yield name, node
        for child_name, child in own_modules(node):
            yield from walk(child, _join(name, child_name))

    return walk(module, prefix)


def named_variables(
    module: nnx.Module, prefix: str = "", recurse: bool = True, *, remove_duplicate: bool = False
) -> Iterator[tuple[str, nnx.Variable]]:
    """Yield the dotted name and the variable of all parameters and buffers, in the order of torch's ``state_dict``.

    Non-persistent buffers are included. A shared variable is listed under each of its names.

    Args:
        module: the module.
        prefix: prefix of every name, without the dot.
        recurse: whether to include submodules.
        remove_duplicate: whether to list a shared variable once, under its first name.
    """
    seen: set[int] = set()
    nodes = named_modules(module, prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, module)]
    for path, node in nodes:
        for name, variable in own_variables(node):
            if remove_duplicate and id(variable) in seen:
                continue
            seen.add(id(variable))
            yield _join(path, name), variable


def named_parameters(
    module: nnx.Module, prefix: str = "", recurse: bool = True, *, remove_duplicate: bool = True
) -> Iterator[tuple[str, nnx.Param]]:
    """Yield the dotted name and the variable of each parameter; a shared one once, unless ``remove_duplicate=False``.

    ``prefix`` and ``recurse`` are as in :func:`named_variables`.

    See `torch.nn.Module.named_parameters
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.named_parameters>`_.

    >>> import flaxnets.nn as nn
    >>> from flax import nnx
    >>> [(name, p.shape) for name, p in named_parameters(nn.Linear(3, 2, rngs=nnx.Rngs(0)))]
    [('weight', (2, 3)), ('bias', (2,))]
    """
    for name, variable in named_variables(module, prefix, recurse, remove_duplicate=remove_duplicate):
        if isinstance(variable, nnx.Param):
            yield name, variable


def named_buffers(
    module: nnx.Module, prefix: str = "", recurse: bool = True, *, remove_duplicate: bool = True
) -> Iterator[tuple[str, nnx.Variable]]:
    """Yield the dotted name and the variable of each buffer, including non-persistent ones.

    ``prefix`` and ``recurse`` are as in :func:`named_variables`.

    See `torch.nn.Module.named_buffers
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.named_buffers>`_.

    >>> import flaxnets.nn as nn
    >>> [name for name, _ in named_buffers(nn.BatchNorm2d(4))]
    ['running_mean', 'running_var', 'num_batches_tracked']
    """
    for name, variable in named_variables(module, prefix, recurse, remove_duplicate=remove_duplicate):
        if not isinstance(variable, nnx.Param):
            yield name, variable


def _persistent_variables(module: nnx.Module) -> Iterator[tuple[str, nnx.Variable]]:
    """Yield the direct parameters and persistent buffers, without those of submodules."""
    variables = own_variables(module)
    return ((name, variable) for name, variable in variables if variable.get_metadata().get("persistent", True))


def _prefix(path: str) -> str:
    return f"{path}." if path else ""


def state_dict(module: nnx.Module, prefix: str = "", keep_vars: bool = False) -> dict[str, Any]:
    """Return the arrays of all parameters and persistent buffers under torch's names, in torch's order.

    Arrays have torch's shapes and axis order. A shared array is listed under each of its names. The arrays are not
    copied, because JAX arrays are immutable. The result of a module's ``get_extra_state`` is listed as
    ``_extra_state``. As in torch, the attribute ``_metadata`` contains the ``_version`` of every module.

    Args:
        module: the module.
        prefix: prefix of every name, including the dot as in torch: ``"model."``.
        keep_vars: whether to return the variables instead of their arrays.

    See `torch.nn.Module.state_dict
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.state_dict>`_.

    >>> import flaxnets.nn as nn
    >>> from flax import nnx
    >>> list(state_dict(nn.Sequential(nn.Flatten(), nn.Linear(4, 2, rngs=nnx.Rngs(0)))))
    ['1.weight', '1.bias']
    """
    arrays: Any = OrderedDict()
    arrays._metadata = OrderedDict()
    _save(module, prefix, keep_vars, arrays)
    return arrays


def _save(module: Any, prefix: str, keep_vars: bool, arrays: Any) -> None:
    arrays._metadata[prefix.removesuffix(".")] = metadata = {"version": getattr(module, "_version", 1)}
    for hook in getattr(module, "_state_dict_pre_hooks", ()):
        hook.function(module, prefix, keep_vars)
    for name, variable in _persistent_variables(module):
        arrays[prefix + name] = variable if keep_vars else variable.get_value()
    if _has_extra_state(module):
        arrays[prefix + _EXTRA_STATE] = module.get_extra_state()
    for name, child in own_modules(module):
        _save(child, f"{prefix}{name}.", keep_vars, arrays)
    for hook in getattr(module, "_state_dict_hooks", ()):
        returned = hook.function(module, arrays, prefix, metadata)
        if returned is not None:
            raise RuntimeError(
                f"a state_dict post-hook must change the dict in place and return None, got {returned!r}"
            )


def _has_extra_state(module: nnx.Module) -> bool:
    """Return whether the class overrides ``get_extra_state``, which in the base class raises an error."""
    return getattr(module, "_has_extra_state", hasattr(module, "get_extra_state"))


def _placed_like(array: Any, old: Any, dtype: Any) -> jax.Array:
    """Return a copy of ``array`` with this dtype and the placement of ``old``."""
    # JAX may read a host array after the call returns, so the caller must not be able to change it.
    new = jnp.array(np.array(array) if isinstance(array, np.ndarray) else array, dtype=dtype)
    if isinstance(new, Tracer) or isinstance(old, Tracer) or not isinstance(old, jax.Array):
        return new
    return jax.device_put(new, old.sharding)


def _mismatches(name: str, value: Any, old: Any, cast: bool) -> Iterator[str]:
    """Yield the reasons why ``value`` cannot replace ``old``; values of a wrong shape are not converted."""
    fits = isinstance(old, Uninitialized) or tuple(value.shape) in _shapes(old)
    if not fits:
        yield f"size mismatch for {name!r}: expected {tuple(old.shape)}, got {tuple(value.shape)}"
    dtype = _conversion.dtype_of(value)
    integers = fits and all(jnp.issubdtype(kind, jnp.integer) for kind in (dtype, old.dtype))
    if not (cast or dtype == old.dtype or (integers and _all_fit(_conversion.to_array(value), old.dtype))):
        yield f"dtype mismatch for {name!r}: expected {old.dtype}, got {dtype}; cast=True casts it"


def _shapes(old: Any) -> list[tuple[int, ...]]:
    """Return the shapes that can be loaded: before 0.4, torch had no zero-dimensional tensors and saved ``(1,)``."""
    return [tuple(old.shape), (1,)] if tuple(old.shape) == () else [tuple(old.shape)]


def _all_fit(array: Any, dtype: Any) -> bool:
    return bool((array.astype(dtype) == array).all())


def _assign(name: str, variable: nnx.Variable, value: Any, options: Mapping[str, Any]) -> list[str]:
    """Set ``variable`` to ``value``, or return the reasons why this is not possible."""
    old = variable.get_value()
    if isinstance(old, Uninitialized) and (isinstance(value, Uninitialized) or _conversion.is_uninitialized(value)):
        return []
    try:
        _conversion.check_convertible(value)
    except TypeError as error:
        expected = "any" if isinstance(old, Uninitialized) else tuple(old.shape)
        return [f"{name!r}: expected an array of shape {expected}, got {error}"]
    assign, dtype = options.get("assign_to_params_buffers", False), _conversion.dtype_of(value)
    problems = list(_mismatches(name, value, old, assign or options.get(_CAST, True)))
    lost = jnp.issubdtype(old.dtype, jnp.inexact) and not jnp.issubdtype(dtype, jnp.inexact)
    if assign and lost and isinstance(variable, nnx.Param):
        problems.append(f"{name!r}: expected a floating-point or complex parameter, got dtype {dtype}")
    if problems:
        return problems
    try:
        array = _conversion.to_array(value)
    except (TypeError, RuntimeError, NotImplementedError) as error:  # subclasses of torch.Tensor may raise any of these
        cause = str(error).splitlines()[0]
        return [f"{name!r}: a {type(value).__name__} cannot be converted: {cause}"]
    shape = array.shape if isinstance(old, Uninitialized) else old.shape
    new_dtype = jax.dtypes.canonicalize_dtype(dtype) if assign else old.dtype
    variable.set_value(_placed_like(array.reshape(shape), old, new_dtype))
    return []


def load_from_state_dict(
    module: nnx.Module,
    state_dict: MutableMapping[str, Any],
    prefix: str,
    local_metadata: Mapping[str, Any],
    strict: bool,
    missing_keys: list[str],
    unexpected_keys: list[str],
    error_msgs: list[str],
) -> None:
    """Set the direct parameters and buffers of a module, without its submodules, from a state dict.

    This is the default of ``Module._load_from_state_dict``; the arguments are torch's.

    Args:
        module: the module to fill.
        state_dict: arrays by their full names.
        prefix: prefix of the module's names in the state dict: ``""``, or a path and a dot.
        local_metadata: entry of the module in the state dict's ``_metadata``, and the options of the load.
        strict: whether to extend the next two lists.
        missing_keys: list to which names that the state dict lacks are added.
        unexpected_keys: list to which names that the module lacks are added.
        error_msgs: list to which a message is added for each value that cannot be assigned.
    """
    variables = dict(_persistent_variables(module))
    for name, variable in variables.items():
        key = prefix + name
        if key in state_dict:
            error_msgs += _assign(key, variable, state_dict[key], local_metadata)
        elif strict:
            missing_keys.append(key)
    extra: Any = getattr(module, "set_extra_state", None)
    known = set(variables)
    if _has_extra_state(module):
        known.add(_EXTRA_STATE)
        if prefix + _EXTRA_STATE in state_dict:
            extra(state_dict[prefix + _EXTRA_STATE])
        elif strict:
            missing_keys.append(prefix + _EXTRA_STATE)
    if strict:
        children = {name for name, _ in own_modules(module)}
        names = (key.removeprefix(prefix) for key in state_dict if key.startswith(prefix))
        unexpected_keys += [
            prefix + name
            for name in names
            if name not in known and not ("." in name and name.partition(".")[0] in children)
        ]


class _Snapshot:
    """Attributes and arrays of a module and its submodules, to restore after a failed load."""

    def __init__(self, module: nnx.Module):
        self.modules = [(node, dict(vars(node))) for _, node in named_modules(module)]
        variables = {id(v): v for node, _ in self.modules for _, v in own_variables(node)}.values()
        self.variables = [(variable, type(variable), variable.get_raw_value()) for variable in variables]

    def restore(self) -> None:
        for node, attributes in self.modules:
            vars(node).clear()
            vars(node).update(attributes)
        for variable, variable_type, value in self.variables:
            object.__setattr__(variable, "__class__", variable_type)
            variable.set_raw_value(value)


def load_state_dict(
    module: nnx.Module, mapping: Mapping[str, Any], strict: bool = True, *, cast: bool = True, assign: bool = False
) -> IncompatibleKeys:
    """Assign the arrays of ``mapping`` to the parameters and persistent buffers of ``module``, by name.

    Values may be NumPy, JAX or torch arrays. As in torch, they are cast to the dtype of the module. Old state dicts
    load as in torch: a module may override ``_load_from_state_dict`` or register hooks, which get the versions in
    ``mapping._metadata``; an array of shape ``(1,)`` is accepted for a zero-dimensional one.

    Args:
        module: the module, changed in place.
        mapping: arrays by torch's names, e.g. ``torch_module.state_dict()``.
        strict: whether missing and unexpected keys are errors.
        cast: whether to cast values to the module's dtype. If false, another dtype is an error, except for integers
            whose values fit.
        assign: whether parameters and buffers get the dtype of the arrays instead. Shared ones stay shared.

    Returns:
        The missing and the unexpected keys; both are empty if ``strict``.

    Raises:
        RuntimeError: if ``strict``, for missing or unexpected keys; always for wrong shapes and for values that are
            not arrays. One message lists all of them, and nothing is assigned. If an entry of the mapping is a state
            dict, or if most keys fit with another prefix, the message contains the code that loads it.
        TypeError: if ``mapping`` is not a mapping, or has a key that is not a string.

    Warns:
        UserWarning: if not ``strict`` and no key fits, but the keys of an entry, or keys with another prefix, do.

    See `torch.nn.Module.load_state_dict
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.load_state_dict>`_.

    >>> import flaxnets.nn as nn
    >>> import numpy as np
    >>> from flax import nnx
    >>> layer = nn.Linear(2, 1, rngs=nnx.Rngs(0))
    >>> load_state_dict(layer, {"weight": np.ones((1, 2)), "bias": np.zeros(1)})
    IncompatibleKeys(missing_keys=[], unexpected_keys=[])
    """
    if not isinstance(mapping, Mapping):
        raise TypeError(f"load_state_dict: expected a mapping of names to arrays, got {type(mapping).__name__}")
    for key in mapping:
        if not isinstance(key, str):
            raise TypeError(f"load_state_dict: expected names as keys, got {key!r}, of type {type(key).__name__}")
    keys, errors = IncompatibleKeys([], []), []
    snapshot = _Snapshot(module)
    try:
        _load(module, mapping, {_CAST: cast, **({"assign_to_params_buffers": True} if assign else {})}, keys, errors)
        if strict and keys.missing_keys:
            errors.insert(0, "missing keys: " + ", ".join(map(repr, keys.missing_keys)))
        if strict and keys.unexpected_keys:
            errors.insert(0, "unexpected keys: " + ", ".join(map(repr, keys.unexpected_keys)))
        if errors:
            errors += filter(None, [_advice(module, mapping)])
            lines = "".join(f"\n  {problem}" for problem in errors)
            raise RuntimeError(f"cannot load the state dict into {type(module).__name__}; nothing was assigned:{lines}")
    except BaseException:
        snapshot.restore()
        raise
    if mapping and len(keys.unexpected_keys) == len(mapping):
        text = _advice(module, mapping)
        if text:
            warnings.warn(
                f"no key of the state dict fits {type(module).__name__}, nothing was assigned: {text}", stacklevel=2
            )
    return keys


def _advice(module: nnx.Module, mapping: Mapping[str, Any]) -> str | None:
    return _checkpoints.advice(state_dict(module), mapping)


def _load(
    module: nnx.Module, mapping: Mapping[str, Any], options: dict[str, Any], keys: IncompatibleKeys, errors: list[str]
) -> None:
    """Load into ``module`` and, recursively, into its submodules."""
    metadata = getattr(mapping, "_metadata", None) or {}

    def load(node: Any, names: MutableMapping[str, Any], path: str) -> None:
        prefix = _prefix(path)
        loader = getattr(node, "_load_from_state_dict", functools.partial(load_from_state_dict, node))
        loader(names, prefix, {**metadata.get(path, {}), **options}, True, *keys, errors)
        by_child: dict[str, Any] = defaultdict(OrderedDict)
        for key in names:
            if key.startswith(prefix):
                by_child[key.removeprefix(prefix).partition(".")[0]][key] = names[key]
        for name, child in own_modules(node):
            load(child, by_child[name], _join(path, name))
        for hook in getattr(node, "_load_state_dict_post_hooks", ()):
            if hook.function(node, keys) is not None:
                raise AssertionError(f"the hook {hook.function!r} must return None; it may change the lists in place")

    load(module, OrderedDict(mapping), "")


def cast(module: nnx.Module, dtype: Any) -> None:
    """Cast the floating-point parameters and buffers of ``module`` to ``dtype``, in place.

    Complex ones are cast to the complex dtype of the same precision.

    >>> import flaxnets.nn as nn
    >>> import jax.numpy as jnp
    >>> norm = nn.BatchNorm1d(2)
    >>> cast(norm, jnp.bfloat16)
    >>> norm.running_mean.dtype, jnp.issubdtype(norm.num_batches_tracked.dtype, jnp.integer)
    (dtype(bfloat16), True)
    """
    for _, variable in named_variables(module, remove_duplicate=True):
        value = variable.get_value()
        if jnp.issubdtype(value.dtype, jnp.floating):
            variable.set_value(value.astype(dtype))
        elif jnp.issubdtype(value.dtype, jnp.complexfloating):
            variable.set_value(value.astype(jnp.result_type(dtype, jnp.complex64)))
