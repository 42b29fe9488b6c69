"""Tests of frozen parameters and modules: which parameters are frozen, and that nothing changes them."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from cases import LAYERS
from flax import nnx

import flaxnets
from flaxnets import nn
from flaxnets.summary import summary
from flaxnets.training import TrainState, l2_penalty, make_train_step, regression
from flaxnets.training.train_state import Batch

WITH_PARAMETERS = {case.name: case for case in reversed(LAYERS) if next(case.pair()[0].parameters(), None) is not None}


def flags(module: Any) -> list[tuple[str, bool]]:
    return [(name, parameter.requires_grad) for name, parameter in module.named_parameters()]


@pytest.mark.parametrize("case", WITH_PARAMETERS.values(), ids=WITH_PARAMETERS)
def test_every_parameter_of_every_layer_can_be_frozen_and_thawed(case: Any):
    theirs, ours = case.pair()
    assert flags(ours) == flags(theirs)
    assert all(type(parameter) in (nn.Parameter, nn.UninitializedParameter) for parameter in ours.parameters())
    for module in (theirs, ours):
        assert module.requires_grad_(False) is module
    assert flags(ours) == flags(theirs)
    for module in (theirs, ours):
        first = next(module.parameters())
        assert first.requires_grad_() is first
    assert flags(ours) == flags(theirs)
    assert ours.requires_grad_() is ours
    assert all(parameter.requires_grad for parameter in ours.parameters())


class Net(nn.Module):
    """A network with all types of parameters: of flaxnets, plain Flax, tied, parametrized and its own."""

    def __init__(self, rngs: nnx.Rngs):
        self.stem = nn.Linear(3, 4, rngs=rngs)
        self.norm = nn.BatchNorm1d(4)
        self.flax = nnx.Linear(4, 4, rngs=rngs)
        self.stack = nnx.List([nnx.LayerNorm(4, rngs=rngs)])
        self.normed = nn.utils.weight_norm(nn.Linear(4, 4, rngs=rngs))
        self.scale = nnx.Param(jnp.ones((4, 1)))
        self.head = nn.Linear(4, 4, rngs=rngs)
        self.tied = nn.Linear(4, 4, rngs=rngs)
        self.tied.weight = self.head.weight

    def __call__(self, x: Any) -> Any:
        x = self.normed(self.stack[0](self.flax(self.norm(self.stem(x)))))
        return self.tied(self.head(x)) @ self.scale


def gradient_by_nnx(model: Net, x: jax.Array) -> dict[str, jax.Array]:
    gradients = nnx.grad(lambda model: (model(x) ** 2).sum())(model)
    return named(gradients)


def gradient_by_jax(model: Net, x: jax.Array) -> dict[str, jax.Array]:
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    loss = lambda params: (nnx.merge(graphdef, params, rest, copy=True)(x) ** 2).sum()  # noqa: E731
    return named(jax.jit(jax.grad(loss))(params))


def gradient_by_remat(model: Net, x: jax.Array) -> dict[str, jax.Array]:
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params: nnx.State) -> jax.Array:
        merged = nnx.merge(graphdef, params, rest, copy=True)
        flaxnets.training.checkpoint(merged)
        return (merged(x) ** 2).sum()

    return named(jax.grad(loss)(params))


def flat(state: nnx.State) -> dict[str, Any]:
    return {".".join(map(str, path)): variable.get_raw_value() for path, variable in nnx.to_flat_state(state)}


def named(gradients: nnx.State) -> dict[str, Any]:
    return {name: np.asarray(array) for name, array in flat(gradients).items()}


@pytest.mark.parametrize("gradient", [gradient_by_nnx, gradient_by_jax, gradient_by_remat])
def test_gradients_of_frozen_parameters_are_zero_and_of_no_other(gradient: Callable[[Net, jax.Array], Any]):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
    model = Net(nnx.Rngs(0)).requires_grad_(False)
    assert not any(array.any() for array in gradient(model, x).values())
    for parameter in model.head.parameters():
        parameter.requires_grad = True
    assert model.tied.weight.requires_grad
    live = {name for name, array in gradient(model, x).items() if array.any()}
    assert live == {"head.weight", "head.bias"}
    live = {name for name, array in gradient(model.requires_grad_(), x).items() if array.any()}
    assert live == {name for name in flat(nnx.state(model, nnx.Param))}


@pytest.mark.parametrize("kernels", ["xla", "auto"])
def test_no_training_step_moves_a_frozen_parameter_and_statistics_go_on(kernels: str):
    model = nn.Sequential(nn.Linear(3, 4, rngs=nnx.Rngs(0)), nn.BatchNorm1d(4), nn.Linear(4, 1, rngs=nnx.Rngs(1)))
    model.requires_grad_(False)[2].requires_grad_()
    before = model.state_dict()
    optimizer = optax.sgd(0.5)
    step = make_train_step(model, optimizer, regression, penalty=l2_penalty(0.1), backend=kernels)
    batch = Batch(jnp.arange(12.0).reshape(4, 3), jnp.ones((4, 1)), jnp.ones(4))
    state, _ = step(TrainState.create(model, optimizer), batch)
    state.update_model(model)
    after = model.state_dict()
    moved = {name for name in before if (before[name] != after[name]).any()}
    assert moved == {"1.running_mean", "1.running_var", "1.num_batches_tracked", "2.weight", "2.bias"}
    assert flags(model) == [(name, name.startswith("2.")) for name, _ in flags(model)]


USES: dict[str, Callable[[Any], jax.Array]] = {
    "read": lambda p: p[...],
    "part": lambda p: p[0],
    "transposed": lambda p: p.T,
    "method": lambda p: p.reshape(-1),
    "product": lambda p: p @ jnp.ones((2, 1)),
    "product from the right": lambda p: jnp.ones((1, 3)) @ p,
    "function": lambda p: jnp.exp(p),
    "negative": lambda p: -p,
    "loop": lambda p: sum(row for row in p),
    "value": lambda p: p.get_value(),
    "data": lambda p: p.data,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_frozen_parameter_is_a_constant_however_it_is_read(use: Callable[[Any], jax.Array]):
    parameter = nn.Parameter(jnp.ones((3, 2)))
    gradient = jax.grad(lambda p: use(p).sum())
    assert use is USES["data"] or gradient(parameter)[...].any()
    parameter.requires_grad = False
    assert not gradient(parameter).get_raw_value().any()


COPIES: dict[str, Callable[[Any], Any]] = {
    "clone": nnx.clone,
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "split and merge": lambda model: nnx.merge(*nnx.split(model)),
    "state dict": lambda model: (model.load_state_dict(model.state_dict()), model)[1],
    "update": lambda model: (nnx.update(model, nnx.state(model)), model)[1],
    "cast": lambda model: model.to(jnp.bfloat16).float(),
    "moved": lambda model: model.to(jax.devices()[0]),
    "eval": lambda model: model.eval(),
    "reset": lambda model: (model[0].reset_parameters(rngs=nnx.Rngs(3)), model)[1],
    "abstract": lambda model: nnx.eval_shape(lambda: nnx.clone(model)),
}


@pytest.mark.parametrize("how", COPIES.values(), ids=COPIES)
def test_what_is_copied_or_changed_stays_frozen(how: Callable[[Any], Any]):
    model = nn.Sequential(nn.Linear(3, 4, rngs=nnx.Rngs(0)), nn.Linear(4, 1, rngs=nnx.Rngs(1)))
    model[0].requires_grad_(False)
    assert flags(how(model)) == [("0.weight", False), ("0.bias", False), ("1.weight", True), ("1.bias", True)]


def test_a_lazy_layer_is_frozen_before_its_first_call_and_after():
    module = nn.LazyConv2d(2, 3, rngs=nnx.Rngs(0))
    module.requires_grad_(False)
    module.bias.requires_grad = True
    for _ in range(2):
        assert flags(module) == [("weight", False), ("bias", True)]
        module(jnp.ones((1, 3, 5, 5)))
    assert type(module) is nn.Conv2d


def test_parametrised_weights_follow_what_they_are_computed_from():
    for lib, options in ((torch.nn, {}), (nn, {"rngs": nnx.Rngs(0)})):
        layer = lib.utils.parametrizations.weight_norm(lib.Linear(3, 2, **options))
        layer.requires_grad_(False)
        assert flags(layer) == [
            ("bias", False), ("parametrizations.weight.original0", False), ("parametrizations.weight.original1", False),
        ]  # fmt: skip


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", [("weight",), ("bias",), ()])
def test_fused_layers_are_frozen_as_torchs(frozen: tuple[str, ...], bias: bool):
    def fused(lib: Any, **options: Any) -> Any:
        layer, norm = lib.Linear(3, 2, bias=bias, **options), lib.BatchNorm1d(2)
        for name in frozen:
            if getattr(layer, name) is not None:
                getattr(layer, name).requires_grad = False
        return lib.utils.fuse_linear_bn_eval(layer.eval(), norm.eval())

    assert flags(fused(nn, rngs=nnx.Rngs(0))) == flags(fused(torch.nn))


def test_parameters_of_integers_cannot_be_trained():
    model = nn.Module()
    model.table = nnx.Param(jnp.arange(3))  # Flax allows such parameters
    assert not model.table.requires_grad
    for change in (
        model.requires_grad_,
        model.table.requires_grad_,
        lambda: setattr(model.table, "requires_grad", True),
    ):
        with pytest.raises(RuntimeError, match="got dtype int32"):
            change()
    model.requires_grad_(False)
    with pytest.raises(RuntimeError, match="floating point"):
        torch.nn.Parameter(torch.arange(3), requires_grad=False).requires_grad_()


def test_parameters_of_pythons_numbers_can_be_frozen():
    model = nn.Module()
    model.scale = nnx.Param(2.0)  # Flax allows such parameters
    assert model.scale.requires_grad
    assert not model.requires_grad_(False).scale.requires_grad
    assert jax.grad(lambda p: 3 * p.get_value())(model.scale).get_raw_value() == 0


def test_kinds_of_parameters_that_cannot_be_frozen_say_so():
    model = nn.Module()
    model.adapter = nnx.LoRAParam(jnp.ones(2))
    with pytest.raises(TypeError, match="'adapter' is of the class LoRAParam"):
        model.requires_grad_(False)


def test_filters_of_flax_and_sharing_work_with_parameters_that_became_ours():
    model = nn.Module()
    shared = nnx.Param(jnp.ones(2))
    model.a = shared
    model.b = shared
    assert model.a is model.b is shared
    assert type(shared) is nn.Parameter
    assert list(flat(nnx.state(model, nnx.Param))) == ["a"]
    assert [name for name, _ in model.named_parameters()] == ["a"]


def test_a_parameter_has_torchs_conveniences():
    parameter = nn.Parameter(jnp.ones((3, 2)))
    assert parameter.numel() == torch.nn.Parameter(torch.ones(3, 2)).numel() == 6
    parameter.data = np.zeros((3, 2), np.float32)
    assert not parameter.data.any()
    with pytest.raises(RuntimeError, match="has no shape"):
        nn.UninitializedParameter().numel()


def test_summary_counts_trainable_and_frozen_parameters_apart():
    model = nn.Sequential(nn.Linear(3, 4, rngs=nnx.Rngs(0)), nn.Linear(4, 1, rngs=nnx.Rngs(1)))
    model[0].requires_grad_(False)
    found = summary(model, (2, 3))
    assert (found.parameters, found.trainable_parameters, found.frozen_parameters) == (21, 5, 16)
    assert "Parameters: 21 (0.00 MB), 5 trainable and 16 frozen" in str(found)
    assert "frozen" not in str(summary(model.requires_grad_(), (2, 3)))
