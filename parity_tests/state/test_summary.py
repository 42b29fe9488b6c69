"""Tests of the summary table: shapes, parameters and multiply-adds agree with torch, and nothing is computed."""

import dataclasses
import io
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich
import torch
from flax import nnx
from jax import lax
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

import flaxnets
import torchref
from flaxnets import nn
from flaxnets.nn import functional as F
from flaxnets.nn.recurrent import GRU, LSTM, RNN
from flaxnets.registry import get_entry
from flaxnets.summary import summary


def rows(model, *inputs, **options):
    return {row.path: row for row in summary(model, *inputs, **options).rows}


def _torch_work(module, output) -> int:
    if isinstance(module, torch.nn.Conv2d):
        return output.numel() * math.prod(module.kernel_size) * module.in_channels // module.groups
    return output.numel() * module.in_features if isinstance(module, torch.nn.Linear) else 0


def _torch_rows(model, input) -> tuple[dict, int]:
    """Return the output shapes and multiply-adds of torch's modules, and the multiply-adds that torch itself counts."""
    shapes, work, paths = {}, {}, {module: path for path, module in model.named_modules()}

    def look(module, _, output):
        shapes[paths[module]] = (tuple(output.shape),)
        work[paths[module]] = _torch_work(module, output)

    for module in model.modules():
        module.register_forward_hook(look)
    with FlopCounterMode(display=False) as counter:
        model(input)
    table = {}
    for path, module in model.named_modules():
        inside = [n for name, n in work.items() if path == "" or name == path or name.startswith(path + ".")]
        own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        table[path] = (type(module).__name__, shapes.get(path, ()), own, sum(inside), int(path in shapes))
    return table, counter.get_total_flops() // 2


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", ["mlp", "lenet", "resnet18", "densenet"])
def test_every_row_and_total_of_a_network_is_torchs(name, train):
    shape = (3, *get_entry(name).input_shape)
    with torch.device("meta"):
        twin = torchref.create_model(name).train(train)
        expected, multiply_adds = _torch_rows(twin, torch.empty(shape))
    model = nnx.eval_shape(lambda: flaxnets.create_model(name)).train(train)
    found = summary(model, shape)
    assert {
        row.path: (row.kind, row.output_shapes, row.parameters, row.multiply_adds, row.calls) for row in found.rows
    } == expected
    assert [row.path for row in found.rows] == list(expected)
    assert all(row.same_as is None and row.shared_parameters == 0 for row in found.rows)
    assert found.multiply_adds == multiply_adds
    assert found.parameters == sum(parameter.numel() for parameter in twin.parameters())
    assert found.buffers == sum(buffer.numel() for buffer in twin.buffers())
    assert found.megabytes == found.parameters * 4 / 1e6


CONVOLUTIONS = {
    "plain": {},
    "strided and padded": {"stride": (2, 1), "padding": 2},
    "dilated": {"dilation": 2},
    "grouped": {"groups": 2},
    "depthwise": {"groups": 4},
    "same": {"padding": "same"},
    "reflected": {"padding": 1, "padding_mode": "reflect"},
}


@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@pytest.mark.parametrize("shape", [(2, 4, 9, 8), (4, 9, 8)], ids=["batched", "unbatched"])
def test_a_convolution_counts_as_torch_counts_it(shape, options):
    layer = nn.Conv2d(4, 8, (3, 2), **options, rngs=nnx.Rngs(0))
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        torch.nn.Conv2d(4, 8, (3, 2), **options)(torch.empty(shape))
    assert summary(layer, shape).multiply_adds == counter.get_total_flops() // 2


class Function(nn.Module):
    """A module that calls a function."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *inputs):
        return self.function(*inputs)


def _transposed(x):
    weight, padding, dimensions = jnp.ones((4, 6, 3, 3)), ((1, 1), (1, 1)), ("NCHW", "IOHW", "NCHW")
    return lax.conv_general_dilated(x, weight, (1, 1), padding, (2, 2), dimension_numbers=dimensions)


PRODUCTS = {
    "vectors": (lambda x, y: x @ y, [(5,), (5,)], 5),
    "outer": (jnp.outer, [(3,), (4,)], 0),
    "batched": (lambda x, y: x @ y, [(7, 2, 3), (7, 3, 5)], 7 * 2 * 3 * 5),
    "einsum": (lambda x, y: jnp.einsum("bhqd,bhkd->bhqk", x, y), [(2, 3, 4, 5), (2, 3, 6, 5)], 2 * 3 * 4 * 6 * 5),
    "transposed convolution": (_transposed, [(2, 4, 5, 5)], 2 * 4 * 5 * 5 * 6 * 9),
    "transposed, by the function": (
        lambda x, w: F.conv_transpose2d(x, w, stride=3, output_padding=1, groups=2),
        [(2, 4, 5, 5), (4, 3, 2, 3)],
        2 * 4 * 5 * 5 * 3 * 6,
    ),
    "groups of volumes": (
        lambda x, w: F.conv3d(x, w, groups=2),
        [(2, 4, 5, 5, 5), (6, 2, 2, 3, 1)],
        2 * 60 * 6 * 2 * 6,
    ),
    "one-dimensional": (lambda x: lax.conv(x, jnp.ones((6, 3, 2)), (1,), "VALID"), [(2, 3, 8)], 2 * 6 * 7 * 3 * 2),
    "empty": (lambda x, y: x @ y, [(0, 3), (3, 4)], 0),
    "elementwise": (lambda x: jnp.tanh(x) * x, [(3, 3)], 0),
}


@pytest.mark.parametrize(("function", "shapes", "expected"), PRODUCTS.values(), ids=PRODUCTS)
def test_products_are_counted_from_their_shapes(function, shapes, expected):
    assert summary(Function(function), *shapes).multiply_adds == expected


@pytest.mark.parametrize("kind", [RNN, GRU, LSTM])
@pytest.mark.parametrize(("layers", "directions"), [(1, 1), (2, 1), (2, 2)])
def test_a_recurrent_layer_counts_every_time_step(kind, layers, directions):
    steps, batch, size, hidden = 7, 3, 5, 4
    layer = kind(size, hidden, layers, bidirectional=directions == 2, rngs=nnx.Rngs(0))
    gates = {RNN: 1, GRU: 3, LSTM: 4}[kind] * hidden
    inputs = [size, *[hidden * directions] * (layers - 1)]
    found = summary(layer, (steps, batch, size))
    assert found.multiply_adds == steps * batch * directions * sum(gates * (width + hidden) for width in inputs)
    state = (layers * directions, batch, hidden)
    assert found.rows[0].output_shapes == ((steps, batch, hidden * directions), *[state] * (2 if kind is LSTM else 1))
    assert found.rows[0].parameters == found.parameters == sum(p.size for p in layer.parameters())
    assert found.rows[0].calls == 1


def test_a_module_held_under_several_names_is_counted_once_with_all_its_calls():
    shared = nn.Sequential(nn.Linear(3, 3, rngs=nnx.Rngs(0)), nn.ReLU())
    net = nn.Sequential(shared, nn.Sigmoid(), shared, nn.Sequential(shared, nn.ReLU()))
    found = rows(net, (2, 3))
    assert list(found) == ["", "0", "0.0", "0.1", "1", "2", "3", "3.0", "3.1"]
    assert {path: row.same_as for path, row in found.items() if row.same_as is not None} == {"2": "0", "3.0": "0"}
    assert {path: row.calls for path, row in found.items() if row.calls != 1} == {
        "0": 3, "0.0": 3, "0.1": 3, "2": 0, "3.0": 0,
    }  # fmt: skip
    work = {path: row.multiply_adds for path, row in found.items() if row.multiply_adds}
    # Work inside a call of a module belongs to this module, wherever the layer is defined.
    assert work == {"": 54, "0": 54, "0.0": 54, "3": 18}
    assert summary(net, (2, 3)).parameters == 12
    text = str(summary(net, (2, 3)))
    assert "Sequential (= 0)" in text
    assert len(text.splitlines()) == 9 + 3 + 3


def test_a_call_from_elsewhere_is_not_the_work_of_the_container_that_holds_the_module():
    shared = nn.Linear(3, 3, rngs=nnx.Rngs(0))
    found = rows(nn.Sequential(nn.Sequential(shared, nn.ReLU()), shared), (2, 3))
    assert {path: row.multiply_adds for path, row in found.items()} == {"": 36, "0": 18, "0.0": 36, "0.1": 0, "1": 0}


def test_the_output_shapes_are_those_of_the_first_call():
    found = rows(Around(lambda layer, x: layer(layer(x)[:1]), nnx.Rngs(0)), (2, 4))
    assert (found["layer"].output_shapes, found["layer"].multiply_adds) == (((2, 4),), 32 + 16)
    assert found[""].output_shapes == ((1, 4),)


class Tied(nn.Module):
    """A network that uses one matrix for the embedding and the output, like language models."""

    def __init__(self, bias: bool, rngs: nnx.Rngs):
        self.embedding = nn.Module()
        self.embedding.weight = nnx.Param(jnp.ones((11, 4)))
        self.head = nn.Linear(4, 11, bias=bias, rngs=rngs)
        self.head.weight = self.embedding.weight

    def __call__(self, tokens):
        return self.head(self.embedding.weight[...][tokens])


@pytest.mark.parametrize(("bias", "own", "cell"), [(True, 11, "  11 + 44 shared  "), (False, 0, "   44 shared  ")])
def test_a_shared_parameter_is_counted_at_its_first_name(bias, own, cell):
    found = summary(Tied(bias, nnx.Rngs(0)), jax.ShapeDtypeStruct((2, 3), jnp.int32))
    assert [(row.path, row.parameters, row.shared_parameters) for row in found.rows] == [
        ("", 0, 0), ("embedding", 44, 0), ("head", own, 44),
    ]  # fmt: skip
    assert (found.parameters, found.multiply_adds) == (44 + own, 2 * 3 * 4 * 11)
    assert cell in str(found)
    assert found.rows[1].calls == 0  # the module has no __call__


class Held(nn.Module):
    """A network that calls two layers of a container, but not the container, and computes a product itself."""

    def __init__(self, rngs: nnx.Rngs):
        self.layers = nn.Sequential(*(nn.Linear(4, 4, rngs=rngs) for _ in range(3)))

    def __call__(self, x):
        x = self.layers[:2](x)
        return x @ x.T


def test_a_container_that_is_never_called_counts_what_it_holds():
    found = rows(Held(nnx.Rngs(0)), (2, 4))
    assert found["layers"] == dataclasses.replace(found["layers"], multiply_adds=64, calls=0, output_shapes=())
    assert found[""] == dataclasses.replace(found[""], multiply_adds=64 + 16, calls=1, output_shapes=((2, 2),))
    assert (found["layers.2"].calls, found["layers.2"].parameters) == (0, 20)


@nnx.jit
def _jitted(layer, x):
    return layer(x)


class Around(nn.Module):
    """A network that calls a layer through a transformation."""

    def __init__(self, way, rngs: nnx.Rngs):
        self.way = way
        self.layer = nn.Sequential(nn.Linear(4, 4, rngs=rngs))

    def __call__(self, x):
        return self.way(self.layer, x)


def _scanned(layer, x):
    return lax.scan(lambda carry, _: (layer(carry), None), x, None, length=5)[0]


def _nnx_scanned(layer, x):
    step = nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, None), out_axes=nnx.Carry, length=5)
    return step(x, layer)


def _either(layer, x):
    return lax.cond(x[0, 0] > 0, lambda x: layer(layer(x)), lambda x: layer(x), x)


def _custom(layer, x):
    graphdef, state = nnx.split(layer)
    run = jax.custom_vjp(lambda state, x: nnx.merge(graphdef, state)(x))
    run.defvjp(lambda state, x: (run(state, x), None), lambda _, g: (state, g))
    return run(state, x)


WAYS = {
    "called": (lambda layer, x: layer(x), 1),
    "called twice": (lambda layer, x: layer(layer(x)), 2),
    "the cached trace of a jit": (lambda layer, x: _jitted(layer, _jitted(layer, x)), 2),
    "scan": (_scanned, 5),
    "scan in scan": (lambda layer, x: lax.scan(lambda c, _: (_scanned(layer, c), None), x, None, length=3)[0], 15),
    "nnx.scan": (_nnx_scanned, 5),
    "fori_loop": (lambda layer, x: lax.fori_loop(0, 6, lambda _, x: layer(x), x), 6),
    "while_loop": (lambda layer, x: lax.while_loop(lambda x: x[0, 0] > 0, lambda x: layer(x), x), 1),
    "cond": (_either, 2),
    "remat": (lambda layer, x: jax.checkpoint(lambda x: layer(x))(x), 1),
    "nnx.remat": (lambda layer, x: nnx.remat(lambda layer, x: layer(x))(layer, x), 1),
    "custom_vjp": (_custom, 1),
    "an unused output": (lambda layer, x: (layer(x), x)[1], 1),
}


@pytest.mark.parametrize(("way", "calls"), WAYS.values(), ids=WAYS)
def test_calls_are_found_through_every_transformation(way, calls):
    model = Around(way, nnx.Rngs(0))
    model(jnp.ones((2, 4)))  # programs that are compiled and cached before must not hide calls
    for _ in range(2):
        found = rows(model, (2, 4))
        for path in ("layer", "layer.0"):
            assert (found[path].calls, found[path].multiply_adds) == (calls, calls * 32)
            assert found[path].output_shapes == ((2, 4),)
        assert (found[""].calls, found[""].multiply_adds) == (1, calls * 32)


def test_a_gradient_in_the_network_is_one_call_and_its_work():
    def energy(layer, x):
        return jax.grad(lambda x: (layer(x) ** 2).sum())(x)

    found = rows(Around(energy, nnx.Rngs(0)), (2, 4))
    # Forward, and the gradient of the input.
    assert (found["layer.0"].calls, found["layer.0"].multiply_adds) == (1, 2 * 32)


def test_a_batched_call_counts_the_whole_batch():
    found = rows(Around(lambda layer, x: jax.vmap(layer)(x), nnx.Rngs(0)), (6, 2, 4))
    assert (found["layer.0"].calls, found["layer.0"].multiply_adds) == (1, 6 * 32)


def _regular(rngs: nnx.Rngs) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4, rngs=rngs), nn.BatchNorm1d(4), nn.Dropout(0.5, rngs=rngs), nn.ReLU())


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
def test_nothing_of_the_model_changes(train):
    model = _regular(nnx.Rngs(0)).train(train)
    model[0].eval()
    graphdef, state = nnx.split(model)
    before, kinds = jax.tree.leaves(state), [type(module) for module in model.modules()]
    summary(model, (8, 4))
    graphdef_after, state_after = nnx.split(model)
    assert graphdef_after == graphdef
    assert all(a is b for a, b in zip(jax.tree.leaves(state_after), before, strict=True))
    assert [type(module) for module in model.modules()] == kinds
    assert [module.training for module in model.modules()] == [train, False, train, train, train]
    assert not any(name.startswith("_summary") for module in model.modules() for name in vars(module))


def test_the_classes_are_untouched_also_while_it_runs():
    calls, seen = nn.Linear.__call__, []
    look = Function(lambda x: seen.append((nn.Linear.__call__, nn.Linear(4, 4, rngs=nnx.Rngs(0))(x).shape)) or x)
    assert summary(nn.Sequential(nn.Linear(4, 4, rngs=nnx.Rngs(0)), look), (2, 4)).multiply_adds == 64
    assert seen == [(calls, (2, 4))]


def test_the_mode_is_the_models_own():
    model = nn.Sequential(nn.BatchNorm1d(4))
    assert summary(model.eval(), (1, 4)).rows[0].output_shapes == ((1, 4),)
    with pytest.raises(ValueError, match=r"\(1, 4\)"):
        summary(model.train(), (1, 4))


@pytest.mark.parametrize("abstract", [True, False])
def test_nothing_is_computed(abstract):
    make = lambda: _regular(nnx.Rngs(0))  # noqa: E731
    found = summary(nnx.eval_shape(make) if abstract else make(), (10**9, 4))  # the output would have 16 GB
    assert (found.rows[0].output_shapes, found.multiply_adds) == (((10**9, 4),), 16 * 10**9)


INPUTS = {
    "a tuple": ((2, 3), {}, (2, 3), jnp.float32),
    "a list": ([2, 3], {}, (2, 3), jnp.float32),
    "numpy's ints": (tuple(np.array([2, 3])), {}, (2, 3), jnp.float32),
    "a scalar": ((), {}, (), jnp.float32),
    "a spec": (jax.ShapeDtypeStruct((2, 3), jnp.int32), {}, (2, 3), jnp.int32),
    "an array": (jnp.ones((2, 3), jnp.bfloat16), {}, (2, 3), jnp.bfloat16),
    "a numpy array": (np.ones((2, 3), np.int8), {}, (2, 3), jnp.int8),
}


@pytest.mark.parametrize(("input", "options", "shape", "dtype"), INPUTS.values(), ids=INPUTS)
def test_an_input_is_a_shape_or_an_array(input, options, shape, dtype):
    seen = []
    summary(Function(lambda x: seen.append((x.shape, x.dtype)) or x), input, **options)
    assert seen == [(shape, dtype)]


class Keywords(nn.Module):
    """A module with all types of arguments."""

    def __call__(self, x, pair, nothing, *, mask, scale, flag):
        assert nothing is None
        assert flag is True
        assert scale == (2, 3)
        return {"x": x, "pair": [pair["a"], pair["b"][0]], "mask": mask}


def test_arguments_may_be_several_nested_and_by_name():
    pair = {"a": (1,), "b": ((2, 2),)}
    (row,) = summary(Keywords(), (5,), pair, None, mask=np.ones(3, bool), scale=(2, 3), flag=True).rows
    assert row.output_shapes == ((3,), (1,), (2, 2), (5,))  # jax.tree.leaves sorts the keys of a dict


def test_a_module_that_returns_no_array_still_counts_its_work():
    found = rows(nn.Sequential(nn.Linear(2, 2, rngs=nnx.Rngs(0)), Function(lambda x: str((x @ x).shape))), (2, 2))
    assert (found["1"].calls, found["1"].output_shapes, found["1"].multiply_adds) == (0, (), 8)


def test_parameters_of_other_dtypes_have_other_sizes():
    assert summary(nn.Linear(10, 100, rngs=nnx.Rngs(0)).bfloat16(), jnp.ones((1, 10), jnp.bfloat16)).megabytes == 0.0022


class PlainFlax(nnx.Module):
    """A network of Flax's own modules that are not in sorted order, in a list, and in a module that is not a pytree."""

    def __init__(self, rngs: nnx.Rngs):
        self.second = nnx.Linear(4, 4, rngs=rngs)
        self.first = NoPytree(rngs)
        self.blocks = nnx.List([nnx.Linear(4, 4, rngs=rngs), self.second])

    def __call__(self, x):
        x = self.first(self.second(x))
        for block in self.blocks:
            x = block(x)
        return x


class NoPytree(nnx.Module, pytree=False):
    def __init__(self, rngs: nnx.Rngs):
        self.norm = nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, x):
        self.seen = [np.ones(1)]  # a list of arrays, which a pytree does not allow
        return self.norm(x)


def test_plain_flax_modules_have_a_summary_too():
    found = rows(PlainFlax(nnx.Rngs(0)), (3, 4))
    assert {path: dataclasses.astuple(row)[1:2] + dataclasses.astuple(row)[3:] for path, row in found.items()} == {
        "": ("PlainFlax", 0, 0, 144, 1, None),
        "second": ("Linear", 20, 0, 96, 2, None),
        "first": ("NoPytree", 0, 0, 0, 1, None),
        "first.norm": ("BatchNorm", 8, 0, 0, 1, None),
        "blocks": ("List", 0, 0, 48, 0, None),
        "blocks.0": ("Linear", 20, 0, 48, 1, None),
        "blocks.1": ("Linear", 0, 0, 0, 0, "second"),
    }  # fmt: skip


def test_a_module_that_holds_itself_ends():
    module = Function(lambda x: x)
    module.me = module
    assert [(row.path, row.same_as) for row in summary(module, (1,)).rows] == [("", None), ("me", "")]
    assert "Function (= Function)" in str(summary(module, (1,)))


@pytest.mark.parametrize("name", ["lenet", "densenet"])
def test_the_string_has_a_line_for_every_path_and_the_totals(name):
    model = nnx.eval_shape(lambda: flaxnets.create_model(name))
    found = summary(model, (2, *get_entry(name).input_shape))
    head, rule, *lines = str(found).splitlines()
    assert head.split() == ["Path", "Class", "Output", "shape", "Parameters", "Multiply-adds", "Calls"]
    assert set(rule) == {"-", " "}
    paths = [path or type(model).__name__ for path, _ in model.named_modules()]
    assert [line.split()[0] for line in lines[: len(paths)]] == paths
    assert lines[len(paths)] == rule
    assert lines[len(paths) + 1 :] == [
        f"Parameters: {found.parameters:,} ({found.megabytes:.2f} MB)",
        f"Buffers: {found.buffers:,}",
        f"Multiply-adds: {found.multiply_adds:,}",
    ]
    assert str(found) == repr(found)
    assert str(found).isascii()
    assert all(line == line.rstrip() for line in lines)


def _shown(found, width: int) -> str:
    file = io.StringIO()
    rich.print(found, file=file) if width == 0 else Console(file=file, width=width).print(found)
    return file.getvalue()


def test_the_console_shows_the_same_cells_and_fits_them_to_its_width():
    found = summary(flaxnets.create_model("lenet"), (2, 1, 28, 28))
    words = [line.split() for line in str(found).splitlines() if "---" not in line]
    shown = [line.split() for line in _shown(found, 120).splitlines() if "──" not in line]
    assert shown == words
    narrow = _shown(found, 60)
    assert max(map(len, narrow.splitlines())) <= 60
    assert all(f"{row.parameters:,}" in narrow for row in found.rows if row.parameters)
    assert "Multiply-adds" in _shown(found, 0)


LINEAR = nn.Linear(3, 2, rngs=nnx.Rngs(0))
ERRORS = {
    "no module": ((len, (1, 3)), TypeError, "expected a module, got <built-in function len>"),
    "a class": ((nn.ReLU, (1, 3)), TypeError, r"expected a module, got <class .*ReLU'>"),
    "sizes that are no tuple": ((LINEAR, 1, 3), TypeError, "expected a shape .*, got 1"),
    "a string": ((LINEAR, "1x3"), TypeError, "expected a shape .*, got '1x3'"),
    "a negative size": ((LINEAR, (-1, 3)), ValueError, r"must not be negative, got \(-1, 3\)"),
    "the layer's own": ((LINEAR, (1, 5)), RuntimeError, r"\(1, 5\)"),
    "the layer's own, inside": (
        (nnx.eval_shape(lambda: flaxnets.create_model("lenet")), (1, 3, 28, 28)),
        RuntimeError,
        "Conv2d: expected an input of 1 channels, got 3",
    ),
    "no input": ((LINEAR,), TypeError, "missing 1 required positional argument: 'input'"),
}


@pytest.mark.parametrize(("arguments", "error", "message"), ERRORS.values(), ids=ERRORS)
def test_what_cannot_be_called_raises(arguments, error, message):
    with pytest.raises(error, match=message):
        summary(*arguments)


def test_after_an_error_the_model_works_as_before():
    model = _regular(nnx.Rngs(0))
    with pytest.raises(RuntimeError, match=r"\(2, 5\)"):
        summary(model, (2, 5))
    assert type(model[0]) is nn.Linear
    assert model(jnp.ones((2, 4))).shape == (2, 4)
    assert summary(model, (2, 4)).multiply_adds == 32
