"""Tests of the methods of all modules against torch.nn.Module: hooks, forward, devices, dtypes, names and text."""

import copy
import gc
import inspect
import operator
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from cases import LAYERS, NETWORKS
from flax import nnx

import flaxnets
import torchref
from flaxnets import nn
from flaxnets.training import checkpoint

# Hooks.


class TorchScale(torch.nn.Module):
    """A torch module that multiplies by ``factor`` and raises an error if it is negative."""

    def forward(self, x: Any, factor: float = 2.0) -> Any:
        if factor < 0:
            raise ValueError(f"factor is {factor}")
        return x * factor


class Scale(nn.Module):
    """The same module in flaxnets."""

    def __call__(self, x: Any, factor: float = 2.0) -> Any:
        if factor < 0:
            raise ValueError(f"factor is {factor}")
        return x * factor


def note(log: list[Any], name: str, result: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Return a hook that logs its arguments and returns ``result`` of them."""

    def hook(module: Any, *seen: Any) -> Any:
        log.append((name, type(module).__name__.removeprefix("Torch"), *map(plain, seen)))
        return None if result is None else result(*seen)

    return hook


def plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return tuple(map(plain, value))
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value if value is None else float(value)


def failing(module: Any, *seen: Any) -> Any:
    raise KeyError("of the hook")


HOOKS: dict[str, Callable[[Any, list[Any]], Any]] = {
    "sees arguments and output": lambda m, log: m.register_forward_hook(note(log, "a")),
    "sees the arguments": lambda m, log: m.register_forward_pre_hook(note(log, "a")),
    "replaces the output": lambda m, log: m.register_forward_hook(note(log, "a", lambda args, out: out + 1)),
    "replaces the argument": lambda m, log: m.register_forward_pre_hook(note(log, "a", lambda args: args[0] + 1)),
    "replaces the arguments": lambda m, log: m.register_forward_pre_hook(note(log, "a", lambda args: (args[0], 5.0))),
    "in order": lambda m, log: [
        m.register_forward_hook(note(log, "a", lambda args, out: out + 1)),
        m.register_forward_hook(note(log, "b", lambda args, out: out * 3)),
    ],
    "prepended": lambda m, log: [
        m.register_forward_hook(note(log, "a", lambda args, out: out + 1)),
        m.register_forward_hook(note(log, "b", lambda args, out: out * 3), prepend=True),
        m.register_forward_pre_hook(note(log, "c", lambda args: args[0] + 1)),
        m.register_forward_pre_hook(note(log, "d", lambda args: args[0] * 3), prepend=True),
    ],
    "with keywords": lambda m, log: [
        m.register_forward_pre_hook(note(log, "a", lambda args, kw: (args, {"factor": 7.0})), with_kwargs=True),
        m.register_forward_hook(note(log, "b", lambda args, kw, out: out + kw["factor"]), with_kwargs=True),
    ],
    "with keywords, returning one value": lambda m, log: m.register_forward_pre_hook(
        note(log, "a", lambda args, kw: args), with_kwargs=True
    ),
    "always called": lambda m, log: m.register_forward_hook(note(log, "a"), always_call=True),
    "always called, after a hook that fails": lambda m, log: [
        m.register_forward_hook(failing),
        m.register_forward_hook(note(log, "a"), always_call=True),
    ],
    "always called, with keywords": lambda m, log: m.register_forward_hook(
        note(log, "a"), always_call=True, with_kwargs=True
    ),
    "removed": lambda m, log: m.register_forward_hook(note(log, "a")).remove(),
    "removed twice": lambda m, log: [h := m.register_forward_hook(note(log, "a")), h.remove(), h.remove()],
    "one of two removed": lambda m, log: [
        m.register_forward_hook(note(log, "a")).remove(),
        m.register_forward_hook(note(log, "b")),
    ],
    "the same function twice": lambda m, log: [
        h := note(log, "a"), m.register_forward_hook(h), m.register_forward_hook(h).remove(),
    ],
}  # fmt: skip
CALLS: dict[str, tuple[tuple[float, ...], dict[str, float]]] = {
    "one argument": ((3.0,), {}),
    "two arguments": ((3.0, 4.0), {}),
    "a keyword": ((3.0,), {"factor": 4.0}),
    "an error": ((3.0, -1.0), {}),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("register", HOOKS.values(), ids=HOOKS)
def test_hooks_see_and_change_what_torchs_do(register: Callable[[Any, list[Any]], Any], call: Any):
    def run(module: Any, number: Callable[[float], Any]) -> Any:
        log: list[Any] = []
        register(module, log)
        args, kwargs = call
        outputs: list[Any] = []
        for _ in range(2):
            try:
                outputs.append(float(module(*map(number, args), **kwargs)))
            except (ValueError, RuntimeError, KeyError, TypeError) as error:
                outputs.append(type(error).__name__)
        return outputs, log

    assert run(Scale(), jnp.asarray) == run(TorchScale(), torch.tensor)


def test_a_failing_hook_that_is_always_called_warns_and_the_first_error_stays():
    for module in (TorchScale(), Scale()):
        module.register_forward_hook(failing, always_call=True)
        with pytest.warns(UserWarning, match="of the hook"), pytest.raises(ValueError, match="factor is -1"):
            module(1.0, -1)


def test_a_pre_hook_with_keywords_that_returns_something_else_is_named():
    module = Scale()
    module.register_forward_pre_hook(lambda module, args, kwargs: "args", with_kwargs=True)
    with pytest.raises(RuntimeError, match=r"returned 'args'. Expected None or a tuple"):
        module(1.0)


def test_handles_are_context_managers():
    for module in (TorchScale(), Scale()):
        with module.register_forward_hook(lambda module, args, output: output + 1):
            assert module(1.0) == 3
        assert module(1.0) == 2


def test_a_handle_does_not_keep_its_module_alive():
    handle = Scale().register_forward_hook(failing)
    gc.collect()
    handle.remove()


class ByCall(nn.Module):
    def __call__(self, x: Any) -> Any:
        return x + 1


class ByForward(nn.Module):
    def forward(self, x: Any) -> Any:
        return x + 1


class Both(nn.Module):
    def forward(self, x: Any) -> Any:
        return x + 1

    def __call__(self, x: Any) -> Any:
        return self.forward(x)


class InheritsCall(ByCall):
    pass


class CallsSuperCall(ByForward):
    def __call__(self, x: Any) -> Any:
        return super().__call__(x) * 1


class CallsSuperForward(ByCall):
    def forward(self, x: Any) -> Any:
        return super().forward(x) * 1


class ForwardOverForward(ByForward):
    def forward(self, x: Any) -> Any:
        return super().forward(x) * 1


class FromMixin(type("Mixin", (), {"forward": ByForward.forward}), nn.Module):
    pass


class JittedCall(nn.Module):
    @nnx.jit
    def __call__(self, x: Any) -> Any:
        return x + 1


class Prepares(nn.Module):
    def __call__(self, x: Any) -> Any:
        return self.forward(x) + 1

    def forward(self, x: Any) -> Any:
        raise NotImplementedError


class ForwardOfPrepared(Prepares):
    def forward(self, x: Any) -> Any:
        return x


class CallOfPrepared(ForwardOfPrepared):
    def __call__(self, x: Any) -> Any:
        return super().__call__(x) * 1


class OfTwoParents(InheritsCall, ByForward):
    pass


KINDS = [
    ByCall, ByForward, Both, InheritsCall, CallsSuperCall, CallsSuperForward, ForwardOverForward, FromMixin, JittedCall,
    OfTwoParents,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_call_and_forward_are_each_there_and_hooks_run_once_a_call(kind: type[Any]):
    module, seen = kind(), []
    assert module(1) == module.forward(1) == 2
    module.register_forward_hook(lambda module, args, output: seen.append(args))
    module.forward(1)
    assert seen == []
    assert module(1) == 2
    assert len(seen) == 1


@pytest.mark.parametrize("kind", [ForwardOfPrepared, CallOfPrepared])
def test_a_call_that_calls_forward_is_kept_where_forward_is_overridden(kind: type[Any]):
    module, seen = kind(), []
    module.register_forward_hook(lambda module, args, output: seen.append(output))
    assert (module(1), module.forward(1), seen) == (2, 1, [2])


def test_a_module_without_either_says_so():
    class Empty(nn.Module):
        pass

    for call in (Empty(), Empty().forward):
        with pytest.raises(NotImplementedError, match="Empty has no forward"):
            call(1)
    with pytest.raises(NotImplementedError, match="Empty"):
        type("Empty", (torch.nn.Module,), {})()(1)


def test_forward_cannot_be_replaced_on_one_module():
    with pytest.raises(AttributeError, match="ByCall: forward cannot be replaced"):
        ByCall().forward = lambda x: x


CALLABLE = {case.name: case for case in reversed(LAYERS) if case.build is None}


@pytest.mark.parametrize("case", CALLABLE.values(), ids=CALLABLE)
def test_forward_of_every_layer_is_its_call(case: Any):
    layer = case.make(nn)
    assert "forward" in dir(layer)
    assert list(inspect.signature(layer.forward).parameters) == list(inspect.signature(layer.__call__).parameters)


def network(rngs: nnx.Rngs) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4, rngs=rngs), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2, rngs=rngs))


def test_features_leave_a_jitted_call_and_nothing_compiles_twice():
    model, x = network(nnx.Rngs(0)).eval(), jnp.ones((2, 3))
    features: dict[str, Any] = {}
    model[2].register_forward_hook(lambda module, args, output: features.update(relu=output))
    traces = []

    @nnx.jit
    def extract(model: Any, x: Any) -> Any:
        traces.append(1)
        output = model(x)
        return output, features.pop("relu")

    expected = model[2](model[1](model[0](x)))
    features.clear()
    for _ in range(3):
        np.testing.assert_allclose(extract(model, x)[1], expected, rtol=1e-6)
    assert len(traces) == 1


COPIES: dict[str, Callable[[Any], Any]] = {
    "clone": nnx.clone,
    "deepcopy": copy.deepcopy,
    "split and merge": lambda model: nnx.merge(*nnx.split(model)),
    "pure call": lambda model: jax.jit(nnx.merge, static_argnums=0)(*nnx.split(model)),
}


@pytest.mark.parametrize("how", COPIES.values(), ids=COPIES)
def test_copies_have_hooks_of_their_own(how: Callable[[Any], Any]):
    model = network(nnx.Rngs(0))
    handle = model[2].register_forward_hook(lambda module, args, output: output + 1)
    duplicate = how(model)
    handle.remove()
    x = -jnp.ones((1, 4))
    assert (duplicate[2](x) == 1).all()
    assert (model[2](x) == 0).all()


def doubled(module: Any, args: Any, output: Any) -> Any:
    return output * 2


def test_hooks_survive_pickling_parametrisation_remat_and_the_first_call_of_lazy_layers():
    x = jnp.ones((2, 3))
    layer = nn.Linear(3, 4, rngs=nnx.Rngs(0))
    expected = 2 * layer(x)
    layer.register_forward_hook(doubled)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(layer))(x), expected)
    np.testing.assert_allclose(nn.utils.weight_norm(nnx.clone(layer))(x), expected, rtol=1e-6)
    outer = nn.Sequential(nnx.clone(layer), nn.ReLU())
    checkpoint(outer)
    np.testing.assert_allclose(outer[0](x), expected)
    lazy, seen = nn.LazyLinear(4, rngs=nnx.Rngs(0)), []
    lazy.register_forward_pre_hook(lambda module, args: seen.append(type(module).__name__))
    lazy(x), lazy(x)
    assert seen == ["Linear", "Linear"]


def test_hooks_run_in_gradients_and_summaries():
    model = network(nnx.Rngs(0))
    plain_gradient = nnx.grad(lambda model: model(jnp.ones((2, 3))).sum())(model)
    model.register_forward_hook(doubled)
    gradient = nnx.grad(lambda model: model(jnp.ones((2, 3))).sum())(model)
    np.testing.assert_allclose(gradient["3"]["bias"][...], 2 * plain_gradient["3"]["bias"][...])
    model.register_forward_hook(lambda module, args, output: output.sum(1))
    # The output of the network, without the hook.
    assert flaxnets.summary(model, (2, 3)).rows[0].output_shapes == ((2, 2),)


# Devices and dtypes.


def dtypes(module: Any) -> list[str]:
    return [str(array.dtype).removeprefix("torch.") for array in module.state_dict().values()]


TO: dict[str, Callable[[Any, Any, Any], Any]] = {
    "dtype": lambda m, half, cpu: m.to(half),
    "dtype by name": lambda m, half, cpu: m.to(dtype=half),
    "device": lambda m, half, cpu: m.to(cpu),
    "device and dtype": lambda m, half, cpu: m.to(cpu, half),
    "both by name": lambda m, half, cpu: m.to(device=cpu, dtype=half, non_blocking=True),
    "no device": lambda m, half, cpu: m.to(None, half),
    "name of a device": lambda m, half, cpu: m.to("cpu"),
    "name and number": lambda m, half, cpu: m.to("cpu:0", dtype=half),
    "cpu": lambda m, half, cpu: m.cpu(),
    "half": lambda m, half, cpu: m.half(),
    "bfloat16 and back": lambda m, half, cpu: m.bfloat16().float(),
    "type": lambda m, half, cpu: m.type(half),
}


@pytest.mark.parametrize("move", TO.values(), ids=TO)
def test_modules_move_and_cast_as_torchs(move: Callable[[Any, Any, Any], Any]):
    theirs, ours = torch.nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    expected = [dtype.replace("int64", "int32") for dtype in dtypes(move(theirs, torch.float16, torch.device("cpu")))]
    variants = [(jnp.float16, jax.devices("cpu")[0]), (np.dtype("float16"), "cpu"), ("float16", "cpu")]
    for half, cpu in [*variants, (torch.float16, torch.device("cpu"))]:
        ours = nn.BatchNorm1d(2)
        assert move(ours, half, cpu) is ours
        assert dtypes(ours) == expected


def test_a_module_moves_to_the_place_and_dtype_of_an_array():
    layer = nn.Linear(2, 1, rngs=nnx.Rngs(0))
    assert layer.to(jnp.ones(1, jnp.bfloat16)).weight.dtype == jnp.bfloat16
    assert layer.to(torch.ones(1, dtype=torch.float32)).weight.dtype == jnp.float32
    layer.to(jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    assert layer.weight.device == jax.devices()[0]


MOVES: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "cuda": (lambda m: m.cuda(), RuntimeError, "no device 'cuda'. Expected one of this process's JAX devices: "),
    "cuda by number": (lambda m: m.cuda(1), RuntimeError, "no device 'cuda:1'"),
    "number": (lambda m: m.to(3), RuntimeError, "no device 'cuda:3'"),
    "name": (lambda m: m.to("cuda:1"), RuntimeError, "no device 'cuda:1'"),
    "keyword": (lambda m: m.to(device="tpu"), RuntimeError, "no device 'tpu'"),
    "torch's device": (lambda m: m.to(torch.device("cuda", 1)), RuntimeError, "no device 'cuda:1'"),
    "number out of range": (lambda m: m.to("cpu:99"), RuntimeError, "no device 'cpu:99'"),
    "meta": (lambda m: m.to("meta"), RuntimeError, "nnx.eval_shape"),
    "nonsense": (lambda m: m.to("nowhere"), RuntimeError, "no device 'nowhere'"),
    "xpu": (lambda m: m.xpu(), RuntimeError, "no device 'xpu'"),
    "ipu": (lambda m: m.ipu(2), RuntimeError, "no device"),
    "mtia": (lambda m: m.mtia(), RuntimeError, "no device 'mtia'"),
    "integers": (lambda m: m.to(jnp.int32), TypeError, "got int32"),
    "torch's integers": (lambda m: m.to(dtype=torch.int64), TypeError, "got int64"),
    "neither": (lambda m: m.to([1]), TypeError, r"got \[1\]"),
    "shared memory": (lambda m: m.share_memory(), NotImplementedError, "share_memory: .* Fix"),
    "compiled": (lambda m: m.compile(), NotImplementedError, "nnx.jit"),
    "backward hook": (lambda m: m.register_full_backward_hook(failing), NotImplementedError, "nnx.grad"),
    "old backward hook": (lambda m: m.register_backward_hook(failing), NotImplementedError, "nnx.grad"),
    "backward pre-hook": (lambda m: m.register_full_backward_pre_hook(failing), NotImplementedError, "nnx.grad"),
}


@pytest.mark.parametrize(("move", "error", "message"), MOVES.values(), ids=MOVES)
def test_what_cannot_be_says_what_can(move: Callable[[Any], Any], error: type[Exception], message: str):
    layer = nn.Linear(2, 1, rngs=nnx.Rngs(0))
    before = dtypes(layer)
    with pytest.raises(error, match=message):
        move(layer)
    assert dtypes(layer) == before


@pytest.mark.parametrize("module", [torch.nn.ReLU(), nn.ReLU()])
def test_a_mode_is_a_bool(module: Any):
    assert [module.train(mode).training for mode in (False, True)] == [False, True]
    with pytest.raises(ValueError, match=r"mode|boolean"):
        module.train("off")


def test_random_streams_move_with_their_module():
    layer = nn.Dropout(0.5, rngs=nnx.Rngs(0)).to(jax.devices()[0])
    assert layer(jnp.ones(100)).shape == (100,)


def test_an_abstract_module_becomes_a_real_one():
    layer = nnx.eval_shape(lambda: network(nnx.Rngs(0)))
    layer.to_empty(device="cpu").load_state_dict(network(nnx.Rngs(1)).state_dict())
    np.testing.assert_array_equal(layer[0].weight[...], network(nnx.Rngs(1))[0].weight[...])


# Names.


def tree(lib: Any, **options: Any) -> Any:
    inner = lib.Sequential(lib.Linear(2, 3, **options), lib.BatchNorm1d(3))
    outer = lib.Sequential(inner, lib.Linear(3, 1, **options), lib.ReLU())
    outer.register_buffer("scratch", None, persistent=False)
    return outer


def names(iterator: Any) -> list[str]:
    return [name for name, _ in iterator]


NAMES: dict[str, Callable[[Any], Any]] = {
    "state_dict": lambda m: list(m.state_dict(prefix="a.")),
    "state_dict into": lambda m: list(m.state_dict(destination={"x": 1}, prefix="a_")),
    "keep_vars": lambda m: [v.requires_grad for v in list(m.state_dict(keep_vars=True).values())[:2]],
    "named_parameters": lambda m: names(m.named_parameters(prefix="a")),
    "named_parameters of it alone": lambda m: names(m[0][0].named_parameters("a", False)),
    "named_parameters, not recursive": lambda m: names(m.named_parameters(recurse=False)),
    "parameters of it alone": lambda m: [len(list(x.parameters(recurse=False))) for x in m.modules()],
    "buffers of it alone": lambda m: [len(list(x.buffers(recurse=False))) for x in m.modules()],
    "named_buffers": lambda m: names(m.named_buffers("a", True)),
    "named_modules": lambda m: names(m.named_modules(prefix="a")),
    "named_modules with memory": lambda m: names(m.named_modules(memo={m[0]})),
    "memory": lambda m: (memo := set(), list(m.named_modules(memo)), len(memo))[2],
    "get_parameter": lambda m: tuple(m.get_parameter("0.0.weight").shape),
    "get_buffer": lambda m: tuple(m.get_buffer("0.1.running_mean").shape),
    "no parameter": lambda m: m.get_parameter("0.0.nothing"),
    "a buffer is no parameter": lambda m: m.get_parameter("0.1.running_mean"),
    "a parameter is no buffer": lambda m: m.get_buffer("0.0.weight"),
    "a module is no parameter": lambda m: m.get_parameter("0.0"),
    "no module on the way": lambda m: m.get_buffer("0.7.running_mean"),
    "set_submodule": lambda m: (m.set_submodule("0.1", m[2]), names(m[0].named_children()))[1],
    "set_submodule, new": lambda m: (m.set_submodule("0.new", m[2]), names(m[0].named_children()))[1],
    "set_submodule, strict": lambda m: m.set_submodule("0.new", m[2], strict=True),
    "set_submodule, no parent": lambda m: m.set_submodule("7.new", m[2]),
    "set_submodule over a parameter": lambda m: m.set_submodule("1.weight", m[2]),
    "set_submodule without a name": lambda m: m.set_submodule("", m[2]),
    "set_submodule of nothing": lambda m: m.set_submodule("1", 3),
    "apply": lambda m: (seen := [], m.apply(lambda x: seen.append(type(x).__name__)), seen)[2],
    "zero_grad": lambda m: m.zero_grad(set_to_none=False),
    "_get_name": lambda m: m._get_name(),
    "dir": lambda m: [name for name in dir(m) if name[0].isdigit()],
    "_order of a parameter that was None": lambda m: (
        setattr(m[1], "weight", None), setattr(m[1], "extra", m[0][0].weight), names(m[1].named_parameters()),
    )[2],
}  # fmt: skip


@pytest.mark.parametrize("use", NAMES.values(), ids=NAMES)
def test_names_are_torchs(use: Callable[[Any], Any]):
    def run(module: Any) -> Any:
        try:
            return use(module)
        except (AttributeError, ValueError, KeyError) as error:
            return type(error)

    assert run(tree(nn, rngs=nnx.Rngs(0))) == run(tree(torch.nn))


# Features of torch that JAX cannot have.
OF_TORCH_ALONE = {"T_destination", "call_super_init", "dump_patches"}


def public(kind: Any) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_every_method_of_torchs_module_is_here():
    assert public(torch.nn.Module) - public(nn.Module) == OF_TORCH_ALONE


# Public attributes of torch's layers that are internal to torch.
ATTRIBUTES_OF_TORCH_ALONE = {
    "DataParallel": {"device_ids", "gather", "parallel_apply", "replicate", "scatter"},
    "LSTM": {"check_forward_args", "get_expected_cell_size", "permute_hidden"},
    "RNN": {"check_forward_args", "permute_hidden"},
    "GRU": {"check_forward_args", "permute_hidden"},
    "MultiheadAttention": {"merge_masks"},
    "TransformerEncoderLayer": {"activation_relu_or_gelu"},
    "TransformerEncoder": {"use_nested_tensor"},
}
RECURRENT = {"check_forward_args", "check_hidden_size", "check_input", "get_expected_hidden_size", "permute_hidden"}


def comparable(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(comparable, value))
    return value is None or (isinstance(value, (bool, int, float, str)) and value == value)


def attributes(module: torch.nn.Module) -> set[str]:
    own = {*vars(module), *module._parameters, *module._buffers, *module._modules, *dir(type(module))}
    return {name for name in own if not name.startswith("_")} - public(torch.nn.Module)


@pytest.mark.parametrize("name", sorted({case.name for case in LAYERS}))
def test_public_attributes_and_text_are_torchs(name: str):
    """Compare public attributes and text. Lists of torch are tuples in flaxnets, so that jit can compare them."""
    with warnings.catch_warnings(action="ignore"):
        pairs = [case.pair() for case in LAYERS if case.name == name]
    for theirs, ours in pairs:
        lacking = (
            {attribute for attribute in attributes(theirs) if not hasattr(ours, attribute)}
            - ATTRIBUTES_OF_TORCH_ALONE.get(name, set())
            - RECURRENT
        )
        assert lacking == set()
        for attribute in attributes(theirs):
            expected = getattr(theirs, attribute, None)
            if comparable(expected) and hasattr(ours, attribute):
                found = getattr(ours, attribute)
                assert (tuple(found) if isinstance(found, list) else found) == (
                    tuple(expected) if isinstance(expected, list) else expected
                ), attribute
        assert listless(repr(ours)) == listless(repr(theirs))
        assert str(ours) == repr(ours)


def listless(text: str) -> str:
    return text.replace("[", "(").replace(",)", ")").replace("]", ")")


@pytest.mark.parametrize("name", sorted({case.name for case in NETWORKS}))
def test_networks_print_as_torchs(name: str):
    case = next(case for case in NETWORKS if case.name == name)
    ours = nnx.eval_shape(lambda: flaxnets.create_model(name, **case.options))
    with torch.device("meta"):
        theirs = torchref.create_model(name, **case.options)
    # torch writes "torch.float32" for a parameter in a list, and the class of the tensor for a parameter in a dict.
    assert repr(ours) == repr(theirs).replace("torch.", "").replace("meta.FloatTensor", "float32")


def test_parametrised_modules_print_as_torchs():
    texts = []
    for lib, options in ((torch.nn, {}), (nn, {"rngs": nnx.Rngs(0)})):
        layer = lib.utils.parametrizations.weight_norm(lib.Linear(3, 2, **options))
        texts.append(repr(lib.Sequential(layer, lib.ReLU(inplace=True), lib.Dropout(0.5, True, **options))))
    assert texts[0] == texts[1]


class Nested(nn.Module):
    def __init__(self):
        self.layers = nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.Tanh()])
        self.add_module("absent", None)
        self.flax = nnx.Linear(1, 1, rngs=nnx.Rngs(0))

    def extra_repr(self) -> str:
        return "two\nlines"


def test_text_of_nested_modules_is_indented_and_flaxs_displays_work(capsys: pytest.CaptureFixture[str]):
    module = Nested()
    text = repr(module)
    assert text.startswith(
        "Nested(\n  two\n  lines\n  (layers): ModuleList(\n    (0-1): 2 x ReLU()\n    (2): Tanh()\n  )\n"
        "  (absent): None\n  (flax): Linear("
    )
    nnx.display(module)
    assert capsys.readouterr().out
    table = nnx.tabulate(nn.Sequential(nn.Linear(2, 1, rngs=nnx.Rngs(0))), jnp.ones((1, 2)))
    assert "Linear" in table


# Parameters that can be initialized again.

RESETTABLE = {
    case.name: case
    for case in reversed(LAYERS)
    if hasattr(getattr(torch.nn, case.name), "reset_parameters") and case.build is None
}


@pytest.mark.parametrize("case", RESETTABLE.values(), ids=RESETTABLE)
def test_parameters_are_drawn_anew_where_torchs_are(case: Any):
    layer = case.make(nn)
    first = layer.state_dict()
    if "Lazy" in case.name:
        layer.reset_parameters(rngs=nnx.Rngs(0))
        assert layer.has_uninitialized_params()
        return
    for variable in [*layer.parameters(), *layer.buffers()]:
        variable.set_value(jnp.full(variable.shape, 7, variable.dtype))
    layer.reset_parameters(rngs=nnx.Rngs(0))
    for name, array in layer.state_dict().items():
        assert (array.shape, array.dtype) == (first[name].shape, first[name].dtype)
        if "rngs" not in inspect.signature(type(layer).__init__).parameters or first[name].size == 0:
            np.testing.assert_array_equal(array, first[name])
        else:
            assert (array != 7).all()
            np.testing.assert_array_equal(array, case.make(nn).state_dict()[name])


def test_drawing_anew_needs_a_source_of_random_numbers_and_keeps_the_dtype():
    layer = nn.Linear(3, 2, rngs=nnx.Rngs(0)).bfloat16()
    with pytest.raises(TypeError, match="rngs"):
        layer.reset_parameters()
    before = layer.weight[...]
    layer.reset_parameters(rngs=nnx.Rngs(1))
    assert layer.weight.dtype == jnp.bfloat16
    assert (layer.weight[...] != before).any()


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("norm", ["weight_norm", "parametrizations.weight_norm"])
def test_what_is_computed_is_not_drawn_anew_as_in_torch(norm: str):
    for lib, options in ((torch.nn, {}), (nn, {"rngs": nnx.Rngs(0)})):
        layer = lib.Linear(3, 2, **options)
        operator.attrgetter(norm)(lib.utils)(layer)
        before = {name: array.tolist() for name, array in layer.state_dict().items()}
        layer.reset_parameters(**({"rngs": nnx.Rngs(1)} if options else {}))
        changed = {name for name, array in layer.state_dict().items() if array.tolist() != before[name]}
        assert changed == {"bias"}


def test_running_statistics_are_reset():
    layer = nn.BatchNorm1d(2)
    layer(jnp.arange(4.0).reshape(2, 2))
    layer.reset_running_stats()
    assert [array.sum() for array in layer.state_dict().values()] == [2, 0, 0, 2, 0]


# State besides arrays.


def with_extra_state(lib: Any) -> Any:
    class Counting(lib.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def get_extra_state(self) -> Any:
            return {"calls": self.calls}

        def set_extra_state(self, state: Any) -> None:
            self.calls = state["calls"]

    return lib.Sequential(Counting(), lib.BatchNorm1d(1), Counting())


@pytest.mark.parametrize("lib", [torch.nn, nn])
def test_extra_state_is_saved_and_loaded(lib: Any):
    source, target = with_extra_state(lib), with_extra_state(lib)
    source[2].calls = 3
    state = source.state_dict()
    assert [name for name in state if "extra" in name] == ["0._extra_state", "2._extra_state"]
    assert list(state)[-1] == "2._extra_state"
    target.load_state_dict(state)
    assert target[2].calls == 3
    del state["0._extra_state"]
    with pytest.raises(RuntimeError, match=r"0\._extra_state"):
        target.load_state_dict(state)
    assert target.load_state_dict(state | {"1._extra_state": 1}, strict=False)[:2] == (
        ["0._extra_state"],
        ["1._extra_state"],
    )


@pytest.mark.parametrize("lib", [torch.nn, nn])
def test_hooks_of_the_state_dict(lib: Any):
    model, log = lib.Sequential(lib.BatchNorm1d(1, affine=False), lib.ReLU()), []
    model[0].register_state_dict_pre_hook(lambda module, prefix, keep_vars: log.append((prefix, keep_vars)))
    handle = model[0].register_state_dict_post_hook(lambda module, state, prefix, _: state.pop(f"{prefix}running_var"))
    with pytest.raises(RuntimeError, match="None"):
        model.state_dict()
    handle.remove()
    model.register_state_dict_post_hook(lambda module, state, prefix, _: state.update({f"{prefix}extra": 1}))
    assert list(model.state_dict(prefix="a.")) == [
        "a.0.running_mean",
        "a.0.running_var",
        "a.0.num_batches_tracked",
        "a.extra",
    ]
    assert log == [("0.", False), ("a.0.", False)]


class StaysInEvaluation(nn.BatchNorm1d):
    def train(self, mode=True, **attributes):
        return super().train(False, **attributes)


def test_train_of_a_layer_below_is_called_as_in_torch():
    model = nn.Sequential(nn.Sequential(StaysInEvaluation(2)), nnx.Dropout(0.5), nn.BatchNorm1d(2))
    model.train()
    assert [model.training, model[0].training, model[0][0].training, model[2].training] == [True, True, False, True]
    assert not model[1].deterministic
    assert model.eval()[1].deterministic


class EvaluatesByTrain(nn.Module):
    def eval(self):
        return self.train(False)


def test_eval_may_call_train():
    model = EvaluatesByTrain()
    assert not model.eval().training
    assert model.train().training
