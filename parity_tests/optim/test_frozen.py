"""Tests that optimizers do not change frozen parameters, as in torch, which skips parameters without a gradient."""

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

from flaxnets import nn, optim
from flaxnets.data import Split
from flaxnets.optim import lr_scheduler
from flaxnets.parity import relative_error, transfer
from flaxnets.training import (
    Batch,
    Batches,
    Checkpointing,
    Checkpoints,
    Engine,
    StepOptions,
    TrainState,
    classification,
    fit,
    l2_penalty,
    make_train_step,
)

GATE = 1e-12
LR = 0.01


pytestmark = pytest.mark.usefixtures("in_float64")

# Each optimizer with all its slots, and with both types of weight decay.
OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"weight_decay": 0.1}),
    ("SGD", {"weight_decay": 0.1, "momentum": 0.9, "dampening": 0.3}),
    ("Adam", {"weight_decay": 0.1, "amsgrad": True}),
    ("AdamW", {"weight_decay": 0.1}),
    ("Adagrad", {"weight_decay": 0.1, "lr_decay": 0.2, "initial_accumulator_value": 0.3}),
    ("RMSprop", {"weight_decay": 0.1, "momentum": 0.3, "centered": True, "eps": 0.1}),
    ("Adadelta", {"weight_decay": 0.1}),
    ("Adamax", {"weight_decay": 0.1}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"weight_decay": 0.1, "betas": (0.6, 0.7), "decoupled_weight_decay": True}),
    ("ASGD", {"weight_decay": 0.1, "lambd": 0.1, "t0": 3.0}),
    ("Rprop", {}),
]
# The frozen parameters in each phase of three steps: from the start, in the middle, again, and at the end.
PHASES = [{"weight"}, set(), {"bias"}, {"weight"}, set(), {"weight", "bias"}]
STEPS = 3


class Run:
    """A linear layer in flaxnets and in torch, with the same weights and the same gradients."""

    def __init__(self, name: str, options: dict[str, Any]):
        torch.manual_seed(0)
        self.twin, self.model = torch.nn.Linear(4, 3), nn.Linear(4, 3, rngs=nnx.Rngs(0)).double()
        self.model.weight = nn.Parameter(self.model.weight[...])
        self.model.bias = nn.Parameter(self.model.bias[...])
        transfer(self.twin, self.model)
        self.theirs = getattr(torch.optim, name)(self.twin.parameters(), **{"lr": LR, **options})
        self.ours = getattr(optim, name)(LR, **options)
        self.rng = np.random.default_rng(0)
        self.opt_state: Any = None

    def freeze(self, names: set[str]) -> None:
        for name, parameter in self.twin.named_parameters():
            parameter.requires_grad_(name not in names)
        self.model.weight.requires_grad = "weight" not in names
        self.model.bias.requires_grad = "bias" not in names

    def gradients(self) -> dict[str, np.ndarray]:
        return {name: self.rng.normal(size=p.shape) for name, p in self.twin.named_parameters()}

    def torch_step(self, gradients: dict[str, np.ndarray]) -> None:
        for name, parameter in self.twin.named_parameters():
            parameter.grad = torch.from_numpy(gradients[name].copy()) if parameter.requires_grad else None
        self.theirs.step()

    def flax_step(self, gradients: dict[str, np.ndarray]) -> None:
        params = nnx.state(self.model, nnx.Param)
        if self.opt_state is None:
            self.opt_state = self.ours.init(params)
        # Frozen parameters get gradients, too: the optimizer must ignore them.
        given = jax.tree.unflatten(jax.tree.structure(params), [jnp.asarray(gradients[key]) for key in params])
        updates, self.opt_state = self.ours.update(given, self.opt_state, params)
        nnx.update(self.model, optax.apply_updates(params, updates))

    def assert_same(self) -> None:
        for name, expected in self.twin.state_dict().items():
            assert relative_error(expected.numpy(), np.asarray(self.model.state_dict()[name])) <= GATE, name
        expected, found = self.theirs.state_dict()["state"], optim.to_torch(self.ours, self.opt_state, self.model)
        assert found["param_groups"][0]["params"] == [0, 1]
        assert found["state"].keys() == expected.keys()
        for number, slots in expected.items():
            assert found["state"][number].keys() == slots.keys()
            for slot, value in slots.items():
                error = np.abs(np.asarray(value) - np.asarray(found["state"][number][slot])).max()
                assert error <= GATE, f"{slot} of parameter {number} is off by {error:.1e}"


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=str)
def test_freezing_and_thawing_in_the_middle_of_a_run_is_torchs(name: str, options: dict[str, Any]):
    run = Run(name, options)
    for frozen in PHASES:
        run.freeze(frozen)
        before = {name: np.asarray(array) for name, array in run.model.state_dict().items()}
        for _ in range(STEPS):
            gradients = run.gradients()
            run.torch_step(gradients)
            run.flax_step(gradients)
        run.assert_same()
        for parameter, array in run.model.state_dict().items():
            assert (np.asarray(array) == before[parameter]).all() == (parameter in frozen)


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=str)
@pytest.mark.parametrize("phase", range(1, len(PHASES)))
def test_a_run_with_frozen_parameters_moves_over(name: str, options: dict[str, Any], phase: int):
    run = Run(name, options)
    for number, frozen in enumerate(PHASES):
        run.freeze(frozen)
        if number == phase:
            transfer(run.twin, run.model)
            run.opt_state = optim.from_torch(run.ours, run.theirs.state_dict(), run.model, step=number * STEPS)
            # torch's optimizer continues with the exported state
            run.theirs.load_state_dict(optim.to_torch(run.ours, run.opt_state, run.model))
        for _ in range(STEPS):
            gradients = run.gradients()
            run.torch_step(gradients)
            if number >= phase:
                run.flax_step(gradients)
    run.assert_same()


def test_slots_of_what_was_always_frozen_are_empty():
    run = Run("AdamW", {})
    run.freeze({"weight"})
    run.flax_step(run.gradients())
    sizes = {slot: {key: tree[key].size for key in ("weight", "bias")} for slot, tree in run.opt_state.slots.items()}
    assert sizes == {slot: {"weight": 0, "bias": 3} for slot in ("exp_avg", "exp_avg_sq")}
    run.freeze(set())
    run.flax_step(run.gradients())
    assert run.opt_state.slots["exp_avg"]["weight"].shape == (3, 4)
    assert int(run.opt_state.missed["weight"]) == 1


@pytest.mark.parametrize("momentum", [0, 0.9])
def test_torchs_optimizer_may_have_the_trainable_parameters_alone(momentum: float):
    run = Run("SGD", {"momentum": momentum})
    run.freeze({"weight"})
    run.theirs = torch.optim.SGD([p for p in run.twin.parameters() if p.requires_grad], LR, momentum)
    for _ in range(3):
        run.torch_step(run.gradients())
    transfer(run.twin, run.model)
    run.opt_state = optim.from_torch(run.ours, run.theirs.state_dict(), run.model, step=3)
    gradients = run.gradients()
    run.torch_step(gradients)
    run.flax_step(gradients)
    np.testing.assert_allclose(run.model.bias[...], run.twin.bias.detach().numpy(), rtol=GATE)


def test_numbers_of_steps_that_do_not_fit_are_refused():
    run = Run("Adam", {})
    run.torch_step(run.gradients())
    saved = run.theirs.state_dict()
    for number, count in enumerate((3, 5)):
        saved["state"][number]["step"] = torch.tensor(float(count))
    assert int(optim.from_torch(run.ours, saved, run.model).step) == 5
    with pytest.raises(ValueError, match=r"torch counts \[3, 5\] steps, expected 4"):
        optim.from_torch(run.ours, saved, run.model, step=4)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}])
def test_a_schedule_counts_the_steps_of_the_run(options: dict[str, Any]):
    run = Run("SGD", options)
    run.ours = optim.SGD(lr_scheduler.StepLR(LR, 2), **options)
    schedule = torch.optim.lr_scheduler.StepLR(run.theirs, 2)
    for frozen in ({"weight"}, set()):
        run.freeze(frozen)
        for _ in range(3):
            gradients = run.gradients()
            run.torch_step(gradients)
            schedule.step()
            run.flax_step(gradients)
    np.testing.assert_allclose(run.model.weight[...], run.twin.weight.detach().numpy(), rtol=GATE)


def test_clipping_does_not_count_the_gradients_of_frozen_parameters():
    run = Run("SGD", {})
    run.freeze({"weight"})
    gradients = {name: 5 * gradient for name, gradient in run.gradients().items()}
    run.twin.bias.grad = torch.from_numpy(gradients["bias"].copy())
    torch.nn.utils.clip_grad_norm_(run.twin.parameters(), 0.7)
    run.theirs.step()
    run.ours = optax.chain(optim.clip_grad_norm(0.7), optim.SGD(LR))
    run.flax_step(gradients)
    np.testing.assert_allclose(run.model.bias[...], run.twin.bias.detach().numpy(), rtol=GATE)
    clip, params = optim.clip_grad_norm(1e-3), nnx.state(run.model, nnx.Param)
    for given in ((nnx.as_pure(params), params), (params, None)):  # either argument can contain the variables
        clipped, _ = clip.update(given[0], clip.init(None), given[1])
        assert float(jnp.linalg.norm(jax.tree.leaves(clipped)[0])) == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=str)
def test_a_parameter_without_a_gradient_misses_the_step(name: str, options: dict[str, Any]):
    run = Run(name, options)
    params = {key: jnp.asarray(value.detach().numpy()) for key, value in run.twin.named_parameters()}
    opt_state = run.ours.init(params)
    for step in range(4):
        gradients: dict[str, Any] = run.gradients()
        run.freeze({"weight"} if step == 1 else set())
        run.torch_step(gradients)
        given = {**gradients, **({"weight": None} if step == 1 else {})}
        updates, opt_state = run.ours.update(given, opt_state, params)
        params = optax.apply_updates(params, updates)
    for key, value in run.twin.named_parameters():
        np.testing.assert_allclose(params[key], value.detach().numpy(), rtol=GATE)


def test_optax_masks_are_frozen_parameters():
    params = {"weight": jnp.ones((3, 4)), "bias": jnp.ones(3)}
    masked = optax.masked(optim.AdamW(0.1, groups={"weight": {"lr": 1.0}}), {"weight": False, "bias": True})
    updates, _ = masked.update(params, masked.init(params), params)
    np.testing.assert_allclose(updates["bias"], -0.1 - 0.1 * 0.01, rtol=1e-6)


# nnx.Optimizer passes plain arrays to an optimizer, which do not tell which parameters are frozen.
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=str)
def test_nnx_optimizer_leaves_frozen_parameters(name: str, options: dict[str, Any]):
    run = Run(name, options)
    run.freeze({"weight"})
    optimizer = nnx.Optimizer(run.model, run.ours, wrt=nnx.Param)
    x, before = np.random.default_rng(1).normal(size=(5, 4)), np.asarray(run.model.weight[...])

    @nnx.jit
    def step(model: nn.Linear, optimizer: nnx.Optimizer) -> None:
        gradients = nnx.grad(lambda model: (model(x) ** 2).sum(), argnums=nnx.DiffState(0, nnx.Param))(model)
        optimizer.update(model, gradients)

    for _ in range(2):
        run.theirs.zero_grad()
        (run.twin(torch.from_numpy(x)) ** 2).sum().backward()
        run.theirs.step()
        step(run.model, optimizer)
    np.testing.assert_array_equal(run.model.weight[...], before)
    np.testing.assert_allclose(run.model.bias[...], run.twin.bias.detach().numpy(), rtol=1e-10)


def two_layers() -> tuple[torch.nn.Module, nn.Sequential]:
    torch.manual_seed(0)
    twin = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    model = nn.Sequential(nn.Linear(4, 3, rngs=nnx.Rngs(0)), nn.Tanh(), nn.Linear(3, 2, rngs=nnx.Rngs(1))).double()
    for layer in (model[0], model[2]):
        layer.weight, layer.bias = nn.Parameter(layer.weight[...]), nn.Parameter(layer.bias[...])
    transfer(twin, model)
    twin[0].weight.requires_grad_(False)
    model[0].weight.requires_grad = False
    return twin, model


def batches(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(6, 4)), rng.integers(0, 2, 6)) for _ in range(count)]


ENGINE: dict[str, tuple[Any, dict[str, Any]]] = {
    "AdamW": (lambda: optim.AdamW(LR, weight_decay=0.1), {"decay": True}),
    "AdamW of optax": (lambda: optax.adamw(LR, weight_decay=0.1), {"decay": True}),
    "clipped, accumulated, skipping": (
        lambda: optax.chain(optim.clip_grad_norm(0.01), optim.AdamW(LR, weight_decay=0.1)),
        {"decay": True, "clip": 0.01, "accumulate": 2, "nonfinite": "skip"},
    ),
    "penalty": (lambda: optim.AdamW(LR, weight_decay=0.0), {"penalty": 0.3, "clip": None}),
}


@pytest.mark.parametrize("form", ENGINE)
def test_training_steps_with_frozen_parameters_are_torchs(form: str):
    (make, how), (twin, model) = ENGINE[form], two_layers()
    accumulate, clip, penalty = how.get("accumulate", 1), how.get("clip"), how.get("penalty", 0.0)
    theirs = torch.optim.AdamW(twin.parameters(), LR, weight_decay=0.1 if how.get("decay") else 0.0)
    average = torch.optim.swa_utils.AveragedModel(
        copy.deepcopy(twin), multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    )
    average.n_averaged.fill_(1)  # otherwise the first update copies the parameters
    for i, (inputs, targets) in enumerate(batches(6), start=1):
        loss = torch.nn.functional.cross_entropy(twin(torch.from_numpy(inputs)), torch.from_numpy(targets))
        loss = loss + penalty / 2 * sum(p.square().sum() for p in twin.parameters())
        (loss / accumulate).backward()
        if i % accumulate == 0:
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(twin.parameters(), clip)
            theirs.step()
            theirs.zero_grad()
            average.update_parameters(twin)

    optimizer, before = make(), np.asarray(model[0].weight[...])
    options = {"accumulate": accumulate, "nonfinite": how.get("nonfinite", "ignore")}
    if penalty:
        options["penalty"] = l2_penalty(penalty)
    step = make_train_step(model, optimizer, classification, ema_decay=0.9, **options)
    state = TrainState.create(model, optimizer, accumulate=accumulate, ema=True)
    for inputs, targets in batches(6):
        state, _ = step(state, Batch(jnp.asarray(inputs), jnp.asarray(targets), jnp.ones(6)))
    for params, expected in ((state.params, twin), (state.ema_params, average.module)):
        np.testing.assert_array_equal(params["0"]["weight"][...], before)
        nnx.update(model, params)
        for name, value in expected.state_dict().items():
            assert relative_error(value.numpy(), np.asarray(model.state_dict()[name])) <= 1e-10, name
    frozen = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.shape == before.shape]
    assert len(frozen) == 0


@pytest.mark.parametrize("optimizer", [optim.Adam(LR, weight_decay=0.1), optax.adamw(LR)], ids=["ours", "optax"])
@pytest.mark.parametrize("nonfinite", ["ignore", "skip"])
def test_a_train_state_goes_on_when_parameters_are_frozen_and_thawed(optimizer: Any, nonfinite: Any):
    twin, model = two_layers()
    theirs = torch.optim.Adam(twin.parameters(), LR, weight_decay=0.1)
    step = make_train_step(model, optimizer, classification, nonfinite=nonfinite, ema_decay=0.9)
    state = TrainState.create(model, optimizer, ema=True)
    for frozen in (True, False, True):
        twin[0].weight.requires_grad_(not frozen)
        state.params["0"]["weight"].requires_grad = not frozen
        before = np.asarray(state.params["0"]["weight"][...])
        for inputs, targets in batches(2):
            theirs.zero_grad()
            torch.nn.functional.cross_entropy(twin(torch.from_numpy(inputs)), torch.from_numpy(targets)).backward()
            theirs.step()
            state, _ = step(state, Batch(jnp.asarray(inputs), jnp.asarray(targets), jnp.ones(6)))
        assert (np.asarray(state.params["0"]["weight"][...]) == before).all() == frozen
    if isinstance(optimizer, optim.Optimizer):
        nnx.update(model, state.params)
        for name, value in twin.state_dict().items():
            assert relative_error(value.numpy(), np.asarray(model.state_dict()[name])) <= 1e-10, name


class Steep(nn.Module):
    """A network whose frozen parameter would have an infinite gradient."""

    def __init__(self, rngs: nnx.Rngs):
        self.offset = nn.Parameter(jnp.zeros(()), requires_grad=False)
        self.fc = nn.Linear(4, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc(x) + jnp.sqrt(self.offset[...])


def test_gradients_that_frozen_parameters_would_have_are_not_looked_at():
    model, optimizer = Steep(nnx.Rngs(0)).double(), optax.chain(optim.clip_grad_norm(1.0), optim.SGD(LR))
    step = make_train_step(model, optimizer, classification, nonfinite="skip")
    inputs, targets = batches(1)[0]
    state, metrics = step(TrainState.create(model, optimizer), Batch(inputs, targets, jnp.ones(6)))
    assert int(metrics["nonfinite"]) == 0
    assert int(state.step) == 1
    assert np.isfinite(state.params["fc"]["weight"][...]).all()


class Masked(nn.Module):
    """A network with parameters that no optimizer can change: integers, and a mask with infinity."""

    def __init__(self, rngs: nnx.Rngs):
        self.order = nn.Parameter(jnp.array([2, 0, 1, 3]), requires_grad=False)
        self.mask = nn.Parameter(jnp.array([-jnp.inf, 0.0]), requires_grad=False)
        self.fc = nn.Linear(4, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc(x[:, self.order[...]]) + jnp.where(self.mask[...] < 0, 1.0, self.mask[...])[None]


@pytest.mark.parametrize("optimizer", [optim.AdamW(LR), optax.adamw(LR)], ids=["ours", "optax"])
def test_fit_leaves_frozen_numbers_of_any_kind_and_saves_them(optimizer: Any, tmp_path: Any):
    model = Masked(nnx.Rngs(0)).double()
    before = {name: np.asarray(array) for name, array in model.state_dict().items()}
    inputs, targets = batches(1)[0]
    split = Split(inputs, targets)
    engine = Engine(model, optimizer, classification, StepOptions(accumulate=2, ema_decay=0.5))
    with Checkpoints(tmp_path) as checkpoints:
        fit(engine, Batches(split, 3), Batches(split), epochs=2, callbacks=[Checkpointing(checkpoints)])
        assert checkpoints.steps()
    after = model.state_dict()
    for name, array in before.items():
        assert (np.asarray(after[name]) == array).all() == (not name.startswith("fc")), name
        assert after[name].dtype == array.dtype
