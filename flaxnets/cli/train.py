"""``train``: trains a registered network, and keeps what came of it in the folder of a run."""

import contextlib
import os
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flaxnets.cli.common import Failure, UsageError, class_names
from flaxnets.cli.stopping import Stopping
from flaxnets.cli.train_options import Options as Options
from flaxnets.cli.train_options import parse_options
from flaxnets.cli.train_plan import Plan, make_plan

if TYPE_CHECKING:
    from flax import nnx

    from flaxnets.training import Run


def main(arguments: Sequence[str], prog: str) -> int:
    """Runs the command; returns the exit status."""
    options = parse_options(arguments, prog)
    if options.list_archs:
        from flaxnets.cli.list import print_models

        print_models()
        return 0
    from flaxnets.cli.devices import choose_device, keep_compiled
    from flaxnets.training import read_config

    choose_device(options.device)
    keep_compiled(options.cache_dir)
    plan = make_plan(options)
    run = None if options.dry_run else _open_run(plan)
    if run and run.is_finished():
        print(f"{run.path} is finished; there is nothing to resume")
        return 0
    if run:
        plan = plan.with_classes(read_config(run.path).get("classes"))
    with Stopping(options.time_limit, options.patience) as stopping:
        return _train(plan, run, stopping)


def _open_run(plan: Plan) -> "Run":
    """Returns the run to go on with, or a new one."""
    from flaxnets.training import Run, RunError, read_config

    asked, out, arch = plan.options.resume, Path(plan.options.out), plan.config["arch"]
    if asked == "auto":
        for path in sorted(out.glob(f"{arch}-*/config.json"), key=os.path.getmtime, reverse=True):
            with contextlib.suppress(RunError):  # what is no run is none to go on with
                if not plan.differences(read_config(path.parent)):
                    return Run(path.parent)
    elif asked is not None:
        differences = plan.differences(read_config(asked))
        if differences:
            raise UsageError(f"--resume {asked}: that run was another one: {'; '.join(differences)}")
        return Run(asked)
    try:
        return Run.create(out, arch, plan.config)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot write there: {error.strerror or error}") from error


def _train(plan: Plan, run: "Run | None", stopping: Stopping) -> int:
    from flaxnets.training import CheckpointError
    from flaxnets.training.progress import describe

    started = time.perf_counter()
    model = plan.make_model()
    where = f"what was kept is in {run.path}" if run else "a dry run keeps nothing"
    torch_records = None
    with _one_line_failures(where):
        try:
            records = fit_model(plan, model, stopping, run)
        except (FloatingPointError, CheckpointError):  # the model has the last finite state, or the last one
            if run:
                run.save(model, "last")
            raise
        if run:
            run.save(model, "last")
        if plan.options.compare_torch and stopping.signal is None:
            torch_records = fit_twin(plan)
            if run:
                run.log_all(torch_records, of="torch_")
        if run and records:
            _draw(plan, run, records, torch_records)
    if stopping.signal is not None:
        print(f"{stopping.reason} after {len(records)} whole epochs; {where}; --resume auto goes on with it")
        return stopping.exit_status
    if run and (len(records) == plan.config["epochs"] or stopping.exhausted):
        run.finish({"epochs": len(records), "ended": stopping.reason, "best": max(records, key=plan.score)})
    if plan.data.vocabulary is not None and run:
        print(_sample(model, plan))
    minutes, seconds = divmod(round(time.perf_counter() - started), 60)
    result = describe(records[-1], "test", plan.task.score) if records else "no whole epoch"
    ended = f" ({stopping.reason})" if stopping.reason else ""
    saved = f"saved in {run.path}" if run else "nothing was saved"
    print(f"{result} after {minutes} min {seconds} s{ended}; {saved}")
    return 0


@contextlib.contextmanager
def _one_line_failures(where: str) -> Iterator[None]:
    """Turns what can go wrong in the middle of a run into a line that says what to do."""
    import jax

    from flaxnets.data import DataError
    from flaxnets.training import CheckpointError

    try:
        yield
    except (FloatingPointError, CheckpointError, DataError) as error:
        raise Failure(f"{error}; {where}") from error
    except OSError as error:
        raise Failure(f"{error.filename or 'writing'}: {error.strerror or error}; {where}") from error
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            raise Failure(
                f"out of memory; use a smaller --batch-size (with --accumulate for the same update), --remat or "
                f"--precision bfloat16; {where}"
            ) from error
        raise


def fit_model(plan: Plan, model: "nnx.Module", stopping: Stopping, run: "Run | None" = None) -> list[dict[str, Any]]:
    """Trains a network as planned; goes on where its run has a checkpoint.

    Args:
        plan: what to do.
        model: the network, which is trained in place.
        stopping: is asked after every step whether to end.
        run: where metrics, the best weights and checkpoints are kept, if at all.

    Returns:
        A record an epoch.

    >>> plan = make_plan(Options(arch="linear_regression", epochs=3))
    >>> with Stopping() as stopping:
    ...     records = fit_model(plan, plan.make_model(), stopping)  # doctest: +ELLIPSIS
    1/3  train loss ...
    2/3  train loss ...
    3/3  train loss ...
    >>> sorted(records[0])
    ['epoch', 'examples_per_second', 'learning_rate', 'test_loss', 'train_loss']
    """
    import jax.numpy as jnp

    from flaxnets.training import Checkpoints, fit
    from flaxnets.training.progress import Progress

    config, options = plan.config, plan.options
    train, test = plan.sources()
    batch_size = min(config["batch_size"], len(train))
    seen: list[dict[str, Any]] = []  # the records so far

    def see(record: dict[str, Any]) -> None:
        seen.append(record)
        stopping.scores = [plan.score(each) for each in seen]

    def on_resume(epoch: int, step: int, records: list[dict[str, Any]]) -> None:
        for record in records:
            see(record)
        if run:
            run.log_all(records)
        progress.resume(epoch, step)

    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(config["epochs"], len(train) // batch_size, plan.task.unit))
        write = stack.enter_context(_tensorboard(run)) if options.tensorboard and run else None
        identity = {name: config[name] for name in ("arch", "model_options", "optimizer")}
        checkpoints = stack.enter_context(Checkpoints(run.path / "checkpoints", config=identity)) if run else None

        def on_epoch(record: dict[str, Any]) -> None:
            see(record)
            if run:
                run.log(record)
                if stopping.scores[-1] >= max(stopping.scores):
                    run.save(model, "best")
            if write:
                write(record)
            progress.epoch(record)

        return fit(
            model,
            train,
            test,
            objective=plan.objective(),
            optimizer=plan.optimizer(),
            epochs=config["epochs"],
            batch_size=batch_size,
            seed=config["seed"],
            accumulate=config["accumulate"],
            ema_decay=config.get("ema_decay"),
            nonfinite=config["nonfinite"],
            remat=config["remat"],
            compute_dtype=jnp.bfloat16 if config["precision"] == "bfloat16" else None,
            kernels=_kernels(plan),
            steps_per_execution="auto",
            transform=plan.transform(),
            augment=plan.augment(),
            unit=plan.task.unit,
            learning_rate=plan.schedule(),
            checkpoints=checkpoints,
            checkpoint_every=options.checkpoint_every,
            score=plan.score,
            resume=True,
            on_resume=on_resume,
            on_step=progress.step,
            on_epoch=on_epoch,
            should_stop=lambda: stopping.reason is not None,
        )


def _kernels(plan: Plan) -> Any:
    """A dry run on a CPU takes XLA's forms if it may: compiled steps with calls of oneDNN cannot be kept."""
    import jax

    kernels = plan.config["kernels"]
    return "xla" if plan.options.dry_run and kernels == "auto" and jax.default_backend() == "cpu" else kernels


@contextlib.contextmanager
def _tensorboard(run: "Run") -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Gives what writes an epoch's record for TensorBoard."""
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(run.path / "tensorboard")) as writer:

        def write(record: Mapping[str, Any]) -> None:
            for name, value in record.items():
                if name != "epoch":
                    writer.add_scalar(name, value, record["epoch"])
            writer.flush()

        yield write


def fit_twin(plan: Plan) -> list[dict[str, Any]]:
    """Trains the network's PyTorch twin from the same weights on the same batches.

    Returns:
        A record an epoch.

    >>> records = fit_twin(make_plan(Options(arch="linear_regression", epochs=1)))  # doctest: +ELLIPSIS
    PyTorch 1/1  test loss ...
    >>> sorted(records[0])
    ['epoch', 'test_loss', 'train_loss']
    """
    from flaxnets import state_dict
    from flaxnets.parity.training import fit_torch
    from flaxnets.training import Batches
    from flaxnets.training.progress import describe

    train, test = plan.sources()
    batches = Batches(train, plan.config["batch_size"], plan.transform(), plan.augment())
    return fit_torch(
        plan.config,
        state_dict(plan.make_model()),
        batches,
        Batches(test, 250, plan.transform()),
        schedule=plan.schedule(),
        on_epoch=lambda record: print(f"PyTorch {record['epoch']}/{plan.config['epochs']}  {describe(record, 'test')}"),
    )


def _draw(
    plan: Plan, run: "Run", records: Sequence[Mapping[str, Any]], torch_records: Sequence[Mapping[str, Any]] | None
) -> None:
    """Draws the curves, and which classes the best weights take for which."""
    from flaxnets.training import load_run, predict
    from flaxnets.training.plots import confusion_matrix, plot_confusion, plot_curves

    plot_curves(records, run.path / "curves.png", torch_records)
    if plan.data.task == "classification":
        best, (_, test) = load_run(run.path), plan.sources()
        outputs = predict(best.model, test, transform=plan.transform(), kernels=_kernels(plan))
        names = class_names(best, outputs.shape[-1])
        matrix = confusion_matrix(outputs.argmax(-1), plan.data.test.targets, len(names))
        plot_confusion(matrix, names, run.path / "confusion.png")


def _sample(model: "nnx.Module", plan: Plan) -> str:
    """Lets a language model continue a few words."""
    import jax

    from flaxnets.training import generate

    vocabulary: Any = plan.data.vocabulary
    prefix = plan.sources()[1].inputs[0]
    key = jax.random.key(plan.config["seed"])
    ids = generate(model, prefix, 200, key=key, temperature=0.7)
    return textwrap.fill(f"{vocabulary.decode(prefix)} | {vocabulary.decode(ids)}", width=100)
