"""The options of ``train``: where they come from, and what they must be."""

import argparse
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from flaxnets.cli.common import UsageError, parse
from flaxnets.registry import suggest


@dataclasses.dataclass(frozen=True)
class Options:
    """Train a network, and keep its weights under torch's names in the folder of a run.

    What is not given is chosen for the network: see --list-archs.

    Examples:
      {prog} --arch densenet
      {prog} --arch lenet --epochs 3 --optimizer adam --lr 0.003 --schedule linear --dataset digits
      {prog} --arch resnet18 --dry-run
      {prog} --arch mlp --epochs 2 --resume auto
      {prog} --arch gru_lm --epochs 1 --train-examples 640
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
    precision: Literal["float32", "bfloat16"] = "float32"
    """What products, convolutions and recurrent layers compute in; weights stay in float32."""
    kernels: Literal["auto", "plain", "xla", "onednn", "cudnn"] = "auto"
    """How layers compute: as XLA does by itself, on a CPU in forms that it is faster with or with those of oneDNN, on
    a GPU with cuDNN's LSTM."""
    remat: bool = False
    """Compute the network's blocks again in the backward pass, which saves memory on a GPU or TPU."""
    nonfinite: Literal["stop", "skip", "ignore"] = "stop"
    """What a loss that is infinite or NaN does: end the run, leave the batch out, or nothing."""
    dataset: str | None = None
    """What to train on. Images: mnist, digits, folder:PATH, csv:FILE; mnist-full, fashion-mnist and cifar10 from their
    published files. Text: topics, text:FILE. Points: line, diabetes."""
    data_dir: str = "data"
    """The folder with a folder for the files of mnist-full, fashion-mnist or cifar10."""
    download: bool = False
    """Fetch these from OpenML where their files are not there."""
    bad_files: Literal["stop", "skip"] = "stop"
    """What images or lines that cannot be used do: end the run before it begins, or be left out; each is named."""
    csv_image_column: str | None = None
    """The column of the images of a csv:FILE: its name, or its number from 1."""
    csv_label_column: str | None = None
    """The column of the labels of a csv:FILE: its name, or its number from 1."""
    workers: int = 2
    """How many threads decode images of folders ahead."""
    train_examples: int | None = None
    """Use only the first so many training examples."""
    crop_area: float = 1.0
    """Cut at random so much of an image's area or more, and resize it to the whole; for folders of images."""
    crop_padding: int = 0
    """Put so many black pixels around an image and cut a window of its size out of it."""
    flip: float = 0.0
    """How probable it is that an image is mirrored."""
    erase: float = 0.0
    """How probable it is that a rectangle of an image is erased."""
    mixup: float = 0.0
    """Mix pairs of images, in a proportion drawn from Beta(mixup, mixup)."""
    normalize: bool = False
    """Give the channels of images mean 0 and variance 1 over the training part."""
    seed: int = 0
    """Decides initial weights, dropout and the order of examples."""
    patience: int | None = None
    """End after so many epochs in a row without a better test score."""
    time_limit: float | None = None
    """End after so many seconds, after the step that is going on."""
    out: str = "runs"
    """The folder in which a folder for this run is made."""
    resume: str | None = None
    """Go on with a run: its folder, or auto for the last one in --out of the same options, or else a new one."""
    checkpoint_every: int | None = None
    """Save a checkpoint after so many steps, and not after each epoch alone."""
    compare_torch: bool = False
    """Train the network's PyTorch twin, too, from the same weights on the same batches, and show both curves."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard as well."""
    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Where to compute; auto takes the fastest there is."""
    cache_dir: str | None = None
    """Where compiled steps are kept for the next run; flaxnets in the user's folder for caches if not given."""
    dry_run: bool = False
    """Take two steps, evaluate on one batch, and leave no files; of 8 examples each if --batch-size is not given."""
    list_archs: bool = False
    """Print the networks and stop."""


# These may be others when a run is resumed: they do not decide what comes out of it.
FREE = (
    "config", "data_dir", "download", "workers", "patience", "time_limit", "out", "resume", "checkpoint_every",
    "compare_torch", "tensorboard", "device", "cache_dir", "dry_run", "list_archs",
)  # fmt: skip


def parse_options(arguments: Sequence[str], prog: str) -> Options:
    """Makes options of a command line, and of the files that ``--config`` and ``--resume`` name.

    Raises:
        UsageError: for an option that there is not, or a value that it cannot have.

    >>> parse_options(["--arch", "mlp", "--epochs", "3"], "train.py").epochs
    3
    """
    files = _files(arguments)
    resumed = _from_run(files.resume) if files.resume not in (None, "auto") else []
    configured = _from_yaml(files.config) if files.config is not None else []
    options = parse(Options, [*resumed, *configured, *arguments], prog)
    _check(options)
    return options


def _files(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config")
    parser.add_argument("--resume")
    try:
        return parser.parse_known_args(arguments)[0]
    except argparse.ArgumentError:  # no value after it; the real parser says so
        return argparse.Namespace(config=None, resume=None)


def _from_yaml(path: str) -> list[str]:
    try:
        loaded = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UsageError(f"--config {path}: {reason}") from error
    return _as_arguments(loaded, f"--config {path}")


def _from_run(path: str) -> list[str]:
    from flaxnets.training import RunError, read_config

    try:
        options = read_config(path).get("options")
    except RunError as error:
        raise UsageError(f"--resume {path}: {error}") from error
    return _as_arguments(options, f"--resume {path}, options in config.json")


def _as_arguments(loaded: Any, where: str) -> list[str]:
    """Returns options of a file as arguments, so that they are checked like any."""
    if not isinstance(loaded, Mapping):
        raise UsageError(f"{where}: expected lines of 'option: value', got {loaded!r}")
    defaults = {field.name: field.default for field in dataclasses.fields(Options) if field.name != "config"}
    found = []
    for key, value in loaded.items():
        name = str(key).replace("-", "_")
        if name not in defaults:
            raise UsageError(f"{where}: unknown option {key!r}; {suggest(name, list(defaults))}")
        if value is None:
            continue
        if isinstance(value, bool) != isinstance(defaults[name], bool) or isinstance(value, (dict, list)):
            what = "true or false" if isinstance(defaults[name], bool) else "one value"
            raise UsageError(f"{where}: {key} must be {what}, got {value!r}")
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            found += [flag] if value else []
        else:
            found += [flag, str(value)]
    return found


_RANGES = {
    "warmup_steps": (0, math.inf), "weight_decay": (0, math.inf), "ema_decay": (0, 1), "label_smoothing": (0, 1),
    "workers": (0, math.inf),
}  # fmt: skip
_POSITIVE = (
    "epochs", "batch_size", "lr", "train_examples", "clip_norm", "accumulate", "patience", "time_limit",
    "checkpoint_every",
)  # fmt: skip


def _check(options: Options) -> None:
    from flaxnets.data import list_datasets
    from flaxnets.registry import list_models

    dataset = options.dataset if options.dataset and ":" not in options.dataset else None
    for what, value, known in (("arch", options.arch, list_models()), ("dataset", dataset, list_datasets())):
        if value is not None and value not in known:
            raise UsageError(f"unknown --{what} {value!r}; {suggest(value, known)}")
    for name in _POSITIVE:
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"--{name.replace('_', '-')} must be positive, got {value}")
    for name, (low, high) in _RANGES.items():
        value = getattr(options, name)
        if value is not None and not low <= value < high:
            raise UsageError(f"--{name.replace('_', '-')} must be at least {low} and below {high}, got {value}")
    if not 0 <= options.seed < 2**32:
        raise UsageError(f"--seed must be between 0 and 2**32 - 1, got {options.seed}")
