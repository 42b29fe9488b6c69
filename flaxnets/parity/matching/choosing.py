"""Decide between several possible matchings by the outputs of the smallest module that contains the weights.

These choices remain when shapes, order and names do not decide.
"""

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

# The largest number of options to try for one choice, and the largest group whose permutations are tried.
_LIMIT, _GROUP = 64, 4
_AGREES = 1e-6
# Names distinguish two layers if an exchange lowers their likeness by more than this.
_TELLS = 0.02


@dataclasses.dataclass(frozen=True)
class Choice:
    """Flax variables for which several torch tensors or transforms are possible.

    Attributes:
        options: the possible links of the same variables, the most likely option first.
        modules: torch name and Flax path of the smallest pair of modules that contains the variables.
        has_default: whether the first option applies if no option is proved.
    """

    options: tuple[Links, ...]
    modules: tuple[str, str]
    has_default: bool = False

    def paths(self) -> set[str]:
        """Return the Flax variables that are to be decided."""
        return {path for path, candidates in self.candidates().items() if len(candidates) > 1}

    def candidates(self) -> dict[str, tuple[str, ...]]:
        """Return the possible tensors and transforms of each variable."""
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
    """Return the open choices: layers of equal shapes that names and order do not distinguish, and square matrices.

    Args:
        pairings: the suggested pairings.
        modules: pairs of modules.
        recorded: the order of execution of both sides, None if only the order of definition is known.
        settled: the number of pairings at the beginning that the user has named, and that are not exchanged.

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
    """Return groups of pairings whose partners could be exchanged with equal likelihood."""
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
        # Layers with different inputs run one after another, so that their order distinguishes them.
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
    """Try the options of all choices. Return the links with the options that agree, and the choices that stay open.

    Both sides get random weights in float64. The torch module is called once. Then the Flax modules that contain the
    choices are called on the inputs of their torch modules.

    Args:
        torch_module: the reference.
        flax_module: the Flax module.
        call: a call in torch's axis order.
        links: the suggested links, with the first option of each choice.
        open_choices: the choices to decide.
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
        # Choices in inner modules are decided before choices in outer modules.
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
    """Return a copy with random values. Buffers without a Flax variable, such as masks, keep their values."""
    module = copy.deepcopy(module).double().eval()
    constants = {name: buffer.clone() for name, buffer in module.named_buffers() if name not in used}
    randomize(module, np.random.default_rng(0))
    for name, buffer in module.named_buffers():
        if name in constants:
            buffer.copy_(constants[name])
    return module


def _noted_calls(module: torch.nn.Module, names: Collection[str]) -> dict[str, tuple[Call, list[np.ndarray]]]:
    """Register hooks that record the first call of each named submodule, and return the dict that they fill.

    The dict contains the call and the arrays of the output, by the name of the submodule.
    """
    calls: dict[str, tuple[Call, list[np.ndarray]]] = {}

    def to_array(leaf: Any) -> Any:
        return leaf.detach().numpy().copy() if isinstance(leaf, torch.Tensor) else leaf

    for name in names:
        # The hook copies the inputs before the call, because the call may overwrite its inputs.
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
    """A Flax module that is called on the inputs of its torch partner with different weights."""

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
        """Return the first combination of options for which the outputs agree, None if no combination agrees."""
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
        except Exception:  # The module may not accept these arguments or axis orders.
            return False
        return bool(outputs) and any(
            closest_order(expected, output)[1] < _AGREES for expected in self._outputs[:1] for output in outputs
        )


def _channels_last(call: Call) -> list[Call]:
    arrays = [leaf for leaf in jax.tree.leaves((call.args, dict(call.kwargs))) if isinstance(leaf, np.ndarray)]
    if not any(array.ndim > 2 for array in arrays):
        return []
    return [with_orders(call, [orders(array.ndim)[1] if array.ndim > 2 else orders(array.ndim)[0] for array in arrays])]
