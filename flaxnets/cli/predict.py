"""``flaxnets predict``: what is in an image."""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from flaxnets.cli.common import UsageError, class_names, image_shape, open_run, parse

if TYPE_CHECKING:
    import numpy as np

    from flaxnets.training import LoadedRun


@dataclasses.dataclass(frozen=True)
class Options:
    """Print the most probable classes of images, as a trained network sees them.

    An image is resized until it just covers what the network takes, and its middle is taken. One that cannot be read
    is named, and the others are still done.

    Examples:
      flaxnets predict runs/lenet-demo cat.png
      flaxnets predict runs/lenet-demo cat.png dog.jpg --top 3
      flaxnets predict runs/lenet-demo cat.png --json --weights last
    """

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """The folder of the run that trained the network."""
    images: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="IMAGE...")] = ()
    """The files of the images."""
    top: int = 5
    """How many classes to print."""
    weights: Literal["best", "last"] = "best"
    """Those of the best epoch in test, or those at the end of training."""
    json: bool = False
    """Print a line of JSON for each image."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Runs the command; returns the exit status."""
    options = parse(Options, arguments, prog)
    from flaxnets.data import DataError

    if options.top < 1:
        raise UsageError(f"--top must be positive, got {options.top}")
    if not options.images:
        raise UsageError("no images were given; name them after the run")
    run = open_run(options.run, options.weights)
    if run.config["task"] != "classification":
        raise UsageError(
            f"{options.run} is for {run.config['task']}; only networks for images can be asked for classes"
        )
    predict, failed = _classifier(run), False
    for path in options.images:
        try:
            probabilities = predict(read_image(path, run))
        except DataError as error:
            print(f"{prog}: error: {error}", file=sys.stderr)
            failed = True
            continue
        names = class_names(run, len(probabilities))
        order = (-probabilities).argsort(kind="stable")[: options.top]
        found = [(names[i], float(probabilities[i])) for i in order]
        if options.json:
            classes = [{"class": name, "probability": probability} for name, probability in found]
            print(json.dumps({"image": path, "classes": classes}))
        else:
            width = max(len(name) for name, _ in found)
            print(path, *(f"  {name.ljust(width)}  {probability:8.3%}" for name, probability in found), sep="\n")
    return 1 if failed else 0


def _classifier(run: "LoadedRun") -> Callable[["np.ndarray"], "np.ndarray"]:
    """From an image in uint8 to the probabilities of all classes."""
    import jax
    import numpy as np

    forward = jax.jit(lambda images: jax.nn.softmax(run.model(run.transform(images)), axis=-1))
    return lambda image: np.asarray(forward(image[None])[0])


def read_image(path: str, run: "LoadedRun") -> "np.ndarray":
    """Reads an image as a run's network sees images in files: its middle, as channels, height and width in uint8.

    Args:
        path: the file.
        run: the run.

    Raises:
        DataError: for a file that cannot be used to train on either: missing, damaged, and so on.
    """
    from flaxnets import data

    return data.read_image(path, image_shape(run))
