"""Tests of flaxnets.nn.utils against torch.nn.utils, and of options of embeddings."""

import copy
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

from flaxnets import nn
from flaxnets.parity import assert_parity, transfer

norms, torch_norms = nn.utils.parametrizations, torch.nn.utils.parametrizations


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def make(kind: str, *args: Any, **kwargs: Any) -> tuple[torch.nn.Module, nnx.Module]:
    torch.manual_seed(0)
    return getattr(torch.nn, kind)(*args, **kwargs), getattr(nn, kind)(*args, **kwargs, rngs=nnx.Rngs(0))


def normalized(utility: str, pair: tuple, **options: Any) -> tuple[torch.nn.Module, nnx.Module]:
    rngs = {"rngs": nnx.Rngs(1)} if utility == "spectral_norm" else {}
    torch_layer, layer = pair
    return getattr(torch_norms, utility)(torch_layer, **options), getattr(norms, utility)(layer, **options, **rngs)


NORMALIZED = [
    (utility, kind, args, shape, options)
    for utility, rows in {
        "weight_norm": [
            ("Linear", (3, 5), (4, 3), {}),
            ("Linear", (3, 5, False), (3,), {"dim": 1}),
            ("Linear", (3, 5), (4, 3), {"dim": None}),
            ("Linear", (3, 5), (4, 3), {"dim": -1}),
            ("Linear", (3, 5), (4, 3), {"dim": -2}),
            ("Linear", (3, 5), (4, 3), {"name": "bias"}),
            ("Conv1d", (2, 3, 2), (2, 2, 6), {}),
            ("Conv2d", (2, 3, 2), (2, 2, 5, 4), {"dim": 1}),
            ("Conv2d", (2, 4, 2, 1, 0, 1, 2), (2, 2, 5, 4), {"dim": 2}),
            ("Conv2d", (2, 3, (2, 3)), (2, 2, 5, 4), {"dim": 3}),
            ("Conv2d", (2, 3, 2), (2, 2, 5, 4), {"dim": None}),
            ("Conv3d", (1, 2, 2), (1, 1, 3, 3, 3), {}),
            ("ConvTranspose2d", (2, 3, 2), (2, 2, 4, 3), {}),
            ("Bilinear", (2, 3, 4), ((5, 2), (5, 3)), {"dim": 1}),
        ],
        "spectral_norm": [
            ("Linear", (3, 5), (4, 3), {}),
            ("Linear", (3, 5), (4, 3), {"dim": 1}),
            ("Linear", (3, 5), (4, 3), {"dim": -1, "eps": 1e-3}),
            ("Linear", (3, 5, False), (3,), {"n_power_iterations": 3}),
            ("Linear", (3, 5), (4, 3), {"name": "bias"}),
            ("Conv1d", (2, 3, 2), (2, 2, 6), {}),
            ("Conv2d", (2, 3, 2), (2, 2, 5, 4), {"n_power_iterations": 2}),
            ("Conv2d", (2, 3, 2), (2, 2, 5, 4), {"dim": 1}),
            ("Conv3d", (1, 2, 2), (1, 1, 3, 3, 3), {}),
            ("ConvTranspose1d", (2, 3, 2), (2, 2, 4), {}),
            ("ConvTranspose2d", (2, 3, 2), (2, 2, 4, 3), {"dim": 0}),
            ("Bilinear", (2, 3, 4), ((5, 2), (5, 3)), {}),
        ],
    }.items()
    for kind, args, shape, options in rows
]


@pytest.mark.parametrize(("utility", "kind", "args", "shape", "options"), NORMALIZED)
def test_normalised_weights_have_torchs_names_outputs_gradients_and_buffers(utility, kind, args, shape, options, rng):
    pair = normalized(utility, make(kind, *args), **options)
    shapes = shape if isinstance(shape[0], tuple) else (shape,)
    assert_parity(*pair, *(rng.normal(size=shape) for shape in shapes), dtypes=("float64",))


@pytest.mark.parametrize("utility", ["weight_norm", "spectral_norm"])
def test_normalised_weights_are_as_near_in_float32(utility, rng):
    assert_parity(*normalized(utility, make("Linear", 3, 5)), rng.normal(size=(4, 3)), dtypes=("float32",))


@pytest.mark.parametrize("utility", ["weight_norm", "spectral_norm"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("leave", [True, False])
def test_removing_leaves_what_torch_leaves(utility, training, leave):
    torch_layer, layer = normalized(utility, make("Conv2d", 2, 3, 2))
    torch_layer.double().train(training)
    layer.double().train(training)
    transfer(torch_layer, layer)
    if utility == "weight_norm" and not leave:
        with pytest.raises(ValueError, match="Cannot leave unparametrized"):
            torch.nn.utils.parametrize.remove_parametrizations(torch_layer, "weight", leave)
        with pytest.raises(ValueError, match="computed from 2 arrays"):
            nn.utils.remove_parametrizations(layer, "weight", leave)
        return
    torch.nn.utils.parametrize.remove_parametrizations(torch_layer, "weight", leave)
    nn.utils.remove_parametrizations(layer, "weight", leave)
    assert type(layer) is nn.Conv2d
    assert list(layer.state_dict()) == list(torch_layer.state_dict()) == ["bias", "weight"]
    for name, expected in torch_layer.state_dict().items():
        np.testing.assert_allclose(layer.state_dict()[name], expected.numpy(), rtol=1e-12)


def test_several_parametrizations_and_several_parameters():
    def several(utilities, layer, **rngs):
        utilities.spectral_norm(layer, **rngs)
        utilities.weight_norm(layer, "bias")
        utilities.spectral_norm(layer, **rngs)
        return layer

    torch_layer, layer = make("Linear", 3, 4)
    pair = several(torch_norms, torch_layer), several(norms, layer, rngs=nnx.Rngs(0))
    assert_parity(*pair, np.ones((2, 3)), dtypes=("float64",))
    removed = []
    for utilities, module in zip((torch.nn.utils.parametrize, nn.utils), pair, strict=True):
        utilities.remove_parametrizations(module, "bias")
        removed.append((list(module.state_dict()), type(module).__name__))
        utilities.remove_parametrizations(module, "weight")
        removed.append((list(module.state_dict()), type(module).__name__))
    assert removed[:2] == removed[2:]


class Symmetric(nn.Module):
    def __call__(self, x):
        return jnp.triu(x) + jnp.triu(x, 1).T


class TorchSymmetric(torch.nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).T


class Exponential(nn.Module):
    def __call__(self, x):
        return jnp.exp(x)

    def right_inverse(self, y):
        return jnp.log(y)


class TorchExponential(torch.nn.Module):
    def forward(self, x):
        return x.exp()

    def right_inverse(self, y):
        return y.log()


def test_parametrizations_of_the_users_own():
    torch_layer, layer = make("Linear", 3, 3)
    torch.nn.utils.parametrize.register_parametrization(torch_layer, "weight", TorchSymmetric())
    nn.utils.register_parametrization(layer, "weight", Symmetric())
    assert_parity(torch_layer, layer, np.ones((2, 3)), dtypes=("float64",))
    with pytest.raises(RuntimeError):
        torch_layer.weight = torch.ones(3, 3)
    with pytest.raises(RuntimeError, match="Symmetric has no right_inverse"):
        layer.weight = jnp.ones((3, 3))


def test_a_parametrised_weight_is_assigned_through_the_inverse():
    torch_norm, norm = torch.nn.BatchNorm1d(3).double(), nn.BatchNorm1d(3).double()
    torch.nn.utils.parametrize.register_parametrization(torch_norm, "weight", TorchExponential())
    nn.utils.register_parametrization(norm, "weight", Exponential())
    for module, value in ((torch_norm, torch.full((3,), 2.0).double()), (norm, jnp.full(3, 2.0))):
        module.weight = value
    for name, expected in torch_norm.state_dict().items():
        np.testing.assert_allclose(norm.state_dict()[name], expected.numpy(), rtol=1e-12)
    np.testing.assert_allclose(norm.weight, 2.0, rtol=1e-12)
    transfer(torch_norm, norm)
    assert_parity(torch_norm, norm, np.random.default_rng(0).normal(size=(4, 3)), dtypes=("float64",))


def test_buffers_can_be_parametrised():
    torch_norm, norm = torch.nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    torch.nn.utils.parametrize.register_parametrization(torch_norm, "running_var", TorchExponential())
    nn.utils.register_parametrization(norm, "running_var", Exponential())
    assert list(norm.state_dict()) == list(torch_norm.state_dict())
    assert [name for name, _ in norm.named_buffers()] == [name for name, _ in torch_norm.named_buffers()]


def test_parametrised_layers_pass_through_what_nnx_does():
    _, layer = normalized("spectral_norm", make("Linear", 3, 4))
    x = jnp.ones((2, 3), jnp.float32)
    assert isinstance(layer, nn.Linear)
    assert nn.utils.parametrize.type_before_parametrizations(layer) is nn.Linear
    assert nn.utils.is_parametrized(layer)
    assert nn.utils.is_parametrized(layer, "weight")
    assert not nn.utils.is_parametrized(layer, "bias")
    other = norms.spectral_norm(nn.Linear(3, 4, rngs=nnx.Rngs(5)), rngs=nnx.Rngs(6))
    assert nnx.graphdef(layer) == nnx.graphdef(other)
    expected = nnx.clone(layer)(x)
    np.testing.assert_allclose(nnx.jit(lambda module, x: module(x))(nnx.clone(layer), x), expected, rtol=1e-6)
    np.testing.assert_allclose(copy.deepcopy(layer)(x), expected, rtol=1e-6)
    before = layer.state_dict()["parametrizations.weight.0._u"]
    nnx.grad(lambda module: module(x).sum())(layer)
    assert (layer.state_dict()["parametrizations.weight.0._u"] != before).any()
    frozen = layer.eval().state_dict()
    layer(x)
    assert all((frozen[name] == array).all() for name, array in layer.state_dict().items())
    checkpointed = jax.checkpoint(lambda state: nnx.merge(nnx.graphdef(layer), state)(x).sum())
    assert np.isfinite(jax.grad(checkpointed)(nnx.state(layer))["bias"][...]).all()
    np.testing.assert_allclose(jax.vmap(layer)(x), layer(x), rtol=1e-6)


def test_recurrent_weights_can_be_normalised():
    """Test weight norm without the parity harness, which cannot copy torch's recurrent layers with weight norm."""
    for kind in (nn.LSTM, nn.GRU):
        layer, x = kind(3, 2, rngs=nnx.Rngs(0)).double(), jnp.ones((4, 1, 3))
        expected = layer(x)[0]
        norms.weight_norm(layer, "weight_hh_l0")
        np.testing.assert_allclose(layer(x)[0], expected, rtol=1e-12)
        layer.parametrizations["weight_hh_l0"].original0[...] *= 2
        assert (layer(x)[0] != expected).any()


def test_parametrised_layers_are_trained_as_torch_trains_them(rng):
    torch_layer, layer = normalized("spectral_norm", make("Linear", 3, 4))
    torch_layer.double()
    layer.double()
    transfer(torch_layer, layer)
    x = rng.normal(size=(5, 3))
    optimizer = nnx.Optimizer(layer, optax.sgd(0.1), wrt=nnx.Param)
    torch_optimizer = torch.optim.SGD(torch_layer.parameters(), 0.1)
    for _ in range(3):
        optimizer.update(layer, nnx.grad(lambda layer: (layer(x) ** 2).mean())(layer))
        torch_optimizer.zero_grad()
        (torch_layer(torch.tensor(x)) ** 2).mean().backward()
        torch_optimizer.step()
    for name, expected in torch_layer.state_dict().items():
        np.testing.assert_allclose(layer.state_dict()[name], expected.detach().numpy(), rtol=1e-11, atol=1e-13)


class Wider(nn.Module):
    def __call__(self, x):
        return jnp.concatenate([x, x])


class TorchWider(torch.nn.Module):
    def forward(self, x):
        return torch.cat([x, x])


REFUSED = [
    (lambda u, m, **r: u.parametrizations.weight_norm(m, "nothing"), "no parameter or buffer 'nothing'"),
    (lambda u, m, **r: u.parametrizations.spectral_norm(m, "nothing", **r), "no parameter or buffer 'nothing'"),
    (lambda u, m, **r: u.parametrizations.spectral_norm(m, n_power_iterations=0, **r), "got 0"),
    (lambda u, m, **r: u.parametrizations.spectral_norm(m, dim=2, **r), "got 2"),
    (lambda u, m, **r: u.parametrizations.spectral_norm(m, dim=-3, **r), "got -3"),
    (lambda u, m, **r: u.parametrizations.weight_norm(m, dim=2), "got 2"),
    (lambda u, m, **r: u.parametrize.remove_parametrizations(m, "weight"), "no parametrization on 'weight'"),
    (
        lambda u, m, **r: u.parametrize.register_parametrization(m, "weight", (Wider if r else TorchWider)()),
        "got .8, 3",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_what_torch_refuses_to_parametrise_is_refused(call, message):
    torch_layer, layer = make("Linear", 3, 4)
    with pytest.raises(Exception) as torchs:  # noqa: PT011
        call(torch.nn.utils, torch_layer)
    with pytest.raises(torchs.type, match=message):
        call(nn.utils, layer, rngs=nnx.Rngs(0))
    assert list(layer.state_dict()) == ["weight", "bias"]


GRADIENTS = {
    "usual": [(3, 4), (4,), ()],
    "large": [(3, 4), (4,)],
    "small": [(3, 4), (4,)],
    "with an empty one": [(3,), (0,)],
    "none": [],
    "infinite": [(3, 2)],
    "NaN": [(3, 2), (2,)],
    "zero": [(3, 2)],
}


def gradients(kind: str, rng: np.random.Generator) -> list[np.ndarray]:
    factor = {"large": 1e6, "small": 1e-9, "zero": 0.0}.get(kind, 1.0)
    arrays = [np.asarray(rng.normal(size=shape) * factor) for shape in GRADIENTS[kind]]
    if kind in ("infinite", "NaN"):
        arrays[0][1, 1] = np.inf if kind == "infinite" else np.nan
    return arrays


def torch_parameters(arrays: list[np.ndarray]) -> list[torch.nn.Parameter]:
    parameters = [torch.nn.Parameter(torch.zeros(a.shape, dtype=torch.from_numpy(a).dtype)) for a in arrays]
    for parameter, array in zip(parameters, arrays, strict=True):
        parameter.grad = torch.tensor(array)
    return parameters


@pytest.mark.parametrize("kind", GRADIENTS)
@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, 0.5, 0.0, math.inf, -math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clipped_gradients_and_their_norm_are_torchs(kind, norm_type, max_norm, rng):
    arrays = gradients(kind, rng)
    parameters = torch_parameters(arrays)
    if kind == "with an empty one" and math.isinf(norm_type):
        with pytest.raises(RuntimeError):
            torch.nn.utils.clip_grad_norm_(parameters, max_norm, norm_type)
        with pytest.raises(RuntimeError, match=f"the norm of order {norm_type} is undefined"):
            nn.utils.clip_grad_norm([jnp.asarray(a) for a in arrays], max_norm, norm_type)
        return
    expected = torch.nn.utils.clip_grad_norm_(parameters, max_norm, norm_type)
    for clip in (nn.utils.clip_grad_norm, jax.jit(nn.utils.clip_grad_norm, static_argnums=(1, 2))):
        clipped, norm = clip([jnp.asarray(a) for a in arrays], max_norm, norm_type)
        np.testing.assert_allclose(norm, expected.numpy(), rtol=1e-12)
        for found, parameter in zip(clipped, parameters, strict=True):
            np.testing.assert_allclose(found, parameter.grad.numpy(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_clipping_keeps_the_dtype(dtype):
    torch_dtype = getattr(torch, jnp.dtype(dtype).name)
    parameter = torch.nn.Parameter(torch.zeros(3, dtype=torch_dtype))
    parameter.grad = torch.tensor([3.0, 4.0, 12.0], dtype=torch_dtype)
    expected = torch.nn.utils.clip_grad_norm_([parameter], 1.0)
    clipped, norm = nn.utils.clip_grad_norm(jnp.array([3.0, 4.0, 12.0], dtype), 1.0)
    assert clipped.dtype == norm.dtype == dtype
    assert float(norm) == float(expected) == 13
    np.testing.assert_allclose(
        np.asarray(clipped, np.float64), parameter.grad.double().numpy(), rtol=float(jnp.finfo(dtype).eps)
    )


@pytest.mark.parametrize("kind", ["infinite", "NaN"])
def test_a_norm_that_is_not_finite_is_an_error_if_asked_for(kind, rng):
    arrays = gradients(kind, rng)
    with pytest.raises(RuntimeError):
        torch.nn.utils.clip_grad_norm_(torch_parameters(arrays), 1.0, error_if_nonfinite=True)
    with pytest.raises(RuntimeError, match=r"of the gradients must be finite to clip them, got (inf|nan)"):
        nn.utils.clip_grad_norm([jnp.asarray(a) for a in arrays], 1.0, error_if_nonfinite=True)


def test_gradients_may_be_any_tree():
    layer = nn.Linear(3, 2, rngs=nnx.Rngs(0)).double()
    found = nnx.grad(lambda layer: (100 * layer(jnp.ones((4, 3)))).sum())(layer)
    clipped, norm = nn.utils.clip_grad_norm(found, 1.0)
    assert type(clipped) is type(found)
    np.testing.assert_allclose(nn.utils.get_total_norm(clipped), 1.0, rtol=1e-5)
    np.testing.assert_allclose(norm, optax.tree.norm(found), rtol=1e-6)
    assert nn.utils.clip_grad_norm({"a": None, "b": jnp.ones(1)}, 1.0)[0]["a"] is None


@pytest.mark.parametrize("kind", [kind for kind in GRADIENTS if kind != "none"])  # torch needs at least one gradient
def test_gradients_clipped_by_value_are_torchs(kind, rng):
    arrays = gradients(kind, rng)
    parameters = torch_parameters(arrays)
    torch.nn.utils.clip_grad_value_(parameters, 0.3)
    for found, parameter in zip(
        nn.utils.clip_grad_value([jnp.asarray(a) for a in arrays], 0.3), parameters, strict=True
    ):
        np.testing.assert_array_equal(found, parameter.grad.numpy())


def test_parameters_become_a_vector_and_come_back(rng):
    torch_layer, layer = make("Conv2d", 2, 3, 2)
    transfer(torch_layer, layer)
    expected = torch.nn.utils.parameters_to_vector(torch_layer.parameters()).detach().numpy()
    np.testing.assert_array_equal(nn.utils.parameters_to_vector(layer.parameters()), expected)
    vector = rng.normal(size=expected.size + 2)
    torch.nn.utils.vector_to_parameters(torch.tensor(vector), torch_layer.parameters())
    nn.utils.vector_to_parameters(jnp.asarray(vector), layer.parameters())
    for name, array in torch_layer.state_dict().items():
        np.testing.assert_array_equal(layer.state_dict()[name], array.numpy())
        assert layer.state_dict()[name].dtype == jnp.float64
    with pytest.raises(RuntimeError, match="at least 24 elements, got 5"):
        nn.utils.vector_to_parameters(jnp.ones(5), layer.parameters())
    with pytest.raises(RuntimeError):
        torch.nn.utils.vector_to_parameters(torch.ones(5), torch_layer.parameters())
    with pytest.raises(TypeError, match="got list"):
        nn.utils.vector_to_parameters([1.0], layer.parameters())
    with pytest.raises(RuntimeError, match="got none"):
        nn.utils.parameters_to_vector([])


CONVOLUTIONS = [
    ("Conv1d", (2, 4, 2), "BatchNorm1d", {}, (2, 2, 6)),
    ("Conv2d", (2, 4, 2), "BatchNorm2d", {}, (2, 2, 5, 4)),
    ("Conv2d", (2, 4, 2, 1, 0, 1, 2, False), "BatchNorm2d", {"eps": 0.1}, (2, 2, 5, 4)),
    ("Conv2d", (2, 4, 2), "BatchNorm2d", {"affine": False}, (2, 2, 5, 4)),
    ("Conv2d", (2, 4, 2), "BatchNorm2d", {"bias": False}, (2, 2, 5, 4)),
    ("Conv3d", (1, 2, 2), "BatchNorm3d", {}, (1, 1, 3, 3, 3)),
    ("ConvTranspose2d", (2, 4, 2), "BatchNorm2d", {}, (2, 2, 5, 4)),
    ("Linear", (3, 4), "BatchNorm1d", {}, (5, 3)),
    ("Linear", (3, 4, False), "BatchNorm1d", {"eps": 0.1}, (5, 3)),
    ("Linear", (3, 1), "BatchNorm1d", {}, (5, 3)),
]


@pytest.mark.parametrize(("kind", "args", "norm_kind", "options", "shape"), CONVOLUTIONS)
def test_fused_layers_are_torchs_and_do_what_the_two_did(kind, args, norm_kind, options, shape, rng):
    features = args[1]
    torch_layer, layer = make(kind, *args)
    torch_bn, bn = getattr(torch.nn, norm_kind)(features, **options), getattr(nn, norm_kind)(features, **options)
    for tensor in [*torch_bn.parameters(), *torch_bn.buffers()]:
        if tensor.is_floating_point():
            torch.nn.init.uniform_(tensor, 0.5, 2.0)
    for torch_module, module in ((torch_layer, layer), (torch_bn, bn)):
        torch_module.double().eval()
        module.double().eval()
        transfer(torch_module, module)
    extra = {"transpose": True} if "Transpose" in kind else {}
    name = "fuse_linear_bn_eval" if kind == "Linear" else "fuse_conv_bn_eval"
    before = layer.state_dict()
    expected, fused = (
        getattr(torch.nn.utils, name)(torch_layer, torch_bn, **extra),
        getattr(nn.utils, name)(layer, bn, **extra),
    )
    assert type(fused) is type(layer)
    assert fused.state_dict().keys() == {"weight", "bias"}
    for key, array in expected.state_dict().items():
        np.testing.assert_allclose(fused.state_dict()[key], array.numpy(), rtol=1e-12)
    x = jnp.asarray(rng.normal(size=shape))
    np.testing.assert_allclose(fused(x), bn(layer(x)), rtol=1e-10, atol=1e-12)
    assert all((before[key] == array).all() for key, array in layer.state_dict().items())


def test_layers_that_cannot_be_fused_are_refused():
    linear, norm = nn.Linear(3, 4, rngs=nnx.Rngs(0)), nn.BatchNorm1d(4)
    for fuse in (nn.utils.fuse_linear_bn_eval, nn.utils.fuse_conv_bn_eval):
        with pytest.raises(AssertionError, match="got training=True and training=False"):
            fuse(linear.train(), norm.eval())
        with pytest.raises(AssertionError, match="got training=False and training=True"):
            fuse(linear.eval(), norm.train())
        with pytest.raises(AssertionError, match=r"running_mean=None"):
            fuse(linear.eval(), nn.BatchNorm1d(4, track_running_stats=False).eval())
    with pytest.raises(AssertionError, match="must have 4 features, like the layer, or 1, got 3"):
        nn.utils.fuse_linear_bn_eval(linear, nn.BatchNorm1d(3).eval())


@pytest.mark.parametrize("norm_type", [2.0, 1.0, math.inf])
@pytest.mark.parametrize("kind", ["Embedding", "EmbeddingBag"])
def test_max_norm_changes_the_table_as_in_torch(kind, norm_type):
    torch_table, table = make(kind, 6, 3, max_norm=0.7, norm_type=norm_type)
    torch_table.double()
    table.double()
    transfer(torch_table, table)
    ids = np.array([[0, 2, 2], [5, 0, 2]])
    compiled = nnx.clone(table)
    torch_table(torch.tensor(ids))
    table(jnp.asarray(ids))
    nnx.jit(lambda module, ids: module(ids))(compiled, ids)
    for module in (table, compiled):
        np.testing.assert_allclose(module.weight[...], torch_table.weight.detach().numpy(), rtol=1e-12)


def test_max_norm_and_an_optimizer_work_together_as_in_torch():
    torch_table, table = make("Embedding", 6, 3, max_norm=0.7)
    torch_table.double()
    table.double()
    transfer(torch_table, table)
    ids = np.array([0, 2, 2, 5])
    optimizer = nnx.Optimizer(table, optax.sgd(0.5), wrt=nnx.Param)
    torch_optimizer = torch.optim.SGD(torch_table.parameters(), 0.5)
    for _ in range(3):
        optimizer.update(table, nnx.grad(lambda table: (table(ids) ** 2).sum())(table))
        torch_optimizer.zero_grad()
        (torch_table(torch.tensor(ids)) ** 2).sum().backward()
        torch_optimizer.step()
    np.testing.assert_allclose(table.weight[...], torch_table.weight.detach().numpy(), rtol=1e-11)


@pytest.mark.parametrize("kind", ["Embedding", "EmbeddingBag"])
@pytest.mark.parametrize("freeze", [True, False])
def test_pretrained_tables_are_torchs(kind, freeze, rng):
    rows = rng.normal(size=(6, 3))
    options = {"freeze": freeze, "padding_idx": -5, "max_norm": 0.9, "norm_type": 1.0}
    expected = getattr(torch.nn, kind).from_pretrained(torch.tensor(rows.copy()), **options)
    found = getattr(nn, kind).from_pretrained(jnp.asarray(rows), **options)
    for name in ("num_embeddings", "embedding_dim", "padding_idx", "max_norm", "norm_type", "sparse"):
        assert getattr(found, name) == getattr(expected, name)
    ids = np.array([[0, 1], [5, 1]])
    np.testing.assert_allclose(found(jnp.asarray(ids)), expected(torch.tensor(ids)).detach().numpy(), rtol=1e-12)
    gradient = nnx.grad(lambda table: table(jnp.asarray(ids)).sum())(found)["weight"][...]
    assert gradient.any() == (not freeze) == expected.weight.requires_grad
    with pytest.raises(AssertionError, match=r"2 axes, got the shape \(3,\)"):
        getattr(nn, kind).from_pretrained(jnp.ones(3))
    with pytest.raises(AssertionError, match=r"expected a weight of shape \(4, 3\), got \(3, 3\)"):
        getattr(nn, kind)(4, 3, _weight=jnp.ones((3, 3)))
    with pytest.raises(TypeError, match="rngs must not be None without a weight"):
        getattr(nn, kind)(4, 3)


def test_new_tables_are_normal_with_zeros_in_the_padding():
    for kind in (nn.Embedding, nn.EmbeddingBag):
        weight = np.asarray(kind(500, 20, padding_idx=-1, rngs=nnx.Rngs(0)).weight[...])
        assert not weight[-1].any()
        np.testing.assert_allclose([weight[:-1].mean(), weight[:-1].std()], [0, 1], atol=0.03)


def test_sparse_tables_have_the_same_gradients_dense():
    torch_table, table = make("Embedding", 6, 3, sparse=True)
    transfer(torch_table, table)
    ids = np.array([0, 2, 2, 5])
    (torch_table(torch.tensor(ids)) ** 2).sum().backward()
    found = nnx.grad(lambda table: (table(ids) ** 2).sum())(table)["weight"][...]
    np.testing.assert_allclose(found, torch_table.weight.grad.to_dense().numpy(), rtol=1e-6)


def test_frequencies_scale_an_embedding_bags_gradient_as_documented():
    """Compare with the documented values: torch's CPU kernel uses the count of another index if counts differ."""
    table = nn.EmbeddingBag(6, 1, scale_grad_by_freq=True, mode="sum", rngs=nnx.Rngs(0))
    ids = jnp.array([0, 1, 1, 2, 0, 0])
    gradient = nnx.grad(lambda table: table(ids, jnp.array([0, 2, 4])).sum())(table)["weight"][...]
    np.testing.assert_allclose(gradient[:, 0], [1, 1, 1, 0, 0, 0], rtol=1e-6)


def test_what_comes_after_the_last_offset_is_in_no_bag():
    """Check that indices after the last offset are ignored, unlike in torch, where they change 'max' and 'mean'."""
    table = jnp.array([[1.0], [2.0], [4.0]])
    for mode, expected in (("sum", 2.0), ("mean", 2.0), ("max", 2.0)):
        found = nn.functional.embedding_bag(
            jnp.array([0, 1, 2]), table, jnp.array([0, 1, 2]), mode=mode, include_last_offset=True
        )
        assert found[1, 0] == expected


def test_indices_that_are_not_there_give_nan_under_jit():
    table = nn.Embedding(4, 2, rngs=nnx.Rngs(0))
    found = nnx.jit(lambda table, ids: table(ids))(table, jnp.array([0, 4, -1]))
    assert jnp.isnan(found).all(1).tolist() == [False, True, True]
    with pytest.raises(RuntimeError, match="got num_classes=-1"):
        jax.jit(nn.functional.one_hot)(jnp.array([0, 1]))


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_half_precision_bags_are_summed_in_float32(mode):
    for dtype in (jnp.float16, jnp.bfloat16):
        name = jnp.dtype(dtype).name
        rows = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
        torch_rows = torch.tensor(rows).to(getattr(torch, name))
        ids = np.arange(64)[None]
        expected = torch.nn.functional.embedding_bag(torch.tensor(ids), torch_rows, mode=mode)
        found = nn.functional.embedding_bag(jnp.asarray(ids), jnp.asarray(rows, dtype), mode=mode)
        assert found.dtype == dtype
        np.testing.assert_allclose(
            np.asarray(found, np.float32), expected.float().numpy(), rtol=2 * float(jnp.finfo(dtype).eps)
        )


@pytest.mark.parametrize("kind", ["Linear", "Bilinear", "Embedding"])
def test_complex_layers_are_made_and_called(kind):
    args, shapes = {
        "Linear": ((3, 2), ((4, 3),)),
        "Bilinear": ((3, 2, 5), ((4, 3), (4, 2))),
        "Embedding": ((3, 2), ()),
    }[kind]
    torch_layer = getattr(torch.nn, kind)(*args, dtype=torch.complex64)
    layer = getattr(nn, kind)(*args, dtype=jnp.complex64, rngs=nnx.Rngs(0))
    assert layer.weight.dtype == jnp.complex64
    assert jnp.abs(layer.weight[...].imag).min() > 0
    layer.load_state_dict(torch_layer.state_dict())
    rng = np.random.default_rng(0)
    inputs = [(rng.normal(size=s) + 1j * rng.normal(size=s)).astype(np.complex64) for s in shapes] or [np.array([0, 2])]
    with torch.no_grad():
        expected = torch_layer(*map(torch.tensor, inputs)).numpy()
    np.testing.assert_allclose(layer(*map(jnp.asarray, inputs)), expected, rtol=1e-5, atol=1e-6)
