"""Tests of ``flaxnets <command>``, mostly called in this process. Runs are created without training."""

import csv
import dataclasses
import json
import os
import shlex
import subprocess
import sys

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
from flaxnets.data import Split, load, read_image
from flaxnets.registry import get_entry
from flaxnets.training import TASKS, RunError, evaluate, load_run
from flaxnets.weights import save_weights


def make_run(folder, arch: str, config=None, **options) -> None:
    """Create the folder of a trained run, with different best and last weights."""
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
def folder(tmp_path_factory):
    """Create a folder with runs, and with good and bad images."""
    folder, rng = tmp_path_factory.mktemp("cli"), np.random.default_rng(0)
    runs = folder / "runs"
    make_run(runs / "lenet-demo", "lenet")
    make_run(runs / "mlp", "mlp", {"dataset": "digits", "classes": [*"9876543210"]})
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
    for name, shape in {
        "cat.png": (60, 60, 3),
        "dog.jpg": (28, 28),
        "turned.png": (30, 30, 3),
    }.items():
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / name)
    (folder / "torn.png").write_bytes((folder / "cat.png").read_bytes()[:2000])
    (folder / "text.png").write_text("no image")
    Image.fromarray(np.array([[0, 300]], np.float32)).save(folder / "bright.tif")
    return folder


@pytest.fixture
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


PREDICT = ["predict", "runs/mlp", "cat.png"]
# Arguments, exit status, and the expected part of the error line.
ERRORS = {
    "no command": ([], 2, "flaxnets: error: no command was given; known: train, list, summary"),
    "no option": (["--verzion"], 2, "flaxnets: error: unknown option '--verzion'; did you mean '--version'"),
    "no such shell": (["--tyro-print-completion", "bsh"], 2, "--tyro-print-completion needs a shell, one of bash"),
    "no shell": (["--tyro-write-completion"], 2, "--tyro-write-completion needs a shell, one of bash, zsh"),
    "no place": (["--tyro-write-completion", "bash", "x/y"], 2, "bash x/y: cannot write there: No such file or dir"),
    "no file": (["--tyro-write-completion", "bash"], 2, "Unrecognized options: --tyro-write-completion, bash"),
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
    "no images": (["predict", "runs/mlp"], 2, "no images. Expected files, folders or patterns after the run"),
    "no top": ([*PREDICT, "--top", "0"], 2, "--top must be positive, got 0"),
    "text for images": (["predict", "runs/text", "cat.png"], 2, "runs/text is for language; only networks for images"),
    "missing image": (["predict", "runs/mlp", "cow.png"], 1, "error: cow.png: cannot be read: No such file or"),
    "no image": (["predict", "runs/mlp", "text.png"], 1, "text.png: not an image that Pillow can read, it begins"),
    "bright image": (["predict", "runs/mlp", "bright.tif"], 1, "bright.tif: gray values from 0.0 to 300.0, expected"),
    "torn image": (["predict", "runs/mlp", "torn.png"], 1, "torn.png: damaged, Pillow says: image file is truncated"),
    "a folder": (["predict", "runs/mlp", "runs"], 1, "runs: a folder without images"),
    "no file for a pattern": (["predict", "runs/mlp", "nothing*.png"], 1, "nothing*.png: no file matches this pattern"),
    "unknown dataset": (["evaluate", "runs/mlp", "--dataset", "digit"], 2, "unknown dataset 'digit'; did you mean 'di"),
    "other dataset": (["evaluate", "runs/mlp", "--dataset", "line"], 2, "--dataset line is for regression, and runs/m"),
    "other shape": (["evaluate", "runs/line", "--dataset", "diabetes"], 2, "has examples of (10,), and runs/line of "),
    "more classes": (["evaluate", "runs/two"], 2, "--dataset mnist has 10 classes, and the network knows 2"),
    "no files": (["evaluate", "runs/mlp", "--dataset", "cifar10"], 2, "no files of cifar10: put data_batch_1.bin"),
    "no classes to plot": (["evaluate", "runs/line", "--plot"], 2, "--plot is for networks for images"),
    "no format": (["export", "runs/mlp"], 2, "Missing from flaxnets export: --to"),
    "no folder": (["export", "runs/mlp", "--to", "torch", "--output", "x/y.pt"], 2, "y.pt: there is no folder x"),
    "a folder to write": (["export", "runs/line", "--to", "torch", "--output", "runs"], 2, "--output runs: cannot"),
    "points to show": (["show", "runs/line"], 2, "runs/line is for regression; only networks for images can be shown"),
    "no image to show": (["show", "runs/mlp", "text.png"], 2, "text.png: not an image that Pillow can read"),
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


# Mistyped words, and the suggestion.
MISTYPED = {
    "trian": "train", "tain": "train", "lst": "list", "ls": "list", "lists": "list", "sumary": "summary",
    "sumarry": "summary", "predcit": "predict", "predictt": "predict", "Predict": "predict", "evalute": "evaluate",
    "eval": "evaluate", "exprot": "export", "expot": "export", "shwo": "show", "hsow": "show", "--hepl": "--help",
    "summary lennet": "lenet", "summary resnet81": "resnet18", "summary resnet": "resnet18", "summary vgg": "vgg11",
    "summary alexnt": "alexnet", "summary denset": "densenet", "summary googlent": "googlenet",
    "summary LeNet": "lenet", "summary lstm-lm": "lstm_lm", "summary mpl": "mlp",
    "summary softmax": "softmax_regression", "summary mlp --bacth 2": "--batch",
    "summary mlp --batchsize 2": "--batch", "summary mlp --num-class 3": "--num-classes",
    "summary mlp --num_clases=3": "--num-classes", "list --tsak layer": "--task", "list --task languag": "language",
    "list --task clasification": "classification", "list lenett": "lenet",
    "predict runs/mlp cat.png --tpo 3": "--top", "predict runs/mlp cat.png --topk 3": "--top",
    "predict runs/mlp cat.png --jsn": "--json", "predict runs/mlp cat.png --weigths last": "--weights",
    "predict runs/mlp cat.png --weights bset": "best", "predict runs/mlp cat.png --weights=lst": "last",
    "evaluate runs/mlp --dataste digits": "--dataset", "evaluate runs/mlp --dataset minst": "mnist",
    "evaluate runs/mlp --dataset fashion": "fashion-mnist", "evaluate runs/mlp --data-dri x": "--data-dir",
    "evaluate runs/mlp --plto": "--plot", "export runs/mlp --to onx": "onnx", "export runs/mlp --to pytorch": "torch",
    "export runs/mlp --to stable-hlo": "stablehlo", "export runs/mlp --to safetensor": "safetensors",
    "export runs/mlp --otput x": "--output", "show runs/mlp --ouput x": "--output",
}  # fmt: skip


def test_mistyped_names_are_told_the_right_one(inside, capsys):
    wrong = {}
    for typed, meant in MISTYPED.items():
        assert main(shlex.split(typed)) == 2
        said = capsys.readouterr().err
        if f"did you mean {meant!r}" not in said:
            wrong[typed] = said
    assert len(wrong) <= len(MISTYPED) // 25, wrong


@pytest.mark.parametrize("command", ["", *(name for name in COMMANDS if name != "train")])
def test_every_example_of_a_help_runs_as_written(command, inside, capsys):
    assert main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Exit status: 0 done; 1 the work failed; 2 an argument or a file cannot be used; 130" in shown
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


def test_the_module_is_the_command():
    command = [sys.executable, "-m", "flaxnets", "summary", "lenett"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
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


# Words typed so far, and all completions of the last word.
COMPLETIONS = {
    "flaxnets pre": {"predict"},
    "flaxnets e": {"evaluate", "export"},
    "flaxnets export runs --to t": {"torch"},
    "flaxnets show --ou": {"--output"},
}


def test_bash_completes_commands_options_and_choices(tmp_path):
    script = tmp_path / "flaxnets.bash"
    assert main(["--tyro-write-completion", "bash", str(script)]) == 0
    assert [name for name in COMMANDS if name not in script.read_text()] == []
    for typed, offered in COMPLETIONS.items():
        position = len(typed.split()) - 1
        code = f'. {script}; COMP_WORDS=({typed}); COMP_CWORD={position}; _tyro_flaxnets; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
        assert set(done.stdout.split()) == offered, done.stderr


@pytest.mark.parametrize("shell", ["zsh", "tcsh", "fish"])
def test_the_completion_of_other_shells_names_every_command(shell, capsys):
    assert main(["--tyro-print-completion", shell]) == 0
    shown = capsys.readouterr().out
    assert [name for name in COMMANDS if name not in shown] == []


def pixels(path, channels: int, side: int) -> torch.Tensor:
    """Return an image as the input of a torch model, read without flaxnets."""
    with Image.open(path) as file:
        image = file.convert("L" if channels == 1 else "RGB").resize((side, side), Image.Resampling.BILINEAR)
    array = np.asarray(image, np.float32).reshape(side, side, channels) / 255
    return torch.tensor(array).permute(2, 0, 1)[None]


# A run, channels and size of its images, and whether the network takes vectors.
PREDICTED = {"mlp": (1, 28, False), "rgb": (3, 32, False), "named": (1, 28, True)}


@pytest.mark.parametrize("weights", ["best", "last"])
@pytest.mark.parametrize(("run", "channels", "side", "flat"), [(k, *v) for k, v in PREDICTED.items()], ids=PREDICTED)
def test_predictions_are_those_of_torch(run, channels, side, flat, weights, inside, capsys):
    files = ["cat.png", "dog.jpg"]
    assert main(["predict", f"runs/{run}", *files, "--top", "20", "--json", "--weights", weights]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["image"] for line in lines] == files
    twin = twin_of(inside / "runs" / run, weights)
    for file, line in zip(files, lines, strict=True):
        image = pixels(file, channels, side)
        with torch.no_grad():
            expected = twin(image.flatten(1) if flat else image).softmax(-1)[0].numpy()
        found = {entry["class"]: entry["probability"] for entry in line["classes"]}
        names = [*"9876543210"] if run == "mlp" else [*"0123456789"]
        np.testing.assert_allclose([found[name] for name in names], expected, atol=1e-5)
        assert [*found.values()] == sorted(found.values(), reverse=True)


def test_the_good_images_are_predicted_and_the_bad_one_is_named(inside, capsys):
    assert main(["predict", "runs/mlp", "dog.jpg", "text.png", "cat.png", "--top", "2"]) == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [line for line in lines if not line.startswith("  ")] == ["dog.jpg", "cat.png"]
    assert len(lines) == 6
    assert err.count("\n") == 1
    assert "text.png" in err


def test_the_middle_of_an_image_is_seen(tmp_path):
    array = np.full((40, 80), 255, np.uint8)
    array[:, 20:60] = 0
    Image.fromarray(array).save(tmp_path / "wide.png")
    seen = read_image(tmp_path / "wide.png", (1, 28, 28))
    assert (seen.shape, seen.dtype) == ((1, 28, 28), np.uint8)
    assert not seen[:, :, 1:-1].any()  # only the edge is interpolated with the pixels next to it


def test_a_folder_of_images_is_evaluated_and_shown(inside, tmp_path, capsys, rng):
    for part in ("train", "test"):
        for name in ("cats", "dogs"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(3):
                array = rng.integers(0, 256, (30, 40, 3), np.uint8)
                Image.fromarray(array).save(tmp_path / part / name / f"{i}.png")
    config = {"dataset": f"folder:{tmp_path}", "classes": ["cats", "dogs"], "mean": [0.5] * 3, "std": [0.2] * 3}
    make_run(tmp_path / "run", "lenet_rgb", config, num_classes=2)
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    head, _, cats, dogs = capsys.readouterr().out.splitlines()
    assert head.endswith("  6 examples")
    assert [cats.split()[:2], dogs.split()[:2]] == [["cats", "3"], ["dogs", "3"]]
    images = [str(tmp_path / "test" / name / f"{i}.png") for name in ("cats", "dogs") for i in range(3)]
    assert main(["predict", str(tmp_path / "run"), *images, "--top", "1", "--json"]) == 0
    found = [json.loads(line)["classes"][0]["class"] for line in capsys.readouterr().out.splitlines()]
    right = sum(path.split("/")[-2] == name for path, name in zip(images, found, strict=True))
    assert f"accuracy {right / 6:.2%}" in head
    assert main(["show", str(tmp_path / "run")]) == 0


def test_evaluation_is_what_torch_and_scikit_learn_count(inside, capsys):
    assert main(["evaluate", "runs/mlp"]) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    data, run = load("digits"), load_run("runs/mlp")
    with torch.no_grad():
        inputs = torch.tensor(np.asarray(run.transform(data.test.inputs)))
        predictions = twin_of(run.path)(inputs).argmax(-1).numpy()
    targets, options = 9 - data.test.targets, {"average": None, "zero_division": np.nan}
    recalls = metrics.recall_score(targets, predictions, **options)
    precisions = metrics.precision_score(targets, predictions, **options)
    for i, row in enumerate(rows):
        numbers = [f"{value:.2%}".replace("nan%", "-") for value in (recalls[i], precisions[i])]
        assert row.split() == [str(9 - i), str((targets == i).sum()), *numbers]
    part = Split(data.test.inputs, targets)
    expected = evaluate(run.model, part, objective=TASKS["classification"].objective, transform=run.transform)
    assert head == (
        f"digits: test loss {expected['test_loss']:.4g}  accuracy {expected['test_accuracy']:.2%}  360 examples"
    )
    assert expected["test_accuracy"] == metrics.accuracy_score(targets, predictions)
    assert not (run.path / "confusion.png").exists()


@pytest.mark.parametrize(("run", "words"), [("text", "perplexity"), ("line", "line: test loss")])
def test_networks_for_text_and_points_are_evaluated(run, words, inside, capsys):
    assert main(["evaluate", f"runs/{run}"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert words in line


def test_a_run_hands_its_normalisation_to_the_transform(inside, monkeypatch):
    given = {}
    task = dataclasses.replace(TASKS["classification"], transform=lambda inputs, **options: given.update(options))
    monkeypatch.setitem(TASKS, "classification", task)
    run = load_run("runs/rgb")
    run.transform(None)
    assert given == {"input_shape": (3, 32, 32)}
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.2, 0.1)
    dataclasses.replace(run, config=dataclasses.replace(run.config, mean=mean, std=std)).transform(None)
    assert given == {"input_shape": (3, 32, 32), "mean": mean, "std": std}


def test_a_run_that_cannot_be_loaded_is_a_run_error(inside):
    with pytest.raises(RunError, match=r"no weights runs/no-weights/best\.safetensors: the folder has last"):
        load_run("runs/no-weights")
    assert load_run("runs/no-weights", "last").config.arch == "mlp"
    assert not load_run("runs/mlp").model.training


def read_stablehlo(path, twin):
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    return exported.call


def read_onnx(path, twin):
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    evaluator = onnx.reference.ReferenceEvaluator(str(path))

    def call(inputs):
        found, same = (runtime.run(None, {"input": inputs})[0] for runtime in (session, evaluator))
        np.testing.assert_allclose(found, same, atol=1e-5 * np.abs(same).max())
        return found

    return call


def read_state(read):
    def into(path, twin):
        twin.load_state_dict(read(path), strict=True)
        return lambda inputs: twin(torch.tensor(inputs)).detach().numpy()

    return into


# The name of the file, and a function that loads it in another runtime. Only files of weights need a torch twin.
EXPORTS = {
    "stablehlo": ("mlp.stablehlo", read_stablehlo),
    "onnx": ("mlp.onnx", read_onnx),
    "torch": ("mlp.pt", read_state(lambda path: torch.load(path, weights_only=True))),
    "safetensors": ("mlp.safetensors", read_state(safetensors.torch.load_file)),
}


@pytest.mark.parametrize(("to", "name", "read"), [(k, *v) for k, v in EXPORTS.items()], ids=EXPORTS)
def test_exports_compute_what_torch_does_with_the_weights(to, name, read, inside, rng, capsys):
    run = inside / "runs" / "mlp"
    assert main(["export", "runs/mlp", "--to", to, "--weights", "last"]) == 0
    assert capsys.readouterr().out.startswith(f"runs/mlp/{name}: ")
    inputs = rng.normal(size=(5, 1, 28, 28)).astype(np.float32)
    expected = twin_of(run, "last")(torch.tensor(inputs)).detach().numpy()
    found = read(run / name, torchref.create_model("mlp").eval())(inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert not list(run.glob("*.partial"))


@pytest.mark.parametrize("to", ["stablehlo", "onnx"])
def test_networks_with_a_state_are_exported(to, inside, rng, tmp_path):
    path = tmp_path / "text"
    assert main(["export", "runs/text", "--to", to, "--output", str(path)]) == 0
    ids = rng.integers(0, 28, (35, 4)).astype(np.int32)
    expected, _ = twin_of(inside / "runs" / "text")(torch.tensor(ids).long())
    if to == "onnx":
        found = onnxruntime.InferenceSession(path.read_bytes()).run(None, {"input": ids})[0]
    else:
        found = jax.export.deserialize(bytearray(path.read_bytes())).call(ids)[0]
    expected = expected.detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


# Errors that a faulty exporter makes in a parameter.
FAULTS = {"a little off": lambda value: value * 1.001, "not a number": lambda value: value * float("nan")}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("to", FORMATS)
def test_an_export_that_computes_something_else_is_not_kept(to, fault, inside, tmp_path, monkeypatch, capsys):
    def write(run, path):
        model = nnx.clone(run.model)
        weights = dict(flaxnets.state_dict(model))
        model.load_state_dict({**weights, "3.weight": fault(weights["3.weight"])})
        FORMATS_BEFORE[to].write(dataclasses.replace(run, model=model), path)

    monkeypatch.setitem(FORMATS, to, dataclasses.replace(FORMATS[to], write=write))
    kept = tmp_path / "network"
    kept.write_text("the one before")
    assert main(["export", "runs/mlp", "--to", to, "--output", str(kept)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"flaxnets export: error: {kept} was not kept: its outputs differ from the network's by ")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("network", "the one before")]


FORMATS_BEFORE = dict(FORMATS)

# A missing package, with the format, the exit status and the message.
MISSING = {
    "onnx": ("onnx", 2, "--to onnx needs onnx: pip install 'flaxnets[onnx]'"),
    "onnxscript": ("onnx", 2, "--to onnx needs onnxscript: pip install 'flaxnets[onnx]'"),
    "torchref": ("torch", 2, "--to torch needs torchref: pip install 'flaxnets[parity]'"),
    "onnxruntime": ("onnx", 0, ""),
}


@pytest.mark.parametrize(("package", "to", "status", "message"), [(k, *v) for k, v in MISSING.items()], ids=MISSING)
def test_missing_packages_are_named_unless_another_can_check(package, to, status, message, inside, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["export", "runs/line", "--to", to, "--output", f"without-{package}"]) == status
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arch", ["lenet_fc_batchnorm", "lenet_relu", "shared_mlp"])
def test_layers_give_what_torchs_layers_give(arch, rng):
    model, twin = flaxnets.create_model(arch).eval(), torchref.create_model(arch).eval()
    twin.load_state_dict({name: torch.tensor(np.asarray(array)) for name, array in model.state_dict().items()})
    leaves = {
        layer: f"{name} {type(layer).__name__}" for name, layer in twin.named_modules() if not [*layer.children()]
    }
    expected = {}

    def keep_first(layer, inputs, output):
        expected.setdefault(leaves[layer], output[0].numpy())

    for layer in leaves:
        layer.register_forward_hook(keep_first)
    inputs = rng.normal(size=(1, *get_entry(arch).input_shape)).astype(np.float32)
    with torch.no_grad():
        twin(torch.tensor(inputs))
    found = layer_outputs(model, inputs)
    assert [*found] == [*expected]
    for name, output in found.items():
        np.testing.assert_allclose(output, expected[name], atol=1e-5 * max(np.abs(expected[name]).max(), 1))


@pytest.mark.parametrize("run", ["mlp", "rgb", "named"])
def test_pictures_are_drawn_of_all_kinds_of_networks(run, inside, tmp_path, capsys):
    assert main(["show", f"runs/{run}", "cat.png", "--output", str(tmp_path / "new")]) == 0
    drawn = [tmp_path / "new" / name for name in ("filters.png", "activations.png")]
    assert capsys.readouterr().out.split() == [str(path) for path in drawn]
    for path in drawn:
        with Image.open(path) as picture:
            assert min(picture.size) > 100


def test_networks_are_listed_by_pattern_and_task(capsys):
    assert main(["list", "l*", "--task", "language"]) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["network", "task", "parameters", "input", "paper", "data"]
    assert line.split()[:4] == ["lstm_lm", "language", "300,060", "35"]


@pytest.mark.parametrize("arch", flaxnets.list_models())
def test_every_network_can_be_summed_up(arch, capsys):
    assert main(["summary", arch, "--batch", "2"]) == 0
    count = sum(parameter.numel() for parameter in torchref_on_meta(arch).parameters())
    assert f"Parameters: {count:,} (" in capsys.readouterr().out


def torchref_on_meta(arch: str) -> torch.nn.Module:
    with torch.device("meta"):
        return torchref.create_model(arch)


def test_images_of_folders_and_patterns_are_predicted_into_a_file(inside, tmp_path, capsys):
    for name in ("b.png", "deep/c.jpg", "a.PNG", ".hidden/d.png", "Thumbs.db", "notes.txt"):
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28)).save(path, "PNG") if path.suffix in (".png", ".PNG") else path.write_text("text")
    Image.new("L", (28, 28)).save(tmp_path / "pets" / "deep" / "c.jpg", "JPEG")
    expected = [f"{tmp_path}/pets/{name}" for name in ("a.PNG", "b.png", "deep/c.jpg")]
    found = {}
    for images in (f"{tmp_path}/pets", f"{tmp_path}/pets/**/*.[pPj]*[gG]"):
        assert main(["predict", "runs/mlp", images, "--top", "2", "--json"]) == 0
        found[images] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert sorted(each["image"] for each in found[images]) == expected
    records = found[f"{tmp_path}/pets"]
    for suffix in ("csv", "jsonl", "JSONL"):
        output = tmp_path / f"predictions.{suffix}"
        assert main(["predict", "runs/mlp", f"{tmp_path}/pets", "--top", "2", "--output", str(output)]) == 0
        assert capsys.readouterr().out == f"{output}: 3 images\n"
        if suffix == "csv":
            rows = list(csv.DictReader(output.read_text().splitlines()))
            assert [(row["image"], int(row["rank"]), row["class"], float(row["probability"])) for row in rows] == [
                (record["image"], rank, each["class"], each["probability"])
                for record in records
                for rank, each in enumerate(record["classes"], start=1)
            ]
        else:
            assert [json.loads(line) for line in output.read_text().splitlines()] == records
    assert not list(tmp_path.glob("*.partial"))


def test_a_pattern_without_a_match_and_a_folder_without_images_are_named(inside, tmp_path, capsys):
    arguments = ["predict", "runs/mlp", "cow*.png", str(tmp_path), "cat.png", "--output", str(tmp_path / "kept.csv")]
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 2
    assert "cow*.png: no file matches this pattern" in err
    assert f"{tmp_path}: a folder without images" in err
    assert len((tmp_path / "kept.csv").read_text().splitlines()) == 6


# A path that cannot be written, and the reported reason.
UNWRITABLE = {
    "below a file": ("cat.png/x", "there is no folder cat.png"),
    "a folder": ("runs", "cannot write there: it is no file"),
    "a device": ("/dev/null", "cannot write there: it is no file"),
    "no file system for files": ("/proc/x", "cannot write there: "),
    "a long name": ("x" * 300, "cannot write there: File name too long"),
}


@pytest.mark.parametrize("to", FORMATS)
def test_an_export_into_an_unwritable_place_is_one_line_in_every_format(to, inside, capsys):
    before = sorted(inside.rglob("*"))
    for place, message in UNWRITABLE.values():
        assert main(["export", "runs/line", "--to", to, "--output", place]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert f"--output {place}: " in err
        assert message in err
    assert sorted(inside.rglob("*")) == before


@pytest.mark.parametrize("to", ["onnx", "torch"])  # in these formats PyTorch would write the file itself
def test_a_full_disk_under_an_export_is_one_line_and_leaves_nothing(to, inside, tmp_path):
    line = [sys.executable, "-m", "flaxnets", "export", str(inside / "runs/mlp"), "--to", to, "--output", "x"]
    limited = f"ulimit -f 100; exec {shlex.join(line)}"
    done = subprocess.run(["bash", "-c", limited], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.splitlines()[-1] == "flaxnets export: error: --output x: cannot write there: File too large"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", ["onnx", "stablehlo"])
def test_exports_say_what_classes_and_inputs_mean(to, inside, tmp_path):
    classes, mean, std = ["猫", *"123456789"], [0.1, 0.2, 0.3], [0.5, 0.5, 0.25]
    make_run(tmp_path / "run", "lenet_rgb", {"classes": classes, "mean": mean, "std": std})
    path = tmp_path / f"network.{to}"
    assert main(["export", str(tmp_path / "run"), "--to", to, "--output", str(path)]) == 0
    if to == "onnx":
        stored = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        described = {
            name: json.loads(stored[name]) for name in ("classes", "mean", "std", "input_shape", "image_shape")
        }
        described |= {name: stored[name] for name in ("axes", "channels", "flaxnets_version")}
    else:
        described = json.loads((tmp_path / f"network.{to}.json").read_text())
    expected = {
        "classes": classes, "mean": mean, "std": std, "input_shape": ["batch", 3, 32, 32], "axes": "NCHW",
        "channels": "RGB", "image_shape": [3, 32, 32], "flaxnets_version": flaxnets.__version__,
    }  # fmt: skip
    assert described.items() >= expected.items()


# A device, and a part of its error; None for a device that exists.
DEVICES = {
    "cpu": None, "cpu:0": None, "0": None, "auto": None, "gpu": "JAX finds no such device, only cpu",
    "cuda:1": "JAX finds no such device, only cpu", "tpu": "JAX finds no such device",
    "7": "JAX finds 1 here, numbered from 0", "cpu:2": "JAX finds 1 here, numbered from 0",
    "cud": "did you mean 'cuda'", "cuda:x": "unknown --device 'cuda:x'",
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_a_device(command, inside, monkeypatch, capsys):
    used = {"predict": ["runs/mlp", "cat.png"], "evaluate": ["runs/line"], "summary": ["mlp"], "list": ["mlp"],
            "export": ["runs/line", "--to", "safetensors"], "show": ["runs/mlp", "cat.png"],
            "train": ["--arch", "linear_regression", "--dry-run"],
            "port": ["torchref.models.regression:linear_regression", "--input", "2,2", "--force"],
            "parity": ["torch.nn:Linear(2,3)", "flax.nnx:Linear(2,3)", "--input", "2,2"]}[command]  # fmt: skip
    monkeypatch.setattr("flaxnets.cli.train._train", lambda *arguments: 0)
    monkeypatch.setattr("flaxnets.port.to_source", lambda *arguments, **options: "", raising=False)
    try:
        for device, message in DEVICES.items():
            if message is None and command in ("export", "show", "evaluate") and device != "cpu:0":
                continue
            status = main([command, *used, "--device", device])
            err = capsys.readouterr().err
            assert status == (0 if message is None else 2), err
            assert message is None or f"--device {device}" in err.replace("'", "")
            assert message is None or message in err
    finally:
        jax.config.update("jax_default_device", None)
