"""Tests of the compiled steps and of the training loop."""

import functools
import math
import time
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
import torchref
from flaxnets import nn, optim, registry
from flaxnets.data import Split, windows
from flaxnets.training import (
    TASKS,
    Batch,
    Batches,
    Callback,
    Engine,
    Loop,
    StepOptions,
    TrainState,
    as_objective,
    classification,
    evaluate,
    fit,
    generate,
    initialize,
    l2_penalty,
    language,
    make_eval_step,
    make_optimizer,
    make_train_step,
    regression,
)
from flaxnets.training.batches import Pace
from flaxnets.training.objectives import means


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


def _fit(seed: int = 0, optimizer: Any = None, batches: dict[str, Any] | None = None, **options):
    model, batches = small_net(nnx.Rngs(seed)), {"batch_size": 16} | (batches or {})
    engine = Engine(model, optimizer or make_optimizer("sgd", 0.1, 18), classification)
    train, test = Batches(examples(100), **batches), Batches(examples(31, seed=1), **batches | {"batch_size": 250})
    return model, fit(engine, train, test, **{"epochs": 3, "seed": seed} | options)


def test_a_run_compiles_its_step_once_and_reads_metrics_alone(monkeypatch: pytest.MonkeyPatch):
    traced, fetched, fetch = [], [], jax.device_get

    def counted(*arguments):
        traced.append(1)
        return classification(*arguments)

    def recorded(tree):
        fetched.extend(np.shape(leaf) for leaf in jax.tree.leaves(tree))
        return fetch(tree)

    monkeypatch.setattr(jax, "device_get", recorded)
    # On a device with separate memory, any other transfer to the host raises an error.
    with jax.transfer_guard_device_to_host("disallow"):
        engine = Engine(small_net(nnx.Rngs(0)), optim.SGD(0.1), counted)
        fit(engine, Batches(examples(103), 16), Batches(examples(57, 1)), epochs=3)
    # Training step and evaluation step are traced once, for 18 and 3 batches including the short last ones.
    assert len(traced) == 2
    assert set(fetched) == {()}


def test_fit_learns_and_reports_every_epoch():
    seen = []

    class Seen(Callback):
        def on_epoch(self, loop: Loop, record: dict[str, Any]) -> None:
            seen.append(record)

    model, records = _fit(callbacks=[Seen()])
    assert seen == records
    assert [r["epoch"] for r in records] == [1, 2, 3]
    assert records[-1].keys() == {
        "epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "images_per_second", "learning_rate",
    }  # fmt: skip
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    assert records[-1]["test_accuracy"] > 0.9
    assert int(model[1].num_batches_tracked[...]) == 18
    assert evaluate(model, examples(31, seed=1), objective=classification)["test_loss"] == pytest.approx(
        records[-1]["test_loss"]
    )


@pytest.mark.parametrize("several", [1, 4])
@pytest.mark.parametrize("bad", [0, 1, 5])
def test_fit_stops_with_the_last_finite_state_or_skips_the_batch(bad: int, several: int):
    train, test = examples(96), Batches(examples(31, 1))
    options = {"epochs": 1, "steps_per_execution": several}
    order = np.random.default_rng((0, 1)).permutation(96)  # the order of the first epoch
    train.inputs[order[16 * bad]] = np.inf
    model = small_net(nnx.Rngs(0))
    with pytest.raises(FloatingPointError, match=f"infinite or NaN at step {bad + 1} of epoch 1"):
        fit(Engine(model, optim.SGD(0.1), classification), Batches(train, 16), test, **options)
    assert all(np.isfinite(array).all() for array in model.state_dict().values())
    skipping = small_net(nnx.Rngs(0))
    engine = Engine(skipping, optim.SGD(0.1), classification, StepOptions(nonfinite="skip"))
    (record,) = fit(engine, Batches(train, 16), test, **options)
    assert np.isfinite(record["train_loss"])
    assert int(skipping[1].num_batches_tracked[...]) == 5


@pytest.mark.parametrize("factor", [1, -1, 0], ids=["infinity", "minus infinity", "NaN"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_one_number_of_a_gradient_is_enough_to_skip_a_batch(axes, factor):
    rngs = nnx.Rngs(0)
    model = nn.Sequential(nn.Conv1d(1, 2, 3, rngs=rngs), nn.Flatten(), nn.Linear(4, 3, rngs=rngs))

    def penalty(params: nnx.State) -> jax.Array:
        array = next(leaf for leaf in jax.tree.leaves(params) if leaf.ndim == axes)
        number = array.ravel()[-1]
        # The value is 0, but the gradient is not finite.
        return factor * jnp.sqrt(number - jax.lax.stop_gradient(number))

    optimizer = optim.SGD(0.1)
    step = make_train_step(model, optimizer, classification, nonfinite="skip", penalty=penalty)
    before = TrainState.create(model, optimizer)
    after, metrics = step(
        TrainState.create(model, optimizer), Batch(jnp.ones((2, 1, 4)), jnp.zeros(2, int), jnp.ones(2))
    )
    assert (int(metrics["nonfinite"]), int(after.step)) == (1, 0)
    jax.tree.map(np.testing.assert_array_equal, after.params, before.params)


def test_a_seed_repeats_a_run_bit_for_bit_and_another_one_does_not():
    (model, records), (again, same), (_, other) = _fit(), _fit(), _fit(seed=1)
    for a, b, c in zip(records, same, other, strict=True):
        assert a["train_loss"] == b["train_loss"] != c["train_loss"]
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, again.state_dict()[name])


def test_several_steps_an_execution_are_the_same_steps():
    runs = {several: _fit(steps_per_execution=several) for several in (1, 2, 4, 100, "auto")}
    one, (two, records) = runs.pop(1), runs.pop(2)
    for name, array in one[0].state_dict().items():
        np.testing.assert_allclose(array, two.state_dict()[name], rtol=1e-5, atol=1e-6)
    for model, same in runs.values():
        assert [record["train_loss"] for record in same] == [record["train_loss"] for record in records]
        jax.tree.map(np.testing.assert_array_equal, dict(model.state_dict()), dict(two.state_dict()))


def test_executions_take_more_steps_until_they_are_long_and_end_at_checkpoints(monkeypatch):
    pace, now = Pace("auto", every=20), 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    counts = []
    for seconds in (0.001, 0.002, 0.004, 0.02, 0.001):
        counts.append(pace(0))
        now += seconds
        pace.update(now - seconds, {})
    assert counts == [1, 2, 4, 8, 8]
    assert [pace(step) for step in (0, 8, 16)] == [8, 8, 4]
    with pytest.raises(ValueError, match="steps_per_execution must be at least 1 or auto, got 0"):
        Pace(0)


@pytest.mark.parametrize(
    ("layer", "backend", "fast"),
    [(nn.Conv2d, "xla", True), (nn.Conv2d, "plain", False), (nn.Conv1d, "xla", True), (None, "plain", True)],
)
def test_a_step_with_convolutions_of_xlas_own_is_slow_in_loops(layer, backend, fast):
    ndim = 1 if layer is nn.Conv1d else 2
    layers = [] if layer is None else [layer(1, 2, 3, rngs=nnx.Rngs(0)), nn.Flatten()]
    model = nn.Sequential(*layers, nn.LazyLinear(3, rngs=nnx.Rngs(0)))
    inputs = jnp.ones((2, 1, *[5] * ndim) if layer else (2, 4))
    model(inputs)
    optimizer = optim.SGD(0.1)
    engine = Engine(model, optimizer, classification, StepOptions(backend=backend))
    assert engine.is_fast_in_loops(engine.init(), Batch(inputs, jnp.zeros(2, int), jnp.ones(2))) == fast


def test_a_batch_larger_than_the_dataset_is_the_dataset():
    assert int(_fit(batches={"batch_size": 1000})[0][1].num_batches_tracked[...]) == 3


def test_stopping_keeps_what_was_learned_and_whole_epochs_only():
    class Stop(Callback):
        def on_step(self, loop: Loop) -> None:
            if loop.updates == 8:
                loop.stop("enough")

    model, records = _fit(callbacks=[Stop()])
    assert len(records) == 1
    assert int(model[1].num_batches_tracked[...]) == 8


def test_every_epoch_has_another_order_and_the_steps_are_compiled_once():
    seen = []

    def transform(inputs):
        seen.append(inputs.shape)
        return inputs

    _fit(batches={"transform": transform})
    assert seen == [(16, 6), (31, 6)]  # traced once for training and once for evaluation


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_every_optimizer_learns(name):
    lr = 0.1 if name == "sgd" else 0.01
    _, records = _fit(optimizer=make_optimizer(name, lr, 60), epochs=10)
    assert records[-1]["train_loss"] < 0.6 * records[0]["train_loss"]


def arrays_of(model: nnx.Module) -> dict[str, np.ndarray]:
    return {name: np.array(array) for name, array in model.state_dict().items()}


# For each name: options, and mean and standard deviation of a weight with these numbers of inputs and outputs.
INITIALIZED: list[tuple[str, dict[str, Any], Callable[[int, int], tuple[float, float]]]] = [
    ("normal", {}, lambda n_in, n_out: (0, 0.01)),
    ("normal", {"std": 0.5, "mean": 2.0}, lambda n_in, n_out: (2, 0.5)),
    ("uniform", {"a": 0.0, "b": 1.0}, lambda n_in, n_out: (0.5, 12**-0.5)),
    ("trunc_normal", {"std": 0.3}, lambda n_in, n_out: (0, 0.3)),
    ("constant", {"val": 0.3}, lambda n_in, n_out: (0.3, 0)),
    ("xavier_uniform", {}, lambda n_in, n_out: (0, (2 / (n_in + n_out)) ** 0.5)),
    ("xavier_normal", {"gain": 3.0}, lambda n_in, n_out: (0, 3 * (2 / (n_in + n_out)) ** 0.5)),
    ("kaiming_uniform", {}, lambda n_in, n_out: (0, (2 / n_in) ** 0.5)),
    ("kaiming_normal", {"mode": "fan_out"}, lambda n_in, n_out: (0, (2 / n_out) ** 0.5)),
    ("orthogonal", {}, lambda n_in, n_out: (0, n_in**-0.5)),
]


@pytest.mark.parametrize(("name", "options", "expected"), INITIALIZED)
def test_initialize_draws_weights_and_leaves_the_rest(name: str, options: dict[str, Any], expected: Any):
    model = flaxnets.create_model("lenet_batchnorm")
    before = arrays_of(model)
    initialize(model, name, jax.random.key(1), **options)
    for key, array in arrays_of(model).items():
        if array.ndim > 1:
            mean, std = expected(np.prod(array.shape[1:]), array.shape[0] * np.prod(array.shape[2:]))
            np.testing.assert_allclose(array.mean(), mean, atol=0.25 * (std or 1e-6), err_msg=key)
            np.testing.assert_allclose(array.std(), std, rtol=0.15, atol=1e-7, err_msg=key)
        else:
            np.testing.assert_array_equal(array, before[key])


def test_initialize_changes_the_modules_that_are_chosen():
    model = flaxnets.create_model("lenet_batchnorm")
    before = arrays_of(model)
    initialize(
        model,
        "constant",
        jax.random.key(1),
        val=0.5,
        bias=3.0,
        where=lambda name, module: isinstance(module, nn.Linear),
    )
    for name, array in arrays_of(model).items():
        linear = isinstance(dict(flaxnets.named_modules(model))[name.rpartition(".")[0]], nn.Linear)
        expected = before[name] if not linear else 3.0 if name.endswith("bias") else 0.5
        np.testing.assert_array_equal(array, np.broadcast_to(expected, array.shape))


def test_initialize_takes_a_function_of_name_key_and_value():
    model, keys = flaxnets.create_model("shared_mlp"), {}
    before = arrays_of(model)

    def function(name: str, key: jax.Array, old: jax.Array) -> jax.Array:
        keys[name] = tuple(jax.random.key_data(key).tolist())
        return 2 * old + 1

    initialize(model, function, jax.random.key(1))
    for name, array in arrays_of(model).items():
        np.testing.assert_allclose(array, 2 * before[name] + 1, rtol=1e-6)
    assert list(keys) == [name for name, _ in flaxnets.named_parameters(model)]  # a shared parameter has one key
    assert len(set(keys.values())) == len(keys)


@pytest.mark.parametrize(
    ("initializer", "options", "error", "message"),
    [
        ("kaiming_unifrom", {}, ValueError, "unknown initializer 'kaiming_unifrom'; did you mean 'kaiming_uniform'"),
        ("normal", {"gain": 1.0}, TypeError, "gain"),
        (lambda name, key, old: old.ravel(), {}, ValueError, r"1.weight: expected .*\(256, 784\), got \(200704,\)"),
        (lambda name, key, old: old, {"gain": 1.0}, TypeError, "options belong to an initializer by name, got gain"),
    ],
)
def test_initialize_refuses_what_it_cannot_do(initializer: Any, options: dict[str, Any], error: Any, message: str):
    model = flaxnets.create_model("mlp")
    before = arrays_of(model)
    with pytest.raises(error, match=message):
        initialize(model, initializer, jax.random.key(1), **options)
    for name, array in arrays_of(model).items():
        np.testing.assert_array_equal(array, before[name])


def test_an_unknown_optimizer_raises():
    with pytest.raises(ValueError, match="unknown optimizer 'sdg'; did you mean 'sgd'"):
        make_optimizer("sdg", 0.1, 10)


@pytest.mark.parametrize("clip_norm", [0.5, 1e-3, 1e3, None])
def test_clipping_scales_as_torch_does(clip_norm, rng):
    gradients = [rng.normal(size=shape).astype(np.float32) for shape in ((3, 4), (5,))]
    parameters = [torch.zeros(array.shape, requires_grad=True) for array in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    torch.nn.utils.clip_grad_norm_(parameters, math.inf if clip_norm is None else clip_norm)
    optimizer = make_optimizer("sgd", 1.0, 10, clip_norm=clip_norm)
    updates, _ = optimizer.update(gradients, optimizer.init(gradients), gradients)
    for update, parameter in zip(updates, parameters, strict=True):
        np.testing.assert_allclose(-update, parameter.grad, rtol=1e-5)


def test_every_task_of_a_network_can_be_trained_and_no_other_can_be_registered():
    assert {*TASKS, "layer"} == {*registry.TASKS}
    with pytest.raises(ValueError, match="unknown task 'regresion'; did you mean 'regression'"):
        registry.register(input_shape=(1,), task="regresion")


def _classes(rng):
    return rng.normal(size=(4, 7)), rng.integers(0, 7, 4)


def _characters(rng):  # logits (T * N, V) are time-major, targets (N, T) are not
    return rng.normal(size=(3 * 4, 7)), rng.integers(0, 7, (4, 3))


def _values(rng):
    return rng.normal(size=(4, 2)), rng.normal(size=(4, 2))


def _torch_characters(logits, targets):
    logits = logits.reshape(targets.shape[1], targets.shape[0], -1).swapaxes(0, 1)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


OBJECTIVES = {
    "classification": (classification, _classes, lambda logits: logits, torch.nn.functional.cross_entropy),
    "language": (language, _characters, lambda logits: (logits, "state"), _torch_characters),
    "regression": (regression, _values, lambda values: values, torch.nn.functional.mse_loss),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_torchs_over_the_examples_that_count(name, rng):
    objective, draw, pack, torchs = OBJECTIVES[name]
    outputs, targets = draw(rng)
    sums = objective(pack(jnp.asarray(outputs)), jnp.asarray(targets), jnp.ones(4))
    expected = torchs(torch.tensor(outputs), torch.tensor(targets)).item()
    record = means(sums, "test")
    assert record["test_loss"] == pytest.approx(expected, rel=1e-5)
    if name == "language":
        assert record["test_perplexity"] == pytest.approx(math.exp(expected), rel=1e-5)
    if name != "regression":
        hits = outputs.argmax(1) == targets.T.ravel()
        assert int(sums["correct"]) == hits.sum()
        assert int(sums["count"]) == hits.size

    first = outputs.reshape(-1, 4, outputs.shape[-1])[:, :2].reshape(-1, outputs.shape[-1])
    weighted = objective(pack(jnp.asarray(outputs)), jnp.asarray(targets), jnp.array([1.0, 1.0, 0.0, 0.0]))
    alone = objective(pack(jnp.asarray(first)), jnp.asarray(targets[:2]), jnp.ones(2))
    assert weighted.keys() == alone.keys()
    for key, value in alone.items():
        np.testing.assert_allclose(weighted[key], value, rtol=1e-5)


def test_values_and_targets_of_different_shapes_raise():
    with pytest.raises(ValueError, match=r"outputs of shape \(4, 1\) need targets of that shape, got \(4,\)"):
        regression(jnp.ones((4, 1)), jnp.ones(4), jnp.ones(4))


def test_means_of_nothing_are_no_numbers():
    found = means({"loss": 0.0, "correct": 0.0, "log_perplexity": 0.0, "count": 0.0}, "train")
    assert list(found) == ["train_loss", "train_accuracy", "train_perplexity"]
    assert all(math.isnan(value) for value in found.values())


def test_a_perplexity_beyond_all_numbers_is_infinite():
    assert means({"loss": 1e4, "log_perplexity": 1e4, "count": 1.0}, "test")["test_perplexity"] == math.inf


def _fit_to(task: str, model: nnx.Module, train: Split, **options):
    optimizer = options.pop("optimizer", None) or make_optimizer("adam", 0.03, 100, clip_norm=1.0)
    kind = TASKS[task]
    transform = functools.partial(kind.transform, input_shape=train.inputs.shape[1:])
    batches, test = Batches(train, 8, transform), Batches(train, transform=transform)
    return fit(Engine(model, optimizer, kind.objective), batches, test, unit=kind.unit, **{"epochs": 5} | options)


def test_a_regression_finds_the_line(rng):
    inputs = rng.normal(size=(160, 3)).astype(np.float32)
    targets = inputs @ np.array([[1.0], [-2.0], [0.5]], np.float32) + 0.7
    model = flaxnets.create_model("linear_regression", n_features=3)
    optimizer = make_optimizer("sgd", 0.03, 400)
    records = _fit_to("regression", model, Split(inputs, targets), epochs=20, optimizer=optimizer)
    assert records[-1].keys() == {"epoch", "train_loss", "test_loss", "examples_per_second", "learning_rate"}
    assert records[-1]["test_loss"] < 1e-6
    np.testing.assert_allclose(model.linear.weight, [[1.0, -2.0, 0.5]], atol=1e-3)
    np.testing.assert_allclose(model.linear.bias, [0.7], atol=1e-3)


@pytest.mark.parametrize("name", ["rnn_lm", "gru_lm", "lstm_lm"])
def test_a_language_model_learns_what_only_its_state_can_know_and_goes_on_with_it(name):
    # After a 2 comes 1 or 2: the last character is not enough to predict the next.
    pattern = np.tile([1, 1, 2, 2, 2], 200)
    model = flaxnets.create_model(name, vocab_size=3, num_hiddens=16)
    records = _fit_to("language", model, Split(*windows(pattern, 9)))
    assert records[-1].keys() == {
        "epoch", "train_loss", "train_accuracy", "train_perplexity", "test_loss", "test_accuracy", "test_perplexity",
        "characters_per_second", "learning_rate",
    }  # fmt: skip
    assert records[-1]["test_perplexity"] == pytest.approx(math.exp(records[-1]["test_loss"]))
    assert records[-1]["test_accuracy"] > 0.85  # the first characters of a window can only be guessed
    drawn = generate(model, pattern[:7], 50, key=jax.random.key(0), temperature=0.1)
    np.testing.assert_array_equal(drawn, pattern[7:57])


CLASS_WEIGHTS = np.array([0.5, 2.0, 1.0, 0.3], np.float32)
# For each name: options, the shape of the outputs, and whether targets are classes or numbers of this shape.
LOSSES: list[tuple[str, dict[str, Any], tuple[int, ...], str]] = [
    ("CrossEntropyLoss", {}, (6, 4), "classes"),
    ("CrossEntropyLoss", {"weight": CLASS_WEIGHTS, "ignore_index": 2, "label_smoothing": 0.2}, (6, 4), "classes"),
    ("CrossEntropyLoss", {"weight": CLASS_WEIGHTS, "ignore_index": 1}, (6, 4, 3, 2), "classes"),
    ("CrossEntropyLoss", {"weight": CLASS_WEIGHTS}, (6, 4), "numbers"),
    ("NLLLoss", {"weight": CLASS_WEIGHTS}, (6, 4, 3), "classes"),
    ("MSELoss", {}, (6, 3, 2), "numbers"),
    ("HuberLoss", {"delta": 0.3}, (6,), "numbers"),
    ("BCEWithLogitsLoss", {"pos_weight": CLASS_WEIGHTS}, (6, 4), "numbers"),
    ("KLDivLoss", {"reduction": "batchmean"}, (6, 4), "numbers"),
    ("MultiMarginLoss", {}, (6, 4), "classes"),
]


@pytest.mark.parametrize(("name", "options", "shape", "kind"), LOSSES)
def test_a_loss_is_an_objective_whose_mean_is_torchs(name: str, options: Any, shape: Any, kind: str, rng):
    outputs = rng.normal(size=shape).astype(np.float32)
    targets = rng.random(shape).astype(np.float32)
    if kind == "classes":
        targets = rng.integers(0, 4, (shape[0], *shape[2:]))
    tensors = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    expected = getattr(torch.nn, name)(**tensors)(torch.tensor(outputs), torch.tensor(targets)).item()
    objective = as_objective(getattr(nn, name)(**options))
    found = objective(jnp.asarray(outputs), jnp.asarray(targets), jnp.ones(6))
    assert float(found["loss"] / found["count"]) == pytest.approx(expected, rel=1e-5)
    if name == "CrossEntropyLoss" and not options:
        assert int(found["correct"]) == (outputs.argmax(1) == targets).sum()
    # Two examples with weight 0, which only fill the batch, do not change the result.
    filled = (jnp.asarray(np.concatenate([array, array[:2]])) for array in (outputs, targets))
    for key, value in objective(*filled, jnp.array([1.0] * 6 + [0.0] * 2)).items():
        np.testing.assert_allclose(value, found[key], rtol=1e-5)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(reduction="sum"), nn.ReLU()])
def test_what_is_no_mean_is_refused_as_an_objective(loss: nn.Module):
    with pytest.raises(ValueError, match=f"{type(loss).__name__} has the reduction .* Expected 'mean'"):
        make_train_step(small_net(nnx.Rngs(0)), optim.SGD(0.1), loss)


def test_an_l2_penalty_is_the_weight_decay_of_the_same_parameters(rng):
    found = []
    for decay in ("penalty", "optimizer"):
        groups = {"*weight": {"weight_decay": 0.3}} if decay == "optimizer" else None
        model, optimizer = small_net(nnx.Rngs(0)), optim.SGD(0.1, momentum=0.9, groups=groups)
        penalty = l2_penalty(0.3, lambda name: name.endswith("weight")) if decay == "penalty" else None
        step = make_train_step(model, optimizer, nn.CrossEntropyLoss(), penalty=penalty)
        state = TrainState.create(model, optimizer)
        for seed in range(3):
            state, metrics = step(state, batch(examples(16, seed)))
        found.append(jax.tree.leaves((state.params, metrics)))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
