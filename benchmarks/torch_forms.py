"""The PyTorch variants of the networks: eager in both memory formats, and compiled.

The training step follows PyTorch's documentation.
"""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import torchref
from benchmarks import small_torch
from benchmarks.job import LEARNING_RATE, MOMENTUM, Job, Unavailable
from benchmarks.sizes import Size

# The channels-last memory format for each number of axes.
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def _loss(size: Size) -> Callable[[Any, torch.Tensor], torch.Tensor]:
    if size.task == "regression":
        return F.mse_loss
    if size.task == "language":
        return lambda outputs, targets: F.cross_entropy(outputs[0], targets)
    return F.cross_entropy


def create(size: Size) -> nn.Module:
    """Create the network from layers of torch."""
    builder = small_torch.NETWORKS.get(size.network)
    return torchref.create_model(size.network, **size.options) if builder is None else builder(**size.options)


def _job(
    size: Size, training: bool, compute_dtype: str | None, channels_last: bool = False, compiled: bool = False
) -> Job:
    torch.manual_seed(0)
    model = create(size).train(training)
    inputs, targets = map(torch.from_numpy, size.data())
    if size.task != "regression":
        targets = targets.long()
    if size.task == "language":
        targets = targets.reshape(-1)
    if channels_last:
        if inputs.ndim not in _CHANNELS_LAST:
            raise Unavailable("channels last needs inputs with 4 or 5 axes")
        memory_format = _CHANNELS_LAST[inputs.ndim]
        model = model.to(memory_format=memory_format)  # type: ignore[call-overload]
        inputs = inputs.contiguous(memory_format=memory_format)
    called = torch.compile(model) if compiled else model
    context: Callable[[], AbstractContextManager] = nullcontext
    if compute_dtype is not None:
        context = functools.partial(torch.autocast, "cpu", getattr(torch, compute_dtype))
    if not training:
        return Job(_predict(called, inputs, context))
    loss_fn = _loss(size)

    def mean_loss() -> torch.Tensor:
        with context():
            return loss_fn(called(inputs), targets)

    return Job(_train_step(model, mean_loss))


def _train_step(model: nn.Module, mean_loss: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=MOMENTUM)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = mean_loss()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _predict(
    called: Any, inputs: torch.Tensor, context: Callable[[], AbstractContextManager]
) -> Callable[[], torch.Tensor]:
    def step() -> torch.Tensor:
        with torch.inference_mode(), context():
            outputs = called(inputs)
            return outputs[0] if isinstance(outputs, tuple) else outputs

    return step


def contiguous(size: Size, training: bool, compute_dtype: str | None = None) -> Job:
    """Create an eager job in PyTorch's default memory format."""
    return _job(size, training, compute_dtype)


def channels_last(size: Size, training: bool, compute_dtype: str | None = None) -> Job:
    """Create an eager job with images and convolutions in channels-last memory format."""
    return _job(size, training, compute_dtype, channels_last=True)


def compiled(size: Size, training: bool, compute_dtype: str | None = None) -> Job:
    """Create a job with ``torch.compile(model)``, which chooses the memory format."""
    return _job(size, training, compute_dtype, compiled=True)
