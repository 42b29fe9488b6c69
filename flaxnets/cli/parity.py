"""``flaxnets parity``: prove that a Flax model and a PyTorch model compute the same function, or locate the error."""

import contextlib
import dataclasses
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from flaxnets.cli.building import Target, build_torch, call_torch, parse_input, parse_target, read_weights
from flaxnets.cli.common import Device, File, UsageError, parse
from flaxnets.run_config import optimizer_names
from flaxnets.settings import OneOf

if TYPE_CHECKING:
    import numpy as np
    import torch
    from flax import nnx

    from flaxnets.parity import Report
    from flaxnets.parity.matching import Matching
    from flaxnets.parity.training.report import TrainingReport


@dataclasses.dataclass(frozen=True)
class Options:
    """Prove that a Flax model and a PyTorch model compute the same function, or show where and why they differ.

    The command builds both models, copies the weights from PyTorch to Flax, calls both models on the same random inputs
    and differentiates both. If the models differ, the report names the first wrong module and, for a known mistake, the
    line to change. The exit status is 0 if the models are equal, and 1 if they differ. Needs 'flaxnets[parity]'.

    Arguments of the classes are literals, as in mypkg.net:Net(depth=18). An input is a shape, as in 2,3,224,224. A
    dtype may follow the shape, and an exclusive upper bound may follow an integer dtype, as in 2,16:int64:1000.

    Examples:
      flaxnets parity torchref.models.lenet:lenet_relu flaxnets.models.lenet:lenet_relu --input 2,1,32,32
      flaxnets parity 'torch.nn:Linear(4, 3)' 'flax.nnx:Linear(4, 3)' --input 2,4 --train --steps 3
    """

    torch: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TORCH")]
    """The class or function that builds the PyTorch model, as in mypkg.net:Net(depth=18)."""
    flax: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FLAX")]
    """The class or function that builds the model in JAX, as in mypkg.flax_net:Net: NNX, Linen or Equinox."""
    input: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SHAPE...")] = ()
    """The shape of each argument of a call, in the axis order of PyTorch."""
    weights: File = None
    """Weights of the PyTorch model, .pt or .safetensors. Without a file, the weights are random."""
    matching: File = None
    """A file of --save-matching, or JSON of names: {"fc": "head"}."""
    save_matching: File = None
    """Write the matching of variables and tensors to this file, as JSON."""
    train: bool = False
    """Also compare training mode: batch statistics, buffers and dropout."""
    forward: bool = False
    """Compare outputs and buffers only, no gradients. Needs less memory and time."""
    steps: int = 0
    """Train both models for this number of steps, and compare each step."""
    optimizer: Annotated[str, OneOf(optimizer_names)] = "sgd"
    """The optimizer of --steps; sgd has momentum 0.9."""
    lr: float = 0.01
    """The learning rate of --steps."""
    seed: int = 0
    """The seed of weights and inputs."""
    html: File = None
    """Write the report to this file as an HTML page."""
    json: File = None
    """Write the report to this file as JSON."""
    markdown: File = None
    """Write the report to this file as Markdown."""
    device: Device = "auto"
    """The device that runs the Flax model: cpu, gpu, tpu, cuda:1 or a number."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command and return the exit status."""
    from flaxnets.cli.devices import choose_device

    options = parse(Options, arguments, prog)
    _check(options)
    targets = parse_target(options.torch), parse_target(options.flax)
    inputs = tuple(map(parse_input, options.input))
    if not inputs:
        raise UsageError("--input is missing. Expected the shape of each argument of a call. Fix: --input 2,3,224,224")
    choose_device(options.device)
    try:
        importlib.import_module("flaxnets.parity")
    except ImportError as error:
        raise UsageError(error) from error
    with _status() as say:
        say("building the models")
        examples = tuple(each.draw(options.seed + number) for number, each in enumerate(inputs))
        arrays = tuple(example.numpy() for example in examples)
        torch_module, flax_module = _build(options, targets, arrays)
        report = _compare(options, torch_module, flax_module, arrays, say)
        training = None
        if options.steps:
            say(f"{options.steps} training steps")
            training = _train(options, torch_module, flax_module, arrays, report)
    _write(options, report, training)
    _show(report, training)
    return 0 if report.passed and (training is None or training.passed) else 1


def _check(options: Options) -> None:
    if options.steps < 0:
        raise UsageError(f"--steps must not be negative, got {options.steps}")
    if not 0 < options.lr < float("inf"):
        raise UsageError(f"--lr must be positive, got {options.lr}")
    if not 0 <= options.seed < 2**32:
        raise UsageError(f"--seed must be between 0 and 2**32 - 1, got {options.seed}")
    for name in ("html", "json", "markdown", "save_matching"):
        path = getattr(options, name)
        if path is not None and (Path(path).is_dir() or not Path(path).parent.is_dir()):
            what = "it is a folder" if Path(path).is_dir() else f"there is no folder {Path(path).parent}"
            raise UsageError(f"--{name.replace('_', '-')} {path}: {what}. Expected a file to write")


@contextlib.contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the current phase, if standard error is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda phase: None
        return
    with console.status("importing ...") as status:
        yield lambda phase: status.update(f"{phase} ...")


# The two models.


def _build(
    options: Options, targets: tuple[Target, Target], arrays: Sequence["np.ndarray"]
) -> tuple["torch.nn.Module", "nnx.Module"]:
    import torch

    torch.manual_seed(options.seed)
    torch_module = build_torch(targets[0])
    if options.weights is not None:
        read_weights(options.weights, torch_module)
    call_torch(torch_module, [torch.from_numpy(array.copy()) for array in arrays], options.input)
    return torch_module, _flax_module(targets[1], options.seed, torch_module, arrays)


def _flax_module(
    target: Target, seed: int, torch_module: "torch.nn.Module", arrays: Sequence["np.ndarray"]
) -> "nnx.Module":
    """Build the Flax model. Pass ``rngs`` (NNX) or ``key`` (Equinox) if the constructor has that parameter."""
    import jax
    from flax import nnx

    from flaxnets.parity.wrapping import as_nnx

    # The metaclass of NNX hides the constructor's arguments.
    constructor = target.function.__init__ if isinstance(target.function, type) else target.function
    try:
        parameters = inspect.signature(constructor).parameters
    except (TypeError, ValueError):  # Functions written in C may have no signature.
        parameters = {}
    random_arguments: dict[str, Any] = {"rngs": nnx.Rngs(seed)} if "rngs" in parameters else {}
    if "key" in parameters and parameters["key"].default is inspect.Parameter.empty:
        random_arguments["key"] = jax.random.key(seed)
    module = target.build({name: value for name, value in random_arguments.items() if name not in target.kwargs})
    try:
        return as_nnx(module, torch_module, *arrays, seed=seed)
    except TypeError as error:
        fix = "Fix: name the PyTorch model first and the Flax model second"
        raise UsageError(f"{target.text} does not return a model: {_message(error)}. {fix}") from error
    except Exception as error:
        raise UsageError(f"{target.text} cannot be initialised: {_message(error)}") from error


# The comparison.


def _compare(
    options: Options,
    torch_module: "torch.nn.Module",
    flax_module: Any,
    arrays: Sequence[Any],
    say: Callable[[str], None],
) -> "Report":
    from flaxnets.parity import check, match

    matching = None if options.matching is None else _read_matching(options.matching)
    try:
        report = check(
            torch_module,
            flax_module,
            *arrays,
            matching=matching,
            modes=("train", "eval") if options.train else ("eval",),
            weights="random" if options.weights is None else "torch",
            gradients=not options.forward,
            seed=options.seed,
            modules=options.html is not None,
            progress=say,
        )
    except Exception as error:
        raise UsageError(f"the models cannot be compared: {_message(error)}") from error
    if not report.differences:
        shown = "; ".join(report.problems[:5])
        more = f"; and {len(report.problems) - 5} more" if len(report.problems) > 5 else ""
        fix = 'Fix: --matching FILE with JSON such as {"fc": "head"}: names in PyTorch and their paths in Flax'
        raise UsageError(f"nothing could be compared: {shown}{more}. {fix}")
    if options.save_matching is not None and report.matching is None:  # The check needs no matching for equal names.
        report = dataclasses.replace(report, matching=match(torch_module, flax_module, *arrays))
    return report


def _message(error: Exception) -> str:
    """Return an error in one line; the messages of a ValueError are clear without the name of the type."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"


def _read_matching(path: str) -> "Matching | dict[str, str]":
    """Read a saved matching, or a JSON object of names in PyTorch and their paths in Flax."""
    from flaxnets.parity import Matching

    try:
        with contextlib.suppress(ValueError):
            names = json.loads(Path(path).read_text(encoding="utf-8"))
            if isinstance(names, dict) and names and all(isinstance(name, str) for name in names.values()):
                return names
        return Matching.load(path)
    except OSError as error:
        raise UsageError(f"--matching {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"--matching: {error}") from error


def _train(
    options: Options, torch_module: "torch.nn.Module", flax_module: Any, arrays: Sequence[Any], report: "Report"
) -> "TrainingReport":
    from flaxnets.parity import check_training, random_batches

    torch_optimizer, optimizer = _optimizers(options)
    try:
        batches, loss = random_batches(torch_module, arrays, options.steps, options.seed)
        return check_training(
            torch_module,
            flax_module,
            batches,
            loss=loss,
            torch_optimizer=torch_optimizer,
            optimizer=optimizer,
            matching=report.matching,
            weights="random" if options.weights is None else "torch",
            seed=options.seed,
        )
    except Exception as error:
        raise UsageError(f"the models cannot be trained: {_message(error)}") from error


def _optimizers(options: Options) -> tuple[Any, Any]:
    """Return a function from parameters to torch's optimizer, and the same optimizer for Flax."""
    import functools

    from flaxnets.optim.named import OPTIMIZERS
    from flaxnets.parity.training.fit import torch_optimizer

    named = OPTIMIZERS.find(options.optimizer)
    optimizer = named.make(options.lr, **named.defaults)
    return functools.partial(torch_optimizer, optimizer), optimizer


# The output.


def _show(report: "Report", training: "TrainingReport | None") -> None:
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(report)
    else:
        print(report)
    if report.passed and all(setting.startswith("eval") for setting in report.settings):
        print("Training mode was not compared. Fix: --train")
    if training is not None:
        print(training)


def _write(options: Options, report: "Report", training: "TrainingReport | None") -> None:
    from flaxnets.parity.html import page

    training_json = {} if training is None else {"training": json.loads(training.to_json())}
    markdown = "\n".join(part.to_markdown() for part in (report, training) if part is not None)
    if options.html is not None:
        _write_text(options.html, page(report, training))
    if options.json is not None:
        _write_text(options.json, json.dumps(json.loads(report.to_json()) | training_json, indent=1) + "\n")
    if options.markdown is not None:
        _write_text(options.markdown, markdown)
    if options.save_matching is not None and report.matching is not None:
        try:
            report.matching.save(options.save_matching)
        except OSError as error:
            raise UsageError(f"{options.save_matching}: cannot write there: {error.strerror or error}") from error


def _write_text(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot write there: {error.strerror or error}") from error
