"""Tests that the examples run and are short."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import conftest
import jax
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

import torchref

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs the ``main`` of an example in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run_main(name, **options):
        with jax.numpy_rank_promotion("allow"):  # as in a user's program
            return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](**options)

    return run_main


def test_examples_are_short_and_listed():
    listed = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) < 80, path
        assert f"[{path.name}]({path.name})" in listed


def test_a_classifier_is_trained_on_a_folder(run, capsys):
    rng = np.random.default_rng(0)
    for name, brightness in {"dark": 20, "bright": 220}.items():
        (Path("photos") / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(brightness - 20, brightness + 20, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(f"photos/{name}/{i}.png")
    records = run("train_on_folder", folder="photos", arch="lenet_rgb", size=32, epochs=2, batch_size=8)
    assert [record["epoch"] for record in records] == [1, 2]
    assert load_file("classifier.safetensors")["fc3.weight"].shape == (2, 84)
    assert capsys.readouterr().out.startswith("32 images of bright, dark for training, 8 for evaluation\n")


def test_a_checkpoint_of_torch_is_fine_tuned(run, capsys):
    twin = torchref.create_model("lenet_batchnorm", num_classes=4)
    torch.save({"epoch": 3, "state_dict": twin.state_dict()}, "old.pt")
    head, whole = run("fine_tune", checkpoint="old.pt", arch="lenet_batchnorm", dataset="digits", epochs=2)
    assert head["test_accuracy"] < whole["test_accuracy"]
    assert "28 of 30 arrays loaded" in capsys.readouterr().out
    torchref.create_model("lenet_batchnorm").load_state_dict(
        {name: torch.from_numpy(array) for name, array in load_file("fine_tuned.safetensors").items()}
    )


def test_an_own_loop_learns(run):
    assert run("own_loop", steps=100) > 0.5


def test_callbacks_log_and_stop(run, capsys):
    records = run("custom_callback", target=0.5)
    assert len(records) == 1
    assert records[0]["test_accuracy"] > 0.5
    lines = Path("loss.csv").read_text().splitlines()
    assert lines[0] == "step,loss"
    assert [int(line.split(",")[0]) for line in lines[1:]] == [10, 20, 30, 40]
    assert load_file("best.safetensors")["1.weight"].shape == (256, 784)
    assert capsys.readouterr().out.endswith("reached\n")


def test_parity_is_tested_in_a_suite_of_ones_own(tmp_path):
    environment = {**os.environ, **conftest.CACHE_VARIABLES, "PYTHONPATH": str(ROOT)}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    command = [sys.executable, "-m", "pytest", "-p", "pytest_flaxnets", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--rootdir", tmp_path, str(EXAMPLES / "test_my_model.py")],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert "2 passed" in done.stdout, done.stdout + done.stderr
