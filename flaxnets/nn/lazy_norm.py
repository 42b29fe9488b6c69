"""Lazy normalisation layers, which read the number of features from their first input."""

import jax.numpy as jnp
from jax.typing import DTypeLike

from flaxnets.nn.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from flaxnets.nn.instancenorm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from flaxnets.nn.lazy import LazyModuleMixin


class _LazyNorm(LazyModuleMixin):
    """Base class of lazy normalisations."""

    inferred = "num_features"

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: DTypeLike = jnp.float32,
        *,
        bias: bool = True,
    ):
        arguments = {"eps": eps, "momentum": momentum, "affine": affine, "track_running_stats": track_running_stats}
        self._begin({**arguments, "dtype": dtype, "bias": bias})

    def _size(self, shape: tuple[int, ...]) -> int:
        if len(shape) < 2:
            raise IndexError(f"{type(self).__name__}: expected an input of at least two axes, got the shape {shape}")
        return shape[1]


class LazyBatchNorm1d(_LazyNorm, BatchNorm1d):
    """A :class:`BatchNorm1d` that reads ``num_features`` from its first input (see :class:`LazyModuleMixin`).

    Arguments are those of :class:`BatchNorm1d` without ``num_features``.

    Raises:
        IndexError: on the first call, for an input of fewer than two axes.
        RuntimeError: on the first call, if a transformation traces it, or the input does not match loaded arrays.

    See `torch.nn.LazyBatchNorm1d <https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyBatchNorm1d.html>`_.

    >>> layer = LazyBatchNorm1d()
    >>> layer(jnp.ones((4, 3))).shape, layer.num_features
    ((4, 3), 3)
    """

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, BatchNorm2d):
    """A :class:`BatchNorm2d` that reads ``num_features`` from its first input, like :class:`LazyBatchNorm1d`.

    See `torch.nn.LazyBatchNorm2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyBatchNorm2d.html>`_.

    >>> layer = LazyBatchNorm2d()
    >>> layer(jnp.ones((4, 3, 5, 5))).shape, layer.num_features
    ((4, 3, 5, 5), 3)
    """

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_LazyNorm, BatchNorm3d):
    """A :class:`BatchNorm3d` that reads ``num_features`` from its first input, like :class:`LazyBatchNorm1d`.

    See `torch.nn.LazyBatchNorm3d <https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyBatchNorm3d.html>`_.

    >>> layer = LazyBatchNorm3d()
    >>> layer(jnp.ones((4, 3, 5, 5, 5))).shape, layer.num_features
    ((4, 3, 5, 5, 5), 3)
    """

    cls_to_become = BatchNorm3d


class LazyInstanceNorm1d(_LazyNorm, InstanceNorm1d):
    """A :class:`InstanceNorm1d` that reads ``num_features`` from its first input, like :class:`LazyBatchNorm1d`.

    As in torch, ``affine`` and ``track_running_stats`` default to True, unlike in the ordinary layer. As in torch, the
    number of features is the size of the input's second axis, even for an input without a batch axis.

    See `torch.nn.LazyInstanceNorm1d <https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyInstanceNorm1d.html>`_.

    >>> layer = LazyInstanceNorm1d()
    >>> layer(jnp.ones((4, 3, 5))).shape, layer.num_features
    ((4, 3, 5), 3)
    """

    cls_to_become = InstanceNorm1d


class LazyInstanceNorm2d(_LazyNorm, InstanceNorm2d):
    """A :class:`InstanceNorm2d` that reads ``num_features`` from its first input, like :class:`LazyBatchNorm1d`.

    See `torch.nn.LazyInstanceNorm2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyInstanceNorm2d.html>`_.

    >>> layer = LazyInstanceNorm2d()
    >>> layer(jnp.ones((4, 3, 5, 5))).shape, layer.num_features
    ((4, 3, 5, 5), 3)
    """

    cls_to_become = InstanceNorm2d


class LazyInstanceNorm3d(_LazyNorm, InstanceNorm3d):
    """A :class:`InstanceNorm3d` that reads ``num_features`` from its first input, like :class:`LazyBatchNorm1d`.

    See `torch.nn.LazyInstanceNorm3d <https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyInstanceNorm3d.html>`_.

    >>> layer = LazyInstanceNorm3d()
    >>> layer(jnp.ones((4, 3, 5, 5, 5))).shape, layer.num_features
    ((4, 3, 5, 5, 5), 3)
    """

    cls_to_become = InstanceNorm3d
