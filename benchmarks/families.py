"""Time single convolutions with their gradients: XLA's native convolution, the default of the layers, and PyTorch.

``python -m benchmarks.families`` prints a table in milliseconds. Each cell runs in a fresh process. The rows are types
of convolutions that are slow in XLA's CPU backend. No file is written.
"""

import argparse
import functools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from unittest import mock

from benchmarks import rounds
from benchmarks.worker import limit_threads


class Row(NamedTuple):
    """A convolution: the function of ``torch.nn.functional``, shapes of input and weight, and other arguments."""

    function: str
    input: tuple[int, ...]
    weight: tuple[int, ...]
    options: dict[str, Any]


ROWS = {
    "depthwise 3x3": Row("conv2d", (8, 96, 56, 56), (96, 1, 3, 3), {"groups": 96, "padding": 1}),
    "depthwise 3x3, stride 2": Row("conv2d", (8, 96, 56, 56), (96, 1, 3, 3), {"groups": 96, "padding": 1, "stride": 2}),
    "depthwise 7x7": Row("conv2d", (8, 96, 28, 28), (96, 1, 7, 7), {"groups": 96, "padding": 3}),
    "depthwise 31, 1-d": Row("conv1d", (16, 144, 256), (144, 1, 31), {"groups": 144, "padding": 15}),
    "32 groups": Row("conv2d", (4, 128, 28, 28), (128, 4, 3, 3), {"groups": 32, "padding": 1}),
    "32 groups, stride 2": Row("conv2d", (4, 128, 28, 28), (128, 4, 3, 3), {"groups": 32, "padding": 1, "stride": 2}),
    "2 groups": Row("conv2d", (8, 128, 28, 28), (128, 64, 3, 3), {"groups": 2, "padding": 1}),
    "transposed 2x2, stride 2": Row("conv_transpose2d", (4, 128, 28, 28), (128, 64, 2, 2), {"stride": 2}),
    "transposed 4x4, stride 2": Row("conv_transpose2d", (8, 128, 16, 16), (128, 64, 4, 4), {"stride": 2, "padding": 1}),
    "transposed depthwise 16x16, stride 8": Row(
        "conv_transpose2d", (4, 21, 28, 28), (21, 1, 16, 16), {"stride": 8, "padding": 4, "groups": 21}
    ),
    "transposed 16, stride 8, 1-d": Row("conv_transpose1d", (8, 128, 256), (128, 64, 16), {"stride": 8, "padding": 4}),
    "transposed 2x2x2, stride 2": Row("conv_transpose3d", (2, 32, 8, 16, 16), (32, 16, 2, 2, 2), {"stride": 2}),
    "3x3x3, 16 channels": Row("conv3d", (2, 16, 24, 24, 24), (16, 16, 3, 3, 3), {"padding": 1}),
    "3x3x3, 64 channels": Row("conv3d", (2, 64, 12, 12, 12), (64, 64, 3, 3, 3), {"padding": 1}),
    "patches 16x16": Row("conv2d", (8, 3, 224, 224), (192, 3, 16, 16), {"stride": 16}),
}
FORMS = ("native", "default", "engine", "torch", "torch_channels_last")


def _jax(row: Row, form: str) -> Callable[[], Any]:
    import jax
    import numpy as np

    from flaxnets import kernels
    from flaxnets.kernels import choice, onednn
    from flaxnets.nn import functional as F

    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape, dtype=np.float32) for shape in (row.input, row.weight))
    convolve = functools.partial(getattr(F, row.function), **row.options)

    kernel = "plain" if form != "engine" else "onednn" if onednn.is_supported() else "xla"

    def both(x: Any, weight: Any) -> Any:
        with kernels.use(kernel):
            y, back = jax.vjp(convolve, x, weight)
        return y, back(y)

    native = choice.native_convolution if form == "native" else choice.convolution_nd
    with mock.patch.object(choice, "convolution_nd", native):
        compiled, arrays = jax.jit(both).lower(x, weight).compile(), jax.device_put((x, weight))
    return lambda: jax.block_until_ready(compiled(*arrays))


def _torch(row: Row, form: str) -> Callable[[], Any]:
    import torch

    channels_last = {4: torch.channels_last, 5: torch.channels_last_3d}
    is_last = form == "torch_channels_last" and len(row.input) in channels_last
    memory_format = channels_last[len(row.input)] if is_last else torch.contiguous_format
    x, weight = (
        torch.randn(shape).contiguous(memory_format=memory_format).requires_grad_()
        for shape in (row.input, row.weight)
    )  # fmt: skip
    convolve = functools.partial(getattr(torch.nn.functional, row.function), **row.options)

    def both() -> None:
        y = convolve(x, weight)
        torch.autograd.grad(y, (x, weight), y.detach())

    return both


def measure(row: Row, form: str, seconds: float) -> dict[str, Any]:
    """Return the seconds of each call (at least three calls), and the seconds of compiling."""
    started = time.perf_counter()
    call = (_torch if form.startswith("torch") else _jax)(row, form)
    compiling = time.perf_counter() - started
    call()
    times, until = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return {"seconds": times, "prepare_seconds": compiling}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.families", description=__doc__)
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help="convolutions to measure (default: all)")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each process measures")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=1, help="fresh processes per variant")
    parser.add_argument("--here", action="store_true", help="measure one row and one variant in this process")
    options = parser.parse_args(arguments)
    if options.here:
        limit_threads(options.threads)
        print(json.dumps(measure(ROWS[options.rows[0]], options.forms[0], options.seconds)))
        return
    rounds.warn_if_busy()
    print("| forward + backward, ms |", *(f"{form} |" for form in options.forms))
    print("|---|" + "---|" * len(options.forms))
    common = ["--here", "--seconds", str(options.seconds), "--threads", str(options.threads)]
    for name in options.rows or ROWS:
        cells: dict[str, list[float]] = {form: [] for form in options.forms}
        for _ in range(options.rounds):
            for form in options.forms:
                with tempfile.TemporaryDirectory(prefix="benchmarks-") as caches:
                    env = rounds.environment("keep", caches)
                    command = [sys.executable, "-m", "benchmarks.families", name, "--forms", form, *common]
                    result = rounds.fresh(command, env)
                cells[form].append(statistics.median(result["seconds"]) * 1e3 if "seconds" in result else float("nan"))
        print(f"| {name} |", *(f"{statistics.median(values):.3g} |" for values in cells.values()), flush=True)


if __name__ == "__main__":
    main()
