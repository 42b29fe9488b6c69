"""Checks of the arguments of optimizers and schedules."""

import functools
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import jax.numpy as jnp
from flax import nnx
from jax.core import Tracer

from flaxnets.optim.rules import Settings

F = TypeVar("F", bound=Callable[..., Any])


def learning_rate_first(function: F) -> F:
    """Refuse parameters as the first argument, as in torch, with an error that contains the corrected call."""

    @functools.wraps(function)
    def checked(*args: Any, **options: Any) -> Any:
        positional = bool(args) and holds_parameters(args[0])
        if positional or "params" in options:
            parameters = args[0] if positional else options["params"]
            settings = {name: value for name, value in options.items() if name not in ("params", *_TORCHS_ARGUMENTS)}
            call = f"optim.{function.__name__}({written(args[positional:], settings)})"
            several = isinstance(parameters, Sequence) and any(isinstance(each, Mapping) for each in parameters)
            raise TypeError(
                f"{function.__name__}: an optimizer has no parameters, got {type(parameters).__name__}. Expected the "
                f"learning rate first; init gets the parameters. Fix: optimizer = {call}; opt_state = "
                "optimizer.init(nnx.state(model, nnx.Param))"
                + (". Settings of some parameters: groups={'*bias': {'weight_decay': 0.0}}" if several else "")
            )
        return function(*args, **options)

    return cast(F, checked)


# Arguments of torch that select an implementation, which is the compiler's choice here.
_TORCHS_ARGUMENTS = ("foreach", "fused", "capturable", "differentiable")


def holds_parameters(value: Any) -> bool:
    """Return whether the value is a model, a parameter, or a collection of these."""
    if isinstance(value, (nnx.Module, nnx.Variable)) or hasattr(value, "parameters"):
        return True
    if getattr(value, "__name__", None) in ("parameters", "named_parameters"):  # bound methods, passed without a call
        return True
    return isinstance(value, Iterable) and not isinstance(value, str) and not hasattr(value, "shape")


def written(args: Iterable[Any], options: Mapping[str, Any]) -> str:
    """Return the source text of a call's arguments."""
    return ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in options.items())])


# Smallest and largest value of each setting. The largest value itself is only allowed if infinite.
_RANGES = {
    "lr": (0, jnp.inf), "momentum": (0, jnp.inf), "weight_decay": (0, jnp.inf), "eps": (0, jnp.inf),
    "betas": (0, 1), "rho": (0, 1), "alpha": (0, jnp.inf), "lr_decay": (0, jnp.inf), "momentum_decay": (0, jnp.inf),
    "initial_accumulator_value": (0, jnp.inf),
}  # fmt: skip

_PAIRS = ("betas", "etas", "step_sizes")
_FLAGS = ("nesterov", "maximize", "amsgrad", "centered", "decoupled_weight_decay")


def check_settings(where: str, settings: Settings) -> dict[str, Any]:
    """Return the settings as numbers, or pairs of numbers."""
    checked = {name: value if name in _FLAGS else _setting(where, name, value) for name, value in settings.items()}
    for name, value in checked.items():
        low, high = _RANGES.get(name, (-jnp.inf, jnp.inf))
        for number in value if name in _PAIRS else (value,):
            if name in _FLAGS or callable(number) or isinstance(number, Tracer):
                continue
            if not (low <= number < high or number == high == jnp.inf):
                raise ValueError(f"{where}: {name} must be at least {low} and below {high}, got {value}")
    if checked.get("nesterov") and (not checked["momentum"] or checked["dampening"]):
        raise ValueError(f"{where}: nesterov requires a momentum and zero dampening, got {checked}")
    if "etas" in checked and not 0 < checked["etas"][0] < 1 < checked["etas"][1]:
        raise ValueError(f"{where}: etas must be below and above 1, got {checked['etas']}")
    return checked


def _setting(where: str, name: str, value: Any) -> Any:
    if name == "lr" and callable(value) and not holds_parameters(value):
        return value
    if name not in _PAIRS:
        return as_number(where, name, value)
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{where}: {name} must be two numbers, got {value!r}")
    return tuple(as_number(where, name, number) for number in value)


def as_number(where: str, name: str, value: Any) -> Any:
    """Return a number unchanged, or the number in an array or tensor of one element.

    Raises:
        TypeError: for a non-numeric value.
        ValueError: for an array of several elements.
    """
    if isinstance(value, numbers.Real):
        return value
    if not hasattr(value, "shape") or isinstance(value, nnx.Variable):
        raise TypeError(f"{where}: {name} must be a number, got {value!r}")
    if math.prod(value.shape) != 1:
        raise ValueError(f"{where}: {name} must be one number, got an array of shape {tuple(value.shape)}")
    return value.item() if hasattr(value, "detach") else value.reshape(())
