"""Describe the layers of Flax Linen modules inside ``nnx.bridge.ToNNX`` in torch's terms, as ``layers`` does for NNX.

For NNX, a wrapped Linen module is a dict of variables. A call of the module shows the layer of each variable. Without a
call, the layer is guessed from the names and the numbers of axes.

>>> from flax import linen
>>> import jax.numpy as jnp
>>> model = nnx.bridge.ToNNX(linen.Dense(3), rngs=nnx.Rngs(0)).lazy_init(jnp.ones((1, 2)))
>>> [(layer.kind, dict(layer.shapes)) for layer, _ in bridged_layers(model, {})]
[('linear', {'weight': (3, 2), 'bias': (3,)})]
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from flax import linen, nnx

from flaxnets.parity.matching.layers import FlaxLayer, Row, Shape, describe, find_row_of, norm_variables
from flaxnets.parity.matching.transforms import joined
from flaxnets.parity.trees import join, named_modules, named_variables


def _sizes(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,)


def _general(module: linen.DenseGeneral) -> SimpleNamespace:
    return SimpleNamespace(
        batch_axis=_sizes(module.batch_dims), in_features=_sizes(module.axis), out_features=_sizes(module.features)
    )


def _convolution(module: Any) -> SimpleNamespace:
    flipped = getattr(module, "transpose_kernel", False)
    return SimpleNamespace(kernel_size=_sizes(module.kernel_size), transpose_kernel=flipped)


def _nothing(module: Any) -> SimpleNamespace:
    return SimpleNamespace()


# For each Linen layer, the NNX layer with the same variables, and a function that returns the attributes that the table
# row of the NNX layer reads.
_LAYERS: Sequence[tuple[type[linen.Module], type[nnx.Module], Callable[[Any], SimpleNamespace]]] = (
    (linen.Dense, nnx.Linear, _nothing),
    (linen.DenseGeneral, nnx.LinearGeneral, _general),
    (linen.Conv, nnx.Conv, _convolution),
    (linen.ConvTranspose, nnx.ConvTranspose, _convolution),
    (linen.BatchNorm, nnx.BatchNorm, _nothing),
    (linen.LayerNorm, nnx.LayerNorm, _nothing),
    (linen.RMSNorm, nnx.RMSNorm, _nothing),
    (linen.GroupNorm, nnx.GroupNorm, _nothing),
    (linen.InstanceNorm, nnx.InstanceNorm, _nothing),
    (linen.Embed, nnx.Embed, _nothing),
    (linen.PReLU, nnx.PReLU, _nothing),
)


def _gates(names: Sequence[str], hidden_bias: bool) -> Callable[..., Iterator[tuple[str, str, Shape, str]]]:
    """Describe a cell with one dense layer for each gate of the input (``ii``) and of the hidden state (``hi``)."""

    def description(module: Any, shape: Callable[[str], Shape]) -> Iterator[tuple[str, str, Shape, str]]:
        features, hidden = shape(f"i{names[0]}.kernel")
        size = len(names) * hidden
        for number, gate in enumerate(names):
            rows = f"rows({number * hidden}:{(number + 1) * hidden})" if len(names) > 1 else "same"
            yield f"i{gate}.kernel", "weight_ih", (size, features), joined(rows, "transpose")
            yield f"h{gate}.kernel", "weight_hh", (size, hidden), joined(rows, "transpose")
            # Linen's GRU has two separate biases only for the candidate gate.
            both = not hidden_bias and gate == "n"
            yield f"i{gate}.bias", "bias_ih" if both else "bias", (size,), rows
            yield f"h{gate}.bias", "bias_hh" if both else "bias", (size,), rows

    return description


def _simple(module: Any, shape: Callable[[str], Shape]) -> Iterator[tuple[str, str, Shape, str]]:
    features, hidden = shape("i.kernel")
    yield "i.kernel", "weight_ih", (hidden, features), "transpose"
    yield "h.kernel", "weight_hh", (hidden, hidden), "transpose"
    yield "i.bias", "bias", (hidden,), "same"


# Cells are recognised by the names of their dense layers.
_CELLS: Mapping[frozenset[str], Row] = {
    frozenset({"ii", "if", "ig", "io", "hi", "hf", "hg", "ho"}): Row(
        nnx.LSTMCell, "cell", "lstm", "ii.kernel", lambda module: 2, _gates(("i", "f", "g", "o"), hidden_bias=True)
    ),
    frozenset({"ir", "iz", "in", "hr", "hz", "hn"}): Row(
        nnx.GRUCell, "cell", "gru", "ir.kernel", lambda module: 2, _gates(("r", "z", "n"), hidden_bias=False)
    ),
    frozenset({"i", "h"}): Row(nnx.SimpleCell, "cell", "rnn", "i.kernel", lambda module: 2, _simple),
}


def bridged_layers(module: nnx.Module, recorded: Mapping[str, linen.Module]) -> list[tuple[FlaxLayer, int]]:
    """Return the layers of all Linen modules inside an NNX module, each with the size of its stacking axis.

    Args:
        module: any NNX module.
        recorded: Linen modules by the paths of their variables, from :func:`recorded_linen`; may be empty.
    """
    shapes = {path: tuple(variable.shape) for path, variable in named_variables(module).items()}
    result = []
    for root, child in named_modules(module).items():
        if isinstance(child, nnx.bridge.ToNNX):
            result += _layers({path: s for path, s in shapes.items() if path.startswith(join(root, ""))}, recorded)
    return result


def _layers(shapes: Mapping[str, Shape], recorded: Mapping[str, linen.Module]) -> list[tuple[FlaxLayer, int]]:
    owners: dict[str, dict[str, Shape]] = {}
    for path, shape in shapes.items():
        owner, _, name = path.rpartition(".")
        owners.setdefault(owner, {})[name] = shape
    result, cells = [], set()
    for parent in dict.fromkeys(owner.rpartition(".")[0] for owner in owners if owner):
        children = {o[len(join(parent, "")) :] for o in owners if o and o.rpartition(".")[0] == parent}
        row = _CELLS.get(frozenset(children))
        if row is not None:
            cell_shapes = {f"{c}.{name}": s for c in children for name, s in owners[join(parent, c)].items()}
            result.append(describe(parent, SimpleNamespace(), row, cell_shapes))
            cells.add(parent)
    for owner, owned in owners.items():
        if owner.rpartition(".")[0] in cells and owner:
            continue
        row_and_adapter = _row(owner, owned, recorded.get(owner))
        if row_and_adapter is not None:
            row, adapter = row_and_adapter
            for name in norm_variables:
                setattr(adapter, name, owned.get(name))
            result.append(describe(owner, adapter, row, owned))
    return result


def _row(owner: str, owned: Mapping[str, Shape], module: linen.Module | None) -> tuple[Row, SimpleNamespace] | None:
    """Return the table row for a dict of variables and the attributes that the row reads; None for a user's layer."""
    for type_, twin, adapt in _LAYERS:
        if isinstance(module, type_):
            return find_row_of(twin), adapt(module)
    name = owner.rpartition(".")[2]
    kernel = len(owned.get("kernel", ()))
    if module is not None and (not kernel or type(module).__module__.split(".")[0] != "flax"):
        return None
    if kernel == 3 and name in ("query", "key", "value", "out"):
        inputs = 2 if name == "out" else 1
        adapter = SimpleNamespace(batch_axis=(), in_features=(0,) * inputs, out_features=(0,) * (3 - inputs))
        return find_row_of(nnx.LinearGeneral), adapter
    if kernel == 2:
        return find_row_of(nnx.Linear), SimpleNamespace()
    if kernel > 2:
        twin = nnx.ConvTranspose if "transpose" in name.lower() else nnx.Conv
        return find_row_of(twin), SimpleNamespace(kernel_size=(0,) * (kernel - 2), transpose_kernel=False)
    if "embedding" in owned:
        return find_row_of(nnx.Embed), SimpleNamespace()
    if "mean" in owned:
        return find_row_of(nnx.BatchNorm), SimpleNamespace()
    if "scale" in owned and len(owned["scale"]) == 1:
        return find_row_of(nnx.LayerNorm if "bias" in owned else nnx.RMSNorm), SimpleNamespace()
    return None


@contextlib.contextmanager
def recorded_linen(prefix: Callable[[], str | None], note: Callable[[str, linen.Module], None]) -> Iterator[None]:
    """Return a context that reports each call of a Linen module before the call runs.

    Args:
        prefix: returns the path of the ``ToNNX`` module that is running, None outside such a module.
        note: called with the path of the Linen module's variables and the module.

    >>> with recorded_linen(lambda: None, print):
    ...     pass
    """

    def intercept(next_function: Callable, args: tuple, kwargs: dict, context: linen.module.InterceptorContext) -> Any:
        root = prefix()
        if context.method_name == "__call__" and root is not None:
            note(".".join([*([root] if root else []), *map(str, context.module.path)]), context.module)
        return next_function(*args, **kwargs)

    with linen.intercept_methods(intercept):
        yield
