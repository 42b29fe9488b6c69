"""Batch normalisation layers."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flaxnets.nn import functional as F
from flaxnets.nn._arguments import check_ndim, check_sizes
from flaxnets.nn.module import Module


class _BatchNorm(Module):
    """What batch normalisation of every number of spatial axes has in common."""

    input_ndims: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: DTypeLike = jnp.float32,
        *,
        bias: bool = True,
    ):
        check_sizes(type(self).__name__, num_features=num_features)
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.weight = nnx.Param(jnp.ones(num_features, dtype)) if affine else None
        self.bias = nnx.Param(jnp.zeros(num_features, dtype)) if affine and bias else None
        tracked = track_running_stats
        self.running_mean = nnx.BatchStat(jnp.zeros(num_features, dtype)) if tracked else None
        self.running_var = nnx.BatchStat(jnp.ones(num_features, dtype)) if tracked else None
        self.num_batches_tracked = nnx.BatchStat(jnp.zeros((), int)) if tracked else None

    def _apply(self, input: jax.Array) -> jax.Array:
        input = jnp.asarray(input)
        check_ndim(input, self.input_ndims, type(self).__name__, ValueError)
        momentum = self.momentum
        if self.training and self.running_mean is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked[...] += 1
            if momentum is None:  # a cumulative average
                wide = jnp.promote_types(self.running_mean.dtype, jnp.float32)
                momentum = 1 / self.num_batches_tracked[...].astype(wide)
        return F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            None if self.weight is None else self.weight[...],
            None if self.bias is None else self.bias[...],
            self.training or self.running_mean is None,
            0.0 if momentum is None else momentum,
            self.eps,
        )


class BatchNorm1d(_BatchNorm):
    """Normalises each channel of ``(N, C)`` or ``(N, C, L)`` over the batch and the length.

    Parameters: ``weight`` (ones) and ``bias`` (zeros), both ``(num_features,)``, if ``affine``. Buffers:
    ``running_mean``, ``running_var`` (unbiased) and the count ``num_batches_tracked``, if ``track_running_stats``.

    Args:
        num_features: the number of channels ``C``.
        eps: added to the variance.
        momentum: the weight of the newest batch in the running statistics; None for the plain mean of all batches.
        affine: whether to scale and shift by learned parameters.
        track_running_stats: whether to keep running statistics; without them evaluation too uses the batch's own.
        dtype: of the parameters and running statistics; float32 if not given.
        bias: whether ``affine`` shifts as well as scales.

    Raises:
        ValueError: at the call, for an input of the wrong rank, or of one value for each channel in training mode.
        RuntimeError: at the call, for an input with another number of channels.

    See `torch.nn.BatchNorm1d <https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html>`_ and
    arXiv:1502.03167.

    >>> BatchNorm1d(3)(jnp.ones((4, 3))).shape
    (4, 3)
    """

    input_ndims = (2, 3)

    def __call__(self, input: Float[Array, "n c *length"]) -> Float[Array, "n c *length"]:
        """Normalises, and in training mode updates the running statistics."""
        return self._apply(input)


class BatchNorm2d(_BatchNorm):
    """Normalises each channel of ``(N, C, H, W)`` over the batch and the pixels.

    Parameters, buffers, arguments and errors are those of :class:`BatchNorm1d`.

    See `torch.nn.BatchNorm2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html>`_ and
    arXiv:1502.03167.

    >>> BatchNorm2d(3)(jnp.ones((4, 3, 5, 5))).shape
    (4, 3, 5, 5)
    """

    input_ndims = (4,)

    def __call__(self, input: Float[Array, "n c h w"]) -> Float[Array, "n c h w"]:
        """Normalises, and in training mode updates the running statistics."""
        return self._apply(input)
