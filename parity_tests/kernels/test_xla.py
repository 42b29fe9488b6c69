"""Tests that options of XLA are selected by version, and that no unknown option is passed."""

import os
import subprocess
import sys

import pytest

from flaxnets import xla

OPTIONS = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}


@pytest.mark.parametrize(
    ("jaxlib", "expected"),
    [
        ("0.10.2", "--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false"),
        ("0.11.2", "--xla_backend_optimization_level=1"),
        ("0.12.0.1", "--xla_backend_optimization_level=1"),
        ("0.12.9", "--xla_backend_optimization_level=1"),
    ],
)
def test_flags_are_those_of_the_version(jaxlib, expected, monkeypatch):
    monkeypatch.setattr(xla, "JAXLIB", jaxlib)
    assert xla.flags(OPTIONS) == expected


def test_no_flag_ends_a_process():
    environment = {**os.environ, "XLA_FLAGS": xla.flags(OPTIONS), "JAX_PLATFORMS": "cpu"}
    program = "import jax; print(jax.numpy.ones(2).sum())"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "2.0\n"), done.stderr


def test_unknown_compiler_options_are_left_out():
    assert xla.compiler_options({**OPTIONS, "xla_made_up": 3}) == {
        name: value for name, value in OPTIONS.items() if name in xla.flags(OPTIONS)
    }
