"""Datasets and their parts."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from flaxnets.data.files import DataError
from flaxnets.data.image_files import ImageFiles
from flaxnets.data.text import Vocabulary

SPLIT_SEED = 0  # fixed, so that the test set does not depend on the seed of a run


@dataclasses.dataclass(frozen=True)
class Split:
    """Arrays of one part of a dataset: ``inputs`` and ``targets``, which have the same length."""

    inputs: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, count: int) -> "Split":
        """Return the first ``count`` examples."""
        return Split(self.inputs[:count], self.targets[:count])


Part: TypeAlias = Split | ImageFiles


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The parts of a dataset, its task, and the model options that it determines.

    Attributes:
        name: name of the dataset for :func:`flaxnets.data.load`.
        task: ``classification``: images ``(N, C, H, W)`` in uint8, labels ``(N,)`` in int32. ``language``: ids
            ``(N, T)`` in int32, targets are the following ids. ``regression``: ``(N, features)`` and ``(N, 1)`` in
            float32.
        train: training examples: arrays, or images in files.
        test: examples for the evaluation after each epoch, of the same type.
        model_options: options for :func:`flaxnets.create_model`: ``num_classes``, ``vocab_size`` or ``n_features``.
        vocabulary: characters of the ids of a text.
        classes: class names in the order of the labels.
        test_name: name of the part in ``test``: ``val`` if the dataset has a validation part, otherwise ``test``.
        held_out: reads the part ``test`` of a dataset that also has a part ``val``; training does not use it.
    """

    name: str
    task: str
    train: Part
    test: Part
    model_options: Mapping[str, int]
    vocabulary: Vocabulary | None = None
    classes: tuple[str, ...] | None = None
    test_name: str = "test"
    held_out: Callable[[], Part] | None = None

    def part(self, name: str) -> Part:
        """Return the examples of one part, or of all parts.

        Args:
            name: ``train``, ``val``, ``test`` or ``all``.

        Raises:
            DataError: for a part that the dataset does not have, or that has no examples.

        >>> from flaxnets.data import load
        >>> [len(load("digits").part(name)) for name in ("train", "test", "all")]
        [1437, 360, 1797]
        >>> load("digits").part("val")
        Traceback (most recent call last):
        flaxnets.data.files.DataError: digits has no part 'val'. Expected one of: train, test, all
        """
        readers: dict[str, Callable[[], Part]] = {"train": lambda: self.train, self.test_name: lambda: self.test}
        if self.held_out is not None:
            readers["test"] = self.held_out
        readers = {part: read for part, read in readers.items() if part != "train" or len(self.train)}
        if name not in (*readers, "all"):
            raise DataError(f"{self.name} has no part {name!r}. Expected one of: {', '.join((*readers, 'all'))}")
        parts = [read() for each, read in readers.items() if name in (each, "all")]
        return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: list[Part]) -> Part:
    targets = np.concatenate([part.targets for part in parts])
    if isinstance(parts[0], Split):
        return Split(np.concatenate([part.inputs for part in parts if isinstance(part, Split)]), targets)
    return ImageFiles(tuple(path for part in parts if isinstance(part, ImageFiles) for path in part.paths), targets)
