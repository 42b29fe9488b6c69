"""The plan of a run: its configuration, its data, and everything that they determine."""

import dataclasses
import functools
import importlib.util
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flaxnets.cli.common import UsageError
from flaxnets.cli.help import flag_of
from flaxnets.run_config import Phase, RunConfig, RunOptions, absolute_dataset, resume_rules, with_absolute_paths
from flaxnets.settings import IMAGES_ONLY, OnResume, fields_with

if TYPE_CHECKING:
    from flax import nnx

    from flaxnets.data import Augmentation, Dataset
    from flaxnets.registry import Entry
    from flaxnets.training import Sharding, Task

# Examples per step of a dry run: the largest networks take seconds for more.
_DRY_BATCH = 8


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run before it starts.

    Attributes:
        config: the configuration.
        data: the examples, without those that are not used.
        initializer: the initializer of the network's weights, ``None`` for torch's.
        is_new_phase: whether the last phase is not in ``config.json`` yet.

    >>> plan = make_plan(RunOptions(arch="mlp", dataset="digits", epochs=2))
    >>> plan.config.lr, plan.config.input_shape, plan.updates
    (0.1, (1, 28, 28), 44)
    """

    config: RunConfig
    data: "Dataset"
    initializer: Any
    is_new_phase: bool = False

    @property
    def task(self) -> "Task":
        """The task of the network."""
        from flaxnets.training import TASKS

        return TASKS[self.config.task]

    @property
    def batch_size(self) -> int:
        """The number of examples per step."""
        from flaxnets.training.batches import clamp_batch_size

        return clamp_batch_size(self.config.batch_size, self.data.train)

    @property
    def steps(self) -> int:
        """The number of steps of an epoch."""
        return len(self.data.train) // self.batch_size

    @property
    def updates(self) -> int:
        """The number of updates of the weights in all phases."""
        return max(self.config.epochs * self.steps // self.config.accumulate, 1)

    @property
    def phases(self) -> Sequence[Phase]:
        """The phases of the run, none if its settings never changed."""
        return self.config.phases

    def sharding(self) -> "Sharding | None":
        """Return the placement on the devices of ``--mesh``; None for one device.

        Many processes without ``--mesh`` shard batches over all their devices.

        Raises:
            UsageError: if the mesh fits neither the devices nor the batch.
        """
        import jax

        from flaxnets.training import Sharding, make_mesh
        from flaxnets.training.sharding import SINGLE_DEVICE_BACKENDS

        if self.config.mesh is None and jax.process_count() == 1:
            return None
        try:
            mesh = make_mesh(self.config.mesh or {"data": jax.device_count()})
            sharding = Sharding(mesh, batch_statistics=self.config.batch_statistics)
            sharding.check(self.batch_size)
        except ValueError as error:
            raise UsageError(f"--mesh: {error}") from error
        if self.config.backend in SINGLE_DEVICE_BACKENDS:
            raise UsageError(
                f"--backend {self.config.backend} is for one device. Fix: use --backend xla or auto with --mesh"
            )
        return sharding

    @property
    def phase_start(self) -> int:
        """The number of updates before the last phase."""
        return self.phases[-1].update if self.phases else 0

    @property
    def augmentation(self) -> "Augmentation":
        """The random changes of training images."""
        return _augmentation(self.config)

    def make_model(self) -> "nnx.Module":
        """Build the network with its initial weights; see :meth:`load_first_weights` for weights of a file."""
        import jax
        from flax import nnx

        from flaxnets import create_model
        from flaxnets.training import freeze, initialize

        config = self.config
        model = create_model(config.arch, **config.model_options, rngs=nnx.Rngs(config.seed))
        if self.initializer is not None:
            initialize(model, self.initializer, jax.random.key(config.seed))
        try:
            freeze(model, config.freeze)
        except ValueError as error:
            raise UsageError(f"--freeze: {error}") from error
        return model

    def load_first_weights(self, model: "nnx.Module") -> list[str]:
        """Load the weights of ``--init-from`` that fit the network.

        Returns:
            Lines about the weights for the user.

        Raises:
            UsageError: if the weights cannot be used.
        """
        from flaxnets.weights import WeightsError, load_fitting_weights

        if self.config.init_from is None:
            return []
        path = Path(self.config.init_from)
        file = path / "best.safetensors" if path.is_dir() else path
        try:
            return [f"--init-from {path}: {line}" for line in load_fitting_weights(model, file).lines()]
        except (ImportError, OSError, RuntimeError, WeightsError) as error:
            reason = f"{file}: {error.strerror}" if isinstance(error, OSError) else " ".join(str(error).split())
            raise UsageError(f"--init-from {reason}") from error

    def optimizer(self) -> Any:
        """Return the optimizer with its learning-rate schedule."""
        from flaxnets.training import make_optimizer

        config = self.config
        options = {} if config.weight_decay is None else {"weight_decay": config.weight_decay}
        return make_optimizer(
            config.optimizer,
            config.lr,
            self.updates,
            clip_norm=config.clip_norm,
            schedule=config.schedule,
            warmup_steps=config.warmup_steps,
            start=self.phase_start,
            **options,
        )

    def objective(self) -> Any:
        """Return the loss with its metrics."""
        objective: Any = self.task.objective
        smoothing = self.config.label_smoothing
        return functools.partial(objective, label_smoothing=smoothing) if smoothing else objective

    def transform(self) -> Callable[[Any], Any]:
        """Return the function from stored inputs to inputs of the network."""
        from flaxnets.training.tasks import transform_of

        return transform_of(self.config)

    def augment(self) -> Callable[[Any, Any, Any], Any] | None:
        """Return the function from stored inputs, targets and a key to the batch of a training step.

        Returns:
            ``None`` if the batch is only transformed.
        """
        from flaxnets.data import Augmentation, Split

        if self.augmentation == Augmentation():
            return None
        options = {"transform": self.transform(), "num_classes": self.data.model_options["num_classes"]}
        return functools.partial(self.augmentation, **options, geometric=isinstance(self.data.train, Split))

    def sources(self) -> tuple[Any, Any]:
        """Return the training and the test examples for :class:`flaxnets.training.Batches`."""
        from flaxnets.data import Split

        def source(part: Any, augmentation: "Augmentation | None") -> Any:
            if isinstance(part, Split):
                return part
            return part.decoded(self.config.image_shape, augmentation, self.config.workers)

        return source(self.data.train, self.augmentation), source(self.data.test, None)

    def score(self, record: Mapping[str, Any]) -> float:
        """Return the test score of an epoch as a number that is larger for a better network."""
        return self.task.goodness(record)

    def differences(self, other: RunConfig) -> dict[str, str]:
        """Return the settings that another run was started with and this plan changes, by name, in words."""
        ignored = [name for name, rule in resume_rules().items() if rule in (OnResume.FREE, OnResume.UNSAVED)]
        if self.config.options.warmup_steps is None:  # it follows from the other settings
            ignored.append("warmup_steps")
        if other.dataset is not None:
            other = dataclasses.replace(other, dataset=absolute_dataset(other.dataset))
        differences = {}
        for field in dataclasses.fields(RunConfig):
            ours, theirs = getattr(self.config, field.name), getattr(other, field.name)
            if field.name not in ignored and ours != theirs:
                differences[field.name] = f"{field.name} was {theirs!r}, now {ours!r}"
        return differences | self._differences_of_names(other)

    def _differences_of_names(self, other: RunConfig) -> dict[str, str]:
        from flaxnets.data.class_names import composed
        from flaxnets.data.complaints import listed

        differences = {}
        for kind in ("classes", "vocabulary"):
            there, here = ({*map(composed, getattr(config, kind) or ())} for config in (other, self.config))
            words = [
                f"{listed(sorted(names))} {what}"
                for names, what in ((there - here, "missing"), (here - there, "new"))
                if names
            ]
            if there and words:
                differences[kind] = f"{kind}: {', '.join(words)} here"
        return differences

    def continued(self, other: RunConfig) -> "Plan":
        """Return the plan for the rest of a run in its last phase.

        Args:
            other: the configuration of the run.
        """
        config = dataclasses.replace(self.config, warmup_steps=other.warmup_steps, phases=other.phases)
        return dataclasses.replace(self, config=config).with_classes(other.classes)

    def with_classes(self, names: Sequence[str] | None) -> "Plan":
        """Return the plan with labels in the order of these names, such as the names of a resumed run."""
        from flaxnets.data import relabel

        if names is None or self.data.classes is None:
            return self
        data = relabel(self.data, names)
        return dataclasses.replace(self, data=data, config=dataclasses.replace(self.config, classes=data.classes))

    def next_phase(self, other: RunConfig, progress: Mapping[str, Any] | None) -> "Plan":
        """Return the plan for a new phase of a run, which starts where the run stands.

        Args:
            other: the configuration of the run.
            progress: the position of its last checkpoint.

        Raises:
            UsageError: if there is nothing to do in the phase.
        """
        epoch, step = (progress["epoch"], progress["step"]) if progress else (1, 0)
        update = ((epoch - 1) * self.steps + step) // self.config.accumulate
        if update >= self.updates:
            raise UsageError(
                f"the run has done {epoch - 1} whole epochs, and --epochs is {self.config.epochs}; "
                f"use --epochs {epoch} or more"
            )
        # The warm-up of a run is for its start. Only another warm-up is for this phase.
        asked = self.config.options.warmup_steps
        warmup = 0 if asked in (None, other.warmup_steps) else asked
        if warmup >= self.updates - update:
            raise UsageError(
                f"--warmup-steps must be below the {self.updates - update} updates of this phase, got {warmup}"
            )
        options = dataclasses.replace(self.config.options, warmup_steps=warmup)
        config = dataclasses.replace(self.config, warmup_steps=warmup, options=options)
        before = other.phases or (Phase(update=0, epoch=1, step=0, settings=other.phase_settings()),)
        phase = Phase(update=update, epoch=epoch, step=step, settings=config.phase_settings())
        config = dataclasses.replace(config, phases=(*before, phase))
        return dataclasses.replace(self, config=config, is_new_phase=True).with_classes(other.classes)

    @staticmethod
    def can_change(names: Iterable[str]) -> bool:
        """Return whether a run can continue with other values of these settings, in a new phase."""
        rules = resume_rules()
        return all(rules[name] is OnResume.NEW_PHASE for name in names)

    def record(self) -> dict[str, Any]:
        """Return the content of ``config.json``."""
        return self.config.to_json()


def make_plan(options: RunOptions, warn: Callable[[str], None] = print) -> Plan:
    """Load the data, and choose the settings that the options leave open.

    Args:
        options: the options of the command.
        warn: called with a line about each image or line of a file that is left out.

    Raises:
        UsageError: if network, data and options do not fit each other, or the data cannot be used.

    >>> make_plan(RunOptions(arch="mlp", epochs=3)).config.optimizer
    'sgd'
    """
    from flaxnets.registry import get_entry
    from flaxnets.training import TASKS

    _check_extras(options)
    entry = get_entry(options.arch)
    data = _load(options, entry, warn)
    recipe = entry.recipe.filled_from(TASKS[data.task].defaults)
    plan = Plan(_config(options, entry, data), data, recipe.init)
    if plan.batch_size == 1:
        _check_batch_of_one(plan.config)
    if options.dry_run:
        train = data.train.take(2 * plan.batch_size * options.accumulate)
        data = dataclasses.replace(data, train=train, test=data.test.take(plan.batch_size))
        plan = dataclasses.replace(plan, data=data)
    if options.warmup_steps is None:  # the warm-up of a recipe is for the whole dataset
        warmup = min(plan.config.warmup_steps, plan.updates // 5)
        plan = dataclasses.replace(plan, config=dataclasses.replace(plan.config, warmup_steps=warmup))
    elif options.warmup_steps >= plan.updates:
        raise UsageError(
            f"--warmup-steps must be below the {plan.updates} updates of this run, got {options.warmup_steps}"
        )
    return plan


def _check_batch_of_one(config: RunConfig) -> None:
    """Raise a UsageError, before anything is compiled, for a network that cannot train on one example at a time."""
    from flax import nnx

    from flaxnets import create_model
    from flaxnets.training import TASKS

    def call(inputs: Any) -> Any:
        model: Any = create_model(config.arch, **config.model_options)
        model.train()
        return model(inputs)

    try:
        nnx.eval_shape(call, TASKS[config.task].example_inputs(config.input_shape))
    except ValueError as error:
        if "more than 1 value" not in str(error):
            raise
        raise UsageError(
            f"a batch of 1 for {config.arch}: {error}. Fix: use --batch-size and --train-examples of 2 or more"
        ) from error


def _augmentation(options: RunOptions) -> "Augmentation":
    from flaxnets.data import Augmentation

    return Augmentation(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Augmentation)})


def _check_extras(options: RunOptions) -> None:
    for flag, wanted, package, extra in (
        ("compare_torch", options.compare_torch, "torch", "parity"),
        ("tensorboard", options.tensorboard, "tensorboardX", "tensorboard"),
    ):
        if wanted and importlib.util.find_spec(package) is None:
            raise UsageError(f"{flag_of(flag)} needs {package}: pip install 'flaxnets[{extra}]'")


def _load(options: RunOptions, entry: "Entry", warn: Callable[[str], None]) -> "Dataset":
    """Load the dataset of the options or of the network. It must be for the network's task."""
    from flaxnets.data import list_datasets, load, task_of

    name, fitting = options.dataset or entry.dataset, list_datasets(entry.task)
    if not fitting:
        raise UsageError(
            f"--arch {entry.name} is a {entry.task}, with nothing to train on; see --list-archs for networks"
        )
    task = task_of(name) if name else None
    if name is None or task not in (None, entry.task):
        what = (
            f"--dataset {name} is not for {entry.task}, which {entry.name} is for"
            if name
            else f"{entry.name} has no dataset"
        )
        raise UsageError(f"{what}; use --dataset {' or '.join(fitting)}")
    try:
        data = load(
            name, options.data_dir, download=options.download, bad_files=options.bad_files, warn=warn,
            csv_columns=(options.csv_image_column, options.csv_label_column),
        )  # fmt: skip
    except (ImportError, OSError, ValueError) as error:
        raise UsageError(f"--dataset {name}: {error}") from error
    examples = options.train_examples or len(data.train)
    return dataclasses.replace(data, train=data.train.take(examples))


def _config(options: RunOptions, entry: "Entry", data: "Dataset") -> RunConfig:
    """Return the configuration: options first, then the recipe of the network, then the defaults of the task."""
    from flaxnets.data import channel_statistics
    from flaxnets.training import TASKS

    task = TASKS[data.task]
    for name in fields_with(RunOptions, IMAGES_ONLY):
        if not task.of_images and getattr(options, name) != getattr(RunOptions, name):
            raise UsageError(f"{flag_of(name)} is for images; {entry.name} is for {data.task}")
    recipe = entry.recipe.filled_from(task.defaults)
    absolute: RunOptions = with_absolute_paths(dataclasses.replace(options, dataset=options.dataset or entry.dataset))
    asked = {field.name: getattr(absolute, field.name) for field in dataclasses.fields(RunOptions)}
    names = {field.name for field in dataclasses.fields(RunOptions)}
    settings = {name: value for name, value in recipe.settings().items() if name in names}
    settings |= {name: value for name, value in asked.items() if value is not None}
    if options.dry_run:
        settings["epochs"] = 1
        if options.batch_size is None:
            settings["batch_size"] = min(settings.get("batch_size", RunConfig.batch_size), _DRY_BATCH)
    model_options, input_shape = _fit_network(entry, data, recipe.train_input_shape or entry.input_shape)
    config = RunConfig(
        **{**settings, "freeze": tuple(sorted({*options.freeze})), "out": options.out, "cache_dir": options.cache_dir},
        task=data.task,
        input_shape=input_shape,
        model_options=model_options,
        classes=data.classes,
        vocabulary="".join(data.vocabulary.tokens[1:]) if data.vocabulary else None,
        init=recipe.init if isinstance(recipe.init, str) else getattr(recipe.init, "__name__", None),
        options=options,
    )
    if not options.normalize:
        return config
    mean, std = channel_statistics(data.train, config.image_shape)
    return dataclasses.replace(config, mean=mean, std=std)


def _fit_network(entry: "Entry", data: "Dataset", shape: tuple[int, ...]) -> tuple[dict[str, int], tuple[int, ...]]:
    """Return the options with which the network fits the sizes of the data, and the shape of its inputs."""
    from flaxnets.data import Split
    from flaxnets.training import TASKS

    known = inspect.signature(entry.builder).parameters
    options = {name: size for name, size in data.model_options.items() if name in known}
    if TASKS[data.task].of_images:
        channels = data.train.inputs.shape[1] if isinstance(data.train, Split) else 3  # files are decoded as needed
        if "in_channels" in known and len(shape) == 3 and channels != shape[0]:
            options["in_channels"], shape = channels, (channels, *shape[1:])
        return options, shape
    assert isinstance(data.train, Split)
    found = data.train.inputs.shape[1:]
    if options != data.model_options and found != entry.input_shape:
        raise UsageError(
            f"--dataset {data.name} has examples of shape {found} and {entry.name} takes only {entry.input_shape}; "
            f"use --dataset {entry.dataset}"
        )
    return options, found
