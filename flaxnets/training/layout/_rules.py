"""Rules of the layout pass: apply one primitive to arrays in other axis orders."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jax import lax

from flaxnets.training.layout._values import Order, Value, apply_logical, bind, common_order, inverse, ranks

# Parameters that do not refer to axes, of any primitive with a rule, in every tested version of JAX.
_NEUTRAL = frozenset({
    "accuracy", "consts", "exponent_bits", "index_dtype", "input_dtype", "is_stable", "jaxpr", "mantissa_bits", "name",
    "new_dtype", "num_keys", "out_dtype", "out_sharding", "reverse", "rounding_method", "select_prim", "sharding",
    "sizes", "weak_type", "y",
})  # fmt: skip


class Rule(NamedTuple):
    """The rule of one primitive.

    Attributes:
        apply: Function from the equation and its input values to its output values.
        reads: Parameters that ``apply`` reads.
        ignores: Other parameters that the equation may have. They do not refer to axes.
    """

    apply: Callable[[Any, Sequence[Value]], list[Value]]
    reads: tuple[str, ...] = ()
    ignores: frozenset[str] = _NEUTRAL

    def holds(self, params: Mapping[str, Any]) -> bool:
        """Return whether the rule knows every parameter of an equation, which depends on the version of JAX.

        >>> rule = Rule(lambda eqn, inputs: list(inputs), reads=("axes",))
        >>> rule.holds({"axes": (0,), "accuracy": None}), rule.holds({"dims": (0,)}), rule.holds({"axes": (), "new": 1})
        (True, False, False)
        """
        return set(self.reads) <= params.keys() <= {*self.reads, *self.ignores}


_ELEMENTWISE = [
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh", "bessel_i0e",
    "bessel_i1e", "cbrt", "ceil", "clamp", "convert_element_type", "copy", "cos", "cosh", "digamma", "div", "eq",
    "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le",
    "lgamma", "log", "log1p", "logistic", "lt", "max", "min", "mul", "name", "ne", "neg", "nextafter", "not", "or",
    "population_count", "pow", "real", "reduce_precision", "rem", "round", "rsqrt", "select_n", "shift_left",
    "shift_right_arithmetic", "shift_right_logical", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient",
    "sub", "tan", "tanh", "xor",
]  # fmt: skip

# The parameters that refer to axes: "one" axis, "several" axes, or one entry for "each" axis.
_WINDOW = {name: "each" for name in ("window_dimensions", "window_strides", "padding")}
_DILATED_WINDOW = {**_WINDOW, "base_dilation": "each", "window_dilation": "each"}
_AXES = {
    **{name: {} for name in _ELEMENTWISE},
    **{name: {"axis": "one"} for name in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "split")},
    "concatenate": {"dimension": "one"},
    "sort": {"dimension": "one"},
    "rev": {"dimensions": "several"},
    "pad": {"padding_config": "each"},
    "slice": {"start_indices": "each", "limit_indices": "each", "strides": "each"},
    **{f"reduce_window{kind}": _DILATED_WINDOW for kind in ("", "_sum", "_max", "_min")},
    "select_and_scatter_add": _WINDOW,
}
_EXACT_REDUCTIONS = ("reduce_max", "reduce_min", "reduce_and", "reduce_or", "reduce_xor", "argmax", "argmin")


def _moved(entries: Sequence[Any], order: Order) -> tuple[Any, ...]:
    """Reorder entries for the logical axes into entries for the physical axes."""
    return tuple(entries[i] for i in inverse(order))


def _ascending(axes: Sequence[int], order: Order) -> bool:
    """Return whether axes keep their logical sequence. Otherwise, sums would accumulate in another order."""
    positions = [order[axis] for axis in sorted(axes)]
    return positions == sorted(positions)


def _axiswise(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    """Apply the primitive in the common order of its operands. Scalars have no axes and fit every order."""
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
        return apply_logical(eqn, inputs)  # the shape is unknown at trace time

    def make(permutation: Order) -> Any:
        positions = [permutation.index(axis) for axis in axes]
        operand = value.physical(ranks(positions))
        return lax.broadcast_in_dim(operand, [shape[axis] for axis in permutation], sorted(positions))

    order = list(range(len(shape)))
    for axis, position in zip(axes, value.order, strict=True):
        order[axis] = axes[position]
    return [Value.deferred(make, tuple(order))]


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
    """Return the finest groups of input and output axes, longer than 1, that a reshape maps to each other."""
    groups = []
    left, right = ([axis for axis, size in enumerate(shape) if size > 1] for shape in (before, after))
    while left:
        old, new = [left.pop(0)], [right.pop(0)]
        while (a := math.prod(before[i] for i in old)) != (b := math.prod(after[i] for i in new)):
            (old if a < b else new).append((left if a < b else right).pop(0))
        groups.append((old, new))
    return groups


def _reshape(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    """Reshape in physical order if merged and split axes are adjacent there; otherwise reshape in logical order."""
    value, before, after = inputs[0], eqn.invars[0].aval.shape, eqn.params["new_sizes"]
    if len(inputs) > 1 or eqn.params["dimensions"] is not None or value.is_logical or 0 in before:
        return apply_logical(eqn, inputs)
    groups = _groups(before, after)
    long = [axis for axis in inverse(value.order) if before[axis] > 1]
    groups.sort(key=lambda group: long.index(group[0][0]))
    if [axis for old, _ in groups for axis in old] != long:
        return apply_logical(eqn, inputs)
    # Axes of length 1 keep their logical positions. The other axes fill the remaining positions.
    remaining = iter([axis for _, new in groups for axis in new])
    order = inverse([axis if size == 1 else next(remaining) for axis, size in enumerate(after)])
    return [Value(lax.reshape(value.native, _moved(after, order)), order)]


RULES: dict[str, Rule] = {
    **{name: Rule(_axiswise, reads=tuple(parameters)) for name, parameters in _AXES.items()},
    **{name: Rule(_reduce, reads=("axes",)) for name in ("reduce_sum", "reduce_prod", *_EXACT_REDUCTIONS)},
    "transpose": Rule(_transpose, reads=("permutation",)),
    "squeeze": Rule(_squeeze, reads=("dimensions",)),
    "broadcast_in_dim": Rule(_broadcast_in_dim, reads=("shape", "broadcast_dimensions")),
    "stack": Rule(_stack, reads=("axis",)),
    "dynamic_slice": Rule(_dynamic_slice, reads=("slice_sizes",)),
    "dynamic_update_slice": Rule(_dynamic_slice),
    "optimization_barrier": Rule(_optimization_barrier),
    "reshape": Rule(_reshape, reads=("new_sizes", "dimensions")),
}
