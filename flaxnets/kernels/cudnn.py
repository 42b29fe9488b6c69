"""The LSTM of cuDNN, NVIDIA's library for GPUs, as JAX offers it in :mod:`jax.experimental.rnn`."""

from typing import Any

import jax
import jax.numpy as jnp

from flaxnets.kernels.recurrence import Biases


def is_present() -> bool:
    """Whether this process has one GPU, and JAX the library for it.

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
    """Runs one direction of one layer over all time steps, in the precision of ``jax.default_matmul_precision``.

    It has no forward-mode or second derivative, and cannot be mapped over.

    Args:
        input: of float32, as all arrays, ``(T, N, in)``.
        state: before the first step, both ``(N, hidden)``.
        weight_ih: of the input, ``(4 * hidden, in)``, gates in torch's order.
        weight_hh: of the state, ``(4 * hidden, hidden)``.
        biases: of the input and of the state, ``(4 * hidden,)`` or None.
        reverse: whether to go from the last step to the first.

    Returns:
        The outputs ``(T, N, hidden)``, and the state after the last step taken.

    >>> state, biases = (jnp.zeros((1, 2)),) * 2, (None, None)
    >>> if is_present():
    ...     output, last = lstm(jnp.ones((5, 1, 3)), state, jnp.ones((8, 3)), jnp.ones((8, 2)), biases, reverse=False)
    """
    from jax.experimental import rnn  # it takes time that only its users should

    gates, hidden = weight_hh.shape
    vectors = [jnp.zeros(gates, input.dtype) if bias is None else bias for bias in biases]
    packed = jnp.concatenate([array.ravel() for array in (weight_ih, weight_hh, *vectors)])
    steps, batch, size = input.shape
    found: Any = rnn.lstm(
        jnp.swapaxes(input[::-1] if reverse else input, 0, 1), *(array[None] for array in state), packed,
        jnp.full(batch, steps, jnp.int32), input_size=size, hidden_size=hidden, num_layers=1, dropout=0.0,
        bidirectional=False,
    )  # fmt: skip
    output, h, c = found
    output = jnp.swapaxes(output, 0, 1)
    return output[::-1] if reverse else output, (h[0], c[0])
