"""Connectionist temporal classification."""

import jax.numpy as jnp  # noqa: F401  (used by the examples)
from jaxtyping import Array, Float, Num

from flaxnets.nn import functional as F
from flaxnets.nn.functional.losses.ctc import Lengths
from flaxnets.nn.losses._base import Loss


class CTCLoss(Loss):
    """The negative log-probability of all alignments of the targets with the inputs.

    The gradient is torch's: that by the logits of which ``log_probs`` are the log-softmax.

    Args:
        blank: the class that stands for no label.
        reduction: ``"none"`` for each example's loss, ``"sum"``, or ``"mean"`` of the losses over their targets'
            lengths.
        zero_infinity: whether an infinite loss, of a target too long for its input, and its gradient become zero.

    Raises:
        RuntimeError: when called, if the shapes do not fit, a length is known to be out of range, or ``blank`` is no
            class.
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
        """Take log-probabilities ``(T, N, C)`` or ``(T, C)``, and targets ``(N, S)`` or one after the other."""
        return F.ctc_loss(
            log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction, self.zero_infinity
        )
