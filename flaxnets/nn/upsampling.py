"""Upsampling layers."""

from collections.abc import Sequence

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Num

from flaxnets.nn import functional as F
from flaxnets.nn.module import Module


class Upsample(Module):
    """Resize ``(N, C, L)``, ``(N, C, H, W)`` or ``(N, C, D, H, W)`` by interpolation.

    Args:
        size: size of the output: one int, or one int per spatial axis.
        scale_factor: factor of the input's sizes, instead of ``size``: one number, or a tuple.
        mode: a mode of :func:`flaxnets.nn.functional.interpolate`, except ``'lanczos'``.
        align_corners: whether to align the centres of corner pixels, instead of their outer corners. None means False.
        recompute_scale_factor: whether the steps follow from the rounded sizes rather than from ``scale_factor``.

    Raises:
        TypeError: for a list of scale factors; when called, for a size that is not an int.
        ValueError: when called, unless exactly one of ``size`` and ``scale_factor`` is set, for the wrong number of
            values, and for options that cannot be combined.
        NotImplementedError: when called, for a mode that is unknown or unavailable for the input's rank, or a
            non-floating-point dtype (``nearest`` also accepts uint8).
        RuntimeError: when called, for empty channels, spatial axes or output sizes.

    See `torch.nn.Upsample <https://docs.pytorch.org/docs/stable/generated/torch.nn.Upsample.html>`_.

    >>> Upsample(scale_factor=2, mode="linear")(jnp.array([[[1.0, 3.0]]])).tolist()
    [[[1.0, 1.5, 2.5, 3.0]]]
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | int | tuple[float | int, ...] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ):
        self.name = type(self).__name__
        self.size = size if size is None or isinstance(size, int) else tuple(size)
        if isinstance(scale_factor, list):
            raise TypeError(f"{self.name}: scale_factor must be a number or a tuple, got the list {scale_factor}")
        if isinstance(scale_factor, tuple):
            self.scale_factor = tuple(map(float, scale_factor))
        else:
            self.scale_factor = float(scale_factor) if scale_factor else None
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def extra_repr(self) -> str:
        """Return the size or the factor, and the mode, for ``repr``."""
        size = f"size={self.size!r}" if self.scale_factor is None else f"scale_factor={self.scale_factor!r}"
        return f"{size}, mode={self.mode!r}"

    def __call__(self, input: Num[Array, "n c *spatial"]) -> Num[Array, "n c *spatial_out"]:
        """Resize each channel."""
        return F.interpolate(
            input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )


class UpsamplingNearest2d(Upsample):
    """:class:`Upsample` with ``mode='nearest'``; deprecated in torch.

    See `torch.nn.UpsamplingNearest2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.UpsamplingNearest2d.html>`_.

    >>> UpsamplingNearest2d(scale_factor=2)(jnp.array([[[[1.0, 3.0]]]])).tolist()
    [[[[1.0, 1.0, 3.0, 3.0], [1.0, 1.0, 3.0, 3.0]]]]
    """

    def __init__(
        self, size: int | Sequence[int] | None = None, scale_factor: float | int | tuple[float | int, ...] | None = None
    ):
        super().__init__(size, scale_factor, mode="nearest")


class UpsamplingBilinear2d(Upsample):
    """:class:`Upsample` with ``mode='bilinear'`` and ``align_corners=True``; deprecated in torch.

    See `torch.nn.UpsamplingBilinear2d
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.UpsamplingBilinear2d.html>`_.

    >>> UpsamplingBilinear2d((1, 3))(jnp.array([[[[1.0, 3.0]]]])).tolist()
    [[[[1.0, 2.0, 3.0]]]]
    """

    def __init__(
        self, size: int | Sequence[int] | None = None, scale_factor: float | int | tuple[float | int, ...] | None = None
    ):
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True)
