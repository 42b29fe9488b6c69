"""The folder of a run: what was asked for, what came of it, and the weights."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import nnx

from flaxnets.weights import save_weights


class Run:
    """A new folder ``<arch>-<time>`` with ``config.json``, ``metrics.jsonl`` and ``model.safetensors``.

    Args:
        out: the folder that runs are kept in; made if it is not there.
        arch: the network's name.
        config: what the run was asked to do.

    Raises:
        OSError: if the folder cannot be made or written to; nothing is left behind then.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     run = Run(out, "lenet", {"epochs": 1})
    ...     run.log({"epoch": 1, "train_loss": 0.5})
    ...     sorted(path.name for path in run.path.iterdir())
    ['config.json', 'metrics.jsonl']
    """

    def __init__(self, out: str | os.PathLike, arch: str, config: Mapping[str, Any]):
        self.path = _new_folder(Path(out), f"{arch}-{time.strftime('%Y%m%d-%H%M%S')}")
        try:
            (self.path / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        except OSError:
            for file in self.path.iterdir():
                file.unlink()
            self.path.rmdir()
            raise

    def log(self, record: Mapping[str, Any]) -> None:
        """Appends a line to ``metrics.jsonl``."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    def save(self, model: nnx.Module) -> None:
        """Writes ``model.safetensors``, as a whole or not at all."""
        save_weights(model, self.path / "model.safetensors")


def _new_folder(out: Path, name: str) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    for suffix in ("", *(f"-{i}" for i in range(2, 1000))):
        try:
            (out / (name + suffix)).mkdir()
        except FileExistsError:
            continue
        return out / (name + suffix)
    raise FileExistsError(f"{out} holds a thousand runs named {name} already")
