"""Test oneDNN's calls for this jaxlib and processor, once, in a separate process."""

import contextlib
import functools
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from flaxnets.cache import cache_folder
from flaxnets.kernels import onednn
from flaxnets.kernels.convolution import convolution
from flaxnets.kernels.convolution_nd import Window, convolution_nd, native_convolution
from flaxnets.kernels.linear import linear
from flaxnets.kernels.products import product
from flaxnets.xla import compiler_options

Shape = tuple[int, ...]
Implementation = Callable[[jax.Array, jax.Array], jax.Array]

# The program of the separate process, which may crash without harm.
PROGRAM = "from flaxnets.kernels import probe; probe.compare()"
_SECONDS = 180
_TOLERANCES = {"float32": 1e-4, "bfloat16": 3e-2}  # relative to the largest number

# Input (N, C, H, W), weight, stride, padding, dilation.
_CONVOLUTIONS = (
    ((2, 3, 9, 10), (5, 3, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((2, 16, 9, 7), (8, 16, 3, 2), (2, 1), ((1, 0), (0, 2)), (1, 1)),
    ((2, 24, 9, 7), (8, 24, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((3, 20, 8, 8), (17, 20, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    ((3, 20, 8, 8), (33, 20, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    ((3, 32, 7, 7), (16, 32, 1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    ((2, 16, 11, 11), (16, 16, 3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2)),
    ((1, 1, 28, 28), (6, 1, 5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1)),
    ((4, 64, 6, 6), (64, 64, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
)
# Input, weight and sizes of other convolutions: of sequences, grouped, depthwise, and with windows side by side.
# Transposed convolutions and convolutions of volumes use the same calls.
_FAMILIES = (
    ((2, 6, 9), (5, 6, 3), Window((9,), (3,), (2,), ((1, 0),), (1,))),
    ((2, 32, 8, 7), (32, 4, 3, 3), Window((8, 7), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), groups=8)),
    ((2, 20, 9, 8), (40, 1, 5, 3), Window((9, 8), (5, 3), (2, 2), ((2, 2), (0, 2)), (1, 1), groups=20)),
    ((2, 17, 9, 9), (17, 1, 3, 3), Window((9, 9), (3, 3), (1, 1), ((2, 2), (0, 0)), (2, 3), groups=17)),
    ((2, 3, 12, 8), (10, 3, 4, 4), Window((12, 8), (4, 4), (4, 4), ((0, 0), (0, 0)), (1, 1))),
)
# Input and weight: the first pair uses oneDNN for the gradient of the weight, the second pair for all three products.
_PRODUCTS = (((65, 200), (121, 200)), ((2, 2048), (2050, 2048)))
# Stacks of matrices, as in attention: operands of bfloat16 have results of float32.
_STACKS = ((2, 3, 70, 40), (2, 3, 90, 40))
# The files with the tested code.
_TESTED = ("onednn.py", "_primitives.py", "convolution.py", "convolution_nd.py", "linear.py", "products.py", "probe.py")


def _cases() -> Iterator[tuple[tuple[Shape, Shape], DTypeLike, Implementation, Implementation]]:
    """Yield the shapes of both operands, the dtype for oneDNN, and the implementations of oneDNN and XLA."""
    for i, (x, weight, stride, pads, dilation) in enumerate(_CONVOLUTIONS):
        call = functools.partial(convolution, bias=None, stride=stride, pads=pads, dilation=dilation)
        for dtype in _dtypes(i):
            yield (x, weight), dtype, functools.partial(call, library="onednn"), functools.partial(call, library="xla")
    for i, (x, weight, window) in enumerate(_FAMILIES):
        by_onednn = functools.partial(convolution_nd, window=window._replace(library="onednn"))
        by_xla = functools.partial(native_convolution, window=window._replace(channels_last=False))
        by_onednn, by_xla = (functools.partial(each, bias=None, result="output") for each in (by_onednn, by_xla))
        for dtype in _dtypes(i):
            yield (x, weight), dtype, by_onednn, by_xla
    for i, shapes in enumerate(_PRODUCTS):
        for dtype in _dtypes(i):
            yield shapes, dtype, linear, lambda x, weight: x @ weight.T
    for dtype in _dtypes(1):
        yield _STACKS, dtype, functools.partial(_scores, dtype=dtype), lambda a, b: a @ jnp.swapaxes(b, -1, -2)


def _scores(a: jax.Array, b: jax.Array, dtype: DTypeLike) -> jax.Array:
    return product(a.astype(jnp.float32), b.astype(jnp.float32), dtype, transpose_b=True)


def _dtypes(case: int) -> list[DTypeLike]:
    """Return the dtypes of a case. To bound the time, only every other case includes bfloat16, if supported."""
    return [jnp.float32, jnp.bfloat16] if case % 2 and onednn.has_bfloat16() else [jnp.float32]


def compare() -> None:
    """Exit with a message and status 1 if oneDNN's results differ from XLA's.

    >>> if onednn.is_supported():
    ...     compare()
    """
    rng = np.random.default_rng(0)
    cases = list(_cases())
    operands = [[jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes] for shapes, dtype, *_ in cases]

    def results(operands: list[list[jax.Array]]) -> list[list[list[jax.Array]]]:
        """Compute the outputs, and the gradients of the sum of their squares, of all cases in one program."""
        pairs = []
        for arrays, (_, _, by_onednn, by_xla) in zip(operands, cases, strict=True):
            both = []
            for implementation, dtype in ((by_onednn, arrays[0].dtype), (by_xla, jnp.float32)):
                y, back = jax.vjp(implementation, *(array.astype(dtype) for array in arrays))
                both.append([y, *back(y)])
            pairs.append(both)
        return pairs

    # XLA's optimizations have no effect on oneDNN's calls, and would only cost compile time.
    options = compiler_options({"xla_backend_optimization_level": 0})
    for (_, dtype, *_), both in zip(cases, jax.jit(results, compiler_options=options)(operands), strict=True):
        for got, expected in zip(*both, strict=True):
            got, expected = np.asarray(got, np.float32), np.asarray(expected)
            error = float(abs(got - expected).max() / abs(expected).max())
            if not error < _TOLERANCES[jnp.dtype(dtype).name]:
                sys.exit(f"oneDNN is off by {error} for a result of {jnp.dtype(dtype)} and shape {got.shape}")


def _calls() -> str:
    """Return a digest of the tested code."""
    digest = hashlib.sha256()
    for name in _TESTED:
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()[:12]


def _processor() -> str:
    """Return the processor's name, and a digest of its model and instructions."""
    processor = onednn.processor()
    fields = [processor.get(key, "") for key in ("model name", "cpu family", "model", "stepping", "flags")]
    return f"{fields[0]} {hashlib.sha256(' '.join(fields).encode()).hexdigest()[:12]}"


def _cache_file() -> Path:
    return cache_folder() / "onednn.json"


def _read(path: Path) -> dict[str, bool]:
    try:
        verdicts = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return verdicts if isinstance(verdicts, dict) else {}


def _write(path: Path, verdicts: dict[str, bool]) -> None:
    # If the folder is not writable, the next process tests again.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(verdicts, file, indent=1)
        os.replace(file.name, path)


def _try() -> bool | None:
    """Run the separate process, and return whether it succeeds; None after a timeout."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", PROGRAM]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.returncode == 0


@functools.cache
def passes() -> bool:
    """Return whether oneDNN's calls work on this machine and agree with XLA.

    The result is cached in ``$XDG_CACHE_HOME/flaxnets/onednn.json`` for each version of jaxlib, processor and version
    of the calling code. If the test process crashes or its results differ, the result is False. After a timeout the
    result is False, too, but is not cached.

    >>> passes() in (True, False)
    True
    """
    if not onednn.is_supported():
        return False
    key, path = f"jaxlib {onednn.JAXLIB}, {_processor()}, calls {_calls()}", _cache_file()
    verdicts = _read(path)
    if isinstance(verdicts.get(key), bool):
        return verdicts[key]
    verdict = _try()
    if verdict is not None:
        _write(path, {**verdicts, key: verdict})
    return bool(verdict)
