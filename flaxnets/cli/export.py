"""``flaxnets export``: a trained network for other runtimes, checked against the network."""

import contextlib
import dataclasses
import io
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flaxnets import _startup
from flaxnets._version import __version__
from flaxnets.cli.common import Device, Failure, File, RunFolder, UsageError, open_run, parse

if TYPE_CHECKING:
    import numpy as np
    import torch

    from flaxnets.training import LoadedRun

TOLERANCE = 1e-5  # of the largest output
PLATFORMS = ("cpu", "cuda", "tpu")
Forward = Callable[["np.ndarray"], Any]


@dataclasses.dataclass(frozen=True)
class Options:
    """Write a trained network as a file for other programs, and check the outputs of the file.

      stablehlo    the computation for CPU, CUDA and TPU, for jax.export.deserialize
      onnx         the computation for ONNX Runtime, Netron and others; needs 'flaxnets[onnx]'
      torch        the state dict of the network in torchref, for torch.load
      safetensors  the same in that format

    The inputs of a computation are batches of any size of the network's inputs: for images pixels from 0 to 1,
    normalised if the run has a mean. The names of the classes, the mean, the deviation, the shape of an input and the
    order of its axes and channels are metadata in the ONNX file. For StableHLO they are in a second file, whose name
    ends in .json. The file is loaded and run, and saved only if its outputs are those of the network for 1 and for 3
    examples.

    Examples:
      flaxnets export runs/lenet-demo --to stablehlo
      flaxnets export runs/lenet-demo --to onnx --output lenet.onnx
      flaxnets export runs/lenet-demo --to torch --weights last
      flaxnets export runs/lenet-demo --to safetensors
    """

    run: RunFolder
    """The folder of the run that trained the network."""
    to: Literal["stablehlo", "onnx", "torch", "safetensors"]
    """The format."""
    output: File = None
    """The file. The default is named after the network, in the run's folder."""
    weights: Literal["best", "last"] = "best"
    """The weights of the best epoch in test, or of the end."""
    device: Device = "auto"
    """Where to compute: cpu, gpu, tpu, cuda:1 or a number."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command and return the exit status."""
    import jax

    options = parse(Options, arguments, prog)
    run, form = open_run(options.run, options.weights, options.device), FORMATS[options.to]
    path = Path(options.output) if options.output else run.path / f"{run.config.arch}{form.suffix}"
    try:
        if not path.parent.is_dir():
            raise UsageError(f"--output {path}: there is no folder {path.parent}")
        if path.exists() and not path.is_file():
            raise UsageError(f"--output {path}: cannot write there: it is no file")
        with _scratch(path.parent) as scratch:
            partial = scratch / path.name
            # Other programs compute in float32 throughout. A GPU or TPU does so only on request.
            with jax.default_matmul_precision("float32"):
                form.write(run, partial)
                error = _difference(run, form.read(run, partial))
            if not error <= TOLERANCE:
                raise Failure(
                    f"{path} was not kept: its outputs differ from the network's by {error:.2g} of the largest one, "
                    f"more than {TOLERANCE:g}"
                )
            for file in scratch.iterdir():  # StableHLO has a second file for the metadata
                file.replace(path.with_name(file.name))
    except ImportError as error:
        raise UsageError(f"--to {options.to} needs {error.name}: pip install 'flaxnets[{form.extra}]'") from error
    except OSError as error:
        raise UsageError(f"--output {path}: cannot write there: {error.strerror or error}") from error
    print(f"{path}: {path.stat().st_size:,} bytes, outputs within {error:.1g} of the network's")
    return 0


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Give a new folder in a folder, and remove it after the block, or when a signal ends the process in the block.

    Raises:
        OSError: if the folder cannot be made.
    """
    with (
        tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as scratch,
        _startup.undone_at_end(lambda: shutil.rmtree(scratch, ignore_errors=True)),
    ):
        yield Path(scratch)


def describe_interface(run: "LoadedRun") -> dict[str, Any]:
    """Return the metadata with which a program calls a network: the classes, and the layout of inputs.

    Args:
        run: the run of the network.

    Returns:
        Values for JSON. ``mean`` and ``std`` are on the scale of pixels from 0 to 1, for each channel of a stored
        image; ``None`` if inputs are not normalised.

    >>> from flax import nnx
    >>> from flaxnets.run_config import RunConfig
    >>> from flaxnets.training import LoadedRun
    >>> config = RunConfig(arch="linear_regression", task="regression", input_shape=(2,))
    >>> describe_interface(LoadedRun(Path("runs/line"), config, nnx.Module()))["input_shape"]
    ['batch', 2]
    """
    from flaxnets.training import TASKS

    config, task = run.config, TASKS[run.config.task]
    described = {
        "arch": config.arch, "task": config.task, "flaxnets_version": __version__, "classes": _as_list(config.classes),
        "input_shape": [*task.batch_shape(config.input_shape, "batch")],
    }  # fmt: skip
    if task.of_images:
        channels, height, width = config.image_shape
        described |= {
            "axes": "NCHW" if len(config.input_shape) == 3 else "NF",
            "channels": "RGB" if channels == 3 else "grey" if channels == 1 else f"{channels} as stored",
            "image_shape": [channels, height, width],
            "pixel_range": [0.0, 1.0],
            "mean": _as_list(config.mean),
            "std": _as_list(config.std),
        }
    return described


def _as_list(values: Sequence[Any] | None) -> list[Any] | None:
    return None if values is None else [*values]


def _example(run: "LoadedRun", count: int) -> "np.ndarray":
    """Return random inputs of the network for this number of examples."""
    import numpy as np

    from flaxnets.training import TASKS

    config = run.config
    return TASKS[config.task].draw(np.random.default_rng(count), count, config.input_shape, config.model_options)


def _difference(run: "LoadedRun", forward: Forward) -> float:
    """Return the largest difference of another program's outputs from the network's, relative to the largest output."""
    import jax
    import numpy as np

    model, worst = jax.jit(lambda inputs: run.model(inputs)), 0.0
    for count in (1, 3):
        inputs = _example(run, count)
        expected, found = jax.tree.leaves(model(inputs)), jax.tree.leaves(forward(inputs))
        for ours, theirs in zip(expected, found, strict=True):
            if np.shape(theirs) != ours.shape:
                return math.inf
            error = np.abs(np.asarray(theirs) - ours).max() / (np.abs(ours).max() or 1.0)
            worst = float(np.maximum(worst, error))  # NaN stays NaN
    return worst


def _write_stablehlo(run: "LoadedRun", path: Path) -> None:
    import jax
    from jax import export

    from flaxnets.training import TASKS

    task = TASKS[run.config.task]
    shape = ",".join(map(str, task.batch_shape(run.config.input_shape, "batch")))
    spec = jax.ShapeDtypeStruct(export.symbolic_shape(shape), task.dtype)
    exported = export.export(jax.jit(lambda inputs: run.model(inputs)), platforms=PLATFORMS)(spec)
    path.write_bytes(exported.serialize())
    path.with_name(f"{path.name}.json").write_text(json.dumps(describe_interface(run), indent=2) + "\n")


def _read_stablehlo(run: "LoadedRun", path: Path) -> Forward:
    from jax import export

    return export.deserialize(bytearray(path.read_bytes())).call


def _twin(run: "LoadedRun", state: Any) -> "torch.nn.Module":
    """Return the PyTorch twin of the network, with a state dict."""
    import torchref

    twin = torchref.create_model(run.config.arch, **run.config.model_options).eval()
    twin.load_state_dict(state)
    return twin


def _tensors(run: "LoadedRun") -> dict[str, "torch.Tensor"]:
    import numpy as np
    import torch

    from flaxnets import state_dict

    return {name: torch.tensor(np.asarray(array)) for name, array in state_dict(run.model).items()}


def _forward_torch(twin: "torch.nn.Module") -> Forward:
    import numpy as np
    import torch

    def forward(inputs: np.ndarray) -> Any:
        import jax

        with torch.no_grad():
            return jax.tree.map(lambda tensor: tensor.numpy(), twin(torch.tensor(inputs)))

    return forward


def _write_onnx(run: "LoadedRun", path: Path) -> None:
    import logging
    import warnings

    import onnx
    import onnxscript  # noqa: F401
    import torch

    from flaxnets.training import TASKS

    example, disabled = torch.tensor(_example(run, 2)), logging.root.manager.disable
    logging.disable(logging.ERROR)  # torch's exporter logs its progress
    try:
        with warnings.catch_warnings(action="ignore"):
            program = torch.onnx.export(
                _twin(run, _tensors(run)), (example,), dynamo=True, verbose=False, input_names=["input"],
                dynamic_shapes=({TASKS[run.config.task].batch_axis: torch.export.Dim("batch")},),
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        raise Failure(f"torch cannot write {run.config.arch} as ONNX: {error.__cause__ or error}") from error
    finally:
        logging.disable(disabled)
    assert program is not None
    model, described = program.model_proto, describe_interface(run)
    words = {name: value if isinstance(value, str) else json.dumps(value) for name, value in described.items()}
    onnx.helper.set_model_props(model, words)
    path.write_bytes(model.SerializeToString())


def _read_onnx(run: "LoadedRun", path: Path) -> Forward:
    try:
        import onnxruntime
    except ImportError:  # has no release for some platforms
        from onnx.reference import ReferenceEvaluator

        session: Any = ReferenceEvaluator(str(path))
    else:
        session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, {"input": inputs})


def _write_torch(run: "LoadedRun", path: Path) -> None:
    import torch

    content = io.BytesIO()  # torch's own errors about files are no OSErrors
    torch.save(_twin(run, _tensors(run)).state_dict(), content)
    path.write_bytes(content.getbuffer())


def _read_torch(run: "LoadedRun", path: Path) -> Forward:
    import torch

    return _forward_torch(_twin(run, torch.load(path, weights_only=True)))


def _write_safetensors(run: "LoadedRun", path: Path) -> None:
    from flaxnets.weights import save_weights

    save_weights(run.model, path)


def _read_safetensors(run: "LoadedRun", path: Path) -> Forward:
    from flaxnets import create_model
    from flaxnets.weights import load_weights

    model = create_model(run.config.arch, **run.config.model_options)
    load_weights(model, path)
    model.eval()
    return model  # type: ignore[return-value]


@dataclasses.dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        suffix: the suffix of its file names.
        write: writes a run's network to a file.
        read: reads a file as a function from an array of inputs to arrays of outputs.
        extra: the extra of flaxnets that installs the packages of the format.
    """

    suffix: str
    write: Callable[["LoadedRun", Path], None]
    read: Callable[["LoadedRun", Path], Forward]
    extra: str = "parity"


FORMATS = {
    "stablehlo": Format(".stablehlo", _write_stablehlo, _read_stablehlo),
    "onnx": Format(".onnx", _write_onnx, _read_onnx, extra="onnx"),
    "torch": Format(".pt", _write_torch, _read_torch),
    "safetensors": Format(".safetensors", _write_safetensors, _read_safetensors),
}
