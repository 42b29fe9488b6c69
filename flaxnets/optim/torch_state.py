"""An optimizer's state to and from the form that ``torch.optim`` saves, so that a run moves over in its middle."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxnets import state
from flaxnets.optim.transformation import Optimizer, OptimizerState, named_leaves

# Kept by torch beside every parameter as the number of its steps, but for SGD, which does not count.
_COUNTS = "step"


def to_torch(optimizer: Optimizer, opt_state: Any, model: nnx.Module) -> dict[str, Any]:
    """Returns what ``load_state_dict`` of torch's optimizer of the same name takes. Needs torch.

    Args:
        optimizer: one of :mod:`flaxnets.optim`.
        opt_state: its state, alone or inside the state of an optax chain.
        model: whose parameters it belongs to; torch counts them in the order of ``model.named_parameters()``.

    Returns:
        ``{"state": ..., "param_groups": ...}``, the groups in the order of ``optimizer.groups`` after the group of all
        other parameters, as when torch is given them so.

    >>> from flaxnets import nn, optim
    >>> model, optimizer = nn.Linear(3, 2, rngs=nnx.Rngs(0)), optim.SGD(0.1, momentum=0.9)
    >>> saved = to_torch(optimizer, optimizer.init(nnx.state(model, nnx.Param)), model)
    >>> saved["param_groups"][0]["momentum"], saved["param_groups"][0]["params"]
    (0.9, [0, 1])
    """
    import torch

    found, parameters = _found(opt_state), _Parameters(optimizer, model)
    slots = {slot: dict(zip(*named_leaves(tree)[:2], strict=True)) for slot, tree in found.slots.items()}
    step, saved = int(found.step), {}
    for path, number in parameters.numbers.items():
        kept = optimizer.slot_names(path)
        own = {slot: torch.from_numpy(np.array(arrays[path])) for slot, arrays in slots.items() if slot in kept}
        if optimizer.name != "SGD":
            own[_COUNTS] = torch.tensor(float(step))
        if step and own:
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
    """Returns the state that continues where torch's optimizer of the same name stood.

    Args:
        optimizer: one of :mod:`flaxnets.optim`, with torch's settings.
        state_dict: what ``optimizer.state_dict()`` of torch gave.
        model: whose parameters it belongs to.
        step: how many steps were taken; needed for SGD, which does not count them.

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
    parameters, saved = _Parameters(optimizer, model), state_dict["state"]
    sizes = [len(group["params"]) for group in state_dict["param_groups"]]
    if sizes != [len(members) for members in parameters.groups]:
        expected = [len(members) for members in parameters.groups]
        raise ValueError(
            f"{optimizer.name}: torch's optimizer has groups of {sizes} parameters, the model of {expected}"
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
    slots = {}
    for slot, tree in fresh.slots.items():
        paths, arrays, structure = named_leaves(tree)
        slots[slot] = structure.unflatten(
            _slot(optimizer, slot, path, array, saved.get(parameters.numbers[path], {}))
            for path, array in zip(paths, arrays, strict=True)
        )
    return OptimizerState(jnp.asarray(step, fresh.step.dtype), slots)


def _slot(optimizer: Optimizer, slot: str, path: str, old: jax.Array, saved: Mapping[str, Any]) -> jax.Array:
    if slot not in optimizer.slot_names(path):
        return old
    new = saved.get(slot)
    if new is None or tuple(new.shape) != old.shape:
        what = "nothing" if new is None else f"the shape {tuple(new.shape)}"
        raise ValueError(f"{optimizer.name}: {slot} of {path} must have the shape {old.shape}, got {what}")
    return jnp.asarray(new.detach().cpu().numpy().copy(), old.dtype)  # a copy: torch changes its own in place


class _Parameters:
    """The parameters of a model as torch's optimizer counts them: group by group, each in the model's order.

    Attributes:
        tree: as optax sees them.
        numbers: from the path in that tree to torch's number.
        groups: the numbers in each group.
    """

    def __init__(self, optimizer: Optimizer, model: nnx.Module):
        self.tree = nnx.state(model, nnx.Param)
        ids = {name: id(variable) for name, variable in state.named_variables(model, remove_duplicate=False)}
        order = {id(variable): i for i, (_, variable) in enumerate(state.named_parameters(model))}
        paths = sorted(named_leaves(self.tree)[0], key=lambda path: order[ids[path]])
        ordered = sorted(paths, key=optimizer.group_of)  # stable: within a group the order stays
        self.numbers = {path: number for number, path in enumerate(ordered)}
        self.groups = [
            [number for path, number in self.numbers.items() if optimizer.group_of(path) == group]
            for group in range(len(optimizer.groups) + 1)
        ]


def _found(opt_state: Any) -> OptimizerState:
    def is_ours(node: Any) -> bool:
        return isinstance(node, OptimizerState)

    found = [node for node in jax.tree.leaves(opt_state, is_leaf=is_ours) if is_ours(node)]
    if len(found) != 1:
        raise ValueError(f"expected the state of one optimizer of flaxnets.optim, found {len(found)}")
    return found[0]


def _steps(optimizer: Optimizer, saved: Mapping[int, Mapping[str, Any]], step: int | None) -> int:
    counts = {int(own[_COUNTS]) for own in saved.values() if _COUNTS in own}
    if len(counts) > 1 or (step is not None and counts - {step}):
        raise ValueError(f"{optimizer.name}: torch counts {sorted(counts)} steps, expected {step or 'one number'}")
    if counts:
        return counts.pop()
    if step is None and saved:
        raise ValueError(f"{optimizer.name}: torch does not count the steps here; say how many were taken: step=...")
    return step or 0
