"""Known mistakes with an unknown number: a wrong constant, or a factor that torch does not have."""

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from flaxnets.parity.causes.attention import name_of_factor
from flaxnets.parity.causes.sites import Described, Original, Site
from flaxnets.parity.causes.structure import own_calls, root_call, words_for
from flaxnets.parity.causes.variants import ODD, SIGNATURES, Hints, Unknown, Variant, number, on_result, plan_of


def unknown_numbers(sites: Sequence[Site], hints: Hints) -> Iterator[Unknown]:
    """Yield wrong constants, and factors that torch does not have."""
    root = root_call(sites)
    visible = [*([root] if root else []), *own_calls(sites)]
    for site in [s for s in sites if not s.is_module]:
        cause = name_of_factor(site, sites) if site.function in ("mul", "div") else "constant"
        for key, value in [*enumerate(site.args), *site.kwargs.items()]:
            if isinstance(value, float):
                yield Unknown(cause, value, partial(_other_constant, site, key, cause))
    for target in visible:
        if isinstance(target.result, Described) and target.result.is_float:
            yield Unknown("factor", 1.0, partial(_factor, name_of_factor(target, sites), [target]))
    calls: dict[tuple[str, str, int], list[Site]] = {}
    for target in visible:
        calls.setdefault((target.key.module, target.key.function, target.key.ordinal), []).append(target)
    for repeated in calls.values():  # Calls of one line in a loop.
        if len(repeated) > 1 and isinstance(repeated[0].result, Described) and repeated[0].result.is_float:
            yield Unknown("factor", 1.0, partial(_factor, name_of_factor(repeated[0], sites), repeated))


def _other_constant(site: Site, key: int | str, cause: str, value: float) -> Variant:
    names = SIGNATURES.get(site.function, ())
    name = key if isinstance(key, str) else names[key] if key < len(names) else ""
    right = site.kwargs[key] if isinstance(key, str) else site.args[key]

    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        args = tuple(value if i == key else a for i, a in enumerate(args))
        return original(*args, **{k: value if k == key else a for k, a in kwargs.items()})

    words = f"{name}={{}}" if name else "{}"
    text = (
        f"Flax computes {site.function} with {words.format(number(value))}; "
        f"torch's {site.where} with {words.format(number(right))}."
    )
    names_of_arguments = {"eps": "epsilon", "negative_slope": "negative-slope", "alpha": "alpha", "beta": "beta"}
    cause = names_of_arguments.get(name, cause)
    return Variant(cause, text, f"{site.function} with {words.format(number(right))}", {site.key: change}, ODD)


def _factor(name: str, sites: Sequence[Site], value: float) -> Variant:
    site = sites[0]
    text = f"Flax multiplies the result of {words_for(site)} by {number(value)}{_meaning(value, site)}; torch does not."
    change = on_result(lambda x: x * value)
    plan = plan_of(sites, change)
    if _is_bessel(value, site):
        text = f"Flax divides a variance by n - 1 before {words_for(site)}; torch divides it by n."
        return Variant("variance-unbiased", text, "jnp.var(x, ddof=0)", plan, ODD)
    name = "factor" if name == "scale" else name
    return Variant(name, text, f"no factor after {words_for(site)}", plan, ODD)


def _is_bessel(value: float, site: Site) -> bool:
    """Return whether a factor is n / (n - 1), its inverse, or the square root of either, for a product n of sizes."""
    shapes = [leaf.shape for leaf in (site.result, site.input) if isinstance(leaf, Described)]
    counts = {
        math.prod(part) for shape in shapes for n in range(len(shape)) for part in itertools.combinations(shape, n + 1)
    }
    if value <= 0:
        return False
    for ratio in (value, 1 / value, value**2, value**-2):
        count = ratio / (ratio - 1) if ratio > 1 else 0.0
        if count > 2.5 and round(count) in counts and abs(count - round(count)) < 1e-6 * count:
            return True
    return False


def _meaning(value: float, site: Site) -> str:
    """Return the formula of a factor in parentheses, such as " (= sqrt(64))"; empty if unknown."""
    size = site.result.shape[-1] if site.result.shape else 1
    for words, candidate in (
        (f"sqrt({size})", size**0.5),
        (f"1 / sqrt({size})", size**-0.5),
        (f"1 / {size}", 1 / size),
    ):
        if size > 1 and abs(value / candidate - 1) < 1e-6:
            return f" (= {words})"
    return ""


MODULE_RULES = (unknown_numbers,)
