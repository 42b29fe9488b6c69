"""Pair layers by the user's mapping of names: a dict, regular expressions with templates, or a function."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

from flaxnets.parity.matching.aligning import align
from flaxnets.parity.matching.layers import FlaxLayer, Target
from flaxnets.parity.matching.linking import Link, Pairing, fits, pair
from flaxnets.parity.matching.torch_layers import Source, TorchLayer
from flaxnets.parity.matching.transforms import joined

Names = Mapping[str, str | Sequence[str]] | Callable[[str], str | None]


@dataclasses.dataclass
class _State:
    ours: list[TorchLayer]
    theirs: list[FlaxLayer]
    pairings: list[Pairing]
    problems: list[str]


def mapped_alignment(
    torch_layers: Sequence[TorchLayer], flax_layers: Sequence[FlaxLayer], names: Names
) -> tuple[list[Pairing], list[TorchLayer], list[FlaxLayer]]:
    """Pair the layers that the mapping names. Return the pairings and the remaining layers of both sides.

    Raises:
        ValueError: if names do not exist or shapes do not fit. The message lists all problems.

    >>> mapped_alignment([], [], {"fc": "head"})
    Traceback (most recent call last):
    ...
    ValueError: the mapping of names does not fit the modules:
      'fc' matches no torch module or tensor. Expected names with parameters. Fix: correct the key.
    """
    state = _State(list(torch_layers), list(flax_layers), [], [])
    resolved = _resolved(torch_layers, names, state.problems)
    variables = {target.path for layer in flax_layers for target in layer.targets}
    tensors = {name for layer in torch_layers for source in layer.sources.values() for name in source.names}
    single: dict[str, list[str]] = {}
    for name in sorted(resolved, key=lambda name: -name.count(".")):
        paths = resolved[name]
        if name in tensors and len(paths) == 1 and paths[0] in variables:
            single.setdefault(paths[0], []).append(name)
    for path, sources in single.items():
        order = list(resolved)
        _link_variable(state, path, sorted(sources, key=order.index))
    linked = {name for sources in single.values() for name in sources}
    for name in sorted((each for each in resolved if each not in linked), key=lambda name: -name.count(".")):
        _pair_modules(state, name, resolved[name])
    if state.problems:
        raise ValueError("the mapping of names does not fit the modules:\n  " + "\n  ".join(state.problems))
    return state.pairings, state.ours, state.theirs


def _resolved(layers: Sequence[TorchLayer], names: Names, problems: list[str]) -> dict[str, tuple[str, ...]]:
    """Return the Flax paths of torch modules and tensors, with templates expanded and functions called."""
    tensors = [name for layer in layers for source in layer.sources.values() for name in source.names]
    prefixes = (".".join(name.split(".")[:length]) for name in tensors for length in range(1, name.count(".") + 2))
    known = list(dict.fromkeys([*prefixes, *tensors]))
    if callable(names):
        results = {name: names(name) for name in known}
        return {name: (path,) for name, path in results.items() if path is not None}
    resolved: dict[str, tuple[str, ...]] = {}
    for key, value in names.items():
        paths = (value,) if isinstance(value, str) else tuple(value)
        if key in known:
            resolved[key] = paths
            continue
        try:
            matches = [match for name in known if (match := re.fullmatch(key, name))]
            filled = {match.string: tuple(match.expand(path) for path in paths) for match in matches}
        except re.error as error:
            problems.append(f"{key!r}: {value!r} is not a valid regular expression with its template: {error}.")
            continue
        if not matches:
            problems.append(
                f"{key!r} matches no torch module or tensor. Expected names with parameters. Fix: correct the key."
            )
        resolved |= {name: path for name, path in filled.items() if name not in resolved}
    return resolved


def _link_variable(state: _State, path: str, names: Sequence[str]) -> None:
    theirs = next((layer for layer in state.theirs if any(target.path == path for target in layer.targets)), None)
    matches = [
        (layer, role, source)
        for name in names
        for layer in state.ours
        for role, source in layer.sources.items()
        if source.names == (name,) and source.steps == "same"
    ]
    if theirs is None or len(matches) != len(names):
        state.problems.append(f"{path!r} or {names[0]!r} is named twice. Fix: name each tensor and variable once.")
        return
    target = next(target for target in theirs.targets if target.path == path)
    source = _together([each for *_, each in matches], theirs.shapes[target.role])
    steps = fits(source.shape, theirs.shapes[target.role], free=True) if source else []
    if source is None or not steps:
        shapes = [list(each.shape) for *_, each in matches]
        state.problems.append(
            f"{', '.join(names)} of the shapes {shapes} cannot be converted to {path!r}. "
            f"Expected {list(theirs.shapes[target.role])}. Fix: correct the names or the module."
        )
        return
    texts = tuple(joined(source.steps, step, target.steps) for step in steps)
    link = Link(target, source.names, texts[0])
    state.pairings.append(Pairing(tuple(layer for layer, *_ in matches), (theirs,), (link,), 1.0))
    for layer, role, _ in matches:
        _replace(state.ours, layer, _without_role(_current(state.ours, layer.label), role))
    _replace(state.theirs, theirs, _without_target(theirs, target))


def _together(sources: Sequence[Source], shape: tuple[int, ...]) -> Source | None:
    """Combine several tensors: their sum if each has the target shape, otherwise a concatenation of their rows."""
    if len(sources) == 1:
        return sources[0]
    names = tuple(name for source in sources for name in source.names)
    if all(source.shape == shape for source in sources):
        return Source(names, shape, "sum")
    if all(source.shape[1:] == shape[1:] for source in sources) and sum(s.shape[0] for s in sources) == shape[0]:
        return Source(names, shape, "concat")
    return None


def _current(layers: Sequence[TorchLayer], label: str) -> TorchLayer:
    return next(layer for layer in layers if layer.label == label)


def _without_role(layer: TorchLayer, role: str) -> TorchLayer | None:
    sources = {name: source for name, source in layer.sources.items() if name != role}
    return dataclasses.replace(layer, sources=sources) if sources else None


def _without_target(layer: FlaxLayer, target: Target) -> FlaxLayer | None:
    targets = tuple(each for each in layer.targets if each is not target)
    roles = {each.role for each in targets}
    shapes = {role: shape for role, shape in layer.shapes.items() if role in roles}
    return dataclasses.replace(layer, targets=targets, shapes=shapes) if targets else None


def _replace(layers: list, old: TorchLayer | FlaxLayer, new: TorchLayer | FlaxLayer | None) -> None:
    index = next(i for i, layer in enumerate(layers) if layer.label == old.label and layer.kind == old.kind)
    layers[index : index + 1] = [new] if new is not None else []


def _pair_modules(state: _State, name: str, paths: Sequence[str]) -> None:
    ours = [layer for layer in state.ours if _is_within(layer.name, name) or _is_within(layer.label, name)]
    groups = [[layer for layer in state.theirs if _is_within(layer.name, path)] for path in paths]
    missing = [path for path, group in zip(paths, groups, strict=True) if not group]
    if missing and ours:
        state.problems.append(
            f"{name!r}: the Flax module has no {missing[0]!r} with unmatched parameters. "
            "Expected the path of a module or a variable. Fix: correct the path."
        )
    theirs = [layer for group in groups for layer in group]
    if not ours or missing:
        return
    grouped = pair(ours, theirs) if len(ours) == 1 or len(theirs) == 1 else None
    pairings = [grouped] if grouped is not None else align(ours, theirs).pairings
    if not pairings:
        state.problems.append(
            f"{name!r} does not fit {', '.join(map(repr, paths))}: torch has {_described(ours)}, "
            f"Flax {_described(theirs)}. Fix: correct the names or the module."
        )
    state.pairings += pairings
    paired = {id(layer) for layer in (*ours, *theirs)}
    state.ours = [layer for layer in state.ours if id(layer) not in paired]
    state.theirs = [layer for layer in state.theirs if id(layer) not in paired]


def _is_within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _described(layers: Sequence[TorchLayer] | Sequence[FlaxLayer]) -> str:
    return ", ".join(f"{role} {list(shape)}" for layer in layers for role, shape in layer.shapes.items())
