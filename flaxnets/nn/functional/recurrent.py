"""Recurrent layers: scan one layer over time, and stack several layers."""

import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxnets import kernels
from flaxnets.autocast import cast_operands
from flaxnets.nn._arguments import check_ndim
from flaxnets.nn.functional.linear import linear
from flaxnets.nn.functional.recurrent_steps import LayerWeights, Recurrence, State
from flaxnets.nn.utils.rnn import Lengths, PaddedSequence


# Without jit, every eager call would compile its scan.
@functools.partial(jax.jit, static_argnames=("recurrence", "reverse"))
def scan_layer(
    recurrence: Recurrence, input: Float[Array, "t n in"], state: State, weights: LayerWeights, reverse: bool = False
) -> tuple[Float[Array, "t n out"], State]:
    """Run one direction of one layer over all time steps.

    Args:
        recurrence: one of :data:`flaxnets.nn.functional.recurrent_steps.RECURRENCES`.
        input: all time steps, time first.
        state: the state before the first step.
        weights: of this direction.
        reverse: whether to go from the last step to the first; the outputs stay in the input's order.

    Returns:
        The outputs of all steps, and the state after the last executed step.

    >>> from flaxnets.nn.functional.recurrent_steps import RECURRENCES
    >>> weights, state = LayerWeights(jnp.ones((1, 1)), jnp.ones((1, 1))), (jnp.zeros((1, 1)),)
    >>> output, (h,) = scan_layer(RECURRENCES["RNN_RELU"], jnp.ones((3, 1, 1)), state, weights, reverse=True)
    >>> output.ravel().tolist(), h.item()
    ([3.0, 2.0, 1.0], 3.0)
    """

    def advance(state: State, projected: jax.Array) -> tuple[State, jax.Array]:
        state = recurrence.step(projected, state, weights)
        return state, state[0]

    projected = linear(input, weights.weight_ih, weights.bias_ih)  # one product for all steps
    state, output = jax.lax.scan(advance, state, projected, reverse=reverse)
    return output, state


def scan_layers(
    layer: str,
    recurrence: Recurrence,
    input: Float[Array, "... in"] | PaddedSequence,
    hx: Sequence[Float[Array, "..."]] | None,
    weights: Sequence[Sequence[LayerWeights]],
    state_sizes: Mapping[str, int],
    batch_first: bool = False,
    between: Callable[[jax.Array, int], jax.Array] = lambda output, gap: output,
) -> tuple[Float[Array, "... d_out"] | PaddedSequence, State]:
    """Run all layers in all directions; the second direction runs from the last step to the first.

    Args:
        layer: what errors call the caller.
        recurrence: one of :data:`flaxnets.nn.functional.recurrent_steps.RECURRENCES`.
        input: ``(T, N, in)``, ``(N, T, in)`` with ``batch_first``, or unbatched ``(T, in)``; or a padded
            sequence, whose outputs are padded too.
        hx: the state before the first step, each array ``(layers * directions, N, size)``. The default is zeros.
        weights: of each layer and direction.
        state_sizes: the name and the last axis of each array of the state.
        batch_first: whether batched inputs and outputs have the batch's axis first.
        between: maps a layer's output ``(T, N, ...)``, and the layer's number, to the input of the next layer.

    Returns:
        The last layer's outputs, with its directions concatenated, and the state after the last step.

    Raises:
        ValueError: for an input of the wrong rank or dtype.
        RuntimeError: for an input or a state of the wrong size, or a sequence of no steps.
        NotImplementedError: for a packed sequence of torch.

    >>> from flaxnets.nn.functional.recurrent_steps import RECURRENCES
    >>> relu, weights = RECURRENCES["RNN_RELU"], LayerWeights(jnp.ones((1, 1)), jnp.ones((1, 1)))
    >>> output, (h_n,) = scan_layers("RNN", relu, jnp.ones((3, 1)), None, [[weights] * 2], {"h_0": 1})
    >>> output.tolist(), h_n.ravel().tolist()
    ([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]], [3.0, 3.0])
    """
    lengths = None
    if isinstance(input, PaddedSequence):
        lengths, input, batch_first = input.lengths, input.data, False
    if hasattr(input, "batch_sizes"):
        raise NotImplementedError(
            f"{layer}: expected an array, got a {type(input).__name__}; XLA compiles for fixed shapes. Fix: "
            "flaxnets.nn.utils.rnn.pack_padded_sequence(padded, lengths)"
        )
    (x,), hx = cast_operands(jnp.asarray(input)), hx and cast_operands(*hx)
    weights = [[LayerWeights(*cast_operands(*direction)) for direction in layer] for layer in weights]
    unbatched, swapped = x.ndim == 2, batch_first and x.ndim == 3
    _check_input(layer, x, weights[0][0].weight_ih, time_axis=1 if swapped else 0)
    batch = () if unbatched else (x.shape[0 if batch_first else 1],)
    count = sum(map(len, weights))
    state = _initial_state(layer, x, hx, {name: (count, *batch, size) for name, size in state_sizes.items()})
    if unbatched:
        x, state = x[:, None], tuple(array[:, None] for array in state)
    time_first = jnp.swapaxes(x, 0, 1) if swapped else x
    output, state = _scan_time_first(recurrence, time_first, lengths, state, weights, between)
    if lengths is not None:
        return PaddedSequence(output, lengths), state
    if unbatched:
        return output[:, 0], tuple(array[:, 0] for array in state)
    return (jnp.swapaxes(output, 0, 1) if swapped else output), state


def _scan_time_first(
    recurrence: Recurrence,
    input: jax.Array,
    lengths: Lengths | None,
    state: State,
    weights: Sequence[Sequence[LayerWeights]],
    between: Callable[[jax.Array, int], jax.Array],
) -> tuple[jax.Array, State]:
    finals: list[State] = []
    for number, directions in enumerate(weights):
        if number > 0:
            input = between(input, number - 1)
        outputs = []
        for reverse, direction_weights in enumerate(directions):
            first = tuple(array[len(finals)] for array in state)
            if lengths is None:
                output, final = _run_direction(recurrence, input, first, direction_weights, bool(reverse))
            else:
                output, final = _run_padded(
                    recurrence, PaddedSequence(input, lengths), first, direction_weights, bool(reverse)
                )
            outputs.append(output)
            finals.append(final)
        input = jnp.concatenate(outputs, axis=-1)
    return input, tuple(jnp.stack(arrays) for arrays in zip(*finals, strict=True))


def _run_direction(
    recurrence: Recurrence, input: jax.Array, state: State, weights: LayerWeights, reverse: bool
) -> tuple[jax.Array, State]:
    case = recurrence.cell, input, weights.weight_hh, weights.weight_hr is not None
    weight_ih, weight_hh, *biases, _ = weights
    if implementation := kernels.lstm_implementation(*case):
        return implementation(input, state, weight_ih, weight_hh, tuple(biases), reverse)
    if implementation := kernels.recurrence_implementation(*case):
        return implementation(linear(input, weight_ih), state, weight_hh, tuple(biases), reverse)
    return scan_layer(recurrence, input, state, weights, reverse=reverse)


def _run_padded(
    recurrence: Recurrence, input: PaddedSequence, state: State, weights: LayerWeights, reverse: bool
) -> tuple[jax.Array, State]:
    """Run one direction over padded sequences; after its end, a sequence's state stays unchanged."""
    mask = input.mask[..., None]
    data = input.reversed().data if reverse else input.data

    def advance(state: State, inputs: tuple[jax.Array, jax.Array]) -> tuple[State, jax.Array]:
        projected, is_inside = inputs
        new = recurrence.step(projected, state, weights)
        state = tuple(jnp.where(is_inside, after, before) for after, before in zip(new, state, strict=True))
        return state, state[0]

    state, output = jax.lax.scan(advance, state, (linear(data, weights.weight_ih, weights.bias_ih), mask))
    output = jnp.where(mask, output, 0)
    return (input._replace(data=output).reversed().data if reverse else output), state


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
    actual = [(array.shape, array.dtype) for array in state]
    if actual != [(shape, input.dtype) for shape in shapes.values()]:
        expected = " and ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise RuntimeError(
            f"{layer}: for an input of shape {input.shape} and dtype {input.dtype} the state must be {expected} of the "
            f"same dtype, got {' and '.join(f'{shape} of dtype {dtype}' for shape, dtype in actual)}"
        )
    return state
