"""Tests of loading old and foreign state dicts: the result and the errors are the same as in torch."""

import math
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import flaxnets
import flaxnets.nn as flax_nn
from flaxnets import state
from flaxnets._checkpoints import advice
from flaxnets.nn.parameter import is_lazy

# torch warns about tensors and modules that these tests use.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{words}")
    for words in (
        "Casting complex values",
        "ComplexHalf support",
        "Lazy modules are a new",
        "Sparse CSR tensor support",
        "The PyTorch API of nested",
        "torch.quantize_per_tensor",
    )
]


def _batch_norm(kind):
    return lambda nn, **rngs: getattr(nn, kind)(3)


def _instance_norm(tracked):
    return lambda nn, **rngs: nn.InstanceNorm1d(3, affine=True, track_running_stats=tracked)


def _net(nn, **rngs):
    return nn.Sequential(nn.Linear(2, 3, **rngs), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 1, **rngs))


def _attention(**options):
    return lambda nn, **rngs: nn.MultiheadAttention(4, 2, **options, **rngs)


def _weight_norm(nn, **rngs):
    return nn.utils.parametrizations.weight_norm(nn.Linear(2, 3, **rngs))


def _spectral_norm(nn, **rngs):
    return nn.utils.parametrizations.spectral_norm(nn.Linear(2, 3, **rngs), **rngs)


def _lazy(nn, **rngs):
    return nn.Sequential(nn.LazyLinear(3, **rngs), nn.LazyBatchNorm1d())


def _without(*names):
    return lambda arrays: {name: array for name, array in arrays.items() if name not in names}


def _with(**values):
    return lambda arrays: {**arrays, **{name.replace("__", "."): value for name, value in values.items()}}


def _renamed(**names):
    renames = {old.replace("__", "."): new for old, new in names.items()}
    return lambda arrays: {renames.get(name, name): array for name, array in arrays.items()}


COUNTER = "num_batches_tracked"
NORMS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")
EDITS = {
    **{f"{kind} before 0.4.1": (_batch_norm(kind), _without(COUNTER)) for kind in NORMS},
    "an instance norm before 0.4.1": (_instance_norm(True), _without(COUNTER)),
    "a batch norm in a net": (_net, _without("1.num_batches_tracked")),
    "a lazy batch norm": (_lazy, lambda _: _without("1.num_batches_tracked")(_full_state(_net, "0.", "1."))),
    "a counter of shape (1,)": (_batch_norm("BatchNorm1d"), _with(num_batches_tracked=torch.tensor([7]))),
    "a counter of shape (1, 1)": (_batch_norm("BatchNorm1d"), _with(num_batches_tracked=torch.tensor([[7]]))),
    "a counter of shape (2,)": (_batch_norm("BatchNorm1d"), _with(num_batches_tracked=torch.tensor([7, 8]))),
    "a counter of float": (_batch_norm("BatchNorm1d"), _with(num_batches_tracked=torch.tensor(7.9))),
    "a counter of bool": (_batch_norm("BatchNorm1d"), _with(num_batches_tracked=torch.tensor(True))),
    "a counter of text": (_batch_norm("BatchNorm1d"), _with(num_batches_tracked="7")),
    "a counter that is an int": (_batch_norm("BatchNorm1d"), _with(num_batches_tracked=7)),
    "no running mean": (_batch_norm("BatchNorm1d"), _without("running_mean")),
    "no weight and no counter": (_batch_norm("BatchNorm1d"), _without("weight", COUNTER)),
    "a running mean of shape ()": (_batch_norm("BatchNorm1d"), _with(running_mean=torch.tensor(1.0))),
    "statistics that a batch norm does not keep": (
        lambda nn, **rngs: nn.BatchNorm1d(3, track_running_stats=False),
        _with(running_mean=torch.zeros(3), running_var=torch.ones(3)),
    ),
    "nothing at all": (_net, lambda arrays: {}),
    "an extra key": (_net, _with(**{"0__extra": torch.ones(1), "9__weight": torch.ones(1), "fc": torch.ones(1)})),
    "an extra state that nobody takes": (_net, _with(**{"0___extra_state": torch.ones(1)})),
    "instance statistics that are not kept": (
        _instance_norm(False),
        _with(running_mean=torch.zeros(3), running_var=torch.ones(3)),
    ),
    "an instance mean that is not kept": (_instance_norm(False), _with(running_mean=torch.zeros(3))),
    "an instance counter that is not kept": (_instance_norm(False), _with(num_batches_tracked=torch.tensor(1))),
    "no attention bias": (_attention(), _without("in_proj_bias")),
    "attention before 1.0 of other programs": (_attention(), _renamed(in_proj_weight="q_proj.weight")),
    "attention with separate projections": (
        _attention(),
        lambda arrays: {**_without("in_proj_weight")(arrays), "q_proj_weight": arrays["in_proj_weight"][:4]},
    ),
    "attention of another kdim": (_attention(kdim=3), _with(in_proj_weight=torch.ones(12, 4))),
    "weight_norm before 2.0": (
        _weight_norm,
        _renamed(parametrizations__weight__original0="weight_g", parametrizations__weight__original1="weight_v"),
    ),
    "weight_norm before 2.0 in a net": (
        lambda nn, **rngs: nn.Sequential(nn.ReLU(), nn.Sequential(_weight_norm(nn, **rngs))),
        lambda arrays: {
            name.replace("parametrizations.weight.original0", "weight_g").replace(
                "parametrizations.weight.original1", "weight_v"
            ): array
            for name, array in arrays.items()
        },
    ),
    "weight_norm with one old key": (_weight_norm, _renamed(parametrizations__weight__original0="weight_g")),
    "weight_norm with the weight alone": (
        _weight_norm,
        lambda arrays: {"bias": arrays["bias"], "weight": torch.ones(3, 2)},
    ),
    "spectral_norm of another kind": (
        _spectral_norm,
        _renamed(
            parametrizations__weight__original="weight_orig",
            parametrizations__weight__0___u="weight_u",
            parametrizations__weight__0___v="weight_v",
        ),
    ),
    "complex values": (_net, _with(**{"0__bias": torch.complex(torch.ones(3), torch.zeros(3))})),
}


def _full_state(make, *prefixes):
    return {name: value for name, value in make(torch.nn).state_dict().items() if name.startswith(prefixes)}


def _randomized(module):
    torch.manual_seed(1)
    for name, tensor in module.state_dict().items():
        if not torch.nn.parameter.is_lazy(tensor):
            tensor.fill_(5) if "num_batches" in name else tensor.uniform_(0.5, 1.5)
    return module


def _pair(make):
    twin, module = _randomized(make(torch.nn)), make(flax_nn, rngs=nnx.Rngs(0))
    module.load_state_dict(_concrete(twin.state_dict()), strict=False)
    return twin, module


def _concrete(arrays):
    return {name: array for name, array in arrays.items() if not torch.nn.parameter.is_lazy(array)}


def _outcome(module, arrays, **options):
    try:
        return tuple(map(set, module.load_state_dict(arrays, **options)))
    except (RuntimeError, AttributeError) as error:
        return RuntimeError(str(error))


def _assert_same_load(make, arrays, **options):
    """Load the same dict into both modules, and compare the return values and the state of the modules."""
    twin, module = _pair(make)
    before = module.state_dict()
    expected, outcome = _outcome(twin, arrays, **options), _outcome(module, arrays, **options)
    if isinstance(expected, RuntimeError):
        assert isinstance(outcome, RuntimeError)
        assert all(array is before[name] for name, array in module.state_dict().items())
        return outcome
    assert outcome == expected
    for name, array in _concrete(twin.state_dict()).items():
        np.testing.assert_array_equal(module.state_dict()[name], array.numpy())
    return outcome


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("metadata", [None, 1, 2])
@pytest.mark.parametrize(("make", "edit"), EDITS.values(), ids=EDITS)
def test_an_edited_state_dict_is_loaded_or_refused_as_by_torch(make, edit, metadata, strict):
    arrays = OrderedDict(edit(_randomized(make(torch.nn)).state_dict()))
    if metadata is not None:
        arrays._metadata = {name: {"version": metadata} for name, _ in make(torch.nn).named_modules()}
    _assert_same_load(make, arrays, strict=strict)


def test_the_counter_that_a_state_dict_lacks_stays_and_one_of_shape_1_is_taken():
    norm = flax_nn.BatchNorm2d(3)
    norm.num_batches_tracked[...] = 5
    arrays = {name: np.ones(3, np.float32) for name in ("weight", "bias", "running_mean", "running_var")}
    norm.load_state_dict(arrays)
    assert norm.num_batches_tracked == 5
    norm.load_state_dict({**arrays, COUNTER: np.array([7])})
    assert norm.num_batches_tracked == 7
    abstract = nnx.eval_shape(lambda: flax_nn.BatchNorm2d(3))
    abstract.load_state_dict(arrays)
    assert abstract.num_batches_tracked == 0


def test_instance_statistics_without_a_place_are_explained():
    layer = flax_nn.InstanceNorm2d(3)
    message = r"'running_mean' and 'running_var' cannot be loaded into InstanceNorm2d.*track_running_stats=True"
    with pytest.raises(RuntimeError, match=message):
        layer.load_state_dict({"running_mean": np.zeros(3), "running_var": np.ones(3)}, strict=False)


def _classes(nn, parameter, scale):
    """Return modules as users write them: a parameter renamed in version 2, extra state, and a frozen list."""

    class Renamed(nn.Module):
        _version = 2

        def __init__(self):
            super().__init__()
            self.gain = parameter(1 * scale)

        def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
            version = local_metadata.get("version")
            if (version is None or version < 2) and prefix + "scale" in state_dict:
                state_dict[prefix + "gain"] = state_dict.pop(prefix + "scale")
            super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    class Extra(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = parameter(1 * scale)
            self.steps = 1

        def get_extra_state(self):
            return {"steps": self.steps}

        def set_extra_state(self, extra):
            self.steps = extra["steps"]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.renamed = Renamed()
            self.extra = Extra()

    return Net()


def _users_pair():
    return (
        _classes(torch.nn, torch.nn.Parameter, torch.ones(2)),
        _classes(flax_nn, nnx.Param, jnp.ones(2)),
    )


TWO = torch.full((2,), 2.0)
USERS = {
    "the new name": ({"renamed.gain": TWO, "extra.gain": TWO, "extra._extra_state": {"steps": 4}}, 1),
    "the old name": ({"renamed.scale": TWO, "extra.gain": TWO, "extra._extra_state": {"steps": 4}}, 1),
    "the old name and a version": ({"renamed.scale": TWO, "extra.gain": TWO, "extra._extra_state": {"steps": 4}}, 2),
    "no extra state": ({"renamed.gain": TWO, "extra.gain": TWO}, None),
    "extra state in the wrong place": ({"renamed.gain": TWO, "renamed._extra_state": 3}, None),
    "a bad shape": ({"renamed.gain": TWO, "extra.gain": torch.ones(3), "extra._extra_state": {"steps": 4}}, None),
}


@pytest.mark.parametrize(("arrays", "version"), USERS.values(), ids=USERS)
@pytest.mark.parametrize("strict", [True, False])
def test_a_users_own_override_and_extra_state_work_as_in_torch(arrays, version, strict):
    twin, module = _users_pair()
    assert list(module.state_dict()) == list(twin.state_dict())
    assert module.state_dict()._metadata == twin.state_dict()._metadata
    arrays = OrderedDict(arrays)
    if version:
        arrays._metadata = {"renamed": {"version": version}}
    expected, outcome = (_outcome(m, arrays, strict=strict) for m in (twin, module))
    assert type(outcome) is type(expected)
    if isinstance(expected, RuntimeError):
        assert module.extra.steps == 1
        assert all((array == 1).all() for array in (module.renamed.gain[...], module.extra.gain[...]))
    else:
        assert outcome == expected
        assert module.extra.steps == twin.extra.steps
        np.testing.assert_array_equal(module.renamed.gain[...], twin.renamed.gain.detach().numpy())


def _hooked(module, calls):
    def pre(node, state_dict, prefix, local_metadata, strict, missing, unexpected, errors):
        calls.append((type(node).__name__, prefix, sorted(state_dict), strict))
        state_dict.setdefault(prefix + "bias", torch.full((1,), 3.0))

    def plain(state_dict, prefix, *rest):
        calls.append(("plain", prefix))

    def post(node, keys):
        calls.append((type(node).__name__, list(keys.missing_keys), list(keys.unexpected_keys)))
        keys.unexpected_keys.clear()

    return [
        module[1].register_load_state_dict_pre_hook(pre),
        module[1]._register_load_state_dict_pre_hook(plain),
        module.register_load_state_dict_post_hook(post),
    ]


def test_load_hooks_are_called_as_torchs_and_can_be_removed():
    def make(nn, **rngs):
        return nn.Sequential(nn.ReLU(), nn.Linear(2, 1, **rngs))

    arrays = {"1.weight": torch.ones(1, 2), "surplus": torch.ones(1)}
    seen = []
    for module in _pair(make):
        calls = []
        handles = _hooked(module, calls)
        result = module.load_state_dict(arrays)
        seen.append((calls, tuple(result), float(module.state_dict()["1.bias"][0])))
        for handle in handles:
            handle.remove()
            handle.remove()
        with pytest.raises(RuntimeError, match=r"1\.bias"):
            module.load_state_dict(arrays)
    assert seen[0] == seen[1]
    with (
        pytest.raises(AssertionError, match="must return None"),
        module.register_load_state_dict_post_hook(lambda node, keys: keys),
    ):
        module.load_state_dict(arrays, strict=False)


def test_hooks_stay_through_what_nnx_does_and_do_not_compile_anew():
    layer, calls, traces = flax_nn.BatchNorm1d(2), [], []
    layer.register_load_state_dict_post_hook(lambda node, keys: calls.append(1))
    clone = nnx.clone(layer)
    clone.load_state_dict(layer.state_dict())
    assert calls == [1]
    step = nnx.jit(lambda module: traces.append(1))
    step(layer)
    step(clone)
    assert traces == [1]


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16", "float32", "int32"])
def test_assign_takes_the_dtype_of_the_arrays_as_in_torch(dtype):
    arrays = {"weight": torch.ones(1, 2, dtype=getattr(torch, dtype)), "bias": torch.zeros(1)}
    with jax.enable_x64(True):
        twin, module = _pair(lambda nn, **rngs: nn.Linear(2, 1, **rngs))
        expected = _outcome(twin, arrays, assign=True)
        outcome = _outcome(module, arrays, assign=True)
        assert type(outcome) is type(expected)
        if dtype != "int32":
            assert str(twin.weight.dtype).removeprefix("torch.") == module.weight.dtype == dtype
            module.load_state_dict({"weight": np.ones((1, 2)), "bias": np.zeros(1)})
            assert module.weight.dtype == dtype


def test_assign_keeps_shared_parameters_shared():
    shared = flax_nn.Linear(1, 1, rngs=nnx.Rngs(0))
    net = flax_nn.Sequential(shared, shared)
    net.load_state_dict(
        {name: np.ones(value.shape, np.float16) for name, value in net.state_dict().items()}, assign=True
    )
    assert net[0] is net[1]
    assert net[1].weight.dtype == jnp.float16


T = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
Z = torch.complex(T, -T)
CONVERTED = {
    "plain": T,
    "a parameter": torch.nn.Parameter(T),
    "in the graph": T.clone().requires_grad_() * 1,
    "transposed": T.t().contiguous().t(),
    "expanded": T[:1].expand(2, 2),
    "strided": torch.arange(8.0).reshape(2, 4)[:, ::2],
    "negative view": Z.conj().imag,
    "conjugate view": Z.conj(),
    "float64": T.double(),
    "float16": T.half(),
    "bfloat16": T.bfloat16(),
    "complex32": lambda: Z.to(torch.complex32),
    "uint16": T.to(torch.uint16),
    "uint64": T.to(torch.uint64),
    "bool": T > 1,
    "a subclass": lambda: T.as_subclass(_Subclass),
    **{
        f"float8_{kind}": T.to(getattr(torch, f"float8_{kind}"))
        for kind in ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")
    },
}


def _named(tensor):
    return {"weight": tensor, "bias": torch.zeros(2)}


@pytest.mark.parametrize("tensor", CONVERTED.values(), ids=CONVERTED)
def test_tensors_are_converted_to_the_values_that_torch_loads(tensor):
    tensor = tensor() if callable(tensor) else tensor
    dtype = torch.complex64 if tensor.is_complex() else torch.float32
    twin = torch.nn.Linear(2, 2, dtype=dtype)
    layer = flax_nn.Linear(2, 2, dtype=str(dtype).removeprefix("torch."), rngs=nnx.Rngs(0))
    twin.load_state_dict(_named(tensor))
    layer.load_state_dict(_named(tensor))
    np.testing.assert_array_equal(layer.weight[...], twin.weight.detach().numpy())


class _Spread:
    """An object with the methods of a tensor that DTensor and tensors of other dtypes have."""

    shape = (2, 2)

    def __init__(self, dtype="torch.float32"):
        self.dtype = dtype
        if dtype == "torch.float32":
            self.full_tensor = lambda: T

    def detach(self):
        return self


class _Subclass(torch.Tensor):
    """A tensor subclass that can be converted like a tensor."""


def _quantised():
    return torch.quantize_per_tensor(T, 0.1, 0, torch.qint8)


REFUSED = {
    "meta": (T.to("meta"), "torch's meta device, which has no values"),
    "quantised": (_quantised, r"a quantized tensor; convert it with \.dequantize\(\)"),
    "sparse": (T.to_sparse(), r"layout sparse_coo; convert it with \.to_dense\(\)"),
    "sparse by rows": (T.to_sparse_csr, "layout sparse_csr"),
    "mkldnn": (T.to_mkldnn(), "layout mkldnn"),
    "nested": (lambda: torch.nested.nested_tensor([T, T[:1]]), "a nested tensor"),
    "over devices": (lambda: _Spread(), r"a _Spread, which is sharded over devices; convert it with \.full_tensor\(\)"),
    "of an unknown dtype": (lambda: _Spread(dtype="torch.int5"), "a tensor of dtype torch.int5"),
    "uninitialized": (lambda: torch.nn.LazyLinear(2).weight, "an uninitialized tensor of a lazy module"),
    "a list": ([[1.0]], "an object of type list"),
    "None": (None, "an object of type NoneType"),
    "objects": (np.array([None, 1], object), "a numpy array of dtype object"),
    "text": (np.array(["a"]), "a numpy array of dtype <U1"),
}


@pytest.mark.parametrize(("value", "words"), REFUSED.values(), ids=REFUSED)
def test_values_that_cannot_be_converted_are_named_with_their_keys(value, words):
    value = value() if callable(value) else value
    layer = flax_nn.Linear(2, 2, rngs=nnx.Rngs(0))
    before = layer.state_dict()
    with pytest.raises(RuntimeError, match=rf"'weight': expected an array of shape \(2, 2\), got .*{words}"):
        layer.load_state_dict(_named(value))
    assert all(array is before[name] for name, array in layer.state_dict().items())
    if isinstance(value, torch.Tensor):
        with pytest.raises(RuntimeError):
            torch.nn.Linear(2, 2).load_state_dict(_named(value))


def test_lazy_layers_load_what_torchs_have_before_their_first_call():
    module = _lazy(flax_nn, rngs=nnx.Rngs(0))
    assert tuple(map(list, module.load_state_dict(_lazy(torch.nn).state_dict()))) == ([], [])
    assert is_lazy(module[0].weight)
    assert is_lazy(module[1].running_mean)


def test_all_values_that_cannot_be_converted_are_in_one_message():
    layer = flax_nn.Linear(2, 2, rngs=nnx.Rngs(0))
    with pytest.raises(RuntimeError, match=r"(?s)'weight': .*meta device.*'bias': .*quantized"):
        layer.load_state_dict({"weight": T.to("meta"), "bias": _quantised()})


class Backbone(flax_nn.Module):
    """A network with a backbone and a head, whose weights have other prefixes."""

    def __init__(self):
        self.backbone = _net(flax_nn, rngs=nnx.Rngs(1))
        self.head = flax_nn.Linear(1, 2, rngs=nnx.Rngs(2))


def _prefixed(prefix, arrays):
    return {prefix + name: array for name, array in arrays.items()}


def _inside(part):
    return lambda arrays: {
        name.replace("1.", f"1.{part}.", 1) if name[0] == "1" else name: a for name, a in arrays.items()
    }


NET = {name: np.array(array) for name, array in _net(flax_nn, rngs=nnx.Rngs(3)).state_dict().items()}
STRIP = "consume_prefix_in_state_dict_if_present(state_dict, {!r})"
PREFIXES = {
    **{
        f"{prefix} in the file": (lambda: _net(flax_nn, rngs=nnx.Rngs(0)), _prefixed(prefix, NET), STRIP.format(prefix))
        for prefix in ("module.", "_orig_mod.", "model.", "backbone.", "module.module.", "module._orig_mod.", "a.b.c.")
    },
    "in the file, and other keys": (
        lambda: _net(flax_nn, rngs=nnx.Rngs(0)),
        {"n_averaged": np.array(3), **_prefixed("module.", NET)},
        STRIP.format("module."),
    ),
    "in the file, without counters": (
        lambda: _net(flax_nn, rngs=nnx.Rngs(0)),
        _prefixed("module.", {name: array for name, array in NET.items() if "tracked" not in name}),
        STRIP.format("module."),
    ),
    "in the model": (
        lambda: flax_nn.DataParallel(_net(flax_nn, rngs=nnx.Rngs(0))),
        NET,
        "state_dict = {'module.' + key: value for key, value in state_dict.items()}",
    ),
    "in the model, beside a head": (
        Backbone,
        NET,
        "state_dict = {'backbone.' + key: value for key, value in state_dict.items()}",
    ),
    "another one in the model": (
        Backbone,
        _prefixed("encoder.", NET),
        "state_dict = {'backbone.' + key.removeprefix('encoder.'): value for key, value in state_dict.items()}",
    ),
    "in the middle": (
        lambda: _net(flax_nn, rngs=nnx.Rngs(0)),
        _inside("_orig_mod")(_inside("module")(NET)),
        "state_dict = {key.replace('_orig_mod.', '').replace('module.', ''): value for key, value in state_dict",
    ),
    "in the file, which is a checkpoint": (
        lambda: _net(flax_nn, rngs=nnx.Rngs(0)),
        {"state_dict": _prefixed("module.", NET), "epoch": 3},
        "state_dict = checkpoint['state_dict']\n",
    ),
}


def _run(text, module, arrays):
    """Execute the lines after "Fix:" in a message."""
    lines = text.partition("Fix:")[2].splitlines()[1:]
    model = {"state_dict": dict(arrays), "checkpoint": arrays, "flaxnets": flaxnets, "model": _NotStrict(module)}
    exec("\n".join(line.strip() for line in lines if line.startswith("      ")), model)


class _NotStrict:
    def __init__(self, module):
        self.module = module

    def load_state_dict(self, arrays):
        self.keys = self.module.load_state_dict(arrays, strict=False)


@pytest.mark.parametrize(("make", "arrays", "line"), PREFIXES.values(), ids=PREFIXES)
def test_a_wrong_prefix_gets_the_lines_that_make_it_right(make, arrays, line):
    module = make()
    with pytest.raises(RuntimeError, match=r"(?s)nothing was assigned.*expected keys fit") as caught:
        module.load_state_dict(arrays)
    assert line in str(caught.value)
    _run(str(caught.value), module, arrays)
    loaded = {
        name.removeprefix("module.").removeprefix("backbone."): array for name, array in module.state_dict().items()
    }
    for name, array in NET.items():
        np.testing.assert_array_equal(loaded[name], array)


@pytest.mark.parametrize(
    "arrays",
    [
        NET | {"extra": np.ones(1)},
        {"fc": np.ones(1)},
        {},
        _prefixed("0.", {"a": np.ones(1)}),
        NET | {"0.bias": np.ones(9)},
    ],
)
def test_no_prefix_is_proposed_where_none_helps(arrays):
    with pytest.raises(RuntimeError) as caught:
        _net(flax_nn, rngs=nnx.Rngs(0)).load_state_dict(arrays)
    assert "Fix" not in str(caught.value)


@pytest.mark.parametrize("arrays", [_prefixed("module.", NET), {"model": NET}])
def test_without_strict_a_state_dict_of_which_nothing_fits_is_a_warning(arrays):
    module = _net(flax_nn, rngs=nnx.Rngs(0))
    with pytest.warns(UserWarning, match="no key of the state dict fits Sequential, nothing was assigned: .*Fix:"):
        keys = module.load_state_dict(arrays, strict=False)
    assert keys.unexpected_keys == list(arrays)


def test_a_prefix_is_proposed_for_thousands_of_keys_of_one_ending():
    expected = {f"{i}.{name}" for i in range(3_000) for name in ("weight", "bias")}
    # Comparing all pairs of keys would take minutes.
    text = advice(expected, {f"module.{name}": np.ones(1) for name in expected})
    assert "6000 of the 6000 expected keys fit without the prefix 'module.'" in text


WRAPPED = {
    "state_dict": (("state_dict",), {"epoch": 3}),
    "model": (("model",), {}),
    "model_state_dict": (
        ("model_state_dict",),
        {"optimizer_state_dict": {"state": {0: {"step": T}}, "param_groups": []}},
    ),
    "net": (("net",), {"acc": 0.5, "best": T}),
    "nested": (("ema", "module"), {"decay": 0.9}),
    "lightning's": (("state_dict",), {"loops": {"fit_loop": {"state_dict": {}}}, "optimizer_states": [{"state": {}}]}),
}


def _wrap(path, value, others):
    for name in reversed(path):
        value = {name: value}
    return {**others, **value}


@pytest.mark.parametrize(("path", "others"), WRAPPED.values(), ids=WRAPPED)
def test_a_checkpoint_with_a_state_dict_inside_is_named_with_the_line_to_write(path, others):
    module = _net(flax_nn, rngs=nnx.Rngs(0))
    checkpoint = _wrap(path, NET, others)
    line = "checkpoint" + "".join(f"[{name!r}]" for name in path)
    with pytest.raises(RuntimeError) as caught:
        module.load_state_dict(checkpoint)
    assert (
        f"a state dict is under {line}: 9 of the 9 expected keys fit. Fix:\n      model.load_state_dict({line})"
        in str(caught.value)
    )
    _run(str(caught.value), module, checkpoint)
    np.testing.assert_array_equal(module.state_dict()["0.weight"], NET["0.weight"])


def test_two_state_dicts_inside_are_both_named():
    with pytest.raises(RuntimeError, match=r"(?s)checkpoint\['model'\]: 9 of .*checkpoint\['model_ema'\]: 9 of"):
        _net(flax_nn, rngs=nnx.Rngs(0)).load_state_dict({"model": NET, "model_ema": NET, "epoch": 1})


@pytest.mark.parametrize("prefix", ["module.", "module.module.", "mod", "nowhere.", ""])
def test_prefixes_are_consumed_as_by_torch(prefix):
    from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present as expected

    dicts = []
    for consume in (expected, flax_nn.utils.consume_prefix_in_state_dict_if_present):
        arrays = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.BatchNorm1d(2))).state_dict()
        arrays["module.module.x"] = arrays["step"] = 1
        arrays._metadata["module.module.y"] = {"version": 5}
        consume(arrays, prefix)
        dicts.append((list(arrays), dict(arrays._metadata)))
    assert dicts[0] == dicts[1]


def test_a_prefix_is_consumed_in_plain_dicts():
    arrays = {"module.a": 1, "b": 2}
    flax_nn.utils.consume_prefix_in_state_dict_if_present(arrays, "module.")
    assert arrays == {"a": 1, "b": 2}


def test_a_load_that_fails_inside_a_users_code_changes_nothing():
    class Broken(flax_nn.Module):
        def __init__(self):
            self.first = flax_nn.LazyLinear(2, rngs=nnx.Rngs(0))
            self.second = flax_nn.Linear(1, 1, rngs=nnx.Rngs(0))

        def _load_from_state_dict(self, *arguments):
            super()._load_from_state_dict(*arguments)
            self.second.weight.set_value(jnp.zeros((1, 1)))
            self.added = flax_nn.ReLU()

    module = Broken()
    before, names = module.second.weight[...], list(module.state_dict())
    arrays = {
        "first.weight": np.ones((2, 3)),
        "first.bias": np.ones(2),
        "second.weight": np.ones((1, 1)),
        "x": np.ones(1),
    }
    with pytest.raises(RuntimeError, match="unexpected keys: 'x'"):
        module.load_state_dict(arrays)
    assert module.second.weight[...] is before
    assert list(module.state_dict()) == names
    assert not hasattr(module, "added")
    assert module.first.has_uninitialized_params()
    assert len(jax.tree.leaves(nnx.state(module.second, nnx.Param))) == 2
    assert math.isfinite(float(nnx.clone(module).second.weight.sum()))
    module.first(jnp.ones((1, 3)))


def test_a_buffer_outside_the_state_dict_is_neither_missing_nor_loaded():
    class Holder(flax_nn.Module):
        def __init__(self):
            self.register_buffer("shown", jnp.zeros(1))
            self.register_buffer("hidden", jnp.zeros(1), persistent=False)

    module = Holder()
    assert module.load_state_dict({"shown": np.ones(1)}) == ([], [])
    with pytest.raises(RuntimeError, match="unexpected keys: 'hidden'"):
        module.load_state_dict({"shown": np.ones(1), "hidden": np.ones(1)})
    assert module.hidden[...].item() == 0


def test_a_plain_flax_module_takes_arrays_without_hooks():
    layer = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    assert state.load_state_dict(layer, {"kernel": np.ones((2, 1)), "bias": np.zeros(1)}) == ([], [])


@pytest.mark.parametrize("mapping", [{0: np.ones(1)}, {"weight": np.ones((1, 2)), None: np.ones(1)}])
def test_keys_that_are_no_names_are_refused(mapping):
    with pytest.raises((AttributeError, TypeError)):
        torch.nn.Linear(2, 1).load_state_dict(mapping)
    with pytest.raises(TypeError, match=r"expected names as keys, got (0|None)"):
        flax_nn.Linear(2, 1, rngs=nnx.Rngs(0)).load_state_dict(mapping)
