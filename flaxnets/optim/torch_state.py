"""Conversion of optimizer states from and to ``torch.optim``, to continue a run in the other framework."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxnets import state
from flaxnets.optim.frozen import array_of, with_array
from flaxnets.optim.transformation import Optimizer, OptimizerState, named_nodes

# Torch stores the step count with every parameter, except for SGD, which does not count steps.
_COUNTS = "step"

# Torch's optimizers with a state for each parameter before the first step.
_BEFORE_STEPS = ("Adagrad",)


def to_torch(optimizer: Optimizer, opt_state: Any, model: nnx.Module) -> dict[str, Any]:
    """Return the state for ``load_state_dict`` of torch's optimizer of the same name. Requires torch.

    Args:
        optimizer: an optimizer of :mod:`flaxnets.optim`.
        opt_state: its state, alone or inside the state of an optax chain.
        model: the model of the parameters; torch counts them in the order of ``model.named_parameters()``.

    Returns:
        ``{"state": ..., "param_groups": ...}``. The groups have the order of ``optimizer.groups``, after the group of
        all other parameters; torch's optimizer must have the same groups. Parameters that were always frozen have no
        state, as in torch.

    >>> from flaxnets import nn, optim
    >>> model, optimizer = nn.Linear(3, 2, rngs=nnx.Rngs(0)), optim.SGD(0.1, momentum=0.9)
    >>> saved = to_torch(optimizer, optimizer.init(nnx.state(model, nnx.Param)), model)
    >>> saved["param_groups"][0]["momentum"], saved["param_groups"][0]["params"]
    (0.9, [0, 1])
    """
    import torch

    optimizer_state, parameters = _find_state(opt_state), _Parameters(optimizer, model)
    slots = {slot: _by_name(tree) for slot, tree in optimizer_state.slots.items()}
    step, saved = int(optimizer_state.step), {}
    for path, number in parameters.numbers.items():
        taken = step - int(optimizer_state.missed.get(path, 0))
        fresh = optimizer.fresh_slots(path, parameters.arrays[path])
        entry = fresh if not taken else {slot: arrays[path] for slot, arrays in slots.items() if slot in fresh}
        entry = {slot: torch.from_numpy(np.array(array)) for slot, array in entry.items()}
        if optimizer.name != "SGD":
            entry[_COUNTS] = torch.tensor(float(taken))
        if entry and (taken or optimizer.name in _BEFORE_STEPS):
            saved[number] = entry
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
    """Return the state that continues from the state of torch's optimizer of the same name.

    Args:
        optimizer: an optimizer of :mod:`flaxnets.optim`, with torch's settings.
        state_dict: the result of ``optimizer.state_dict()`` in torch.
        model: the model of the parameters.
        step: number of steps so far; required for SGD, which does not count steps, and if no parameter took part in all
            steps.

    A parameter without a state in torch, for example a frozen one, starts at its first step. Torch's optimizer may have
    all parameters of the model, or only those that are not frozen.

    Raises:
        ValueError: if the number of parameters differs, a slot is missing, unexpected or of the wrong shape, or the
            number of steps is unknown.

    >>> import torch
    >>> from flaxnets import nn, optim
    >>> twin = torch.nn.Linear(3, 2)
    >>> torch_optimizer = torch.optim.Adam(twin.parameters())
    >>> twin(torch.ones(1, 3)).sum().backward(); torch_optimizer.step()
    >>> state = from_torch(optim.Adam(), torch_optimizer.state_dict(), nn.Linear(3, 2, rngs=nnx.Rngs(0)))
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
    unknown = {slot for entry in saved.values() for slot, value in entry.items() if value is not None}
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
        entry = {
            slot: value for slot, value in saved.get(parameters.numbers.get(path), {}).items() if value is not None
        }
        entry = entry if entry.get(_COUNTS) != 0 else {}
        for slot in expected if entry else ():
            value = _checked(f"{optimizer.name}: {slot} of {path}", entry.get(slot), expected[slot])
            slots[slot][1][i] = with_array(slots[slot][1][i], value)
        taken = int(entry.get(_COUNTS, step)) if entry or not expected else 0
        if taken < step or path in missed:
            missed[path] = jnp.full_like(fresh.step, step - taken)
    trees = {slot: structure.unflatten(nodes) for slot, (_, nodes, structure) in slots.items()}
    return OptimizerState(jnp.full_like(fresh.step, step), trees, missed)


def _checked(what: str, new: Any, expected: jax.Array) -> jax.Array:
    if new is None or tuple(new.shape) != expected.shape:
        actual = "nothing" if new is None else f"the shape {tuple(new.shape)}"
        raise ValueError(f"{what} must have the shape {expected.shape}, got {actual}")
    return jnp.asarray(
        new.detach().cpu().numpy().copy(), expected.dtype
    )  # a copy, because torch changes its tensors in place


class _Parameters:
    """The parameters of a model in the order of torch's optimizer: group by group, each in the model's order.

    Attributes:
        tree: the tree that optax gets.
        arrays: arrays by their path in the tree.
        numbers: torch's numbers by path in the tree; with ``trainable``, only of parameters that are not frozen.
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
        """Number of parameters in each group."""
        return [len(members) for members in self.groups]


def _by_name(tree: Any) -> dict[str, Any]:
    names, nodes, _ = named_nodes(tree)
    return {name: array_of(node) for name, node in zip(names, nodes, strict=True)}


def _find_state(opt_state: Any) -> OptimizerState:
    def is_ours(node: Any) -> bool:
        return isinstance(node, OptimizerState)

    states = [node for node in jax.tree.leaves(opt_state, is_leaf=is_ours) if is_ours(node)]
    if len(states) != 1:
        raise ValueError(f"expected the state of one optimizer of flaxnets.optim, got {len(states)}")
    return states[0]


def _steps(optimizer: Optimizer, saved: Mapping[int, Mapping[str, Any]], step: int | None) -> int:
    counts = {int(entry[_COUNTS]) for entry in saved.values() if _COUNTS in entry}
    if step is None and saved and not counts:
        raise ValueError(f"{optimizer.name}: torch does not count the steps here, got step=None. Fix: pass step")
    last = max(counts, default=0)
    step = last if step is None else step
    if step < last:  # a larger step is valid: no parameter need take part in all steps
        raise ValueError(f"{optimizer.name}: torch counts {sorted(counts)} steps, expected {step}")
    return step
