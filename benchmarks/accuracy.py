"""Trains networks with their defaults, and their PyTorch twins from the same weights on the same batches.

``python -m benchmarks.accuracy lenet densenet`` trains these two; without names, all that have a dataset. Each result
goes into ``docs/accuracy.json`` as it comes, and ``docs/accuracy.md`` is the table of all of them.
"""

import functools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from flax import nnx

import flaxnets
import torchref
from flaxnets.data import Dataset, load
from flaxnets.registry import Entry, get_entry
from flaxnets.training import DEFAULTS, TASKS, fit, initialize, make_optimizer

DOCS = Path(__file__).parents[1] / "docs"

# At full width an epoch of VGG-11 takes ten minutes on two cores: a quarter of it is trained here.
QUARTER = (16, 32, 64, 128, 128)
OPTIONS: dict[str, dict[str, Any]] = {
    "vgg11": {"conv_arch": tuple(zip((1, 1, 2, 2, 2), QUARTER, strict=True)), "num_hiddens": 1024},
    "vgg11_named": {
        "conv_arch": tuple(zip((1, 1, 2, 2, 2), (1, *QUARTER[:-1]), QUARTER, strict=True)),
        "fc_features": 128 * 7 * 7,
        "fc_hidden_units": 1024,
    },
}


def batches(data: Dataset, recipe: dict[str, Any], epoch: int) -> Iterator[np.ndarray]:
    """The examples of each step of an epoch, as ``flaxnets.training.fit`` chooses them."""
    order, size = np.random.default_rng((0, epoch)).permutation(len(data.train)), recipe["batch_size"]
    yield from (order[i : i + size] for i in range(0, len(order) - size + 1, size))


def torch_objective(task: str, outputs: Any, targets: torch.Tensor) -> torch.Tensor:
    """What ``flaxnets.training.objectives`` has for the task, in PyTorch's words."""
    if task == "regression":
        return torch.nn.functional.mse_loss(outputs, targets)
    if task == "language":
        return torch.nn.functional.cross_entropy(outputs[0], targets.T.reshape(-1).long())
    return torch.nn.functional.cross_entropy(outputs, targets.long())


def train_torch(twin: torch.nn.Module, entry: Entry, data: Dataset, recipe: dict[str, Any], transform: Any) -> float:
    """A plain PyTorch loop; returns the test accuracy, perplexity or loss."""
    parameters = list(twin.parameters())
    optimizer = {
        "sgd": lambda: torch.optim.SGD(parameters, recipe["lr"], momentum=0.9),
        "adam": lambda: torch.optim.Adam(parameters, recipe["lr"]),
        "adamw": lambda: torch.optim.AdamW(parameters, recipe["lr"], weight_decay=0.01),
    }[recipe["optimizer"]]()
    total = recipe["epochs"] * (len(data.train) // recipe["batch_size"])
    warmup = recipe.get("warmup_steps", 0)
    schedule: Any = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total - warmup)
    if warmup:
        rising = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=warmup)
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [rising, schedule], [warmup])

    def inputs_of(part: Any, indices: Any) -> torch.Tensor:
        return torch.from_numpy(np.array(transform(part.inputs[indices])))

    twin.train()
    for epoch in range(1, recipe["epochs"] + 1):
        for indices in batches(data, recipe, epoch):
            optimizer.zero_grad()
            outputs = twin(inputs_of(data.train, indices))
            torch_objective(entry.task, outputs, torch.from_numpy(data.train.targets[indices])).backward()
            if "clip_norm" in recipe:
                torch.nn.utils.clip_grad_norm_(parameters, recipe["clip_norm"])
            optimizer.step()
            schedule.step()

    twin.eval()
    total_loss, correct = 0.0, 0
    with torch.no_grad():
        for indices in np.array_split(np.arange(len(data.test)), -(-len(data.test) // 200)):
            outputs, targets = twin(inputs_of(data.test, indices)), torch.from_numpy(data.test.targets[indices])
            total_loss += torch_objective(entry.task, outputs, targets).item() * len(indices)
            if entry.task == "classification":
                correct += int((outputs.argmax(1) == targets).sum())
    mean_loss = total_loss / len(data.test)
    scores = {"classification": correct / len(data.test), "language": math.exp(mean_loss), "regression": mean_loss}
    return scores[entry.task]


def compare(name: str) -> dict[str, Any]:
    """Trains a network and its twin; returns what came of both."""
    entry = get_entry(name)
    task, data = TASKS[entry.task], load(entry.dataset or "")
    recipe = {**DEFAULTS, **task.defaults, **entry.recipe}
    shape = recipe.get("train_input_shape", entry.input_shape)
    transform = jax.jit(functools.partial(task.transform, input_shape=shape))
    options = OPTIONS.get(name, {})
    torch.manual_seed(0)
    twin, model = torchref.create_model(name, **options), flaxnets.create_model(name, **options, rngs=nnx.Rngs(0))
    if "init" in recipe:
        initialize(model, recipe["init"], jax.random.key(0))
        twin.load_state_dict({key: torch.from_numpy(np.array(array)) for key, array in model.state_dict().items()})
    else:
        model.load_state_dict(twin.state_dict())
    steps = recipe["epochs"] * (len(data.train) // recipe["batch_size"])
    extras = {name: recipe[name] for name in ("clip_norm", "warmup_steps") if name in recipe}
    records = fit(
        model,
        data.train,
        data.test,
        objective=task.objective,
        optimizer=make_optimizer(recipe["optimizer"], recipe["lr"], steps, **extras),
        epochs=recipe["epochs"],
        batch_size=recipe["batch_size"],
        transform=functools.partial(task.transform, input_shape=shape),
    )
    return {
        "network": name,
        "input": "x".join(map(str, shape)),
        "epochs": recipe["epochs"],
        "score": task.score,
        "flaxnets": records[-1][f"test_{task.score}"],
        "torch": train_torch(twin, entry, data, recipe, transform),
    }


def write_table(results: dict[str, dict[str, Any]]) -> None:
    """Writes ``docs/accuracy.md``."""

    def shown(value: float, score: str) -> str:
        return f"{value:.2%}" if score == "accuracy" else f"{value:.4g}"

    lines = [
        "# Trained side by side",
        "",
        "Every network with its defaults, and its PyTorch twin by a plain loop from the same initial weights on the",
        "same batches (dropout masks differ). Test accuracy on 1,000 MNIST images after training on 4,000, test",
        "perplexity a character, or test loss. VGG-11 has a quarter of its width.",
        "",
        "Made by `python -m benchmarks.accuracy`.",
        "",
        "| network | input | epochs | measure | flaxnets | PyTorch |",
        "|---|---|---|---|---|---|",
    ]
    for name in sorted(results):
        r = results[name]
        ours, theirs = shown(r["flaxnets"], r["score"]), shown(r["torch"], r["score"])
        lines.append(f"| `{name}` | {r['input']} | {r['epochs']} | {r['score']} | {ours} | {theirs} |")
    (DOCS / "accuracy.md").write_text("\n".join(lines) + "\n")


def main(names: list[str]) -> None:
    """Trains the named networks, or all."""
    path = DOCS / "accuracy.json"
    for name in names or [name for name in flaxnets.list_models() if get_entry(name).dataset]:
        result = compare(name)
        print(json.dumps(result), flush=True)
        results = json.loads(path.read_text()) if path.exists() else {}
        results[name] = result
        path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        write_table(results)


if __name__ == "__main__":
    main(sys.argv[1:])
