"""Optimizers by name."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import optax

from flaxnets.registry import Registry, source_of

F = TypeVar("F", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class NamedOptimizer:
    """A registered optimizer.

    Attributes:
        make: returns the optimizer. Its first argument is the learning rate.
        defaults: options of ``make`` for an optimizer that is chosen by its name.
    """

    make: Callable[..., optax.GradientTransformation]
    defaults: Mapping[str, Any]


OPTIMIZERS = Registry[NamedOptimizer]("optimizer")


def register_optimizer(name: str | None = None, **defaults: Any) -> Callable[[F], F]:
    """Register an optimizer for :func:`flaxnets.training.make_optimizer` and ``--optimizer``.

    Args:
        name: the name. The default is the name of the function in lower case.
        **defaults: options of the function for an optimizer that is chosen by its name.

    Returns:
        A decorator for a function. Its first argument is the learning rate, a number or a schedule, and it returns an
        optimizer of :mod:`flaxnets.optim` or optax.

    Raises:
        ValueError: if the name is taken.

    >>> @register_optimizer(weight_decay=0.01)
    ... def Lion(lr, weight_decay=0.0):
    ...     return optax.lion(lr, weight_decay=weight_decay)
    >>> OPTIMIZERS["lion"].defaults
    {'weight_decay': 0.01}
    >>> OPTIMIZERS.remove("lion")
    """

    def decorate(make: F) -> F:
        OPTIMIZERS.add(name or make.__name__.lower(), NamedOptimizer(make, defaults), source=source_of(make))
        return make

    return decorate
