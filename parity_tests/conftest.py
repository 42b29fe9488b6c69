"""Strict numerics, one seed, and a persistent cache of compiled programs."""

import contextlib
import functools
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# One torch thread per pytest process: with more, threads wait for each other and tests need ten times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
import numpy as np
import pytest
from report import layers_report

from flaxnets import xla

# Eager tests compile every operation as a program, so the slow passes of XLA are off. XLA reads the variable when the
# first array is created.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
os.environ["XLA_FLAGS"] = " ".join(filter(None, [os.environ.get("XLA_FLAGS"), xla.flags(QUICK)]))

# Defaults of XLA, with which networks are tested.
PRODUCTION = xla.compiler_options({"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True})

SEED = int(os.environ.get("FLAXNETS_TEST_SEED", "0"))

# It needs a second environment, and the search for doctests would import it.
collect_ignore = [] if "FLAXNETS_OTHER_PYTHON" in os.environ else ["versions.py"]

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_traceback_in_locations_limit", 0)  # tracebacks in programs cost time
CACHE = os.environ.get("JAX_COMPILATION_CACHE_DIR", Path(__file__).parents[1] / ".cache" / "jax")
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# The environment of a process that uses the compiled programs of this one.
CACHE_VARIABLES = {
    "JAX_COMPILATION_CACHE_DIR": str(CACHE),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

# Private function of JAX, for speed only: JAX creates an MLIR context for each program, which needs more time than
# lowering a small program. With one context, the 56 tests of layers/test_edges.py need 17.8 s of CPU time instead of
# 21.8 s, and 54 cases of layers/test_layers.py 18.8 s instead of 20.5 s. Without the function, tests are only slower.
with contextlib.suppress(ImportError, AttributeError):
    from jax._src.interpreters import mlir

    mlir.make_ir_context = functools.cache(mlir.make_ir_context)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend on the test's name and on FLAXNETS_TEST_SEED; the output of a failure shows it."""
    print(f"FLAXNETS_TEST_SEED={SEED}")
    # The folder of the file is left out, so that a test keeps its numbers when its file moves.
    file, _, name = request.node.nodeid.partition("::")
    return np.random.default_rng((SEED, zlib.crc32(f"parity_tests/{Path(file).name}::{name}".encode())))


@pytest.fixture
def run_in_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[str, Mapping[str, str]], Callable[..., tuple[int, str]]]]:
    """Write a package into an empty folder, and return a function that runs ``flaxnets`` in this folder.

    The function takes the arguments of the command, and returns the exit status and what the command printed.
    """
    from flaxnets.cli import command  # imports what only these tests need

    packages: list[str] = []

    def write(package: str, files: Mapping[str, str]) -> Callable[..., tuple[int, str]]:
        packages.append(package)
        folder = tmp_path / package
        folder.mkdir()
        for name, text in {"__init__.py": "", **files}.items():
            (folder / name).write_text(text)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [*sys.path])
        return call

    def call(*arguments: object) -> tuple[int, str]:
        status = command.main([*map(str, arguments)])
        said = capsys.readouterr()
        return status, said.out + said.err

    yield write
    for name in [name for name in sys.modules if name.split(".")[0] in packages]:
        del sys.modules[name]


@pytest.fixture
def here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Return a function that runs ``train.py`` in this process, in an empty folder.

    The function takes the arguments of the command, and returns the exit status and what the command printed.
    """
    from flaxnets.cli import command, train

    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str]:
        status = command.run(train.main, [*map(str, arguments)], "train.py")
        said = capsys.readouterr()
        return status, said.out + said.err

    return call


@pytest.fixture
def in_float64() -> Iterator[None]:
    """Let JAX and torch compute in float64. Torch's default dtype counts because torch keeps some slots in it."""
    import torch

    torch.set_default_dtype(torch.float64)
    try:
        with jax.enable_x64(True):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--layers-report", metavar="FILE", help="write what the layer cases measured to a Markdown table")
    parser.addoption("--eager", action="store_true", help="run every layer case eagerly, too")
    parser.addoption(
        "--layer-sample", type=float, default=1.0, metavar="PART", help="run this part of the layer cases, by the seed"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    part, kept, dropped = config.getoption("--layer-sample"), [], []
    for item in items:
        chosen = item.path.name != "test_layers.py" or zlib.crc32(f"{SEED} {item.name}".encode()) < part * 2**32
        (kept if chosen else dropped).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=dropped)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    path = config.getoption("--layers-report")
    if path:
        passed = terminalreporter.stats.get("passed", [])
        measured = [value for test in passed for name, value in test.user_properties if name == "parity"]
        Path(path).write_text(layers_report(measured))
