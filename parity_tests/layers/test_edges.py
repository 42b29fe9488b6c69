"""Tests of window functions at edge cases: shapes, exceptions and values of random calls agree with torch."""

from typing import Any

import pytest

from benchmarks.edges import FUNCTIONS, Call, calls

# Calls that failed in an earlier version.
ROWS = [
    Call("conv_transpose2d", ((2, 1, 1, 1), (1, 1, 1, 1)), {"padding": 0, "stride": 1, "dilation": 1}),
    Call("conv_transpose2d", ((2, 2, 5, 1), (2, 1, 2, 3)), {"stride": (3, 2), "padding": (3, 2), "groups": 2}),
    Call("conv_transpose2d", ((2, 1, 1, 3), (1, 2, 2, 2)), {"padding": (1, 0)}),
    Call("conv_transpose1d", ((2, 1, 1), (1, 1, 2)), {"padding": 1}),
    Call("conv_transpose1d", ((2, 1, 1), (1, 1, 1)), {"padding": 1}),
    Call("conv_transpose3d", ((2, 1, 1, 1, 1), (1, 2, 2, 3, 3), (2,)), {"padding": (1, 0, 1)}),
    Call("conv_transpose3d", ((0, 1, 4, 2, 4), (1, 2, 3, 1, 1)), {"stride": (2, 1, 3), "output_padding": 1}),
    Call("conv_transpose1d", ((0, 2, 3), (2, 0, 1)), {}),
    Call("conv1d", ((2, 0, 2), (2, 0, 3)), {"padding": 3, "dilation": 0}),
    Call("conv1d", ((1, 0, 4), (2, 0, 0), (2,)), {"padding": 2}),
    Call("conv3d", ((0, 2, 5, 1, 1), (4, 1, 3, 0, 1)), {"padding": (3, 1, 0), "groups": 2}),
    Call("avg_pool3d", ((1, 2, 1, 1, 5),), {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True}),
    Call("avg_pool3d", ((2, 2, 1, 2, 2),), {"kernel_size": 3, "stride": 2, "padding": 1}),
    Call("avg_pool2d", ((2, 2, 1, 1),), {"kernel_size": 2, "stride": 2, "padding": 1}),
    Call("max_pool3d", ((1, 2, 1, 1, 5),), {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True}),
    Call("lp_pool3d", ((2, 3, 1, 2),), {"norm_type": 3.0, "kernel_size": (1, 3, 1), "ceil_mode": True}),
    Call("lp_pool3d", ((2, 3, 1, 2),), {"norm_type": float("inf"), "kernel_size": (1, 3, 1), "ceil_mode": True}),
    Call("lp_pool2d", ((2, 3, 1),), {"norm_type": 3.0, "kernel_size": (1, 3), "ceil_mode": True}),
    Call("adaptive_avg_pool1d", ((0, 0),), {"output_size": (1,)}),
    Call("adaptive_avg_pool1d", ((2, 3, 0),), {"output_size": 1}),
    Call("fractional_max_pool2d", ((1, 4, 4),), {"kernel_size": 2, "output_ratio": 0.5}),
    Call("pad", ((1, 1, 3, 4, 2),), {"pad": (1, -3, 2, 2, -1, 2), "mode": "replicate"}),
    Call("pad", ((1, 3, 3),), {"pad": (-1, -2, -2, -1), "mode": "replicate"}),
    Call("pad", ((1, 3),), {"pad": (-1, -2), "mode": "reflect"}),
    Call("pad", ((1, 3, 3),), {"pad": (0, 0, -1, -2), "mode": "reflect"}),
]


@pytest.mark.parametrize("call", ROWS, ids=str)
def test_edges_that_went_wrong_are_torchs(call: Call):
    assert call.difference() is None


@pytest.mark.parametrize("name", FUNCTIONS)
def test_edges_are_torchs(name: str):
    drawn = list(calls(name, 25))
    outcomes: list[Any] = [call.of_torch() for call in drawn]
    assert not all(isinstance(outcome, Exception) for outcome in outcomes)
    differing = {str(call): call.difference(values=number % 12 == 0) for number, call in enumerate(drawn)}
    assert {call: difference for call, difference in differing.items() if difference} == {}


def test_a_difference_is_seen():
    """Check that the comparison can fail."""
    one, other = (Call("pad", ((2, 3),), {"pad": pad}) for pad in ((1, 1), (1, 2)))
    assert one.of_torch()[0].shape == (2, 5)
    assert other.of_flax(values=False)[0].shape == (2, 6)
    object.__setattr__(one, "of_flax", other.of_flax)
    assert "torch: (2, 5); here: (2, 6)" in str(one.difference())
    refused = Call("pad", ((2, 3),), {"pad": (-4, 0)})
    object.__setattr__(one, "of_flax", refused.of_flax)
    assert "torch: (2, 5); here: RuntimeError (pad: the constant padding (-4, 0)" in str(one.difference())
    object.__setattr__(one, "of_flax", lambda values: [array + 1 for array in one.of_torch()])
    assert "values differ" in str(one.difference())
