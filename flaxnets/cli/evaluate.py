"""``flaxnets evaluate``: the metrics of a trained network."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from flaxnets.cli.common import (
    DatasetName,
    Device,
    Folder,
    RunFolder,
    UsageError,
    class_names,
    open_dataset,
    open_run,
    parse,
)
from flaxnets.cli.devices import check_compiles

if TYPE_CHECKING:
    import numpy as np


@dataclasses.dataclass(frozen=True)
class Options:
    """Print a trained network's metrics on a part of a dataset, and those of each class.

    Classes are matched by their names. A class that the network does not know is an error; the dataset may lack some.

    Examples:
      flaxnets evaluate runs/lenet-demo
      flaxnets evaluate runs/lenet-demo --weights last --plot
      flaxnets evaluate runs/lenet-demo --dataset digits --split all
    """

    run: RunFolder
    """The folder of the run that trained the network."""
    dataset: DatasetName = None
    """The dataset to evaluate on. The default is the run's dataset."""
    split: Literal["all", "train", "val", "test"] | None = None
    """The part of the dataset. The default is the part that the run tested on."""
    data_dir: Folder = None
    """The folder of the dataset's files. The default is the run's folder."""
    bad_files: Literal["stop", "skip"] | None = None
    """On unusable images or lines: stop, or skip them. The default is as in the run."""
    csv_image_column: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    """The column of images in a csv:FILE: its name or number.
    The default is as in the run."""
    csv_label_column: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    """The column of labels in a csv:FILE: its name or number.
    The default is as in the run."""
    weights: Literal["best", "last"] = "best"
    """The weights of the best epoch in test, or of the end."""
    plot: bool = False
    """Draw the confusion matrix as confusion.png in the run's folder."""
    device: Device = "auto"
    """Where to compute: cpu, gpu, tpu, cuda:1 or a number."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command and return the exit status."""
    options = parse(Options, arguments, prog)
    import jax.numpy as jnp

    from flaxnets.data import DataError, Split
    from flaxnets.training import TASKS, evaluate, predict
    from flaxnets.training.objectives import means
    from flaxnets.training.plots import confusion_matrix, plot_confusion
    from flaxnets.training.progress import describe

    check_compiles()
    run = open_run(options.run, options.weights, options.device)
    task = TASKS[run.config.task]
    if options.plot and not task.of_images:
        raise UsageError(f"--plot is for networks for images; {options.run} is for {run.config.task}")
    columns = options.csv_image_column, options.csv_label_column
    data = open_dataset(run, options.dataset, options.data_dir, columns, options.bad_files)
    name = options.split or "test"
    try:
        part = data.part(options.split) if options.split else data.test
    except DataError as error:
        raise UsageError(f"--split {options.split}: {error}") from error
    source = part if isinstance(part, Split) else part.decoded(run.config.image_shape)
    if not task.of_images:
        record = evaluate(run.model, source, objective=task.objective, transform=run.transform)
        record = {key.replace("test", name, 1): value for key, value in record.items()}
        print(f"{data.name}: {describe(record, name)}  {len(part):,} examples")
        return 0
    try:
        outputs, known = predict(run.model, source, transform=run.transform), data.model_options["num_classes"]
    except DataError as error:  # a file has changed since it was checked
        raise UsageError(error) from error
    if outputs.shape[-1] < known or (outputs.shape[-1] > known and not run.config.classes):
        raise UsageError(f"--dataset {data.name} has {known} classes, and the network knows {outputs.shape[-1]}")
    record = means(task.objective(jnp.asarray(outputs), jnp.asarray(part.targets), jnp.ones(len(part))), name)
    print(f"{data.name}: {describe(record, name)}  {len(part):,} examples")
    matrix = confusion_matrix(outputs.argmax(-1), part.targets, outputs.shape[-1])
    names = class_names(run, len(matrix))
    _print_classes(matrix, names)
    if options.plot:
        path = run.path / "confusion.png"
        plot_confusion(matrix, names, path)
        print(f"drawn as {path}")
    return 0


def _print_classes(matrix: "np.ndarray", names: Sequence[str]) -> None:
    """Print the number of examples, the recall and the precision of each class."""
    rows = [("class", "examples", "recall", "precision")]
    for i, name in enumerate(names):
        of_class, called = matrix[i].sum(), matrix[:, i].sum()
        recall, precision = (f"{matrix[i, i] / n:.2%}" if n else "-" for n in (of_class, called))
        rows.append((name, f"{of_class:,}", recall, precision))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        print("  ".join([name.ljust(widths[0]), *cells]))
