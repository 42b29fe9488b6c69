"""Faults of checkpoints: damaged files, lost files, processes that are killed while they save, and full disks.

Each function plants one fault ``attempts`` times, in checkpoints below ``folder``, and counts the outcomes. See
:mod:`benchmarks.reliability`.
"""

import contextlib
import functools
import multiprocessing
import os
import resource
import shutil
import subprocess
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import flaxnets
from flaxnets import optim
from flaxnets.training import CheckpointError, Checkpoints, TrainState


def state_of(step: int, width: int = 4) -> TrainState:
    """Create a train state with dropout keys and two optimizer slots. Its values and keys are drawn from ``step``."""
    model = flaxnets.create_model("mlp_dropout", num_inputs=9, num_hiddens=width, rngs=nnx.Rngs(step))
    state = TrainState.create(model, optim.Adam(1e-3), seed=step)
    rng = np.random.default_rng(step)
    slots = jax.tree.map(lambda slot: jnp.asarray(rng.random(slot.shape, slot.dtype)), state.opt_state.slots)
    return jax.tree.map(jnp.copy, TrainState(
        state.params, state.model_state, state.opt_state._replace(slots=slots), jnp.asarray(step), jnp.asarray(step),
        state.key,
    ))  # fmt: skip


def same(one: TrainState, other: TrainState) -> bool:
    """Return whether two states are bit-identical."""

    def data(leaf: jax.Array) -> bytes:
        keys = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if keys else leaf).tobytes()

    return all(data(a) == data(b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def _saved(folder: Path, steps: tuple[int, ...]) -> Checkpoints:
    # A later save may succeed, and must not remove a checkpoint: keep one more.
    checkpoints = Checkpoints(folder / "checkpoints", keep=len(steps) + 1, asynchronous=False)
    for step in steps:
        checkpoints.save(step, state_of(step), {"step": step})
    return checkpoints


def _restored(restore: Callable[[], Any]) -> str:
    """Restore a damaged checkpoint, and return the outcome."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            checkpoint = restore()
        except CheckpointError:
            return "noticed"
    if (
        checkpoint is None
        or not same(checkpoint.state, state_of(checkpoint.step))
        or checkpoint.progress != {"step": checkpoint.step}
    ):
        return "silent"
    return "noticed" if any("trying the previous" in str(warning.message) for warning in caught) else "harmless"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip_bits(attempts: int, folder: Path) -> Counter[str]:
    """Flip one bit per attempt, in any file of a checkpoint."""
    checkpoints, like, outcomes = _saved(folder, (1,)), state_of(2), Counter[str]()
    rng, files = np.random.default_rng(0), [path for path in _files(folder) if path.stat().st_size]
    for _ in range(attempts):
        path = files[rng.integers(len(files))]
        content = path.read_bytes()
        bit = int(rng.integers(8 * len(content)))
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        outcomes[_restored(lambda: checkpoints.restore(like, 1))] += 1
        path.write_bytes(content)
    return outcomes


def lose(attempts: int, folder: Path) -> Counter[str]:
    """Damage the files of the last of two checkpoints, one after the other: truncate, empty and delete each."""
    checkpoints, like, outcomes = _saved(folder, (1, 2)), state_of(3), Counter[str]()
    files = _files(checkpoints.directory / "00000002")
    for attempt in range(attempts):
        path, content = files[attempt // 3 % len(files)], files[attempt // 3 % len(files)].read_bytes()
        match attempt % 3:
            case 0:
                path.write_bytes(content[: len(content) // 2])
            case 1:
                path.write_bytes(b"")
            case 2:
                path.unlink()
        outcomes[_restored(lambda: checkpoints.restore_latest(like))] += 1
        path.write_bytes(content)
    return outcomes


def _save_on_and_on(folder: Path, asynchronous: bool, pipe: Connection) -> None:
    """Save checkpoints until the process is killed, and send each step whose checkpoint is complete."""
    checkpoints = Checkpoints(folder, asynchronous=asynchronous)
    step = (checkpoints.steps() or [0])[-1]
    if step:
        assert same(checkpoints.restore(state_of(1), step).state, state_of(step))  # a run can resume
    while True:
        step += 1
        checkpoints.save(step, state_of(step), {"step": step})
        pipe.send(step - asynchronous)  # an asynchronous save is complete when the next save begins


def kill(asynchronous: bool, attempts: int, folder: Path) -> Counter[str]:
    """Kill a process that only saves (``kill -9``), at random times."""
    context, rng, outcomes = multiprocessing.get_context("forkserver"), np.random.default_rng(0), Counter[str]()
    context.set_forkserver_preload(["benchmarks.checkpoint_faults", "orbax.checkpoint.v1"])
    directory, like = folder / "checkpoints", state_of(1)
    for _ in range(attempts):
        receiving, sending = context.Pipe(duplex=False)
        child = context.Process(target=_save_on_and_on, args=(directory, asynchronous, sending), daemon=True)
        child.start()
        sending.close()
        assert receiving.poll(120), "the process has saved nothing"
        time.sleep(float(rng.uniform(0, 0.3)))
        child.kill()
        child.join()
        acknowledged = 0
        with contextlib.suppress(EOFError):
            while receiving.poll():
                acknowledged = receiving.recv()
        checkpoints = Checkpoints(directory)
        steps = checkpoints.steps()
        restored = [_restored(functools.partial(checkpoints.restore, like, step)) for step in steps]
        good = (steps or [0])[-1] >= acknowledged and restored == ["harmless"] * len(steps)
        outcomes["harmless" if good else "silent"] += 1
    return outcomes


@contextlib.contextmanager
def _file_size(limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _unsaved(checkpoints: Checkpoints) -> str:
    """Save step 2 where the save should fail, and return the outcome."""
    try:
        checkpoints.save(2, state_of(2), {"step": 2})
    except CheckpointError as error:
        is_unchanged = _restored(lambda: checkpoints.restore(state_of(3), 1)) == "harmless"
        is_reported = "earlier checkpoints are unchanged (1)" in str(error)
        return "noticed" if is_unchanged and is_reported and checkpoints.steps() == [1] else "silent"
    outcome = _restored(lambda: checkpoints.restore(state_of(3), 2))
    shutil.rmtree(checkpoints.directory / "00000002")
    return outcome


def limit_file_size(attempts: int, folder: Path) -> Counter[str]:
    """Save where the system limits files to fewer bytes than the checkpoint needs."""
    checkpoints, outcomes = _saved(folder, (1,)), Counter[str]()
    largest = max(path.stat().st_size for path in _files(folder))
    for limit in np.linspace(0, largest - 1, attempts).astype(int).tolist():
        with _file_size(limit):
            outcomes[_unsaved(checkpoints)] += 1
    return outcomes


def fill_disk(attempts: int, folder: Path) -> Counter[str]:
    """Save on an almost full disk, with different amounts of free space. Needs the right to mount a tmpfs."""
    outcomes, disk = Counter[str](), folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    try:
        checkpoints = _saved(disk, (1,))
        for free in np.linspace(0, 24, attempts).astype(int).tolist():  # in pages of 4 KiB
            filler = disk / "filler"
            available = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            filler.write_bytes(bytes(available - 4096 * free))
            outcomes[_unsaved(checkpoints)] += 1
            filler.unlink()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    return outcomes
