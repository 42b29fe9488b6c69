"""What one step of each kind of recurrent layer does."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxnets.autocast import cast_operands
from flaxnets.kernels import recurrence
from flaxnets.nn._arguments import as_float_like, check_ndim
from flaxnets.nn.functional.activation import sigmoid
from flaxnets.nn.functional.linear import linear
from flaxnets.nn.functional.rectifier import relu


class LayerWeights(NamedTuple):
    """The weights of one direction of one layer, under torch's names and in torch's order."""

    weight_ih: Float[Array, "gates in"]
    weight_hh: Float[Array, "gates out"]
    bias_ih: Float[Array, " gates"] | None = None
    bias_hh: Float[Array, " gates"] | None = None
    weight_hr: Float[Array, "out hidden"] | None = None


# What a layer carries from step to step; the first array is also its output.
State = tuple[Float[Array, "..."], ...]

# From weight_ih @ x + bias_ih, the state before, and the weights: the next state.
Step = Callable[[jax.Array, State, LayerWeights], State]


def rnn_tanh_step(projected: Float[Array, "*n hidden"], state: State, weights: LayerWeights) -> State:
    """One step of an Elman network: ``h' = tanh(projected + weight_hh @ h + bias_hh)``.

    >>> weights = LayerWeights(jnp.ones((1, 1)), jnp.ones((1, 1)))
    >>> rnn_tanh_step(jnp.ones((1, 1)), (-jnp.ones((1, 1)),), weights)
    (Array([[0.]], dtype=float32),)
    """
    return (jnp.tanh(projected + linear(state[0], weights.weight_hh, weights.bias_hh)),)


def rnn_relu_step(projected: Float[Array, "*n hidden"], state: State, weights: LayerWeights) -> State:
    """One step of an Elman network: ``h' = relu(projected + weight_hh @ h + bias_hh)``.

    >>> weights = LayerWeights(jnp.ones((1, 1)), jnp.ones((1, 1)))
    >>> rnn_relu_step(jnp.ones((1, 1)), (jnp.ones((1, 1)),), weights)
    (Array([[2.]], dtype=float32),)
    """
    return (relu(projected + linear(state[0], weights.weight_hh, weights.bias_hh)),)


def gru_step(projected: Float[Array, "*n gates"], state: State, weights: LayerWeights) -> State:
    """One step of a gated recurrent unit; the gates are in the order reset, update, new.

    The reset gate multiplies ``weight_hn @ h + bias_hn``, after the product and with the bias.

    >>> weights = LayerWeights(jnp.ones((3, 1)), jnp.zeros((3, 1)))
    >>> gru_step(jnp.zeros((1, 3)), (jnp.ones((1, 1)),), weights)
    (Array([[0.5]], dtype=float32),)
    """
    (h,) = state
    reset, update, new = jnp.split(projected, 3, axis=-1)
    h_reset, h_update, h_new = jnp.split(linear(h, weights.weight_hh, weights.bias_hh), 3, axis=-1)
    update = sigmoid(update + h_update)
    new = jnp.tanh(new + sigmoid(reset + h_reset) * h_new)
    return ((1 - update) * new + update * h,)


def lstm_step(projected: Float[Array, "*n gates"], state: State, weights: LayerWeights) -> State:
    """One step of a long short-term memory; the gates are in the order input, forget, cell, output.

    With ``weight_hr`` the output is projected: ``h' = weight_hr @ (output * tanh(c'))``.

    >>> weights = LayerWeights(jnp.ones((4, 1)), jnp.zeros((4, 1)))
    >>> lstm_step(jnp.zeros((1, 4)), (jnp.ones((1, 1)), jnp.ones((1, 1))), weights)[1]
    Array([[0.5]], dtype=float32)
    """
    h, c = state
    gates = projected + linear(h, weights.weight_hh, weights.bias_hh)
    input, forget, cell, output = jnp.split(gates, 4, axis=-1)
    c = sigmoid(forget) * c + sigmoid(input) * jnp.tanh(cell)
    h = sigmoid(output) * jnp.tanh(c)
    return (h if weights.weight_hr is None else linear(h, weights.weight_hr)), c


class Kind(NamedTuple):
    """A kind of recurrence.

    Attributes:
        gates: how many of them its weights are for.
        step: what it does in one step.
        states: what the state's arrays are called.
        cell: the same step for :func:`flaxnets.kernels.recurrence_form`.
    """

    gates: int
    step: Step
    states: tuple[str, ...]
    cell: recurrence.Cell


# Under the names that torch has for them.
KINDS = {
    "RNN_TANH": Kind(1, rnn_tanh_step, ("h_0",), recurrence.RNN_TANH),
    "RNN_RELU": Kind(1, rnn_relu_step, ("h_0",), recurrence.RNN_RELU),
    "GRU": Kind(3, gru_step, ("h_0",), recurrence.GRU),
    "LSTM": Kind(4, lstm_step, ("h_0", "c_0"), recurrence.LSTM),
}


def step_once(
    cell: str,
    kind: Kind,
    input: Float[Array, "*n in"],
    hx: Sequence[Float[Array, "..."]] | None,
    weights: LayerWeights,
) -> State:
    """Take one step, from zeros if no state is given.

    Args:
        cell: what errors call the caller.
        kind: one of ``KINDS``.
        input: ``(N, in)``, or unbatched ``(in,)``.
        hx: the state before, each array ``(N, hidden)`` or ``(hidden,)``.
        weights: of the cell.

    Raises:
        ValueError: for an input or a state of the wrong rank.
        RuntimeError: for an input or a state of the wrong size or dtype.

    >>> step_once("RNNCell", KINDS["RNN_RELU"], jnp.ones(1), None, LayerWeights(jnp.ones((1, 1)), jnp.ones((1, 1))))
    (Array([1.], dtype=float32),)
    """
    (input,), weights, hx = cast_operands(input), LayerWeights(*cast_operands(*weights)), hx and cast_operands(*hx)
    input = as_float_like(input, weights.weight_ih, cell)
    check_ndim(input, (1, 2), cell, ValueError)
    shape = (*input.shape[:-1], weights.weight_hh.shape[-1])
    if hx is None:
        state = (jnp.zeros(shape, input.dtype),) * len(kind.states)
    else:
        state = tuple(map(jnp.asarray, hx))
        for array in state:
            check_ndim(array, (1, 2), f"{cell}, state", ValueError)
        found = [(array.shape, array.dtype) for array in state]
        if found != [(shape, input.dtype)] * len(kind.states):
            raise RuntimeError(
                f"{cell}: for an input of shape {input.shape} the state must be {' and '.join(kind.states)}, each of "
                f"shape {shape} and dtype {input.dtype}, got {' and '.join(f'{s} of dtype {d}' for s, d in found)}"
            )
    return kind.step(linear(input, weights.weight_ih, weights.bias_ih), state, weights)
