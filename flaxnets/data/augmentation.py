"""Random augmentation of training images: arrays in the compiled step, image files with Pillow."""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8
from PIL import Image, ImageOps

from flaxnets.settings import PROBABILITY, Range, find_out_of_range

_CROP_RATIOS = math.log(3 / 4), math.log(4 / 3)  # logarithms of width / height, as in torchvision and timm
_ERASED_AREAS, _ERASED_RATIOS = (0.02, 1 / 3), (math.log(0.3), math.log(1 / 0.3))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random augmentation of training images, applied in the order of the arguments; by default none.

    Args:
        crop_area: smallest fraction of the image area to crop. The crop has an aspect ratio between 3/4 and 4/3 and is
            resized to the whole image, like torchvision's ``RandomResizedCrop``, except that a side longer than the
            image is clipped. 1 disables cropping.
        crop_padding: number of black pixels to pad on each side before a window of the image's size is cropped.
        flip: probability of a horizontal flip.
        erase: probability of setting a rectangle, 2 to 33 % of the area, to 0 (arXiv:1708.04896).
        mixup: parameter of Beta(mixup, mixup), from which one mixing proportion per batch is drawn. Images and targets
            are mixed with those of the reversed batch (arXiv:1710.09412). 0 disables mixing.

    Raises:
        ValueError: for a value out of its range.

    >>> images, key = jnp.arange(4, dtype=jnp.uint8).reshape(1, 1, 1, 4), jax.random.key(0)
    >>> inputs, targets = Augmentation(flip=1.0)(images, jnp.array([7]), key, lambda x: x / 1.0, num_classes=10)
    >>> inputs.ravel().tolist(), targets.tolist()
    ([3.0, 2.0, 1.0, 0.0], [7])
    """

    crop_area: Annotated[float, Range("above 0 and at most 1", lambda value: 0 < value <= 1)] = 1.0
    crop_padding: Annotated[int, Range("0 or more pixels", lambda value: value >= 0)] = 0
    flip: Annotated[float, PROBABILITY] = 0.0
    erase: Annotated[float, PROBABILITY] = 0.0
    mixup: Annotated[float, Range("0 or more", lambda value: 0 <= value < math.inf)] = 0.0

    def __post_init__(self) -> None:
        wrong = find_out_of_range(Augmentation, self)
        if wrong:
            raise ValueError(f"{wrong.name} must be {wrong.expected}, got {wrong.value}")

    def __call__(
        self,
        images: UInt8[Array, "n c h w"],
        targets: Int[Array, " n"],
        key: jax.Array,
        transform: Callable[[Any], Float[Array, "n ..."]],
        num_classes: int,
        geometric: bool = True,
    ) -> tuple[Float[Array, "n ..."], Int[Array, " n"] | Float[Array, "n classes"]]:
        """Augment a batch, inside the compiled step.

        Args:
            images: pixels from 0 to 255.
            targets: classes of the images.
            key: source of all randomness.
            transform: maps pixels to the network's inputs.
            num_classes: number of classes.
            geometric: whether to crop and flip; false if the files were already cropped and flipped.

        Returns:
            The inputs, and with ``mixup`` the class probabilities in float32, otherwise ``targets``.

        Raises:
            ValueError: if ``erase`` is set and the transform does not return images ``(n, c, h, w)``.
        """
        # One key for each augmentation, so that disabling one does not change the others.
        keys = jax.random.split(key, 5)
        if geometric:
            if self.crop_area < 1:
                images = _resized_crops(images, keys[0], self.crop_area)
            if self.crop_padding:
                images = _padded_crops(images, keys[1], self.crop_padding)
            if self.flip:
                images = jnp.where(_drawn(keys[2], images, self.flip), images[..., ::-1], images)
        inputs = transform(images)
        if self.erase:
            inputs = _erased(inputs, keys[3], self.erase)
        return _mixed(inputs, targets, keys[4], self.mixup, num_classes) if self.mixup else (inputs, targets)

    def crop_and_flip(self, image: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
        """Crop and flip an image with Pillow, as calling the augmentation does with arrays.

        Args:
            image: an image of any size.
            size: ``(height, width)`` of the result.
            rng: source of all randomness.

        >>> image = Image.fromarray(np.array([[0, 255]], np.uint8))
        >>> np.asarray(Augmentation(flip=1.0).crop_and_flip(image, (1, 2), np.random.default_rng(0))).tolist()
        [[255, 0]]
        """
        height, width = size
        if self.crop_area < 1:
            image = image.resize((width, height), Image.Resampling.BILINEAR, _box(image, self.crop_area, rng))
        else:
            image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
        if self.crop_padding:
            left, top = (int(offset) for offset in rng.integers(-self.crop_padding, self.crop_padding + 1, 2))
            image = image.crop(
                (left, top, left + width, top + height)
            )  # Pillow fills pixels outside of the image with black
        if rng.random() < self.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return image


def _box(image: Image.Image, smallest: float, rng: np.random.Generator) -> tuple[float, float, float, float]:
    area = image.width * image.height * rng.uniform(smallest, 1)
    ratio = math.exp(rng.uniform(*_CROP_RATIOS))
    width, height = min(math.sqrt(area * ratio), image.width), min(math.sqrt(area / ratio), image.height)
    left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
    return left, top, left + width, top + height


def _uniform(key: jax.Array, count: int, low: float = 0.0, high: float = 1.0) -> Float[Array, " n"]:
    # Always float32, so that a run in float64 draws the same numbers.
    return jax.random.uniform(key, (count,), jnp.float32, low, high)


def _drawn(key: jax.Array, images: jax.Array, probability: float) -> jax.Array:
    return (_uniform(key, len(images)) < probability).reshape(-1, 1, 1, 1)


def _rectangles(
    key: jax.Array, shape: tuple[int, ...], areas: tuple[float, float], ratios: tuple[float, float]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return heights, widths, and the positions ``(n, 2)`` as fractions, from 0 to 1, of the remaining space."""
    n, _, height, width = shape
    keys = jax.random.split(key, 4)
    area = height * width * _uniform(keys[0], n, *areas)
    ratio = jnp.exp(_uniform(keys[1], n, *ratios))
    starts = jnp.stack([_uniform(keys[2], n), _uniform(keys[3], n)], 1)
    return jnp.minimum(jnp.sqrt(area / ratio), height), jnp.minimum(jnp.sqrt(area * ratio), width), starts


def _resized_crops(images: jax.Array, key: jax.Array, smallest: float) -> jax.Array:
    heights, widths, starts = _rectangles(key, images.shape, (smallest, 1.0), _CROP_RATIOS)
    whole = jnp.array(images.shape[2:], jnp.float32)

    def crop(image: jax.Array, sides: jax.Array, start: jax.Array) -> jax.Array:
        scale = whole / sides
        return jax.image.scale_and_translate(
            image.astype(jnp.float32), image.shape, (1, 2), scale, -start * (whole - sides) * scale, "linear"
        )

    cropped = jax.vmap(crop)(images, jnp.stack([heights, widths], 1), starts)
    return jnp.clip(jnp.round(cropped), 0, 255).astype(images.dtype)


def _padded_crops(images: jax.Array, key: jax.Array, padding: int) -> jax.Array:
    padded = jnp.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    offsets = jax.random.randint(key, (len(images), 2), 0, 2 * padding + 1, jnp.int32)

    def window(image: jax.Array, offset: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (jnp.int32(0), *offset), images.shape[1:])

    return jax.vmap(window)(padded, offsets)


def _erased(inputs: jax.Array, key: jax.Array, probability: float) -> jax.Array:
    if inputs.ndim != 4:
        raise ValueError(f"erase needs images (n, c, h, w), got inputs of shape {inputs.shape}")
    chosen, placed = jax.random.split(key)
    *sides, starts = _rectangles(placed, inputs.shape, _ERASED_AREAS, _ERASED_RATIOS)
    inside = _drawn(chosen, inputs, probability)
    for axis, side in enumerate(sides):
        size = inputs.shape[2 + axis]
        side = jnp.maximum(jnp.round(side), 1)
        start = jnp.round(starts[:, axis] * (size - side))
        position = jnp.arange(size)[None] - start[:, None]
        within = (position >= 0) & (position < side[:, None])
        inside &= within[:, None, :, None] if axis == 0 else within[:, None, None, :]
    return jnp.where(inside, 0, inputs)


def _mixed(
    inputs: jax.Array, targets: jax.Array, key: jax.Array, alpha: float, num_classes: int
) -> tuple[jax.Array, jax.Array]:
    share = jax.random.beta(key, alpha, alpha, dtype=jnp.float32)
    probabilities = jax.nn.one_hot(targets, num_classes, dtype=jnp.float32)
    mixed = [x * share.astype(x.dtype) + x[::-1] * (1 - share).astype(x.dtype) for x in (inputs, probabilities)]
    return mixed[0], mixed[1]
