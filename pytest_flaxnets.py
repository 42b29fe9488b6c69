"""The pytest plugin of flaxnets: the fixture ``parity`` compares a Flax module with a PyTorch module.

pytest loads this file at every start. The file is outside the package ``flaxnets``, because that package imports JAX.
"""

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the fixture."""
    group = parser.getgroup("flaxnets")
    group.addoption("--parity-html", metavar="DIR", help="write an HTML page to this folder for each failed check")
    group.addoption(
        "--parity-seed", type=int, default=0, metavar="N", help="seed of weights and cotangents (default: 0)"
    )


@pytest.fixture
def parity(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Assert that a Flax module computes the same function as a PyTorch module.

    ``parity(torch_module, flax_module, *inputs, **options)`` has the arguments of :func:`flaxnets.parity.check` and
    returns its report. A failed assertion prints the report and the seed that repeats the check.
    """
    failures = 0

    def assert_parity(torch_module: Any, flax_module: Any, *inputs: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        nonlocal failures
        from flaxnets.parity import check

        options = {"seed": request.config.getoption("--parity-seed"), **options}
        report = check(torch_module, flax_module, *inputs, **options)
        if report.passed:
            return report
        failures += 1
        lines = [str(report), f"  seed: {options['seed']}; the option seed={options['seed']} repeats this check"]
        folder = request.config.getoption("--parity-html")
        if folder:
            path = Path(folder) / _file_name(request.node.nodeid, failures)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(report.to_html(), encoding="utf-8")
            lines.append(f"  page: {path}")
        raise AssertionError("\n".join(lines))

    return assert_parity


def _file_name(nodeid: str, number: int) -> str:
    """Return a unique file name for a failure, with characters that every file system accepts."""
    words = re.sub(r"\W+", "_", nodeid, flags=re.ASCII).strip("_")
    return f"{words[-100:]}_{zlib.crc32(nodeid.encode()):08x}_{number}.html"
