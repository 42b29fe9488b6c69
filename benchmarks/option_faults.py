"""Options of the commands with what cannot be their values; see :mod:`benchmarks.reliability`."""

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
# Values of numbers, words and paths; some of them are good for some options.
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
    found = {}
    for command in COMMANDS:
        kind = options_of(command)
        hints = typing.get_type_hints(kind, include_extras=True)
        for field in dataclasses.fields(kind):
            hint, flag = hints[field.name], f"--{field.name.replace('_', '-')}"
            path = IS_PATH in getattr(hint, "__metadata__", ())
            number = metavar(hint) in ("N", "NUMBER")
            values = NUMBERS if number else PATHS if path else [] if not metavar(hint) else WORDS
            base = ARGUMENTS[command]
            if is_positional(hint):
                found |= {f"{command} {field.name}={value[:20]!r}": [command, value, *base[1:]] for value in values}
                continue
            if flag == "--list-archs":  # no value, and half a minute's work to list them
                continue
            found[f"{command} {flag}"] = [command, *base, flag]
            found[f"{command} {flag} twice"] = [command, *base, flag, "x", flag]
            found |= {f"{command} {flag}={value[:20]!r}": [command, *base, f"{flag}={value}"] for value in values}
    return found


def make_files(folder: Path) -> None:
    """Makes what the names of paths stand for."""
    (folder / "file").write_text("a file, no folder")
    (folder / "binary").write_bytes(bytes(range(256)))
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("nowhere")


def values(attempts: int, folder: Path) -> Counter[str]:
    """Runs commands as processes, each with a value that is drawn; AssertionError for a traceback or another status."""
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
