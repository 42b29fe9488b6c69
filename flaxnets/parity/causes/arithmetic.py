"""Known mistakes in elementwise functions, operators and indices, such as a wrong function or a wrong index."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from flaxnets.parity._torch import torch
from flaxnets.parity.causes.sites import Change, Described, Original, Site
from flaxnets.parity.causes.variants import (
    ODD,
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
    setting,
)

# Functions of one array that are easily confused.
_FUNCTIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sin": torch.sin, "cos": torch.cos, "exp": torch.exp, "expm1": torch.expm1, "log": torch.log,
    "log1p": torch.log1p, "log2": torch.log2, "log10": torch.log10, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt,
    "square": torch.square, "abs": torch.abs, "reciprocal": torch.reciprocal, "erf": torch.erf, "neg": torch.neg,
    "round": torch.round, "floor": torch.floor, "ceil": torch.ceil, "trunc": torch.trunc, "sign": torch.sign,
}  # fmt: skip
# Functions of two arrays that are easily confused.
_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "div": lambda a, b: a / b,
    "maximum": torch.maximum, "minimum": torch.minimum,
}  # fmt: skip


def functions(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of a function of one array: missing, or another function."""
    if site.function not in _FUNCTIONS or site.is_module or not site.keeps_shape:
        return
    fix = f"jnp.{site.function}(x)"
    text = f"Flax has no {site.function}; torch's {{where}} has one."
    yield Option("function-missing", text, fix, left_out, USUAL)
    for name, function in _FUNCTIONS.items():
        if name != site.function:
            text = f"Flax computes {name}; torch's {{where}} computes {site.function}."
            yield Option("function-kind", text, fix, instead(function), RARE)


def operators(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of an operator between two arrays: another operator, or exchanged operands."""
    both = [a for a in site.args[:2] if isinstance(a, Described) and a.is_float]
    if site.function not in _OPERATORS or site.is_module or len(both) < 2:
        return
    for name, operator in _OPERATORS.items():
        if name != site.function:
            text = f"Flax computes {name} of two arrays; torch's {{where}} computes {site.function}."
            change: Change = lambda original, args, kwargs, f=operator: f(*torch.broadcast_tensors(*args[:2]))  # noqa: E731
            yield Option("operator-kind", text, f"{site.function} as in torch", change, RARE)
    if site.function in ("sub", "div"):
        operator = _OPERATORS[site.function]
        text = f"Flax exchanges the operands of {site.function}; torch's {{where}} does not."
        change = lambda original, args, kwargs: operator(args[1], args[0])  # noqa: E731
        yield Option("exchanged-operands", text, "operands in torch's order", change, USUAL)


def offsets(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield the mistake of 1 + weight in place of the weight, as in normalisations whose weights start at zero."""
    named = [i for i, a in enumerate(site.args[:2]) if isinstance(a, Described) and a.name is not None]
    if site.is_module or len(site.args) != 2 or len(named) != 1:
        return
    other = 1 - named[0]
    if site.function == "mul":
        text = "Flax multiplies by 1 + weight; torch's {where} multiplies by the weight."
        change: Change = lambda original, args, kwargs: original(*args, **kwargs) + args[other]  # noqa: E731
        yield Option("scale-plus-one", text, "x * scale", change, USUAL)
    elif site.function == "add" and isinstance(site.args[other], (int, float)):
        number = site.args[other]
        text = f"Flax uses the weight; torch's {{where}} uses the weight + {number}."
        change = lambda original, args, kwargs: args[named[0]]  # noqa: E731
        yield Option("scale-plus-one", text, f"scale + {number}", change, USUAL)


def indices(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of an index: another element, the mean over the axis, or a slice that is off by one."""
    if site.function != "getitem" or site.input is None or site.is_module:
        return
    index = site.args[1] if isinstance(site.args[1], tuple) else (site.args[1],)
    if any(isinstance(i, Described) or i is None or i is Ellipsis for i in index[:-1]):
        return
    offset = len(site.input.shape) - len(index) if index[0] is Ellipsis else 0
    for position, right in enumerate(index):
        axis = position + offset
        if isinstance(right, int) and not isinstance(right, bool):
            yield from _other_elements(site, index, position, axis)
        elif isinstance(right, slice) and right.step in (None, 1):
            for start, stop in ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, 1)):
                moved = _moved(right, start, stop, site.input.shape[axis])
                if moved is not None:
                    text = f"Flax selects {_shown(moved)} of axis {axis} (torch's order); torch's {{where}} selects "
                    change = _indexed((*index[:position], moved, *index[position + 1 :]))
                    yield Option("index", text + f"{_shown(right)}.", f"x[{_shown(right)}]", change, RARE)
    cut = [position for position, i in enumerate(index) if isinstance(i, slice) and i != slice(None)]
    if len(cut) > 1:
        for shift in (-1, 1):
            sizes = [site.input.shape[position + offset] for position in cut]
            moved_all = [_moved(index[position], shift, shift, size) for position, size in zip(cut, sizes, strict=True)]
            if None not in moved_all:
                replaced = dict(zip(cut, moved_all, strict=True))
                text = f"Flax's window is shifted by {shift} along each axis; torch's {{where}} has no shift."
                change = _indexed(tuple(replaced.get(position, i) for position, i in enumerate(index)))
                yield Option("index", text, "the window of torch", change, RARE)


def _other_elements(site: Site, index: tuple, position: int, axis: int) -> Iterator[Option]:
    right = index[position]
    size = site.input.shape[axis] if site.input else 0
    fix = f"the element {right} of the axis"
    for other in dict.fromkeys((0, size - 1, right % size - 1, right % size + 1)):
        if other != right % size and 0 <= other < size:
            text = f"Flax selects element {other} of axis {axis} (torch's order); torch's {{where}} selects {right}."
            change = _indexed((*index[:position], other, *index[position + 1 :]))
            yield Option("index", text, fix, change, USUAL)
    for name, reduce in (("mean", torch.mean), ("maximum", torch.amax), ("sum", torch.sum)):
        text = f"Flax computes the {name} over axis {axis} (torch's order); torch's {{where}} selects element {right}."
        rest = (*index[:position], slice(None), *index[position + 1 :])
        kept = sum(not isinstance(i, int) for i in index[:position])
        change = instead(lambda x, rest=rest, f=reduce, dim=kept: f(x[rest], dim=dim))
        yield Option("pooling-kind", text, fix, change, USUAL)


def _indexed(index: tuple) -> Change:
    return lambda original, args, kwargs: original(args[0], index)


def _moved(right: slice, start: int, stop: int, size: int) -> slice | None:
    first, last, _ = right.indices(size)
    first, last = first + start, last + stop
    return slice(first, last) if 0 <= first < last <= size else None


def _shown(index: slice) -> str:
    return f"{'' if index.start is None else index.start}:{'' if index.stop is None else index.stop}"


def repetitions(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of repetitions (each element or the whole axis) and of the direction of cumulative sums."""
    if site.is_module or site.input is None or not isinstance(site.result, Described):
        return
    if site.function in ("cumsum", "cumprod", "logcumsumexp"):
        axis = argument(site, "dim", -1) if site.function != "logcumsumexp" else site.args[-1]
        text = f"Flax computes {site.function} from the end of the axis; torch's {{where}} from its beginning."
        change: Change = lambda original, args, kwargs: original(args[0].flip(axis), *args[1:], **kwargs).flip(axis)  # noqa: E731
        yield Option("direction", text, f"jnp.{site.function}(x, axis={axis})", change, RARE)
    before, after = site.input.shape, site.result.shape
    if site.function not in ("repeat_interleave", "repeat", "tile") or len(before) != len(after):
        return
    grown = [axis for axis, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    if len(grown) == 1:
        axis, each = grown[0], site.function == "repeat_interleave"
        count = after[axis] // before[axis]
        counts = [count if i == axis else 1 for i in range(len(before))]
        wrong = "jnp.tile" if each else "jnp.repeat"
        right = "jnp.repeat" if each else "jnp.tile"
        text = (
            f"Flax repeats {'the whole axis' if each else 'each element of axis'} {axis}, as {wrong} does; "
            "torch's {where} "
        )
        text += f"repeats {'each element' if each else 'the whole axis'}."
        change = instead(lambda x: x.repeat(counts) if each else x.repeat_interleave(count, axis))
        yield Option("repeat-order", text, f"{right}(x, ...)", change, USUAL)


def selections(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of a mean, a maximum or a sum: one element in place of the axis, or too few axes."""
    if site.function not in ("mean", "amax", "sum") or site.input is None or site.is_module:
        return
    dim = argument(site, "dim")
    axes = [dim] if isinstance(dim, int) else list(dim or ())
    keep = bool(argument(site, "keepdim", False))
    if len(axes) == 1:
        axis = axes[0] % len(site.input.shape)
        for position, words in ((0, "first"), (-1, "last")):
            text = f"Flax selects the {words} element of axis {axis} (torch's order); torch's {{where}} computes the "
            index = position % site.input.shape[axis]
            change = instead(lambda x, a=axis, i=index: x.narrow(a, i, 1) if keep else x.select(a, i))
            yield Option("pooling-kind", text + f"{site.function}.", f"jnp.{site.function}(x, {axis})", change, USUAL)
    else:
        for axis in axes:
            text = f"Flax computes {site.function} along the axes {[axis]} only; torch's {{where}} along {axes}."
            change = setting(site.function, dim=(axis,))
            yield Option(f"{site.function}-axis", text, f"axis={tuple(axes)}", change, USUAL)


def reversals(sites: Sequence[Site], hints: Hints) -> Iterator[Variant]:
    """Yield reversed axes of inputs, embeddings and parameters, and token ids that are shifted by one position."""
    root = next((site for site in sites if site.is_module and site.depth == 0), None)
    if root is not None and root.input is not None and root.input.is_float:
        for axis in range(1, len(root.input.shape)):
            text = f"Flax reverses axis {axis} of the input (torch's order); torch does not."
            yield Variant("reverse-order", text, "no [::-1]", {root.key: on_input(_flipped(axis))}, RARE)
    for site in sites:
        if site.function == "embedding" and site.input is not None and not site.is_module:
            for shift in (1, -1):
                text = f"Flax shifts the token ids by {shift}; torch's {site.where} does not."
                plan = {site.key: on_input(lambda ids, s=shift: ids.roll(s, -1))}
                yield Variant("token-shift", text, "token ids as in torch", plan, RARE)
            for axis in range(len(getattr(site.result, "shape", ())) - 1):
                text = f"Flax reverses axis {axis} of the embeddings; torch's {site.where} does not."
                yield Variant("reverse-order", text, "no [::-1]", {site.key: on_result(_flipped(axis))}, ODD)
        if site.function not in _OPERATORS or site.is_module:
            continue
        for position, operand in enumerate(site.args[:2]):
            if isinstance(operand, Described) and operand.name is not None:
                for axis, size in enumerate(operand.shape):
                    if size > 1:
                        text = f"Flax reverses axis {axis} of {operand.name}; torch does not."
                        plan = {site.key: _on_operand(position, _flipped(axis))}
                        yield Variant("reverse-order", text, "no [::-1]", plan, RARE)


def arguments(sites: Sequence[Site], hints: Hints) -> Iterator[Variant]:
    """Yield exchanged arguments of a module call."""
    for site in sites:
        if not site.is_module or site.depth > 1:
            continue
        arrays = [i for i, a in enumerate(site.args) if isinstance(a, Described)]
        for a, b in itertools.combinations(arrays, 2):
            first, second = site.args[a], site.args[b]
            if first.token != second.token and (first.shape, first.dtype) == (second.shape, second.dtype):
                text = f"Flax exchanges the arguments {a} and {b} of {site.where}; torch does not."
                yield Variant(
                    "exchanged-arguments", text, "arguments in torch's order", {site.key: _swapped(a, b)}, RARE
                )


def _swapped(a: int, b: int) -> Change:
    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        new = list(args)
        new[a], new[b] = new[b], new[a]
        return original(*new, **kwargs)

    return change


def _flipped(axis: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: x.flip(axis)


def _on_operand(position: int, function: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        return original(*(function(a) if i == position else a for i, a in enumerate(args)), **kwargs)

    return change


SITE_RULES = (functions, operators, offsets, indices, repetitions, selections)
MODULE_RULES = (reversals, arguments)
