"""The training loop of a network's PyTorch twin, on the batches of a run."""

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

import torchref
from flaxnets.parity._torch import torch
from flaxnets.training import Batches
from flaxnets.training.objectives import means
from flaxnets.training.optimizers import make_optimizer
from flaxnets.training.train_state import as_batch

Record = dict[str, Any]


def fit_torch(
    config: Mapping[str, Any],
    weights: Mapping[str, Any],
    train: Batches,
    test: Batches,
    *,
    schedule: Callable[[Any], Any],
    frozen: Sequence[str] = (),
    on_epoch: Callable[[Record], None] = lambda record: None,
) -> list[Record]:
    """Trains a registered network's PyTorch twin with the settings of a run, on the batches that the run sees.

    Dropout draws other masks than in JAX; nothing else differs but rounding.

    Args:
        config: the settings, as ``config.json`` of a run has them.
        weights: the state dict to begin with.
        train: the training batches of the run.
        test: all that is evaluated on.
        schedule: the learning rate after so many updates.
        frozen: the names of the parameters that stay as they are.
        on_epoch: called after every epoch with its record.

    Returns:
        A record an epoch, as those of :func:`flaxnets.training.fit`.

    >>> import functools, flaxnets
    >>> from flaxnets.data import fit_images, load
    >>> data, transform = load("digits"), functools.partial(fit_images, input_shape=(1, 28, 28))
    >>> config = {"arch": "mlp", "task": "classification", "model_options": {}, "optimizer": "sgd", "epochs": 1}
    >>> batches = [Batches(part, 32, transform) for part in (data.train, data.test)]
    >>> weights = flaxnets.create_model("mlp").state_dict()
    >>> fit_torch(config, weights, *batches, schedule=lambda step: 0.1)[0]["test_accuracy"] > 0.5
    True
    """
    config = {"seed": 0, "accumulate": 1, "label_smoothing": 0.0, **config}
    twin = torchref.create_model(config["arch"], **config["model_options"])
    twin.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
    for name in frozen:
        twin.get_parameter(name).requires_grad_(False)
    averaged = copy.deepcopy(twin)
    optimizer = _optimizer(config, list(twin.parameters()))
    make, key, position = jax.jit(as_batch), jax.random.key(config["seed"]), 0
    records = []
    for epoch in range(1, config["epochs"] + 1):
        twin.train()
        sums: Counter[str] = Counter()
        for chosen in train.epoch(config["seed"], epoch):
            loss, metrics = _measure(twin, config, make(chosen, jax.random.fold_in(key, position)))
            (loss / config["accumulate"]).backward()
            sums.update(metrics)
            position += 1
            if position % config["accumulate"] == 0:
                _update(twin, optimizer, config, float(schedule(position // config["accumulate"] - 1)))
                _average(averaged, twin, config.get("ema_decay"))
        total = means(sums, "train") | means(_evaluate(averaged, twin, config, test), "test")
        records.append({"epoch": epoch, **total})
        on_epoch(records[-1])
    return records


def _optimizer(config: Mapping[str, Any], parameters: list[Any]) -> Any:
    options = {name: config[name] for name in ("weight_decay",) if name in config}
    settings = make_optimizer(config["optimizer"], 0.1, 1, **options)
    if config["optimizer"] == "sgd":
        options["momentum"] = settings.settings["momentum"]  # type: ignore[attr-defined]
    return getattr(torch.optim, settings.name)(parameters, **options)  # type: ignore[attr-defined]


def _measure(twin: Any, config: Mapping[str, Any], batch: Any) -> tuple[Any, dict[str, float]]:
    """Returns the mean loss of a batch, and what :mod:`flaxnets.training.objectives` counts, in PyTorch's words."""
    inputs, targets, weights = (torch.from_numpy(np.array(part)) for part in batch)
    outputs = twin(inputs if inputs.is_floating_point() else inputs.long())
    if config["task"] == "regression":
        losses = (outputs - targets).square().flatten(1).mean(1)
        return (losses * weights).sum() / weights.sum(), {
            "loss": (losses * weights).sum().item(), "count": weights.sum().item()
        }  # fmt: skip
    if config["task"] == "language":
        outputs, targets, weights = outputs[0], targets.T.reshape(-1), weights.repeat(targets.shape[1])
    targets = targets if targets.is_floating_point() else targets.long()
    smoothing = config["label_smoothing"]
    losses = torch.nn.functional.cross_entropy(outputs, targets, reduction="none", label_smoothing=smoothing)
    right = outputs.argmax(1) == (targets if targets.ndim == 1 else targets.argmax(1))
    sums = {"loss": (losses * weights).sum(), "correct": (right * weights).sum(), "count": weights.sum()}
    if config["task"] == "language":
        sums["log_perplexity"] = sums["loss"]
    return sums["loss"] / sums["count"], {name: value.item() for name, value in sums.items()}


def _update(twin: Any, optimizer: Any, config: Mapping[str, Any], lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
    if config.get("clip_norm") is not None:
        torch.nn.utils.clip_grad_norm_(twin.parameters(), config["clip_norm"])
    optimizer.step()
    optimizer.zero_grad()


def _average(averaged: Any, twin: Any, decay: float | None) -> None:
    with torch.no_grad():
        for mean, parameter in zip(averaged.parameters(), twin.parameters(), strict=True):
            mean.copy_(parameter) if decay is None else mean.lerp_(parameter, 1 - decay)


def _evaluate(averaged: Any, twin: Any, config: Mapping[str, Any], test: Batches) -> Counter[str]:
    for mean, buffer in zip(averaged.buffers(), twin.buffers(), strict=True):
        mean.copy_(buffer)
    averaged.eval()
    sums: Counter[str] = Counter()
    with torch.no_grad():
        for chosen in test.all():
            sums.update(_measure(averaged, config, as_batch(chosen))[1])
    return sums
