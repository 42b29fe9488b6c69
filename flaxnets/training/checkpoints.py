"""The state of a run on disk: whole or not there, verified when it is read."""

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
from flaxnets.training.train_state import TrainState
from flaxnets.weights import digest

# Added to the name of a checkpoint while it is not whole: before its last file is there, and before its first one goes.
_PARTIAL, _DELETED = ".partial", ".deleted"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What :meth:`Checkpoints.restore` gives back.

    Attributes:
        step: which one it is.
        state: all that changes from step to step.
        progress: what was saved beside it.
    """

    step: int
    state: TrainState
    progress: dict[str, Any]


class Checkpoints:
    """The checkpoints of a run, one folder each, named after the step; written and read by Orbax.

    Each holds the whole :class:`TrainState` (random keys as data), what its run was asked for, and how far it had come,
    with a SHA-256 for every array and every file. A checkpoint appears under its name when it is whole, and nothing is
    loaded that differs in a bit from what was saved.

    Args:
        directory: where the folders are; made when the first one is saved.
        config: what a checkpoint must agree with to be restored, such as the network's name and options.
        keep: how many of the last ones stay.
        keep_best: how many of those with the highest scores stay besides.
        asynchronous: whether :meth:`save` returns while a thread of its own still writes.

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
        """Returns the steps that have a checkpoint, the last one at the end."""
        if not self.directory.is_dir():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdecimal() and path.is_dir())

    @property
    def busy(self) -> bool:
        """Whether one is being written."""
        return self._pending is not None and not self._pending.done()

    def save(self, step: int, state: TrainState, progress: Mapping[str, Any] | None = None, score: float | None = None):
        """Saves a checkpoint; one of the same step is left as it is.

        Copies state and progress before it returns, so that the caller may donate or change them. Waits for a save
        that has not finished.

        Args:
            step: its name.
            state: what to save.
            progress: what else, for JSON; numbers and lists of them may be arrays on the device.
            score: how good it is; the higher the better.

        Raises:
            CheckpointError: if this one, or with ``asynchronous`` the one before, could not be saved: a full disk, a
                missing permission, or parameters that are infinite or NaN and not frozen. Earlier checkpoints are as
                they were.
        """
        self.wait()
        arrays, keys = _arrays(state)
        trainable = dataclasses.replace(state, params=mask(state.params), ema_params=mask(state.ema_params))
        learned = [name for name in _arrays(trainable)[0] if name.startswith(("params/", "ema_params/"))]
        copies = {name: jnp.copy(array) for name, array in arrays.items()}
        progress = copy.deepcopy(dict(progress or {}))
        self._pending = self._thread.submit(self._write, step, copies, keys, learned, progress, score)
        if not self._asynchronous:
            self.wait()

    def wait(self) -> None:
        """Waits until what :meth:`save` began is on disk.

        Raises:
            CheckpointError: as :meth:`save`.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self.wait()
        except CheckpointError:
            if kind is None:  # else what ended the block is told first
                raise
        finally:
            self._thread.shutdown()

    def restore(self, like: TrainState, step: int) -> Checkpoint:
        """Reads a checkpoint.

        Args:
            like: a state of the same network and optimizer; it gives structure, devices, and arrays without elements.
            step: one of :meth:`steps`.

        Raises:
            CheckpointError: if it is damaged, or is one of another network, shape or dtype; the message has all
                differences.
        """
        path = self._path(step)
        manifest = read_manifest(path)
        expected, keys = _arrays(like)
        _check_fits(path, manifest, self._config, expected, keys)
        found = read_arrays(path, manifest)
        leaves = []
        for name, array in expected.items():
            value = jax.device_put(found[name], array.sharding, may_alias=False) if name in found else array
            leaves.append(jax.random.wrap_key_data(value, impl=keys[name]) if name in keys else value)
        state = jax.tree.unflatten(jax.tree.structure(like), leaves)
        return Checkpoint(step, state, manifest["progress"])

    def restore_latest(self, like: TrainState) -> Checkpoint | None:
        """Reads the last checkpoint that is whole, and warns of later ones that are not; None if there are none.

        Raises:
            CheckpointError: if there are some and none can be used; the message is that of the last one.
        """
        first = None
        for step in reversed(self.steps()):
            try:
                return self.restore(like, step)
            except CheckpointError as error:
                first = first or error
                warnings.warn(f"{error}; trying the one before", stacklevel=2)
        if first is not None:
            raise first
        return None

    def latest_progress(self) -> dict[str, Any] | None:
        """Returns what was saved beside the last state whose manifest can be read; None if there is none."""
        for step in reversed(self.steps()):
            with contextlib.suppress(CheckpointError):
                return read_manifest(self._path(step))["progress"]
        return None

    def _path(self, step: int) -> Path:
        return self.directory / f"{step:08d}"

    def _write(
        self,
        step: int,
        arrays: dict[str, jax.Array],
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
        except Exception as error:  # Orbax's own errors are of many kinds
            self._remove_unfinished()
            raise CheckpointError(
                f"{path}: could not be saved: {first_line(error)}; earlier checkpoints are as they were "
                f"({', '.join(map(str, self.steps())) or 'none'}). Free some space or mend the permissions, and resume"
            ) from error

    def _remove_unfinished(self) -> None:
        """Removes what a save or removal that was cut off has left."""
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
    """What JSON makes of it, so that what was saved equals what is asked for."""
    return json.loads(json.dumps(dict(config)))


def _arrays(state: TrainState) -> tuple[dict[str, jax.Array], dict[str, str]]:
    """Returns the arrays of a state by their paths, random keys as data, and the kinds of these keys."""
    arrays, keys = {}, {}
    for path, leaf in tree_flatten_with_path(state)[0]:
        name = keystr(path, simple=True, separator="/").removesuffix("/value")
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            keys[name], leaf = str(jax.random.key_impl(leaf)), jax.random.key_data(leaf)
        arrays[name] = leaf
    return arrays, keys


def _check_finite(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if not np.isfinite(array.astype(np.float64)).all():
            raise CheckpointError(
                f"{path}: not saved: {name} is infinite or NaN; earlier checkpoints are as they were. Lower the "
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
        f"{name} is {saved.get(name)!r} there and {config.get(name)!r} here"
        for name in [*config, *(name for name in saved if name not in config)]
        if saved.get(name) != config.get(name)
    ]
    problems += [f"{name} is missing there" for name in expected if name not in stored]
    problems += [f"{name} is unknown here" for name in stored if name not in expected]
    for name in (name for name in expected if name in stored):
        found = (tuple(stored[name]["shape"]), stored[name]["dtype"], stored[name]["key"])
        wanted = (expected[name].shape, str(expected[name].dtype), keys.get(name))
        if found != wanted:
            shown = [f"{dtype}{list(shape)}{f' key {key}' if key else ''}" for shape, dtype, key in (found, wanted)]
            problems.append(f"{name} is {shown[0]} there and {shown[1]} here")
    if problems:
        raise CheckpointError(f"{path}: a checkpoint of something else: {'; '.join(problems)}")
