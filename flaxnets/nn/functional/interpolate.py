"""Interpolation (resizing), one axis after the other."""

import functools
import math
import numbers
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num

from flaxnets.kernels.resampling import AxisMap, resample
from flaxnets.nn.functional import _resampling as taps
from flaxnets.nn.functional.adaptive_pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d

Sizes = int | Sequence[int] | None
Factors = float | int | Sequence[float | int] | None

# The ranks that each mode supports.
MODES = {
    "nearest": (3, 4, 5),
    "nearest-exact": (3, 4, 5),
    "area": (3, 4, 5),
    "linear": (3,),
    "bilinear": (4,),
    "bicubic": (4,),
    "lanczos": (4,),
    "trilinear": (5,),
}


def _per_axis(value: float | int | Sequence[float | int], spatial: tuple[int, ...], what: str) -> tuple:
    if not isinstance(value, (list, tuple)):
        return (value,) * len(spatial)
    if len(value) != len(spatial):
        raise ValueError(
            f"interpolate: {what} must be one number or {len(spatial)} numbers, got {value} for {spatial} elements"
        )
    return tuple(value)


def _sizes(
    spatial: tuple[int, ...], size: Sizes, scale_factor: Factors, recompute: bool
) -> tuple[tuple[int, ...], tuple[float | int | None, ...]]:
    """Return the output's sizes, and the factors that define the steps; None where the sizes define them."""
    if (size is None) == (scale_factor is None):
        raise ValueError(f"interpolate: expected exactly one of size and scale_factor, got {size} and {scale_factor}")
    if size is not None:
        if recompute:
            raise ValueError(f"interpolate: recompute_scale_factor requires scale_factor, got size={size}")
        sizes = _per_axis(size, spatial, "size")
        if not all(isinstance(s, numbers.Integral) for s in sizes):
            raise TypeError(f"interpolate: size must be one int or several, got {size!r}")
        return sizes, (None,) * len(spatial)
    factors = _per_axis(scale_factor or 0.0, spatial, "scale_factor")
    sizes = tuple(math.trunc(s * factor) for s, factor in zip(spatial, factors, strict=True))
    return sizes, (None,) * len(spatial) if recompute else factors


def _check_mode(ndim: int, mode: str, align_corners: bool | None, antialias: bool) -> None:
    if align_corners is not None and mode in ("nearest", "area", "nearest-exact"):
        raise ValueError(f"interpolate: mode={mode!r} does not support align_corners, got {align_corners}")
    if antialias and not (mode in taps.FILTERS and ndim == 4):
        raise ValueError(
            f"interpolate: antialias requires 4D input and a mode in {list(taps.FILTERS)}, got {ndim}D and {mode!r}"
        )
    if ndim not in MODES.get(mode, ()):
        supported = ", ".join(f"{name} of {'/'.join(map(str, ndims))}D" for name, ndims in MODES.items())
        raise NotImplementedError(f"interpolate: got mode={mode!r} of {ndim}D input, expected {supported}")
    if mode == "lanczos" and (align_corners or not antialias):
        raise ValueError(
            "interpolate: mode='lanczos' requires antialias=True and no align_corners, got "
            f"antialias={antialias}, align_corners={align_corners}"
        )


@jax.custom_jvp
def _differentiated_as(value: jax.Array, other: jax.Array) -> jax.Array:
    return value


_differentiated_as.defjvp(lambda primals, tangents: (primals[0], tangents[1]))


@functools.lru_cache(maxsize=256)
def _axis_map(
    size: int,
    output: int,
    factor: float | int | None,
    mode: str,
    align_corners: bool,
    antialias: bool,
    dtype: type[np.floating],
) -> AxisMap:
    if mode.startswith("nearest"):
        return AxisMap.of_taps(size, taps.nearest(size, output, factor, exact=mode == "nearest-exact")[:, None])
    if antialias:
        return AxisMap.of_taps(size, *taps.antialiased(size, output, align_corners, factor, dtype, mode))
    neighbours = taps.cubic if mode == "bicubic" else taps.linear
    return AxisMap.of_taps(size, *neighbours(size, output, align_corners, factor, dtype))


def _resize(
    x: jax.Array,
    sizes: tuple[int, ...],
    factors: tuple[float | int | None, ...],
    mode: str,
    align_corners: bool,
    antialias: bool,
) -> jax.Array:
    """Resize all axes; if a size is unchanged, torch skips the filter in one pass (forward or backward) only."""
    dtype = np.float64 if x.dtype == jnp.float64 else np.float32
    maps = tuple(
        _axis_map(size, output, factor if factor is None else float(factor), mode, align_corners, antialias, dtype)
        for size, output, factor in zip(x.shape[2:], sizes, factors, strict=True)
    )
    if antialias:
        changes = tuple(m if m.size != m.output else None for m in maps)
        y = resample(x, changes)
        return y if changes == maps else _differentiated_as(y, resample(x, maps))
    y = resample(x, maps)
    return _differentiated_as(y, x) if mode == "bicubic" and x.shape == y.shape else y


def interpolate(
    input: Num[Array, "n c *spatial"],
    size: Sizes = None,
    scale_factor: Factors = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Num[Array, "n c *spatial_out"]:
    """Resize ``(N, C, L)``, ``(N, C, H, W)`` or ``(N, C, D, H, W)`` by interpolation.

    Args:
        input: floating-point array; ``nearest`` and ``nearest-exact`` also accept uint8.
        size: size of the output: one int, or one int per spatial axis.
        scale_factor: factor of the input's sizes, instead of ``size``.
        mode: ``'nearest'``, ``'nearest-exact'`` (nearest with centred pixels), ``'area'`` (adaptive mean), or
            ``'linear'`` of 3D, ``'bilinear'``, ``'bicubic'``, ``'lanczos'`` of 4D, ``'trilinear'`` of 5D input.
        align_corners: for the last five modes, whether to align the centres of corner pixels, instead of their outer
            corners.
        recompute_scale_factor: whether the steps follow from the rounded sizes rather than from ``scale_factor``.
        antialias: for bilinear, bicubic and lanczos (which requires it), whether the filter grows when images shrink.

    Raises:
        ValueError: unless exactly one of ``size`` and ``scale_factor`` is set, for the wrong number of values, and for
            options that cannot be combined.
        TypeError: for a size that is not an int.
        NotImplementedError: for a mode that is unknown or unavailable for the input's rank, or an unsupported dtype.
            Torch also accepts uint8 in some other modes, with integer arithmetic of their own.
        RuntimeError: for empty channels, spatial axes or output sizes.

    See `torch.nn.functional.interpolate
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.interpolate.html>`_.

    >>> interpolate(jnp.array([[[1.0, 3.0]]]), scale_factor=2, mode="linear").tolist()
    [[[1.0, 1.5, 2.5, 3.0]]]
    """
    input = jnp.asarray(input)
    recompute = bool(recompute_scale_factor) or (mode == "area" and size is None)
    sizes, factors = _sizes(input.shape[2:], size, scale_factor, recompute)
    _check_mode(input.ndim, mode, align_corners, antialias)
    if mode == "area":
        return (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[input.ndim - 3](input, sizes)
    if min(*sizes, *input.shape[1:]) <= 0:
        raise RuntimeError(
            f"interpolate: channels and sizes must be positive, got an input of shape {input.shape} and size {sizes}"
        )
    is_byte = input.dtype == jnp.uint8 and mode.startswith("nearest")
    if not (is_byte or jnp.issubdtype(input.dtype, jnp.floating)):
        raise NotImplementedError(
            f"interpolate: mode={mode!r} does not support {input.dtype}. Fix: cast to floating point"
        )
    x = input if is_byte else input.astype(jnp.promote_types(input.dtype, jnp.float32))
    return _resize(x, sizes, factors, mode, bool(align_corners), antialias).astype(input.dtype)


def upsample(
    input: Num[Array, "n c *spatial"],
    size: Sizes = None,
    scale_factor: Factors = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Num[Array, "n c *spatial_out"]:
    """Deprecated name of :func:`interpolate`, as in torch.

    See `torch.nn.functional.upsample
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.upsample.html>`_.

    >>> upsample(jnp.array([[[1.0, 3.0]]]), 4).tolist()
    [[[1.0, 1.0, 3.0, 3.0]]]
    """
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(
    input: Num[Array, "n c *spatial"], size: Sizes = None, scale_factor: Factors = None
) -> Num[Array, "n c *spatial_out"]:
    """:func:`interpolate` with ``mode='nearest'``; deprecated in torch.

    See `torch.nn.functional.upsample_nearest
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.upsample_nearest.html>`_.

    >>> upsample_nearest(jnp.array([[[1.0, 3.0]]]), scale_factor=2).tolist()
    [[[1.0, 1.0, 3.0, 3.0]]]
    """
    return interpolate(input, size, scale_factor)


def upsample_bilinear(
    input: Num[Array, "n c h w"], size: Sizes = None, scale_factor: Factors = None
) -> Num[Array, "n c h_out w_out"]:
    """:func:`interpolate` with ``mode='bilinear'`` and ``align_corners=True``; deprecated in torch.

    See `torch.nn.functional.upsample_bilinear
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.upsample_bilinear.html>`_.

    >>> upsample_bilinear(jnp.array([[[[1.0, 3.0]]]]), (1, 3)).tolist()
    [[[[1.0, 2.0, 3.0]]]]
    """
    return interpolate(input, size, scale_factor, "bilinear", True)
