"""Interpreter of the layout pass: evaluate a jaxpr and its inner jaxprs on arrays in other axis orders."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend import core as jex

from flaxnets.training.layout._rules import RULES, Rule
from flaxnets.training.layout._values import Order, Value, apply_logical, bind, identity, inverse, ranks

_LOGGER = logging.getLogger(__name__)

Body = Callable[[Sequence[Value]], list[Value]]

# Number of traces of a loop body in search of axis orders that are a fixed point.
_ROUNDS = 3


def evaluate(jaxpr: jex.Jaxpr, consts: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
    """Evaluate a jaxpr, and return its outputs."""
    values = dict(zip(jaxpr.constvars, map(Value, consts), strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Value:
        return Value(atom.val) if isinstance(atom, jex.Literal) else values[atom]

    for eqn in jaxpr.eqns:
        with eqn.ctx.manager:
            outputs = _apply(eqn, [read(atom) for atom in eqn.invars])
        values.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    """Apply the rule of an equation. Without a rule for this version of JAX, apply the equation in logical order."""
    rule = _RULES.get(eqn.primitive.name)
    if rule is not None and rule.holds(eqn.params) and not _is_sharded(eqn):
        try:
            outputs = rule.apply(eqn, inputs)
            if _have_types(outputs, eqn.outvars):
                return outputs
            _LOGGER.warning("layout: rule of %s gives other types with JAX %s", eqn.primitive, jax.__version__)
        except Exception:  # parameters with another meaning may raise any error, and the equation itself is correct
            _LOGGER.warning("layout: rule of %s fails with JAX %s", eqn.primitive, jax.__version__, exc_info=True)
    return apply_logical(eqn, inputs)


def _have_types(values: Sequence[Value], variables: Sequence[Any]) -> bool:
    """Return whether values have the logical shapes and dtypes of an equation's outputs."""
    if len(values) != len(variables):
        return False
    for value, variable in zip(values, variables, strict=True):
        if value.flexible:  # has no array before one is requested
            continue
        shape = np.shape(value.native)
        if tuple(shape[axis] for axis in value.order) != variable.aval.shape:
            return False
        if jax.typeof(value.native).dtype != variable.aval.dtype:
            return False
    return True


def _is_sharded(eqn: Any) -> bool:
    names = ("sharding", "out_sharding", "in_shardings", "out_shardings")
    return any(isinstance(leaf, jax.sharding.Sharding) for leaf in jax.tree.leaves([eqn.params.get(n) for n in names]))


def settled_orders(outcome: Callable[[list[Order]], list[Order]], orders: list[Order]) -> list[Order]:
    """Return axis orders for loop carries: a fixed point if there is one, otherwise the logical order.

    Args:
        outcome: Function from the orders of a body's inputs to the orders of its outputs.
        orders: Initial orders.
    """
    before = orders
    for _ in range(_ROUNDS):
        before, orders = orders, outcome(orders)
        if orders == before:
            break
    return [new if new == old else identity(len(new)) for new, old in zip(orders, before, strict=True)]


def orders_of(function: Callable[..., list[Value]], *arrays: Any) -> list[Order]:
    """Return the axis orders of the results of ``function``, which is traced but not executed."""
    orders: list[Order] = []

    def record(*arrays: Any) -> None:
        orders[:] = [value.order for value in function(*arrays)]

    jax.eval_shape(record, *arrays)
    return orders


def values_of(arrays: Sequence[Any], orders: Sequence[Order]) -> list[Value]:
    """Wrap physical arrays as values."""
    return [Value(array, order) for array, order in zip(arrays, orders, strict=True)]


def arrays_of(values: Sequence[Value], orders: Sequence[Order]) -> list[Any]:
    """Return the physical arrays of values in the given orders."""
    return [value.physical(order) for value, order in zip(values, orders, strict=True)]


def physical_shape(aval: Any, order: Order) -> jax.ShapeDtypeStruct:
    """Return the physical shape and dtype of an array with this logical type and axis order."""
    return jax.ShapeDtypeStruct([aval.shape[i] for i in inverse(order)], aval.dtype, weak_type=aval.weak_type)


def _bodies(jaxpr: jex.ClosedJaxpr, consts: Sequence[Value]) -> Body:
    """Return a body whose first arguments are ``consts``, wrapped anew for each trace."""
    arrays, orders = [value.native for value in consts], [value.order for value in consts]
    return lambda inputs: evaluate(jaxpr.jaxpr, jaxpr.consts, [*values_of(arrays, orders), *inputs])


def _inline(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    body = eqn.params.get("call_jaxpr") or eqn.params["jaxpr"]
    return evaluate(body.jaxpr, body.consts, inputs)


def _checkpoint(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    """Keep the checkpoint equation, and with it the barrier before the recomputation."""
    orders, params = [value.order for value in inputs], eqn.params
    output_orders: list[Order] = []

    def body(*arrays: Any) -> list[Any]:
        outputs = evaluate(params["jaxpr"], (), values_of(arrays, orders))
        output_orders[:] = [value.order for value in outputs]
        return [value.native for value in outputs]

    arrays = [value.native for value in inputs]
    closed = jax.make_jaxpr(body)(*arrays)
    if closed.consts:  # the equation cannot have constants, so they become its first arguments
        count = len(closed.consts)
        arrays = [*closed.consts, *arrays]
        hoisted = jax.make_jaxpr(
            lambda *arrays: jex.jaxpr_as_fun(jex.ClosedJaxpr(closed.jaxpr, arrays[:count]))(*arrays[count:])
        )
        if isinstance(params["prevent_cse"], tuple):
            params = {**params, "prevent_cse": (False,) * count + params["prevent_cse"]}
        closed = hoisted(*arrays)
    return values_of(bind(eqn, arrays, **{**params, "jaxpr": closed.jaxpr}), output_orders)


def _carry_orders(body: Body, carry: Sequence[Value], avals: Sequence[Any], others: Sequence[Any] = ()) -> list[Order]:
    """Return axis orders for the carry of a loop; ``others`` are the shapes and orders of the body's other inputs."""

    def outcome(orders: list[Order]) -> list[Order]:
        input_orders = [*orders, *(order for _, order in others)]
        shapes = [*map(physical_shape, avals, orders), *(shape for shape, _ in others)]
        return orders_of(lambda *arrays: body(values_of(arrays, input_orders))[: len(carry)], *shapes)

    return settled_orders(outcome, [value.order for value in carry])


def _scan(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    params = eqn.params
    # The shapes tell constants, carry and scanned inputs apart. The parameters for this differ between versions of JAX.
    avals = params["jaxpr"].in_avals
    last = sum(len(v.aval.shape) == len(a.shape) for v, a in zip(eqn.invars, avals, strict=True))
    first = last - sum(
        len(v.aval.shape) == len(a.shape) for v, a in zip(eqn.outvars, params["jaxpr"].out_avals, strict=True)
    )
    body, carry, xs = _bodies(params["jaxpr"], inputs[:first]), inputs[first:last], inputs[last:]
    slices = [ranks(value.order[1:]) for value in xs]  # the scanned axis must come first
    stacked = arrays_of(xs, [_after_first(order) for order in slices])
    others = [(physical_shape(aval, order), order) for aval, order in zip(avals[last:], slices, strict=True)]
    orders = _carry_orders(body, carry, avals[first:last], others)
    stacked_orders: list[Order] = []

    def step(carry: Sequence[Any], xs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        outputs = body(values_of([*carry, *xs], [*orders, *slices]))
        ys = outputs[len(orders) :]
        stacked_orders[:] = [_after_first(value.order) for value in ys]
        return arrays_of(outputs[: len(orders)], orders), [value.native for value in ys]

    options = {name: params[name] for name in ("length", "reverse", "unroll")}
    last_carry, ys = lax.scan(step, arrays_of(carry, orders), stacked, **options)
    return [*values_of(last_carry, orders), *values_of(ys, stacked_orders)]


def _after_first(order: Order) -> Order:
    return (0, *(position + 1 for position in order))


def _while(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    params = eqn.params
    first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    condition = _bodies(params["cond_jaxpr"], inputs[:first])
    body, carry = _bodies(params["body_jaxpr"], inputs[first:second]), inputs[second:]
    orders = _carry_orders(body, carry, params["body_jaxpr"].out_avals)
    outputs = lax.while_loop(
        lambda arrays: condition(values_of(arrays, orders))[0].logical,
        lambda arrays: arrays_of(body(values_of(arrays, orders)), orders),
        arrays_of(carry, orders),
    )
    return values_of(outputs, orders)


def _cond(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    """Apply a conditional. Each output has the first non-logical order of any branch."""
    input_orders, operands = [value.order for value in inputs[1:]], [value.native for value in inputs[1:]]

    def outputs(branch: jex.ClosedJaxpr, arrays: Sequence[Any]) -> list[Value]:
        return evaluate(branch.jaxpr, branch.consts, values_of(arrays, input_orders))

    by_branch = [orders_of(lambda *a, b=branch: outputs(b, a), *operands) for branch in eqn.params["branches"]]
    orders = [max(each, key=lambda order: order != identity(len(order))) for each in zip(*by_branch, strict=True)]
    branches = [lambda *a, b=branch: arrays_of(outputs(b, a), orders) for branch in eqn.params["branches"]]
    return values_of(lax.switch(inputs[0].logical, branches, *operands), orders)


_CALLS = {"jit": "jaxpr", "closed_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}
_OF_CALLS = frozenset({
    "bwd", "compiler_options_kvs", "ctx_mesh", "donated_invars", "fwd_jaxpr_thunk", "in_layouts", "in_shardings",
    "inline", "jvp_jaxpr_fun", "keep_unused", "name", "num_consts", "out_layouts", "out_shardings", "out_trees",
    "symbolic_zeros",
})  # fmt: skip
_OF_SCANS = frozenset({"ft_in", "ft_out", "linear", "num_carry", "num_consts"})

_RULES: dict[str, Rule] = {
    **RULES,
    **{name: Rule(_inline, (body,), _OF_CALLS) for name, body in _CALLS.items()},
    "remat2": Rule(_checkpoint, ("jaxpr", "prevent_cse"), frozenset({"differentiated", "policy"})),
    "scan": Rule(_scan, ("jaxpr", "length", "reverse", "unroll"), _OF_SCANS),
    "while": Rule(_while, ("cond_jaxpr", "cond_nconsts", "body_jaxpr", "body_nconsts"), frozenset()),
    "cond": Rule(_cond, ("branches",), frozenset()),
}
