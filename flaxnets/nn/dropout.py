"""Dropout layers."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Shaped

from flaxnets.nn import functional as F
from flaxnets.nn.functional.dropout import channels_of, check_probability, spatial_leading
from flaxnets.nn.module import Module

Mask = Bool[Array, "..."] | None


class _Dropout(Module):
    """Base class of dropout of elements and of channels."""

    _extra_repr = "p={p}, inplace={inplace}"

    def __init__(self, p: float = 0.5, inplace: bool = False, *, rngs: nnx.Rngs):
        check_probability(p, type(self).__name__)
        self.p = p
        self.inplace = inplace
        self.rngs = rngs.dropout.fork()

    def _mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def draw_mask(self, shape: tuple[int, ...]) -> Bool[Array, "..."]:
        """Draw the next mask for an input of this shape: True for the elements to keep."""
        return jax.random.bernoulli(self.rngs(), 1 - self.p, self._mask_shape(shape))

    def _mask(self, input: jax.Array, mask: Mask) -> Mask:
        if mask is None and self.training and 0 < self.p < 1:
            return self.draw_mask(jnp.shape(input))
        return mask


class Dropout(_Dropout):
    """In training mode, zero each element with probability ``p`` and divide the others by ``1 - p``.

    The layer has a separate random stream, forked from ``rngs.dropout``. Every call draws a new mask, and the same seed
    repeats the same sequence of masks.

    Args:
        p: probability of zeroing an element.
        inplace: stored, without effect: JAX arrays are immutable.
        rngs: random number generators for the masks.

    Raises:
        ValueError: if ``p`` is not in ``[0, 1]``.
        RuntimeError: when called in training mode, for an input of integers or booleans.
        NotImplementedError: when called in training mode, for a complex input.

    See "Improving neural networks by preventing co-adaptation of feature detectors" (arXiv:1207.0580) and
    `torch.nn.Dropout <https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout.html>`_.

    >>> sorted(set(Dropout(0.5, rngs=nnx.Rngs(0))(jnp.ones(100)).tolist()))
    [0.0, 2.0]
    """

    def __call__(self, input: Shaped[Array, "*shape"], *, mask: Mask = None) -> Shaped[Array, "*shape"]:
        """Apply ``mask``, or draw one; evaluation mode returns the input unchanged."""
        return F.dropout(input, self.p, self.training, mask=self._mask(input, mask))


class Dropout1d(_Dropout):
    """:class:`Dropout` of whole channels of ``(N, C, L)`` or ``(C, L)``.

    Raises:
        RuntimeError: when called, for an input of other than two or three axes.

    See "Efficient object localization using convolutional networks" (arXiv:1411.4280) and
    `torch.nn.Dropout1d <https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout1d.html>`_.

    >>> Dropout1d(0.5, rngs=nnx.Rngs(0)).draw_mask((2, 3, 5)).shape
    (2, 3, 1)
    """

    def _mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return channels_of(shape, spatial_leading(len(shape), 1))

    def __call__(self, input: Shaped[Array, "*n c l"], *, mask: Mask = None) -> Shaped[Array, "*n c l"]:
        """Apply ``mask``, or draw one; evaluation mode returns the input unchanged."""
        return F.dropout1d(input, self.p, self.training, mask=self._mask(input, mask))


class Dropout2d(_Dropout):
    """:class:`Dropout` of whole channels of ``(N, C, H, W)``.

    As in torch, an input of three axes is treated as ``(N, C, L)``, with a warning; other ranks warn as well.

    Raises:
        RuntimeError: when called in training mode, for an input of fewer than two axes.

    See "Efficient object localization using convolutional networks" (arXiv:1411.4280) and
    `torch.nn.Dropout2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout2d.html>`_.

    >>> Dropout2d(0.5, rngs=nnx.Rngs(0)).draw_mask((2, 3, 5, 5)).shape
    (2, 3, 1, 1)
    """

    def _mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return channels_of(shape, spatial_leading(len(shape), 2))

    def __call__(self, input: Shaped[Array, "*shape"], *, mask: Mask = None) -> Shaped[Array, "*shape"]:
        """Apply ``mask``, or draw one; evaluation mode returns the input unchanged."""
        return F.dropout2d(input, self.p, self.training, mask=self._mask(input, mask))


class Dropout3d(_Dropout):
    """:class:`Dropout` of whole channels of ``(N, C, D, H, W)`` or ``(C, D, H, W)``.

    As in torch, inputs of other ranks warn, and each mask element covers one index of the first axis.

    Raises:
        RuntimeError: when called in training mode, for an input without axes.

    See "Efficient object localization using convolutional networks" (arXiv:1411.4280) and
    `torch.nn.Dropout3d <https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout3d.html>`_.

    >>> Dropout3d(0.5, rngs=nnx.Rngs(0)).draw_mask((2, 3, 5, 5, 5)).shape
    (2, 3, 1, 1, 1)
    """

    def _mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return channels_of(shape, spatial_leading(len(shape), 3))

    def __call__(self, input: Shaped[Array, "*shape"], *, mask: Mask = None) -> Shaped[Array, "*shape"]:
        """Apply ``mask``, or draw one; evaluation mode returns the input unchanged."""
        return F.dropout3d(input, self.p, self.training, mask=self._mask(input, mask))


class AlphaDropout(_Dropout):
    """Dropout for networks of :class:`SELU`: dropped elements become SELU's lowest value.

    The output is scaled and shifted, so that mean 0 and variance 1 are preserved.

    See "Self-normalizing neural networks" (arXiv:1706.02515) and
    `torch.nn.AlphaDropout <https://docs.pytorch.org/docs/stable/generated/torch.nn.AlphaDropout.html>`_.

    >>> AlphaDropout(0.5, rngs=nnx.Rngs(0))(jnp.ones((2, 3))).shape
    (2, 3)
    """

    def __call__(self, input: Shaped[Array, "*shape"], *, mask: Mask = None) -> Shaped[Array, "*shape"]:
        """Apply ``mask``, or draw one; evaluation mode returns the input unchanged."""
        return F.alpha_dropout(input, self.p, self.training, mask=self._mask(input, mask))


class FeatureAlphaDropout(_Dropout):
    """:class:`AlphaDropout` of whole channels of ``(N, C, ...)``.

    Raises:
        RuntimeError: when called in training mode, for an input of fewer than two axes.

    See "Self-normalizing neural networks" (arXiv:1706.02515) and `torch.nn.FeatureAlphaDropout
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.FeatureAlphaDropout.html>`_.

    >>> FeatureAlphaDropout(0.5, rngs=nnx.Rngs(0)).draw_mask((2, 3, 5)).shape
    (2, 3, 1)
    """

    def _mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return channels_of(shape, 2)

    def __call__(self, input: Shaped[Array, "*shape"], *, mask: Mask = None) -> Shaped[Array, "*shape"]:
        """Apply ``mask``, or draw one; evaluation mode returns the input unchanged."""
        return F.feature_alpha_dropout(input, self.p, self.training, mask=self._mask(input, mask))
