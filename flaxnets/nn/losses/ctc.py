"""Connectionist temporal classification (CTC) loss layer."""

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Float, Num

from flaxnets.nn import functional as F
from flaxnets.nn.functional.losses.ctc import Lengths
from flaxnets.nn.losses._base import Loss


class CTCLoss(Loss):
    """Connectionist temporal classification (CTC): negative log-probability of all alignments of target and input.

    The gradient is torch's: the gradient with respect to the logits whose log-softmax is ``log_probs``.

    Args:
        blank: index of the blank class.
        reduction: ``"none"`` (one loss per example), ``"sum"``, or ``"mean"`` of the losses divided by the target
            lengths.
        zero_infinity: whether to replace infinite losses (targets too long for their inputs) and their gradients by 0.

    Raises:
        RuntimeError: when called, for incompatible shapes, a known length that is out of range, or a ``blank`` that is
            out of range.
        TypeError, IndexError, ValueError, NotImplementedError: when called, as :func:`flaxnets.nn.functional.ctc_loss`.

    See `torch.nn.CTCLoss <https://docs.pytorch.org/docs/stable/generated/torch.nn.CTCLoss.html>`_ and "Connectionist
    Temporal Classification: Labelling Unsegmented Sequence Data with Recurrent Neural Networks" (Graves et al., 2006).

    >>> log_probs = jnp.log(jnp.full((2, 1, 2), 0.5))
    >>> round(float(jnp.exp(-CTCLoss()(log_probs, jnp.array([[1]]), (2,), (1,)))), 4)
    0.75
    """

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False):
        super().__init__(reduction=reduction)
        self.blank = blank
        self.zero_infinity = zero_infinity

    def __call__(
        self,
        log_probs: Float[Array, "t *n c"],
        targets: Num[Array, "..."],
        input_lengths: Lengths,
        target_lengths: Lengths,
    ) -> Float[Array, "..."]:
        """Return the loss of log-probabilities ``(T, N, C)`` or ``(T, C)``; targets are ``(N, S)`` or concatenated."""
        return F.ctc_loss(
            log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction, self.zero_infinity
        )
