"""Dropout."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def check_probability(p: float, name: str) -> None:
    """Raises ValueError unless ``p`` is a probability."""
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: the dropout probability must be between 0 and 1, got {p}")


def dropout(
    input: Float[Array, "*shape"],
    p: float = 0.5,
    training: bool = True,
    *,
    key: jax.Array | None = None,
    mask: Bool[Array, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """Zeroes each element with probability ``p`` and divides the others by ``1 - p``.

    Args:
        input: of any shape.
        p: the probability of zero.
        training: the input comes back as it is if False.
        key: the random key that the mask is drawn with.
        mask: which elements to keep, instead of drawing; of a shape that broadcasts to the input's.

    Raises:
        ValueError: if ``p`` is no probability, or neither ``key`` nor ``mask`` is there to decide.

    See `torch.nn.functional.dropout
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.dropout.html>`_.

    >>> dropout(jnp.ones(3), p=0.5, mask=jnp.array([True, False, True])).tolist()
    [2.0, 0.0, 2.0]
    """
    check_probability(p, "dropout")
    input = jnp.asarray(input)
    if not training or p == 0:
        return input
    if mask is None:
        if key is None:
            raise ValueError("dropout: give a random key, or a mask of the elements to keep")
        mask = jax.random.bernoulli(key, 1 - p, input.shape)
    return jnp.where(mask, input / (1 - p), 0) if p < 1 else jnp.zeros_like(input)
