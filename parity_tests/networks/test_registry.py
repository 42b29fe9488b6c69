"""Tests of the registries: networks, optimizers and schedules by name."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flaxnets
from flaxnets import nn, optim
from flaxnets.cli.help import format_help
from flaxnets.cli.train_options import Options, parse_options
from flaxnets.data import DATASETS, Dataset, Split, load, map_path, register_dataset, task_of
from flaxnets.optim import register_optimizer
from flaxnets.registry import Recipe, register
from flaxnets.training import (
    OPTIMIZERS,
    SCHEDULES,
    learning_rate,
    make_optimizer,
    make_schedule,
    register_schedule,
)


def test_models_are_listed_by_pattern():
    assert "densenet" in flaxnets.list_models()
    assert flaxnets.list_models("res*") == ["resnet18"]
    assert flaxnets.list_models("nothing*") == []


@pytest.mark.parametrize(
    ("name", "near"), [("densnet", "densenet"), ("resnet-18", "resnet18"), ("LeNet", "lenet"), ("mpl", "mlp")]
)
def test_a_mistyped_name_suggests_the_near_ones(name, near):
    with pytest.raises(ValueError, match=f"unknown network '{name}'; did you mean .*'{near}'"):
        flaxnets.create_model(name)


def test_a_name_like_none_lists_all():
    with pytest.raises(ValueError, match=r"known: .*densenet"):
        flaxnets.create_model("zzzzzz")


def test_a_name_registered_twice_raises():
    with pytest.raises(ValueError, match=r"'mlp' is already registered by flaxnets\.models\.mlp\.mlp"):

        @register(input_shape=(1,))
        def mlp(*, rngs):
            return nn.Flatten()


def test_an_unknown_option_suggests_the_near_ones():
    with pytest.raises(TypeError, match="resnet18 has no option 'num_class'; did you mean 'num_classes'"):
        flaxnets.create_model("resnet18", num_class=3)


@pytest.mark.parametrize(
    ("name", "options"),
    [("lenet", {"num_classes": 0}), ("mlp", {"num_hiddens": -3}), ("resnet18", {"num_channels": (4, 0, 4, 4)})],
)
def test_a_size_that_is_not_positive_raises_with_its_value(name, options):
    (option,) = options
    with pytest.raises(ValueError, match=rf"{name}: {option}=.* must be positive"):
        flaxnets.create_model(name, **options)


def test_a_mistyped_field_of_a_recipe_is_an_error_where_the_network_is_registered():
    with pytest.raises(TypeError, match="unexpected keyword argument 'epoch'"):
        Recipe(epoch=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'epochs'"):
        register(input_shape=(1,), epochs=3)  # type: ignore[call-arg]


def test_users_add_optimizers_and_schedules_by_name():
    @register_optimizer(decay=0.5)
    def Halving(lr, decay):
        return optax.chain(optax.scale(decay), optax.scale_by_learning_rate(lr))

    @register_schedule("doubling")
    def doubling(lr, total_steps):
        return lambda step: lr * 2.0**step

    optimizer = make_optimizer("halving", 0.1, 10, schedule="doubling", clip_norm=1.0)
    updates, _ = optimizer.update({"w": jnp.array([4.0])}, optimizer.init({"w": jnp.ones(1)}), {"w": jnp.ones(1)})
    np.testing.assert_allclose(updates["w"], [-0.05], rtol=1e-6)
    assert learning_rate(optimizer, 3) == pytest.approx(0.8)
    options = parse_options(["--optimizer", "halving", "--schedule", "doubling"], "train.py")
    assert (options.optimizer, options.schedule) == ("halving", "doubling")
    assert "adamw,asgd,halving,nadam" in format_help(Options, "train.py", columns=200)
    with pytest.raises(ValueError, match=r"'sgd' is already registered by flaxnets\.optim\.sgd\.SGD"):
        register_optimizer("sgd")(Halving)
    OPTIMIZERS.remove("halving")
    SCHEDULES.remove("doubling")
    with pytest.raises(ValueError, match="unknown optimizer 'halving'; known: adadelta"):
        OPTIMIZERS.remove("halving")


def test_users_add_datasets_by_name_and_with_a_path(tmp_path):
    @register_dataset("numbers:FILE", task="regression")
    def numbers(options):
        values = np.loadtxt(options.path, np.float32)
        part = Split(values[:, None], 2 * values[:, None])
        return Dataset(options.name, "regression", part, part, {"n_features": 1})

    @register_dataset("mistaken", task="language")
    def mistaken(options):
        return load("line")

    np.savetxt(tmp_path / "values.txt", [1.0, 2.0])
    data = load(f"numbers:{tmp_path}/values.txt")
    np.testing.assert_array_equal(data.train.targets, [[2.0], [4.0]])
    assert task_of("numbers:anything") == "regression"
    assert "numbers:FILE" in format_help(Options, "train.py")
    assert parse_options(["--dataset", "numbers:~/x"], "train.py").dataset == f"numbers:{Path.home()}/x"
    assert map_path("numbers:x", str.upper) == "numbers:X"
    with pytest.raises(ValueError, match="unknown dataset 'nubmers:x'; did you mean 'numbers:FILE'"):
        load("nubmers:x")
    with pytest.raises(ValueError, match="mistaken was registered for language, but its loader returned regression"):
        load("mistaken")
    with pytest.raises(ValueError, match="unknown task 'regresion'; did you mean 'regression'"):
        register_dataset("other", task="regresion")
    for name in ("numbers:FILE", "mistaken"):
        DATASETS.remove(name)


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("name", [*OPTIMIZERS])
def test_the_learning_rate_is_read_from_the_optimizer(name, clip_norm):
    schedule = make_schedule("linear", 0.1, 20, warmup_steps=5)
    optimizer = make_optimizer(name, 0.1, 20, schedule="linear", warmup_steps=5, clip_norm=clip_norm)
    for step in (0, 3, 19):
        assert learning_rate(optimizer, step) == schedule(step)


def test_a_chain_has_the_updates_and_the_state_of_optax():
    params, gradients = {"w": jnp.ones(3)}, {"w": jnp.arange(3.0)}
    ours, theirs = (make(optim.clip_grad_norm(0.5), optim.Adam(0.1)) for make in (optim.chain, optax.chain))
    states = ours.init(params), theirs.init(params)
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
    updates = ours.update(gradients, states[0], params), theirs.update(gradients, states[1], params)
    jax.tree.map(np.testing.assert_array_equal, *updates)
    assert learning_rate(ours, 7) == 0.1
    assert learning_rate(theirs, 7) is None
