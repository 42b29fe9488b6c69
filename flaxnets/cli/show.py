"""``flaxnets show``: pictures of a trained network's filters and activations."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from unittest import mock

import tyro

from flaxnets.cli.common import (
    IS_PATH,
    Device,
    Folder,
    RunFolder,
    UsageError,
    examples_to_test,
    open_dataset,
    open_run,
    parse,
)

if TYPE_CHECKING:
    import jax
    import numpy as np
    from flax import nnx


@dataclasses.dataclass(frozen=True)
class Options:
    """Draw a trained network's first filters, and the output of each layer for an image.

      filters.png      the kernels of the first convolution, or the weights of each unit of a first linear layer
      activations.png  a row for each layer, with up to 16 channels as images, each in its own range

    Examples:
      flaxnets show runs/lenet-demo
      flaxnets show runs/lenet-demo cat.png --output pictures
    """

    run: RunFolder
    """The folder of the run that trained the network."""
    image: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="[IMAGE]"), IS_PATH] = None
    """The image. The default is the first image of the run's test part."""
    output: Folder = None
    """The folder for the pictures. The default is the run's folder."""
    weights: Literal["best", "last"] = "best"
    """The weights of the best epoch in test, or of the end."""
    device: Device = "auto"
    """Where to compute: cpu, gpu, tpu, cuda:1 or a number."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command and return the exit status."""
    options = parse(Options, arguments, prog)
    import numpy as np

    from flaxnets.data import DataError, read_image
    from flaxnets.training import TASKS
    from flaxnets.training.plots import plot_activations, plot_filters

    run = open_run(options.run, options.weights, options.device)
    if not TASKS[run.config.task].of_images:
        raise UsageError(f"{options.run} is for {run.config.task}; only networks for images can be shown")
    if options.image is None:
        image = examples_to_test(run, open_dataset(run, None, None), 1).inputs[0]
    else:
        try:
            image = read_image(options.image, run.config.image_shape)
        except DataError as error:
            raise UsageError(error) from error
    inputs = run.transform(np.asarray(image)[None])
    folder = Path(options.output) if options.output else run.path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        filters = first_filters(run.model, inputs.shape[1:])
        if filters is not None:
            plot_filters(filters, folder / "filters.png")
            print(folder / "filters.png")
        plot_activations(np.asarray(inputs[0]), layer_outputs(run.model, inputs), folder / "activations.png")
        print(folder / "activations.png")
    except OSError as error:
        raise UsageError(f"--output {folder}: cannot write there: {error.strerror or error}") from error
    return 0


def first_filters(model: "nnx.Module", input_shape: Sequence[int]) -> "np.ndarray | None":
    """Return the filters of a network's first convolution or linear layer as ``(filters, channels, height, width)``.

    Args:
        model: the network.
        input_shape: the shape of an example. The weights of each unit of a linear layer are an image of this shape.

    Returns:
        ``None`` if the weights have another size, or the network has no such layer.

    >>> import flaxnets
    >>> first_filters(flaxnets.create_model("lenet"), (1, 28, 28)).shape
    (6, 1, 5, 5)
    >>> first_filters(flaxnets.create_model("mlp"), (1, 28, 28)).shape
    (256, 1, 28, 28)
    """
    import numpy as np

    from flaxnets import named_parameters

    for name, parameter in named_parameters(model):
        weight = np.asarray(parameter.get_value())
        if weight.ndim == 4:
            return weight
        if name.endswith("weight") and weight.ndim == 2:
            side = math.isqrt(weight.shape[1])
            shape = tuple(input_shape) if len(input_shape) == 3 else (1, side, side)
            return weight.reshape(-1, *shape) if math.prod(shape) == weight.shape[1] else None
    return None


def layer_outputs(model: "nnx.Module", inputs: "jax.Array") -> "dict[str, np.ndarray]":
    """Return the output of each layer for the first example, by its name and class, in the order of the calls.

    Args:
        model: the network. Layers that contain other layers are left out.
        inputs: the inputs of the network.

    >>> import flaxnets, jax.numpy as jnp
    >>> outputs = layer_outputs(flaxnets.create_model("mlp"), jnp.zeros((1, 1, 28, 28)))
    >>> {name: output.shape for name, output in outputs.items()}
    {'0 Flatten': (784,), '1 Linear': (256,), '2 ReLU': (256,), '3 Linear': (10,)}
    """
    import numpy as np

    from flaxnets.state import named_modules, own_modules

    layers = {id(layer): (name, layer) for name, layer in named_modules(model) if not any(own_modules(layer))}
    found: dict[str, np.ndarray] = {}

    def keeping(call: Callable[..., Any]) -> Callable[..., Any]:
        def kept(self: Any, *args: Any, **kwargs: Any) -> Any:
            output = call(self, *args, **kwargs)
            if id(self) in layers:
                found.setdefault(f"{layers[id(self)][0]} {type(self).__name__}", np.asarray(output[0]))
            return output

        return kept

    with contextlib.ExitStack() as stack:
        for kind in dict.fromkeys(type(layer) for _, layer in layers.values()):
            stack.enter_context(mock.patch.object(kind, "__call__", keeping(kind.__call__)))
        model(inputs)  # type: ignore[operator]
    return found
