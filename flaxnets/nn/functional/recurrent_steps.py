"""One step of RNNs, GRUs and LSTMs: from the input and the state to the next state."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxnets.autocast import cast_operands
from flaxnets.kernels.recurrence import GRU, LSTM, RNN_RELU, RNN_TANH, Cell
from flaxnets.nn._arguments import as_float_like, check_ndim
from flaxnets.nn.functional.activation import sigmoid
from flaxnets.nn.functional.linear import linear
from flaxnets.nn.functional.rectifier import relu


class LayerWeights(NamedTuple):
    """The weights of one direction of one layer, with torch's names and in torch's order."""

    weight_ih: Float[Array, "gates in"]
    weight_hh: Float[Array, "gates out"]
    bias_ih: Float[Array, " gates"] | None = None
    bias_hh: Float[Array, " gates"] | None = None
    weight_hr: Float[Array, "out hidden"] | None = None


# The arrays that a layer passes from step to step; the first is also its output.
State = tuple[Float[Array, "..."], ...]

# A function from weight_ih @ x + bias_ih, weight_hh @ h + bias_hh and the state to the next state.
Advance = Callable[[jax.Array, jax.Array, State], State]


def _rnn_tanh(projected: jax.Array, product: jax.Array, state: State) -> State:
    return (jnp.tanh(projected + product),)


def _rnn_relu(projected: jax.Array, product: jax.Array, state: State) -> State:
    return (relu(projected + product),)


def _gru(projected: jax.Array, product: jax.Array, state: State) -> State:
    (h,) = state
    reset, update, new = jnp.split(projected, 3, axis=-1)
    h_reset, h_update, h_new = jnp.split(product, 3, axis=-1)
    update = sigmoid(update + h_update)
    new = jnp.tanh(new + sigmoid(reset + h_reset) * h_new)
    return ((1 - update) * new + update * h,)


def _lstm(projected: jax.Array, product: jax.Array, state: State) -> State:
    _, c = state
    input, forget, cell, output = jnp.split(projected + product, 4, axis=-1)
    c = sigmoid(forget) * c + sigmoid(input) * jnp.tanh(cell)
    return sigmoid(output) * jnp.tanh(c), c


class Recurrence(NamedTuple):
    """The step of a type of recurrent layer, for ``jax.lax.scan`` and for the kernels.

    Attributes:
        gates: number of gates. Each gate has ``hidden_size`` rows of the weights.
        advance: the step after the matrix products. JAX can differentiate this function to any order, in any dtype.
        states: names of the arrays of the state.
        cell: the same step with its gradient, for :func:`flaxnets.kernels.recurrence_implementation`. The formulas of
            the forward pass differ on purpose: a kernel computes in at least float32, and therefore its LSTM can
            compute ``tanh`` by ``sigmoid``.
    """

    gates: int
    advance: Advance
    states: tuple[str, ...]
    cell: Cell

    def step(self, projected: Float[Array, "*n gates"], state: State, weights: LayerWeights) -> State:
        """Return the next state.

        Args:
            projected: ``weight_ih @ x + bias_ih``.
            state: the state before the step.
            weights: the weights. The step uses ``weight_hh`` and ``bias_hh``, and projects the output if ``weight_hr``
                is not None.

        >>> weights = LayerWeights(jnp.ones((4, 1)), jnp.zeros((4, 1)))
        >>> RECURRENCES["LSTM"].step(jnp.zeros((1, 4)), (jnp.ones((1, 1)), jnp.ones((1, 1))), weights)[1]
        Array([[0.5]], dtype=float32)
        """
        product = linear(state[0], weights.weight_hh, weights.bias_hh)
        output, *others = self.advance(projected, product, state)
        return (output if weights.weight_hr is None else linear(output, weights.weight_hr)), *others


# Steps by torch's names of the modes of recurrent layers.
RECURRENCES = {
    "RNN_TANH": Recurrence(1, _rnn_tanh, ("h_0",), RNN_TANH),
    "RNN_RELU": Recurrence(1, _rnn_relu, ("h_0",), RNN_RELU),
    "GRU": Recurrence(3, _gru, ("h_0",), GRU),  # gates in the order reset, update, new
    "LSTM": Recurrence(4, _lstm, ("h_0", "c_0"), LSTM),  # input, forget, cell, output
}


def step_once(
    layer: str,
    recurrence: Recurrence,
    input: Float[Array, "*n in"],
    hx: Sequence[Float[Array, "..."]] | None,
    weights: LayerWeights,
) -> State:
    """Run one step; the state defaults to zeros.

    Args:
        layer: name of the caller, for errors.
        recurrence: one of ``RECURRENCES``.
        input: ``(N, in)``, or unbatched ``(in,)``.
        hx: the state before the step, each array ``(N, hidden)`` or ``(hidden,)``.
        weights: the weights of the cell.

    Raises:
        ValueError: for an input or a state of the wrong rank.
        RuntimeError: for an input or a state of the wrong size or dtype.

    >>> weights = LayerWeights(jnp.ones((1, 1)), jnp.ones((1, 1)))
    >>> step_once("RNNCell", RECURRENCES["RNN_RELU"], jnp.ones(1), None, weights)
    (Array([1.], dtype=float32),)
    """
    (input,), weights, hx = cast_operands(input), LayerWeights(*cast_operands(*weights)), hx and cast_operands(*hx)
    input = as_float_like(input, weights.weight_ih, layer)
    check_ndim(input, (1, 2), layer, ValueError)
    shape = (*input.shape[:-1], weights.weight_hh.shape[-1])
    if hx is None:
        state = (jnp.zeros(shape, input.dtype),) * len(recurrence.states)
    else:
        state = tuple(map(jnp.asarray, hx))
        for array in state:
            check_ndim(array, (1, 2), f"{layer}, state", ValueError)
        actual = [(array.shape, array.dtype) for array in state]
        if actual != [(shape, input.dtype)] * len(recurrence.states):
            raise RuntimeError(
                f"{layer}: for an input of shape {input.shape} the state must be {' and '.join(recurrence.states)}, "
                f"each of shape {shape} and dtype {input.dtype}, got "
                f"{' and '.join(f'{s} of dtype {d}' for s, d in actual)}"
            )
    return recurrence.step(linear(input, weights.weight_ih, weights.bias_ih), state, weights)
