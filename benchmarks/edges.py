"""Compare edge cases of window functions (convolution, pooling, padding, ...) with torch, on randomly drawn calls.

Shapes, exceptions and values are compared. ``python -m benchmarks.edges 2000`` draws 2,000 calls of every function in
the table. ``python -m benchmarks.edges 2000 max_pool2d fold`` draws calls of these two functions. Each call that
differs is printed. ``test_edges.py`` runs a few of these calls.
"""

import dataclasses
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from flaxnets.nn import functional as F


@dataclasses.dataclass(frozen=True)
class Call:
    """A call of a function of ``torch.nn.functional`` on random arrays.

    Attributes:
        name: Name of the function.
        shapes: Shapes of the positional arrays, the input first.
        options: The other arguments.
        indices: Number of possible values of the second array, if that array holds indices.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    options: dict[str, Any]
    indices: int | None = None

    def __str__(self) -> str:
        shapes = ", ".join(map(str, self.shapes))
        return f"{self.name}({shapes}, {', '.join(f'{name}={_shown(value)}' for name, value in self.options.items())})"

    def arrays(self) -> list[np.ndarray]:
        """Return the positional arrays."""
        rng = np.random.default_rng(0)
        arrays: list[np.ndarray] = [rng.normal(size=shape).astype(np.float32) for shape in self.shapes]
        if self.indices is not None:
            arrays[1] = rng.permuted(np.arange(max(arrays[1].size, self.indices)))[: arrays[1].size] % self.indices
            arrays[1] = arrays[1].reshape(self.shapes[1])
        return arrays

    def of_torch(self) -> Any:
        """Return the results of torch as numpy arrays, or the exception that torch raises."""
        options = dict(self.options)
        if "_random_samples" in options:
            options["_random_samples"] = torch.from_numpy(options["_random_samples"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                result = getattr(torch.nn.functional, self.name)(*map(torch.from_numpy, self.arrays()), **options)
            except Exception as error:  # any exception of torch is an expected result
                return error
        return [each.numpy() for each in result] if isinstance(result, tuple) else [result.numpy()]

    def of_flax(self, values: bool) -> Any:
        """Return the results of flaxnets, or the exception that it raises; without ``values`` only the shapes."""

        def call(*arrays: Any) -> Any:
            result = getattr(F, self.name)(*arrays, **self.options)
            return result if isinstance(result, tuple) else (result,)

        arrays = [*map(jnp.asarray, self.arrays())]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return [*map(np.asarray, call(*arrays))] if values else [*jax.eval_shape(call, *arrays)]
            except Exception as error:
                return error

    def difference(self, values: bool = True) -> str | None:
        """Return a description of how the two results differ, or None if they agree."""
        expected, actual = self.of_torch(), self.of_flax(values)
        if isinstance(expected, Exception) or isinstance(actual, Exception):
            if type(expected) is type(actual) or _depends_on_torchs_backend(expected, actual):
                return None
            return f"torch: {_shown(expected)}; here: {_shown(actual)}"
        for theirs, ours in zip(expected, actual, strict=True):
            if theirs.shape != ours.shape:
                return f"torch: {_shown(expected)}; here: {_shown(actual)}"
            if values and not np.allclose(theirs, ours, rtol=1e-4, atol=1e-5, equal_nan=True):
                return f"values differ by up to {np.nanmax(np.abs(theirs - ours))}"
        return None


def _depends_on_torchs_backend(expected: Any, actual: Any) -> bool:
    """Whether a transposed convolution has an empty output: oneDNN returns it, torch's native implementation raises."""
    return "Output size is too small" in str(expected) and isinstance(actual, list) and 0 in actual[0].shape


def _shown(result: Any) -> str:
    if not isinstance(result, (Exception, list)):
        return f"array{result.shape}" if isinstance(result, np.ndarray) else repr(result)
    if isinstance(result, Exception):
        return f"{type(result).__name__} ({str(result).splitlines()[0][:150] if str(result) else ''})"
    return " and ".join(str(tuple(array.shape)) for array in result)


def _some(draw: random.Random, values: Any, n: int) -> Any:
    """Draw one value for all axes, or a value for each axis."""
    return draw.choice(values) if draw.random() < 0.7 else tuple(draw.choice(values) for _ in range(n))


def _spatial(draw: random.Random, n: int) -> tuple[int, ...]:
    """Draw sizes up to 6. About one call in ten has a size of 0."""
    return tuple(0 if draw.random() < 0.1 / n else draw.randint(1, 6 if n < 3 else 5) for _ in range(n))


def _leading(draw: random.Random, channels: int) -> tuple[int, ...]:
    """Draw the leading axes: batch and channels, or channels alone."""
    return draw.choice([(2, channels), (1, channels), (channels,), (0, channels)])


def _likely(draw: random.Random, usual: Any, rare: Any) -> list[Any]:
    """Return the values that an argument is drawn from: in one call of ten, the rare (mostly invalid) values too."""
    return [*usual, *rare] if draw.random() < 0.1 else [*usual]


def _window(draw: random.Random, n: int) -> dict[str, Any]:
    options = {
        "kernel_size": _some(draw, _likely(draw, (1, 2, 3), (0, -1, 5)), n),
        "stride": draw.choice([None, _some(draw, _likely(draw, (1, 2, 3, 4), (0, -1)), n)]),
        "padding": _some(draw, _likely(draw, (0, 1), (2, -1)), n),
        "ceil_mode": draw.random() < 0.6,
    }
    return {name: value for name, value in options.items() if draw.random() < 0.8 or name == "kernel_size"}


def _conv(draw: random.Random, name: str, n: int) -> Call:
    groups, channels, out = draw.choice([(1, 2, 3), (1, 1, 2), (2, 2, 4), (1, 0, 2), (1, 2, 0), (2, 2, 2)])
    kernel = tuple(draw.choice(_likely(draw, (1, 2, 3), (0,))) for _ in range(n))
    options: dict[str, Any] = {
        "stride": _some(draw, _likely(draw, (1, 2, 3), (0, -1)), n),
        "padding": draw.choice(["same", "valid", *[_some(draw, _likely(draw, (0, 1, 2, 3), (-1,)), n)] * 4]),
        "dilation": _some(draw, _likely(draw, (1, 2, 3), (0, -1)), n),
    }
    weight = (out, channels // groups, *kernel)
    if name.startswith("conv_transpose"):
        weight = (channels, out // groups, *kernel)
        if isinstance(options["padding"], str):
            options["padding"] = 1
        options["output_padding"] = _some(draw, _likely(draw, (0, 1), (2, -1)), n)
    shapes = [(*_leading(draw, channels), *_spatial(draw, n)), weight, *([(out,)] if draw.random() < 0.5 else [])]
    return Call(name, tuple(shapes), {**options, "groups": groups})


def _pool(draw: random.Random, name: str, n: int) -> Call:
    options = _window(draw, n)
    shape = (*_leading(draw, draw.choice([1, 2, 2, 0])), *_spatial(draw, n))
    if name.startswith("max"):
        options |= {"dilation": _some(draw, _likely(draw, (1, 1, 2, 3), (0,)), n)} if draw.random() < 0.5 else {}
        options["return_indices"] = draw.random() < 0.3
    elif name.startswith("avg"):
        options["count_include_pad"] = draw.random() < 0.5
        options |= {"divisor_override": draw.choice([1, 3, 0, -2])} if n > 1 and draw.random() < 0.2 else {}
    else:
        options.pop("padding", None)
        options = {"norm_type": draw.choice([1, 2, 3.0, float("inf")]), **options}
    return Call(name, (shape,), options)


def _adaptive(draw: random.Random, name: str, n: int) -> Call:
    sizes = _likely(draw, (1, 2, 3, 5, 7), (0, -1))
    output = draw.choice(
        [draw.choice(sizes), tuple(draw.choice([*sizes, *([None] if n > 1 else [])]) for _ in range(n))]
    )
    shape = (*_leading(draw, draw.choice([1, 2, 0])), *_spatial(draw, n))
    return Call(name, (shape,), {"output_size": output, **({"return_indices": True} if "max" in name else {})})


def _fractional(draw: random.Random, name: str, n: int) -> Call:
    shape = (*_leading(draw, draw.choice([1, 2, 0])), *_spatial(draw, n))
    batch, channels = (1, shape[0]) if len(shape) == n + 1 else shape[:2]
    # No kernel size of 0: torch reads memory before the array for an empty window, flaxnets raises.
    options: dict[str, Any] = {"kernel_size": _some(draw, _likely(draw, (1, 2, 3), (5,)), n)}
    if draw.random() < 0.5:
        options["output_size"] = _some(draw, _likely(draw, (1, 2, 3), (0, -1, 6)), n)
    else:
        options["output_ratio"] = _some(draw, (0.2, 0.5, 0.8), n)
    samples = np.random.default_rng(1).uniform(size=(batch, channels, n)).astype(np.float32)
    return Call(name, (shape,), {**options, "return_indices": True, "_random_samples": samples})


def _unpool(draw: random.Random, name: str, n: int) -> Call:
    shape = (*_leading(draw, draw.choice([1, 2, 0])), *(size % 4 for size in _spatial(draw, n)))
    options: dict[str, Any] = {"kernel_size": _some(draw, _likely(draw, (1, 2, 3), (0,)), n)}
    options |= {"stride": _some(draw, _likely(draw, (1, 2, 3), (0,)), n)} if draw.random() < 0.5 else {}
    options |= {"padding": _some(draw, _likely(draw, (0, 0, 1), (2,)), n)} if draw.random() < 0.5 else {}
    if draw.random() < 0.3:
        options["output_size"] = tuple(draw.randint(0, 9) for _ in range(n))
    return Call(name, (shape, shape), options, indices=max(int(np.prod(shape[-n:])), 1))


def _sliding(draw: random.Random, name: str, n: int) -> Call:
    options = {
        "kernel_size": _some(draw, _likely(draw, (1, 2, 3), (0, -1)), 2),
        "dilation": _some(draw, _likely(draw, (1, 1, 2), (0,)), 2),
        "padding": _some(draw, _likely(draw, (0, 1, 2), (-1,)), 2),
        "stride": _some(draw, _likely(draw, (1, 2, 3), (0,)), 2),
    }
    if name == "unfold":
        return Call(name, ((*_leading(draw, draw.choice([1, 2, 0])), *_spatial(draw, 2)),), options)
    options = {"output_size": _spatial(draw, 2), **options}
    rows, columns = 1, 1
    per_axis = [value if isinstance(value, tuple) else (value, value) for value in options.values()]
    for size, kernel, dilation, padding, stride in zip(*per_axis, strict=True):
        rows *= max(kernel, 1)
        columns *= max((size + 2 * padding - dilation * (kernel - 1) - 1) // max(stride, 1) + 1, 0)
    shape = (rows * draw.choice([1, 2, 0]), columns + draw.choice([0, 0, 0, 0, 1]))
    return Call(name, (draw.choice([shape, (2, *shape), (0, *shape)]),), options)


def _pad(draw: random.Random, name: str, n: int) -> Call:
    sizes = (0, 1, 2, 3, 5) if draw.random() < 0.7 else (-3, -2, -1, 0, 1, 2)
    mode = draw.choice(["constant", "reflect", "replicate", "circular"])
    pad = [(draw.choice(sizes), draw.choice(sizes)) for _ in range(n)]
    if mode == "circular":  # torch reads uninitialized memory if one end is cropped and the other is padded
        pad = [ends if min(ends) >= 0 or max(ends) <= 0 else (0, 1) for ends in pad]
    shape = (*_leading(draw, draw.choice([1, 2, 0])), *_spatial(draw, n))
    return Call(name, (shape,), {"pad": tuple(size for ends in pad for size in ends), "mode": mode})


_MODES = {1: ["linear"], 2: ["bilinear", "bicubic"], 3: ["trilinear"]}


def _interpolate(draw: random.Random, name: str, n: int) -> Call:
    mode = draw.choice(["nearest", "nearest-exact", "area", *_MODES[n]])
    options: dict[str, Any] = {"mode": mode}
    if draw.random() < 0.5:
        options["size"] = _some(draw, _likely(draw, (1, 2, 3, 5, 8), (0, -1)), n)
    else:
        options["scale_factor"] = _some(draw, _likely(draw, (0.5, 1.0, 1.5, 2, 0.3), (0.1, 0, -1.0)), n)
        options |= {"recompute_scale_factor": True} if draw.random() < 0.3 else {}
    if mode in _MODES[n] and draw.random() < 0.5:
        options["align_corners"] = True
    if mode in _MODES[2] and draw.random() < 0.3:
        options["antialias"] = True
    shape = (draw.choice([1, 2, 0]), draw.choice([1, 2, 2, 0]), *_spatial(draw, n))
    return Call(name, (shape,), options)


Draw = Callable[[random.Random, str, int], Call]

# For each function: the function that draws its calls, and the possible numbers of spatial axes.
FUNCTIONS: dict[str, tuple[Draw, tuple[int, ...]]] = {
    **{f"conv{n}d": (_conv, (n,)) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": (_conv, (n,)) for n in (1, 2, 3)},
    **{f"{kind}_pool{n}d": (_pool, (n,)) for kind in ("max", "avg", "lp") for n in (1, 2, 3)},
    **{f"adaptive_{kind}_pool{n}d": (_adaptive, (n,)) for kind in ("avg", "max") for n in (1, 2, 3)},
    **{f"fractional_max_pool{n}d": (_fractional, (n,)) for n in (2, 3)},
    **{f"max_unpool{n}d": (_unpool, (n,)) for n in (1, 2, 3)},
    "fold": (_sliding, (2,)),
    "unfold": (_sliding, (2,)),
    "pad": (_pad, (1, 2, 3)),
    "interpolate": (_interpolate, (1, 2, 3)),
}


def calls(name: str, count: int) -> Iterator[Call]:
    """Yield ``count`` random calls of a function. The seed is the function's name."""
    draw, axes = FUNCTIONS[name]
    source = random.Random(name)
    for _ in range(count):
        yield draw(source, name, source.choice(axes))


def main(arguments: list[str]) -> int:
    """Print the calls that differ. Return 1 if there are any, else 0."""
    count, names = int(arguments[0]) if arguments else 500, arguments[1:] or list(FUNCTIONS)
    failed = 0
    for name in names:
        raised = differing = 0
        for number, call in enumerate(calls(name, count)):
            # Shapes are enough for most calls. An index out of range is only noticed with values.
            difference = call.difference(values=number % 10 == 0 or call.indices is not None)
            raised += isinstance(call.of_torch(), Exception)
            if difference is not None:
                differing += 1
                print(f"  {call}: {difference}", flush=True)
        jax.clear_caches()  # each call compiles a program
        print(f"{name}: {count} calls, torch raises for {raised}, {differing} differ", flush=True)
        failed += differing
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
