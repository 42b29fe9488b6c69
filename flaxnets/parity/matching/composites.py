"""Pair the modules of the two sides that contain the same parameters, and so compute the same function."""

from collections.abc import Mapping, Sequence
from typing import Any

from flax import nnx

from flaxnets.parity._torch import torch
from flaxnets.parity.matching.layers import find_row
from flaxnets.parity.matching.linking import Link
from flaxnets.parity.trees import join, named_modules

Pairs = tuple[tuple[str, str], ...]


def composites(torch_module: torch.nn.Module, flax_module: nnx.Module, links: Sequence[Link]) -> Pairs:
    """Return pairs of torch module name and Flax module path: layers, and modules that contain the same layers.

    The whole models are always a pair. If several modules are nested around the same parameters, the outermost modules
    are paired, and the innermost modules. A recurrent layer of torch has no cell module inside, and is paired with the
    Flax module that runs the cell. Dropout layers are paired in order within paired modules.

    >>> composites(torch.nn.Linear(2, 3), nnx.Linear(2, 3, rngs=nnx.Rngs(0)), [])
    (('', ''),)
    """
    theirs = {name: child for name, child in named_modules(flax_module).items() if callable(child)}
    ours = {name: child for name, child in torch_module.named_modules() if not _is_container(child)}
    torch_sets = {name: _within(name, [link.names for link in links]) for name in ours}
    flax_sets = {name: _within(name, [(link.target.path,) for link in links]) for name in theirs}
    by_links: dict[frozenset[int], tuple[list[str], list[str]]] = {}
    for side, sets in enumerate((torch_sets, flax_sets)):
        for name, link_indices in sets.items():
            if link_indices:
                by_links.setdefault(link_indices, ([], []))[side].append(name)
    pairs = [("", "")]
    for names, paths in by_links.values():
        names, paths = [name for name in names if name], [path for path in paths if path]
        pairs += _chain([(name, ours[name]) for name in names], paths, theirs)
    pairs += _dropouts(ours, theirs, dict(pairs))
    order = {name: index for index, name in enumerate(ours)}
    return tuple(sorted(pairs, key=lambda pair: order[pair[0]]))


def _is_container(module: Any) -> bool:
    return isinstance(
        module, (torch.nn.ModuleList, torch.nn.ModuleDict, torch.nn.ParameterList, torch.nn.ParameterDict)
    )


def _within(name: str, names: Sequence[tuple[str, ...]]) -> frozenset[int]:
    prefix = join(name, "")
    return frozenset(i for i, each in enumerate(names) if each and all(one.startswith(prefix) for one in each))


def _chain(
    ours: Sequence[tuple[str, Any]], paths: Sequence[str], theirs: Mapping[str, nnx.Module]
) -> list[tuple[str, str]]:
    """Pair modules that are nested around the same parameters, from the outermost to the innermost module."""
    if not ours or not paths:
        return []
    *outer, (innermost, module) = ours
    last = len(paths) - 1
    if isinstance(module, torch.nn.RNNBase) and last and _is_cell(paths[-1], theirs[paths[-1]]):
        last -= 1
    around = zip((name for name, _ in outer), paths[:last], strict=False)
    return [*around, (innermost, paths[last])]


def _is_cell(path: str, module: nnx.Module) -> bool:
    row = find_row(module)
    return row.kind == "cell" if row else "cell" in f"{path} {type(module).__name__}".lower()


def _dropouts(
    ours: Mapping[str, Any], theirs: Mapping[str, nnx.Module], partners: Mapping[str, str]
) -> list[tuple[str, str]]:
    torch_groups = _by_nearest([n for n, m in ours.items() if _drops(m)], partners)
    flax_groups = _by_nearest(
        [path for path, child in theirs.items() if isinstance(child, nnx.Dropout)], list(partners.values())
    )
    result = []
    for nearest, names in torch_groups.items():
        paths = flax_groups.get(partners[nearest], [])
        if len(paths) == len(names):
            result += list(zip(names, paths, strict=True))
    return result


def _drops(module: Any) -> bool:
    return isinstance(module, (torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d))


def _by_nearest(names: Sequence[str], around: Sequence[str] | Mapping[str, str]) -> dict[str, list[str]]:
    """Group names by the innermost module that contains them."""
    result: dict[str, list[str]] = {}
    for name in names:
        prefix = name
        while prefix and prefix not in around:
            prefix = prefix.rpartition(".")[0]
        result.setdefault(prefix, []).append(name)
    return result
