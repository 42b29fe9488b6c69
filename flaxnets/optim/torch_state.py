"""An optimizer's state to and from the form that ``torch.optim`` saves, so that a run moves over in its middle."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxnets import state
from flaxnets.optim.frozen import array_of, with_array
from flaxnets.optim.transformation import Optimizer, OptimizerState, named_nodes

# Kept by torch beside every parameter as the number of its steps, but for SGD, which does not count.
_COUNTS = "step"

# Torch's optimizers that have a state of each parameter before its first step.
_BEFORE_STEPS = ("Adagrad",)


def to_torch(optimizer: Optimizer, opt_state: Any, model: nnx.Module) -> dict[str, Any]:
    """Return what ``load_state_dict`` of torch's optimizer of the same name takes. Needs torch.

    Args:
        optimizer: one of :mod:`flaxnets.optim`.
        opt_state: its state, alone or inside the state of an optax chain.
        model: whose parameters it belongs to; torch counts them in the order of ``model.named_parameters()``.

    Returns:
        ``{"state": ..., "param_groups": ...}``, the groups in the order of ``optimizer.groups`` after the group of all
        other parameters, as when torch is given them so. Parameters that were always frozen have no state, as in torch.

    >>> from flaxnets import nn, optim
    >>> model, optimizer = nn.Linear(3, 2, rngs=nnx.Rngs(0)), optim.SGD(0.1, momentum=0.9)
    >>> saved = to_torch(optimizer, optimizer.init(nnx.state(model, nnx.Param)), model)
    >>> saved["param_groups"][0]["momentum"], saved["param_groups"][0]["params"]
    (0.9, [0, 1])
    """
    import torch

    found, parameters = _found(opt_state), _Parameters(optimizer, model)
    slots = {slot: _by_name(tree) for slot, tree in found.slots.items()}
    step, saved = int(found.step), {}
    for path, number in parameters.numbers.items():
        taken, kept = step - int(found.missed.get(path, 0)), optimizer.fresh_slots(path, parameters.arrays[path])
        own = kept if not taken else {slot: arrays[path] for slot, arrays in slots.items() if slot in kept}
        own = {slot: torch.from_numpy(np.array(array)) for slot, array in own.items()}
        if optimizer.name != "SGD":
            own[_COUNTS] = torch.tensor(float(taken))
        if own and (taken or optimizer.name in _BEFORE_STEPS):
            saved[number] = own
    groups = []
    for group, members in enumerate(parameters.groups):
        settings = optimizer.settings_of(group)
        lr: Any = settings["lr"]
        settings["lr"] = float(lr(step)) if callable(lr) else lr  # type: ignore[arg-type]
        groups.append({**settings, "params": members})
    return {"state": saved, "param_groups": groups}


def from_torch(
    optimizer: Optimizer, state_dict: Mapping[str, Any], model: nnx.Module, step: int | None = None
) -> OptimizerState:
    """Return the state that continues where torch's optimizer of the same name stood.

    Args:
        optimizer: one of :mod:`flaxnets.optim`, with torch's settings.
        state_dict: what ``optimizer.state_dict()`` of torch gave.
        model: whose parameters it belongs to.
        step: how many steps were taken; needed for SGD, which does not count them, and where no parameter took part in
            all of them.

    A parameter without a state in torch's, such as a frozen one, begins at its first step here too. Torch's optimizer
    may have all parameters of the model, or those alone that are not frozen.

    Raises:
        ValueError: if the number of parameters differs, a slot is missing, has another shape or was not expected, or
            nothing says how many steps were taken.

    >>> import torch
    >>> from flaxnets import nn, optim
    >>> twin = torch.nn.Linear(3, 2)
    >>> theirs = torch.optim.Adam(twin.parameters())
    >>> twin(torch.ones(1, 3)).sum().backward(); theirs.step()
    >>> state = from_torch(optim.Adam(), theirs.state_dict(), nn.Linear(3, 2, rngs=nnx.Rngs(0)))
    >>> int(state.step), sorted(state.slots)
    (1, ['exp_avg', 'exp_avg_sq'])
    """
    saved = state_dict["state"]
    sizes = [len(group["params"]) for group in state_dict["param_groups"]]
    counted = [_Parameters(optimizer, model), _Parameters(optimizer, model, trainable=True)]
    parameters = next((each for each in counted if each.sizes == sizes), None)
    if parameters is None:
        raise ValueError(
            f"{optimizer.name}: torch's optimizer has groups of {sizes} parameters, the model of {counted[0].sizes}"
        )
    step = _steps(optimizer, saved, step)
    fresh = optimizer.init(parameters.tree)
    unknown = {slot for own in saved.values() for slot, value in own.items() if value is not None}
    unknown -= {*fresh.slots, _COUNTS}
    if unknown:
        raise ValueError(
            f"{optimizer.name} has no slots {sorted(unknown)} with these settings: {dict(optimizer.settings)}"
        )
    if not step:
        return fresh
    slots = {slot: named_nodes(tree) for slot, tree in fresh.slots.items()}
    missed = dict(fresh.missed)
    for i, (path, array) in enumerate(parameters.arrays.items()):
        expected = optimizer.fresh_slots(path, array)
        own = {slot: value for slot, value in saved.get(parameters.numbers.get(path), {}).items() if value is not None}
        own = own if own.get(_COUNTS) != 0 else {}
        for slot in expected if own else ():
            value = _checked(f"{optimizer.name}: {slot} of {path}", own.get(slot), expected[slot])
            slots[slot][1][i] = with_array(slots[slot][1][i], value)
        taken = int(own.get(_COUNTS, step)) if own or not expected else 0
        if taken < step or path in missed:
            missed[path] = jnp.full_like(fresh.step, step - taken)
    trees = {slot: structure.unflatten(nodes) for slot, (_, nodes, structure) in slots.items()}
    return OptimizerState(jnp.full_like(fresh.step, step), trees, missed)


def _checked(what: str, new: Any, expected: jax.Array) -> jax.Array:
    if new is None or tuple(new.shape) != expected.shape:
        found = "nothing" if new is None else f"the shape {tuple(new.shape)}"
        raise ValueError(f"{what} must have the shape {expected.shape}, got {found}")
    return jnp.asarray(new.detach().cpu().numpy().copy(), expected.dtype)  # a copy: torch changes its own in place


class _Parameters:
    """The parameters of a model as torch's optimizer counts them: group by group, each in the model's order.

    Attributes:
        tree: as optax sees them.
        arrays: by the path in that tree.
        numbers: from the path in that tree to torch's number; with ``trainable`` of those that are not frozen alone.
        groups: the numbers in each group.
    """

    def __init__(self, optimizer: Optimizer, model: nnx.Module, trainable: bool = False):
        self.tree = nnx.state(model, nnx.Param)
        ids = {name: id(variable) for name, variable in state.named_variables(model, remove_duplicate=False)}
        order = {id(variable): i for i, (_, variable) in enumerate(state.named_parameters(model))}
        self.arrays = _by_name(self.tree)
        nodes = zip(*named_nodes(self.tree)[:2], strict=True)
        paths = [path for path, node in nodes if not (trainable and state.is_frozen(node))]
        ordered = sorted(paths, key=lambda path: (optimizer.group_of(path), order[ids[path]]))
        self.numbers = {path: number for number, path in enumerate(ordered)}
        self.groups = [
            [number for path, number in self.numbers.items() if optimizer.group_of(path) == group]
            for group in range(len(optimizer.groups) + 1)
        ]

    @property
    def sizes(self) -> list[int]:
        """How many parameters each group has."""
        return [len(members) for members in self.groups]


def _by_name(tree: Any) -> dict[str, Any]:
    names, nodes, _ = named_nodes(tree)
    return {name: array_of(node) for name, node in zip(names, nodes, strict=True)}


def _found(opt_state: Any) -> OptimizerState:
    def is_ours(node: Any) -> bool:
        return isinstance(node, OptimizerState)

    found = [node for node in jax.tree.leaves(opt_state, is_leaf=is_ours) if is_ours(node)]
    if len(found) != 1:
        raise ValueError(f"expected the state of one optimizer of flaxnets.optim, found {len(found)}")
    return found[0]


def _steps(optimizer: Optimizer, saved: Mapping[int, Mapping[str, Any]], step: int | None) -> int:
    counts = {int(own[_COUNTS]) for own in saved.values() if _COUNTS in own}
    if step is None and saved and not counts:
        raise ValueError(f"{optimizer.name}: torch does not count the steps here; say how many were taken: step=...")
    last = max(counts, default=0)
    step = last if step is None else step
    if step < last:  # it may be more: no parameter need have taken part in all steps
        raise ValueError(f"{optimizer.name}: torch counts {sorted(counts)} steps, expected {step}")
    return step
