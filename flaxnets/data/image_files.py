"""Image files that are decoded on demand."""

import contextlib
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from flaxnets.data.augmentation import Augmentation
from flaxnets.data.files import DataError
from flaxnets.data.image_checks import check_images, decode_image, ignore_pillow_warnings


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """One part of a dataset of image files.

    Attributes:
        paths: paths of the files.
        targets: classes of the images, in int32.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "black.png")
    ...     Image.new("RGB", (40, 30)).save(path)
    ...     batches = ImageFiles((path,), np.array([3], np.int32)).batches(np.array([0]), 32, image_shape=(3, 8, 8))
    ...     [(images.shape, targets.tolist()) for images, targets in batches]
    [((1, 3, 8, 8), [3])]
    """

    paths: tuple[Path, ...]
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, count: int) -> "ImageFiles":
        """Return the first ``count`` examples."""
        return ImageFiles(self.paths[:count], self.targets[:count])

    def decoded(
        self, image_shape: tuple[int, int, int], augmentation: Augmentation | None = None, workers: int = 2
    ) -> "DecodedImages":
        """Return these images with one shape, for :class:`flaxnets.training.Batches`.

        The arguments are those of :class:`DecodedImages`.
        """
        return DecodedImages(self, image_shape, augmentation, workers)

    def batches(
        self,
        order: np.ndarray,
        batch_size: int,
        *,
        image_shape: tuple[int, int, int],
        augmentation: Augmentation | None = None,
        seed: tuple[int, ...] = (0,),
        workers: int = 0,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield decoded images in batches; the last batch may be smaller.

        Without augmentation, an image is resized so that it covers the shape with its aspect ratio kept, and the center
        is cropped.

        Args:
            order: indices of the examples.
            batch_size: number of examples in a batch.
            image_shape: ``(c, h, w)``: 1 channel for gray or 3 for RGB.
            augmentation: its crops and flips are applied; calling it erases and mixes later.
            seed: seed of the augmentation, which depends only on the seed and on the image's index.
            workers: number of threads that decode ahead; with 0, images are decoded on demand.

        Yields:
            Images ``(n, c, h, w)`` in uint8 and their classes ``(n,)`` in int32.

        Raises:
            ValueError: for a number of channels other than 1 or 3.
            DataError: for a file that can no longer be decoded.
        """
        if image_shape[0] not in (1, 3):
            raise ValueError(f"images are decoded to 1 or 3 channels, got the shape {image_shape}")
        ignore_pillow_warnings()
        make = functools.partial(self._example, image_shape=image_shape, augmentation=augmentation, seed=seed)
        with contextlib.closing(_examples(make, order, workers, 2 * batch_size)) as examples:
            for start in range(0, len(order), batch_size):
                images = np.stack(list(itertools.islice(examples, batch_size)))
                yield images, self.targets[order[start : start + batch_size]]

    def _example(
        self,
        index: int,
        image_shape: tuple[int, int, int],
        augmentation: Augmentation | None,
        seed: tuple[int, ...],
    ) -> np.ndarray:
        channels, *size = image_shape
        try:
            image = decode_image(self.paths[index], "RGB" if channels == 3 else "L")
        except DataError as error:
            raise DataError(f"{self.paths[index]}: {error}, although the file was valid when it was checked") from error
        rng = np.random.default_rng((*seed, int(index)))
        image = (augmentation or Augmentation()).crop_and_flip(image, (size[0], size[1]), rng)
        return np.asarray(image).reshape(*size, channels).transpose(2, 0, 1)


@dataclasses.dataclass(frozen=True)
class DecodedImages:
    """Images of files with one shape: a :class:`flaxnets.training.Stream`.

    Attributes:
        files: The images.
        image_shape: Channels, height and width of each batch's images.
        augmentation: Random crops and flips of training images.
        workers: Number of threads that decode ahead.
    """

    files: ImageFiles
    image_shape: tuple[int, int, int]
    augmentation: Augmentation | None = None
    workers: int = 2

    def __len__(self) -> int:
        return len(self.files)

    def batches(
        self, order: np.ndarray, batch_size: int, *, seed: tuple[int, ...] | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield images and classes of the examples in ``order``; only batches with a seed are augmented."""
        decode = functools.partial(
            self.files.batches, order, batch_size, image_shape=self.image_shape, workers=self.workers
        )
        return decode() if seed is None else decode(augmentation=self.augmentation, seed=seed)


def read_image(path: str | os.PathLike, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Read one image like :meth:`ImageFiles.batches` without augmentation.

    Args:
        path: the file.
        image_shape: ``(c, h, w)``.

    Raises:
        DataError: for a file that is missing, damaged or not an image.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (40, 30), 7).save(f"{folder}/dark.png")
    ...     read_image(f"{folder}/dark.png", (3, 1, 1)).tolist()
    [[[7]], [[7]], [[7]]]
    """
    problem = check_images([Path(path)])[0].problem
    if problem is not None:
        raise DataError(f"{path}: {problem}")
    files = ImageFiles((Path(path),), np.zeros(1, np.int32))
    images, _ = next(files.batches(np.zeros(1, int), 1, image_shape=image_shape))
    return images[0]


def _examples(
    make: Callable[[Any], np.ndarray], order: np.ndarray, workers: int, buffer: int
) -> Generator[np.ndarray, None, None]:
    if not workers:
        yield from map(make, order)
        return
    import grain  # imported late, because the import needs as long as that of JAX

    # Threads are sufficient: Pillow releases the GIL when it decodes and resizes.
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=max(buffer, workers))
    with contextlib.closing(iter(grain.MapDataset.source(order.tolist()).map(make).to_iter_dataset(options))) as ahead:
        yield from ahead
