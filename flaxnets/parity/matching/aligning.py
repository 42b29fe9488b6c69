"""Align the sequence of torch layers with the sequence of Flax layers, by kind, shapes, order and names."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

from flaxnets.parity.matching.layers import FlaxLayer
from flaxnets.parity.matching.linking import Pairing, flax_parts, groups, pair, signature, torch_parts
from flaxnets.parity.matching.naming import likeness, normalised, same_numbers
from flaxnets.parity.matching.torch_layers import TorchLayer

# The score of a pairing for each layer in it. The likeness of names adds less than this.
_WORTH = 5.0
# The difference in likeness from which names outweigh the order of the layers.
_CLEAR = 0.25
# The likeness of names from which the names alone identify a layer.
_NAMED = 0.45


@dataclasses.dataclass(frozen=True)
class Alignment:
    """The pairings, and the layers of both sides without a partner."""

    pairings: list[Pairing]
    torch: list[TorchLayer]
    flax: list[FlaxLayer]


def align(torch_layers: Sequence[TorchLayer], flax_layers: Sequence[FlaxLayer]) -> Alignment:
    """Pair the layers of the two sides, each in the order of execution or definition.

    The function pairs layers in four steps:

    1. Layers whose names are equal except for style, if this pairs all layers of the same shapes.
    2. The remaining layers in order. Layers that would cross other pairs are then aligned among themselves.
    3. Single parameters of layers that the user wrote.
    4. Among layers of equal shapes, partners are exchanged if the names fit clearly better.

    >>> align([], []).pairings
    []
    """
    scores = _Scores()
    pairings = _equal_names(torch_layers, flax_layers, scores)
    ours, theirs = _remaining(torch_layers, flax_layers, pairings)
    # A user's own parameters have no order of execution. So a second alignment first pairs the known layer types.
    known_types = [[layer for layer in side if layer.kind != "parameters"] for side in (ours, theirs)]
    passes = _in_passes([(ours, theirs)], scores)
    if known_types != [ours, theirs]:
        passes = max(passes, _in_passes([known_types, (ours, theirs)], scores), key=lambda each: each[0])
    pairings += _with_common_parents(passes[1], passes[2])
    ours, theirs = _remaining(ours, theirs, pairings)
    pairings += _single_parameters(ours, theirs, pairings, scores)
    pairings = _with_clear_names(_sorted(pairings, torch_layers), flax_layers)
    ours, theirs = _remaining(ours, theirs, pairings)
    return Alignment(pairings, ours, theirs)


def _in_passes(sides: Sequence[Sequence[Sequence]], scores: "_Scores") -> tuple[float, list[Pairing], int]:
    """Align pairs of sequences one after another. Each pair is aligned again until no more layers fit.

    Returns:
        The score, the pairings, and the number of pairings of the first alignment, which do not cross each other.
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
    """Exchange partners of layers that cross other pairs, if more of the layers around them are then paired.

    Args:
        pairings: all pairings.
        in_order: the number of pairings of the first alignment, which do not cross each other.
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
        """Return the fraction of the layers of two modules that are paired with each other, from 0 to 1."""
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
    """Return the order of layers that aligns better on the two sides; the first order if the scores are equal.

    >>> likelier(([], []), ([], []))
    ([], [])
    """
    if [*map(id, first[0]), *map(id, first[1])] == [*map(id, second[0]), *map(id, second[1])]:
        return first
    scores = _Scores()
    return max(first, second, key=lambda layers: round(_total(*layers, scores), 6))


class _Scores:
    """Scores of pairings, cached by the signatures of the layers."""

    def __init__(self) -> None:
        self._qualities: dict[tuple[int, int], float] = {}
        self._numbers: dict[tuple, int] = {}
        self._signatures: dict[int, tuple[int, TorchLayer | FlaxLayer]] = {}

    def _signature(self, layer: TorchLayer | FlaxLayer) -> int:
        """Return a number that identifies the signature and type of a layer."""
        if id(layer) not in self._signatures:
            key = (type(layer), layer.type, signature(layer))
            # The cache keeps the layer alive, so that no other layer can get its id.
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
    paired = {id(layer) for pairing in pairings for layer in (*pairing.torch, *pairing.flax)}
    return [each for each in ours if id(each) not in paired], [each for each in theirs if id(each) not in paired]


def _equal_names(ours: Sequence[TorchLayer], theirs: Sequence[FlaxLayer], scores: _Scores) -> list[Pairing]:
    """Pair layers by name, if all layers of a signature have equal names on the two sides."""
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
    """Return the pairings of the best alignment without crossing pairs."""
    return _best(ours, theirs, scores)[1]


def _best(ours: Sequence[TorchLayer], theirs: Sequence[FlaxLayer], scores: _Scores) -> tuple[float, list[Pairing]]:
    """Return the score and the pairings of the best alignment without crossing pairs, by dynamic programming."""
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
    """Return the moves that pair layers on the best path to ``(i, j)``, each with its end position."""
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
        return []  # One weight cannot consist of rows of the other.
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
    """Pair the remaining layers parameter by parameter, if at least one side is a layer that the user wrote."""
    used_names = {name for pairing in pairings for link in pairing.links for name in link.names}
    used_targets = {(link.target.path, link.target.index) for pairing in pairings for link in pairing.links}
    torch_paired = [layer for pairing in pairings for layer in pairing.torch if layer.kind == "parameters"]
    flax_paired = [layer for pairing in pairings for layer in pairing.flax if layer.kind == "parameters"]
    torch_free = [
        part for layer in (*ours, *torch_paired) for part in torch_parts(layer) if not set(_names(part)) & used_names
    ]
    flax_free = [
        part
        for layer in (*theirs, *flax_paired)
        for part in flax_parts(layer)
        if not {(target.path, target.index) for target in part.targets} & used_targets
    ]
    result: list[Pairing] = []
    while True:
        aligned = _in_order(torch_free, flax_free, scores)
        pairs = [p for p in aligned if "parameters" in (p.torch[0].kind, p.flax[0].kind)]
        if not pairs:
            return result
        result += pairs
        torch_free, flax_free = _remaining(torch_free, flax_free, pairs)


def _names(layer: TorchLayer) -> list[str]:
    return [name for source in layer.sources.values() for name in source.names]


def _with_clear_names(pairings: Sequence[Pairing], order: Sequence[FlaxLayer]) -> list[Pairing]:
    """Exchange partners of equal signature if the names then fit clearly better; other partners stay in order."""
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
    """Return how many neighbours of a pairing in torch are also neighbours in Flax, on the same side."""
    count = 0
    for step in (-1, 1):
        if 0 <= index + step < len(places):
            count += any(place + step in places[index + step] for place in places[index])
    return count


def interchangeable(pairings: Sequence[Pairing]) -> list[list[int]]:
    """Return the groups of one-to-one pairings with equal signatures, whose partners could be exchanged."""
    by_signature: dict[tuple, list[int]] = {}
    for index, pairing in enumerate(pairings):
        if len(pairing.torch) == len(pairing.flax) == 1:
            key = (signature(pairing.torch[0]), signature(pairing.flax[0]))
            by_signature.setdefault(key, []).append(index)
    return [indices for indices in by_signature.values() if len(indices) > 1]


def preference(a: Pairing, b: Pairing) -> float:
    """Return how much better the names fit than after an exchange of partners; 0 if both fit equally well."""
    (x,), (y,), (u,), (v,) = a.torch, b.torch, a.flax, b.flax
    unchanged = likeness(x.label, u.label) + likeness(y.label, v.label)
    return unchanged - likeness(x.label, v.label) - likeness(y.label, u.label)


def exchanged(a: Pairing, b: Pairing) -> tuple[Pairing, Pairing]:
    """Return two pairings with their Flax layers exchanged."""
    first, second = pair(a.torch, b.flax), pair(b.torch, a.flax)
    assert first is not None
    assert second is not None
    return first, second
