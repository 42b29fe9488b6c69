"""Trains a registered network: ``python train.py --arch densenet``."""

import argparse
import dataclasses
import functools
import inspect
import math
import signal
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
import yaml

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

    config: str | None = None
    """A YAML file of these options, such as "epochs: 3"; what is given here as well counts here."""
    arch: str = "densenet"
    """The network."""
    epochs: int | None = None
    """How often to go through the training examples."""
    batch_size: int | None = None
    """Examples a step: images, pieces of text, or points."""
    lr: float | None = None
    """The largest learning rate."""
    optimizer: (
        Literal[
            "sgd", "adam", "adamw", "adagrad", "rmsprop", "adadelta", "adamax", "nadam", "radam", "asgd", "rprop"
        ]
        | None
    ) = None  # fmt: skip
    """How gradients become updates."""
    schedule: Literal["cosine", "constant", "linear", "step", "onecycle"] | None = None
    """How the learning rate goes on; cosine and linear fall to 0."""
    warmup_steps: int | None = None
    """In how many updates the learning rate rises first."""
    weight_decay: float | None = None
    """The optimizer's weight decay."""
    clip_norm: float | None = None
    """The largest norm of all gradients; larger ones are scaled down to it."""
    label_smoothing: float = 0.0
    """The part of the target that is spread over all classes, of networks for images."""
    accumulate: int = 1
    """How many batches' gradients are averaged for an update."""
    ema_decay: float | None = None
    """How much of a moving average of the weights an update keeps; with it the average is evaluated and kept."""
    remat: bool = False
    """Compute the network's blocks again in the backward pass, which saves memory on a GPU or TPU."""
    nonfinite: Literal["stop", "skip", "ignore"] = "stop"
    """What a loss that is infinite or NaN does: end the run, leave the batch out, or nothing."""
    patience: int | None = None
    """End after so many epochs in a row without a better test score."""
    time_limit: float | None = None
    """End after so many seconds, after the step that is going on."""
    seed: int = 0
    """Decides initial weights, dropout and the order of examples."""
    dataset: str | None = None
    """What to train on. Images: mnist, digits; from files: mnist-full, fashion-mnist, cifar10. Text: topics. Points:
    line, diabetes."""
    data_dir: str = "data"
    """The folder with a folder for the files of mnist-full, fashion-mnist or cifar10."""
    train_examples: int | None = None
    """Use only the first so many training examples."""
    out: str = "runs"
    """The folder in which a folder for this run is made."""
    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Where to compute; auto takes the fastest there is."""
    dry_run: bool = False
    """Take two steps, evaluate on one batch, and leave no files."""
    list_archs: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the networks and stop."""


class UsageError(Exception):
    """Something in the options cannot be done; the message says what and why."""


def main() -> int:
    """Parses the command line and trains; returns the exit status."""
    try:
        arguments = [*_from_config(sys.argv[1:]), *sys.argv[1:]]
        options = tyro.cli(Options, prog="train.py", description=Options.__doc__, args=arguments)
        return _list_archs() if options.list_archs else _train(options)
    except UsageError as error:
        print(f"train.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before there was a run to end well
        return INTERRUPTED


def _from_config(arguments: list[str]) -> list[str]:
    """Returns the options of the file that ``--config`` names as arguments, so that they are checked like any."""
    from flaxnets.registry import suggest

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config")
    try:
        path = parser.parse_known_args(arguments)[0].config
        loaded = {} if path is None else yaml.safe_load(Path(path).read_text())
    except argparse.ArgumentError:  # no file after it; the real parser says so
        return []
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"--config {path}: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(loaded, dict):
        raise UsageError(f"--config {path}: expected lines of 'option: value', got {loaded!r}")
    defaults = {field.name: field.default for field in dataclasses.fields(Options) if field.name != "config"}
    found = []
    for key, value in loaded.items():
        name = str(key).replace("-", "_")
        if name not in defaults:
            raise UsageError(f"--config {path}: unknown option {key!r}; {suggest(name, list(defaults))}")
        if isinstance(value, bool) != isinstance(defaults[name], bool) or isinstance(value, (dict, list)):
            what = "true or false" if isinstance(defaults[name], bool) else "one value"
            raise UsageError(f"--config {path}: {key} must be {what}, got {value!r}")
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            found += [f"--{flag}"] if value else []
        elif value is not None:
            found += [f"--{flag}", str(value)]
    return found


def _check(options: Options) -> None:
    from flaxnets.data import list_datasets
    from flaxnets.registry import list_models, suggest

    for what, value, known in (("arch", options.arch, list_models()), ("dataset", options.dataset, list_datasets())):
        if value is not None and value not in known:
            raise UsageError(f"unknown --{what} {value!r}; {suggest(value, known)}")
    positive = "epochs", "batch_size", "lr", "train_examples", "clip_norm", "accumulate", "patience", "time_limit"
    for name in positive:
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"--{name.replace('_', '-')} must be positive, got {value}")
    for name, end in (
        ("warmup_steps", float("inf")),
        ("weight_decay", float("inf")),
        ("ema_decay", 1),
        ("label_smoothing", 1),
    ):
        value = getattr(options, name)
        if value is not None and not 0 <= value < end:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 0 and below {end}, got {value}")
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


def _load(arch: str, dataset: str | None, data_dir: str) -> "Dataset":
    """Loads what was asked for, or what the network is for; it must be data for the network's task."""
    from flaxnets.data import DataError, list_datasets, load
    from flaxnets.registry import get_entry

    entry = get_entry(arch)
    name, fitting = dataset or entry.dataset, list_datasets(entry.task)
    if not fitting:
        raise UsageError(f"--arch {arch} is a {entry.task}, with nothing to train on; see --list-archs for networks")
    if name not in fitting:
        what = f"--dataset {name} is not for {entry.task}, which {arch} is for" if name else f"{arch} has no dataset"
        raise UsageError(f"{what}; use --dataset {' or '.join(fitting)}")
    try:
        return load(name, data_dir)
    except (ImportError, OSError, DataError) as error:
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


_NOT_KEPT = ("config", "dry_run", "list_archs")  # its options are kept; the others leave no run


def _config(options: Options, data: "Dataset") -> dict[str, Any]:
    """Fills what was not asked for with what suits the network and its task."""
    from flaxnets.registry import get_entry
    from flaxnets.training import DEFAULTS, TASKS

    entry, task = get_entry(options.arch), TASKS[data.task]
    config = {**DEFAULTS, **task.defaults, **entry.recipe}
    if options.label_smoothing and data.task != "classification":
        raise UsageError(f"--label-smoothing is for images; {options.arch} is for {data.task}")
    shape = config.pop("train_input_shape", entry.input_shape)
    config |= {k: v for k, v in dataclasses.asdict(options).items() if v is not None and k not in _NOT_KEPT}
    shape = shape if task.fits_inputs else data.train.inputs.shape[1:]
    return config | {"dataset": data.name, "input_shape": shape}


def _updates(config: dict[str, Any], data: "Dataset") -> int:
    """How often a run changes the weights."""
    examples = min(config.get("train_examples", math.inf), len(data.train))
    steps = examples // min(config["batch_size"], examples)
    return max(config["epochs"] * steps // config["accumulate"], 1)


def _train(options: Options) -> int:
    _check(options)
    _choose_device(options.device)
    data = _load(options.arch, options.dataset, options.data_dir)
    model_options, config = _model_options(options.arch, data), _config(options, data)
    initializer = config.get("init")
    config["init"] = getattr(initializer, "__name__", initializer)
    if options.dry_run:
        config["epochs"], examples = 1, 2 * config["batch_size"] * options.accumulate
        data = dataclasses.replace(data, train=data.train.take(examples), test=data.test.take(config["batch_size"]))
    updates = _updates(config, data)
    if options.warmup_steps is None:  # that of a recipe is for the whole dataset
        config["warmup_steps"] = min(config.get("warmup_steps", 0), updates // 5)
    elif options.warmup_steps >= updates:
        raise UsageError(f"--warmup-steps must be below the {updates} updates of this run, got {options.warmup_steps}")
    import jax
    from flax import nnx

    from flaxnets import create_model
    from flaxnets.training import TASKS, Run, initialize
    from flaxnets.training.progress import describe

    started, score = time.perf_counter(), TASKS[data.task].score
    with _Stop(options.time_limit, options.patience, f"test_{score}") as stop:
        try:
            run = None if options.dry_run else Run(options.out, options.arch, config)
        except OSError as error:
            raise UsageError(f"--out {options.out}: cannot write there: {error.strerror or error}") from error
        model = create_model(options.arch, **model_options, rngs=nnx.Rngs(options.seed))
        if initializer is not None:
            initialize(model, initializer, jax.random.key(options.seed))
        where = f"the weights so far are in {run.path}" if run else "a dry run keeps no weights"
        failure = None
        try:
            records = _fit(model, data, config, run, stop)
        except FloatingPointError as error:
            failure, records = error, []
        if run:
            run.save(model)
    if failure is not None:
        print(f"train.py: error: {failure}; {where}", file=sys.stderr)
        return 1
    if stop.interrupted:
        print(f"interrupted after {len(records)} whole epochs; {where}")
        return INTERRUPTED
    if data.vocabulary is not None and run:
        print(_sample(model, data.vocabulary, options.seed))
    minutes, seconds = divmod(round(time.perf_counter() - started), 60)
    result = describe(records[-1], "test", score) if records else "no whole epoch"
    ended = f" ({stop.reason})" if stop.reason else ""
    print(f"{result} after {minutes} min {seconds} s{ended}; {f'saved in {run.path}' if run else 'nothing was saved'}")
    return 0


def _fit(
    model: "nnx.Module", data: "Dataset", config: dict[str, Any], run: "Run | None", stop: "_Stop"
) -> list[dict[str, Any]]:
    from flaxnets.training import TASKS, fit, make_optimizer
    from flaxnets.training.progress import Progress

    task, train = TASKS[data.task], data.train.take(config.get("train_examples", len(data.train)))
    objective: Any = task.objective
    if config["label_smoothing"]:
        objective = functools.partial(objective, label_smoothing=config["label_smoothing"])
    batch_size = min(config["batch_size"], len(train))
    given = {name: config[name] for name in ("clip_norm", "schedule", "warmup_steps", "weight_decay") if name in config}
    optimizer = make_optimizer(config["optimizer"], config["lr"], _updates(config, data), **given)

    def on_epoch(record: dict[str, Any]) -> None:
        if run:
            run.log(record)
        progress.epoch(record)
        stop.see(record)

    with Progress(config["epochs"], len(train) // batch_size, task.unit) as progress:
        return fit(
            model,
            train,
            data.test,
            objective=objective,
            optimizer=optimizer,
            epochs=config["epochs"],
            batch_size=batch_size,
            seed=config["seed"],
            accumulate=config["accumulate"],
            ema_decay=config.get("ema_decay"),
            nonfinite=config["nonfinite"],
            remat=config["remat"],
            transform=functools.partial(task.transform, input_shape=config["input_shape"]),
            unit=task.unit,
            on_step=progress.step,
            on_epoch=on_epoch,
            should_stop=lambda: stop.reason is not None,
        )


def _sample(model: "nnx.Module", vocabulary: "Vocabulary", seed: int) -> str:
    """Lets a language model continue a few words."""
    import jax

    from flaxnets.training import generate

    ids = generate(model, vocabulary.encode(SAMPLE_PREFIX), 200, key=jax.random.key(seed), temperature=0.7)
    return textwrap.fill(SAMPLE_PREFIX + vocabulary.decode(ids), width=100)


class _Stop:
    """Why a run should end early. A first Ctrl-C asks for it after the step; a second one ends the program at once."""

    def __init__(self, time_limit: float | None, patience: int | None, score: str):
        self.interrupted = False
        self._deadline = math.inf if time_limit is None else time.monotonic() + time_limit
        self._patience, self._score = patience, score
        self._scores: list[float] = []

    def see(self, record: dict[str, Any]) -> None:
        """Takes the score of an epoch; the larger the better."""
        value = record[self._score]
        self._scores.append(value if self._score == "test_accuracy" else -value)

    @property
    def reason(self) -> str | None:
        """None as long as the run goes on."""
        if self.interrupted:
            return "interrupted"
        if time.monotonic() > self._deadline:
            return "the time limit was reached"
        if self._patience is not None and self._scores:
            since = len(self._scores) - 1 - self._scores.index(max(self._scores))
            if since >= self._patience:
                return f"no better {self._score.replace('_', ' ')} for {since} epochs"
        return None

    def __enter__(self) -> "_Stop":
        self.previous = signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self.previous)

    def _request(self, *_: object) -> None:
        if self.interrupted:
            raise SystemExit(INTERRUPTED)
        self.interrupted = True
        print("\nstopping after this step (Ctrl-C again: at once)", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
