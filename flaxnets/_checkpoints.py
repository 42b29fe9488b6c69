"""Checkpoints of other programs: state dicts inside of other mappings, and names with prefixes."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

# Names under which wrappers, such as DistributedDataParallel and torch.compile, store the wrapped module.
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def entries(checkpoint: Mapping[Any, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping]]:
    """Yield the path and the value of each state dict inside of ``checkpoint``, e.g. ``("state_dict",)``.

    A state dict is a mapping of names to arrays, at least one of which has axes; this excludes metrics. Optimizer
    states, which contain such mappings too, are skipped.
    """
    if "param_groups" in checkpoint:
        return
    for name, value in checkpoint.items():
        if not isinstance(name, str) or name.endswith("_extra_state") or not isinstance(value, Mapping):
            continue
        if _is_state_dict(value):
            yield (*path, name), value
        else:
            yield from entries(value, (*path, name))


def _is_state_dict(mapping: Mapping[Any, Any]) -> bool:
    return any(getattr(value, "ndim", 0) > 0 and hasattr(value, "dtype") for value in mapping.values()) and all(
        isinstance(name, str) and (name.endswith("_extra_state") or not isinstance(value, Mapping))
        for name, value in mapping.items()
    )


def subscript(path: tuple[str, ...]) -> str:
    """Return the Python expression for an entry: ``checkpoint['ema']['module']``."""
    return "checkpoint" + "".join(f"[{name!r}]" for name in path)


class _Renaming(NamedTuple):
    """A change of prefixes: ``strip`` is removed, ``add`` is added, and then ``fits`` names are expected ones."""

    fits: int
    strip: str
    add: str


def _suffixes(name: str) -> Iterator[tuple[str, str]]:
    """Yield each split of a dotted name into a prefix and the rest, beginning with no prefix."""
    yield "", name
    for position, character in enumerate(name):
        if character == ".":
            yield name[: position + 1], name[position + 1 :]


def _renamed(names: Collection[str], strip: str, add: str) -> set[str]:
    return {add + name.removeprefix(strip) for name in names if name.startswith(strip)}


def _best_prefixes(expected: set[str], names: Collection[str]) -> _Renaming:
    """Return the change of prefixes after which most names are expected."""
    by_rest = defaultdict(list)
    for name in names:
        for prefix, rest in _suffixes(name):
            by_rest[rest].append(prefix)
    # Only a sample of names proposes pairs, because thousands of names that end in "weight" would propose millions.
    sample = sorted(expected)[:: max(len(expected) // 64, 1)]
    proposed = Counter(
        (strip, add) for name in sample for add, rest in _suffixes(name) for strip in by_rest.get(rest, ())
    )
    tried = [_Renaming(len(expected & _renamed(names, *pair)), *pair) for pair, _ in proposed.most_common(32)]
    # Of equally good pairs take the shortest, so that no prefix is replaced by itself.
    return min(
        tried, key=lambda pair: (-pair.fits, len(pair.strip) + len(pair.add), pair), default=_Renaming(0, "", "")
    )


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _fix_names(expected: set[str], names: Collection[str], source: str) -> tuple[str, list[str]] | None:
    """Return why names do not fit and the code to rename them; None if renaming does not make most names fit."""
    now = len(expected.intersection(names))
    best = _best_prefixes(expected, names)
    bare = len(expected & {_without_wrappers(name) for name in names})
    if max(best.fits, bare) <= now or 2 * max(best.fits, bare) < min(len(expected), len(names)):
        return None
    if bare > best.fits:
        parts = sorted({part for name in names for part in name.split(".") if part in _WRAPPERS})
        cause = (
            f"{bare} of the {len(expected)} expected keys fit without the parts {', '.join(map(repr, parts))} in names"
        )
        key = "key" + "".join(f".replace({part + '.'!r}, '')" for part in parts)
        return cause, [f"state_dict = {{{key}: value for key, value in {source}.items()}}"]
    strip, add = best.strip, best.add
    total = f"{best.fits} of the {len(expected)} expected keys fit"
    if add:
        key = f"{add!r} + key.removeprefix({strip!r})" if strip else f"{add!r} + key"
        change = f"with {add!r} in the place of the prefix {strip!r}" if strip else f"with the prefix {add!r}"
        return f"{total} {change}", [f"state_dict = {{{key}: value for key, value in {source}.items()}}"]
    lines = [] if source == "state_dict" else [f"state_dict = {source}"]
    consume = f"flaxnets.nn.utils.consume_prefix_in_state_dict_if_present(state_dict, {strip!r})"
    return f"{total} without the prefix {strip!r}", [*lines, consume]


def advice(expected: Collection[str], checkpoint: Mapping[Any, Any]) -> str | None:
    """Return why ``checkpoint`` does not fit a module that expects these keys, and the code that loads it.

    Return None if neither an entry of the checkpoint nor other prefixes make more keys fit.
    """
    expected, inner = set(expected), list(entries(checkpoint))
    if not inner:
        fix = _fix_names(expected, [name for name in checkpoint if isinstance(name, str)], "state_dict")
        return fix and _text(fix[0], [*fix[1], "model.load_state_dict(state_dict)"])
    texts = []
    for path, state_dict in inner:
        source, names = subscript(path), list(state_dict)
        fix = _fix_names(expected, names, source)
        if fix:
            texts.append(
                _text(f"a state dict is under {source}: {fix[0]}", [*fix[1], "model.load_state_dict(state_dict)"])
            )
        else:
            fits = f"{len(expected.intersection(names))} of the {len(expected)} expected keys fit"
            texts.append(_text(f"a state dict is under {source}: {fits}", [f"model.load_state_dict({source})"]))
    return "\n  ".join(texts)


def _text(cause: str, lines: list[str]) -> str:
    return f"{cause}. Fix:" + "".join(f"\n      {line}" for line in lines)
