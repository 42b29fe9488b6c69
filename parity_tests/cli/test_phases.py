"""Tests of runs that start from the weights of a file, and of runs that continue with other settings."""

import csv
import json

import numpy as np
import pytest
import torch
from flax import nnx
from safetensors.torch import load_file, save_file

import flaxnets
from flaxnets.cli import command
from flaxnets.cli.train_options import Options
from flaxnets.cli.train_plan import make_plan
from flaxnets.optim import lr_scheduler
from flaxnets.training import Run, freeze, make_schedule
from flaxnets.weights import WeightsError, load_fitting_weights, save_weights

LINE = ["--arch", "linear_regression", "--train-examples", 100, "--batch-size", 10]  # ten steps per epoch


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(run, name="last"):
    return {key: array.numpy() for key, array in load_file(run / f"{name}.safetensors").items()}


def test_a_finished_run_goes_on_in_a_phase_whose_schedule_begins_anew(here, tmp_path):
    for out in ("one", "other"):
        status, said = here(*LINE, "--epochs", 2, "--out", out)
        assert status == 0, said
    (run,), (unbroken,) = (tmp_path / "one").iterdir(), (tmp_path / "other").iterdir()
    before = (run / "best.safetensors").read_bytes()
    assert before == (unbroken / "best.safetensors").read_bytes()
    status, said = here("--resume", run, "--epochs", 5, "--lr", 0.01, "--weight-decay", 0.5)
    assert status == 0, said
    assert "a new phase starts after update 20: epochs was 2, now 5; lr was 0.03, now 0.01" in said
    assert "resumed in epoch 3 after step 0" in said
    found, first = records(run), records(unbroken)
    for record in [*found, *first]:
        del record["examples_per_second"]
    phases = [record.pop("phase") for record in found]
    assert (phases, found[:2]) == ([1, 1, 2, 2, 2], first)  # bit-identical until the settings change
    schedule = lr_scheduler.CosineAnnealingLR(0.01, 30)
    assert [record["learning_rate"] for record in found[2:]] == [schedule(t).item() for t in (9, 19, 29)]
    config = json.loads((run / "config.json").read_text())
    assert [phase["update"] for phase in config["phases"]] == [0, 20]
    assert [phase["lr"] for phase in config["phases"]] == [0.03, 0.01]
    assert (config["epochs"], config["weight_decay"]) == (5, 0.5)
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    assert [float(row["test_loss"]) for row in rows] == [record["test_loss"] for record in found]
    assert json.loads((run / "result.json").read_text())["epochs"] == 5
    status, said = here("--resume", run)
    assert (status, "is finished" in said) == (0, True)


def test_a_phase_that_is_broken_off_ends_with_the_bits_of_one_that_is_not(here, tmp_path, monkeypatch):
    for out in ("whole", "broken"):
        assert here(*LINE, "--epochs", 1, "--out", out)[0] == 0
    (whole,), (broken,) = (tmp_path / "whole").iterdir(), (tmp_path / "broken").iterdir()
    assert here("--resume", whole, "--epochs", 4, "--schedule", "linear", "--warmup-steps", 5)[0] == 0
    kept = Run.log

    def full(self, record, of=""):
        if record["epoch"] == 3:
            raise OSError(28, "No space left on device", "metrics.jsonl")
        kept(self, record, of)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", full)
        arguments = ["--resume", broken, "--epochs", 4, "--schedule", "linear", "--warmup-steps", 5]
        status, said = here(*arguments)
        assert (status, "No space left" in said) == (1, True)
    status, said = here("--resume", broken)
    assert status == 0, said
    assert "new phase" not in said
    for name in ("best.safetensors", "last.safetensors"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()
    rates = [[record["learning_rate"] for record in records(run)] for run in (whole, broken)]
    assert rates[0] == rates[1]


# Options together with --resume, and the expected message.
REFUSED = {
    "no more epochs": (["--lr", 0.5], "has done 1 whole epochs, and --epochs is 1; use --epochs 2 or more; lr was"),
    "fewer epochs": (["--epochs", 1, "--flip", 0.5], "--flip is for images; linear_regression is for regression"),
    "another batch": (["--batch-size", 5, "--epochs", 3], "started with other settings: batch_size was 10, now 5"),
    "another optimizer": (["--optimizer", "adam", "--epochs", 3], "optimizer was 'sgd', now 'adam'"),
    "a long warm-up": (["--epochs", 2, "--warmup-steps", 15], "must be below the 10 updates of this phase, got 15"),
    "PyTorch beside it": (["--epochs", 2, "--compare-torch"], "--compare-torch cannot be used for a run in phases"),
}  # fmt: skip


def test_what_cannot_change_in_a_phase_is_said_and_nothing_is_written(here, tmp_path):
    assert here(*LINE, "--epochs", 1)[0] == 0
    (run,) = (tmp_path / "runs").iterdir()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for arguments, message in REFUSED.values():
        status, said = here("--resume", run, *arguments)
        assert (status, said.count("\n"), message in said) == (2, 1, True), said
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["cosine", "constant", "linear", "step", "onecycle"])
def test_a_schedule_that_begins_later_is_the_same_one_moved(name):
    moved, plain = make_schedule(name, 0.1, 50, start=20), make_schedule(name, 0.1, 30)
    steps = np.arange(30)
    np.testing.assert_array_equal([moved(20 + t) for t in steps], [plain(t) for t in steps])
    assert moved(3) == plain(0)


def test_resume_auto_says_what_it_found(here, tmp_path):
    arguments = [*LINE, "--epochs", 1, "--resume", "auto"]
    status, said = here(*arguments)
    assert (status, "--resume auto: no run with these options in runs; a new one starts" in said) == (0, True)
    (run,) = (tmp_path / "runs").iterdir()
    assert f"--resume auto: found runs/{run.name}" in here(*arguments)[1]


def test_a_run_of_a_yaml_file_is_resumed_by_its_folder(here, tmp_path):
    (tmp_path / "line.yaml").write_text("arch: linear_regression\ntrain-examples: 100\nepochs: 1\n")
    assert here("--config", "line.yaml")[0] == 0
    (run,) = (tmp_path / "runs").iterdir()
    (tmp_path / "line.yaml").unlink()
    status, said = here("--resume", run, "--epochs", 2)
    assert status == 0, said


def test_the_path_of_a_dataset_is_kept_from_the_root_on(here, tmp_path, monkeypatch, capsys):
    (tmp_path / "text.txt").write_text("in the beginning was the word " * 100)
    status, said = here("--arch", "rnn_lm", "--dataset", "text:text.txt", "--epochs", 1, "--train-examples", 8)
    assert status == 0, said
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "config.json").read_text())["dataset"] == f"text:{tmp_path}/text.txt"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert command.main(["evaluate", str(run), "--split", "train"]) == 0
    assert "train loss" in capsys.readouterr().out


def saved(model, path, change):
    state = change({name: torch.tensor(np.array(array)) for name, array in model.state_dict().items()})
    torch.save(state, path) if path.suffix == ".pt" else save_file(state, path)
    return state


def prefixed(prefix):
    return lambda state: {f"{prefix}{name}": array for name, array in state.items()}


# The arrays of a file as a function of the network's state, and the expected message.
FILES = {
    "all": (lambda state: state, ["10 of 10 arrays loaded"]),
    "module.": (prefixed("module."), ["10 of 10 arrays loaded, without the prefix 'module.'"]),
    "two prefixes": (prefixed("module._orig_mod."), ["10 of 10 arrays loaded, without the prefix 'module._orig_mod.'"]),
    "float64": (
        lambda state: {name: array.double() for name, array in state.items()},
        ["10 of 10 arrays loaded", "cast from float64: 10"],
    ),
    "bfloat16": (
        lambda state: {name: array.bfloat16() for name, array in state.items()},
        ["10 of 10 arrays loaded", "cast from bfloat16: 10"],
    ),
    "another head": (
        lambda state: {**state, "fc3.weight": torch.zeros(1000, 84), "fc3.bias": torch.zeros(1000)},
        ["8 of 10 arrays loaded",
         "skipped because of the shape: fc3.weight (1000, 84) in the file and (10, 84) in the module; "
         "fc3.bias (1000,) in the file and (10,) in the module"],
    ),
    "no head": (
        lambda state: {name: array for name, array in state.items() if not name.startswith("fc3.")},
        ["8 of 10 arrays loaded", "missing in the file: fc3.weight, fc3.bias"],
    ),
    "more": (
        lambda state: {**state, **{f"aux.{i}": torch.zeros(1) for i in range(10, 22)}},
        ["10 of 10 arrays loaded",
         "not in the module: " + ", ".join(f"aux.{i}" for i in range(10, 20)) + ", and 2 more"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(("change", "lines"), FILES.values(), ids=FILES)
def test_what_fits_of_a_file_is_loaded_and_the_rest_is_listed(change, lines, suffix, tmp_path):
    source = flaxnets.create_model("lenet_relu", rngs=nnx.Rngs(1))
    path = tmp_path / f"weights{suffix}"
    state = saved(source, path, change)
    model = flaxnets.create_model("lenet_relu")
    own = dict(model.state_dict())
    fitted = load_fitting_weights(model, path)
    assert fitted.lines() == lines
    for name, array in model.state_dict().items():
        stored = state.get(fitted.prefix + name)
        expected = own[name] if stored is None or stored.shape != array.shape else stored.float().numpy()
        np.testing.assert_array_equal(array, expected)


def test_a_file_of_which_nothing_fits_is_an_error(tmp_path):
    save_weights(flaxnets.create_model("mlp"), tmp_path / "mlp.safetensors")
    model = flaxnets.create_model("lenet")
    before = dict(model.state_dict())
    with pytest.raises(
        WeightsError, match=r"no parameter fits\. The file has 1\.bias \(256,\), .*; the module has 0\.w"
    ):
        load_fitting_weights(model, tmp_path / "mlp.safetensors")
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_run_begins_with_the_weights_of_another_and_keeps_the_frozen_ones(here, tmp_path):
    short = ["--arch", "mlp", "--train-examples", 96, "--batch-size", 32, "--epochs", 1]
    assert here(*short, "--out", "first")[0] == 0
    (first,) = (tmp_path / "first").iterdir()
    status, said = here(
        *short, "--init-from", first, "--freeze", "1", "--optimizer", "adamw", "--weight-decay", 0.5, "--seed", 1
    )
    assert status == 0, said
    assert f"--init-from {first}: 4 of 4 arrays loaded" in said
    assert "203,530 parameters (200,960 frozen)" in said
    (second,) = (tmp_path / "runs").iterdir()
    before, after = weights(first, "best"), weights(second)
    for name in before:
        assert np.array_equal(before[name], after[name]) == name.startswith("1."), name
    config = json.loads((second / "config.json").read_text())
    assert (config["init_from"], config["freeze"]) == (str(first), ["1"])
    first.rename(tmp_path / "gone")  # the resumed run no longer needs the initial weights
    assert here("--resume", second, "--epochs", 2)[0] == 0
    for name, array in weights(second).items():
        assert np.array_equal(before[name], array) == name.startswith("1."), name


# Invalid options of a network, and the message.
WRONG = {
    "no match": (["--freeze", "l.*"], "--freeze: no parameter or module matches 'l.*'; known: 1,"),
    "a mistyped name": (["--freeze", "1.wieght"], "no parameter or module matches '1.wieght'; did you mean '1.weight'"),
    "all": (["--freeze", "*"], "--freeze: '*' freezes all 4 parameters; nothing is left to train"),
    "all in parts": (["--freeze", "1", "--freeze", "3.*"], "freezes all 4 parameters; nothing is left to train"),
    "no file": (["--init-from", "nowhere.pt"], "--init-from {here}/nowhere.pt: No such file or directory"),
    "no run": (["--init-from", "folder"], "--init-from {here}/folder/best.safetensors: No such file or directory"),
    "another network": (["--init-from", "lenet.safetensors"], "lenet.safetensors: no parameter fits. The file has "),
    "no weights": (["--init-from", "text.pt"], "--init-from {here}/text.pt: not an intact safetensors file"),
}  # fmt: skip


def test_weights_and_patterns_that_do_not_fit_are_one_line_and_no_files(here, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.pt").write_text("no weights, but more than eight bytes")
    save_weights(flaxnets.create_model("lenet"), tmp_path / "lenet.safetensors")
    before = sorted(tmp_path.rglob("*"))
    for arguments, message in WRONG.values():
        status, said = here("--arch", "mlp", "--dataset", "digits", "--epochs", 1, *arguments)
        assert (status, said.count("\n"), message.format(here=tmp_path) in said) == (2, 1, True), said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("pattern", ["0", "1*", "*.bias", "1", "*0.weight"])
def test_a_pattern_is_of_names_of_parameters_and_of_modules(pattern):
    model = flaxnets.create_model("lenet_batchnorm")
    frozen = freeze(model, [pattern])
    names = [name for name, _ in flaxnets.named_parameters(model)]
    assert 0 < len(frozen) < len(names)
    assert frozen == [name for name, p in flaxnets.named_parameters(model) if not p.requires_grad]


def test_a_batch_of_one_for_batch_normalisation_is_refused_before_anything_is_made(here, tmp_path):
    for arch in ("lenet_fc_batchnorm", "lenet_batchnorm"):
        for option in (["--batch-size", 1, "--train-examples", 9], ["--train-examples", 1]):
            status, said = here("--arch", arch, "--dataset", "digits", "--epochs", 1, *option)
            assert (status, said.count("\n")) == (2, 1), said
            assert "expected more than 1 value per channel when training, got an input of shape (1, 120)" in said
            assert "use --batch-size and --train-examples of 2 or more" in said
    assert not list(tmp_path.iterdir())
    # Two examples per batch are enough. A last batch of one example is dropped. Networks without batch norm accept one.
    plan = make_plan(Options(arch="lenet_fc_batchnorm", dataset="digits", batch_size=2, train_examples=3))
    assert plan.steps == 1
    assert make_plan(Options(arch="mlp", dataset="digits", batch_size=1, train_examples=3)).steps == 3
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        torch.nn.BatchNorm1d(120)(torch.ones(1, 120))
