"""Negative log-likelihood losses and the Kullback-Leibler divergence."""

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Float, Num

from flaxnets.nn import functional as F
from flaxnets.nn.losses._base import Loss


class GaussianNLLLoss(Loss):
    """Negative log-likelihood of the target under normal distributions.

    Args:
        full: whether to add the constant ``log(2 pi) / 2``.
        eps: the smallest variance. Smaller variances are clamped, which gradients ignore.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: when called, if a known variance is negative, a variance has an incompatible shape, or for an
            unknown reduction.

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
        """Return the loss of means of any shape; ``var`` may lack the last axis, or have size 1 in one axis."""
        return F.gaussian_nll_loss(input, target, var, full=self.full, eps=self.eps, reduction=self.reduction)


class PoissonNLLLoss(Loss):
    """Negative log-likelihood of the target under Poisson distributions.

    Args:
        log_input: whether the input contains logarithms of the rates.
        full: whether to add Stirling's approximation of ``log(target!)`` for targets above 1.
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        eps: added to a rate before taking its logarithm.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one loss per element), ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: when called, for an unknown reduction.
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
        """Return the loss of ``input`` against ``target``, arrays of any shape."""
        return F.poisson_nll_loss(
            log_input, target, log_input=self.log_input, full=self.full, eps=self.eps, reduction=self.reduction
        )


class KLDivLoss(Loss):
    """Kullback-Leibler divergence of the target from the input's log-probabilities.

    Args:
        size_average: deprecated. False, with ``reduce`` unset, means ``"sum"``.
        reduce: deprecated. False means ``"none"``.
        reduction: ``"none"`` (one term per element), ``"sum"``, ``"batchmean"`` (the divergence), or ``"mean"`` over
            all terms, which warns, as in torch.
        log_target: whether the target contains log-probabilities, too.

    Raises:
        ValueError: when called, for an unknown reduction.
        RuntimeError: when called, if the shapes do not broadcast, or for integers or complex numbers.

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
        """Return the loss of ``input`` against ``target``, arrays of any shape."""
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)
