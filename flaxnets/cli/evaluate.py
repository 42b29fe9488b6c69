"""``flaxnets evaluate``: how good a trained network is."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from flaxnets.cli.common import UsageError, class_names, examples_to_test, open_dataset, open_run, parse

if TYPE_CHECKING:
    import numpy as np


@dataclasses.dataclass(frozen=True)
class Options:
    """Print a trained network's metrics on the test part of a dataset, and those of each class.

    Classes are matched by their names. A class that the network does not know is an error; the dataset may lack some.

    Examples:
      flaxnets evaluate runs/lenet-demo
      flaxnets evaluate runs/lenet-demo --weights last --plot
      flaxnets evaluate runs/lenet-demo --dataset digits
    """

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """The folder of the run that trained the network."""
    dataset: str | None = None
    """What to evaluate on; if not given, what the run was trained on."""
    data_dir: str | None = None
    """The folder with the files of the dataset; if not given, that of the run."""
    bad_files: Literal["stop", "skip"] | None = None
    """What images or lines that cannot be used do; if not given, as in the run."""
    csv_image_column: str | None = None
    """The column of the images of a csv:FILE: its name, or its number from 1; if not given, that of the run."""
    csv_label_column: str | None = None
    """The column of the labels of a csv:FILE: its name, or its number from 1; if not given, that of the run."""
    weights: Literal["best", "last"] = "best"
    """Those of the best epoch in test, or those at the end of training."""
    plot: bool = False
    """Draw which classes are taken for which, as confusion.png in the run's folder."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Runs the command; returns the exit status."""
    options = parse(Options, arguments, prog)
    import jax.numpy as jnp

    from flaxnets.training import TASKS, evaluate, predict
    from flaxnets.training.objectives import means
    from flaxnets.training.plots import confusion_matrix, plot_confusion
    from flaxnets.training.progress import describe

    run = open_run(options.run, options.weights)
    images = run.config["task"] == "classification"
    if options.plot and not images:
        raise UsageError(f"--plot is for networks for images; {options.run} is for {run.config['task']}")
    columns = options.csv_image_column, options.csv_label_column
    data = open_dataset(run, options.dataset, options.data_dir, columns, options.bad_files)
    task, part = TASKS[data.task], examples_to_test(run, data)
    if not images:
        record = evaluate(run.model, part, objective=task.objective, transform=run.transform)
        print(f"{data.name}: {describe(record, 'test')}  {len(part):,} examples")
        return 0
    outputs, known = predict(run.model, part, transform=run.transform), data.model_options["num_classes"]
    if outputs.shape[-1] < known or (outputs.shape[-1] > known and not run.config.get("classes")):
        raise UsageError(f"--dataset {data.name} has {known} classes, and the network knows {outputs.shape[-1]}")
    record = means(task.objective(jnp.asarray(outputs), jnp.asarray(part.targets), jnp.ones(len(part))), "test")
    print(f"{data.name}: {describe(record, 'test')}  {len(part):,} examples")
    matrix = confusion_matrix(outputs.argmax(-1), part.targets, outputs.shape[-1])
    names = class_names(run, len(matrix))
    _print_classes(matrix, names)
    if options.plot:
        path = run.path / "confusion.png"
        plot_confusion(matrix, names, path)
        print(f"drawn as {path}")
    return 0


def _print_classes(matrix: "np.ndarray", names: Sequence[str]) -> None:
    """Prints for each class how many of its examples were found, and how many that were called so are of it."""
    rows = [("class", "examples", "recall", "precision")]
    for i, name in enumerate(names):
        of_class, called = matrix[i].sum(), matrix[:, i].sum()
        recall, precision = (f"{matrix[i, i] / n:.2%}" if n else "-" for n in (of_class, called))
        rows.append((name, f"{of_class:,}", recall, precision))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        print("  ".join([name.ljust(widths[0]), *cells]))
