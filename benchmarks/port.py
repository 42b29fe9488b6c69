"""Port the models of another library, each in its own process, and report which ports pass, their time and errors.

``python -m benchmarks.port --out docs`` ports torchvision's classification models with ``flaxnets.from_torch``, which
compares each port with torch in float64, in training and in evaluation mode. The results are written to
``docs/porting.json``, and ``docs/porting_speed.md`` is generated from this file. ``--library timm --models 'resnet*'``
selects another library: any module that lists its models, or whose public functions build models. Weights are random,
and nothing is downloaded.
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
    """The result of porting one model.

    Attributes:
        passed: Whether the port was returned after its comparison with torch.
        cause: The error, if there was one.
        size: Height and width of the images.
        parameters: Number of elements of the model's parameters.
        seconds: Wall time of the port and its check.
        cpu_seconds: CPU time of the port and its check.
    """

    passed: bool
    cause: str = ""
    size: int = 0
    parameters: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


def load(name: str) -> types.ModuleType:
    """Import a library. torchvision's compiled operators are skipped: they do not load with a CPU build of torch."""
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
    """Return the builders of a library's models: of the models that it lists, else its public functions and modules."""
    import torch

    if hasattr(library, "list_models"):
        if library.__name__ == "torchvision.models":
            return {name: library.get_model_builder(name) for name in library.list_models(module=library)}
        return {name: lambda name=name: library.create_model(name) for name in library.list_models()}
    public = getattr(library, "__all__", [name for name in vars(library) if not name.startswith("_")])
    exported = {name: getattr(library, name) for name in public}
    return {
        name: value
        for name, value in exported.items()
        if inspect.isfunction(value) or (inspect.isclass(value) and issubclass(value, torch.nn.Module))
    }


def smallest_size(model: Any, batch: int, channels: int) -> int:
    """Return the smallest image size that a model accepts in training and in evaluation mode."""
    import torch

    error: Exception = ValueError("no size")
    for size in SIZES:
        try:
            for training in (True, False):
                with torch.no_grad():
                    model.train(training)(torch.zeros(batch, channels, size, size))
            return size
        except Exception as size_error:
            error = size_error
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
    """Set the rates of stochastic-depth layers to zero, and return whether a rate has changed.

    The check shares the random masks of layers, but not of functions. Stochastic depth draws its masks in a function,
    so training mode can only be compared without it.
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
        return Result(False, f"not finished after {limit:.0f} s", seconds=limit)
    if done.returncode == 0:
        return Result(**json.loads(done.stdout.splitlines()[-1]))
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return Result(False, f"exit status {done.returncode}: {lines[-1] if lines else 'no message'}")


def chosen(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that match one of the patterns."""
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.port", description=__doc__)
    parser.add_argument("--library", default="torchvision.models", help="module to import")
    parser.add_argument("--models", nargs="+", default=["*"], help="patterns of model names")
    parser.add_argument("--way", choices=WAYS, default="from_torch")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that one model may take")
    parser.add_argument("--out", type=Path, help="folder of porting.json and porting_speed.md (default: only print)")
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
