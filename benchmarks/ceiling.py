"""Measure how fast a library multiplies float32 matrices: ``python -m benchmarks.ceiling xla``."""

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

from benchmarks.worker import limit_threads

SIZE = 2048


def product(library: str) -> Callable[[], Any]:
    """Return a function that multiplies two matrices of :data:`SIZE` rows and waits for the product."""
    import numpy as np  # NumPy reads the number of threads when it is imported

    a, b = np.random.default_rng(0).standard_normal((2, SIZE, SIZE), dtype=np.float32)
    if library == "numpy":
        return lambda: a @ b
    if library == "torch":
        import torch

        left, right = torch.from_numpy(a), torch.from_numpy(b)
        return lambda: left @ right
    import jax

    multiply, x, y = jax.jit(lambda x, y: x @ y), jax.device_put(a), jax.device_put(b)
    return lambda: multiply(x, y).block_until_ready()


def gflops(library: str, seconds: float) -> float:
    """Return the GFLOP/s of the fastest product; products are repeated for the given number of seconds."""
    multiply = product(library)
    multiply()
    times, until = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < until:
        started = time.perf_counter()
        multiply()
        times.append(time.perf_counter() - started)
    return 2 * SIZE**3 / min(times) / 1e9


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ceiling", description=__doc__)
    parser.add_argument("library", choices=["numpy", "torch", "xla"])
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    limit_threads(options.threads)
    print(json.dumps({"library": options.library, "gflops": gflops(options.library, options.seconds)}))


if __name__ == "__main__":
    main()
