"""``flaxnets port``: write the source of a Flax model for a PyTorch model, and check it before it is written."""

import dataclasses
import functools
import json
import keyword
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from flaxnets.cli.building import Input, Target, build_torch, call_torch, find_target, parse_input, read_weights
from flaxnets.cli.common import IS_PATH, Device, Failure, File, UsageError, parse

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True)
class Options:
    """Write the source of a Flax model for a PyTorch model, and check that both models compute the same.

    The command builds the model, calls it on random inputs, translates its source, and compares the result with PyTorch
    in float64. Code that cannot be translated is an error with file, line and fix. Needs 'flaxnets[port]'.

    An input is a shape, such as 2,3,224,224, optionally with a dtype and, for integers, an exclusive upper bound, such
    as 2,16:int64:1000.

    Examples:
      flaxnets port torchref.models.lenet:lenet_relu --input 2,1,32,32
      flaxnets port torchref.models.custom:corr2d --args '{"kernel_size": [2, 2]}' --input 6,8 --out net_flax.py --test
    """

    builder: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODULE:NAME")]
    """The class or function that builds the model, such as mypkg.net:Net."""
    input: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SHAPE...")] = ()
    """The shapes of the arguments of a call."""
    out: File = None
    """The file to write (default: NAME_flax.py in the current folder)."""
    args: Annotated[str | None, tyro.conf.arg(metavar="JSON")] = None
    """Keyword arguments of the class or function, as a JSON object."""
    weights: Annotated[str | None, tyro.conf.arg(metavar="FILE"), IS_PATH] = None
    """Weights to convert, .pt or .safetensors. They are written next to the source, as safetensors."""
    test: bool = False
    """Write a test next to the source, which compares the source with PyTorch."""
    force: bool = False
    """Replace existing files."""
    device: Device = "auto"
    """Where the Flax model is computed: cpu, gpu, tpu, cuda:1 or a number."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command, and return the exit status."""
    from flaxnets.cli.devices import choose_device

    options = parse(Options, arguments, prog)
    files = _files(options)
    builder = _builder(options)
    inputs = tuple(map(parse_input, options.input))
    if not inputs:
        raise UsageError("--input is missing. Expected the shape of each argument of a call. Fix: --input 2,3,224,224")
    choose_device(options.device)
    try:
        from flaxnets.port import PortError, to_source
    except ImportError as error:
        raise UsageError(error) from error
    examples = tuple(each.draw(seed) for seed, each in enumerate(inputs))
    model = build_torch(Target(options.builder, builder), fix=". Fix: --args")
    call_torch(model, examples, options.input)
    state_dict = None if options.weights is None else read_weights(options.weights, model)
    try:
        text = to_source(builder, examples, state_dict=state_dict)
    except PortError as error:
        raise Failure(error) from error
    _write(files.source, text)
    if state_dict is not None:
        _write_weights(files, text, builder, state_dict)
    if options.test:
        _write(files.test, _test_source(options, files, inputs))
    for path in files.written(options):
        print(path)
    return 0


# Options.


@dataclasses.dataclass(frozen=True)
class _Files:
    """The files that the command writes."""

    source: Path

    @property
    def weights(self) -> Path:
        return self.source.with_suffix(".safetensors")

    @property
    def test(self) -> Path:
        return self.source.with_name(f"test_{self.source.name}")

    def written(self, options: Options) -> list[Path]:
        pairs = (self.source, True), (self.weights, options.weights is not None), (self.test, options.test)
        return [path for path, is_written in pairs if is_written]


def _files(options: Options) -> _Files:
    module_name, colon, name = options.builder.partition(":")
    if not (colon and module_name and name.isidentifier()):
        raise UsageError(f"{options.builder!r} names no model. Expected MODULE:NAME, such as mypkg.net:Net")
    path = Path(options.out or f"{name.lower()}_flax.py")
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise UsageError(f"--out {path}: expected the file name of a Python module. Fix: --out net_flax.py")
    if not path.parent.is_dir():
        raise UsageError(f"--out {path}: there is no folder {path.parent}")
    files = _Files(path)
    for each in files.written(options):
        if each.exists() and not (options.force and each.is_file()):
            fix = "choose another --out, or use --force" if each.is_file() else "choose another --out"
            raise UsageError(f"{each} exists. Fix: {fix}")
    return files


def _builder(options: Options) -> Callable[[], "torch.nn.Module"]:
    """Return the class or function, with the arguments of ``--args``."""
    module_name, _, name = options.builder.partition(":")
    target = find_target(module_name, name)
    keywords = _keywords(options.args)
    return functools.partial(target, **keywords) if keywords else target  # type: ignore[return-value]


def _keywords(text: str | None) -> dict[str, Any]:
    try:
        keywords = {} if text is None else json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"--args {text!r} is not JSON: {error}. Fix: --args '{{\"depth\": 18}}'") from error
    if not isinstance(keywords, dict):
        raise UsageError(f"--args must be a JSON object, got {text!r}. Fix: --args '{{\"depth\": 18}}'")
    return keywords


# Weights.


def _write_weights(files: _Files, text: str, builder: Any, state_dict: Any) -> None:
    from flax import nnx

    from flaxnets.parity.state import transfer
    from flaxnets.port.source.proving import execute
    from flaxnets.weights import save_weights

    reference, port = builder(), execute(text).build(rngs=nnx.Rngs(0))
    reference.load_state_dict(state_dict)
    transfer(reference, port)
    save_weights(port, files.weights)


# The test.

_TEST = '''"""Compare {source} with {builder} in PyTorch."""

{system}from pathlib import Path

import torch
from flaxnets.port import check_source

HERE = Path(__file__).parent
{path}

def build_original() -> torch.nn.Module:
    """Build the model in PyTorch."""
    from {module} import {name}

    return {name}({keywords})


def test_{stem}_equals_torch():
    torch.manual_seed(0)
    inputs = ({inputs},)
    check_source(HERE / "{source}", build_original, inputs)
'''


def _test_source(options: Options, files: _Files, inputs: Sequence[Input]) -> str:
    from flaxnets.port.source.layout import laid_out

    module_name, _, name = options.builder.partition(":")
    root = Path(sys.modules[module_name].__file__ or "").resolve().parents[module_name.count(".")]
    relative = Path(os.path.relpath(root, files.source.resolve().parent)).as_posix()
    folder = "HERE" if relative == "." else f'(HERE / "{relative}").resolve()'
    is_installed = "site-packages" in root.parts
    keywords = _keywords(options.args)
    is_plain = all(key.isidentifier() and not keyword.iskeyword(key) for key in keywords)
    named = ", ".join(f"{key}={value!r}" for key, value in keywords.items())
    text = _TEST.format(
        source=files.source.name, builder=options.builder, module=module_name, name=name, stem=files.source.stem,
        system="" if is_installed else "import sys\n",
        path="" if is_installed else f"sys.path.insert(0, str({folder}))  # the folder of the PyTorch model\n",
        keywords=named if is_plain else f"**{keywords!r}", inputs=", ".join(each.source for each in inputs),
    )  # fmt: skip
    return laid_out(text)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot write there: {error.strerror or error}") from error
