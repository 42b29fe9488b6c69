"""Optimizers and schedules by name, for those who choose them by a word."""

from typing import Any

import jax.numpy as jnp
import optax

from flaxnets import optim
from flaxnets.optim import lr_scheduler
from flaxnets.registry import suggest

_BY_NAME = {
    name.lower(): getattr(optim, name)
    for name in (
        "SGD", "Adam", "AdamW", "Adagrad", "RMSprop", "Adadelta", "Adamax", "NAdam", "RAdam", "ASGD", "Rprop",
    )
}  # fmt: skip
OPTIMIZERS = tuple(_BY_NAME)
SCHEDULES = ("cosine", "constant", "linear", "step", "onecycle")


def make_schedule(
    name: str, lr: float, total_steps: int, *, warmup_steps: int = 0, start: int = 0, step_size: int | None = None,
    gamma: float = 0.1,
) -> optax.Schedule:  # fmt: skip
    """Returns a learning rate as a function of the number of steps.

    Args:
        name: ``cosine`` and ``linear`` fall to 0, ``constant`` stays, ``step`` is multiplied by ``gamma`` every
            ``step_size`` steps, ``onecycle`` rises and falls (and has a warm-up of its own).
        lr: the largest learning rate.
        total_steps: the length of the run.
        warmup_steps: in how many steps it rises from a hundredth first.
        start: the step with which the schedule begins, for a run that goes on with another one.
        step_size: of ``step``; a third of the run if not given.
        gamma: of ``step``.

    Raises:
        ValueError: for an unknown name, or a warm-up that is not shorter than the run.

    >>> schedule = make_schedule("cosine", 0.1, 100, warmup_steps=10)
    >>> [round(float(schedule(t)), 3) for t in (0, 10, 55, 100)]
    [0.001, 0.1, 0.05, 0.0]
    >>> schedule = make_schedule("cosine", 0.1, 100, start=50)
    >>> [round(float(schedule(t)), 3) for t in (50, 75, 100)]
    [0.1, 0.05, 0.0]
    """
    if start:
        rest = make_schedule(name, lr, total_steps - start, warmup_steps=warmup_steps, step_size=step_size, gamma=gamma)
        return lambda step: rest(jnp.maximum(step - start, 0))
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}; {suggest(name, list(SCHEDULES))}")
    if not 0 <= warmup_steps < max(total_steps, 1):
        raise ValueError(f"a warm-up must be shorter than the run of {total_steps} steps, got {warmup_steps}")
    if name == "onecycle":
        return lr_scheduler.OneCycleLR(lr, total_steps, cycle_momentum=False)
    rest = total_steps - warmup_steps
    schedule = {
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(lr, rest),
        "constant": lambda: lr_scheduler.LambdaLR(lr, jnp.ones_like),
        "linear": lambda: lr_scheduler.PolynomialLR(lr, rest),
        "step": lambda: lr_scheduler.StepLR(lr, step_size or max(rest // 3, 1), gamma),
    }[name]()
    if not warmup_steps:
        return schedule
    warmup = lr_scheduler.LinearLR(lr, 0.01, total_iters=warmup_steps)
    return lr_scheduler.SequentialLR([warmup, schedule], [warmup_steps])


def make_optimizer(
    name: str, lr: float, total_steps: int, *, clip_norm: float | None = None, schedule: str = "cosine",
    warmup_steps: int = 0, start: int = 0, **options: Any,
) -> optax.GradientTransformation:  # fmt: skip
    """Returns an optimizer by its name in small letters; ``sgd`` has momentum 0.9 if no other is given.

    Args:
        name: of :data:`OPTIMIZERS`.
        lr: the largest learning rate.
        total_steps: the length of the run.
        clip_norm: if given, gradients whose norm over all parameters is larger are scaled down to it.
        schedule: as :func:`make_schedule`.
        warmup_steps: as :func:`make_schedule`.
        start: as :func:`make_schedule`.
        **options: of the optimizer.

    Raises:
        ValueError: for an unknown name.

    >>> optimizer = make_optimizer("adamw", lr=1e-3, total_steps=100, weight_decay=0.05)
    >>> optimizer.settings["weight_decay"]
    0.05
    """
    if name not in _BY_NAME:
        raise ValueError(f"unknown optimizer {name!r}; {suggest(name, list(OPTIMIZERS))}")
    if name == "sgd":
        options = {"momentum": 0.9, **options}
    rate = make_schedule(schedule, lr, total_steps, warmup_steps=warmup_steps, start=start)
    optimizer = _BY_NAME[name](rate, **options)
    return optimizer if clip_norm is None else optax.chain(optim.clip_grad_norm(clip_norm), optimizer)


def learning_rate(optimizer: optax.GradientTransformation, step: int) -> float | None:
    """Return the learning rate of an update; None if the optimizer does not tell.

    Args:
        optimizer: One of :mod:`flaxnets.optim`, also with clipping as :func:`make_optimizer` adds it.
        step: Number of updates before.

    >>> learning_rate(optim.SGD(lambda step: 0.1 * step), 2)
    0.2
    """
    if not isinstance(optimizer, optim.Optimizer):
        return None
    rate: Any = optimizer.settings["lr"]
    value: Any = rate(jnp.asarray(step)) if callable(rate) else rate
    return float(value)
