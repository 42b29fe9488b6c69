"""Run the commands with invalid values of their options. See :mod:`benchmarks.reliability`."""

import dataclasses
import importlib
import json
import random
import subprocess
import sys
import typing
from collections import Counter
from pathlib import Path

import flaxnets
from benchmarks.run_faults import ENVIRONMENT
from flaxnets.cli.command import COMMANDS
from flaxnets.cli.common import IS_PATH
from flaxnets.cli.help import is_positional, metavar
from flaxnets.weights import save_weights

HUGE = str(10**30)
# Mostly invalid values for numbers, words and paths. Some options accept some of these values.
NUMBERS = ["", "x", "1.5", "nan", "inf", "-1", "0", HUGE]
WORDS = ["", "x", "[", "caf\udce9", "a" * 5000]
PATHS = [
    "", "file/below", "folder", "missing", "/proc/x", "link", "binary", "a" * 300, "~nobody/x", "caf\udce9", "folder:",
    "csv:folder", "folder:file", "text:binary",
]  # fmt: skip
ARGUMENTS = {
    "train": ["--arch", "mlp", "--train-examples", "64", "--dataset", "digits"],
    "list": ["mlp"],
    "summary": ["mlp"],
    "predict": ["run", "image.png"],
    "evaluate": ["run"],
    "export": ["run", "--to", "safetensors"],
    "show": ["run", "image.png"],
    "port": ["torchref.models.regression:linear_regression", "--input", "2,2"],
    "parity": ["torch.nn:Linear(2,3)", "flax.nnx:Linear(2,3)", "--input", "2,2"],
}


def options_of(command: str) -> type:
    return importlib.import_module(f"flaxnets.cli.{command}").Options


def cases() -> dict[str, list[str]]:
    result = {}
    for command in COMMANDS:
        options_class = options_of(command)
        hints = typing.get_type_hints(options_class, include_extras=True)
        for field in dataclasses.fields(options_class):
            hint, flag = hints[field.name], f"--{field.name.replace('_', '-')}"
            path = IS_PATH in getattr(hint, "__metadata__", ())
            number = metavar(hint) in ("N", "NUMBER")
            values = NUMBERS if number else PATHS if path else [] if not metavar(hint) else WORDS
            base = ARGUMENTS[command]
            if is_positional(hint):
                result |= {f"{command} {field.name}={value[:20]!r}": [command, value, *base[1:]] for value in values}
                continue
            if flag == "--list-archs":  # takes no value, and listing takes half a minute
                continue
            result[f"{command} {flag}"] = [command, *base, flag]
            result[f"{command} {flag} twice"] = [command, *base, flag, "x", flag]
            result |= {f"{command} {flag}={value[:20]!r}": [command, *base, f"{flag}={value}"] for value in values}
    return result


def make_files(folder: Path) -> None:
    """Create the files and folders that the values of :data:`PATHS` name."""
    (folder / "file").write_text("a file, no folder")
    (folder / "binary").write_bytes(bytes(range(256)))
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("nowhere")


def values(attempts: int, folder: Path) -> Counter[str]:
    """Run commands in subprocesses, each with a random option value.

    Raises:
        AssertionError: If a command prints a traceback, or ends with a status other than 0, 1 and 2.
    """
    run = folder / "run"
    run.mkdir()
    config = {"arch": "mlp", "task": "classification", "dataset": "digits", "input_shape": [784], "model_options": {}}
    (run / "config.json").write_text(json.dumps(config))
    save_weights(flaxnets.create_model("mlp"), run / "best.safetensors")
    (folder / "image.png").write_bytes(b"no image")
    make_files(folder)
    known, draw, outcomes = list(cases().values()), random.Random(0), Counter[str]()
    for _ in range(attempts):
        command, *arguments = draw.choice(known)
        dry = ["--dry-run"] if command == "train" else []
        line = [sys.executable, "-m", "flaxnets", command, *arguments, *dry]
        done = subprocess.run(line, cwd=folder, env=ENVIRONMENT, capture_output=True, timeout=600, check=False)
        assert done.returncode in (0, 1, 2), (line, done.returncode, done.stderr)
        assert b"Traceback" not in done.stderr, (line, done.stderr)
        assert not done.returncode or done.stderr.startswith(f"flaxnets {command}: error: ".encode()), done.stderr
        outcomes["noticed" if done.returncode else "harmless"] += 1
    return outcomes
