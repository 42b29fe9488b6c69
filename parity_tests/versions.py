"""Test that one version of JAX and Flax reads the files of another version.

``FLAXNETS_OTHER_PYTHON`` names the interpreter of the second environment. Most machines have only one environment, so
that pytest does not collect this file automatically. Run it with
``FLAXNETS_OTHER_PYTHON=../other/bin/python pytest parity_tests/versions.py``.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.run_faults import ENVIRONMENT, TRAIN, wait_for

ROOT = Path(__file__).parents[1]
OTHER = os.environ["FLAXNETS_OTHER_PYTHON"]
DIRECTIONS = {"other to this": (OTHER, sys.executable), "this to other": (sys.executable, OTHER)}
HERE = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}

# Train and save a state, or read the saved state. Then print a digest of every array of the state.
PROGRAM = """
import json, sys
import jax, jax.numpy as jnp
import flaxnets
from flaxnets import optim
from flaxnets.training import Batch, TrainState, classification, make_train_step
from flaxnets.training.checkpoints import Checkpoints, _arrays
from flaxnets.weights import digest, load_weights, save_weights

model = flaxnets.create_model("lenet_batchnorm")
optimizer = optim.AdamW(1e-3, amsgrad=True)
batch = Batch(jax.random.normal(jax.random.key(0), (4, 1, 28, 28)), jnp.arange(4), jnp.ones(4))
state = TrainState.create(model, optimizer, ema=True)
step = make_train_step(model, optimizer, classification, ema_decay=0.9, backend="plain")
with Checkpoints(sys.argv[2], config={"arch": "lenet_batchnorm"}) as checkpoints:
    if sys.argv[1] == "write":
        for _ in range(3):
            state, _ = step(state, batch)
        checkpoints.save(3, state, {"epoch": 1})
        state.update_model(model)
        save_weights(model, sys.argv[2] + "/model.safetensors")
    else:
        state = checkpoints.restore(state, 3).state
        load_weights(model, sys.argv[2] + "/model.safetensors")
arrays = {**_arrays(state)[0], **flaxnets.state_dict(model)}
print(json.dumps({"jax": jax.__version__, "arrays": {name: digest(array) for name, array in arrays.items()}}))
step(state, batch)
"""


def run(python: str, *arguments: str) -> dict:
    done = subprocess.run(
        [python, "-c", PROGRAM, *arguments], env=HERE, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_checkpoint_and_weights_are_read_to_the_same_bits(direction, tmp_path):
    writer, reader = DIRECTIONS[direction]
    written, read = run(writer, "write", str(tmp_path)), run(reader, "read", str(tmp_path))
    assert written["jax"] != read["jax"]
    assert len(written["arrays"]) > 50
    assert read["arrays"] == written["arrays"]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_run_that_was_stopped_goes_on(direction, tmp_path):
    writer, reader = DIRECTIONS[direction]
    options = [
        "--arch",
        "lenet",
        "--epochs",
        "3",
        "--train-examples",
        "512",
        "--out",
        "runs",
        "--checkpoint-every",
        "2",
    ]
    command = [TRAIN[1], *options]
    with subprocess.Popen([writer, *command], cwd=tmp_path, env=HERE, stdout=subprocess.DEVNULL) as process:
        wait_for("runs/*/checkpoints/*[0-9]", tmp_path)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 143
    done = subprocess.run(
        [reader, *command, "--resume", "auto"], cwd=tmp_path, env=HERE, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
