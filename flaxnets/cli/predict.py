"""``flaxnets predict``: the most probable classes of images."""

import contextlib
import csv
import dataclasses
import glob
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import tyro

from flaxnets import _startup
from flaxnets.cli.common import (
    IS_PATH,
    Device,
    File,
    RunFolder,
    UsageError,
    class_names,
    open_run,
    parse,
)
from flaxnets.settings import POSITIVE

if TYPE_CHECKING:
    import numpy as np

    from flaxnets.training import LoadedRun

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Options:
    """Print the most probable classes of images, as a trained network sees them.

    An image is resized until it just covers the network's input, and cropped to its middle. An image that cannot be
    read is named, and the other images are still predicted. A folder stands for all images below it, and a pattern in
    quotes, such as "pets/**/*.jpg", for the files that match.

    A CSV file has one line per class of an image: image, rank, class, probability. A JSONL file has the output of
    --json.

    Examples:
      flaxnets predict runs/lenet-demo cat.png
      flaxnets predict runs/lenet-demo cat.png dog.jpg --top 3
      flaxnets predict runs/lenet-demo cat.png --json --weights last
      flaxnets predict runs/lenet-demo "cat*.png" --output predictions.csv
    """

    run: RunFolder
    """The folder of the run that trained the network."""
    images: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="IMAGE..."), IS_PATH] = ()
    """Files of images, folders, and patterns in quotes."""
    top: Annotated[int, POSITIVE] = 5
    """How many classes to print."""
    weights: Literal["best", "last"] = "best"
    """The weights of the best epoch in test, or of the end."""
    json: bool = False
    """Print a line of JSON for each image."""
    output: File = None
    """Write a file instead: .csv or .jsonl."""
    device: Device = "auto"
    """Where to compute: cpu, gpu, tpu, cuda:1 or a number."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command and return the exit status."""
    options = parse(Options, arguments, prog)
    from flaxnets.data import DataError, read_image
    from flaxnets.training import TASKS

    if not options.images:
        raise UsageError("no images. Expected files, folders or patterns after the run")
    if options.output and Path(options.output).suffix.lower() not in _WRITERS:
        raise UsageError(f"--output {options.output}: expected a name that ends in {' or '.join(_WRITERS)}")
    run = open_run(options.run, options.weights, options.device)
    if not TASKS[run.config.task].of_images:
        raise UsageError(f"{options.run} is for {run.config.task}; only networks for images can predict classes")
    predict, failed, done = _classifier(run), 0, 0
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(_written(options.output)) if options.output else _print(options.json)
        for path in _files(options.images):
            try:
                _check_found(path)
                probabilities = predict(read_image(path, run.config.image_shape))
            except DataError as error:
                print(f"{prog}: error: {error}", file=sys.stderr)
                failed += 1
                continue
            names = class_names(run, len(probabilities))
            order = (-probabilities).argsort(kind="stable")[: options.top]
            classes = [{"class": names[i], "probability": float(probabilities[i])} for i in order]
            write({"image": path, "classes": classes})
            done += 1
    if options.output:
        print(f"{options.output}: {done:,} image{'s' * (done != 1)}")
    return 1 if failed else 0


def _files(images: Sequence[str]) -> Iterator[str]:
    """Yield the files of folders and patterns, and every other name unchanged, for an error message."""
    from flaxnets.data import list_images

    for name in images:
        path = Path(name)
        if path.is_dir():
            files = [*map(str, list_images(path))]
        elif glob.has_magic(name) and not path.exists():
            files = sorted(each for each in glob.glob(name, recursive=True) if Path(each).is_file())
        else:
            files = [name]
        yield from files or [name]


def _check_found(name: str) -> None:
    """Raise a DataError for a folder without images, and for a pattern that no file matches."""
    from flaxnets.data import DataError

    if Path(name).is_dir():
        raise DataError(f"{name}: a folder without images")
    if glob.has_magic(name) and not Path(name).exists():
        raise DataError(f"{name}: no file matches this pattern")


def _print(as_json: bool) -> Callable[[Record], None]:
    def write(record: Record) -> None:
        if as_json:
            print(json.dumps(record))
            return
        width = max(len(each["class"]) for each in record["classes"])
        rows = [f"  {each['class'].ljust(width)}  {each['probability']:8.3%}" for each in record["classes"]]
        print(record["image"], *rows, sep="\n")

    return write


@contextlib.contextmanager
def _written(output: str) -> Iterator[Callable[[Record], None]]:
    """Give a function that writes a record to a file. The file appears complete or not at all.

    Raises:
        UsageError: if the file cannot be written.
    """
    path = Path(output)
    partial = path.with_name(f"{path.name}.partial")
    try:
        if path.exists() and not path.is_file():
            raise OSError(0, "it is no file")
        with (
            _startup.undone_at_end(lambda: partial.unlink(missing_ok=True)),
            partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
        ):
            yield _WRITERS[path.suffix.lower()](file)
        partial.replace(path)
    except OSError as error:
        raise UsageError(f"--output {path}: cannot write there: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _csv_writer(file: TextIO) -> Callable[[Record], None]:
    writer = csv.writer(file)
    writer.writerow(["image", "rank", "class", "probability"])

    def write(record: Record) -> None:
        for rank, each in enumerate(record["classes"], start=1):
            writer.writerow([record["image"], rank, each["class"], each["probability"]])

    return write


def _json_writer(file: TextIO) -> Callable[[Record], None]:
    return lambda record: print(json.dumps(record), file=file)


_WRITERS = {".csv": _csv_writer, ".jsonl": _json_writer}


def _classifier(run: "LoadedRun") -> Callable[["np.ndarray"], "np.ndarray"]:
    """Return the function from an image in uint8 to the probabilities of all classes."""
    import jax
    import numpy as np

    forward = jax.jit(lambda images: jax.nn.softmax(run.model(run.transform(images)), axis=-1))
    return lambda image: np.asarray(forward(image[None])[0])
