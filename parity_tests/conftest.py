"""Strict numerics, one seed, and compiled programs kept between runs."""

import os
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest

SEED = int(os.environ.get("FLAXNETS_TEST_SEED", "0"))

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parents[1] / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend on the test's name and on FLAXNETS_TEST_SEED; the output of a failure shows it."""
    print(f"FLAXNETS_TEST_SEED={SEED}")
    return np.random.default_rng((SEED, zlib.crc32(request.node.nodeid.encode())))
