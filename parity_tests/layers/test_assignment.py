"""Tests that assignments to attributes of a module have the same effect as in torch."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from flaxnets import nn, optim
from flaxnets.training import TrainState, make_train_step, regression
from flaxnets.training.train_state import Batch


class Torch:
    """The torch functions that the rows below call."""

    nn = torch.nn
    relu = staticmethod(torch.nn.ReLU)

    @staticmethod
    def array(*shape: int, dtype: str = "float32") -> Any:
        return torch.ones(shape, dtype=getattr(torch, dtype))


class Flax:
    """The flaxnets functions that the rows below call."""

    nn = nn
    relu = staticmethod(nn.ReLU)

    @staticmethod
    def array(*shape: int, dtype: str = "float32") -> Any:
        return jnp.ones(shape, dtype)


def module(lib: Any) -> Any:
    """Create a module with an attribute of every kind. The names that end in "none" are registered without a value."""
    result = lib.nn.Module()
    result.weight = lib.nn.Parameter(lib.array(2))
    result.register_buffer("mean", lib.array(2))
    result.register_buffer("scratch", lib.array(2), persistent=False)
    result.child = lib.nn.ReLU()
    result.register_parameter("weight_none", None)
    result.register_buffer("mean_none", None)
    result.register_buffer("scratch_none", None, persistent=False)
    result.register_module("child_none", None)
    result.plain = 3
    result.last = lib.nn.Parameter(lib.array(1))
    return result


def value(kind: str, lib: Any) -> Any:
    if kind == "number":
        return 1.5
    makers: dict[str, Callable[[], Any]] = {
        "array": lambda: lib.array(2),
        "another shape": lambda: lib.array(3, 4),
        "another dtype": lambda: lib.array(2, dtype="int32"),
        "scalar": lambda: lib.array(),
        "parameter": lambda: lib.nn.Parameter(lib.array(4)),
        "buffer": lambda: lib.nn.Buffer(lib.array(5)),
        "scratch buffer": lambda: lib.nn.Buffer(lib.array(5), persistent=False),
        "module": lambda: lib.nn.Tanh(),
        "none": lambda: None,
        "string": lambda: "text",
        "list": lambda: [1.0, 2.0],
    }
    return makers[kind]()


NAMES = ("weight", "mean", "scratch", "child", "weight_none", "mean_none", "scratch_none", "child_none", "plain")
VALUES = (
    "array", "another shape", "another dtype", "scalar", "parameter", "buffer", "scratch buffer", "module", "none",
    "number", "string", "list",
)  # fmt: skip


def shown(module: Any) -> dict[str, Any]:
    """Return the registered state by group, with names, order, shapes and dtypes."""
    arrays = {name: (tuple(array.shape), str(array.dtype)[-5:]) for name, array in module.state_dict().items()}
    return {
        "state": list(arrays.items()),
        "parameters": [name for name, _ in module.named_parameters()],
        "buffers": [name for name, _ in module.named_buffers()],
        "children": [name for name, _ in module.named_children()],
    }


def outcome(lib: Any, change: Callable[[Any], Any]) -> Any:
    target = module(lib)
    try:
        change(target)
    except (TypeError, KeyError, AttributeError) as error:
        return type(error), shown(target)
    return shown(target)


# torch rejects a Buffer for a plain attribute. flaxnets makes the attribute a buffer.
REPLACED = [(name, kind) for name in NAMES for kind in VALUES if name != "plain" or "buffer" not in kind]


@pytest.mark.parametrize(("name", "kind"), REPLACED)
def test_every_value_over_every_attribute_is_what_it_is_in_torch(name: str, kind: str):
    expected = outcome(Torch, lambda target: setattr(target, name, value(kind, Torch)))
    assert outcome(Flax, lambda target: setattr(target, name, value(kind, Flax))) == expected


# torch accepts a parameter in register_buffer, and lists it among the buffers although it is a Parameter.
REGISTERED = [
    (method, kind)
    for method in ("register_buffer", "register_parameter", "add_module")
    for kind in ("array", "parameter", "buffer", "module", "none", "number")
    if (method, kind) != ("register_buffer", "parameter")
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("method", "kind"), REGISTERED)
def test_every_registration_over_every_attribute_is_what_it_is_in_torch(method: str, kind: str, name: str):
    expected = outcome(Torch, lambda target: getattr(target, method)(name, value(kind, Torch)))
    assert outcome(Flax, lambda target: getattr(target, method)(name, value(kind, Flax))) == expected


def test_a_plain_attribute_keeps_arrays_as_in_torch():
    target = module(Flax)
    for array in (jnp.ones(2), None, jnp.zeros(3), 2.0, np.ones(1)):
        target.plain = array
        assert target.plain is array
        assert "plain" not in target.state_dict()
        graphdef, rest = nnx.split(target)
        copied = nnx.merge(graphdef, rest).plain
        assert np.array_equal(copied, array) if array is not None else copied is None


SEQUENCES: dict[str, Callable[[Any, Any], Any]] = {
    "None and back over a parameter": lambda m, lib: [
        setattr(m, "weight", v) for v in (None, lib.nn.Parameter(lib.array(3)))
    ],
    "None and back over a buffer": lambda m, lib: [setattr(m, "mean", v) for v in (None, lib.array(3))],
    "None and back over a buffer outside the state": lambda m, lib: [
        setattr(m, "scratch", v) for v in (None, lib.array(3))
    ],
    "None and back over a module": lambda m, lib: [setattr(m, "child", v) for v in (None, lib.nn.Tanh())],
    "None, then an array over a parameter": lambda m, lib: [setattr(m, "weight", v) for v in (None, lib.array(3))],
    "a deleted buffer is plain": lambda m, lib: [delattr(m, "mean"), setattr(m, "mean", "text")],
    "a deleted empty buffer": lambda m, lib: [delattr(m, "mean_none"), m.register_buffer("mean_none", lib.array(2))],
    "a parameter becomes a buffer's successor": lambda m, lib: [
        setattr(m, "mean", lib.nn.Parameter(lib.array(1))), setattr(m, "mean", lib.array(2)),
    ],
    "a buffer leaves the state": lambda m, lib: m.register_buffer("mean", lib.array(2), persistent=False),
    "a buffer joins the state": lambda m, lib: m.register_buffer("scratch", lib.array(2)),
    "torch's moving average": lambda m, lib: setattr(m, "mean", 0.9 * m.mean + 0.1 * lib.array(2)),
    "in place": lambda m, lib: exec("m.mean += 1; m.mean *= 2.5; m.mean -= m.scratch; m.mean /= 3; m.mean **= 2"),
    "in place, another shape": lambda m, lib: exec("m.mean = lib.array(1); m.mean += lib.array(2)"),
    "in place, another kind of dtype": lambda m, lib: exec("m.mean = lib.array(2, dtype='int32'); m.mean += 1.5"),
    "in place, a narrower dtype": lambda m, lib: exec("m.mean = lib.array(2, dtype='float16'); m.mean += m.scratch"),
    "one buffer's value for another": lambda m, lib: exec("m.mean = m.scratch; m.scratch = 2 * m.scratch"),
    "a buffer's value for an empty one": lambda m, lib: exec("m.mean_none = m.scratch; m.scratch = 2 * m.scratch"),
}  # fmt: skip


@pytest.mark.parametrize("change", SEQUENCES.values(), ids=SEQUENCES)
def test_sequences_of_assignments_end_as_in_torch(change: Callable[[Any, Any], Any]):
    def run(lib: Any) -> Any:
        target = module(lib)
        try:
            change(target, lib)
        except (TypeError, RuntimeError) as error:
            return type(error), shown(target)
        return shown(target), [np.asarray(array).tolist() for array in target.state_dict().values()]

    assert run(Flax) == run(Torch)


@pytest.mark.parametrize("kind", ["BatchNorm1d", "BatchNorm2d", "InstanceNorm1d"])
def test_statistics_are_changed_in_place_as_in_torch(kind: str):
    def run(lib: Any) -> Any:
        norm = getattr(lib.nn, kind)(2, track_running_stats=True)
        norm.num_batches_tracked += 1
        norm.running_mean -= lib.array(2)
        norm.running_var *= 0.75
        return {name: np.asarray(array).tolist() for name, array in norm.named_buffers()}

    flax_stats = run(Flax)
    assert flax_stats == run(Torch)
    assert flax_stats["num_batches_tracked"] == 1


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("weight", "array", "cannot assign 'Array' as parameter 'weight' .a Parameter or None expected"),
        ("weight", "module", "cannot assign 'Tanh' as parameter 'weight'"),
        ("weight_none", "number", "cannot assign 'float' as parameter 'weight_none'"),
        ("mean", "number", "cannot assign 'float' as buffer 'mean' .an array, a Buffer or None expected"),
        ("child", "array", "cannot assign 'Array' as child module 'child' .a Module or None expected"),
    ],
)
def test_errors_of_assignments_name_the_value_and_the_attribute(name: str, kind: str, message: str):
    with pytest.raises(TypeError, match=message):
        setattr(module(Flax), name, value(kind, Flax))


def test_values_that_are_arrays_elsewhere_set_a_buffer_too_and_are_copied():
    target, source = module(Flax), np.zeros(3, np.float16)
    target.mean = source
    source[:] = 7
    assert (target.mean.dtype, target.mean[...].tolist()) == (jnp.float16, [0, 0, 0])
    target.mean = np.float32(2)
    assert target.mean.shape == ()
    with pytest.raises(TypeError, match="cannot assign 'Tensor' as buffer 'mean'"):
        target.mean = torch.ones(2)


class Averaging(nn.Module):
    """A module that assigns running statistics in its forward pass, as torch models do."""

    def __init__(self):
        self.weight = nn.Parameter(jnp.ones((1, 2)))
        self.register_buffer("mean", jnp.zeros(2))
        self.register_buffer("scratch", jnp.zeros(2), persistent=False)
        self.stat = nnx.BatchStat(jnp.zeros(2))
        self.count = nn.Buffer(jnp.zeros((), jnp.int32))
        self.register_buffer("cache", None)

    def forward(self, x: Any) -> Any:
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        self.scratch = self.scratch + 1
        self.stat = self.stat + x.sum(0)
        self.count += 1
        self.cache = x[0]
        return (x * self.weight).sum(1, keepdims=True)


def called(model: Averaging, x: jax.Array) -> Averaging:
    model(x)
    return model


def jitted(model: Averaging, x: jax.Array) -> Averaging:
    nnx.jit(lambda model, x: model(x))(model, x)
    return model


def differentiated(model: Averaging, x: jax.Array) -> Averaging:
    nnx.grad(lambda model: model(x).sum())(model)
    return model


def split_and_merged(model: Averaging, x: jax.Array) -> Averaging:
    model.cache = x[0]  # jax.grad returns the state with the same structure, so the attribute must exist before
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params: nnx.State) -> Any:
        merged = nnx.merge(graphdef, params, rest, copy=True)
        return merged(x).sum(), nnx.state(merged)

    _, after = jax.jit(jax.grad(loss, has_aux=True))(params)
    return nnx.merge(graphdef, after)


def trained(model: Averaging, x: jax.Array) -> Averaging:
    model.cache = x[0]
    optimizer = optim.SGD(0.0)
    step = make_train_step(model, optimizer, regression)
    state, _ = step(TrainState.create(model, optimizer), Batch(x, jnp.zeros((len(x), 1)), jnp.ones(len(x))))
    state.update_model(model)
    return model


def cloned(model: Averaging, x: jax.Array) -> Averaging:
    return called(copy.deepcopy(nnx.clone(model)), x)


@pytest.mark.parametrize("run", [called, jitted, differentiated, split_and_merged, trained, cloned])
def test_assigned_statistics_arrive_under_every_transformation(run: Callable[[Averaging, jax.Array], Averaging]):
    x = jnp.arange(6.0).reshape(3, 2)
    model = run(Averaging(), x)
    state = model.state_dict()
    assert list(state) == ["weight", "mean", "stat", "count", "cache"]
    np.testing.assert_allclose(state["mean"], 0.1 * x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(state["stat"], x.sum(0))
    np.testing.assert_allclose(state["cache"], x[0])
    assert (int(state["count"]), model.scratch[...].tolist()) == (1, [1, 1])
    assert [type(getattr(model, name)) for name in ("mean", "stat", "count", "cache")] == [
        nn.Buffer, nnx.BatchStat, nn.Buffer, nn.Buffer,
    ]  # fmt: skip


def test_a_second_jitted_call_compiles_nothing():
    traces = []

    @nnx.jit
    def call(model: Averaging, x: jax.Array) -> Any:
        traces.append(1)
        return model(x)

    model = Averaging()
    model.cache = jnp.zeros(2)
    for _ in range(3):
        call(model, jnp.ones((3, 2)))
    assert (len(traces), int(model.count[...])) == (1, 3)


CONTAINERS: dict[str, Callable[[Any], Any]] = {
    "list": lambda lib: lib.nn.ParameterList([lib.array(2), lib.array(3)]),
    "dict": lambda lib: lib.nn.ParameterDict({"0": lib.array(2), "1": lib.array(3)}),
}


def set_item(container: Any, value: Any) -> None:
    container[0 if hasattr(container, "append") else "0"] = value


@pytest.mark.parametrize("kind", ["array", "another shape", "parameter", "none", "number", "string", "module"])
@pytest.mark.parametrize("assign", [set_item, lambda container, value: setattr(container, "0", value)])
@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_containers_of_parameters_take_what_torchs_take(make: Callable, assign: Callable, kind: str):
    def run(lib: Any) -> Any:
        container = make(lib)
        try:
            assign(container, value(kind, lib))
        except TypeError:
            return "TypeError", shown(container)
        return shown(container)

    assert run(Flax) == run(Torch)


@pytest.mark.parametrize("lib", [Torch, Flax])
def test_pickled_modules_keep_their_empty_attributes(lib: Any):
    restored = pickle.loads(pickle.dumps(module(lib)))
    restored.mean_none = lib.array(3)
    restored.scratch_none = lib.array(3)
    assert list(restored.state_dict()) == ["weight", "last", "mean", "mean_none"]
    with pytest.raises(TypeError, match="weight_none"):
        restored.weight_none = lib.array(3)


def test_plain_arrays_stay_plain_as_in_flax():
    target = module(Flax)
    target.table = jnp.ones(3)
    target.table = 2 * target.table
    assert isinstance(target.table, jax.Array)
    assert "table" not in target.state_dict()


def test_state_of_flax_survives_nnx_update_and_pop():
    model = Averaging()
    state = jax.tree.map(lambda array: array + 1, nnx.state(model))
    nnx.update(model, state)
    assert model.mean[...].tolist() == [1, 1]
    nnx.update(model, nnx.to_pure_dict(state))
    popped = nnx.pop(model, nn.Buffer)
    assert "mean" in popped
    assert list(model.state_dict()) == ["weight", "stat"]
