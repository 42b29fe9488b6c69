"""Decide between weights that shapes, order and names leave open: by the outputs of the smallest module around."""

import copy
import dataclasses
import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from flaxnets.parity._torch import torch
from flaxnets.parity.layouts import closest_order, orders, suggest_inputs, with_orders
from flaxnets.parity.matching.aligning import exchanged, interchangeable, preference
from flaxnets.parity.matching.linking import Link, Pairing
from flaxnets.parity.matching.naming import numbered_alike
from flaxnets.parity.matching.ordering import Order, call_torch
from flaxnets.parity.matching.transforms import Transform
from flaxnets.parity.run import Call, call_flax, mapped_call, prepare_flax
from flaxnets.parity.state import named_tensors, randomize
from flaxnets.parity.trees import join, named_modules, named_variables

Links = tuple[Link, ...]

# More possibilities than this are not tried for one choice; the largest group whose permutations are tried.
_LIMIT, _GROUP = 64, 4
_AGREES = 1e-6
# Names tell two layers apart if an exchange makes them fit worse by this.
_TELLS = 0.02


@dataclasses.dataclass(frozen=True)
class Choice:
    """Variables that may be made in several ways.

    Attributes:
        options: all ways, the likely one first; each makes the same variables.
        modules: torch name and Flax path of the smallest pair of modules that holds them.
        has_default: whether the first option is right unless another one is proved.
    """

    options: tuple[Links, ...]
    modules: tuple[str, str]
    has_default: bool = False

    def paths(self) -> set[str]:
        """Return the Flax variables that are to be decided."""
        return {path for path, candidates in self.candidates().items() if len(candidates) > 1}

    def candidates(self) -> dict[str, tuple[str, ...]]:
        """Return, for each variable, the tensors and transforms that it may be made of."""
        result: dict[str, dict[str, None]] = {}
        for links in self.options:
            for link in links:
                text = ", ".join(link.names) + (f" ({link.transform})" if link.transform != "same" else "")
                result.setdefault(link.target.path, {})[text] = None
        return {path: tuple(texts) for path, texts in result.items() if len(texts) > 1}


def choices(
    pairings: Sequence[Pairing],
    modules: Sequence[tuple[str, str]],
    recorded: tuple[Order, Order] | None,
    settled: int = 0,
) -> list[Choice]:
    """Return what is left open: layers of equal shapes that neither names nor order tell apart, and square matrices.

    Args:
        pairings: the suggested pairings.
        modules: pairs of modules.
        recorded: the order of execution of both sides, None if only the order of definition is known.
        settled: how many of the pairings, at the beginning, are not to be exchanged: the user has named them.

    >>> choices([], (("", ""),), None)
    []
    """
    result = []
    for indices in interchangeable(pairings):
        indices = [index for index in indices if index >= settled]
        for group in _undecided(pairings, indices, recorded):
            options = _permutations([pairings[index] for index in group])
            result.append(Choice(options, _smallest(options[0], modules)))
    grouped = {link.target.path for choice in result for link in choice.options[0]}
    for pairing in pairings[settled:]:
        if pairing.alternatives:
            result.append(Choice((pairing.links, *pairing.alternatives), _smallest(pairing.links, modules), True))
    for pairing in pairings:
        for link in pairing.links:
            if link.options and link.target.path not in grouped:
                options = tuple((dataclasses.replace(link, transform=text),) for text in link.options)
                result.append(Choice(options, _smallest((link,), modules)))
    return result


def _undecided(
    pairings: Sequence[Pairing], indices: Sequence[int], recorded: tuple[Order, Order] | None
) -> list[list[int]]:
    """Return groups of pairings that could as well be exchanged."""
    groups: list[list[int]] = []
    for index in indices:
        for group in groups:
            if all(_exchangeable(pairings[index], pairings[other], recorded) for other in group):
                group.append(index)
                break
        else:
            groups.append([index])
    return [group for group in groups if len(group) > 1]


def _exchangeable(a: Pairing, b: Pairing, recorded: tuple[Order, Order] | None) -> bool:
    if abs(preference(a, b)) > _TELLS:
        return False
    (x,), (y,), (u,), (v,) = a.torch, b.torch, a.flax, b.flax
    if numbered_alike(x.label, y.label, u.label, v.label):
        return False
    if recorded is not None:
        # Layers that are fed different values run one after another, and their order tells them apart.
        ours, theirs = recorded
        names = ours.called(x.name), ours.called(y.name)
        unordered = theirs.called(u.name) == theirs.called(v.name) and u.name != v.name
        return unordered or ours.inputs.get(names[0]) == ours.inputs.get(names[1])
    siblings = (
        x.name.rpartition(".")[0] == y.name.rpartition(".")[0]
        and u.name.rpartition(".")[0] == v.name.rpartition(".")[0]
    )
    numbered = any(char.isdigit() for layer in (x, y, u, v) for char in layer.label.rpartition(".")[2])
    return siblings and not numbered


def _permutations(pairings: Sequence[Pairing]) -> tuple[Links, ...]:
    if len(pairings) > _GROUP:
        return (_links(pairings), _links(_permuted(pairings, [*range(1, len(pairings)), 0])))
    orders_of = itertools.permutations(range(len(pairings)))
    return tuple(_links(_permuted(pairings, order)) for order in orders_of)


def _permuted(pairings: Sequence[Pairing], order: Sequence[int]) -> list[Pairing]:
    result = []
    for index, partner in enumerate(order):
        first = pairings[index]
        result.append(first if index == partner else exchanged(first, pairings[partner])[0])
    return result


def _links(pairings: Sequence[Pairing]) -> Links:
    return tuple(link for pairing in pairings for link in pairing.links)


def _smallest(links: Links, modules: Sequence[tuple[str, str]]) -> tuple[str, str]:
    def holds(pair: tuple[str, str]) -> bool:
        names = [name for link in links for name in link.names]
        return all(name.startswith(join(pair[0], "")) for name in names) and all(
            link.target.path.startswith(join(pair[1], "")) for link in links
        )

    return max((pair for pair in modules if holds(pair)), key=_depth)


def _depth(modules: tuple[str, str]) -> int:
    return len(modules[0].split(".")) if modules[0] else 0


def choose(
    torch_module: torch.nn.Module,
    flax_module: nnx.Module,
    call: Call,
    links: Sequence[Link],
    open_choices: Sequence[Choice],
) -> tuple[list[Link], list[Choice]]:
    """Try the options of all choices, and return the links with those that agree, and the choices that stay open.

    Both sides get random weights in float64. The torch module is called once; the Flax modules around the choices are
    called on what torch's modules were called on.

    Args:
        torch_module: the reference.
        flax_module: the Flax module.
        call: a call in torch's axis order.
        links: what is suggested, with the first option of each choice.
        open_choices: what is to be decided.
    """
    by_target = {(link.target.path, link.target.index): link for link in links}
    with jax.enable_x64(True):
        reference = _randomized(torch_module, {name for link in links for name in link.names})
        wide = dataclasses.replace(call, dtype="float64")
        pairs = {choice.modules for choice in open_choices}
        calls = _noted_calls(reference, {name for name, _ in pairs})
        outputs = call_torch(reference, wide)
        tensors = {name: tensor.detach().numpy() for name, tensor in named_tensors(reference).items()}
        ours = prepare_flax(flax_module, wide)
        remaining = []
        # What is within a module is decided before the module is.
        for modules in sorted(pairs, key=lambda pair: (-_depth(pair), pair)):
            group = [choice for choice in open_choices if choice.modules == modules]
            chosen = None
            if modules[0] in calls:
                trial = _Trial(ours, modules[1], *calls[modules[0]], tensors)
                if not modules[0]:
                    trial.layouts = [
                        layout.to_flax(wide) for layout in suggest_inputs(ours, wide, [o.shape for o in outputs])
                    ]
                chosen = trial.find(by_target, group)
            if chosen is None:
                remaining += group
            else:
                by_target |= {(link.target.path, link.target.index): link for link in chosen}
    return list(by_target.values()), remaining


def _randomized(module: torch.nn.Module, used: Collection[str]) -> torch.nn.Module:
    """Return a copy with random values; buffers such as masks, which have no Flax variable, stay as they are."""
    module = copy.deepcopy(module).double().eval()
    kept = {name: buffer.clone() for name, buffer in module.named_buffers() if name not in used}
    randomize(module, np.random.default_rng(0))
    for name, buffer in module.named_buffers():
        if name in kept:
            buffer.copy_(kept[name])
    return module


def _noted_calls(module: torch.nn.Module, names: Collection[str]) -> dict[str, tuple[Call, list[np.ndarray]]]:
    """Return a dict that the named submodules fill with their first calls, and with the arrays of their outputs."""
    calls: dict[str, tuple[Call, list[np.ndarray]]] = {}

    def to_array(leaf: Any) -> Any:
        return leaf.detach().numpy().copy() if isinstance(leaf, torch.Tensor) else leaf

    for name in names:
        # Inputs are copied before the call, which may overwrite them.
        def begins(child: Any, args: tuple, kwargs: dict, name: str = name) -> None:
            if name not in calls:
                calls[name] = mapped_call(Call(args, kwargs, training=False, dtype="float64"), to_array), []

        def ends(child: Any, args: tuple, output: Any, name: str = name) -> None:
            if not calls[name][1]:
                tensors = [leaf for leaf in jax.tree.leaves(output) if isinstance(leaf, torch.Tensor)]
                calls[name][1].extend(map(to_array, tensors))

        module.get_submodule(name).register_forward_pre_hook(begins, with_kwargs=True)
        module.get_submodule(name).register_forward_hook(ends)
    return calls


class _Trial:
    """One Flax module, called on what its torch partner was called on, with different weights."""

    def __init__(
        self, model: nnx.Module, path: str, call: Call, outputs: list[np.ndarray], tensors: Mapping[str, np.ndarray]
    ) -> None:
        self._module, self._prefix = named_modules(model)[path], join(path, "")
        self._variables = {
            name: variable for name, variable in named_variables(model).items() if name.startswith(self._prefix)
        }
        self._tensors, self._outputs = tensors, outputs
        self.layouts = [call, *_channels_last(call)]

    def find(self, links: Mapping[tuple[str, int | None], Link], group: Sequence[Choice]) -> Links | None:
        """Return the options with which the outputs agree, None if none do."""
        combinations = itertools.islice(itertools.product(*(choice.options for choice in group)), _LIMIT)
        for combination in combinations:
            chosen = tuple(link for part in combination for link in part)
            tried = {**links, **{(link.target.path, link.target.index): link for link in chosen}}
            self._fill([link for (path, _), link in tried.items() if path.startswith(self._prefix)])
            if any(self._agrees(layout) for layout in self.layouts):
                return chosen
        return None

    def _fill(self, links: Sequence[Link]) -> None:
        slices: dict[str, dict[int, np.ndarray]] = {}
        for link in links:
            variable, index = self._variables[link.target.path], link.target.index
            shape = variable.shape if index is None else variable.shape[1:]
            value = Transform(link.transform).apply([self._tensors[name] for name in link.names], shape)
            if index is None:
                variable.set_value(jax.numpy.asarray(value, variable.dtype))
            else:
                slices.setdefault(link.target.path, {})[index] = value
        for path, parts in slices.items():
            whole = np.stack([parts[index] for index in sorted(parts)])
            self._variables[path].set_value(jax.numpy.asarray(whole, self._variables[path].dtype))

    def _agrees(self, call: Call) -> bool:
        try:
            outputs = [np.asarray(leaf) for leaf in jax.tree.leaves(call_flax(self._module, call))]
        except Exception:  # arguments or axis orders that this module does not take
            return False
        return bool(outputs) and any(
            closest_order(expected, output)[1] < _AGREES for expected in self._outputs[:1] for output in outputs
        )


def _channels_last(call: Call) -> list[Call]:
    arrays = [leaf for leaf in jax.tree.leaves((call.args, dict(call.kwargs))) if isinstance(leaf, np.ndarray)]
    if not any(array.ndim > 2 for array in arrays):
        return []
    return [with_orders(call, [orders(array.ndim)[1] if array.ndim > 2 else orders(array.ndim)[0] for array in arrays])]
