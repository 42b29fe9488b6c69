"""Recurrent layers: what one step of each kind does, and one layer of it scanned over time."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxnets import kernels
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
    """Takes one step, from zeros if no state is given.

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


@functools.partial(jax.jit, static_argnames=("step", "reverse"))  # else every eager call compiles its scan anew
def scan_layer(
    step: Step, input: Float[Array, "t n in"], state: State, weights: LayerWeights, reverse: bool = False
) -> tuple[Float[Array, "t n out"], State]:
    """Runs one direction of one layer over all time steps.

    Args:
        step: such as :func:`lstm_step`.
        input: of all steps, time first.
        state: before the first step.
        weights: what ``step`` takes.
        reverse: whether to go from the last step to the first; the outputs stay in the input's order.

    Returns:
        The outputs of all steps, and the state after the last one taken.

    >>> weights = LayerWeights(jnp.ones((1, 1)), jnp.ones((1, 1)))
    >>> output, (h,) = scan_layer(rnn_relu_step, jnp.ones((3, 1, 1)), (jnp.zeros((1, 1)),), weights, reverse=True)
    >>> output.ravel().tolist(), h.item()
    ([3.0, 2.0, 1.0], 3.0)
    """

    def advance(state: State, projected: jax.Array) -> tuple[State, jax.Array]:
        state = step(projected, state, weights)
        return state, state[0]

    projected = linear(input, weights.weight_ih, weights.bias_ih)  # of all steps in one product
    state, output = jax.lax.scan(advance, state, projected, reverse=reverse)
    return output, state


def scan_layers(
    layer: str,
    kind: Kind,
    input: Float[Array, "... in"],
    hx: Sequence[Float[Array, "..."]] | None,
    weights: Sequence[Sequence[LayerWeights]],
    state_sizes: Mapping[str, int],
    batch_first: bool = False,
    between: Callable[[jax.Array, int], jax.Array] = lambda output, gap: output,
) -> tuple[Float[Array, "... d_out"], State]:
    """Runs all layers, each in all its directions, the second of which goes from the last step to the first.

    Args:
        layer: what errors call the caller.
        kind: one of ``KINDS``.
        input: ``(T, N, in)``, ``(N, T, in)`` with ``batch_first``, or unbatched ``(T, in)``.
        hx: the state before the first step, each array ``(layers * directions, N, size)``; zeros if not given.
        weights: of each layer and direction.
        state_sizes: the name and the last axis of each array of the state.
        batch_first: whether batched inputs and outputs have the batch's axis first.
        between: maps a layer's output ``(T, N, ...)``, and the layer's number, to the input of the next layer.

    Returns:
        The last layer's outputs, its directions joined, and the state after the last step.

    Raises:
        ValueError: for an input of the wrong rank or dtype.
        RuntimeError: for an input or a state that does not fit, or a sequence of no steps.
        NotImplementedError: for a packed sequence.

    >>> weights = LayerWeights(jnp.ones((1, 1)), jnp.ones((1, 1)))
    >>> output, (h_n,) = scan_layers("RNN", KINDS["RNN_RELU"], jnp.ones((3, 1)), None, [[weights] * 2], {"h_0": 1})
    >>> output.tolist(), h_n.ravel().tolist()
    ([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]], [3.0, 3.0])
    """
    if hasattr(input, "batch_sizes"):
        raise NotImplementedError(
            f"{layer}: expected an array, got a {type(input).__name__}; XLA compiles for fixed shapes, so give the "
            "padded sequences (torch.nn.utils.rnn.pad_packed_sequence) and read each one's output at its own length"
        )
    (input,), hx = cast_operands(jnp.asarray(input)), hx and cast_operands(*hx)
    weights = [[LayerWeights(*cast_operands(*direction)) for direction in layer] for layer in weights]
    unbatched, swapped = input.ndim == 2, batch_first and input.ndim == 3
    _check_input(layer, input, weights[0][0].weight_ih, time_axis=1 if swapped else 0)
    batch = () if unbatched else (input.shape[0 if batch_first else 1],)
    count = sum(map(len, weights))
    state = _initial_state(layer, input, hx, {name: (count, *batch, size) for name, size in state_sizes.items()})
    if unbatched:
        input, state = input[:, None], tuple(array[:, None] for array in state)
    output, state = _scan_time_first(kind, jnp.swapaxes(input, 0, 1) if swapped else input, state, weights, between)
    if unbatched:
        return output[:, 0], tuple(array[:, 0] for array in state)
    return (jnp.swapaxes(output, 0, 1) if swapped else output), state


def _scan_time_first(
    kind: Kind,
    input: jax.Array,
    state: State,
    weights: Sequence[Sequence[LayerWeights]],
    between: Callable[[jax.Array, int], jax.Array],
) -> tuple[jax.Array, State]:
    finals: list[State] = []
    for number, directions in enumerate(weights):
        if number > 0:
            input = between(input, number - 1)
        outputs = []
        for reverse, own in enumerate(directions):
            first = tuple(array[len(finals)] for array in state)
            output, final = _run_direction(kind, input, first, own, bool(reverse))
            outputs.append(output)
            finals.append(final)
        input = jnp.concatenate(outputs, axis=-1)
    return input, tuple(jnp.stack(arrays) for arrays in zip(*finals, strict=True))


def _run_direction(
    kind: Kind, input: jax.Array, state: State, weights: LayerWeights, reverse: bool
) -> tuple[jax.Array, State]:
    given = kind.cell, input, weights.weight_hh, weights.weight_hr is not None
    weight_ih, weight_hh, *biases, _ = weights
    if form := kernels.lstm_form(*given):
        return form(input, state, weight_ih, weight_hh, tuple(biases), reverse)
    if form := kernels.recurrence_form(*given):
        return form(linear(input, weight_ih), state, weight_hh, tuple(biases), reverse)
    return scan_layer(kind.step, input, state, weights, reverse=reverse)


def _check_input(layer: str, input: jax.Array, weight: jax.Array, time_axis: int) -> None:
    check_ndim(input, (2, 3), layer, ValueError)
    if input.dtype != weight.dtype:
        raise ValueError(
            f"{layer}: expected an input of dtype {weight.dtype}, that of the weights, got {input.dtype}; cast the "
            "input, or the module with .to(dtype)"
        )
    if input.shape[-1] != weight.shape[-1]:
        raise RuntimeError(
            f"{layer}: the last axis of the input must have {weight.shape[-1]} features, got an input of shape "
            f"{input.shape}"
        )
    if input.shape[time_axis] == 0:
        raise RuntimeError(f"{layer}: expected at least one time step, got an input of shape {input.shape}")


def _initial_state(
    layer: str, input: jax.Array, hx: Sequence[jax.Array] | None, shapes: Mapping[str, tuple[int, ...]]
) -> State:
    if hx is None:
        return tuple(jnp.zeros(shape, input.dtype) for shape in shapes.values())
    state = tuple(map(jnp.asarray, hx))
    found = [(array.shape, array.dtype) for array in state]
    if found != [(shape, input.dtype) for shape in shapes.values()]:
        expected = " and ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise RuntimeError(
            f"{layer}: for an input of shape {input.shape} and dtype {input.dtype} the state must be {expected} of the "
            f"same dtype, got {' and '.join(f'{shape} of dtype {dtype}' for shape, dtype in found)}"
        )
    return state
