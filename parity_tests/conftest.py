"""Settings and fixtures of all tests: strict numerics, one seed, and a persistent cache of compiled programs."""

import contextlib
import functools
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# One torch thread per pytest process: with more threads, they wait for each other and tests need ten times as long.
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

# XLA's default options, which tests of whole networks use.
PRODUCTION = xla.compiler_options({"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True})

SEED = int(os.environ.get("FLAXNETS_TEST_SEED", "0"))

# versions.py needs a second environment. Without this environment, the search for doctests must not import the file.
collect_ignore = [] if "FLAXNETS_OTHER_PYTHON" in os.environ else ["versions.py"]

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_traceback_in_locations_limit", 0)  # Tracebacks in programs cost time.
CACHE = os.environ.get("JAX_COMPILATION_CACHE_DIR", Path(__file__).parents[1] / ".cache" / "jax")
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# Environment variables for a subprocess that shares the cache of compiled programs.
CACHE_VARIABLES = {
    "JAX_COMPILATION_CACHE_DIR": str(CACHE),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

# This private function of JAX is only for speed: JAX creates an MLIR context for each program, which takes longer than
# lowering a small program. One shared context saves 8 to 18 % of the CPU time. If the function is missing, the tests
# are only slower.
with contextlib.suppress(ImportError, AttributeError):
    from jax._src.interpreters import mlir

    mlir.make_ir_context = functools.cache(mlir.make_ir_context)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Return a random generator, seeded by the test's name and FLAXNETS_TEST_SEED, which a failed test prints."""
    print(f"FLAXNETS_TEST_SEED={SEED}")
    # The seed does not depend on the folder, so that a test keeps its numbers when its file moves.
    file, _, name = request.node.nodeid.partition("::")
    return np.random.default_rng((SEED, zlib.crc32(f"parity_tests/{Path(file).name}::{name}".encode())))


@pytest.fixture
def run_in_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[str, Mapping[str, str]], Callable[..., tuple[int, str]]]]:
    """Return a function that writes a package to an empty folder and returns a function that runs ``flaxnets`` there.

    The second function has the arguments of the command, and returns the exit status and the output of the command.
    """
    from flaxnets.cli import command  # Only tests with this fixture need this import.

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
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    yield write
    for name in [name for name in sys.modules if name.split(".")[0] in packages]:
        del sys.modules[name]


@pytest.fixture
def here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Return a function that runs ``train.py`` in this process, in an empty folder.

    The function has the arguments of the command, and returns the exit status and the output of the command.
    """
    from flaxnets.cli import command, train

    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str]:
        status = command.run(train.main, [*map(str, arguments)], "train.py")
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return call


@pytest.fixture
def in_float64() -> Iterator[None]:
    """Let JAX and torch compute in float64. Some optimizer state of torch has torch's default dtype."""
    import torch

    torch.set_default_dtype(torch.float64)
    try:
        with jax.enable_x64(True):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--layers-report", metavar="FILE", help="write the errors of the layer cases as a Markdown table")
    parser.addoption("--eager", action="store_true", help="also run every layer case eagerly")
    parser.addoption(
        "--layer-sample", type=float, default=1.0, metavar="PART",
        help="run a random sample of the layer cases: a fraction from 0 to 1, chosen by the seed",
    )  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    fraction, selected, deselected = config.getoption("--layer-sample"), [], []
    for item in items:
        is_selected = (
            item.path.name != "test_layers.py" or zlib.crc32(f"{SEED} {item.name}".encode()) < fraction * 2**32
        )
        (selected if is_selected else deselected).append(item)
    items[:] = selected
    config.hook.pytest_deselected(items=deselected)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    path = config.getoption("--layers-report")
    if path:
        passed = terminalreporter.stats.get("passed", [])
        measured = [value for test in passed for name, value in test.user_properties if name == "parity"]
        Path(path).write_text(layers_report(measured))
