"""The networks of ``torchref`` as PyTorch's documentation trains them: eager in both memory formats, and compiled."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import torchref
from benchmarks.job import LEARNING_RATE, MOMENTUM, Job, Unavailable
from benchmarks.sizes import Size


def _loss(size: Size) -> Callable[[Any, torch.Tensor], torch.Tensor]:
    if size.task == "regression":
        return F.mse_loss
    if size.task == "language":
        return lambda outputs, targets: F.cross_entropy(outputs[0], targets)
    return F.cross_entropy


def _job(size: Size, training: bool, channels_last: bool = False, compiled: bool = False) -> Job:
    torch.manual_seed(0)
    model = torchref.create_model(size.network, **size.options).train(training)
    inputs, targets = map(torch.from_numpy, size.data())
    if size.task != "regression":
        targets = targets.reshape(-1).long()
    if channels_last:
        if inputs.ndim != 4:
            raise Unavailable("the inputs are no images")
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    called = torch.compile(model) if compiled else model
    return Job(_train_step(model, called, inputs, targets, _loss(size)) if training else _predict(called, inputs))


def _train_step(model: nn.Module, called: Any, inputs: torch.Tensor, targets: torch.Tensor, loss_fn: Any) -> Any:
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=MOMENTUM)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_fn(called(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _predict(called: Any, inputs: torch.Tensor) -> Any:
    def step() -> torch.Tensor:
        with torch.inference_mode():
            outputs = called(inputs)
            return outputs[0] if isinstance(outputs, tuple) else outputs

    return step


def contiguous(size: Size, training: bool) -> Job:
    """Eager, in PyTorch's default memory format."""
    return _job(size, training)


def channels_last(size: Size, training: bool) -> Job:
    """Eager, images and convolutions channels last."""
    return _job(size, training, channels_last=True)


def compiled(size: Size, training: bool) -> Job:
    """``torch.compile(model)``, which chooses the memory format by itself."""
    return _job(size, training, compiled=True)
