"""Test in your own suite that your Flax model computes what your PyTorch model computes.

    pytest examples/test_my_model.py

``pip install 'flaxnets[parity]'`` installs the fixture ``parity``. It copies the weights, and compares outputs,
gradients and buffers in float64 and float32, in training and evaluation mode, eager and jit.
"""

import functools

import jax
import numpy as np
import torch
from flax import nnx

from flaxnets import optim
from flaxnets.parity import check_training


class TorchNet(torch.nn.Module):
    def __init__(self, width: int = 8):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.norm = torch.nn.GroupNorm(2, width)
        self.fc = torch.nn.Linear(width, 10)

    def forward(self, x):
        x = torch.nn.functional.gelu(self.norm(self.conv(x)))
        return self.fc(x.mean((2, 3)))


class FlaxNet(nnx.Module):
    """The same function with Flax's layers, with images as (N, H, W, C) and with other names."""

    def __init__(self, width: int = 8, *, rngs: nnx.Rngs):
        self.stem = nnx.Conv(3, width, (3, 3), strides=2, padding=1, rngs=rngs)
        self.norm = nnx.GroupNorm(width, num_groups=2, epsilon=1e-5, rngs=rngs)
        self.head = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.gelu(self.norm(self.stem(x)), approximate=False)
        return self.head(x.mean((1, 2)))


# Inputs have PyTorch's axis order.
IMAGES = np.random.default_rng(0).normal(size=(4, 3, 8, 8))


def test_the_models_are_one_function(parity):
    parity(TorchNet(), FlaxNet(rngs=nnx.Rngs(0)), IMAGES)


def test_the_trainings_are_the_same():
    rng = np.random.default_rng(1)
    batches = [(rng.normal(size=(4, 3, 8, 8)), rng.integers(0, 10, 4)) for _ in range(3)]
    report = check_training(
        TorchNet(),
        FlaxNet(rngs=nnx.Rngs(0)),
        batches,
        loss="cross_entropy",
        torch_optimizer=functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        optimizer=optim.SGD(0.1, momentum=0.9),
    )
    assert report.passed, report
