"""Tests that the state has torch's names and order, before and after all operations of NNX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import flaxnets
import torchref
from flaxnets import nn, state


class Mixed(nn.Module):
    """A module with parameters, buffers and modules that are not registered in sorted order."""

    def __init__(self, rngs: nnx.Rngs):
        self.z_child = nn.BatchNorm1d(2)
        self.a_buffer = nn.Buffer(jnp.arange(3))
        self.hidden_buffer = nn.Buffer(jnp.zeros(2), persistent=False)
        self.weight = nnx.Param(jnp.ones((2, 2)))
        self.bias = None
        self.alpha = nnx.Param(jnp.zeros(2))
        self.b_child = nn.Linear(2, 1, rngs=rngs)
        self.z_again = self.z_child
        self.random = nn.Dropout(0.5, rngs=rngs)


class TorchMixed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.z_child = torch.nn.BatchNorm1d(2)
        self.register_buffer("a_buffer", torch.arange(3))
        self.register_buffer("hidden_buffer", torch.zeros(2), persistent=False)
        self.weight = torch.nn.Parameter(torch.ones(2, 2))
        self.bias = None
        self.alpha = torch.nn.Parameter(torch.zeros(2))
        self.b_child = torch.nn.Linear(2, 1)
        self.z_again = self.z_child
        self.random = torch.nn.Dropout(0.5)


def _twelve(nn, **rngs):
    return nn.Sequential(*(nn.Linear(1, 1, **rngs) for _ in range(12)))


PAIRS = {
    "registered in no sorted order": lambda: (TorchMixed(), Mixed(nnx.Rngs(0))),
    "ten comes after two": lambda: (_twelve(torch.nn), _twelve(nn, rngs=nnx.Rngs(0))),
    "resnet18": lambda: (torchref.create_model("resnet18"), flaxnets.create_model("resnet18")),
}


def _listings(module) -> dict[str, list[str]]:
    if isinstance(module, torch.nn.Module):
        listed = {kind: getattr(module, f"named_{kind}")() for kind in ("parameters", "buffers", "modules", "children")}
    else:
        kinds = ("parameters", "buffers", "modules", "children")
        listed = {kind: getattr(state, f"named_{kind}")(module) for kind in kinds}
    return {kind: [name for name, _ in pairs] for kind, pairs in listed.items()} | {"keys": list(module.state_dict())}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_names_and_order_are_torchs_also_after_merge_and_under_jit(pair):
    torch_module, module = pair()
    expected = _listings(torch_module)
    assert _listings(module) == expected
    assert _listings(nnx.merge(*nnx.split(module))) == expected
    assert _listings(nnx.clone(module)) == expected
    under_jit = []
    nnx.jit(lambda m: under_jit.append(_listings(m)))(module)
    assert under_jit == [expected]


def test_an_attribute_assigned_again_keeps_its_place_and_a_deleted_one_is_gone():
    def change(module, new):
        module.weight = new
        del module.b_child
        return list(module.state_dict())

    expected = change(TorchMixed(), torch.nn.Parameter(torch.ones(3)))
    assert change(Mixed(nnx.Rngs(0)), nnx.Param(jnp.ones(3))) == expected


def _values(kind: str):
    rng = np.random.default_rng(0)
    arrays = {"weight": rng.normal(size=(2, 3)).astype(np.float32), "bias": rng.normal(size=2).astype(np.float32)}
    return {
        "numpy": arrays,
        "jax": {k: jnp.asarray(v) for k, v in arrays.items()},
        "torch": {k: torch.tensor(v) for k, v in arrays.items()},
        "torch parameters": {k: torch.nn.Parameter(torch.tensor(v)) for k, v in arrays.items()},
        "torch bfloat16": {k: torch.tensor(v).bfloat16() for k, v in arrays.items()},
        "float64": {k: v.astype(np.float64) for k, v in arrays.items()},
    }[kind], arrays


@pytest.mark.parametrize("kind", ["numpy", "jax", "torch", "torch parameters", "torch bfloat16", "float64"])
def test_values_load_from_any_library_and_take_the_modules_dtype(kind):
    layer = nn.Linear(3, 2, rngs=nnx.Rngs(0))
    values, expected = _values(kind)
    assert layer.load_state_dict(values) == ([], [])
    for name, array in layer.state_dict().items():
        assert array.dtype == jnp.float32
        np.testing.assert_allclose(array, expected[name], rtol=1e-2 if "bfloat16" in kind else 0)


def test_loaded_values_do_not_change_with_their_source():
    layer = nn.Linear(3, 2, rngs=nnx.Rngs(0))
    source, _ = _values("torch")
    layer.load_state_dict(source)
    before = np.array(layer.weight[...])
    source["weight"].add_(1)
    np.testing.assert_array_equal(layer.weight[...], before)


def test_loading_works_under_jit_and_into_abstract_modules():
    values, _ = _values("numpy")

    @jax.jit
    def total(values):
        layer = nn.Linear(3, 2, rngs=nnx.Rngs(0))
        layer.load_state_dict(values)
        return layer.weight.sum() + layer.bias.sum()

    expected = sum(v.sum() for v in values.values())
    np.testing.assert_allclose(total(values), expected, rtol=1e-6)
    abstract = nnx.eval_shape(lambda: nn.Linear(3, 2, rngs=nnx.Rngs(0)))
    abstract.load_state_dict(values)
    np.testing.assert_allclose(abstract.weight.sum() + abstract.bias.sum(), expected, rtol=1e-6)


GOOD = {"weight": np.ones((2, 3)), "bias": np.ones(2)}
BAD = {
    "missing": ({"weight": GOOD["weight"]}, ["missing keys: 'bias'"]),
    "unexpected": ({**GOOD, "extra": np.ones(1)}, ["unexpected keys: 'extra'"]),
    "mis-shaped": ({**GOOD, "bias": np.ones(7)}, [r"'bias': expected \(2,\), got \(7,\)"]),
    "no array": ({**GOOD, "bias": "text"}, ["'bias': expected an array of shape .* type str"]),
    "all at once": (
        {"weight": np.ones((3, 2)), "extra": np.ones(1)},
        ["missing keys: 'bias'", "unexpected keys: 'extra'", r"'weight': expected \(2, 3\), got \(3, 2\)"],
    ),
}


@pytest.mark.parametrize(("mapping", "messages"), BAD.values(), ids=BAD)
def test_a_bad_state_dict_raises_once_with_all_problems_and_assigns_nothing(mapping, messages):
    layer, twin = nn.Linear(3, 2, rngs=nnx.Rngs(0)), torch.nn.Linear(3, 2)
    before = {name: np.array(array) for name, array in layer.state_dict().items()}
    for message in messages:
        with pytest.raises(RuntimeError, match=message):
            layer.load_state_dict(mapping)
    with pytest.raises(RuntimeError):
        twin.load_state_dict({k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in mapping.items()})
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_not_strict_returns_both_lists_and_still_refuses_shapes():
    layer = nn.Linear(3, 2, rngs=nnx.Rngs(0))
    keys = layer.load_state_dict({"weight": GOOD["weight"], "extra": np.ones(1)}, strict=False)
    assert keys == (["bias"], ["extra"])
    assert keys.missing_keys == ["bias"]
    np.testing.assert_array_equal(layer.weight[...], GOOD["weight"])
    with pytest.raises(RuntimeError, match=r"'weight': expected \(2, 3\), got \(1, 3\)"):
        layer.load_state_dict({"weight": np.ones((1, 3))}, strict=False)


def test_a_state_dict_must_be_a_mapping():
    with pytest.raises(TypeError, match="expected a mapping of names to arrays, got list"):
        nn.Linear(3, 2, rngs=nnx.Rngs(0)).load_state_dict([1])


def test_a_shared_module_is_listed_under_every_name_and_stays_shared():
    shared = nn.Linear(2, 2, rngs=nnx.Rngs(0))
    net = nn.Sequential(shared, nn.ReLU(), shared)
    twin_shared = torch.nn.Linear(2, 2)
    twin = torch.nn.Sequential(twin_shared, torch.nn.ReLU(), twin_shared)
    net.load_state_dict(twin.state_dict())
    assert list(net.state_dict()) == list(twin.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    merged = nnx.merge(*nnx.split(net))
    assert merged[0] is merged[2]
    assert [name for name, _ in merged.named_parameters()] == ["0.weight", "0.bias"]


def test_random_streams_are_no_part_of_the_state_dict():
    assert nn.Dropout(0.5, rngs=nnx.Rngs(0)).state_dict() == {}


def test_module_conveniences_follow_torch():
    module, twin = Mixed(nnx.Rngs(0)), TorchMixed()
    for method in ("parameters", "buffers", "modules", "children"):
        assert len(list(getattr(module, method)())) == len(list(getattr(twin, method)()))
    assert module.get_submodule("b_child") is module.b_child
    assert module.get_submodule("") is module
    assert module.eval() is module
    assert not module.z_child.training
    assert module.train().z_child.training
    assert not module.train(False).random.training
    visited = []
    module.apply(lambda m: visited.append(type(m).__name__))
    assert visited[-1] == "Mixed"
    for name, dtype in (("half", jnp.float16), ("bfloat16", jnp.bfloat16), ("float", jnp.float32)):
        assert getattr(module, name)() is module
        assert {p.dtype for p in module.parameters()} == {jnp.dtype(dtype)}
        assert jnp.issubdtype(module.a_buffer.dtype, jnp.integer)
    module.register_buffer("more", jnp.ones(1))
    module.register_buffer("hidden", jnp.ones(1), persistent=False)
    module.register_parameter("extra", nnx.Param(jnp.ones(1)))
    module.add_module("tail", nn.ReLU())
    assert {"more", "extra"} <= module.state_dict().keys()
    assert "hidden" not in module.state_dict()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.add_module("a.b", nn.ReLU()), KeyError, "a.b"),
        (lambda m: m.add_module("", nn.ReLU()), KeyError, "must not be empty"),
        (lambda m: m.add_module("weight", nn.ReLU()), KeyError, "already has an attribute 'weight'"),
        (lambda m: m.add_module("new", 3), TypeError, "'new' must be a Module or None, got int"),
        (lambda m: m.add_module(3, nn.ReLU()), TypeError, "got 3"),
        (
            lambda m: m.register_parameter("new", 3),
            TypeError,
            "'new' must be a Parameter, an nnx.Param or None, got int",
        ),
        (lambda m: m.register_buffer("weight", None), KeyError, "already has an attribute 'weight'"),
        (lambda m: m.get_submodule("nowhere"), AttributeError, "no submodule 'nowhere'"),
    ],
)
def test_module_conveniences_refuse_bad_names_and_values(call, error, message):
    with pytest.raises(error, match=message):
        call(Mixed(nnx.Rngs(0)))


def test_a_plain_flax_module_has_a_state_dict_too():
    assert list(flaxnets.state_dict(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))) == ["kernel", "bias"]
