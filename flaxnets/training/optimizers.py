"""Optimizers and learning-rate schedules by name."""

from typing import Any

import jax.numpy as jnp
import optax

from flaxnets import optim
from flaxnets.optim import lr_scheduler
from flaxnets.optim.named import OPTIMIZERS as OPTIMIZERS
from flaxnets.optim.schedules import SCHEDULES as SCHEDULES
from flaxnets.optim.schedules import register_schedule as register_schedule
from flaxnets.optim.transformation import Chain


def make_schedule(
    name: str, lr: float, total_steps: int, *, warmup_steps: int = 0, start: int = 0, **options: Any
) -> optax.Schedule:
    """Return a learning rate as a function of the number of steps taken.

    Args:
        name: a registered name. ``cosine`` and ``linear`` fall to 0, ``constant`` stays, ``step`` is multiplied by
            ``gamma`` every ``step_size`` steps, ``onecycle`` rises and falls.
        lr: the largest learning rate.
        total_steps: the length of the run.
        warmup_steps: the number of steps in which the rate rises from a hundredth at first. ``onecycle`` ignores it.
        start: the step with which the schedule begins, for a run that continues with another schedule.
        **options: options of the schedule: ``step_size`` (by default a third of the run) and ``gamma`` (0.1) of
            ``step``.

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
        rest = make_schedule(name, lr, total_steps - start, warmup_steps=warmup_steps, **options)
        return lambda step: rest(jnp.maximum(step - start, 0))
    named = SCHEDULES.find(name)
    if not 0 <= warmup_steps < max(total_steps, 1):
        raise ValueError(f"a warm-up must be shorter than the run of {total_steps} steps, got {warmup_steps}")
    if not warmup_steps or named.has_warmup:
        return named.make(lr, total_steps, **options)
    warmup = lr_scheduler.LinearLR(lr, 0.01, total_iters=warmup_steps)
    return lr_scheduler.SequentialLR([warmup, named.make(lr, total_steps - warmup_steps, **options)], [warmup_steps])


def make_optimizer(
    name: str, lr: float, total_steps: int, *, clip_norm: float | None = None, schedule: str = "cosine",
    warmup_steps: int = 0, start: int = 0, **options: Any,
) -> Any:  # fmt: skip
    """Return an optimizer with a learning-rate schedule.

    Args:
        name: a registered name, such as ``adamw``. ``sgd`` has the momentum 0.9 by default.
        lr: the largest learning rate.
        total_steps: the length of the run.
        clip_norm: Scale gradients down to this norm over all parameters; None for no clipping.
        schedule: as in :func:`make_schedule`.
        warmup_steps: as in :func:`make_schedule`.
        start: as in :func:`make_schedule`.
        **options: options of the optimizer.

    Returns:
        An ``optax.GradientTransformation``.

    Raises:
        ValueError: for an unknown name.

    >>> optimizer = make_optimizer("adamw", lr=1e-3, total_steps=100, weight_decay=0.05)
    >>> optimizer.settings["weight_decay"]
    0.05
    """
    named = OPTIMIZERS.find(name)
    rate = make_schedule(schedule, lr, total_steps, warmup_steps=warmup_steps, start=start)
    optimizer = named.make(rate, **{**named.defaults, **options})
    if clip_norm is None and isinstance(optimizer, optim.Optimizer):
        return optimizer
    clipping = () if clip_norm is None else (optim.clip_grad_norm(clip_norm),)
    return Chain((*clipping, optimizer), lr=rate)


def learning_rate(optimizer: Any, step: Any) -> Any:
    """Return the learning rate of an optimizer after ``step`` steps.

    Args:
        optimizer: an optimizer of :mod:`flaxnets.optim`, of :func:`make_optimizer`, or a :func:`flaxnets.optim.chain`.
        step: the number of steps taken.

    Returns:
        The rate for parameters of no group, or None for an optimizer without a readable rate, such as an
        ``optax.chain``.

    >>> learning_rate(optim.chain(optim.clip_grad_norm(1.0), optim.SGD(0.1)), step=3)
    0.1
    >>> optimizer = make_optimizer("adam", lr=0.1, total_steps=100, clip_norm=1.0)
    >>> round(float(learning_rate(optimizer, step=50)), 3)
    0.05
    """
    if isinstance(optimizer, Chain):
        if optimizer.lr is not None:
            return _at(optimizer.lr, step)
        rates = (learning_rate(part, step) for part in optimizer.parts)
        return next((rate for rate in rates if rate is not None), None)
    return _at(optimizer.settings["lr"], step) if isinstance(optimizer, optim.Optimizer) else None


def _at(lr: Any, step: Any) -> Any:
    return lr(step) if callable(lr) else lr
