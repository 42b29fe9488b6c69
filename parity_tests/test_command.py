"""``python train.py``, called as a person calls it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import flaxnets
import torchref
from flaxnets.data import fit_images, load
from flaxnets.registry import get_entry
from flaxnets.weights import load_weights

TRAIN = [sys.executable, str(Path(__file__).parents[1] / "train.py")]


def train(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [*TRAIN, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)


BAD = {
    "arch": (["--arch", "densnet"], "unknown --arch 'densnet'; did you mean 'densenet'"),
    "dataset": (["--dataset", "minst"], "unknown --dataset 'minst'; did you mean 'mnist'"),
    "device": (["--device", "abacus"], "abacus"),
    "absent device": (["--device", "tpu"], "--device tpu: JAX finds none here, only cpu"),
    "optimizer": (["--optimizer", "sdg"], "sdg"),
    "negative epochs": (["--epochs", "-1"], "--epochs must be positive, got -1"),
    "zero batch size": (["--batch-size", "0"], "--batch-size must be positive, got 0"),
    "zero examples": (["--train-examples", "0"], "--train-examples must be positive, got 0"),
    "no rate": (["--lr", "nan"], "--lr must be positive, got nan"),
    "seed": (["--seed", "-4"], "--seed must be between 0 and 2**32 - 1, got -4"),
    "no number": (["--epochs", "many"], "many"),
    "unknown option": (["--epoch-count", "3"], "--epoch-count"),
    "unwritable out": (["--out", "file/runs"], "--out file/runs: cannot write there: Not a directory"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_message_exit_status_2_and_no_files(arguments, message, tmp_path):
    (tmp_path / "file").write_text("a file, no folder")
    done = train(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_networks_are_listed(tmp_path):
    done = train("--list-archs", cwd=tmp_path)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == flaxnets.list_models()


@pytest.mark.parametrize(("arch", "epochs"), [("mlp", 2), ("densenet", 1)])
def test_a_run_leaves_weights_that_give_torch_the_same_predictions(arch, epochs, tmp_path):
    done = train("--arch", arch, "--epochs", epochs, "--train-examples", 96, "--seed", 3, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith(f"{arch}-")
    assert str(run.relative_to(tmp_path)) in done.stdout.replace("\n", "")
    assert sorted(path.name for path in run.iterdir()) == ["config.json", "metrics.jsonl", "model.safetensors"]

    config = json.loads((run / "config.json").read_text())
    expected = {"arch": arch, "epochs": epochs, "train_examples": 96, "seed": 3, "dataset": "mnist", "device": "auto"}
    assert config.items() >= expected.items()
    assert {"lr", "optimizer", "batch_size", "out"} <= config.keys()
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record.pop("epoch") for record in records] == list(range(1, epochs + 1))
    names = {"train_loss", "train_accuracy", "test_loss", "test_accuracy", "images_per_second"}
    assert all(record.keys() == names for record in records)
    assert f"{records[-1]['test_accuracy']:.2%}" in done.stdout

    twin = torchref.create_model(arch).eval()
    twin.load_state_dict(load_file(run / "model.safetensors"), strict=True)
    model = flaxnets.create_model(arch).eval()
    load_weights(model, run / "model.safetensors")
    test = load("mnist").test
    correct, forward = 0, jax.jit(lambda x: model(x))
    for start in range(0, 1000, 200):
        images = fit_images(jnp.asarray(test.inputs[start : start + 200]), get_entry(arch).input_shape)
        with torch.no_grad():
            expected = twin(torch.tensor(np.asarray(images))).argmax(1).numpy()
        predictions = np.asarray(forward(images)).argmax(1)
        np.testing.assert_array_equal(predictions, expected)
        correct += (predictions == test.targets[start : start + 200]).sum()
    assert correct / 1000 == pytest.approx(records[-1]["test_accuracy"])


def test_ctrl_c_ends_after_the_step_with_the_weights_so_far(tmp_path):
    command = [*TRAIN, "--arch", "mlp", "--epochs", "100000"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("runs/*/metrics.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    (run,) = (tmp_path / "runs").iterdir()
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert f"interrupted after {len(records)} whole epochs" in stdout
    torchref.create_model("mlp").load_state_dict(load_file(run / "model.safetensors"), strict=True)
    assert sorted(path.name for path in run.iterdir()) == ["config.json", "metrics.jsonl", "model.safetensors"]
