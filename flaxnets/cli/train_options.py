"""The options of ``train``: where they come from, and what they must be."""

import argparse
import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro
import yaml

from flaxnets.cli.common import IN_FILES, IS_PATH, DatasetName, Device, File, Folder, UsageError, expand_user, parse
from flaxnets.registry import suggest

Optimizer = Literal[
    "sgd", "adam", "adamw", "adagrad", "rmsprop", "adadelta", "adamax", "nadam", "radam", "asgd", "rprop"
]
Patterns = Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="PATTERN")]


@dataclasses.dataclass(frozen=True)
class Options:
    """Train a network, and keep its weights under torch's names in the folder of a run.

    What is not given is chosen for the network: see flaxnets summary ARCH.

    Examples:
      {prog} --arch densenet
      {prog} --arch lenet --epochs 3 --optimizer adam --lr 0.003 --schedule linear --dataset digits
      {prog} --arch resnet18 --dry-run
      {prog} --arch mlp --epochs 2 --resume auto
      {prog} --arch gru_lm --epochs 1 --train-examples 640
    """

    GROUPS: ClassVar[Mapping[str, str]] = {
        "": "Network and its first weights",
        "dataset": "Data",
        "epochs": "Optimisation",
        "crop_area": "Changes of training images",
        "precision": "Computation",
        "out": "The run and its folder",
        "dry_run": "Other",
    }

    arch: Annotated[str, tyro.conf.arg(metavar="NAME")] = "densenet"
    """The network: see --list-archs."""
    init_from: Annotated[str | None, tyro.conf.arg(metavar="FILE|RUN"), IS_PATH] = None
    """Begin with weights of a .safetensors or .pt file, or of a run.
    Arrays of other shapes are left out and listed."""
    freeze: Patterns = ()
    """Do not train parameters: their names or patterns, or those of modules.
    May be given several times."""
    seed: int = 0
    """Decides first weights, dropout and the order of examples."""
    dataset: DatasetName = None
    """What to train on.
    Images: mnist, digits, mnist-full, fashion-mnist, cifar10.
    Images of your own: folder:PATH or csv:FILE.
    Text: topics or text:FILE. Points: line, diabetes."""
    data_dir: Annotated[str, tyro.conf.arg(metavar="FOLDER"), IS_PATH] = "data"
    """Where the files of mnist-full, fashion-mnist and cifar10 are."""
    download: bool = False
    """Fetch these from OpenML where their files are not there."""
    bad_files: Literal["stop", "skip"] = "stop"
    """On unusable images or lines: stop before training, or skip them.
    Ten are named; more are in a file."""
    csv_image_column: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    """The column of the images of a csv:FILE: its name, or its number from 1."""
    csv_label_column: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    """The column of the labels of a csv:FILE: its name, or its number from 1."""
    workers: int = 2
    """How many threads decode images in files ahead."""
    train_examples: int | None = None
    """Use only this many training examples, the first."""
    normalize: bool = False
    """Scale channels to mean 0 and variance 1 over the training images."""
    epochs: int | None = None
    """How often to go through the training examples."""
    batch_size: int | None = None
    """Examples a step: images, pieces of text, or points."""
    lr: float | None = None
    """The largest learning rate."""
    optimizer: Optimizer | None = None
    """How gradients become updates."""
    schedule: Literal["cosine", "constant", "linear", "step", "onecycle"] | None = None
    """How the learning rate goes on; cosine and linear fall to 0."""
    warmup_steps: int | None = None
    """In how many updates the learning rate rises first."""
    weight_decay: float | None = None
    """The optimizer's weight decay."""
    clip_norm: float | None = None
    """Scale gradients down to this norm over all parameters."""
    label_smoothing: float = 0.0
    """The part of an image's target that is spread over all classes."""
    accumulate: int = 1
    """How many batches' gradients are averaged for an update."""
    ema_decay: float | None = None
    """How much of a moving average of the weights an update keeps.
    With it the average is evaluated and kept."""
    nonfinite: Literal["stop", "skip", "ignore"] = "stop"
    """On a loss that is infinite or NaN: stop, skip the batch, or nothing."""
    patience: int | None = None
    """End after so many epochs in a row without a better test score."""
    time_limit: float | None = None
    """End after so many seconds, after the step that is going on."""
    crop_area: float = 1.0
    """Cut this share of an image's area or more at random, and resize it. For images in files."""
    crop_padding: int = 0
    """Put so many black pixels around an image and cut its size out."""
    flip: float = 0.0
    """How probable it is that an image is mirrored."""
    erase: float = 0.0
    """How probable it is that a rectangle of an image is erased."""
    mixup: float = 0.0
    """Mix pairs of images, in a proportion drawn from Beta(mixup, mixup)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What layers compute in; weights stay in float32."""
    kernels: Literal["auto", "plain", "xla", "onednn", "cudnn"] = "auto"
    """Backend: plain XLA, CPU-tuned XLA, oneDNN (CPU) or cuDNN LSTM (GPU)."""
    remat: bool = False
    """Compute blocks again in the backward pass, which saves memory."""
    device: Device = "auto"
    """Where to compute: cpu, gpu, tpu, cuda:1 or a number."""
    cache_dir: Folder = None
    """Where compiled steps are kept; the user's folder for caches if not given."""
    out: Annotated[str, tyro.conf.arg(metavar="FOLDER"), IS_PATH] = "runs"
    """The folder in which a folder for this run is made."""
    config: File = None
    """A YAML file of these options, such as "epochs: 3". Options given here count more."""
    resume: Annotated[str | None, tyro.conf.arg(metavar="RUN|auto"), IS_PATH] = None
    """Go on with a run, or with the last one in --out of the same options.
    With more --epochs or another --lr the run goes on in a new phase."""
    checkpoint_every: int | None = None
    """Save a checkpoint also after so many steps of an epoch."""
    compare_torch: bool = False
    """Train the PyTorch twin, too, on the same batches, and draw both curves."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard as well."""
    dry_run: bool = False
    """Take two steps, evaluate on one batch, and leave no files.
    A step has 8 examples if --batch-size is not given."""
    list_archs: bool = False
    """Print the networks and stop."""


_NOT_RECORDED = ("config", "resume", "dry_run", "list_archs")


def given_options(options: Options) -> dict[str, Any]:
    """Returns what was asked for, with which another command repeats a run from any folder.

    >>> given_options(Options(arch="mlp", resume="auto"))
    {'arch': 'mlp'}
    """
    given = {
        name: value
        for name, value in dataclasses.asdict(options).items()
        if value != getattr(Options, name) and name not in _NOT_RECORDED
    }
    paths = {
        name: os.path.abspath(given[name]) for name in ("data_dir", "init_from", "cache_dir", "out") if name in given
    }
    return given | paths | ({"dataset": resolved_dataset(given["dataset"])} if "dataset" in given else {})


def resolved_dataset(name: str) -> str:
    """Returns the name of a dataset with its path from the root on, if it has one.

    >>> resolved_dataset("mnist"), resolved_dataset("folder:/data/../pets")
    ('mnist', 'folder:/pets')
    """
    kind, _, path = name.partition(":")
    return f"{kind}:{os.path.abspath(path)}" if path and kind in IN_FILES else name


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
        loaded = yaml.safe_load(Path(expand_user(path)).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UsageError(f"--config {path}: {reason}") from error
    return _as_arguments(loaded, f"--config {path}")


def _from_run(path: str) -> list[str]:
    from flaxnets.training import RunError, read_config

    try:
        options = read_config(expand_user(path)).get("options")
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
        default = defaults[name]
        values = value if isinstance(value, list) and isinstance(default, tuple) else [value]
        if isinstance(value, bool) != isinstance(default, bool) or any(
            isinstance(each, (dict, list)) for each in values
        ):
            what = "true or false" if isinstance(default, bool) else "one value"
            raise UsageError(f"{where}: {key} must be {what}, got {value!r}")
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            found += [flag] if value else []
        else:
            found += [word for each in values for word in (flag, str(each))]
    return found


_RANGES = {
    "warmup_steps": (0, math.inf), "weight_decay": (0, math.inf), "ema_decay": (0, 1), "label_smoothing": (0, 1),
    "workers": (0, 1025), "crop_padding": (0, 2**16),
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
