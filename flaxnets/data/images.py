"""Conversion of images to network inputs, inside the compiled step."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from flaxnets.data.examples import Split
from flaxnets.data.image_files import ImageFiles

_STATISTICS_IMAGES = 2_000  # enough for three correct digits


def fit_images(
    images: UInt8[Array, "n c h w"],
    input_shape: tuple[int, ...],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Float[Array, "n ..."]:
    """Scale pixels to 0...1 and resize images to the input shape of a network.

    Images are resized bilinearly. If the numbers of channels differ, channels are averaged, and the mean is repeated
    for each channel of the network. For an input shape ``(features,)``, images are flattened.

    Args:
        images: pixels from 0 to 255.
        input_shape: ``(c, h, w)`` or ``(features,)``.
        mean: mean of each channel of ``images``, on the scale from 0 to 1, to subtract.
        std: standard deviation of each channel of ``images``, on the same scale, to divide by.

    Raises:
        ValueError: if the images do not fit, or have another number of channels than ``mean`` or ``std``.

    >>> fit_images(jnp.full((2, 1, 28, 28), 255, jnp.uint8), (1, 32, 32)).shape
    (2, 1, 32, 32)
    """
    n, channels, *size = images.shape
    x = images.astype(jnp.float32) / 255
    for name, values, apply in (("mean", mean, jnp.subtract), ("std", std, jnp.divide)):
        if values is not None:
            if len(values) != channels:
                raise ValueError(f"images of {channels} channels need a {name} of each, got {tuple(values)}")
            x = apply(x, jnp.array(values, x.dtype).reshape(1, -1, 1, 1))
    if len(input_shape) == 1:
        x = x.reshape(n, -1)
    elif len(input_shape) == 3:
        if channels != input_shape[0]:
            x = x.mean(1, keepdims=True)
            x = jnp.broadcast_to(x, (n, input_shape[0], *size))
        if tuple(size) != tuple(input_shape[1:]):
            x = jax.image.resize(x, (n, *input_shape), "bilinear")
    if x.shape[1:] != tuple(input_shape):
        raise ValueError(f"images of shape {images.shape[1:]} do not fit an input of shape {input_shape}")
    return x


def channel_statistics(
    examples: Split | ImageFiles, image_shape: tuple[int, int, int] | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation of each channel, for :func:`fit_images`.

    At most 2,000 evenly spaced images are read. The standard deviation is at least 1/255, to avoid division by zero.

    Args:
        examples: images ``(n, c, h, w)`` from 0 to 255, or files.
        image_shape: ``(c, h, w)`` of the decoded files.

    Raises:
        ValueError: for files without an ``image_shape``.
        DataError: for a file that can no longer be decoded.

    >>> channel_statistics(Split(np.array([0, 255] * 8, np.uint8).reshape(2, 2, 2, 2), np.zeros(2)))
    ((0.5, 0.5), (0.5, 0.5))
    """
    chosen = np.linspace(0, len(examples) - 1, min(len(examples), _STATISTICS_IMAGES)).astype(int)
    if isinstance(examples, Split):
        batches = [(examples.inputs[chosen], examples.targets[chosen])]
    elif image_shape is None:
        raise ValueError("image_shape must be given for images in files, got None")
    else:
        batches = examples.batches(chosen, 50, image_shape=image_shape)
    histograms = [[np.bincount(part.ravel(), minlength=256) for part in images.swapaxes(0, 1)] for images, _ in batches]
    counts = np.sum(histograms, 0)
    shares, values = counts / counts.sum(1, keepdims=True), np.arange(256) / 255
    mean = shares @ values
    std = np.maximum(np.sqrt((shares * (values - mean[:, None]) ** 2).sum(1)), 1 / 255)
    return tuple(mean.tolist()), tuple(std.tolist())
