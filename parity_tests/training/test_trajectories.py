"""Tests that whole training steps agree with torch: updates, buffers, dropout, and options of the engine."""

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from cases import NETWORKS, Network
from conftest import PRODUCTION
from flax import nnx

import flaxnets
import torchref
from flaxnets import nn, optim, training
from flaxnets.parity import randomize, relative_error, shared_masks, transfer
from flaxnets.registry import get_entry
from flaxnets.training import Batch, TrainState, checkpoint, classification, make_train_step

IMAGE_NETWORKS = [case for case in NETWORKS if get_entry(case.name).task == "classification"]


def torch_step(
    twin: torch.nn.Module, optimizer: torch.optim.Optimizer, images: Any, targets: Any, **options: Any
) -> float:
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(twin(torch.tensor(images)), torch.tensor(targets), **options)
    loss.backward()
    optimizer.step()
    return loss.item()


def batch(images: Any, targets: Any) -> Batch:
    return Batch(jnp.asarray(images), jnp.asarray(targets), jnp.ones(len(targets), images.dtype))


def assert_same(twin: torch.nn.Module, model: Any, gate: float) -> None:
    found = flaxnets.state_dict(model)
    errors = {name: relative_error(a.numpy(), np.asarray(found[name])) for name, a in twin.state_dict().items()}
    assert {name: error for name, error in errors.items() if not error <= gate} == {}


@pytest.mark.parametrize("case", IMAGE_NETWORKS, ids=str)
def test_three_steps_of_every_image_network_are_torchs(case: Network, rng: np.random.Generator):
    with jax.enable_x64(True):
        twin, model = case.pair()
        twin, model = twin.double().train(), model.double().train()
        randomize(twin, rng)
        transfer(twin, model)
        (images,) = case.inputs(rng)
        targets = rng.integers(0, 10, len(images))
        theirs = torch.optim.SGD(twin.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
        ours = optim.SGD(lr=0.01, momentum=0.9, weight_decay=1e-3)
        step, state = make_train_step(model, ours, classification), TrainState.create(model, ours)
        for _ in range(3):
            state.update_model(model)
            with shared_masks(twin, model):  # the masks that the next step of the Flax network draws
                loss = torch_step(twin, theirs, images, targets)
            state, metrics = step(state, batch(images, targets))
            assert float(metrics["loss"] / metrics["count"]) == pytest.approx(loss, rel=1e-12)
        state.update_model(model)
        assert_same(twin, model, 1e-10)


def test_two_hundred_float32_steps_track_torchs_loss(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training.step, "_COMPILER_OPTIONS", {"cpu": PRODUCTION})
    twin, model = torchref.create_model("lenet_batchnorm").train(), flaxnets.create_model("lenet_batchnorm").train()
    transfer(twin, model)
    theirs, ours = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9), optim.SGD(lr=0.05, momentum=0.9)
    step, state = make_train_step(model, ours, classification), TrainState.create(model, ours)
    centres = rng.normal(size=(10, 1, 28, 28))
    for _ in range(200):
        targets = rng.integers(0, 10, 32)
        images = (centres[targets] + rng.normal(0, 2, (32, 1, 28, 28))).astype(np.float32)
        loss = torch_step(twin, theirs, images, targets)
        state, metrics = step(state, batch(images, targets))
        assert float(metrics["loss"] / 32) == pytest.approx(loss, abs=1e-3)


class Mlp:
    """Two equal small networks in float64, in torch and flaxnets, and batches for them."""

    def __init__(self, rng: np.random.Generator):
        self.twin = torchref.create_model("mlp").double().train()
        self.model = flaxnets.create_model("mlp").double().train()
        transfer(self.twin, self.model)
        self.batches = [(rng.normal(size=(4, 1, 28, 28)), rng.integers(0, 10, 4)) for _ in range(6)]

    def run(self, optimizer: Any, **options: Any) -> tuple[TrainState, list[dict[str, Any]]]:
        create = {"accumulate": options.get("accumulate", 1), "ema": "ema_decay" in options}
        objective, traced = options.pop("objective", classification), []

        def counted(*arguments: Any) -> Any:
            traced.append(1)
            return objective(*arguments)

        step = make_train_step(self.model, optimizer, counted, **options)
        state, seen = TrainState.create(self.model, optimizer, **create), []
        for images, targets in self.batches:
            state, metrics = step(state, batch(images, targets))
            seen.append(metrics)
        assert len(traced) == 1  # one trace, so the step is compiled once
        return state, seen


@pytest.fixture
def mlp(rng: np.random.Generator):
    with jax.enable_x64(True):
        yield Mlp(rng)


def test_accumulated_gradients_make_the_updates_that_torchs_make(mlp: Mlp):
    theirs = torch.optim.Adam(mlp.twin.parameters())
    for i, (images, targets) in enumerate(mlp.batches):
        loss = torch.nn.functional.cross_entropy(mlp.twin(torch.tensor(images)), torch.tensor(targets))
        (loss / 3).backward()
        if i % 3 == 2:
            theirs.step()
            theirs.zero_grad()
    state, _ = mlp.run(optim.Adam(), accumulate=3)
    assert (int(state.step), int(state.position)) == (2, 6)
    state.update_model(mlp.model)
    assert_same(mlp.twin, mlp.model, 1e-10)


def test_the_moving_average_is_torchs(mlp: Mlp):
    theirs = torch.optim.SGD(mlp.twin.parameters(), lr=0.1)
    averaged = copy.deepcopy(mlp.twin)
    for images, targets in mlp.batches:
        torch_step(mlp.twin, theirs, images, targets)
        for mean, parameter in zip(averaged.parameters(), mlp.twin.parameters(), strict=True):
            mean.data = 0.8 * mean.data + 0.2 * parameter.data
    state, _ = mlp.run(optim.SGD(lr=0.1), ema_decay=0.8)
    state.update_model(mlp.model)
    assert_same(averaged, mlp.model, 1e-10)


def test_label_smoothing_and_clipping_are_torchs(mlp: Mlp):
    def smoothed(outputs: Any, targets: Any, weights: Any) -> Any:
        return classification(outputs, targets, weights, label_smoothing=0.1)

    theirs = torch.optim.SGD(mlp.twin.parameters(), lr=0.1)
    for images, targets in mlp.batches:
        theirs.zero_grad()
        outputs = mlp.twin(torch.tensor(images))
        torch.nn.functional.cross_entropy(outputs, torch.tensor(targets), label_smoothing=0.1).backward()
        torch.nn.utils.clip_grad_norm_(mlp.twin.parameters(), 0.3)
        theirs.step()
    state, _ = mlp.run(optax.chain(optim.clip_grad_norm(0.3), optim.SGD(lr=0.1)), objective=smoothed)
    state.update_model(mlp.model)
    assert_same(mlp.twin, mlp.model, 1e-10)


@pytest.mark.parametrize("policy", ["skip", "stop"])
def test_a_step_that_is_not_finite_leaves_the_state_as_it_was(mlp: Mlp, policy: str):
    mlp.batches[2][0][0, 0, 3, 3] = np.nan
    state, seen = mlp.run(optim.Adam(), nonfinite=policy)
    assert [int(metrics["nonfinite"]) for metrics in seen] == [0, 0, 1, 0, 0, 0]
    assert [int(metrics["count"]) for metrics in seen] == [4, 4, 0, 4, 4, 4]
    assert (int(state.step), int(state.position)) == (5, 6)
    del mlp.batches[2]
    expected, _ = mlp.run(optim.Adam(), nonfinite=policy)
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected.params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_accumulating_nothing_is_refused(mlp: Mlp):
    with pytest.raises(ValueError, match="accumulate must be at least 1, got 0"):
        mlp.run(optim.SGD(), accumulate=0)


def test_what_a_call_changes_in_a_parameter_stays_changed(rng: np.random.Generator):
    with jax.enable_x64(True):
        twin = torch.nn.Sequential(torch.nn.Embedding(9, 5, max_norm=0.7), torch.nn.Flatten(), torch.nn.Linear(15, 4))
        model = nn.Sequential(
            nn.Embedding(9, 5, max_norm=0.7, rngs=nnx.Rngs(0)), nn.Flatten(), nn.Linear(15, 4, rngs=nnx.Rngs(0))
        )
        twin, model = twin.double().train(), model.double().train()
        transfer(twin, model)
        theirs, ours = torch.optim.SGD(twin.parameters(), lr=0.5), optim.SGD(lr=0.5)
        step, state = make_train_step(model, ours, classification), TrainState.create(model, ours)
        for _ in range(3):
            ids, targets = rng.integers(0, 6, (8, 3)), rng.integers(0, 4, 8)
            torch_step(twin, theirs, ids, targets)
            state, _ = step(state, Batch(jnp.asarray(ids), jnp.asarray(targets), jnp.ones(8)))
        state.update_model(model)
        assert_same(twin, model, 1e-10)


SMALL_DENSENET = {"num_channels": 8, "growth_rate": 4, "num_convs_in_dense_blocks": (1, 2)}
CHECKPOINTED: list[tuple[str, Any, dict[str, Any]]] = [
    ("mlp_dropout", True, {}),
    ("lenet_batchnorm", True, {}),
    ("densenet", True, SMALL_DENSENET),
    ("densenet", lambda name, module: isinstance(module, nn.Conv2d), SMALL_DENSENET),
    ("shared_linear", lambda name, module: isinstance(module, nn.Linear), {}),
]


@pytest.mark.parametrize(("name", "blocks", "options"), CHECKPOINTED)
def test_gradient_checkpointing_changes_no_number(name: str, blocks: Any, options: Any, rng: np.random.Generator):
    with jax.enable_x64(True):
        model, optimizer = flaxnets.create_model(name, **options).double(), optim.SGD(0.1, momentum=0.9)
        shape = get_entry(name).input_shape
        data = [(rng.normal(size=(4, *shape)), np.zeros(4, int)) for _ in range(3)]
        found = []
        for remat in (False, blocks):
            step, state = (
                make_train_step(model, optimizer, classification, remat=remat),
                TrainState.create(model, optimizer),
            )
            for images, targets in data:
                state, metrics = step(state, batch(images, targets))
            found.append(jax.tree.leaves((state.params, state.model_state, state.opt_state, metrics)))
        for a, b in zip(*found, strict=True):
            if not jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
                np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("name", "share"), [("densenet", 0.11), ("resnet18", 0.35), ("googlenet", 0.3)])
def test_gradient_checkpointing_remembers_less(name: str, share: float):
    def remembered(remat: bool) -> int:
        model = nnx.eval_shape(lambda: flaxnets.create_model(name))
        checkpoint(model, remat)
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)

        def backward(params: Any, rest: Any, images: jax.Array) -> Any:
            return jax.vjp(lambda params: nnx.merge(graphdef, params, rest, copy=True)(images).sum(), params)[1]

        shapes = jax.eval_shape(backward, params, rest, jax.ShapeDtypeStruct((16, 1, 96, 96), jnp.float32))
        return sum(leaf.size for leaf in jax.tree.leaves(shapes))

    assert remembered(True) < share * remembered(False)


def test_gradient_checkpointing_of_nothing_is_refused(mlp: Mlp):
    with pytest.raises(ValueError, match="no module of Sequential is chosen"):
        mlp.run(optim.SGD(), remat=lambda name, module: False)
