"""Known mistakes in normalisation layers: eps, momentum, running statistics, axes, scale and bias."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from flaxnets.parity._torch import torch
from flaxnets.parity.causes.sites import Change, Original, Site
from flaxnets.parity.causes.variants import (
    COMMON,
    RARE,
    USUAL,
    Hints,
    Option,
    Variant,
    argument,
    around,
    is_native,
    number,
    setting,
)

_EPSILONS = (1e-5, 1e-6, 1e-3, 1e-12, 1e-8, 1e-4, 1e-7, 1e-2, 1e-10, 1e-9, 0.0)
_LAYERS = {
    "layer_norm": "LayerNorm", "rms_norm": "RMSNorm", "group_norm": "GroupNorm", "batch_norm": "BatchNorm",
    "instance_norm": "InstanceNorm",
}  # fmt: skip
_DEFAULTS = {"normalize": 1e-12}


def _fix(hints: Hints, function: str, native: str, ours: str) -> str:
    layer = _LAYERS[function]
    return f"nnx.{layer}(..., {native})" if is_native(hints) else f"{layer}(..., {ours})"


def epsilon(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of eps: a wrong value, or eps outside the square root."""
    if site.function not in _LAYERS and site.function != "normalize":
        return
    default = _DEFAULTS.get(site.function, 1e-5)
    right = argument(site, "eps", default)
    if site.function == "rms_norm" and argument(site, "eps") is None:
        right = torch.finfo(site.input.dtype).eps if site.input else default
    hinted = hints.of_names("epsilon", "eps")
    words = f"eps={number(right)}"
    fix = f"eps={number(right)}"
    if site.function in _LAYERS:
        fix = _fix(hints, site.function, f"epsilon={number(right)}", words)
    for value in dict.fromkeys((*hinted, *_EPSILONS)):
        if value != right:
            text = f"Flax normalises with epsilon={number(value)}; torch's {{where}} has {words}."
            rank = COMMON if value in hinted or value in _EPSILONS[:3] else USUAL
            yield Option("epsilon", text, fix, setting(site.function, eps=value), rank)
    if site.function in _LAYERS:
        text = (
            f"Flax adds epsilon={number(right)} to the standard deviation; torch's {{where}} adds it to the variance."
        )
        for value in dict.fromkeys((right, *hinted, 1e-6)):
            change = _rewritten(site.function, _Recipe(outside=True, eps=value))
            yield Option("epsilon-outside-root", text, f"x / sqrt(variance + {number(right)})", change)


class _Recipe:
    """The formula of a normalisation. A setting of None stands for the value of torch's call."""

    def __init__(
        self,
        *,
        axes: Sequence[int] | None = None,
        groups: int | None = None,
        interleaved: bool = False,
        eps: float | None = None,
        outside: bool = False,
        correction: int = 0,
        centred: bool = True,
        plus_one: bool = False,
    ):
        self.axes, self.groups, self.interleaved, self.eps = axes, groups, interleaved, eps
        self.outside, self.correction, self.centred, self.plus_one = outside, correction, centred, plus_one

    def normalised(self, x: torch.Tensor, axes: Sequence[int], eps: float) -> torch.Tensor:
        centre = x.mean(tuple(axes), keepdim=True) if self.centred else torch.zeros((), dtype=x.dtype)
        count = 1
        for axis in axes:
            count *= x.shape[axis]
        variance = ((x - centre) ** 2).sum(tuple(axes), keepdim=True) / max(count - self.correction, 1)
        scale = variance.sqrt() + eps if self.outside else (variance + eps).sqrt()
        return (x - centre) / scale


def _rewritten(function: str, recipe: _Recipe) -> Change:
    """Return a change that computes the normalisation by a recipe, which differs from torch's formula."""

    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        call = (function, args, kwargs)
        x: torch.Tensor = args[0]
        weight, bias = argument(call, "weight"), argument(call, "bias") if function != "rms_norm" else None
        eps = recipe.eps if recipe.eps is not None else argument(call, "eps", torch.finfo(x.dtype).eps)
        if function in ("layer_norm", "rms_norm"):
            dims = len(argument(call, "normalized_shape"))
            result = recipe.normalised(x, recipe.axes or range(x.ndim - dims, x.ndim), eps)
        else:
            result = _by_channels(function, recipe, call, eps)
            shape = (1, -1, *[1] * (x.ndim - 2))
            weight = weight if weight is None else weight.reshape(shape)
            bias = bias if bias is None else bias.reshape(shape)
        if weight is not None:
            result = result * (1 + weight if recipe.plus_one else weight)
        return result if bias is None else result + bias

    return change


def _by_channels(function: str, recipe: _Recipe, call: tuple[str, tuple, dict], eps: float) -> torch.Tensor:
    x: torch.Tensor = call[1][0]
    if recipe.axes:
        return recipe.normalised(x, recipe.axes, eps)
    if function == "batch_norm":
        if not argument(call, "training", False):
            mean, variance = (
                argument(call, f"running_{what}").reshape(1, -1, *[1] * (x.ndim - 2)) for what in ("mean", "var")
            )
            return (x - mean) / (variance.sqrt() + eps if recipe.outside else (variance + eps).sqrt())
        return recipe.normalised(x, [i for i in range(x.ndim) if i != 1], eps)
    groups = recipe.groups or (x.shape[1] if function == "instance_norm" else argument(call, "num_groups"))
    if recipe.interleaved:
        split = x.unflatten(1, (-1, groups))
        return recipe.normalised(split, [1, *range(3, split.ndim)], eps).flatten(1, 2)
    split = x.unflatten(1, (groups, -1))
    return recipe.normalised(split, range(2, split.ndim), eps).flatten(1, 2)


def statistics(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield wrong statistics of a normalisation: a divisor of n - 1, no mean, wrong axes or wrong groups."""
    function = site.function
    if function not in _LAYERS or site.input is None:
        return
    inference = function == "batch_norm" and not argument(site, "training", False)
    if not inference:
        text = "Flax divides the sum of squares by n - 1; torch's {where} divides by n."
        yield Option("variance-unbiased", text, "jnp.var(x, ddof=0)", _rewritten(function, _Recipe(correction=1)))
        if function == "rms_norm":
            text = "Flax subtracts the mean (LayerNorm); torch's {where} does not."
            yield Option("norm-kind", text, "nnx.RMSNorm(...)", _rewritten(function, _Recipe()), COMMON)
        else:
            text = "Flax does not subtract the mean (RMSNorm); torch's {where} does."
            fix = f"nnx.{_LAYERS[function]}(...)"
            yield Option("norm-kind", text, fix, _rewritten(function, _Recipe(centred=False)))
        yield from _other_groups(site, hints)
        yield from _other_axes(site)
    if argument(site, "weight") is not None:
        recipe = _Recipe(plus_one=True, centred=function != "rms_norm")
        text = "Flax multiplies by 1 + scale; torch's {where} multiplies by the scale."
        yield Option("scale-plus-one", text, "x * scale", _rewritten(function, recipe), RARE)


def _other_axes(site: Site) -> Iterator[Option]:
    assert site.input is not None
    ndim = len(site.input.shape)
    for size in range(1, ndim + 1):
        for axes in itertools.combinations(range(ndim), size):
            text = f"Flax normalises over the axes {axes} (torch's order); torch's {{where}} over other axes."
            fix = f"reduction_axes: the axes of torch's {_LAYERS[site.function]}"
            recipe = _Recipe(axes=axes, centred=site.function != "rms_norm")
            yield Option("norm-axes", text, fix, _rewritten(site.function, recipe), USUAL if size < 3 else RARE)


def _other_groups(site: Site, hints: Hints) -> Iterator[Option]:
    assert site.input is not None
    channels = site.input.shape[1] if len(site.input.shape) > 1 else 1
    if site.function not in ("group_norm", "instance_norm", "batch_norm", "layer_norm"):
        return
    right = argument(site, "num_groups") if site.function == "group_norm" else None
    fix = f"nnx.GroupNorm({channels}, num_groups={right})" if right else f"nnx.{_LAYERS[site.function]}(...)"
    if site.function == "layer_norm":
        return
    for groups in dict.fromkeys((*hints.of_names("num_groups"), *range(1, channels + 1))):
        if isinstance(groups, int) and groups and channels % groups == 0 and groups != right:
            text = f"Flax normalises {groups} groups of channels; torch's {{where}} has {right or 'none'}."
            yield Option("groups", text, fix, _rewritten(site.function, _Recipe(groups=groups)))
    if right and 1 < right < channels:
        text = "Flax groups every n-th channel; torch's {where} groups adjacent channels."
        yield Option("group-order", text, fix, _rewritten(site.function, _Recipe(interleaved=True)), RARE)


def affine(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield a missing scale or bias."""
    if site.function not in _LAYERS:
        return
    for name, native in (("bias", "use_bias"), ("weight", "use_scale")):
        if name == "bias" and site.function == "rms_norm":
            continue
        if argument(site, name) is not None:
            word = "bias" if name == "bias" else "scale"
            text = f"Flax normalises without a {word}; torch's {{where}} has one."
            fix = _fix(hints, site.function, f"{native}=True", f"{name}=True")
            yield Option(f"{word}-missing", text, fix, setting(site.function, **{name: None}))


def running_statistics(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of a batch normalisation: its mode, its momentum, and the variance that it stores."""
    if site.function not in ("batch_norm", "instance_norm") or argument(site, "running_mean") is None:
        return
    function = site.function
    flag = "training" if function == "batch_norm" else "use_input_stats"
    training = bool(argument(site, flag, function == "instance_norm"))
    torch_statistics = "the statistics of the batch" if training else "the running statistics"
    flax_statistics = "the running statistics" if training else "the statistics of the batch"
    fix = "model.train() before the call" if training else "model.eval() before the call"
    if is_native(hints):
        fix = f"nnx.BatchNorm(..., use_running_average={not training})"
    text = f"Flax normalises with {flax_statistics}; torch's {{where}} with {torch_statistics}."
    momentum = argument(site, "momentum", 0.1)
    for change in _other_modes(function, flag, training, (momentum, *(1 - m for m in hints.of_names("momentum")))):
        yield Option("norm-mode", text, fix, change, COMMON)
    if not training:
        return
    fix = _fix(hints, "batch_norm", f"momentum={number(1 - momentum)}", f"momentum={number(momentum)}")
    candidates = [1 - momentum, *(1 - m for m in hints.of_names("momentum")), *hints.of_names("momentum")]
    for value in dict.fromkeys([*candidates, 0.01, 0.1, 0.001, 0.9, 0.99, 1.0]):
        if isinstance(value, float) and abs(value - momentum) > 1e-9 and 0 <= value <= 1:
            reversed_ = abs(value - (1 - momentum)) < 1e-9
            text = (
                f"Flax multiplies the old running statistics by {number(1 - value)}; torch's {{where}} "
                f"(momentum={number(momentum)}) by {number(1 - momentum)}."
            )
            name = "momentum-reversed" if reversed_ else "momentum"
            yield Option(name, text, fix, setting(function, momentum=value), COMMON)
    text = "Flax stores the biased variance (divided by n); torch's {where} stores the unbiased variance (n - 1)."
    fix = "running_var = ... * n / (n - 1), as flaxnets.nn.BatchNorm2d does"
    yield Option("running-variance-biased", text, fix, _biased_running_variance(function), COMMON)
    text = "Flax does not update the running statistics; torch's {where} does."
    yield Option("running-statistics-not-updated", text, "update the running statistics", _not_updated(function))


def _other_modes(function: str, flag: str, training: bool, momenta: Sequence[float]) -> Iterator[Change]:
    """Yield changes to the other mode, with each known way to store the statistics of a batch."""
    yield setting(function, **{flag: not training})
    if training:
        return
    for momentum in dict.fromkeys(momenta):
        change = setting(function, **{flag: True}, momentum=momentum)
        yield around(change, _biased_running_variance(function))
        yield change
    yield around(setting(function, **{flag: True}), _not_updated(function))


def _buffers(function: str, args: tuple, kwargs: dict) -> list[torch.Tensor]:
    return [argument((function, args, kwargs), f"running_{what}") for what in ("mean", "var")]


def _not_updated(function: str) -> Change:
    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        buffers = _buffers(function, args, kwargs)
        before = [buffer.clone() for buffer in buffers]
        result = original(*args, **kwargs)
        for buffer, old in zip(buffers, before, strict=True):
            buffer.data.copy_(old)
        return result

    return change


def _biased_running_variance(function: str) -> Change:
    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        momentum = argument((function, args, kwargs), "momentum", 0.1)
        variance = _buffers(function, args, kwargs)[1]
        before = variance.clone()
        result = original(*args, **kwargs)
        count = args[0].numel() // args[0].shape[1]
        new = (variance.detach() - (1 - momentum) * before) * (count - 1) / count
        variance.data.copy_((1 - momentum) * before + new)  # `.data` keeps the version counter, which autograd checks.
        return result

    return change


def normalized_vectors(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of ``normalize``: its eps, or the order of its norm."""
    if site.function != "normalize":
        return
    eps, dim, p = argument(site, "eps", 1e-12), argument(site, "dim", 1), argument(site, "p", 2.0)
    fix = f"x / jnp.maximum(jnp.linalg.norm(x, axis={dim}, keepdims=True), {number(eps)})"

    def plus(x: torch.Tensor, value: float) -> torch.Tensor:
        return x / (torch.linalg.vector_norm(x, p, dim, keepdim=True) + value)

    def inside(x: torch.Tensor, value: float) -> torch.Tensor:
        return x / ((x * x).sum(dim, keepdim=True) + value).sqrt()

    for value in dict.fromkeys((eps, *hints.of_names("epsilon", "eps"), 1e-6, 1e-5, 1e-8)):
        for function, words in ((plus, "adds epsilon to the norm"), (inside, "adds epsilon to the squared norm")):
            text = f"Flax {words} ({number(value)}); torch's {{where}} divides by max(norm, {number(eps)})."

            def change(original: Original, args: tuple, kwargs: dict, f: Any = function, v: float = value) -> Any:
                return f(args[0], v)

            yield Option("epsilon", text, fix, change)
    for other in (1.0, float("inf")):
        text = f"Flax divides by the norm of order {other}; torch's {{where}} has order {p}."
        yield Option("norm-order", text, fix, setting("normalize", p=other))


def handwritten_epsilon(sites: Sequence[Site], hints: Hints) -> Iterator[Variant]:
    """Yield mistakes of eps in a normalisation that the user wrote: a wrong value, or the wrong side of the root."""
    adds = [s for s in sites if s.function == "add" and not s.leaf and _small_number(s) is not None]
    roots = [s for s in sites if s.function in ("sqrt", "rsqrt") and not s.leaf]
    for site in adds:
        right = _small_number(site)
        assert right is not None
        for value in dict.fromkeys((*hints.of_names("epsilon", "eps"), *_EPSILONS)):
            if value != right:
                text = f"Flax uses epsilon={number(value)}; torch's {site.where} uses {number(right)}."
                yield Variant("epsilon", text, f"epsilon = {number(right)}", {site.key: _added(value)}, COMMON)
        for root in roots:
            yield from _other_side(site, root, right)


def _other_side(site: Site, root: Site, eps: float) -> Iterator[Variant]:
    inverse = root.function == "rsqrt"

    def outside(original: Original, args: tuple, kwargs: dict) -> Any:
        return 1 / (args[0].sqrt() + eps) if inverse else args[0].sqrt() + eps

    def inside(original: Original, args: tuple, kwargs: dict) -> Any:
        return original(args[0] + eps)

    for name, change, words in (
        ("epsilon-outside-root", outside, ("to the root", "under the root")),
        ("epsilon-inside-root", inside, ("under the root", "to the root")),
    ):
        text = f"Flax adds epsilon {words[0]}; torch's {root.where} adds it {words[1]}."
        fix = f"add {number(eps)} {words[1]}"
        yield Variant(name, text, fix, {site.key: _added(0.0), root.key: change}, USUAL)


def _small_number(site: Site) -> float | None:
    numbers = [a for a in site.args if isinstance(a, float)]
    return numbers[0] if len(numbers) == 1 and 0 < abs(numbers[0]) <= 1e-2 else None


def _added(value: float) -> Change:
    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        return original(*[value if isinstance(a, float) else a for a in args], **kwargs)

    return change


SITE_RULES = (epsilon, running_statistics, affine, statistics, normalized_vectors)
MODULE_RULES = (handwritten_epsilon,)
