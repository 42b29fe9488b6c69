"""Grid sampling of images and volumes, and affine grids."""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flaxnets import kernels
from flaxnets.autocast import cast_operands
from flaxnets.kernels._primitives import materialized
from flaxnets.nn.functional._resampling import cubic_weights

MODES, PADDINGS = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")


def _check(input: jax.Array, grid: jax.Array, mode: str, padding_mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"grid_sample: mode must be one of {MODES}, got {mode!r}")
    if padding_mode not in PADDINGS:
        raise ValueError(f"grid_sample: padding_mode must be one of {PADDINGS}, got {padding_mode!r}")
    shapes = f"an input of shape {input.shape} and a grid of shape {grid.shape}"
    n = input.ndim - 2
    if n not in (2, 3) or grid.ndim != n + 2 or grid.shape[-1] != n or grid.shape[0] != input.shape[0]:
        raise RuntimeError(
            f"grid_sample: expected (N, C, H, W) and (N, h, w, 2), or (N, C, D, H, W) and (N, d, h, w, 3), got {shapes}"
        )
    if 0 in input.shape[2:]:
        raise RuntimeError(f"grid_sample: expected an input that is not empty, got {shapes}")
    if n == 3 and mode == "bicubic":
        raise RuntimeError(f"grid_sample: mode='bicubic' requires 4D input, got {shapes}")
    if input.dtype != grid.dtype:
        raise RuntimeError(f"grid_sample: input and grid must have one dtype, got {input.dtype} and {grid.dtype}")
    if not jnp.issubdtype(input.dtype, jnp.floating):
        raise NotImplementedError(f"grid_sample: expected floating-point numbers, got {input.dtype}; cast them")


def _inside(x: jax.Array, size: int, padding_mode: str, align_corners: bool, of_nan: int) -> jax.Array:
    """Map pixel coordinates into the image according to ``padding_mode``; the gradient on the border is 0."""
    if padding_mode == "zeros":
        return x
    if padding_mode == "reflection":
        low, twice = (0.0, 2.0 * (size - 1)) if align_corners else (-0.5, 2.0 * size)
        if twice == 0:
            return jnp.zeros_like(x)
        x = x - low
        x = jnp.where(x < 0, -x, x)
        x = x - jnp.trunc(x / twice) * twice
        x = jnp.where(x > twice - x, twice - x, x) + low
    clipped = jnp.where(x <= 0, 0.0, jnp.where(x >= size - 1, size - 1.0, x))
    return jnp.where(jnp.isnan(x), float(of_nan), clipped)


def _neighbours(
    x: jax.Array, size: int, mode: str, padding_mode: str, align_corners: bool, of_nan: int
) -> list[tuple[jax.Array, jax.Array]]:
    """Return the pixels along one axis that contribute to a sample, as integral floats, and their weights."""

    def inside(x: jax.Array) -> jax.Array:
        return _inside(x, size, padding_mode, align_corners, of_nan)

    if mode == "nearest":
        positions = jnp.round(inside(x))
        return [(positions, jnp.ones_like(x))]
    if mode == "bicubic":
        first = jnp.floor(x)
        positions = [jnp.trunc(inside(first + offset)) for offset in (-1, 0, 1, 2)]
        return list(zip(positions, cubic_weights(x - first), strict=True))
    x = inside(x)
    first = jnp.floor(x)
    return [(first, 1 - (x - first)), (first + 1, x - first)]


def grid_sample(
    input: Float[Array, "n c *spatial"],
    grid: Float[Array, "n *points k"],
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Float[Array, "n c *points"]:
    """Sample images ``(N, C, H, W)`` at points ``(N, h, w, 2)``, or volumes at points ``(N, d, h, w, 3)``.

    Args:
        input: images or volumes.
        grid: points ``(x, y)`` or ``(x, y, z)``; -1 and 1 are the borders along each axis.
        mode: ``'bilinear'`` (for volumes: trilinear), ``'nearest'`` or, for images, ``'bicubic'``.
        padding_mode: values outside: ``'zeros'``, ``'border'`` (the nearest pixel) or ``'reflection'``.
        align_corners: whether -1 and 1 are the centres of corner pixels, not their outer corners. None means False.

    Raises:
        ValueError: for an unknown mode or padding mode.
        RuntimeError: for incompatible shapes or dtypes, an empty image, or bicubic sampling of volumes.
        NotImplementedError: for non-floating-point arrays.

    See "Spatial transformer networks" (arXiv:1506.02025) and `torch.nn.functional.grid_sample
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.grid_sample.html>`_.

    >>> grid_sample(jnp.arange(4.0).reshape(1, 1, 2, 2), jnp.zeros((1, 1, 1, 2))).tolist()
    [[[[1.5]]]]
    """
    input, grid = jnp.asarray(input), jnp.asarray(grid)
    _check(input, grid, mode, padding_mode)
    (batch, channels, *spatial), points = input.shape, grid.shape[1:-1]
    wide = jnp.promote_types(input.dtype, jnp.float32)
    flat = input.astype(wide).reshape(batch, channels, math.prod(spatial))
    is_image = len(spatial) == 2
    places, weights = [], []
    for size, x in zip(spatial, reversed(jnp.unstack(grid.astype(wide), axis=-1)), strict=True):
        x = x.reshape(batch, math.prod(points))
        x = (x + 1) * ((size - 1) / 2) if align_corners else (x + 1) * (size / 2) - 0.5
        # Torch's kernels differ: NaN is the first pixel of images, and the last of volumes.
        for place, weight in _neighbours(x, size, mode, padding_mode, bool(align_corners), 0 if is_image else size - 1):
            places.append(jnp.where((place >= 0) & (place <= size - 1), place, -1).astype(jnp.int32))
            weights.append(weight)
    channels_last = kernels.samples_channels_last(input, len(places) // len(spatial))
    channel = 2 if channels_last else 1
    flat = materialized(jnp.swapaxes(flat, 1, 2)) if channels_last else flat
    # Otherwise XLA computes the neighbours anew for each channel.
    arrays = [materialized(jnp.expand_dims(jnp.stack(each), 1 + channel)) for each in (places, weights)]
    neighbours, count = list(zip(*arrays, strict=True)), len(places) // len(spatial)
    output = jnp.zeros((), wide)
    for corner in itertools.product(*(neighbours[i : i + count] for i in range(0, len(neighbours), count))):
        within, index, weight = jnp.ones((), bool), jnp.zeros((), jnp.int32), jnp.ones((), wide)
        for (place, factor), size in zip(corner, spatial, strict=True):
            within = within & (place >= 0)
            index = index * size + jnp.maximum(place, 0)
            weight = weight * factor
        if channels_last:
            taken = jax.vmap(lambda pixels, at: pixels.at[at].get(mode="promise_in_bounds"))(flat, index[:, :, 0])
        else:
            taken = jnp.take_along_axis(flat, index, axis=2, mode="promise_in_bounds")
        if is_image:  # here torch's kernel multiplies the zero outside by a weight that may be NaN
            output = output + jnp.where(within, taken, 0) * (1 if mode == "nearest" else weight)
        else:
            output = output + jnp.where(within, taken * weight, 0)
    output = jnp.swapaxes(materialized(output), 1, 2) if channels_last else output
    return output.reshape(batch, channels, *points).astype(input.dtype)


def _positions(count: int, align_corners: bool) -> np.ndarray:
    """Return the coordinates of ``count`` pixels between -1 and 1."""
    if count == 1:
        return np.zeros(1)
    positions = np.linspace(-1, 1, count)
    return positions if align_corners else positions * (count - 1) / count


def affine_grid(
    theta: Float[Array, "n k k_plus_1"], size: Sequence[int], align_corners: bool | None = None
) -> Float[Array, "n *points k"]:
    """Return the grid for :func:`grid_sample` that applies affine transformations to images.

    Args:
        theta: matrices ``(N, 2, 3)`` for images, ``(N, 3, 4)`` for volumes.
        size: size of the output: ``(N, C, H, W)`` or ``(N, C, D, H, W)``.
        align_corners: as in :func:`grid_sample`.

    Raises:
        NotImplementedError: for a size that is neither 4D nor 5D.
        ValueError: for a size with a number below 1, matrices of the wrong shape, or non-floating-point matrices.
        RuntimeError: if the number of matrices is not ``N``.

    See "Spatial transformer networks" (arXiv:1506.02025) and `torch.nn.functional.affine_grid
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.affine_grid.html>`_.

    >>> affine_grid(jnp.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]), (1, 1, 1, 2)).tolist()
    [[[[-0.5, 0.0], [0.5, 0.0]]]]
    """
    (theta,), size = cast_operands(theta), tuple(size)
    theta = jnp.asarray(theta)
    if not jnp.issubdtype(theta.dtype, jnp.floating):
        raise ValueError(f"affine_grid: theta must be of floating-point numbers, got {theta.dtype}")
    if len(size) not in (4, 5):
        raise NotImplementedError(f"affine_grid: size must be 4D or 5D, got {size}")
    n = len(size) - 2
    if theta.ndim != 3 or theta.shape[1:] != (n, n + 1):
        raise ValueError(f"affine_grid: theta must be of shape (N, {n}, {n + 1}) for size {size}, got {theta.shape}")
    if min(size) <= 0:
        raise ValueError(f"affine_grid: size must be positive, got {size}")
    if size[0] != theta.shape[0]:
        raise RuntimeError(f"affine_grid: expected {size[0]} matrices for size {size}, got {theta.shape[0]}")
    positions = [_positions(count, bool(align_corners)) for count in size[2:]]
    points = np.stack([*reversed(np.meshgrid(*positions, indexing="ij")), np.ones(size[2:])], -1)
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("...j,nij->n...i", jnp.asarray(points, theta.dtype), theta, precision=highest)
