"""Recurrent cells: single steps of the recurrent layers."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flaxnets.nn import init
from flaxnets.nn._arguments import changed, check_sizes
from flaxnets.nn.functional.recurrent_steps import RECURRENCES, LayerWeights, State, step_once
from flaxnets.nn.module import Module
from flaxnets.nn.parameter import Parameter, redraw, reserved


class RNNCellBase(Module):
    """Base class of recurrent cells: arguments and parameters, but no computation.

    Parameters: ``weight_ih (num_chunks*hidden_size, input_size)``, ``weight_hh (num_chunks*hidden_size, hidden_size)``,
    ``bias_ih`` and ``bias_hh (num_chunks*hidden_size,)``, all drawn from the uniform distribution on
    ``+-1/sqrt(hidden_size)``.

    Args:
        input_size: size of the input's last axis.
        hidden_size: size of the state.
        bias: whether to add biases.
        num_chunks: number of gates.
        dtype: parameter dtype. Default: float32.
        rngs: random number generators for the initial weights.

    Raises:
        RuntimeError: for a negative size.
        NotImplementedError: when called; call :class:`RNNCell`, :class:`GRUCell` or :class:`LSTMCell` instead.

    See `torch.nn.RNNCell <https://docs.pytorch.org/docs/stable/generated/torch.nn.RNNCell.html>`_, a subclass.

    >>> RNNCellBase(3, 4, False, 2, rngs=nnx.Rngs(0)).weight_ih.shape
    (8, 3)
    """

    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        num_chunks: int,
        dtype: DTypeLike = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ):
        gates = num_chunks * hidden_size
        check_sizes(type(self).__name__, input_size=input_size, hidden_size=hidden_size, num_chunks=num_chunks)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        self.weight_ih = reserved(gates, input_size, dtype=dtype)
        self.weight_hh = reserved(gates, hidden_size, dtype=dtype)
        self.register_parameter("bias_ih", reserved(gates, dtype=dtype) if bias else None)
        self.register_parameter("bias_hh", reserved(gates, dtype=dtype) if bias else None)
        self.reset_parameters(rngs=rngs)

    def reset_parameters(self, *, rngs: nnx.Rngs) -> None:
        """Reinitialise the parameters."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size else 0.0
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            redraw(self, name, lambda shape, dtype: init.uniform(rngs.params(), shape, dtype, a=-bound, b=bound))

    def extra_repr(self) -> str:
        """Return the sizes and the non-default options for ``repr``."""
        nonlinearity = changed(self, nonlinearity="tanh") if isinstance(self, RNNCell) else ""
        return f"{self.input_size}, {self.hidden_size}{changed(self, bias=True)}{nonlinearity}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raise NotImplementedError: the base class computes nothing."""
        raise NotImplementedError(f"{type(self).__name__} cannot be called. Fix: use RNNCell, GRUCell or LSTMCell")

    def _step(self, mode: str, input: jax.Array, hx: tuple[jax.Array, ...] | None) -> State:
        biases = [None if bias is None else bias[...] for bias in (self.bias_ih, self.bias_hh)]
        weights = LayerWeights(self.weight_ih[...], self.weight_hh[...], *biases)
        return step_once(type(self).__name__, RECURRENCES[mode], input, hx, weights)


class RNNCell(RNNCellBase):
    """One step of an Elman network: ``h' = tanh(weight_ih @ x + bias_ih + weight_hh @ h + bias_hh)``.

    Maps ``(N, input_size)`` and ``h (N, hidden_size)`` to the next ``h``. ``h`` defaults to zeros. Unbatched inputs and
    states have no ``N``.

    Parameters: ``weight_ih (hidden_size, input_size)``, ``weight_hh (hidden_size, hidden_size)``, ``bias_ih`` and
    ``bias_hh (hidden_size,)``, all drawn from the uniform distribution on ``+-1/sqrt(hidden_size)``.

    Args:
        input_size: size of the input's last axis.
        hidden_size: size of the state.
        bias: whether to add biases.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        dtype: parameter dtype. Default: float32.
        rngs: random number generators for the initial weights.

    Raises:
        RuntimeError: for a negative size; when called, for an unknown nonlinearity or an input or state of the wrong
            size or dtype.
        ValueError: when called, for an input or a state of the wrong rank.

    See "Finding structure in time" (https://doi.org/10.1207/s15516709cog1402_1) and `torch.nn.RNNCell
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.RNNCell.html>`_.

    >>> cell = RNNCell(3, 4, rngs=nnx.Rngs(0))
    >>> h = cell(jnp.ones((2, 3)))
    >>> cell(jnp.ones((2, 3)), h).shape
    (2, 4)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: DTypeLike = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ):
        super().__init__(input_size, hidden_size, bias, 1, dtype, rngs=rngs)
        self.nonlinearity = nonlinearity

    def __call__(
        self, input: Float[Array, "*n in"], hx: Float[Array, "*n hidden"] | None = None
    ) -> Float[Array, "*n hidden"]:
        """Return the next state."""
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"RNNCell: nonlinearity must be 'tanh' or 'relu', got {self.nonlinearity!r}")
        return self._step(f"RNN_{self.nonlinearity.upper()}", input, None if hx is None else (hx,))[0]


class GRUCell(RNNCellBase):
    """One step of a gated recurrent unit (GRU); the new gate is ``tanh(W_in @ x + b_in + r * (W_hn @ h + b_hn))``.

    Maps ``(N, input_size)`` and ``h (N, hidden_size)`` to the next ``h``. ``h`` defaults to zeros. Unbatched inputs and
    states have no ``N``.

    Parameters, gates in the order reset, update, new: ``weight_ih (3*hidden_size, input_size)``, ``weight_hh
    (3*hidden_size, hidden_size)``, ``bias_ih`` and ``bias_hh (3*hidden_size,)``, all drawn from the uniform
    distribution on ``+-1/sqrt(hidden_size)``.

    Args:
        input_size: size of the input's last axis.
        hidden_size: size of the state.
        bias: whether to add biases.
        dtype: parameter dtype. Default: float32.
        rngs: random number generators for the initial weights.

    Raises:
        RuntimeError: for a negative size; when called, for an input or state of the wrong size or dtype.
        ValueError: when called, for an input or a state of the wrong rank.

    See "Learning phrase representations using RNN encoder-decoder" (arXiv:1406.1078) and `torch.nn.GRUCell
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.GRUCell.html>`_.

    >>> GRUCell(3, 4, rngs=nnx.Rngs(0))(jnp.ones((2, 3)), jnp.zeros((2, 4))).shape
    (2, 4)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dtype: DTypeLike = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ):
        super().__init__(input_size, hidden_size, bias, 3, dtype, rngs=rngs)

    def __call__(
        self, input: Float[Array, "*n in"], hx: Float[Array, "*n hidden"] | None = None
    ) -> Float[Array, "*n hidden"]:
        """Return the next state."""
        return self._step("GRU", input, None if hx is None else (hx,))[0]


class LSTMCell(RNNCellBase):
    """One step of a long short-term memory (LSTM), without projection.

    Maps ``(N, input_size)`` and the pair ``h``, ``c``, each ``(N, hidden_size)``, to the next pair. The states default
    to zeros. Unbatched inputs and states have no ``N``.

    Parameters, gates in the order input, forget, cell, output: ``weight_ih (4*hidden_size, input_size)``, ``weight_hh
    (4*hidden_size, hidden_size)``, ``bias_ih`` and ``bias_hh (4*hidden_size,)``, all drawn from the uniform
    distribution on ``+-1/sqrt(hidden_size)``.

    Args:
        input_size: size of the input's last axis.
        hidden_size: size of both states.
        bias: whether to add biases.
        dtype: parameter dtype. Default: float32.
        rngs: random number generators for the initial weights.

    Raises:
        RuntimeError: for a negative size; when called, for an input or states of the wrong size, number or dtype.
        ValueError: when called, for an input or a state of the wrong rank.
        TypeError: when called, for a state that is a single array.

    See "Long short-term memory" (https://doi.org/10.1162/neco.1997.9.8.1735) and `torch.nn.LSTMCell
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTMCell.html>`_.

    >>> cell = LSTMCell(3, 4, rngs=nnx.Rngs(0))
    >>> h, c = cell(jnp.ones((2, 3)))
    >>> h.shape, c.shape
    ((2, 4), (2, 4))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dtype: DTypeLike = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ):
        super().__init__(input_size, hidden_size, bias, 4, dtype, rngs=rngs)

    def __call__(
        self,
        input: Float[Array, "*n in"],
        hx: tuple[Float[Array, "*n hidden"], Float[Array, "*n hidden"]] | None = None,
    ) -> tuple[Float[Array, "*n hidden"], Float[Array, "*n hidden"]]:
        """Return the next states, ``(h, c)``."""
        if hx is not None and not isinstance(hx, (tuple, list)):
            raise TypeError(f"LSTMCell: the state must be a pair (h, c), got one array of shape {jnp.shape(hx)}")
        h, c = self._step("LSTM", input, hx)
        return h, c
