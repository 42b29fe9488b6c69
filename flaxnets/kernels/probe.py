"""Whether oneDNN's calls work with this jaxlib on this processor: tried once, in a process of its own."""

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
Form = Callable[[jax.Array, jax.Array], jax.Array]

# What the other process runs: it may crash without harm.
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
# Input, weight and sizes of other convolutions: of sequences, with groups, with as many groups as channels, and with
# windows side by side. Those of volumes and transposed ones are made of the same calls.
_FAMILIES = (
    ((2, 6, 9), (5, 6, 3), Window((9,), (3,), (2,), ((1, 0),), (1,))),
    ((2, 32, 8, 7), (32, 4, 3, 3), Window((8, 7), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), groups=8)),
    ((2, 20, 9, 8), (40, 1, 5, 3), Window((9, 8), (5, 3), (2, 2), ((2, 2), (0, 2)), (1, 1), groups=20)),
    ((2, 17, 9, 9), (17, 1, 3, 3), Window((9, 9), (3, 3), (1, 1), ((2, 2), (0, 0)), (2, 3), groups=17)),
    ((2, 3, 12, 8), (10, 3, 4, 4), Window((12, 8), (4, 4), (4, 4), ((0, 0), (0, 0)), (1, 1))),
)
# Input and weight: large enough that oneDNN takes the gradient of the weight, and all three.
_PRODUCTS = (((65, 200), (121, 200)), ((2, 2048), (2050, 2048)))
# Stacks of matrices, of attention: bfloat16 gives results of float32.
_STACKS = ((2, 3, 70, 40), (2, 3, 90, 40))
# The files whose code is tried.
_TRIED = ("onednn.py", "_primitives.py", "convolution.py", "convolution_nd.py", "linear.py", "products.py", "probe.py")


def _cases() -> Iterator[tuple[tuple[Shape, Shape], DTypeLike, Form, Form]]:
    """Shapes of both operands, the dtype in which oneDNN computes, and oneDNN's form and XLA's."""
    for i, (x, weight, stride, pads, dilation) in enumerate(_CONVOLUTIONS):
        form = functools.partial(convolution, bias=None, stride=stride, pads=pads, dilation=dilation)
        for dtype in _dtypes(i):
            yield (x, weight), dtype, functools.partial(form, library="onednn"), functools.partial(form, library="xla")
    for i, (x, weight, window) in enumerate(_FAMILIES):
        ours = functools.partial(convolution_nd, window=window._replace(library="onednn"))
        xlas = functools.partial(native_convolution, window=window._replace(channels_last=False))
        onednns, xlas = (functools.partial(form, bias=None, result="output") for form in (ours, xlas))
        for dtype in _dtypes(i):
            yield (x, weight), dtype, onednns, xlas
    for i, shapes in enumerate(_PRODUCTS):
        for dtype in _dtypes(i):
            yield shapes, dtype, linear, lambda x, weight: x @ weight.T
    for dtype in _dtypes(1):
        yield _STACKS, dtype, functools.partial(_scores, dtype=dtype), lambda a, b: a @ jnp.swapaxes(b, -1, -2)


def _scores(a: jax.Array, b: jax.Array, dtype: DTypeLike) -> jax.Array:
    return product(a.astype(jnp.float32), b.astype(jnp.float32), dtype, transpose_b=True)


def _dtypes(case: int) -> list[DTypeLike]:
    """Every other case is also computed in bfloat16, if the processor has it, which bounds the time."""
    return [jnp.float32, jnp.bfloat16] if case % 2 and onednn.has_bfloat16() else [jnp.float32]


def compare() -> None:
    """Ends the process with a message, and status 1, where oneDNN's numbers differ from XLA's.

    >>> if onednn.is_supported():
    ...     compare()
    """
    rng = np.random.default_rng(0)
    cases = list(_cases())
    operands = [[jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes] for shapes, dtype, *_ in cases]

    def results(operands: list[list[jax.Array]]) -> list[list[list[jax.Array]]]:
        """Outputs, and gradients of the sum of their squares by both operands, of all cases in one program."""
        pairs = []
        for arrays, (_, _, onednns, xlas) in zip(operands, cases, strict=True):
            both = []
            for form, dtype in ((onednns, arrays[0].dtype), (xlas, jnp.float32)):
                y, back = jax.vjp(form, *(array.astype(dtype) for array in arrays))
                both.append([y, *back(y)])
            pairs.append(both)
        return pairs

    # XLA compiles little here, and its optimizations do not reach into oneDNN's calls.
    options = compiler_options({"xla_backend_optimization_level": 0})
    for (_, dtype, *_), both in zip(cases, jax.jit(results, compiler_options=options)(operands), strict=True):
        for got, expected in zip(*both, strict=True):
            got, expected = np.asarray(got, np.float32), np.asarray(expected)
            error = float(abs(got - expected).max() / abs(expected).max())
            if not error < _TOLERANCES[jnp.dtype(dtype).name]:
                sys.exit(f"oneDNN is off by {error} for a result of {jnp.dtype(dtype)} and shape {got.shape}")


def _calls() -> str:
    """A digest of the code that is tried."""
    digest = hashlib.sha256()
    for name in _TRIED:
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()[:12]


def _processor() -> str:
    """The processor's name, and a digest of what it can do."""
    found = onednn.processor()
    about = [found.get(key, "") for key in ("model name", "cpu family", "model", "stepping", "flags")]
    return f"{about[0]} {hashlib.sha256(' '.join(about).encode()).hexdigest()[:12]}"


def _cache_file() -> Path:
    return cache_folder() / "onednn.json"


def _read(path: Path) -> dict[str, bool]:
    try:
        verdicts = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return verdicts if isinstance(verdicts, dict) else {}


def _write(path: Path, verdicts: dict[str, bool]) -> None:
    # Without a folder to write to, the next process asks again.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(verdicts, file, indent=1)
        os.replace(file.name, path)


def _try() -> bool | None:
    """Whether the other process ends well; None if that took too long to know."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", PROGRAM]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.returncode == 0


@functools.cache
def passes() -> bool:
    """Whether oneDNN's calls give XLA's numbers here.

    The answer is kept in ``$XDG_CACHE_HOME/flaxnets/onednn.json``, for each version of jaxlib, each processor
    and each version of the code that makes the calls. A process that crashes, or differs, is a no; one that takes too
    long is one for now.

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
