"""Gradient checkpointing: chosen modules are computed again in the backward pass instead of being remembered."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from flaxnets import state

Blocks = bool | Callable[[str, nnx.Module], bool]


def checkpoint(model: nnx.Module, blocks: Blocks = True) -> None:
    """Makes modules keep only their inputs for the backward pass, and compute the rest again there.

    The results stay the same; memory falls to the inputs of all blocks and the inside of one, for the time of another
    forward pass. See arXiv:1604.06174 and ``jax.checkpoint``.

    Args:
        model: the module to change, in place: the class of its blocks becomes one of the same name.
        blocks: which ones, by their name and by themselves; True: the model's children, or, as long as it has only
            one, the children of that.

    Raises:
        ValueError: if no module is chosen.

    >>> import flaxnets, jax.numpy as jnp
    >>> model = flaxnets.create_model("lenet")
    >>> checkpoint(model)
    >>> model(jnp.zeros((2, 1, 28, 28))).shape
    (2, 10)
    """
    if blocks is False:
        return
    if callable(blocks):
        chosen = [module for name, module in state.named_modules(model) if blocks(name, module)]
    else:
        chosen = [module for _, module in state.named_children(model)]
        while len(chosen) == 1:
            chosen = [module for _, module in state.named_children(chosen[0])]
    if not chosen:
        raise ValueError(f"no module of {type(model).__name__} is chosen for gradient checkpointing")
    for module in chosen:
        module.__class__ = _checkpointed(type(module))


@functools.cache
def _checkpointed(kind: type[nnx.Module]) -> type[nnx.Module]:
    """A subclass whose call is checkpointed. What is no array, such as a flag, stays what it is."""

    def call(self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
        leaves, structure = jax.tree.flatten((args, kwargs))
        arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]

        def inner(module: nnx.Module, arrays: list[jax.Array]) -> Any:
            given = iter(arrays)
            args, kwargs = structure.unflatten([next(given) if isinstance(x, jax.Array) else x for x in leaves])
            return kind.__call__(module, *args, **kwargs)  # type: ignore[operator]

        return nnx.remat(inner)(self, arrays)

    return type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__, "__doc__": kind.__doc__})
