"""Frozen parameters in trees: :class:`optax.MaskedNode` replaces the arrays that an optimizer must not change."""

from typing import Any

import jax
import optax
from flax import nnx

from flaxnets.state import is_frozen


def is_masked(node: Any) -> bool:
    """Return whether the node is optax's placeholder of an omitted array."""
    return isinstance(node, optax.MaskedNode)


def is_node(node: Any) -> bool:
    """Return whether the node is a variable or a placeholder: the leaves of a tree of parameters."""
    return isinstance(node, nnx.Variable) or is_masked(node)


def array_of(node: Any) -> Any:
    """Return the array of a variable, or the array itself; None for a placeholder.

    >>> array_of(optax.MaskedNode()), int(array_of(nnx.Param(3)))
    (None, 3)
    """
    leaves = jax.tree.leaves(node)
    return leaves[0] if leaves else None


def with_array(node: Any, array: Any) -> Any:
    """Return a copy of the variable, or of the placeholder, with this array.

    >>> with_array(nnx.Param(3), 4).get_value()
    4
    """
    return jax.tree.map(lambda _: array, node, is_leaf=is_masked)


def mask(tree: Any) -> Any:
    """Return a tree of variables, with placeholders for the arrays of frozen variables.

    >>> from flaxnets import nn
    >>> frozen = nn.Parameter(jax.numpy.ones(2), requires_grad=False)
    >>> jax.tree.leaves(mask({"bias": nnx.Param(3), "weight": frozen}))
    [3]
    """
    return jax.tree.map(
        lambda node: with_array(node, optax.MaskedNode()) if is_frozen(node) else node, tree, is_leaf=is_node
    )


def unmask(masked: Any, tree: Any) -> Any:
    """Return a tree with its placeholders replaced by the arrays of another tree.

    >>> unmask({"bias": 3, "weight": optax.MaskedNode()}, {"bias": 1, "weight": 2})
    {'bias': 3, 'weight': 2}
    """
    return jax.tree.map(lambda new, old: old if is_masked(new) else new, masked, tree, is_leaf=is_masked)
