"""Optax transformations from per-parameter update rules, with groups of settings that are selected by name."""

import dataclasses
import difflib
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from flaxnets.nn import utils
from flaxnets.optim.arguments import check_settings
from flaxnets.optim.frozen import array_of, is_node, with_array
from flaxnets.optim.rules import Settings, Slots
from flaxnets.state import is_frozen

Rule = Callable[[jax.Array, jax.Array, Slots, jax.Array, Settings], tuple[jax.Array, Slots]]
Filter = str | Callable[[str], bool]
Groups = Mapping[Filter, Mapping[str, Any]]
LearningRate = float | optax.Schedule


class OptimizerState(NamedTuple):
    """State of an optimizer.

    Attributes:
        step: number of steps so far.
        slots: by torch's name of the slot (``exp_avg``, ...), a tree like that of the parameters. The slots of a
            parameter that was always frozen are empty.
        missed: by name, the number of steps that a parameter missed because it was frozen, or had no gradient. Has
            entries for parameters that were frozen initially, or later if they have slots.
    """

    step: jax.Array
    slots: dict[str, Any]
    missed: dict[str, jax.Array] = {}  # noqa: RUF012  (a pytree without leaves, never changed)


_UPDATE = "updates, opt_state = optimizer.update(gradients, opt_state, params)"
_STATE = "the state is a separate value. Fix: opt_state = optimizer.init(nnx.state(model, nnx.Param))"

# Attributes of torch's optimizers, with their replacements.
_TORCHS_ATTRIBUTES = {
    "zero_grad": "gradients are values that every step computes anew. Fix: remove the line",
    "step": f"an optimizer changes nothing in place. Fix: {_UPDATE}; params = optax.apply_updates(params, updates); or "
    "flaxnets.training.make_train_step",
    "param_groups": "an optimizer stores no parameters. Fix: read optimizer.settings and optimizer.groups; for a "
    "learning rate that changes, pass a schedule of flaxnets.optim.lr_scheduler as lr",
    "add_param_group": "an optimizer stores no parameters. Fix: pass groups={'*bias': {'lr': 0.01}} to the constructor",
    "state": _STATE,
    "state_dict": f"{_STATE}, and flaxnets.optim.to_torch(optimizer, opt_state, model)",
    "load_state_dict": "the state is a separate value. Fix: opt_state = flaxnets.optim.from_torch(optimizer, "
    "state_dict, model)",
    "defaults": "its settings have another name. Fix: optimizer.settings",
}


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """Optimizer of torch as an ``optax.GradientTransformation``, with the methods ``init`` and ``update``.

    Attributes:
        name: name of the class in ``torch.optim``.
        settings: torch's arguments.
        groups: patterns of parameter names, and their settings; only the first match applies.
        rule: update rule of one parameter.
        slots_of: function from a parameter and its settings to its initial slots.
    """

    name: str
    settings: Settings
    groups: tuple[tuple[Filter, Settings], ...]
    rule: Rule
    slots_of: Callable[[jax.Array, Settings], Slots]

    def __getattr__(self, name: str) -> Any:
        if name in _TORCHS_ATTRIBUTES:
            owner = vars(self).get("name", "Optimizer")
            raise AttributeError(f"{owner} has no {name}: {_TORCHS_ATTRIBUTES[name]}", name=name, obj=self)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def group_of(self, name: str) -> int:
        """Return the number of a parameter's group; 0 is the default group."""
        for number, (matches, _) in enumerate(self.groups, start=1):
            if _matches(matches, name):
                return number
        return 0

    def settings_of(self, group: int) -> dict[str, Any]:
        """Return all settings of a group; learning rates may be schedules."""
        return {**self.settings, **(self.groups[group - 1][1] if group else {})}

    def fresh_slots(self, name: str, parameter: jax.Array) -> Slots:
        """Return the initial slots of the parameter ``name``."""
        return self.slots_of(parameter, self._settings_at(jnp.zeros((), int))[self.group_of(name)])

    def init(self, params: optax.Params) -> OptimizerState:
        """Return the initial state.

        Raises:
            ValueError: for a group that matches no parameter.
        """
        names, nodes, structure = named_nodes(params)
        self._check_groups(names)
        step, missed, initial = jnp.zeros((), int), {}, []
        settings = self._settings_at(step)
        for name, node in zip(names, nodes, strict=True):
            h, array = settings[self.group_of(name)], array_of(node)
            if array is None or is_frozen(node):
                missed[name] = jnp.zeros_like(step)
                initial.append(self._empty_slots(h))
            else:
                initial.append(self.slots_of(array, h))
        slots = dict.fromkeys(slot for parameter_slots in initial for slot in parameter_slots)
        trees = {
            slot: structure.unflatten(
                _with_slot(node, values, slot) for node, values in zip(nodes, initial, strict=True)
            )
            for slot in slots
        }
        return OptimizerState(step, trees, missed)

    def update(
        self, updates: optax.Updates, state: OptimizerState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, OptimizerState]:
        """Return the updates to add to the parameters, and the state after the step.

        A parameter that is frozen or has no gradient stays unchanged, and so do its slots; the update is zero. A
        parameter that is no longer frozen starts at its first step, or continues from the step at which it was frozen.
        Plain arrays have no frozen flag: those that were frozen at :meth:`init` stay frozen.

        Raises:
            ValueError: without ``params``, which weight decay needs.
        """
        if params is None:
            raise ValueError(f"{self.name}: update(gradients, state, params) requires the parameters, got None")
        names, nodes, structure = named_nodes(params)
        gradients = structure.flatten_up_to(updates)
        slots = {slot: structure.flatten_up_to(tree) for slot, tree in state.slots.items()}
        settings, missed = self._settings_at(state.step), dict(state.missed)
        steps = []
        for i, (name, node) in enumerate(zip(names, nodes, strict=True)):
            p, g, h = array_of(node), array_of(gradients[i]), settings[self.group_of(name)]
            arrays = {slot: array_of(trees[i]) for slot, trees in slots.items()}
            p_slots = {slot: array for slot, array in arrays.items() if p is not None and (array.size or not p.size)}
            # A variable has a frozen flag. An array without slots was frozen at init.
            always_frozen = name in missed and not p_slots and not isinstance(node, nnx.Variable)
            if p is None or g is None or is_frozen(node) or always_frozen:
                if p_slots or name in missed:
                    missed[name] = missed.get(name, jnp.zeros_like(state.step)) + 1
                steps.append(node if p is None else with_array(node, jnp.zeros_like(p)))
                continue
            t = (state.step + 1 - missed.get(name, 0)).astype(jnp.finfo(p.dtype).dtype)
            p_slots = p_slots or self.slots_of(p, h)
            step, new = self.rule(-g if h["maximize"] else g, p, p_slots, t, h)
            steps.append(with_array(node, step.astype(p.dtype)))
            for slot, array in new.items():
                slots[slot][i] = with_array(node, array.astype(p_slots[slot].dtype))
        trees = {slot: structure.unflatten(nodes) for slot, nodes in slots.items()}
        return structure.unflatten(steps), OptimizerState(state.step + 1, trees, missed)

    def _empty_slots(self, settings: Settings) -> Slots:
        return {
            slot: jnp.zeros(0) for slot in self.slots_of(jnp.zeros(1), settings)
        }  # separate arrays, because steps donate them

    def _check_groups(self, names: Sequence[str]) -> None:
        for matches, _ in self.groups:
            if not any(_matches(matches, name) for name in names):
                shown = repr(matches) if isinstance(matches, str) else getattr(matches, "__qualname__", repr(matches))
                raise ValueError(
                    f"{self.name}, group {shown}: matches none of the {len(names)} parameters. Expected a pattern or "
                    f"function of their names, for example {_near(matches, names)}. A shared parameter has one name"
                )

    def _settings_at(self, step: jax.Array) -> list[dict[str, Any]]:
        """Return the settings of each group at a step, with the schedules evaluated."""
        groups = [self.settings_of(group) for group in range(len(self.groups) + 1)]
        for settings in groups:
            lr = settings["lr"]
            if not callable(lr):
                continue
            settings["lr"] = lr(step)
            momentum = getattr(lr, "momentum", None)  # a one-cycle schedule also changes the momentum
            if momentum is not None and "betas" in settings:
                settings["betas"] = (momentum(step), settings["betas"][1])
            elif momentum is not None and "momentum" in settings:
                settings["momentum"] = momentum(step)
        return groups


@dataclasses.dataclass(frozen=True)
class Chain:
    """Transformations of gradients, one after another, as an ``optax.GradientTransformation``.

    Its updates and its state are those of ``optax.chain``. In contrast to that, the parts can be read.

    Attributes:
        parts: the transformations.
        lr: the learning rate, where no part is an :class:`Optimizer`.
    """

    parts: tuple[Any, ...]
    lr: LearningRate | None = None

    def init(self, params: optax.Params) -> optax.OptState:
        """Return the states of the parts before the first step."""
        return self._chained.init(params)

    def update(
        self, updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        """Return the values to add to the parameters, and the states after the step."""
        return self._chained.update(updates, state, params)

    @property
    def _chained(self) -> optax.GradientTransformationExtraArgs:
        return optax.chain(*self.parts)


def chain(*parts: Any) -> Chain:
    """Apply transformations of gradients one after another, as ``optax.chain`` does.

    :func:`flaxnets.training.learning_rate` can read the learning rate of a chain from this function, but not that of
    ``optax.chain``.

    Args:
        *parts: the transformations, such as :func:`clip_grad_norm` and an :class:`Optimizer`.

    >>> from flaxnets import optim
    >>> optimizer, params = chain(clip_grad_norm(1.0), optim.SGD(0.5)), {"weight": jnp.zeros(1)}
    >>> updates, _ = optimizer.update({"weight": jnp.array([4.0])}, optimizer.init(params), params)
    >>> updates["weight"].round(3).tolist()
    [-0.5]
    """
    return Chain(parts)


def _matches(matches: Filter, name: str) -> bool:
    return fnmatch.fnmatchcase(name, matches) if isinstance(matches, str) else bool(matches(name))


def _near(matches: Filter, names: Sequence[str]) -> str:
    """Suggest names that a filter may have meant: close matches of name parts, otherwise the first names."""
    pattern = matches.strip("*.?") if isinstance(matches, str) else ""
    parts = {part: name for name in reversed(names) for part in (name, *name.split("."), name.rpartition(".")[0])}
    near = [parts[part] for part in difflib.get_close_matches(pattern, parts, n=3, cutoff=0.5)] or names[:3]
    return ", ".join(map(repr, dict.fromkeys(near))) or "those of parameters, of which there are none"


def named_nodes(tree: Any) -> tuple[list[str], list[Any], Any]:
    """Return the names (as in torch) and the variables or arrays of a tree of parameters, and the tree's structure.

    >>> import jax.numpy as jnp
    >>> named_nodes({"conv": {"weight": jnp.ones(2)}})[0]
    ['conv.weight']
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_node)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
    return names, [node for _, node in paths], structure


def _with_slot(node: Any, slots: Slots, slot: str) -> Any:
    """Return a parameter's slot in place of the parameter; an empty array if its group has no such slot."""
    return with_array(node, slots[slot] if slot in slots else jnp.zeros(0, getattr(array_of(node), "dtype", None)))


def make(
    name: str,
    rule: Rule,
    settings: Mapping[str, Any],
    slots_of: Callable[[jax.Array, Settings], Slots],
    groups: Groups | None,
) -> Optimizer:
    """Create an optimizer and check its settings as torch does.

    Raises:
        TypeError: for a non-numeric setting, or the wrong number of numbers.
        ValueError: for a setting out of range, or a setting in a group that the optimizer does not have.
    """
    groups = {} if groups is None else groups
    if not isinstance(groups, Mapping) or not all(isinstance(overrides, Mapping) for overrides in groups.values()):
        raise TypeError(
            f"{name}: groups must map patterns to settings, for example {{'*bias': {{'lr': 0.1}}}}, got {groups!r}"
        )
    chosen = []
    for key, overrides in [(None, {}), *groups.items()]:
        where = name if key is None else f"{name}, group {key!r}"
        unknown = sorted(set(overrides) - set(settings))
        if unknown:
            raise ValueError(f"{where}: unknown setting {', '.join(map(repr, unknown))}; known: {', '.join(settings)}")
        checked = check_settings(where, {**settings, **overrides})
        chosen.append(checked if key is None else {option: checked[option] for option in overrides})
    return Optimizer(name, chosen[0], tuple(zip(groups, chosen[1:], strict=True)), rule, slots_of)


def clip_grad_norm(max_norm: float) -> optax.GradientTransformation:
    """Clip gradients by their global norm, with :func:`flaxnets.nn.utils.clip_grad_norm`.

    As in torch, frozen parameters are ignored. Chain this transformation before an optimizer.

    Args:
        max_norm: the largest norm that is left unchanged.

    >>> clip = clip_grad_norm(1.0)
    >>> updates, _ = clip.update({"weight": jnp.array([3.0, 4.0])}, clip.init(None))
    >>> updates["weight"].round(3).tolist()
    [0.6000000238418579, 0.800000011920929]
    """

    def update(updates: optax.Updates, state: optax.OptState, params: Any = None) -> Any:
        _, nodes, structure = named_nodes(updates if params is None else params)
        gradients = structure.flatten_up_to(updates)
        counted = [None if is_frozen(node) else g for node, g in zip(nodes, gradients, strict=True)]
        clipped, _ = utils.clip_grad_norm(counted, max_norm)
        return structure.unflatten(g if c is None else c for g, c in zip(gradients, clipped, strict=True)), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
