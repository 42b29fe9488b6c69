"""Interrupt runs of ``train.py`` with signals. See :mod:`benchmarks.reliability`."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from safetensors.torch import load_file

import torchref
from flaxnets.training._checkpoint_files import read_arrays, read_manifest

TRAIN = [sys.executable, str(Path(__file__).parents[1] / "train.py")]
# The command compiles with XLA's default flags, not with the flags that conftest.py sets for the tests.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}

# Each signal, and the exit status and the word with which a run ends.
ENDS = ((signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"))
ENDLESS, STEPS = "--arch mlp --epochs 1000000 --train-examples 64 --batch-size 16", 4  # an epoch


def begin(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    """Start a run in the background."""
    line = [*TRAIN, *map(str, arguments)]
    return subprocess.Popen(line, cwd=cwd, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(pattern: str, cwd: Path) -> None:
    """Block until a file that matches ``pattern`` exists."""
    deadline = time.monotonic() + 120
    while not list(cwd.glob(pattern)):
        assert time.monotonic() < deadline, f"no file {pattern} after 120 s"
        time.sleep(0.02)


def signalled(attempts: int, folder: Path) -> Counter[str]:
    """Send SIGINT (Ctrl-C) and SIGTERM in turn, at random times of a run.

    Raises:
        AssertionError: If a run does not end cleanly, or its files are incomplete.
    """
    draw = random.Random(0)
    for attempt in range(attempts):
        number, status, word = ENDS[attempt % len(ENDS)]
        with begin(*ENDLESS.split(), cwd=folder) as process:
            wait_for("runs/*/metrics.jsonl", folder)
            time.sleep(draw.uniform(0, 1))
            process.send_signal(number)
            stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == status
        assert "Traceback" not in stderr
        (run,) = (folder / "runs").iterdir()
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert f"{word} after {len(records)} whole epochs" in stdout
        torchref.create_model("mlp").load_state_dict(load_file(run / "last.safetensors"), strict=True)
        last = max((run / "checkpoints").iterdir())
        assert len(records) * STEPS <= int(last.name) < (len(records) + 1) * STEPS
        manifest = read_manifest(last)
        read_arrays(last, manifest)
        assert len(manifest["progress"]["records"]) == len(records)
        assert not (run / "result.json").exists()
        shutil.rmtree(run)
    return Counter(harmless=attempts)


def signalled_early(attempts: int, folder: Path) -> Counter[str]:
    """Send SIGINT and SIGTERM before the first step: during imports, data loading and compilation."""
    draw = random.Random(0)
    for attempt in range(attempts):
        number, status, word = ENDS[attempt % len(ENDS)]
        with begin("--arch", "lenet_batchnorm", "--cache-dir", f"cache{attempt}", cwd=folder) as process:
            time.sleep(draw.uniform(0.2, 5))
            process.send_signal(number)
            _, stderr = process.communicate(timeout=60)
        if list(folder.glob("runs/*")):  # the signal came after the first step
            shutil.rmtree(folder / "runs")
            continue
        assert (process.returncode, stderr) == (status, f"train.py: {word}\n")
    return Counter(harmless=attempts)
