"""Learning-rate schedules by name."""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import jax.numpy as jnp
import optax

from flaxnets.optim import lr_scheduler
from flaxnets.registry import Registry, source_of

MakeSchedule = TypeVar("MakeSchedule", bound=Callable[..., optax.Schedule])


@dataclasses.dataclass(frozen=True)
class NamedSchedule:
    """A registered learning-rate schedule.

    Attributes:
        make: returns the schedule. Its first arguments are the largest learning rate and the number of steps.
        has_warmup: whether the schedule has a warm-up of its own.
    """

    make: Callable[..., optax.Schedule]
    has_warmup: bool


SCHEDULES = Registry[NamedSchedule]("schedule")


def register_schedule(name: str, *, has_warmup: bool = False) -> Callable[[MakeSchedule], MakeSchedule]:
    """Register a learning-rate schedule for :func:`flaxnets.training.make_schedule` and ``--schedule``.

    Args:
        name: the name.
        has_warmup: whether the schedule has a warm-up of its own, so that ``--warmup-steps`` adds none.

    Returns:
        A decorator for a function of the largest learning rate and the number of steps. It returns the learning rate
        as a function of the number of steps taken.

    Raises:
        ValueError: if the name is taken.

    >>> @register_schedule("inverse")
    ... def inverse(lr, total_steps):
    ...     return lambda step: lr / (1 + step)
    >>> SCHEDULES["inverse"].make(0.1, 100)(4)
    0.02
    >>> SCHEDULES.remove("inverse")
    """

    def decorate(make: MakeSchedule) -> MakeSchedule:
        SCHEDULES.add(name, NamedSchedule(make, has_warmup), source=source_of(make))
        return make

    return decorate


@register_schedule("cosine")
def _cosine(lr: float, total_steps: int) -> optax.Schedule:
    return lr_scheduler.CosineAnnealingLR(lr, total_steps)


@register_schedule("constant")
def _constant(lr: float, total_steps: int) -> optax.Schedule:
    return lr_scheduler.LambdaLR(lr, jnp.ones_like)


@register_schedule("linear")
def _linear(lr: float, total_steps: int) -> optax.Schedule:
    return lr_scheduler.PolynomialLR(lr, total_steps)


@register_schedule("step")
def _step(lr: float, total_steps: int, step_size: int | None = None, gamma: float = 0.1) -> optax.Schedule:
    return lr_scheduler.StepLR(lr, step_size or max(total_steps // 3, 1), gamma)


@register_schedule("onecycle", has_warmup=True)
def _onecycle(lr: float, total_steps: int) -> optax.Schedule:
    return lr_scheduler.OneCycleLR(lr, total_steps, cycle_momentum=False)
