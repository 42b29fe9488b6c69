"""Find the mistake in a Flax training that differs from torch's: in the loss, running statistics or parameters.

:mod:`flaxnets.parity.training.update_causes` finds mistakes in optimizers.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from flaxnets.parity._torch import torch
from flaxnets.parity.causes import Cause
from flaxnets.parity.training.report import Stage
from flaxnets.parity.training.runs import Evidence, Loss, Variant
from flaxnets.parity.training.update_causes import find_update_cause

F = torch.nn.functional
Change = Callable[[str, Any, list[Any], dict[str, Any]], Any]


@dataclasses.dataclass(frozen=True)
class _Guess:
    name: str
    text: str
    fix: str
    variant: Variant


def find_training_cause(evidence: Evidence, stage: Stage, step: int) -> Cause | None:
    """Return the mistake with which torch repeats Flax's whole training; None if no known mistake does.

    Args:
        evidence: the two trainings.
        stage: the stage of the first number that left the band.
        step: the step at which this number left the band, counted from 1.
    """
    if stage == "buffer":
        return _proved(evidence, _statistics(evidence))
    if stage in ("loss", "gradient") and step == 1:
        return _proved(evidence, _losses(evidence))
    return find_update_cause(evidence) or _proved(evidence, _merged_biases(evidence))


def _proved(evidence: Evidence, guesses: Iterator[_Guess]) -> Cause | None:
    for guess in guesses:
        try:
            after = evidence.worst(guess.variant)
        except ValueError:  # Torch raises an error for the mistake, or the loss becomes infinite.
            continue
        if after <= 1:
            return Cause(guess.name, guess.text, guess.fix, evidence.worst(None), after)
    return None


def _losses(evidence: Evidence) -> Iterator[_Guess]:
    yield from _scales(evidence)
    yield from _called_otherwise(evidence)
    yield from _modes(evidence)
    yield from _penalties(evidence)
    yield from _any_scale(evidence)


def _scales(evidence: Evidence) -> Iterator[_Guess]:
    """Yield losses and gradients that are multiplied by a factor."""
    ours, theirs = evidence.found[0].loss, evidence.expected[0].step.loss
    if not theirs or not np.isfinite(ours):
        return
    ratio, loss = ours / theirs, evidence.training.torch_loss
    if abs(ratio - 1) < 1e-9:
        slope = _gradient_ratio(evidence)
        if slope is not None:
            text = f"Flax's gradients are {slope:.6g} times torch's, but the losses are equal."
            yield _Guess("gradient-scale", text, "differentiate the loss itself, without a factor",
                         Variant(loss=_with_slope(loss, slope)))  # fmt: skip
        return
    for find_factor, what, fix in _FACTORS:
        try:
            factor = find_factor(evidence.training.batches[0].targets)
        except (TypeError, AttributeError, ZeroDivisionError):
            continue
        if abs(ratio / factor - 1) < 1e-6 and factor != 1:
            text = f"Flax {what}; its first loss is {ratio:.6g} times torch's."
            name = "loss-reduction" if "the mean" in what else "loss-scale"
            yield _Guess(name, text, fix, Variant(loss=_scaled(loss, find_factor)))


def _any_scale(evidence: Evidence) -> Iterator[_Guess]:
    ours, theirs = evidence.found[0].loss, evidence.expected[0].step.loss
    factor = float(f"{ours / theirs:.10g}") if theirs and np.isfinite(ours) else 1.0
    if factor != 1:
        text = f"Flax's loss is {factor:.6g} times torch's."
        yield _Guess("loss-scale", text, "compare how the two losses are reduced",
                     Variant(loss=_scaled(evidence.training.torch_loss, lambda targets: factor)))  # fmt: skip


# Factors of a loss, computed from its targets, because the batches of one training may differ in size.
_FACTORS: tuple[tuple[Callable[[Any], float], str, str], ...] = (
    (lambda t: len(t), "sums the loss over the batch, torch computes the mean", "compute the mean over the batch"),
    (lambda t: t.size, "sums the loss over all elements, torch computes the mean", "compute the mean over all "
     "elements"),
    (lambda t: t.size / len(t), "sums the loss over all axes except the batch, torch computes the mean over all axes",
     "compute the mean over all elements"),
    (lambda t: 1 / len(t), "computes the mean of the loss over the batch, torch the sum", "compute the sum over the "
     "batch"),
    (lambda t: 1 / t.size, "computes the mean of the loss over all elements, torch the sum", "compute the sum over all "
     "elements"),
    (lambda t: 0.5, "halves the squared error, as optax.l2_loss does", "use optax.squared_error"),
    (lambda t: 0.5 * t.size, "sums half the squared errors, as optax.l2_loss(...).sum() does, torch computes the mean",
     "use optax.squared_error(...).mean()"),
    (lambda t: -1.0, "has the loss with the opposite sign", "change the sign of the loss"),
)  # fmt: skip


def _scaled(loss: Loss, factor: Callable[[Any], float]) -> Loss:
    def scaled(outputs: Any, targets: Any) -> Any:
        return factor(targets.numpy() if isinstance(targets, torch.Tensor) else targets) * loss(outputs, targets)

    return scaled


def _with_slope(loss: Loss, factor: float) -> Loss:
    def changed(outputs: Any, targets: Any) -> Any:
        value = loss(outputs, targets)
        return value.detach() + factor * (value - value.detach())

    return changed


def _gradient_ratio(evidence: Evidence) -> float | None:
    ours, theirs = evidence.found[0].gradients, evidence.expected[0].step.gradients
    pairs = [(ours[name].ravel(), g.ravel()) for name, g in theirs.items() if name in ours]
    if not any(np.any(b) for _, b in pairs):
        return None
    a, b = (np.concatenate(each) for each in zip(*pairs, strict=True))
    ratio = float(f"{a @ b / (b @ b):.10g}")
    return None if ratio == 1 else ratio


class _Calls(torch.overrides.TorchFunctionMode):
    """A function mode that replaces calls of torch's loss functions by ``change(name, function, args, options)``."""

    def __init__(self, change: Change):
        super().__init__()
        self._change = change

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _LOSSES and getattr(F, name, None) is func:
            return self._change(name, func, list(args), dict(kwargs or {}))
        return func(*args, **(kwargs or {}))


_DISTANCES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
_LOSSES = (
    *_DISTANCES, "cross_entropy", "nll_loss", "kl_div", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "gaussian_nll_loss", "poisson_nll_loss",
)  # fmt: skip


def _within(change: Change) -> Variant:
    return Variant(scope=lambda: _Calls(change))


def _option(**values: Any) -> Change:
    return lambda name, func, args, options: func(*args, **{**options, **values})


def _unweighted(name: str, func: Any, args: list[Any], options: dict[str, Any]) -> Any:
    return func(*args, **{**options, **{key: None for key in ("weight", "pos_weight") if key in options}})


def _softmax_first(name: str, func: Any, args: list[Any], options: dict[str, Any]) -> Any:
    return func(torch.softmax(args[0], 1) if name == "cross_entropy" else args[0], *args[1:], **options)


def _softmax_missing(name: str, func: Any, args: list[Any], options: dict[str, Any]) -> Any:
    if name != "cross_entropy" or args[1].is_floating_point():
        return func(*args, **options)
    options.pop("label_smoothing", None)
    return F.nll_loss(*args, **options)


def _mean_of_all(name: str, func: Any, args: list[Any], options: dict[str, Any]) -> Any:
    """Compute the mean over all targets, where ignored targets count as zeros."""
    return func(*args, **{**options, "reduction": "sum"}) / args[1].numel()


def _distance(other: str) -> Change:
    def change(name: str, func: Any, args: list[Any], options: dict[str, Any]) -> Any:
        if name not in _DISTANCES or name == other:
            return func(*args, **options)
        return getattr(F, other)(*args[:2], reduction=options.get("reduction", "mean"))

    return change


_CHANGES: tuple[tuple[str, str, str, Change], ...] = (
    ("loss-reduction", "Flax sums the loss, torch computes the mean.", "compute the mean", _option(reduction="sum")),
    ("loss-reduction", "Flax computes the mean of the loss, torch the sum.", "compute the sum",
     _option(reduction="mean")),
    ("class-weights", "Flax's loss has no class weights, torch's loss has class weights.",
     "multiply each loss by the weight of its class, and divide by the sum of these weights", _unweighted),
    ("ignored-targets", "Flax divides the loss by the number of all targets, torch by the number of targets that are "
     "not ignored.", "divide by the number of targets that are not ignored", _mean_of_all),
    ("softmax-twice", "Flax applies softmax to the outputs, and its loss applies softmax again.",
     "pass the outputs to the loss without softmax", _softmax_first),
    ("softmax-missing", "Flax's loss has no log-softmax of the outputs, torch's loss has.",
     "use optax.softmax_cross_entropy_with_integer_labels", _softmax_missing),
    *(("other-loss", f"Flax computes the loss {name}, torch another loss.", "compute the same loss as torch",
       _distance(name)) for name in _DISTANCES),
)  # fmt: skip


def _called_otherwise(evidence: Evidence) -> Iterator[_Guess]:
    """Yield changed calls of torch's loss functions for which the first loss equals Flax's."""
    yield from _smoothing(evidence)
    for name, text, fix, change in _CHANGES:
        variant = _within(change)
        if _is_first_loss(evidence, variant):
            yield _Guess(name, text, fix, variant)


def _is_first_loss(evidence: Evidence, variant: Variant) -> bool:
    loss, ours = evidence.first_loss(variant), evidence.found[0].loss
    return loss is not None and abs(loss - ours) <= 1e-9 * max(abs(ours), abs(loss))


def _smoothing(evidence: Evidence) -> Iterator[_Guess]:
    """Yield another label smoothing: the loss is linear in the smoothing, so that two losses determine it."""
    theirs: list[float] = []

    def without(name: str, func: Any, args: list[Any], options: dict[str, Any]) -> Any:
        if name == "cross_entropy":
            theirs.append(options.get("label_smoothing", 0.0))
            options["label_smoothing"] = 0.0
        return func(*args, **options)

    none = evidence.first_loss(_within(without))
    full = evidence.first_loss(_within(_smoothed(1.0))) if theirs else None
    if none is None or full is None or none == full:
        return
    ours = abs(round((evidence.found[0].loss - none) / (full - none), 8))
    if ours < 1 and abs(ours - theirs[0]) > 1e-8:
        text = f"Flax has label_smoothing={ours:.6g}, torch label_smoothing={theirs[0]:.6g}."
        fix = f"smooth the labels by {theirs[0]:.6g}: optax.smooth_labels(labels, {theirs[0]:.6g})"
        yield _Guess("label-smoothing", text, fix, _within(_smoothed(ours)))


def _smoothed(amount: float) -> Change:
    def change(name: str, func: Any, args: list[Any], options: dict[str, Any]) -> Any:
        return func(*args, **({**options, "label_smoothing": amount} if name == "cross_entropy" else options))

    return change


def _penalties(evidence: Evidence) -> Iterator[_Guess]:
    """Yield squared weights in the loss, in addition to the weight decay of torch's optimizer or in its place."""
    missing = evidence.found[0].loss - evidence.expected[0].step.loss
    start = evidence.trainer.start
    decays = {group.get("weight_decay", 0.0) for group in evidence.trainer.settings.values()}
    for which, names in (("all weights", list(start)), ("the matrices", [n for n, v in start.items() if v.ndim > 1])):
        squares = sum(float(np.sum(start[name] ** 2)) for name in names)
        if not squares or not missing:
            continue
        amount = float(f"{missing / squares:.10g}")
        text = f"Flax adds {amount:.6g} times the squares of {which} to the loss"
        penalty = _penalty(names, amount)
        if any(decays):
            yield _Guess(
                "weight-decay-in-loss", f"{text}, torch's optimizer has weight_decay={max(decays):.6g}.",
                "remove the penalty from the loss, and pass the weight decay to the optimizer",
                Variant(penalty=penalty, settings={"weight_decay": 0.0}),
            )  # fmt: skip
        yield _Guess("penalty-in-loss", f"{text}, torch does not.", "remove the penalty", Variant(penalty=penalty))


def _penalty(names: list[str], amount: float) -> Callable[[torch.nn.Module], Any]:
    return lambda module: amount * sum(module.get_parameter(name).square().sum() for name in names)


def _modes(evidence: Evidence) -> Iterator[_Guess]:
    """Yield layers in evaluation mode that should be in training mode, or the reverse."""
    norms = (torch.nn.modules.batchnorm._BatchNorm,)
    drops = (torch.nn.modules.dropout._DropoutNd,)
    for kinds, what in ((norms, "batch normalization"), (drops, "dropout"), ((torch.nn.Module,), "the module")):
        present = {m.training for m in evidence.training.pair.torch_module.modules() if isinstance(m, kinds)}
        for mode in present:

            def switch(module: torch.nn.Module, kinds: Any = kinds, mode: bool = not mode) -> None:
                for each in module.modules():
                    if isinstance(each, kinds):
                        each.training = mode

            variant, words = Variant(module=switch), ("training", "evaluation")
            ours, theirs = words if not mode else words[::-1]
            if _is_first_loss(evidence, variant):
                yield _Guess("mode", f"Flax runs {what} in {ours} mode, torch in {theirs} mode.",
                             f"run {what} in {theirs} mode", variant)  # fmt: skip


def _statistics(evidence: Evidence) -> Iterator[_Guess]:
    """Yield mistakes of the running statistics of batch normalization: their momentum, or the stored variance."""
    momenta = _momenta(evidence)
    if not momenta:
        return
    module = evidence.training.pair.torch_module
    theirs: dict[str, Any] = {name: module.get_submodule(name).momentum for name in momenta}
    layers = ", ".join(list(momenta)[:4]) + (f" and {len(momenta) - 4} more" if len(momenta) > 4 else "")
    differs = any(abs(momenta[name] - theirs[name]) > 1e-7 for name in momenta)
    name = next((n for n in momenta if abs(momenta[n] - theirs[n]) > 1e-7), next(iter(momenta)))
    rate = f"Flax updates the running statistics with momentum={momenta[name]:.6g} (as torch counts), torch with " \
           f"momentum={theirs[name]:.6g}"  # fmt: skip
    if not momenta[name]:
        rate = f"Flax does not update the running statistics, torch updates them with momentum={theirs[name]:.6g}"
    elif abs(momenta[name] + theirs[name] - 1) < 1e-7:
        rate += " (Flax's momentum is 1 - torch's momentum)"
    fix = f"nnx.BatchNorm(..., momentum={1 - theirs[name]:.6g}), or flaxnets.nn.BatchNorm2d(..., " \
          f"momentum={theirs[name]:.6g})"  # fmt: skip
    biased = "Flax stores the biased variance of a batch, torch the unbiased variance"
    layer_fix = "flaxnets.nn.BatchNorm2d in place of nnx.BatchNorm"
    if differs:
        yield _Guess("batchnorm-momentum", f"{rate} ({layers}).", fix, _stored(momenta, False))
        text = f"{rate}; {biased} ({layers})."
        yield _Guess("batchnorm-momentum+biased-variance", text, layer_fix, _stored(momenta, True))
    yield _Guess("biased-variance", f"{biased} ({layers}).", layer_fix, _stored(dict.fromkeys(momenta), True))


def _momenta(evidence: Evidence) -> dict[str, float]:
    """Return the momentum of Flax's running mean at the first step, in torch's convention, by torch's layer names."""
    names, momenta = evidence.training.names, {}
    before, theirs = evidence.start[1], evidence.expected[0].step.buffers
    for name, ours in evidence.found[0].buffers.items():
        source = next(iter(names.sources(name)), "")
        module_name, _, buffer = source.rpartition(".")
        if buffer != "running_mean" or name not in theirs:
            continue
        module: Any = evidence.training.pair.torch_module.get_submodule(module_name)
        change = theirs[name] - before[name]
        if getattr(module, "momentum", None) and np.any(change):
            part = float(np.sum((ours - before[name]) * change) / np.sum(change * change))
            momenta[module_name] = round(float(f"{module.momentum * part:.9g}"), 10)
    return momenta


def _stored(momenta: dict[str, Any], biased: bool) -> Variant:
    """Return a training with other momenta of batch normalization (None: unchanged), and maybe biased variances."""

    def change(module: torch.nn.Module) -> None:
        for name, momentum in momenta.items():
            norm: Any = module.get_submodule(name)
            norm.momentum = norm.momentum if momentum is None else momentum
            if biased:
                norm.register_forward_pre_hook(_keep_variance)
                norm.register_forward_hook(_store_biased)

    return Variant(module=change)


def _keep_variance(norm: Any, args: tuple[torch.Tensor, ...]) -> None:
    norm.variance_before = norm.running_var.clone()


def _store_biased(norm: Any, args: tuple[torch.Tensor, ...], output: Any) -> None:
    if norm.training:
        count = args[0].numel() / args[0].shape[1]
        old_part = (1 - norm.momentum) * norm.variance_before
        norm.running_var.data.copy_(old_part + (norm.running_var - old_part) * (count - 1) / count)


def _merged_biases(evidence: Evidence) -> Iterator[_Guess]:
    """Yield the case of two biases in torch that are one bias in Flax: the optimizer updates their sum only once."""
    matching = evidence.training.names.matching
    entries = [e for e in getattr(matching, "entries", ()) if "sum" in e.transform.split(" | ") and len(e.torch) > 1]
    if not entries:
        return

    def merge(module: torch.nn.Module) -> None:
        with torch.no_grad():
            for entry in entries:
                first, *rest = (module.get_parameter(name) for name in entry.torch)
                for other in rest:
                    first.add_(other)
                    other.zero_().requires_grad_(False)

    both = " + ".join(entries[0].torch)
    yield _Guess("one-bias", f"Flax updates one bias {entries[0].flax}, torch updates both biases of the sum {both}.",
                 "use flaxnets.nn.LSTM, GRU or RNN, which have both biases", Variant(module=merge))  # fmt: skip
