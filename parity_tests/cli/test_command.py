"""Tests of ``python train.py`` as users call it, in a separate process where that matters."""

import csv
import errno
import inspect
import json
import subprocess
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import flaxnets
import torchref
from benchmarks.reliability import FAULTS
from benchmarks.run_faults import ENVIRONMENT, TRAIN, begin, wait_for
from flaxnets.cli import train as training
from flaxnets.cli.train_options import parse_options
from flaxnets.cli.train_plan import make_plan
from flaxnets.data import DataError, list_datasets, load
from flaxnets.kernels import choose
from flaxnets.registry import get_entry
from flaxnets.training import TASKS, StepOptions, Task
from flaxnets.training.objectives import means
from flaxnets.training.progress import describe
from flaxnets.weights import load_weights


def train(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [*TRAIN, *map(str, arguments)]
    return subprocess.run(line, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=600, check=False)


BAD = {
    "arch": (["--arch", "densnet"], "unknown --arch 'densnet'; did you mean 'densenet'"),
    "dataset": (["--dataset", "minst"], "unknown --dataset 'minst'; did you mean 'mnist'"),
    "kind of dataset": (["--dataset", "foldr:x"], "unknown dataset 'foldr:x'; did you mean 'folder:PATH'"),
    "device": (["--device", "abacus"], "unknown --device 'abacus'; known: auto, cpu, gpu, tpu"),
    "absent device": (["--device", "tpu"], "--device tpu: JAX finds no such device, only cpu"),
    "optimizer": (["--optimizer", "sdg"], "unknown --optimizer 'sdg'; did you mean 'sgd'"),
    "negative epochs": (["--epochs", "-1"], "--epochs must be positive, got -1"),
    "zero batch size": (["--batch-size", "0"], "--batch-size must be positive, got 0"),
    "zero examples": (["--train-examples", "0"], "--train-examples must be positive, got 0"),
    "no rate": (["--lr", "nan"], "--lr must be positive, got nan"),
    "seed": (["--seed", "-4"], "--seed must be between 0 and 2**32 - 1, got -4"),
    "an average of nothing": (["--ema-decay", "1"], "--ema-decay must be at least 0 and below 1, got 1.0"),
    "no patience": (["--patience", "0"], "--patience must be positive, got 0"),
    "a warm-up beyond the end": (
        ["--arch", "lenet", "--epochs", "1", "--train-examples", "64", "--warmup-steps", "2"],
        "--warmup-steps must be below the 2 updates of this run, got 2",
    ),
    "smooth text": (["--arch", "rnn_lm", "--label-smoothing", "0.1"], "--label-smoothing is for images"),
    "no number": (["--epochs", "many"], "many"),
    "unknown option": (["--epoch", "3"], "unknown option --epoch; did you mean '--epochs'"),
    "steps between checkpoints": (["--checkpoint-every", "0"], "--checkpoint-every must be positive, got 0"),
    "a wrong probability": (["--arch", "mlp", "--flip", "1.5"], "--flip must be a probability, got 1.5"),
    "flipped text": (["--arch", "rnn_lm", "--flip", "0.5"], "--flip is for images; rnn_lm is for language"),
    "no run": (["--resume", "nowhere"], "no run at nowhere: there is no such folder"),
    "no folder": (["--dataset", "folder:nowhere"], "nowhere"),
    "no fraction": (["--arch", "mlp", "--epochs", "1.5"], "Error parsing --epochs"),
    "a huge number": (["--epochs", str(10**30)], f"--epochs must be below {2**31}, got {10**30}"),
    "nothing": (["--out", ""], "--out must be a text without NUL, got ''"),
    "images for a line": (
        ["--arch", "linear_regression", "--dataset", "mnist"],
        "--dataset mnist is not for regression, which linear_regression is for; use --dataset diabetes or line",
    ),
    "a line for images": (["--dataset", "line"], "--dataset line is not for classification, which densenet is for"),
    "images for text": (["--arch", "rnn_lm", "--dataset", "mnist"], "use --dataset topics"),
    "too many features": (
        ["--arch", "linear_regression_sequential", "--dataset", "diabetes"],
        "has examples of shape (10,) and linear_regression_sequential takes only (2,); use --dataset line",
    ),
    "a layer": (["--arch", "my_linear"], "--arch my_linear is a layer, with nothing to train on"),
    "a layer and images": (["--arch", "my_linear", "--dataset", "mnist"], "--arch my_linear is a layer"),
    "no files": (["--dataset", "cifar10"], "no files of cifar10: put data_batch_1.bin to data_batch_5.bin and"),
    "unwritable out": (["--out", "file/runs"], "--out file/runs: cannot write there: Not a directory"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_message_exit_status_2_and_no_files(arguments, message, here, tmp_path):
    (tmp_path / "file").write_text("a file, no folder")
    status, said = here(*arguments)
    assert (status, said.count("\n")) == (2, 1), said
    assert said.startswith("train.py: error: ")
    assert message in said
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_mistake_ends_the_program_with_its_message_and_status(tmp_path):
    done = train("--arch", "densnet", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == "train.py: error: unknown --arch 'densnet'; did you mean 'densenet' or 'resnet18' or 'lenet'?\n"
    )


def test_networks_are_listed_with_task_size_input_and_paper(here):
    status, said = here("--list-archs")
    assert status == 0
    assert max(map(len, said.splitlines())) <= 100
    _, *rows = [line.split() for line in said.splitlines()]
    assert [row[0] for row in rows] == flaxnets.list_models()
    for name, task, count, shape, *rest in rows:
        entry = get_entry(name)
        with torch.device("meta"):
            twin = torchref.create_model(name)
        assert (task, shape) == (entry.task, "x".join(map(str, entry.input_shape)))
        assert int(count.replace(",", "")) == sum(parameter.numel() for parameter in twin.parameters())
        assert " ".join(rest).startswith(f"{entry.paper or '-'} {entry.dataset or '-'}")


def test_every_dataset_is_in_the_help(here):
    status, said = here("--help")
    assert status == 0
    assert [name for name in list_datasets() if name not in said] == []


# Mistyped values, and the suggestion.
MISTYPED = {
    "--arch": {
        "densnet": "densenet", "DenseNet": "densenet", "densenet121": "densenet", "resnet": "resnet18",
        "resnet-18": "resnet18", "restnet18": "resnet18", "ResNet18": "resnet18", "googlnet": "googlenet",
        "GoogLeNet": "googlenet", "gogglenet": "googlenet", "alex_net": "alexnet", "alexent": "alexnet",
        "vgg-11": "vgg11", "vgg_11": "vgg11", "vgg1": "vgg11", "lennet": "lenet", "LeNet": "lenet", "lenet_bn": "lenet",
        "lenet_batch_norm": "lenet_batchnorm", "lstm": "lstm_lm", "lstmlm": "lstm_lm", "gru-lm": "gru_lm",
        "rnn": "rnn_lm", "mpl": "mlp", "mlp_drop": "mlp_dropout", "linear_regresion": "linear_regression",
        "softmax": "softmax_regression", "nin_avg_pool": "nin_avgpool",
    },
    "--dataset": {
        "minst": "mnist", "MNIST": "mnist", "mnistfull": "mnist-full", "mnist_full": "mnist-full", "cifar": "cifar10",
        "cifar-10": "cifar10", "CIFAR10": "cifar10", "fashionmnist": "fashion-mnist", "fashion_mnist": "fashion-mnist",
        "digit": "digits", "topic": "topics", "diabetis": "diabetes",
    },
    "": {
        "--epoch": "--epochs", "--batchsize": "--batch-size", "--lrr": "--lr",
        "--optimiser": "--optimizer", "--warmup": "--warmup-steps", "--wieght-decay": "--weight-decay",
        "--clip-nrom": "--clip-norm", "--data-set": "--dataset", "--ema": "--ema-decay", "--seeds": "--seed",
        "--dryrun": "--dry-run", "--checkpoint": "--checkpoint-every", "--device-": "--device",
    },
    "--config": {
        "epoch": "epochs", "batchsize": "batch_size", "optimiser": "optimizer", "weight-dekay": "weight_decay",
        "acumulate": "accumulate", "presicion": "precision", "time-limt": "time_limit", "patients": "patience",
    },
}  # fmt: skip


def test_a_mistyped_name_is_told_the_right_one(here, tmp_path):
    wrong = []
    for option, names in MISTYPED.items():
        for typed, meant in names.items():
            (tmp_path / "run.yaml").write_text(f"{typed}: 3\n")
            arguments = {"": [typed, "3"], "--config": ["--config", "run.yaml"]}.get(option, [option, typed])
            status, said = here(*arguments)
            if status != 2 or f"did you mean '{meant}'" not in said:
                wrong.append(said)
    assert len(wrong) <= 2, wrong


# Runs on 96 examples: arguments, exit status, expected output, and the number of recorded epochs.
SHORT = ["--arch", "mlp", "--train-examples", 96, "--batch-size", 32]
ENDS = {
    "every option": (
        ["--epochs", 2, "--optimizer", "nadam", "--schedule", "onecycle", "--weight-decay", 1e-4, "--clip-norm", 1,
         "--label-smoothing", 0.1, "--accumulate", 2, "--ema-decay", 0.9, "--remat", "--nonfinite", "skip",
         "--precision", "bfloat16", "--crop-padding", 2, "--crop-area", 0.8, "--flip", 0.5, "--erase", 0.5, "--mixup",
         0.2, "--normalize", "--checkpoint-every", 2],
        0, "test accuracy", 2,
    ),
    "no progress": (
        ["--epochs", 9, "--lr", 1e-12, "--schedule", "constant", "--patience", 2],
        0, "(no better score for 2 epochs)", 3,
    ),
    "no time": (["--epochs", 9, "--time-limit", 0.001], 0, "(the time limit was reached)", 0),
    "no number": (
        ["--epochs", 2, "--lr", 1e38, "--schedule", "constant"], 1, "became infinite or NaN at step 2 of epoch 1", 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "status", "message", "epochs"), ENDS.values(), ids=ENDS)
def test_a_run_ends_as_it_was_asked_to(arguments, status, message, epochs, here, tmp_path):
    found, said = here(*SHORT, *arguments)
    assert found == status, said
    assert message in said
    (run,) = (tmp_path / "runs").iterdir()
    records = run / "metrics.jsonl"
    assert (len(records.read_text().splitlines()) if records.exists() else 0) == epochs
    model = flaxnets.create_model("mlp")
    load_weights(model, run / "last.safetensors")
    assert all(np.isfinite(array).all() for array in model.state_dict().values())
    config = json.loads((run / "config.json").read_text())
    assert {name: config[name] for name in ("accumulate", "nonfinite")} == {
        "accumulate": 2 if "--accumulate" in arguments else 1,
        "nonfinite": "skip" if "--nonfinite" in arguments else "stop",
    }


CONFIGS = {
    "unknown": ("epoch: 3", "--config run.yaml: unknown option 'epoch'; did you mean 'epochs'"),
    "misspelt": ("weight-dekay: 0.1", "unknown option 'weight-dekay'; did you mean 'weight_decay'"),
    "no flag": ("remat: 3", "remat must be true or false, got 3"),
    "no value": ("epochs: true", "epochs must be one value, got True"),
    "several values": ("lr: [1, 2]", "lr must be one value, got [1, 2]"),
    "out of range": ("epochs: -3", "--epochs must be positive, got -3"),
    "no number": ("epochs: many", "many"),
    "no options": ("just words", "expected lines of 'option: value', got 'just words'"),
    "no YAML": ("epochs: [3", "--config run.yaml: while parsing"),
    "no text": (b"\xff\xfe\x00", "--config run.yaml: "),
    "no file": (None, "--config run.yaml: No such file or directory"),
    "a call": ("epochs: !!python/object/apply:os.mkdir [executed]", "could not determine a constructor"),
}


@pytest.mark.parametrize(("content", "message"), CONFIGS.values(), ids=CONFIGS)
def test_a_bad_config_is_one_message_and_exit_status_2(content, message, here, tmp_path):
    if content is not None:
        (tmp_path / "run.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    status, said = here("--config", "run.yaml")
    assert (status, said.count("\n")) == (2, 1), said
    assert message in said
    assert [path.name for path in tmp_path.iterdir()] in ([], ["run.yaml"])


def test_options_of_a_config_count_where_none_are_given(here, tmp_path):
    (tmp_path / "run.yaml").write_text("arch: mlp\nepochs: 3\ntrain-examples: 96\nlr: 0.02\nremat: true\nseed: null\n")
    status, said = here("--epochs", 1, "--config", "run.yaml")
    assert status == 0, said
    (run,) = (tmp_path / "runs").iterdir()
    config = json.loads((run / "config.json").read_text())
    assert [config[name] for name in ("arch", "epochs", "lr", "remat", "seed")] == ["mlp", 1, 0.02, True, 0]


def test_a_dry_run_takes_two_steps_and_leaves_no_files(here, tmp_path):
    status, said = here("--arch", "lenet", "--dry-run")
    assert status == 0, said
    assert "nothing was saved" in said
    assert not list(tmp_path.iterdir())


FIXED = {("linear_regression_sequential", "n_features")}  # sizes that are not options of a network
METRICS = {
    "classification": {"loss", "accuracy"},
    "language": {"loss", "accuracy", "perplexity"},
    "regression": {"loss"},
}
RUNS = {
    "mlp": (["--epochs", 2], 2, "mnist", [1, 28, 28]),
    "densenet": (["--epochs", 1], 1, "mnist", [1, 96, 96]),
    "nin": (["--epochs", 1, "--dataset", "digits", "--batch-size", 200], 1, "digits", [1, 96, 96]),
    "lstm_lm": (["--epochs", 1], 1, "topics", [35]),
    "linear_regression": (["--epochs", 3, "--dataset", "diabetes"], 3, "diabetes", [10]),
    "linear_regression_sequential": (["--epochs", 4], 4, "line", [2]),
}


IMAGES = ("classification",)
KEPT = {
    "best.safetensors", "checkpoints", "config.json", "curves.png", "last.safetensors", "metrics.csv", "metrics.jsonl",
    "result.json",
}  # fmt: skip


def given_options(arguments):
    pairs = zip(arguments[::2], arguments[1::2], strict=True)
    return {name.removeprefix("--").replace("-", "_"): value for name, value in pairs}


def _first(outputs):
    return outputs[0] if isinstance(outputs, tuple) else outputs


def assert_torch_predicts_the_same(task: Task, model, twin, inputs: np.ndarray, targets: np.ndarray, shape) -> dict:
    """Compare the predictions of both models for all examples, and return the mean metrics."""
    total, forward = Counter(), jax.jit(lambda x: model(x))
    for start in range(0, len(inputs), 200):
        x = task.transform(jnp.asarray(inputs[start : start + 200]), input_shape=shape)
        outputs = forward(x)
        with torch.no_grad():
            given = torch.tensor(np.asarray(x))
            expected = _first(twin(given if given.is_floating_point() else given.long())).numpy()
        np.testing.assert_allclose(_first(outputs), expected, atol=1e-5 * np.abs(expected).max(), rtol=1e-4)
        if task.score == "accuracy":
            np.testing.assert_array_equal(outputs.argmax(1), expected.argmax(1))
        part = jnp.asarray(targets[start : start + 200])
        total.update({k: float(v) for k, v in task.objective(outputs, part, jnp.ones(len(part))).items()})
    return means(total, "test")


@pytest.mark.parametrize("arch", RUNS)
def test_a_run_leaves_weights_that_give_torch_the_same_predictions(arch, tmp_path):
    arguments, epochs, dataset, shape = RUNS[arch]
    done = train("--arch", arch, "--train-examples", 96, "--seed", 3, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith(f"{arch}-")
    assert str(run.relative_to(tmp_path)) in done.stdout.replace("\n", "")
    assert {path.name for path in run.iterdir()} == KEPT | (
        {"confusion.png"} if get_entry(arch).task in IMAGES else set()
    )

    config = json.loads((run / "config.json").read_text())
    expected = {"arch": arch, "epochs": epochs, "train_examples": 96, "seed": 3, "dataset": dataset, "device": "auto"}
    expected["options"] = {"arch": arch, "train_examples": 96, "seed": 3, **given_options(arguments)}
    if arch == training.Options.arch:
        del expected["options"]["arch"]  # options with default values are not recorded
    assert config.items() >= (expected | {"input_shape": shape}).items()
    assert {"lr", "optimizer", "batch_size", "out"} <= config.keys()
    data = load(dataset)
    task = TASKS[data.task]
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record.pop("epoch") for record in records] == list(range(1, epochs + 1))
    names = {f"{part}_{name}" for part in ("train", "test") for name in METRICS[data.task]}
    assert all(record.keys() == names | {f"{task.unit}_per_second", "learning_rate"} for record in records)
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    assert [{name: float(value) for name, value in row.items() if name != "epoch"} for row in rows] == records
    assert describe(records[-1], "test", task.score) in done.stdout.splitlines()[-1]
    assert (" | " in done.stdout) == (data.task == "language")

    options = {name: size for name, size in data.model_options.items() if (arch, name) not in FIXED}
    twin, model = torchref.create_model(arch, **options).eval(), flaxnets.create_model(arch, **options).eval()
    twin.load_state_dict(load_file(run / "last.safetensors"), strict=True)
    load_weights(model, run / "last.safetensors")
    found = assert_torch_predicts_the_same(task, model, twin, data.test.inputs, data.test.targets, tuple(shape))
    for name, value in found.items():
        assert records[-1][name] == pytest.approx(value, rel=1e-4)


def test_a_signal_ends_after_the_step_with_a_checkpoint_of_it(tmp_path):
    fault = FAULTS["run_signalled"]
    assert fault.plant(fault.short, tmp_path) == {"harmless": fault.short}


LONG = ["--arch", "lenet_batchnorm", "--epochs", 2, "--train-examples", 1600, "--batch-size", 8, "--ema-decay", 0.9,
        "--flip", 0.5, "--mixup", 0.2, "--erase", 0.3, "--accumulate", 2]  # fmt: skip


def test_a_killed_run_is_resumed_to_the_same_bits(tmp_path):
    unbroken = train(*LONG, "--out", "unbroken", cwd=tmp_path)
    assert unbroken.returncode == 0, unbroken.stderr
    with begin(*LONG, "--out", "killed", "--checkpoint-every", 20, cwd=tmp_path) as process:
        wait_for("killed/*/checkpoints/*[1-9]0", tmp_path)  # an epoch has 200 steps, so the run is killed within one
        process.kill()
    resumed = train(*LONG, "--out", "killed", "--resume", "auto", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed in epoch" in resumed.stdout
    (one,), (other,) = (tmp_path / "unbroken").iterdir(), (tmp_path / "killed").iterdir()
    for name in ("best.safetensors", "last.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    records = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, other)]
    for record in [*records[0], *records[1]]:
        del record["images_per_second"]
    assert records[0] == records[1]


def test_kernels_are_those_asked_for_and_in_a_dry_run_those_that_are_kept(here, monkeypatch):
    taken = []

    class Recorded(StepOptions):
        def __post_init__(self) -> None:
            super().__post_init__()
            taken.append(self.backend)

    monkeypatch.setattr("flaxnets.training.StepOptions", Recorded)
    for more in (["--kernels", "plain"], ["--kernels", "xla"], ["--dry-run"], ["--dry-run", "--kernels", "plain"], []):
        status, said = here(*SHORT, "--epochs", 1, *more)
        assert status == 0, said
    assert taken == ["plain", "xla", "xla", "plain", choose()]


def test_a_finished_run_is_not_resumed(here):
    arguments = [*SHORT, "--epochs", 1, "--resume", "auto"]
    for said in ("saved in runs/mlp-", "is finished; there is nothing to resume"):
        status, output = here(*arguments)
        assert status == 0
        assert said in output


def test_another_run_is_not_resumed(here, tmp_path):
    status, said = here(*SHORT, "--epochs", 1)
    assert status == 0, said
    (run,) = (tmp_path / "runs").iterdir()
    status, said = here("--resume", run, "--batch-size", 16)
    assert (status, said.count("\n")) == (2, 1), said
    assert "the run was started with other settings: batch_size was 32, now 16" in said
    status, said = here(*SHORT, "--epochs", 1, "--lr", 0.2, "--resume", "auto")
    assert status == 0, said
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_the_twin_in_pytorch_gets_the_same_curves(here, tmp_path):
    status, said = here(
        *SHORT, "--epochs", 2, "--mixup", 0.4, "--clip-norm", 0.5, "--ema-decay", 0.9, "--compare-torch"
    )
    assert status == 0, said
    (run,) = (tmp_path / "runs").iterdir()
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    twins = [json.loads(line) for line in (run / "torch_metrics.jsonl").read_text().splitlines()]
    for record, twin in zip(records, twins, strict=True):
        assert twin["epoch"] == record["epoch"]
        for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy"):
            assert twin[name] == pytest.approx(record[name], rel=1e-4)


# Failures during a run: the function that raises, the exception, and the message.
FAILURES = {
    "no memory": ("flaxnets.training.fit", MemoryError(), "out of memory; use a smaller --batch-size"),
    "no memory on the device": (
        "flaxnets.training.fit", jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."),
        "out of memory; use a smaller --batch-size",
    ),
    "a full disk": (
        "flaxnets.training.Run.log", OSError(errno.ENOSPC, "No space left on device", "metrics.jsonl"),
        "metrics.jsonl: No space left on device; saved in runs/mlp-",
    ),
    "an image that vanished": ("flaxnets.training.fit", DataError("cat.png: gone"), "cat.png: gone; nothing was saved"),
}  # fmt: skip


@pytest.mark.parametrize(("where", "error", "message"), FAILURES.values(), ids=FAILURES)
def test_what_goes_wrong_on_the_way_is_one_line_and_exit_status_1(where, error, message, here, monkeypatch):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(where, fail)
    status, said = here(*SHORT, "--epochs", 1)
    opening, line = said.splitlines()
    assert status == 1
    assert opening.startswith(
        "mlp: 203,530 parameters; mnist: 96 training and 1,000 test examples, 10 classes; on cpu; in runs/mlp-"
    )
    assert message in line


@pytest.mark.parametrize(
    ("precision", "has_bfloat16", "lines"), [("bfloat16", False, 1), ("bfloat16", True, 0), ("float32", False, 0)]
)
def test_a_processor_without_bfloat16_is_said_to_be_faster_with_float32(
    precision, has_bfloat16, lines, here, monkeypatch
):
    monkeypatch.setattr("flaxnets.kernels.has_bfloat16", lambda: has_bfloat16)
    status, said = here(*SHORT, "--dry-run", "--precision", precision)
    assert status == 0
    assert said.count("this processor has no instructions for it, and is faster with float32") == lines


def test_the_examples_of_the_help_can_be_done(here):
    text = inspect.cleandoc(training.Options.__doc__)  # Python 3.13 removes the indentation of docstrings
    lines = [line.split() for line in text.splitlines() if line.startswith("  ")]
    assert len(lines) >= 5
    for prog, *arguments in lines:
        assert prog == "{prog}"
        assert make_plan(parse_options(arguments, "train.py")).updates > 0


def test_metrics_are_written_for_tensorboard(here, tmp_path):
    status, said = here(*SHORT, "--epochs", 1, "--tensorboard")
    assert status == 0, said
    (events,) = tmp_path.glob("runs/*/tensorboard/events.*")
    assert b"test_accuracy" in events.read_bytes()
