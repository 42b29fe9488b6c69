"""Losses for regression."""

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Float, Inexact

from flaxnets.nn import functional as F
from flaxnets.nn.losses._base import Loss


class L1Loss(Loss):
    """Absolute error of input and target.

    Args:
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: when called, for an unknown reduction.
        RuntimeError: when called, if the shapes do not broadcast. Shapes that differ but broadcast warn.

    See `torch.nn.L1Loss <https://docs.pytorch.org/docs/stable/generated/torch.nn.L1Loss.html>`_.

    >>> float(L1Loss()(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])))
    1.5
    """

    def __call__(self, input: Inexact[Array, "..."], target: Inexact[Array, "..."]) -> Float[Array, "..."]:
        """Return the loss of ``input`` against ``target``, arrays of any shape."""
        return F.l1_loss(input, target, reduction=self.reduction)


class MSELoss(Loss):
    """Squared error of input and target.

    Arguments and errors are those of :class:`L1Loss`.

    See `torch.nn.MSELoss <https://docs.pytorch.org/docs/stable/generated/torch.nn.MSELoss.html>`_.

    >>> float(MSELoss()(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])))
    2.5
    """

    def __call__(self, input: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the loss of ``input`` against ``target``, arrays of any shape."""
        return F.mse_loss(input, target, reduction=self.reduction)


class SmoothL1Loss(Loss):
    """Smooth L1 loss: absolute error minus ``beta / 2``; quadratic where the error is below ``beta``.

    Args:
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.
        beta: error at which the loss changes from quadratic to linear. 0 gives :class:`L1Loss`.

    Raises:
        ValueError: when called, for an unknown reduction.
        RuntimeError: when called, if ``beta`` is negative, or the shapes do not broadcast.

    See `torch.nn.SmoothL1Loss <https://docs.pytorch.org/docs/stable/generated/torch.nn.SmoothL1Loss.html>`_ and "Fast
    R-CNN" (arXiv:1504.08083).

    >>> SmoothL1Loss(reduction="none")(jnp.array([0.5, 3.0]), jnp.zeros(2)).tolist()
    [0.125, 2.5]
    """

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        beta: float = 1.0,
    ):
        super().__init__(size_average, reduce, reduction)
        self.beta = beta

    def __call__(self, input: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the loss of ``input`` against ``target``, arrays of any shape."""
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class HuberLoss(Loss):
    """Huber loss: half the squared error up to ``delta``, linear with slope ``delta`` beyond.

    Args:
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.
        delta: error at which the loss changes from quadratic to linear.

    Raises:
        TypeError: if ``delta`` is not a number.
        ValueError: when called, for an unknown reduction.
        RuntimeError: when called, if ``delta`` is not positive, or the shapes do not broadcast.

    See `torch.nn.HuberLoss <https://docs.pytorch.org/docs/stable/generated/torch.nn.HuberLoss.html>`_ and "Robust
    Estimation of a Location Parameter" (Huber, 1964).

    >>> HuberLoss(reduction="none")(jnp.array([0.5, 3.0]), jnp.zeros(2)).tolist()
    [0.125, 2.5]
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        if not isinstance(delta, (float, int)):
            raise TypeError(f"HuberLoss: delta must be a float or an int, got {delta!r}")
        super().__init__(reduction=reduction)
        self.delta = delta

    def __call__(self, input: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the loss of ``input`` against ``target``, arrays of any shape."""
        return F.huber_loss(input, target, reduction=self.reduction, delta=self.delta)
