"""Test the fixture ``parity`` in a separate pytest process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = """
import sys


def pytest_configure(config):
    assert not {"flaxnets", "jax", "torch", "numpy"} & set(sys.modules)
"""

TESTS = """
import numpy as np
import pytest
import torch
from flax import nnx
from flaxnets import nn


def test_equal(parity):
    assert parity(torch.nn.ReLU(), nn.ReLU(), np.array([-1.0, 2.0])).passed


@pytest.mark.parametrize("slope", [0.2, 0.3])
def test_other_slope(parity, slope):
    inputs = np.array([-1.0, 2.0])
    with pytest.raises(AssertionError, match="seed: 7"):
        parity(torch.nn.LeakyReLU(slope), nn.LeakyReLU(slope / 2), inputs, dtypes=("float64",), runs=("eager",))
    parity(torch.nn.LeakyReLU(slope), nn.LeakyReLU(slope * 2), inputs, seed=5, dtypes=("float64",), runs=("eager",))


def test_without_the_fixture():
    pass
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> tuple[str, Path]:
    """Return the output of pytest, and the folder in which pytest ran."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_mine.py").write_text(TESTS)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(root)}
    options = ["--parity-seed", "7", "--parity-html", "pages", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "pytest_flaxnets", *options],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    return done.stdout + done.stderr, folder


def test_fails_with_where_and_why_and_the_seed(output):
    text, _ = output
    assert "2 failed, 2 passed" in text, text
    assert "LeakyReLU / LeakyReLU: NOT equal" in text
    assert "seed: 5; the option seed=5 repeats this check" in text
    assert "in assert_parity" not in text  # The traceback must not show the plugin's own code.


def test_writes_a_page_for_each_failure(output):
    text, folder = output
    pages = sorted((folder / "pages").iterdir())
    assert [page.name.rpartition("_")[2] for page in pages] == ["1.html", "2.html", "1.html", "2.html"]
    assert all("LeakyReLU" in page.read_text() for page in pages)
    for page in pages[1::2]:
        assert f"page: {Path('pages') / page.name}" in text
