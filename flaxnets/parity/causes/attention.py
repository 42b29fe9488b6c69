"""Known mistakes in attention: scale, masks, heads, positions, and the order of queries, keys and values."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch.utils import _pytree as pytree

from flaxnets.parity._torch import torch
from flaxnets.parity.causes.sites import Change, Described, Key, Original, Site
from flaxnets.parity.causes.variants import (
    COMMON,
    RARE,
    USUAL,
    Hints,
    Option,
    Variant,
    argument,
    left_out,
    number,
    on_input,
    on_result,
    setting,
)

_SDPA = "scaled_dot_product_attention"
_HEADS = ("num_heads", "n_heads", "nhead", "n_head", "heads", "num_attention_heads")


def fused(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of the scale, the mask and the operands of torch's attention function."""
    if site.function != _SDPA or site.input is None:
        return
    *_, heads, _, size = (1, *site.input.shape)
    right = argument(site, "scale", size**-0.5)
    for words, value in (
        ("does not scale", 1.0),
        ("divides by the head size", 1 / size),
        ("divides by the square root of the embedding size", (size * heads) ** -0.5),
        ("multiplies by the square root of the head size", size**0.5),
        ("divides by the fourth root of the head size", size**-0.25),
    ):
        if abs(value - right) > 1e-9:
            text = f"Flax {words} (factor {number(value)}); torch's {{where}} has the factor {number(right)}."
            fix = (
                f"scores * {number(right)}, which is 1 / sqrt({size})"
                if abs(right * size**0.5 - 1) < 1e-9
                else f"scores * {right}"
            )
            yield Option("attention-scale", text, fix, setting(_SDPA, scale=value), COMMON)
    causal, mask = bool(argument(site, "is_causal", False)), argument(site, "attn_mask")
    if mask is None:
        text = (
            f"Flax {'has no' if causal else 'has a'} causal mask; torch's {{where}} has {'one' if causal else 'none'}."
        )
        yield Option("causal-mask", text, f"is_causal={causal}", setting(_SDPA, is_causal=not causal), COMMON)
        for offset, words in ((-1, "excludes the position itself"), (1, "includes the next position")):
            text = f"Flax's causal mask {words}; torch's {{where}} allows all positions up to the position itself."
            yield Option("causal-mask", text, "jnp.tril(jnp.ones((n, n)))", _causal(offset), RARE)
        text = "Flax masks earlier positions; torch's {where} masks later positions."
        yield Option("causal-mask", text, "jnp.tril(jnp.ones((n, n)))", _causal(None), USUAL)
    else:
        text = "Flax has no attention mask; torch's {where} has one."
        yield Option("mask-missing", text, "mask=mask", setting(_SDPA, attn_mask=None), COMMON)
    for words, order in (
        ("queries and keys", (1, 0, 2)),
        ("keys and values", (0, 2, 1)),
        ("queries and values", (2, 1, 0)),
    ):
        text = f"Flax exchanges {words}; torch's {{where}} does not."
        yield Option("split-order", text, "order: query, key, value", _reordered(order), USUAL)
    text = "Flax computes the softmax over the queries; torch's {where} over the keys."
    yield Option("softmax-axis", text, "jax.nn.softmax(scores, axis=-1)", _over_queries, COMMON)


def _causal(offset: int | None) -> Change:
    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        rows, columns = args[0].shape[-2], args[1].shape[-2]
        mask = torch.ones(rows, columns, dtype=torch.bool)
        mask = mask.triu() if offset is None else mask.tril(offset)
        return setting(_SDPA, is_causal=False, attn_mask=mask)(original, args, kwargs)

    return change


def _reordered(order: Sequence[int]) -> Change:
    return lambda original, args, kwargs: original(*(args[i] for i in order), *args[3:], **kwargs)


def _over_queries(original: Original, args: tuple, kwargs: dict) -> torch.Tensor:
    q, k, v = args[:3]
    call = (_SDPA, args, kwargs)
    scores = q @ k.transpose(-1, -2) * argument(call, "scale", q.shape[-1] ** -0.5)
    mask = argument(call, "attn_mask")
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return torch.softmax(scores, -2) @ v


def masks(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of a mask: opposite polarity, a wrong fill value, a missing mask, or wrong positions."""
    described = pytree.tree_leaves((site.args, site.kwargs))
    if any(isinstance(leaf, Described) and leaf.dtype == torch.bool for leaf in described):
        yield from _boolean_masks(site)
    if site.function == "masked_fill" and not site.leaf:
        yield from _filled_masks(site)
    if site.function == "where" and not site.leaf:
        for position in (1, 2):
            text = "Flax does not select values by a condition; torch's {where} does."
            yield Option("mask-missing", text, "jnp.where(...)", _only(position), USUAL)
    if site.function in ("tril", "triu"):
        yield from _triangles(site)
    if site.function == "softmax" and site.input is not None and len(site.input.shape) >= 3:
        rows, columns = site.input.shape[-2:]
        if rows == columns:
            text = "Flax has a causal mask; torch's {where} has none."
            change = on_input(lambda x: x.masked_fill(torch.ones_like(x, dtype=torch.bool).triu(1), -torch.inf))
            yield Option("causal-mask", text, "no mask", change, USUAL)


def _boolean_masks(site: Site) -> Iterator[Option]:
    if site.function not in ("invert", "logical_not"):
        text = "Flax's mask has the opposite polarity: True in Flax means False for torch's {where}."
        yield Option("mask-polarity", text, "mask=~mask", _inverted, COMMON if not site.is_module else USUAL)
        if site.function == "masked_fill":
            yield from _finite_masks(text)
    if site.is_module:
        for name, value in site.kwargs.items():
            if isinstance(value, Described) and value.dtype == torch.bool:
                text = f"Flax does not use {name}; torch's {{where}} does."
                yield Option("mask-missing", text, f"{name}={name}", _without(name), COMMON)


def _filled_masks(site: Site) -> Iterator[Option]:
    text = "Flax does not mask; torch's {where} does."
    yield Option("mask-missing", text, "jnp.where(mask, value, x)", left_out, COMMON)
    right = argument(site, "value")
    for value in (-math.inf, -1e9, -1e4, 0.0, torch.finfo(torch.float32).min):
        if value != right:
            text = f"Flax fills masked positions with {value:g}; torch's {{where}} with {right}."
            yield Option("mask-value", text, f"jnp.where(mask, {right}, x)", setting("masked_fill", value=value))


def _triangles(site: Site) -> Iterator[Option]:
    right = argument(site, "diagonal", 0)
    for value in (right - 1, right + 1):
        text = f"Flax's {site.function} begins at diagonal {value}; torch's {{where}} at {right}."
        change = setting(site.function, diagonal=value)
        yield Option("causal-mask", text, f"jnp.{site.function}(..., k={right})", change)
    text = "Flax masks earlier positions; torch's {where} masks later positions."
    yield Option("causal-mask", text, f"jnp.{site.function}(..., k={right})", on_result(lambda x: x.mT), USUAL)


def _finite_masks(inverted: str) -> Iterator[Option]:
    """Yield wrong masks with finite fill values: if a whole row is masked, infinite values would give NaN."""
    transposed = "Flax masks earlier positions; torch's {where} masks later positions."
    for value in (None, torch.finfo(torch.float64).min, torch.finfo(torch.float32).min, -1e9, -1e10, -1e4):
        changes: dict[str, Any] = {} if value is None else {"value": value}
        if value is not None:
            change = setting("masked_fill", mask=lambda m: ~m, **changes)
            yield Option("mask-polarity", inverted, "mask=~mask", change, COMMON)
        change = setting("masked_fill", mask=lambda m: m.mT, **changes)
        yield Option("causal-mask", transposed, "jnp.tril(mask)", change, COMMON)


def _inverted(original: Original, args: tuple, kwargs: dict) -> Any:
    def invert(leaf: Any) -> Any:
        return ~leaf if isinstance(leaf, torch.Tensor) and leaf.dtype == torch.bool else leaf

    args, kwargs = pytree.tree_map(invert, (args, kwargs))
    return original(*args, **kwargs)


def _without(name: str) -> Change:
    return lambda original, args, kwargs: original(*args, **{k: v for k, v in kwargs.items() if k != name})


def _only(position: int) -> Change:
    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        result = original(*args, **kwargs)
        branch = args[position]
        return torch.as_tensor(branch, dtype=result.dtype).expand_as(result)

    return change


def projections(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield wrong orders of the parts of a joint projection, such as key, query, value."""
    if site.function != "linear" or not isinstance(site.result, Described):
        return
    width = site.result.shape[-1]
    for parts in (3, 2, 4):
        if width % parts:
            continue
        for order in itertools.permutations(range(parts)):
            if order == tuple(range(parts)):
                continue
            text = (
                f"Flax uses the {parts} parts of the projection in the order {order}; "
                f"torch's {{where}} in the order of storage."
            )
            change = on_result(lambda y, o=order: torch.cat([y.chunk(len(o), -1)[i] for i in o], -1))
            yield Option("split-order", text, f"order {tuple(range(parts))}", change, USUAL if parts == 3 else RARE)
    # If the projection is a separate layer, the number of heads is an attribute of another module.
    attributes = [getattr(site.module, name, None) for name in _HEADS]
    heads = next((h for h in [*attributes, *hints.of_names(*_HEADS)] if isinstance(h, int)), 1)
    if heads > 1 and width % (3 * heads) == 0:
        for shape, words in (
            ((heads, 3, -1), "(head, qkv, size)"),
            ((3, -1, heads), "(qkv, size, head)"),
            ((-1, 3, heads), ""),
        ):
            text = (
                f"Flax splits the projection as {words or '(size, qkv, head)'}; torch's {{where}} as (qkv, head, size)."
            )
            axes = {(heads, 3, -1): (1, 0, 2), (3, -1, heads): (0, 2, 1), (-1, 3, heads): (1, 2, 0)}[shape]
            change = on_result(lambda y, s=shape, a=axes: _permuted_parts(y, s, a))
            yield Option("head-order", text, "reshape(..., 3, heads, size)", change, USUAL)


def _permuted_parts(y: torch.Tensor, shape: tuple[int, ...], axes: tuple[int, ...]) -> torch.Tensor:
    split = y.unflatten(-1, shape)
    first = split.ndim - 3
    return split.permute(*range(first), *(first + a for a in axes)).flatten(-3)


def scales(sites: Sequence[Site], hints: Hints) -> Iterator[Variant]:
    """Yield wrong constant factors: the scale of attention scores, of embeddings or of a residual branch."""
    for site in sites:
        factor = _factor(site)
        if factor is None or not isinstance(site.result, Described):
            continue
        name = name_of_factor(site, sites)
        size = site.result.shape[-1] if site.result.shape else 1
        for value in dict.fromkeys(
            (1.0, factor**2, 1 / factor, factor**0.5 if factor > 0 else 1.0, 1 / size, size**-0.5, size**0.5)
        ):
            if abs(value - factor) > 1e-12:
                text = f"Flax multiplies by {number(value)}; torch's {site.where} multiplies by {number(factor)}."
                yield Variant(name, text, f"x * {number(factor)}", {site.key: _scaled(value / factor)}, COMMON)


def _factor(site: Site) -> float | None:
    if site.function not in ("mul", "div") or site.leaf:
        return None
    numbers = [float(a) for a in site.args if isinstance(a, (int, float)) and not isinstance(a, bool)]
    if len(numbers) != 1 or not numbers[0]:
        return None
    return numbers[0] if site.function == "mul" else 1 / numbers[0]


def name_of_factor(site: Site, sites: Sequence[Site]) -> str:
    """Return the cause name of a wrong factor, from the calls around the multiplication."""
    functions = [s.function for s in sites if s.key.module == site.key.module]
    after_softmax = functions[functions.index("softmax") :] if "softmax" in functions else []
    if _SDPA in functions or {"matmul", "einsum", "baddbmm"} & set(after_softmax):
        return "attention-scale"
    embeddings = {s.result.token for s in sites if s.function == "embedding" and isinstance(s.result, Described)}
    operands = {a.token for a in site.args if isinstance(a, Described)}
    return "embedding-scale" if operands & embeddings else "scale"


def averages(sites: Sequence[Site], hints: Hints) -> Iterator[Variant]:
    """Yield running averages c * old + (1 - c) * new with exchanged factors."""
    factors = [(site, factor) for site in sites if (factor := _factor(site)) is not None]
    plan: dict[Key, Change] = {}
    single: list[dict[Key, Change]] = []
    for (a, first), (b, second) in itertools.combinations(factors, 2):
        if a.key.module == b.key.module and abs(first + second - 1) < 1e-9 and first != second:
            single.append({a.key: _scaled(second / first), b.key: _scaled(first / second)})
            plan |= single[-1]
    for exchanged in [plan, *single] if plan else []:
        where = next(site.where for site, _ in factors if site.key in plan)
        text = f"Flax exchanges the factors of a running average; torch's {where} does not."
        yield Variant("momentum-reversed", text, "momentum = 1 - momentum", exchanged, COMMON)


def _scaled(factor: float) -> Callable[..., Any]:
    return on_result(lambda x: x * factor)


def positions(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of positions and embeddings: an offset, a factor, or a gradient for the padding index."""
    if site.function == "embedding":
        weight = argument(site, "weight")
        for offset in (1, -1, 2, -2):
            text = f"Flax looks up index + {offset}; torch's {{where}} looks up the index."
            change = on_input(lambda i, o=offset: i + o)
            yield Option("position-offset", text, "positions as in torch", change, USUAL)
        for factor, words in (
            (weight.shape[1] ** 0.5, "the square root of its size"),
            (weight.shape[1] ** -0.5, "1 / (the square root of its size)"),
        ):
            text = f"Flax multiplies the embedding by {words}; torch's {{where}} does not."
            yield Option("embedding-scale", text, "no factor", on_result(lambda x, f=factor: x * f), USUAL)
        text = "Flax has a gradient for the padding index; torch's {where} has none."
        if argument(site, "padding_idx") is not None:
            yield Option(
                "padding-index",
                text,
                f"padding_idx={argument(site, 'padding_idx')}",
                setting("embedding", padding_idx=None),
                USUAL,
            )
    if site.function == "arange":
        for offset in (1, -1):
            text = f"Flax counts positions from {offset}; torch's {{where}} counts from 0."
            yield Option("position-offset", text, "jnp.arange(n)", on_result(lambda x, o=offset: x + o), COMMON)
        text = "Flax counts positions backwards."
        yield Option("position-offset", text, "jnp.arange(n)", on_result(lambda x: x.flip(0)), RARE)
    if site.function == "getitem" and len(site.args) == 2 and site.input is not None:
        for offset in (1, -1):
            index = _shifted(site.args[1], offset, site.input.shape)
            if index is not None:
                text = f"Flax's slice is shifted by {offset:+d}; torch's {{where}} has no shift."
                change = _indexed(index)
                yield Option("position-offset", text, "the slice as in torch", change, USUAL)


def _shifted(index: Any, offset: int, shape: tuple[int, ...]) -> Any:
    """Return the index with its first bounded slice shifted, None if this is impossible."""
    parts = list(index) if isinstance(index, tuple) else [index]
    for i, part in enumerate(parts):
        if isinstance(part, slice) and isinstance(part.stop, int) and i < len(shape):
            start, stop = (part.start or 0) + offset, part.stop + offset
            if start >= 0 and 0 < stop <= shape[i]:
                parts[i] = slice(start, stop, part.step)
                return tuple(parts)
    return None


def _indexed(index: Any) -> Change:
    return lambda original, args, kwargs: original(args[0], index)


SITE_RULES = (fused, masks, projections, positions)
MODULE_RULES = (scales, averages)
