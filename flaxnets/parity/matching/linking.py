"""Decide by kind and shapes whether torch layers and Flax layers are the same, and link their tensors and variables.

One torch layer may correspond to several Flax layers (a joint projection of query, key and value), or the reverse.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence

from flaxnets.parity.matching.layers import GATES, FlaxLayer, Shape, Target
from flaxnets.parity.matching.naming import likeness, normalised, words
from flaxnets.parity.matching.torch_layers import Source, TorchLayer
from flaxnets.parity.matching.transforms import joined, reshaping

# Other names for the parameters that torch calls weight, bias, running_mean and running_var.
_ROLES: Mapping[str, str] = {
    **dict.fromkeys(("weight", "kernel", "w", "scale", "gamma", "embedding", "embeddings", "g"), "weight"),
    "negative_slope": "weight",
    **dict.fromkeys(("bias", "b", "beta", "offset", "shift"), "bias"),
    **dict.fromkeys(("mean", "running_mean", "moving_mean", "ra_mean"), "running_mean"),
    **dict.fromkeys(("var", "running_var", "moving_var", "ra_var", "variance"), "running_var"),
}  # fmt: skip
_JOINABLE = ("linear", "conv")
# The largest number of head counts to try for a joint projection of query, key and value.
_HEADS = 8
_NORMS = ("norm", "batch norm")


@dataclasses.dataclass(frozen=True)
class Link:
    """One Flax variable, or one slice of a stacked variable, and the torch tensors that fill it.

    If several transforms fit the shapes, ``options`` lists all of them.
    """

    target: Target
    names: tuple[str, ...]
    transform: str
    options: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Pairing:
    """Torch layers and the Flax layers that correspond to them, with the links between their parameters.

    ``quality`` is 1 if kind, type and all shapes agree, and less if parameters are missing on one side.
    ``alternatives`` are less likely links of the same variables.
    """

    torch: tuple[TorchLayer, ...]
    flax: tuple[FlaxLayer, ...]
    links: tuple[Link, ...]
    quality: float
    alternatives: tuple[tuple[Link, ...], ...] = ()


def fits(torch_shape: Shape, shape: Shape, *, free: bool = False) -> list[str]:
    """Return the steps that convert one shape to another.

    Args:
        torch_shape: the shape of a torch tensor.
        shape: the target shape.
        free: whether the axes may have another order, as in parameters of a layer that the user wrote.

    >>> fits((4, 3, 1, 1), (4, 3)), fits((4, 3), (3, 4), free=True)
    (['reshape(4,3)'], ['transpose'])
    """
    steps = []
    if tuple(size for size in torch_shape if size != 1) == tuple(size for size in shape if size != 1):
        steps.append(reshaping(torch_shape, shape))
    ndim = len(torch_shape)
    if free and ndim > 1 and sorted(torch_shape) == sorted(shape):
        steps += [
            step
            for step, order in _orders(ndim)
            if tuple(torch_shape[axis] for axis in order) == tuple(shape) and (not steps or _tells(torch_shape, order))
        ]
    return list(dict.fromkeys(steps))


def _tells(torch_shape: Shape, order: tuple[int, ...]) -> bool:
    """Return whether an axis order moves axes other than those of size 1."""
    wide = [axis for axis in order if torch_shape[axis] != 1]
    return wide != sorted(wide)


@functools.cache
def _orders(ndim: int) -> list[tuple[str, tuple[int, ...]]]:
    if ndim == 2:
        return [("transpose", (1, 0))]
    kernel, channels_last = (*range(2, ndim), 1, 0), (0, *range(2, ndim), 1)
    known = [("conv kernel", kernel), (f"axes({','.join(map(str, channels_last))})", channels_last)]
    rest = [order for order in itertools.permutations(range(ndim)) if order not in (kernel, channels_last)]
    return [*known, *((f"axes({','.join(map(str, order))})", order) for order in rest[1:])]


def signature(layer: TorchLayer | FlaxLayer) -> tuple[str, tuple[tuple[str, Shape], ...]]:
    """Return the kind and shapes of a layer. Two layers of one side with the same signature are interchangeable."""
    return layer.kind, tuple(sorted(layer.shapes.items()))


def pair(torch_layers: Sequence[TorchLayer], flax_layers: Sequence[FlaxLayer]) -> Pairing | None:
    """Link the variables of Flax layers to the tensors of torch layers; None if the layers do not correspond.

    >>> from flax import nnx
    >>> from flaxnets.parity._torch import torch
    >>> from flaxnets.parity.matching.layers import flax_layers
    >>> from flaxnets.parity.matching.torch_layers import torch_layers
    >>> torch_side = torch_layers(torch.nn.Linear(3, 2))
    >>> flax_side = flax_layers(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
    >>> [(link.target.path, link.names, link.transform) for link in pair(torch_side, flax_side).links]
    [('kernel', ('weight',), 'transpose'), ('bias', ('bias',), 'same')]
    """
    if len(torch_layers) == len(flax_layers) == 1:
        return _one_to_one(torch_layers[0], flax_layers[0])
    if len(torch_layers) == 1:
        layer = torch_layers[0]
        return _cell_of_linears(layer, flax_layers) if layer.kind == "cell" else _split(layer, flax_layers)
    if len(flax_layers) == 1:
        layer = flax_layers[0]
        return _cell_from_linears(torch_layers, layer) if layer.kind == "cell" else _merged(torch_layers, layer)
    return None


def groups(kind: str, type_: str) -> tuple[int, ...]:
    """Return the numbers of layers of the other side, besides one, that may correspond to one layer."""
    if kind == "cell":
        return (2, GATES[type_], 2 * GATES[type_]) if GATES.get(type_, 1) > 1 else (2,)
    return (2, 3, 4) if kind in _JOINABLE else ()


def _one_to_one(ours: TorchLayer, theirs: FlaxLayer) -> Pairing | None:
    if "parameters" in (ours.kind, theirs.kind):
        return _by_roles(ours, theirs)
    if ours.kind == "cell" and theirs.kind == "linear":
        return _concatenated_cell(ours, theirs)
    if ours.kind != theirs.kind and {ours.kind, theirs.kind} not in ({"linear", "conv"}, set(_NORMS)):
        return None
    links = []
    for target in theirs.targets:
        source = ours.sources.get(target.role)
        steps = fits(source.shape, theirs.shapes[target.role]) if source else []
        if source and steps:
            links.append(Link(target, source.names, joined(source.steps, steps[0], target.steps)))
        elif target.role.startswith("weight"):
            return None
    return _rated(ours, theirs, links)


def _rated(ours: TorchLayer, theirs: FlaxLayer, links: Sequence[Link]) -> Pairing | None:
    """Return the pairing with its quality, which is lower if tensors or variables have no partner."""
    if not links:
        return None
    used = {name for link in links for name in link.names}
    required_names = {name for source in ours.sources.values() if not source.optional for name in source.names}
    required_targets = [target for target in theirs.targets if not target.optional]
    linked = {link.target for link in links}
    missing = len(required_names - used) + sum(target not in linked for target in required_targets)
    quality = 1 - 0.6 * missing / max(len(required_names) + len(required_targets), 1)
    if ours.kind != theirs.kind:
        quality *= 0.8
    elif ours.type != theirs.type:
        quality *= 0.95
    return Pairing((ours,), (theirs,), tuple(links), quality)


def _role(name: str) -> str:
    return _ROLES.get(name.lower(), name)


def _by_roles(ours: TorchLayer, theirs: FlaxLayer) -> Pairing | None:
    """Pair the parameters of a layer that the user wrote, by their names and shapes."""
    biases = [target for target in theirs.targets if theirs.shapes[target.role] == _shape(ours, "bias")]
    omitted = ("bias_ih", "bias_hh") if ours.kind == "cell" and len(biases) == 1 else ("bias",)
    candidates = [
        (_role_score(role, source, target, theirs), -i, -j, role, target)
        for i, (role, source) in enumerate(ours.sources.items())
        for j, target in enumerate(theirs.targets)
        if not (ours.kind == "cell" and role in omitted)
    ]
    links: dict[str, Link] = {}
    done: set[str] = set()
    for score, _, _, role, target in sorted(candidates, key=lambda each: each[:3], reverse=True):
        source = ours.sources[role]
        if score > 0 and role not in done and target.path not in links:
            links[target.path] = _free_link(ours, source, target, theirs.shapes[target.role])
            done.add(role)
    ordered = [links[target.path] for target in theirs.targets if target.path in links]
    return _rated(ours, theirs, ordered)


def _shape(layer: TorchLayer, role: str) -> Shape | None:
    return layer.sources[role].shape if role in layer.sources else None


def _role_score(role: str, source: Source, target: Target, theirs: FlaxLayer) -> float:
    shape = theirs.shapes[target.role]
    steps = fits(source.shape, shape, free=True)
    if not steps:
        return 0.0
    a, b = _role(role), _role(target.role)
    if {a, b} == {"weight", "bias"} or ("running" in a) != ("running" in b):
        return 0.0
    exact = 0.3 if source.shape == shape else 0.2 if steps[0].startswith("reshape") else 0.1
    return exact + (1.0 if role == target.role else 0.9 if a == b or normalised(a) == normalised(b) else likeness(a, b))


def _free_link(ours: TorchLayer, source: Source, target: Target, shape: Shape) -> Link:
    options = fits(source.shape, shape, free=True)
    if ours.kind != "parameters" and len(source.shape) > 1:
        # Flax users multiply by a matrix from the right, and their kernels have the channels last.
        options = sorted(options, key=lambda steps: steps not in ("transpose", "conv kernel"))
    texts = tuple(joined(source.steps, steps, target.steps) for steps in options)
    return Link(target, source.names, texts[0], texts if len(texts) > 1 else ())


def _split(ours: TorchLayer, theirs: Sequence[FlaxLayer]) -> Pairing | None:
    """Pair one torch layer with several Flax layers that each contain some of its rows."""
    weight = _shape(ours, "weight")
    shapes = [layer.shapes.get("weight") for layer in theirs]
    if (
        ours.kind not in _JOINABLE
        or weight is None
        or any(layer.kind != ours.kind or shape is None for layer, shape in zip(theirs, shapes, strict=True))
        or len({layer.name.rpartition(".")[0] for layer in theirs}) > 1
        or any(shape[1:] != weight[1:] for shape in shapes if shape is not None)
        or sum(shape[0] for shape in shapes if shape is not None) != weight[0]
    ):
        return None
    parts = sorted(theirs, key=_attention_part)
    links = _links_to_rows(ours, parts)
    used = {name for link in links for name in link.names}
    complete = len(links) == sum(len(layer.targets) for layer in theirs) and used == _names(ours)
    is_plain = all(source.steps == "same" for source in ours.sources.values())
    heads = _head_counts(weight[0], [layer.shapes["weight"][0] for layer in parts]) if complete and is_plain else []
    alternatives = [
        _links_to_rows(
            dataclasses.replace(
                ours,
                sources={role: _by_parts(source, len(parts), count) for role, source in ours.sources.items()},
            ),
            parts,
        )
        for count in heads
    ]
    return Pairing((ours,), tuple(theirs), links, 0.97 if complete else 0.6, tuple(alternatives))


def _links_to_rows(ours: TorchLayer, parts: Sequence[FlaxLayer]) -> tuple[Link, ...]:
    """Link Flax layers to the rows of a torch layer, one after another."""
    links, start = [], 0
    for layer in parts:
        stop = start + layer.shapes["weight"][0]
        for target in layer.targets:
            source = ours.sources.get(target.role)
            if source is not None:
                links.append(Link(target, source.names, joined(_narrowed(source, start, stop), target.steps)))
        start = stop
    return tuple(links)


def _head_counts(rows: int, parts: Sequence[int]) -> list[int]:
    """Return possible numbers of heads for a joint projection whose rows are sorted by head, then by part."""
    size = parts[0]
    if len(set(parts)) > 1 or rows != len(parts) * size:
        return []
    return [count for count in range(2, size + 1) if size % count == 0][:_HEADS]


def _by_parts(source: Source, parts: int, heads: int) -> Source:
    """Reorder the rows of a source, which are sorted by head, so that they are sorted by part."""
    rows, *rest = source.shape
    order = ",".join(map(str, range(3, 3 + len(rest))))
    sizes = ",".join(map(str, (heads, parts, rows // heads // parts, *rest)))
    steps = f"reshape({sizes}) | axes({','.join(filter(None, ('1,0,2', order)))}) | {reshaping((), source.shape)}"
    return dataclasses.replace(source, steps=joined(source.steps, steps))


def _attention_part(layer: TorchLayer | FlaxLayer) -> int:
    """Return the index of a layer in (query, key, value), the order of joint projections; -1 for another name."""
    last = normalised(layer.label.rpartition(".")[2]).split()
    return next((place for place, part in enumerate(("query", "key", "value")) if part in last), -1)


def _names(layer: TorchLayer) -> set[str]:
    return {name for source in layer.sources.values() for name in source.names}


def _narrowed(source: Source, start: int, stop: int) -> str:
    """Return the steps that select some rows of a source; two selections of rows become one."""
    if source.steps.startswith("rows("):
        offset = int(source.steps[5:].partition(":")[0])
        return f"rows({offset + start}:{offset + stop})"
    return joined(source.steps, f"rows({start}:{stop})")


def _merged(ours: Sequence[TorchLayer], theirs: FlaxLayer) -> Pairing | None:
    """Pair several torch layers with one Flax layer that contains their rows one after another."""
    if theirs.kind not in _JOINABLE or any(layer.kind != theirs.kind for layer in ours):
        return None
    ours = sorted(ours, key=_attention_part)
    links = []
    for target in theirs.targets:
        sources = [layer.sources[target.role] for layer in ours if target.role in layer.sources]
        shape = theirs.shapes[target.role]
        if len(sources) != len(ours):
            if target.role == "weight":
                return None
            continue
        if any(source.shape[1:] != shape[1:] for source in sources) or sum(s.shape[0] for s in sources) != shape[0]:
            return None
        source = _joined_rows(sources)
        if source is None:
            return None
        links.append(Link(target, source.names, joined(source.steps, target.steps)))
    complete = len(links) == len(theirs.targets) and all(set(layer.sources) == set(theirs.shapes) for layer in ours)
    return Pairing(tuple(ours), (theirs,), tuple(links), 0.97 if complete else 0.6)


def _joined_rows(sources: Sequence[Source]) -> Source | None:
    """Concatenate the rows of sources: adjacent rows of one tensor, or whole tensors; None for anything else."""
    shape = (sum(source.shape[0] for source in sources), *sources[0].shape[1:])
    if all(source.steps == "same" for source in sources):
        return Source(tuple(name for source in sources for name in source.names), shape, "concat")
    bounds = [source.steps[5:-1].split(":") for source in sources if source.steps.startswith("rows(")]
    adjacent = all(a[1] == b[0] for a, b in itertools.pairwise(bounds))
    if len(bounds) != len(sources) or len({source.names for source in sources}) > 1 or not adjacent:
        return None
    return Source(sources[0].names, shape, f"rows({bounds[0][0]}:{bounds[-1][1]})")


# Recurrent cells that a user has built from linear layers


def _concatenated_cell(ours: TorchLayer, theirs: FlaxLayer) -> Pairing | None:
    """Pair a cell with one linear layer that acts on the concatenation of input and hidden state."""
    joint = _beside(ours)
    # A GRU multiplies only the hidden part of its candidate by the reset gate, so that one layer cannot compute both.
    if joint is None or ours.type == "gru" or joint["weight"].shape != theirs.shapes.get("weight"):
        return None
    links = [
        Link(target, joint[target.role].names, joined(joint[target.role].steps, target.steps))
        for target in theirs.targets
        if target.role in joint
    ]
    return _rated(ours, dataclasses.replace(theirs, kind="cell", type=ours.type), links)


def _beside(ours: TorchLayer) -> dict[str, Source] | None:
    """Return a cell's input and hidden weights concatenated along their columns, and its bias."""
    if "weight_ih" not in ours.sources or "weight_hh" not in ours.sources:
        return None
    inputs, hidden = ours.sources["weight_ih"], ours.sources["weight_hh"]
    shape = (inputs.shape[0], inputs.shape[1] + hidden.shape[1])
    result = {"weight": Source((*inputs.names, *hidden.names), shape, "concat(1)")}
    return result | ({"bias": ours.sources["bias"]} if "bias" in ours.sources else {})


def _cell_of_linears(ours: TorchLayer, theirs: Sequence[FlaxLayer]) -> Pairing | None:
    """Pair a torch cell with linear layers of input and hidden state: one for all gates, or one for each gate."""
    gates = GATES.get(ours.type, 1)
    if (
        any(layer.kind != "linear" or "weight" not in layer.shapes for layer in theirs)
        or "weight_ih" not in ours.sources
    ):
        return None
    if len({layer.name.rpartition(".")[0] for layer in theirs}) > 1:
        return None
    if len(theirs) == gates > 1:
        return _gates_of(ours, list(theirs), _beside(ours), {"weight": "weight", "bias": "bias"}, 1)
    parts = _input_and_hidden(ours, theirs)
    if parts is None:
        return None
    both = all("bias" in layer.shapes for layer in theirs)
    pairings = [
        _gates_of(
            ours,
            part,
            dict(ours.sources),
            {"weight": f"weight_{suffix}", "bias": f"bias_{suffix}" if both else "bias"},
            len(part) and gates // len(part),
        )
        for part, suffix in zip(parts, ("ih", "hh"), strict=True)
    ]
    if any(pairing is None for pairing in pairings):
        return None
    links = tuple(link for pairing in pairings if pairing for link in pairing.links)
    complete = len(links) == sum(len(layer.targets) for layer in theirs)
    return Pairing((ours,), tuple(theirs), links, 0.95 if complete else 0.6)


def _input_and_hidden(ours: TorchLayer, theirs: Sequence[FlaxLayer]) -> tuple[list[FlaxLayer], list[FlaxLayer]] | None:
    """Split the layers into layers of the input and layers of the hidden state: by shape, by name, or by order."""
    inputs, hidden = ours.sources["weight_ih"].shape[1], ours.sources["weight_hh"].shape[1]
    half = len(theirs) // 2
    if inputs != hidden:
        parts = [[layer for layer in theirs if layer.shapes["weight"][1] == size] for size in (inputs, hidden)]
    else:
        order = sorted(theirs, key=lambda layer: _is_hidden(layer.name))
        parts = [order[:half], order[half:]]
        if {_is_hidden(layer.name) for layer in parts[0]} & {_is_hidden(layer.name) for layer in parts[1]}:
            parts = [list(theirs[:half]), list(theirs[half:])]
    return (parts[0], parts[1]) if len(parts[0]) == len(parts[1]) == half else None


def _is_hidden(name: str) -> bool:
    last = name.rpartition(".")[2].lower()
    return last.startswith(("h", "u", "rec")) or any(word in ("hh", "hidden", "recurrent", "h") for word in words(last))


def _gates_of(
    ours: TorchLayer,
    theirs: Sequence[FlaxLayer],
    sources: Mapping[str, Source] | None,
    roles: Mapping[str, str],
    gates_each: int,
) -> Pairing | None:
    """Pair linear layers with rows of a cell's sources, one or more gates each, by the gates' letters or in order."""
    if sources is None or not theirs:
        return None
    rows = sources[roles["weight"]].shape[0] // len(theirs)
    expected_shape = (rows, sources[roles["weight"]].shape[1])
    if any(layer.shapes["weight"] != expected_shape for layer in theirs):
        return None
    links = []
    for index, layer in zip(_gate_order(ours.type, [layer.name for layer in theirs]), theirs, strict=True):
        for target in layer.targets:
            source = sources.get(roles.get(target.role, ""))
            if source is not None:
                part = f"rows({index * rows}:{(index + 1) * rows})" if len(theirs) > 1 else "same"
                links.append(Link(target, source.names, joined(source.steps, part, target.steps)))
    complete = len(links) == sum(len(layer.targets) for layer in theirs)
    return Pairing((ours,), tuple(theirs), tuple(links), 0.95 if complete else 0.6)


_GATE_WORDS: Mapping[str, Sequence[Sequence[str]]] = {
    "lstm": (("i", "input"), ("f", "forget"), ("g", "c", "cell", "candidate", "update"), ("o", "output")),
    "gru": (("r", "reset"), ("z", "u", "update"), ("n", "h", "new", "candidate")),
}


def _gate_order(type_: str, names: Sequence[str]) -> Sequence[int]:
    """Return the gate index of each layer, from the last letter or word of its name, or in order.

    The names decide only if they name each gate once.
    """
    gates = _GATE_WORDS.get(type_, ())
    indices = []
    for name in names:
        last = name.rpartition(".")[2].lower().rstrip("_")
        tokens = {last[-1:], *words(last)} if len(last) <= 3 else set(words(last))
        hits = [number for number, gate in enumerate(gates) if tokens & set(gate)]
        indices.append(hits[0] if len(hits) == 1 else -1)
    return indices if sorted(indices) == list(range(len(names))) else range(len(names))


def _cell_from_linears(ours: Sequence[TorchLayer], theirs: FlaxLayer) -> Pairing | None:
    """Pair two torch linear layers, one for the input and one for the hidden state, with a Flax cell."""
    if len(ours) != 2 or any(layer.kind != "linear" for layer in ours):
        return None
    for inputs, hidden in (ours, ours[::-1]):
        sources = {
            f"{role}_{suffix}": source
            for layer, suffix in ((inputs, "ih"), (hidden, "hh"))
            for role, source in layer.sources.items()
        }
        biases = [sources[role] for role in ("bias_ih", "bias_hh") if role in sources]
        if biases:
            names = tuple(name for source in biases for name in source.names)
            steps = "same" if len(biases) == 1 else "gru bias" if theirs.type == "gru" else "sum"
            sources["bias"] = Source(names, biases[0].shape, steps)
        pairing = _one_to_one(TorchLayer(inputs.name, "cell", theirs.type, sources), theirs)
        if pairing is not None:
            return Pairing(tuple(ours), (theirs,), pairing.links, 0.95 * pairing.quality)
    return None


def torch_parts(layer: TorchLayer) -> list[TorchLayer]:
    """Split a layer that the user wrote into its parameters; return any other layer unchanged."""
    if layer.kind != "parameters":
        return [layer]
    labels = {role: f"{layer.label}.{role}".lstrip(".") for role in layer.sources}
    return [
        dataclasses.replace(layer, sources={role: source}, label=labels[role]) for role, source in layer.sources.items()
    ]


def flax_parts(layer: FlaxLayer) -> list[FlaxLayer]:
    """Split a layer that the user wrote into its parameters; return any other layer unchanged."""
    if layer.kind != "parameters":
        return [layer]
    labels = {target.role: f"{layer.label}.{target.role}".lstrip(".") for target in layer.targets}
    return [
        dataclasses.replace(layer, targets=(t,), shapes={t.role: layer.shapes[t.role]}, label=labels[t.role])
        for t in layer.targets
    ]
