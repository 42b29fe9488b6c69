"""Recurrent layers over whole sequences."""

import functools
import math
import numbers
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flaxnets.nn import functional as F
from flaxnets.nn import init
from flaxnets.nn.functional import recurrent as kernels
from flaxnets.nn.module import Module

_Pair = tuple[Float[Array, "... out"], Float[Array, "... hidden"]]


class _Recurrent(Module):
    """What recurrent layers have in common: arguments, parameters and dropout."""

    num_gates: int
    state_names: tuple[str, ...] = ("h_0",)

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int, bias: bool, batch_first: bool, dropout: float,
        bidirectional: bool, proj_size: int, dtype: DTypeLike, rngs: nnx.Rngs,
    ):  # fmt: skip
        name = type(self).__name__
        _check_dropout(name, dropout, num_layers)
        _check_types(name, bool, bias=bias, batch_first=batch_first)
        _check_types(name, int, input_size=input_size, hidden_size=hidden_size)
        _check_types(name, numbers.Integral, num_layers=num_layers, proj_size=proj_size)
        _check_sizes(name, hidden_size, proj_size, input_size=input_size, num_layers=num_layers)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        if dropout > 0:
            self.rngs = rngs.dropout.fork()
        for layer in range(num_layers):
            for suffix in self._suffixes(layer):
                self._add_weights(layer, suffix, dtype, rngs)

    def _suffixes(self, layer: int) -> tuple[str, ...]:
        return (f"l{layer}", f"l{layer}_reverse") if self.bidirectional else (f"l{layer}",)

    def _add_weights(self, layer: int, suffix: str, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        gates, out_size = self.num_gates * self.hidden_size, self.proj_size or self.hidden_size
        in_size = self.input_size if layer == 0 else out_size * len(self._suffixes(layer))
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (gates, in_size), "weight_hh": (gates, out_size)}
        if self.bias:
            shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        bound = 1 / math.sqrt(self.hidden_size)
        for name, shape in shapes.items():
            setattr(self, f"{name}_{suffix}", nnx.Param(init.uniform(rngs.params(), shape, dtype, a=-bound, b=bound)))

    def _weights(self, suffix: str) -> kernels.LayerWeights:
        names = [name for name in kernels.LayerWeights._fields if hasattr(self, f"{name}_{suffix}")]
        return kernels.LayerWeights(**{name: getattr(self, f"{name}_{suffix}")[...] for name in names})

    def draw_mask(self, shape: tuple[int, ...]) -> Bool[Array, "..."]:
        """Draws the next dropout mask: which elements of a layer's output of this shape are kept."""
        return jax.random.bernoulli(self.rngs(), 1 - self.dropout, shape)

    def _run(
        self, step: kernels.Step, input: jax.Array, hx: Sequence[jax.Array] | None, masks: Sequence[jax.Array] | None
    ) -> tuple[jax.Array, kernels.State]:
        layer, sizes = type(self).__name__, (self.proj_size or self.hidden_size, self.hidden_size)
        weights = [[self._weights(suffix) for suffix in self._suffixes(k)] for k in range(self.num_layers)]
        states = dict(zip(self.state_names, sizes, strict=False))
        drop = functools.partial(self._drop, masks=masks)
        return kernels.scan_layers(layer, step, input, hx, weights, states, self.batch_first, drop)

    def _drop(self, output: jax.Array, gap: int, masks: Sequence[jax.Array] | None) -> jax.Array:
        if not self.training or self.dropout == 0:
            return output
        if masks is None:
            return F.dropout(output, self.dropout, mask=self.draw_mask(output.shape))
        shapes, gaps = [mask.shape for mask in masks], self.num_layers - 1
        if shapes != [output.shape] * gaps:
            raise ValueError(
                f"{type(self).__name__}: expected masks for {gaps} gaps between layers, each of shape {output.shape}, "
                f"got masks of shapes {shapes}"
            )
        return F.dropout(output, self.dropout, mask=masks[gap])


def _check_dropout(layer: str, dropout: float, num_layers: int) -> None:
    is_number = isinstance(dropout, numbers.Real) and not isinstance(dropout, bool)
    if not is_number or not 0 <= dropout <= 1:
        # Torch converts to float before it looks, and only what cannot be converted at all is a TypeError.
        error = ValueError if isinstance(dropout, (numbers.Real, str)) else TypeError
        raise error(f"{layer}: dropout must be a number between 0 and 1, got {dropout!r}")
    if dropout > 0 and num_layers == 1:
        message = "dropout acts between layers and not after the last, so it does nothing with num_layers=1"
        # Seven frames up is the caller: three are here, three are NNX's.
        warnings.warn(f"{layer}: {message}, got dropout={dropout}", UserWarning, stacklevel=7)


def _check_types(layer: str, kind: type, **values: Any) -> None:
    for name, value in values.items():
        if not isinstance(value, kind):
            raise TypeError(f"{layer}: {name} must be {'a bool' if kind is bool else 'an int'}, got {value!r}")


def _check_sizes(layer: str, hidden_size: int, proj_size: int, **sizes: int) -> None:
    for name, size in {"hidden_size": hidden_size, **sizes}.items():
        if size <= 0:
            raise ValueError(f"{layer}: {name} must be positive, got {size}")
    if not 0 <= proj_size < hidden_size:
        raise ValueError(
            f"{layer}: proj_size must be 0 (no projection) or positive and smaller than hidden_size={hidden_size}, "
            f"got {proj_size}"
        )


class RNN(_Recurrent):
    """Elman network of several layers: ``h' = tanh(weight_ih @ x + bias_ih + weight_hh @ h + bias_hh)``.

    Maps ``(T, N, input_size)`` and ``h_0 (D * num_layers, N, hidden_size)`` to ``(T, N, D * hidden_size)`` and ``h_n``,
    the ``D`` directions side by side; unbatched input and states have no ``N``. No packed sequences.

    Parameters of layer ``k``: ``weight_ih_l{k} (hidden_size, in)``, ``weight_hh_l{k} (hidden_size, hidden_size)``,
    ``bias_ih_l{k}`` and ``bias_hh_l{k} (hidden_size,)``, and the same with ``_reverse`` for the second direction, all
    drawn from the uniform distribution on ``+-1/sqrt(hidden_size)``.

    Args:
        input_size: size of the input's last axis.
        hidden_size: size of the hidden state.
        num_layers: how many layers, each after the first reading the outputs of the one before.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias: whether to add biases.
        batch_first: whether batched inputs and outputs, but not states, are ``(N, T, ...)``.
        dropout: the probability, in training mode, of zero for each output of every layer but the last.
        bidirectional: whether each layer also reads the sequence from its end.
        dtype: of the parameters; float32 if not given.
        rngs: the source of the initial weights and of dropout's masks.

    Raises:
        ValueError: for sizes that are not positive, a dropout that is no probability or an unknown nonlinearity, and
            at the call for an input of the wrong rank or dtype, or masks of the wrong shape.
        TypeError: for sizes that are no int, and for ``bias`` or ``batch_first`` that is no bool.
        RuntimeError: at the call, for an input or a state that does not fit, and for a sequence of no steps.

    See "Finding structure in time" (https://doi.org/10.1207/s15516709cog1402_1) and `torch.nn.RNN
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html>`_.

    >>> output, h_n = RNN(3, 4, num_layers=2, rngs=nnx.Rngs(0))(jnp.ones((5, 1, 3)))
    >>> output.shape, h_n.shape
    ((5, 1, 4), (2, 1, 4))
    """

    num_gates = 1

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, dtype: DTypeLike = jnp.float32,
        *, rngs: nnx.Rngs,
    ):  # fmt: skip
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNN: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        flags = bias, batch_first, dropout, bidirectional
        super().__init__(input_size, hidden_size, num_layers, *flags, 0, dtype, rngs)

    def __call__(
        self, input: Float[Array, "... in"], hx: Float[Array, "... hidden"] | None = None,
        *, masks: Sequence[Bool[Array, "t n out"]] | None = None,
    ) -> tuple[Float[Array, "... out"], Float[Array, "... hidden"]]:  # fmt: skip
        """Returns the outputs of all steps and the last hidden states, ``(output, h_n)``.

        ``masks`` are used for dropout instead of drawn ones: one for each gap between layers, time first.
        """
        step = kernels.rnn_tanh_step if self.nonlinearity == "tanh" else kernels.rnn_relu_step
        output, (h_n,) = self._run(step, input, None if hx is None else (hx,), masks)
        return output, h_n


class GRU(_Recurrent):
    """Gated recurrent units in several layers; the new gate is ``tanh(W_in @ x + b_in + r * (W_hn @ h + b_hn))``.

    Maps ``(T, N, input_size)`` and ``h_0 (D * num_layers, N, hidden_size)`` to ``(T, N, D * hidden_size)`` and ``h_n``,
    the ``D`` directions side by side; unbatched input and states have no ``N``. No packed sequences.

    Parameters of layer ``k``, gates in the order reset, update, new: ``weight_ih_l{k} (3*hidden_size, in)``,
    ``weight_hh_l{k} (3*hidden_size, hidden_size)``, ``bias_ih_l{k}`` and ``bias_hh_l{k} (3*hidden_size,)``, and the
    same with ``_reverse`` for the second direction, all drawn from the uniform distribution on
    ``+-1/sqrt(hidden_size)``.

    Args:
        input_size: size of the input's last axis.
        hidden_size: size of the hidden state.
        num_layers: how many layers, each after the first reading the outputs of the one before.
        bias: whether to add biases.
        batch_first: whether batched inputs and outputs, but not states, are ``(N, T, ...)``.
        dropout: the probability, in training mode, of zero for each output of every layer but the last.
        bidirectional: whether each layer also reads the sequence from its end.
        dtype: of the parameters; float32 if not given.
        rngs: the source of the initial weights and of dropout's masks.

    Raises:
        ValueError, TypeError, RuntimeError: as :class:`RNN`.

    See "Learning phrase representations using RNN encoder-decoder" (arXiv:1406.1078) and `torch.nn.GRU
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html>`_.

    >>> output, h_n = GRU(3, 4, bidirectional=True, rngs=nnx.Rngs(0))(jnp.ones((5, 1, 3)))
    >>> output.shape, h_n.shape
    ((5, 1, 8), (2, 1, 4))
    """

    num_gates = 3

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, dtype: DTypeLike = jnp.float32, *, rngs: nnx.Rngs,
    ):  # fmt: skip
        flags = bias, batch_first, dropout, bidirectional
        super().__init__(input_size, hidden_size, num_layers, *flags, 0, dtype, rngs)

    def __call__(
        self, input: Float[Array, "... in"], hx: Float[Array, "... hidden"] | None = None,
        *, masks: Sequence[Bool[Array, "t n out"]] | None = None,
    ) -> tuple[Float[Array, "... out"], Float[Array, "... hidden"]]:  # fmt: skip
        """Returns ``(output, h_n)``; ``masks`` as in :meth:`RNN.__call__`."""
        output, (h_n,) = self._run(kernels.gru_step, input, None if hx is None else (hx,), masks)
        return output, h_n


class LSTM(_Recurrent):
    """Long short-term memory of several layers; with ``proj_size``, ``h' = weight_hr @ (o * tanh(c'))``.

    Maps ``(T, N, input_size)`` and the pair ``h_0 (D * num_layers, N, out)``, ``c_0 (D * num_layers, N, hidden_size)``
    to ``(T, N, D * out)`` and the pair ``h_n``, ``c_n``, the ``D`` directions side by side; ``out`` is ``proj_size``
    if that is positive, else ``hidden_size``. Unbatched input and states have no ``N``. No packed sequences.

    Parameters of layer ``k``, gates in the order input, forget, cell, output: ``weight_ih_l{k} (4*hidden_size, in)``,
    ``weight_hh_l{k} (4*hidden_size, out)``, ``bias_ih_l{k}`` and ``bias_hh_l{k} (4*hidden_size,)``,
    ``weight_hr_l{k} (proj_size, hidden_size)``, and the same with ``_reverse`` for the second direction, all drawn
    from the uniform distribution on ``+-1/sqrt(hidden_size)``.

    Args:
        input_size: size of the input's last axis.
        hidden_size: size of the cell state.
        num_layers: how many layers, each after the first reading the outputs of the one before.
        bias: whether to add biases.
        batch_first: whether batched inputs and outputs, but not states, are ``(N, T, ...)``.
        dropout: the probability, in training mode, of zero for each output of every layer but the last.
        bidirectional: whether each layer also reads the sequence from its end.
        proj_size: size that the hidden state is projected to; 0 for no projection.
        dtype: of the parameters; float32 if not given.
        rngs: the source of the initial weights and of dropout's masks.

    Raises:
        ValueError, TypeError, RuntimeError: as :class:`RNN`; ValueError also for a ``proj_size`` that is negative or
            not smaller than ``hidden_size``.

    See "Long short-term memory" (https://doi.org/10.1162/neco.1997.9.8.1735), arXiv:1402.1128 for the projection, and
    `torch.nn.LSTM <https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html>`_.

    >>> output, (h_n, c_n) = LSTM(3, 4, proj_size=2, rngs=nnx.Rngs(0))(jnp.ones((5, 1, 3)))
    >>> output.shape, h_n.shape, c_n.shape
    ((5, 1, 2), (1, 1, 2), (1, 1, 4))
    """

    num_gates = 4
    state_names = ("h_0", "c_0")

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, dtype: DTypeLike = jnp.float32,
        *, rngs: nnx.Rngs,
    ):  # fmt: skip
        flags = bias, batch_first, dropout, bidirectional
        super().__init__(input_size, hidden_size, num_layers, *flags, proj_size, dtype, rngs)

    def __call__(
        self, input: Float[Array, "... in"], hx: _Pair | None = None,
        *, masks: Sequence[Bool[Array, "t n d_out"]] | None = None,
    ) -> tuple[Float[Array, "... d_out"], _Pair]:  # fmt: skip
        """Returns ``(output, (h_n, c_n))``; ``masks`` as in :meth:`RNN.__call__`."""
        output, (h_n, c_n) = self._run(kernels.lstm_step, input, hx, masks)
        return output, (h_n, c_n)
