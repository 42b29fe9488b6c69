"""Tests of lazy layers before, at and after their first call, compared with torch, and of freezing parameters."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

from flaxnets import nn
from flaxnets.nn.parameter import is_lazy
from flaxnets.parity import assert_parity, transfer

SPACES = {1: (5,), 2: (5, 4), 3: (3, 4, 3)}
LAYERS = {
    "LazyLinear": ((4,), (2, 3)),
    **{f"LazyConv{n}d": ((4, 2), (2, 3, *space)) for n, space in SPACES.items()},
    **{f"LazyConvTranspose{n}d": ((4, 2), (2, 3, *space)) for n, space in SPACES.items()},
    **{f"LazyBatchNorm{n}d": ((), (2, 3, *space)) for n, space in SPACES.items()},
    **{f"LazyInstanceNorm{n}d": ((), (2, 3, *space)) for n, space in SPACES.items()},
}
EACH = pytest.mark.parametrize("name", LAYERS)


def pair(name: str, *args, **kwargs):
    rngs = {} if "Norm" in name else {"rngs": nnx.Rngs(0)}
    args = args or LAYERS[name][0]
    return getattr(torch.nn, name)(*args, **kwargs), getattr(nn, name)(*args, **kwargs, **rngs)


def ones(name: str) -> np.ndarray:
    return np.ones(LAYERS[name][1], np.float32)


def net():
    torch_net = torch.nn.Sequential(torch.nn.LazyLinear(4), torch.nn.LazyBatchNorm1d(), torch.nn.LazyLinear(1))
    rngs = nnx.Rngs(0)
    return torch_net, nn.Sequential(nn.LazyLinear(4, rngs=rngs), nn.LazyBatchNorm1d(), nn.LazyLinear(1, rngs=rngs))


@EACH
def test_constructor_takes_torchs_arguments(name):
    def arguments(kind):
        parameters = inspect.signature(kind.__init__).parameters.values()
        return {p.name: p.default for p in parameters if p.name not in {"self", "dtype", "device", "rngs"}}

    assert list(arguments(getattr(nn, name)).items()) == list(arguments(getattr(torch.nn, name)).items())


@EACH
def test_first_call_makes_the_ordinary_layer(name):
    torch_layer, layer = pair(name)
    assert isinstance(layer, getattr(nn, name.removeprefix("Lazy")))
    assert layer.has_uninitialized_params()
    layer(jnp.asarray(ones(name)))
    torch_layer(torch.tensor(ones(name)))
    assert type(layer).__name__ == type(torch_layer).__name__ == name.removeprefix("Lazy")
    kind, size = type(layer), ones(name).shape[1]
    rngs = {} if "Norm" in name else {"rngs": nnx.Rngs(1)}
    options = {"affine": True, "track_running_stats": True} if "Norm" in name else {}
    assert nnx.graphdef(layer) == nnx.graphdef(kind(size, *LAYERS[name][0], **options, **rngs))
    for attribute in ("in_features", "in_channels", "num_features"):
        assert getattr(layer, attribute, None) == getattr(torch_layer, attribute, None)
    assert_parity(torch_layer, layer, ones(name), dtypes=("float64",), runs=("jit",))


@EACH
def test_names_are_torchs_before_the_first_call(name):
    torch_layer, layer = pair(name)
    assert list(layer.state_dict()) == list(torch_layer.state_dict())
    for kind in ("parameters", "buffers"):
        found, expected = getattr(layer, f"named_{kind}")(), getattr(torch_layer, f"named_{kind}")()
        assert [(n, is_lazy(v)) for n, v in found] == [(n, torch.nn.parameter.is_lazy(v)) for n, v in expected]
    for copy in (nnx.clone(layer), nnx.merge(*nnx.split(layer))):
        copy(jnp.asarray(ones(name)))
        assert type(copy).__name__ == name.removeprefix("Lazy")
    assert layer.has_uninitialized_params()


@EACH
def test_a_state_dict_loads_before_the_first_call_which_keeps_it(name):
    torch_layer, layer = pair(name)
    torch_layer(torch.tensor(ones(name)))
    for parameter in torch_layer.parameters():
        torch.nn.init.normal_(parameter)
    assert layer.load_state_dict(torch_layer.state_dict()) == ([], [])
    assert type(layer).__name__ == name
    assert not layer.has_uninitialized_params()
    loaded = layer.state_dict()
    layer.eval()(jnp.asarray(ones(name)))
    for key, expected in torch_layer.state_dict().items():
        np.testing.assert_array_equal(loaded[key], expected.numpy())
        np.testing.assert_array_equal(layer.state_dict()[key], expected.numpy())
    assert type(layer).__name__ == name.removeprefix("Lazy")
    assert layer.load_state_dict(torch_layer.state_dict()) == ([], [])


@pytest.mark.parametrize("name", ["LazyLinear", "LazyConv2d", "LazyBatchNorm2d", "LazyInstanceNorm1d"])
def test_loaded_values_that_do_not_fit_the_first_input_are_refused(name):
    torch_layer, layer = pair(name)
    shape = list(LAYERS[name][1])
    shape[1] += 2
    torch_layer(torch.ones(shape))
    fresh = pair(name)[0]
    fresh.load_state_dict(torch_layer.state_dict())
    layer.load_state_dict(torch_layer.state_dict())
    error = {"LazyLinear": AssertionError}.get(name, RuntimeError)
    # torch's LazyInstanceNorm1d rejects every input, because it loses the number of features.
    if name != "LazyInstanceNorm1d":
        with pytest.raises(error):
            fresh(torch.tensor(ones(name)))
    with pytest.raises(error, match=f"{name}: 'weight' was loaded with shape .*5"):
        layer(jnp.asarray(ones(name)))


def test_state_dicts_without_shapes_load_where_shapes_are_not_known_and_nowhere_else():
    (torch_net, module), (torch_other, other) = net(), net()
    torch_other.load_state_dict(torch_net.state_dict())
    assert other.load_state_dict(module.state_dict()) == ([], [])
    assert other[0].has_uninitialized_params()
    torch_other(torch.ones(2, 3))
    other(jnp.ones((2, 3)))
    with pytest.raises(RuntimeError):
        torch_other.load_state_dict(torch_net.state_dict())
    with pytest.raises(RuntimeError, match=r"'0.weight': expected an array of shape \(4, 3\), got .* Uninitialized"):
        other.load_state_dict(module.state_dict())


def test_what_was_not_loaded_is_drawn():
    _, layer = pair("LazyLinear")
    layer.load_state_dict({"weight": np.full((4, 3), 2.0)}, strict=False)
    layer(jnp.ones((2, 3)))
    assert (layer.weight[...] == 2).all()
    assert layer.bias.shape == (4,)
    assert (layer.bias[...] != 0).any()


def test_shapes_that_are_not_known_raise_where_they_are_asked_for():
    torch_layer, layer = pair("LazyLinear")
    with pytest.raises(RuntimeError):
        _ = torch_layer.weight.shape
    for parameter in (layer.weight, nn.UninitializedParameter(), nn.UninitializedBuffer(persistent=False)):
        with pytest.raises(RuntimeError, match="uninitialized parameter or buffer has no shape"):
            _ = parameter.shape


def test_materialized_variables_are_ordinary_ones():
    for lazy, ordinary in (
        (nn.UninitializedParameter(jnp.float16), nn.Parameter),
        (nn.UninitializedBuffer(), nn.Buffer),
    ):
        dtype = lazy.get_value().dtype
        lazy.materialize((2, 3))
        assert type(lazy) is ordinary
        assert (lazy.shape, lazy.dtype) == ((2, 3), dtype)
    wide = nn.UninitializedParameter()
    wide.materialize((1,), dtype=jnp.bfloat16)
    assert wide.dtype == jnp.bfloat16


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_dtypes_are_those_of_the_constructor_or_of_the_cast(dtype):
    made = nn.LazyConv1d(2, 1, dtype=dtype, rngs=nnx.Rngs(0))
    cast = nn.LazyConv1d(2, 1, rngs=nnx.Rngs(0)).to(dtype)
    for layer in (made, cast):
        assert layer(jnp.ones((1, 2, 3), dtype)).dtype == dtype
        assert {v.dtype for v in layer.parameters()} == {jnp.dtype(dtype)}


def test_mode_is_kept():
    layer = nn.LazyBatchNorm1d().eval()
    layer(jnp.ones((2, 3)))
    assert not layer.training
    assert int(layer.num_batches_tracked[...]) == 0


TRACED = {
    "nnx.jit": lambda module, x: nnx.jit(lambda module, x: module(x))(module, x),
    "jax.jit": lambda module, x: jax.jit(lambda x: module(x))(x),
    "nnx.grad": lambda module, x: nnx.grad(lambda module, x: module(x).sum())(module, x),
    "jax.vmap": lambda module, x: jax.vmap(lambda x: module(x[None]))(x),
    "split and merge": lambda module, x: jax.jit(lambda state, x: nnx.merge(nnx.graphdef(module), state)(x))(
        nnx.state(module), x
    ),
}


@pytest.mark.parametrize("call", TRACED.values(), ids=TRACED)
def test_a_traced_first_call_says_what_to_do(call):
    _, module = net()
    with pytest.raises(RuntimeError, match=r"LazyLinear: the first call infers in_features .* is traced"):
        call(module, jnp.ones((2, 3)))
    module(jnp.ones((2, 3)))
    call(module.eval(), jnp.ones((2, 3)))


def test_layers_that_are_made_under_a_transformation_are_called_there():
    def make():
        _, module = net()
        module(jnp.ones((2, 3)))
        return module

    for module in (nnx.eval_shape(make), nnx.jit(make)()):
        assert type(module[0]) is nn.Linear
        assert module[0].weight.shape == (4, 3)


def test_each_layer_draws_its_own_values_and_a_seed_repeats_them():
    first, again = net()[1], net()[1]
    for module in (first, again):
        module(jnp.ones((2, 4)))
    np.testing.assert_array_equal(first[0].weight[...], again[0].weight[...])
    assert (first[0].weight[...][:1] != first[2].weight[...]).any()


def test_initial_values_have_the_ordinary_layers_distribution():
    layer = nn.LazyLinear(200, rngs=nnx.Rngs(3))
    layer(jnp.ones((1, 300)))
    bound = 300**-0.5
    values = np.asarray(layer.weight[...])
    assert np.abs(values).max() <= bound
    np.testing.assert_allclose(values.std(), bound / 3**0.5, rtol=0.02)


def test_a_network_is_trained_after_a_call():
    torch_net, module = net()
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    torch_net(torch.tensor(x))
    module(jnp.asarray(x))
    transfer(torch_net, module)
    optimizer = nnx.Optimizer(module, optax.sgd(0.1), wrt=nnx.Param)
    torch_optimizer = torch.optim.SGD(torch_net.parameters(), 0.1)
    for _ in range(3):
        optimizer.update(module, nnx.grad(lambda module: (module(x) ** 2).mean())(module))
        torch_optimizer.zero_grad()
        (torch_net(torch.tensor(x)) ** 2).mean().backward()
        torch_optimizer.step()
    for name, expected in torch_net.state_dict().items():
        np.testing.assert_allclose(module.state_dict()[name], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_lazy_instance_norm_takes_the_second_axis_also_of_an_input_without_batch_as_torch_does():
    for module, x in ((torch.nn.LazyInstanceNorm1d(), torch.ones(3, 5)), (nn.LazyInstanceNorm1d(), jnp.ones((3, 5)))):
        with pytest.raises(ValueError, match="5"):
            module(x)
        assert module.num_features == 5


def test_a_frozen_parameter_has_no_gradient_until_it_is_thawed():
    layer = nn.Linear(3, 2, rngs=nnx.Rngs(0))
    layer.weight = nn.Parameter(layer.weight[...], requires_grad=False)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]

    def gradients(layer):
        return nnx.grad(lambda layer: (layer(jnp.ones((4, 3))) ** 2).sum())(layer)

    assert not gradients(layer)["weight"][...].any()
    assert gradients(layer)["bias"][...].any()
    assert not gradients(nnx.merge(*nnx.split(layer)))["weight"][...].any()
    layer.weight.requires_grad = True
    assert layer.weight.requires_grad
    assert gradients(layer)["weight"][...].any()


def test_parameters_follow_torchs_constructor():
    for data, requires_grad in ((np.ones(2), True), (np.ones(2, int), False), (np.ones(2) * 1j, True)):
        expected = torch.nn.Parameter(torch.tensor(data), requires_grad)
        found = nn.Parameter(data, requires_grad)
        assert found.requires_grad == expected.requires_grad
        assert found.shape == tuple(expected.shape)
    assert nn.Parameter().shape == tuple(torch.nn.Parameter().shape)
    with pytest.raises(RuntimeError):
        torch.nn.Parameter(torch.ones(2, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="got dtype int32"):
        nn.Parameter(jnp.ones(2, jnp.int32))
    frozen = nn.Parameter(jnp.ones(2, jnp.int32), requires_grad=False)
    with pytest.raises(RuntimeError, match="got dtype int32"):
        frozen.requires_grad = True
