"""Wrap a plain function and a mapping of arrays as a module, for Haiku and other JAX libraries."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx


class FunctionModule(nnx.Module):
    """An NNX module that calls a function of state and inputs, for :func:`flaxnets.parity.check`.

    Floating-point arrays become parameters, other arrays become plain variables. For an Equinox model::

        arrays, static = eqx.partition(model, eqx.is_array)
        leaves, structure = jax.tree.flatten(arrays)
        paths = [
            jax.tree_util.keystr(path, simple=True, separator=".")
            for path, _ in jax.tree_util.tree_leaves_with_path(arrays)
        ]

        def function(state, *inputs):
            filled = jax.tree.unflatten(structure, [state[path] for path in paths])
            return jax.vmap(eqx.combine(filled, static))(*inputs)

        module = FunctionModule(function, dict(zip(paths, leaves)))

    The state may also be nested, as ``hk.transform(...).init`` returns it. Names are split at dots: ``"fc.weight"`` is
    ``weight`` in ``fc``.

    Args:
        function: called as ``function(state, *inputs)``, with a state of the original structure.
        state: a nested mapping of arrays.

    Raises:
        TypeError: if a leaf of the state is not an array.

    >>> module = FunctionModule(lambda state, x: x @ state["fc"]["w"], {"fc": {"w": jnp.ones((3, 2))}})
    >>> module(jnp.ones((1, 3))).tolist()
    [[3.0, 3.0]]
    """

    def __init__(self, function: Callable[..., Any], state: Mapping[str, Any]) -> None:
        self._function = function
        paths = dict(_flattened(state))
        self._paths = tuple(paths)
        tree: dict[str, Any] = {}
        for path, array in paths.items():
            *parents, name = ".".join(path).split(".")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            floating = jnp.issubdtype(jnp.result_type(array), jnp.inexact)
            node[name] = (nnx.Param if floating else nnx.Variable)(jnp.asarray(array))
        self.state = nnx.data(tree)

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        """Call the function with the current values of the state."""
        result: dict[str, Any] = {}
        for path in self._paths:
            variable: Any = self.state
            for name in ".".join(path).split("."):
                variable = variable[name]
            node = result
            for key in path[:-1]:
                node = node.setdefault(key, {})
            node[path[-1]] = variable[...]
        return self._function(result, *inputs, **kwargs)


def _flattened(state: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if isinstance(state, Mapping):
        return [item for key, value in state.items() for item in _flattened(value, (*path, key))]
    if not hasattr(state, "dtype") or not hasattr(state, "shape"):
        raise TypeError(
            f"state[{']['.join(map(repr, path))}] is {type(state).__name__}. Expected an array or a mapping of arrays. "
            "Fix: convert this value to an array, or remove it from the state."
        )
    return [(path, state)]
