"""Whether oneDNN's calls work with this jaxlib on this processor: tried once, in a process of its own."""

import functools
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from flaxnets.kernels import onednn
from flaxnets.kernels.convolution import convolution
from flaxnets.kernels.product import linear

# What the other process runs: it may crash without harm.
PROGRAM = "from flaxnets.kernels import probe; probe.compare()"
_SECONDS = 180
_TOLERANCE = 1e-4

# Input (N, C, H, W), weight, stride, padding, dilation.
_CONVOLUTIONS = (
    ((2, 3, 9, 10), (5, 3, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((2, 16, 9, 7), (8, 16, 3, 2), (2, 1), ((1, 0), (0, 2)), (1, 1)),
    ((3, 20, 8, 8), (17, 20, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    ((3, 32, 7, 7), (16, 32, 1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    ((2, 16, 11, 11), (16, 16, 3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2)),
    ((1, 1, 28, 28), (6, 1, 5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1)),
    ((4, 64, 6, 6), (64, 64, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
)
_PRODUCTS = (((5, 7), (3, 7)), ((64, 100), (32, 100)))


def compare() -> None:
    """Ends the process with status 1 and a message where oneDNN's numbers differ from XLA's.

    >>> compare() if onednn.is_supported() else None
    """
    rng = np.random.default_rng(0)

    def run(shape: tuple[int, ...], weight: tuple[int, ...], fast: object, plain: object) -> None:
        x, w = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in (shape, weight))
        ct = jnp.asarray(rng.normal(size=jax.eval_shape(plain, x, w).shape), jnp.float32)  # type: ignore[arg-type]
        results = []
        for form in (fast, plain):

            def both(x: jax.Array, w: jax.Array, form: object = form) -> object:
                y, back = jax.vjp(form, x, w)  # type: ignore[arg-type]
                return y, back(ct)

            results.append(jax.tree.leaves(jax.jit(both)(x, w)))
        for got, expected in zip(*results, strict=True):
            error = float(jnp.abs(got - expected).max() / jnp.abs(expected).max())
            if not error < _TOLERANCE:
                sys.exit(f"oneDNN's numbers for the shapes {shape} and {weight} are off by {error}")

    for shape, weight, *sizes in _CONVOLUTIONS:
        run(
            shape, weight,
            lambda x, w, sizes=sizes: convolution(x, w, None, *sizes, library="onednn"),
            lambda x, w, sizes=sizes: convolution(x, w, None, *sizes, library="xla"),
        )  # fmt: skip
    for shape, weight in _PRODUCTS:
        run(shape, weight, linear, lambda x, w: x @ w.T)
