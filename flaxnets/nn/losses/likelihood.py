"""Negative log-likelihoods of distributions, and the divergence of one from another."""

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Float, Num

from flaxnets.nn import functional as F
from flaxnets.nn.losses._base import Loss


class GaussianNLLLoss(Loss):
    """The negative log-likelihood of the target under normal distributions.

    Args:
        full: whether to add the constant ``log(2 pi) / 2``.
        eps: the least variance; gradients ignore that a smaller one has been raised to it.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: when called, if a variance is negative (as far as it is known) or of a shape that does not fit, or
            if there is no such reduction.

    See `torch.nn.GaussianNLLLoss <https://docs.pytorch.org/docs/stable/generated/torch.nn.GaussianNLLLoss.html>`_ and
    "Estimating the mean and variance of the target probability distribution" (Nix and Weigend, 1994).

    >>> float(GaussianNLLLoss()(jnp.zeros(3), jnp.ones(3), jnp.ones(3)))
    0.5
    """

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean"):
        super().__init__(reduction=reduction)
        self.full = full
        self.eps = eps

    def __call__(
        self, input: Float[Array, "..."], target: Float[Array, "..."], var: Float[Array, "..."] | float
    ) -> Float[Array, "..."]:
        """Take means of any shape; ``var`` may lack the last axis, or have size 1 in one."""
        return F.gaussian_nll_loss(input, target, var, full=self.full, eps=self.eps, reduction=self.reduction)


class PoissonNLLLoss(Loss):
    """The negative log-likelihood of the target under Poisson distributions.

    Args:
        log_input: whether the input has the logarithms of the rates.
        full: whether to add Stirling's approximation of ``log(target!)`` where the target is above 1.
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        eps: added to a rate before its logarithm is taken.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: when called, if there is no such reduction.
        RuntimeError: when called, if the shapes do not broadcast.

    See `torch.nn.PoissonNLLLoss <https://docs.pytorch.org/docs/stable/generated/torch.nn.PoissonNLLLoss.html>`_.

    >>> float(PoissonNLLLoss()(jnp.zeros(2), jnp.ones(2)))
    1.0
    """

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        size_average: bool | None = None,
        eps: float = 1e-8,
        reduce: bool | None = None,
        reduction: str = "mean",
    ):
        super().__init__(size_average, reduce, reduction)
        self.log_input = log_input
        self.full = full
        self.eps = eps

    def __call__(self, log_input: Num[Array, "..."], target: Num[Array, "..."]) -> Float[Array, "..."]:
        """Compare the two, which have any shape."""
        return F.poisson_nll_loss(
            log_input, target, log_input=self.log_input, full=self.full, eps=self.eps, reduction=self.reduction
        )


class KLDivLoss(Loss):
    """The terms of the Kullback-Leibler divergence of the target from the input's log-probabilities.

    Args:
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"``, ``"sum"``, ``"batchmean"``, which is the divergence, or ``"mean"`` over all terms, of
            which the call warns, as torch does.
        log_target: whether the target, too, has log-probabilities.

    Raises:
        ValueError: when called, if there is no such reduction.
        RuntimeError: when called, if the shapes do not broadcast, or for whole or complex numbers.

    See `torch.nn.KLDivLoss <https://docs.pytorch.org/docs/stable/generated/torch.nn.KLDivLoss.html>`_.

    >>> half = jnp.full((1, 2), 0.5)
    >>> float(KLDivLoss(reduction="batchmean")(jnp.log(half), half))
    0.0
    """

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        log_target: bool = False,
    ):
        super().__init__(size_average, reduce, reduction)
        self.log_target = log_target

    def __call__(self, input: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
        """Compare the two, which have any shape."""
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)
