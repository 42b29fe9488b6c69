"""Softmax layers."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxnets.nn import functional as F
from flaxnets.nn._arguments import check_ndim
from flaxnets.nn.module import Module

# The warning about an omitted ``dim`` must point to the caller of the layer.
_CALLER = 4


class Softmax(Module):
    """Divide ``exp(input)`` by its sum along an axis.

    Args:
        dim: the axis. None means 0 for inputs of 0, 1 or 3 axes and 1 for others, with a warning on each call.

    Raises:
        IndexError: when called, for an axis that the input lacks.
        TypeError: when called, for an axis that is not an integer.
        NotImplementedError: when called, for a non-floating-point input.

    See `torch.nn.Softmax <https://docs.pytorch.org/docs/stable/generated/torch.nn.Softmax.html>`_.

    >>> Softmax(dim=1)(jnp.zeros((1, 4))).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """

    _extra_repr = "dim={dim}"

    def __init__(self, dim: int | None = None):
        self.dim = dim

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return probabilities."""
        return F.softmax(input, self.dim, _CALLER)


class Softmin(Module):
    """Apply :class:`Softmax` to the negated input; arguments and errors are the same.

    See `torch.nn.Softmin <https://docs.pytorch.org/docs/stable/generated/torch.nn.Softmin.html>`_.

    >>> Softmin(dim=1)(jnp.zeros((1, 4))).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """

    _extra_repr = "dim={dim}"

    def __init__(self, dim: int | None = None):
        self.dim = dim

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return probabilities."""
        return F.softmin(input, self.dim, _CALLER)


class LogSoftmax(Module):
    """Compute the logarithm of :class:`Softmax` without overflow; arguments and errors are the same.

    See `torch.nn.LogSoftmax <https://docs.pytorch.org/docs/stable/generated/torch.nn.LogSoftmax.html>`_.

    >>> LogSoftmax(dim=0)(jnp.array([0.0, -200.0])).tolist()
    [0.0, -200.0]
    """

    _extra_repr = "dim={dim}"

    def __init__(self, dim: int | None = None):
        self.dim = dim

    def __call__(self, input: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return logarithms of probabilities."""
        return F.log_softmax(input, self.dim, _CALLER)


class Softmax2d(Module):
    """Apply :class:`Softmax` to the channels of ``(N, C, H, W)`` or ``(C, H, W)``.

    Raises:
        ValueError: when called, for an input of other than three or four axes.
        NotImplementedError: when called, for a non-floating-point input.

    See `torch.nn.Softmax2d <https://docs.pytorch.org/docs/stable/generated/torch.nn.Softmax2d.html>`_.

    >>> float(Softmax2d()(jnp.zeros((4, 2, 2)))[0, 0, 0])
    0.25
    """

    def __call__(self, input: Float[Array, "*n c h w"]) -> Float[Array, "*n c h w"]:
        """Return the probabilities of the channels at each position."""
        check_ndim(jnp.asarray(input), (3, 4), "Softmax2d", ValueError)
        return F.softmax(input, -3)
