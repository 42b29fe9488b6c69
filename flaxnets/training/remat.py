"""Gradient checkpointing: recompute modules in the backward pass instead of storing their activations."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from flaxnets import state

Blocks = bool | Callable[[str, nnx.Module], bool]


def checkpoint(model: nnx.Module, blocks: Blocks = True) -> None:
    """Checkpoint the gradients of modules: store only their inputs, and recompute the rest in the backward pass.

    The results stay the same. Memory falls to the inputs of all blocks plus the activations of one block; the cost is
    a second forward pass. See arXiv:1604.06174 and ``jax.checkpoint``.

    Args:
        model: The module to change in place. Each block gets a subclass of the same name.
        blocks: Predicate of a module's name and the module, or True for the model's children. While there is only one
            child, True descends to its children.

    Raises:
        ValueError: If no module matches.

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
def _checkpointed(module_class: type[nnx.Module]) -> type[nnx.Module]:
    """Return a subclass whose call is checkpointed. Arguments other than arrays, such as flags, stay static."""

    def call(self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
        leaves, structure = jax.tree.flatten((args, kwargs))
        arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]

        def inner(module: nnx.Module, arrays: list[jax.Array]) -> Any:
            remaining = iter(arrays)
            args, kwargs = structure.unflatten([next(remaining) if isinstance(x, jax.Array) else x for x in leaves])
            return module_class.__call__(module, *args, **kwargs)  # type: ignore[operator]

        return nnx.remat(inner)(self, arrays)

    attributes = {"__call__": call, "__module__": module_class.__module__, "__doc__": module_class.__doc__}
    return type(module_class.__name__, (module_class,), attributes)
