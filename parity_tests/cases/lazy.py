"""Cases of lazy layers after their first call. test_lazy.py tests them before it."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from hypothesis import strategies as st

import flaxnets.nn as flax_nn
from cases.common import Function, Layer, Rejected, Sweep, normal, rejected


def called(
    name: str, shape: tuple[int, ...], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> Layer:
    """Return a layer that was called once, on ones."""
    options = dict(kwargs or {})

    def build(nn: Any, **rngs: Any) -> Any:
        takes_rngs = rngs if "Norm" not in name else {}
        layer = getattr(nn, name)(*args, **options, **takes_rngs)
        ones = np.ones(shape, np.float32)
        layer(jnp.asarray(ones) if nn is flax_nn else torch.tensor(ones))
        return layer

    return Layer(name, normal(shape), build=build)


def _distinct(rows: list[Layer]) -> list[Layer]:
    """Check that all rows have different names. ``build`` hides the arguments, so the shapes must differ."""
    assert len({str(row) for row in rows}) == len(rows)
    return rows


SPACES = {1: (9,), 2: (7, 9), 3: (4, 5, 4)}
LAYERS: list[Layer] = _distinct(
    [
        called("LazyLinear", (4, 3), (5,)),
        called("LazyLinear", (3,), (5,)),
        called("LazyLinear", (2, 3, 4), (), {"out_features": 2, "bias": False}),
        called("LazyLinear", (2, 4, 5), (2, False)),
        called("LazyLinear", (1, 1), (1,)),
    ]
    + [
        row
        for n, space in SPACES.items()
        for row in (
            called(f"LazyConv{n}d", (2, 3, *space), (4, 3)),
            called(f"LazyConv{n}d", (3, *space), (4, 3), {"bias": False}),
            called(f"LazyConv{n}d", (1, 4, *space), (6, 2), {"groups": 2, "stride": 2, "padding": 1}),
            called(f"LazyConv{n}d", (1, 2, *space), (2, [3] * n, 1, 1, 1, 1, True, "circular")),
            called(f"LazyConv{n}d", (2, 1, *space), (2, 2), {"padding": "same", "dilation": 2}),
            called(f"LazyConvTranspose{n}d", (2, 3, *space), (4, 2)),
            called(f"LazyConvTranspose{n}d", (3, *space), (4, 2), {"bias": False}),
            called(f"LazyConvTranspose{n}d", (1, 4, *space), (6, 2), {"groups": 2, "stride": 2, "padding": 1}),
            called(f"LazyConvTranspose{n}d", (1, 2, *space), (2, [2] * n, 2, 0, 1, 1, True, 2)),
        )
    ]
    + [
        row
        for n, space in SPACES.items()
        for row in (
            called(f"LazyBatchNorm{n}d", (4, 3, *space)),
            called(f"LazyBatchNorm{n}d", (3, 2, *space), (1e-3, 0.3, False)),
            called(f"LazyBatchNorm{n}d", (2, 2, *space), (), {"track_running_stats": False, "bias": False}),
            called(f"LazyBatchNorm{n}d", (2, 4, *space), (), {"momentum": None}),
            called(f"LazyInstanceNorm{n}d", (4, 3, *space)),
            called(f"LazyInstanceNorm{n}d", (3, 2, *space), (1e-3, 0.3, False)),
            called(f"LazyInstanceNorm{n}d", (2, 2, *space), (), {"track_running_stats": False, "bias": False}),
        )
    ]
    + [called("LazyBatchNorm1d", (4, 3))]
)

FUNCTIONS: list[Function] = []

SWEEPS: list[Sweep] = [
    Sweep(
        "LazyLinear",
        st.builds(
            lambda shape, out, bias: called("LazyLinear", shape, (out, bias)),
            st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
            st.integers(1, 4),
            st.booleans(),
        ),
    ),
    Sweep(
        "LazyConv2d",
        st.builds(
            lambda batch, channels, out, kernel, bias: called(
                "LazyConv2d", (*batch, channels, 4, 5), (out, kernel), {"bias": bias}
            ),
            st.sampled_from([(), (1,), (2,)]),
            st.integers(1, 3),
            st.integers(1, 3),
            st.integers(1, 3),
            st.booleans(),
        ),
    ),
]

REJECTED: list[Rejected] = [
    *rejected(
        "LazyLinear",
        ((-2,), {}, (4, 3), "out_features must not be negative, got -2"),
        ((2,), {}, (), r"at least one axis, got the shape \(\)"),
    ),
    *[
        row
        for n in (1, 2, 3)
        for kind in ("Conv", "ConvTranspose")
        for row in rejected(
            f"Lazy{kind}{n}d",
            ((4, 3), {"groups": 0}, None, "groups must be .*positive.*got 0"),
            ((4, 3), {"padding_mode": "mirror"}, None, "got 'mirror'"),
            ((4, 3), {"groups": 2}, (2, 3, *[5] * n), "in_channels=3 must be divisible by groups=2"),
            ((4, 3), {}, (5,) * n, f"got {n}D input of shape"),
            ((4, 3), {}, (5,) * (n + 3), f"got {n + 3}D input of shape"),
        )
    ],
    *[
        row
        for n in (1, 2, 3)
        for kind in ("BatchNorm", "InstanceNorm")
        for row in rejected(
            f"Lazy{kind}{n}d",
            ((), {}, (3,), r"at least two axes, got the shape \(3,\)"),
            ((), {}, (2,) * (n + 3), f"got {n + 3}D input"),
        )
    ],
]
