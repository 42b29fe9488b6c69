"""Tests of the command ``flaxnets port``, which runs in this process in an empty folder."""

import functools
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from flaxnets.cli.building import Input, parse_input

NET = '''
import torch
from torch import nn


class Net(nn.Module):
    """A small net."""

    def __init__(self, depth: int = 2, width: int = 4):
        super().__init__()
        # the layers
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 4)

    def forward(self, ids, mask):
        return self.embed(ids) * mask[..., None]


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


depth = 3
'''


@pytest.fixture
def here(run_in_package, tmp_path):
    """Return a function that runs the command in a folder with a package, and returns exit status and output."""
    run = run_in_package("portable", {"net.py": NET, "broken.py": "raise ValueError('no weather today')\n"})
    (tmp_path / "old_flax.py").write_text("mine\n")
    torch.save({"other": torch.ones(2)}, tmp_path / "other.pt")
    return functools.partial(run, "port")


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_writes_source_weights_and_test(here, tmp_path):
    sys.path.insert(0, str(tmp_path))
    reference = load(tmp_path / "portable" / "net.py").Net(depth=3)
    torch.save(reference.state_dict(), "model.pt")
    status, said = here(
        "portable.net:Net", "--args", '{"depth": 3}', "--input", "2,4", "--out", "net_flax.py", "--weights", "model.pt",
        "--test",
    )  # fmt: skip
    assert (status, said.split()) == (0, ["net_flax.py", "net_flax.safetensors", "test_net_flax.py"])
    text = Path("net_flax.py").read_text()
    assert "        # the layers\n" in text
    assert "def build(*, depth: int = 3, rngs: nnx.Rngs) -> Net:" in text
    weights = load_file("net_flax.safetensors")
    assert {n: w.tolist() for n, w in weights.items()} == {n: w.tolist() for n, w in reference.state_dict().items()}
    load(tmp_path / "test_net_flax.py").test_net_flax_equals_torch()
    Path("net_flax.py").write_text(text.replace("x = F.relu(layer(x))", "x = layer(x)"))
    with pytest.raises(Exception, match=r"The port differs from the torch module .*: output 0 is off by"):
        load(tmp_path / "test_net_flax.py").test_net_flax_equals_torch()


def test_takes_integers_and_truth_values_and_names_the_file(here):
    status, said = here("portable.net:Words", "--input", "2,3:int64:9", "2,3:bool")
    assert (status, said.split()) == (0, ["words_flax.py"])
    status, said = here("portable.net:Words", "--input", "2,3:int64:9", "2,3:bool")
    assert (status, "words_flax.py exists. Fix: choose another --out, or use --force" in said) == (2, True)
    assert here("portable.net:Words", "--input", "2,3:int64:9", "2,3:bool", "--force")[0] == 0


def test_says_what_cannot_be_ported(here):
    status, said = here("portable.net:Branching", "--input", "2,3")
    assert status == 1
    assert re.search(r"1 place cannot be ported:\n.*net.py:\d+: x.sum\(\) > 0", said), said
    assert not Path("branching_flax.py").exists()


NET_4 = ("portable.net:Net", "--input", "2,4")
BAD = {
    "no name": (["portable.net"], "'portable.net' names no model. Expected MODULE:NAME"),
    "module": (["portble.net:Net"], "there is no module portble"),
    "submodule": (["portable.nets:Net"], "there is no module portable.nets"),
    "broken module": (["portable.broken:Net"], "portable.broken cannot be imported: ValueError: no weather today"),
    "class": (["portable.net:Nett"], "portable.net has no class or function 'Nett'; did you mean 'Net'"),
    "not callable": (["portable.net:depth"], "portable.net has no class or function 'depth'"),
    "no input": (["portable.net:Net"], "--input is missing"),
    "input": (["portable.net:Net", "--input", "2,x"], "--input '2,x' is not a shape"),
    "negative input": (["portable.net:Net", "--input", "2,-4"], "--input '2,-4' is not a shape"),
    "dtype": (["portable.net:Net", "--input", "2,4:int46"], "unknown dtype 'int46'; did you mean 'int64'"),
    "args": ([*NET_4, "--args", "{depth: 3}"], "--args '{depth: 3}' is not JSON"),
    "args of a list": ([*NET_4, "--args", "[3]"], "--args must be a JSON object, got '[3]'"),
    "unknown argument": ([*NET_4, "--args", '{"deep": 3}'], "unexpected keyword argument 'deep'"),
    "out": ([*NET_4, "--out", "net.txt"], "--out net.txt: expected the file name of a Python module"),
    "out folder": ([*NET_4, "--out", "no/net.py"], "--out no/net.py: there is no folder no"),
    "out exists": ([*NET_4, "--out", "old_flax.py"], "old_flax.py exists. Fix: choose another --out, or use --force"),
    "weights": ([*NET_4, "--weights", "no.pt"], "--weights no.pt: No such file or directory"),
    "other weights": ([*NET_4, "--weights", "other.pt"], "--weights other.pt: Error(s) in loading state_dict for Net"),
    "other shape": (["portable.net:Net", "--input", "2,5"], "the model cannot be called"),
    "option": ([*NET_4, "--tets"], "unknown option --tets; did you mean '--test'"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_says_what_cannot_be_used(here, arguments, message):
    status, said = here(*arguments)
    assert (status, message in said) == (2, True), said
    assert Path("old_flax.py").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2,3,4", Input((2, 3, 4))),
        ("", Input(())),
        ("5:complex64", Input((5,), "complex64")),
        ("2,7:int32:11", Input((2, 7), "int32", 11)),
    ],
)
def test_reads_inputs(text, expected):
    assert parse_input(text) == expected
    drawn = expected.draw(0)
    assert (tuple(drawn.shape), str(drawn.dtype)) == (expected.shape, f"torch.{expected.dtype}")
    again = eval(expected.source, {"torch": torch})
    assert (again.shape, again.dtype) == (drawn.shape, drawn.dtype)


def test_draws_integers_below_the_limit():
    drawn = parse_input("1000:int64:3").draw(0)
    assert np.unique(drawn.numpy()).tolist() == [0, 1, 2]


def test_help_shows_an_example(here):
    status, said = here("--help")
    assert status == 0
    assert "flaxnets port torchref.models.lenet:lenet_relu --input 2,1,32,32" in said
