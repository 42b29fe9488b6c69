"""Trains a registered network: ``python train.py --arch densenet``."""

import dataclasses
import functools
import inspect
import math
import signal
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from flax import nnx

    from flaxnets.data import Dataset, Vocabulary
    from flaxnets.training import Run

INTERRUPTED = 130  # the shell's exit status for a command that SIGINT ended
SAMPLE_PREFIX = "the statement "  # what a trained language model is asked to continue


@dataclasses.dataclass(frozen=True)
class Options:
    """Train a network and keep its weights, under torch's names, in a new folder.

    What is not given here is chosen for the network: see --list-archs.
    """

    arch: str = "densenet"
    """The network."""
    epochs: int | None = None
    """How often to go through the training examples."""
    batch_size: int | None = None
    """Examples a step: images, pieces of text, or points."""
    lr: float | None = None
    """Learning rate at the start; it falls to 0 along a cosine."""
    optimizer: Literal["sgd", "adam", "adamw"] | None = None
    """How gradients become updates."""
    seed: int = 0
    """Decides initial weights, dropout and the order of examples."""
    dataset: str | None = None
    """What to train on. Images: mnist, digits. Text: topics. Points: line, diabetes."""
    train_examples: int | None = None
    """Use only the first so many training examples."""
    out: str = "runs"
    """The folder in which a folder for this run is made."""
    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Where to compute; auto takes the fastest there is."""
    list_archs: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the networks and stop."""


class UsageError(Exception):
    """Something in the options cannot be done; the message says what and why."""


def main() -> int:
    """Parses the command line and trains; returns the exit status."""
    options = tyro.cli(Options, prog="train.py", description=Options.__doc__)
    try:
        return _list_archs() if options.list_archs else _train(options)
    except UsageError as error:
        print(f"train.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before there was a run to end well
        return INTERRUPTED


def _check(options: Options) -> None:
    from flaxnets.data import list_datasets
    from flaxnets.registry import list_models, suggest

    for what, value, known in (("arch", options.arch, list_models()), ("dataset", options.dataset, list_datasets())):
        if value is not None and value not in known:
            raise UsageError(f"unknown --{what} {value!r}; {suggest(value, known)}")
    for name in ("epochs", "batch_size", "lr", "train_examples"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"--{name.replace('_', '-')} must be positive, got {value}")
    if not 0 <= options.seed < 2**32:
        raise UsageError(f"--seed must be between 0 and 2**32 - 1, got {options.seed}")


def _choose_device(device: str) -> None:
    import jax

    if device != "auto":
        try:
            jax.config.update("jax_default_device", jax.devices(device)[0])
        except RuntimeError as error:
            present = sorted({found.platform for found in jax.devices()})
            raise UsageError(f"--device {device}: JAX finds none here, only {', '.join(present)}") from error


def _list_archs() -> int:
    from flax import nnx

    from flaxnets import create_model, named_parameters
    from flaxnets.registry import get_entry, list_models

    rows = []
    for name in list_models():
        entry = get_entry(name)
        shapes = nnx.eval_shape(functools.partial(create_model, name))
        count = sum(math.prod(parameter.shape) for _, parameter in named_parameters(shapes))
        recipe = ", ".join(f"{key}={getattr(value, '__name__', value)}" for key, value in entry.recipe.items())
        shape = "x".join(map(str, entry.input_shape))
        rows.append((name, entry.task, f"{count:,}", shape, entry.paper or "-", entry.dataset or "-", recipe))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, task, count, *rest in rows:
        cells = [name.ljust(widths[0]), task.ljust(widths[1]), count.rjust(widths[2])]
        cells += [cell.ljust(width) for cell, width in zip(rest, widths[3:], strict=True)]
        print("  ".join(cells).rstrip())
    return 0


def _load(arch: str, dataset: str | None) -> "Dataset":
    """Loads what was asked for, or what the network is for; it must be data for the network's task."""
    from flaxnets.data import list_datasets, load
    from flaxnets.registry import get_entry

    entry = get_entry(arch)
    name, fitting = dataset or entry.dataset, list_datasets(entry.task)
    if not fitting:
        raise UsageError(f"--arch {arch} is a {entry.task}, with nothing to train on; see --list-archs for networks")
    if name not in fitting:
        what = f"--dataset {name} is not for {entry.task}, which {arch} is for" if name else f"{arch} has no dataset"
        raise UsageError(f"{what}; use --dataset {' or '.join(fitting)}")
    try:
        return load(name)
    except ImportError as error:
        raise UsageError(f"--dataset {name}: {error}") from error


def _model_options(arch: str, data: "Dataset") -> dict[str, int]:
    """Chooses the options of the network that give it the sizes of the data."""
    from flaxnets.registry import get_entry
    from flaxnets.training import TASKS

    entry, shape = get_entry(arch), data.train.inputs.shape[1:]
    known = inspect.signature(entry.builder).parameters
    options = {name: size for name, size in data.model_options.items() if name in known}
    if options != data.model_options and not TASKS[data.task].fits_inputs and shape != entry.input_shape:
        raise UsageError(
            f"--dataset {data.name} has examples of shape {shape} and {arch} takes only {entry.input_shape}; "
            f"use --dataset {entry.dataset}"
        )
    return options


def _config(options: Options, data: "Dataset") -> dict[str, Any]:
    """Fills what was not asked for with what suits the network and its task."""
    from flaxnets.registry import get_entry
    from flaxnets.training import DEFAULTS, TASKS

    entry, task = get_entry(options.arch), TASKS[data.task]
    config = {**DEFAULTS, **task.defaults, **entry.recipe}
    shape = config.pop("train_input_shape", entry.input_shape)
    config |= {k: v for k, v in dataclasses.asdict(options).items() if v is not None and k != "list_archs"}
    shape = shape if task.fits_inputs else data.train.inputs.shape[1:]
    return config | {"dataset": data.name, "input_shape": shape}


def _train(options: Options) -> int:
    _check(options)
    _choose_device(options.device)
    data = _load(options.arch, options.dataset)
    model_options, config = _model_options(options.arch, data), _config(options, data)
    initializer = config.get("init")
    config["init"] = getattr(initializer, "__name__", initializer)
    import jax
    from flax import nnx

    from flaxnets import create_model
    from flaxnets.training import TASKS, Run, initialize
    from flaxnets.training.progress import describe

    started = time.perf_counter()
    with _Interrupt() as stop:
        try:
            run = Run(options.out, options.arch, config)
        except OSError as error:
            raise UsageError(f"--out {options.out}: cannot write there: {error.strerror or error}") from error
        model = create_model(options.arch, **model_options, rngs=nnx.Rngs(options.seed))
        if initializer is not None:
            initialize(model, initializer, jax.random.key(options.seed))
        records = _fit(model, data, config, run, stop)
        run.save(model)
    if stop.requested:
        print(f"interrupted after {len(records)} whole epochs; the weights so far are in {run.path}")
        return INTERRUPTED
    if data.vocabulary is not None:
        print(_sample(model, data.vocabulary, options.seed))
    minutes, seconds = divmod(round(time.perf_counter() - started), 60)
    score = describe(records[-1], "test", TASKS[data.task].score)
    print(f"{score} after {minutes} min {seconds} s; saved in {run.path}")
    return 0


def _fit(
    model: "nnx.Module", data: "Dataset", config: dict[str, Any], run: "Run", stop: "_Interrupt"
) -> list[dict[str, Any]]:
    from flaxnets.training import TASKS, fit, make_optimizer
    from flaxnets.training.progress import Progress

    task, train = TASKS[data.task], data.train.take(config.get("train_examples", len(data.train)))
    batch_size = min(config["batch_size"], len(train))
    steps = len(train) // batch_size
    total_steps = config["epochs"] * steps
    # A warm-up that is made for the whole dataset takes at most a fifth of a run on part of it.
    warmup_steps = min(config.get("warmup_steps", 0), total_steps // 5)

    def on_epoch(record: dict[str, Any]) -> None:
        run.log(record)
        progress.epoch(record)

    with Progress(config["epochs"], steps, task.unit) as progress:
        return fit(
            model,
            train,
            data.test,
            objective=task.objective,
            optimizer=make_optimizer(
                config["optimizer"],
                config["lr"],
                total_steps,
                clip_norm=config.get("clip_norm"),
                warmup_steps=warmup_steps,
            ),
            epochs=config["epochs"],
            batch_size=batch_size,
            seed=config["seed"],
            transform=functools.partial(task.transform, input_shape=config["input_shape"]),
            unit=task.unit,
            on_step=progress.step,
            on_epoch=on_epoch,
            should_stop=lambda: stop.requested,
        )


def _sample(model: "nnx.Module", vocabulary: "Vocabulary", seed: int) -> str:
    """Lets a language model continue a few words."""
    import jax

    from flaxnets.training import generate

    ids = generate(model, vocabulary.encode(SAMPLE_PREFIX), 200, key=jax.random.key(seed), temperature=0.7)
    return textwrap.fill(SAMPLE_PREFIX + vocabulary.decode(ids), width=100)


class _Interrupt:
    """Turns the first Ctrl-C into a request to stop after the step; a second one ends the program at once."""

    requested = False

    def __enter__(self) -> "_Interrupt":
        self.previous = signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self.previous)

    def _request(self, *_: object) -> None:
        if self.requested:
            raise SystemExit(INTERRUPTED)
        self.requested = True
        print("\nstopping after this step (Ctrl-C again: at once)", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
