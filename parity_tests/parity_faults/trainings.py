"""Faults in trainings of right networks: in the optimizer, or in the loss."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import torch

from flaxnets.parity import check_training
from parity_faults.common import NETWORKS_BY_NAME


@dataclasses.dataclass(frozen=True)
class TrainingFault:
    """One mistake in a training.

    Attributes:
        network: the name of a network of :data:`NETWORKS_BY_NAME`.
        words: the mistake.
        torch_optimizer: from parameters to torch's optimizer.
        optimizer: the optimizer in Flax.
        causes: right answers for the cause.
        flax_loss: of logits and labels, in place of the mean cross entropy.
        quick: whether the tests plant the fault, too.
    """

    network: str
    words: str
    torch_optimizer: Callable[[Any], torch.optim.Optimizer]
    optimizer: optax.GradientTransformation
    causes: tuple[str, ...]
    flax_loss: Callable[[Any, Any], Any] | None = None
    quick: bool = False

    def judge(self, steps: int = 4) -> tuple[bool, Any]:
        """Train both networks; return whether the cause is named, and the report."""
        network, rng = NETWORKS_BY_NAME[self.network], np.random.default_rng(0)
        torch.manual_seed(0)
        torch_module = network.torch()
        batches = []
        for _ in range(steps):
            inputs = network.inputs(rng)
            batches.append((inputs[0], rng.integers(0, 10, len(inputs[0]))))
        loss = "cross_entropy" if self.flax_loss is None else (torch.nn.functional.cross_entropy, self.flax_loss)
        report = check_training(
            torch_module, network.flax(), batches, loss=loss, torch_optimizer=self.torch_optimizer,
            optimizer=self.optimizer,
        )  # fmt: skip
        return report.cause is not None and report.cause.name in self.causes, report

    def __str__(self) -> str:
        return f"{self.network}: {self.words}"


def _decayed(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(0.1), optimizer)


def _sum(logits: Any, labels: Any) -> Any:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum()


def _smoothed(logits: Any, labels: Any) -> Any:
    targets = optax.smooth_labels(jnp.eye(logits.shape[1])[labels], 0.1)
    return optax.softmax_cross_entropy(logits, targets).mean()


_sgd = functools.partial(torch.optim.SGD, lr=0.1)
_adam = functools.partial(torch.optim.Adam, lr=0.01)
_adamw = functools.partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)
_rmsprop = functools.partial(torch.optim.RMSprop, lr=0.01)

TRAINING_FAULTS = [
    TrainingFault("convnext", "coupled weight decay", _adamw, _decayed(optax.adam(0.01)), ("coupled-weight-decay",)),
    TrainingFault(
        "convnext", "epsilon inside of the root", _rmsprop, optax.rmsprop(0.01, decay=0.99), ("eps-inside-root",)
    ),
    TrainingFault("convnext", "a sum instead of a mean", _sgd, optax.sgd(0.1), ("loss-reduction",), _sum),
    TrainingFault(
        "flaxnets lenet", "decoupled weight decay", functools.partial(_adam, weight_decay=0.1),
        optax.adamw(0.01, weight_decay=0.1), ("decoupled-weight-decay",), quick=True,
    ),
    TrainingFault("flaxnets lenet", "another epsilon", _adam, optax.adam(0.01, eps=1e-6), ("eps",)),
    TrainingFault("flaxnets lenet", "smoothed labels", _sgd, optax.sgd(0.1), ("label-smoothing",), _smoothed, True),
    TrainingFault(
        "flaxnets mlp", "Nesterov's momentum", functools.partial(_sgd, momentum=0.9),
        optax.sgd(0.1, momentum=0.9, nesterov=True), ("nesterov",),
    ),
]  # fmt: skip
