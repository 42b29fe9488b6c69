"""Plain functions with a mapping of arrays as modules: for Equinox, Haiku and other ways to write a JAX model."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx


class FunctionModule(nnx.Module):
    """A function of state and inputs as an NNX module, for :func:`flaxnets.parity.check`.

    Floating-point arrays are parameters, others are plain variables. A model of Equinox::

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

    The state may also be nested, as ``hk.transform(...).init`` returns it. Names with dots are taken apart:
    ``"fc.weight"`` is ``weight`` in ``fc``.

    Args:
        function: called as ``function(state, *inputs)``, with state as it was given.
        state: a nested mapping of arrays.

    Raises:
        TypeError: if a leaf of the state is no array.

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
        """Call the function on the present values of the state."""
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
            "Fix: convert it, or leave it out of the state."
        )
    return [(path, state)]
