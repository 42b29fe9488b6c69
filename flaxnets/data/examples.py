"""The parts of a dataset, and what it is for."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from flaxnets.data.image_files import ImageFiles
from flaxnets.data.text import Vocabulary

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
    """A dataset's two parts, what they are for, and the sizes that a network for them has.

    Attributes:
        name: what :func:`flaxnets.data.load` knows it by.
        task: ``classification``: images ``(N, C, H, W)`` in uint8, labels ``(N,)`` in int32. ``language``: ids
            ``(N, T)`` in int32, targets the ids that follow. ``regression``: ``(N, features)`` and ``(N, 1)`` in
            float32.
        train: examples to learn from: arrays, or images in files.
        test: examples to evaluate on, of the same kind.
        model_options: options for :func:`flaxnets.create_model`: ``num_classes``, ``vocab_size`` or ``n_features``.
        vocabulary: what the ids of a text mean.
        classes: what the labels mean, in their order.
    """

    name: str
    task: str
    train: Split | ImageFiles
    test: Split | ImageFiles
    model_options: Mapping[str, int]
    vocabulary: Vocabulary | None = None
    classes: tuple[str, ...] | None = None
