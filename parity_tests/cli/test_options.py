"""Tests of invalid values for every option of every command: one error line, an exit status, and no files."""

import dataclasses
import functools
import typing

import numpy as np
import pytest
from PIL import Image
from test_cli import make_run

from benchmarks.option_faults import cases, make_files, options_of
from flaxnets.cli import main
from flaxnets.cli.command import COMMANDS
from flaxnets.cli.common import IS_PATH, parse
from flaxnets.cli.help import format_help, is_positional
from flaxnets.cli.train_options import parse_options
from flaxnets.data import load
from flaxnets.parity import Difference, Report
from flaxnets.parity.training.report import StepRow, TrainingReport
from flaxnets.training import load_run

CASES = cases()
EQUAL = Report("Net / Net", differences=(Difference("output", "0", "eval", "float64", "jit", 0.0, 1e-12),))
TRAINED = TrainingReport("Net / Net", (StepRow(1, 0.5, 0.5, "loss", 0.0, 1e-9),))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("options")
    make_run(folder / "run", "mlp", {"dataset": "digits", "classes": [*"0123456789"]})
    Image.new("L", (28, 28)).save(folder / "image.png")
    make_files(folder)
    return folder


@pytest.fixture
def only_until_the_work(place, monkeypatch):
    """Mock the work of the commands, in a folder with a run and files of all types."""
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
    monkeypatch.setattr("flaxnets.port.to_source", lambda *arguments, **options: "", raising=False)
    monkeypatch.setattr("flaxnets.cli.port._write", lambda *arguments: None)
    monkeypatch.setattr("flaxnets.cli.port._write_weights", lambda *arguments: None)
    monkeypatch.setattr("flaxnets.parity.check", lambda *arguments, **options: EQUAL)
    monkeypatch.setattr("flaxnets.parity.training.trajectories.check_training", lambda *arguments, **options: TRAINED)
    monkeypatch.setattr("flaxnets.cli.parity._write_text", lambda *arguments: None)
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
        err = capsys.readouterr().err
        lines = 1 if status else 0
        said = err.startswith(f"flaxnets {command}: error: ") or not status
        if status not in (0, 1, 2) or not said or err.count("\n") > lines or "Traceback" in err:
            wrong[name] = (status, err)
    assert wrong == {}


def test_the_sweep_has_every_option_and_finds_a_traceback(only_until_the_work, monkeypatch):
    for command in COMMANDS:
        names = {name.split()[1].partition("=")[0] for name in CASES if name.split()[0] == command}
        fields = {field.name for field in dataclasses.fields(options_of(command))}
        assert {name.removeprefix("--").replace("-", "_") for name in names} | {"list_archs"} >= fields
    monkeypatch.setattr("flaxnets.cli.list.print_models", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        main(["list"])


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_sentence_about_an_option_is_broken(command, columns):
    shown = format_help(options_of(command), f"flaxnets {command}", columns)
    _, _, options = shown.partition("Options:" if command != "train" else "Network and its first weights:")
    wrong = [
        line
        for line in options.splitlines()
        if line.startswith("      ") and line.strip()[-1] not in ".):" and "adagrad, adam" not in line
    ]
    assert (wrong, "None" in options, "STR" in shown) == ([], False, False)
    assert max(map(len, options.splitlines()[:-1])) <= columns


def test_the_help_has_every_option_once_and_train_has_groups():
    for command in COMMANDS:
        shown = format_help(options_of(command), command, 100)
        hints = typing.get_type_hints(options_of(command), include_extras=True)
        for field in dataclasses.fields(options_of(command)):
            if not is_positional(hints[field.name]):
                flag = f"--{field.name.replace('_', '-')}"
                assert [line.split()[0] for line in shown.splitlines() if line.strip()].count(flag) == 1, flag
    groups = options_of("train").GROUPS
    assert [
        line[:-1]
        for line in format_help(options_of("train"), "train", 100).splitlines()
        if line in {f"{title}:" for title in groups.values()}
    ] == [*groups.values()]
    assert {*groups} - {""} <= {field.name for field in dataclasses.fields(options_of("train"))}


def test_a_user_folder_is_meant_by_a_tilde_in_every_path(place, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(place))
    for command in COMMANDS:
        kind = options_of(command)
        hints = typing.get_type_hints(kind, include_extras=True)
        paths = [f.name for f in dataclasses.fields(kind) if IS_PATH in getattr(hints[f.name], "__metadata__", ())]
        given = {name: "folder:~/x" if name == "dataset" else "~/x" for name in paths if not is_positional(hints[name])}
        arguments = [word for name, path in given.items() for word in (f"--{name.replace('_', '-')}", path)]
        positional = ["~/x"] * sum(is_positional(hints[name]) for name in paths)
        more = {
            "export": ["--to", "onnx"],
            "summary": ["mlp"],
            "port": ["net:Net"],
            "parity": ["net:Net", "flax:Net"],
        }.get(command, [])
        options = parse(kind, [*positional, *more, *arguments], command)
        for name in paths:
            expected = f"folder:{place}/x" if name == "dataset" else f"{place}/x"
            assert getattr(options, name) in (expected, (expected,)), (command, name)
    (place / "run.yaml").write_text("dataset: folder:~/pets\nout: ~/runs\ninit-from: ~/w.pt\nfreeze: [a, b]\n")
    options = parse_options(["--config", "~/run.yaml"], "train.py")
    assert (options.dataset, options.out, options.init_from) == tuple(
        f"{prefix}{place}/{name}" for prefix, name in (("folder:", "pets"), ("", "runs"), ("", "w.pt"))
    )
    assert options.freeze == ("a", "b")
