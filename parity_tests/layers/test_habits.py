"""Tests of the first things that torch users type: they work, or the error says what to write instead."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

import flaxnets
from flaxnets import nn, optim
from flaxnets.optim import lr_scheduler
from flaxnets.training import OPTIMIZERS

NAMES = [name for name in vars(optim) if name[0].isupper() and name.lower() in OPTIMIZERS]

# All types of parameters that torch's optimizers accept, and similar objects.
PARAMETERS: dict[str, Callable[[Any], Any]] = {
    "generator": lambda model: model.parameters(),
    "list": lambda model: list(model.parameters()),
    "tuple": lambda model: tuple(model.parameters()),
    "filter": lambda model: filter(lambda p: p.ndim > 1, model.parameters()),
    "generator of pairs": lambda model: model.named_parameters(),
    "groups": lambda model: [{"params": [model.weight]}, {"params": [model.bias], "lr": 0.5}],
    "model": lambda model: model,
    "parameter": lambda model: model.weight,
    "state": lambda model: nnx.state(model, nnx.Param),
    "state dict": lambda model: model.state_dict(),
    "method": lambda model: model.parameters,
    "torch's": lambda model: torch.nn.Linear(2, 1).parameters(),
}


@pytest.fixture(scope="module")
def model() -> nn.Linear:
    return nn.Linear(3, 2, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", PARAMETERS)
def test_optimizer_given_parameters_says_what_to_write(name: str, form: str, model: nn.Linear):
    parameters, make = PARAMETERS[form](model), getattr(optim, name)
    kind = type(parameters).__name__
    for arguments, options, line in (
        ((parameters,), {"lr": 0.25}, "lr=0.25"),
        ((parameters, 0.25), {"foreach": True, "maximize": True}, "0.25, maximize=True"),
        ((), {"params": parameters, "lr": 0.25, "fused": True}, "lr=0.25"),
        ((0.25,), {"params": parameters}, "0.25"),
    ):
        with pytest.raises(TypeError) as error:
            make(*arguments, **options)
        message = str(error.value)
        assert f"{name}: an optimizer has no parameters, got {kind}. Expected the learning rate first" in message
        assert f"optimizer = optim.{name}({line}); opt_state = optimizer.init(nnx.state(model, nnx.Param))" in message
        assert ("groups={" in message) == (form == "groups")


def test_the_line_to_write_works(model: nn.Linear):
    with pytest.raises(TypeError) as error:
        optim.AdamW(model.parameters(), lr=0.1, betas=(0.9, 0.99), weight_decay=0.01)
    lines = str(error.value).split("Fix: ")[1]
    scope = {"optim": optim, "nnx": nnx, "model": model}
    exec(lines.replace("; ", "\n"), scope)
    assert scope["optimizer"].settings["betas"] == (0.9, 0.99)
    assert int(scope["opt_state"].step) == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("zero_grad", "remove the line"),
        ("step", r"updates, opt_state = optimizer\.update\(gradients, opt_state, params\)"),
        ("param_groups", r"optimizer\.settings and optimizer\.groups"),
        ("add_param_group", "groups="),
        ("state", r"optimizer\.init"),
        ("state_dict", r"to_torch\(optimizer, opt_state, model\)"),
        ("load_state_dict", r"from_torch\(optimizer, state_dict, model\)"),
        ("defaults", r"optimizer\.settings"),
    ],
)
def test_what_torchs_optimizers_have_says_what_to_write(name: str, attribute: str, message: str):
    assert hasattr(torch.optim.SGD([torch.ones(1)]), attribute)
    with pytest.raises(AttributeError, match=f"{name} has no {attribute}: .*{message}"):
        getattr(getattr(optim, name)(), attribute)


def test_other_attributes_are_ordinary_errors():
    with pytest.raises(AttributeError, match="'Optimizer' object has no attribute 'stepp'"):
        optim.SGD().stepp  # noqa: B018
    with pytest.raises(AttributeError, match="'Schedule' object has no attribute 'stepp'"):
        lr_scheduler.StepLR(0.1, 3).stepp  # noqa: B018


SCHEDULES: dict[str, dict[str, Any]] = {
    "StepLR": {"step_size": 30},
    "MultiStepLR": {"milestones": [2, 9]},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingLR": {"T_max": 8},
    "CosineAnnealingWarmRestarts": {"T_0": 3},
    "LinearLR": {"total_iters": 7},
    "PolynomialLR": {"total_iters": 15},
    "OneCycleLR": {"max_lr": 0.25, "total_steps": 9},
    "LambdaLR": {"lr_lambda": len},
    "SequentialLR": {"schedulers": [abs, abs], "milestones": [4]},
}


def test_every_schedule_is_in_the_table():
    public = {name for name, value in vars(lr_scheduler).items() if name[0].isupper() and name.endswith(("LR", "ts"))}
    assert public == SCHEDULES.keys()


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_given_an_optimizer_says_what_to_write(name: str):
    make, options = getattr(lr_scheduler, name), SCHEDULES[name]
    shown = [f"{key}={value!r}" for key, value in options.items()]
    lr = [] if name in ("OneCycleLR", "SequentialLR") else ["0.25"]
    for optimizer, kind, ours in (
        (optim.AdamW(0.25), "Optimizer", True),
        (optax.adam(0.25), "GradientTransformationExtraArgs", False),
        (torch.optim.SGD([torch.ones(1)]), "SGD", False),
    ):
        lr = ["0.25" if ours else "0.1"] if lr else []
        line = (
            f"lr_scheduler.{name}({', '.join([*lr, *shown])}); optimizer = optim.{'AdamW' if ours else 'SGD'}(schedule)"
        )
        positional = f"lr_scheduler.{name}({', '.join([*lr, *map(repr, options.values())])});"
        for arguments, given, expected in (
            ((optimizer,), options, line),
            ((), {"optimizer": optimizer, **options}, line),
            ((optimizer, *options.values()), {}, positional),
        ):
            with pytest.raises(TypeError) as error:
                make(*arguments, **given)
            message = str(error.value)
            assert f"{name}: a schedule has no optimizer, got {kind}. Expected the learning rate first." in message
            assert f"Fix: schedule = {expected}" in message


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("step", r"the optimizer counts the steps.*optim\.SGD\(schedule\)"),
        ("get_last_lr", r"schedule\(step\)"),
        ("state_dict", "save opt_state"),
        ("last_epoch", r"opt_state\.step"),
    ],
)
def test_what_torchs_schedulers_have_says_what_to_write(name: str, attribute: str, message: str):
    schedule = getattr(lr_scheduler, name)(
        *([] if name in ("OneCycleLR", "SequentialLR") else [0.1]), **SCHEDULES[name]
    )
    with pytest.raises(AttributeError, match=f"{name} has no {attribute}: .*{message}"):
        getattr(schedule, attribute)


NO_NUMBERS = {"str": "0.1", "None": None, "list": [0.1], "function": len, "complex": 1j}
NUMBERS = {
    "SGD": ("momentum", "dampening", "weight_decay"), "ASGD": ("lambd", "alpha", "t0", "weight_decay"),
    "Adam": ("eps", "weight_decay"), "Adagrad": ("lr_decay", "initial_accumulator_value", "eps"),
    "RMSprop": ("alpha", "eps", "momentum", "weight_decay"), "Adadelta": ("rho", "eps"), "NAdam": ("momentum_decay",),
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_NUMBERS)
@pytest.mark.parametrize(("name", "argument"), [(name, each) for name, all_ in NUMBERS.items() for each in all_])
def test_settings_that_are_no_numbers_are_type_errors(name: str, argument: str, kind: str):
    value = NO_NUMBERS[kind]
    message = rf"{name}: {argument} must be a number, got "
    with pytest.raises(TypeError, match=message):
        getattr(optim, name)(**{argument: value})
    with pytest.raises(TypeError, match=rf"{name}, group '\*': {argument} must be a number, got "):
        getattr(optim, name)(groups={"*": {argument: value}})


@pytest.mark.parametrize("kind", ["str", "None", "complex"])
@pytest.mark.parametrize("name", NAMES)
def test_learning_rates_that_are_no_numbers_are_torchs_type_errors(name: str, kind: str):
    with pytest.raises(TypeError, match=r"\w"):
        getattr(torch.optim, name)([torch.nn.Parameter(torch.ones(1))], lr=NO_NUMBERS[kind])
    with pytest.raises(TypeError, match=f"{name}: lr must be a number, got"):
        getattr(optim, name)(NO_NUMBERS[kind])


@pytest.mark.parametrize("betas", [0.9, "ab", None, (0.9,), (0.9, 0.99, 0.999), (0.9, "0.99")])
def test_pairs_that_are_none_are_type_errors(betas: Any):
    with pytest.raises(TypeError, match=r"Adam: betas must be (two numbers|a number), got"):
        optim.Adam(betas=betas)


def test_arrays_of_one_element_are_numbers():
    for value in (np.float32(0.25), np.array(0.25), np.array([0.25]), jnp.array(0.25), jnp.array([[0.25]])):
        params = {"weight": jnp.ones(3)}
        optimizer = optim.SGD(value)
        updates, _ = optimizer.update(params, optimizer.init(params), params)
        assert updates["weight"].tolist() == [-0.25] * 3
    assert optim.SGD(torch.tensor([0.25])).settings["lr"] == 0.25
    assert optim.Adam(betas=[0.5, 0.75]).settings["betas"] == (0.5, 0.75)
    for value in (np.ones(2), jnp.ones(2), torch.ones(2)):
        with pytest.raises(ValueError, match=r"SGD: lr must be one number, got an array of shape \(2,\)"):
            optim.SGD(value)


def test_hyperparameters_can_be_injected():
    params = {"weight": jnp.ones(3)}
    injected = optax.inject_hyperparams(optim.SGD)(lr=0.5, weight_decay=1.0)
    opt_state = injected.init(params)
    opt_state.hyperparams["lr"] = jnp.asarray(0.25)
    updates, _ = jax.jit(injected.update)(params, opt_state, params)
    assert updates["weight"].tolist() == [-0.5] * 3


@pytest.mark.parametrize("value", ["3", None, [3], np.ones(2), jnp.ones(2)], ids=str)
@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("StepLR", "lr"), ("StepLR", "step_size"), ("StepLR", "gamma"), ("ExponentialLR", "gamma"),
        ("CosineAnnealingLR", "T_max"), ("CosineAnnealingLR", "eta_min"), ("CosineAnnealingWarmRestarts", "T_0"),
        ("LinearLR", "start_factor"), ("PolynomialLR", "power"), ("OneCycleLR", "max_lr"), ("OneCycleLR", "pct_start"),
    ],
)  # fmt: skip
def test_arguments_of_schedules_that_are_no_numbers_are_refused(name: str, argument: str, value: Any):
    options = {**({} if name == "OneCycleLR" else {"lr": 0.1}), **SCHEDULES[name], argument: value}
    error = ValueError if hasattr(value, "shape") else TypeError
    with pytest.raises(error, match=f"{name}: {argument} must be (a|one) number, got"):
        getattr(lr_scheduler, name)(**options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lr_scheduler.MultiStepLR(0.1, 30), "milestones must be several ints, got 30"),
        (lambda: lr_scheduler.MultiStepLR(0.1, "30"), "milestones must be several ints, got '30'"),
        (lambda: lr_scheduler.MultiStepLR(0.1, ["3"]), "milestones must be a number, got '3'"),
        (lambda: lr_scheduler.LambdaLR(0.1, 0.5), "lr_lambda must be a function .* got 0.5"),
        (lambda: lr_scheduler.SequentialLR([0.1], []), "schedulers must be schedules, got 0.1"),
        (lambda: optim.SGD(groups=[{"lr": 0.1}]), r"groups must map patterns to settings.*got \[\{'lr': 0.1\}\]"),
        (lambda: optim.SGD(groups={"*": 0.1}), r"groups must map patterns to settings.*got \{'\*': 0.1\}"),
    ],
)
def test_other_arguments_of_the_wrong_type_are_type_errors(make: Callable[[], Any], message: str):
    with pytest.raises(TypeError, match=message):
        make()


LAZY = """
import sys, time
import flaxnets
loaded = {name for name in sys.modules if name.startswith("flaxnets.")}
assert not any(name.startswith(("flaxnets.training", "flaxnets.cli", "flaxnets.parity")) for name in loaded), loaded
assert "torch" not in sys.modules
for name in ("optim", "training", "data", "weights", "kernels", "registry", "cache", "cli", "parity"):
    assert name in dir(flaxnets)
assert "torch" not in sys.modules
assert flaxnets.optim.SGD(0.1).name == "SGD"
assert flaxnets.optim.lr_scheduler.StepLR(0.1, 3)(0)
assert flaxnets.nn.functional.relu and flaxnets.nn.utils and flaxnets.nn.init
assert flaxnets.training.fit and flaxnets.data.load and flaxnets.weights and flaxnets.kernels and flaxnets.cli
assert "torch" not in sys.modules
assert flaxnets.parity.assert_parity
assert callable(flaxnets.summary) and callable(flaxnets.autocast)
print("lazy")
"""


def test_submodules_are_attributes_and_are_imported_when_they_are_read():
    done = subprocess.run([sys.executable, "-c", LAZY], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "lazy\n", done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("optm", "has no attribute 'optm'; did you mean 'optim'"),
        ("create_modle", "did you mean 'create_model'"),
        ("xyz", "has no attribute 'xyz'; known: PortError, autocast, "),
        ("_private", "has no attribute '_private'"),
    ],
)
def test_unknown_attributes_of_the_package_name_near_ones(name: str, message: str):
    with pytest.raises(AttributeError, match=message):
        getattr(flaxnets, name)


@pytest.mark.parametrize("name", sorted(name for name in vars(torch.nn.init) if name[0] != "_" and name[-1] == "_"))
def test_initialisers_in_place_say_what_to_write(name: str):
    with pytest.raises(AttributeError, match=rf"init\.{name}: .*set_value\(init\.{name[:-1]}\(key, weight\.shape"):
        getattr(nn.init, name)


@pytest.mark.parametrize(
    "owner",
    [nn.Parameter(), nn.Parameter(requires_grad=False), nn.Buffer(), nn.BatchNorm1d(1).running_var],
    ids=["parameter", "frozen", "buffer", "statistic"],
)
@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("copy_", r"set_value\(array\)"),
        ("fill_", r"set_value\(array\)"),
        ("grad", r"nnx\.grad\(loss_function\)"),
        ("detach", "stop_gradient"),
        ("numpy", r"np\.asarray"),
    ],
)
def test_methods_of_tensors_say_what_to_write(owner: nnx.Variable, name: str, fix: str):
    with pytest.raises(AttributeError, match=rf"{type(owner).__name__}\.{name}: .* Fix: .*{fix}"):
        getattr(owner, name)
    assert not hasattr(owner, "no_attribute")


@pytest.mark.parametrize(("name", "message"), [("Adma", "did you mean 'Adam"), ("LBFGS", "known: .*SGD")])
def test_unknown_optimizers_name_those_that_exist(name: str, message: str):
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'; {message}"):
        getattr(optim, name)
