"""Sampling text from a trained language model."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


def generate(
    model: nnx.Module, prefix_ids: Sequence[int] | np.ndarray, length: int, *, key: jax.Array, temperature: float = 1.0
) -> np.ndarray:
    """Sample the continuation of a prefix from a recurrent language model, one token after the other.

    Args:
        model: Function from ids ``(T, N)`` and an optional state to logits ``(T * N, vocab_size)`` and the next state.
            Sampling uses a copy in evaluation mode.
        prefix_ids: The ids to continue, at least one.
        length: Number of tokens to sample.
        key: Random key.
        temperature: Divisor of the logits. Values below 1 favor likely tokens, values above 1 unlikely tokens.

    Returns:
        The sampled ids without the prefix, of shape ``(length,)``.

    Raises:
        ValueError: If the prefix is empty, or if ``length`` or ``temperature`` is not positive.

    >>> import flaxnets
    >>> model = flaxnets.create_model("rnn_lm", vocab_size=28, num_hiddens=8)
    >>> generate(model, [5, 3], 10, key=jax.random.key(0)).shape
    (10,)
    """
    prefix = jnp.asarray(prefix_ids, jnp.int32)
    if prefix.ndim != 1 or prefix.size == 0:
        raise ValueError(f"prefix_ids must be a sequence of at least one id, got shape {prefix.shape}")
    if length < 1:
        raise ValueError(f"length must be positive, got {length}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    clone = nnx.clone(model)
    clone.eval()
    graphdef, state = nnx.split(clone)
    return np.asarray(_draw(graphdef, state, prefix, key, jnp.float32(temperature), length))


@functools.partial(jax.jit, static_argnames=("graphdef", "length"))
def _draw(
    graphdef: nnx.GraphDef, state: nnx.State, prefix: jax.Array, key: jax.Array, temperature: jax.Array, length: int
) -> jax.Array:
    model = nnx.merge(graphdef, state, copy=True)
    logits, carry = model(prefix[:, None])

    def step(before: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
        logits, carry = before
        drawn = jax.random.categorical(key, logits / temperature)
        logits, carry = model(drawn[None, None], carry)
        return (logits[0], carry), drawn

    return jax.lax.scan(step, (logits[-1], carry), jax.random.split(key, length))[1]
