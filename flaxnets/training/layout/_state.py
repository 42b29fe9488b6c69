"""Compiled steps that keep state, and compiled calls that keep weights, in the backend's preferred axis order."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from flaxnets.training.layout._interpreter import (
    arrays_of,
    evaluate,
    orders_of,
    physical_shape,
    settled_orders,
    values_of,
)
from flaxnets.training.layout._values import Order, Value, identity

State = TypeVar("State")
Results = TypeVar("Results")
PhysicalState = tuple[jax.Array, ...]


def sink_transposes(function: Callable[..., Results]) -> Callable[..., Results]:
    """Move transposes towards the outputs of a function, where pairs of transposes cancel.

    The arithmetic stays the same on arrays in another axis order. Transposes move through element-wise operations,
    reductions, concatenation, padding, slices, broadcasts, windows, reshapes that keep axes together, and into the
    bodies of loops, branches and checkpoints. All other operations receive arrays in logical order.

    Args:
        function: Function of pytrees of arrays. It must compute its gradients inside, because the result loses custom
            derivatives.

    >>> def double(x):  # as a kernel for another layout
    ...     return jnp.moveaxis(2 * jnp.moveaxis(x, 1, -1), -1, 1)
    >>> count = lambda function: str(jax.make_jaxpr(function)(jnp.ones((2, 3, 4, 4)))).count("transpose")
    >>> twice = lambda x: double(jnp.tanh(double(x)))
    >>> count(twice), count(sink_transposes(twice))
    (4, 0)
    """

    def sunk(*args: Any, **kwargs: Any) -> Results:
        return _results(function, [Value(leaf) for leaf in jax.tree.leaves((args, kwargs))], *args, **kwargs)

    return sunk


def _results(function: Callable[..., Results], inputs: Sequence[Value], *args: Any, **kwargs: Any) -> Results:
    """Trace ``function`` with example arguments, and evaluate the trace on these input values."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args, **kwargs)
    outputs = evaluate(closed.jaxpr, closed.consts, inputs)
    return jax.tree.unflatten(jax.tree.structure(shapes), [value.logical for value in outputs])


class PhysicalStep(NamedTuple, Generic[State]):
    """A compiled step on a state in physical axis order, and the conversions of states.

    Attributes:
        step: Function from a physical state, which is donated, and a batch to the next physical state and the metrics.
        to_physical: Copy a state into a physical state.
        to_logical: Copy a physical state into a state.
    """

    step: Callable[[PhysicalState, Any], tuple[PhysicalState, Any]]
    to_physical: Callable[[State], PhysicalState]
    to_logical: Callable[[PhysicalState], State]


def make_physical_step(
    step: Callable[[State, Any], tuple[State, Any]], state: State, batch: Any, **options: Any
) -> PhysicalStep[State]:
    """Compile a step so that its state needs no transposes at the start or the end of the step.

    Each array of the state keeps the axis order that the step produces after :func:`sink_transposes`. A physical state
    is a tuple of arrays, so that it cannot be mistaken for the state.

    Args:
        step: Function, not compiled, from a state and a batch to a state of the same structure and metrics.
        state: An example; only shapes and dtypes count.
        batch: An example.
        options: Options of :func:`jax.jit` for the step.

    Raises:
        ValueError: If the step returns a state of another structure.

    >>> def step(weight, x):  # a kernel that wants the weight transposed
    ...     return (weight.T - 0.1 * x.T @ x).T, (x**2).sum()
    >>> weight, x = jnp.zeros((3, 3)), jnp.eye(3)
    >>> compiled, to_physical, to_logical = make_physical_step(step, weight, x)
    >>> physical, metrics = compiled(to_physical(weight), x)
    >>> bool((to_logical(physical) == step(weight, x)[0]).all())
    True
    """
    state_leaves, structure = jax.tree.flatten(state)
    avals = [jax.typeof(leaf) for leaf in state_leaves]

    def trace(leaves: Sequence[Any], batch: Any) -> tuple[ClosedJaxpr, Any]:
        types = [jax.typeof(leaf) for leaf in leaves]
        shapes = [
            jax.ShapeDtypeStruct(aval.shape, each.dtype, weak_type=each.weak_type)
            for aval, each in zip(avals, types, strict=True)
        ]
        closed, (after, metrics) = jax.make_jaxpr(step, return_shape=True)(structure.unflatten(shapes), batch)
        if (returned := jax.tree.structure(after)) != structure:
            raise ValueError(f"the step returns a state of another structure: {returned}. Expected {structure}")
        return closed, jax.tree.structure(metrics)

    def outputs(closed: ClosedJaxpr, leaves: Sequence[Any], orders: list[Order], batch: Any) -> list[Value]:
        inputs = [*values_of(leaves, orders), *map(Value, jax.tree.leaves(batch))]
        return evaluate(closed.jaxpr, closed.consts, inputs)

    example, _ = trace(state_leaves, batch)

    def outcome(orders: list[Order]) -> list[Order]:
        shapes = [physical_shape(aval, order) for aval, order in zip(avals, orders, strict=True)]
        return orders_of(lambda *leaves: outputs(example, leaves, orders, batch)[: len(avals)], *shapes)

    orders = settled_orders(outcome, [identity(aval.ndim) for aval in avals])

    def physical_step(leaves: PhysicalState, batch: Any) -> tuple[PhysicalState, Any]:
        closed, metrics = trace(leaves, batch)
        values = outputs(closed, leaves, orders, batch)
        after = arrays_of(values[: len(orders)], orders)
        return tuple(after), metrics.unflatten([value.logical for value in values[len(orders) :]])

    def to_physical(state: State) -> PhysicalState:
        values = map(Value, jax.tree.leaves(state))
        return tuple(jnp.copy(value.physical(order)) for value, order in zip(values, orders, strict=True))

    def to_logical(leaves: PhysicalState) -> State:
        return structure.unflatten([jnp.copy(value.logical) for value in values_of(leaves, orders)])

    return PhysicalStep(jax.jit(physical_step, donate_argnums=0, **options), jax.jit(to_physical), jax.jit(to_logical))


def bind_physical(function: Callable[..., Results], bound: Any, *args: Any, **options: Any) -> Callable[..., Results]:
    """Compile a function with a bound first argument, whose arrays are stored in the preferred axis order.

    Each array is stored in the first order that :func:`sink_transposes` requests.

    Args:
        function: Function, not compiled, of ``bound`` and ``args``.
        bound: A pytree of arrays, such as the weights of a model.
        args: Examples of the other arguments; only shapes and dtypes count.
        options: Options of :func:`jax.jit`.

    >>> def product(weight, x):  # a kernel that wants the weight transposed
    ...     return x @ weight.T
    >>> bind_physical(product, jnp.ones((2, 3)), jnp.ones((1, 3)))(jnp.ones((4, 3))).shape
    (4, 2)
    """

    def call(values: Sequence[Value], args: Sequence[Any]) -> Results:
        return _results(function, [*values, *map(Value, jax.tree.leaves(args))], example, *args)

    def record_orders(leaves: Sequence[Any], args: Sequence[Any]) -> None:
        values = [Value(leaf) for leaf in leaves]
        call(values, args)
        orders[:] = [value.requested for value in values]

    orders: list[Order] = []
    example, leaves = jax.eval_shape(lambda bound: bound, bound), jax.tree.leaves(bound)
    jax.eval_shape(record_orders, leaves, args)
    physical = jax.jit(lambda leaves: arrays_of([Value(leaf) for leaf in leaves], orders))(leaves)
    compiled = jax.jit(lambda leaves, args: call(values_of(leaves, orders), args), **options)
    return lambda *args: compiled(physical, args)
