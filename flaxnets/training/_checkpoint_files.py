"""The files of a checkpoint: arrays by Orbax, and a manifest with the SHA-256 of every array and file."""

import contextlib
import hashlib
import json
import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxnets.weights import digest

_MANIFEST = "manifest.json"


class CheckpointError(RuntimeError):
    """Raised when a checkpoint cannot be written or used. The message names the file, the cause and the fix."""


def write_files(folder: Path, arrays: Mapping[str, np.ndarray], manifest: dict[str, Any]) -> None:
    """Write a checkpoint; it is complete when the function returns.

    Args:
        folder: A folder that does not exist.
        arrays: Arrays by name.
        manifest: JSON values to save. The entry ``arrays`` describes each array.
    """
    # Orbax rejects arrays without elements; the manifest has their shapes and dtypes.
    arrays = {name: array for name, array in arrays.items() if array.size}
    with _quiet():
        if jax.process_count() == 1:
            _orbax().save(folder, arrays)
        else:
            _save_alone(folder, arrays)
    _write_manifest(folder, manifest)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a checkpoint, and verify its SHA-256."""
    path = folder / _MANIFEST
    try:
        document = json.loads(path.read_bytes())
        if document["sha256"] == _digest_of(document["manifest"]):
            return document["manifest"]
    except OSError as error:
        raise CheckpointError(f"{path}: no checkpoint of flaxnets: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged: {first_line(error)}") from error
    raise CheckpointError(f"{path}: damaged, it differs from what was saved")


def read_arrays(path: Path, manifest: dict[str, Any]) -> dict[str, np.ndarray]:
    """Read the arrays of a checkpoint. Files are verified before Orbax reads them, because Orbax checks little."""
    _check_files(path, manifest["files"])
    described = manifest["arrays"]
    abstract = {
        name: np.empty(entry["shape"], jnp.dtype(entry["dtype"]))
        for name, entry in described.items()
        if math.prod(entry["shape"])
    }
    try:
        with _quiet(), _reading_alone():
            arrays = _orbax().load(path, abstract)
    except Exception as error:  # Orbax raises many types of errors
        raise CheckpointError(f"{path}: cannot be read: {first_line(error)}") from error
    for name, array in arrays.items():
        if digest(array) != described[name]["sha256"]:
            raise CheckpointError(f"{path}: {name} differs from what was saved, although the files do not")
    return arrays


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _orbax() -> Any:
    from orbax.checkpoint import v1  # imported late, because the import costs a second

    return v1


def _save_alone(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the same files without waiting for other processes, which the newer interface of Orbax always does."""
    import orbax.checkpoint as v0

    options = v0.options.MultiprocessingOptions(**_alone())
    handler = v0.PyTreeCheckpointHandler(multiprocessing_options=options)
    with v0.Checkpointer(handler, multiprocessing_options=options) as checkpointer:
        checkpointer.save(folder, v0.args.PyTreeSave({**arrays}))


def _reading_alone() -> contextlib.AbstractContextManager[Any]:
    """Return a context in which Orbax reads without waiting for other processes."""
    if jax.process_count() == 1:
        return contextlib.nullcontext()
    return _orbax().Context(multiprocessing_options=_orbax().options.MultiprocessingOptions(**_alone()))


def _alone() -> dict[str, Any]:
    process = jax.process_index()
    return {
        "primary_host": process,
        "active_processes": {process},
        "barrier_sync_key_prefix": f"process{process}",
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the log of Orbax, whose errors are raised as :class:`CheckpointError`.

    After a failed write, Orbax abandons its other writes, and each of them later logs another error.
    """
    logger, hook = logging.getLogger("absl"), sys.unraisablehook
    level = logger.level

    def ignore_abandoned_writes(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            hook(unraisable)

    logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = ignore_abandoned_writes
    try:
        yield
        sys.unraisablehook = hook
    except Exception:
        logging.getLogger("asyncio").addFilter(_is_not_abandoned_write)
        raise
    finally:
        logger.setLevel(level)


def _is_not_abandoned_write(record: logging.LogRecord) -> bool:
    return "exception was never retrieved" not in record.getMessage()


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Flush all files of a folder to disk, and write the manifest with their SHA-256."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            files[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    manifest = {**manifest, "files": files}
    with (folder / _MANIFEST).open("w") as file:
        json.dump({"sha256": _digest_of(manifest), "manifest": manifest}, file)
        file.flush()
        os.fsync(file.fileno())


def _digest_of(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    for name, expected in files.items():
        try:
            with (folder / name).open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(f"{folder / name}: cannot be read: {error.strerror}") from error
        if actual != expected:
            raise CheckpointError(f"{folder / name}: damaged, it differs from what was saved")
