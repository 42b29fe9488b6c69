"""Dropout layers."""

import jax
import jax.numpy as jnp  # noqa: F401  (used by the examples)
from flax import nnx
from jaxtyping import Array, Bool, Float

from flaxnets.nn import functional as F
from flaxnets.nn.functional.dropout import check_probability
from flaxnets.nn.module import Module


class Dropout(Module):
    """In training mode, zeroes each element with probability ``p`` and divides the others by ``1 - p``.

    The layer keeps a random stream of its own, forked from ``rngs.dropout``, so every call draws a new mask and a
    seed repeats the whole sequence.

    Args:
        p: the probability of zero.
        rngs: the source of the masks.

    Raises:
        ValueError: if ``p`` is no probability.

    See "Improving neural networks by preventing co-adaptation of feature detectors" (arXiv:1207.0580) and
    `torch.nn.Dropout <https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout.html>`_.

    >>> sorted(set(Dropout(0.5, rngs=nnx.Rngs(0))(jnp.ones(100)).tolist()))
    [0.0, 2.0]
    """

    def __init__(self, p: float = 0.5, *, rngs: nnx.Rngs):
        check_probability(p, "Dropout")
        self.p = p
        self.rngs = rngs.dropout.fork()

    def draw_mask(self, shape: tuple[int, ...]) -> Bool[Array, "..."]:
        """Draws the next mask: which elements of an input of this shape are kept."""
        return jax.random.bernoulli(self.rngs(), 1 - self.p, shape)

    def __call__(
        self, input: Float[Array, "*shape"], *, mask: Bool[Array, "..."] | None = None
    ) -> Float[Array, "*shape"]:
        """Applies the mask that is given, or the next one drawn; returns the input as it is in evaluation mode."""
        if not self.training or self.p == 0:
            return input
        return F.dropout(input, self.p, mask=self.draw_mask(input.shape) if mask is None else mask)
