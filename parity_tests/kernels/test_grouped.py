"""Tests of grouped convolutions as one matrix product, against the default implementation of the layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxnets import kernels
from flaxnets.nn import functional as F

# The shapes of input and weight, and the options.
CASES = [
    ((2, 6, 9), (9, 2, 4), {"groups": 3, "stride": 2, "padding": 3}),
    ((2, 8, 7, 6), (4, 4, 3, 2), {"groups": 2, "dilation": (2, 3), "padding": (1, 2)}),
    ((1, 4, 5, 6, 4), (6, 2, 2, 1, 3), {"groups": 2, "stride": (1, 2, 1)}),
]


@pytest.mark.parametrize(("x", "weight", "options"), CASES, ids=["1d", "2d", "3d"])
def test_small_programs_compute_the_same(x, weight, options):
    rng = np.random.default_rng(0)
    operands = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in (x, weight, weight[:1])]
    convolve = getattr(F, f"conv{len(x) - 2}d")

    def default(*operands):
        return convolve(*operands, **options)

    def small(*operands):
        with kernels.small_programs():
            return default(*operands)

    def loss(compute):
        return lambda *operands: jnp.sum(jnp.sin(compute(*operands)))

    with jax.default_matmul_precision("float32"):
        np.testing.assert_allclose(small(*operands), default(*operands), rtol=1e-5, atol=1e-5)
        for a, b in zip(*(jax.grad(loss(f), (0, 1, 2))(*operands) for f in (default, small)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    assert str(jax.make_jaxpr(small)(*operands)).count("dot_general") == 1
