"""What is minimised and what is reported, as sums over the examples of a batch."""

import jax
import optax
from jaxtyping import Array, Float, Int

Metrics = dict[str, jax.Array]


def classification(
    outputs: Float[Array, "n classes"], targets: Int[Array, " n"], weights: Float[Array, " n"]
) -> Metrics:
    """Cross-entropy of the logits, and how many examples have their largest logit at the target.

    Args:
        outputs: logits.
        targets: the right class of each example.
        weights: how much each example counts; 0 for one that only fills up a batch.

    Returns:
        The weighted sums ``loss`` (in nats) and ``correct``, and ``count``, the sum of the weights.

    >>> import jax.numpy as jnp
    >>> sums = classification(jnp.array([[0.0, 9.0]]), jnp.array([1]), jnp.ones(1))
    >>> int(sums["correct"]), int(sums["count"])
    (1, 1)
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
    correct = outputs.argmax(-1) == targets
    return {"loss": (losses * weights).sum(), "correct": (correct * weights).sum(), "count": weights.sum()}
