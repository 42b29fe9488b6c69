"""Types and helpers for known mistakes: changed calls of the torch module, and texts that describe the mistakes."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from flax import nnx

from flaxnets.parity._torch import torch
from flaxnets.parity.causes.sites import Change, Key, Original, Plan, Site

# Ranks of mistakes, from likely to unlikely. The search tries likely mistakes first.
COMMON, USUAL, RARE, ODD = range(4)


@dataclasses.dataclass(frozen=True)
class Cause:
    """A mistake that explains a difference.

    Attributes:
        name: a short name, such as ``"gelu-approximation"``.
        text: a description of what the Flax module does, and of what the torch module does.
        fix: the line to change in the Flax module.
        before: the error of the Flax module, divided by the gate.
        after: the error that remains if the torch module makes the same mistake, divided by the gate.
    """

    name: str
    text: str
    fix: str
    before: float
    after: float

    def __str__(self) -> str:
        return f"{self.text} Fix: {self.fix}"


@dataclasses.dataclass(frozen=True)
class Option:
    """One mistake in one call.

    Attributes:
        name: the name of the :class:`Cause`.
        text: the text of the :class:`Cause`; ``{where}`` stands for the module that makes the call.
        fix: the fix of the :class:`Cause`.
        change: the change of the call that makes the mistake in torch.
        rank: rank of the mistake; lower ranks are more likely.
    """

    name: str
    text: str
    fix: str
    change: Change
    rank: int = USUAL


@dataclasses.dataclass(frozen=True)
class Variant:
    """One mistake in one or more calls."""

    name: str
    text: str
    fix: str
    plan: Plan
    rank: int = USUAL
    joins: tuple["Variant", ...] = ()

    @property
    def parts(self) -> tuple["Variant", ...]:
        """The single mistakes of a combination; the first mistake is the outermost."""
        return self.joins or (self,)

    def joined(self, other: "Variant") -> "Variant":
        """Combine two mistakes. If both change the same call, this mistake is applied around the other mistake."""
        plan = {**other.plan, **self.plan}
        for key in self.plan.keys() & other.plan.keys():
            plan[key] = around(self.plan[key], other.plan[key])
        text, fix = f"{self.text} {other.text}", f"{self.fix}; {other.fix}"
        name = f"{self.name}+{other.name}"
        return Variant(name, text, fix, plan, self.rank + other.rank, (*self.parts, *other.parts))


def around(outer: Change, inner: Change) -> Change:
    """Combine two changes of one call: the calls of the outer change go through the inner change."""

    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            return inner(original, args, kwargs)

        return outer(dataclasses.replace(original, call=call), args, kwargs)

    return change


@dataclasses.dataclass(frozen=True)
class Unknown:
    """A mistake that contains an unknown number, such as a factor or a slope.

    Attributes:
        name: the name of the :class:`Cause`.
        start: the number for which there is no mistake.
        variant: a function that returns the mistake for a number.
    """

    name: str
    start: float
    variant: Callable[[float], Variant]
    rank: int = ODD


@dataclasses.dataclass(frozen=True)
class Hints:
    """The attributes of the Flax module's layers, which suggest numbers to try.

    Attributes:
        numbers: the values of the attributes, by name.
    """

    numbers: Mapping[str, tuple[Any, ...]]

    @classmethod
    def of(cls, flax_module: nnx.Module) -> "Hints":
        """Collect the attributes of all layers."""
        numbers: dict[str, list[Any]] = {}
        for _, module in nnx.iter_graph(flax_module):
            if not isinstance(module, nnx.Module):
                continue
            for name, value in vars(module).items():
                if isinstance(value, (bool, int, float, str, tuple)) and value not in numbers.setdefault(name, []):
                    numbers[name].append(value)
        return cls({name: tuple(values) for name, values in numbers.items()})

    def of_names(self, *names: str) -> tuple[float, ...]:
        """Return the numbers among the values of the named attributes."""
        values = (value for name in names for value in self.numbers.get(name, ()))
        return tuple(dict.fromkeys(value for value in values if isinstance(value, (int, float))))


SiteRule = Callable[[Site, Hints], Iterable[Option]]
ModuleRule = Callable[[Sequence[Site], Hints], Iterable["Variant | Unknown"]]


def at_sites(sites: Sequence[Site], rules: Sequence[SiteRule], hints: Hints) -> Iterator[Variant]:
    """Yield the mistakes of rules for calls: each mistake in all calls, in groups of calls, and in single calls."""
    groups: dict[tuple[str, str], list[tuple[Site, Option]]] = {}
    for rule, site in itertools.product(rules, sites):
        for option in guarded(lambda rule=rule, site=site: rule(site, hints)):
            groups.setdefault((option.name, option.text), []).append((site, option))
    for members in groups.values():
        first_site, first = members[0]
        text = first.text.format(where=first_site.where)
        yield Variant(first.name, text, first.fix, {site.key: o.change for site, o in members}, first.rank)
        if len(members) > 1:
            for part, surcharge in (*_repetitions(members), *(([member], 1) for member in members)):
                site, o = part[0]
                plan = {s.key: option.change for s, option in part}
                yield Variant(o.name, o.text.format(where=site.where), o.fix, plan, o.rank + surcharge)


def _repetitions(members: Sequence[tuple[Site, Option]]) -> Iterator[tuple[list[tuple[Site, Option]], int]]:
    """Yield groups of calls that one line probably makes repeatedly, and the number to add to the rank.

    A group contains the n-th function call of each call of a module, or every second, third or fourth call.
    """
    by_line: dict[tuple[str, str, int], list[tuple[Site, Option]]] = {}
    for site, option in members:
        key = site.key
        by_line.setdefault((key.module, key.function, key.ordinal), []).append((site, option))
    if len(by_line) > 1:
        yield from ((group, 0) for group in by_line.values() if len(group) > 1)
    for period in (2, 3, 4):
        if len(members) > period and len(members) % period == 0:
            yield from ((list(members[first::period]), 1) for first in range(period))


def guarded(propose: Callable[[], Iterable[Any]]) -> Iterator[Any]:
    """Yield the proposals of a rule. An exception ends this rule, but not the search."""
    try:
        yield from propose()
    except Exception:
        return


# The arguments of torch's functions in order, as far as the rules read or change these arguments.
SIGNATURES: Mapping[str, tuple[str, ...]] = {
    "layer_norm": ("input", "normalized_shape", "weight", "bias", "eps"),
    "rms_norm": ("input", "normalized_shape", "weight", "eps"),
    "group_norm": ("input", "num_groups", "weight", "bias", "eps"),
    "batch_norm": ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    "instance_norm": (
        "input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps",
    ),
    "normalize": ("input", "p", "dim", "eps"),
    "linear": ("input", "weight", "bias"),
    "bilinear": ("input1", "input2", "weight", "bias"),
    **{f"conv{n}d": ("input", "weight", "bias", "stride", "padding", "dilation", "groups") for n in (1, 2, 3)},
    **{
        f"conv_transpose{n}d": ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
        for n in (1, 2, 3)
    },
    **{
        f"max_pool{n}d": ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
        for n in (1, 2, 3)
    },
    "avg_pool1d": ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
    **{
        f"avg_pool{n}d": (
            "input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override",
        )
        for n in (2, 3)
    },
    **{f"adaptive_{kind}_pool{n}d": ("input", "output_size") for kind in ("avg", "max") for n in (1, 2, 3)},
    "pad": ("input", "pad", "mode", "value"),
    "interpolate": (
        "input", "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias",
    ),
    "grid_sample": ("input", "grid", "mode", "padding_mode", "align_corners"),
    "affine_grid": ("theta", "size", "align_corners"),
    "unfold": ("input", "kernel_size", "dilation", "padding", "stride"),
    "gelu": ("input", "approximate"),
    "leaky_relu": ("input", "negative_slope", "inplace"),
    "elu": ("input", "alpha", "inplace"),
    "celu": ("input", "alpha", "inplace"),
    "hardtanh": ("input", "min_val", "max_val", "inplace"),
    "softplus": ("input", "beta", "threshold"),
    "glu": ("input", "dim"),
    "dropout": ("input", "p", "training", "inplace"),
    "alpha_dropout": ("input", "p", "training", "inplace"),
    "dropout1d": ("input", "p", "training", "inplace"),
    "dropout2d": ("input", "p", "training", "inplace"),
    "dropout3d": ("input", "p", "training", "inplace"),
    "softmax": ("input", "dim"),
    "log_softmax": ("input", "dim"),
    **{
        name: ("input", "dim", "keepdim")
        for name in ("sum", "mean", "amax", "amin", "argmax", "logsumexp", "max", "min")
    },
    **{name: ("input", "dim") for name in ("cumsum", "cumprod", "prod", "softmin", "median", "std", "var")},
    "flip": ("input", "dims"),
    "roll": ("input", "shifts", "dims"),
    "cat": ("tensors", "dim"),
    "stack": ("tensors", "dim"),
    "chunk": ("input", "chunks", "dim"),
    "split": ("input", "split_size", "dim"),
    "unbind": ("input", "dim"),
    "tril": ("input", "diagonal"),
    "triu": ("input", "diagonal"),
    "masked_fill": ("input", "mask", "value"),
    "where": ("condition", "input", "other"),
    "clamp": ("input", "min", "max"),
    "embedding": (
        "input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse",
    ),
    "scaled_dot_product_attention": (
        "query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa",
    ),
    **{name: ("input", "hx", "weights", "has_biases", "num_layers", "dropout", "train", "bidirectional", "batch_first")
       for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    **{
        f"{kind}_cell": ("input", "hx", "w_ih", "w_hh", "b_ih", "b_hh")
        for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu")
    },
    "cross_entropy": (
        "input", "target", "weight", "size_average", "ignore_index", "reduce", "reduction", "label_smoothing",
    ),
    "nll_loss": ("input", "target", "weight", "size_average", "ignore_index", "reduce", "reduction"),
    "kl_div": ("input", "target", "size_average", "reduce", "reduction", "log_target"),
    "binary_cross_entropy": ("input", "target", "weight", "size_average", "reduce", "reduction"),
    "binary_cross_entropy_with_logits": (
        "input", "target", "weight", "size_average", "reduce", "reduction", "pos_weight",
    ),
    "mse_loss": ("input", "target", "size_average", "reduce", "reduction"),
    "l1_loss": ("input", "target", "size_average", "reduce", "reduction"),
    "smooth_l1_loss": ("input", "target", "size_average", "reduce", "reduction", "beta"),
    "huber_loss": ("input", "target", "reduction", "delta"),
}  # fmt: skip


def argument(site_or_call: "Site | tuple[str, tuple, dict]", name: str, default: Any = None) -> Any:
    """Return an argument of a call by its name."""
    if isinstance(site_or_call, Site):
        function, args, kwargs = site_or_call.function, site_or_call.args, site_or_call.kwargs
    else:
        function, args, kwargs = site_or_call
    names = SIGNATURES[function]
    i = names.index(name)
    value = args[i] if i < len(args) else kwargs.get(name, default)
    return default if value is None else value


def setting(function: str, **changes: Any) -> Change:
    """Return a change of arguments. A callable value gets the old value and returns the new value."""
    names = SIGNATURES[function]

    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        new_args, new_kwargs = list(args), dict(kwargs)
        for name, value in changes.items():
            i = names.index(name)
            if i < len(new_args):
                new_args[i] = value(new_args[i]) if callable(value) else value
            else:
                new_kwargs[name] = value(new_kwargs.get(name)) if callable(value) else value
        return original(*new_args, **new_kwargs)

    return change


def on_result(function: Callable[[torch.Tensor], Any]) -> Change:
    """Return a change of the result."""
    return lambda original, args, kwargs: function(original(*args, **kwargs))


def on_input(function: Callable[[torch.Tensor], Any]) -> Change:
    """Return a change of the first argument."""
    return lambda original, args, kwargs: original(function(args[0]), *args[1:], **kwargs)


def instead(function: Callable[..., Any]) -> Change:
    """Return a change that calls another function on the first argument."""
    return lambda original, args, kwargs: function(args[0] if args else next(iter(kwargs.values())))


def left_out(original: Original, args: tuple, kwargs: dict) -> Any:
    """Return the first argument unchanged."""
    return args[0] if args else next(iter(kwargs.values()))


def doubled(original: Original, args: tuple, kwargs: dict) -> Any:
    """Make the call twice: the second call gets the result of the first."""
    return original(original(*args, **kwargs), *args[1:], **kwargs)


def number(value: float) -> str:
    """Format a number with at most six digits."""
    return f"{value:.6g}"


def is_native(hints: Hints) -> bool:
    """Return whether the Flax module contains Flax's own layers, whose attributes have other names than torch's."""
    return any(name in hints.numbers for name in ("epsilon", "use_bias", "use_scale", "kernel_init"))


def plan_of(sites: Iterable[Site], change: Change) -> dict[Key, Change]:
    """Return the plan with the same change of several calls."""
    return {site.key: change for site in sites}
