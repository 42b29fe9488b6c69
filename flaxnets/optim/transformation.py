"""From a rule for one parameter to an optax transformation of all, with groups of settings chosen by name."""

import dataclasses
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from flaxnets.nn import utils
from flaxnets.optim.rules import Settings, Slots

Rule = Callable[[jax.Array, jax.Array, Slots, jax.Array, Settings], tuple[jax.Array, Slots]]
Filter = str | Callable[[str], bool]
Groups = Mapping[Filter, Mapping[str, Any]]
LearningRate = float | optax.Schedule


class OptimizerState(NamedTuple):
    """What an optimizer keeps.

    Attributes:
        step: how many steps were taken.
        slots: by torch's name of the slot (``exp_avg``, ...), a tree as that of the parameters.
    """

    step: jax.Array
    slots: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """One of torch's optimizers as an ``optax.GradientTransformation``: it has ``init`` and ``update``.

    Attributes:
        name: of the class in ``torch.optim``.
        settings: torch's arguments.
        groups: names of parameters, and settings that differ for them; the first that matches counts.
        rule: what is done to one parameter.
        slots_of: from a parameter and its settings to its slots before the first step.
    """

    name: str
    settings: Settings
    groups: tuple[tuple[Filter, Settings], ...]
    rule: Rule
    slots_of: Callable[[jax.Array, Settings], Slots]

    def group_of(self, name: str) -> int:
        """Returns which group a parameter is in; 0 is that of no filter."""
        for number, (matches, _) in enumerate(self.groups, start=1):
            if fnmatch.fnmatchcase(name, matches) if isinstance(matches, str) else matches(name):
                return number
        return 0

    def settings_of(self, group: int) -> dict[str, Any]:
        """Returns all settings of a group, learning rates as they were given."""
        return {**self.settings, **(self.groups[group - 1][1] if group else {})}

    def slot_names(self, name: str) -> list[str]:
        """Returns what is kept for the parameter of this name."""
        settings = self._settings_at(jnp.zeros((), int))
        return list(self.slots_of(jnp.zeros(1), settings[self.group_of(name)]))

    def init(self, params: optax.Params) -> OptimizerState:
        """Returns the state before the first step."""
        names, leaves, structure = named_leaves(params)
        step = jnp.zeros((), int)
        settings = self._settings_at(step)
        kept = [self.slots_of(p, settings[self.group_of(name)]) for name, p in zip(names, leaves, strict=True)]
        return OptimizerState(step, _by_slot(kept, leaves, structure))

    def update(
        self, updates: optax.Updates, state: OptimizerState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, OptimizerState]:
        """Returns what to add to the parameters, and the state after the step.

        Raises:
            ValueError: without the parameters: weight decay needs them.
        """
        if params is None:
            raise ValueError(f"{self.name}: update(gradients, state, params) needs the parameters, got None")
        names, leaves, structure = named_leaves(params)
        gradients = structure.flatten_up_to(updates)
        slots = {slot: structure.flatten_up_to(tree) for slot, tree in state.slots.items()}
        settings = self._settings_at(state.step)
        steps, kept = [], []
        for i, (name, p) in enumerate(zip(names, leaves, strict=True)):
            h = settings[self.group_of(name)]
            own = {slot: arrays[i] for slot, arrays in slots.items() if arrays[i].size or not p.size}
            g = -gradients[i] if h["maximize"] else gradients[i]
            t = (state.step + 1).astype(jnp.finfo(p.dtype).dtype)
            step, own = self.rule(g, p, own, t, h)
            steps.append(step.astype(p.dtype))
            kept.append({slot: array.astype(slots[slot][i].dtype) for slot, array in own.items()})
        return structure.unflatten(steps), OptimizerState(state.step + 1, _by_slot(kept, leaves, structure))

    def _settings_at(self, step: jax.Array) -> list[dict[str, Any]]:
        """The settings of each group at a step: schedules have become numbers."""
        groups = [self.settings_of(group) for group in range(len(self.groups) + 1)]
        for settings in groups:
            lr = settings["lr"]
            if not callable(lr):
                continue
            settings["lr"] = lr(step)
            momentum = getattr(lr, "momentum", None)  # a one-cycle schedule moves this too
            if momentum is not None and "betas" in settings:
                settings["betas"] = (momentum(step), settings["betas"][1])
            elif momentum is not None and "momentum" in settings:
                settings["momentum"] = momentum(step)
        return groups


def named_leaves(tree: Any) -> tuple[list[str], list[Any], Any]:
    """Returns the leaves of a tree of parameters with torch's names for them, and its structure.

    >>> import jax.numpy as jnp
    >>> named_leaves({"conv": {"weight": jnp.ones(2)}})[0]
    ['conv.weight']
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(tree)
    names = [".".join(str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey)) for path, _ in paths]
    return names, [leaf for _, leaf in paths], structure


def _by_slot(kept: Sequence[Slots], leaves: Sequence[Any], structure: Any) -> dict[str, Any]:
    """Trees of one slot each; a parameter whose group has no such slot keeps an empty array there."""
    slots = dict.fromkeys(slot for own in kept for slot in own)
    empty = [jnp.zeros(0, leaf.dtype) for leaf in leaves]
    return {slot: structure.unflatten([own.get(slot, e) for own, e in zip(kept, empty, strict=True)]) for slot in slots}


def make(
    name: str,
    rule: Rule,
    settings: Mapping[str, Any],
    slots_of: Callable[[jax.Array, Settings], Slots],
    groups: Groups | None,
) -> Optimizer:
    """Returns an optimizer, with its settings checked as torch checks them.

    Raises:
        ValueError: for a setting out of its range, or a setting in a group that the optimizer does not have.
    """
    groups = dict(groups or {})
    for number, given in enumerate([{}, *groups.values()]):
        where = f"{name}" + (f", group {list(groups)[number - 1]!r}" if number else "")
        unknown = sorted(set(given) - set(settings))
        if unknown:
            raise ValueError(f"{where}: unknown setting {', '.join(map(repr, unknown))}; known: {', '.join(settings)}")
        _check(where, {**settings, **given})
    return Optimizer(name, dict(settings), tuple((key, dict(value)) for key, value in groups.items()), rule, slots_of)


# Smallest and largest value of each setting; the largest itself is allowed only where it is infinite.
_RANGES = {
    "lr": (0, jnp.inf), "momentum": (0, jnp.inf), "weight_decay": (0, jnp.inf), "eps": (0, jnp.inf),
    "betas": (0, 1), "rho": (0, 1), "alpha": (0, jnp.inf), "lr_decay": (0, jnp.inf), "momentum_decay": (0, jnp.inf),
    "initial_accumulator_value": (0, jnp.inf),
}  # fmt: skip


def _check(where: str, settings: Settings) -> None:
    for name, value in settings.items():
        low, high = _RANGES.get(name, (-jnp.inf, jnp.inf))
        for number in value if isinstance(value, tuple) else (value,):
            if not callable(number) and number is not None and not (low <= number < high or number == high == jnp.inf):
                raise ValueError(f"{where}: {name} must be at least {low} and below {high}, got {value}")
    if settings.get("nesterov") and (not settings["momentum"] or settings["dampening"]):
        raise ValueError(f"{where}: nesterov needs a momentum and zero dampening, got {dict(settings)}")
    if "etas" in settings and not 0 < settings["etas"][0] < 1 < settings["etas"][1]:
        raise ValueError(f"{where}: etas must lie below and above 1, got {settings['etas']}")


def clip_grad_norm(max_norm: float) -> optax.GradientTransformation:
    """Scales gradients down to a norm over all of them, by :func:`flaxnets.nn.utils.clip_grad_norm`.

    To be chained before an optimizer.

    Args:
        max_norm: the largest norm that is left as it is.

    >>> clip = clip_grad_norm(1.0)
    >>> updates, _ = clip.update({"weight": jnp.array([3.0, 4.0])}, clip.init(None))
    >>> updates["weight"].round(3).tolist()
    [0.6000000238418579, 0.800000011920929]
    """

    def update(updates: optax.Updates, state: optax.OptState, params: Any = None) -> Any:
        return utils.clip_grad_norm(updates, max_norm)[0], state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
