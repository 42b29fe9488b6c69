"""Every option of every command with what cannot be its value: a line, an exit status, and nothing written."""

import dataclasses
import functools
import importlib
import typing

import numpy as np
import pytest
from PIL import Image
from test_cli import make_run

from flaxnets.cli import main
from flaxnets.cli.command import COMMANDS
from flaxnets.cli.common import IS_PATH
from flaxnets.cli.help import format_help, is_positional, literal_choices, metavar
from flaxnets.data import load
from flaxnets.training import load_run

HUGE = str(10**30)
# Values of numbers, words and paths; some of them are good for some options.
NUMBERS = ["", "x", "1.5", "nan", "inf", "-1", "0", HUGE]
WORDS = ["", "x", "[", "caf\udce9", "a" * 5000]
PATHS = [
    "", "file/below", "folder", "missing", "/proc/x", "link", "binary", "a" * 300, "~nobody/x", "caf\udce9", "folder:",
    "csv:folder", "folder:file", "text:binary",
]  # fmt: skip
ARGUMENTS = {
    "train": ["--arch", "mlp", "--train-examples", "64", "--dataset", "digits"],
    "list": ["mlp"],
    "summary": ["mlp"],
    "predict": ["run", "image.png"],
    "evaluate": ["run"],
    "export": ["run", "--to", "safetensors"],
    "show": ["run", "image.png"],
}


def options_of(command: str) -> type:
    return importlib.import_module(f"flaxnets.cli.{command}").Options


def cases() -> dict[str, list[str]]:
    found = {}
    for command in COMMANDS:
        kind = options_of(command)
        hints = typing.get_type_hints(kind, include_extras=True)
        for field in dataclasses.fields(kind):
            hint, flag = hints[field.name], f"--{field.name.replace('_', '-')}"
            path = IS_PATH in getattr(hint, "__metadata__", ())
            number = metavar(hint) in ("N", "NUMBER")
            values = NUMBERS if number else PATHS if path else [] if not metavar(hint) else WORDS
            base = ARGUMENTS[command]
            if is_positional(hint):
                found |= {f"{command} {field.name}={value[:20]!r}": [command, value, *base[1:]] for value in values}
                continue
            if flag == "--list-archs":  # no value, and half a minute's work to list them
                continue
            found[f"{command} {flag}"] = [command, *base, flag]
            found[f"{command} {flag} twice"] = [command, *base, flag, "x", flag]
            found |= {f"{command} {flag}={value[:20]!r}": [command, *base, f"{flag}={value}"] for value in values}
    return found


CASES = cases()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("options")
    make_run(folder / "run", "mlp", {"dataset": "digits", "classes": [*"0123456789"]})
    Image.new("L", (28, 28)).save(folder / "image.png")
    (folder / "file").write_text("a file, no folder")
    (folder / "binary").write_bytes(bytes(range(256)))
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("nowhere")
    return folder


@pytest.fixture
def only_until_the_work(place, monkeypatch):
    """Commands that stop where their work begins, in a folder with a run and files of all kinds."""
    monkeypatch.chdir(place)
    loaded = functools.cache(lambda name, *options: load(name, *options))
    monkeypatch.setattr(
        "flaxnets.data.load",
        lambda name, place, *, warn, **options: (
            loaded(name, place) if name == "digits" else load(name, place, **options)
        ),
    )
    network = load_run(place / "run")
    monkeypatch.setattr(
        "flaxnets.training.load_run", lambda path, weights: network if path == "run" else load_run(path, weights)
    )
    monkeypatch.setattr("flaxnets.cli.train._train", lambda *arguments: 0)
    monkeypatch.setattr("flaxnets.training.predict", lambda model, source, **options: np.ones((len(source), 10)))
    monkeypatch.setattr("flaxnets.cli.predict._classifier", lambda run: lambda image: np.ones(10) / 10)
    monkeypatch.setattr("flaxnets.cli.show.layer_outputs", lambda model, inputs: {})
    monkeypatch.setattr("flaxnets.cli.show.first_filters", lambda model, shape: None)
    monkeypatch.setattr("flaxnets.training.plots.plot_activations", lambda *arguments: None)
    monkeypatch.setattr("flaxnets.training.plots.plot_confusion", lambda *arguments: None)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_value_of_an_option_is_a_traceback(command, only_until_the_work, capsys):
    wrong = {}
    for name, arguments in CASES.items():
        if name.split()[0] != command:
            continue
        try:
            status = main(arguments)
        except BaseException as error:
            wrong[name] = repr(error)
            continue
        out, err = capsys.readouterr()
        if status not in (0, 1, 2) or (status and not err.startswith(f"flaxnets {command}: error: ")):
            wrong[name] = (status, err)
        elif "Traceback" in err or err.count("\n") > (status != 0):
            wrong[name] = (status, err)
    assert wrong == {}
