"""Recurrent layers whose gradient is written out: only what each step has to wait for is done step by step.

JAX would add up the gradient of the weights from step to step, and keep every intermediate of a step. Here the factors
of all steps' gradients are computed at once, and the weights' gradients are one product each.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from flaxnets.kernels.reductions import total

Arrays = tuple[jax.Array, ...]


class Cell(NamedTuple):
    """What one step does besides the products, and the derivative of that.

    Attributes:
        forward: from the projected input, the product with the state, and the state before: the state after, and what
            is kept for the gradient. The first array of a state is also the output.
        factors: of all steps at once, from what was kept, and the states before and after.
        backward: from one step's factors and the gradient of the state after: the gradient of the product, that of the
            projected input if it is another one, and the gradient of the state before as far as it does not come
            through the product.
    """

    forward: Callable[[jax.Array, jax.Array, Arrays], tuple[Arrays, Arrays]]
    factors: Callable[[Arrays, Arrays, Arrays], Arrays]
    backward: Callable[[Arrays, Arrays], tuple[Arrays, tuple[Any, ...]]]


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
    reset, update, _ = jnp.split(jax.nn.sigmoid(projected + product), 3, -1)  # of whole rows it is faster than of parts
    new_product = jnp.split(product, 3, -1)[2]
    new = jnp.tanh(jnp.split(projected, 3, -1)[2] + reset * new_product)
    return ((1 - update) * new + update * state[0],), (reset, update, new, new_product)


def _gru_factors(kept: Arrays, before: Arrays, after: Arrays) -> Arrays:
    reset, update, new, new_product = kept
    of_new = (1 - update) * (1 - jnp.square(new))
    of_reset = of_new * new_product * reset * (1 - reset)
    gates = jnp.concatenate([of_reset, (before[0] - new) * update * (1 - update)], -1)
    return gates, of_new, of_new * reset, update


def _gru_backward(factors: Arrays, gradient: Arrays) -> tuple[Arrays, tuple[Any, ...]]:
    gates, of_new, of_new_product, update = factors
    (h,) = gradient
    both = jnp.tile(h, 2) * gates
    product, projected = (jnp.concatenate([both, h * own], -1) for own in (of_new_product, of_new))
    return (product, projected), (h * update,)


GRU = Cell(_gru_forward, _gru_factors, _gru_backward)


def _lstm_forward(projected: jax.Array, product: jax.Array, state: Arrays) -> tuple[Arrays, Arrays]:
    gates = projected + product
    input, forget, _, output = jnp.split(jax.nn.sigmoid(gates), 4, -1)
    cell = jnp.tanh(jnp.split(gates, 4, -1)[2])
    c = forget * state[1] + input * cell
    return (output * jnp.tanh(c), c), (input, forget, cell, output)


def _lstm_factors(kept: Arrays, before: Arrays, after: Arrays) -> Arrays:
    input, forget, cell, output = kept
    squashed = jnp.tanh(after[1])
    of_input, of_forget = cell * input * (1 - input), before[1] * forget * (1 - forget)
    through_c = jnp.concatenate([of_input, of_forget, input * (1 - jnp.square(cell))], -1)
    return through_c, squashed * output * (1 - output), output * (1 - jnp.square(squashed)), forget


def _lstm_backward(factors: Arrays, gradient: Arrays) -> tuple[Arrays, tuple[Any, ...]]:
    through_c, of_output, of_c, forget = factors
    h, c = gradient
    c = c + h * of_c
    return (jnp.concatenate([jnp.tile(c, 3) * through_c, h * of_output], -1),), (0, c * forget)


LSTM = Cell(_lstm_forward, _lstm_factors, _lstm_backward)


def _plus(x: jax.Array, bias: jax.Array | None) -> jax.Array:
    return x if bias is None else x + bias[None]


Biases = tuple[jax.Array | None, jax.Array | None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _run(
    cell: Cell, reverse: bool, projected: jax.Array, state: Arrays, weight: jax.Array, biases: Biases
) -> tuple[jax.Array, Arrays]:
    return _run_forward(cell, reverse, projected, state, weight, biases)[0]


def _run_forward(
    cell: Cell, reverse: bool, projected: jax.Array, state: Arrays, weight: jax.Array, biases: Biases
) -> tuple[tuple[jax.Array, Arrays], Any]:
    def advance(state: Arrays, projected: jax.Array) -> tuple[Arrays, tuple[Arrays, Arrays]]:
        after, kept = cell.forward(_plus(projected, biases[0]), _plus(state[0] @ weight.T, biases[1]), state)
        return after, (after, kept)

    last, (states, kept) = lax.scan(advance, state, projected, reverse=reverse)
    return (states[0], last), (state, states, kept, weight, biases)


def _run_backward(cell: Cell, reverse: bool, residuals: Any, gradients: Any) -> tuple[Any, ...]:
    first, after, kept, weight, biases = residuals
    of_outputs, of_last = gradients
    before = tuple(
        jnp.concatenate([s[1:], f[None]] if reverse else [f[None], s[:-1]]) for f, s in zip(first, after, strict=True)
    )
    factors = cell.factors(kept, before, after)

    def retreat(of_after: Arrays, step: tuple[jax.Array, Arrays]) -> tuple[Arrays, Arrays]:
        of_output, own = step
        found, (h, *rest) = cell.backward(own, (of_after[0] + of_output, *of_after[1:]))
        return (found[0] @ weight + h, *rest), found

    of_first, found = lax.scan(retreat, of_last, (of_outputs, factors), reverse=not reverse)
    of_product, of_projected = found[0], found[-1]
    of_weight = of_product.reshape(-1, len(weight)).T @ before[0].reshape(-1, weight.shape[1])
    of_biases = tuple(
        None if bias is None else total(of[:, None])
        for bias, of in zip(biases, (of_projected, of_product), strict=True)
    )
    return of_projected, of_first, of_weight, of_biases


_run.defvjp(_run_forward, _run_backward)


@functools.partial(jax.jit, static_argnames=("cell", "reverse"))
def recurrence(
    cell: Cell, projected: jax.Array, state: Arrays, weight: jax.Array, biases: Biases, reverse: bool
) -> tuple[jax.Array, Arrays]:
    """Runs one direction of one layer over all time steps; it has no forward-mode derivative.

    Args:
        cell: such as ``LSTM``.
        projected: the input's products with its weights, ``(T, N, gates)``.
        state: before the first step, each array ``(N, hidden)``.
        weight: of the state, ``(gates, hidden)``.
        biases: of the input and of the state, ``(gates,)`` or None.
        reverse: whether to go from the last step to the first.

    Returns:
        The outputs ``(T, N, hidden)``, and the state after the last step taken.

    >>> one = jnp.ones((1, 1))
    >>> recurrence(RNN_RELU, jnp.ones((3, 1, 1)), (jnp.zeros((1, 1)),), one, (None, None), False)[0].ravel().tolist()
    [1.0, 2.0, 3.0]
    """
    return _run(cell, reverse, projected, state, weight, biases)
