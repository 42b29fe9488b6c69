"""State under torch's names and in torch's order, read off a module by walking it.

NNX sorts attributes by name when it merges a module, so the order of registration is a static attribute of the module
itself (``_order``, kept by :class:`flaxnets.nn.Module`). A module of plain Flax has none: its attribute order serves.
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

# Variables that are bookkeeping of Flax and that torch would not call parameters or buffers.
_NOT_STATE = (nnx.RngState, nnx.Intermediate, nnx.Cache)

_EXTRA_STATE = "_extra_state"

# Where a load's option lies among the metadata of a module, as torch has "assign_to_params_buffers" there.
_CAST = "flaxnets.cast"


class IncompatibleKeys(NamedTuple):
    """What :func:`load_state_dict` did not find in the mapping, and what it found there without a use for it."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def is_frozen(variable: Any) -> bool:
    """Returns whether this is a variable that no gradient flows into, such as one with ``requires_grad=False``.

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
    """Yields every name and module that the module holds directly, a shared one under each of its names."""
    return ((name, value) for name, value in _attributes(module) if isinstance(value, nnx.Module))


def named_children(module: nnx.Module) -> Iterator[tuple[str, nnx.Module]]:
    """Yields the name and the module of each direct child, in order of registration; a shared one once.

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
    """Yields the name and the variable of the module's own state, without its children: parameters, then buffers."""
    variables = [
        (name, value)
        for name, value in _attributes(module)
        if isinstance(value, nnx.Variable) and not isinstance(value, _NOT_STATE)
    ]
    # Two passes, since a sort would need to know that False comes before True.
    yield from ((name, value) for name, value in variables if isinstance(value, nnx.Param))
    yield from ((name, value) for name, value in variables if not isinstance(value, nnx.Param))


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def named_modules(
    module: nnx.Module, prefix: str = "", *, remove_duplicate: bool = True, memo: set[nnx.Module] | None = None
) -> Iterator[tuple[str, nnx.Module]]:
    """Yields the dotted name and the module of ``module`` itself (name ``""``) and of all below it, parents first.

    Args:
        module: where to begin.
        prefix: put before every name.
        remove_duplicate: list a module that is held under several names once, under the first of them.
        memo: modules to leave out, with all below them; those that are listed are added.

    >>> import flaxnets.nn as nn
    >>> [name for name, _ in named_modules(nn.Sequential(nn.Sequential(nn.ReLU()), nn.Flatten()))]
    ['', '0', '0.0', '1']
    """
    seen = {id(known) for known in memo or ()}

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
    """Yields the dotted name and the variable of all parameters and buffers, in the order of torch's ``state_dict``.

    Buffers with the metadata ``persistent=False`` are among them. A shared variable comes under each of its names,
    or, with ``remove_duplicate``, once under the first.

    Args:
        module: the module that has them.
        prefix: put before every name, with a dot between.
        recurse: whether the modules below this one are included.
        remove_duplicate: list a shared variable once.
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
    """Yields the dotted name and the variable of each parameter; a shared one once, unless ``remove_duplicate=False``.

    ``prefix`` and ``recurse`` are those of :func:`named_variables`.

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
    """Yields the dotted name and the variable of each buffer, those outside the state dict included.

    ``prefix`` and ``recurse`` are those of :func:`named_variables`.

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
    """The module's own parameters and buffers that its state dict has, without those of its children."""
    return ((name, own) for name, own in own_variables(module) if own.get_metadata().get("persistent", True))


def _prefix(path: str) -> str:
    return f"{path}." if path else ""


def state_dict(module: nnx.Module, prefix: str = "", keep_vars: bool = False) -> dict[str, Any]:
    """Returns the arrays of all parameters and persistent buffers under torch's names, in torch's order.

    Arrays have torch's shapes and memory order. A shared array is listed under each of its names. The arrays are the
    module's own, not copies: JAX arrays do not change. A module with a method ``get_extra_state`` has what the method
    returns under ``_extra_state``. As in torch, the attribute ``_metadata`` has the ``_version`` of every module.

    Args:
        module: the module that has them.
        prefix: put before every name as it is, as in torch: ``"model."``.
        keep_vars: whether the values are the variables themselves.

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
    """Whether the class defines ``get_extra_state``; the base class has it too, for its error alone."""
    return getattr(module, "_has_extra_state", hasattr(module, "get_extra_state"))


def _placed_like(array: Any, old: Any, dtype: Any) -> jax.Array:
    """``array`` with this dtype and the placement of ``old``, in memory of its own: the source may change later."""
    # JAX may read a host array after it has returned: what it gets is a copy that no one else can change.
    new = jnp.array(np.array(array) if isinstance(array, np.ndarray) else array, dtype=dtype)
    if isinstance(new, Tracer) or isinstance(old, Tracer) or not isinstance(old, jax.Array):
        return new
    return jax.device_put(new, old.sharding)


def _mismatches(name: str, value: Any, old: Any, cast: bool) -> Iterator[str]:
    """What keeps ``value`` from taking the place of ``old``; values of a wrong shape are not converted."""
    fits = isinstance(old, Uninitialized) or tuple(value.shape) in _shapes(old)
    if not fits:
        yield f"size mismatch for {name!r}: expected {tuple(old.shape)}, got {tuple(value.shape)}"
    dtype = _conversion.dtype_of(value)
    integers = fits and all(jnp.issubdtype(kind, jnp.integer) for kind in (dtype, old.dtype))
    if not (cast or dtype == old.dtype or (integers and _all_fit(_conversion.to_array(value), old.dtype))):
        yield f"dtype mismatch for {name!r}: expected {old.dtype}, got {dtype}; cast=True casts it"


def _shapes(old: Any) -> list[tuple[int, ...]]:
    """The shapes that can be loaded: torch had no arrays without axes before 0.4, and saved ``(1,)`` for ``()``."""
    return [tuple(old.shape), (1,)] if tuple(old.shape) == () else [tuple(old.shape)]


def _all_fit(array: Any, dtype: Any) -> bool:
    return bool((array.astype(dtype) == array).all())


def _assign(name: str, variable: nnx.Variable, value: Any, options: Mapping[str, Any]) -> list[str]:
    """Set ``variable`` to ``value``, or return what keeps it from doing so."""
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
    except (TypeError, RuntimeError, NotImplementedError) as error:  # a subclass of torch.Tensor, of any behaviour
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
    """Set the module's own parameters and buffers, without those of its children, from a state dict.

    This is what ``Module._load_from_state_dict`` does when no subclass overrides it; the arguments are torch's.

    Args:
        module: the module to fill.
        state_dict: arrays by their full names.
        prefix: of the module's names there: ``""``, or a path and a dot.
        local_metadata: what the state dict's ``_metadata`` has of the module, and the options of the load.
        strict: whether to add to the next two lists.
        missing_keys: gets the names that the state dict lacks.
        unexpected_keys: gets the names that the module lacks.
        error_msgs: gets a message for each value that cannot be taken.
    """
    own = dict(_persistent_variables(module))
    for name, variable in own.items():
        key = prefix + name
        if key in state_dict:
            error_msgs += _assign(key, variable, state_dict[key], local_metadata)
        elif strict:
            missing_keys.append(key)
    extra: Any = getattr(module, "set_extra_state", None)
    known = set(own)
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
    """The attributes and arrays of a module and of all below it, to go back to when a load fails."""

    def __init__(self, module: nnx.Module):
        self.modules = [(node, dict(vars(node))) for _, node in named_modules(module)]
        variables = {id(v): v for node, _ in self.modules for _, v in own_variables(node)}.values()
        self.variables = [(variable, type(variable), variable.get_raw_value()) for variable in variables]

    def restore(self) -> None:
        for node, attributes in self.modules:
            vars(node).clear()
            vars(node).update(attributes)
        for variable, kind, value in self.variables:
            object.__setattr__(variable, "__class__", kind)
            variable.set_raw_value(value)


def load_state_dict(
    module: nnx.Module, mapping: Mapping[str, Any], strict: bool = True, *, cast: bool = True, assign: bool = False
) -> IncompatibleKeys:
    """Assigns the arrays of ``mapping`` to the parameters and persistent buffers of ``module``, by name.

    Values may be numpy, jax or torch arrays; they are cast to the dtype that the module has, as torch does. Old state
    dicts load as in torch: every module may override ``_load_from_state_dict`` or register hooks, which see the
    versions in ``mapping._metadata`` if there are any; an array of shape ``(1,)`` is taken for one without axes.

    Args:
        module: the module to fill, changed in place.
        mapping: arrays by torch's names, e.g. ``torch_module.state_dict()``.
        strict: whether missing and unexpected keys are errors.
        cast: without it another dtype is an error too, unless both are integers and every value fits.
        assign: whether parameters and buffers take the dtype of the arrays instead. Shared ones stay shared.

    Returns:
        The missing and the unexpected keys; both empty where ``strict``.

    Raises:
        RuntimeError: for keys that are missing or unexpected (where ``strict``), and always for wrong shapes and for
            values that are no arrays: all of them in one message. Nothing is assigned then. Where an entry of the
            mapping is a state dict, or most keys fit with another prefix, the message says how to write that.

    Warns:
        UserWarning: without ``strict``, if no key fits and the keys of an entry, or with another prefix, do.

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
    """Load into ``module`` and, recursively, into its children."""
    metadata = getattr(mapping, "_metadata", None) or {}

    def load(node: Any, names: MutableMapping[str, Any], path: str) -> None:
        prefix = _prefix(path)
        loader = getattr(node, "_load_from_state_dict", functools.partial(load_from_state_dict, node))
        loader(names, prefix, {**metadata.get(path, {}), **options}, True, *keys, errors)
        below: dict[str, Any] = defaultdict(OrderedDict)
        for key in names:
            if key.startswith(prefix):
                below[key.removeprefix(prefix).partition(".")[0]][key] = names[key]
        for name, child in own_modules(node):
            load(child, below[name], _join(path, name))
        for hook in getattr(node, "_load_state_dict_post_hooks", ()):
            if hook.function(node, keys) is not None:
                raise AssertionError(f"the hook {hook.function!r} must return None; it may change the lists in place")

    load(module, OrderedDict(mapping), "")


def cast(module: nnx.Module, dtype: Any) -> None:
    """Casts the floating-point parameters and buffers of ``module`` to ``dtype``, in place.

    Complex ones are cast to the complex type of that precision.

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
