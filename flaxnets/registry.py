"""Networks, optimizers, schedules and datasets by name; networks are built by :func:`create_model`."""

import dataclasses
import fnmatch
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from flax import nnx

from flaxnets._suggestions import suggest

Builder = TypeVar("Builder", bound=Callable[..., Any])
Item = TypeVar("Item")

TASKS = ("classification", "language", "regression", "layer")


class Registry(Mapping[str, Item], Generic[Item]):
    """Items by name. Programs that use the package can add their own.

    Args:
        kind: the word for an item in error messages, such as ``optimizer``.

    >>> shapes = Registry[int]("shape")
    >>> shapes.add("circle", 1, source="geometry.circle")
    >>> shapes.find("cirle")
    Traceback (most recent call last):
    ValueError: unknown shape 'cirle'; did you mean 'circle'?
    """

    def __init__(self, kind: str):
        self._kind = kind
        self._items: dict[str, Item] = {}
        self._sources: dict[str, str] = {}

    def add(self, name: str, item: Item, *, source: str) -> None:
        """Add an item.

        Args:
            name: the name of the item.
            item: the item.
            source: the function or class that the item comes from, for the error message.

        Raises:
            ValueError: if the name is taken.
        """
        if name in self._items:
            raise ValueError(
                f"the name {name!r} is already registered by {self._sources[name]}; {source} needs another name"
            )
        self._items[name], self._sources[name] = item, source

    def remove(self, name: str) -> None:
        """Remove an item, such as one that a notebook is about to add again.

        Raises:
            ValueError: for an unknown name.
        """
        self.find(name)
        del self._items[name], self._sources[name]

    def find(self, name: str) -> Item:
        """Return the item of this name.

        Raises:
            ValueError: for an unknown name. The message suggests similar names.
        """
        if name not in self._items:
            raise ValueError(f"unknown {self._kind} {name!r}; {suggest(name, sorted(self._items))}")
        return self._items[name]

    def __getitem__(self, name: str) -> Item:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._items))

    def __len__(self) -> int:
        return len(self._items)


def source_of(function: Callable[..., Any]) -> str:
    """Return the module and name of a function or class.

    >>> source_of(source_of)
    'flaxnets.registry.source_of'
    """
    return f"{function.__module__}.{function.__qualname__}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Default settings of ``train.py`` for a network or a task. ``None`` leaves a setting open.

    Attributes:
        epochs: the number of passes over the training examples.
        batch_size: examples per step.
        lr: the largest learning rate.
        optimizer: the name of an optimizer.
        schedule: the name of a learning-rate schedule.
        warmup_steps: updates in which the learning rate rises at first.
        weight_decay: the weight decay of the optimizer.
        clip_norm: the largest norm of the gradients of all parameters.
        init: an initializer of the weights, as for :func:`flaxnets.training.initialize`. ``None`` uses torch's.
        train_input_shape: the shape of a training example, if ``train.py`` uses another than ``input_shape``.

    >>> Recipe(lr=0.1).filled_from(Recipe(lr=0.5, epochs=3)).settings()
    {'epochs': 3, 'lr': 0.1}
    """

    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    optimizer: str | None = None
    schedule: str | None = None
    warmup_steps: int | None = None
    weight_decay: float | None = None
    clip_norm: float | None = None
    init: str | Callable[..., Any] | None = None
    train_input_shape: tuple[int, ...] | None = None

    def filled_from(self, other: "Recipe") -> "Recipe":
        """Return this recipe with its open settings taken from another recipe."""
        return dataclasses.replace(other, **self.settings())

    def settings(self) -> dict[str, Any]:
        """Return the settings that are not open, by name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Entry:
    """A registered network.

    Attributes:
        name: the name for :func:`create_model`.
        builder: builds the module. Its keyword arguments are ``rngs`` and the options of the network.
        input_shape: the shape of one example, without the batch axis.
        task: one of :data:`TASKS`. There is nothing to train a ``layer`` on.
        dataset: the default dataset of ``train.py``.
        paper: the paper that described the network.
        recipe: the default settings of ``train.py``.
        batched: whether the inputs have a batch axis.
    """

    name: str
    builder: Callable[..., nnx.Module]
    input_shape: tuple[int, ...]
    task: str
    dataset: str | None
    paper: str
    recipe: Recipe
    batched: bool


_NETWORKS = Registry[Entry]("network")


def register(
    *,
    input_shape: tuple[int, ...],
    task: str = "classification",
    dataset: str | None = None,
    paper: str = "",
    recipe: Recipe = Recipe(),
    batched: bool = True,
) -> Callable[[Builder], Builder]:
    """Register a builder, a function or a class, so that :func:`create_model` finds it by its name.

    Arguments are the attributes of :class:`Entry`.

    Raises:
        ValueError: if the name is taken, or the task is none of :data:`TASKS`.

    >>> @register(input_shape=(4,), recipe=Recipe(epochs=3, lr=0.1))
    ... def registered_as_an_example(*, rngs):
    ...     return nnx.Linear(4, 1, rngs=rngs)
    >>> list_models("registered_*")
    ['registered_as_an_example']
    """
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; {suggest(task, list(TASKS))}")

    def decorate(builder: Builder) -> Builder:
        name = builder.__name__
        entry = Entry(name, builder, input_shape, task, dataset, paper, recipe, batched)
        _NETWORKS.add(name, entry, source=source_of(builder))
        return builder

    return decorate


def get_entry(name: str) -> Entry:
    """Return the entry of a registered network.

    Raises:
        ValueError: for an unknown name. The message suggests similar names.
    """
    return _NETWORKS.find(name)


def list_models(pattern: str = "*") -> list[str]:
    """Return the sorted names of the registered networks that match a shell-style pattern.

    >>> import flaxnets
    >>> flaxnets.list_models("dense*")
    ['densenet']
    """
    return sorted(fnmatch.filter(_NETWORKS, pattern))


def _check_options(entry: Entry, options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(entry.builder).parameters
    known = [name for name in parameters if name != "rngs"]
    for option, value in options.items():
        if option not in known:
            raise TypeError(f"{entry.name} has no option {option!r}; {suggest(option, known)}")
        # An option whose default is an int or a tuple of ints is a size, and a size is at least 1.
        if not _is_size(parameters[option].default):
            continue
        if any(size < 1 for size in _flat(value)):
            raise ValueError(f"{entry.name}: {option}={value!r} must be positive")


def _flat(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in _flat(item)] if isinstance(value, (tuple, list)) else [value]


def _is_size(value: Any) -> bool:
    return bool(_flat(value)) and all(type(leaf) is int for leaf in _flat(value))


def create_model(name: str, *, rngs: nnx.Rngs | None = None, **options: Any) -> nnx.Module:
    """Build a registered network.

    Args:
        name: one of :func:`list_models`.
        rngs: the random numbers for the initial weights and dropout. The default is ``nnx.Rngs(0)``.
        **options: the options of the network, such as ``num_classes``.

    Raises:
        ValueError: for an unknown name, or a size that is not positive.
        TypeError: for an option that the network does not have.

    >>> import flaxnets, jax.numpy as jnp
    >>> model = flaxnets.create_model("lenet")
    >>> model(jnp.zeros((2, 1, 28, 28))).shape
    (2, 10)
    """
    entry = get_entry(name)
    _check_options(entry, options)
    return entry.builder(rngs=nnx.Rngs(0) if rngs is None else rngs, **options)
