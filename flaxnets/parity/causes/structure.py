"""Known mistakes in the composition of layers: missing, repeated or exchanged layers, and wrong residuals."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch.utils import _pytree as pytree

from flaxnets.parity._torch import torch
from flaxnets.parity.causes.activations import ACTIVATIONS, NAMES
from flaxnets.parity.causes.sites import Change, Described, Note, Original, Plan, Site, submodule_call
from flaxnets.parity.causes.variants import (
    COMMON,
    ODD,
    RARE,
    USUAL,
    Hints,
    Variant,
    doubled,
    left_out,
    on_input,
)

_NORMS = ("layer_norm", "batch_norm", "group_norm", "instance_norm", "rms_norm", "normalize")
_EXTRA = (
    "relu",
    "gelu",
    "tanh-approximated gelu",
    "silu",
    "sigmoid",
    "tanh",
    "leaky_relu",
    "softmax",
    "log_softmax",
    "elu",
)


def _is_norm(site: Site) -> bool:
    return site.function in _NORMS or "Norm" in site.function


def _kind(site: Site) -> str:
    """Return the kind of a call: norm, activation, dropout or layer."""
    if _is_norm(site):
        return "norm"
    if site.function in NAMES or type(site.module).__module__ == "torch.nn.modules.activation":
        return "activation"
    return "dropout" if "ropout" in site.function else "layer"


def words_for(site: Site) -> str:
    """Return the name of a call for messages."""
    return site.where if site.is_module else site.function


def own_calls(sites: Sequence[Site]) -> list[Site]:
    """Return calls of submodules, and calls of functions outside torch's own layers; outer calls come first."""
    calls = [s for s in sites if s.depth > 0 and (s.is_module or not s.leaf or not s.key.module) and not _is_idle(s)]
    return sorted(calls, key=lambda s: s.depth)


def _is_idle(site: Site) -> bool:
    """Return whether a call does nothing, such as dropout in evaluation mode."""
    if not site.is_module or "ropout" not in site.function:
        return False
    return not site.training or getattr(site.module, "p", None) == 0


def root_call(sites: Sequence[Site]) -> Site | None:
    """Return the call of the whole module."""
    return next((s for s in sites if s.is_module and s.depth == 0), None)


def submodules(sites: Sequence[Site], hints: Hints) -> Iterator[Variant]:
    """Yield mistakes of layers: missing, applied twice, or exchanged with another layer."""
    called = [s for s in own_calls(sites) if s.keeps_shape and (s.is_module or (_is_norm(s) and not s.leaf))]
    by_class: dict[tuple[str, str], list[Site]] = {}
    for site in called:
        by_class.setdefault((site.function, _kind(site)), []).append(site)
        kind, rank = _kind(site), min(USUAL + site.depth - 1, ODD)
        text = f"Flax has no {site.function}; torch has {site.where}."
        yield Variant(f"{kind}-missing", text, f"call {site.where}", {site.key: left_out}, rank)
        text = f"Flax applies {site.where} twice; torch applies it once."
        yield Variant(f"{kind}-doubled", text, f"call {site.where} once", {site.key: doubled}, rank + 1)
    for (name, kind), group in by_class.items():
        if len(group) > 1:
            text = f"Flax has no {name}; torch has {len(group)}."
            yield Variant(
                f"{kind}-missing", text, f"call the {name}", dict.fromkeys((s.key for s in group), left_out), USUAL
            )
    for a, b in itertools.combinations([s for s in own_calls(sites) if s.is_module and s.depth == 1], 2):
        text = f"Flax exchanges the calls of {a.where} and {b.where}; torch does not."
        plan = {a.key: _called_instead(b), b.key: _called_instead(a)}
        yield Variant("layer-order", text, f"{a.where} before {b.where}", plan, USUAL)
        if a.function == b.function:
            for wrong, right in ((a, b), (b, a)):
                text = f"Flax calls {wrong.where} again where torch calls {right.where}."
                plan = {right.key: _called_instead(wrong)}
                yield Variant("layer-repeated", text, f"call {right.where}", plan, RARE)


def _called_instead(site: Site) -> Change:
    return lambda original, args, kwargs: submodule_call(original, site.key.module, *args, **kwargs)


def operators(sites: Sequence[Site], hints: Hints) -> Iterator[Variant]:
    """Yield mistakes of operators: a missing term or factor (a residual, a layer scale, a gate), or a wrong sign."""
    for site in own_calls(sites):
        if site.is_module or site.function not in ("add", "sub", "mul", "div", "clamp", "neg", "pow", "rsub"):
            continue
        tensors = [i for i, a in enumerate(site.args) if isinstance(a, Described) and a.is_float]
        rank = min(USUAL + site.depth - 1, ODD)
        names = {"add": "residual", "mul": "factor", "div": "factor", "clamp": "clamp"}
        name = f"{names.get(site.function, 'operation')}-missing"
        for i in tensors:
            if site.function == "add" and len(tensors) < 2:
                continue
            used = "first" if i == 0 else "second"
            text = f"Flax uses only the {used} operand of the {site.function} in {site.where}; torch uses both."
            yield Variant(name, text, f"{site.function} both operands", {site.key: _operand(i)}, rank)
        if site.function in ("add", "sub", "rsub"):
            text = f"Flax {'subtracts' if site.function == 'add' else 'adds'} in {site.where}; torch does not."
            yield Variant(
                "sign", text, f"{site.function} as in torch", {site.key: _other_sign(site.function)}, rank + 1
            )
            if len(tensors) == 2:
                text = f"Flax adds the second operand twice in {site.where}; torch once."
                yield Variant("residual-doubled", text, "add it once", {site.key: _twice}, rank + 1)


def factors(sites: Sequence[Site], hints: Hints) -> Iterator[Variant]:
    """Yield factors that are multiplied twice."""
    for site in own_calls(sites):
        if not site.is_module and site.function == "mul" and len(site.args) == 2:
            change = lambda original, args, kwargs: original(original(*args), args[1])  # noqa: E731
            text = f"Flax multiplies twice in {site.where}; torch once."
            yield Variant("factor-doubled", text, "multiply once", {site.key: change}, RARE)


def _operand(i: int) -> Change:
    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        # Do not call the operation: it may be in-place and change the operand.
        shape = torch.broadcast_shapes(*(a.shape for a in args if isinstance(a, torch.Tensor)))
        return args[i].expand(shape) if args[i].shape != shape else args[i]

    return change


def _other_sign(function: str) -> Change:
    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        a, b = args[:2]
        return a - b if function == "add" else a + b

    return change


def _twice(original: Original, args: tuple, kwargs: dict) -> Any:
    return original(*args, **kwargs) + args[1]


def _unary(site: Site) -> Callable[[Original, torch.Tensor], Any] | None:
    """Return a function that applies the call to another array, or None if the call takes several arrays."""
    rest = (*site.args[1:], *site.kwargs.values())
    if any(isinstance(a, Described) and a.name is None for a in rest):
        return None
    if site.is_module:
        return _in_any_order(
            site, lambda original, x: submodule_call(original, site.key.module, x, *site.args[1:], **site.kwargs)
        )

    def resolved(original: Original, value: Any) -> Any:
        if not isinstance(value, Described):
            return value
        assert value.name is not None
        module, _, name = value.name.rpartition(".")
        return getattr(original.root.get_submodule(module), name)

    def apply(original: Original, x: torch.Tensor) -> Any:
        args = [resolved(original, a) for a in site.args[1:]]
        return site.target(x, *args, **{k: resolved(original, v) for k, v in site.kwargs.items()})

    return _in_any_order(site, apply)


def _in_any_order(site: Site, apply: Callable[[Original, Any], Any]) -> Callable[[Original, Any], Any]:
    """Let a normalisation of the last axis also normalise the channels of an NCHW image, as Flax does in NHWC."""
    if site.input is None or not (site.function.lower().replace("_", "").startswith(("layernorm", "rmsnorm"))):
        return apply
    channels = site.input.shape[-1]

    def in_order(original: Original, x: Any) -> Any:
        if x.ndim < 3 or x.shape[-1] == channels or x.shape[1] != channels:
            return apply(original, x)
        return apply(original, x.movedim(1, -1)).movedim(-1, 1)

    return in_order


def _after(apply: Callable[[Original, Any], Any]) -> Change:
    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        result = original(*args, **kwargs)
        if isinstance(result, tuple):
            return (apply(original, result[0]), *result[1:])
        return apply(original, result)

    return change


def _before(apply: Callable[[Original, Any], Any], token: int | None = None, described: tuple = ()) -> Change:
    """Return a change that applies a function to the first argument, or to all arguments with the given token."""

    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        if token is None:
            return original(apply(original, args[0]), *args[1:], **kwargs)
        replacement = None
        new = list(args)
        for i, a in enumerate(described):
            if isinstance(a, Described) and a.token == token:
                replacement = apply(original, args[i]) if replacement is None else replacement
                new[i] = replacement
        return original(*new, **kwargs)

    return change


def _movable(sites: Sequence[Site]) -> list[Site]:
    movable = []
    for site in own_calls(sites):
        is_scale = site.function in ("mul", "div", "add") and _scales(site)
        is_layer = site.function in NAMES or _kind(site) != "layer" or site.is_module or is_scale
        if is_layer and site.keeps_shape and _unary(site) is not None:
            movable.append(site)
    return movable


def _scales(site: Site) -> bool:
    """Return whether the second operand is a parameter, such as a layer scale or a bias."""
    return len(site.args) == 2 and isinstance(site.args[1], Described) and site.args[1].name is not None


def moves(sites: Sequence[Site], hints: Hints) -> Iterator[Variant]:
    """Yield activations, normalisations and dropouts at a wrong position."""
    visible, root = own_calls(sites), root_call(sites)
    adds = {s.result.token for s in visible if s.function == "add" and isinstance(s.result, Described)}
    makers = {s.result.token: s for s in visible if isinstance(s.result, Described)}
    for site in _movable(sites):
        apply, token = _unary(site), site.input.token if site.input else -1
        assert apply is not None
        maker = makers.get(token)
        place = f"after {words_for(maker)}" if maker else "at the input"
        for target in [*visible, *([root] if root else [])]:
            if (
                target is site
                or not _is_float_result(target)
                or (target.is_module and site.key.module.startswith(target.key.module + "."))
            ):
                continue
            with_add = token in adds or target.function == "add"
            name = {"norm": "norm-order", "activation": "residual-order" if with_add else "activation-order"}.get(
                _kind(site), f"{_kind(site)}-order"
            )
            rank = min(USUAL + max(site.depth, target.depth, 1) - 1, ODD) if target is not root else RARE
            fix = f"apply {words_for(site)} {place}"
            if _result_token(target) != token:
                text = f"Flax applies {words_for(site)} after {words_for(target)}; torch applies it {place}."
                yield Variant(name, text, fix, {site.key: left_out, target.key: _after(apply)}, rank)
            if target.is_module and target.input is not None and target.input.is_float and target.input.token != token:
                text = f"Flax applies {words_for(site)} before {words_for(target)}; torch applies it {place}."
                yield Variant(name, text, fix, {site.key: left_out, target.key: _before(apply)}, rank)


def exchanges(sites: Sequence[Site], hints: Hints) -> Iterator[Variant]:
    """Yield consecutive layers in exchanged order: one pair, or all pairs of the same two kinds."""
    movable = _movable(sites)
    by_kinds: dict[tuple[str, str], list[tuple[Site, Site]]] = {}
    for first, second in itertools.product(movable, movable):
        if second.input is not None and second.input.token == _result_token(first) and first is not second:
            by_kinds.setdefault((_kind(first), _kind(second)), []).append((first, second))
    for kinds, pairs in by_kinds.items():
        name = "activation-order" if "activation" in kinds else f"{kinds[1]}-order"
        for group in [pairs, *([[pair] for pair in pairs] if len(pairs) > 1 else [])]:
            first, second = group[0]
            plan: dict[Any, Change] = {}
            for a, b in group:
                apply = _unary(a)
                assert apply is not None
                plan |= {a.key: left_out, b.key: _after(apply)}
            text = f"Flax applies {words_for(first)} after {words_for(second)}; torch applies it before."
            fix = f"apply {words_for(first)} before {words_for(second)}"
            yield Variant(name, text, fix, plan, USUAL if len(group) == len(pairs) else RARE)


def _result_token(site: Site) -> int:
    return site.result.token if isinstance(site.result, Described) else -1


def _is_float_result(site: Site) -> bool:
    first = site.result[0] if isinstance(site.result, tuple) and site.result else site.result
    return isinstance(first, Described) and first.is_float


def prenorm(sites: Sequence[Site], hints: Hints) -> Iterator[Variant]:
    """Yield pre-norm instead of post-norm in residual blocks, or the reverse."""
    visible = own_calls(sites)
    post: dict[str, list[Plan]] = {"after": [], "before": []}
    adds = [s for s in visible if s.function == "add" and sum(isinstance(a, Described) for a in s.args) == 2]
    # A norm module and the function inside the module are one normalisation.
    norms = [s for s in visible if _is_norm(s) and (s.is_module or not s.leaf) and s.input is not None]
    for add, norm in itertools.product(adds, norms):
        apply = _unary(norm)
        if apply is None or norm.input is None:
            continue
        tokens = [a.token for a in add.args if isinstance(a, Described)]
        if norm.input.token == _result_token(add):
            for token in tokens:
                takers = [
                    s
                    for s in visible
                    if s not in (add, norm) and _takes(s, token) and (s.is_module or s.depth == add.depth)
                ]
                if takers:
                    plan = {s.key: _before(apply, token, s.args) for s in takers}
                    post["after"].append({norm.key: left_out, **plan})
                    break
        elif norm.input.token in tokens:
            post["before"].append({norm.key: left_out, add.key: _after(apply)})
    for position, plans in post.items():
        words = ("before each layer (pre-norm)", "after each sum (post-norm)")
        flax, theirs = words if position == "after" else words[::-1]
        text = f"Flax normalises {flax}; torch normalises {theirs}."
        together: dict[Any, Any] = {}
        for plan in plans:
            together |= plan
        for plan in [together, *(plans if len(plans) > 1 else [])]:
            if plan:
                yield Variant("norm-order", text, f"normalise {theirs}", plan, COMMON)


def _takes(site: Site, token: int) -> bool:
    return any(isinstance(a, Described) and a.token == token for a in site.args)


def residuals(sites: Sequence[Site], hints: Hints) -> Iterator[Variant]:
    """Yield residuals with a wrong source, and residuals that torch does not have."""
    visible, root = own_calls(sites), root_call(sites)
    for add in [s for s in visible if s.function == "add"]:
        for position in (0, 1):
            described = add.args[position] if position < len(add.args) else None
            if not isinstance(described, Described):
                continue
            for source in visible:
                if (
                    source is not add
                    and isinstance(source.result, Described)
                    and source.result.shape == described.shape
                ):
                    if source.result.token == described.token:
                        continue
                    memory: list[torch.Tensor] = []
                    plan = {source.key: Note(memory), add.key: _recalling(memory, position)}
                    text = f"Flax adds the output of {words_for(source)}; torch adds another array in {add.where}."
                    fix = "add the same array as torch"
                    yield Variant("residual-source", text, fix, plan, min(RARE + add.depth - 1, ODD))
    yield from _other_inputs(sites)
    for site in [s for s in visible if s.is_module] + ([root] if root else []):
        if site.keeps_shape:
            change: Change = lambda original, args, kwargs: original(*args, **kwargs) + args[0]  # noqa: E731
            text = f"Flax adds the input of {site.where} to its output; torch does not."
            yield Variant("residual-extra", text, "no residual", {site.key: change}, RARE)


def _other_inputs(sites: Sequence[Site]) -> Iterator[Variant]:
    """Yield layers of the module's own code that are called on a wrong array: another output or the module's input."""
    root = root_call(sites)
    calls = [s for s in own_calls(sites) if s.depth == 1 and (s.is_module or s.input is not None)]
    summands = {token for s in calls if s.function == "add" for token in _tokens((s.args, s.result))}
    for consumer in calls:
        if consumer.input is None or not consumer.input.is_float:
            continue
        seen = {consumer.input.token}
        before = calls[: calls.index(consumer)]
        candidates = [*before[::-1], *([root] if root else [])]
        for source in candidates:
            value = source.input if source is root else source.result
            if not isinstance(value, Described) or value.shape != consumer.input.shape or value.token in seen:
                continue
            seen.add(value.token)
            memory: list[torch.Tensor] = []
            note = Note(memory, is_input=source is root)
            is_residual = bool({consumer.input.token, value.token} & summands)
            # Without a residual, a missing call between the two arrays is a more likely mistake.
            name, rank = ("residual-source", RARE) if is_residual else ("input-source", ODD)
            words = "the input of the module" if source is root else f"the output of {words_for(source)}"
            text = f"Flax calls {words_for(consumer)} on {words}; torch calls it on another array."
            plan = {source.key: note, consumer.key: _recalling(memory, 0)}
            yield Variant(name, text, f"call {words_for(consumer)} on the same array as torch", plan, rank)


def _tokens(tree: Any) -> set[int]:
    return {leaf.token for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Described)}


def _recalling(memory: list[torch.Tensor], position: int) -> Change:
    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        return original(*(memory[0] if i == position else a for i, a in enumerate(args)), **kwargs)

    return change


def extras(sites: Sequence[Site], hints: Hints) -> Iterator[Variant]:
    """Yield activations that torch does not have."""
    root = root_call(sites)
    targets = [*([root] if root else []), *own_calls(sites)]
    for target in targets:
        if not _is_float_result(target) or target.function in ("getitem", "view", "reshape", "transpose", "permute"):
            continue
        rank = min(USUAL + max(target.depth - 1, 0), ODD)
        for name in _EXTRA:
            function = ACTIVATIONS[name][0]
            apply = lambda original, x, f=function: f(x)  # noqa: E731
            text = f"Flax applies {name} after {words_for(target)}; torch does not."
            yield Variant(
                "activation-extra", text, f"no {name} after {words_for(target)}", {target.key: _after(apply)}, rank
            )
            if target is root and target.input is not None and target.input.is_float:
                text = f"Flax applies {name} to the input; torch does not."
                yield Variant(
                    "activation-extra", text, f"no {name} on the input", {target.key: on_input(function)}, RARE
                )


MODULE_RULES = (prenorm, exchanges, submodules, operators, factors, moves, extras, residuals)
