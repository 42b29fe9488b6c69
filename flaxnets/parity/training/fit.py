"""Train the PyTorch twin of a registered network on the batches of a run."""

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

import torchref
from flaxnets.optim.transformation import Chain, Optimizer
from flaxnets.parity._torch import torch
from flaxnets.run_config import RunConfig
from flaxnets.state import named_parameters, state_dict
from flaxnets.training import TASKS, Batches
from flaxnets.training.objectives import means
from flaxnets.training.optimizers import learning_rate
from flaxnets.training.train_state import as_batch

Record = dict[str, Any]


def fit_torch(
    config: RunConfig,
    model: nnx.Module,
    optimizer: Any,
    train: Batches,
    test: Batches,
    *,
    on_epoch: Callable[[Record], None] = lambda record: None,
) -> list[Record]:
    """Train a registered network's PyTorch twin with the settings and the batches of a run.

    The dropout masks differ from JAX. Everything else differs only by rounding.

    Args:
        config: the configuration of the run.
        model: the network. The twin starts from its weights, and its frozen parameters are also frozen in the twin.
        optimizer: the optimizer of the run, from :func:`flaxnets.training.make_optimizer`.
        train: the training batches of the run.
        test: all test examples.
        on_epoch: called after every epoch with the record of the epoch.

    Returns:
        One record per epoch, with the same keys as the records of :func:`flaxnets.training.fit`.

    >>> import flaxnets
    >>> from flaxnets.data import load
    >>> from flaxnets.training import make_optimizer
    >>> from flaxnets.training.tasks import transform_of
    >>> config = RunConfig(arch="mlp", task="classification", input_shape=(1, 28, 28), epochs=1)
    >>> data, optimizer = load("digits"), make_optimizer(config.optimizer, lr=0.1, total_steps=44)
    >>> batches = [Batches(part, config.batch_size, transform_of(config)) for part in (data.train, data.test)]
    >>> fit_torch(config, flaxnets.create_model("mlp"), optimizer, *batches)[0]["test_accuracy"] > 0.5
    True
    """
    twin = torchref.create_model(config.arch, **config.model_options)
    twin.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in state_dict(model).items()})
    for name, parameter in named_parameters(model):
        twin.get_parameter(name).requires_grad_(bool(getattr(parameter, "requires_grad", True)))
    averaged = copy.deepcopy(twin)
    twin_optimizer = torch_optimizer(optimizer, list(twin.parameters()))
    make, key, position = jax.jit(as_batch), jax.random.key(config.seed), 0
    records = []
    for epoch in range(1, config.epochs + 1):
        twin.train()
        sums: Counter[str] = Counter()
        for examples in train.epoch(config.seed, epoch):
            loss, metrics = _measure(twin, config, make(examples, jax.random.fold_in(key, position)))
            (loss / config.accumulate).backward()
            sums.update(metrics)
            position += 1
            if position % config.accumulate == 0:
                rate = learning_rate(optimizer, position // config.accumulate - 1)
                _update(twin, twin_optimizer, config.clip_norm, float(rate))
                _average(averaged, twin, config.ema_decay)
        total = means(sums, "train") | means(_evaluate(averaged, twin, config, test), "test")
        records.append({"epoch": epoch, **total})
        on_epoch(records[-1])
    return records


def torch_optimizer(optimizer: Any, parameters: list[Any]) -> Any:
    """Return torch's optimizer with the settings of an optimizer of :mod:`flaxnets.optim`, without its schedule.

    Args:
        optimizer: An optimizer, or a chain whose last part is an optimizer.
        parameters: The torch parameters.

    Raises:
        ValueError: If the optimizer is not from :mod:`flaxnets.optim`.

    >>> from flaxnets import optim
    >>> type(torch_optimizer(optim.SGD(0.1, momentum=0.9), list(torch.nn.Linear(2, 1).parameters()))).__name__
    'SGD'
    """
    ours = optimizer.parts[-1] if isinstance(optimizer, Chain) else optimizer
    if not isinstance(ours, Optimizer):
        raise ValueError(
            f"optimizer {type(ours).__name__}: torch has no counterpart. Expected an optimizer of flaxnets.optim. "
            "Fix: use flaxnets.optim.SGD, for example"
        )
    settings = {name: value for name, value in ours.settings.items() if not callable(value)}
    if ours.name == "AdamW":  # torch's class has no argument for what defines it
        del settings["decoupled_weight_decay"]
    return getattr(torch.optim, ours.name)(parameters, **settings)


def _measure(twin: Any, config: RunConfig, batch: Any) -> tuple[Any, dict[str, float]]:
    """Return the mean loss of a batch, and the sums of the metrics of the task."""
    inputs, targets, weights = (
        torch.from_numpy(np.array(part)) for part in (batch.inputs, batch.targets, batch.weights)
    )
    outputs = twin(inputs if inputs.is_floating_point() else inputs.long())
    measure = TASKS[config.task].torch_measure
    sums = measure(torch.nn.functional, outputs, targets, weights, config.label_smoothing)
    return sums["loss"] / sums["count"], {name: value.item() for name, value in sums.items()}


def _update(twin: Any, optimizer: Any, clip_norm: float | None, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
    if clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(twin.parameters(), clip_norm)
    optimizer.step()
    optimizer.zero_grad()


def _average(averaged: Any, twin: Any, decay: float | None) -> None:
    with torch.no_grad():
        for mean, parameter in zip(averaged.parameters(), twin.parameters(), strict=True):
            mean.copy_(parameter) if decay is None else mean.lerp_(parameter, 1 - decay)


def _evaluate(averaged: Any, twin: Any, config: RunConfig, test: Batches) -> Counter[str]:
    for mean, buffer in zip(averaged.buffers(), twin.buffers(), strict=True):
        mean.copy_(buffer)
    averaged.eval()
    sums: Counter[str] = Counter()
    with torch.no_grad():
        for examples in test.all():
            sums.update(_measure(averaged, config, as_batch(examples))[1])
    return sums
