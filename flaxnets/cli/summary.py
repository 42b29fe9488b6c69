"""``flaxnets summary``: a table of a network's modules."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from flaxnets.cli.common import Device, UsageError, parse
from flaxnets.settings import POSITIVE

if TYPE_CHECKING:
    from flaxnets.registry import Entry


@dataclasses.dataclass(frozen=True)
class Options:
    """Print a network's modules with output shapes, parameters and multiply-adds, and how it is trained by default.

    Examples:
      flaxnets summary lenet
      flaxnets summary resnet18 --batch 32 --num-classes 100
    """

    arch: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ARCH")]
    """The network: see flaxnets list."""
    batch: Annotated[int, POSITIVE] = 1
    """Examples per call."""
    num_classes: int | None = None
    """The number of classes. The default is the network's own."""
    device: Device = "auto"
    """Where the other commands would compute. A summary computes nothing."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command and return the exit status."""
    import functools

    from flax import nnx

    from flaxnets import create_model, summary
    from flaxnets.cli.devices import choose_device
    from flaxnets.registry import get_entry

    options = parse(Options, arguments, prog)
    choose_device(options.device)
    given = {} if options.num_classes is None else {"num_classes": options.num_classes}
    try:
        entry = get_entry(options.arch)
        model = nnx.eval_shape(functools.partial(create_model, options.arch, **given))
    except (TypeError, ValueError) as error:
        raise UsageError(error) from error
    model.eval()
    print(summary(model, _example_inputs(entry, options.batch)))
    if entry.recipe.settings():
        recipe = ", ".join(
            f"{key}={getattr(value, '__name__', value)}" for key, value in entry.recipe.settings().items()
        )
        print(f"Trained by default with: {recipe}")
    return 0


def _example_inputs(entry: "Entry", batch: int) -> Any:
    from flaxnets.training import TASKS

    if entry.task in TASKS:
        return TASKS[entry.task].example_inputs(entry.input_shape, batch)
    return (batch, *entry.input_shape) if entry.batched else entry.input_shape
