"""Test ``flaxnets parity`` in this process, in a folder with a package."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from flaxnets.cli import command
from flaxnets.cli.building import parse_target
from flaxnets.cli.common import UsageError
from flaxnets.parity import Matching, Report

TORCH = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, depth: int = 1, width: int = 4, eps: float = 1e-5):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.norm(x)


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 4)

    def forward(self, ids, mask):
        return self.embed(ids) * mask[..., None]


class Picture(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.norm = nn.BatchNorm2d(5)

    def forward(self, x):
        return self.norm(self.conv(x))


class NotANumber(nn.Linear):
    def forward(self, x):
        return super().forward(x).sqrt()


class Noisy(nn.Linear):
    def forward(self, x):
        return super().forward(x) + torch.randn(())


class Broken(nn.Module):
    def __init__(self):
        raise RuntimeError("no weather today")


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(7, 5))

    def forward(self, x):
        return x * self.scale.sum()


def number():
    return 3
"""

FLAX = """
import jax
import jax.numpy as jnp
from flax import linen, nnx


class Net(nnx.Module):
    def __init__(self, depth: int = 1, width: int = 4, eps: float = 1e-5, *, rngs: nnx.Rngs):
        self.dense = nnx.List([nnx.Linear(width, width, rngs=rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(width, epsilon=eps, rngs=rngs)

    def __call__(self, x):
        for dense in self.dense:
            x = jax.nn.relu(dense(x))
        return self.norm(x)


class LinenNet(linen.Module):
    width: int = 4

    @linen.compact
    def __call__(self, x):
        return linen.LayerNorm(epsilon=1e-5)(jax.nn.relu(linen.Dense(self.width)(x)))


class Words(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.table = nnx.Embed(9, 4, rngs=rngs)

    def __call__(self, ids, mask):
        return self.table(ids) * mask[..., None]


class Picture(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.filters = nnx.Conv(3, 5, (3, 3), padding="VALID", rngs=rngs)
        self.normed = nnx.BatchNorm(5, momentum=0.9, rngs=rngs)

    def __call__(self, x):
        return self.normed(self.filters(x))


class NotANumber(nnx.Linear):
    def __call__(self, x):
        return jnp.sqrt(super().__call__(x))


class Broken(nnx.Module):
    def __init__(self, rngs):
        raise ValueError("no snow today")


class BrokenCall(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.dense = nnx.Linear(4, 4, rngs=rngs)
        self.norm = nnx.LayerNorm(4, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.dense(x).reshape(3, 3))


class Scaled(nnx.Module):
    def __init__(self):
        self.rows = nnx.Param(jnp.ones((11,)))

    def __call__(self, x):
        return x * self.rows.sum()


def number():
    return 3
"""


@pytest.fixture
def here(run_in_package, tmp_path):
    """Return a function that runs the command in a folder with a package, and returns the exit status and output."""
    run = run_in_package("twins", {"torch_net.py": TORCH, "flax_net.py": FLAX})
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "text.json").write_text("{depth")
    torch.save({"other": torch.ones(2)}, tmp_path / "other.pt")
    return lambda torch_name, flax_name, *arguments: run(
        "parity", f"twins.torch_net:{torch_name}", f"twins.flax_net:{flax_name}", *arguments
    )


NET = ("Net", "Net", "--input", "2,4")
EQUAL = {
    "other names": NET,
    "arguments": ("Net(depth=3, width=5)", "Net(3, width=5)", "--input", "2,5"),
    "no gradients": (*NET, "--forward"),
    "channels last": ("Picture", "Picture", "--input", "2,3,6,7"),
    "token ids and truth values": ("Words", "Words", "--input", "2,3:int64:9", "2,3:bool"),
    "repeated --input": ("Words", "Words", "--input", "2,3:int64:9", "--input=2,3:bool"),
    "Linen": ("Net", "LinenNet(width=4)", "--input", "2,4"),
    "training with AdamW": (*NET, "--steps", "2", "--optimizer", "adamw"),
    "training": (*NET, "--train", "--steps", "2", "--optimizer", "adam"),
}


@pytest.mark.parametrize("arguments", EQUAL.values(), ids=EQUAL)
def test_two_class_names_are_enough(here, arguments):
    status, output = here(*arguments)
    assert status == 0, output
    assert ": equal" in output
    assert ("parameter gradient" in output) == ("--forward" not in arguments)
    assert ("training steps are equal" in output) == ("--steps" in arguments)
    assert ("Training mode was not compared" in output) == ("--train" not in arguments)


def test_shows_where_and_why_and_writes_it(here):
    status, output = here(
        "Net", "Net(eps=1e-3)", "--input", "2,4", "--html", "out.html", "--json", "out.json", "--markdown", "out.md"
    )
    assert status == 1, output
    for words in ("NOT equal", "the fault is in norm (LayerNorm)", "cause:", "1e-05", "change:"):
        assert words in output
    report = Report.from_json(Path("out.json").read_text())
    assert report.location is not None
    assert report.location.torch_name == "norm"
    assert str(report) in output
    assert Path("out.html").read_text() == report.to_html()
    assert Path("out.md").read_text() == report.to_markdown()


def test_the_page_of_equal_models_has_their_modules(here):
    assert here(*NET, "--html", "out.html")[0] == 0
    text = Path("out.html").read_text()
    assert text.count("<circle") == 3  # One each for the layer, the norm and the model.
    assert "LayerNorm / LayerNorm" in text


def test_other_training_is_status_1_and_in_every_file(here, monkeypatch):
    monkeypatch.setattr("flaxnets.cli.parity._optimizers", lambda options: other_optimizers(options.lr))
    status, output = here(*NET, "--steps", "2", "--html", "out.html", "--json", "out.json", "--markdown", "out.md")
    assert (status, "NOT equal from training step 1 on" in output) == (1, True), output
    assert not json.loads(Path("out.json").read_text())["training"]["passed"]
    assert Report.from_json(Path("out.json").read_text()).passed
    for path in ("out.html", "out.md"):
        assert "NOT equal from training step 1 on" in Path(path).read_text()


def other_optimizers(lr):
    import optax

    return lambda parameters: torch.optim.SGD(parameters, lr=lr), optax.sgd(2 * lr)


def test_weights_and_the_matching_are_read_and_written(here):
    status, output = here(*NET, "--save-matching", "matching.json")
    assert status == 0, output
    from twins.torch_net import Net

    torch.save(Net().state_dict(), "model.pt")
    assert here(*NET, "--weights", "model.pt", "--matching", "matching.json")[0] == 0
    Path("names.json").write_text(json.dumps({r"layers\.(\d+)": r"dense.\1", "norm": "norm"}))
    assert here(*NET, "--matching", "names.json")[0] == 0
    Path("names.json").write_text(json.dumps({"layers.0": "norm"}))
    status, output = here(*NET, "--matching", "names.json")
    assert (status, "layers.0" in output, "Traceback" in output) == (2, True, False), output
    text = Path("matching.json").read_text()
    Path("matching.json").write_text(text.replace("layers.0.weight", "layers.0.wight"))
    status, output = here(*NET, "--matching", "matching.json")
    assert status != 0
    assert "layers.0.wight" in output
    assert "Traceback" not in output


LINEAR = ("--input", "2,4")
BAD = {
    "no name": (["parity", "net", "flax.nnx:Linear", *LINEAR], "'net' names no model. Expected MODULE:NAME"),
    "no call": (["parity", "torch.nn:Linear(4", "x:y", *LINEAR], "'torch.nn:Linear(4' names no model"),
    "expression": (["parity", "torch.nn:Linear + 1", "x:y", *LINEAR], "'torch.nn:Linear + 1' names no model"),
    "code": (["parity", "torch.nn:Linear(print(1))", "x:y", *LINEAR], "has the argument 'print(1)'. Expected numbers"),
    "unpacked": (["parity", "torch.nn:Linear(**{'a': 1})", "x:y", *LINEAR], "unpacks a dict. Expected keyword"),
    "module": (["parity", "torch.nm:Linear(4, 3)", "x:y", *LINEAR], "there is no module torch.nm"),
    "Flax module": (
        ["parity", "torch.nn:Linear(4, 3)", "flax.nnn:Linear(4, 3)", *LINEAR],
        "there is no module flax.nnn",
    ),
    "class": (["parity", "torch.nn:Linaer(4, 3)", "x:y", *LINEAR], "torch.nn has no class or function 'Linaer'"),
    "option": (["parity", "a:b", "c:d", "--htm", "x"], "unknown option --htm; did you mean '--html'"),
    "no Flax model": (["parity", "torch.nn:Linear(4, 3)", *LINEAR], "Missing from flaxnets parity: FLAX"),
}
BAD_PAIRS = {
    "no input": (["Net", "Net"], "--input is missing"),
    "input": (["Net", "Net", "--input", "2,x"], "--input '2,x' is not a shape"),
    "dtype": (["Net", "Net", "--input", "2,4:int46"], "unknown dtype 'int46'; did you mean 'int64'"),
    "other shape": (["Net", "Net", "--input", "2,5"], "--input 2,5: the model cannot be called"),
    "too many inputs": ([*NET, "2,4"], "--input 2,4 2,4: the model cannot be called"),
    "steps": ([*NET, "--steps", "-1"], "--steps must not be negative, got -1"),
    "lr": ([*NET, "--lr", "0"], "--lr must be positive, got 0"),
    "optimizer": ([*NET, "--optimizer", "adm"], "unknown --optimizer 'adm'; did you mean 'adam'"),
    "seed": ([*NET, "--seed", "-1"], "--seed must be between 0 and 2**32 - 1, got -1"),
    "html": ([*NET, "--html", "no/out.html"], "--html no/out.html: there is no folder no"),
    "json": ([*NET, "--json", "twins"], "--json twins: it is a folder"),
    "weights": ([*NET, "--weights", "no.pt"], "--weights no.pt: No such file or directory"),
    "other weights": ([*NET, "--weights", "other.pt"], "--weights other.pt: Error(s) in loading state_dict for Net"),
    "matching": ([*NET, "--matching", "no.json"], "--matching no.json: No such file or directory"),
    "matching of a list": ([*NET, "--matching", "list.json"], "--matching: list.json is not a saved matching"),
    "matching of a text": ([*NET, "--matching", "text.json"], "--matching: text.json is not a saved matching"),
    "broken torch class": (
        ["Broken", "Net", *LINEAR],
        "torch_net:Broken cannot be built: RuntimeError: no weather today",
    ),
    "broken Flax class": (["Net", "Broken", *LINEAR], "flax_net:Broken cannot be built: ValueError: no snow today"),
    "missing argument": (["NotANumber", "Net", *LINEAR], "torch_net:NotANumber cannot be built: TypeError"),
    "unknown argument": (["Net", "Net(deep=3)", *LINEAR], "unexpected keyword argument 'deep'"),
    "no torch module": (
        ["number", "Net", *LINEAR],
        "torch_net:number returns an object of type int. Expected a torch.nn.Module",
    ),
    "no Flax module": (
        ["Net", "number", *LINEAR],
        "flax_net:number does not return a model: TypeError: int is not a JAX model. Expected a flax.nnx.Module",
    ),
    "broken call": (["Net", "BrokenCall", *LINEAR], "cannot be called"),
    "not a number": (["NotANumber(4, 3)", "NotANumber(4, 3)", *LINEAR], "NaN"),
    "noise": (["Noisy(4, 4)", "NotANumber(4, 4)", *LINEAR], "Noisy"),
    "no common names": (["Scaled", "Scaled", *LINEAR], "scale"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_says_what_cannot_be_used(capsys, arguments, message):
    status = command.main(arguments)
    output = capsys.readouterr().err
    assert (status, message in output, output.count("\n")) == (2, True, 1), output


@pytest.mark.parametrize(("arguments", "message"), BAD_PAIRS.values(), ids=BAD_PAIRS)
def test_says_what_cannot_be_compared(here, arguments, message):
    status, output = here(*arguments)
    assert (status, message in output, output.count("\n")) == (2, True, 1), output


def test_the_matching_of_equal_names_is_written(tmp_path, capsys):
    path = tmp_path / "matching.json"
    pair = "torch.nn:BatchNorm1d(4)", "flaxnets.nn:BatchNorm1d(4)"
    assert command.main(["parity", *pair, *LINEAR, "--save-matching", str(path)]) == 0, capsys.readouterr().err
    assert {entry.flax for entry in Matching.load(path).entries} >= {"weight", "bias", "running_mean", "running_var"}


def test_swapped_models_are_told_apart(capsys):
    assert command.main(["parity", "flax.nnx:Linear(4, 3)", "torch.nn:Linear(4, 3)", *LINEAR]) == 2
    assert "flax.nnx:Linear(4, 3) " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "args", "kwargs"),
    [
        ("collections:Counter", (), {}),
        ("collections:Counter()", (), {}),
        ("collections:Counter([1, -2], a=(1, 'x:y'), b=None)", ([1, -2],), {"a": (1, "x:y"), "b": None}),
    ],
)
def test_arguments_are_literals(text, args, kwargs):
    target = parse_target(text)
    assert (target.function.__name__, target.args, target.kwargs) == ("Counter", args, kwargs)


def test_a_failing_class_is_named():
    with pytest.raises(UsageError, match=r"collections:Counter\(1\) cannot be built: TypeError: .*int"):
        parse_target("collections:Counter(1)").build()


def test_progress_is_shown_on_a_terminal(here, monkeypatch):
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    output = []
    monkeypatch.setattr("rich.status.Status.update", lambda self, words: output.append(words))
    assert here(*NET)[0] == 0
    assert {"building the models ...", "finding axis orders ..."} <= {*output}


def test_input_numbers_depend_on_the_seed_alone():
    from flaxnets.cli.building import parse_input

    for text in ("50", "50:bool", "50:int64:1000", "50:complex64"):
        first, again, other = (parse_input(text).draw(seed).numpy() for seed in (0, 0, 1))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)
