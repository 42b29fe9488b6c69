"""Random sampling that differs from ``jax.random``."""

import jax
import jax.numpy as jnp


def multinomial(key: jax.Array, input: jax.Array, num_samples: int, replacement: bool = False) -> jax.Array:
    """Draw indices with probabilities proportional to weights.

    Args:
        key: a random key.
        input: the non-negative weights, of shape ``(n,)`` or ``(rows, n)``.
        num_samples: number of samples per row.
        replacement: whether an index may be drawn more than once.

    Raises:
        RuntimeError: without replacement, for more samples than weights.

    See `torch.multinomial <https://docs.pytorch.org/docs/stable/generated/torch.multinomial.html>`_.

    >>> multinomial(jax.random.key(0), jnp.array([0.0, 1.0, 0.0]), 2, replacement=True).tolist()
    [1, 1]
    """
    logits = jnp.log(input)
    if replacement:
        shape = (*input.shape[:-1], num_samples)
        return jax.random.categorical(key, logits[..., None, :], shape=shape).astype(int)
    if num_samples > input.shape[-1]:
        raise RuntimeError(f"multinomial: got {num_samples=} of {input.shape[-1]} weights. Expected replacement=True")
    # The indices of the largest weights with Gumbel noise are a sample without replacement.
    return jax.lax.top_k(logits + jax.random.gumbel(key, input.shape, input.dtype), num_samples)[1].astype(int)
