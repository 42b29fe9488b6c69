"""Learning-rate schedules of ``torch.optim.lr_scheduler`` as functions of the step count.

In torch, schedulers change an optimizer. Here a schedule gets the learning rate instead of the optimizer, and the
schedule is passed to an optimizer as its ``lr``. Non-numeric arguments raise TypeError. A step is whatever the
optimizer counts; multiply by the number of steps per epoch to schedule by epochs.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from flaxnets.optim.arguments import as_number, written
from flaxnets.optim.transformation import Optimizer

F = TypeVar("F", bound=Callable[..., Any])


_STATE = "a schedule is a function of the step count, which the optimizer stores. Fix: save opt_state"

# Attributes of torch's schedulers, with their replacements.
_TORCHS_ATTRIBUTES = {
    "step": "the optimizer counts the steps. Fix: remove the line, and pass the schedule to the optimizer, for example "
    "optim.SGD(schedule)",
    "get_last_lr": "a schedule is a function of the step count. Fix: schedule(step)",
    "get_lr": "a schedule is a function of the step count. Fix: schedule(step)",
    "last_epoch": "the optimizer counts the steps. Fix: opt_state.step",
    "optimizer": "a schedule has no optimizer; an optimizer has a schedule. Fix: optim.SGD(schedule)",
    "base_lrs": "a schedule is a function of the step count. Fix: schedule(0)",
    "state_dict": _STATE,
    "load_state_dict": _STATE,
}


class Schedule:
    """Learning rate as a function of the number of steps.

    Args:
        name: name of the class in ``torch.optim.lr_scheduler``.
        function: function from the number of steps to the learning rate.

    >>> float(Schedule("Constant", lambda count: 0.1)(3))
    0.1
    """

    def __init__(self, name: str, function: optax.Schedule):
        self.name, self._function = name, function

    def __call__(self, count: ArrayLike) -> Any:
        """Return the learning rate after ``count`` steps."""
        return self._function(count)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        if name in _TORCHS_ATTRIBUTES:
            owner = vars(self).get("name", type(self).__name__)
            raise AttributeError(f"{owner} has no {name}: {_TORCHS_ATTRIBUTES[name]}", name=name, obj=self)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)


def _checked(function: F) -> F:
    """Refuse an optimizer as the first argument, as in torch, and non-numeric arguments."""
    name, signature = function.__qualname__.split(".")[0], inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: Any, **options: Any) -> Any:
        _refuse_optimizer(name, signature, args[function.__name__ == "__init__" :], options)
        bound = signature.bind(*args, **options)
        for key, value in bound.arguments.items():
            annotation = signature.parameters[key].annotation
            if annotation in (float, int) or (annotation == int | None and value is not None):
                bound.arguments[key] = as_number(name, key, value)
            elif annotation == Iterable[int]:
                bound.arguments[key] = [as_number(name, key, number) for number in _iterable(name, key, value)]
        return function(*bound.args, **bound.kwargs)

    return cast(F, checked)


def _iterable(name: str, key: str, value: Any) -> Iterable[Any]:
    if isinstance(value, Iterable) and not isinstance(value, str):
        return value
    raise TypeError(f"{name}: {key} must be several ints, got {value!r}")


def _refuse_optimizer(name: str, signature: inspect.Signature, args: tuple, options: dict[str, Any]) -> None:
    optimizer = options.get("optimizer", args[0] if args else None)
    if not (hasattr(optimizer, "update") or hasattr(optimizer, "param_groups")):
        return
    ours = isinstance(optimizer, Optimizer)
    lr = optimizer.settings["lr"] if ours and not callable(optimizer.settings["lr"]) else 0.1
    rest = [*([lr] if "lr" in signature.parameters else []), *(each for each in args if each is not optimizer)]
    keywords = {key: value for key, value in options.items() if key != "optimizer"}
    raise TypeError(
        f"{name}: a schedule has no optimizer, got {type(optimizer).__name__}. Expected the learning rate first. Fix: "
        f"schedule = lr_scheduler.{name}({written(rest, keywords)}); optimizer = "
        f"optim.{optimizer.name if ours else 'SGD'}(schedule)"
    )


def _schedule(function: F) -> F:
    """Wrap a function to check its arguments and return a :class:`Schedule`."""
    checked = _checked(function)

    @functools.wraps(function)
    def make(*args: Any, **options: Any) -> Schedule:
        return Schedule(function.__name__, checked(*args, **options))

    return cast(F, make)


@_schedule
def StepLR(lr: float, step_size: int, gamma: float = 0.1) -> optax.Schedule:
    """Multiply the learning rate by ``gamma`` every ``step_size`` steps.

    >>> [round(float(StepLR(1.0, step_size=2)(t)), 3) for t in range(5)]
    [1.0, 1.0, 0.1, 0.1, 0.01]
    """
    return optax.exponential_decay(lr, step_size, gamma, staircase=True)


@_schedule
def MultiStepLR(lr: float, milestones: Iterable[int], gamma: float = 0.1) -> optax.Schedule:
    """Multiply the learning rate by ``gamma`` at every milestone; a repeated milestone counts repeatedly.

    >>> [round(float(MultiStepLR(1.0, milestones=[1, 3])(t)), 3) for t in range(5)]
    [1.0, 0.1, 0.1, 0.01, 0.01]
    """
    sorted_milestones = np.sort(np.asarray(milestones, np.int64))
    return lambda count: lr * jnp.power(gamma, jnp.searchsorted(sorted_milestones, count, side="right"))


@_schedule
def ExponentialLR(lr: float, gamma: float) -> optax.Schedule:
    """Multiply the learning rate by ``gamma`` every step.

    >>> [float(ExponentialLR(1.0, gamma=0.5)(t)) for t in range(3)]
    [1.0, 0.5, 0.25]
    """
    return optax.exponential_decay(lr, 1, gamma)


@_schedule
def CosineAnnealingLR(lr: float, T_max: int, eta_min: float = 0.0) -> optax.Schedule:
    """Anneal from ``lr`` to ``eta_min`` in ``T_max`` steps along a cosine, and back up afterwards.

    See "SGDR" (arXiv:1608.03983).

    >>> [round(float(CosineAnnealingLR(1.0, T_max=4)(t)), 3) for t in (0, 2, 4, 8)]
    [1.0, 0.5, 0.0, 1.0]
    """
    return lambda count: _cosine(lr, eta_min, jnp.asarray(count) / T_max)


@_schedule
def CosineAnnealingWarmRestarts(lr: float, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> optax.Schedule:
    """Anneal from ``lr`` to ``eta_min`` along a cosine and restart; each cycle is ``T_mult`` times as long.

    Raises:
        ValueError: if ``T_0`` or ``T_mult`` is not a positive int.

    See "SGDR" (arXiv:1608.03983).

    >>> [round(float(CosineAnnealingWarmRestarts(1.0, T_0=2, T_mult=2)(t)), 3) for t in (0, 1, 2, 4, 6)]
    [1.0, 0.5, 1.0, 0.5, 1.0]
    """
    for name, value in (("T_0", T_0), ("T_mult", T_mult)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"CosineAnnealingWarmRestarts: {name} must be an int of at least 1, got {value}")
    if T_mult == 1:
        return lambda count: _cosine(lr, eta_min, (jnp.asarray(count) % T_0) / T_0)
    starts = [0]
    while starts[-1] < 2**31 - 1:
        starts.append(starts[-1] + T_0 * T_mult ** (len(starts) - 1))
    begins = np.minimum(starts, 2**31 - 1)

    def schedule(count: ArrayLike) -> jax.Array:
        cycle = jnp.searchsorted(begins, count, side="right") - 1
        start, length = jnp.asarray(begins)[cycle], jnp.diff(jnp.asarray(begins))[cycle]
        return _cosine(lr, eta_min, (count - start) / length)

    return schedule


@_schedule
def LinearLR(lr: float, start_factor: float = 1.0 / 3, end_factor: float = 1.0, total_iters: int = 5) -> optax.Schedule:
    """Change linearly from ``lr * start_factor`` to ``lr * end_factor`` in ``total_iters`` steps.

    Raises:
        ValueError: for factors that torch rejects.

    >>> [round(float(LinearLR(1.0, start_factor=0.5, total_iters=2)(t)), 3) for t in range(4)]
    [0.5, 0.75, 1.0, 1.0]
    """
    if not 0 < start_factor <= 1:
        raise ValueError(f"LinearLR: start_factor must be above 0 and at most 1, got {start_factor}")
    if not 0 <= end_factor <= 1:
        raise ValueError(f"LinearLR: end_factor must be between 0 and 1, got {end_factor}")
    return optax.linear_schedule(lr * start_factor, lr * end_factor, total_iters)


@_schedule
def PolynomialLR(lr: float, total_iters: int = 5, power: float = 1.0) -> optax.Schedule:
    """Decay to 0 in ``total_iters`` steps, as a power of the remaining steps.

    >>> [float(PolynomialLR(1.0, total_iters=2, power=2.0)(t)) for t in range(4)]
    [1.0, 0.25, 0.0, 0.0]
    """
    return optax.polynomial_schedule(lr, 0.0, power, total_iters)


@_schedule
def LambdaLR(lr: float, lr_lambda: Callable[[jax.Array], ArrayLike]) -> optax.Schedule:
    """Multiply the learning rate by a function of the step count; JAX traces the function.

    >>> float(LambdaLR(1.0, lambda t: 1 / (1 + t))(3))
    0.25
    """
    if not callable(lr_lambda):
        raise TypeError(f"LambdaLR: lr_lambda must be a function of the number of steps, got {lr_lambda!r}")
    return lambda count: lr * jnp.asarray(lr_lambda(jnp.asarray(count)))


@_schedule
def SequentialLR(schedulers: Sequence[optax.Schedule], milestones: Iterable[int]) -> optax.Schedule:
    """Run schedules in sequence; each schedule starts at its milestone with step 0.

    Raises:
        ValueError: unless there is one milestone less than schedules.

    >>> warm = SequentialLR([LinearLR(1.0, 0.5, total_iters=2), ExponentialLR(1.0, 0.5)], milestones=[2])
    >>> [round(float(warm(t)), 3) for t in range(5)]
    [0.5, 0.75, 1.0, 0.5, 0.25]
    """
    milestones = list(milestones)
    for schedule in schedulers:
        if not callable(schedule):
            raise TypeError(f"SequentialLR: schedulers must be schedules, got {schedule!r}")
    if len(milestones) != len(schedulers) - 1:
        raise ValueError(
            f"SequentialLR: {len(schedulers)} schedules require {len(schedulers) - 1} milestones, got {milestones}"
        )
    return optax.join_schedules(schedulers, milestones)


@dataclasses.dataclass(frozen=True, init=False)
class OneCycleLR(Schedule):
    """One-cycle policy: rise from ``max_lr / div_factor`` to ``max_lr``, then fall; the momentum does the opposite.

    An optimizer with this schedule as its ``lr`` reads its momentum, or its first beta, from :meth:`momentum`.

    Args:
        max_lr: the largest learning rate.
        total_steps: length of the cycle. Default: ``epochs * steps_per_epoch``.
        epochs: number of epochs of the cycle.
        steps_per_epoch: number of steps per epoch.
        pct_start: fraction of the cycle in which the learning rate rises.
        anneal_strategy: ``"cos"`` or ``"linear"``.
        cycle_momentum: whether the momentum changes as well.
        base_momentum: the smallest momentum.
        max_momentum: the largest momentum.
        div_factor: ``max_lr`` divided by the first learning rate.
        final_div_factor: the first learning rate divided by the last.
        three_phase: whether to return to the first learning rate before the final decay.

    Raises:
        ValueError: for an empty cycle, or arguments that torch rejects.

    See "Super-convergence" (arXiv:1708.07120).

    >>> schedule = OneCycleLR(1.0, total_steps=10)
    >>> [round(float(schedule(t)), 4) for t in (0, 2, 9)], round(float(schedule.momentum(2)), 2)
    ([0.04, 1.0, 0.0], 0.85)
    """

    ends: tuple[float, ...]
    rates: tuple[float, ...]
    momenta: tuple[float, ...] | None
    anneal_strategy: str

    @_checked
    def __init__(
        self, max_lr: float, total_steps: int | None = None, epochs: int | None = None,
        steps_per_epoch: int | None = None, pct_start: float = 0.3, anneal_strategy: str = "cos",
        cycle_momentum: bool = True, base_momentum: float = 0.85, max_momentum: float = 0.95, div_factor: float = 25.0,
        final_div_factor: float = 1e4, three_phase: bool = False,
    ):  # fmt: skip
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError(
                    "OneCycleLR: expected total_steps, or both epochs and steps_per_epoch, got "
                    f"{total_steps=}, {epochs=} and {steps_per_epoch=}"
                )
            total_steps = epochs * steps_per_epoch
        if total_steps <= 0:
            raise ValueError(f"OneCycleLR: the cycle must have at least one step, got {total_steps}")
        if not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: pct_start must be between 0 and 1, got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"OneCycleLR: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
        first, rise = max_lr / div_factor, pct_start * total_steps
        ends, rates, momenta = [0.0, rise - 1], [first, max_lr], [max_momentum, base_momentum]
        if three_phase:
            ends, rates, momenta = [*ends, 2 * rise - 2], [*rates, first], [*momenta, max_momentum]
        object.__setattr__(self, "ends", (*ends, total_steps - 1.0))
        object.__setattr__(self, "rates", (*rates, first / final_div_factor))
        object.__setattr__(self, "momenta", (*momenta, max_momentum) if cycle_momentum else None)
        object.__setattr__(self, "anneal_strategy", anneal_strategy)

    def __call__(self, count: ArrayLike) -> jax.Array:
        """Return the learning rate after ``count`` steps."""
        return self._at(count, self.rates)

    @property
    def momentum(self) -> optax.Schedule | None:
        """The momentum as a schedule; None if the momentum is constant."""
        momenta = self.momenta
        return None if momenta is None else lambda count: self._at(count, momenta)

    def _at(self, count: ArrayLike, values: Sequence[float]) -> jax.Array:
        count = jnp.asarray(count)
        result = jnp.asarray(values[-1], jnp.result_type(float))
        phases = zip(self.ends, self.ends[1:], values, values[1:], strict=False)
        for begin, end, start, stop in reversed(list(phases)):
            done = (count - begin) / (end - begin) if end > begin else jnp.ones(())
            moved = _cosine(start, stop, done) if self.anneal_strategy == "cos" else start + (stop - start) * done
            result = jnp.where(count <= end, moved, result)
        return result


def _cosine(start: float, end: float, done: ArrayLike) -> jax.Array:
    return end + (start - end) * (1 + jnp.cos(math.pi * done)) / 2
