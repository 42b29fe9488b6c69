"""MNIST, Fashion-MNIST and CIFAR-10, from the published files or downloaded from OpenML."""

from collections.abc import Callable
from pathlib import Path

from flaxnets.data import openml
from flaxnets.data.examples import Dataset, Split
from flaxnets.data.files import DataError, find_published, read_cifar, read_idx_pair

DIGITS = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_THINGS = "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"


def _idx(folder: Path) -> openml.Arrays:
    return read_idx_pair(folder, "train"), read_idx_pair(folder, "t10k")


def _cifar10(folder: Path) -> openml.Arrays:
    train = read_cifar(folder / f"data_batch_{i}.bin" for i in range(1, 6))
    return train, read_cifar([folder / "test_batch.bin"])


# By dataset: reader, possible folders in the data folder, name of the first file, and class names.
_IDX_FILE, _CIFAR_FILE = "train-images-idx3-ubyte", "data_batch_1.bin"
PUBLISHED: dict[str, tuple[Callable[[Path], openml.Arrays], tuple[str, ...], str, tuple[str, ...]]] = {
    "cifar10": (_cifar10, ("cifar10", "cifar-10-batches-bin", "CIFAR10/cifar-10-batches-bin"), _CIFAR_FILE, _THINGS),
    "fashion-mnist": (_idx, ("fashion-mnist", "FashionMNIST/raw"), _IDX_FILE, _CLOTHES),
    "mnist-full": (_idx, ("mnist-full", "MNIST/raw"), _IDX_FILE, DIGITS),
}


def load_published(name: str, data_dir: Path, download: bool) -> Dataset:
    """Load a dataset of :data:`PUBLISHED` from its files, from an earlier download, or from a new download.

    Args:
        name: name of the dataset.
        data_dir: parent of the dataset's folder.
        download: whether downloading is allowed.

    Raises:
        DataError: for damaged files.
        FileNotFoundError: if there are no files, and downloading is not allowed or fails.
    """
    read, folders, first, classes = PUBLISHED[name]
    folder = next((data_dir / folder for folder in folders if find_published(data_dir / folder, first)), None)
    if folder is not None:
        arrays = read(folder)
    else:
        if not openml.cache_path(name, data_dir).exists():
            _fetch(name, data_dir, download)
        arrays = openml.read(name, data_dir)
    train, test = (Split(*part) for part in arrays)
    return Dataset(name, "classification", train, test, {"num_classes": 10}, classes=classes)


def _fetch(name: str, data_dir: Path, download: bool) -> None:
    read, folders, *_ = PUBLISHED[name]
    files = (
        "data_batch_1.bin to data_batch_5.bin and test_batch.bin, CIFAR-10's binary version"
        if read is _cifar10
        else "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, "
        "with or without .gz"
    )
    wanted = f"no files of {name}: put {files}, into {' or '.join(str(data_dir / folder) for folder in folders)}"
    if not download:
        raise FileNotFoundError(f"{wanted}; or allow the download from OpenML (download)")
    try:
        openml.fetch(name, data_dir)
    except (OSError, DataError) as error:
        raise FileNotFoundError(f"{wanted}; the download failed: {error}") from error
