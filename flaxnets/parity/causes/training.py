"""Known mistakes in dropout, loss functions and stopped gradients."""

from collections.abc import Iterator, Sequence
from typing import Any

from flaxnets.parity._torch import torch
from flaxnets.parity.causes.sites import Change, Original, Site
from flaxnets.parity.causes.variants import (
    COMMON,
    ODD,
    RARE,
    SIGNATURES,
    USUAL,
    Hints,
    Option,
    Variant,
    argument,
    number,
    on_result,
    setting,
)

_DROPOUTS = (
    torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d, torch.nn.AlphaDropout,
    torch.nn.FeatureAlphaDropout,
)  # fmt: skip


def dropout(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of a dropout layer: mode, rate and scale."""
    if not (site.is_module and isinstance(site.module, _DROPOUTS)):
        return
    p: float = site.module.p
    training = site.training

    def as_if(**attributes: Any) -> Change:
        def change(original: Original, args: tuple, kwargs: dict) -> Any:
            module: Any = original.module
            before = {name: getattr(module, name) for name in attributes}
            try:
                module.__dict__.update(attributes)
                return original(*args, **kwargs)
            finally:
                module.__dict__.update(before)

        return change

    fix = "model.eval() before the call, or deterministic=True"
    if training:
        fix = "model.train() before the call, or deterministic=False"
    text = f"Flax {'keeps all values' if training else 'drops values'}; torch's {{where}} does not in this mode."
    yield Option("dropout-mode", text, fix, as_if(training=not training), COMMON)
    if not training or not p:
        return
    for rate in dict.fromkeys((*hints.of_names("rate", "p", "dropout_rate"), 1 - p, 0.1, 0.2, 0.3, 0.5)):
        if 0 <= rate < 1 and rate != p:
            text = f"Flax's dropout rate is {number(rate)}; torch's {{where}} has {number(p)}."
            yield Option("dropout-rate", text, f"nnx.Dropout({number(p)})", as_if(p=rate), COMMON)
    text = "Flax does not divide by 1 - rate; torch's {where} does."
    change = on_result(lambda x: x * (1 - p))
    yield Option("dropout-scale", text, "x * mask / (1 - rate)", change, COMMON)
    text = "Flax divides by the rate; torch's {where} divides by 1 - rate."
    yield Option("dropout-scale", text, "x * mask / (1 - rate)", on_result(lambda x: x * (1 - p) / p), RARE)


def functional_dropout(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of a call of a dropout function: mode and rate."""
    if site.is_module or site.leaf or site.function not in ("dropout", "dropout1d", "dropout2d", "dropout3d"):
        return
    p, training = argument(site, "p", 0.5), bool(argument(site, "training", True))
    text = f"Flax {'keeps all values' if training else 'drops values'}; torch's {{where}} does not in this mode."
    fix = f"deterministic={not training}"
    yield Option("dropout-mode", text, fix, setting(site.function, training=not training), COMMON)
    for rate in dict.fromkeys((*hints.of_names("rate", "p", "dropout_rate"), 1 - p, 0.1, 0.2, 0.3, 0.5)):
        if training and 0 <= rate < 1 and rate != p:
            text = f"Flax's dropout rate is {number(rate)}; torch's {{where}} has {number(p)}."
            yield Option("dropout-rate", text, f"nnx.Dropout({number(p)})", setting(site.function, p=rate), COMMON)


def losses(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of a loss: reduction, label smoothing, ignored targets and class weights."""
    if not site.function.endswith(("_loss", "cross_entropy", "cross_entropy_with_logits", "kl_div")) or site.is_module:
        return
    yield from _reductions(site)
    if site.function == "cross_entropy":
        yield from _cross_entropy(site, hints)
    if site.function in ("cross_entropy", "nll_loss"):
        text = "Flax's loss includes targets that torch's {where} ignores."
        ignored = argument(site, "ignore_index", -100)
        yield Option("ignore-index", text, f"ignore_index={ignored}", _with(site, ignore_index=-100), USUAL)
        text = (
            "Flax divides by the number of all targets; torch's {where} by the number of targets that are not ignored."
        )
        fix = "divide by the number of targets that are not ignored"
        yield Option("ignore-index", text, fix, _scaled_sum(site, None), USUAL)
    for name in ("weight", "pos_weight"):
        if _keyword(site, name, None) is not None:
            text = f"Flax's loss has no class weights ({name}); torch's {{where}} has class weights."
            yield Option("loss-weight", text, f"{name}=...", _with(site, **{name: None}), USUAL)
    if site.function in ("smooth_l1_loss", "huber_loss"):
        yield from _thresholds(site, hints)


def _reductions(site: Site) -> Iterator[Option]:
    right = _keyword(site, "reduction", "mean")
    for value in ("sum", "mean", "none"):
        if value != right:
            text = f"Flax reduces by {value!r}; torch's {{where}} reduces by {right!r}."
            yield Option("reduction", text, f"jnp.{right}(losses)", _with(site, reduction=value), COMMON)
    batch = next((s.shape[0] for s in site.args if hasattr(s, "shape") and s.shape), 1)
    if right == "mean":
        text = "Flax divides the sum by the batch size; torch's {where} computes the mean of all values."
        change = _scaled_sum(site, 1 / batch)
        yield Option("reduction", text, "jnp.mean(losses)", change, USUAL)
    if right == "batchmean":
        text = "Flax computes the mean of all values; torch's {where} divides the sum by the batch size."
        yield Option("reduction", text, "jnp.sum(losses) / len(losses)", _with(site, reduction="mean"), COMMON)


def _thresholds(site: Site, hints: Hints) -> Iterator[Option]:
    for name in ("beta", "delta"):
        if name not in _names(site):
            continue
        right = argument(site, name, 1.0)
        for value in dict.fromkeys((*hints.of_names(name), 1.0, 0.5, 0.1)):
            if value != right:
                text = f"Flax has {name}={number(value)}; torch's {{where}} has {right}."
                yield Option(name, text, f"{name}={right}", _with(site, **{name: value}))


def _names(site: Site) -> Sequence[str]:
    return SIGNATURES.get(site.function, ())


def _keyword(site: Site, name: str, default: Any) -> Any:
    if name in _names(site):
        return argument(site, name, default)
    return site.kwargs.get(name, default)


def _with(site: Site, **changes: Any) -> Change:
    """Return a change of arguments. If the loss is not in ``SIGNATURES``, the change sets keyword arguments."""
    if all(name in _names(site) for name in changes):
        return setting(site.function, **changes)
    return lambda original, args, kwargs: original(*args, **{**kwargs, **changes})


def _scaled_sum(site: Site, factor: float | None) -> Change:
    summed = _with(site, reduction="sum")

    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        return summed(original, args, kwargs) * (factor if factor is not None else 1 / args[1].numel())

    return change


def _cross_entropy(site: Site, hints: Hints) -> Iterator[Option]:
    smoothing = argument(site, "label_smoothing", 0.0)
    for value in dict.fromkeys((0.0, *hints.of_names("label_smoothing", "smoothing"), 0.1, 0.2, 0.05)):
        if value != smoothing and isinstance(value, float) and 0 <= value < 1:
            text = f"Flax smooths the labels by {number(value)}; torch's {{where}} by {number(smoothing)}."
            change = _with(site, label_smoothing=value)
            yield Option("label-smoothing", text, f"label_smoothing={number(smoothing)}", change, COMMON)
    if smoothing and site.input is not None and len(site.input.shape) > 1:
        classes = site.input.shape[1]
        text = "Flax gives each other class smoothing / (classes - 1); torch's {where} gives smoothing / classes."
        change = _with(site, label_smoothing=smoothing * classes / (classes - 1))
        yield Option("label-smoothing", text, "smoothing / number of classes", change, USUAL)


def stopped_gradients(sites: Sequence[Site], hints: Hints) -> Iterator[Variant]:
    """Yield stopped gradients that torch does not stop, and the reverse."""
    for site in sites:
        if site.function == "detach":
            text = f"Flax differentiates through a value that torch's {site.where} detaches."
            change = _attached
            yield Variant("stop-gradient-missing", text, "jax.lax.stop_gradient(x)", {site.key: change}, COMMON)
        result = site.result
        if getattr(result, "is_float", False) and site.depth:
            text = f"Flax stops the gradient of a value ({site.function}) that torch's {site.where} differentiates."
            change = on_result(lambda x: x.detach())
            yield Variant("stop-gradient", text, "remove jax.lax.stop_gradient", {site.key: change}, RARE)
    for position in range(8):
        text = f"Flax stops the gradient of argument {position} of a call; torch does not."
        for site in sites:
            described = site.args[position] if position < len(site.args) else None
            if getattr(described, "is_float", False) and site.depth and not site.leaf:
                change = _detached_argument(position)
                yield Variant("stop-gradient", text, "remove jax.lax.stop_gradient", {site.key: change}, ODD)


def _attached(original: Original, args: tuple, kwargs: dict) -> torch.Tensor:
    return args[0]


def _detached_argument(position: int) -> Change:
    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        detached = [a.detach() if i == position else a for i, a in enumerate(args)]
        return original(*detached, **kwargs)

    return change


SITE_RULES = (dropout, functional_dropout, losses)
MODULE_RULES = (stopped_gradients,)
