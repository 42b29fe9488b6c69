"""Tests of image folders: names of the parts, files that systems leave, links, and long lists of bad files."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from image_data import encoded, fill

from flaxnets.data import DataError, load
from flaxnets.data.complaints import Complaint, report


def counts(part, classes: tuple[str, ...]) -> dict[str, int]:
    labels = [classes[target] for target in part.targets]
    return {label: labels.count(label) for label in sorted(set(labels))}


# The folders of the training, test and held-out part, and the name of the second part.
PARTS: dict[str, tuple[str, str, str | None, str]] = {
    "train and val": ("train", "val", None, "val"),
    "train and validation": ("train", "validation", None, "val"),
    "capitals": ("Train", "Val", None, "val"),
    "all capitals": ("TRAIN", "TEST", None, "test"),
    "training and testing": ("training", "testing", None, "test"),
    "valid": ("train", "valid", None, "val"),
    "dev": ("train", "Dev", None, "val"),
    "eval": ("train", "eval", None, "val"),
    "sets": ("training_set", "test_set", None, "test"),
    "one word": ("trainset", "valset", None, "val"),
    "data": ("train-data", "Validation Data", None, "val"),
    "three": ("train", "val", "test", "val"),
    "three others": ("Training", "Validation", "Testing", "val"),
    "dev and test": ("train", "dev", "test", "val"),
    "abbreviations": ("trn", "validate", "tst", "val"),
    "years": ("train2017", "val2017", "test2017", "val"),
    "words before": ("seg_train", "seg_test", None, "test"),
    "words around": ("1-pets_train_128", "2-pets_valid_128", None, "val"),
}


@pytest.mark.parametrize(("train", "test", "held_out", "name"), PARTS.values(), ids=PARTS)
def test_parts_are_known_by_their_usual_names(train, test, held_out, name, tmp_path):
    fill(tmp_path, {f"{train}/a": 4, f"{train}/b": 3, f"{test}/a": 2, f"{test}/b": 1, "runs": 0, ".git/train": 1})
    fill(tmp_path, {"__MACOSX/train/a": 1} | ({f"{held_out}/b": 5} if held_out else {}))
    data = load(f"folder:{tmp_path}")
    assert data.classes == ("a", "b")
    expected = {"train": {"a": 4, "b": 3}, name: {"a": 2, "b": 1}} | ({"test": {"b": 5}} if held_out else {})
    assert {part: counts(data.part(part), data.classes) for part in expected} == expected
    assert data.part("train") is data.train
    assert data.part(name) is data.test
    assert len(data.part("all")) == sum(sum(each.values()) for each in expected.values())
    missing = next(iter({"val", "test"} - {*expected}), "dev")
    with pytest.raises(DataError, match=f"no part '{missing}'. Expected one of: {', '.join([*expected, 'all'])}"):
        data.part(missing)


def test_a_part_to_learn_from_alone_is_split(tmp_path):
    fill(tmp_path, {"train/train": 5, "train/bus": 5})  # classes may have the names of parts
    data = load(f"folder:{tmp_path}")
    assert data.classes == ("bus", "train")
    assert [len(data.part(name)) for name in ("train", "test", "all")] == [8, 2, 10]


def test_a_held_out_part_is_read_when_it_is_wanted(tmp_path):
    fill(tmp_path, {"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1, "test": 3})
    data = load(f"folder:{tmp_path}")
    for name in ("test", "all"):
        with pytest.raises(DataError, match=r"3 cannot be used.*\n.*test/0\.png: expected a folder of images, got a"):
            data.part(name)
    fill(tmp_path, {"test/c": 1})
    with pytest.raises(DataError, match="the network does not know the class 'c'"):
        data.part("test")


MIXTURES: dict[str, tuple[dict[str, int], str]] = {
    "vehicles": (
        {"train": 3, "bus": 3, "car": 3},
        "'train' are parts of a dataset, 'bus', 'car' are not.* if 'train' is a class, rename it or move all classes",
    ),
    "a third folder": ({"train/a": 2, "val/a": 2, "extra/a": 1}, "'train', 'val' are parts.* 'extra' are not"),
    "another name of a part": ({"Train/a": 2, "holdout/a": 2}, "'Train' are parts of a dataset, 'holdout' are not"),
    "a class called Dev": ({"Dev": 2, "cat": 2}, "'Dev' are parts of a dataset, 'cat' are not"),
    "two of one part": ({"train/a": 2, "val/a": 2, "validation/a": 2}, "val' and 'validation' are both the part 'val'"),
    "two to learn from": ({"train/a": 2, "Train/a": 2, "test/a": 2}, "'Train' and 'train' are both the part 'train'"),
    "words and a third": ({"seg_train/a": 2, "seg_test/a": 2, "seg_pred": 2}, "'seg_train' are .*'seg_pred' are"),
    "two in words": ({"train_a/a": 2, "train_b/a": 2, "val_a/a": 2}, "'train_a' and 'train_b' are both the part"),
    "parts in classes": ({"a/Test": 2, "a/Train": 2, "b/Train": 2}, "'a' has the parts .*move a/Train to Train/a"),
    "none to learn from": ({"val/a": 2, "val/b": 2}, "'val' but no folder of training images. .*or use folder:.*/val"),
    "two without": ({"Testing/a": 2, "val/b": 2}, "a folder 'val' but no folder of training images"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "message"), MIXTURES.values(), ids=MIXTURES)
def test_a_mixture_of_parts_and_classes_is_an_error(files, message, tmp_path):
    with pytest.raises(DataError, match=message):
        load(f"folder:{fill(tmp_path, files)}")


@pytest.mark.parametrize(
    "files",
    [{"bullet train": 5, "crash test": 5}, {"bullet train/a": 5, "steam train/b": 5}, {"trainer/x": 5, "tester/x": 5}],
    ids=["images", "one part", "other words"],
)
def test_classes_whose_names_have_words_of_parts_are_classes(files, tmp_path):
    classes = sorted({name.partition("/")[0] for name, count in files.items() if count})
    assert load(f"folder:{fill(tmp_path, files)}").classes == (*classes,)


def test_classes_that_a_network_knows_are_no_parts(tmp_path):
    fill(tmp_path, {"train": 5, "tram": 5})
    data = load(f"folder:{tmp_path}", names=["tram", "train"])  # the classes of a run of an older version
    assert counts(data.part("all"), ("tram", "train")) == {"train": 5, "tram": 5}


LEFTOVERS = (
    "Thumbs.db", "thumbs.db", "desktop.ini", "Desktop.ini", "ehthumbs.db", ".DS_Store", "._0.png", ".hidden.png",
    "Icon\r", "0.png:Zone.Identifier", "Picasa.ini", "ZbThumbnail.info",
)  # fmt: skip
LEFTOVER_FOLDERS = (
    "@eaDir", "__MACOSX", "$RECYCLE.BIN", "lost+found", ".ipynb_checkpoints", ".thumbnails", "__pycache__",
    "System Volume Information", "@Recycle", "#recycle", ".Trash-1000", "@tmp", "RECYCLER", "Temporary Items",
)  # fmt: skip


def test_what_systems_leave_is_skipped_without_a_word(tmp_path):
    levels = ("", "train", "train/a", "train/b/deeper", "val", "val/b")
    fill(tmp_path, {"train/a": 2, "train/b/deeper": 3, "val/a": 1, "val/b": 1})
    for level in levels:
        for name in LEFTOVERS:
            (tmp_path / level / name).write_bytes(b"no image")
        fill(tmp_path / level, dict.fromkeys(LEFTOVER_FOLDERS, 1))
    data = load(f"folder:{tmp_path}", warn=pytest.fail)
    assert (data.classes, len(data.train), len(data.test)) == (("a", "b"), 5, 2)


def test_names_may_be_long_or_of_any_script(tmp_path):
    decomposed = unicodedata.normalize("NFD", "Kühe")
    names = {"猫 😺": 2, "x" * 255: 2, "Größe 'a' \"b\"": 2, "a,b;c": 2, f"{decomposed}": 2}
    fill(tmp_path, {f"train/{name}": count for name, count in names.items()})
    fill(tmp_path, {f"val/{unicodedata.normalize('NFC', name)}": 1 for name in names})
    (tmp_path / "train" / "猫 😺" / ("y" * 247 + ".JPEG")).write_bytes(encoded("JPEG"))
    data = load(f"folder:{tmp_path}")
    assert {*data.classes} == {unicodedata.normalize("NFC", name) for name in names}
    assert (len(data.train), len(data.test)) == (11, 5)


def link(path: Path, target: str | Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


# Links in a folder with the classes a and b, and the number of images that they add to each class.
FOLLOWED: dict[str, tuple[Callable[[Path], object], dict[str, int]]] = {
    "a class": (lambda root: link(root / "c", ".pool/c"), {"c": 3}),
    "an absolute link": (lambda root: link(root / "c", root / ".pool/c"), {"c": 3}),
    "a link to a link": (lambda root: (link(root / "c", ".pool/d"), link(root / ".pool/d", "c")), {"c": 3}),
    "a deeper folder": (lambda root: link(root / "a/more", "../.pool/c"), {"a": 3}),
    "a file": (lambda root: link(root / "a/more.png", "../.pool/c/0.png"), {"a": 1}),
    "a text beside the classes": (lambda root: link(root / "README", ".pool/notes"), {}),
}


@pytest.mark.parametrize("top", ["pets", "linked"])
@pytest.mark.parametrize(("make", "added"), FOLLOWED.values(), ids=FOLLOWED)
def test_links_inside_the_folder_are_followed(make, added, top, tmp_path):
    root = fill(tmp_path / "pets", {"a": 2, "b": 2, ".pool/c": 3})
    (root / ".pool" / "notes").write_text("no image")
    (tmp_path / "linked").symlink_to(root)
    make(root)
    data = load(f"folder:{tmp_path / top}", warn=pytest.fail)
    assert counts(data.part("all"), data.classes) == {
        name: {"a": 2, "b": 2}.get(name, 0) + added.get(name, 0) for name in {"a": 2, "b": 2} | added
    }


def test_a_part_may_be_a_link(tmp_path):
    fill(tmp_path, {"train/a": 2, "train/b": 2, ".store/a": 1, ".store/b": 1})
    link(tmp_path / "val", ".store")
    assert len(load(f"folder:{tmp_path}").part("val")) == 2


# Links that are not followed: their place in the folder, their target, and the reported reason.
REFUSED: dict[str, tuple[str, str, str]] = {
    "a class outside": ("c", "../forbidden", "c: a link that leads outside of"),
    "an absolute one": ("c", "{root}/../forbidden", "c: a link that leads outside of"),
    "a deeper one outside": ("a/more", "../../forbidden", "a/more: a link that leads outside of"),
    "nowhere": ("c", "nowhere", "c: no such file"),
    "itself": ("c", "c", "c: cannot be read: Too many levels of symbolic links"),
    "the folder itself": ("c", ".", "c/c: a link to a folder that was read before"),
    "a folder above": ("a/up", "..", "a/up/a: a link to a folder that was read before"),
    "another class": ("c", "b", "c: the same folder as {root}/b"),
    "another class, by a link before it": ("0", "a", "a: the same folder as {root}/0"),
    "the same folder": ("a/self", "../a", "a/self: a link to a folder that was read before"),
    "an image beside the classes": ("c.png", "a/0.png", "c.png: expected a folder of images, got a file"),
}


@pytest.mark.parametrize(("name", "target", "message"), REFUSED.values(), ids=REFUSED)
def test_links_out_of_the_folder_and_loops_are_complained_of(name, target, message, tmp_path):
    root = fill(tmp_path / "pets", {"a": 2, "b": 2})
    fill(tmp_path, {"forbidden": 1})
    link(root / name, target.format(root=root))
    with pytest.raises(DataError, match=f"1 cannot be used.*\n{root}/{message.format(root=root)}"):
        load(f"folder:{root}")


def test_parts_must_not_be_one_folder(tmp_path):
    fill(tmp_path, {"train/a": 2, "train/b": 2})
    link(tmp_path / "val", "train")
    with pytest.raises(DataError, match=r"2 cannot be used.*\n.*/val/a: the same folder as .*/train/a\n"):
        load(f"folder:{tmp_path}")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("bad_files", ["stop", "skip"])
@pytest.mark.parametrize(("count", "last"), [(10, ""), (11, "1 more"), (501, "491 more"), (1234, "1,224 more")])
def test_ten_complaints_are_shown_and_all_are_in_a_file(count, last, bad_files, cache):
    complaints = [Complaint(f"pets/{i}\udcff.png", "empty") for i in range(count)]
    for _ in range(2):  # the second report overwrites the file of the first
        said: list[str] = []
        if bad_files == "skip":
            report("folder:pets", complaints, bad_files, said.append)
        else:
            with pytest.raises(DataError, match=f"folder:pets: {count:,} cannot be used") as error:
                report("folder:pets", complaints, bad_files, pytest.fail)
            said += str(error.value).splitlines()[1:]
    assert [line.removeprefix("skipped: ") for line in said[:10]] == [*map(str, complaints[:10])]
    files = [*cache.rglob("*.txt")]
    assert len(files) == bool(last)
    assert said[10:] == ([f"... and {last}; all in {files[0]}"] if last else [])
    for file in files:
        assert file.read_text().splitlines() == [*map(str, complaints)]


def test_a_list_that_cannot_be_written_changes_nothing_else(cache):
    cache.write_text("a file, no folder")
    with pytest.raises(DataError, match=r"\.\.\. and 2 more; no list of all of them could be written: .*Not a direct"):
        report("folder:pets", [Complaint("x", "empty")] * 12, "stop", print)


def test_lists_of_two_datasets_are_two_files(cache):
    for name in ("folder:pets", "csv:pets.csv"):
        report(name, [Complaint("x", "empty")] * 12, "skip", [].append)
    assert len([*cache.rglob("bad-files-*.txt")]) == 2
