"""The callback that writes the folder of a run: metrics, and the best weights."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax

from flaxnets.training import Callback, Checkpointing, Checkpoints, TensorBoard

if TYPE_CHECKING:
    from flaxnets.cli.train_plan import Plan
    from flaxnets.training import Loop, Run

CHECKPOINTS, TENSORBOARD = "checkpoints", "tensorboard"  # folders within that of a run


@contextlib.contextmanager
def run_callbacks(plan: "Plan", run: "Run") -> Iterator[tuple[list[Callback], Checkpointing]]:
    """Give the callbacks that write into the folder of a run, and the one that saves its checkpoints.

    With many processes, process 0 writes, and all take part in checkpoints.

    Args:
        plan: The plan of the run.
        run: The run.
    """
    identity = {name: getattr(plan.config, name) for name in ("arch", "model_options", "optimizer")}
    with Checkpoints(run.path / CHECKPOINTS, config=identity) as checkpoints:
        checkpointing = Checkpointing(checkpoints, every=plan.config.checkpoint_every, score=plan.score, resume=True)
        if jax.process_index() != 0:
            yield [], checkpointing
            return
        tensorboard = TensorBoard(run.path / TENSORBOARD) if plan.config.tensorboard else None
        folder = RunFolder(plan, run, checkpointing, tensorboard)
        yield [folder] if tensorboard is None else [folder, tensorboard], checkpointing


class RunFolder(Callback):
    """Make the folder of a run after its first step, and write every epoch's metrics and the best weights.

    Args:
        plan: The plan of the run.
        run: The run.
        checkpointing: The callback whose checkpoints are saved in the folder.
        tensorboard: The callback that writes event files there, if any.
    """

    def __init__(self, plan: "Plan", run: "Run", checkpointing: Checkpointing, tensorboard: TensorBoard | None):
        self._plan, self._run = plan, run
        self._checkpointing, self._tensorboard = checkpointing, tensorboard
        self._is_open = False

    def on_start(self, loop: "Loop") -> None:
        """Number the epochs of the first phase of a resumed run."""
        for record in loop.records:
            if self._plan.phases and "phase" not in record:
                _add_phase(record, 1)

    def on_step(self, loop: "Loop") -> None:
        """Open the folder after the first step."""
        if self._is_open:
            return
        self._is_open = True
        self._open(loop)
        self._checkpointing.checkpoints.directory = (self._run.path / CHECKPOINTS).absolute()
        if self._tensorboard is not None:
            self._tensorboard.folder = self._run.path / TENSORBOARD

    def on_epoch(self, loop: "Loop", record: dict[str, Any]) -> None:
        """Write the record, and the weights if they are the best so far."""
        if self._plan.phases:
            _add_phase(record, len(self._plan.phases))
        self._run.log(record)
        if self._plan.score(record) >= max(map(self._plan.score, loop.records)):
            self._run.save(loop.engine.model, "best")

    def _open(self, loop: "Loop") -> None:
        """Make the folder of a new run; write what is new in a resumed run."""
        if not self._run.has_begun():
            planned = self._run.path
            self._run.begin(self._plan.record())
            if self._run.path != planned:
                print(f"in {self._run.path}: another run has taken {planned}")
            return
        self._run.log_all(loop.records)
        if self._plan.is_new_phase:
            self._run.configure(self._plan.record())
            self._run.reopen()


def _add_phase(record: dict[str, Any], phase: int) -> None:
    """Put the number of a phase after that of the epoch."""
    rest = {name: record.pop(name) for name in [*record] if name != "epoch"}
    record.update({"phase": phase, **rest})
