"""Tests of the run configuration: from the command line, YAML and older runs to ``config.json`` and back."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from test_cli import make_run

from flaxnets.cli import main
from flaxnets.cli.common import UsageError
from flaxnets.cli.train_options import Options, parse_options
from flaxnets.cli.train_plan import make_plan
from flaxnets.run_config import Phase, RunConfig, resume_rules
from flaxnets.settings import OnResume
from flaxnets.training import TASKS, RunError, load_run, read_config
from flaxnets.training.objectives import means

# The config.json of a run with two phases, in the version before versions were numbered.
VERSION_1 = {
    "epochs": 3, "batch_size": 10, "lr": 0.01, "optimizer": "sgd", "arch": "linear_regression", "freeze": [],
    "seed": 0, "data_dir": "/home/data", "download": False, "bad_files": "stop", "workers": 2, "train_examples": 100,
    "normalize": False, "label_smoothing": 0.0, "accumulate": 1, "nonfinite": "stop", "crop_area": 1.0,
    "crop_padding": 0, "flip": 0.0, "erase": 0.0, "mixup": 0.0, "precision": "float32", "kernels": "plain",
    "remat": False, "device": "auto", "out": "runs", "resume": "runs/line", "compare_torch": False,
    "tensorboard": False, "init": None, "dataset": "line", "init_from": None, "task": "regression", "classes": None,
    "vocabulary": None, "model_options": {"n_features": 2}, "input_shape": [2], "mean": None, "std": None,
    "options": {
        "arch": "linear_regression", "train_examples": 100, "epochs": 3, "batch_size": 10, "lr": 0.01,
        "kernels": "plain", "warmup_steps": 0,
    },
    "warmup_steps": 0,
    "phases": [
        {"update": 0, "epoch": 1, "step": 0, "epochs": 1, "lr": 0.02, "warmup_steps": 0, "kernels": "xla"},
        {"update": 10, "epoch": 2, "step": 0, "epochs": 3, "lr": 0.01, "warmup_steps": 0, "kernels": "plain"},
    ],
}  # fmt: skip


def test_a_run_without_a_version_is_loaded_evaluated_exported_and_resumed(here, tmp_path):
    run = tmp_path / "line"
    make_run(run, "linear_regression", VERSION_1, n_features=2)
    config = load_run(run).config
    assert (config.backend, config.options.backend, config.options.warmup_steps) == ("plain", "plain", 0)
    assert [phase.settings["backend"] for phase in config.phases] == ["xla", "plain"]
    assert config.phases[1].update == 10
    assert make_plan(config.options).differences(config) == {}
    assert main(["evaluate", str(run)]) == 0
    assert main(["export", str(run), "--to", "safetensors"]) == 0
    status, said = here("--resume", run, "--lr", 0.05)
    assert status == 0, said
    assert "a new phase starts after update 0: lr was 0.01, now 0.05" in said
    written = json.loads((run / "config.json").read_text())
    assert (written["version"], written["backend"], written["lr"]) == (2, "plain", 0.05)
    assert [phase["backend"] for phase in written["phases"]] == ["xla", "plain", "plain"]
    assert "kernels" not in json.dumps(written)


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("mlp", {"dataset": "digits", "normalize": True, "mixup": 0.2, "freeze": ("1",)}),
        ("rnn_lm", {"clip_norm": 2.0, "time_limit": 3.5}),
        ("nin", {"train_examples": 64}),
    ],
)
def test_a_configuration_is_saved_and_loaded_as_itself(arch, options):
    config = make_plan(Options(arch=arch, **options)).config
    phase = Phase(update=3, epoch=2, step=1, settings=config.phase_settings())
    for each in (config, dataclasses.replace(config, phases=(phase,))):
        assert RunConfig.from_json(json.loads(json.dumps(each.to_json()))).to_json() == each.to_json()
    loaded = RunConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert dataclasses.replace(loaded, options=config.options) == config


def test_a_command_line_overrides_yaml_and_yaml_overrides_the_resumed_run(tmp_path):
    make_run(tmp_path / "line", "linear_regression", VERSION_1)
    (tmp_path / "run.yaml").write_text("lr: 2e-2\nkernels: xla\nremat: true\nfreeze: a\n")
    files = ["--resume", str(tmp_path / "line"), "--config", str(tmp_path / "run.yaml")]
    options = parse_options([*files, "--epochs", "7", "--freeze", "b"], "train.py")
    assert (options.arch, options.batch_size, options.epochs) == ("linear_regression", 10, 7)
    assert (options.lr, options.backend, options.remat, options.freeze) == (0.02, "xla", True, ("a", "b"))
    options = parse_options([*files, "--kernels", "cudnn", "--no-remat"], "train.py")
    assert (options.backend, options.remat, options.epochs) == ("cudnn", False, 3)
    (tmp_path / "run.yaml").write_text(f"resume: {tmp_path}/line\nepochs: 9\n")
    options = parse_options(["--config", str(tmp_path / "run.yaml")], "train.py")
    assert (options.arch, options.epochs, options.lr) == ("linear_regression", 9, 0.01)


# A line of YAML, and the value of the option.
VALUES = {
    "lr: 1e-3": 0.001,
    "lr: 1": 1.0,
    "epochs: '3'": 3,
    "device: 0": "0",
    "csv-label-column: 2": "2",
    "backend: onednn": "onednn",
    "kernels: onednn": "onednn",
    "freeze: [a, 3]": ("a", "3"),
}
# A line of YAML, and the error.
BAD_VALUES = {
    "epochs: 1.5": "epochs must be a whole number, got 1.5",
    "epochs: many": "epochs must be a whole number, got 'many'",
    "lr: fast": "lr must be a number, got 'fast'",
    "backend: fast": "backend must be one of auto, plain, xla, onednn, cudnn, got 'fast'",
    "optimizer: sdg": "unknown --optimizer 'sdg'; did you mean 'sgd'",
    "schedule: cosin": "unknown --schedule 'cosin'; did you mean 'cosine'",
    "flip: 2": "--flip must be a probability, got 2.0",
    "remat: 'yes'": "remat must be true or false, got 'yes'",
    "freeze: [{a: 1}]": "freeze must be one value, got {'a': 1}",
    "arch: ''": "--arch must be a text without NUL, got ''",
    "config: other.yaml": "unknown option 'config'",
}


def test_values_of_yaml_are_converted_to_the_type_of_their_option(tmp_path):
    for line, expected in VALUES.items():
        (tmp_path / "run.yaml").write_text(line)
        options = parse_options(["--config", str(tmp_path / "run.yaml")], "train.py")
        name = line.partition(":")[0].replace("-", "_")
        value = getattr(options, {"kernels": "backend"}.get(name, name))
        assert (value, type(value)) == (expected, type(expected)), line
    for line, message in BAD_VALUES.items():
        (tmp_path / "run.yaml").write_text(line)
        with pytest.raises(UsageError) as caught:
            parse_options(["--config", str(tmp_path / "run.yaml")], "train.py")
        assert message in str(caught.value)


# Words after "train", and the error.
WORDS = {
    "--epochs": "--epochs needs a value. Expected N",
    "--epochs --lr 3": "--epochs needs a value. Expected N",
    "--remat=3": "--remat takes no value, got '3'",
    "--no-epochs": "unknown option --no-epochs",
    "--lr 1,5": "Error parsing --lr: could not convert string to float: '1,5'",
    "--kernels fast": "unknown --backend 'fast'; known: auto, plain",
    "mlp": "Unrecognized options: mlp",
}


@pytest.mark.parametrize(("words", "message"), WORDS.items(), ids=WORDS)
def test_words_that_are_no_options_are_named(words, message):
    with pytest.raises(UsageError) as caught:
        parse_options(words.split(), "train.py")
    assert message in str(caught.value)


# Changes of a config.json, and the error.
DAMAGED = {
    "a newer version": ({"version": 3}, r"it has version 3\. Expected at most 2\. Fix: use a newer version"),
    "no number": ({"epochs": "x"}, "config.json: epochs must be a whole number, got 'x'"),
    "no flag": ({"remat": 3}, "config.json: remat must be true or false, got 3"),
    "a shape of words": ({"input_shape": ["a"]}, "input_shape must be a whole number, got 'a'"),
    "no options": ({"options": 3}, "expected lines of 'option: value', got 3"),
    "an unknown option": ({"options": {"epoch": 3}}, "unknown option 'epoch'; did you mean 'epochs'"),
    "options of the network": ({"model_options": []}, r"model_options must be a mapping, got \[\]"),
    "a phase without a start": ({"phases": [{"update": 3}]}, "a phase lacks epoch"),
    "no phase": ({"phases": [3]}, "a phase must be a mapping, got 3"),
    "no phases": ({"phases": 3}, "phases must be a list, got 3"),
}


def test_a_damaged_configuration_is_an_error_with_the_value(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(VERSION_1))
    assert read_config(tmp_path).arch == "linear_regression"
    for change, message in DAMAGED.values():
        (tmp_path / "config.json").write_text(json.dumps({**VERSION_1, **change}))
        with pytest.raises(RunError, match=message):
            read_config(tmp_path)


def test_every_field_says_whether_a_resumed_run_may_change_it():
    rules = resume_rules()
    named = {rule: {name for name, each in rules.items() if each is rule} for rule in OnResume}
    processes = {"distributed", "coordinator", "num_processes", "process_id"}
    assert named[OnResume.UNSAVED] == {"config", "resume", "dry_run", "list_archs", *processes}
    assert named[OnResume.NEW_PHASE] == {
        "epochs", "lr", "schedule", "warmup_steps", "weight_decay", "label_smoothing", "nonfinite", "crop_area",
        "crop_padding", "flip", "erase", "mixup", "precision", "backend", "batch_statistics", "remat",
    }  # fmt: skip
    assert {"batch_size", "optimizer", "seed", "dataset", "input_shape", "mean"} <= named[OnResume.FIXED]
    assert {"out", "device", "patience", "classes", "phases"} <= named[OnResume.FREE]


@pytest.mark.parametrize(("name", "shape"), [("classification", (1, 4, 4)), ("language", (5,)), ("regression", (3,))])
def test_a_task_knows_its_inputs_metrics_and_the_measure_of_torch(name, shape, rng):
    task, model_options = TASKS[name], {"vocab_size": 7}
    example = task.example_inputs(shape, 6)
    drawn = task.draw(rng, 6, shape, model_options)
    assert (drawn.shape, drawn.dtype) == (example.shape, example.dtype)
    outputs, targets = {
        "classification": (rng.normal(size=(6, 7)), rng.integers(0, 7, 6)),
        "language": (rng.normal(size=(30, 7)), rng.integers(0, 7, (6, 5))),
        "regression": (rng.normal(size=(6, 2)), rng.normal(size=(6, 2))),
    }[name]
    weights = np.array([1, 1, 0, 1, 1, 0], np.float32)
    ours = (jnp.asarray(outputs), None) if task.of_text else jnp.asarray(outputs)
    theirs = (torch.tensor(outputs), None) if task.of_text else torch.tensor(outputs)
    sums = task.objective(ours, jnp.asarray(targets), jnp.asarray(weights))
    expected = task.torch_measure(
        torch.nn.functional, theirs, torch.tensor(targets), torch.tensor(weights), label_smoothing=0.0
    )
    assert sums.keys() == expected.keys()
    for key, value in sums.items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-5)
    assert means(sums, "test").keys() == {f"test_{metric}" for metric in task.metrics}
    assert f"test_{task.score}" in means(sums, "test")
