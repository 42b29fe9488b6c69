"""Known mistakes in convolutions, linear layers, pooling, padding and resizing."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from flaxnets.parity._torch import torch
from flaxnets.parity.causes.sites import Change, Original, Site
from flaxnets.parity.causes.variants import (
    COMMON,
    ODD,
    RARE,
    USUAL,
    Hints,
    Option,
    argument,
    around,
    instead,
    is_native,
    setting,
)

F = torch.nn.functional
Pads = Sequence[tuple[int, int]]


def _tuple(value: Any, n: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return values if len(values) == n else values * n


def _dimensions(site: Site) -> int:
    return int(site.function[-2])


def _flat(pads: Pads) -> list[int]:
    """Return the pads in the order of torch's pad, which starts with the last axis."""
    return [amount for pair in reversed(pads) for amount in pair]


def _same(sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Pads:
    """Return the padding of "SAME" in JAX. If the total is odd, the end gets one more than the beginning."""
    pads = []
    for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        pads.append((total // 2, total - total // 2))
    return pads


def convolution(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of a convolution: kernel, padding, stride, dilation and bias."""
    if not site.function.startswith("conv") or site.function.startswith("conv_transpose") or site.input is None:
        return
    n = _dimensions(site)
    weight, bias = argument(site, "weight"), argument(site, "bias")
    kernel = weight.shape[2:]
    stride, dilation = (_tuple(argument(site, name, 1), n) for name in ("stride", "dilation"))
    padding = argument(site, "padding", 0)
    if isinstance(padding, str):
        padding = _same(site.input.shape[-n:], kernel, (1,) * n, dilation) if padding == "same" else ((0, 0),) * n
        right = tuple(padding)
    else:
        right = tuple((p, p) for p in _tuple(padding, n))
    fix = f"nnx.Conv(..., padding={right})" if is_native(hints) else f"padding={right}"
    for name, pads, words, rank in _paddings(right, site.input.shape[-n:], kernel, (stride, dilation)):
        if tuple(pads) != right:
            text = f"Flax pads by {words}; torch's {{where}} pads by {right}."
            yield Option(name, text, fix, _padded(site.function, pads), rank)
    yield from _kernels(site, n)
    if bias is not None:
        text = "Flax has no bias; torch's {where} has one."
        fix = "nnx.Conv(..., use_bias=True)" if is_native(hints) else "bias=True"
        yield Option("bias-missing", text, fix, setting(site.function, bias=None), COMMON)
    for name, right_value in (("stride", stride), ("dilation", dilation)):
        for value in (1, 2):
            if (value,) * n != right_value:
                text = f"Flax has {name} {value}; torch's {{where}} has {right_value}."
                native = "strides" if name == "stride" else "kernel_dilation"
                yield Option(name, text, f"{native}={right_value}", setting(site.function, **{name: (value,) * n}))
    if dilation != (1,) * n:
        smaller = tuple((lo // d, hi // d) for (lo, hi), d in zip(right, dilation, strict=True))
        text = f"Flax does not dilate the kernel; torch's {{where}} has dilation={dilation}."
        change = _padded(site.function, smaller)
        dense = setting(site.function, dilation=1)
        yield Option("dilation", text, f"kernel_dilation={dilation}", around(change, dense))


def _paddings(right: Pads, sizes: Sequence[int], kernel: Sequence[int], steps: tuple[Any, Any]) -> Iterator[Any]:
    same = tuple(_same(sizes, kernel, *steps))
    yield "padding-same", same, f'"SAME", here {same}', COMMON
    yield "padding-missing", ((0, 0),) * len(kernel), '"VALID", no padding', COMMON
    for shift in (0, 1):
        one_sided = tuple((sum(pair), 0) if shift == 0 else (0, sum(pair)) for pair in right)
        yield "padding-one-sided", one_sided, f"{one_sided}, on one side", USUAL
    shifts = itertools.product(range(-2, 3), repeat=2)
    moved = {tuple((max(lo + a, 0), max(hi + b, 0)) for lo, hi in right) for a, b in shifts}
    for pads in sorted(moved):
        yield "padding", pads, str(pads), USUAL
    if len(right) == 2:
        yield "padding", tuple(reversed(right)), str(tuple(reversed(right))), RARE


def _padded(function: str, pads: Pads) -> Change:
    inner = setting(function, padding=0)

    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        return inner(original, (F.pad(args[0], _flat(pads)), *args[1:]), kwargs)

    return change


def _kernels(site: Site, n: int) -> Iterator[Option]:
    weight = argument(site, "weight")
    flipped = tuple(range(2, 2 + n))
    yield _weight(site, "kernel-flipped", "flips the kernel", lambda w: w.flip(flipped), USUAL)
    if n > 1:
        for axis in flipped:
            yield _weight(site, "kernel-flipped", f"flips axis {axis} of the kernel", lambda w, a=axis: w.flip(a), RARE)
        for a, b in itertools.combinations(flipped, 2):
            words = (
                "exchanges height and width of the kernel" if n == 2 else f"exchanges axes {a} and {b} of the kernel"
            )
            yield _weight(site, "kernel-transposed", words, lambda w, a=a, b=b: w.transpose(a, b), USUAL)
    if weight.shape[0] == weight.shape[1]:
        words = "exchanges input and output channels of the kernel"
        yield _weight(site, "kernel-transposed", words, lambda w: w.transpose(0, 1), USUAL)


def _weight(site: Site, name: str, words: str, function: Any, rank: int) -> Option:
    text = f"Flax {words}; torch's {{where}} does not."
    return Option(name, text, "kernel = weight in torch's order", setting(site.function, weight=function), rank)


def transposed_convolution(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of a transposed convolution: kernel, padding, output padding and bias."""
    if not site.function.startswith("conv_transpose") or site.input is None:
        return
    n = _dimensions(site)
    yield from _kernels(site, n)
    right = tuple(site.result.shape[-n:])
    padding, extra = (_tuple(argument(site, name, 0), n) for name in ("padding", "output_padding"))
    fix = "nnx.ConvTranspose(..., padding=...): torch's padding crops the full output"
    flips = ((False, "", USUAL), (True, " and flips the kernel", RARE))
    for front in range(max(padding) + 3):
        for flip, words, rank in flips:
            if all(p == front for p in padding) and not flip:
                continue
            text = f"Flax crops the full output at {front}{words}; torch's {{where}} crops it at {padding}."
            yield Option("padding-transposed", text, fix, _cut(site.function, (front,) * n, right, flip), rank)
    for shift in (-1, 1):
        text = f"Flax has a different output padding; torch's {{where}} has {extra}."
        values = tuple(max(e + shift, 0) for e in extra)
        yield Option("output-padding", text, f"output_padding={extra}", setting(site.function, output_padding=values))
    if argument(site, "bias") is not None:
        text = "Flax has no bias; torch's {where} has one."
        fix = "nnx.ConvTranspose(..., use_bias=True)" if is_native(hints) else "bias=True"
        yield Option("bias-missing", text, fix, setting(site.function, bias=None), COMMON)


def _cut(function: str, front: Sequence[int], sizes: Sequence[int], flip: bool) -> Change:
    """Return a change that computes the full transposed convolution and crops it at another position."""
    n = len(front)

    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        bias = argument((function, args, kwargs), "bias")
        turn = (lambda w: w.flip(tuple(range(2, 2 + n)))) if flip else (lambda w: w)
        full = setting(function, padding=0, output_padding=0, bias=None, weight=turn)(original, args, kwargs)
        for axis, (start, size) in enumerate(zip(front, sizes, strict=True), start=full.ndim - n):
            missing = start + size - full.shape[axis]
            if missing > 0:
                full = F.pad(full, [0, 0] * (full.ndim - 1 - axis) + [0, missing])
            full = full.narrow(axis, start, size)
        return full if bias is None else full + bias.reshape(1, -1, *[1] * n)

    return change


def linear(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of a linear layer: a missing or doubled bias, or a transposed weight."""
    if site.function not in ("linear", "bilinear"):
        return
    weight = argument(site, "weight")
    if argument(site, "bias") is not None:
        text = "Flax has no bias; torch's {where} has one."
        fix = "nnx.Linear(..., use_bias=True)" if is_native(hints) else "bias=True"
        yield Option("bias-missing", text, fix, setting(site.function, bias=None), COMMON)
        text = "Flax adds the bias twice; torch's {where} once."
        yield Option("bias-doubled", text, "add the bias once", setting(site.function, bias=lambda b: b + b), ODD)
    if site.function == "linear" and len(weight.shape) == 2 and weight.shape[0] == weight.shape[1]:
        text = "Flax multiplies by the transposed weight; torch's {where} does not."
        change = setting("linear", weight=lambda w: w.T)
        yield Option("kernel-transposed", text, "kernel = weight.T", change, COMMON)


def pooling(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of pooling: kind, padding, strides, window, rounding of the output size, and divisor."""
    if not site.function.startswith(("max_pool", "avg_pool")) or site.input is None:
        return
    n, is_max = _dimensions(site), site.function.startswith("max")
    kernel = _tuple(argument(site, "kernel_size"), n)
    stride = _tuple(argument(site, "stride", kernel) or kernel, n)
    padding = _tuple(argument(site, "padding", 0), n)
    ceil = bool(argument(site, "ceil_mode", False))
    name = "max_pool" if is_max else "avg_pool"
    text = f"Flax rounds the output size {'down' if ceil else 'up'}; torch's {{where}} has ceil_mode={ceil}."
    yield Option("ceil-mode", text, f"ceil_mode={ceil}", setting(site.function, ceil_mode=not ceil), COMMON)
    if not is_max:
        count = bool(argument(site, "count_include_pad", True))
        text = (
            f"Flax {'excludes padding from' if count else 'includes padding in'} the mean; torch's {{where}} "
            f"{'includes' if count else 'excludes'} padding."
        )
        fix = f"nnx.avg_pool(..., count_include_pad={count})"
        yield Option("count-include-pad", text, fix, setting(site.function, count_include_pad=not count), COMMON)
    right = tuple((p, p) for p in padding)
    fix = f"nnx.{name}(..., padding={right})"
    value = float("-inf") if is_max else 0.0
    for cause, pads, words, rank in _paddings(right, site.input.shape[-n:], kernel, (stride, (1,) * n)):
        if pads != right:
            text = f"Flax pads by {words}; torch's {{where}} pads by {right}."
            for counted in (True,) if is_max else (True, False):
                yield Option(cause, text, fix, _pooled_after_padding(site.function, pads, value, counted), rank)
    if is_max and any(padding):
        text = "Flax pads with zeros; torch's {where} pads with minus infinity."
        yield Option("padding-value", text, fix, _pooled_after_padding(site.function, right, 0.0, True), USUAL)
    for wrong in dict.fromkeys(((1,) * n, kernel, (2,) * n)):
        if wrong != stride:
            text = f"Flax has strides {wrong}; torch's {{where}} has {stride}."
            yield Option("stride", text, f"nnx.{name}(..., strides={stride})", setting(site.function, stride=wrong))
    for size in (2, 3):
        if (size,) * n != kernel:
            text = f"Flax pools windows of {size}; torch's {{where}} of {kernel}."
            change = setting(site.function, kernel_size=(size,) * n, stride=stride)
            yield Option("window", text, f"nnx.{name}(..., {kernel})", change, RARE)
    yield _other_kind(site, is_max, n, (kernel, stride, padding, ceil))


def _other_kind(site: Site, is_max: bool, n: int, sizes: tuple[Any, ...]) -> Option:
    other = getattr(F, f"{'avg' if is_max else 'max'}_pool{n}d")
    kernel, stride, padding, ceil = sizes
    words = ("computes the mean", "the maximum") if is_max else ("computes the maximum", "the mean")
    text = f"Flax {words[0]} of each window; torch's {{where}} computes {words[1]}."
    change = instead(lambda x: other(x, kernel, stride, padding, ceil_mode=ceil))
    return Option("pooling-kind", text, f"nnx.{'max' if is_max else 'avg'}_pool(...)", change)


def _pooled_after_padding(function: str, pads: Pads, value: float, counted: bool) -> Change:
    inner = setting(function, padding=0)

    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        result = inner(original, (F.pad(args[0], _flat(pads), value=value), *args[1:]), kwargs)
        if counted:
            return result
        ones = F.pad(torch.ones_like(args[0]), _flat(pads))
        return result / inner(original, (ones, *args[1:]), kwargs)

    return change


def adaptive_pooling(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of adaptive pooling: a maximum or a sum instead of a mean, or the reverse."""
    if not site.function.startswith("adaptive_") or site.input is None:
        return
    n, is_max = _dimensions(site), site.function.startswith("adaptive_max")
    size = argument(site, "output_size")
    other = getattr(F, f"adaptive_{'avg' if is_max else 'max'}_pool{n}d")
    words = ("computes the mean", "the maximum") if is_max else ("computes the maximum", "the mean")
    text = f"Flax {words[0]} over height and width; torch's {{where}} computes {words[1]}."
    fix = f"jnp.{'max' if is_max else 'mean'}(x, axis=(1, 2))"
    yield Option("pooling-kind", text, fix, instead(lambda x: other(x, size)))
    if not is_max and all(length == 1 for length in site.result.shape[-n:]):
        text = "Flax sums over height and width; torch's {where} computes the mean."
        change = instead(lambda x: x.sum(tuple(range(x.ndim - n, x.ndim)), keepdim=True))
        yield Option("reduction", text, fix, change)


def resizing(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of resizing: method, alignment of corners, pixel centres and antialiasing."""
    if site.function != "interpolate" or site.input is None or not hasattr(site.result, "shape"):
        return
    n = len(site.input.shape) - 2
    size = tuple(site.result.shape[2:])
    mode = argument(site, "mode", "nearest")
    align, antialias = bool(argument(site, "align_corners", False)), bool(argument(site, "antialias", False))
    grows = all(b >= a for a, b in zip(site.input.shape[2:], size, strict=True)) and mode == "bicubic"
    smooth = {1: ("linear",), 2: ("bilinear", "bicubic"), 3: ("trilinear",)}[n]
    for other in ("nearest", "nearest-exact", *smooth, "area"):
        for corners, anti in itertools.product((False, True), repeat=2):
            if (other, corners, anti) == (mode, align, antialias) or (other not in smooth and (corners or anti)):
                continue
            if anti and other not in ("bilinear", "bicubic"):
                continue
            yield _resized(size, (mode, align, antialias), (other, corners, anti), grows=grows)


def _resized(
    size: tuple[int, ...], right: tuple[str, bool, bool], wrong: tuple[str, bool, bool], *, grows: bool
) -> Option:
    mode, corners, antialias = wrong
    names = ("mode", "align_corners", "antialias")
    differs = [name for name, a, b in zip(names, right, wrong, strict=True) if a != b]
    options: dict[str, Any] = {"mode": mode}
    if mode not in ("nearest", "nearest-exact", "area"):
        options |= {"align_corners": corners, "antialias": antialias}
    if differs[0] == "mode":
        nearest = {mode, right[0]} == {"nearest", "nearest-exact"}
        name = "half-pixel" if nearest else "interpolation-method"
    else:
        name = {"align_corners": "align-corners", "antialias": "antialias"}[differs[0]]
    described = [", ".join(f"{n}={v!r}" for n, v in zip(names, values, strict=True)) for values in (right, wrong)]
    text = f"Flax resizes as torch does with {described[1]}; torch's {{where}} has {described[0]}."
    if name == "antialias" and antialias and grows:
        # When a bicubic resize enlarges an image, antialiasing changes only the coefficient of torch's cubic kernel.
        # jax.image.resize has the same coefficient.
        name = "cubic-coefficient"
        text = "Flax resizes with the cubic kernel a = -0.5, as jax.image.resize does; torch's {where} has a = -0.75."
    fix = "jax.image.resize(..., antialias=False)" if name == "antialias" else f"resize with {described[0]}"
    rank = COMMON if len(differs) == 1 else USUAL
    return Option(name, text, fix, instead(lambda x: F.interpolate(x, size, **options)), rank)


def sampling(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of grid sampling: alignment of corners, interpolation and padding mode."""
    if site.function not in ("grid_sample", "affine_grid"):
        return
    align = bool(argument(site, "align_corners", False))
    text = f"Flax samples as align_corners={not align} does; torch's {{where}} has align_corners={align}."
    yield Option(
        "align-corners", text, f"align_corners={align}", setting(site.function, align_corners=not align), COMMON
    )
    if site.function == "grid_sample":
        for name, default, values in (
            ("mode", "bilinear", ("bilinear", "nearest", "bicubic")),
            ("padding_mode", "zeros", ("zeros", "border", "reflection")),
        ):
            right = argument(site, name, default)
            for value in values:
                if value != right:
                    cause = "interpolation-method" if name == "mode" else "padding-mode"
                    text = f"Flax samples as {name}={value!r} does; torch's {{where}} has {name}={right!r}."
                    yield Option(cause, text, f"{name}={right!r}", setting(site.function, **{name: value}))


def padding(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield mistakes of padding: mode, value and side."""
    if site.function != "pad":
        return
    mode, pads = argument(site, "mode", "constant"), list(argument(site, "pad"))
    fix = f"jnp.pad(..., mode={mode!r})"
    for other in ("constant", "reflect", "replicate", "circular"):
        if other != mode:
            text = f"Flax pads with mode={other!r}; torch's {{where}} with {mode!r}."
            value = 0.0 if other == "constant" else None
            yield Option("padding-mode", text, fix, setting("pad", mode=other, value=value), COMMON)
    for words, wrong in (
        ("the other side of each axis", [p for i in range(0, len(pads), 2) for p in (pads[i + 1], pads[i])]),
        ("the axes in the other order", [p for i in range(len(pads) - 2, -1, -2) for p in pads[i : i + 2]]),
        ("no axis", [0] * len(pads)),
        ("the front", [p for i in range(0, len(pads), 2) for p in (pads[i] + pads[i + 1], 0)]),
        ("the end", [p for i in range(0, len(pads), 2) for p in (0, pads[i] + pads[i + 1])]),
    ):
        if wrong != pads:
            text = f"Flax pads {words}; torch's {{where}} pads by {pads} (last axis first)."
            yield Option("padding-side", text, f"pads {pads}", setting("pad", pad=wrong))
    if mode == "constant":
        value = argument(site, "value", 0.0)
        for other in (0.0, 1.0, -1.0, float("-inf")):
            if other != value:
                text = f"Flax pads with {other}; torch's {{where}} with {value}."
                yield Option("padding-value", text, f"constant_values={value}", setting("pad", value=other), RARE)


def pixel_shuffle(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield a wrong order of channels in a pixel shuffle (depth to space)."""
    if site.function not in ("pixel_shuffle", "pixel_unshuffle") or len(site.args) < 2:
        return
    r = site.args[1]
    up = site.function == "pixel_shuffle"

    def reordered(x: torch.Tensor) -> torch.Tensor:
        if up:
            split = x.unflatten(1, (r * r, -1)).transpose(1, 2).flatten(1, 2)
            return F.pixel_shuffle(split, r)
        return F.pixel_unshuffle(x, r).unflatten(1, (-1, r * r)).transpose(1, 2).flatten(1, 2)

    text = "Flax reads the channels in the order (row, column, channel); torch's {where} (channel, row, column)."
    yield Option("channel-order", text, "order of channels (channel, row, column)", instead(reordered), COMMON)


def patches(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield a wrong order of values in a patch."""
    if site.function not in ("unfold", "im2col") or site.input is None or len(site.input.shape) != 4:
        return
    channels = site.input.shape[1]
    text = "Flax orders a patch (row, column, channel); torch's {where} (channel, row, column)."

    def change(original: Original, args: tuple, kwargs: dict) -> Any:
        result = original(*args, **kwargs)
        return result.unflatten(1, (channels, -1)).transpose(1, 2).flatten(1, 2)

    yield Option("patch-order", text, "order of a patch (channel, row, column)", change, COMMON)


SITE_RULES = (
    linear, convolution, transposed_convolution, pooling, adaptive_pooling, resizing, sampling, padding, pixel_shuffle,
    patches,
)  # fmt: skip
