"""From stored images to what a network takes; runs inside the compiled step."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8


def fit_images(images: UInt8[Array, "n c h w"], input_shape: tuple[int, ...]) -> Float[Array, "n ..."]:
    """Scales pixels to 0...1 and images to the input shape of a network.

    Images are resized bilinearly to its height and width; a single channel is repeated, and several are averaged
    into one, where it has another number of them; a network that takes vectors gets the pixels in reading order.

    Args:
        images: pixels from 0 to 255.
        input_shape: ``(c, h, w)`` or ``(features,)``.

    Raises:
        ValueError: if the images cannot be made to fit.

    >>> fit_images(jnp.full((2, 1, 28, 28), 255, jnp.uint8), (1, 32, 32)).shape
    (2, 1, 32, 32)
    """
    n, channels, *size = images.shape
    x = images.astype(jnp.float32) / 255
    if len(input_shape) == 1:
        x = x.reshape(n, -1)
    elif len(input_shape) == 3:
        if channels != input_shape[0]:
            x = x.mean(1, keepdims=True)
            x = jnp.broadcast_to(x, (n, input_shape[0], *size))
        if tuple(size) != tuple(input_shape[1:]):
            x = jax.image.resize(x, (n, *input_shape), "bilinear")
    if x.shape[1:] != tuple(input_shape):
        raise ValueError(f"images of shape {images.shape[1:]} cannot be made to fit an input of shape {input_shape}")
    return x
