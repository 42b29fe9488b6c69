"""Checkpoints of a training run: written atomically, verified when they are read."""

import contextlib
import copy
import dataclasses
import json
import math
import os
import shutil
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path

from flaxnets.optim.frozen import mask
from flaxnets.training._checkpoint_files import CheckpointError as CheckpointError
from flaxnets.training._checkpoint_files import first_line, read_arrays, read_manifest, write_files
from flaxnets.training.processes import place, to_host
from flaxnets.training.train_state import TrainState
from flaxnets.weights import digest

# Only a run in float16 has these arrays.
_SCALE = ("loss_scale/factor", "loss_scale/finite_steps")

# Suffixes of folders that are not complete checkpoints: while a checkpoint is written, and while one is removed.
_PARTIAL, _DELETED = ".partial", ".deleted"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A restored checkpoint.

    Attributes:
        step: The step of the checkpoint.
        state: The training state.
        progress: The progress that was passed to :meth:`Checkpoints.save`.
    """

    step: int
    state: TrainState
    progress: dict[str, Any]


class Checkpoints:
    """The checkpoints of a run: one folder for each saved step, written and read by Orbax.

    A checkpoint contains the :class:`TrainState` (random keys as data), the configuration and the progress of the run,
    and the SHA-256 of every array and every file. A partial checkpoint of a killed process has a temporary name, is
    never listed, and is removed at the next save. Reading raises an error if any bit differs from the saved bits.

    A state that is sharded over processes is gathered array by array. All processes call :meth:`save`, and process 0
    writes. All processes read; the folder must be the same for all. A run can continue on another mesh, and with
    another number of processes.

    Args:
        directory: Folder of the checkpoints; created at the first save.
        config: Configuration of the run, such as the network's name and options. Restoring a checkpoint with another
            configuration raises.
        keep: Number of latest checkpoints to keep.
        keep_best: Number of checkpoints with the highest scores to keep in addition.
        asynchronous: Whether :meth:`save` returns while a background thread writes.

    >>> import tempfile, flaxnets
    >>> from flaxnets import optim
    >>> state = TrainState.create(flaxnets.create_model("mlp"), optim.SGD(0.1))
    >>> with tempfile.TemporaryDirectory() as folder, Checkpoints(folder, config={"arch": "mlp"}) as checkpoints:
    ...     checkpoints.save(100, state, {"epoch": 1})
    ...     checkpoints.wait()
    ...     checkpoints.steps(), checkpoints.restore_latest(state).progress
    ([100], {'epoch': 1})
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        *,
        config: Mapping[str, Any] | None = None,
        keep: int = 2,
        keep_best: int = 1,
        asynchronous: bool = True,
    ):
        if keep < 1 or keep_best < 0:
            raise ValueError(f"keep must be at least 1 and keep_best at least 0, got {keep} and {keep_best}")
        self.directory = Path(directory).absolute()
        self._config, self._keep, self._keep_best = _plain(config or {}), keep, keep_best
        self._asynchronous = asynchronous
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._pending: Future | None = None

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, in ascending order."""
        if not self.directory.is_dir():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdecimal() and path.is_dir())

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._pending is not None and not self._pending.done()

    def save(self, step: int, state: TrainState, progress: Mapping[str, Any] | None = None, score: float | None = None):
        """Save a checkpoint. An existing checkpoint of the same step is not overwritten.

        State and progress are copied before the method returns, so that the caller may donate or change them. Blocks
        until the previous save has finished.

        Args:
            step: Step of the checkpoint.
            state: State to save.
            progress: Progress to save, as JSON values. Numbers and lists may be arrays on the device.
            score: Score of the checkpoint; the higher, the better.

        Raises:
            CheckpointError: If this checkpoint, or the previous asynchronous one, could not be saved: the disk is
                full, a permission is missing, or a trainable parameter is infinite or NaN. Earlier checkpoints are
                unchanged.
        """
        arrays, keys = _arrays(state)
        trainable = dataclasses.replace(state, params=mask(state.params), ema_params=mask(state.ema_params))
        learned = [name for name in _arrays(trainable)[0] if name.startswith(("params/", "ema_params/"))]
        if all(array.is_fully_addressable for array in arrays.values()):
            self.wait()
            copies: dict[str, Any] = {name: jnp.copy(array) for name, array in arrays.items()}
            progress = copy.deepcopy(dict(progress or {}))
        else:
            # Process 0 gathers before it waits: an error of its earlier save must not leave the others waiting.
            copies = _gathered(arrays)
            progress = jax.device_get(dict(progress or {}))
            if jax.process_index() != 0:
                return
            self.wait()
        self._pending = self._thread.submit(self._write, step, copies, keys, learned, progress, score)
        if not self._asynchronous:
            self.wait()

    def wait(self) -> None:
        """Block until the last save is on disk.

        Raises:
            CheckpointError: As for :meth:`save`.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, exception_type: object, *_: object) -> None:
        try:
            self.wait()
        except CheckpointError:
            if exception_type is None:  # must not replace the exception that ended the block
                raise
        finally:
            self._thread.shutdown()

    def restore(self, like: TrainState, step: int) -> Checkpoint:
        """Read a checkpoint.

        Args:
            like: A state of the same network and optimizer, which gives the structure, the devices and the empty
                arrays.
            step: One of :meth:`steps`.

        Raises:
            CheckpointError: If the checkpoint is damaged, or has another network, shape or dtype. The message lists
                all differences.
        """
        path = self._path(step)
        manifest = read_manifest(path)
        expected, keys = _arrays(like)
        _check_fits(path, manifest, self._config, expected, keys)
        stored = read_arrays(path, manifest)
        leaves = []
        for name, array in expected.items():
            value = place(stored[name], array.sharding) if name in stored else array
            leaves.append(jax.random.wrap_key_data(value, impl=keys[name]) if name in keys else value)
        state = jax.tree.unflatten(jax.tree.structure(like), leaves)
        return Checkpoint(step, state, manifest["progress"])

    def restore_latest(self, like: TrainState) -> Checkpoint | None:
        """Read the latest valid checkpoint, and warn about later invalid ones; return None if there is no checkpoint.

        Raises:
            CheckpointError: If no checkpoint is valid; the message is that of the latest.
        """
        first = None
        for step in reversed(self.steps()):
            try:
                return self.restore(like, step)
            except CheckpointError as error:
                first = first or error
                warnings.warn(f"{error}; trying the previous checkpoint", stacklevel=2)
        if first is not None:
            raise first
        return None

    def latest_progress(self) -> dict[str, Any] | None:
        """Return the progress of the latest checkpoint with a readable manifest, or None."""
        for step in reversed(self.steps()):
            with contextlib.suppress(CheckpointError):
                return read_manifest(self._path(step))["progress"]
        return None

    def _path(self, step: int) -> Path:
        return self.directory / f"{step:08d}"

    def _write(
        self,
        step: int,
        arrays: dict[str, Any],
        keys: dict[str, str],
        learned: list[str],
        progress: Any,
        score: float | None,
    ) -> None:
        path = self._path(step)
        if path.is_dir():
            return
        host = {name: np.asarray(array) for name, array in jax.device_get(arrays).items()}
        _check_finite(path, {name: host[name] for name in learned})
        described = {
            name: {"shape": array.shape, "dtype": str(array.dtype), "sha256": digest(array), "key": keys.get(name)}
            for name, array in host.items()
        }
        progress = json.loads(json.dumps(jax.device_get(progress), default=lambda value: np.asarray(value).tolist()))
        manifest = {"config": self._config, "progress": progress, "score": score, "arrays": described}
        partial = path.with_name(f"{path.name}{_PARTIAL}")
        try:
            self._remove_unfinished()
            self.directory.mkdir(parents=True, exist_ok=True)
            write_files(partial, host, manifest)
            partial.rename(path)
            self._remove_old()
        except Exception as error:  # Orbax raises many types of errors
            self._remove_unfinished()
            raise CheckpointError(
                f"{path}: could not be saved: {first_line(error)}; earlier checkpoints are unchanged "
                f"({', '.join(map(str, self.steps())) or 'none'}). Fix: free some space or correct the permissions, "
                "and resume"
            ) from error

    def _remove_unfinished(self) -> None:
        """Remove the folders of interrupted saves and removals."""
        for path in self.directory.glob("*"):
            if not path.name.isdecimal() and path.name[:8].isdecimal():
                shutil.rmtree(path, ignore_errors=True)

    def _remove_old(self) -> None:
        steps = self.steps()
        scores = {step: _score(self._path(step)) for step in steps}
        best = sorted(steps, key=lambda step: (scores[step], step))[max(len(steps) - self._keep_best, 0) :]
        for step in (step for step in steps[: -self._keep] if step not in best):
            doomed = self._path(step).rename(f"{self._path(step)}{_DELETED}")
            shutil.rmtree(doomed)


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy after a round trip through JSON, so that it compares equal to a saved configuration."""
    return json.loads(json.dumps(dict(config)))


def _arrays(state: TrainState) -> tuple[dict[str, jax.Array], dict[str, str]]:
    """Return the arrays of a state by path, with random keys as data, and the implementations of these keys."""
    arrays, keys = {}, {}
    for path, leaf in tree_flatten_with_path(state)[0]:
        name = keystr(path, simple=True, separator="/").removesuffix("/value")
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            keys[name], leaf = str(jax.random.key_impl(leaf)), jax.random.key_data(leaf)
        arrays[name] = leaf
    return arrays, keys


def _gathered(arrays: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
    """Return whole arrays in process 0, and nothing in the others; the devices hold one whole array at a time."""
    writes, copies = jax.process_index() == 0, {}
    for name, array in arrays.items():
        whole = to_host(array)
        if writes:
            copies[name] = whole
    return copies


def _check_finite(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if not np.isfinite(array.astype(np.float64)).all():
            raise CheckpointError(
                f"{path}: not saved: {name} is infinite or NaN; earlier checkpoints are unchanged. Fix: lower the "
                "learning rate, or clip the gradients"
            )


def _score(path: Path) -> float:
    try:
        score = read_manifest(path)["score"]
    except CheckpointError:
        return -math.inf
    return -math.inf if score is None or math.isnan(score) else score


def _check_fits(
    path: Path, manifest: dict[str, Any], config: dict[str, Any], expected: dict[str, jax.Array], keys: dict[str, str]
) -> None:
    saved, stored = manifest["config"], manifest["arrays"]
    problems = [
        f"{name} is {saved.get(name)!r} in the checkpoint and {config.get(name)!r} in this run"
        for name in [*config, *(name for name in saved if name not in config)]
        if saved.get(name) != config.get(name)
    ]
    # A new phase may change the precision, and with it whether the loss is scaled.
    missing, unknown = ({*names} - {*others} - {*_SCALE} for names, others in ((expected, stored), (stored, expected)))
    problems += [f"{name} is missing in the checkpoint" for name in expected if name in missing]
    problems += [f"{name} is unknown in this run" for name in stored if name in unknown]
    for name in (name for name in expected if name in stored):
        types = [
            (tuple(stored[name]["shape"]), stored[name]["dtype"], stored[name]["key"]),
            (expected[name].shape, str(expected[name].dtype), keys.get(name)),
        ]
        if types[0] != types[1]:
            texts = [f"{dtype}{list(shape)}{f' key {key}' if key else ''}" for shape, dtype, key in types]
            problems.append(f"{name} is {texts[0]} in the checkpoint and {texts[1]} in this run")
    if problems:
        raise CheckpointError(f"{path}: a checkpoint of another run: {'; '.join(problems)}")
