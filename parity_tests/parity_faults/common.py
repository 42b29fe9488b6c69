"""What a planted fault is, and the networks that faults are planted in."""

import atexit
import dataclasses
import functools
import importlib.util
import inspect
import itertools
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from cases import NETWORKS
from flax import nnx
from native_models import PAIRS

import torchref
from flaxnets.registry import get_entry
from parity_faults import blocks_torch

HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Network:
    """A torch network, and the source of its Flax form.

    Attributes:
        name: for people and for the rows.
        source: the file with the Flax form.
        builder: the class or function in this file; it takes ``rngs`` and the options.
        torch: makes the torch network.
        inputs: the arguments of a call, in torch's axis order.
        options: of the builder.
        native: whether the Flax form has Flax's own layers, other names and images as ``(N, H, W, C)``.
    """

    name: str
    source: Path
    builder: str
    torch: Callable[[], torch.nn.Module]
    inputs: Callable[[np.random.Generator], tuple[Any, ...]]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    native: bool = False

    def flax(self, edits: tuple[tuple[str, str], ...] = ()) -> nnx.Module:
        """Make the Flax network of the source with these edits."""
        return getattr(edited(self.source, edits), self.builder)(**self.options, rngs=nnx.Rngs(0))


@dataclasses.dataclass(frozen=True)
class Fault:
    """One mistake in one network.

    Attributes:
        network: the name of a network of :data:`NETWORKS_BY_NAME`.
        words: the mistake.
        edits: what is replaced in the Flax source, and with what; only the first occurrence is.
        where: right answers for the first wrong module: ``"torch name / Flax path"``, a dot for the network itself.
        causes: right answers for the cause.
        mode: the mode in which the fault is visible.
        quick: whether the fault is one of those that the tests plant; the benchmark plants all.
        report: the report of another project's user that the fault rebuilds.
    """

    network: str
    words: str
    edits: tuple[tuple[str, str], ...]
    where: tuple[str, ...]
    causes: tuple[str, ...]
    mode: str = "eval"
    quick: bool = False
    report: str = ""

    @property
    def native(self) -> bool:
        """Whether the faulty network is made of Flax's own layers."""
        return NETWORKS_BY_NAME[self.network].native

    def pair(self) -> tuple[torch.nn.Module, nnx.Module]:
        """Make the torch network and the faulty Flax network."""
        network = NETWORKS_BY_NAME[self.network]
        torch.manual_seed(0)
        return network.torch(), network.flax(self.edits)

    def inputs(self, rng: np.random.Generator) -> tuple[Any, ...]:
        """Draw the arguments of a call."""
        return NETWORKS_BY_NAME[self.network].inputs(rng)

    def __str__(self) -> str:
        return f"{self.network}: {self.words}"


def load_faults(path: Path) -> list[Fault]:
    """Read the faults of a file."""

    def fault(row: dict[str, Any]) -> Fault:
        edits = row.pop("edits", []) or ([(row.pop("old"), row.pop("new"))] if "old" in row else [])
        lists = {name: tuple(row.pop(name)) for name in ("where", "causes")}
        return Fault(edits=tuple((old, new) for old, new in edits), **lists, **row)

    return [fault(row) for row in tomllib.loads(path.read_text())["fault"]]


_numbers = itertools.count()


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="parity_faults_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def edited(source: Path, edits: tuple[tuple[str, str], ...]) -> ModuleType:
    """Import a copy of a source file after the edits.

    Raises:
        ValueError: for an edit whose old text the file does not have.
    """
    text = source.read_text()
    for old, new in edits:
        if old not in text:
            raise ValueError(f"{source.name} has no text {old!r}. Expected the text of a line that is to be replaced.")
        text = text.replace(old, new, 1)
    name = f"{source.stem}_edited_{next(_numbers)}"
    path = _folder() / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    # The original has registered the networks already.
    with mock.patch("flaxnets.registry.register", return_value=lambda builder: builder):
        spec.loader.exec_module(module)
    return module


def _native_networks() -> list[Network]:
    folder = HERE.parent / "native_models" / "flax_side"
    return [
        Network(p.name, folder / f"{p.name}.py", p.flax_class, p.torch_type(), p.inputs, native=True) for p in PAIRS
    ]


def _registered_networks() -> list[Network]:
    return [
        Network(
            f"flaxnets {row.name}",
            Path(inspect.getsourcefile(get_entry(row.name).builder) or ""),
            row.name,
            functools.partial(torchref.create_model, row.name, **row.options),
            row.inputs,
            row.options,
        )
        for row in NETWORKS
    ]


def _images(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return (rng.normal(size=(2, 3, 16, 12)),)


def _ids(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    ids = rng.integers(1, 20, (3, 7))
    ids[0, 5:], ids[1, 3:] = 0, 0
    return (ids,)


def _normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], tuple[np.ndarray, ...]]:
    return lambda rng: tuple(rng.normal(size=shape) for shape in shapes)


_BLOCKS: dict[str, Callable[[np.random.Generator], tuple[Any, ...]]] = {
    "Pyramid": _images,
    "Thumbnail": _images,
    "TextClassifier": lambda rng: (rng.integers(0, 20, (3, 7)), rng.integers(0, 4, (3,))),
    "SentenceEncoder": _ids,
    "HandwrittenLSTM": _normal((3, 4, 5)),
    "MobileNet": _images,
    "Generator": _normal((3, 6)),
    "Llama": lambda rng: (rng.integers(0, 20, (2, 7)),),
    "Universal": _normal((3, 6)),
    "TwoTowers": _normal((4, 6), (4, 6), (4, 4)),
    "Dense": _normal((2, 768)),
}


def _block_networks() -> list[Network]:
    return [
        Network(name, HERE / "blocks_flax.py", name, getattr(blocks_torch, name), inputs, native=name == "Dense")
        for name, inputs in _BLOCKS.items()
    ]


NETWORKS_BY_NAME: dict[str, Network] = {
    network.name: network for network in (*_native_networks(), *_registered_networks(), *_block_networks())
}
