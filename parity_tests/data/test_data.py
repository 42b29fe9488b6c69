"""Tests of datasets, of the transforms from stored images and text to network inputs, and of text generation."""

import dataclasses
import gzip
import hashlib
import math
import struct
import sys
from collections.abc import Callable
from http.client import IncompleteRead
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any
from urllib.error import URLError

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.datasets

import flaxnets
from flaxnets.data import (
    DataError,
    Vocabulary,
    fit_images,
    letters_and_spaces,
    list_datasets,
    load,
    time_major,
    windows,
)
from flaxnets.data.files import read_idx
from flaxnets.data.openml import SOURCES
from flaxnets.training import generate


@pytest.mark.parametrize(
    ("name", "train", "test", "shape"), [("mnist", 4000, 1000, (1, 28, 28)), ("digits", 1437, 360, (1, 8, 8))]
)
def test_a_dataset_is_split_by_class_and_always_the_same_way(name, train, test, shape):
    data, again = load(name), load(name)
    assert data.train.inputs.shape == (train, *shape)
    assert data.test.inputs.shape == (test, *shape)
    assert data.model_options == {"num_classes": 10}
    assert data.classes == tuple("0123456789")
    assert data.train.inputs.dtype == np.uint8
    assert 250 < data.train.inputs.max() <= 255
    for part, other in ((data.train, again.train), (data.test, again.test)):
        np.testing.assert_array_equal(part.inputs, other.inputs)
        share = np.bincount(part.targets) / len(part)
        np.testing.assert_allclose(share, np.bincount(data.train.targets) / train, atol=0.01)
    images = {image.tobytes() for image in data.test.inputs}
    assert not images & {image.tobytes() for image in data.train.inputs}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minst", r"unknown dataset 'minst'; did you mean 'mnist'\?"),
        ("foldr:data/pets", r"unknown dataset 'foldr:data/pets'; did you mean 'folder:PATH'\?"),
        ("folder", r"unknown dataset 'folder'; did you mean 'folder:PATH'\?"),
        ("csv:", "did you mean 'csv:FILE'"),
        ("xyz", "known: cifar10, .*, topics, csv:FILE, folder:PATH, text:FILE"),
    ],
)
def test_an_unknown_dataset_raises(name, message):
    with pytest.raises(ValueError, match=message):
        load(name)


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("classification", ["cifar10", "digits", "fashion-mnist", "mnist", "mnist-full"]),
        ("language", ["topics"]),
        ("regression", ["diabetes", "line"]),
    ],
)
def test_datasets_are_listed_by_task(task, names, tmp_path, rng):
    for name in ("fashion-mnist", "mnist-full"):
        write_idx_files(tmp_path / name, rng)
    write_cifar_files(tmp_path / "cifar10", rng)
    assert list_datasets(task) == names
    assert {load(name, tmp_path).task for name in names} == {task}
    assert set(names) <= set(list_datasets())


def test_the_text_is_that_of_pythons_help():
    data = load("topics")
    assert data.vocabulary.tokens == ("<unk>", " ", *"abcdefghijklmnopqrstuvwxyz")
    assert data.model_options == {"vocab_size": 28}
    text = " ".join(topics[key] for key in sorted(topics)).lower()
    text = " ".join("".join(c if "a" <= c <= "z" else " " for c in text).split())
    start = len(text) * 9 // 10
    for part, own in ((data.train, text[:start]), (data.test, text[start:])):
        assert part.inputs.shape == part.targets.shape == ((len(own) - 1) // 35, 35)
        assert part.inputs.dtype == part.targets.dtype == np.int32
        for ids, shift in ((part.inputs, 0), (part.targets, 1)):
            assert data.vocabulary.decode(ids.ravel()) == own[shift : shift + ids.size]


def test_a_python_without_the_text_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ImportError, match=r"installed without pydoc_data\.topics"):
        load("topics")


@pytest.mark.parametrize(
    ("text", "expected"), [("A\n\n b", "a b"), ("Straße 7b", "stra e b"), ("x_y", "x y"), (" .", ""), ("", "")]
)
def test_what_is_no_letter_is_one_space(text, expected):
    assert letters_and_spaces(text) == expected


def test_a_vocabulary_gives_back_what_it_knows():
    vocabulary = Vocabulary(" xyz")
    assert vocabulary.decode(vocabulary.encode("zyx x")) == "zyx x"
    assert vocabulary.decode(vocabulary.encode("x?")) == "x<unk>"
    assert vocabulary.encode("").shape == (0,)


@pytest.mark.parametrize(("size", "count"), [(1, 0), (4, 0), (5, 1), (8, 1), (9, 2)])
def test_windows_are_full_and_each_letter_has_a_next_one(size, count):
    inputs, targets = windows(np.arange(size), 4)
    assert inputs.shape == targets.shape == (count, 4)
    np.testing.assert_array_equal(inputs.ravel(), np.arange(4 * count))
    np.testing.assert_array_equal(targets, inputs + 1)
    np.testing.assert_array_equal(time_major(inputs), inputs.T)


@pytest.mark.parametrize(("name", "train", "test", "features"), [("line", 1000, 200, 2), ("diabetes", 342, 100, 10)])
def test_points_are_always_split_the_same_way(name, train, test, features):
    data, again = load(name), load(name)
    assert data.model_options == {"n_features": features}
    for part, other, count in ((data.train, again.train, train), (data.test, again.test, test)):
        assert part.inputs.shape == (count, features)
        assert part.targets.shape == (count, 1)
        assert part.inputs.dtype == part.targets.dtype == np.float32
        np.testing.assert_array_equal(part.inputs, other.inputs)
        np.testing.assert_array_equal(part.targets, other.targets)
    assert not {row.tobytes() for row in data.test.inputs} & {row.tobytes() for row in data.train.inputs}


def test_the_line_is_the_line():
    for part in (load("line").train, load("line").test):
        columns = np.column_stack([part.inputs, np.ones(len(part))])
        solution, (residual,), *_ = np.linalg.lstsq(columns, part.targets[:, 0], rcond=None)
        np.testing.assert_allclose(solution, [2, -3.4, 4.2], atol=3e-3)
        assert residual / len(part) == pytest.approx(1e-4, rel=0.25)


def test_diabetes_is_standardised_by_its_training_part():
    data = load("diabetes")
    for columns in (data.train.inputs, data.train.targets):
        np.testing.assert_allclose(columns.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(columns.std(0), 1, atol=1e-5)
    assert 0.5 < data.test.targets.std() < 2


@pytest.mark.parametrize(
    ("images", "shape"),
    [((2, 1, 28, 28), (1, 96, 96)), ((2, 3, 28, 28), (1, 28, 28)), ((2, 1, 8, 8), (3, 5, 5)), ((2, 1, 2, 3), (6,))],
)
def test_images_take_the_networks_shape_and_stay_between_0_and_1(images, shape, rng):
    pixels = rng.integers(0, 256, images).astype(np.uint8)
    x = jax.jit(fit_images, static_argnums=1)(pixels, shape)
    assert x.shape == (2, *shape)
    assert x.min() >= 0
    assert x.max() <= 1
    np.testing.assert_allclose(x.mean(), pixels.mean() / 255, atol=0.1)


def test_images_of_the_right_shape_are_only_scaled(rng):
    pixels = rng.integers(0, 256, (2, 1, 4, 4)).astype(np.uint8)
    np.testing.assert_allclose(fit_images(pixels, (1, 4, 4)), pixels / 255, rtol=1e-6)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5), ()])
def test_images_that_cannot_fit_raise(shape):
    with pytest.raises(ValueError, match=r"images of shape \(1, 4, 4\) do not fit"):
        fit_images(np.zeros((2, 1, 4, 4), np.uint8), shape)


@pytest.mark.parametrize("name", ["rnn_lm", "gru_lm", "lstm_lm"])
def test_drawing_keeps_the_state_and_does_without_dropout(name, rng):
    model = flaxnets.create_model(name, vocab_size=6, num_hiddens=5, num_layers=2, dropout=0.5)
    model.train()
    prefix = rng.integers(0, 6, 3)
    # The low temperature selects the largest logit.
    drawn = generate(model, prefix, 8, key=jax.random.key(1), temperature=1e-6)
    assert model.rnn.training
    ids = prefix.tolist()
    for _ in range(8):
        logits, _ = model.eval()(jnp.array(ids)[:, None])
        ids.append(int(logits[-1].argmax()))
    assert drawn.tolist() == ids[3:]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_letters_are_drawn_as_often_as_the_temperature_says(temperature):
    model = flaxnets.create_model("rnn_lm", vocab_size=3, num_hiddens=2)
    model.dense.weight[...], model.dense.bias[...] = jnp.zeros((3, 2)), jnp.array([0.0, 1.0, -1.0])
    drawn, again, other = (
        generate(model, [0], 4000, key=jax.random.key(seed), temperature=temperature) for seed in (0, 0, 1)
    )
    expected = np.exp(np.array([0.0, 1.0, -1.0]) / temperature)
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 4000, expected / expected.sum(), atol=0.03)
    assert (drawn == again).all()
    assert (drawn != other).any()


@pytest.mark.parametrize(
    ("prefix", "length", "temperature", "message"),
    [
        ([], 3, 1.0, r"prefix_ids must be a sequence of at least one id, got shape \(0,\)"),
        ([[1]], 3, 1.0, r"at least one id, got shape \(1, 1\)"),
        ([1], 0, 1.0, "length must be positive, got 0"),
        ([1], 3, 0.0, "temperature must be positive, got 0.0"),
        ([1], 3, math.nan, "temperature must be positive, got nan"),
    ],
)
def test_what_cannot_be_drawn_raises(prefix, length, temperature, message):
    model = flaxnets.create_model("rnn_lm", vocab_size=3, num_hiddens=2)
    with pytest.raises(ValueError, match=message):
        generate(model, prefix, length, key=jax.random.key(0), temperature=temperature)


def idx(array: np.ndarray, code: int = 8) -> bytes:
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx_files(folder: Path, rng: np.random.Generator) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True)
    arrays = {}
    for part, count in (("train", 40), ("t10k", 20)):
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = rng.integers(0, 10, count, np.uint8)
    for name, array in arrays.items():
        (folder / name).write_bytes(idx(array))
    return arrays


def write_cifar_files(folder: Path, rng: np.random.Generator) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    records = {name: rng.integers(0, 256, (8, 3073), np.uint8) for name in names}
    for name, array in records.items():
        array[:, 0] %= 10
        (folder / name).write_bytes(array.tobytes())
    return records


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "folder"),
    [("mnist-full", "mnist-full"), ("mnist-full", "MNIST/raw"), ("fashion-mnist", "FashionMNIST/raw")],
)
def test_idx_files_are_read_where_they_are(name: str, folder: str, packed: bool, tmp_path: Path, rng):
    arrays = write_idx_files(tmp_path / folder, rng)
    if packed:
        for path in (tmp_path / folder).iterdir():
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    data = load(name, tmp_path)
    for part, split in (("train", data.train), ("t10k", data.test)):
        np.testing.assert_array_equal(split.inputs[:, 0], arrays[f"{part}-images-idx3-ubyte"])
        np.testing.assert_array_equal(split.targets, arrays[f"{part}-labels-idx1-ubyte"])
    assert (data.model_options, data.train.inputs.dtype, data.train.targets.dtype) == (
        {"num_classes": 10}, np.uint8, np.int32,
    )  # fmt: skip


@pytest.mark.parametrize("folder", ["cifar10", "cifar-10-batches-bin"])
def test_cifar_files_are_read_where_they_are(folder: str, tmp_path: Path, rng):
    records = write_cifar_files(tmp_path / folder, rng)
    data = load("cifar10", tmp_path)
    train = np.concatenate([array for name, array in records.items() if name != "test_batch.bin"])
    np.testing.assert_array_equal(data.train.inputs.reshape(40, -1), train[:, 1:])
    np.testing.assert_array_equal(data.train.targets, train[:, 0])
    assert data.classes[:3] == ("airplane", "automobile", "bird")
    assert data.test.inputs.shape == (8, 3, 32, 32)


@pytest.mark.parametrize("kind", ["u1", "i1", ">i2", ">i4", ">f4", ">f8"])
def test_idx_arrays_of_every_type_are_read(kind: str, tmp_path: Path, rng):
    array = rng.integers(0, 100, (2, 3, 4)).astype(kind)
    codes = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}
    (tmp_path / "file").write_bytes(idx(array, codes[kind]))
    np.testing.assert_array_equal(read_idx(tmp_path / "file"), array)


def _truncated(content: bytes) -> bytes:
    return content[:-5]


DAMAGED: list[tuple[str, str, Callable[[bytes], bytes], str]] = [
    ("mnist-full", "train-images-idx3-ubyte", _truncated, r"31,355 bytes of data, where its shape \(40, 28, 28\)"),
    ("mnist-full", "train-images-idx3-ubyte", lambda content: b"", "no IDX file, it begins with nothing"),
    ("mnist-full", "train-images-idx3-ubyte", lambda content: b"<html>", "no IDX file, it begins with 3c 68 74 6d"),
    ("mnist-full", "train-images-idx3-ubyte", lambda content: content[:9], "no IDX file"),
    ("mnist-full", "t10k-images-idx3-ubyte", lambda content: content + b"x", "15,681 bytes of data"),
    ("mnist-full", "t10k-images-idx3-ubyte", lambda c: gzip.compress(c)[:-9], "damaged, gzip says"),
    ("mnist-full", "t10k-images-idx3-ubyte", lambda c: idx(np.zeros((20, 8, 8), np.uint8)), "expected uint8 images"),
    ("mnist-full", "t10k-labels-idx1-ubyte", lambda c: idx(np.zeros(19, np.uint8)), "expected 20 labels"),
    ("mnist-full", "t10k-labels-idx1-ubyte", lambda c: c[:-1] + b"\x0a", "label 10 of example 19, expected 0 to 9"),
    ("cifar10", "data_batch_3.bin", _truncated, "24,579 bytes, expected records of 3,073"),
    ("cifar10", "data_batch_3.bin", lambda content: b"", "0 bytes, expected records of 3,073"),
    ("cifar10", "test_batch.bin", lambda content: b"\xff" + content[1:], "label 255 of example 0"),
]


@pytest.mark.parametrize(("name", "file", "damage", "message"), DAMAGED)
def test_damaged_files_are_named(name: str, file: str, damage: Any, message: str, tmp_path: Path, rng):
    (write_cifar_files if name == "cifar10" else write_idx_files)(tmp_path / name, rng)
    path = tmp_path / name / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"{path}: .*{message}"):
        load(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnist-full", "no files of mnist-full: put train-images-idx3-ubyte, .*, into .*mnist-full or .*MNIST/raw"),
        ("fashion-mnist", "no files of fashion-mnist: put train-images-idx3-ubyte"),
        ("cifar10", "no files of cifar10: put data_batch_1.bin to data_batch_5.bin and test_batch.bin"),
    ],
)
def test_files_that_are_not_there_are_asked_for(name: str, message: str, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=message):
        load(name, tmp_path)


def test_one_file_that_is_not_there_is_named(tmp_path: Path, rng):
    write_idx_files(tmp_path / "mnist-full", rng)
    (tmp_path / "mnist-full" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="t10k-labels-idx1-ubyte: no such file"):
        load("mnist-full", tmp_path)


FETCHED = {"mnist-full": (1, 28, 28), "fashion-mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


@pytest.fixture
def openml(monkeypatch: pytest.MonkeyPatch, rng) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Replace OpenML's datasets, and return them by id. Each has ten examples, eight of them for training."""
    held = {}
    for name, shape in FETCHED.items():
        source = dataclasses.replace(SOURCES[name], train=8, test=2)
        monkeypatch.setitem(SOURCES, name, source)
        held[source.data_id] = rng.integers(0, 256, (10, math.prod(shape))), rng.integers(0, 10, 10).astype("U1")

    def fetch_openml(*, data_id: int, return_X_y: bool, as_frame: bool, cache: bool) -> tuple[np.ndarray, np.ndarray]:
        pixels, labels = held.pop(data_id)  # pop: each dataset is fetched once
        return pixels, labels.astype(object)

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch_openml)
    return held


@pytest.mark.parametrize("name", FETCHED)
def test_what_is_fetched_is_kept(name: str, openml, tmp_path: Path):
    pixels, labels = openml[SOURCES[name].data_id]
    for _ in range(2):
        data = load(name, tmp_path, download=True)
        for part, chosen in ((data.train, slice(8)), (data.test, slice(8, None))):
            np.testing.assert_array_equal(part.inputs, pixels[chosen].reshape(-1, *FETCHED[name]))
            np.testing.assert_array_equal(part.targets, labels[chosen].astype(int))
            assert (part.inputs.dtype, part.targets.dtype) == (np.uint8, np.int32)
    assert SOURCES[name].data_id not in openml
    np.testing.assert_array_equal(load(name, tmp_path).test.targets, labels[8:].astype(int))
    names = {path.name for path in (tmp_path / name).iterdir()}
    assert names == {"openml.npz", "openml.npz.sha256"}
    digest, named = (tmp_path / name / "openml.npz.sha256").read_text().split()
    assert (digest, named) == (hashlib.sha256((tmp_path / name / named).read_bytes()).hexdigest(), "openml.npz")


def test_files_that_are_there_are_not_fetched(openml, tmp_path: Path, rng):
    arrays = write_idx_files(tmp_path / "mnist-full", rng)
    data = load("mnist-full", tmp_path, download=True)
    np.testing.assert_array_equal(data.test.targets, arrays["t10k-labels-idx1-ubyte"])
    assert len(openml) == 3


ALTERED: dict[str, tuple[str, Callable[[bytes], bytes | None], str]] = {
    "a bit": ("openml.npz", lambda c: c[:500] + bytes([c[500] ^ 1]) + c[501:], "changed since the download"),
    "half": ("openml.npz", lambda c: c[: len(c) // 2], "changed since the download"),
    "digest": ("openml.npz.sha256", lambda c: b"0" * 64, "has 0{64}. Fix: delete both files and download again"),
    "empty digest": ("openml.npz.sha256", lambda c: b"", "openml.npz.sha256 has no digest"),
    "no digest": ("openml.npz.sha256", lambda c: None, "openml.npz.sha256 has no digest"),
}


@pytest.mark.parametrize(("file", "alter", "message"), ALTERED.values(), ids=ALTERED)
def test_what_was_altered_since_it_was_fetched_is_not_used(file: str, alter: Any, message: str, openml, tmp_path: Path):
    load("mnist-full", tmp_path, download=True)
    path = tmp_path / "mnist-full" / file
    altered = alter(path.read_bytes())
    path.unlink() if altered is None else path.write_bytes(altered)
    with pytest.raises(DataError, match=rf"mnist-full/openml\.npz: .*{message}"):
        load("mnist-full", tmp_path, download=True)


NOT_FETCHED: dict[str, tuple[Exception | tuple[np.ndarray, np.ndarray], str]] = {
    "offline": (URLError("no route to host"), "urlopen error no route to host"),
    "cut off": (IncompleteRead(b""), r"IncompleteRead\(0 bytes read\)"),
    "wrong MD5": (ValueError("md5 checksum of local file does not match"), "d/554: md5 checksum of local file"),
    "too few": ((np.zeros((9, 784)), np.zeros(9)), r"expected 10 images of shape \(1, 28, 28\), .* of \(9, 784\)"),
    "too bright": ((np.full((10, 784), 256), np.zeros(10)), "10 images of shape .*, 0 to 255"),
    "no numbers": ((np.full((10, 784), np.nan), np.zeros(10)), "10 images of shape .*, 0 to 255"),
    "other labels": ((np.zeros((10, 784)), np.arange(1, 11)), "expected 10 labels from 0 to 9, got 10: .*10"),
}


@pytest.mark.parametrize(("answer", "message"), NOT_FETCHED.values(), ids=NOT_FETCHED)
def test_what_cannot_be_fetched_is_asked_for(answer: Any, message: str, openml, monkeypatch, tmp_path: Path):
    def fetch_openml(**options):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch_openml)
    wanted = "no files of mnist-full: put train-images-idx3-ubyte, .* into .*MNIST/raw; the download failed: "
    with pytest.raises(FileNotFoundError, match=f"{wanted}.*{message}"):
        load("mnist-full", tmp_path, download=True)
    assert not list(tmp_path.iterdir())


def test_nothing_is_fetched_that_was_not_asked_for(openml, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="or allow the download from OpenML"):
        load("cifar10", tmp_path)
    assert len(openml) == 3


def test_a_text_file_is_its_characters(tmp_path: Path):
    text = "Zwölf Boxkämpfer\njagen Viktor quer über den großen Sylter Deich.\n" * 12
    (tmp_path / "text.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    data = load(f"text:{tmp_path / 'text.txt'}")
    assert data.vocabulary.tokens == ("<unk>", *sorted(set(text)))
    assert (data.task, data.model_options) == ("language", {"vocab_size": len(data.vocabulary)})
    start = len(text) * 9 // 10
    for part, own in ((data.train, text[:start]), (data.test, text[start:])):
        assert part.inputs.shape == part.targets.shape == ((len(own) - 1) // 35, 35)
        assert data.vocabulary.decode(part.inputs.ravel()) == own[: part.inputs.size]
        assert data.vocabulary.decode(part.targets.ravel()) == own[1 : part.inputs.size + 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "text.txt: 0 characters, where a tenth must have more than 35"),
        (b"x" * 350, "text.txt: 350 characters, where a tenth must have more than 35"),
        (b"x" * 99 + b"\xe4" + b"x" * 900, "text.txt: not UTF-8: the byte e4 at 99"),
    ],
)
def test_a_text_file_that_will_not_do_says_why(content: bytes, message: str, tmp_path: Path):
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(f"text:{tmp_path / 'text.txt'}")
