"""Tests that a port computes the same as the torch module, with the same names, and does not change that module."""

import copy
import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from cases import NETWORKS, Network
from flax import nnx
from port_models import MODELS
from port_models.common import Model
from port_models.in_place import FOLLOWED, REFUSED, WITHOUT_GRADIENTS, Function

import flaxnets
import torchref
from flaxnets import data, optim, parity
from flaxnets.port.checking import check_port
from flaxnets.port.outcomes import Arguments, Setting
from flaxnets.training import Batches, Engine, classification, fit
from flaxnets.weights import load_weights, save_weights

# Both modes, compiled with gradients and eagerly without.
SETTINGS = [Setting(is_training, gradients=jit, jit=jit) for is_training in (True, False) for jit in (True, False)]

# The functions of these models draw random numbers in training mode, which differ from torch's.
RANDOM = {"convnext", "denoiser", "style_generator", "vae", "vit", "vit_interpolated"}

# Models whose control flow depends on values, with the expected message.
UNKNOWN = {
    "fancy_mlp": r"mlp.py:94: x.norm\(\) > 1(.|\n)*jax.lax.while_loop(.|\n)*mlp.py:96: x.norm(.|\n)*jax.lax.cond",
    "drop": r"torch.rand\(1\).item\(\)(.|\n)*is read by item\(\)",
}


@pytest.fixture(autouse=True)
def _ranks_are_promoted():
    """Allow rank promotion as in torch, because ports have the code of the torch models."""
    with jax.numpy_rank_promotion("allow"):
        yield


def _of_network(case: Network) -> Model:
    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array.astype(np.float32) if array.dtype.kind == "f" else array)

    def inputs() -> tuple:
        return jax.tree.map(tensor, case.inputs(np.random.default_rng(0)))

    return Model(case.name, lambda: torchref.create_model(case.name, **case.options), inputs)


ROWS = {model.name: model for model in [*map(_of_network, NETWORKS), *MODELS]}


def built(name: str) -> tuple[torch.nn.Module, Arguments]:
    """Return the module of a row with changed parameters and statistics, and the arguments of a call."""
    torch.manual_seed(zlib.crc32(name.encode()))
    module = ROWS[name].build()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for each in module.modules():
            if isinstance(each, torch.nn.modules.batchnorm._BatchNorm) and each.running_var is not None:
                each.running_mean.normal_()
                each.running_var.uniform_(0.5, 2)
    return module, Arguments(ROWS[name].inputs(), ROWS[name].kwargs())


def ported(module: torch.nn.Module, arguments: Arguments, check: bool = False) -> nnx.Module:
    return flaxnets.from_torch(module, arguments.args, arguments.kwargs, check=check)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:`torch.nn.utils.weight_norm`")
@pytest.mark.parametrize("name", [name for name in ROWS if name not in UNKNOWN])
def test_outputs_gradients_and_buffers_are_torchs(name: str):
    module, arguments = built(name)
    port = ported(module, arguments)
    expected = module.state_dict()
    assert [*port.state_dict()] == [*expected]
    for key, value in port.state_dict().items():
        np.testing.assert_array_equal(value, expected[key].numpy(), strict=value.dtype != jnp.int32)
    check_port(module, port, arguments, [each for each in SETTINGS if not (each.training and name in RANDOM)])


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_depends_on_values_is_refused(name: str):
    module, arguments = built(name)
    with pytest.raises(flaxnets.PortError, match=UNKNOWN[name]):
        ported(module, arguments)


@pytest.mark.parametrize("function", [*FOLLOWED, *WITHOUT_GRADIENTS], ids=lambda function: function.__name__)
def test_changes_in_place_are_torchs(function: Callable):
    torch.manual_seed(0)
    module, arguments = Function(function), Arguments((torch.randn(3, 4),), {})
    port = ported(module, arguments)
    check_port(module, port, arguments, [Setting(training=True, gradients=function in FOLLOWED)])


@pytest.mark.parametrize(("function", "cause"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_changes_in_place_that_names_do_not_follow_are_refused(function: Callable, cause: str):
    with pytest.raises(flaxnets.PortError, match=f"in_place.py:(.|\n)*{cause}"):
        ported(Function(function), Arguments((torch.randn(3, 4),), {}))


# The module and its port.


def everything(module: torch.nn.Module) -> dict[str, object]:
    """Return the state that a port must not change: module, hooks, code, values and random generators."""
    state: dict[str, object] = {"random numbers": torch.get_rng_state().tolist(), "numpy": np.random.get_state()[2]}
    for name, each in module.named_modules():
        state |= {f"{name} {key}": copy.copy(value) for key, value in vars(each).items() if "hook" in key}
        state |= {f"{name} attributes": [*vars(each)], f"{name} training": each.training}
        state |= {f"{name} {key}": value.__code__ for key, value in vars(type(each)).items() if callable(value)
                  and hasattr(value, "__code__")}  # fmt: skip
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        state[name] = (id(tensor), tensor.dtype, tensor.requires_grad, tensor.grad, tensor.tolist())
    return state


@pytest.mark.parametrize("name", ["vector_quantizer", "in_place_habits", "discriminator", "ema", "mlp_dropout"])
def test_the_torch_module_is_as_before(name: str):
    module, arguments = built(name)
    module.train(name != "ema")
    before, inputs = everything(module), copy.deepcopy(arguments.args)
    ported(module, arguments, check=True)
    assert everything(module) == before
    for expected, found in zip(inputs, arguments.args, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_frozen_parameters_stay_frozen():
    module, arguments = built("lenet_batchnorm")
    [*module.parameters()][2].requires_grad_(False)
    port = ported(module, arguments)
    expected = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    assert {name: parameter.requires_grad for name, parameter in flaxnets.named_parameters(port)} == expected
    gradients = nnx.grad(lambda model, x: (model(x) ** 2).sum())(port, arguments.args[0].numpy())
    values = [float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradients)]
    assert len(values) == len(expected)
    assert sum(value == 0 for value in values) == 1


@pytest.mark.parametrize(
    ("name", "shape"),
    [("unet", (1, 3, 32, 16)), ("resnet18", (1, 1, 48, 40)), ("vit_interpolated", (3, 3, 24, 24)),
     ("tcn", (4, 3, 15)), ("selective_scan", (1, 8, 4))],
)  # fmt: skip
def test_other_sizes_than_the_example(name: str, shape: tuple[int, ...]):
    module, arguments = built(name)
    port = ported(module.eval(), arguments)
    inputs = torch.randn(shape)
    with torch.no_grad():
        expected = jax.tree.leaves(jax.tree.map(lambda tensor: tensor.numpy(), module(inputs)))
    port.eval()
    found = jax.tree.leaves(nnx.jit(lambda model, x: model(x))(port, inputs.numpy()))
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4 * np.abs(a).max())


def test_defaults_of_forward_are_kept_where_forward_hooks_run():
    class Scaled(torch.nn.Module):
        def forward(self, x, factor=2.0, *, shift=1.0):
            return x * factor + shift

    flaxnets.nn.Identity().register_forward_hook(lambda *_: None)  # after the first hook, all calls look for hooks
    port = flaxnets.from_torch(Scaled(), torch.ones(3))
    np.testing.assert_array_equal(port(jnp.ones(3)), np.full(3, 3.0))


def test_transformations_reach_what_functions_hold():
    module, arguments = built("closures")
    port, x = ported(module, arguments), arguments.args[0].numpy()
    gradients = nnx.grad(lambda model: (model(x) ** 2).sum())(port)
    assert all(bool(jnp.abs(leaf).max() > 0) for leaf in jax.tree.leaves(gradients))
    graphdef, state = nnx.split(port)
    doubled = nnx.merge(graphdef, jax.tree.map(lambda leaf: 2 * leaf, state))
    module.load_state_dict({key: 2 * value for key, value in module.state_dict().items()})
    np.testing.assert_allclose(nnx.jit(lambda model: model(x))(doubled), module(torch.from_numpy(x)).detach(), 1e-4)


SHARED = torch.nn.Linear(3, 3)


def _with_a_free_variable() -> torch.nn.Module:
    held = torch.nn.Linear(3, 3)

    class Outer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.held = held

        def forward(self, x):
            return held(x)

    return Outer()


class _WithAGlobalName(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.held = SHARED

    def forward(self, x):
        return SHARED(x) + self.held(x)


class _WithADefault(_WithAGlobalName):
    def forward(self, x, layer=SHARED):
        return layer(x)


@pytest.mark.parametrize("build", [_with_a_free_variable, _WithAGlobalName, _WithADefault])
def test_modules_that_nnx_would_not_find_are_refused(build: Callable[[], torch.nn.Module]):
    with pytest.raises(
        flaxnets.PortError, match=r"test_port.py:\d+: forward\n *forward reads a module of the model from"
    ):
        ported(build(), Arguments((torch.randn(2, 3),), {}))


def test_a_port_trains_and_its_weights_go_back(tmp_path):
    module, arguments = built("lenet_batchnorm")
    port = ported(module, arguments)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 64)
    split = data.Split(rng.normal(size=(64, 1, 28, 28)).astype(np.float32) + labels[:, None, None, None], labels)
    engine = Engine(port, optim.SGD(0.05), classification)
    records = fit(engine, Batches(split, 16), Batches(split), epochs=3)
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    save_weights(port, tmp_path / "port.safetensors")
    other = ported(module, arguments)
    load_weights(other, tmp_path / "port.safetensors")
    module.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in other.state_dict().items()})
    parity.assert_parity(module, port, arguments.args[0].numpy(), runs=("jit",), dtypes=("float64",), weights="torch")


# Faults that the comparison finds.


def _set(name: str, value: object) -> Callable[[nnx.Module], None]:
    def change(port: nnx.Module) -> None:
        path, _, attribute = name.rpartition(".")
        setattr(dict(flaxnets.named_modules(port))[path], attribute, value)

    return change


FAULTS = {
    "epsilon": (_set("features.1.conv.0.1.eps", 1e-4), r"features\.1\.conv\.0\.1 \(BatchNorm2d\): output 0 is off by"),
    "momentum": (_set("features.2.conv.0.1.momentum", 0.2), r"features\.2\.conv\.0\.1 \(BatchNorm2d\): the buffer"),
    "padding": (_set("features.1.conv.0.0.padding", (0, 0)), r"features\.1\.conv\.0\.0 \(Conv2d\): output 0 has the"),
    "function": (_set("features.1.conv.1.gate", jnp.tanh), r"features\.1\.conv\.1 \(SqueezeExcite\): output 0 is off"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_the_first_module_is_named(fault: str):
    module, arguments = built("mobilenet")
    port = ported(module, arguments)
    change, message = FAULTS[fault]
    change(port)
    with pytest.raises(flaxnets.PortError, match=f"differs from the torch module in train mode on the example(.|\n)*"
                       f"The first module that differs is {message}"):  # fmt: skip
        check_port(module, port, arguments)


class Flawed(torch.nn.Module):
    def __init__(self, flaw: str):
        super().__init__()
        self.flaw = flaw
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, x):
        if self.flaw == "gradient":
            return x.round() * self.weight.detach()
        return {"a": x * self.weight} if self.flaw == "structure" else (x * self.weight).to(torch.int32)


@pytest.mark.parametrize(
    ("flaw", "message"),
    [("gradient", "the gradient of weight is off by"), ("structure", r"the output is \*, and torch's \('a': \*\)"),
     ("dtype", "output 0 has the dtype float64, and torch's int32")],
)  # fmt: skip
def test_wrong_gradients_structures_and_dtypes_are_found(flaw: str, message: str):
    port = ported(torch.nn.PReLU(3), Arguments((torch.randn(2, 3),), {}))

    def forward(self: nnx.Module, x: jax.Array) -> jax.Array:
        return jnp.round(x) * self.weight[...] if flaw == "gradient" else x * self.weight[...]

    wrong = nnx.clone(port)
    object.__setattr__(wrong, "__class__", type("Wrong", (type(port),), {"forward": forward}))
    module = Flawed(flaw)
    with pytest.raises(flaxnets.PortError, match=message):
        check_port(module, wrong, Arguments((torch.randn(2, 3),), {}), [Setting(training=False, gradients=True)])


def test_models_that_are_sensitive_to_rounding_are_measured_by_torchs_own_rounding():
    torch.manual_seed(0)
    # Two values per channel: some channels have a tiny variance, and their normalized values are off by 1e-11.
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3, bias=False), torch.nn.BatchNorm2d(32, eps=1e-12))
    arguments = Arguments((1 + 1e-4 * torch.randn(2, 3, 3, 3),), {})
    port = ported(module, arguments, check=True)
    port[1].eps = 1.001e-12
    with pytest.raises(flaxnets.PortError, match=r"1 \(BatchNorm2d\): output 0 is off by"):
        check_port(module, port, arguments)


def test_modules_with_tensors_of_their_own_are_compared_in_float32():
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.basis = torch.randn(4, 4)

        def forward(self, x):
            return x @ self.basis

    module, arguments = Plain(), Arguments((torch.randn(2, 4),), {})
    port = ported(module, arguments, check=True)
    port.basis = port.basis + 1e-4
    with pytest.raises(flaxnets.PortError, match=r"the outermost \(Plain\): output 0 is off by"):
        check_port(module, port, arguments)
