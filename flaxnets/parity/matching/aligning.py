"""Which torch layer is which Flax layer: alignment of the two sequences of layers by kind, shapes, order and names."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

from flaxnets.parity.matching.layers import FlaxLayer
from flaxnets.parity.matching.linking import Pairing, flax_parts, groups, pair, signature, torch_parts
from flaxnets.parity.matching.naming import likeness, normalised, same_numbers
from flaxnets.parity.matching.torch_layers import TorchLayer

# A pairing is worth this much for each layer in it; likeness of names adds less than that.
_WORTH = 5.0
# How much better other names must fit before they count more than the order of the layers.
_CLEAR = 0.25
# Names that are as alike as this say that two layers are the same.
_NAMED = 0.45


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Pairings, and the layers of both sides that have no partner."""

    pairings: list[Pairing]
    torch: list[TorchLayer]
    flax: list[FlaxLayer]


def align(torch_layers: Sequence[TorchLayer], flax_layers: Sequence[FlaxLayer]) -> Alignment:
    """Pair the layers of the two sides, each in the order of its execution or definition.

    Layers whose names are equal but for style are paired first, where that pairs all layers of their shapes. The rest
    is aligned in order; layers that crossed others are aligned among themselves; then single parameters of users' own
    layers. Among layers of equal shapes, names that clearly fit better decide against the order.

    >>> align([], []).pairings
    []
    """
    scores = _Scores()
    pairings = _equal_names(torch_layers, flax_layers, scores)
    ours, theirs = _remaining(torch_layers, flax_layers, pairings)
    # A user's own parameters have no order of execution, and may be in the way of layers that have one.
    known = [[layer for layer in side if layer.kind != "parameters"] for side in (ours, theirs)]
    passes = _in_passes([(ours, theirs)], scores)
    if known != [ours, theirs]:
        passes = max(passes, _in_passes([known, (ours, theirs)], scores), key=lambda each: each[0])
    pairings += _with_common_parents(passes[1], passes[2])
    ours, theirs = _remaining(ours, theirs, pairings)
    pairings += _single_parameters(ours, theirs, pairings, scores)
    pairings = _with_clear_names(_sorted(pairings, torch_layers), flax_layers)
    ours, theirs = _remaining(ours, theirs, pairings)
    return Alignment(pairings, ours, theirs)


def _in_passes(sides: Sequence[Sequence[Sequence]], scores: "_Scores") -> tuple[float, list[Pairing], int]:
    """Align pairs of sequences one after another, each until nothing fits any more.

    Returns:
        The score, the pairings, and how many of them, at the beginning, cross none of each other.
    """
    total, pairings, in_order = 0.0, [], 0
    for ours, theirs in sides:
        while True:
            ours, theirs = _remaining(ours, theirs, pairings)
            score, new = _best(ours, theirs, scores)
            if not new:
                break
            total, pairings = total + score, [*pairings, *new]
            in_order = in_order or len(pairings)
    return total, pairings, in_order


def _with_common_parents(pairings: Sequence[Pairing], in_order: int) -> list[Pairing]:
    """Exchange partners of layers that crossed others, where more of what is around them then is paired, too.

    Args:
        pairings: all pairings.
        in_order: how many of them, at the beginning, cross none of each other.
    """
    result = list(pairings)
    both: Counter[tuple[str, str]] = Counter()
    either: tuple[Counter[str], Counter[str]] = Counter(), Counter()
    for pairing in pairings:
        for ours, theirs in itertools.product(pairing.torch, pairing.flax):
            both.update(itertools.product(_parents(ours), _parents(theirs)))
            either[0].update(_parents(ours))
            either[1].update(_parents(theirs))

    def common(a: str, b: str) -> float:
        """Return the part of what two modules hold that is paired, from 0 to 1."""
        return both[a, b] / (either[0][a] + either[1][b] - both[a, b])

    def support(ours: TorchLayer, theirs: FlaxLayer) -> float:
        return sum(max((common(a, b) for b in _parents(theirs)), default=0.0) for a in _parents(ours))

    for indices in interchangeable(result):
        for a, b in itertools.combinations(indices, 2):
            (x,), (u,), (y,), (v,) = result[a].torch, result[a].flax, result[b].torch, result[b].flax
            if b >= in_order and support(x, v) + support(y, u) > support(x, u) + support(y, v):
                result[a], result[b] = exchanged(result[a], result[b])
    return result


def _parents(layer: TorchLayer | FlaxLayer) -> list[str]:
    parts = layer.label.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def likelier(
    first: tuple[list[TorchLayer], list[FlaxLayer]], second: tuple[list[TorchLayer], list[FlaxLayer]]
) -> tuple[list[TorchLayer], list[FlaxLayer]]:
    """Return which of two orders of the same layers runs more alike on the two sides, the first if none does.

    >>> likelier(([], []), ([], []))
    ([], [])
    """
    if [*map(id, first[0]), *map(id, first[1])] == [*map(id, second[0]), *map(id, second[1])]:
        return first
    scores = _Scores()
    return max(first, second, key=lambda layers: round(_total(*layers, scores), 6))


class _Scores:
    """Pairings of layers by their signatures, so that equal layers are compared once."""

    def __init__(self) -> None:
        self._qualities: dict[tuple[int, int], float] = {}
        self._numbers: dict[tuple, int] = {}
        self._signatures: dict[int, tuple[int, TorchLayer | FlaxLayer]] = {}

    def _signature(self, layer: TorchLayer | FlaxLayer) -> int:
        """Return a number that layers of the same signature and type share."""
        if id(layer) not in self._signatures:
            key = (type(layer), layer.type, signature(layer))
            # The layer is kept, so that no other layer gets its id.
            self._signatures[id(layer)] = self._numbers.setdefault(key, len(self._numbers)), layer
        return self._signatures[id(layer)][0]

    def quality(self, ours: TorchLayer, theirs: FlaxLayer) -> float:
        key = (self._signature(ours), self._signature(theirs))
        if key not in self._qualities:
            pairing = pair([ours], [theirs])
            self._qualities[key] = pairing.quality if pairing else 0.0
        return self._qualities[key]

    def score(self, ours: TorchLayer, theirs: FlaxLayer) -> float:
        quality = self.quality(ours, theirs)
        return quality and 2 * _WORTH * quality + _name_bonus(ours, theirs)


def _name_bonus(ours: TorchLayer, theirs: FlaxLayer) -> float:
    return 1.5 * likeness(ours.label, theirs.label) + 0.5 * same_numbers(ours.label, theirs.label)


def _remaining(
    ours: Iterable[TorchLayer], theirs: Iterable[FlaxLayer], pairings: Sequence[Pairing]
) -> tuple[list[TorchLayer], list[FlaxLayer]]:
    done = {id(layer) for pairing in pairings for layer in (*pairing.torch, *pairing.flax)}
    return [each for each in ours if id(each) not in done], [each for each in theirs if id(each) not in done]


def _equal_names(ours: Sequence[TorchLayer], theirs: Sequence[FlaxLayer], scores: _Scores) -> list[Pairing]:
    """Pair layers by name, where the names of all layers of one signature are equal on the two sides."""
    by_signature: dict[tuple, tuple[list[TorchLayer], list[FlaxLayer]]] = {}
    for layer in ours:
        by_signature.setdefault(signature(layer), ([], []))[0].append(layer)
    for layer in theirs:
        best = next(
            (key for key, (some, _) in by_signature.items() if some and scores.quality(some[0], layer) > 0.9), None
        )
        if best is not None:
            by_signature[best][1].append(layer)
    result = []
    for some, others in by_signature.values():
        names, other_names = ([normalised(layer.label) for layer in side] for side in (some, others))
        if len(set(names)) == len(names) and sorted(names) == sorted(other_names):
            partners = dict(zip(other_names, others, strict=True))
            pairings = [pair([layer], [partners[name]]) for layer, name in zip(some, names, strict=True)]
            result += [pairing for pairing in pairings if pairing is not None]
    return result


def _total(ours: Sequence[TorchLayer], theirs: Sequence[FlaxLayer], scores: _Scores) -> float:
    return _best(ours, theirs, scores)[0]


def _in_order(ours: Sequence[TorchLayer], theirs: Sequence[FlaxLayer], scores: _Scores) -> list[Pairing]:
    """Return the best alignment in which no two pairings cross."""
    return _best(ours, theirs, scores)[1]


def _best(ours: Sequence[TorchLayer], theirs: Sequence[FlaxLayer], scores: _Scores) -> tuple[float, list[Pairing]]:
    """Return the best alignment in which no two pairings cross, and its score."""
    best = [[0.0] * (len(theirs) + 1) for _ in range(len(ours) + 1)]
    moves: dict[tuple[int, int], tuple[int, int]] = {}
    grouped: dict[tuple[int, int, int, int], Pairing] = {}

    def offer(i: int, j: int, value: float, move: tuple[int, int]) -> None:
        if value > best[i][j]:
            best[i][j], moves[i, j] = value, move

    for i in range(len(ours) + 1):
        for j in range(len(theirs) + 1):
            if i == j == 0:
                continue
            best[i][j] = -1.0
            if i:
                offer(i, j, best[i - 1][j], (1, 0))
            if j:
                offer(i, j, best[i][j - 1], (0, 1))
            if not i or not j:
                continue
            score = scores.score(ours[i - 1], theirs[j - 1])
            if score:
                offer(i, j, best[i - 1][j - 1] + score, (1, 1))
            for a, b in _group_moves(ours[i - 1], theirs[j - 1], i, j):
                pairing = pair(ours[i - a : i], theirs[j - b : j])
                if pairing is not None:
                    grouped[i, j, a, b] = pairing
                    names = _name_bonus(ours[i - 1], theirs[j - 1])
                    offer(i, j, best[i - a][j - b] + _WORTH * (a + b) * pairing.quality + names, (a, b))
    return best[-1][-1], [
        pairing
        for i, j, a, b in _path(moves, len(ours), len(theirs))
        if (pairing := grouped.get((i, j, a, b)) or pair(ours[i - a : i], theirs[j - b : j])) is not None
    ]


def _path(moves: dict[tuple[int, int], tuple[int, int]], i: int, j: int) -> list[tuple[int, int, int, int]]:
    """Return the moves that pair layers on the best way to ``(i, j)``, each with the place that it leads to."""
    path = []
    while i or j:
        a, b = moves[i, j]
        if a and b:
            path.append((i, j, a, b))
        i, j = i - a, j - b
    return path[::-1]


def _group_moves(ours: TorchLayer, theirs: FlaxLayer, i: int, j: int) -> list[tuple[int, int]]:
    kinds = {ours.kind, theirs.kind}
    if not (kinds <= {"linear", "cell"} or kinds == {"conv"}):
        return []
    moves = []
    a, b = ours.shapes.get("weight", ()), theirs.shapes.get("weight", ())
    if ours.kind == theirs.kind != "cell" and (a[1:] != b[1:] or a == b):
        return []  # rows of one are no rows of the other
    if ours.kind in ("cell", theirs.kind):
        moves += [(1, count) for count in groups(ours.kind, ours.type) if count <= j]
    if theirs.kind in ("cell", ours.kind):
        counts = (2,) if theirs.kind == "cell" else groups(theirs.kind, theirs.type)
        moves += [(count, 1) for count in counts if count <= i]
    return moves


def _sorted(pairings: Sequence[Pairing], order: Sequence[TorchLayer]) -> list[Pairing]:
    positions = {id(layer): position for position, layer in enumerate(order)}
    return sorted(pairings, key=lambda pairing: positions.get(id(pairing.torch[0]), len(positions)))


def _single_parameters(
    ours: Sequence[TorchLayer], theirs: Sequence[FlaxLayer], pairings: Sequence[Pairing], scores: _Scores
) -> list[Pairing]:
    """Pair what is left parameter by parameter, if at least one side is a user's own layer."""
    names = {name for pairing in pairings for link in pairing.links for name in link.names}
    made = {(link.target.path, link.target.index) for pairing in pairings for link in pairing.links}
    free = [layer for pairing in pairings for layer in pairing.torch if layer.kind == "parameters"]
    taken = [layer for pairing in pairings for layer in pairing.flax if layer.kind == "parameters"]
    left = [part for layer in (*ours, *free) for part in torch_parts(layer) if not set(_names(part)) & names]
    lacking = [
        part
        for layer in (*theirs, *taken)
        for part in flax_parts(layer)
        if not {(target.path, target.index) for target in part.targets} & made
    ]
    result: list[Pairing] = []
    while True:
        pairs = [p for p in _in_order(left, lacking, scores) if "parameters" in (p.torch[0].kind, p.flax[0].kind)]
        if not pairs:
            return result
        result += pairs
        left, lacking = _remaining(left, lacking, pairs)


def _names(layer: TorchLayer) -> list[str]:
    return [name for source in layer.sources.values() for name in source.names]


def _with_clear_names(pairings: Sequence[Pairing], order: Sequence[FlaxLayer]) -> list[Pairing]:
    """Exchange partners of equal signature where the names clearly fit better that way; the others stay in order."""
    result = list(pairings)
    positions = {id(layer): position for position, layer in enumerate(order)}
    places = [{positions.get(id(layer), -1) for layer in pairing.flax} for pairing in result]
    for indices in interchangeable(result):
        moved, changed = False, True
        while changed:
            changed = False
            for a, b in itertools.combinations(indices, 2):
                before = _neighbours(places, a) + _neighbours(places, b)
                places[a], places[b] = places[b], places[a]
                lost = before - _neighbours(places, a) - _neighbours(places, b)
                if preference(result[a], result[b]) >= -_CLEAR * (1 + max(lost, 0)):
                    places[a], places[b] = places[b], places[a]
                else:
                    result[a], result[b] = exchanged(result[a], result[b])
                    moved = changed = True
        unnamed = [i for i in indices if likeness(result[i].torch[0].label, result[i].flax[0].label) < _NAMED]
        if moved and len(unnamed) > 1:
            partners = sorted((result[i].flax[0] for i in unnamed), key=lambda layer: positions.get(id(layer), 0))
            for i, partner in zip(sorted(unnamed), partners, strict=True):
                result[i] = pair(result[i].torch, [partner]) or result[i]
    return result


def _neighbours(places: Sequence[set[int]], index: int) -> int:
    """Return how many torch neighbours of a pairing are neighbours in Flax, too, on the same side."""
    count = 0
    for step in (-1, 1):
        if 0 <= index + step < len(places):
            count += any(place + step in places[index + step] for place in places[index])
    return count


def interchangeable(pairings: Sequence[Pairing]) -> list[list[int]]:
    """Return the groups of pairings whose partners could be exchanged: one layer to one, of equal signatures."""
    by_signature: dict[tuple, list[int]] = {}
    for index, pairing in enumerate(pairings):
        if len(pairing.torch) == len(pairing.flax) == 1:
            key = (signature(pairing.torch[0]), signature(pairing.flax[0]))
            by_signature.setdefault(key, []).append(index)
    return [indices for indices in by_signature.values() if len(indices) > 1]


def preference(a: Pairing, b: Pairing) -> float:
    """Return how much better the names fit than after an exchange of partners; 0 if the names do not tell."""
    (x,), (y,), (u,), (v,) = a.torch, b.torch, a.flax, b.flax
    kept = likeness(x.label, u.label) + likeness(y.label, v.label)
    return kept - likeness(x.label, v.label) - likeness(y.label, u.label)


def exchanged(a: Pairing, b: Pairing) -> tuple[Pairing, Pairing]:
    """Return two pairings with their Flax layers exchanged."""
    first, second = pair(a.torch, b.flax), pair(b.torch, a.flax)
    assert first is not None
    assert second is not None
    return first, second
