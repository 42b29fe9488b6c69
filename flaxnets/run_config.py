"""The configuration of a run: what the user sets, what it becomes for a network and its data, and ``config.json``."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from flaxnets._suggestions import suggest
from flaxnets.registry import TASKS, list_models
from flaxnets.settings import (
    IMAGES_ONLY,
    IS_PATH,
    POSITIVE,
    REPEATED,
    SEED,
    Aliases,
    Metavar,
    OneOf,
    OnResume,
    at_least,
    convert,
    fields_with,
    markers,
    plain_hints,
)

VERSION = 2  # of config.json; files of version 1 have no version

File = Annotated[str | None, Metavar("FILE"), IS_PATH]
Folder = Annotated[str | None, Metavar("FOLDER"), IS_PATH]
DatasetName = Annotated[str | None, Metavar("DATASET"), IS_PATH]
Device = Annotated[str, Metavar("DEVICE")]


def _datasets() -> Sequence[str]:
    from flaxnets.data import list_datasets

    return list_datasets()


def _describe_datasets() -> str:
    from flaxnets.data import DATASETS, list_datasets

    names = {task.capitalize(): list_datasets(task) for task in TASKS}
    names["In files of your own"] = [name for name in DATASETS if ":" in name]
    return " ".join(f"{title}: {', '.join(each)}." for title, each in names.items() if each)


def optimizer_names() -> Sequence[str]:
    """Return the names of the registered optimizers."""
    from flaxnets.optim.named import OPTIMIZERS

    return [*OPTIMIZERS]


def _schedules() -> Sequence[str]:
    from flaxnets.optim.schedules import SCHEDULES

    return [*SCHEDULES]


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Train a network, and keep its weights under torch's names in the folder of a run.

    The defaults depend on the network: see flaxnets summary ARCH.

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

    arch: Annotated[str, OneOf(list_models, listed=False), Metavar("NAME")] = "densenet"
    """The network: see --list-archs."""
    init_from: Annotated[str | None, Metavar("FILE|RUN"), IS_PATH] = None
    """Start from weights of a .safetensors or .pt file, or of a run.
    Arrays of other shapes are skipped and listed."""
    freeze: Annotated[tuple[str, ...], REPEATED, Metavar("PATTERN")] = ()
    """Do not train parameters: names or patterns of parameters or modules.
    Can be repeated."""
    seed: Annotated[int, SEED] = 0
    """Determines initial weights, dropout and the order of examples."""
    dataset: Annotated[DatasetName, OneOf(_datasets, with_path=True, listed=False, describe=_describe_datasets)] = None
    """What to train on. The default is the dataset of the network."""
    data_dir: Annotated[str, Metavar("FOLDER"), IS_PATH, OnResume.FREE] = "data"
    """The folder with the files of mnist-full, fashion-mnist and cifar10."""
    download: Annotated[bool, OnResume.FREE] = False
    """Fetch missing files of these datasets from OpenML."""
    bad_files: Literal["stop", "skip"] = "stop"
    """On unusable images or lines: stop before training, or skip them.
    Ten are named; more are in a file."""
    csv_image_column: Annotated[str | None, Metavar("COLUMN")] = None
    """The column of the images of a csv:FILE: its name, or its number from 1."""
    csv_label_column: Annotated[str | None, Metavar("COLUMN")] = None
    """The column of the labels of a csv:FILE: its name, or its number from 1."""
    workers: Annotated[int, at_least(0, below=1025), OnResume.FREE] = 2
    """The number of threads that decode images in files ahead."""
    train_examples: Annotated[int | None, POSITIVE] = None
    """Use only the first training examples, this many."""
    normalize: Annotated[bool, IMAGES_ONLY] = False
    """Scale channels to mean 0 and variance 1 over the training images."""
    epochs: Annotated[int | None, POSITIVE, OnResume.NEW_PHASE] = None
    """The number of passes over the training examples."""
    batch_size: Annotated[int | None, POSITIVE] = None
    """Examples per step: images, pieces of text, or points."""
    lr: Annotated[float | None, POSITIVE, OnResume.NEW_PHASE] = None
    """The largest learning rate."""
    optimizer: Annotated[str | None, OneOf(optimizer_names)] = None
    """The rule that turns gradients into updates."""
    schedule: Annotated[str | None, OneOf(_schedules), OnResume.NEW_PHASE] = None
    """How the learning rate changes. Cosine and linear fall to 0."""
    warmup_steps: Annotated[int | None, at_least(0), OnResume.NEW_PHASE] = None
    """The number of first updates in which the learning rate rises."""
    weight_decay: Annotated[float | None, at_least(0), OnResume.NEW_PHASE] = None
    """The optimizer's weight decay."""
    clip_norm: Annotated[float | None, POSITIVE] = None
    """Scale gradients down to this norm over all parameters."""
    label_smoothing: Annotated[float, at_least(0, below=1), IMAGES_ONLY, OnResume.NEW_PHASE] = 0.0
    """The part of an image's target that is spread over all classes."""
    accumulate: Annotated[int, POSITIVE] = 1
    """The number of batches whose gradients are averaged for an update."""
    ema_decay: Annotated[float | None, at_least(0, below=1)] = None
    """The decay of a moving average of the weights.
    If set, the average is evaluated and saved."""
    nonfinite: Annotated[Literal["stop", "skip", "ignore"], OnResume.NEW_PHASE] = "stop"
    """On an infinite or NaN loss: stop, skip the batch, or continue."""
    patience: Annotated[int | None, POSITIVE, OnResume.FREE] = None
    """Stop after this number of epochs in a row without a better test score."""
    time_limit: Annotated[float | None, POSITIVE, OnResume.FREE] = None
    """Stop after this number of seconds, at the end of a step."""
    crop_area: Annotated[float, IMAGES_ONLY, OnResume.NEW_PHASE] = 1.0
    """Crop at least this share of an image's area at random, and resize it. For images in files."""
    crop_padding: Annotated[int, at_least(0, below=2**16), IMAGES_ONLY, OnResume.NEW_PHASE] = 0
    """Add this many black pixels around an image, and crop its size at random."""
    flip: Annotated[float, IMAGES_ONLY, OnResume.NEW_PHASE] = 0.0
    """The probability that an image is mirrored."""
    erase: Annotated[float, IMAGES_ONLY, OnResume.NEW_PHASE] = 0.0
    """The probability that a rectangle of an image is erased."""
    mixup: Annotated[float, IMAGES_ONLY, OnResume.NEW_PHASE] = 0.0
    """Mix pairs of images, in a proportion drawn from Beta(mixup, mixup)."""
    precision: Annotated[Literal["float32", "bfloat16", "float16"], OnResume.NEW_PHASE] = "float32"
    """The dtype in which layers compute. Weights stay in float32. float16 scales the loss."""
    backend: Annotated[
        Literal["auto", "plain", "xla", "onednn", "cudnn"], Aliases(("--kernels",)), OnResume.NEW_PHASE
    ] = "auto"
    """Backend: plain XLA, CPU-tuned XLA, oneDNN (CPU) or cuDNN LSTM (GPU)."""
    remat: Annotated[bool, OnResume.NEW_PHASE] = False
    """Compute blocks again in the backward pass, which saves memory."""
    device: Annotated[Device, OnResume.FREE] = "auto"
    """Where to compute: cpu, gpu, tpu, cuda:1 or a number."""
    mesh: Annotated[str | None, Metavar("data=N,model=M"), OnResume.FREE] = None
    """Compute on N x M devices. Batches are sharded over data; parameters, slots and averages over model."""
    batch_statistics: Annotated[Literal["global", "device"], OnResume.NEW_PHASE] = "global"
    """Normalise by the whole batch, or by the examples of each device."""
    distributed: Annotated[Literal["auto"] | None, OnResume.UNSAVED] = None
    """Train in the processes of SLURM, MPI, Kubernetes or Cloud TPU.
    All processes read the same data and --out."""
    coordinator: Annotated[str | None, Metavar("HOST:PORT"), OnResume.UNSAVED] = None
    """Train in many processes: where process 0 listens.
    Needs --num-processes and --process-id."""
    num_processes: Annotated[int | None, POSITIVE, OnResume.UNSAVED] = None
    """The number of processes."""
    process_id: Annotated[int | None, at_least(0), OnResume.UNSAVED] = None
    """The number of this process, from 0."""
    cache_dir: Annotated[Folder, OnResume.FREE] = None
    """The folder of compiled steps. The default is in the user's cache folder."""
    out: Annotated[str, Metavar("FOLDER"), IS_PATH, OnResume.FREE] = "runs"
    """The folder in which a folder for this run is made."""
    config: Annotated[File, OnResume.UNSAVED] = None
    """A YAML file of these options, such as "epochs: 3".
    The command line overrides the file.
    --no-remat unsets "remat: true"."""
    resume: Annotated[str | None, Metavar("RUN|auto"), IS_PATH, OnResume.UNSAVED] = None
    """Continue a run, or the last run in --out with the same options.
    With more --epochs or another --lr the run continues in a new phase."""
    checkpoint_every: Annotated[int | None, POSITIVE, OnResume.FREE] = None
    """Save a checkpoint also after this number of steps of an epoch."""
    compare_torch: Annotated[bool, OnResume.FREE] = False
    """Train the PyTorch twin as well, on the same batches, and draw both curves."""
    tensorboard: Annotated[bool, OnResume.FREE] = False
    """Write the metrics for TensorBoard as well."""
    dry_run: Annotated[bool, OnResume.UNSAVED] = False
    """Run two steps, evaluate on one batch, and write no files.
    A step has 8 examples if --batch-size is not set."""
    list_archs: Annotated[bool, OnResume.UNSAVED] = False
    """Print the networks and stop."""

    def to_json(self) -> dict[str, Any]:
        """Return the options without their defaults, with absolute paths, so that they mean the same in any folder.

        >>> RunOptions(arch="mlp", resume="auto").to_json()
        {'arch': 'mlp'}
        """
        values = _saved(with_absolute_paths(self))
        return {name: value for name, value in values.items() if getattr(self, name) != getattr(RunOptions, name)}

    def with_values(self, document: Any) -> Self:
        """Return the options with values of a YAML or JSON file.

        Args:
            document: a mapping from names of options to values. ``None`` does not change an option. Names may be
                spelt with hyphens.

        Raises:
            ValueError: for an unknown option, or a value of another type.

        >>> RunOptions().with_values({"arch": "mlp", "train-examples": 96}).train_examples
        96
        """
        if not isinstance(document, Mapping):
            raise ValueError(f"expected lines of 'option: value', got {document!r}")
        hints, aliases = dict(plain_hints(RunOptions)), _aliases()
        values = {}
        for key, value in document.items():
            name = str(key).replace("-", "_")
            name = aliases.get(name, name)
            if name not in hints or name == "config":
                known = [each for each in hints if each != "config"]
                raise ValueError(f"unknown option {key!r}; {suggest(name, known)}")
            if value is not None:
                values[name] = convert(str(key), value, hints[name])
        return dataclasses.replace(self, **values)


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of a run with settings of its own.

    Attributes:
        update: the number of updates before the phase.
        epoch: the epoch in which the phase starts.
        step: the number of steps of that epoch before the phase.
        settings: the settings that can change from phase to phase, by name.
    """

    update: int
    epoch: int
    step: int
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the phase as a flat mapping."""
        return {"update": self.update, "epoch": self.epoch, "step": self.step, **self.settings}

    @classmethod
    def from_json(cls, document: Any) -> "Phase":
        """Return the phase of a flat mapping.

        Raises:
            ValueError: if the mapping has no start.
        """
        if not isinstance(document, Mapping):
            raise ValueError(f"a phase must be a mapping, got {document!r}")
        settings, start = _with_newest_names(document), {}
        for name in ("update", "epoch", "step"):
            if name not in settings:
                raise ValueError(f"a phase lacks {name}")
            start[name] = convert(f"{name} of a phase", settings.pop(name), int)
        return cls(**start, settings=settings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(RunOptions):
    """Every setting of a run, without gaps: the options, and what follows from the network and its data.

    The defaults here are the settings that the options, the recipe of the network and the task leave open.

    Attributes:
        task: the task of the dataset.
        input_shape: the shape of one example for the network.
        model_options: the options of the network that follow from the data.
        classes: the names of the network's outputs.
        vocabulary: the characters that the network knows, without ``<unk>``.
        mean: the mean of each channel of the training images, if they are normalised.
        std: the deviation of each channel of the training images, if they are normalised.
        init: the name of the initializer of the weights, ``None`` for torch's.
        options: the options that the user set.
        phases: the phases of the run, none if its settings never changed.

    >>> config = RunConfig(arch="mlp", task="classification", input_shape=(1, 28, 28), lr=0.1)
    >>> RunConfig.from_json(config.to_json()) == config
    True
    >>> config.image_shape
    (1, 28, 28)
    """

    epochs: int = 5
    batch_size: int = 32
    lr: float = 0.01
    optimizer: str = "sgd"
    schedule: str = "cosine"
    warmup_steps: int = 0

    task: str
    input_shape: tuple[int, ...]
    model_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    classes: Annotated[tuple[str, ...] | None, OnResume.FREE] = None
    vocabulary: Annotated[str | None, OnResume.FREE] = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    init: str | None = None
    options: Annotated[RunOptions, OnResume.FREE] = RunOptions()
    phases: Annotated[tuple[Phase, ...], OnResume.FREE] = ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the stored images that the network's inputs are made from."""
        shape = self.input_shape
        side = math.isqrt(shape[0])
        channels, height, width = shape if len(shape) == 3 else (1, side, side)
        stored = len(self.mean) if self.mean else 1 if channels == 1 else 3
        return stored, height, width

    @property
    def names(self) -> Sequence[str] | None:
        """The classes or characters that the network knows."""
        return self.classes or self.vocabulary

    def phase_settings(self) -> dict[str, Any]:
        """Return the settings that can change from phase to phase, by name."""
        return {name: getattr(self, name) for name, rule in resume_rules().items() if rule is OnResume.NEW_PHASE}

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``config.json``."""
        document = {"version": VERSION, **_saved(self), "options": self.options.to_json()}
        phases = [phase.to_json() for phase in document.pop("phases")]
        return document | ({"phases": phases} if phases else {})

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "RunConfig":
        """Return the configuration of a ``config.json`` of this version or of version 1.

        Raises:
            ValueError: if a value is missing or has another type, or the file is of a newer version.
        """
        version = document.get("version", 1)
        if not isinstance(version, int) or version > VERSION:
            raise ValueError(
                f"it has version {version!r}. Expected at most {VERSION}. Fix: use a newer version of flaxnets"
            )
        document = _with_newest_names(document)
        values = {}
        for name, hint in plain_hints(RunConfig):
            if document.get(name) is not None and name not in ("options", "phases"):
                values[name] = convert(name, document[name], hint)
        options = document.get("options")
        if options is None:  # of a version that did not record them: all settings were set
            names = {field.name for field in dataclasses.fields(RunOptions)}
            options = {name: value for name, value in document.items() if name in names}
        phases = document.get("phases", ())
        if not isinstance(phases, Sequence):
            raise ValueError(f"phases must be a list, got {phases!r}")
        return cls(
            **values,
            options=RunOptions().with_values(options),
            phases=tuple(map(Phase.from_json, phases)),
        )


def resume_rules() -> dict[str, OnResume]:
    """Return what happens to each setting when a run is resumed with another value.

    >>> rules = resume_rules()
    >>> rules["lr"].name, rules["batch_size"].name, rules["out"].name
    ('NEW_PHASE', 'FIXED', 'FREE')
    """
    found = markers(RunConfig) | markers(RunOptions)
    return {
        name: next((marker for marker in found[name] if isinstance(marker, OnResume)), OnResume.FIXED)
        for name in markers(RunConfig)
    }


def with_absolute_paths(options: RunOptions) -> Any:
    """Return options or a configuration with every path absolute.

    >>> with_absolute_paths(RunOptions(out="/data/../runs", dataset="mnist")).out
    '/runs'
    """
    saved = _saved(options)
    values = {name: saved[name] for name in fields_with(RunOptions, IS_PATH) if name in saved}
    paths = {
        name: absolute_dataset(value) if name == "dataset" else os.path.abspath(value)
        for name, value in values.items()
        if value is not None
    }
    return dataclasses.replace(options, **paths)


def absolute_dataset(name: str) -> str:
    """Return the name of a dataset with its path absolute, if it has a path.

    >>> absolute_dataset("mnist"), absolute_dataset("folder:/data/../pets")
    ('mnist', 'folder:/pets')
    """
    if ":" not in name:
        return name
    from flaxnets.data import map_path

    return map_path(name, os.path.abspath)


def _saved(options: RunOptions) -> dict[str, Any]:
    """Return the fields that are saved, by name."""
    unsaved = fields_with(type(options), OnResume.UNSAVED)
    return {
        field.name: getattr(options, field.name) for field in dataclasses.fields(options) if field.name not in unsaved
    }


def _with_newest_names(document: Mapping[str, Any]) -> dict[str, Any]:
    aliases = _aliases()
    return {aliases.get(name, name): value for name, value in document.items()}


def _aliases() -> dict[str, str]:
    """Return the names of fields by their older names."""
    return {
        alias.removeprefix("--"): name
        for name, found in markers(RunOptions).items()
        for marker in found
        if isinstance(marker, Aliases)
        for alias in marker.aliases
    }
