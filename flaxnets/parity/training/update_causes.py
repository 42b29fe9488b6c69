"""Find the mistake in a Flax optimizer whose updates differ from torch's."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from flaxnets import optim
from flaxnets.parity._torch import torch
from flaxnets.parity.causes import Cause
from flaxnets.parity.training.replay import Plan, Recording, fit, flat, joined
from flaxnets.parity.training.runs import Arrays, Evidence, Step, TorchStep, Training, Variant
from flaxnets.parity.training.update_edits import Edit, free_rates, shown, single_edits
from flaxnets.parity.training.update_rules import Settings, Updater, kind_of, settings_of

_PROOFS = 3  # The largest number of candidates that are tried on the whole training.


@dataclasses.dataclass(frozen=True)
class _Explanation:
    """Mistakes that explain recorded updates, with their numbers and the parameters to which they apply."""

    edits: tuple[Edit, ...]
    numbers: tuple[float, ...]
    scope: tuple[str, ...] | None  # The names of the parameters in Flax; None for all parameters.

    def plan(self, plan: Plan) -> Plan:
        for edit, number in zip(self.edits, self.numbers, strict=True):
            plan = edit.apply(plan, number)
        return plan


def find_update_cause(evidence: Evidence) -> Cause | None:
    """Return the mistake in the optimizer with which torch repeats Flax's training; None if no known mistake does."""
    kind = kind_of(evidence.trainer.optimizer)
    if kind is None:
        return None
    recording = _flax_recording(evidence, kind)
    wrong = recording.errors(recording.plan) > 1
    if not wrong.any() or not _is_reproduced(evidence, kind):
        return None
    is_optax = not isinstance(evidence.training.optimizer, optim.Optimizer)
    for candidate in itertools.islice(_candidates(recording, wrong), _PROOFS):
        after = evidence.worst(_variant(evidence, kind, candidate))
        if after <= 1:
            return _cause(candidate, recording, is_optax, evidence.worst(None), after)
    return None


def _settings(evidence: Evidence, kind: str, sources: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Return, for each step, the settings of the parameters with the named torch tensors."""
    by_step = [evidence.trainer.settings, *(step.settings for step in evidence.expected)]
    default = next(group for group in by_step[0].values() if group)
    clip, result = _torch_clip(evidence.expected), []
    trained = {name for name in sources if by_step[0].get(name) and any(name in s.gradients for s in evidence.expected)}
    for before, after in itertools.pairwise(by_step):
        row = []
        for name in sources:
            next_settings = after.get(name) or default
            extra = {"frozen": name not in trained, "next_lr": float(next_settings["lr"]), "torch_clip": clip}
            row.append(settings_of(kind, before.get(name) or default) | extra)
        result.append(row)
    return result


def _torch_clip(steps: Sequence[TorchStep]) -> tuple[str, float]:
    """Return how torch's loop clips gradients ("none", "norm", "value" or "otherwise"), and its threshold."""
    for step in steps:
        names = list(step.gradients)
        g, c = flat(step.gradients, names), flat(step.clipped, names)
        if np.array_equal(g, c):
            continue
        norm, most = float(np.sqrt(g @ g)), float(np.abs(c).max())
        at = float(f"{np.sqrt(c @ c) * (norm + 1e-6) / norm:.9g}")
        if np.allclose(c, g * (at / (norm + 1e-6)), rtol=1e-8, atol=0):
            return "norm", at
        return ("value", most) if np.array_equal(c, np.clip(g, -most, most)) else ("otherwise", 0.0)
    return "none", 0.0


def _flax_recording(evidence: Evidence, kind: str) -> Recording:
    """Return the gradients and weights of Flax's training, in the form that torch's optimizer would receive."""
    training, (start, _) = evidence.training, evidence.start
    names = [name for name in training.names.parameters if training.names.sources(name)]
    sizes = [start[name].size for name in names]
    sources = [training.names.sources(name)[0] for name in names]
    # Flax has no gradients of its frozen parameters. The recording uses torch's gradients for these.
    merged = [theirs.step.gradients | ours.gradients for ours, theirs in _steps(evidence)]
    gradients = [{name: g.get(name, np.zeros_like(start[name])) for name in names} for g in merged]
    present = [[source in step.gradients for source in sources] for step in evidence.expected]
    clipped = [_clipped(training, g, p) for g, p in zip(gradients, present, strict=True)]
    return Recording(
        names,
        sizes,
        raw=[flat(g, names) for g in gradients],
        clipped=[flat(g, names) for g in clipped],
        values=[flat(each, names) for each in (start, *(step.parameters for step in evidence.found))],
        active=_active(present, sizes),
        plan=(kind, [joined(row, sizes) for row in _settings(evidence, kind, sources)]),
    )


def _steps(evidence: Evidence) -> Iterator[tuple[Step, TorchStep]]:
    return zip(evidence.found, evidence.expected, strict=True)


def _active(present: Sequence[Sequence[bool]], sizes: Sequence[int]) -> list[Any]:
    """Return, for each step, the elements with gradients.

    Parameters that never have a gradient are frozen. They count as active here, because ``frozen`` is a setting.
    """
    frozen = [not any(row[i] for row in present) for i in range(len(sizes))]
    result = []
    for row in present:
        is_active = [has or is_frozen for has, is_frozen in zip(row, frozen, strict=True)]
        result.append(True if all(is_active) else np.repeat(is_active, sizes))
    return result


def _clipped(training: Training, gradients: Arrays, present: Sequence[bool]) -> Arrays:
    if training.clip is None:
        return gradients
    parameters = {}
    for (name, gradient), has in zip(gradients.items(), present, strict=True):
        if has:
            parameters[name] = torch.nn.Parameter(torch.zeros(gradient.shape, dtype=torch.float64))
            parameters[name].grad = torch.from_numpy(np.array(gradient, np.float64))
    training.clip(list(parameters.values()))
    return gradients | {name: p.grad.numpy() for name, p in parameters.items()}


def _torch_recording(evidence: Evidence, kind: str) -> Recording:
    start, steps = evidence.trainer.start, evidence.expected
    names = list(start)
    sizes = [start[name].size for name in names]
    zeros = {name: np.zeros_like(value) for name, value in start.items()}
    present = [[name in step.gradients for name in names] for step in steps]
    return Recording(
        names,
        sizes,
        raw=[flat(zeros | step.gradients, names) for step in steps],
        clipped=[flat(zeros | step.clipped, names) for step in steps],
        values=[flat(values, names) for values in (start, *(step.values for step in steps))],
        active=_active(present, sizes),
        plan=(kind, [joined(row, sizes) for row in _settings(evidence, kind, names)]),
    )


def _is_reproduced(evidence: Evidence, kind: str) -> bool:
    """Return whether the unchanged rule reproduces torch's training: hooks and subclasses may change the updates."""
    recording = _torch_recording(evidence, kind)
    return bool(np.all(recording.errors(recording.plan) <= 1))


def _variant(evidence: Evidence, kind: str, explanation: _Explanation) -> Variant:
    """Return a training of torch whose optimizer makes the mistakes."""
    recording, names = _torch_recording(evidence, kind), evidence.training.names
    sources = None if explanation.scope is None else {s for name in explanation.scope for s in names.sources(name)}
    in_scope = np.repeat([sources is None or name in sources for name in recording.names], recording.sizes)

    def make() -> Callable[[int, Arrays, Arrays, Arrays], Arrays]:
        right, wrong = Updater(*recording.plan), Updater(*explanation.plan(recording.plan))

        def update(n: int, values: Arrays, raw: Arrays, clipped: Arrays) -> Arrays:
            zeros = {name: np.zeros_like(value) for name, value in values.items()}
            arguments = n, flat(zeros | raw, recording.names), flat(zeros | clipped, recording.names)
            before, active = flat(values, recording.names), recording.active[n]
            after = np.where(in_scope, wrong.step(*arguments, before, active), right.step(*arguments, before, active))
            parts = zip(recording.names, recording.split(after), strict=True)
            return {name: part.reshape(values[name].shape) for name, part in parts}

        return update

    def train(module: torch.nn.Module) -> None:
        for name, parameter in module.named_parameters():
            if sources is not None and name in sources:
                parameter.requires_grad_(True)

    return Variant(module=train, update=make)


def _candidates(recording: Recording, wrong: np.ndarray) -> Iterator[_Explanation]:
    small = recording.sampled()
    singles = list(single_edits(recording.plan))
    partial = []
    for edit in singles:
        explanation = _try(small, recording, wrong, (edit,))
        if explanation is not None and (explanation.scope is None or edit.scoped):
            yield explanation
        elif explanation is not None:
            partial.append(explanation)
    yield from partial
    rates = _rates(small, wrong)
    if rates is not None:
        explanation = _try(small, recording, wrong, (free_rates(rates),))
        if explanation is not None:
            yield explanation
    combining = sorted((edit for edit in singles if edit.combines), key=lambda edit: not edit.starts)
    for pair in itertools.combinations(combining, 2):
        if explanation := _try(small, recording, wrong, pair):
            yield explanation


def _try(small: Recording, full: Recording, wrong: np.ndarray, edits: tuple[Edit, ...]) -> _Explanation | None:
    """Return the explanation if these mistakes explain the updates of all wrong parameters, otherwise None."""
    recording = full if any(edit.whole for edit in edits) else small
    numbers = _numbers(recording, wrong, edits)
    if numbers is None:
        return None
    explanation = _Explanation(edits, numbers, None)
    errors = full.errors(explanation.plan(full.plan))
    if not np.all(errors[wrong] <= 1):
        return None
    grouped = not wrong.all() and any(isinstance(value, np.ndarray) for value in full.plan[1][0].values())
    if np.all(errors <= 1) and not grouped and not any(edit.scoped for edit in edits):
        return explanation
    return dataclasses.replace(explanation, scope=tuple(n for n, w in zip(full.names, wrong, strict=True) if w))


def _numbers(recording: Recording, wrong: np.ndarray, edits: tuple[Edit, ...]) -> tuple[float, ...] | None:
    """Return the numbers of the mistakes that fit the wrong parameters, with few digits; None if no numbers fit."""
    free = [i for i, edit in enumerate(edits) if edit.starts]
    is_wrong = np.repeat(wrong, recording.sizes)

    def plan(numbers: Sequence[float]) -> Plan:
        return _Explanation(edits, tuple(numbers), None).plan(recording.plan)

    def residuals(numbers: Sequence[float]) -> np.ndarray:
        return recording.residuals(plan(numbers))[:, is_wrong]

    def worst(numbers: Sequence[float]) -> float:
        value = float(np.abs(residuals(numbers)).max(initial=0.0))
        return value if value == value else float("inf")

    numbers = [0.0] * len(edits)
    if free:

        def values(z: np.ndarray) -> list[float]:
            result = list(numbers)
            for i, each in zip(free, z, strict=True):
                result[i] = edits[i].value(float(each))
            return result

        starts = [np.array(s) for s in itertools.product(*(edits[i].starts for i in free))]
        z, _ = fit(lambda z: residuals(values(z)), starts)
        numbers = values(z)
    if not worst(numbers) <= 1:
        return None
    for i in free:
        for rounded in _rounded(numbers[i]):
            shorter = [*numbers[:i], rounded, *numbers[i + 1 :]]
            if worst(shorter) <= 1:
                numbers = shorter
                break
    return tuple(numbers)


def _rounded(number: float) -> Iterator[float]:
    yield 0.0
    for digits in range(1, 8):
        yield float(f"{number:.{digits - 1}e}")
        yield 1 - float(f"{1 - number:.{digits - 1}e}")


def _rates(recording: Recording, wrong: np.ndarray) -> list[float] | None:
    """Return the learning rate of each step for which torch's rule computes Flax's updates.

    The updates are linear in the learning rate, so that two evaluations determine the rate.
    """
    kind, settings = recording.plan
    if any(isinstance(h["lr"], np.ndarray) for h in settings):
        return None
    is_wrong, rates = np.repeat(wrong, recording.sizes), []
    unit = recording.residuals((kind, [{**h, "lr": 1.0} for h in settings]))[:, is_wrong]
    none = recording.residuals((kind, [{**h, "lr": 0.0} for h in settings]))[:, is_wrong]
    for one, zero in zip(unit, none, strict=True):
        slope = one - zero
        size = float(slope @ slope)
        if not np.isfinite(size) or size == 0:
            return None
        rates.append(float(-(zero @ slope) / size))
    return [next((r for r in _rounded(rate) if abs(r - rate) <= 1e-9 * abs(rate)), rate) for rate in rates]


def _cause(explanation: _Explanation, recording: Recording, is_optax: bool, before: float, after: float) -> Cause:
    plan, edits = recording.plan_of(explanation.scope or recording.names), explanation.edits
    texts = [edit.text(plan, number) for edit, number in zip(edits, explanation.numbers, strict=True)]
    where = "" if explanation.scope is None else f"For {_listed(explanation.scope)}: "
    name = "+".join(dict.fromkeys(edit.name for edit in edits))
    fix = next((edit.fix for edit in edits if edit.fix), None) or _fix(recording, is_optax)
    return Cause(name, where + "; ".join(texts) + ".", fix, before, after)


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + rest


def _fix(recording: Recording, is_optax: bool) -> str:
    """Return the line of code that builds the same optimizer as torch's, for Flax."""
    kind, settings = recording.plan
    h = settings[0]
    rates = [shown(each["lr"]) for each in settings]
    rate, schedule = rates[0], ""
    if len(set(rates)) > 1:
        rate = "schedule"
        schedule = "  # " + ", ".join(f"schedule({n}) is {shown_rate}" for n, shown_rate in enumerate(rates[:3]))
    ours = _our_line(kind, h, rate)
    line = _optax_line(kind, h, rate) if is_optax else None
    how, at = h["torch_clip"]
    clip = {"norm": f"flaxnets.optim.clip_grad_norm({shown(at)})", "value": f"optax.clip({shown(at)})"}.get(how)
    if clip is not None:
        return f"optimizer = optax.chain({clip}, {line or f'flaxnets.{ours}'}){schedule}"
    return f"optimizer = {line or f'flaxnets.{ours}'}{schedule or (f'  # or flaxnets.{ours}' if line else '')}"


def _our_line(kind: str, h: Settings, rate: str) -> str:
    names = {
        "SGD": ("momentum", "dampening", "nesterov"), "RMSprop": ("alpha", "eps", "momentum", "centered"),
        "Adagrad": ("lr_decay", "initial_accumulator_value", "eps"), "Adadelta": ("rho", "eps"),
        "NAdam": ("eps", "momentum_decay"), "Adam": ("eps", "amsgrad"),
    }.get(kind, ("eps",))  # fmt: skip
    decoupled = np.all(np.asarray(h["decay"]) == "decoupled")
    parts = [f"lr={rate}"]
    if "beta1" in h:
        parts.append(f"betas=({shown(h['beta1'])}, {shown(h['beta2'])})")
    parts += [f"{name}={shown(h[name])}" for name in names if np.any(h[name]) or name == "eps"]
    if np.any(h["weight_decay"]) or (kind == "Adam" and decoupled):
        parts.append(f"weight_decay={shown(h['weight_decay'])}")
    if np.any(h["maximize"]):
        parts.append("maximize=True")
    if decoupled and kind != "Adam":
        parts.append("decoupled_weight_decay=True")
    return f"optim.{'AdamW' if kind == 'Adam' and decoupled else kind}({', '.join(parts)})"


def _optax_line(kind: str, h: Settings, rate: str) -> str | None:
    """Return the line of code that builds the same optimizer in optax; None if optax has no equal optimizer."""
    if any(np.any(h[name]) for name in ("amsgrad", "dampening", "lr_decay", "maximize")):
        return None
    parts, decay = [rate], shown(h["weight_decay"])
    decoupled = np.all(np.asarray(h["decay"]) == "decoupled")
    name = {"SGD": "sgd", "RMSprop": "rmsprop", "Adam": "adamw" if decoupled else "adam", "Adadelta": "adadelta",
            "Adamax": "adamax"}.get(kind)  # fmt: skip
    if name is None or (decoupled and kind != "Adam") or (kind == "RMSprop" and np.any(h["momentum"])):
        return None
    if "beta1" in h:
        parts += [f"b1={shown(h['beta1'])}", f"b2={shown(h['beta2'])}"]
    parts += [f"{option}={shown(h[key])}" for key, option in (("alpha", "decay"), ("rho", "rho")) if key in h]
    parts += [f"eps={shown(h['eps'])}"] if "eps" in h else []
    parts += ["eps_in_sqrt=False"] if kind == "RMSprop" else []
    parts += [f"{key}=True" for key in ("centered", "nesterov") if np.any(h[key])]
    parts += [f"momentum={shown(h['momentum'])}"] if kind == "SGD" and np.any(h["momentum"]) else []
    if decoupled:
        parts.append(f"weight_decay={decay}")
    line = f"optax.{name}({', '.join(parts)})"
    if np.any(h["weight_decay"]) and not decoupled:
        return f"optax.chain(optax.add_decayed_weights({decay}), {line})"
    return line
