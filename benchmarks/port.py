"""Ports the models of another library, one process each, and says which of them pass, how fast, and what fails.

``python -m benchmarks.port --out docs`` ports torchvision's classification models by ``flaxnets.from_torch``, which
compares each port with torch in float64, in training and in evaluation mode. The results go into
``docs/porting.json``, and ``docs/porting_speed.md`` is made of this file. ``--library timm --models 'resnet*'`` takes
another library: any module that lists its models, or whose public functions build them. Weights are random, and
nothing is downloaded.
"""

import argparse
import dataclasses
import fnmatch
import importlib
import importlib.metadata
import inspect
import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import porting_report, rounds

SIZES = (32, 48, 64, 75, 96, 112, 128, 160, 192, 224, 240, 256, 288, 299, 320, 384, 448, 518)
WAYS = ("from_torch", "to_source")


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of one model.

    Attributes:
        passed: whether the port was returned, after it was held against torch.
        cause: the first lines of the error, if there was one.
        size: height and width of the images.
        parameters: how many numbers the model's parameters are.
        seconds: what the port took, with its check.
        cpu_seconds: the same in seconds of processors.
    """

    passed: bool
    cause: str = ""
    size: int = 0
    parameters: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


def load(name: str) -> types.ModuleType:
    """Import a library; torchvision without its compiled operators, which do not load beside a CPU build of torch."""
    import torch

    register = torch.library.register_fake

    def register_fake(operator: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(operator, str) and operator.startswith("torchvision::"):
            return lambda function: function
        return register(operator, *args, **kwargs)

    torch.library.register_fake = register_fake
    try:
        return importlib.import_module(name)
    finally:
        torch.library.register_fake = register


def builders(library: types.ModuleType) -> dict[str, Callable[..., Any]]:
    """The models of a library: those that it lists, or else its public functions and classes of modules."""
    import torch

    if hasattr(library, "list_models"):
        if library.__name__ == "torchvision.models":
            return {name: library.get_model_builder(name) for name in library.list_models(module=library)}
        return {name: lambda name=name: library.create_model(name) for name in library.list_models()}
    public = getattr(library, "__all__", [name for name in vars(library) if not name.startswith("_")])
    found = {name: getattr(library, name) for name in public}
    return {
        name: value
        for name, value in found.items()
        if inspect.isfunction(value) or (inspect.isclass(value) and issubclass(value, torch.nn.Module))
    }


def smallest_size(model: Any, batch: int, channels: int) -> int:
    """The smallest height and width of images that a model takes, in training and in evaluation mode."""
    import torch

    error: Exception = ValueError("no size")
    for size in SIZES:
        try:
            for training in (True, False):
                with torch.no_grad():
                    model.train(training)(torch.zeros(batch, channels, size, size))
            return size
        except Exception as refused:
            error = refused
    raise error


def port(library: str, name: str, way: str, batch: int = 2, channels: int = 3) -> Result:
    """Port one model in this process."""
    import numpy as np
    import torch

    from flaxnets.parity import randomize
    from flaxnets.port import from_torch

    build = builders(load(library))[name]
    torch.manual_seed(0)
    model = build()
    size = smallest_size(model, batch, channels)
    randomize(model.train(), np.random.default_rng(0))
    images = torch.from_numpy(np.random.default_rng(1).normal(size=(batch, channels, size, size)).astype(np.float32))
    parameters = sum(p.numel() for p in model.parameters())
    started, cpu_started = time.perf_counter(), time.process_time()
    cause = ""
    try:
        if way == "to_source":
            from flaxnets.port import to_source  # pyright: ignore[reportAttributeAccessIssue]

            to_source(build, (images,))
        else:
            from_torch(model, (images,))
            if without_drop_paths(model):
                from_torch(model, (images,))
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    return Result(not cause, cause, size, parameters, round(seconds, 2), round(cpu_seconds, 2))


def without_drop_paths(model: Any) -> bool:
    """Set the rates of layers that drop whole paths by functions to zero; return whether there were any.

    The two sides share the masks of layers only, so that training mode is compared without the others.
    """
    changed = False
    for module in model.modules():
        for rate in ("p", "drop_prob"):
            if type(module).__name__ in ("StochasticDepth", "DropPath") and getattr(module, rate, 0):
                setattr(module, rate, 0.0)
                changed = True
    return changed


def fresh(library: str, name: str, way: str, limit: float) -> Result:
    """Port one model in a new process."""
    command = [sys.executable, "-m", "benchmarks.port", "--here", "--library", library, "--models", name, "--way", way]
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "OMP_WAIT_POLICY": "PASSIVE"}
    try:
        done = subprocess.run(command, cwd=rounds.ROOT, capture_output=True, text=True, timeout=limit, env=env)
    except subprocess.TimeoutExpired:
        return Result(False, f"took more than {limit:.0f} s", seconds=limit)
    if done.returncode == 0:
        return Result(**json.loads(done.stdout.splitlines()[-1]))
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return Result(False, f"exit status {done.returncode}: {lines[-1] if lines else 'no message'}")


def chosen(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The names that one of the patterns takes."""
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Port what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.port", description=__doc__)
    parser.add_argument("--library", default="torchvision.models", help="a module to import")
    parser.add_argument("--models", nargs="+", default=["*"], help="patterns of names")
    parser.add_argument("--way", choices=WAYS, default="from_torch")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that one model may take")
    parser.add_argument("--out", type=Path, help="where porting.json and porting_speed.md are; not written without")
    parser.add_argument("--here", action="store_true", help="port one model in this process")
    options = parser.parse_args(arguments)
    if options.here:
        print(json.dumps(dataclasses.asdict(port(options.library, options.models[0], options.way))))
        return
    passed = 0
    names = chosen(builders(load(options.library)), options.models)
    for name in names:
        result = fresh(options.library, name, options.way, options.limit)
        passed += result.passed
        print(f"{name:30} {'ok' if result.passed else 'FAILS'} {result.size:4} {result.seconds:6.1f} s "
              f"{result.cpu_seconds:6.1f} s {result.cause}", flush=True)  # fmt: skip
        if options.out:
            section = f"{options.library} by {options.way}"
            porting_report.save(options.out, section, name, dataclasses.asdict(result))
    print(f"{passed} of {len(names)} pass")


if __name__ == "__main__":
    main()
