"""Tests that classes and characters are matched by name between datasets and trained networks."""

import dataclasses
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from PIL import Image

import flaxnets
from flaxnets.cli import main, train
from flaxnets.cli.command import run as run_command
from flaxnets.cli.train_options import Options
from flaxnets.cli.train_plan import Plan, make_plan
from flaxnets.data import DataError, Split, load, relabel
from flaxnets.data.class_names import sort_classes
from flaxnets.run_config import RunConfig
from flaxnets.training import TASKS, Run, evaluate, load_run, predict
from flaxnets.weights import save_weights

PETS = ["cat", "dog", "owl"]


def make_run(folder: Path, arch: str, dataset: str | None, model_options: dict, **config) -> Path:
    """Create the folder of a trained run."""
    entry = flaxnets.registry.get_entry(arch)
    folder.mkdir(parents=True)
    written = {
        "arch": arch, "dataset": dataset, "task": entry.task, "input_shape": entry.input_shape,
        "model_options": model_options, **config,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(written))
    save_weights(flaxnets.create_model(arch, rngs=nnx.Rngs(1), **model_options), folder / "best.safetensors")
    return folder


def write_images(root: Path, names: dict[str, int], seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for name, count in names.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (28, 28), np.uint8)).save(root / name / f"{i}.png")
    return root


def evaluated(capsys, *arguments: object) -> tuple[str, dict[str, list[str]]]:
    """Run ``flaxnets evaluate``, and return its first line, and the examples, recall and precision of each class."""
    assert main(["evaluate", *map(str, arguments)]) == 0, capsys.readouterr().err
    head, _, *rows = capsys.readouterr().out.splitlines()
    return head, {name: numbers for name, *numbers in (row.rsplit(maxsplit=3) for row in rows)}


# The classes of a run in their order, and the number of images of each class in a folder.
MATCHED: dict[str, tuple[list[str], dict[str, int]]] = {
    "all": (PETS, {"cat": 10, "dog": 10, "owl": 10}),
    "one is absent": (PETS, {"dog": 10, "owl": 15}),
    "the last is absent": (PETS, {"cat": 5, "dog": 10}),
    "a single class": (PETS, {"owl": 9}),
    "a single image": (PETS, {"owl": 1, "cat": 1}),
    "an empty folder": (PETS, {"owl": 5, "cat": 0}),
    "another order": (["owl", "cat", "dog"], {"cat": 10, "dog": 5, "owl": 10}),
    "numbers of an older version": (["1", "10", "11", "2"], {"1": 5, "2": 10, "10": 15, "11": 5}),
    "parts that lack classes": (PETS, {"train/cat": 1, "test/owl": 3, "test/dog": 2}),
    "only a part to test on": (PETS, {"Test/owl": 3, "Test/dog": 2}),
    "only a part to learn from": (PETS, {"train/owl": 5, "train/dog": 10}),
    "classes named as parts": (["test", "train"], {"train": 5, "test": 5}),
    "another way to write a letter": (["Kühe", "owl"], {unicodedata.normalize("NFD", "Kühe"): 5, "owl": 5}),
}


@pytest.mark.parametrize("kind", ["folder", "csv"])
@pytest.mark.parametrize(("classes", "files"), MATCHED.values(), ids=MATCHED)
def test_a_folder_is_evaluated_by_the_names_of_its_classes(kind, classes, files, tmp_path, capsys):
    write_images(tmp_path / "images", files)
    place = tmp_path / "images"
    if kind == "csv":
        rows = [f"{path.relative_to(place)};{path.parent.name}" for path in sorted(place.rglob("*.png"))]
        (place / "pets.csv").write_text("\n".join(["path;label", *rows]))
        place = place / "pets.csv"
    run = load_run(make_run(tmp_path / "run", "mlp", "mnist", {"num_classes": len(classes)}, classes=classes))
    test = load(f"{kind}:{place}", names=classes).part("test")
    names = [unicodedata.normalize("NFC", path.parent.name) for path in test.paths]
    assert [classes[target] for target in test.targets] == names
    ((images, _),) = test.batches(np.arange(len(test)), len(test), image_shape=(1, 28, 28))
    found = [classes[i] for i in predict(run.model, Split(images, test.targets), transform=run.transform).argmax(-1)]

    head, rows = evaluated(capsys, tmp_path / "run", "--dataset", f"{kind}:{place}")
    right = [name for name, its_name in zip(names, found, strict=True) if name == its_name]
    assert f"accuracy {len(right) / len(names):.2%}  {len(names)} examples" in head
    for name in classes:
        share = [f"{right.count(name) / each.count(name):.2%}" if name in each else "-" for each in (names, found)]
        assert rows[name] == [str(names.count(name)), *share]


UNKNOWN: dict[str, tuple[list[str], list[str], str]] = {
    "two": (PETS, ["cat", "emu", "yak"], "does not know the classes 'emu', 'yak'; it knows 'cat', 'dog', 'owl'"),
    "one that is near": (PETS, ["cat", "dogs"], "does not know the class 'dogs'; did you mean 'dog'?"),
    "capitals": (PETS, ["Cat", "dog"], "does not know the class 'Cat'; did you mean 'cat'?"),
    "a leading zero": (["1", "2"], ["01", "2"], "does not know the class '01'; did you mean '1'?"),
    "a fraction": (["1", "2"], ["1.0", "2"], "does not know the class '1.0'; known: 1, 2"),
    "twelve": (PETS, [f"x{i}" for i in range(12)], "'x9'; it knows 'cat', 'dog', 'owl'"),
    "parts of known and unknown ones": (PETS, ["train/cat", "train/emu", "val/cat"], "not know the class 'emu'"),
}


@pytest.mark.parametrize(("classes", "folders", "message"), UNKNOWN.values(), ids=UNKNOWN)
def test_a_class_that_the_network_does_not_know_is_an_error(classes, folders, message, tmp_path, capsys):
    write_images(tmp_path / "images", dict.fromkeys(folders, 1))
    make_run(tmp_path / "run", "mlp", "mnist", {"num_classes": len(classes)}, classes=classes)
    assert main(["evaluate", str(tmp_path / "run"), "--dataset", f"folder:{tmp_path / 'images'}"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


DIGITS = [*"0123456789"]


def test_classes_of_named_datasets_are_matched_too(tmp_path, capsys):
    shuffled = [*"5038172946"]
    make_run(tmp_path / "run", "mlp", "mnist", {}, classes=shuffled)
    _, rows = evaluated(capsys, tmp_path / "run", "--dataset", "digits")
    expected = np.bincount(load("digits").test.targets)
    assert {name: int(numbers[0]) for name, numbers in rows.items()} == {str(i): n for i, n in enumerate(expected)}
    make_run(tmp_path / "clothes", "mlp", "fashion-mnist", {}, classes=["Shirt", *DIGITS[1:]])
    assert main(["evaluate", str(tmp_path / "clothes"), "--dataset", "digits"]) == 2
    assert "--dataset digits: digits: the network does not know the class '0'; " in capsys.readouterr().err


@pytest.mark.parametrize(("count", "status"), [(10, 0), (9, 2), (11, 2)])
def test_without_names_the_numbers_of_classes_must_be_equal(count, status, tmp_path, capsys):
    make_run(tmp_path / "run", "mlp", "mnist", {"num_classes": count}, classes=None)
    assert main(["evaluate", str(tmp_path / "run"), "--dataset", "digits"]) == status
    if status:
        assert f"--dataset digits has 10 classes, and the network knows {count}" in capsys.readouterr().err


def test_outputs_without_a_name_are_numbers(tmp_path, capsys):
    write_images(tmp_path / "images", {"cat": 5, "dog": 5})
    # mlp has no option for the size of the images.
    make_run(tmp_path / "run", "mlp", None, {"num_classes": 4}, classes=["cat", "dog"])
    _, rows = evaluated(capsys, tmp_path / "run", "--dataset", f"folder:{tmp_path / 'images'}")
    assert [*rows] == ["cat", "dog", "2", "3"]
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "images/cat/0.png"), "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert {each["class"] for each in json.loads(line)["classes"]} == {"cat", "dog", "2", "3"}


def test_a_run_evaluates_with_its_columns_and_may_skip_bad_files(tmp_path, capsys):
    write_images(tmp_path / "pets", {"cat": 5, "dog": 5})
    rows = [f"{name}/{i}.png;{i};{name}" for name in ("cat", "dog") for i in range(5)]
    (tmp_path / "pets/pets.csv").write_text("\n".join(["snap;age;what", *rows]))
    dataset, columns = f"csv:{tmp_path / 'pets/pets.csv'}", {"csv_image_column": "snap", "csv_label_column": "what"}
    run = make_run(tmp_path / "run", "mlp", dataset, {"num_classes": 2}, classes=["dog", "cat"], **columns)
    assert evaluated(capsys, run)[0].endswith("2 examples")
    (tmp_path / "pets/cat/1.png").write_bytes(b"")
    assert main(["evaluate", str(run), "--split", "all"]) == 2
    assert f"1 cannot be used. Fix: repair them, or skip them with --bad-files skip:\n{tmp_path}" in (
        capsys.readouterr().err
    )
    head, rows = evaluated(capsys, run, "--split", "all", "--bad-files", "skip")
    assert head.endswith("9 examples")
    assert [(name, numbers[0]) for name, numbers in rows.items()] == [("dog", "5"), ("cat", "4")]
    assert main(["evaluate", str(run), "--csv-label-column", "breed"]) == 2
    assert "no column 'breed'. Expected one of 'snap', 'age', 'what'" in capsys.readouterr().err


def test_a_folder_is_predicted_as_a_dataset_reads_it(tmp_path, capsys):
    write_images(tmp_path / "pets", {"cat": 2, "@eaDir": 1, ".hidden": 1, "__MACOSX/cat": 1})
    (tmp_path / "pets/cat/Thumbs.db").write_bytes(b"")
    (tmp_path / "pets/cat/notes.txt").write_text("no image")
    (tmp_path / "pets/more").symlink_to("cat")
    run = make_run(tmp_path / "run", "mlp", None, {"num_classes": 2}, classes=["dog", "cat"])
    assert main(["predict", str(run), str(tmp_path / "pets"), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["image"] for line in lines] == [f"{tmp_path}/pets/cat/{i}.png" for i in range(2)]


def test_labels_of_every_kind_of_examples_are_renamed(tmp_path):
    write_images(tmp_path, {f"{part}/{name}": 2 for part in ("train", "val", "test") for name in PETS})
    for data in (load(f"folder:{tmp_path}"), load("digits")):
        names = [*reversed(data.classes or ()), "another"]
        renamed = relabel(data, names)
        assert (renamed.classes, renamed.model_options) == (tuple(names), {"num_classes": len(names)})
        for part in ("train", "test", "all"):
            before, after = data.part(part).targets, renamed.part(part).targets
            assert (after == len(names) - 2 - before).all()
            assert after.dtype == before.dtype
        with pytest.raises(DataError, match=f"does not know the class '{names[0]}'"):
            relabel(data, names[1:])


ORDERS = [
    (["10", "9", "1"], ["1", "9", "10"]),
    (["10", "9", "1", "cat"], ["1", "10", "9", "cat"]),
    (["0100", "20", "003"], ["003", "20", "0100"]),
    (["1", "01", "001"], ["001", "01", "1"]),
    (["-1", "1", "0", "+2"], ["-1", "0", "1", "+2"]),
    (["1.5", "10", "1.25"], ["1.25", "1.5", "10"]),
    (["1e3", "5", "20"], ["1e3", "20", "5"]),
    (["9" * 200 + "1", "9" * 200, "9" * 200 + "0"], ["9" * 200, "9" * 200 + "0", "9" * 200 + "1"]),
    (["1 ", "2", "10"], ["1 ", "10", "2"]),
    (["nan", "2", "10"], ["10", "2", "nan"]),
    (["B", "a", "ä"], ["B", "a", "ä"]),
]


@pytest.mark.parametrize(("names", "expected"), ORDERS)
def test_names_that_are_all_numbers_are_sorted_as_numbers(names, expected):
    assert [*sort_classes(names)] == expected


def plan_for(dataset: str, arch: str = "mlp") -> Plan:
    return make_plan(Options(arch=arch, dataset=dataset))


CHANGES: dict[str, tuple[dict[str, int], str]] = {
    "renamed": ({"cat": 2, "emu": 2, "owl": 2}, "classes: 'dog' missing, 'emu' new here"),
    "added": ({"cat": 2, "dog": 2, "owl": 2, "yak": 2, "emu": 2}, "classes: 'emu', 'yak' new here"),
    "removed": ({"cat": 2, "dog": 2}, "classes: 'owl' missing here"),
}


@pytest.mark.parametrize(("files", "message"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("resume", ["run", "auto"])
def test_a_run_is_not_resumed_with_other_classes(resume, files, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "pets", {"cat": 2, "dog": 2, "owl": 2})
    run = Run.create("runs", "mlp", plan_for("folder:pets").record())
    (tmp_path / "pets").rename("before")
    write_images(tmp_path / "pets", files)
    monkeypatch.setattr(train, "_train", lambda plan, run, *rest: print("trained in", run.path) or 0)
    options = ["--arch", "mlp", "--dataset", "folder:pets", "--resume", str(run.path) if resume == "run" else "auto"]
    status = run_command(train.main, options, "train.py")
    said = capsys.readouterr()
    if resume == "run":
        assert (status, said.err.count("\n")) == (2, 1)
        assert message in said.err
    else:  # --resume auto with other options: no such run
        assert (status, said.err) == (0, "")
        assert "no run with these options in runs" in said.out


def test_a_resumed_run_keeps_the_order_of_its_classes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "pets", {"1": 5, "2": 5, "10": 5})
    plan = plan_for("folder:pets")
    assert plan.data.classes == ("1", "2", "10")
    older = ["1", "10", "2"]  # the order of an older version
    run = Run.create("runs", "mlp", {**plan.record(), "classes": older})
    plans = []
    monkeypatch.setattr(train, "_train", lambda plan, run, *rest: plans.append((plan, run.path)) or 0)
    for resume in (str(run.path), "auto"):
        options = ["--arch", "mlp", "--dataset", "folder:pets", "--resume", resume]
        assert run_command(train.main, options, "train.py") == 0
    for resumed, path in plans:
        assert path == run.path
        assert [*resumed.data.classes] == [*resumed.config.classes] == older
        for part in (resumed.data.train, resumed.data.test):
            assert [older[target] for target in part.targets] == [path.parent.name for path in part.paths]


TEXT = "the owl and the cat sat on the mat\n" * 40


def write_text(path: Path, text: str) -> str:
    path.write_text(text, newline="")
    return f"text:{path}"


def language_run(folder: Path, own: str, characters: str | None) -> Path:
    size = len(load(own).vocabulary) if characters is None else len(characters) + 1
    options = {"vocab_size": size, "num_hiddens": 8}
    return make_run(folder, "rnn_lm", own, options, **({} if characters is None else {"vocabulary": characters}))


@pytest.mark.parametrize("recorded", [True, False])
def test_another_text_is_evaluated_with_the_characters_of_the_run(recorded, tmp_path, capsys):
    own = write_text(tmp_path / "own.txt", TEXT)
    other = write_text(tmp_path / "other.txt", TEXT.replace("mat", "Mat").replace("owl", "cow"))
    characters = "".join(sorted(set(TEXT)))
    run = load_run(language_run(tmp_path / "run", own, characters if recorded else None))
    assert main(["evaluate", str(run.path), "--dataset", other]) == 0
    out, err = capsys.readouterr()
    assert err == f"{other}: the network does not know 'M': 40 of {len(TEXT):,} characters are <unk>\n"
    data = load(other, names=characters, warn=lambda words: None)
    text = Path(other.removeprefix("text:")).read_text()
    known = "".join(each if each in characters else "<unk>" for each in text[len(text) * 9 // 10 :])
    assert known.startswith(data.vocabulary.decode(data.test.inputs[0]))
    task = TASKS["language"]
    expected = evaluate(run.model, data.test, objective=task.objective, transform=run.transform)
    assert f"perplexity {expected['test_perplexity']:.4g}" in out


def test_a_run_of_an_older_version_whose_text_is_gone_says_so(tmp_path, capsys):
    own, other = (write_text(tmp_path / name, TEXT) for name in ("own.txt", "other.txt"))
    language_run(tmp_path / "run", own, None)
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    write_text(tmp_path / "own.txt", TEXT + "!")
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    (tmp_path / "own.txt").unlink()
    assert main(["evaluate", str(tmp_path / "run"), "--dataset", other]) == 2
    changed, gone = capsys.readouterr().err.splitlines()
    size = len(set(TEXT)) + 1
    assert f"has {size + 1} characters, and {tmp_path / 'run'} knows {size}" in changed
    assert "does not say which characters it knows, those of text:" in gone


def test_a_run_records_the_characters_of_its_text(tmp_path):
    own = write_text(tmp_path / "own.txt", TEXT)
    plan = plan_for(own, "rnn_lm")
    assert plan.config.vocabulary == "".join(sorted(set(TEXT)))
    assert plan.differences(RunConfig.from_json(json.loads(json.dumps(plan.record())))) == {}
    # An older version did not write the vocabulary.
    assert plan.differences(dataclasses.replace(plan.config, vocabulary=None)) == {}
    write_text(tmp_path / "own.txt", TEXT.replace("w", "W"))
    changed = plan_for(own, "rnn_lm")
    assert changed.differences(plan.config)["vocabulary"] == "vocabulary: 'w' missing, 'W' new here"
    assert plan.with_classes(None) is plan
    assert dataclasses.replace(plan, data=load("digits")).with_classes(DIGITS).data.classes == tuple(DIGITS)
