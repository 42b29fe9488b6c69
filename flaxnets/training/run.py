"""The folder of a training run: configuration, metrics, result and weights."""

import contextlib
import csv
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from flax import nnx

from flaxnets._suggestions import suggest
from flaxnets.registry import create_model
from flaxnets.run_config import RunConfig
from flaxnets.training.tasks import TASKS, transform_of
from flaxnets.weights import WeightsError, load_weights, save_weights

METRICS, TABLE, CONFIG, RESULT = "metrics.jsonl", "metrics.csv", "config.json", "result.json"


class Run:
    """The folder of a run, with ``config.json``, the metrics of all epochs, weights and checkpoints.

    Args:
        path: An existing folder. :meth:`create` creates a new one.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     run = Run.create(out, "lenet", {"epochs": 1})
    ...     run.log({"epoch": 1, "train_loss": 0.5})
    ...     sorted(path.name for path in run.path.iterdir()), run.records()
    (['config.json', 'metrics.csv', 'metrics.jsonl'], [{'epoch': 1, 'train_loss': 0.5}])
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    @classmethod
    def create(cls, out: str | os.PathLike, arch: str, config: Mapping[str, Any]) -> Self:
        """Create a new folder ``<arch>-<time>``.

        Args:
            out: Parent folder of all runs; created if it is missing.
            arch: Name of the network.
            config: Configuration of the run.

        Raises:
            OSError: If the folder cannot be created or written. No files remain after this error.
        """
        run = cls.plan(out, arch)
        run.begin(config)
        return run

    @classmethod
    def plan(cls, out: str | os.PathLike, arch: str) -> Self:
        """Choose the name ``<arch>-<time>`` of a new folder, which :meth:`begin` creates.

        Args:
            out: Parent folder of all runs; :meth:`begin` creates it if it is missing.
            arch: Name of the network.

        Raises:
            OSError: If no folder can be created in ``out``.
        """
        _try_folder(Path(out))
        name = f"{arch}-{time.strftime('%Y%m%d-%H%M%S')}"
        return cls(next(path for path in _candidates(Path(out) / name) if not path.exists()))

    def begin(self, config: Mapping[str, Any]) -> None:
        """Create the folder and write ``config.json``. If another process has taken the name, add a number to it.

        Raises:
            OSError: If the folder cannot be created or written. No files remain after this error.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for path in _candidates(self.path):
            try:
                path.mkdir()
            except FileExistsError:
                continue
            self.path = path
            break
        try:
            self.configure(config)
        except OSError:
            self.path.rmdir()
            raise

    def has_begun(self) -> bool:
        """Return whether the folder exists."""
        return self.path.is_dir()

    def configure(self, config: Mapping[str, Any]) -> None:
        """Write ``config.json``."""
        _write(self.path / CONFIG, json.dumps(config, indent=2) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """Return the records of all epochs."""
        path = self.path / METRICS
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def log(self, record: Mapping[str, Any], of: str = "") -> None:
        """Append an epoch's record to ``metrics.jsonl`` and ``metrics.csv``; ``of`` is a prefix of the file names."""
        with (self.path / f"{of}{METRICS}").open("a") as file:
            file.write(json.dumps(record) + "\n")
        table = self.path / f"{of}{TABLE}"
        columns = list(record)
        if table.exists():  # the record of a resumed run may have its names in another order
            with table.open(newline="") as file:
                columns = next(csv.reader(file), columns)
        new = not table.exists()
        with table.open("a", newline="") as file:
            writer = csv.DictWriter(file, columns)
            if new:
                writer.writeheader()
            writer.writerow(record)

    def log_all(self, records: Sequence[Mapping[str, Any]], of: str = "") -> None:
        """Replace the log by ``records``. A resumed run drops the records after its checkpoint."""
        for name in (METRICS, TABLE):
            (self.path / f"{of}{name}").unlink(missing_ok=True)
        for record in records:
            self.log(record, of)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write ``result.json``, which marks the run as finished."""
        _write(self.path / RESULT, json.dumps(result, indent=2) + "\n")

    def reopen(self) -> None:
        """Remove ``result.json``, so that the run is no longer marked as finished."""
        (self.path / RESULT).unlink(missing_ok=True)

    def is_finished(self) -> bool:
        """Return whether the run is marked as finished."""
        return (self.path / RESULT).exists()

    def save(self, model: nnx.Module, name: str) -> None:
        """Write ``<name>.safetensors`` atomically."""
        save_weights(model, self.path / f"{name}.safetensors")


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(text)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _candidates(path: Path) -> Iterator[Path]:
    yield path
    yield from (path.with_name(f"{path.name}-{i}") for i in range(2, 1000))
    raise FileExistsError(f"{path.parent} already has 1000 runs named {path.name}. Fix: use another folder")


def _try_folder(out: Path) -> None:
    """Check that a folder can be created in ``out``; raise OSError otherwise. All test folders are removed."""
    missing = [path for path in (out, *out.parents) if not path.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        Path(tempfile.mkdtemp(prefix=".run-", dir=out)).rmdir()
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


class RunError(ValueError):
    """Raised when the folder of a run cannot be used. The message names the file and the reason.

    >>> load_run("nowhere")
    Traceback (most recent call last):
    flaxnets.training.run.RunError: no run at nowhere: there is no such folder
    """


@dataclasses.dataclass(frozen=True)
class LoadedRun:
    """A trained network and its configuration.

    Attributes:
        path: Folder of the run.
        config: Configuration of the run.
        model: The trained network, in evaluation mode.
    """

    path: Path
    config: RunConfig
    model: nnx.Module

    def transform(self, inputs: Any) -> Any:
        """Convert stored inputs, such as images in uint8, to inputs of the network."""
        return transform_of(self.config)(inputs)


def load_run(path: str | os.PathLike, weights: Literal["best", "last"] = "best") -> LoadedRun:
    """Load the trained network of a run.

    Args:
        path: Folder of the run.
        weights: Weights of the epoch with the best test score, or of the last epoch.

    Raises:
        RunError: If the folder or one of its files is missing or damaged, or the files do not match.

    >>> import flaxnets, tempfile, numpy as np
    >>> config = {"arch": "mlp", "task": "classification", "input_shape": [1, 28, 28], "model_options": {}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "config.json").write_text(json.dumps(config))
    ...     save_weights(flaxnets.create_model("mlp"), Path(folder, "best.safetensors"))
    ...     run = load_run(folder)
    >>> run.model(run.transform(np.zeros((2, 1, 28, 28), np.uint8))).shape
    (2, 10)
    """
    folder = Path(path)
    config = read_config(folder)
    file = folder / f"{weights}.safetensors"
    if not file.is_file():
        others = ", ".join(sorted(other.name for other in folder.glob("*.safetensors"))) or "no weights at all"
        raise RunError(f"no weights {file}: the folder has {others}")
    try:
        model = create_model(config.arch, **config.model_options)
    except (TypeError, ValueError) as error:
        raise RunError(f"{folder / CONFIG}: {error}") from error
    try:
        load_weights(model, file)
    except (OSError, RuntimeError, WeightsError) as error:
        raise RunError(str(error)) from error
    model.eval()
    return LoadedRun(folder, config, model)


def read_config(path: str | os.PathLike) -> RunConfig:
    """Read the configuration of a run.

    Args:
        path: Folder of the run.

    Raises:
        RunError: If ``config.json`` cannot be read, lacks a value, or has a value of another type.

    >>> read_config("nowhere")
    Traceback (most recent call last):
    flaxnets.training.run.RunError: no run at nowhere: there is no such folder
    """
    folder = Path(path)
    file = folder / CONFIG
    if not folder.is_dir():
        raise RunError(f"no run at {folder}: there is no such folder")
    try:
        document = json.loads(file.read_text())
    except OSError as error:
        raise RunError(f"no run at {folder}: config.json: {error.strerror}") from error
    except ValueError as error:
        raise RunError(f"{file} is no JSON: {error}") from error
    required = ("arch", "task", "input_shape", "model_options")
    missing = [name for name in required if name not in document] if isinstance(document, dict) else required
    if missing:
        raise RunError(f"{file} lacks {', '.join(missing)}; expected the config.json of a run")
    if document["task"] not in TASKS:
        raise RunError(f"{file}: unknown task {document['task']!r}; {suggest(str(document['task']), [*TASKS])}")
    try:
        return RunConfig.from_json(document)
    except ValueError as error:
        raise RunError(f"{file}: {error}") from error
