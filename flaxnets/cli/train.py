"""``train``: trains a registered network, and keeps what came of it in the folder of a run."""

import dataclasses
import functools
import inspect
import math
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from flaxnets.cli.common import Failure, UsageError
from flaxnets.cli.stopping import Stopping
from flaxnets.cli.train_options import FREE, Options, parse_options

if TYPE_CHECKING:
    import numpy as np
    from flax import nnx

    from flaxnets.data import Augmentation, Dataset, ImageFiles, Split, Vocabulary
    from flaxnets.training import Run, Task

SAMPLE_PREFIX = "the statement "  # what a trained language model is asked to continue


def main(arguments: Sequence[str], prog: str) -> int:
    """Runs the command; returns the exit status."""
    options = parse_options(arguments, prog)
    if options.list_archs:
        from flaxnets.cli.list import print_models

        print_models()
        return 0
    from flaxnets.cli.devices import choose_device, keep_compiled

    choose_device(options.device)
    keep_compiled(options.cache_dir)
    plan = make_plan(options)
    with Stopping(options.time_limit, options.patience) as stopping:
        return _train(plan, stopping)


def _train(plan: "Plan", stopping: Stopping) -> int:
    """Finds or makes the run's folder, trains in it, and says how it ended."""
    from flaxnets.training import CheckpointError

    run, resume = _open_run(plan)
    if run and resume and (run.path / "last.safetensors").exists() and len(run.records()) == plan.config["epochs"]:
        print(f"{run.path} is finished already: {len(run.records())} epochs")
        return 0
    started = time.perf_counter()
    model = plan.make_model()
    where = f"the weights so far are in {run.path}" if run else "a dry run keeps no weights"
    try:
        records = _fit(plan, model, run, resume, stopping)
    except (FloatingPointError, CheckpointError) as error:
        if run:
            run.save(model, "last")
        raise Failure(f"{error}; {where}") from error
    if run:
        finish(plan, model, run, records)
    if stopping.signal is not None:
        print(f"{stopping.reason} after {len(records)} whole epochs; {where}; go on with --resume auto")
        return stopping.exit_status
    if plan.data.vocabulary is not None and run:
        print(_sample(model, plan.data.vocabulary, plan.config["seed"]))
    minutes, seconds = divmod(round(time.perf_counter() - started), 60)
    ended = f" ({stopping.reason})" if stopping.reason else ""
    saved = f"saved in {run.path}" if run else "nothing was saved"
    print(f"{plan.describe(records)} after {minutes} min {seconds} s{ended}; {saved}")
    return 0
