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

import jax.numpy as jnp
import numpy as np

from flaxnets.weights import digest

_MANIFEST = "manifest.json"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or used; the message names the file, the cause, and what to do."""


def write_files(folder: Path, arrays: Mapping[str, np.ndarray], manifest: dict[str, Any]) -> None:
    """Writes a checkpoint; it is whole when this returns.

    Args:
        folder: which is not there.
        arrays: by name.
        manifest: what else to keep; ``arrays`` in it describes each.
    """
    with _quiet():  # Orbax refuses arrays without elements; what they are is in the manifest
        _orbax().save(folder, {name: array for name, array in arrays.items() if array.size})
    _write_manifest(folder, manifest)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Returns what a checkpoint consists of, and what was saved beside its arrays."""
    path = folder / _MANIFEST
    try:
        found = json.loads(path.read_bytes())
        if found["sha256"] == _digest_of(found["manifest"]):
            return found["manifest"]
    except OSError as error:
        raise CheckpointError(f"{path}: no checkpoint of flaxnets: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged: {first_line(error)}") from error
    raise CheckpointError(f"{path}: damaged, it is not what was saved")


def read_arrays(path: Path, manifest: dict[str, Any]) -> dict[str, np.ndarray]:
    """Reads the arrays of a checkpoint; nothing is given to Orbax, which checks little, that is not as it was saved."""
    _check_files(path, manifest["files"])
    described = manifest["arrays"]
    abstract = {
        name: np.empty(entry["shape"], jnp.dtype(entry["dtype"]))
        for name, entry in described.items()
        if math.prod(entry["shape"])
    }
    try:
        with _quiet():
            found = _orbax().load(path, abstract)
    except Exception as error:  # Orbax's own errors are of many kinds
        raise CheckpointError(f"{path}: cannot be read: {first_line(error)}") from error
    for name, array in found.items():
        if digest(array) != described[name]["sha256"]:
            raise CheckpointError(f"{path}: {name} is not what was saved, though the files are")
    return found


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that may follow."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _orbax() -> Any:
    from orbax.checkpoint import v1  # imported late: it takes a second

    return v1


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax from writing pages about what is an error of ours in one line.

    Where one of its writes fails it forgets the others; each of them ends with a complaint of its own, sooner or later.
    """
    logger, hook = logging.getLogger("absl"), sys.unraisablehook
    level = logger.level

    def without_forgotten_writes(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            hook(unraisable)

    logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = without_forgotten_writes
    try:
        yield
        sys.unraisablehook = hook
    except Exception:
        logging.getLogger("asyncio").addFilter(_is_no_forgotten_write)
        raise
    finally:
        logger.setLevel(level)


def _is_no_forgotten_write(record: logging.LogRecord) -> bool:
    return "exception was never retrieved" not in record.getMessage()


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes what is in a folder, with the SHA-256 of every file, after the system has been told to write them."""
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
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(f"{folder / name}: cannot be read: {error.strerror}") from error
        if found != expected:
            raise CheckpointError(f"{folder / name}: damaged, it is not what was saved")
