"""Functional calls of a module with other parameters and buffers."""

from collections import defaultdict
from collections.abc import Mapping, MutableMapping
from typing import Any

import jax
from flax import nnx

from flaxnets import state


def _names_by_variable(module: nnx.Module) -> list[list[str]]:
    """The names of each variable, in the module's order; a shared one has several."""
    names = defaultdict(list)
    for name, variable in state.named_variables(module):
        names[id(variable)].append(name)
    return list(names.values())


def _check(module: nnx.Module, values: Mapping[str, Any], tie_weights: bool, strict: bool) -> None:
    groups = _names_by_variable(module)
    if tie_weights:
        for group in groups:
            present = [name for name in group if name in values]
            if len({id(values[name]) for name in present}) > 1:
                raise ValueError(
                    f"functional_call: {present} are one variable, but got different values. Fix: pass only one of "
                    "them, or tie_weights=False"
                )
    if strict:
        expected = dict.fromkeys(name for name, _ in state.named_variables(module))
        unexpected = [name for name in values if name not in expected]
        needed = groups if tie_weights else [[name] for name in expected]
        missing = [group[0] for group in needed if not any(name in values for name in group)]
        if unexpected or missing:
            raise RuntimeError(
                f"functional_call: the values do not match {type(module).__name__}: missing keys: {missing}, "
                f"unexpected keys: {unexpected}"
            )


def _set(module: nnx.Module, name: str, value: Any, tie_weights: bool) -> None:
    """Set a variable of the module; unless ``tie_weights``, only under this name."""
    path, _, attribute = name.rpartition(".")
    owner = dict(state.named_modules(module, remove_duplicate=False)).get(path)
    if owner is None:
        raise AttributeError(
            f"functional_call: {type(module).__name__} has no submodule {path!r}, got the name {name!r}"
        )
    variable = dict(state.own_variables(owner)).get(attribute)
    if variable is None:
        return  # as in torch, unknown names are ignored unless strict
    if tie_weights:
        variable.set_value(value)
    else:
        setattr(owner, attribute, variable.copy(value))


def functional_call(
    module: nnx.Module,
    parameters_and_buffers: MutableMapping[str, Any],
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Call a module with other parameters and buffers, which jit and grad may trace; the module stays unchanged.

    If the call changes buffers, as batch normalisation does in training mode, the new values are stored in
    ``parameters_and_buffers``. Buffers that it lacks change in the module.

    Args:
        module: the module.
        parameters_and_buffers: arrays by name. Missing names use the module's variables.
        args: the arguments of the call: a tuple, or a single argument.
        kwargs: the keyword arguments of the call.
        tie_weights: whether an array for one name of a shared parameter applies to all of its names.
        strict: whether to raise for missing or unexpected names.

    Returns:
        What the module returns.

    Raises:
        ValueError: for different arrays for the names of a shared parameter, unless ``tie_weights=False``.
        RuntimeError: for missing or unexpected names, if ``strict``.
        AttributeError: for names of unknown modules.

    See `torch.func.functional_call
    <https://docs.pytorch.org/docs/stable/generated/torch.func.functional_call.html>`_,
    whose older name is ``torch.nn.utils.stateless.functional_call``.

    >>> import jax.numpy as jnp
    >>> from flaxnets import nn
    >>> layer = nn.Linear(2, 1, rngs=nnx.Rngs(0))
    >>> loss = lambda values: functional_call(layer, values, jnp.ones((1, 2))).sum()
    >>> jax.grad(loss)({"weight": jnp.ones((1, 2)), "bias": jnp.zeros(1)})["weight"].tolist()
    [[1.0, 1.0]]
    """
    _check(module, parameters_and_buffers, tie_weights, strict)
    graphdef, own_state = nnx.split(module)
    copy: Any = nnx.merge(graphdef, own_state, copy=True)
    for name, value in parameters_and_buffers.items():
        _set(copy, name, value, tie_weights)
    started = {name: variable.get_raw_value() for name, variable in state.named_variables(copy)}
    streams = jax.tree.leaves(nnx.state(copy, nnx.RngState))
    output = copy(*(args if isinstance(args, tuple) else () if args is None else (args,)), **(kwargs or {}))
    own_variables = dict(state.named_variables(module))
    for name, variable in state.named_variables(copy):
        value = variable.get_raw_value()
        if name in parameters_and_buffers:
            parameters_and_buffers[name] = value
        elif value is not started[name]:
            own_variables[name].set_value(value)
    new_streams = nnx.state(copy, nnx.RngState)
    if any(new is not old for new, old in zip(jax.tree.leaves(new_streams), streams, strict=True)):
        nnx.update(module, new_streams)
    return output
