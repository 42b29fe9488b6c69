"""Runs of ``train.py`` that are told to end; see :mod:`benchmarks.reliability`."""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from flaxnets.training import CheckpointError
from flaxnets.training._checkpoint_files import read_arrays, read_manifest

ROOT = Path(__file__).parents[1]
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
STEPS = 4  # an epoch


def signalled(attempts: int, folder: Path) -> Counter[str]:
    """Ctrl-C and SIGTERM in turn, at any time of a run: it ends with its status, and a checkpoint of its last epoch."""
    draw, outcomes = random.Random(0), Counter[str]()
    options = [
        "--arch",
        "mlp",
        "--epochs",
        "1000000",
        "--train-examples",
        "64",
        "--batch-size",
        "16",
        "--resume",
        "auto",
    ]
    for attempt in range(attempts):
        number, runs = list(STATUS)[attempt % 2], folder / "runs"
        line = [sys.executable, str(ROOT / "train.py"), *options, "--out", str(runs)]
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            while not list(runs.glob("*/metrics.jsonl")):
                assert process.poll() is None, process.stderr and process.stderr.read()
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 1))
            process.send_signal(number)
            stdout, stderr = process.communicate(timeout=120)
        good = process.returncode == STATUS[number] and "Traceback" not in stderr and _is_whole(runs, stdout)
        outcomes["harmless" if good else "silent"] += 1
        shutil.rmtree(runs)
    return outcomes


def _is_whole(runs: Path, said: str) -> bool:
    (run,) = runs.iterdir()
    epochs = len((run / "metrics.jsonl").read_text().splitlines())
    last = max((run / "checkpoints").iterdir())
    try:
        manifest = read_manifest(last)
        read_arrays(last, manifest)
    except CheckpointError:
        return False
    return (
        epochs * STEPS <= int(last.name) < (epochs + 1) * STEPS
        and len(manifest["progress"]["records"]) == epochs
        and f"after {epochs} whole epochs" in said
        and (run / "last.safetensors").exists()
        and not (run / "result.json").exists()
    )
