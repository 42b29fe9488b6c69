"""Describe Flax layers in torch's terms: one table row for each layer type gives the torch tensors of its variables.

A layer of either side has a kind and roles (``weight``, ``bias``, ``running_mean``) with torch's shapes, independent of
its class and memory order. :mod:`flaxnets.parity.matching.linking` compares the roles.
"""

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flax import nnx

from flaxnets.parity._torch import torch
from flaxnets.parity.matching.torch_layers import TORCH_KINDS, Shape
from flaxnets.parity.matching.transforms import joined, reshaping
from flaxnets.parity.trees import join, named_modules, named_variables

# Number of gates of recurrent cells. Torch and Flax stack the gates in the same order: i f g o, and r z n.
GATES: Mapping[str, int] = {"lstm": 4, "gru": 3, "rnn": 1}


@dataclasses.dataclass(frozen=True)
class Target:
    """A Flax variable, or one slice of a stacked variable, and the steps that convert torch's values of its role."""

    path: str
    role: str
    steps: str = "same"
    index: int | None = None
    optional: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class FlaxLayer:
    """A Flax layer, with the torch shapes of its roles.

    If the layer is one of a stack of layers, ``stack`` is the path of the stacked module.
    """

    name: str
    kind: str
    type: str
    shapes: Mapping[str, Shape]
    targets: tuple[Target, ...]
    label: str = ""
    stack: str | None = None


class Row(NamedTuple):
    """A row of the table: a Flax layer type.

    Attributes:
        type: the class; subclasses are included.
        kind: the kind of the layer, equal on both sides.
        label: name of the type in messages and in comparisons of names.
        main: path of a variable that every layer of the type has.
        ndim: number of axes of that variable, without the leading axis of stacked layers.
        describe: yields ``(path, role, shape of the role in torch, steps)`` for each variable.
    """

    type: type[nnx.Module]
    kind: str
    label: str
    main: str
    ndim: Callable[[Any], int]
    describe: Callable[[Any, Callable[[str], Shape]], Iterator[tuple[str, str, Shape, str]]]


# The descriptions of the rows. `shape` returns a variable's shape without the stacking axis. A description may yield
# variables that a layer does not have, such as the bias: the caller ignores them.


def _linear(module: nnx.Linear, shape: Callable[[str], Shape]) -> Iterator[tuple[str, str, Shape, str]]:
    features_in, features_out = shape("kernel")
    yield "kernel", "weight", (features_out, features_in), "transpose"
    yield "bias", "bias", (features_out,), "same"


def _contraction(kernel: Shape, contracted: Sequence[int], batch: Sequence[int] = ()) -> tuple[Shape, str]:
    """Return torch's shape of a kernel, (*batch, out, in), and the steps that convert it to the kernel's axes."""
    outputs = [axis for axis in range(len(kernel)) if axis not in contracted and axis not in batch]
    order = [*batch, *outputs, *contracted]
    sizes = [kernel[axis] for axis in order]
    torch_shape = (
        *(kernel[axis] for axis in batch),
        math.prod(kernel[axis] for axis in outputs),
        math.prod(kernel[axis] for axis in contracted),
    )
    if not batch and order == [*range(len(contracted), len(kernel)), *range(len(contracted))]:
        steps = joined("transpose", reshaping(torch_shape[::-1], kernel))
    else:
        inverse = sorted(range(len(order)), key=order.__getitem__)
        steps = joined(reshaping(torch_shape, sizes), f"axes({','.join(map(str, inverse))})")
    return torch_shape, steps


def _linear_general(module: nnx.LinearGeneral, shape: Callable[[str], Shape]) -> Iterator[tuple[str, str, Shape, str]]:
    batch, inputs = len(module.batch_axis), len(module.in_features)
    kernel = shape("kernel")
    torch_shape, steps = _contraction(kernel, range(batch, batch + inputs), range(batch))
    yield "kernel", "weight", torch_shape, steps
    bias = (*kernel[:batch], *kernel[batch + inputs :])
    yield "bias", "bias", torch_shape[:-1], reshaping(torch_shape[:-1], bias)


def _einsum(module: nnx.Einsum, shape: Callable[[str], Shape]) -> Iterator[tuple[str, str, Shape, str]]:
    inputs, letters = module.einsum_str.replace(" ", "").split("->")[0].split(",")
    output = module.einsum_str.replace(" ", "").split("->")[1]
    contracted = [i for i, letter in enumerate(letters) if letter in inputs and letter not in output]
    batch = [i for i, letter in enumerate(letters) if letter in inputs and letter in output]
    torch_shape, steps = _contraction(shape("kernel"), contracted, batch)
    yield "kernel", "weight", torch_shape, steps
    if module.bias is not None:
        bias = shape("bias")
        yield "bias", "bias", (math.prod(bias),), reshaping((math.prod(bias),), bias)


def _conv(module: nnx.Conv, shape: Callable[[str], Shape]) -> Iterator[tuple[str, str, Shape, str]]:
    *spatial, features_in, features_out = shape("kernel")
    yield "kernel", "weight", (features_out, features_in, *spatial), "conv kernel"
    yield "bias", "bias", (features_out,), "same"


def _conv_transpose(module: nnx.ConvTranspose, shape: Callable[[str], Shape]) -> Iterator[tuple[str, str, Shape, str]]:
    *spatial, first, second = shape("kernel")
    # lax.conv_transpose flips the kernel in space and swaps its channels only with transpose_kernel=True. Then the
    # kernel is that of the forward convolution, as torch's kernels always are.
    if module.transpose_kernel:
        yield "kernel", "weight", (second, first, *spatial), "conv kernel"
        yield "bias", "bias", (first,), "same"
    else:
        yield "kernel", "weight", (first, second, *spatial), "transposed conv kernel"
        yield "bias", "bias", (second,), "same"


norm_variables: Mapping[str, str] = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def _norm(module: Any, shape: Callable[[str], Shape]) -> Iterator[tuple[str, str, Shape, str]]:
    for path, role in norm_variables.items():
        if getattr(module, path, None) is not None:
            yield path, role, shape(path), "same"


def _embed(module: nnx.Embed, shape: Callable[[str], Shape]) -> Iterator[tuple[str, str, Shape, str]]:
    yield "embedding", "weight", shape("embedding"), "same"


def _prelu(module: nnx.PReLU, shape: Callable[[str], Shape]) -> Iterator[tuple[str, str, Shape, str]]:
    yield "negative_slope", "weight", (1,), "reshape()"


def _lstm_cell(module: nnx.LSTMCell, shape: Callable[[str], Shape]) -> Iterator[tuple[str, str, Shape, str]]:
    features, hidden = shape("ii.kernel")
    for number, gate in enumerate(("i", "f", "g", "o")):
        rows = f"rows({number * hidden}:{(number + 1) * hidden})"
        inputs = "if_" if gate == "f" else f"i{gate}"
        yield f"{inputs}.kernel", "weight_ih", (4 * hidden, features), joined(rows, "transpose")
        yield f"h{gate}.kernel", "weight_hh", (4 * hidden, hidden), joined(rows, "transpose")
        yield f"h{gate}.bias", "bias", (4 * hidden,), rows


def _fused_cell(module: Any, shape: Callable[[str], Shape]) -> Iterator[tuple[str, str, Shape, str]]:
    features, rows = shape("dense_i.kernel")
    yield "dense_i.kernel", "weight_ih", (rows, features), "transpose"
    yield "dense_h.kernel", "weight_hh", shape("dense_h.kernel")[::-1], "transpose"
    # Flax's cells have one bias, in one of the two layers. A user's subclass may have two biases, as torch has.
    both = module.dense_i.bias is not None and module.dense_h.bias is not None
    yield "dense_i.bias", "bias_ih" if both else "bias", (rows,), "same"
    yield "dense_h.bias", "bias_hh" if both else "bias", (rows,), "same"


def _axes(count: int) -> Callable[[Any], int]:
    return lambda module: count


def _kernel_axes(module: Any) -> int:
    return len(module.kernel_size) + 2


TABLE: tuple[Row, ...] = (
    Row(nnx.Linear, "linear", "Linear", "kernel", _axes(2), _linear),
    Row(
        nnx.LinearGeneral, "linear", "Linear", "kernel",
        lambda module: len(module.batch_axis) + len(module.in_features) + len(module.out_features), _linear_general,
    ),
    Row(nnx.Einsum, "linear", "Linear", "kernel", lambda module: len(module.kernel_shape), _einsum),
    Row(nnx.Conv, "conv", "Conv", "kernel", _kernel_axes, _conv),
    Row(nnx.ConvTranspose, "transposed conv", "ConvTranspose", "kernel", _kernel_axes, _conv_transpose),
    Row(nnx.BatchNorm, "batch norm", "BatchNorm", "mean", _axes(1), _norm),
    Row(nnx.LayerNorm, "norm", "LayerNorm", "scale", _axes(1), _norm),
    Row(nnx.RMSNorm, "norm", "RMSNorm", "scale", _axes(1), _norm),
    Row(nnx.GroupNorm, "norm", "GroupNorm", "scale", _axes(1), _norm),
    Row(nnx.InstanceNorm, "norm", "InstanceNorm", "scale", _axes(1), _norm),
    Row(nnx.Embed, "embedding", "Embedding", "embedding", _axes(2), _embed),
    Row(nnx.PReLU, "prelu", "PReLU", "negative_slope", _axes(0), _prelu),
    Row(nnx.LSTMCell, "cell", "lstm", "ii.kernel", _axes(2), _lstm_cell),
    Row(nnx.OptimizedLSTMCell, "cell", "lstm", "dense_i.kernel", _axes(2), _fused_cell),
    Row(nnx.GRUCell, "cell", "gru", "dense_i.kernel", _axes(2), _fused_cell),
    Row(nnx.SimpleCell, "cell", "rnn", "dense_i.kernel", _axes(2), _fused_cell),
)  # fmt: skip

# Composite layers whose attributes are not in the order of torch's parts, or lose this order when NNX sorts them.
_ORDERED: Mapping[type[nnx.Module], tuple[str, ...]] = {
    nnx.MultiHeadAttention: ("query", "key", "value", "query_ln", "key_ln", "out"),
    nnx.Bidirectional: ("forward_rnn", "backward_rnn"),
}


def find_row(module: Any) -> Row | None:
    """Return the table row of a Flax module, None if the module is not a known layer.

    >>> find_row(nnx.Linear(2, 3, rngs=nnx.Rngs(0))).kind
    'linear'
    """
    return next((row for row in TABLE if isinstance(module, row.type)), None)


def find_row_of(type_: type[nnx.Module]) -> Row:
    """Return the table row of a Flax layer type.

    >>> find_row_of(nnx.Conv).label
    'Conv'
    """
    return next(row for row in TABLE if row.type is type_)


def flax_layers(module: nnx.Module, bridged: Sequence[tuple[FlaxLayer, int]] = ()) -> list[FlaxLayer]:
    """Return the layers of an NNX module in the order of their definition; each stack of layers is split.

    Variables that belong to no known layer form layers of the kind ``"parameters"``, one for each module or container.

    Args:
        module: any NNX module.
        bridged: the layers of Linen modules inside the module, from
            :func:`flaxnets.parity.matching.linen.bridged_layers`.

    >>> [layer.kind for layer in flax_layers(nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0)))]
    ['linear', 'linear', 'linear', 'linear']
    """
    modules = named_modules(module)
    variables = named_variables(module, remove_duplicate=False)
    shared = variables.keys() - named_variables(module).keys()
    ordered = {path: order for path, child in modules.items() for t, order in _ORDERED.items() if isinstance(child, t)}
    ordered |= _bridged_attentions([layer.name for layer, _ in bridged])
    ranks = {path: rank for rank, path in enumerate(_in_order(list(variables), ordered))}
    layers = list(bridged)
    for path, child in modules.items():
        row, prefix = find_row(child), join(path, "")
        shapes = {name[len(prefix) :]: tuple(v.shape) for name, v in variables.items() if name.startswith(prefix)}
        # A cell's linear layers are parts of the cell.
        is_part = any(path != layer.name and path.startswith(join(layer.name, "")) for layer, _ in layers)
        if row is not None and shapes and not is_part:
            layer, size = describe(path, child, row, shapes)
            layers.append((_with_shared(layer, shared), size))
    used = {target.path for layer, _ in layers for target in layer.targets}
    layers += _raw_layers({path: v for path, v in variables.items() if path not in used | shared}, layers, modules)

    def rank(layer: FlaxLayer) -> tuple[int, int]:
        paths = [target.path for target in layer.targets]
        if layer.kind == "parameters":  # Torch lists a module's own parameters before the parameters of its children.
            prefix = join(layer.name, "")
            paths = [path for path in ranks if path.startswith(prefix)]
        return min((ranks[path] for path in paths), default=0), layer.kind != "parameters"

    return _unstacked(sorted(layers, key=lambda pair: rank(pair[0])), list(modules))


def _with_shared(layer: FlaxLayer, shared: Collection[str]) -> FlaxLayer:
    """Mark the variables that an earlier layer also has as optional, since torch may not share them."""
    targets = (dataclasses.replace(each, optional=each.optional or each.path in shared) for each in layer.targets)
    return dataclasses.replace(layer, targets=tuple(targets))


def _bridged_attentions(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return Linen's attention layers, whose variables are in alphabetical order, with torch's order of their parts."""
    order = _ORDERED[nnx.MultiHeadAttention]
    parents = Counter(parent for parent, _, last in (name.rpartition(".") for name in names) if last in order)
    return {parent: order for parent, count in parents.items() if count > 3}


def _in_order(paths: list[str], ordered: Mapping[str, tuple[str, ...]]) -> list[str]:
    def key(path: str) -> tuple[int, ...]:
        return tuple(
            order.index(child)
            for prefix, order in ordered.items()
            if path.startswith(join(prefix, ""))
            for child in [path[len(join(prefix, "")) :].split(".")[0]]
            if child in order
        )

    groups = itertools.groupby(paths, key=lambda path: [p for p in ordered if path.startswith(join(p, ""))][:1])
    return [path for _, group in groups for path in sorted(group, key=key)]


def describe(name: str, module: Any, row: Row, held: Mapping[str, Shape]) -> tuple[FlaxLayer, int]:
    """Describe a layer by its table row. Return the layer and the size of its stacking axis, 0 without this axis.

    Args:
        name: path of the layer.
        module: the layer, or an object with the attributes that the row's description reads.
        row: the table row.
        held: shapes of the layer's variables, by their paths within the layer.

    >>> layer, size = describe("fc", None, find_row_of(nnx.Linear), {"kernel": (5, 3, 2)})
    >>> layer.shapes, size
    ({'weight': (2, 3)}, 5)
    """
    main = row.main if row.main in held else next(iter(held))
    stacked = len(held[main]) - row.ndim(module) == 1
    size = held[main][0] if stacked else 0

    def shape(path: str) -> Shape:
        return held[path][1:] if stacked else held[path]

    uses = [use for use in row.describe(module, shape) if use[0] in held]
    targets = tuple(Target(join(name, path), role, steps) for path, role, _, steps in uses)
    return FlaxLayer(name, row.kind, row.label, {role: size for _, role, size, _ in uses}, targets, name), size


def _raw_layers(
    variables: Mapping[str, nnx.Variable],
    known: Sequence[tuple[FlaxLayer, int]],
    modules: Mapping[str, nnx.Module],
) -> list[tuple[FlaxLayer, int]]:
    """Return one layer for each module, list or dict that directly contains variables."""
    owners: dict[str, dict[str, nnx.Variable]] = {}
    for path, variable in variables.items():
        owner, _, name = path.rpartition(".")
        owners.setdefault(owner, {})[name] = variable
    result = []
    for owner, owned in owners.items():
        size = _stacked_around(owner, owned, known)
        shapes = {name: tuple(v.shape[1:] if size else v.shape) for name, v in owned.items()}
        targets = tuple(
            Target(join(owner, name), name, optional=not isinstance(v, (nnx.Param, nnx.BatchStat)))
            for name, v in owned.items()
        )
        kind, type_ = _torch_like(modules.get(owner))
        result.append((FlaxLayer(owner, kind, type_, shapes, targets, owner), size))
    return result


def _torch_like(module: Any) -> tuple[str, str]:
    """Return the kind and type of a ``flaxnets.nn`` layer, whose variables have torch's names and shapes."""
    bases = [cls.__name__ for cls in type(module).__mro__ if cls.__module__.startswith("flaxnets.nn.")]
    for types, kind, label in TORCH_KINDS:
        if {each.__name__ for each in types} & set(bases):
            return kind, label
    name = next((name for name in bases if hasattr(torch.nn, name) and name != "Module"), None)
    return (f"torch {name}", name) if name else ("parameters", "")


def composites_under_torch_names(module: nnx.Module) -> set[str]:
    """Return the torch.nn classes that the Flax module implements as one layer with torch's variable names.

    :func:`flaxnets.parity.matching.torch_layers.torch_layers` does not split these classes.

    >>> from flaxnets import nn
    >>> composites_under_torch_names(nn.LSTM(2, 3, rngs=nnx.Rngs(0)))
    {'LSTM'}
    """
    kinds = {_torch_like(child)[0] for child in named_modules(module).values()}
    return {kind.removeprefix("torch ") for kind in kinds if kind.startswith("torch ")}


def _stacked_around(owner: str, owned: Mapping[str, nnx.Variable], known: Sequence[tuple[FlaxLayer, int]]) -> int:
    """Return the size of the stacking axis of raw parameters, from the known layers of the nearest outer module."""
    parent = owner
    while parent:
        sizes = {size for layer, size in known if layer.name.startswith(join(parent, ""))}
        if sizes:
            size = sizes.pop() if len(sizes) == 1 else 0
            return size if all(v.ndim and v.shape[0] == size for v in owned.values()) else 0
        parent = parent.rpartition(".")[0]
    return 0


def _unstacked(layers: Sequence[tuple[FlaxLayer, int]], modules: Sequence[str]) -> list[FlaxLayer]:
    """Split each stack of n layers (of ``nnx.vmap``) into n layers, in torch's order: block by block."""

    def stack_of(layer: FlaxLayer, size: int) -> str | None:
        """Return the outermost module around the layer in which all layers are stacked."""
        if not size:
            return None
        parts = layer.name.split(".")
        prefixes = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
        for prefix in prefixes:
            within = {s for other, s in layers if other.name == prefix or other.name.startswith(join(prefix, ""))}
            if within == {size}:
                return prefix
        return layer.name

    result: list[FlaxLayer] = []
    with_stack = [(layer, size, stack_of(layer, size)) for layer, size in layers]
    for stack, group in itertools.groupby(with_stack, key=lambda item: item[2]):
        members = list(group)
        if stack is None:
            result += [layer for layer, _, _ in members]
            continue
        for index in range(members[0][1]):
            for layer, _, _ in members:
                targets = tuple(dataclasses.replace(target, index=index) for target in layer.targets)
                label = join(join(stack, index), layer.name[len(stack) :].lstrip(".")).rstrip(".")
                result.append(dataclasses.replace(layer, targets=targets, label=label, stack=stack))
    return result
