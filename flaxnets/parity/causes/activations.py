"""Known mistakes in activation functions and reductions: a wrong function or parameter, a missing or repeated call."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flaxnets.parity._torch import torch
from flaxnets.parity.causes.sites import Site
from flaxnets.parity.causes.variants import (
    COMMON,
    RARE,
    USUAL,
    Hints,
    Option,
    argument,
    doubled,
    instead,
    left_out,
    number,
    setting,
)

F = torch.nn.functional
Activation = Callable[[torch.Tensor], torch.Tensor]

# Functions that a Flax module may compute by mistake, and the expression in Flax for each function.
ACTIVATIONS: Mapping[str, tuple[Activation, str]] = {
    "relu": (torch.relu, "jax.nn.relu(x)"),
    "gelu": (F.gelu, "jax.nn.gelu(x, approximate=False)"),
    "tanh-approximated gelu": (lambda x: F.gelu(x, approximate="tanh"), "jax.nn.gelu(x, approximate=True)"),
    "sigmoid-approximated gelu": (lambda x: x * torch.sigmoid(1.702 * x), "x * jax.nn.sigmoid(1.702 * x)"),
    "silu": (F.silu, "jax.nn.silu(x)"),
    "tanh": (torch.tanh, "jnp.tanh(x)"),
    "sigmoid": (torch.sigmoid, "jax.nn.sigmoid(x)"),
    "leaky_relu": (F.leaky_relu, "jax.nn.leaky_relu(x)"),
    "relu6": (F.relu6, "jax.nn.relu6(x)"),
    "elu": (F.elu, "jax.nn.elu(x)"),
    "selu": (F.selu, "jax.nn.selu(x)"),
    "softplus": (F.softplus, "jax.nn.softplus(x)"),
    "hardsigmoid": (F.hardsigmoid, "jax.nn.hard_sigmoid(x)"),
    "hardswish": (F.hardswish, "jax.nn.hard_swish(x)"),
    "hardtanh": (F.hardtanh, "jax.nn.hard_tanh(x)"),
    "mish": (F.mish, "jax.nn.mish(x)"),
    "softsign": (F.softsign, "jax.nn.soft_sign(x)"),
    "logsigmoid": (F.logsigmoid, "jax.nn.log_sigmoid(x)"),
    "celu": (F.celu, "jax.nn.celu(x)"),
    "squared relu": (lambda x: torch.relu(x) ** 2, "jax.nn.relu(x) ** 2"),
    "abs": (torch.abs, "jnp.abs(x)"),
    "exp": (torch.exp, "jnp.exp(x)"),
    "softmax": (lambda x: torch.softmax(x, -1), "jax.nn.softmax(x)"),
    "log_softmax": (lambda x: torch.log_softmax(x, -1), "jax.nn.log_softmax(x)"),
}
# Functions for which the rule `another` searches mistakes. The rules `axis` and `reduction_kind` handle softmax.
NAMES = frozenset(
    {
        "relu", "gelu", "silu", "tanh", "sigmoid", "leaky_relu", "elu", "selu", "softplus", "hardsigmoid",
        "hardswish", "hardtanh", "relu6", "mish", "softsign", "logsigmoid", "log_sigmoid", "celu", "prelu", "rrelu",
        "softshrink", "hardshrink", "tanhshrink", "threshold", "glu", "exp", "abs", "sin", "cos", "sqrt", "softmin",
        "square", "log", "clamp", "clamp_min", "clamp_max",
    }
)  # fmt: skip
_SLOPES = {"leaky_relu": "negative_slope", "elu": "alpha", "celu": "alpha", "softplus": "beta"}


def gelu(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of a GELU: exact instead of approximate, or the reverse."""
    if site.function != "gelu":
        return
    tanh = argument(site, "approximate", "none") == "tanh"
    text = f"Flax computes {'the exact' if tanh else 'the tanh-approximated'} GELU; torch's {{where}} computes "
    text += "the tanh approximation." if tanh else "the exact one."
    fix = f"jax.nn.gelu(x, approximate={tanh})"
    yield Option("gelu-approximation", text, fix, setting("gelu", approximate="none" if tanh else "tanh"), COMMON)


def numbers(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield wrong parameters of an activation: the slope of a leaky ReLU, the alpha of an ELU."""
    name = _SLOPES.get(site.function)
    if name is None:
        return
    right = argument(site, name, 0.01 if name == "negative_slope" else 1.0)
    hinted = hints.of_names("negative_slope", "alpha", "beta", "slope")
    for value in dict.fromkeys((*hinted, 0.01, 0.2, 0.1, 0.3, 1.0, 0.25, 0.5, 0.02, 0.05, 2.0)):
        if value != right:
            text = f"Flax's {site.function} has {name}={number(value)}; torch's {{where}} has {number(right)}."
            fix = f"{name}={number(right)}"
            yield Option(name.replace("_", "-"), text, fix, setting(site.function, **{name: value}), COMMON)


def another(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of an activation: missing, applied twice, or another function."""
    if site.function not in NAMES or site.is_module or not site.keeps_shape:
        return
    fix = ACTIVATIONS[site.function][1] if site.function in ACTIVATIONS else f"the activation {site.function}"
    text = f"Flax has no {site.function}; torch's {{where}} has one."
    yield Option("activation-missing", text, fix, left_out, COMMON)
    text = f"Flax applies {site.function} twice; torch's {{where}} applies it once."
    yield Option("activation-doubled", text, fix, doubled, USUAL)
    for name, (function, _) in ACTIVATIONS.items():
        if name != site.function:
            text = f"Flax computes {name}; torch's {{where}} computes {site.function}."
            yield Option("activation-kind", text, fix, instead(function), USUAL)
    if site.function == "hardtanh":
        text = "Flax computes relu; torch's {where} also clips at an upper limit."
        yield Option("activation-kind", text, "jax.nn.relu6(x)", instead(torch.relu), USUAL)


def gated(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield the mistake of a gated unit whose gate is the wrong half."""
    if site.function != "glu" or site.input is None:
        return
    dim = argument(site, "dim", -1)

    def exchanged(x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, dim)
        return torch.sigmoid(a) * b

    text = "Flax uses the first half as the gate; torch's {where} uses the second half."
    yield Option("gate-order", text, "a, b = jnp.split(x, 2, axis); a * jax.nn.sigmoid(b)", instead(exchanged), COMMON)


_AXIS_FUNCTIONS = frozenset(
    {
        "softmax", "log_softmax", "softmin", "sum", "mean", "amax", "amin", "max", "min", "argmax", "cumsum",
        "cumprod", "prod", "logsumexp", "std", "var", "normalize", "glu", "flip", "median",
    }
)  # fmt: skip


def axis(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield wrong axes of a softmax, a sum, a mean or a similar function."""
    if site.function not in _AXIS_FUNCTIONS or site.input is None or site.is_module:
        return
    key = "dims" if site.function == "flip" else "dim"
    right = argument(site, key, 1 if site.function == "normalize" else None)
    ndim = len(site.input.shape)
    many = isinstance(right, (tuple, list))
    if right is None or (many and len(right) != 1):
        yield from _several_axes(site, key, right, ndim)
        return
    position = (right[0] if many else right) % ndim
    for other in range(ndim):
        if other != position:
            text = (
                f"Flax computes {site.function} along axis {other} (torch's order); torch's {{where}} along {position}."
            )
            change = setting(site.function, **{key: [other] if many else other})
            name = "softmax" if "softm" in site.function else site.function
            name = "norm-axes" if name == "normalize" else f"{name}-axis"
            yield Option(name, text, f"axis={position}", change, COMMON)


def _several_axes(site: Site, key: str, right: Any, ndim: int) -> Iterator[Option]:
    if site.function not in ("sum", "mean", "amax", "amin", "flip") or right is None:
        return
    axes = sorted(a % ndim for a in right)
    for shift in range(ndim):
        other = sorted((a + shift) % ndim for a in axes)
        if other != axes:
            text = (
                f"Flax computes {site.function} along the axes {other} (torch's order); torch's {{where}} along {axes}."
            )
            change = setting(site.function, **{key: tuple(other)})
            yield Option(f"{site.function}-axis", text, f"axis={tuple(axes)}", change, COMMON)


def reduction_kind(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield wrong reductions: a sum instead of a mean, a wrong kind of softmax, a wrong divisor of a variance."""
    if site.is_module or site.input is None:
        return
    kinds: dict[str, Any] = {"mean": torch.mean, "sum": torch.sum, "amax": torch.amax, "amin": torch.amin}
    if site.function in kinds:
        rest = _without_input(site)
        for name, function in kinds.items():
            if name != site.function:
                text = f"Flax computes the {name}; torch's {{where}} computes the {site.function}."
                fix = f"jnp.{site.function.replace('amax', 'max').replace('amin', 'min')}(...)"
                cause = "reduction" if {name, site.function} == {"mean", "sum"} else "pooling-kind"
                yield Option(cause, text, fix, instead(lambda x, f=function: f(x, **rest)), USUAL)
    if site.function in ("softmax", "log_softmax"):
        dim = argument(site, "dim", -1)
        other = torch.log_softmax if site.function == "softmax" else torch.softmax
        text = f"Flax computes {other.__name__}; torch's {{where}} computes {site.function}."
        fix = f"jax.nn.{site.function}(x, axis={dim})"
        yield Option("activation-kind", text, fix, instead(lambda x: other(x, dim)), USUAL)
        yield Option("activation-missing", f"Flax has no {site.function}; torch's {{where}} has one.", fix, left_out)
        text = f"Flax computes sigmoid; torch's {{where}} computes {site.function}."
        yield Option("activation-kind", text, fix, instead(torch.sigmoid), RARE)
        text = f"Flax applies {site.function} twice; torch's {{where}} once."
        yield Option("activation-doubled", text, fix, instead(lambda x: (f := _same(site))(f(x, dim), dim)), USUAL)
    if site.function in ("var", "std"):
        unbiased = site.kwargs.get("unbiased", True) and site.kwargs.get("correction", 1) != 0
        unbiased = unbiased and False not in site.args[1:]
        text = f"Flax divides by {'n' if unbiased else 'n - 1'}; torch's {{where}} by {'n - 1' if unbiased else 'n'}."
        dims = {k: v for k, v in _without_input(site).items() if k in ("dim", "keepdim")}
        function = getattr(torch, site.function)
        change = instead(lambda x: function(x, correction=0 if unbiased else 1, **dims))
        name = "variance-biased" if unbiased else "variance-unbiased"
        yield Option(name, text, f"ddof={int(unbiased)}", change, COMMON)


def _same(site: Site) -> Any:
    return getattr(torch, site.function)


def _without_input(site: Site) -> dict[str, Any]:
    """Return the axes and ``keepdim`` of a reduction as keyword arguments."""
    options = {k: v for k, v in site.kwargs.items() if k in ("dim", "keepdim")}
    rest = site.args[1:]
    if rest and all(isinstance(a, int) and not isinstance(a, bool) for a in rest):
        options["dim"] = tuple(rest)  # Torch accepts several axes as in x.sum(1, 2).
    elif rest:
        options["dim"] = rest[0]
        if len(rest) > 1 and isinstance(rest[-1], bool) and site.function not in ("var", "std"):
            options["keepdim"] = rest[-1]
    return {k: v for k, v in options.items() if v is not None}


SITE_RULES = (gelu, numbers, another, gated, axis, reduction_kind)
