"""Image datasets that scikit-learn downloads from OpenML; each is stored in one file, next to its digest."""

import dataclasses
import hashlib
import math
import os
from http.client import HTTPException
from pathlib import Path

import numpy as np

from flaxnets.data.files import DataError

Arrays = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Source:
    """A version of a dataset at OpenML, and its expected contents.

    Attributes:
        data_id: number of the version: https://www.openml.org/d/data_id.
        image_shape: ``(c, h, w)``.
        train: number of training examples, which come first.
        test: number of test examples.
    """

    data_id: int
    image_shape: tuple[int, int, int]
    train: int
    test: int


SOURCES = {
    "cifar10": Source(40927, (3, 32, 32), 50_000, 10_000),
    "fashion-mnist": Source(40996, (1, 28, 28), 60_000, 10_000),
    "mnist-full": Source(554, (1, 28, 28), 60_000, 10_000),
}


def cache_path(name: str, data_dir: Path) -> Path:
    """Return the path of a downloaded dataset."""
    return data_dir / name / "openml.npz"


def fetch(name: str, data_dir: Path) -> None:
    """Download a dataset, and store it with its SHA-256 in a second file in the format of ``sha256sum``.

    scikit-learn checks the download against OpenML's MD5.

    Args:
        name: one of :data:`SOURCES`.
        data_dir: parent of the dataset's folder, which is created.

    Raises:
        DataError: if the contents are not as expected.
        OSError: if the download or writing the file fails.
    """
    from sklearn.datasets import fetch_openml

    source, path = SOURCES[name], cache_path(name, data_dir)
    try:
        pixels, labels = fetch_openml(data_id=source.data_id, cache=False, as_frame=False, return_X_y=True)
        images, labels = _checked(source, np.asarray(pixels), np.asarray(labels))
    except (HTTPException, ValueError) as error:  # scikit-learn raises ValueError for a wrong MD5
        raise DataError(f"{name} from https://www.openml.org/d/{source.data_id}: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, images=images, labels=labels)
    _digest_path(path).write_text(f"{_digest(part)}  {path.name}\n")
    os.replace(part, path)


def _checked(source: Source, pixels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count, shape = source.train + source.test, source.image_shape
    if pixels.shape != (count, math.prod(shape)) or not (pixels.min() >= 0 and pixels.max() <= 255):
        raise ValueError(f"expected {count:,} images of shape {shape}, 0 to 255, got an array of {pixels.shape}")
    classes = labels.astype(np.int32)
    if classes.shape != (count,) or set(classes.tolist()) - set(range(10)):
        raise ValueError(f"expected {count:,} labels from 0 to 9, got {len(classes):,}: {sorted(set(labels))[:11]}")
    return pixels.astype(np.uint8).reshape(count, *shape), classes


def read(name: str, data_dir: Path) -> Arrays:
    """Read a dataset that :func:`fetch` has stored: images and labels of the training set and of the test set.

    Args:
        name: one of :data:`SOURCES`.
        data_dir: the argument of :func:`fetch`.

    Raises:
        DataError: if the file has changed since the download.
    """
    path, count = cache_path(name, data_dir), SOURCES[name].train
    try:
        expected = _digest_path(path).read_text().split()[0]
    except (FileNotFoundError, IndexError):
        expected = "no digest"
    found = _digest(path)
    if found != expected:
        raise DataError(
            f"{path}: changed since the download: its SHA-256 is {found}, {_digest_path(path).name} has {expected}. "
            "Fix: delete both files and download again"
        )
    with np.load(path) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    return (images[:count], labels[:count]), (images[count:], labels[count:])


def _digest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
