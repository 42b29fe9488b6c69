"""Train networks with their default settings in flaxnets and in PyTorch, from the same weights on the same batches.

``python -m benchmarks.accuracy lenet densenet`` trains these two networks; without names, all networks with a dataset.
Each result is written to ``docs/accuracy.json`` at once, and ``docs/accuracy.md`` is the table of all results.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import flaxnets
from flaxnets.cli.stopping import Stopping
from flaxnets.cli.train import fit_model, fit_twin
from flaxnets.cli.train_options import Options
from flaxnets.cli.train_plan import make_plan
from flaxnets.registry import get_entry

DOCS = Path(__file__).parents[1] / "docs"

# At full width, an epoch of VGG-11 needs ten minutes on two cores.
QUARTER = (16, 32, 64, 128, 128)
OPTIONS: dict[str, dict[str, Any]] = {
    "vgg11": {"conv_arch": tuple(zip((1, 1, 2, 2, 2), QUARTER, strict=True)), "num_hiddens": 1024},
    "vgg11_named": {
        "conv_arch": tuple(zip((1, 1, 2, 2, 2), (1, *QUARTER[:-1]), QUARTER, strict=True)),
        "fc_features": 128 * 7 * 7,
        "fc_hidden_units": 1024,
    },
}


def compare(name: str) -> dict[str, Any]:
    """Train a network in both frameworks, and return the results."""
    plan = make_plan(Options(arch=name))
    options = {**plan.config.model_options, **OPTIONS.get(name, {})}
    plan = dataclasses.replace(plan, config=dataclasses.replace(plan.config, model_options=options))
    with Stopping() as stopping:
        records = fit_model(plan, plan.make_model(), stopping)
    score = f"test_{plan.task.score}"
    return {
        "network": name,
        "input": "x".join(map(str, plan.config.input_shape)),
        "epochs": plan.config.epochs,
        "score": plan.task.score,
        "flaxnets": records[-1][score],
        "torch": fit_twin(plan)[-1][score],
    }


def write_table(results: dict[str, dict[str, Any]]) -> None:
    """Write ``docs/accuracy.md``."""

    def format_score(value: float, score: str) -> str:
        return f"{value:.2%}" if score == "accuracy" else f"{value:.4g}"

    lines = [
        "# Accuracy after training in flaxnets and in PyTorch",
        "",
        "Every network was trained with its default settings in flaxnets, and by a plain loop in PyTorch, from the",
        "same initial weights on the same batches. Dropout masks differ. The measure is the test accuracy on 1,000",
        "MNIST images after training on 4,000, the test perplexity per character, or the test loss. VGG-11 has a",
        "quarter of its width.",
        "",
        "Made by `python -m benchmarks.accuracy`.",
        "",
        "| network | input | epochs | measure | flaxnets | PyTorch |",
        "|---|---|---|---|---|---|",
    ]
    for name in sorted(results):
        r = results[name]
        ours, theirs = format_score(r["flaxnets"], r["score"]), format_score(r["torch"], r["score"])
        lines.append(f"| `{name}` | {r['input']} | {r['epochs']} | {r['score']} | {ours} | {theirs} |")
    (DOCS / "accuracy.md").write_text("\n".join(lines) + "\n")


def main(names: list[str]) -> None:
    """Train the named networks, or all networks."""
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
