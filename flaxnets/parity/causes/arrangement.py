"""Known mistakes in the order of axes and values: in reshapes, splits, concatenations, transpositions and rolls."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from flaxnets.parity._torch import torch
from flaxnets.parity.causes.sites import Change, Described, Original, Site
from flaxnets.parity.causes.variants import (
    COMMON,
    RARE,
    USUAL,
    Hints,
    Option,
    Variant,
    argument,
    instead,
    left_out,
    on_input,
    on_result,
    plan_of,
    setting,
)

Shape = tuple[int, ...]
_RESHAPES = ("view", "reshape", "flatten", "unflatten")
_TRANSPOSES = ("transpose", "permute", "moveaxis", "t", "adjoint", "swapaxes")


def _groups(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]] | None:
    """Return which axes a reshape merges or splits: pairs of axis lists with the same number of values."""
    result, i, j = [], 0, 0
    while i < len(before) and j < len(after):
        left, right, a, b = [i], [j], before[i], after[j]
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                if i == len(before):
                    return None
                a *= before[i]
                left.append(i)
                i += 1
            else:
                if j == len(after):
                    return None
                b *= after[j]
                right.append(j)
                j += 1
        result.append((left, right))
    return result


def reshaping(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield wrong orders of the axes that a reshape merges or splits, such as NHWC instead of NCHW."""
    if site.function not in _RESHAPES or site.is_module or site.input is None or not isinstance(site.result, Described):
        return
    before, after = site.input.shape, site.result.shape
    if math.prod(before) == 0:
        return
    for left, right in _groups(before, after) or []:
        if 1 < len(left) <= 4:
            yield from _merges(before, after, left)
        if 1 < len(right) <= 4:
            yield from _splits(after, right)


def _merges(before: Shape, after: Shape, axes: Sequence[int]) -> Iterator[Option]:
    for order in itertools.permutations(axes):
        if order == tuple(axes):
            continue
        permutation = [*range(axes[0]), *order, *range(axes[-1] + 1, len(before))]
        channels_last = len(axes) > 1 and order == (*axes[1:], axes[0])
        words = "with channels last (NHWC)" if channels_last and len(before) == 4 else f"in the order {order}"
        text = f"Flax flattens the axes {words}; torch's {{where}} flattens them in the order {tuple(axes)}."
        fix = "x.transpose(0, 3, 1, 2).reshape(...)" if channels_last and len(before) == 4 else f"order {tuple(axes)}"
        change = instead(lambda x, p=permutation: x.permute(p).reshape(after))
        yield Option("flatten-order", text, fix, change, COMMON if channels_last else USUAL)


def _splits(after: Shape, axes: Sequence[int]) -> Iterator[Option]:
    for order in itertools.permutations(axes):
        if order == tuple(axes):
            continue
        permutation = [*range(axes[0]), *order, *range(axes[-1] + 1, len(after))]
        split = [after[i] for i in permutation]
        back = [permutation.index(i) for i in range(len(after))]
        text = (
            f"Flax splits an axis in the order {order} of torch's axes; torch's {{where}} in the order {tuple(axes)}."
        )
        change = instead(lambda x, s=split, b=back: x.reshape(s).permute(b))
        channels_last = order == (*axes[1:], axes[0]) and len(after) == 4
        yield Option("split-order", text, f"order {tuple(axes)}", change, COMMON if channels_last else USUAL)


def transposing(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of a transposition: a reshape instead, no transposition, or another order of axes."""
    if (
        site.function not in _TRANSPOSES
        or site.is_module
        or site.input is None
        or not isinstance(site.result, Described)
    ):
        return
    before, after = site.input.shape, site.result.shape
    if before == after:
        text = "Flax does not exchange axes; torch's {where} does."
        yield Option("transpose-missing", text, f"jnp.{site.function}(...)", left_out, COMMON)
    text = f"Flax reshapes to {after}; torch's {{where}} exchanges axes, which moves the values."
    yield Option("transpose-reshape", text, "jnp.transpose(...)", instead(lambda x: x.reshape(after)), COMMON)
    if 3 <= len(before) <= 4:
        for order in itertools.permutations(range(len(before))):
            if tuple(before[i] for i in order) == after:
                text = f"Flax puts the axes into the order {order}; torch's {{where}} into another order."
                yield Option(
                    "transpose-order", text, "axes as in torch", instead(lambda x, o=order: x.permute(o)), RARE
                )


def splitting(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of a split: the order of the parts, or the axis."""
    if site.function not in ("chunk", "split", "unbind", "tensor_split") or not isinstance(site.result, (tuple, list)):
        return
    count = len(site.result)
    right = argument(site, "dim", 0) if site.function in ("chunk", "split", "unbind") else 0
    if 1 < count <= 4:
        for order in itertools.permutations(range(count)):
            if order != tuple(range(count)):
                text = f"Flax uses the {count} parts in the order {order}; torch's {{where}} in the order of storage."
                change = on_result(lambda parts, o=order: tuple(parts[i] for i in o))
                yield Option("split-order", text, f"order {tuple(range(count))}", change, COMMON)
    if site.function == "chunk" and site.input is not None:
        text = (
            f"Flax puts every n-th value into one part (n={count}); torch's {{where}} returns parts of adjacent values."
        )
        yield Option("split-order", text, "jnp.split(x, n, axis)", _interleaved_parts(count, right), USUAL)
        for dim in range(len(site.input.shape)):
            if dim != right % len(site.input.shape) and site.input.shape[dim] % count == 0:
                text = f"Flax splits axis {dim} (torch's order); torch's {{where}} splits axis {right}."
                yield Option("split-axis", text, f"axis={right}", setting("chunk", dim=dim), USUAL)


def _interleaved_parts(count: int, dim: int) -> Change:
    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        x = args[0]
        size = x.shape[dim]
        return tuple(x.index_select(dim, torch.arange(k, size, count)) for k in range(count))

    return change


def joining(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of a concatenation: the order of the parts, or the axis."""
    if site.function not in ("cat", "stack") or site.is_module:
        return
    tensors = argument(site, "tensors", ())
    count = len(tensors)
    right = argument(site, "dim", 0)
    orders = itertools.permutations(range(count)) if count <= 4 else [tuple(range(count))[::-1]]
    for order in orders:
        if order != tuple(range(count)):
            text = f"Flax joins the {count} parts in the order {order}; torch's {{where}} in {tuple(range(count))}."
            change = setting(site.function, tensors=lambda parts, o=order: [parts[i] for i in o])
            yield Option("concat-order", text, f"order {tuple(range(count))}", change, COMMON)
    first = tensors[0] if tensors else None
    if isinstance(first, Described):
        ndim = len(first.shape) + (site.function == "stack")
        for dim in range(ndim):
            if dim != right % ndim:
                text = f"Flax joins along axis {dim} (torch's order); torch's {{where}} along axis {right}."
                yield Option("concat-axis", text, f"axis={right}", setting(site.function, dim=dim), COMMON)


def rolling(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of a roll or a flip: a missing call, a wrong direction, or wrong axes."""
    if site.function not in ("roll", "flip") or site.is_module:
        return
    text = f"Flax does not {site.function}; torch's {{where}} does."
    yield Option(f"{site.function}-missing", text, f"jnp.{site.function}(...)", left_out, USUAL)
    if site.function == "flip":
        return
    shifts, dims = argument(site, "shifts"), argument(site, "dims")
    backwards = tuple(-s for s in shifts) if isinstance(shifts, (tuple, list)) else -shifts
    text = f"Flax rolls by {backwards}; torch's {{where}} rolls by {shifts}."
    yield Option("roll-direction", text, f"jnp.roll(x, {shifts}, ...)", setting("roll", shifts=backwards), COMMON)
    if isinstance(dims, (tuple, list)) and len(dims) == 2 and isinstance(shifts, (tuple, list)):
        text = "Flax exchanges the shifts of the two axes of a roll; torch's {where} does not."
        yield Option("roll-axis", text, f"axis={tuple(dims)}", setting("roll", shifts=tuple(shifts)[::-1]), USUAL)


def products(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield exchanged or transposed operands of a matrix product or an einsum."""
    if site.function not in ("matmul", "einsum") or site.is_module:
        return
    if site.function == "matmul" and len(site.args) == 2:
        for position, which in enumerate(("first", "second")):
            described = site.args[position]
            if (
                isinstance(described, Described)
                and len(described.shape) >= 2
                and described.shape[-1] == described.shape[-2]
            ):
                text = f"Flax transposes the {which} operand of a matrix product; torch's {{where}} does not."
                yield Option("transposed-operand", text, "a @ b", _transposed(position), USUAL)
        text = "Flax exchanges the operands of a matrix product; torch's {where} does not."
        change = _exchanged
        yield Option("exchanged-operands", text, "a @ b", change, RARE)
    if site.function == "einsum" and isinstance(site.args[0], str) and "->" in site.args[0]:
        inputs, output = site.args[0].replace(" ", "").split("->")
        text = "Flax exchanges the operands of an einsum; torch's {where} does not."
        change = lambda original, args, kwargs: original(args[0], *reversed(args[1:]), **kwargs)  # noqa: E731
        yield Option("exchanged-operands", text, f"jnp.einsum({site.args[0]!r}, ...)", change, USUAL)
        for i, j in itertools.combinations(range(len(output)), 2):
            letters = list(output)
            letters[i], letters[j] = letters[j], letters[i]
            equation = f"{inputs}->{''.join(letters)}"
            text = f"Flax computes einsum {equation!r}; torch's {{where}} computes {site.args[0]!r}."
            change = lambda original, args, kwargs, e=equation: original(e, *args[1:], **kwargs)  # noqa: E731
            yield Option("einsum-order", text, f"jnp.einsum({site.args[0]!r}, ...)", change, USUAL)
        parts = inputs.split(",")
        for k, part in enumerate(parts):
            for i, j in itertools.combinations(range(len(part)), 2):
                letters = list(part)
                letters[i], letters[j] = letters[j], letters[i]
                equation = ",".join([*parts[:k], "".join(letters), *parts[k + 1 :]]) + f"->{output}"
                text = f"Flax computes einsum {equation!r}; torch's {{where}} computes {site.args[0]!r}."
                change = lambda original, args, kwargs, e=equation: original(e, *args[1:], **kwargs)  # noqa: E731
                yield Option("einsum-order", text, f"jnp.einsum({site.args[0]!r}, ...)", change, RARE)


def _transposed(position: int) -> Change:
    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        return original(*(a.mT if i == position else a for i, a in enumerate(args)), **kwargs)

    return change


def _exchanged(original: Original, args: tuple, kwargs: dict) -> Any:
    return original(args[1], args[0], **kwargs)


def rotary(sites: Sequence[Site], hints: Hints) -> Iterator[Variant]:
    """Yield rotary embeddings that rotate the two halves instead of neighbouring pairs, or the reverse."""
    halves, pairs = [], []
    for site in sites:
        if site.leaf or site.is_module or site.input is None or not site.input.shape or site.input.shape[-1] % 2:
            continue
        if _takes_half(site):
            halves.append(site)
        if _takes_every_second(site):
            pairs.append(site)
    joins = [s for s in sites if s.function == "cat" and len(argument(s, "tensors", ())) == 2 and not s.leaf]
    negative = {s.result.token for s in sites if s.function == "neg" and isinstance(s.result, Described)}
    rotating = [s for s in joins if any(t.token in negative for t in argument(s, "tensors"))]
    doubling = [s for s in joins if len({t.token for t in argument(s, "tensors")}) == 1]
    flattened = [s for s in sites if s.function in ("flatten", "reshape", "view") and not s.leaf]
    repeated = [s for s in sites if s.function == "repeat_interleave"]
    text = "Flax rotates {} (rotary embedding); torch's {} rotates {}."
    words = ("neighbouring pairs", "the two halves")
    for inputs, results, more, order in (
        (halves, rotating, doubling, (_deinterleaved, _interleaved)),
        (pairs, flattened, repeated, (_interleaved, _deinterleaved)),
    ):
        if inputs and results:
            flax, theirs = words if order[0] is _deinterleaved else words[::-1]
            plan = plan_of(inputs, on_input(order[0])) | plan_of(results, on_result(order[1]))
            sentence = text.format(flax, results[0].where, theirs)
            for whole in (plan, plan | plan_of(more, on_result(order[1]))):
                yield Variant("rotary-order", sentence, f"rotate {theirs}", whole, COMMON)


def _last_slice(site: Site) -> slice | None:
    if site.function != "getitem" or len(site.args) != 2:
        return None
    index = site.args[1][-1] if isinstance(site.args[1], tuple) else site.args[1]
    return index if isinstance(index, slice) else None


def _takes_half(site: Site) -> bool:
    if site.function == "chunk":
        return argument(site, "chunks") == 2
    index = _last_slice(site)
    half = site.input.shape[-1] // 2 if site.input else 0
    return index is not None and index.step in (None, 1) and half in (index.start, index.stop)


def _takes_every_second(site: Site) -> bool:
    index = _last_slice(site)
    return index is not None and index.step == 2


def _deinterleaved(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x[..., ::2], x[..., 1::2]], -1)


def _interleaved(x: torch.Tensor) -> torch.Tensor:
    return torch.stack(x.chunk(2, -1), -1).flatten(-2)


SITE_RULES = (reshaping, transposing, splitting, joining, rolling, products)
MODULE_RULES = (rotary,)
