"""What torch rejects is rejected, with the same type of exception and a message that carries the value."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from flaxnets import nn

# (layer, constructor arguments, keyword arguments, input shape or None for the constructor alone, words of the message)
REJECTED = [
    ("Linear", (-1, 2), {}, None, "in_features must not be negative, got -1"),
    ("Linear", (3, 2), {}, (4, 5), r"must have 3 features, got an input of shape \(4, 5\)"),
    ("Linear", (3, 2), {}, (), r"got an input of shape \(\)"),
    ("Conv2d", (3, 4, 3), {"groups": 2}, None, "in_channels=3 must be divisible by groups=2"),
    ("Conv2d", (4, 3, 3), {"groups": 2}, None, "out_channels=3 must be divisible by groups=2"),
    ("Conv2d", (3, 4, 3), {"groups": 0}, None, "groups must be positive, got 0"),
    ("Conv2d", (3, 4, 3), {"padding": "full"}, None, "got 'full'"),
    ("Conv2d", (3, 4, 3), {"padding": "same", "stride": 2}, None, "needs stride 1, got stride=2"),
    ("Conv2d", (3, 4, 3), {"padding_mode": "mirror"}, None, "got 'mirror'"),
    ("Conv2d", (3, 4, 3), {}, (2, 5, 8, 8), "expected an input of 3 channels, got 5"),
    ("Conv2d", (3, 4, 3), {}, (8, 8), r"expected 3D or 4D input, got 2D input of shape \(8, 8\)"),
    ("Conv2d", (3, 4, 3), {}, (1, 2, 3, 8, 8), "got 5D input"),
    ("Conv2d", (3, 4, 5), {}, (2, 3, 4, 8), r"the kernel \(5, 5\) .* is larger than the padded input"),
    ("Conv2d", (3, 4, 3), {"padding": 9, "padding_mode": "reflect"}, (1, 3, 6, 6), "too large"),
    ("MaxPool2d", (2,), {}, (4, 4), "expected 3D or 4D input, got 2D"),
    ("MaxPool2d", (2, 1, 2), {}, (1, 4, 4), r"between 0 and half the kernel, got padding \(2, 2\)"),
    ("MaxPool2d", (5,), {}, (1, 4, 4), r"the window \(5, 5\) is larger"),
    ("MaxPool2d", (0,), {}, (1, 4, 4), r"kernel_size must be positive, got \(0, 0\)"),
    ("AvgPool2d", (2,), {}, (4, 4), "expected 3D or 4D input, got 2D"),
    ("AvgPool2d", (2,), {}, (1, 1, 1, 4, 4), "expected 3D or 4D input, got 5D"),
    ("AvgPool2d", (2, 1, 2), {}, (1, 4, 4), r"got padding \(2, 2\)"),
    ("AvgPool2d", (2,), {"divisor_override": 0}, (1, 4, 4), "divisor_override must not be 0"),
    ("AdaptiveAvgPool2d", (2,), {}, (4, 4), "expected 3D or 4D input, got 2D"),
    ("AdaptiveAvgPool2d", ((2, -1),), {}, (1, 4, 4), r"got \(2, -1\)"),
    ("BatchNorm1d", (3,), {}, (2, 3, 4, 4), r"expected 2D or 3D input, got 4D input of shape \(2, 3, 4, 4\)"),
    ("BatchNorm1d", (3,), {}, (1, 3), r"more than 1 value per channel .* shape \(1, 3\)"),
    ("BatchNorm2d", (3,), {}, (2, 3), "expected 4D input, got 2D"),
    ("BatchNorm2d", (3,), {}, (2, 4, 5, 5), "has 4 channels"),
    ("BatchNorm2d", (-3,), {}, None, "num_features must not be negative, got -3"),
    ("Dropout", (1.5,), {}, None, "must be between 0 and 1, got 1.5"),
    ("Dropout", (-0.1,), {}, None, "must be between 0 and 1, got -0.1"),
    ("Flatten", (3,), {}, (2, 3), r"for an input of shape \(2, 3\), got 3"),
    ("Flatten", (2, 1), {}, (2, 3, 4), "start_dim=2 comes after end_dim=1"),
    ("Sequential", (3,), {}, None, "expected a Module, got int"),
]


def _id(row) -> str:
    name, args, kwargs, shape, _ = row
    return f"{name}{args}{kwargs or ''} of {shape}"


@pytest.mark.parametrize("row", REJECTED, ids=_id)
def test_the_exception_is_torchs_and_carries_the_value(row):
    name, args, kwargs, shape, message = row

    def attempt(nn, to_array, **extra):
        kind = getattr(nn, name)
        takes_rngs = "rngs" in kind.__init__.__code__.co_varnames if extra else False
        layer = kind(*args, **kwargs, **(extra if takes_rngs else {}))
        if shape is not None:
            layer(to_array(np.ones(shape, np.float32)))

    with pytest.raises((ValueError, RuntimeError, IndexError, TypeError)) as torchs:
        attempt(torch.nn, torch.tensor)
    with pytest.raises(torchs.type, match=message):
        attempt(nn, jnp.asarray, rngs=nnx.Rngs(0))


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
