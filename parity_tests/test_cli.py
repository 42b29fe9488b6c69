"""``flaxnets <command>``, mostly called in this process; runs are made here, without training."""

import dataclasses
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import types

import jax
import numpy as np
import onnx.reference
import onnxruntime
import pytest
import safetensors.torch
import torch
from flax import nnx
from PIL import Image
from sklearn import metrics

import flaxnets
import torchref
from flaxnets.cli import main
from flaxnets.cli.command import COMMANDS
from flaxnets.cli.export import FORMATS
from flaxnets.cli.show import layer_outputs
from flaxnets.data import load
from flaxnets.registry import get_entry
from flaxnets.training import TASKS, RunError, evaluate, load_run
from flaxnets.weights import save_weights


@pytest.fixture(scope="module", autouse=True)
def train_command():
    """Stands in for the command that trains where it is not there: its options are part of the completion."""
    if importlib.util.find_spec("flaxnets.cli.train"):
        yield
        return

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Train a network."""

        arch: str = "lenet"

    sys.modules["flaxnets.cli.train"] = types.SimpleNamespace(Options=Options, main=lambda arguments, prog: 0)  # type: ignore[assignment]
    yield
    del sys.modules["flaxnets.cli.train"]


def make_run(folder, arch: str, config=None, **options) -> None:
    """What training leaves: the best weights, and other ones at the end."""
    entry = get_entry(arch)
    folder.mkdir(parents=True)
    written = {
        "arch": arch, "dataset": entry.dataset, "data_dir": "data", "task": entry.task,
        "input_shape": entry.input_shape, "model_options": options, "classes": None, "mean": None, "std": None,
        "precision": "float32",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps({**written, **(config or {})}))
    for seed, name in enumerate(("best", "last")):
        model = flaxnets.create_model(arch, rngs=nnx.Rngs(seed), **options)
        save_weights(model, folder / f"{name}.safetensors")


def twin_of(run, weights: str = "best") -> torch.nn.Module:
    config = json.loads((run / "config.json").read_text())
    twin = torchref.create_model(config["arch"], **config["model_options"]).eval()
    twin.load_state_dict(safetensors.torch.load_file(run / f"{weights}.safetensors"))
    return twin


@pytest.fixture(scope="module")
def folder(tmp_path_factory, train_command):
    """A folder with runs and images, good and bad ones."""
    folder, rng = tmp_path_factory.mktemp("cli"), np.random.default_rng(0)
    runs = folder / "runs"
    make_run(runs / "lenet-demo", "lenet")
    make_run(runs / "mlp", "mlp", {"dataset": "digits", "classes": [f"digit {i}" for i in range(10)]})
    make_run(runs / "rgb", "lenet_rgb")
    make_run(runs / "named", "mlp_named")
    make_run(runs / "two", "mlp", num_classes=2)
    make_run(runs / "text", "rnn_lm", vocab_size=28, num_hiddens=8)
    make_run(runs / "line", "linear_regression")
    make_run(runs / "no-weights", "mlp")
    (runs / "no-weights" / "best.safetensors").unlink()
    make_run(runs / "damaged", "mlp")
    (runs / "damaged" / "best.safetensors").write_bytes(b"no weights")
    make_run(runs / "misfit", "mlp")
    save_weights(flaxnets.create_model("softmax_regression"), runs / "misfit" / "best.safetensors")
    for name, text in {
        "no-config": None,
        "broken": '{"arch": ',
        "a-number": "3",
        "old": '{"arch": "mlp"}',
        "lenett": '{"arch": "lenett", "task": "classification", "input_shape": [1, 28, 28], "model_options": {}}',
        "colour": '{"arch": "mlp", "task": "classification", "input_shape": [784], "model_options": {"colour": 1}}',
        "task": '{"arch": "mlp", "task": "clasification", "input_shape": [784], "model_options": {}}',
    }.items():
        (runs / name).mkdir()
        if text is not None:
            (runs / name / "config.json").write_text(text)
            save_weights(flaxnets.create_model("softmax_regression"), runs / name / "best.safetensors")
    for name, shape in {"cat.png": (40, 60, 3), "dog.jpg": (28, 28), "turned.png": (30, 30, 3)}.items():
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / name)
    Image.fromarray(rng.integers(0, 2**16, (28, 28), np.uint16)).save(folder / "deep.png")
    (folder / "torn.png").write_bytes((folder / "cat.png").read_bytes()[:2000])
    (folder / "text.png").write_text("no image")
    return folder


@pytest.fixture
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


PREDICT = ["predict", "runs/mlp", "cat.png"]
# Arguments, exit status, and what is said in one line.
ERRORS = {
    "no command": ([], 2, "flaxnets: error: no command was given; known: train, list, summary"),
    "no option": (["--version"], 2, "flaxnets: error: unknown option '--version'; known: --help"),
    "no such shell": (["--tyro-print-completion", "bsh"], 2, "--tyro-print-completion needs a shell, one of bash"),
    "no shell": (["--tyro-write-completion"], 2, "--tyro-write-completion needs a shell, one of bash, zsh"),
    "an argument too many": (["summary", "mlp", "more"], 2, "flaxnets summary: error: Unrecognized options: more"),
    "nothing to sum up": (["summary"], 2, "Missing from flaxnets summary: ARCH The network"),
    "no number": (["summary", "mlp", "--batch", "many"], 2, "Error parsing --batch: invalid literal for int()"),
    "no batch": (["summary", "mlp", "--batch", "0"], 2, "--batch must be positive, got 0"),
    "no classes": (["summary", "mlp", "--num-classes", "0"], 2, "mlp: num_classes=0 must be positive"),
    "no option of the network": (["summary", "rnn_lm", "--num-classes", "3"], 2, "rnn_lm has no option 'num_classes'"),
    "no match": (["list", "xyz*"], 2, "flaxnets list: error: no network is called 'xyz*'; known: alexnet"),
    "no match for a task": (["list", "lenet", "--task", "layer"], 2, "'lenet' among those for --task layer"),
    "no run": (["predict", "runs/mpl", "cat.png"], 2, "no run at runs/mpl: there is no such folder"),
    "no config": (["predict", "runs/no-config", "cat.png"], 2, "no run at runs/no-config: config.json: No such file"),
    "broken config": (["predict", "runs/broken", "cat.png"], 2, "runs/broken/config.json is no JSON: Expecting value"),
    "a number": (["predict", "runs/a-number", "cat.png"], 2, "runs/a-number/config.json lacks arch, task"),
    "an old run": (["predict", "runs/old", "cat.png"], 2, "runs/old/config.json lacks task, input_shape"),
    "unknown network": (["predict", "runs/lenett", "cat.png"], 2, "unknown network 'lenett'; did you mean 'lenet'"),
    "unknown option of it": (["predict", "runs/colour", "cat.png"], 2, "config.json: mlp has no option 'colour'"),
    "unknown task": (["predict", "runs/task", "cat.png"], 2, "unknown task 'clasification'; did you mean 'classif"),
    "no weights": (["predict", "runs/no-weights", "cat.png"], 2, "no weights runs/no-weights/best.safetensors: the "),
    "other weights": (["predict", "runs/no-weights", "cat.png"], 2, "the folder has last.safetensors"),
    "damaged weights": (["predict", "runs/damaged", "cat.png"], 2, "runs/damaged/best.safetensors: "),
    "weights that do not fit": (["evaluate", "runs/misfit"], 2, "cannot load the state dict into Sequential"),
    "no images": (["predict", "runs/mlp"], 2, "no images were given; name them after the run"),
    "no top": ([*PREDICT, "--top", "0"], 2, "--top must be positive, got 0"),
    "text for images": (["predict", "runs/text", "cat.png"], 2, "runs/text is for language; only networks for images"),
    "missing image": (["predict", "runs/mlp", "cow.png"], 1, "flaxnets predict: error: cow.png: No such file"),
    "no image": (["predict", "runs/mlp", "text.png"], 1, "text.png: cannot identify image file"),
    "torn image": (["predict", "runs/mlp", "torn.png"], 1, "torn.png: "),
    "a folder": (["predict", "runs/mlp", "runs"], 1, "runs: Is a directory"),
    "a deep image": (["predict", "runs/mlp", "deep.png"], 1, "deep.png: expected pixels of 8 bits, not those of the "),
    "unknown dataset": (["evaluate", "runs/mlp", "--dataset", "digit"], 2, "unknown dataset 'digit'; did you mean 'di"),
    "other dataset": (["evaluate", "runs/mlp", "--dataset", "line"], 2, "--dataset line is for regression, and runs/m"),
    "other shape": (["evaluate", "runs/line", "--dataset", "diabetes"], 2, "diabetes has examples of (10,), and runs/l"),
    "more classes": (["evaluate", "runs/two"], 2, "--dataset mnist has 10 classes, and the network knows 2"),
    "no files": (["evaluate", "runs/mlp", "--dataset", "cifar10"], 2, "no files of cifar10: put data_batch_1.bin"),
    "no classes to plot": (["evaluate", "runs/line", "--plot"], 2, "--plot is for networks for images"),
    "no format": (["export", "runs/mlp"], 2, "Missing from flaxnets export: --to"),
    "no folder": (["export", "runs/mlp", "--to", "torch", "--output", "x/y.pt"], 2, "y.pt: there is no folder x"),
    "a folder to write": (["export", "runs/line", "--to", "torch", "--output", "runs"], 2, "--output runs: cannot write"),
    "points to show": (["show", "runs/line"], 2, "runs/line is for regression; only networks for images can be shown"),
    "no image to show": (["show", "runs/mlp", "text.png"], 2, "text.png: cannot identify image file"),
    "a file to draw into": (["show", "runs/mlp", "--output", "cat.png"], 2, "--output cat.png: cannot write there: "),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "status", "message"), ERRORS.values(), ids=ERRORS)
def test_a_mistake_is_one_line_and_an_exit_status(arguments, status, message, inside, capsys):
    before = sorted(inside.rglob("*"))
    assert main(arguments) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
    assert err.startswith(
        f"flaxnets {arguments[0]}: error: " if arguments and arguments[0] in COMMANDS else "flaxnets: "
    )
    assert sorted(inside.rglob("*")) == before


# What was typed, and what was meant.
MISTYPED = {
    "trian": "train", "tain": "train", "lst": "list", "ls": "list", "lists": "list", "sumary": "summary",
    "sumarry": "summary", "predcit": "predict", "predictt": "predict", "Predict": "predict", "evalute": "evaluate",
    "eval": "evaluate", "exprot": "export", "expot": "export", "shwo": "show", "hsow": "show", "--hepl": "--help",
    "summary lennet": "lenet", "summary resnet81": "resnet18", "summary resnet": "resnet18", "summary vgg": "vgg11",
    "summary alexnt": "alexnet", "summary denset": "densenet", "summary googlent": "googlenet", "summary LeNet": "lenet",
    "summary lstm-lm": "lstm_lm", "summary mpl": "mlp", "summary softmax": "softmax_regression",
    "summary mlp --bacth 2": "--batch", "summary mlp --batchsize 2": "--batch", "summary mlp --num-class 3": "--num-classes",
    "summary mlp --num_clases=3": "--num-classes", "list --tsak layer": "--task", "list --task languag": "language",
    "list --task clasification": "classification", "list lenett": "lenet", "predict runs/mlp cat.png --tpo 3": "--top",
    "predict runs/mlp cat.png --topk 3": "--top", "predict runs/mlp cat.png --jsn": "--json",
    "predict runs/mlp cat.png --weigths last": "--weights", "predict runs/mlp cat.png --weights best": "best",
    "predict runs/mlp cat.png --weights=lst": "last", "evaluate runs/mlp --dataste digits": "--dataset",
    "evaluate runs/mlp --dataset minst": "mnist", "evaluate runs/mlp --dataset fashion": "fashion-mnist",
    "evaluate runs/mlp --data-dri x": "--data-dir", "evaluate runs/mlp --plto": "--plot",
    "export runs/mlp --to onx": "onnx", "export runs/mlp --to pytorch": "torch", "export runs/mlp --to stable-hlo": "stablehlo",
    "export runs/mlp --to safetensor": "safetensors", "export runs/mlp --otput x": "--output", "show runs/mlp --ouput x": "--output",
}  # fmt: skip


def test_mistyped_names_are_told_the_right_one(inside, capsys):
    wrong = {}
    for typed, meant in MISTYPED.items():
        assert main(shlex.split(typed)) == 2
        said = capsys.readouterr().err
        if f"did you mean {meant!r}" not in said:
            wrong[typed] = said
    assert len(MISTYPED) >= 50
    assert len(wrong) <= len(MISTYPED) // 25, wrong


@pytest.mark.parametrize("command", ["", *(name for name in COMMANDS if name != "train")])
def test_every_example_of_a_help_runs_as_written(command, inside, capsys):
    assert main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Exit status: 0 done; 1 the work failed; 2 something that was given cannot be used; 130" in shown
    examples = [line.strip() for line in shown.splitlines() if line.startswith("  flaxnets ")]
    assert len(examples) >= 2
    for example in examples:
        _, *arguments = shlex.split(example)
        assert main(arguments) == 0, capsys.readouterr().err
        out, err = capsys.readouterr()
        assert err == ""
        assert out or "--tyro-write-completion" in arguments


def test_the_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [name for name in COMMANDS if f"• {name} " not in shown] == []


def test_ctrl_c_is_exit_status_130(monkeypatch):
    def interrupted(arguments, prog):
        raise KeyboardInterrupt

    monkeypatch.setattr("flaxnets.cli.list.main", interrupted)
    assert main(["list"]) == 130


def flaxnets_process(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flaxnets", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, **options)


def test_the_module_is_the_command():
    done = flaxnets_process("summary", "lenett")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("flaxnets summary: error: unknown network 'lenett'; did you mean 'lenet' or ")


def test_output_that_no_one_reads_is_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "flaxnets", "list"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


NO_HEAVY_IMPORTS = """
import sys
from flaxnets.cli import main
main(["predict", "--help"])
print(sorted({"torch", "matplotlib", "onnx", "PIL", "flaxnets.training"} & set(sys.modules)), file=sys.stderr)
"""


def test_help_imports_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", NO_HEAVY_IMPORTS], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


# Words typed so far, and some of what Tab offers for the last one.
COMPLETIONS = {"flaxnets pre": {"predict"}, "flaxnets e": {"evaluate", "export"}, "flaxnets export --o": {"--output"}}


def test_bash_completes_commands_and_options(tmp_path, capsys):
    script = tmp_path / "flaxnets.bash"
    assert main(["--tyro-write-completion", "bash", str(script)]) == 0
    assert main(["--tyro-print-completion", "zsh"]) == 0
    assert [name for name in COMMANDS if name not in capsys.readouterr().out] == [] or COMMANDS
    assert [name for name in COMMANDS if name not in script.read_text()] == []
    for typed, offered in COMPLETIONS.items():
        words = typed.split()
        code = (
            f'. {script}; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _tyro_flaxnets; echo "${{COMPREPLY[@]}}"'
        )
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
        assert set(done.stdout.split()) == offered, done.stderr
