"""Tests of checkpoints: restored values are bit-identical or an error, and resumed runs end like uninterrupted runs."""

import functools
import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import flaxnets
from benchmarks.checkpoint_faults import same, state_of
from benchmarks.reliability import FAULTS
from flaxnets import optim
from flaxnets.cli.stopping import SIGNALS, Stopping
from flaxnets.data import Split
from flaxnets.registry import get_entry
from flaxnets.training import (
    TASKS,
    Batches,
    Callback,
    CheckpointError,
    Checkpointing,
    Checkpoints,
    Engine,
    Loop,
    StepOptions,
    TrainState,
    fit,
)

# Run checkpoint_disk_full by hand: it needs the right to mount a file system.
SHORT = [name for name in FAULTS if name.startswith("checkpoint") and name != "checkpoint_disk_full"]


@pytest.mark.parametrize("name", SHORT)
def test_no_fault_is_silent(name, tmp_path):
    fault = FAULTS[name]
    outcomes = fault.plant(fault.short, tmp_path)
    assert outcomes.total() == fault.short
    assert outcomes.keys() <= {"noticed", "harmless"}
    assert outcomes["harmless" if "killed" in name else "noticed"] > fault.short / 4


def test_without_digests_a_flipped_bit_is_silent(tmp_path, monkeypatch):
    monkeypatch.setattr("flaxnets.training.checkpoints.digest", lambda array: "")
    monkeypatch.setattr("flaxnets.training._checkpoint_files.digest", lambda array: "")
    monkeypatch.setattr("flaxnets.training._checkpoint_files._check_files", lambda folder, files: None)
    state, checkpoints = state_of(1, width=300), Checkpoints(tmp_path, asynchronous=False)
    checkpoints.save(1, state)
    path = max((path for path in tmp_path.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    sound = path.read_bytes()

    def silent(place: int) -> bool:
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        try:
            return not same(checkpoints.restore(state_of(2, width=300), 1).state, state)
        except CheckpointError:  # the decompression notices a flipped bit in its own metadata
            return False

    assert any(silent(len(sound) * part // 8) for part in range(1, 8))


SMALL_DENSENET = {"num_channels": 4, "growth_rate": 2, "num_convs_in_dense_blocks": (1, 1)}
# Options that make a network small, and the shape of its examples: pixels, features, or characters of five classes.
NETWORKS = {
    "linear_regression": ({"n_features": 3}, (3,)),
    "mlp_dropout": ({"num_hiddens": 8}, (1, 28, 28)),
    "softmax_regression": ({}, (1, 28, 28)),
    "lenet_batchnorm": ({}, (1, 28, 28)),
    "densenet": (SMALL_DENSENET, (1, 32, 32)),
    "lstm_lm": ({"vocab_size": 5, "num_hiddens": 4}, (6,)),
    "gru_lm": ({"vocab_size": 5, "num_hiddens": 4, "num_layers": 2, "dropout": 0.5}, (6,)),
}
STEPS, EPOCHS = 4, 3


def splits(task: str, shape: tuple[int, ...], rng: np.random.Generator) -> list[Split]:
    """Draw random training and test examples."""

    def split(count: int) -> Split:
        if task == "language":
            return Split(*rng.integers(0, 5, (2, count, *shape)).astype(np.int32))
        if task == "regression":
            return Split(*(rng.normal(size=(count, *each)).astype(np.float32) for each in (shape, (1,))))
        return Split(
            rng.integers(0, 256, (count, *shape)).astype(np.uint8), rng.integers(0, 10, count).astype(np.int32)
        )

    return [split(4 * STEPS), split(6)]


def train(
    arch: str, seed: int, data: list[Split], step: StepOptions | None = None, **options
) -> tuple[nnx.Module, list[dict]]:
    """Train a small network with all parts of a train state: slots, averages, accumulated gradients and random keys."""
    sizes, shape = NETWORKS[arch]
    task, model = TASKS[get_entry(arch).task], flaxnets.create_model(arch, **sizes, rngs=nnx.Rngs(seed))
    optimizer = optim.Adam(optim.lr_scheduler.CosineAnnealingLR(0.01, T_max=9))
    engine = Engine(model, optimizer, task.objective, step or StepOptions(accumulate=2, ema_decay=0.5))
    transform = functools.partial(task.transform, input_shape=shape)
    train, test = Batches(data[0], 4, transform), Batches(data[1], transform=transform)
    records = fit(engine, train, test, **{"epochs": EPOCHS, "unit": task.unit, **options})
    for record in records:
        del record[f"{task.unit}_per_second"]
    return model, records


class StopAfter(Callback):
    """Stop the training after a number of executions, and count the executions."""

    def __init__(self, steps: int):
        self.steps, self.taken = steps, 0

    def on_step(self, loop: Loop) -> None:
        self.taken += 1
        if self.taken >= self.steps:
            loop.stop("enough")


POSITIONS = {"in the first epoch": 1, "between epochs": STEPS, "in the middle of an epoch": 2 * STEPS + 2}
SLOW_TO_COMPILE = ("densenet", "lenet_batchnorm")


@pytest.mark.parametrize("arch", NETWORKS)
def test_a_resumed_run_ends_as_an_unbroken_one(arch, rng, tmp_path):
    data = splits(get_entry(arch).task, NETWORKS[arch][1], rng)
    with Checkpoints(tmp_path / "unbroken") as kept:
        model, records = train(arch, 0, data, callbacks=[Checkpointing(kept)])
    for name, position in list(POSITIONS.items())[-1 if arch in SLOW_TO_COMPILE else 0 :]:
        stop, config = StopAfter(position), {"arch": arch}
        with Checkpoints(tmp_path / name, config=config) as first:
            train(arch, 0, data, callbacks=[stop, Checkpointing(first)])
            assert first.steps()[-1] == position
        counted = StopAfter(10**9)
        # The initial weights and keys of this model are different.
        with Checkpoints(tmp_path / name, config=config) as second:
            resumed, again = train(arch, 1, data, callbacks=[counted, Checkpointing(second, resume=True)])
        assert counted.taken == EPOCHS * STEPS - position
        assert again == records
        state, other = (nnx.state(each) for each in (model, resumed))
        assert same(state, other), name
        like = TrainState.create(model, optim.Adam(0.1), accumulate=2, ema=True)
        ends = [checkpoints.restore(like, EPOCHS * STEPS) for checkpoints in (kept, second)]
        assert same(ends[0].state, ends[1].state), name


def test_a_run_of_several_steps_an_execution_resumes_where_it_was_saved(rng, tmp_path):
    data, options = splits("classification", NETWORKS["mlp_dropout"][1], rng), {"steps_per_execution": 3}
    model, records = train("mlp_dropout", 0, data, steps_per_execution="auto")
    stop = StopAfter(3)  # counts executions; no execution crosses a checkpoint
    with Checkpoints(tmp_path, keep=9) as first:
        train("mlp_dropout", 0, data, callbacks=[stop, Checkpointing(first, every=2)], **options)
        assert first.steps()[-1] == 6
    with Checkpoints(tmp_path) as second:
        callbacks = [Checkpointing(second, every=2, resume=True)]
        resumed, again = train("mlp_dropout", 1, data, callbacks=callbacks, **options)
    assert again == records
    assert same(nnx.state(model), nnx.state(resumed))


DIFFERENT = {
    "another network": ("lenet", {}, 1, "arch is 'mlp_dropout' in the checkpoint and 'lenet' in this run; "),
    "another width": ("mlp_dropout", {"num_hiddens": 9}, 1, "float32[8] in the checkpoint and float32[9] in"),
    "other classes": ("mlp_dropout", {"num_classes": 3}, 1, "float32[10] in the checkpoint and float32[3] in"),
    "no dropout": ("mlp", {}, 1, "model_state/3/rngs/count is unknown in this run"),
    "an average": ("mlp_dropout", {"ema": True}, 1, "ema_params/1/bias is missing in the checkpoint"),
    "accumulated gradients": ("mlp_dropout", {"accumulate": 2}, 1, "opt_state/mini_step is missing in the checkpoint"),
    "another optimizer": ("mlp_dropout", {"optimizer": optim.SGD(0.1, momentum=0.9)}, 1,
                          "opt_state/slots/momentum_buffer/1/bias is missing in the checkpoint"),
    "further slots": ("mlp_dropout", {"optimizer": optim.Adam(0.1, amsgrad=True)}, 1,
                      "opt_state/slots/max_exp_avg_sq/1/bias is missing in the checkpoint"),
    "another dtype": ("mlp_dropout", {"dtype": jnp.bfloat16}, 1,
                      "params/1/bias is float32[8] in the checkpoint and bfloat16[8] in this run"),
    "another kind of keys": ("mlp_dropout", {"impl": "rbg"}, 1,
                             "key is uint32[2] key threefry2x32 in the checkpoint and uint32[4] key rbg in this run"),
    "no such step": ("mlp_dropout", {}, 7, "00000007/manifest.json: no checkpoint of flaxnets: No such file"),
}  # fmt: skip


@pytest.mark.parametrize(("arch", "options", "step", "message"), DIFFERENT.values(), ids=DIFFERENT)
def test_a_checkpoint_of_something_else_is_refused(arch, options, step, message, tmp_path):
    config = {"arch": "mlp_dropout", "sizes": (1, 2)}
    with Checkpoints(tmp_path, config=config) as checkpoints:
        model = flaxnets.create_model("mlp_dropout", num_hiddens=8)
        checkpoints.save(1, TrainState.create(model, optim.Adam(0.1)))
    options = dict(options)
    optimizer, dtype, impl = (options.pop(name, None) for name in ("optimizer", "dtype", "impl"))
    of_state = {name: options.pop(name) for name in ("ema", "accumulate") if name in options}
    if arch.startswith("mlp"):
        options = {"num_hiddens": 8, **options}
    like = TrainState.create(flaxnets.create_model(arch, **options), optimizer or optim.Adam(0.1), **of_state)
    if dtype is not None:
        like = jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.dtype == jnp.float32 else leaf, like)
    if impl is not None:
        like.__dict__["key"] = jax.random.key(0, impl=impl)
    with pytest.raises(CheckpointError, match=r"another run|no checkpoint") as caught:
        Checkpoints(tmp_path, config={**config, "arch": arch}).restore(like, step)
    assert message in str(caught.value)
    assert str(tmp_path / f"{step:08d}") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "keep", [{"keep": 1, "keep_best": 0}, {"keep": 2, "keep_best": 1}, {"keep": 1, "keep_best": 3}]
)
def test_the_last_and_the_best_are_kept(keep, tmp_path):
    scores = [0.5, 0.9, 0.1, 0.9, 0.2, 0.3]
    with Checkpoints(tmp_path, **keep) as checkpoints:
        for step, score in enumerate(scores):
            checkpoints.save(step, state_of(step), score=score)
    best = sorted(range(6), key=lambda step: (scores[step], step))[6 - keep["keep_best"] :]
    assert checkpoints.steps() == sorted({*range(6)[-keep["keep"] :], *best})


@pytest.mark.parametrize("options", [{"keep": 0}, {"keep_best": -1}])
def test_keeping_none_is_refused(options, tmp_path):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=rf"{name}.* got .*{value}"):
        Checkpoints(tmp_path, **options)


@pytest.fixture
def release(monkeypatch):
    """Return an event that delays the writing of checkpoints until it is set."""
    event, write = threading.Event(), Checkpoints._write

    def slowly(self, *arguments):
        event.wait(60)
        write(self, *arguments)

    monkeypatch.setattr(Checkpoints, "_write", slowly)
    return event


def test_saving_returns_before_the_file_is_written(tmp_path, release):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state_of(1))
        assert checkpoints.busy
        assert checkpoints.steps() == []
        release.set()
        checkpoints.wait()
        assert not checkpoints.busy
        assert checkpoints.steps() == [1]


def test_a_checkpoint_outlives_what_it_was_made_of(tmp_path, release):
    state, progress = state_of(1), {"records": [{"epoch": 1}], "sums": [jax.numpy.ones(2)]}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, progress)
        jax.tree.map(lambda leaf: leaf.delete(), (state, progress["sums"]))  # the next step deletes donated arrays
        progress["records"][0]["phase"] = 2  # the run continues to change its records
        progress["records"].append({"epoch": 2})
        release.set()
    found = checkpoints.restore(state_of(2), 1)
    assert same(found.state, state_of(1))
    assert found.progress == {"records": [{"epoch": 1}], "sums": [[1.0, 1.0]]}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CheckpointError, match=r"file/00000001: could not be saved: .*File exists.*correct the perm"):
        Checkpoints(tmp_path / "file", asynchronous=False).save(1, state_of(1))
    assert (tmp_path / "file").read_text() == "no folder"


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("policy", ["stop", "skip", "ignore"])
@pytest.mark.filterwarnings("ignore:.*is infinite or NaN:UserWarning")
def test_the_last_checkpoint_is_finite(policy, value, tmp_path, rng):
    data = splits("regression", (3,), rng)
    third = np.random.default_rng((0, 1)).permutation(len(data[0]))[8:12]  # the batch of step 3
    data[0].targets[third[0]] = value
    messages = {"stop": "became infinite or NaN at step 3 of epoch 1", "ignore": "is infinite or NaN; earlier"}
    with Checkpoints(tmp_path, asynchronous=False) as checkpoints:
        step, callbacks = StepOptions(nonfinite=policy, ema_decay=0.5), [Checkpointing(checkpoints, every=1)]
        options = {"step": step, "callbacks": callbacks, "epochs": 1}
        if policy == "skip":
            train("linear_regression", 0, data, **options)
        else:
            with pytest.raises((FloatingPointError, CheckpointError), match=messages[policy]):
                train("linear_regression", 0, data, **options)
        last = checkpoints.steps()[-1]
    assert last == {"stop": 3, "skip": STEPS, "ignore": 2}[policy]
    model = flaxnets.create_model("linear_regression", n_features=3)
    found = checkpoints.restore(TrainState.create(model, optim.Adam(0.1), ema=True), last)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((found.state.params, found.state.opt_state)))


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("step", [1, STEPS, STEPS + 3])
def test_a_signal_loses_no_step(number, step, tmp_path, rng):
    taken = []

    class Kill(Callback):
        def on_step(self, loop: Loop) -> None:
            taken.append(loop.step)
            if len(taken) == step:
                os.kill(os.getpid(), number)

    with Stopping() as stopping, Checkpoints(tmp_path) as checkpoints:
        callbacks = [Kill(), stopping, Checkpointing(checkpoints)]
        train("linear_regression", 0, splits("regression", (3,), rng), callbacks=callbacks)
    assert len(taken) == step
    assert checkpoints.steps()[-1] == step
    assert stopping.exit_status == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
