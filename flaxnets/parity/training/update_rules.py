"""The update rules of ``torch.optim`` in numpy, with a switch for each difference in other libraries.

All rules act elementwise on one flat vector of all parameters. So :class:`Updater` recomputes all updates of an
optimizer in milliseconds, from recorded gradients and without the model.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from flaxnets.parity._torch import torch

Settings = Mapping[str, Any]
Slots = dict[str, Any]

# The supported optimizers of torch, and the settings that their rules read. Adam includes AdamW. Lion does not exist in
# torch; its rule only recognizes a Flax optimizer that is Lion by mistake.
_SETTINGS = {
    "SGD": ("momentum", "dampening", "nesterov"),
    "Adam": ("beta1", "beta2", "eps", "amsgrad"),
    "RMSprop": ("alpha", "eps", "momentum", "centered"),
    "Adagrad": ("eps", "lr_decay", "initial_accumulator_value"),
    "Adadelta": ("rho", "eps"),
    "Adamax": ("beta1", "beta2", "eps"),
    "NAdam": ("beta1", "beta2", "eps", "momentum_decay"),
    "RAdam": ("beta1", "beta2", "eps"),
}

# The values of all switches in torch. The comments list the other values.
_SWITCHES: Settings = {
    "decay": "coupled",  # "decoupled", "unscaled" (no learning rate) or "first rate" (learning rate of the first step).
    "maximize": False,
    "reversed": False,  # Whether to add the update instead of subtracting it.
    "frozen": False,
    "gradient_scale": 1.0,
    "accumulated": False,  # Whether to sum the gradients of all steps.
    "every": 1,  # Number of steps whose gradients are averaged for one update.
    "every_in": np.float64,  # Dtype of this average.
    "clip": "torch",  # "none", "norm", "torch norm", "norm with decay", "value", "update norm" or "update value".
    "clip_at": 1.0,
    "update_average": 0.0,
    "eps_place": "outside",  # "inside" the square root, or "uncorrected" (before the bias correction).
    "eps_root": 0.0,
    "correct1": True,
    "correct2": True,
    "lean": "none",  # Variants of Adam: "nesterov" or "belief".
    "first": "gradient",  # The first value of the momentum buffer, or "dampened".
    "rate_inside": False,  # Whether momentum sums steps instead of gradients.
    "initial": 0.0,  # The first value of RMSprop's average.
    "nesterov": False,
    "amsgrad": False,
    "centered": False,
    "momentum": 0.0,
    "dampening": 0.0,
    "lr_decay": 0.0,
    "initial_accumulator_value": 0.0,
    "momentum_decay": 4e-3,
}

# The settings of an optimizer that was used by mistake: its usual defaults.
_DEFAULTS: dict[str, Settings] = {
    "SGD": {},
    "Adam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "RMSprop": {"alpha": 0.9, "eps": 1e-8},
    "Adagrad": {"eps": 1e-7, "initial_accumulator_value": 0.1, "eps_place": "inside"},
    "Adadelta": {"rho": 0.9, "eps": 1e-6},
    "Adamax": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "NAdam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "RAdam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "Lion": {"beta1": 0.9, "beta2": 0.99},
}

# Settings that are independent of the update rule, and stay when one optimizer is replaced by another.
_CARRIED = ("lr", "next_lr", "weight_decay", "decay", "maximize", "frozen", "clip", "torch_clip")


def kind_of(optimizer: torch.optim.Optimizer) -> str | None:
    """Return the name of a torch optimizer's update rule, None for an unknown optimizer.

    >>> kind_of(torch.optim.AdamW([torch.zeros(1, requires_grad=True)]))
    'Adam'
    """
    for name in _SETTINGS:
        if type(optimizer) in (getattr(torch.optim, name), getattr(torch.optim, f"{name}W", None)):
            return name
    return None


def settings_of(kind: str, group: Settings) -> dict[str, Any]:
    """Return the settings of a torch parameter group, and all switches with torch's values.

    >>> settings_of("SGD", {"lr": 0.1, "momentum": 0, "dampening": 0.5, "weight_decay": 0})["dampening"]
    0.0
    """
    group_settings = dict(group)
    if "betas" in group_settings:
        group_settings["beta1"], group_settings["beta2"] = map(float, group_settings["betas"])
    decay = float(group_settings.get("weight_decay", 0.0))
    settings = dict(_SWITCHES) | {"lr": float(group_settings["lr"]), "weight_decay": decay}
    settings["maximize"] = bool(group_settings.get("maximize", False))
    settings["decay"] = "decoupled" if group_settings.get("decoupled_weight_decay") else "coupled"
    for name in _SETTINGS[kind]:
        value = group_settings.get(name, settings.get(name, 0.0))
        settings[name] = value if isinstance(value, bool) else float(value)
    if kind == "SGD" and not settings["momentum"]:
        settings["dampening"] = 0.0  # Without momentum, torch has no buffer and ignores the dampening.
    if kind == "RAdam":
        settings["eps_place"] = "uncorrected"
    return settings


def settings_like(kind: str, settings: Settings) -> dict[str, Any]:
    """Return another optimizer's default settings, with the learning rate, weight decay and betas of ``settings``."""
    defaults = dict(_SWITCHES) | dict(_DEFAULTS[kind])
    betas = [name for name in ("beta1", "beta2") if name in defaults]
    return defaults | {key: settings[key] for key in (*_CARRIED, *betas) if key in settings}


def own_settings(kind: str) -> tuple[str, ...]:
    """Return the names of a torch optimizer's settings, without learning rate and weight decay."""
    return _SETTINGS.get(kind, ())


def _root(square: Any, correction: Any, h: Settings) -> Any:
    """Return the divisor of a step: the root of the averaged squares, with eps at one of three positions."""
    if h["eps_place"] == "uncorrected":
        return (np.sqrt(square) + h["eps"]) / np.sqrt(correction)
    if h["eps_place"] == "inside":
        return np.sqrt(square / correction + h["eps"])
    return np.sqrt(square / correction + h["eps_root"]) + h["eps"]


def _corrections(t: Any, h: Settings) -> tuple[Any, Any]:
    one = 1 - h["beta1"] ** t if h["correct1"] else 1.0
    return one, 1 - h["beta2"] ** t if h["correct2"] else 1.0


def _averages(g: Any, s: Slots, h: Settings) -> tuple[Any, Any]:
    mean = h["beta1"] * s.get("mean", 0.0) + (1 - h["beta1"]) * g
    is_belief = h["lean"] == "belief"
    square = h["beta2"] * s.get("square", 0.0) + (1 - h["beta2"]) * (g - mean if is_belief else g) ** 2
    return mean, square + 1e-16 if is_belief else square  # AdaBelief's eps_root


def _sgd(g: Any, s: Slots, t: Any, h: Settings) -> tuple[Any, Slots]:
    rate, momentum = h["lr"], h["momentum"]
    if not np.any(momentum):
        return rate * g, {}
    scaled = rate * g if h["rate_inside"] else g
    damped = (1 - h["dampening"]) * scaled
    later = momentum * s.get("buffer", 0.0) + damped
    buffer = later if h["first"] == "dampened" else np.where(t <= 1, scaled, later)
    step = np.where(h["nesterov"], scaled + momentum * buffer, buffer)
    return step if h["rate_inside"] else rate * step, {"buffer": buffer}


def _adam(g: Any, s: Slots, t: Any, h: Settings) -> tuple[Any, Slots]:
    mean, square = _averages(g, s, h)
    one, two = _corrections(t, h)
    new, used = {"mean": mean, "square": square}, square
    if h["amsgrad"] == "corrected":
        new["largest"] = np.maximum(s.get("largest", 0.0), square / two)
        used = new["largest"] * two
    elif np.any(h["amsgrad"]):
        new["largest"] = np.maximum(s.get("largest", 0.0), square)
        used = np.where(h["amsgrad"], new["largest"], square)
    ahead = mean / one
    if h["lean"] == "nesterov":
        ahead = h["beta1"] * mean / (1 - h["beta1"] ** (t + 1)) + (1 - h["beta1"]) * g / one
    return h["lr"] * ahead / _root(used, two, h), new


def _rmsprop(g: Any, s: Slots, t: Any, h: Settings) -> tuple[Any, Slots]:
    alpha, momentum = h["alpha"], h["momentum"]
    square = alpha * s.get("square", h["initial"]) + (1 - alpha) * g * g
    mean = alpha * s.get("mean", 0.0) + (1 - alpha) * g
    new = {"square": square, "mean": mean}
    correction = 1 - alpha**t if h["correct2"] == "always" else 1.0
    variance = np.where(h["centered"], square - correction * (mean / correction) ** 2, square)
    step = g / _root(variance, correction, h)
    if np.any(momentum):
        step = h["lr"] * step if h["rate_inside"] else step
        new["buffer"] = momentum * s.get("buffer", 0.0) + step
        step = np.where(h["nesterov"], step + momentum * new["buffer"], new["buffer"])
        return step if h["rate_inside"] else h["lr"] * step, new
    return h["lr"] * step, new


def _adagrad(g: Any, s: Slots, t: Any, h: Settings) -> tuple[Any, Slots]:
    total = s.get("sum", h["initial_accumulator_value"]) + g * g
    return h["lr"] / (1 + (t - 1) * h["lr_decay"]) * g / _root(total, 1.0, h), {"sum": total}


def _adadelta(g: Any, s: Slots, t: Any, h: Settings) -> tuple[Any, Slots]:
    rho, eps = h["rho"], h["eps"]
    square = rho * s.get("square", 0.0) + (1 - rho) * g * g
    delta = np.sqrt(s.get("delta", 0.0) + eps) / np.sqrt(square + eps) * g
    return h["lr"] * delta, {"square": square, "delta": rho * s.get("delta", 0.0) + (1 - rho) * delta * delta}


def _adamax(g: Any, s: Slots, t: Any, h: Settings) -> tuple[Any, Slots]:
    mean = h["beta1"] * s.get("mean", 0.0) + (1 - h["beta1"]) * g
    inside = h["eps_place"] == "outside"  # Torch adds eps inside the maximum.
    largest = np.maximum(h["beta2"] * s.get("largest", 0.0), np.abs(g) + (h["eps"] if inside else 0.0))
    divisor = largest if inside else largest + h["eps"]
    return h["lr"] * mean / _corrections(t, h)[0] / divisor, {"mean": mean, "largest": largest}


def _nadam(g: Any, s: Slots, t: Any, h: Settings) -> tuple[Any, Slots]:
    mean, square = _averages(g, s, h)
    now, later = (h["beta1"] * (1 - 0.5 * 0.96 ** (step * h["momentum_decay"])) for step in (t, t + 1))
    product = s.get("product", 1.0) * now
    ahead = (1 - now) / (1 - product) * g + later / (1 - product * later) * mean
    new = {"mean": mean, "square": square, "product": product}
    return h["lr"] * ahead / _root(square, _corrections(t, h)[1], h), new


def _radam(g: Any, s: Slots, t: Any, h: Settings) -> tuple[Any, Slots]:
    mean, square = _averages(g, s, h)
    one, two = _corrections(t, h)
    longest = 2 / (1 - h["beta2"]) - 1
    length = longest - 2 * t * h["beta2"] ** t / two
    safe = np.maximum(length, 5.0)
    rectified = np.sqrt((safe - 4) * (safe - 2) * longest / ((longest - 4) * (longest - 2) * safe))
    factor = np.where(length > 5.0, rectified / _root(square, two, h), 1.0)
    return h["lr"] * mean / one * factor, {"mean": mean, "square": square}


def _lion(g: Any, s: Slots, t: Any, h: Settings) -> tuple[Any, Slots]:
    old = s.get("mean", 0.0)
    ahead = np.sign(h["beta1"] * old + (1 - h["beta1"]) * g)
    return h["lr"] * ahead, {"mean": h["beta2"] * old + (1 - h["beta2"]) * g}


_RULES: dict[str, Callable[[Any, Slots, Any, Settings], tuple[Any, Slots]]] = {
    "SGD": _sgd, "Adam": _adam, "RMSprop": _rmsprop, "Adagrad": _adagrad, "Adadelta": _adadelta, "Adamax": _adamax,
    "NAdam": _nadam, "RAdam": _radam, "Lion": _lion,
}  # fmt: skip

KINDS = tuple(_RULES)


@dataclasses.dataclass
class Updater:
    """An optimizer that updates a flat vector of parameters.

    Attributes:
        kind: name of the update rule, from :data:`KINDS`.
        settings: the settings of each step; each value is a number, or an array with one number for each element.
        slots: the state of the rule between steps.
    """

    kind: str
    settings: Sequence[Settings]
    slots: Slots = dataclasses.field(default_factory=dict)

    def step(self, n: int, raw: np.ndarray, clipped: np.ndarray, p: np.ndarray, active: Any = True) -> np.ndarray:
        """Return the parameters after step ``n``, counted from 0.

        Args:
            n: number of the step.
            raw: the gradient.
            clipped: the gradient after the clipping of torch's loop.
            p: the parameters before the step.
            active: the elements that have a gradient; torch does not update other elements and their slots.
        """
        h = self.settings[n]
        g = clipped if h["clip"] == "torch" else raw
        g = np.where(h["maximize"], -g, g) * h["gradient_scale"]
        if h["clip"] in ("norm", "torch norm", "value"):
            g = _clip(g, h["clip"], h["clip_at"])
        g = g + np.where(np.asarray(h["decay"]) == "coupled", h["weight_decay"], 0.0) * p
        if h["clip"] == "norm with decay":
            g = _clip(g, "norm", h["clip_at"])
        active = np.logical_and(active, np.logical_not(h["frozen"]))
        if h["accumulated"]:
            g = self.slots["total"] = self.slots.get("total", 0.0) + g
        if h["every"] > 1:
            position = n % h["every"]
            average = self.slots.get("gathered", 0.0) if position else 0.0
            g = average + (g - average) / (position + 1)
            self.slots["gathered"] = g.astype(h["every_in"]).astype(np.float64)
            if position + 1 < h["every"]:
                return p
        t = self.slots["t"] = self.slots.get("t", 0) + active
        with np.errstate(all="ignore"):  # A bad guess of a number may overflow. Such a guess does not fit.
            step, new = _RULES[self.kind](g, self.slots, np.maximum(t, 1), h)
            step = step + self._decay(h) * p
        for name, value in new.items():
            self.slots[name] = value if np.all(active) else np.where(active, value, self.slots.get(name, 0.0))
        step = self._after(n, step, h)
        return p - np.where(active, np.where(h["reversed"], -step, step), 0.0)

    def _decay(self, h: Settings) -> Any:
        """Return the factor of a weight decay outside the gradient: the step contains factor * parameter."""
        kind = np.asarray(h["decay"])
        rate = np.where(kind == "decoupled", h["lr"], np.where(kind == "first rate", self.settings[0]["lr"], 1.0))
        return np.where(kind == "coupled", 0.0, rate * h["weight_decay"])

    def _after(self, n: int, step: Any, h: Settings) -> Any:
        if h["clip"].startswith("update"):
            step = _clip(step, h["clip"].split()[1], h["clip_at"])
        if np.any(h["update_average"]):
            decay = h["update_average"]
            average = self.slots["average"] = decay * self.slots.get("average", 0.0) + (1 - decay) * step
            step = average / (1 - decay ** (n + 1))
        return step


def _clip(g: np.ndarray, how: str, at: float) -> np.ndarray:
    if how == "value":
        return np.clip(g, -abs(at), abs(at))
    with np.errstate(all="ignore"):
        norm = np.sqrt(np.sum(g * g)) + (1e-6 if how == "torch norm" else 0.0)
        return g * np.minimum(1.0, np.divide(at, norm))
