"""Tests that dynamic loss scaling agrees with torch.amp.GradScaler, and does not change finite float32 steps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import flaxnets
from flaxnets import nn, optim
from flaxnets.training import Checkpoints, Engine, StepOptions, TrainState, make_train_step


def engine(**options) -> Engine:
    model = flaxnets.create_model("linear_regression")
    return Engine(model, optim.SGD(1e-3), nn.MSELoss(), StepOptions(backend="plain", **options))


def batches(rng, count: int, overflows: tuple[int, ...] = ()) -> list:
    found = []
    for i in range(count):
        inputs, targets = rng.normal(size=(4, 2)).astype(np.float32), rng.normal(size=(4, 1)).astype(np.float32)
        # The gradient of the scaled loss overflows, but not the loss.
        found.append((inputs * np.float32(1e17) if i in overflows else inputs, targets))
    return found


def test_the_factor_and_the_parameters_are_those_of_grad_scaler(rng):
    ours = engine(loss_scale="dynamic")
    state = ours.init()
    near = dataclasses.replace(state.loss_scale, finite_steps=jnp.int32(1998))
    state = dataclasses.replace(state, loss_scale=near)
    twin = torch.nn.Linear(2, 1)
    names = dict(ours.model.state_dict())
    with torch.no_grad():
        for parameter, array in zip(twin.parameters(), names.values(), strict=True):
            parameter.copy_(torch.tensor(np.asarray(array)).reshape(parameter.shape))
    optimizer, scaler = torch.optim.SGD(twin.parameters(), 1e-3), torch.amp.GradScaler("cpu")
    scaler.load_state_dict({**scaler.state_dict(), "_growth_tracker": 1998})
    factors = []
    for inputs, targets in batches(rng, 6, overflows=(3, 4)):
        state, metrics = ours.step(state, (jnp.asarray(inputs), jnp.asarray(targets)))
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(twin(torch.tensor(inputs)), torch.tensor(targets))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        after = ours.train_state(state)
        factors.append(scaler.get_scale())
        assert float(after.loss_scale.factor) == factors[-1]
        assert int(after.loss_scale.finite_steps) == scaler.state_dict()["_growth_tracker"]
        assert float(metrics["nonfinite"]) == 0
        for parameter, leaf in zip(twin.parameters(), jax.tree.leaves(after.params)[::-1], strict=True):
            np.testing.assert_allclose(leaf.ravel(), parameter.detach().ravel(), rtol=1e-5)
    assert factors == [2.0**16, 2.0**17, 2.0**17, 2.0**16, 2.0**15, 2.0**15]


def test_finite_steps_have_the_bits_of_steps_without_a_factor(rng):
    results = []
    for scale in (None, "dynamic"):
        each = engine(loss_scale=scale)
        state = each.init()
        for batch in batches(np.random.default_rng(0), 5):
            state, _ = each.step(state, jax.tree.map(jnp.asarray, batch))
        results.append(jax.tree.leaves(each.train_state(state).params))
    for plain, scaled in zip(*results, strict=True):
        np.testing.assert_array_equal(plain, scaled)


def test_a_loss_that_is_not_finite_is_a_failure_and_a_checkpoint_has_the_factor(rng, tmp_path):
    each = engine(loss_scale="dynamic", nonfinite="skip")
    state = each.init()
    state, metrics = each.step(state, (jnp.full((4, 2), jnp.nan), jnp.zeros((4, 1))))
    state = each.train_state(state)
    assert (float(metrics["nonfinite"]), float(state.loss_scale.factor)) == (1, 2.0**15)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        checkpoints.wait()
        restored = checkpoints.restore_latest(each.init())
        unscaled = checkpoints.restore_latest(engine().init())  # the run continues in another precision
    assert float(restored.state.loss_scale.factor) == 2.0**15
    assert unscaled.state.loss_scale is None


def test_float16_trains_with_a_factor(rng):
    model = flaxnets.create_model("lenet_relu", rngs=nnx.Rngs(0))
    each = Engine(
        model, optim.SGD(0.05), nn.CrossEntropyLoss(), StepOptions(compute_dtype=jnp.float16, loss_scale="dynamic")
    )
    state, losses = each.init(), []
    images = jnp.asarray(rng.normal(size=(16, *flaxnets.registry.get_entry("lenet_relu").input_shape)), jnp.float32)
    for _ in range(12):
        state, metrics = each.step(state, (images, jnp.arange(16) % 10))
        losses.append(float(metrics["loss"] / metrics["count"]))
    assert losses[-1] < losses[0]
    assert {leaf.dtype for leaf in jax.tree.leaves(each.train_state(state).params)} == {jnp.dtype(jnp.float32)}


def test_options_and_states_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="loss_scale must be dynamic or None, got 'static'"):
        StepOptions(loss_scale="static")  # type: ignore[arg-type]
    model, optimizer = flaxnets.create_model("linear_regression"), optim.SGD(0.1)
    step = make_train_step(model, optimizer, nn.MSELoss(), loss_scale="dynamic")
    with pytest.raises(ValueError, match="a state without a loss scale"):
        step(TrainState.create(model, optimizer), (jnp.ones((1, 2)), jnp.ones((1, 1))))
