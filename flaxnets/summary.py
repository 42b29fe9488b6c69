"""Summary of a network: modules, output shapes, parameters and multiply-adds, without running it.

The network is traced once. Every module writes its number into the name stack of its operations and marks its outputs
with an operation. Both are read from the jaxpr, so cached traces of ``jit`` are counted too.
"""

import dataclasses
import functools
import math
import numbers
import re
import types
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from rich import box
from rich.console import Group
from rich.table import Table

from flaxnets.state import is_frozen, named_buffers, named_parameters, own_modules, own_variables

Names = tuple[str, ...]

_NUMBER = "_summary_number"
_SCOPE, _OUTPUT = "<module {}>", "<output {} of module {}>"
_SCOPES, _IS_OUTPUT = re.compile(r"<module (\d+)>"), re.compile(r"<output (\d+) of module (\d+)>")
_COLUMNS = ("Path", "Class", "Output shape", "Parameters", "Multiply-adds", "Calls")
_TEXT_COLUMNS = 3  # the other columns are numbers, aligned to the right


@dataclasses.dataclass(frozen=True)
class Row:
    """One module under one of its names.

    Attributes:
        path: the dotted name; ``""`` for the network itself, for which the table shows the class.
        kind: name of the class.
        output_shapes: shapes of the arrays that the first call returned, in the order of ``jax.tree.leaves``.
        parameters: number of elements of the module's direct parameters, without those of submodules.
        shared_parameters: number of elements of direct parameters that an earlier row has counted.
        multiply_adds: of all calls, including the calls of submodules; for a module that is not called, the sum over
            its submodules.
        calls: number of calls that returned an array.
        same_as: path under which an earlier row counts this module; such a row counts nothing.
    """

    path: str
    kind: str
    output_shapes: tuple[tuple[int, ...], ...] = ()
    parameters: int = 0
    shared_parameters: int = 0
    multiply_adds: int = 0
    calls: int = 0
    same_as: str | None = None


@dataclasses.dataclass(frozen=True, repr=False)
class Summary:
    """Modules and totals of a network; ``str`` is a plain-text table, and ``rich.print`` fits it to the console.

    Attributes:
        rows: every module, parents first. A shared module has a row for each of its names; only the first is followed
            by rows of its submodules.
        parameters: number of elements of all parameters; a shared one counts once.
        trainable_parameters: number of elements of the parameters that are not frozen.
        buffers: number of elements of all buffers; a shared one counts once.
        multiply_adds: of one call of the network.
        megabytes: size of the parameters, in units of 10**6 bytes.
    """

    rows: tuple[Row, ...]
    parameters: int
    trainable_parameters: int
    buffers: int
    multiply_adds: int
    megabytes: float

    @property
    def frozen_parameters(self) -> int:
        """Number of elements of the frozen parameters."""
        return self.parameters - self.trainable_parameters

    def __repr__(self) -> str:
        cells = [_COLUMNS, *(_cells(row, self.rows[0].kind) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        template = "  ".join(f"{{:{'<' if i < _TEXT_COLUMNS else '>'}{width}}}" for i, width in enumerate(widths))
        head, *body = (template.format(*line).rstrip() for line in cells)
        rule = "  ".join("-" * width for width in widths)
        return "\n".join([head, rule, *body, rule, self._totals()])

    def __rich__(self) -> Group:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        for i, name in enumerate(_COLUMNS):
            table.add_column(
                name, justify="left" if i < _TEXT_COLUMNS else "right", no_wrap=i >= _TEXT_COLUMNS, overflow="fold"
            )
        for row in self.rows:
            table.add_row(*_cells(row, self.rows[0].kind))
        return Group(table, self._totals())

    def _totals(self) -> str:
        parameters = f"Parameters: {self.parameters:,} ({self.megabytes:,.2f} MB)"
        if self.frozen_parameters:
            parameters += f", {self.trainable_parameters:,} trainable and {self.frozen_parameters:,} frozen"
        return f"{parameters}\nBuffers: {self.buffers:,}\nMultiply-adds: {self.multiply_adds:,}"


def _cells(row: Row, root: str) -> tuple[str, ...]:
    kind = row.kind if row.same_as is None else f"{row.kind} (= {row.same_as or root})"
    shapes = ", ".join(map(str, row.output_shapes)) or "-"
    own, multiply_adds, calls = (f"{n:,}" if n else "-" for n in (row.parameters, row.multiply_adds, row.calls))
    if row.shared_parameters:
        own = f"{own} + {row.shared_parameters:,} shared".removeprefix("- + ")
    return row.path or root, kind, shapes, own, multiply_adds, calls


def summary(model: nnx.Module, /, *inputs: Any, **options: Any) -> Summary:
    """Return the modules of a network with output shapes, parameters and multiply-adds, without running it.

    Multiply-adds of matrix products and convolutions are counted, including products with padding zeros. The body of a
    ``scan`` counts once per iteration, the body of a ``while`` loop once, and a ``cond`` as its most expensive branch.

    An abstract copy of the network is called in its current mode. Buffers, random streams and classes do not change,
    so other threads may use the network meanwhile. The network may come from ``nnx.eval_shape``.

    Args:
        model: the network or layer.
        *inputs: positional arguments of the call. A tuple of ints is the shape of a float32 array, including the batch
            axis; for other dtypes pass a ``jax.ShapeDtypeStruct`` or an array. Containers of these, and None, are
            allowed.
        **options: keyword arguments of the call. Arrays and ``jax.ShapeDtypeStruct`` are traced; other values are
            passed on.

    Returns:
        The rows and totals, which print as a table.

    Raises:
        TypeError: if ``model`` is not a module, or an input is neither a shape nor an array.
        ValueError: for a negative size.
        Exception: the error of a layer whose input does not fit.

    >>> from flaxnets import nn
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, rngs=nnx.Rngs(0)), nn.ReLU())
    >>> summary(model, (8, 2, 2))
    Path        Class       Output shape  Parameters  Multiply-adds  Calls
    ----------  ----------  ------------  ----------  -------------  -----
    Sequential  Sequential  (8, 3)                 -             96      1
    0           Flatten     (8, 4)                 -              -      1
    1           Linear      (8, 3)                15             96      1
    2           ReLU        (8, 3)                 -              -      1
    ----------  ----------  ------------  ----------  -------------  -----
    Parameters: 15 (0.00 MB)
    Buffers: 0
    Multiply-adds: 96
    """
    if not isinstance(model, nnx.Module):
        raise TypeError(f"summary: expected a module, got {model!r}")
    trace = _read(_traced(model, [jax.tree.map(_spec, i, is_leaf=_is_shape) for i in inputs], options), _Trace())
    parameters = [parameter for _, parameter in named_parameters(model)]
    return Summary(
        rows=tuple(_rows(model, trace)),
        parameters=sum(map(_size, parameters)),
        trainable_parameters=sum(_size(parameter) for parameter in parameters if not is_frozen(parameter)),
        buffers=sum(_size(buffer) for _, buffer in named_buffers(model)),
        multiply_adds=trace.multiply_adds.total(),
        megabytes=sum(_size(parameter) * parameter.get_value().dtype.itemsize for parameter in parameters) / 1e6,
    )


def _size(variable: nnx.Variable) -> int:
    return math.prod(variable.get_value().shape)


def _is_shape(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(isinstance(size, numbers.Integral) for size in value)


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _spec(value: Any) -> Any:
    if _is_shape(value):
        if any(size < 0 for size in value):
            raise ValueError(f"summary: the sizes of a shape must not be negative, got {value!r}")
        return jax.ShapeDtypeStruct(tuple(value), jnp.float32)
    if not _is_array(value):
        raise TypeError(f"summary: expected a shape (a tuple of ints), an array or a ShapeDtypeStruct, got {value!r}")
    return value


def _walk(module: nnx.Module, names: Names, seen: set[int]) -> Iterator[tuple[Names, nnx.Module, bool]]:
    """Yield the path and the module, parents first, and whether it was seen before; do not descend a second time."""
    again = id(module) in seen
    yield names, module, again
    seen.add(id(module))
    if not again:
        for name, child in own_modules(module):
            yield from _walk(child, (*names, name), seen)


@functools.cache  # JAX and NNX keep a reference to every class, so create one subclass of each
def _watched(kind: Any) -> Any:
    """Return a subclass whose calls write the module's number into the name stack and mark the outputs."""

    @functools.wraps(kind.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        number = vars(self).get(_NUMBER, "new")  # a module that the call creates, such as a slice of a Sequential
        with jax.named_scope(_SCOPE.format(number)):
            outputs = super(watched, self).__call__(*args, **kwargs)
        for i, array in enumerate(_arrays(outputs)):
            checkpoint_name(array, _OUTPUT.format(i, number))
        return outputs

    options = {} if kind._pytree__is_pytree else {"pytree": False}  # NNX does not inherit this option
    watched: Any = types.new_class(kind.__name__, (kind,), options, lambda body: body.update(__call__=call))
    for name in ("__module__", "__qualname__", "__doc__"):
        setattr(watched, name, getattr(kind, name))
    return watched


def _arrays(outputs: Any) -> list[jax.Array]:
    return [leaf for leaf in jax.tree.leaves(outputs) if isinstance(leaf, jax.Array)]


def _traced(model: nnx.Module, inputs: Any, options: dict[str, Any]) -> Any:
    """Return the jaxpr of a call in which every module is watched."""
    graphdef, state = nnx.split(model)
    arrays = {name: value for name, value in options.items() if _is_array(value)}

    def call(state: Any, inputs: Any, arrays: dict[str, Any]) -> list[jax.Array]:
        copy: Any = nnx.merge(graphdef, state)
        for number, (names, original, again) in enumerate(_walk(model, (), set())):
            if callable(original) and not again:
                module: Any = functools.reduce(lambda node, name: vars(node)[name], names, copy)
                # Set on the module, because nnx.jit, nnx.scan and similar transforms call copies of it.
                nnx.Module.__setattr__(module, _NUMBER, number)
                object.__setattr__(module, "__class__", _watched(type(module)))
        return _arrays(copy(*inputs, **(options | arrays)))

    return jax.make_jaxpr(call)(state, inputs, arrays)


@dataclasses.dataclass
class _Trace:
    """Multiply-adds by the set of active modules; calls and output shapes by module."""

    multiply_adds: Counter[frozenset[int]] = dataclasses.field(default_factory=Counter)
    calls: Counter[int] = dataclasses.field(default_factory=Counter)
    shapes: dict[int, dict[int, tuple[int, ...]]] = dataclasses.field(default_factory=dict)


def _read(jaxpr: Any, trace: _Trace, outer: frozenset[int] = frozenset(), times: int = 1) -> _Trace:
    for eqn in jaxpr.eqns:
        name, modules = eqn.primitive.name, outer | set(map(int, _SCOPES.findall(str(eqn.source_info.name_stack))))
        if name in ("dot_general", "conv_general_dilated", "convolution_nd"):
            trace.multiply_adds[modules] += times * _products(eqn)
        elif name == "name" and (output := _IS_OUTPUT.fullmatch(eqn.params["name"])):
            leaf, number = map(int, output.groups())
            trace.calls[number] += times if leaf == 0 else 0
            trace.shapes.setdefault(number, {}).setdefault(leaf, eqn.outvars[0].aval.shape)
        elif name == "cond":
            branches = [_read(inner, _Trace(shapes=trace.shapes), modules, times) for inner in eqn.params["branches"]]
            most = max(branches, key=lambda branch: branch.multiply_adds.total())
            trace.multiply_adds += most.multiply_adds
            trace.calls += most.calls
        else:
            times_inside = times * eqn.params["length"] if name == "scan" else times
            for value in eqn.params.values():
                for inner in value if isinstance(value, (tuple, list)) else (value,):
                    if hasattr(inner, "eqns"):
                        _read(inner, trace, modules, times_inside)
    return trace


def _products(eqn: Any) -> int:
    first, second = (var.aval.shape for var in eqn.invars)
    if eqn.primitive.name == "convolution_nd":
        return first[0] * math.prod(eqn.params["window"].output) * math.prod(second)
    output, dimensions = eqn.outvars[0].aval.shape, eqn.params["dimension_numbers"]
    if eqn.primitive.name == "dot_general":
        return math.prod(output) * math.prod(first[axis] for axis in dimensions[0][0])
    out_axis, in_axis, *spatial = dimensions.rhs_spec
    window = math.prod(second[axis] for axis in spatial)
    if math.prod(eqn.params["lhs_dilation"]) > 1:  # transposed: products with the zeros between pixels do not count
        return math.prod(first) * window * second[out_axis] // eqn.params["feature_group_count"]
    return math.prod(output) * window * second[in_axis]


def _rows(model: nnx.Module, trace: _Trace) -> Iterator[Row]:
    walked = list(_walk(model, (), set()))
    number_of = {names: number for number, (names, _, _) in enumerate(walked)}
    multiply_adds: Counter[int] = Counter()
    for modules, count in trace.multiply_adds.items():
        above = {number_of[walked[n][0][:depth]] for n in modules for depth in range(len(walked[n][0]))}
        for number in modules | {holder for holder in above if not trace.calls[holder]}:
            multiply_adds[number] += count

    firsts: dict[int, str] = {}
    counted: set[int] = set()
    for number, (names, module, again) in enumerate(walked):
        path, kind = ".".join(names), type(module).__name__
        first = firsts.setdefault(id(module), path)
        if again:
            yield Row(path, kind, same_as=first)
            continue
        sizes = {id(own): _size(own) for _, own in own_variables(module) if isinstance(own, nnx.Param)}
        new = sum(size for key, size in sizes.items() if key not in counted)
        counted |= sizes.keys()
        shapes = tuple(trace.shapes.get(number, {}).values())
        yield Row(path, kind, shapes, new, sum(sizes.values()) - new, multiply_adds[number], trace.calls[number])
