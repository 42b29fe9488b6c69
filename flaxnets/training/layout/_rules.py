"""How single primitives work on arrays whose axes lie in another order."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from jax import lax

from flaxnets.training.layout._values import Order, Value, apply_logical, bind, common_order, inverse, ranks

Rule = Callable[[Any, Sequence[Value]], list[Value]]

_ELEMENTWISE = [
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh", "bessel_i0e",
    "bessel_i1e", "cbrt", "ceil", "clamp", "convert_element_type", "copy", "cos", "cosh", "digamma", "div", "eq",
    "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le",
    "lgamma", "log", "log1p", "logistic", "lt", "max", "min", "mul", "name", "ne", "neg", "nextafter", "not", "or",
    "population_count", "pow", "real", "reduce_precision", "rem", "round", "rsqrt", "select_n", "shift_left",
    "shift_right_arithmetic", "shift_right_logical", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient",
    "sub", "tan", "tanh", "xor",
]  # fmt: skip

# The parameters that speak of axes: one axis, several, or one entry for each.
_WINDOW = {
    name: "each" for name in ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
}
_AXES = {
    **{name: {} for name in _ELEMENTWISE},
    **{name: {"axis": "one"} for name in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "split")},
    "concatenate": {"dimension": "one"},
    "sort": {"dimension": "one"},
    "rev": {"dimensions": "several"},
    "pad": {"padding_config": "each"},
    "slice": {"start_indices": "each", "limit_indices": "each", "strides": "each"},
    **{f"reduce_window{kind}": _WINDOW for kind in ("", "_sum", "_max", "_min")},
    "select_and_scatter_add": _WINDOW,
}
_EXACT_REDUCTIONS = ("reduce_max", "reduce_min", "reduce_and", "reduce_or", "reduce_xor", "argmax", "argmin")


def _moved(entries: Sequence[Any], order: Order) -> tuple[Any, ...]:
    """One entry for each logical axis, as entries for each physical one."""
    return tuple(entries[i] for i in inverse(order))


def _ascending(axes: Sequence[int], order: Order) -> bool:
    """Whether axes lie one after the other as they are named: else windows and sums would run in another order."""
    positions = [order[axis] for axis in sorted(axes)]
    return positions == sorted(positions)


def _axiswise(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    """Results lie as the operands do; numbers are operands without axes."""
    ndim = max(value.ndim for value in inputs)
    order = common_order([value for value in inputs if value.ndim == ndim])
    window = eqn.params.get("window_dimensions")
    if window is not None and not _ascending([i for i, size in enumerate(window) if size > 1], order):
        return apply_logical(eqn, inputs)
    convert = {
        "one": lambda axis: order[axis],
        "several": lambda axes: tuple(order[axis] for axis in axes),
        "each": lambda entries: _moved(entries, order),
    }
    axes = _AXES[eqn.primitive.name].items()
    params = {name: convert[kind](eqn.params[name]) for name, kind in axes if eqn.params.get(name) is not None}
    arrays = [value.physical(order) if value.ndim == ndim else value.logical for value in inputs]
    return [Value(array, order) for array in bind(eqn, arrays, **params)]


def _transpose(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    return [inputs[0].transposed(eqn.params["permutation"])]


def _without(value: Value, axes: Sequence[int]) -> Order:
    return ranks([position for axis, position in enumerate(value.order) if axis not in axes])


def _reduce(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    (value,), axes = inputs, eqn.params["axes"]
    if eqn.primitive.name not in _EXACT_REDUCTIONS and not _ascending(axes, value.order):
        return apply_logical(eqn, inputs)
    outputs = bind(eqn, [value.native], axes=tuple(sorted(value.order[axis] for axis in axes)))
    return [Value(outputs[0], _without(value, axes))]


def _squeeze(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    (value,), axes = inputs, eqn.params["dimensions"]
    outputs = bind(eqn, [value.native], dimensions=tuple(sorted(value.order[axis] for axis in axes)))
    return [Value(outputs[0], _without(value, axes))]


def _broadcast_in_dim(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    value, shape, axes = inputs[0], eqn.params["shape"], eqn.params["broadcast_dimensions"]
    if len(inputs) > 1:
        return apply_logical(eqn, inputs)  # a shape that is not known when traced

    def make(permutation: Order) -> Any:
        places = [permutation.index(axis) for axis in axes]
        operand = value.physical(ranks(places))
        return lax.broadcast_in_dim(operand, [shape[axis] for axis in permutation], sorted(places))

    order = list(range(len(shape)))
    for axis, position in zip(axes, value.order, strict=True):
        order[axis] = axes[position]
    return [Value.made(make, tuple(order))]


def _stack(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    axis, order = eqn.params["axis"], common_order(inputs)
    outputs = bind(eqn, [value.physical(order) for value in inputs])
    moved = [position + (position >= axis) for position in order]
    return [Value(outputs[0], (*moved[:axis], axis, *moved[axis:]))]


def _dynamic_slice(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    arrays = [value for value in inputs if value.ndim == inputs[0].ndim]
    order, indices = common_order(arrays), [value.logical for value in inputs[len(arrays) :]]
    sizes = {name: _moved(sizes, order) for name, sizes in eqn.params.items() if name == "slice_sizes"}
    outputs = bind(eqn, [*(value.physical(order) for value in arrays), *_moved(indices, order)], **sizes)
    return [Value(outputs[0], order)]


def _optimization_barrier(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    outputs = bind(eqn, [value.native for value in inputs])
    return [Value(array, value.order) for array, value in zip(outputs, inputs, strict=True)]


def _groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The axes longer than 1 that a reshape makes of which: the finest division of both."""
    groups = []
    left, right = ([axis for axis, size in enumerate(shape) if size > 1] for shape in (before, after))
    while left:
        old, new = [left.pop(0)], [right.pop(0)]
        while (a := math.prod(before[i] for i in old)) != (b := math.prod(after[i] for i in new)):
            (old if a < b else new).append((left if a < b else right).pop(0))
        groups.append((old, new))
    return groups


def _reshape(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    """Works where axes that become one, or that are one's parts, lie one after the other."""
    value, before, after = inputs[0], eqn.invars[0].aval.shape, eqn.params["new_sizes"]
    if len(inputs) > 1 or eqn.params["dimensions"] is not None or value.is_logical or 0 in before:
        return apply_logical(eqn, inputs)
    groups = _groups(before, after)
    long = [axis for axis in inverse(value.order) if before[axis] > 1]
    groups.sort(key=lambda group: long.index(group[0][0]))
    if [axis for old, _ in groups for axis in old] != long:
        return apply_logical(eqn, inputs)
    # Axes of length 1 stay at the places that their names give them; the others take the rest.
    lying = iter([axis for _, new in groups for axis in new])
    order = inverse([axis if size == 1 else next(lying) for axis, size in enumerate(after)])
    return [Value(lax.reshape(value.native, _moved(after, order)), order)]


RULES: dict[str, Rule] = {
    **{name: _axiswise for name in _AXES},
    **{name: _reduce for name in ("reduce_sum", "reduce_prod", *_EXACT_REDUCTIONS)},
    "transpose": _transpose,
    "squeeze": _squeeze,
    "broadcast_in_dim": _broadcast_in_dim,
    "stack": _stack,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_slice,
    "optimization_barrier": _optimization_barrier,
    "reshape": _reshape,
}
