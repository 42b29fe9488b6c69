"""Trains a registered network: ``python train.py --arch densenet``."""

import dataclasses
import functools
import signal
import sys
import time
from typing import Annotated, Any, Literal

import tyro

INTERRUPTED = 130  # the shell's exit status for a command that SIGINT ended


@dataclasses.dataclass(frozen=True)
class Options:
    """Train a network on images and keep its weights, under torch's names, in a new folder.

    What is not given here is chosen for the network: see --list-archs.
    """

    arch: str = "densenet"
    """The network."""
    epochs: int | None = None
    """How often to go through the training images."""
    batch_size: int | None = None
    """Images a step."""
    lr: float | None = None
    """Learning rate at the start; it falls to 0 along a cosine."""
    optimizer: Literal["sgd", "adam", "adamw"] | None = None
    """How gradients become updates."""
    seed: int = 0
    """Decides initial weights, dropout and the order of images."""
    dataset: str | None = None
    """What to train on: mnist or digits."""
    train_examples: int | None = None
    """Use only the first so many training images."""
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
    from flaxnets.registry import get_entry, list_models

    for name in list_models():
        entry = get_entry(name)
        recipe = ", ".join(f"{key}={value}" for key, value in entry.recipe.items())
        print(
            f"{name:<12} {'x'.join(map(str, entry.input_shape)):<10} {entry.dataset or '-':<8} {entry.paper}  {recipe}"
        )
    return 0


def _train(options: Options) -> int:
    _check(options)
    _choose_device(options.device)
    from flax import nnx

    from flaxnets import create_model
    from flaxnets.data import fit_images, load
    from flaxnets.registry import get_entry
    from flaxnets.training import Run, classification, fit, make_optimizer
    from flaxnets.training.progress import Progress

    entry = get_entry(options.arch)
    recipe = {"epochs": 5, "batch_size": 32, "lr": 0.01, "optimizer": "sgd", "dataset": entry.dataset, **entry.recipe}
    config = recipe | {k: v for k, v in dataclasses.asdict(options).items() if v is not None and k != "list_archs"}
    data = load(config["dataset"])
    train = data.train.take(options.train_examples or len(data.train))
    batch_size = min(config["batch_size"], len(train))
    try:
        run = Run(options.out, options.arch, config)
    except OSError as error:
        raise UsageError(f"--out {options.out}: cannot write there: {error.strerror or error}") from error

    model = create_model(options.arch, num_classes=data.num_classes, rngs=nnx.Rngs(options.seed))
    stop = _Interrupt()

    def on_epoch(record: dict[str, Any]) -> None:
        run.log(record)
        progress.epoch(record)

    started = time.perf_counter()
    with stop, Progress(config["epochs"], len(train) // batch_size, batch_size) as progress:
        records = fit(
            model,
            train,
            data.test,
            objective=classification,
            optimizer=make_optimizer(config["optimizer"], config["lr"], config["epochs"] * (len(train) // batch_size)),
            epochs=config["epochs"],
            batch_size=batch_size,
            seed=options.seed,
            transform=functools.partial(fit_images, input_shape=entry.input_shape),
            on_step=progress.step,
            on_epoch=on_epoch,
            should_stop=lambda: stop.requested,
        )
        run.save(model)
    if stop.requested:
        print(f"interrupted after {len(records)} whole epochs; the weights so far are in {run.path}")
        return INTERRUPTED
    minutes, seconds = divmod(round(time.perf_counter() - started), 60)
    print(f"test accuracy {records[-1]['test_accuracy']:.2%} after {minutes} min {seconds} s; saved in {run.path}")
    return 0


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
