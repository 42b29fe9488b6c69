"""Modules and variables of an NNX module by their dotted paths."""

from collections.abc import Iterator, Mapping
from typing import Any

from flax import nnx

# Variables that are not state of the model: random streams, recorded values and decoding caches.
NOT_STATE = (nnx.RngState, nnx.Intermediate, nnx.Cache)


def join(prefix: str, name: object) -> str:
    """Return a dotted path.

    >>> join("", "conv"), join("blocks", 0)
    ('conv', 'blocks.0')
    """
    return f"{prefix}.{name}" if prefix else str(name)


def named_modules(module: nnx.Module) -> dict[str, nnx.Module]:
    """Return the module under the name ``""`` and all its submodules, each under its first path.

    The modules are in the order in which their attributes were defined. ``nnx.merge`` and ``nnx.clone`` sort the
    attributes by name; :func:`clone` keeps their order.

    >>> list(named_modules(nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))))
    ['', 'layers', 'layers.0']
    """
    return {name: node for name, node in _walk(module) if isinstance(node, nnx.Module)}


def named_variables(module: nnx.Module, *, remove_duplicate: bool = True) -> dict[str, nnx.Variable]:
    """Return parameters, statistics and buffers by their paths.

    Args:
        module: any NNX module.
        remove_duplicate: whether a shared variable appears only under its first path.

    >>> list(named_variables(nnx.Linear(2, 3, rngs=nnx.Rngs(0))))
    ['kernel', 'bias']
    """
    walk = _walk(module, remove_duplicate=remove_duplicate)
    variables = {
        name: node for name, node in walk if isinstance(node, nnx.Variable) and not isinstance(node, NOT_STATE)
    }
    return {name: variable for name, variable in variables.items() if variable.get_raw_value() is not None}


def clone(module: nnx.Module) -> nnx.Module:
    """Copy a module with all variables; the attributes keep their order.

    >>> [*named_variables(clone(nnx.LayerNorm(2, rngs=nnx.Rngs(0))))]
    ['scale', 'bias']
    """
    copied = nnx.clone(module)
    _restore_order(module, copied, set())
    return copied


def _restore_order(node: Any, copied: Any, seen: set[int]) -> None:
    if not isinstance(node, (nnx.Module, list, tuple, Mapping)) or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, nnx.Module):
        _sort_as(vars(node), vars(copied))
    elif isinstance(node, dict):
        _sort_as(node, copied)
    children = dict(_children(copied))
    for key, child in _children(node):
        if key in children:
            _restore_order(child, children[key], seen)


def _sort_as(order: Mapping[Any, Any], mapping: dict[Any, Any]) -> None:
    ordered = {key: mapping[key] for key in order if key in mapping}
    rest = {key: value for key, value in mapping.items() if key not in ordered}
    mapping.clear()
    mapping.update(ordered | rest)


def _walk(
    node: Any,
    name: str = "",
    seen: set[int] | None = None,
    above: tuple[int, ...] = (),
    *,
    remove_duplicate: bool = True,
) -> Iterator[tuple[str, Any]]:
    seen = set() if seen is None else seen
    is_state = isinstance(node, (nnx.Module, nnx.Variable))
    if not is_state and not isinstance(node, (list, tuple, Mapping)):
        return
    if id(node) in above or (is_state and remove_duplicate and id(node) in seen):
        return
    seen.add(id(node))
    yield name, node
    if not isinstance(node, nnx.Variable):
        for key, child in _children(node):
            yield from _walk(child, join(name, key), seen, (*above, id(node)), remove_duplicate=remove_duplicate)


def _children(node: Any) -> Iterator[tuple[object, Any]]:
    if isinstance(node, nnx.Module):
        attributes = vars(node)
        order = attributes.get("_order", ())
        names = [*(key for key in order if key in attributes), *(key for key in attributes if key not in order)]
        yield from ((key, attributes[key]) for key in names if not key.startswith("_pytree__"))
    elif isinstance(node, Mapping):
        yield from node.items()
    else:
        yield from enumerate(node)
