"""Tests that arguments which torch rejects raise the same type of exception, with a message that contains the value."""

from collections.abc import Iterator

import jax.numpy as jnp
import pytest
import torch
from cases import REJECTED, Rejected
from flax import nnx

from flaxnets import nn


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    """Use two threads: torch's EmbeddingBag checks offsets only if several threads share them."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("row", REJECTED, ids=str)
def test_the_exception_is_torchs_and_carries_the_value(row: Rejected):
    # torch may raise any exception. flaxnets must raise one of the same type.
    with pytest.raises(Exception) as torchs:  # noqa: PT011
        row.attempt(torch.nn, torch.tensor)
    with pytest.raises(torchs.type, match=row.message):
        row.attempt(nn, jnp.asarray)


@pytest.mark.parametrize("name", ["Linear", "Conv2d"])
def test_dtypes_do_not_mix(name):
    args, shape = {"Linear": ((3, 2), (4, 3)), "Conv2d": ((1, 2, 3), (1, 1, 5, 5))}[name]
    with pytest.raises(RuntimeError):
        getattr(torch.nn, name)(*args)(torch.ones(shape, dtype=torch.float16))
    with pytest.raises(RuntimeError, match="expected an input of dtype float32, that of the weight, got float16"):
        getattr(nn, name)(*args, rngs=nnx.Rngs(0))(jnp.ones(shape, jnp.float16))


def test_sequential_index_out_of_range_raises():
    with pytest.raises(IndexError, match="has 1 modules, got the index 4"):
        nn.Sequential(nn.ReLU())[4]
