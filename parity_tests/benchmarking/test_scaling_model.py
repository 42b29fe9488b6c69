"""Tests of the cost model: its predictions equal the bytes that compiled steps communicate."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scaling_model import HARDWARE, predict_cost

ROOT = Path(__file__).parents[2]


def test_the_bytes_of_collectives_in_compiled_steps_are_predicted_exactly():
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.scaling_model", "check", "lenet_batchnorm"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| `lenet_batchnorm`, `data=8` | 179,512 | 5,072 | 12 | 184,596 | 0 | 0 |" in done.stdout


def test_a_perceptron_costs_what_can_be_counted_by_hand():
    cost = predict_cost("mlp", batch=10)
    weights, biases = 784 * 256 + 256 * 10, 256 + 10
    assert cost.flops == 3 * 2 * 10 * weights
    assert (cost.volume.gradients, cost.volume.statistics) == (4 * (weights + biases), 0)


@pytest.mark.parametrize("name", HARDWARE)
def test_a_step_with_the_batch_for_an_efficiency_has_it(name):
    hardware = HARDWARE[name]
    batch = predict_cost("resnet18").batch_for(hardware, 64)
    assert predict_cost("resnet18", batch).efficiency(hardware, 64) == pytest.approx(0.9, abs=1e-3)
