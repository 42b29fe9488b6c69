"""The LSTM of cuDNN, NVIDIA's library for GPUs, by :mod:`jax.experimental.rnn`."""

from typing import Any

import jax
import jax.numpy as jnp

from flaxnets.kernels.recurrence import Biases


def is_present() -> bool:
    """Return whether this process has one GPU and JAX's cuDNN binding.

    >>> is_present() and jax.default_backend() != "gpu"
    False
    """
    if jax.default_backend() != "gpu" or jax.device_count() != 1:
        return False
    from jax.experimental import rnn

    return getattr(rnn, "gpu_rnn", None) is not None


def lstm(
    input: jax.Array,
    state: tuple[jax.Array, jax.Array],
    weight_ih: jax.Array,
    weight_hh: jax.Array,
    biases: Biases,
    reverse: bool,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Run one direction of one LSTM layer over all time steps, in the precision of ``jax.default_matmul_precision``.

    Forward-mode derivatives, second derivatives and ``jax.vmap`` are not supported.

    Args:
        input: Input ``(T, N, in)``. All arrays are float32.
        state: Initial state, both arrays ``(N, hidden)``.
        weight_ih: Weight of the input, ``(4 * hidden, in)``, with gates in torch's order.
        weight_hh: Weight of the state, ``(4 * hidden, hidden)``.
        biases: Biases of the input and of the state, ``(4 * hidden,)`` or None.
        reverse: Whether to run from the last step to the first.

    Returns:
        The outputs ``(T, N, hidden)``, and the final state.

    >>> state, biases = (jnp.zeros((1, 2)),) * 2, (None, None)
    >>> if is_present():
    ...     output, last = lstm(jnp.ones((5, 1, 3)), state, jnp.ones((8, 3)), jnp.ones((8, 2)), biases, reverse=False)
    """
    from jax.experimental import rnn  # imported late, because the import is slow

    gates, hidden = weight_hh.shape
    vectors = [jnp.zeros(gates, input.dtype) if bias is None else bias for bias in biases]
    packed = jnp.concatenate([array.ravel() for array in (weight_ih, weight_hh, *vectors)])
    steps, batch, size = input.shape
    result: Any = rnn.lstm(
        jnp.swapaxes(input[::-1] if reverse else input, 0, 1), *(array[None] for array in state), packed,
        jnp.full(batch, steps, jnp.int32), input_size=size, hidden_size=hidden, num_layers=1, dropout=0.0,
        bidirectional=False,
    )  # fmt: skip
    output, h, c = result
    output = jnp.swapaxes(output, 0, 1)
    return output[::-1] if reverse else output, (h[0], c[0])
