"""Tests that optimizers and schedules take the same steps as torch's, and exchange their state with torch's."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from conftest import PRODUCTION
from flax import nnx

import flaxnets
import torchref
from flaxnets import nn, optim
from flaxnets.optim import lr_scheduler
from flaxnets.parity import relative_error, transfer

STEPS, LR, GATE = 20, 0.002, 1e-10

# Gradients below this size are set to zero on both sides. The gradient of a bias before a normalization is only
# rounding error, and optimizers that divide by the size of the gradient would make full steps from it.
NOISE = 1e-7


pytestmark = pytest.mark.usefixtures("in_float64")

SCHEDULES: dict[str, dict[str, Any]] = {
    "StepLR": {"step_size": 3, "gamma": 0.5},
    "MultiStepLR": {"milestones": [2, 9, 9, 14], "gamma": 0.3},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingLR": {"T_max": 8, "eta_min": 0.0001},
    "CosineAnnealingWarmRestarts": {"T_0": 3, "T_mult": 2, "eta_min": 0.0002},
    "LinearLR": {"start_factor": 0.1, "end_factor": 0.8, "total_iters": 7},
    "PolynomialLR": {"total_iters": 15, "power": 2.0},
    "OneCycleLR": {"max_lr": LR, "total_steps": STEPS},
    "LambdaLR": {"lr_lambda": lambda t: 1 / (1 + 0.1 * t)},
    "SequentialLR": {"milestones": [4]},
}
OTHER_FORMS: list[tuple[str, dict[str, Any]]] = [
    ("CosineAnnealingWarmRestarts", {"T_0": 4}),
    ("LinearLR", {}),
    ("PolynomialLR", {}),
    ("OneCycleLR", {"max_lr": 0.1, "epochs": 5, "steps_per_epoch": 10, "three_phase": True, "pct_start": 0.4}),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 50, "anneal_strategy": "linear", "div_factor": 5.0}),
]


def make_schedule(name: str, options: dict[str, Any], lr: float = LR) -> optax.Schedule:
    if name == "SequentialLR":
        warm_up = lr_scheduler.LinearLR(lr, 0.1, total_iters=4)
        return lr_scheduler.SequentialLR([warm_up, lr_scheduler.CosineAnnealingLR(lr, 16)], **options)
    first = () if name == "OneCycleLR" else (lr,)
    return getattr(lr_scheduler, name)(*first, **options)


def torch_schedule(name: str, options: dict[str, Any], optimizer: torch.optim.Optimizer) -> Any:
    known = torch.optim.lr_scheduler
    if name == "SequentialLR":
        parts = [known.LinearLR(optimizer, 0.1, total_iters=4), known.CosineAnnealingLR(optimizer, 16)]
        return known.SequentialLR(optimizer, parts, **options)
    return getattr(known, name)(optimizer, **options)


@pytest.mark.parametrize(("name", "options"), [*SCHEDULES.items(), *OTHER_FORMS])
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step()` before")
def test_schedules_have_torchs_values(name: str, options: dict[str, Any]):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], LR, momentum=0.9)
    theirs, ours = torch_schedule(name, options, optimizer), make_schedule(name, options)
    for count in range(20 if name == "OneCycleLR" and options.get("total_steps") == STEPS else 50):
        group = optimizer.param_groups[0]
        assert float(ours(count)) == pytest.approx(group["lr"], rel=1e-12, abs=1e-15)
        assert float(jax.jit(ours)(count)) == pytest.approx(group["lr"], rel=1e-12, abs=1e-15)
        if name == "OneCycleLR":
            assert float(ours.momentum(count)) == pytest.approx(group["momentum"], rel=1e-12)
        if count < 49 and not (name == "OneCycleLR" and count == theirs.total_steps - 1):
            optimizer.step()
            theirs.step()


# For each optimizer: defaults, with weight decay, and with its other options.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "SGD": [{}, {"weight_decay": 0.1}, {"momentum": 0.9, "dampening": 0.3}, {"momentum": 0.8, "nesterov": True}],
    "Adam": [{}, {"weight_decay": 0.1}, {"betas": (0.8, 0.99), "eps": 1e-3, "amsgrad": True}, {"maximize": True}],
    "AdamW": [{}, {"weight_decay": 0.2}, {"amsgrad": True, "betas": (0.5, 0.9)}],
    "Adagrad": [{}, {"weight_decay": 0.1}, {"lr_decay": 0.2, "initial_accumulator_value": 0.3, "eps": 1e-2}],
    "RMSprop": [{}, {"weight_decay": 0.1, "eps": 1e-2}, {"alpha": 0.9, "momentum": 0.3, "centered": True, "eps": 0.1}],
    "Adadelta": [{}, {"weight_decay": 0.1}, {"rho": 0.6, "eps": 1e-3}],
    "Adamax": [{}, {"weight_decay": 0.1}, {"betas": (0.5, 0.8), "eps": 1e-3}],
    "NAdam": [{}, {"weight_decay": 0.1}, {"momentum_decay": 0.1, "decoupled_weight_decay": True, "weight_decay": 0.2}],
    "RAdam": [{}, {"weight_decay": 0.1}, {"betas": (0.6, 0.7), "decoupled_weight_decay": True, "weight_decay": 0.2}],
    "ASGD": [{}, {"weight_decay": 0.1}, {"lambd": 0.1, "alpha": 0.5, "t0": 5.0}],
    "Rprop": [{}, {"etas": (0.3, 1.4), "step_sizes": (1e-4, 0.05)}],
}
OPTIMIZERS = [(name, options) for name, forms in SETTINGS.items() for options in forms]

# The options of each optimizer with which it has all its slots.
FULLEST = [(name, forms[-1] if name != "Adam" else forms[2]) for name, forms in SETTINGS.items()]


NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "lenet_batchnorm": ({}, (8, 1, 28, 28)),
    "densenet": ({"num_channels": 8, "growth_rate": 4, "num_convs_in_dense_blocks": (1, 1, 1)}, (4, 1, 32, 32)),
}


class Pair:
    """A network in both packages with the same weights, and the same batches for both."""

    def __init__(self, network: str):
        options, shape = NETWORKS[network]
        torch.manual_seed(0)
        self.twin = torchref.create_model(network, **options).double().train()
        self.model = flaxnets.create_model(network, **options).double()
        transfer(self.twin, self.model)
        rng = np.random.default_rng(0)
        self.batches = [(rng.normal(size=shape), rng.integers(0, 10, shape[0])) for _ in range(STEPS)]
        self.graphdef, self.params, self.rest = nnx.split(self.model.train(), nnx.Param, ...)

    @functools.cached_property
    def gradients(self) -> Callable[..., Any]:
        def loss(params: Any, rest: Any, images: jax.Array, targets: jax.Array) -> tuple[jax.Array, Any]:
            model = nnx.merge(self.graphdef, params, rest, copy=True)
            losses = optax.softmax_cross_entropy_with_integer_labels(model(images), targets)
            return losses.mean(), nnx.split(model, nnx.Param, ...)[2]

        def gradients(*arguments: Any) -> Any:
            value, found = jax.value_and_grad(loss, has_aux=True)(*arguments)
            return value, jax.tree.map(lambda g: jnp.where(jnp.abs(g) < NOISE, 0, g), found)

        return jax.jit(gradients, compiler_options=PRODUCTION)

    def torch_steps(self, optimizer: Any, steps: range, schedule: Any = None, twin: Any = None) -> list[float]:
        losses = []
        for images, targets in self.batches[steps.start : steps.stop]:
            optimizer.zero_grad()
            outputs = (twin or self.twin)(torch.from_numpy(images))
            loss = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(targets))
            loss.backward()
            for parameter in (twin or self.twin).parameters():
                parameter.grad[parameter.grad.abs() < NOISE] = 0
            optimizer.step()
            if schedule is not None:
                schedule.step()
            losses.append(loss.item())
        return losses

    def flax_steps(self, optimizer: Any, steps: range, params: Any, rest: Any, opt_state: Any) -> Any:
        update = jax.jit(optimizer.update)
        for images, targets in self.batches[steps.start : steps.stop]:
            (_, rest), gradients = self.gradients(params, rest, images, targets)
            updates, opt_state = update(gradients, opt_state, params)
            params = optax.apply_updates(params, updates)
        return params, rest, opt_state


@functools.cache
def pair(network: str) -> Pair:
    return Pair(network)


def fresh_twin(network: str) -> torch.nn.Module:
    twin = torchref.create_model(network, **NETWORKS[network][0]).double().train()
    twin.load_state_dict(pair(network).twin.state_dict())
    return twin


def assert_same_state(twin: torch.nn.Module, model: nnx.Module) -> None:
    for name, expected in twin.state_dict().items():
        error = relative_error(expected.numpy(), np.asarray(flaxnets.state_dict(model)[name]))
        assert error <= GATE, f"{name} is off by {error:.1e}"


def assert_same_slots(theirs: torch.optim.Optimizer, ours: optim.Optimizer, opt_state: Any, model: nnx.Module) -> None:
    expected, found = theirs.state_dict()["state"], optim.to_torch(ours, opt_state, model)["state"]
    expected = {number: {k: np.asarray(v) for k, v in own.items() if v is not None} for number, own in expected.items()}
    expected = {number: own for number, own in expected.items() if own}
    assert found.keys() == expected.keys()
    for number, slots in expected.items():
        assert found[number].keys() == slots.keys()
        for slot, value in slots.items():
            # Errors are relative to the slot's maximum over all parameters: the gradient of a scale before a
            # normalization is almost zero, and has no correct digits relative to its own size.
            scale = max(float(np.abs(own[slot]).max()) for own in expected.values())
            error = float(np.abs(value - found[number][slot].numpy()).max())
            assert error <= GATE * scale, (
                f"{slot} of parameter {number} is off by {error:.1e}, its scale is {scale:.1e}"
            )


class Table:
    """A schedule that reads its values from a table, so that one compiled update works for all schedules."""

    def __init__(self, lrs: jax.Array, momenta: jax.Array | None):
        self.lrs, self.momenta = lrs, momenta

    def __call__(self, step: Any) -> jax.Array:
        return self.lrs[step]

    @property
    def momentum(self) -> Any:
        return None if self.momenta is None else lambda step: self.momenta[step]


@functools.cache
def compiled_update(form: int) -> Callable[..., Any]:
    name, options = OPTIMIZERS[form]

    def update(gradients: Any, opt_state: Any, params: Any, *tables: Any) -> Any:
        ours = getattr(optim, name)(Table(*tables), **options)
        updates, opt_state = ours.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    return jax.jit(update)


def check_trajectory(network: str, form: int, schedule: str) -> None:
    (name, options), nets, twin = OPTIMIZERS[form], pair(network), fresh_twin(network)
    theirs, how = getattr(torch.optim, name)(twin.parameters(), **{"lr": LR, **options}), SCHEDULES.get(schedule, {})
    moves_momentum = schedule == "OneCycleLR" and bool({"momentum", "betas"} & theirs.defaults.keys())
    if schedule == "OneCycleLR" and not moves_momentum:
        how = {**how, "cycle_momentum": False}
    lr = LR if schedule == "constant" else make_schedule(schedule, how)
    torchs = None if schedule == "constant" else torch_schedule(schedule, how, theirs)
    if isinstance(torchs, torch.optim.lr_scheduler.OneCycleLR):
        torchs.total_steps += 1  # torch makes one more scheduler step at the end than there are learning rates
    losses = nets.torch_steps(theirs, range(STEPS), torchs, twin)

    ours = getattr(optim, name)(lr, **options)
    lrs = jnp.array([lr(step) if callable(lr) else lr for step in range(STEPS)])
    momenta = jnp.array([lr.momentum(step) for step in range(STEPS)]) if moves_momentum else None
    params, rest, opt_state = nets.params, nets.rest, ours.init(nets.params)
    for (images, targets), expected in zip(nets.batches, losses, strict=True):
        (loss, rest), gradients = nets.gradients(params, rest, images, targets)
        params, opt_state = compiled_update(form)(gradients, opt_state, params, lrs, momenta)
        assert float(loss) == pytest.approx(expected, rel=GATE)
    model = nnx.merge(nets.graphdef, params, rest)
    assert_same_state(twin, model)
    assert_same_slots(theirs, ours, opt_state, model)


# A schedule returns the same values for every network, so one network tests all schedules.
PAIRS = [("densenet", "constant"), *(("lenet_batchnorm", schedule) for schedule in ["constant", *SCHEDULES])]


@pytest.mark.parametrize(("network", "schedule"), PAIRS)
@pytest.mark.parametrize("form", range(len(OPTIMIZERS)), ids=lambda form: "-".join(map(str, OPTIMIZERS[form])))
def test_twenty_steps_are_torchs(network: str, form: int, schedule: str):
    check_trajectory(network, form, schedule)


GROUPS: dict[str, dict[str, Any]] = {"*bias": {"weight_decay": 0.0, "lr": 0.05}, "9.*": {"weight_decay": 0.3}}


def torch_groups(twin: torch.nn.Module, name: str) -> list[dict[str, Any]]:
    decay = {} if name == "Rprop" else {"weight_decay": 0.1}
    groups: list[dict[str, Any]] = [{"params": [], **decay}, {"params": [], "lr": 0.05}, {"params": [], **decay}]
    if decay:
        groups[1]["weight_decay"], groups[2]["weight_decay"] = 0.0, 0.3
    for parameter, value in twin.named_parameters():
        groups[1 if parameter.endswith("bias") else 2 if parameter.startswith("9.") else 0]["params"].append(value)
    return groups


def our_groups(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    if name == "Rprop":
        return {}, {"*bias": {"lr": 0.05}, "9.*": {}}
    return {"weight_decay": 0.1}, GROUPS


@pytest.mark.parametrize(("name", "options"), FULLEST)
@pytest.mark.parametrize("direction", ["torch first", "flax first"])
def test_a_run_moves_over_in_its_middle(name: str, options: dict[str, Any], direction: str):
    options = {key: value for key, value in options.items() if key != "weight_decay"}
    nets, half = pair("lenet_batchnorm"), STEPS // 2
    decay, groups = our_groups(name)
    ours = getattr(optim, name)(LR, **options, **decay, groups=groups)

    def torchs(twin: torch.nn.Module) -> torch.optim.Optimizer:
        return getattr(torch.optim, name)(torch_groups(twin, name), **{"lr": LR, **options})

    unbroken = fresh_twin("lenet_batchnorm")
    reference = torchs(unbroken)
    nets.torch_steps(reference, range(STEPS), twin=unbroken)

    twin = fresh_twin("lenet_batchnorm")
    theirs, model = torchs(twin), flaxnets.create_model("lenet_batchnorm").double().train()
    if direction == "torch first":
        nets.torch_steps(theirs, range(half), twin=twin)
        transfer(twin, model)
        opt_state = optim.from_torch(ours, theirs.state_dict(), model, step=half)
        _, params, rest = nnx.split(model, nnx.Param, ...)
        params, rest, opt_state = nets.flax_steps(ours, range(half, STEPS), params, rest, opt_state)
        nnx.update(model, params, rest)
        assert_same_state(unbroken, model)
        assert_same_slots(reference, ours, opt_state, model)
    else:
        opt_state = ours.init(nets.params)
        params, rest, opt_state = nets.flax_steps(ours, range(half), nets.params, nets.rest, opt_state)
        nnx.update(model, params, rest)
        twin.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in model.state_dict().items()})
        theirs.load_state_dict(optim.to_torch(ours, opt_state, model))
        nets.torch_steps(theirs, range(half, STEPS), twin=twin)
        for key, expected in unbroken.state_dict().items():
            assert relative_error(expected.numpy(), twin.state_dict()[key].numpy()) <= GATE, key


REJECTED = [
    ("SGD", {"lr": -1.0}, "lr must be at least 0 .*got -1.0"),
    ("SGD", {"momentum": -0.5}, "momentum .*got -0.5"),
    ("SGD", {"weight_decay": -0.1}, "weight_decay .*got -0.1"),
    ("SGD", {"nesterov": True}, "nesterov requires a momentum"),
    ("Adam", {"betas": (1.0, 0.9)}, r"betas .*got \(1.0, 0.9\)"),
    ("Adam", {"eps": -1e-8}, "eps .*got -1e-08"),
    ("Adagrad", {"lr_decay": -1.0}, "lr_decay .*got -1.0"),
    ("Adagrad", {"initial_accumulator_value": -1.0}, "initial_accumulator_value .*got -1.0"),
    ("RMSprop", {"alpha": -1.0}, "alpha .*got -1.0"),
    ("Adadelta", {"rho": 1.5}, "rho .*got 1.5"),
    ("NAdam", {"momentum_decay": -1.0}, "momentum_decay .*got -1.0"),
    ("Rprop", {"etas": (1.5, 1.2)}, r"etas .*got \(1.5, 1.2\)"),
]


@pytest.mark.parametrize(("name", "options", "message"), REJECTED)
def test_settings_that_torch_rejects_are_rejected(name: str, options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=r"\w"):
        getattr(torch.optim, name)([torch.nn.Parameter(torch.ones(1))], **options)
    with pytest.raises(ValueError, match=message):
        getattr(optim, name)(**options)


def test_a_group_rejects_what_the_optimizer_does_not_have():
    with pytest.raises(ValueError, match=r"SGD, group '\*bias': unknown setting 'decay'; known: lr, momentum"):
        optim.SGD(groups={"*bias": {"decay": 0.0}})


UNMATCHED = [
    ("nosuch*", r"group 'nosuch\*': matches none of the 4 parameters.*for example '0\.bias', '0\.weight', '2\.bias'"),
    ("0.wieght", r"group '0\.wieght': matches none.*for example '0\.weight'"),
    ("*.weigth", r"group '\*\.weigth': matches none.*for example '0\.weight'"),
    ("weight", r"group 'weight': matches none.*for example '0\.weight'"),
    ("2.*.weight", r"group '2\.\*\.weight': matches none.*for example '2\.weight'"),
    (lambda name: name == "head.weight", r"group .*<lambda>: matches none of the 4 parameters"),
]


@pytest.mark.parametrize(("pattern", "message"), UNMATCHED)
@pytest.mark.parametrize("others", [{}, {"*bias": {"lr": 0.1}}], ids=["alone", "after another"])
def test_a_group_that_matches_nothing_is_refused(pattern: Any, message: str, others: dict[str, Any]):
    model = nn.Sequential(nn.Linear(3, 2, rngs=nnx.Rngs(0)), nn.ReLU(), nn.Linear(2, 1, rngs=nnx.Rngs(0)))
    params = nnx.state(model, nnx.Param)
    optimizer = optim.AdamW(groups={**others, pattern: {"weight_decay": 0.0}})
    for init in (optimizer.init, optax.chain(optim.clip_grad_norm(1.0), optimizer).init):
        with pytest.raises(ValueError, match=f"AdamW, {message}"):
            init(params)


# The learning rates of the weight and the bias. The first group that matches is used.
FIRST_MATCH = [
    ({"*weight": 0.1, "weight": 0.2}, (0.1, 0.0)),
    ({"weight": 0.2, "*weight": 0.1}, (0.2, 0.0)),
    ({"w*": 0.1, "*": 0.2}, (0.1, 0.2)),
    ({"*": 0.2, "w*": 0.1}, (0.2, 0.2)),
    ({str.isalpha: 0.3, "bias": 0.1}, (0.3, 0.3)),
    ({"bias": 0.1, str.isalpha: 0.3}, (0.3, 0.1)),
]


@pytest.mark.parametrize(("lrs", "expected"), FIRST_MATCH)
def test_the_first_group_that_matches_counts(lrs: dict[Any, float], expected: tuple[float, float]):
    params = {"weight": jnp.ones(2), "bias": jnp.ones(2)}
    optimizer = optim.SGD(0.0, groups={pattern: {"lr": lr} for pattern, lr in lrs.items()})
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert (-float(updates["weight"][0]), -float(updates["bias"][0])) == expected


def test_groups_name_parameters_in_lists_too():
    params = [{"weight": jnp.ones(1)}, jnp.ones(1)]
    optimizer = optim.SGD(0.0, groups={"0.weight": {"lr": 0.1}, "1": {"lr": 0.2}})
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert [-float(leaf[0]) for leaf in jax.tree.leaves(updates)] == [0.1, 0.2]


def test_states_that_do_not_fit_are_refused():
    model = flaxnets.create_model("mlp")
    twin = torchref.create_model("mlp")
    saved = torch.optim.SGD(twin.parameters()).state_dict()
    with pytest.raises(ValueError, match=r"groups of \[4\] parameters, the model of \[2, 2\]"):
        optim.from_torch(optim.SGD(groups={"*bias": {}}), saved, model)
    theirs = torch.optim.SGD(twin.parameters(), momentum=0.9)
    twin.double()(torch.ones(1, 784)).sum().backward()
    theirs.step()
    with pytest.raises(ValueError, match="does not count the steps here, got step=None"):
        optim.from_torch(optim.SGD(momentum=0.9), theirs.state_dict(), model)
    with pytest.raises(ValueError, match=r"SGD has no slots \['momentum_buffer'\] with these settings"):
        optim.from_torch(optim.SGD(), theirs.state_dict(), model, step=1)


def test_shared_parameters_are_one_to_the_optimizer_and_to_torch():
    model, twin = flaxnets.create_model("shared_mlp").double(), torchref.create_model("shared_mlp").double()
    transfer(twin, model)
    theirs, ours = torch.optim.Adam(twin.parameters()), optim.Adam()
    for _ in range(3):
        theirs.zero_grad()
        twin(torch.ones(2, 4)).sum().backward()
        theirs.step()
    opt_state = optim.from_torch(ours, theirs.state_dict(), model)
    assert_same_slots(theirs, ours, opt_state, model)


def test_optimizers_are_optax_transformations():
    params = {"weight": jnp.ones(3)}
    chained = optax.chain(optax.clip_by_global_norm(1.0), optim.Adam(1e-3))
    opt_state = chained.init(params)
    updates, _ = jax.jit(chained.update)(params, opt_state, params)
    assert updates["weight"].shape == (3,)
    with pytest.raises(ValueError, match="requires the parameters, got None"):
        optim.Adam().update(params, optim.Adam().init(params))
