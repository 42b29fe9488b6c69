"""``flaxnets list``: the registered networks."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from flaxnets.cli.common import Device, UsageError, parse
from flaxnets.registry import TASKS
from flaxnets.settings import OneOf


@dataclasses.dataclass(frozen=True)
class Options:
    """List the networks: task, parameters, shape of an example, paper and dataset.

    Examples:
      flaxnets list
      flaxnets list 'lenet*'
      flaxnets list --task language
    """

    pattern: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[PATTERN]")] = "*"
    """A pattern of names, as a shell matches names of files."""
    task: Annotated[str | None, OneOf(lambda: TASKS)] = None
    """Only networks for this task. There is nothing to train a layer on."""
    device: Device = "auto"
    """Where the other commands would compute. A list computes nothing."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command and return the exit status."""
    options = parse(Options, arguments, prog)
    if options.device != "auto":
        from flaxnets.cli.devices import choose_device

        choose_device(options.device)
    print_models(options.pattern, options.task)
    return 0


def print_models(pattern: str = "*", task: str | None = None) -> None:
    """Print a header and one line per network, in at most 100 columns.

    Args:
        pattern: a pattern of names, as a shell matches names of files.
        task: the task of the networks, ``None`` for all.

    Raises:
        UsageError: if no network matches.

    >>> print_models("softmax_regression")
    network             task           parameters  input    paper  data
    softmax_regression  classification      7,850  1x28x28  -      mnist
    """
    import functools
    import math

    from flax import nnx

    from flaxnets import create_model, named_parameters
    from flaxnets._suggestions import suggest
    from flaxnets.registry import get_entry, list_models

    rows = []
    for name in list_models(pattern):
        entry = get_entry(name)
        if task not in (None, entry.task):
            continue
        shapes = nnx.eval_shape(functools.partial(create_model, name))
        count = sum(math.prod(parameter.shape) for _, parameter in named_parameters(shapes))
        shape = "x".join(map(str, entry.input_shape))
        rows.append((name, entry.task, f"{count:,}", shape, entry.paper or "-", entry.dataset or "-"))
    if not rows:
        what = f"{pattern!r}" if task is None else f"{pattern!r} among those for --task {task}"
        raise UsageError(f"no network is called {what}; {suggest(pattern, list_models())}")
    rows.insert(0, ("network", "task", "parameters", "input", "paper", "data"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, its_task, count, *rest in rows:
        cells = [cell.ljust(width) for cell, width in zip(rest, widths[3:], strict=True)]
        # Numbers are aligned to the right, and rarely as wide as their column: one space before them is enough.
        first = f"{name.ljust(widths[0])}  {its_task.ljust(widths[1])} {count.rjust(widths[2])}"
        print("  ".join([first, *cells]).rstrip())
