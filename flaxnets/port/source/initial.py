"""Initial values of the model in a written file: which values are drawn at random, and which are computed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from flax import nnx


def traced(build: Callable[..., nnx.Module]) -> tuple[nnx.Module, nnx.Module]:
    """Build a model without drawing its random numbers, because XLA would compile a program for each shape.

    Args:
        build: Builds the model. Its argument is ``rngs``.

    Raises:
        jax.errors.JAXTypeError: If the constructor reads values of arrays, or stores arrays where NNX does not find
            them.

    Returns:
        The model, with zeros for drawn values, and the same model with bools instead of arrays: whether each array is
        drawn.

    >>> from flaxnets import nn
    >>> model, drawn = traced(lambda rngs: nn.BatchNorm1d(2))
    >>> model.weight.tolist(), drawn.weight.get_raw_value()
    ([1.0, 1.0], False)
    """
    graphs: list[Any] = []

    def values(key: jax.Array) -> list[jax.Array]:
        rngs = nnx.Rngs(key)
        rngs.default.count.set_raw_value(np.zeros((), np.uint32))  # type: ignore[arg-type]  # JAX must not trace this
        graph, variables = nnx.split(build(rngs=rngs))
        leaves, structure = jax.tree.flatten(variables)
        graphs[:] = [(graph, structure)]
        return leaves

    key = jax.random.key(0)
    jaxpr, shapes = jax.make_jaxpr(values, return_shape=True)(key)
    # Random streams also depend on the key, but their states are integers.
    drawn = [
        depends and jnp.issubdtype(shape.dtype, jnp.inexact)
        for depends, shape in zip(_dependent(jaxpr.jaxpr), shapes, strict=True)
    ]

    def others(key: jax.Array) -> list[jax.Array]:
        every = jax.extend.core.jaxpr_as_fun(jaxpr)(key)
        return [value for value, is_drawn in zip(every, drawn, strict=True) if not is_drawn]

    computed = iter(jax.jit(others)(key))
    leaves = [
        jax.device_put(np.zeros(shape.shape, shape.dtype)) if is_drawn else next(computed)
        for shape, is_drawn in zip(shapes, drawn, strict=True)
    ]
    graph, structure = graphs[0]
    return nnx.merge(graph, structure.unflatten(leaves)), nnx.merge(graph, structure.unflatten(drawn))


def computed(build: Callable[..., nnx.Module]) -> tuple[nnx.Module, nnx.Module]:
    """Return the same as :func:`traced` for any model: build it with two seeds, and compare the values.

    >>> from flaxnets import nn
    >>> model, drawn = computed(lambda rngs: nn.Linear(2, 1, rngs=rngs))
    >>> model.weight.shape, drawn.weight.get_raw_value()
    ((1, 2), True)
    """
    models = [build(rngs=nnx.Rngs(seed)) for seed in (0, 1)]
    (graph, first), (_, second) = map(nnx.split, models)
    drawn = jax.tree.map(lambda a, b: jnp.issubdtype(a.dtype, jnp.inexact) and bool((a != b).any()), first, second)
    return models[0], nnx.merge(graph, drawn)


def _dependent(jaxpr: Any) -> list[bool]:
    """Return for each result of a jaxpr whether it depends on the arguments."""
    known = set(jaxpr.invars)

    def depends(variable: Any) -> bool:
        return not isinstance(variable, jax.extend.core.Literal) and variable in known

    for equation in jaxpr.eqns:
        if any(map(depends, equation.invars)):
            known.update(equation.outvars)
    return [depends(variable) for variable in jaxpr.outvars]
