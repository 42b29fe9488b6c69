"""Readers of published image datasets: MNIST's IDX format and CIFAR-10's binary version."""

import gzip
import math
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

# Element types of IDX files by code; numbers are big-endian.
_IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_CIFAR_IMAGE = 3 * 32 * 32


class DataError(ValueError):
    """A data file that cannot be used; the message contains its name and the reason."""


def read_idx(path: Path) -> np.ndarray:
    """Read an array in the IDX format, with or without gzip compression.

    Args:
        path: the file.

    Raises:
        DataError: if the file has another format or is truncated.
        OSError: if the file cannot be read.

    See https://yann.lecun.com/exdb/mnist/.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "labels")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    ...     read_idx(path).tolist()
    [7, 2, 1]
    """
    content = _content(path)
    kind, axes = (_IDX_TYPES.get(content[2]), content[3]) if len(content) > 3 and content[:2] == b"\0\0" else (None, 0)
    start = 4 + 4 * axes
    if kind is None or len(content) < start:
        raise DataError(f"{path}: no IDX file, it begins with {content[:4].hex(' ') or 'nothing'}")
    shape = struct.unpack(f">{axes}I", content[4:start])
    expected = math.prod(shape) * np.dtype(kind).itemsize
    if len(content) - start != expected:
        raise DataError(f"{path}: {len(content) - start:,} bytes of data, where its shape {shape} needs {expected:,}")
    return np.frombuffer(content, kind, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged, gzip says: {error}") from error


def read_idx_pair(folder: Path, part: str, size: tuple[int, int] = (28, 28)) -> tuple[np.ndarray, np.ndarray]:
    """Read images ``(N, 1, H, W)`` in uint8 and their labels ``(N,)``.

    Args:
        folder: folder of the two files, which have their published names.
        part: ``train`` or ``t10k``.
        size: height and width of the images.

    Raises:
        DataError: if a file has other contents, or the numbers of images and labels differ.
        OSError: if a file cannot be read.
    """
    images_path, labels_path = (
        _needed(folder, f"{part}-{name}") for name in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dtype != np.uint8 or images.shape[1:] != size:
        raise DataError(f"{images_path}: expected uint8 images of {size}, got {images.dtype} of shape {images.shape}")
    if labels.shape != images.shape[:1] or not len(labels):
        raise DataError(f"{labels_path}: expected {len(images)} labels, got the shape {labels.shape}")
    _check_labels(labels_path, labels)
    return images[:, None], labels.astype(np.int32)


def find_published(folder: Path, name: str) -> Path | None:
    """Return the path of a published file, plain, compressed, or with a dot in its name; None if there is none."""
    names = name, f"{name}.gz", name.replace("-idx", ".idx")
    return next((folder / candidate for candidate in names if (folder / candidate).is_file()), None)


def _needed(folder: Path, name: str) -> Path:
    path = find_published(folder, name)
    if path is None:
        raise FileNotFoundError(f"{folder / name}: no such file, nor with .gz")
    return path


def read_cifar(paths: Iterable[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Read images ``(N, 3, 32, 32)`` in uint8 and their labels ``(N,)`` from files of CIFAR-10's binary version.

    Args:
        paths: the files; each record is a byte for the label and 3,072 for the image.

    Raises:
        DataError: if a file has an incomplete record, or a label that is not from 0 to 9.
        OSError: if a file cannot be read.

    See https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    parts = []
    for path in paths:
        content = path.read_bytes()
        if not content or len(content) % (1 + _CIFAR_IMAGE):
            raise DataError(f"{path}: {len(content):,} bytes, expected records of {1 + _CIFAR_IMAGE:,}")
        records = np.frombuffer(content, np.uint8).reshape(-1, 1 + _CIFAR_IMAGE)
        _check_labels(path, records[:, 0])
        parts.append(records)
    records = np.concatenate(parts)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int32)


def _check_labels(path: Path, labels: np.ndarray) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels > 9))
    if len(wrong):
        raise DataError(f"{path}: label {labels[wrong[0]]} of example {wrong[0]}, expected 0 to 9")
