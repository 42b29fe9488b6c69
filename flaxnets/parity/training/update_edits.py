"""Known mistakes in optimizers: changes of torch's update rule and settings, and texts that describe the mistakes."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from flaxnets.parity.training.replay import Plan
from flaxnets.parity.training.update_rules import KINDS, Settings, own_settings, settings_like


@dataclasses.dataclass(frozen=True)
class Edit:
    """A mistake in an optimizer.

    Attributes:
        name: a short name.
        apply: a function from torch's plan and the number of the mistake to the plan with the mistake.
        text: a function from torch's plan and the number to a description, such as "Flax does this, torch that".
        starts: first guesses of the number, on the scale of the search; empty for a mistake without a number.
        value: a function from the scale of the search to the number.
        scale: the inverse function.
        whole: whether the mistake needs all elements of the parameters, for example for a norm.
        scoped: whether the mistake concerns single parameters, so that its text needs their names.
        combines: whether the mistake is also tried together with another mistake.
        fix: the fix; empty if the fix is to build the same optimizer as torch's.
    """

    name: str
    apply: Callable[[Plan, Any], Plan]
    text: Callable[[Plan, Any], str]
    starts: tuple[float, ...] = ()
    value: Callable[[float], float] = lambda z: z
    scale: Callable[[float], float] = lambda x: x
    whole: bool = False
    scoped: bool = False
    combines: bool = False
    fix: str = ""


def changed(plan: Plan, **values: Any) -> Plan:
    """Return the plan with some settings replaced at all steps."""
    kind, settings = plan
    return kind, [{**h, **values} for h in settings]


def shown(value: Any) -> str:
    """Format a setting as Python code; for an array, its distinct values.

    >>> shown(np.array([0.1, 0.1, 0.2])), shown(1e-08)
    ('0.1 or 0.2', '1e-08')
    """
    if isinstance(value, np.ndarray) and value.ndim:
        return " or ".join(dict.fromkeys(shown(each) for each in value.tolist()))
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _first(plan: Plan, key: str) -> Any:
    return plan[1][0][key]


# Switches: setting, its wrong value, name of the cause, what Flax does then, what torch does, and the update rules.
_SWITCHES: tuple[tuple[str, Any, str, str, str, str], ...] = (
    ("decay", "decoupled", "decoupled-weight-decay", "adds the weight decay to the update, as AdamW does",
     "adds it to the gradient, before the averages", "*"),
    ("decay", "coupled", "coupled-weight-decay", "adds the weight decay to the gradient, before the averages",
     "subtracts it from the weights directly, as AdamW does", "*"),
    ("decay", "unscaled", "weight-decay-without-learning-rate", "subtracts the weight decay from the weights without "
     "the factor of the learning rate", "multiplies it by the learning rate", "*"),
    ("decay", "first rate", "weight-decay-without-schedule", "multiplies the weight decay by the first learning rate "
     "at all steps", "multiplies it by the learning rate of the step", "*"),
    ("eps_place", "inside", "eps-inside-root", "adds eps inside the square root", "adds it outside", "Adam RMSprop "
     "Adagrad NAdam RAdam"),
    ("eps_place", "uncorrected", "eps-before-bias-correction", "adds eps to the root before the bias correction of "
     "the average of squares", "adds it after", "Adam NAdam"),
    ("eps_place", "outside", "eps-after-bias-correction", "adds eps to the root after the bias correction of the "
     "average of squares", "adds it before", "RAdam"),
    ("eps_place", "after", "eps-outside-maximum", "adds eps to the largest gradient", "adds eps to the gradient before "
     "the maximum", "Adamax"),
    ("lean", "nesterov", "nesterov", "uses Nesterov's variant of Adam", "does not", "Adam"),
    ("amsgrad", "corrected", "amsgrad-after-bias-correction", "computes AMSGrad's maximum after the bias correction",
     "computes it before", "Adam"),
    ("first", "dampened", "first-momentum-dampened", "also dampens the first gradient in the momentum",
     "starts the momentum with the undampened first gradient", "SGD"),
    ("rate_inside", True, "learning-rate-inside-momentum", "sums steps in the momentum, each with its own learning "
     "rate", "sums gradients and multiplies by the current learning rate", "SGD RMSprop"),
    ("correct2", "always", "bias-correction", "corrects the bias of the average of squares", "does not", "RMSprop"),
    ("maximize", None, "maximize", "{maximizes} the loss", "{minimizes} it", "*"),
    ("reversed", True, "update-sign", "adds the update to the weights", "subtracts it", "*"),
    ("accumulated", True, "gradients-accumulated", "sums the gradients of all steps", "clears them before each step",
     "*"),
    ("clip", "none", "clipping", "does not clip gradients", "does", "*"),
)  # fmt: skip

# Flags of torch that a mistake inverts: setting, name of the cause, meaning of the flag, and the update rules.
_FLAGS = (
    ("nesterov", "nesterov", "Nesterov momentum", "SGD RMSprop"),
    ("amsgrad", "amsgrad", "the largest average of squares so far (AMSGrad)", "Adam"),
    ("centered", "centered", "the variance instead of the mean square (centered)", "RMSprop"),
)

# Numbers: setting, name of the cause, the scale of the search, first guesses. The scale "rest" is for decay rates of
# averages: 1 - number, on a logarithmic scale.
_LOG, _LINEAR, _REST = "log", "linear", "rest"
_NUMBERS = {
    "weight_decay": ("weight-decay", _LINEAR, (0.0, 1e-4, 1e-2)),
    "momentum": ("momentum", _LINEAR, (0.0, 0.5, 0.9, 0.99)),
    "dampening": ("dampening", _LINEAR, (0.0, 0.5)),
    "beta1": ("betas", _REST, (0.9, 0.5, 0.99)),
    "beta2": ("betas", _REST, (0.999, 0.99, 0.9)),
    "alpha": ("decay-rate", _REST, (0.9, 0.99, 0.5)),
    "rho": ("decay-rate", _REST, (0.9, 0.95, 0.99)),
    "eps": ("eps", _LOG, (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)),
    "eps_root": ("eps-root", _LOG, (1e-12, 1e-8, 1e-6, 1e-4)),
    "initial_accumulator_value": ("initial-accumulator", _LINEAR, (0.0, 0.1)),
    "initial": ("initial-scale", _LINEAR, (1.0,)),
    "lr_decay": ("learning-rate-decay", _LINEAR, (0.0, 1e-2)),
    "momentum_decay": ("momentum-decay", _LINEAR, (4e-3, 0.0)),
    "gradient_scale": ("gradient-scale", _LINEAR, (1.0,)),
    "update_average": ("update-average", _REST, (0.9, 0.99)),
}
_SCALES: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    _LOG: (lambda z: float(np.exp(min(z, 50.0))), lambda x: float(np.log(x))),
    _LINEAR: (lambda z: z, lambda x: x),
    _REST: (lambda z: 1.0 - float(np.exp(min(z, 50.0))), lambda x: float(np.log(max(1.0 - x, 1e-15)))),
}
_WORDS = {
    "eps_root": "eps_root={}", "gradient_scale": "gradients multiplied by {}", "initial": "averages of squares that "
    "start at {}", "update_average": "updates averaged with decay {}",
}  # fmt: skip


def single_edits(plan: Plan) -> Iterator[Edit]:
    """Yield the mistakes that are a single change of torch's plan, the most likely mistakes first."""
    kind, settings = plan
    yield from _frozen()
    common = [*_schedules(settings), *_switches(kind, settings[0])]
    numbers = [_learning_rate(), *_numbers(kind)]
    yield from (dataclasses.replace(edit, combines=True) for edit in common)
    if len(_differing(kind, settings[0])) > 1:
        yield dataclasses.replace(_defaults(kind), combines=True)
    if settings[0]["torch_clip"][0] != "none":
        yield from _clips()
    yield from (dataclasses.replace(edit, combines=True) for edit in numbers)
    yield from (_number(key) for key in ("gradient_scale", "update_average"))
    if kind == "SGD" and np.any(settings[0]["momentum"]):
        yield _averaged()
    if settings[0]["torch_clip"][0] == "none":
        yield from _clips()
    for every, precision in itertools.product(range(2, len(settings)), (np.float64, np.float32)):
        words = f"Flax averages the gradients of {every} steps for one update, torch updates at every step"
        yield _static("gradient-accumulation", {"every": every, "every_in": precision}, words)
    yield from _other_kinds(kind, settings[0])
    if kind == "NAdam":
        yield Edit(
            "other-optimizer",
            lambda plan, _: ("Adam", [settings_like("Adam", h) | {"lean": "nesterov"} for h in plan[1]]),
            lambda plan, _: "Flax uses optax.nadam, which has no momentum_decay and another formula than torch's NAdam",
        )


def _frozen() -> Iterator[Edit]:
    frozen = _static("frozen-parameter", {"frozen": True}, "Flax does not train, torch trains")
    fix = "pass all parameters to the optimizer, and set requires_grad=False for none of them"
    yield dataclasses.replace(frozen, scoped=True, fix=fix)
    words = "Flax trains, torch does not (frozen, without a gradient, or not in its optimizer)"
    fix = "flaxnets.nn.Parameter(..., requires_grad=False) for these, or optax.partition with optax.set_to_zero()"
    yield dataclasses.replace(_static("trained-parameter", {"frozen": False}, words), scoped=True, fix=fix)


def _static(name: str, values: Settings, words: str) -> Edit:
    return Edit(name, lambda plan, _: changed(plan, **values), lambda plan, _: words)


def _schedules(settings: Sequence[Settings]) -> Iterator[Edit]:
    rates = [h["lr"] for h in settings]
    ahead = [*rates[1:], settings[-1].get("next_lr", rates[-1])]
    if all(np.array_equal(rate, ahead[-1]) for rate in rates):
        return

    def edit(name: str, other: Sequence[Any], words: str) -> Edit:
        listed = f"{', '.join(map(shown, other[:4]))}, ... where torch has {', '.join(map(shown, rates[:4]))}, ..."
        return Edit(name, lambda plan, _: _with_rates(plan, other), lambda plan, _: f"{words}: {listed}")

    yield edit("schedule-off-by-one", ahead, "Flax's schedule is one step ahead of torch's")
    yield edit("schedule-off-by-one", [rates[0], *rates[:-1]], "Flax's schedule is one step behind torch's")
    yield edit("schedule-missing", [rates[0]] * len(rates), "Flax keeps the first learning rate")


def _with_rates(plan: Plan, rates: Sequence[Any]) -> Plan:
    kind, settings = plan
    return kind, [{**h, "lr": rate} for h, rate in zip(settings, rates, strict=True)]


def free_rates(rates: Sequence[float]) -> Edit:
    """Return the mistake of a different learning rate at each step."""

    def text(plan: Plan, _: Any) -> str:
        theirs = [h["lr"] for h in plan[1]]
        return (
            f"Flax's learning rates are {', '.join(shown(float(f'{r:.6g}')) for r in rates[:6])}, ..., torch's "
            f"{', '.join(map(shown, theirs[:6]))}, ..."
        )

    return Edit("schedule", lambda plan, _: _with_rates(plan, rates), text)


def _switches(kind: str, h: Settings) -> Iterator[Edit]:
    for key, value, name, flax, torchs, kinds in _SWITCHES:
        if (kinds != "*" and kind not in kinds.split()) or np.array_equal(h[key], value):
            continue
        new = np.logical_not(h[key]) if value is None else value
        ways = ("minimizes", "maximizes") if np.all(h["maximize"]) else ("maximizes", "minimizes")
        words = f"Flax {flax}, torch {torchs}".format(maximizes=ways[0], minimizes=ways[1])
        yield _static(name, {key: new}, words)
    for key, name, what, kinds in _FLAGS:
        if kind in kinds.split():
            has = bool(np.all(h[key]))
            yield _static(name, {key: not has}, f"{'torch' if has else 'Flax'} uses {what}, "
                          f"{'Flax' if has else 'torch'} does not")  # fmt: skip
    if "beta1" in own_settings(kind):
        swapped = {"beta1": h["beta2"], "beta2": h["beta1"]}
        text = f"Flax has beta1={shown(h['beta2'])} and beta2={shown(h['beta1'])}, torch the reverse"
        yield _static("betas-swapped", swapped, text)
    if kind == "Adam":
        belief = (
            "Flax averages the squared deviation from the mean gradient, as AdaBelief does, torch the squared gradient"
        )
        yield _static("other-optimizer", {"lean": "belief", "eps": 1e-16}, belief)
        off = {"correct1": False, "correct2": False}
        yield _static("bias-correction", off, "Flax does not correct the bias of the averages, torch does")
        for key, what in (("correct1", "gradients"), ("correct2", "squares")):
            words = f"Flax does not correct the bias of the average of {what}, torch does"
            yield _static("bias-correction", {key: False}, words)


def _learning_rate() -> Edit:
    def text(plan: Plan, factor: float) -> str:
        rates = [h["lr"] for h in plan[1]]
        if all(np.array_equal(rate, rates[0]) for rate in rates):
            text = f"Flax has learning rate {shown(factor * rates[0])}, torch {shown(rates[0])}"
            is_average = plan[0] == "SGD" and factor != 1 and np.allclose(factor, 1 - plan[1][0]["momentum"])
            return f"{text} (or averages gradients where torch's momentum sums them)" if is_average else text
        return f"Flax's learning rates are {shown(factor)} times torch's ({shown(rates[0])} at the first step)"

    def apply(plan: Plan, factor: float) -> Plan:
        return _with_rates(plan, [factor * h["lr"] for h in plan[1]])

    return Edit("learning-rate", apply, text, (1.0, 0.1, 10.0))


def _averaged() -> Edit:
    """Return the mistake of a momentum that is an average with bias correction, as in optax.ema."""
    value, back = _SCALES[_REST]
    words = "Flax averages the gradients with decay {} and corrects the bias of the average, torch's momentum sums them"

    def apply(plan: Plan, decay: float) -> Plan:
        return changed(plan, momentum=0.0, nesterov=False, update_average=decay)

    return Edit("momentum-averaged", apply, lambda plan, decay: words.format(shown(decay)), (back(0.9),), value, back)


def _numbers(kind: str) -> Iterator[Edit]:
    every = ("weight_decay", *own_settings(kind))
    extra = {"Adam": ("eps_root",), "NAdam": ("eps_root",), "RMSprop": ("initial",)}.get(kind, ())
    for key in (*every, *extra):
        if key in _NUMBERS:
            yield _number(key)


def _number(key: str) -> Edit:
    name, scale, guesses = _NUMBERS[key]
    value, back = _SCALES[scale]

    def text(plan: Plan, number: float) -> str:
        if key == "weight_decay" and number == 0:
            return f"Flax has no weight decay, torch weight_decay={shown(_first(plan, key))}"
        if key in _WORDS:
            return f"Flax has {_WORDS[key].format(shown(number))}, torch does not"
        return f"Flax has {key}={shown(number)}, torch {key}={shown(_first(plan, key))}"

    def apply(plan: Plan, number: float) -> Plan:
        return changed(plan, **{key: number})

    return Edit(name, apply, text, tuple(back(guess) for guess in guesses), value, back)


_CLIPS = {
    "norm": "clips the norm of all gradients at {}",
    "torch norm": "clips the norm of all gradients at {}",
    "norm with decay": "adds the weight decay to the gradients before clipping their norm at {}",
    "value": "clips each gradient at {}",
    "update norm": "clips the norm of the update at {}",
    "update value": "clips each update at {}",
}


def _clips() -> Iterator[Edit]:
    value, back = _SCALES[_LOG]
    for how, words in _CLIPS.items():
        starts = tuple(back(guess) for guess in (1e-4, 1e-3, 1e-2, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0))

        def apply(plan: Plan, at: float, how: str = how) -> Plan:
            return changed(plan, clip=how, clip_at=at)

        def text(plan: Plan, at: float, words: str = words) -> str:
            how, theirs = plan[1][0]["torch_clip"]
            if how == "norm" and words == _CLIPS["norm"] and abs(at - theirs) < 1e-7 * theirs:
                return (
                    f"Flax divides by the norm of all gradients to clip it at {shown(at)}, as "
                    "optax.clip_by_global_norm does; torch divides by the norm + 1e-6"
                )
            torchs = {"none": "does not", "otherwise": "clips in another way"}.get(how)
            torchs = torchs or _CLIPS[how].format(shown(theirs))
            return f"Flax {words.format(shown(at))}, torch {torchs}"

        yield Edit("clipping", apply, text, starts, value, back, whole=True)


def _defaults(kind: str) -> Edit:
    def apply(plan: Plan, _: Any) -> Plan:
        return kind, [{**h, **_optax_defaults(kind, h)} for h in plan[1]]

    def text(plan: Plan, _: Any) -> str:
        h = plan[1][0]
        sides = _optax_defaults(kind, h), h
        ours, theirs = (", ".join(_setting(key, side[key]) for key in _differing(kind, h)) for side in sides)
        return f"Flax has optax's defaults {ours}, torch {theirs}"

    return Edit("optax-defaults", apply, text)


def _differing(kind: str, h: Settings) -> list[str]:
    return [key for key, value in _optax_defaults(kind, h).items() if not np.array_equal(h[key], value)]


def _setting(key: str, value: Any) -> str:
    return f"eps {value} the root" if key == "eps_place" else f"{key}={shown(value)}"


def _optax_defaults(kind: str, h: Settings) -> dict[str, Any]:
    """Return the default settings of an optax optimizer."""
    special = {
        "RMSprop": {"alpha": 0.9, "eps": 1e-8, "eps_place": "inside", "centered": False, "momentum": 0.0},
        "Adagrad": {"initial_accumulator_value": 0.1, "eps": 1e-7, "eps_place": "inside", "lr_decay": 0.0},
        "Adam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "amsgrad": False},
        "SGD": {"momentum": 0.0, "nesterov": False},
    }.get(kind, {k: v for k, v in settings_like(kind, h).items() if k in own_settings(kind)})
    decoupled = kind == "Adam" and np.all(np.asarray(h["decay"]) == "decoupled")
    return {**special, "weight_decay": 1e-4 if decoupled else 0.0}


def _other_kinds(kind: str, h: Settings) -> Iterator[Edit]:
    for other, betas in itertools.product(KINDS, ("torch's", "usual")):
        usual = settings_like(other, {key: value for key, value in h.items() if not key.startswith("beta")})
        like = {key: usual[key] for key in ("beta1", "beta2") if key in usual} if betas == "usual" else {}
        if other == kind or (betas == "usual" and all(h.get(key, value) == value for key, value in like.items())):
            continue

        def apply(plan: Plan, factor: float, other: str = other, like: Settings = like) -> Plan:
            return other, [settings_like(other, h) | {"lr": factor * h["lr"], **like} for h in plan[1]]

        def text(plan: Plan, factor: float, other: str = other) -> str:
            rate = shown(factor * _first(plan, "lr"))
            return f"Flax uses {other} with learning rate {rate}, torch {kind} with {shown(_first(plan, 'lr'))}"

        yield Edit("other-optimizer", apply, text, (1.0, 0.1, 10.0))
