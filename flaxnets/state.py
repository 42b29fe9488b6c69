"""State under torch's names and in torch's order, read off a module by walking it.

NNX sorts attributes by name when it merges a module, so the order of registration is a static attribute of the module
itself (``_order``, kept by :class:`flaxnets.nn.Module`). A module of plain Flax has none: its attribute order serves.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer

EXTRA_STATE = "_extra_state"  # torch's key of what get_extra_state returns

# Variables that are bookkeeping of Flax and that torch would not call parameters or buffers.
_NOT_STATE = (nnx.RngState, nnx.Intermediate, nnx.Cache)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Uninitialized:
    """The value of a parameter or buffer of a lazy layer before the first call: a dtype, and no shape yet.

    >>> import flaxnets.nn as nn
    >>> from flax import nnx
    >>> nn.LazyLinear(3, rngs=nnx.Rngs(0)).state_dict()["bias"]
    Uninitialized(dtype=dtype('float32'))
    """

    dtype: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Raises RuntimeError."""
        raise RuntimeError(
            "an uninitialized parameter or buffer has no shape; call the module on an example, or load a state dict"
        )

    def astype(self, dtype: Any) -> "Uninitialized":
        """As of an array."""
        return Uninitialized(jnp.dtype(dtype))


class IncompatibleKeys(NamedTuple):
    """What :func:`load_state_dict` did not find in the mapping, and what it found there without a use for it."""

    missing_keys: list[str]
    unexpected_keys: list[str]


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
    return ((name, kept) for name, kept in named_variables(module) if kept.get_metadata().get("persistent", True))


def state_dict(module: nnx.Module, prefix: str = "", keep_vars: bool = False) -> dict[str, Any]:
    """Returns the arrays of all parameters and persistent buffers under torch's names, in torch's order.

    Arrays have torch's shapes and memory order. A shared array is listed under each of its names. The arrays are the
    module's own, not copies: JAX arrays do not change.

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
    result: dict[str, Any] = {}
    _save(module, prefix, keep_vars, result)
    return result


def _save(module: nnx.Module, prefix: str, keep_vars: bool, result: dict[str, Any]) -> None:
    for hook in getattr(module, "_state_dict_pre_hooks", ()):
        hook.function(module, prefix, keep_vars)
    for name, variable in own_variables(module):
        if variable.get_metadata("persistent", True):
            result[prefix + name] = variable if keep_vars else variable.get_value()
    if getattr(module, "_has_extra_state", False):
        result[prefix + EXTRA_STATE] = module.get_extra_state()  # type: ignore[attr-defined]
    for name, child in own_modules(module):
        _save(child, f"{prefix}{name}.", keep_vars, result)
    for hook in getattr(module, "_state_dict_hooks", ()):
        returned = hook.function(module, result, prefix, {})
        if returned is not None:
            raise RuntimeError(
                f"a state_dict post-hook must change the dict in place and return None, got {returned!r}"
            )


def _extra_states(module: nnx.Module) -> Iterator[tuple[str, Any]]:
    """The keys of extra state, and the modules that have it."""
    for path, node in named_modules(module, remove_duplicate=False):
        if getattr(node, "_has_extra_state", False):
            yield _join(path, EXTRA_STATE), node


def _to_array(value: Any) -> Any:
    """A numpy or jax array from a numpy, jax or torch one; torch need not be installed for the first two."""
    if isinstance(value, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)):
        return value
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        # numpy has no bfloat16 of its own, and float32 holds every bfloat16 exactly.
        return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    raise TypeError(f"an object of type {type(value).__name__}")


def _placed_like(array: Any, old: Any) -> jax.Array:
    """``array`` with the dtype and the placement of ``old``, in memory of its own: the source may change later."""
    # JAX may read a host array after it has returned: what it gets is a copy that no one else can change.
    new = jnp.array(np.array(array) if isinstance(array, np.ndarray) else array, dtype=old.dtype)
    if isinstance(new, Tracer) or isinstance(old, Tracer) or not isinstance(old, jax.Array):
        return new
    return jax.device_put(new, old.sharding)


def _mismatches(name: str, array: Any, old: Any, cast: bool) -> Iterator[str]:
    """What keeps ``array`` from taking the place of ``old``."""
    if not isinstance(old, Uninitialized) and tuple(array.shape) != tuple(old.shape):
        yield f"size mismatch for {name!r}: expected {tuple(old.shape)}, got {tuple(array.shape)}"
    integers = all(jnp.issubdtype(dtype, jnp.integer) for dtype in (array.dtype, old.dtype))
    if not (cast or array.dtype == old.dtype or (integers and (array.astype(old.dtype) == array).all())):
        yield f"dtype mismatch for {name!r}: expected {old.dtype}, got {array.dtype}; cast=True casts it"


def load_state_dict(
    module: nnx.Module, mapping: Mapping[str, Any], strict: bool = True, *, cast: bool = True
) -> IncompatibleKeys:
    """Assigns the arrays of ``mapping`` to the parameters and persistent buffers of ``module``, by name.

    Values may be numpy, jax or torch arrays; they are cast to the dtype that the module has, as torch does.

    Args:
        module: the module to fill, changed in place.
        mapping: arrays by torch's names, e.g. ``torch_module.state_dict()``.
        strict: whether missing and unexpected keys are errors.
        cast: without it another dtype is an error too, unless both are integers and every value fits.

    Returns:
        The missing and the unexpected keys; both empty where ``strict``.

    Raises:
        RuntimeError: for keys that are missing or unexpected (where ``strict``), and always for wrong shapes and for
            values that are no arrays: all of them in one message. Nothing is assigned then.

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
    variables = dict(_persistent_variables(module))
    extras = dict(_extra_states(module))
    missing = [name for name in [*variables, *extras] if name not in mapping]
    unexpected = [name for name in mapping if name not in variables and name not in extras]
    problems = []
    if strict and unexpected:
        problems.append("unexpected keys: " + ", ".join(map(repr, unexpected)))
    if strict and missing:
        problems.append("missing keys: " + ", ".join(map(repr, missing)))

    arrays = {}
    for name in mapping.keys() & variables.keys():
        old = variables[name].get_value()
        if isinstance(old, Uninitialized) and isinstance(mapping[name], Uninitialized):
            continue
        try:
            arrays[name] = _to_array(mapping[name])
            problems += _mismatches(name, arrays[name], old, cast)
        except TypeError as error:
            expected = "any" if isinstance(old, Uninitialized) else tuple(old.shape)
            problems.append(f"{name!r}: expected an array of shape {expected}, got {error}")
    if problems:
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise RuntimeError(f"cannot load the state dict into {type(module).__name__}; nothing was assigned:{lines}")

    # In the module's order, so that of several names of one shared array the last one counts, as in torch.
    for name, variable in variables.items():
        if name in arrays:
            variable.set_value(_placed_like(arrays[name], variable.get_value()))
    for name in extras.keys() & mapping.keys():
        extras[name].set_extra_state(mapping[name])
    return IncompatibleKeys(missing, unexpected)


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
