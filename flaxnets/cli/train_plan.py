"""What a run will do: its data, its network, and every setting."""

import dataclasses
import functools
import importlib.util
import inspect
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flaxnets.cli.common import UsageError
from flaxnets.cli.train_options import Options, given_options, resolved_dataset

if TYPE_CHECKING:
    from flax import nnx

    from flaxnets.data import Augmentation, Dataset
    from flaxnets.training import Task

_AUGMENTATION = ("crop_area", "crop_padding", "flip", "erase", "mixup")
# These are kept, but do not decide what comes out of a run, so that it can be resumed with others.
_FREE = (
    "options", "phases", "classes", "vocabulary", "data_dir", "download", "workers", "patience", "time_limit", "out",
    "config", "resume", "checkpoint_every", "compare_torch", "tensorboard", "device", "cache_dir",
)  # fmt: skip
# With others of these a run goes on in a new phase: the state of the network and the optimizer does not depend on them.
_PHASE = (
    "epochs", "lr", "schedule", "warmup_steps", "weight_decay", "label_smoothing", "nonfinite", "crop_area",
    "crop_padding", "flip", "erase", "mixup", "precision", "kernels", "remat",
)  # fmt: skip
# Examples a step of a dry run: the largest networks take seconds for more.
_DRY_BATCH = 8


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run before it begins.

    Attributes:
        options: what was asked for.
        config: every setting; what was not asked for is what suits the network, its task and its data.
        data: the examples, of which only those to be used.
        augmentation: how training images are changed at random.
        initializer: what gives the network its first weights; torch's own if None.
        phases: how the settings changed on the way, as ``config.json`` has it: of each phase the ``update``, ``epoch``
            and ``step`` after which it begins, and its settings; none if they never did.
        is_new_phase: whether ``config.json`` does not have the last one yet.

    >>> plan = make_plan(Options(arch="mlp", dataset="digits", epochs=2))
    >>> plan.config["lr"], plan.config["input_shape"], plan.updates
    (0.1, (1, 28, 28), 44)
    """

    options: Options
    config: Mapping[str, Any]
    data: "Dataset"
    augmentation: "Augmentation"
    initializer: Any
    phases: Sequence[Mapping[str, Any]] = ()
    is_new_phase: bool = False

    @property
    def task(self) -> "Task":
        """What the network is for."""
        from flaxnets.training import TASKS

        return TASKS[self.data.task]

    @property
    def steps(self) -> int:
        """How many steps an epoch has."""
        return len(self.data.train) // min(self.config["batch_size"], len(self.data.train))

    @property
    def updates(self) -> int:
        """How often the run changes the weights, in all phases."""
        return max(self.config["epochs"] * self.steps // self.config["accumulate"], 1)

    @property
    def phase_start(self) -> int:
        """The update with which the phase begins."""
        return self.phases[-1]["update"] if self.phases else 0

    def make_model(self) -> "nnx.Module":
        """Makes the network with its first weights; see :meth:`load_first_weights` for those of a file."""
        import jax
        from flax import nnx

        from flaxnets import create_model
        from flaxnets.training import freeze, initialize

        seed = self.config["seed"]
        model = create_model(self.config["arch"], **self.config["model_options"], rngs=nnx.Rngs(seed))
        if self.initializer is not None:
            initialize(model, self.initializer, jax.random.key(seed))
        try:
            freeze(model, self.config["freeze"])
        except ValueError as error:
            raise UsageError(f"--freeze: {error}") from error
        return model

    def load_first_weights(self, model: "nnx.Module") -> list[str]:
        """Loads what fits of the weights that the run begins with, if it was asked for; returns what there is to say.

        Raises:
            UsageError: if they cannot be used.
        """
        from flaxnets.weights import WeightsError, load_fitting_weights

        if self.config["init_from"] is None:
            return []
        path = Path(self.config["init_from"])
        file = path / "best.safetensors" if path.is_dir() else path
        try:
            return [f"--init-from {path}: {line}" for line in load_fitting_weights(model, file).lines()]
        except (ImportError, OSError, RuntimeError, WeightsError) as error:
            reason = f"{file}: {error.strerror}" if isinstance(error, OSError) else " ".join(str(error).split())
            raise UsageError(f"--init-from {reason}") from error

    def schedule(self) -> Any:
        """The learning rate as a function of the number of updates."""
        from flaxnets.training import make_schedule

        config = self.config
        name, warmup = config.get("schedule", "cosine"), config["warmup_steps"]
        return make_schedule(name, config["lr"], self.updates, warmup_steps=warmup, start=self.phase_start)

    def optimizer(self) -> Any:
        """The optimizer with its schedule."""
        from flaxnets.training import make_optimizer

        given = {
            k: self.config[k] for k in ("clip_norm", "schedule", "warmup_steps", "weight_decay") if k in self.config
        }
        start = self.phase_start
        return make_optimizer(self.config["optimizer"], self.config["lr"], self.updates, start=start, **given)

    def objective(self) -> Any:
        """What is minimised and reported."""
        objective: Any = self.task.objective
        smoothing = self.config["label_smoothing"]
        return functools.partial(objective, label_smoothing=smoothing) if smoothing else objective

    def transform(self) -> Callable[[Any], Any]:
        """From stored inputs to the network's."""
        given = {name: self.config[name] for name in ("mean", "std") if self.config[name] is not None}
        return functools.partial(self.task.transform, input_shape=self.config["input_shape"], **given)

    def augment(self) -> Callable[[Any, Any, Any], Any] | None:
        """From stored inputs, targets and a key to what a training step sees; None if that is ``transform``."""
        from flaxnets.data import Augmentation, Split

        if self.augmentation == Augmentation():
            return None
        options = {"transform": self.transform(), "num_classes": self.data.model_options["num_classes"]}
        return functools.partial(self.augmentation, **options, geometric=isinstance(self.data.train, Split))

    def sources(self) -> tuple[Any, Any]:
        """The training and the test part, as :func:`flaxnets.training.fit` takes them."""
        from flaxnets.data import Split

        def source(part: Any, augmentation: "Augmentation | None") -> Any:
            if isinstance(part, Split):
                return part
            return part.decoded(_image_shape(self.config["input_shape"]), augmentation, self.options.workers)

        return source(self.data.train, self.augmentation), source(self.data.test, None)

    def score(self, record: Mapping[str, Any]) -> float:
        """How good an epoch was; the higher the better."""
        value = record[f"test_{self.task.score}"]
        return value if self.task.score == "accuracy" else -value

    def differences(self, config: Mapping[str, Any]) -> dict[str, str]:
        """Says in which settings another run, of which this is the ``config.json``, is another one."""
        from flaxnets.data.class_names import composed
        from flaxnets.data.complaints import listed

        ours, theirs = json.loads(json.dumps(self.config)), dict(config)
        if theirs.get("dataset"):
            theirs["dataset"] = resolved_dataset(theirs["dataset"])
        for name in ours.keys() - theirs.keys():  # an option that there was not yet
            theirs[name] = json.loads(json.dumps(getattr(Options, name, None)))
        if self.options.warmup_steps is None:  # follows from the others
            theirs.pop("warmup_steps", None)
        names = [name for name in theirs if name not in _FREE and ours.get(name) != theirs[name]]
        differences = {name: f"{name} is {theirs[name]!r} there and {ours.get(name)!r} here" for name in names}
        for kind in ("classes", "vocabulary"):
            there, here = ({*map(composed, names.get(kind) or ())} for names in (theirs, ours))
            words = [
                f"{listed(sorted(names))} {what}"
                for names, what in ((there - here, "missing"), (here - there, "new"))
                if names
            ]
            if there and words:
                differences[kind] = f"{kind}: {', '.join(words)} here"
        return differences

    def continued(self, config: Mapping[str, Any]) -> "Plan":
        """Returns the plan for the rest of a run, of which this is the ``config.json``, in its last phase."""
        settings = {**self.config, "warmup_steps": config.get("warmup_steps", 0)}
        plan = dataclasses.replace(self, config=settings, phases=tuple(config.get("phases", ())))
        return plan.with_classes(config.get("classes"))

    def with_classes(self, names: Sequence[str] | None) -> "Plan":
        """Returns the plan with labels in the order of these names, such as those of a run that goes on."""
        from flaxnets.data import relabel

        if names is None or self.data.classes is None:
            return self
        data = relabel(self.data, names)
        return dataclasses.replace(self, data=data, config={**self.config, "classes": data.classes})

    def next_phase(self, config: Mapping[str, Any], progress: Mapping[str, Any] | None) -> "Plan":
        """Returns the plan for a new phase of a run, which begins where the run is.

        Args:
            config: the ``config.json`` of the run.
            progress: what its last checkpoint says.

        Raises:
            UsageError: if there is nothing to do in the phase.
        """
        epoch, step = (progress["epoch"], progress["step"]) if progress else (1, 0)
        update = ((epoch - 1) * self.steps + step) // self.config["accumulate"]
        if update >= self.updates:
            raise UsageError(
                f"the run has done {epoch - 1} whole epochs, and --epochs is {self.config['epochs']}; "
                f"use --epochs {epoch} or more"
            )
        # The warm-up of a run is for its beginning; only another one is for this phase.
        asked = self.options.warmup_steps
        warmup = 0 if asked in (None, config.get("warmup_steps")) else asked
        if warmup >= self.updates - update:
            raise UsageError(
                f"--warmup-steps must be below the {self.updates - update} updates of this phase, got {warmup}"
            )
        settings = {**self.config, "warmup_steps": warmup}
        settings["options"] = {**settings["options"], "warmup_steps": warmup}
        first = {"update": 0, "epoch": 1, "step": 0, **{name: config[name] for name in _PHASE if name in config}}
        new = {"update": update, "epoch": epoch, "step": step} | {n: settings[n] for n in _PHASE if n in settings}
        phases = (*(config.get("phases") or [first]), new)
        plan = dataclasses.replace(self, config=settings, phases=phases, is_new_phase=True)
        return plan.with_classes(config.get("classes"))

    @staticmethod
    def can_change(names: Iterable[str]) -> bool:
        """Whether a run can go on with others of these settings, in a new phase."""
        return {*names} <= {*_PHASE}

    def record(self) -> dict[str, Any]:
        """Returns what ``config.json`` has."""
        return {**self.config, "phases": [*self.phases]} if self.phases else {**self.config}


def make_plan(options: Options, warn: Callable[[str], None] = print) -> Plan:
    """Loads the data and settles what was not asked for.

    Args:
        options: of the command.
        warn: takes a line about each image or line of a file that is left out.

    Raises:
        UsageError: if network, data and options do not go together, or the data cannot be used.

    >>> make_plan(Options(arch="mlp", epochs=3)).config["optimizer"]
    'sgd'
    """
    _check_extras(options)
    augmentation = _augmentation(options)
    data = _load(options, warn)
    config, initializer = _config(options, data)
    if options.dry_run and options.batch_size is None:
        config["batch_size"] = min(config["batch_size"], _DRY_BATCH)
    size = min(config["batch_size"], len(data.train))
    if size == 1:
        _check_batch_of_one(config)
    if options.dry_run:
        config["epochs"] = 1
        examples = 2 * size * options.accumulate
        data = dataclasses.replace(data, train=data.train.take(examples), test=data.test.take(size))
    plan = Plan(options, config, data, augmentation, initializer)
    if options.warmup_steps is None:  # that of a recipe is for the whole dataset
        config["warmup_steps"] = min(config.get("warmup_steps", 0), plan.updates // 5)
    elif options.warmup_steps >= plan.updates:
        raise UsageError(
            f"--warmup-steps must be below the {plan.updates} updates of this run, got {options.warmup_steps}"
        )
    return plan


def _check_batch_of_one(config: Mapping[str, Any]) -> None:
    """Raises UsageError for a network that cannot be trained on one example at a time, before anything is compiled."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from flaxnets import create_model

    if config["task"] == "language":
        return

    def call(inputs: Any) -> Any:
        model: Any = create_model(config["arch"], **config["model_options"])
        model.train()
        return model(inputs)

    try:
        nnx.eval_shape(call, jax.ShapeDtypeStruct((1, *config["input_shape"]), jnp.float32))
    except ValueError as error:
        if "more than 1 value" not in str(error):
            raise
        raise UsageError(
            f"a batch of 1 for {config['arch']}: {error}. Fix: use --batch-size and --train-examples of 2 or more"
        ) from error


def _augmentation(options: Options) -> "Augmentation":
    from flaxnets.data import Augmentation

    try:
        return Augmentation(**{name: getattr(options, name) for name in _AUGMENTATION})
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise UsageError(f"--{name.replace('_', '-')} {rest}") from error


def _check_extras(options: Options) -> None:
    for flag, wanted, package, extra in (
        ("compare_torch", options.compare_torch, "torch", "parity"),
        ("tensorboard", options.tensorboard, "tensorboardX", "tensorboard"),
    ):
        if wanted and importlib.util.find_spec(package) is None:
            raise UsageError(f"--{flag.replace('_', '-')} needs {package}: pip install 'flaxnets[{extra}]'")


def _load(options: Options, warn: Callable[[str], None]) -> "Dataset":
    """Loads what was asked for, or what the network is for; it must be data for the network's task."""
    from flaxnets.data import list_datasets, load
    from flaxnets.registry import get_entry

    arch, entry = options.arch, get_entry(options.arch)
    name, fitting = options.dataset or entry.dataset, list_datasets(entry.task)
    if not fitting:
        raise UsageError(f"--arch {arch} is a {entry.task}, with nothing to train on; see --list-archs for networks")
    kind = name.partition(":")[0] if name and ":" in name else name
    fitting += {"classification": ["folder", "csv"], "language": ["text"]}.get(entry.task, [])
    if kind not in fitting and (kind == name or kind in ("folder", "csv", "text")):
        what = f"--dataset {name} is not for {entry.task}, which {arch} is for" if name else f"{arch} has no dataset"
        raise UsageError(f"{what}; use --dataset {' or '.join(list_datasets(entry.task))}")
    try:
        data = load(
            name or "", options.data_dir, download=options.download, bad_files=options.bad_files, warn=warn,
            csv_columns=(options.csv_image_column, options.csv_label_column),
        )  # fmt: skip
    except (ImportError, OSError, ValueError) as error:
        raise UsageError(f"--dataset {name}: {error}") from error
    examples = options.train_examples or len(data.train)
    return dataclasses.replace(data, train=data.train.take(examples))


def _config(options: Options, data: "Dataset") -> tuple[dict[str, Any], Any]:
    """Returns every setting, and the initializer, which is a function and no setting."""
    from flaxnets.data import channel_statistics
    from flaxnets.registry import get_entry
    from flaxnets.training import DEFAULTS, TASKS

    entry, task, images = get_entry(options.arch), TASKS[data.task], data.task == "classification"
    for name in ("label_smoothing", "normalize", *_AUGMENTATION):
        if not images and getattr(options, name) != getattr(Options, name):
            raise UsageError(f"--{name.replace('_', '-')} is for images; {options.arch} is for {data.task}")
    config = {**DEFAULTS, **task.defaults, **entry.recipe.settings()}
    shape, initializer = config.pop("train_input_shape", entry.input_shape), config.pop("init", None)
    asked = {name: value for name, value in dataclasses.asdict(options).items() if value is not None}
    config |= {name: value for name, value in asked.items() if name not in ("config", "dry_run", "list_archs")}
    config["init"] = getattr(initializer, "__name__", initializer)
    model_options, input_shape = _fit_network(options.arch, data, shape)
    shape = _image_shape(input_shape) if images else None
    mean, std = channel_statistics(data.train, shape) if options.normalize else (None, None)
    config |= {
        "dataset": resolved_dataset(options.dataset) if options.dataset else entry.dataset,
        "data_dir": os.path.abspath(options.data_dir), "freeze": sorted({*options.freeze}),
        "init_from": options.init_from and os.path.abspath(options.init_from),
        "task": data.task, "classes": data.classes,
        "vocabulary": "".join(data.vocabulary.tokens[1:]) if data.vocabulary else None,
        "model_options": model_options, "input_shape": input_shape, "mean": mean, "std": std,
        "options": given_options(options),
    }  # fmt: skip
    return config, initializer


def _fit_network(arch: str, data: "Dataset", shape: tuple[int, ...]) -> tuple[dict[str, int], tuple[int, ...]]:
    """Chooses the options of the network that give it the sizes of the data, and the shape of its inputs."""
    from flaxnets.data import Split
    from flaxnets.registry import get_entry
    from flaxnets.training import TASKS

    entry = get_entry(arch)
    known = inspect.signature(entry.builder).parameters
    options = {name: size for name, size in data.model_options.items() if name in known}
    if TASKS[data.task].fits_inputs:
        channels = data.train.inputs.shape[1] if isinstance(data.train, Split) else 3  # files are decoded as asked for
        if "in_channels" in known and len(shape) == 3 and channels != shape[0]:
            options["in_channels"], shape = channels, (channels, *shape[1:])
        return options, shape
    assert isinstance(data.train, Split)
    found = data.train.inputs.shape[1:]
    if options != data.model_options and found != entry.input_shape:
        raise UsageError(
            f"--dataset {data.name} has examples of shape {found} and {arch} takes only {entry.input_shape}; "
            f"use --dataset {entry.dataset}"
        )
    return options, found


def _image_shape(input_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """To what images in files are decoded for a network."""
    if len(input_shape) == 1:
        side = math.isqrt(input_shape[0])
        return 1, side, side
    channels, height, width = input_shape
    return 1 if channels == 1 else 3, height, width
