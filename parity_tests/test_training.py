"""The compiled steps and the loop around them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

import flaxnets
import torchref
from flaxnets import nn
from flaxnets.data import Split
from flaxnets.training import (
    Batch,
    TrainState,
    classification,
    evaluate,
    fit,
    make_eval_step,
    make_optimizer,
    make_train_step,
)


def small_net(rngs: nnx.Rngs) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(6, 8, rngs=rngs), nn.BatchNorm1d(8), nn.Dropout(0.3, rngs=rngs), nn.Linear(8, 3, rngs=rngs)
    )


def examples(count: int, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 3, count)
    centres = np.random.default_rng(9).normal(0, 3, (3, 6))
    return Split((centres[targets] + rng.normal(size=(count, 6))).astype(np.float32), targets.astype(np.int32))


def batch(split: Split) -> Batch:
    return Batch(jnp.asarray(split.inputs), jnp.asarray(split.targets), jnp.ones(len(split)))


def test_a_step_moves_all_state_and_frees_what_it_was_given():
    model, optimizer = small_net(nnx.Rngs(0)), optax.sgd(0.1, momentum=0.9)
    state = TrainState.create(model, optimizer)
    new, metrics = make_train_step(model, optimizer, classification)(state, batch(examples(16)))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert int(metrics["count"]) == 16
    assert int(new.step) == 1
    new.update_model(model)
    moved = {name: np.array(array) for name, array in model.state_dict().items()}
    initial = small_net(nnx.Rngs(0)).state_dict()
    assert [name for name in moved if (moved[name] == np.array(initial[name])).all() and name != "0.bias"] == []
    assert int(model[2].rngs.count[...]) == 1


def test_the_model_that_made_the_step_keeps_its_values():
    model, optimizer = small_net(nnx.Rngs(0)), optax.sgd(0.1)
    before = np.array(model[0].weight[...])
    make_train_step(model, optimizer, classification)(TrainState.create(model, optimizer), batch(examples(16)))
    np.testing.assert_array_equal(model[0].weight[...], before)


def test_one_step_is_torchs(rng):
    images, targets = rng.normal(size=(8, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, 8)
    twin, model, optimizer = (
        torchref.create_model("lenet"),
        flaxnets.create_model("lenet"),
        optax.sgd(0.5, momentum=0.9),
    )
    model.load_state_dict(twin.state_dict())
    step, state = make_train_step(model, optimizer, classification), TrainState.create(model, optimizer)
    torch_optimizer = torch.optim.SGD(twin.parameters(), lr=0.5, momentum=0.9)
    for _ in range(3):
        torch_optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(twin(torch.tensor(images)), torch.tensor(targets))
        loss.backward()
        torch_optimizer.step()
        state, metrics = step(state, Batch(jnp.asarray(images), jnp.asarray(targets), jnp.ones(8)))
        np.testing.assert_allclose(metrics["loss"] / 8, loss.item(), rtol=1e-5)
    state.update_model(model)
    for name, array in model.state_dict().items():
        np.testing.assert_allclose(array, twin.state_dict()[name], atol=1e-5)


def test_evaluation_counts_every_example_once_and_changes_nothing():
    model, split = small_net(nnx.Rngs(0)), examples(103)
    model(jnp.asarray(split.inputs))
    before = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
    record = evaluate(model, split, objective=classification, batch_size=25)
    logits = model.eval()(jnp.asarray(split.inputs))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(split.targets))
    np.testing.assert_allclose(record["test_loss"], losses.mean(), rtol=1e-5)
    assert record["test_accuracy"] == pytest.approx(float((logits.argmax(-1) == split.targets).mean()))
    jax.tree.map(np.testing.assert_array_equal, before, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))


def test_examples_without_weight_do_not_count():
    model, (inputs, targets, _) = small_net(nnx.Rngs(0)), batch(examples(4))
    _, params, rest = nnx.split(model, nnx.Param, ...)
    step = make_eval_step(model, classification)
    padded = step(params, rest, Batch(inputs, targets, jnp.array([1.0, 1.0, 0.0, 0.0])))
    alone = step(params, rest, Batch(inputs[:2], targets[:2], jnp.ones(2)))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), padded, alone)


def _fit(seed: int = 0, **options):
    model = small_net(nnx.Rngs(seed))
    arguments = {"epochs": 3, "batch_size": 16, "seed": seed, "optimizer": make_optimizer("sgd", 0.1, 18)} | options
    return model, fit(model, examples(100), examples(31, seed=1), objective=classification, **arguments)


def test_fit_learns_and_reports_every_epoch():
    seen = []
    model, records = _fit(on_epoch=seen.append)
    assert seen == records
    assert [r["epoch"] for r in records] == [1, 2, 3]
    assert records[-1].keys() == {
        "epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "images_per_second",
    }  # fmt: skip
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    assert records[-1]["test_accuracy"] > 0.9
    assert int(model[1].num_batches_tracked[...]) == 18
    assert evaluate(model, examples(31, seed=1), objective=classification)["test_loss"] == pytest.approx(
        records[-1]["test_loss"]
    )


def test_a_seed_repeats_a_run_bit_for_bit_and_another_one_does_not():
    (model, records), (again, same), (_, other) = _fit(), _fit(), _fit(seed=1)
    for a, b, c in zip(records, same, other, strict=True):
        assert a["train_loss"] == b["train_loss"] != c["train_loss"]
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, again.state_dict()[name])


def test_a_batch_larger_than_the_dataset_is_the_dataset():
    assert int(_fit(batch_size=1000)[0][1].num_batches_tracked[...]) == 3


def test_stopping_keeps_what_was_learned_and_whole_epochs_only():
    steps = []
    model, records = _fit(on_step=lambda epoch, step, metrics: steps.append(step), should_stop=lambda: len(steps) == 8)
    assert len(records) == 1
    assert int(model[1].num_batches_tracked[...]) == 8


def test_every_epoch_has_another_order_and_the_steps_are_compiled_once():
    seen = []

    def transform(inputs):
        seen.append(inputs.shape)
        return inputs

    _fit(transform=transform)
    assert seen == [(16, 6), (31, 6)]  # traced once for training and once for evaluation


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_every_optimizer_learns(name):
    lr = 0.1 if name == "sgd" else 0.01
    _, records = _fit(optimizer=make_optimizer(name, lr, 60), epochs=10)
    assert records[-1]["train_loss"] < 0.6 * records[0]["train_loss"]


def test_an_unknown_optimizer_raises():
    with pytest.raises(ValueError, match="unknown optimizer 'sdg'; known: sgd, adam, adamw"):
        make_optimizer("sdg", 0.1, 10)
