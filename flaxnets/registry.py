"""The networks by name: :func:`register`, :func:`create_model`, :func:`list_models`."""

import dataclasses
import difflib
import fnmatch
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flax import nnx

Builder = TypeVar("Builder", bound=Callable[..., Any])

TASKS = ("classification", "language", "regression", "layer")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One registered network.

    Attributes:
        name: what :func:`create_model` knows it by.
        builder: makes the module; takes ``rngs`` and the network's own options by keyword.
        input_shape: the shape of one example, without the batch axis.
        task: one of :data:`TASKS`; a ``layer`` has nothing to train on.
        dataset: what ``train.py`` trains it on if nothing else is asked for.
        paper: where the network was described.
        recipe: defaults of ``train.py`` for this network (``epochs``, ``batch_size``, ``lr``, ``optimizer``, ``init``,
            ``clip_norm``, ``warmup_steps``), and ``train_input_shape`` where its examples have another shape than
            ``input_shape``.
    """

    name: str
    builder: Callable[..., nnx.Module]
    input_shape: tuple[int, ...]
    task: str
    dataset: str | None
    paper: str
    recipe: Mapping[str, Any]


_ENTRIES: dict[str, Entry] = {}


def register(
    *,
    input_shape: tuple[int, ...],
    task: str = "classification",
    dataset: str | None = None,
    paper: str = "",
    **recipe: Any,
) -> Callable[[Builder], Builder]:
    """Decorates a builder, a function or a class, so that :func:`create_model` finds it by its name.

    Arguments are the attributes of :class:`Entry`.

    Raises:
        ValueError: if the name is taken, or the task is none of :data:`TASKS`.

    >>> @register(input_shape=(4,))
    ... def registered_as_an_example(*, rngs):
    ...     return nnx.Linear(4, 1, rngs=rngs)
    >>> list_models("registered_*")
    ['registered_as_an_example']
    """
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; {suggest(task, list(TASKS))}")

    def decorate(builder: Builder) -> Builder:
        name = builder.__name__
        if name in _ENTRIES:
            taken = _ENTRIES[name].builder
            raise ValueError(
                f"the name {name!r} is already registered by {taken.__module__}.{taken.__qualname__}; "
                f"{builder.__module__}.{builder.__qualname__} needs another name"
            )
        _ENTRIES[name] = Entry(name, builder, input_shape, task, dataset, paper, recipe)
        return builder

    return decorate


def suggest(name: str, known: list[str]) -> str:
    """Words for an error message about a mistyped name: those it begins, and the near ones, or else all of them."""
    name = name.lower()
    begun = [candidate for candidate in known if len(name) > 2 and candidate.startswith(name)]
    near = [*begun, *(each for each in difflib.get_close_matches(name, known, n=3, cutoff=0.6) if each not in begun)][
        :3
    ]
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(known)}"


def get_entry(name: str) -> Entry:
    """Returns the entry of a registered network.

    Raises:
        ValueError: if there is none of that name; the message names the near ones.
    """
    if name not in _ENTRIES:
        raise ValueError(f"unknown network {name!r}; {suggest(name, list_models())}")
    return _ENTRIES[name]


def list_models(pattern: str = "*") -> list[str]:
    """Returns the sorted names of the registered networks that match a shell-style pattern.

    >>> import flaxnets
    >>> flaxnets.list_models("dense*")
    ['densenet']
    """
    return sorted(fnmatch.filter(_ENTRIES, pattern))


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
    """Builds a registered network.

    Args:
        name: one of :func:`list_models`.
        rngs: the source of the initial weights and of dropout; ``nnx.Rngs(0)`` if not given.
        **options: the network's own options, such as ``num_classes``.

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
