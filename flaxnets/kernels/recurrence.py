"""Recurrent layers with explicit gradients, which compute as little as possible in the sequential loop.

JAX's gradient of a scan accumulates the gradients of the weights in every step, and stores every intermediate result.
Here, the factors of all steps are computed at once, and each weight's gradient is one product.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from flaxnets.kernels._primitives import Library, materialized
from flaxnets.kernels.linear import times_transposed, weight_gradient
from flaxnets.kernels.reductions import total

Arrays = tuple[jax.Array, ...]
Pass = Literal["prediction", "forward", "backward"]


class Cell(NamedTuple):
    """The elementwise part of one step of a recurrent layer, and its derivative.

    Attributes:
        forward: Function from the projected input, the product with the state, and the previous state to the next state
            and the residuals. The first array of a state is also the output.
        factors: Function from the residuals, the previous states and the next states of all steps to the factors of
            their gradients.
        backward: Function from the factors of one step and the gradient of the next state to two tuples. The first has
            the gradient of the product, and further arguments of :attr:`projected`. The second has the gradient of the
            previous state, without the part through the product.
        projected: Function from the first results of ``backward`` for all steps to the gradient of the projected input.
        halved: The passes that are faster with the halves of a batch one after the other, because the product of one
            half overlaps with the gates of the other.
    """

    forward: Callable[[jax.Array, jax.Array, Arrays], tuple[Arrays, Arrays]]
    factors: Callable[[Arrays, Arrays, Arrays], Arrays]
    backward: Callable[[Arrays, Arrays], tuple[Arrays, tuple[Any, ...]]]
    projected: Callable[[Arrays], jax.Array] = operator.itemgetter(0)
    halved: tuple[Pass, ...] = ()


def _simple_backward(factors: Arrays, gradient: Arrays) -> tuple[Arrays, tuple[Any, ...]]:
    return (gradient[0] * factors[0],), (0,)


RNN_TANH = Cell(
    lambda projected, product, state: ((jnp.tanh(projected + product),), ()),
    lambda kept, before, after: (1 - jnp.square(after[0]),),
    _simple_backward,
)
RNN_RELU = Cell(
    lambda projected, product, state: ((jnp.maximum(projected + product, 0),), ()),
    lambda kept, before, after: ((after[0] > 0).astype(after[0].dtype),),
    _simple_backward,
)


def _gru_forward(projected: jax.Array, product: jax.Array, state: Arrays) -> tuple[Arrays, Arrays]:
    reset, update, _ = jnp.split(jax.nn.sigmoid(projected + product), 3, -1)  # whole rows are faster than parts
    new_product = jnp.split(product, 3, -1)[2]
    new = jnp.tanh(jnp.split(projected, 3, -1)[2] + reset * new_product)
    return ((1 - update) * new + update * state[0],), (jnp.concatenate([reset, update, new], -1), new_product)


def _gru_factors(kept: Arrays, before: Arrays, after: Arrays) -> Arrays:
    reset, update, new = jnp.split(kept[0], 3, -1)
    of_new = (1 - update) * (1 - jnp.square(new))
    of_reset, of_update = of_new * kept[1] * reset * (1 - reset), (before[0] - new) * update * (1 - update)
    return jnp.concatenate([of_reset, of_update, of_new * reset], -1), of_new, update


def _gru_backward(factors: Arrays, gradient: Arrays) -> tuple[Arrays, tuple[Any, ...]]:
    (of_product, of_new, update), (h,) = factors, gradient
    return (jnp.tile(h, 3) * of_product, h * of_new), (h * update,)


def _gru_projected(gradients: Arrays) -> jax.Array:
    reset, update, _ = jnp.split(gradients[0], 3, -1)
    return jnp.concatenate([reset, update, gradients[1]], -1)


GRU = Cell(_gru_forward, _gru_factors, _gru_backward, _gru_projected, ("prediction", "forward"))


def _lstm_forward(projected: jax.Array, product: jax.Array, state: Arrays) -> tuple[Arrays, Arrays]:
    # tanh(x) is 2 sigmoid(2 x) - 1, so that all gates are one array and one operation.
    scale = jnp.repeat(jnp.array([[1, 1, 2, 1]]), product.shape[1] // 4, 1)
    gates = jax.nn.sigmoid((projected + product) * scale)
    input, forget, cell, output = jnp.split(gates, 4, -1)
    c = forget * state[1] + input * (2 * cell - 1)
    return (output * jnp.tanh(c), c), (gates,)


def _lstm_factors(kept: Arrays, before: Arrays, after: Arrays) -> Arrays:
    input, forget, cell, output = jnp.split(kept[0], 4, -1)
    cell = 2 * cell - 1
    squashed = jnp.tanh(after[1])
    of_input, of_forget = cell * input * (1 - input), before[1] * forget * (1 - forget)
    of_cell, of_output = input * (1 - jnp.square(cell)), squashed * output * (1 - output)
    return jnp.concatenate([of_input, of_forget, of_cell, of_output], -1), output * (1 - jnp.square(squashed)), forget


def _lstm_backward(factors: Arrays, gradient: Arrays) -> tuple[Arrays, tuple[Any, ...]]:
    (of_gates, of_c, forget), (h, c) = factors, gradient
    c = c + h * of_c
    return (jnp.concatenate([jnp.tile(c, 3), h], -1) * of_gates,), (0, c * forget)


LSTM = Cell(_lstm_forward, _lstm_factors, _lstm_backward, halved=("forward", "backward"))


def _scan(
    step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, inputs: Any, reverse: bool, halved: bool
) -> tuple[Any, Any]:
    """Scan over ``(T, N, size)`` like ``lax.scan``, but reuse the buffers of inputs for outputs of the same size.

    If ``halved``, each step computes the halves of the batch one after the other.
    """
    inputs, structure = jax.tree.flatten(inputs)
    length, batch = inputs[0].shape[:2]
    rows = batch // 2 if halved else batch
    carries = [jax.tree.map(operator.itemgetter(slice(row, row + rows)), carry) for row in range(0, batch, rows)]

    def at(inputs: Sequence[jax.Array], t: Any, row: int) -> Any:
        sizes = [(1, rows, array.shape[2]) for array in inputs]
        taken = [lax.dynamic_slice(array, (t, row, 0), size)[0] for array, size in zip(inputs, sizes, strict=True)]
        return structure.unflatten(taken)

    outputs, results = jax.tree.flatten(jax.eval_shape(step, carries[0], at(inputs, 0, 0))[1])
    places: list[int] = []
    for output in outputs:
        shape = (length, batch, output.shape[1])
        fits = (i for i, x in enumerate(inputs) if i not in places and (x.shape, x.dtype) == (shape, output.dtype))
        places.append(next(fits, len(inputs)))
        if places[-1] == len(inputs):
            inputs.append(jnp.zeros(shape, output.dtype))

    def body(i: Any, carried: tuple[list[Any], list[jax.Array]]) -> tuple[list[Any], list[jax.Array]]:
        carries, arrays = carried
        t = length - 1 - i if reverse else i
        every, after = list(inputs), []
        for place, array in zip(places, arrays, strict=True):
            every[place] = array
        for half, carry in enumerate(carries):
            carry, outputs = step(carry, at(every[: structure.num_leaves], t, half * rows))
            for place, output in zip(places, jax.tree.leaves(outputs), strict=True):
                every[place] = lax.dynamic_update_slice(every[place], output[None], (t, half * rows, 0))
            after.append(carry)
        return after, [every[place] for place in places]

    carries, arrays = lax.fori_loop(0, length, body, (carries, [inputs[place] for place in places]))
    return jax.tree.map(lambda *halves: jnp.concatenate(halves), *carries), results.unflatten(arrays)


def _plus(x: jax.Array, bias: jax.Array | None) -> jax.Array:
    return x if bias is None else x + bias[None]


def _times_transposed(weight: jax.Array, rows: int) -> Callable[[jax.Array], jax.Array]:
    """Return a function ``x @ weight.T`` for repeated calls with ``rows`` rows, which stores the transposed weight."""
    if rows == 1:
        return lambda x: times_transposed(x, weight)
    transposed = materialized(weight.T)
    return lambda x: x @ transposed


def _halved(cell: Cell, library: Library, direction: Pass, rows: int, weight: jax.Array) -> bool:
    """Return whether to halve the batch: not if it may be sharded, and not if large weights would be read twice."""
    return library == "onednn" and direction in cell.halved and rows >= 32 and rows % 2 == 0 and weight.size <= 2**20


Biases = tuple[jax.Array | None, jax.Array | None]


def _advance(
    cell: Cell, times_weight: Callable[[jax.Array], jax.Array], biases: Biases, state: Arrays, projected: jax.Array
) -> tuple[Arrays, Any]:
    product = _plus(times_weight(state[0]), biases[1])
    after, kept = cell.forward(_plus(projected, biases[0]), product, state)
    return after, (after, kept)


def _sum_of_steps(x: jax.Array) -> jax.Array:
    """Sum ``(T, N, C)`` over time and batch. A reshape to ``(T * N, C)`` would gather a sharded batch."""
    _, *row = x.shape
    return total(total(x.reshape(len(x), 1, 1, -1)).reshape(1, 1, *row))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _run(
    cell: Cell, library: Library, reverse: bool, projected: jax.Array, state: Arrays, weight: jax.Array, biases: Biases
) -> tuple[jax.Array, Arrays]:
    halved = _halved(cell, library, "prediction", len(state[0]), weight)
    times_weight = _times_transposed(weight, len(state[0]))

    def advance(state: Arrays, projected: jax.Array) -> tuple[Arrays, jax.Array]:
        after, _ = _advance(cell, times_weight, biases, state, projected)
        return after, after[0]

    last, outputs = _scan(advance, state, projected, reverse, halved)
    return outputs, last


def _run_forward(
    cell: Cell, library: Library, reverse: bool, projected: jax.Array, state: Arrays, weight: jax.Array, biases: Biases
) -> tuple[tuple[jax.Array, Arrays], Any]:
    halved = _halved(cell, library, "forward", len(state[0]), weight)
    advance = functools.partial(_advance, cell, _times_transposed(weight, len(state[0])), biases)
    last, (states, kept) = _scan(advance, state, projected, reverse, halved)
    return (states[0], last), (state, states, kept, weight, biases)


def _run_backward(cell: Cell, library: Library, reverse: bool, residuals: Any, gradients: Any) -> tuple[Any, ...]:
    first, after, kept, weight, biases = residuals
    of_outputs, of_last = gradients
    before = tuple(
        jnp.concatenate([s[1:], f[None]] if reverse else [f[None], s[:-1]]) for f, s in zip(first, after, strict=True)
    )

    def retreat(of_after: Arrays, step: tuple[Arrays, jax.Array]) -> tuple[Arrays, Arrays]:
        factors, of_output = step
        gradients, (h, *rest) = cell.backward(factors, (of_after[0] + of_output, *of_after[1:]))
        return (gradients[0] @ weight + h, *rest), gradients

    halved = _halved(cell, library, "backward", len(first[0]), weight)
    of_first, of_steps = _scan(retreat, of_last, (cell.factors(kept, before, after), of_outputs), not reverse, halved)
    of_product, of_projected = of_steps[0], cell.projected(of_steps)
    of_weight = weight_gradient(before[0], of_product, library)
    of_biases = tuple(
        None if bias is None else _sum_of_steps(of) for bias, of in zip(biases, (of_projected, of_product), strict=True)
    )
    return of_projected, of_first, of_weight, of_biases


_run.defvjp(_run_forward, _run_backward)


@functools.partial(jax.jit, static_argnames=("cell", "library", "reverse"))
def recurrence(
    cell: Cell,
    library: Library,
    projected: jax.Array,
    state: Arrays,
    weight: jax.Array,
    biases: Biases,
    reverse: bool,
) -> tuple[jax.Array, Arrays]:
    """Run one direction of one recurrent layer over all time steps. Forward-mode derivatives are not supported.

    Args:
        cell: The cell, such as ``LSTM``.
        library: Library for the gradient of the weight on CPUs. ``"onednn"`` requires a single device.
        projected: Products of the input and its weights, ``(T, N, gates)``. Half precision is computed in float32.
        state: Initial state, each array ``(N, hidden)``.
        weight: Weight of the state, ``(gates, hidden)``.
        biases: Biases of the input and of the state, ``(gates,)`` or None.
        reverse: Whether to run from the last step to the first.

    Returns:
        The outputs ``(T, N, hidden)``, and the final state.

    >>> one = jnp.ones((1, 1))
    >>> output, _ = recurrence(RNN_RELU, "xla", jnp.ones((3, 1, 1)), (0 * one,), one, (None, None), reverse=False)
    >>> output.ravel().tolist()
    [1.0, 2.0, 3.0]
    """
    dtype, wide = projected.dtype, jnp.promote_types(projected.dtype, jnp.float32)
    operands = jax.tree.map(lambda x: x.astype(wide), (projected, state, weight, biases))
    return jax.tree.map(lambda x: x.astype(dtype), _run(cell, library, reverse, *operands))
