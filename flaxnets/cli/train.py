"""``train``: train a registered network, and save metrics, weights and checkpoints in the folder of a run."""

import contextlib
import glob
import json
import math
import os
import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flaxnets.cli.common import Failure, UsageError, class_names
from flaxnets.cli.train_options import Options as Options
from flaxnets.cli.train_options import parse_options
from flaxnets.cli.train_plan import Plan, make_plan

if TYPE_CHECKING:
    from flax import nnx

    from flaxnets.cli.processes import Processes
    from flaxnets.cli.stopping import Stopping
    from flaxnets.training import EarlyStopping, Run


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command and return the exit status."""
    options = parse_options(arguments, prog)
    if options.list_archs:
        from flaxnets.cli.list import print_models

        print_models()
        return 0
    from flaxnets.cli.processes import joined

    with joined(options) as processes:
        return _run(options, processes, prog)


def _run(options: Options, processes: "Processes | None", prog: str) -> int:
    from flaxnets.cli.devices import check_compiles, choose_device, keep_compiled

    device = choose_device(options.device)
    check_compiles()
    keep_compiled(options.cache_dir)
    if options.dataset and ":" in options.dataset and sys.stdout.isatty():
        print(f"reading {options.dataset}", flush=True)  # every image is decoded once, which can take minutes
    plan = make_plan(options, warn=lambda words: print(words, file=sys.stderr))
    plan, run = (plan, None) if options.dry_run else _open_run(plan, processes)
    if run and run.is_finished() and not plan.is_new_phase:
        print(f"{run.path} is finished; there is nothing to resume. Fix: use a larger --epochs to continue")
        return 0
    if processes is not None:
        _check_same(plan)
        if run is not None:
            processes.resume = resume_command(run, prog, options)
    from flaxnets.cli.stopping import Stopping

    plan.sharding()  # a mesh that does not fit is an error before anything is compiled
    with Stopping() as stopping:
        stopping.started = False
        return _train(plan, run, stopping, device, prog)


def _check_same(plan: Plan) -> None:
    """Raise a UsageError in all processes if they would train differently."""
    from flaxnets.cli.processes import same_everywhere

    same_everywhere(f"{len(plan.data.train)} {len(plan.data.test)}", "the number of examples")
    same_everywhere(json.dumps([plan.config.classes, plan.config.vocabulary]), "the list of classes")
    settings = {**plan.record(), "out": None, "data_dir": None, "cache_dir": None, "options": None, "workers": None}
    same_everywhere(json.dumps(settings, default=str, sort_keys=True), "the configuration")


def _open_run(plan: Plan, processes: "Processes | None") -> "tuple[Plan, Run]":
    """Return the run to resume, or a new run, and its plan; process 0 chooses the folder for all processes."""
    from flaxnets.cli.processes import from_first
    from flaxnets.training import Run

    if processes is None:
        return _choose_run(plan)
    if processes.index == 0:
        try:
            plan, run = _choose_run(plan)
        except UsageError as error:
            from_first("", error)
            raise
        from_first(json.dumps([str(run.path), run.has_begun()]))
        return plan, run
    path, has_begun = json.loads(from_first(""))
    return (_resumed(plan, path) if has_begun else plan), Run(path)


def _choose_run(plan: Plan) -> "tuple[Plan, Run]":
    """Return the run to resume, or a new run without a folder yet, and the plan for the run."""
    from flaxnets.training import Run, RunError, read_config

    asked, out, arch = plan.config.resume, Path(plan.config.out), plan.config.arch
    if asked == "auto":
        for path in sorted(out.glob(f"{glob.escape(arch)}-*/config.json"), key=os.path.getmtime, reverse=True):
            with contextlib.suppress(RunError):  # a folder that is no run cannot be resumed
                config = read_config(path.parent)
                if not plan.differences(config):
                    print(f"--resume auto: found {path.parent}", flush=True)
                    return plan.continued(config), Run(path.parent)
        print(f"--resume auto: no run with these options in {out}; a new one starts", flush=True)
    elif asked is not None:
        return _resumed(plan, asked), Run(asked)
    try:
        return plan, Run.plan(out, arch)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot write there: {error.strerror or error}") from error


def _resumed(plan: Plan, path: str) -> Plan:
    """Return the plan for a resumed run, in a new phase if settings have changed."""
    import jax

    from flaxnets.cli.run_folder import CHECKPOINTS
    from flaxnets.training import Checkpoints, RunError, read_config

    try:
        config = read_config(path)
    except RunError as error:  # the folder has changed since its options were read
        raise UsageError(f"--resume {path}: {error}") from error
    differences = plan.differences(config)
    if not differences:
        return plan.continued(config)
    if not plan.can_change(differences):
        fixed = "; ".join(words for name, words in differences.items() if not plan.can_change([name]))
        raise UsageError(f"--resume {path}: the run was started with other settings: {fixed}")
    words = "; ".join(differences.values())
    if plan.config.compare_torch:
        raise UsageError(f"--resume {path}: --compare-torch cannot be used for a run in phases; {words}")
    try:
        plan = plan.next_phase(config, Checkpoints(Path(path) / CHECKPOINTS).latest_progress())
    except UsageError as error:
        raise UsageError(f"--resume {path}: {error}; {words}") from error
    if jax.process_index() == 0:
        print(f"a new phase starts after update {plan.phase_start}: {words}", flush=True)
    return plan


def _train(plan: Plan, run: "Run | None", stopping: "Stopping", device: str, prog: str) -> int:
    import jax

    from flaxnets import kernels
    from flaxnets.training import CheckpointError
    from flaxnets.training.progress import describe

    started = time.perf_counter()
    begins = run is None or not run.has_begun()
    if jax.process_index() != 0:
        return _take_part(plan, run, stopping, begins)
    model = plan.make_model()
    lines = plan.load_first_weights(model) if begins else []
    if plan.config.precision == "bfloat16" and device.startswith("cpu") and not kernels.has_bfloat16():
        lines.append("--precision bfloat16: this processor has no instructions for it, and is faster with float32")
    print(_opening(plan, model, device, run), *lines, sep="\n", flush=True)
    torch_records = None
    with _one_line_failures(run):
        try:
            records = fit_model(plan, model, stopping, run)
        except (FloatingPointError, CheckpointError):  # the model has its last finite state
            if run and run.has_begun():
                run.save(model, "last")
            raise
        if run and run.has_begun():
            run.save(model, "last")
        if plan.config.compare_torch and stopping.signal is None:
            torch_records = fit_twin(plan)
            if run:
                run.log_all(torch_records, of="torch_")
        if run and records:
            _draw(plan, run, records, torch_records)
    done = run is not None and _is_complete(plan, records)
    again = "" if run is None else resume_command(run, prog, plan.config.options)
    resume = f"\nresume with:\n  {again}" if run and (stopping.signal or not done) else ""
    if stopping.signal is not None:
        print(f"{stopping.reason} after {len(records)} whole epochs; {_where(run)}{resume}")
        return stopping.exit_status
    if run and done:
        run.finish({"epochs": len(records), "ended": stopping.reason, "best": max(records, key=plan.score)})
    if plan.data.vocabulary is not None and run:
        print(_sample(model, plan))
    minutes, seconds = divmod(round(time.perf_counter() - started), 60)
    result = describe(records[-1], "test", plan.task.score) if records else "no whole epoch"
    ended = f" ({stopping.reason})" if stopping.reason else ""
    saved = f"saved in {run.path}" if run else "nothing was saved"
    print(f"{result} after {minutes} min {seconds} s{ended}; {saved}{resume}")
    return 0


def _take_part(plan: Plan, run: "Run | None", stopping: "Stopping", begins: bool) -> int:
    """Train in a process other than process 0, which writes and prints."""
    model = plan.make_model()
    if begins:
        plan.load_first_weights(model)
    with _one_line_failures(run):
        fit_model(plan, model, stopping, run)
    return stopping.exit_status


def _opening(plan: Plan, model: "nnx.Module", device: str, run: "Run | None") -> str:
    """Describe a run in one line, before it starts."""
    import jax

    from flaxnets import named_parameters

    config, data = plan.config, plan.data
    every = [parameter for _, parameter in named_parameters(model)]
    frozen = sum(parameter.size for parameter in every if not getattr(parameter, "requires_grad", True))
    count = sum(parameter.size for parameter in every)
    parameters = f"{count:,} parameters" + (f" ({frozen:,} frozen)" if frozen else "")
    classes = f", {len(data.classes)} classes" if data.classes else ""
    examples = f"{len(data.train):,} training and {len(data.test):,} test examples{classes}"
    where = f"in {run.path}" if run else "a dry run"
    if jax.process_count() > 1:
        device = f"{device} and all other devices of {jax.process_count()} processes"
    return f"{config.arch}: {parameters}; {config.dataset}: {examples}; on {device}; {where}"


def resume_command(run: "Run", prog: str, options: Options | None = None) -> str:
    """Return the command line that resumes a run, for a shell.

    Args:
        run: the run.
        prog: ``train.py`` or ``flaxnets train``.
        options: options of which those of many processes are repeated.

    >>> from flaxnets.training import Run
    >>> resume_command(Run("my runs/mlp-1"), "flaxnets train").partition("train ")[2]
    "--resume 'my runs/mlp-1'"
    """
    python = "python" if _is_python("python") else sys.executable
    program = sys.argv[0]
    if prog == "train.py":
        words = [python, program]
    elif Path(program).name.startswith("flaxnets"):
        on_path = shutil.which("flaxnets")
        words = ["flaxnets" if on_path and os.path.samefile(on_path, program) else program, "train"]
    else:
        words = [python, "-m", "flaxnets", "train"]
    words += ["--resume", str(run.path)]
    for name in ("distributed", "coordinator", "num_processes", "process_id"):
        value = None if options is None else getattr(options, name)
        words += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _is_python(name: str) -> bool:
    found = shutil.which(name)
    return found is not None and os.path.abspath(found) == os.path.abspath(sys.executable)


def _where(run: "Run | None") -> str:
    if run is None:
        return "a dry run saves nothing"
    return f"saved in {run.path}" if run.has_begun() else "nothing was saved: no step was done"


@contextlib.contextmanager
def _one_line_failures(run: "Run | None") -> Iterator[None]:
    """Turn an error during a run into one line that says what to do."""
    import jax

    from flaxnets.data import DataError
    from flaxnets.training import CheckpointError

    try:
        yield
    except (FloatingPointError, CheckpointError, DataError) as error:
        raise Failure(f"{' '.join(str(error).split())}; {_where(run)}") from error
    except OSError as error:
        raise Failure(f"{error.filename or 'writing'}: {error.strerror or error}; {_where(run)}") from error
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            raise Failure(
                f"out of memory; use a smaller --batch-size (with --accumulate for the same update), --remat or "
                f"--precision bfloat16; {_where(run)}"
            ) from error
        raise


def fit_model(plan: Plan, model: "nnx.Module", stopping: "Stopping", run: "Run | None" = None) -> list[dict[str, Any]]:
    """Train a network as planned; continue where its run has a checkpoint.

    Args:
        plan: The plan.
        model: The network, which is trained in place.
        stopping: Ends the run on a signal.
        run: Where metrics, the best weights and checkpoints are saved; None to save nothing.

    Returns:
        One record an epoch.

    >>> from flaxnets.cli.stopping import Stopping
    >>> plan = make_plan(Options(arch="linear_regression", epochs=3))
    >>> with Stopping() as stopping:
    ...     records = fit_model(plan, plan.make_model(), stopping)  # doctest: +ELLIPSIS
    1/3  train loss ...
    2/3  train loss ...
    3/3  train loss ...
    >>> sorted(records[0])
    ['epoch', 'examples_per_second', 'learning_rate', 'test_loss', 'train_loss']
    """
    import jax

    from flaxnets.cli.run_folder import run_callbacks
    from flaxnets.training import Batches, Callback, Engine, ProgressBar, StepOptions, TimeLimit, fit

    config = plan.config
    train, test = plan.sources()
    options = StepOptions(
        accumulate=config.accumulate,
        ema_decay=config.ema_decay,
        nonfinite=config.nonfinite,
        remat=config.remat,
        compute_dtype=_compute_dtype(plan),
        loss_scale="dynamic" if config.precision == "float16" else None,
        backend=_backend(plan),
    )
    time_limit = math.inf if plan.config.time_limit is None else plan.config.time_limit
    callbacks: list[Callback] = [stopping, _early_stopping(plan), TimeLimit(time_limit)]
    if jax.process_index() == 0:
        callbacks.append(ProgressBar())
    with contextlib.ExitStack() as stack:
        if run is not None:
            folder, checkpointing = stack.enter_context(run_callbacks(plan, run))
            # The folder is opened before a checkpoint is written into it. A checkpoint has the complete records.
            callbacks = [*folder, *callbacks, checkpointing]
        return fit(
            Engine(model, plan.optimizer(), plan.objective(), options, plan.sharding()),
            Batches(train, config.batch_size, plan.transform(), plan.augment()),
            Batches(test, transform=plan.transform()),
            epochs=config.epochs,
            seed=config.seed,
            callbacks=callbacks,
            steps_per_execution="auto",
            unit=plan.task.unit,
        )


def _early_stopping(plan: Plan) -> "EarlyStopping":
    from flaxnets.training import EarlyStopping

    patience = sys.maxsize if plan.config.patience is None else plan.config.patience
    return EarlyStopping(patience, plan.score, plan.phases[-1].epoch if plan.phases else 1)


def _is_complete(plan: Plan, records: list[dict[str, Any]]) -> bool:
    """Return whether there is nothing to resume."""
    return len(records) == plan.config.epochs or _early_stopping(plan).is_exhausted(records)


def _compute_dtype(plan: Plan) -> Any:
    import jax.numpy as jnp

    return {"float32": None, "bfloat16": jnp.bfloat16, "float16": jnp.float16}[plan.config.precision]


def _backend(plan: Plan) -> Any:
    """Return the backend. A dry run on a CPU uses XLA's, because compiled steps with oneDNN calls cannot be cached."""
    import jax

    backend = plan.config.backend
    return "xla" if plan.config.dry_run and backend == "auto" and jax.default_backend() == "cpu" else backend


def fit_twin(plan: Plan) -> list[dict[str, Any]]:
    """Train the network's PyTorch twin from the same weights on the same batches.

    Returns:
        One record per epoch.

    >>> records = fit_twin(make_plan(Options(arch="linear_regression", epochs=1)))  # doctest: +ELLIPSIS
    PyTorch 1/1  test loss ...
    >>> sorted(records[0])
    ['epoch', 'test_loss', 'train_loss']
    """
    from flaxnets.parity.training.fit import fit_torch
    from flaxnets.training import Batches
    from flaxnets.training.progress import describe

    train, test = plan.sources()
    model = plan.make_model()
    plan.load_first_weights(model)
    return fit_torch(
        plan.config,
        model,
        plan.optimizer(),
        Batches(train, plan.config.batch_size, plan.transform(), plan.augment()),
        Batches(test, transform=plan.transform()),
        on_epoch=lambda record: print(f"PyTorch {record['epoch']}/{plan.config.epochs}  {describe(record, 'test')}"),
    )


def _draw(
    plan: Plan, run: "Run", records: Sequence[Mapping[str, Any]], torch_records: Sequence[Mapping[str, Any]] | None
) -> None:
    """Draw the curves, and the plots of the task for the best weights."""
    from flaxnets.training import load_run, predict
    from flaxnets.training.plots import plot_curves

    plot_curves(records, run.path / "curves.png", torch_records)
    if plan.task.plots is not None:
        best, (_, test) = load_run(run.path), plan.sources()
        outputs = predict(best.model, test, transform=plan.transform(), backend=_backend(plan))
        plan.task.plots(outputs, plan.data.test.targets, class_names(best, outputs.shape[-1]), run.path)


def _sample(model: "nnx.Module", plan: Plan) -> str:
    """Return text of a language model that continues a few words."""
    import jax

    from flaxnets.training import generate

    vocabulary: Any = plan.data.vocabulary
    prefix = plan.sources()[1].inputs[0]
    key = jax.random.key(plan.config.seed)
    ids = generate(model, prefix, 200, key=key, temperature=0.7)
    return textwrap.fill(f"{vocabulary.decode(prefix)} | {vocabulary.decode(ids)}", width=100)
