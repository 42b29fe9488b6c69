"""Initial values of the model in a written file: drawn values and computed values."""

from collections.abc import Callable
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from flax import nnx


def traced(build: Callable[..., nnx.Module]) -> tuple[nnx.Module, nnx.Module]:
    """Build a model without drawing its random numbers, since XLA compiles a program for each shape of these.

    Args:
        build: makes the model with the argument ``rngs``.

    Raises:
        jax.errors.JAXTypeError: if the constructor reads values of arrays, or keeps arrays where NNX finds none.

    Returns:
        The model, with zeros for drawn values; and a model with truth values for arrays: which of them are drawn.

    >>> from flaxnets import nn
    >>> model, drawn = traced(lambda rngs: nn.BatchNorm1d(2))
    >>> model.weight.tolist(), drawn.weight.get_raw_value()
    ([1.0, 1.0], False)
    """
    graphs: list[Any] = []

    def values(key: jax.Array) -> list[jax.Array]:
        rngs = nnx.Rngs(key)
        rngs.default.count.set_raw_value(np.zeros((), np.uint32))  # type: ignore[arg-type]  # no part of what JAX traces
        graph, variables = nnx.split(build(rngs=rngs))
        leaves, structure = jax.tree.flatten(variables)
        graphs[:] = [(graph, structure)]
        return leaves

    key = jax.random.key(0)
    jaxpr, shapes = jax.make_jaxpr(values, return_shape=True)(key)
    # The states of random streams depend on the key, too.
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
    """The same for any model: it is built twice, and its values are drawn.

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
    """Whether each result depends on the arguments."""
    known = set(jaxpr.invars)

    def depends(variable: Any) -> bool:
        return not isinstance(variable, jax.extend.core.Literal) and variable in known

    for equation in jaxpr.eqns:
        if any(map(depends, equation.invars)):
            known.update(equation.outvars)
    return [depends(variable) for variable in jaxpr.outvars]
