"""The folder of a run: what was asked for, what came of it, and the weights."""

import csv
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from flax import nnx

from flaxnets.weights import save_weights

METRICS, TABLE, CONFIG, CHECKPOINTS = "metrics.jsonl", "metrics.csv", "config.json", "checkpoints"


class Run:
    """The folder of a run, in which are ``config.json``, the metrics of every epoch, weights and checkpoints.

    Args:
        path: a folder that is there; :meth:`create` makes one.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     run = Run.create(out, "lenet", {"epochs": 1})
    ...     run.log({"epoch": 1, "train_loss": 0.5})
    ...     sorted(path.name for path in run.path.iterdir()), run.records(), run.config()
    (['config.json', 'metrics.csv', 'metrics.jsonl'], [{'epoch': 1, 'train_loss': 0.5}], {'epochs': 1})
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    @classmethod
    def create(cls, out: str | os.PathLike, arch: str, config: Mapping[str, Any]) -> Self:
        """Makes a new folder ``<arch>-<time>``.

        Args:
            out: the folder that runs are kept in; made if it is not there.
            arch: the network's name.
            config: what the run was asked to do.

        Raises:
            OSError: if the folder cannot be made or written to; nothing is left behind then.
        """
        run = cls(_new_folder(Path(out), f"{arch}-{time.strftime('%Y%m%d-%H%M%S')}"))
        try:
            _write(run.path / CONFIG, json.dumps(config, indent=2) + "\n")
        except OSError:
            run.path.rmdir()
            raise
        return run

    def config(self) -> dict[str, Any]:
        """Returns what the run was asked to do.

        Raises:
            OSError: if ``config.json`` cannot be read.
            ValueError: if it is not what was written there.
        """
        loaded = json.loads((self.path / CONFIG).read_text())
        if not isinstance(loaded, dict):
            raise ValueError(f"{self.path / CONFIG}: expected an object, got {loaded!r}")
        return loaded

    def records(self) -> list[dict[str, Any]]:
        """Returns the records of the epochs."""
        path = self.path / METRICS
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def log(self, record: Mapping[str, Any]) -> None:
        """Appends an epoch's record to ``metrics.jsonl`` and ``metrics.csv``."""
        with (self.path / METRICS).open("a") as file:
            file.write(json.dumps(record) + "\n")
        new = not (self.path / TABLE).exists()
        with (self.path / TABLE).open("a", newline="") as file:
            writer = csv.DictWriter(file, list(record))
            if new:
                writer.writeheader()
            writer.writerow(record)

    def rewind(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Makes the metrics those of ``records``: a resumed run has forgotten what came after its checkpoint."""
        for name in (METRICS, TABLE):
            (self.path / name).unlink(missing_ok=True)
        for record in records:
            self.log(record)

    def save(self, model: nnx.Module, name: str) -> None:
        """Writes ``<name>.safetensors``, as a whole or not at all."""
        save_weights(model, self.path / f"{name}.safetensors")


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(text)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _new_folder(out: Path, name: str) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    for suffix in ("", *(f"-{i}" for i in range(2, 1000))):
        try:
            (out / (name + suffix)).mkdir()
        except FileExistsError:
            continue
        return out / (name + suffix)
    raise FileExistsError(f"{out} holds a thousand runs named {name} already")
