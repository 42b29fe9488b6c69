"""Recurrent layers over whole sequences: RNN, GRU and LSTM."""

from collections.abc import Sequence
from typing import overload

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flaxnets.nn.recurrent_base import RNNBase
from flaxnets.nn.utils.rnn import PaddedSequence

_Pair = tuple[Float[Array, "... out"], Float[Array, "... hidden"]]
_Hidden = Float[Array, "... hidden"] | None
_MasksOfBoth = Sequence[Bool[Array, "t n d_out"]] | None  # both directions are concatenated in the last axis
_Masks = Sequence[Bool[Array, "t n out"]] | None


def _check_no_projection(layer: str, proj_size: object) -> None:
    if proj_size is not None:
        raise ValueError(f"{layer}: only LSTM supports proj_size, got proj_size={proj_size!r}")


class _SingleStateRNN(RNNBase):
    """Base of the recurrent layers whose state is one array."""

    @overload
    def __call__(
        self, input: Float[Array, "... in"], hx: _Hidden = None, *, masks: _Masks = None
    ) -> tuple[Float[Array, "... out"], Float[Array, "... hidden"]]: ...
    @overload
    def __call__(
        self, input: PaddedSequence, hx: _Hidden = None, *, masks: _Masks = None
    ) -> tuple[PaddedSequence, Float[Array, "... hidden"]]: ...
    def __call__(
        self, input: Float[Array, "... in"] | PaddedSequence, hx: _Hidden = None,
        *, masks: _Masks = None,
    ) -> tuple[Float[Array, "... out"] | PaddedSequence, Float[Array, "... hidden"]]:  # fmt: skip
        """Return the outputs of all steps and the last hidden states, ``(output, h_n)``.

        ``masks`` replaces the drawn dropout masks: one mask per gap between layers, time first.
        """
        output, (h_n,) = self._run(input, None if hx is None else (hx,), masks)
        return output, h_n


class RNN(_SingleStateRNN):
    """Elman network of several layers: ``h' = tanh(weight_ih @ x + bias_ih + weight_hh @ h + bias_hh)``.

    Maps ``(T, N, input_size)`` and ``h_0 (D * num_layers, N, hidden_size)`` to ``(T, N, D * hidden_size)`` and ``h_n``,
    with the ``D`` directions concatenated. Unbatched inputs and states have no ``N``. Pass sequences of different
    lengths as a :class:`flaxnets.nn.utils.rnn.PaddedSequence`.

    Parameters of layer ``k``: ``weight_ih_l{k} (hidden_size, in)``, ``weight_hh_l{k} (hidden_size, hidden_size)``,
    ``bias_ih_l{k}`` and ``bias_hh_l{k} (hidden_size,)``, and the same with ``_reverse`` for the second direction, all
    drawn from the uniform distribution on ``+-1/sqrt(hidden_size)``.

    Args:
        input_size: size of the input's last axis.
        hidden_size: size of the hidden state.
        num_layers: number of layers; each layer reads the outputs of the previous layer.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias: whether to add biases.
        batch_first: whether batched inputs and outputs, but not states, are ``(N, T, ...)``.
        dropout: probability, in training mode, of zeroing each output of every layer except the last.
        bidirectional: whether each layer also reads the sequence in reverse.
        dtype: parameter dtype. Default: float32.
        proj_size: must be 0; only :class:`LSTM` supports projections.
        rngs: random number generators for the initial weights and the dropout masks.

    Raises:
        ValueError: for sizes that are not positive, a dropout that is not in ``[0, 1]``, an unknown nonlinearity or a
            nonzero ``proj_size``; when called, for an input of the wrong rank or dtype, or masks of the wrong shape.
        TypeError: for sizes that are not ints, and for a ``bias`` or ``batch_first`` that is not a bool.
        RuntimeError: when called, for an input or state of the wrong size, and for a sequence of no steps.
        NotImplementedError: when called, for a packed sequence of torch.

    See "Finding structure in time" (https://doi.org/10.1207/s15516709cog1402_1) and `torch.nn.RNN
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html>`_.

    >>> output, h_n = RNN(3, 4, num_layers=2, rngs=nnx.Rngs(0))(jnp.ones((5, 1, 3)))
    >>> output.shape, h_n.shape
    ((5, 1, 4), (2, 1, 4))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, dtype: DTypeLike = jnp.float32,
        *, proj_size: None = None, rngs: nnx.Rngs,
    ):  # fmt: skip
        _check_no_projection("RNN", proj_size)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNN: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        flags = bias, batch_first, dropout, bidirectional
        mode = f"RNN_{nonlinearity.upper()}"
        super().__init__(mode, input_size, hidden_size, num_layers, *flags, dtype=dtype, rngs=rngs)


class GRU(_SingleStateRNN):
    """Gated recurrent units (GRU) of several layers; the new gate is ``tanh(W_in @ x + b_in + r * (W_hn @ h + b_hn))``.

    Maps ``(T, N, input_size)`` and ``h_0 (D * num_layers, N, hidden_size)`` to ``(T, N, D * hidden_size)`` and ``h_n``,
    with the ``D`` directions concatenated. Unbatched inputs and states have no ``N``. Pass sequences of different
    lengths as a :class:`flaxnets.nn.utils.rnn.PaddedSequence`.

    Parameters of layer ``k``, gates in the order reset, update, new: ``weight_ih_l{k} (3*hidden_size, in)``,
    ``weight_hh_l{k} (3*hidden_size, hidden_size)``, ``bias_ih_l{k}`` and ``bias_hh_l{k} (3*hidden_size,)``, and the
    same with ``_reverse`` for the second direction, all drawn from the uniform distribution on
    ``+-1/sqrt(hidden_size)``.

    Args:
        input_size: size of the input's last axis.
        hidden_size: size of the hidden state.
        num_layers: number of layers; each layer reads the outputs of the previous layer.
        bias: whether to add biases.
        batch_first: whether batched inputs and outputs, but not states, are ``(N, T, ...)``.
        dropout: probability, in training mode, of zeroing each output of every layer except the last.
        bidirectional: whether each layer also reads the sequence in reverse.
        dtype: parameter dtype. Default: float32.
        proj_size: must be 0; only :class:`LSTM` supports projections.
        rngs: random number generators for the initial weights and the dropout masks.

    Raises:
        ValueError, TypeError, RuntimeError, NotImplementedError: as :class:`RNN`.

    See "Learning phrase representations using RNN encoder-decoder" (arXiv:1406.1078) and `torch.nn.GRU
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html>`_.

    >>> output, h_n = GRU(3, 4, bidirectional=True, rngs=nnx.Rngs(0))(jnp.ones((5, 1, 3)))
    >>> output.shape, h_n.shape
    ((5, 1, 8), (2, 1, 4))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, dtype: DTypeLike = jnp.float32,
        *, proj_size: None = None, rngs: nnx.Rngs,
    ):  # fmt: skip
        _check_no_projection("GRU", proj_size)
        flags = bias, batch_first, dropout, bidirectional
        super().__init__("GRU", input_size, hidden_size, num_layers, *flags, dtype=dtype, rngs=rngs)


class LSTM(RNNBase):
    """Long short-term memory (LSTM) of several layers; with ``proj_size``, ``h' = weight_hr @ (o * tanh(c'))``.

    Maps ``(T, N, input_size)`` and the pair ``h_0 (D * num_layers, N, out)``, ``c_0 (D * num_layers, N, hidden_size)``
    to ``(T, N, D * out)`` and the pair ``h_n``, ``c_n``, with the ``D`` directions concatenated. ``out`` is
    ``proj_size`` if positive, else ``hidden_size``. Unbatched inputs and states have no ``N``. Pass sequences of
    different lengths as a :class:`flaxnets.nn.utils.rnn.PaddedSequence`.

    Parameters of layer ``k``, gates in the order input, forget, cell, output: ``weight_ih_l{k} (4*hidden_size, in)``,
    ``weight_hh_l{k} (4*hidden_size, out)``, ``bias_ih_l{k}`` and ``bias_hh_l{k} (4*hidden_size,)``,
    ``weight_hr_l{k} (proj_size, hidden_size)``, and the same with ``_reverse`` for the second direction, all drawn
    from the uniform distribution on ``+-1/sqrt(hidden_size)``.

    Args:
        input_size: size of the input's last axis.
        hidden_size: size of the cell state.
        num_layers: number of layers; each layer reads the outputs of the previous layer.
        bias: whether to add biases.
        batch_first: whether batched inputs and outputs, but not states, are ``(N, T, ...)``.
        dropout: probability, in training mode, of zeroing each output of every layer except the last.
        bidirectional: whether each layer also reads the sequence in reverse.
        proj_size: size of the projected hidden state. 0 means no projection.
        dtype: parameter dtype. Default: float32.
        rngs: random number generators for the initial weights and the dropout masks.

    Raises:
        ValueError, TypeError, RuntimeError, NotImplementedError: as :class:`RNN`, except that ``proj_size`` may be
            nonzero: ValueError if negative or not smaller than ``hidden_size``.

    See "Long short-term memory" (https://doi.org/10.1162/neco.1997.9.8.1735), arXiv:1402.1128 for the projection, and
    `torch.nn.LSTM <https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html>`_.

    >>> output, (h_n, c_n) = LSTM(3, 4, proj_size=2, rngs=nnx.Rngs(0))(jnp.ones((5, 1, 3)))
    >>> output.shape, h_n.shape, c_n.shape
    ((5, 1, 2), (1, 1, 2), (1, 1, 4))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, dtype: DTypeLike = jnp.float32,
        *, rngs: nnx.Rngs,
    ):  # fmt: skip
        flags = bias, batch_first, dropout, bidirectional
        super().__init__("LSTM", input_size, hidden_size, num_layers, *flags, proj_size, dtype, rngs=rngs)

    @overload
    def __call__(
        self, input: Float[Array, "... in"], hx: _Pair | None = None, *, masks: _MasksOfBoth = None
    ) -> tuple[Float[Array, "... d_out"], _Pair]: ...
    @overload
    def __call__(
        self, input: PaddedSequence, hx: _Pair | None = None, *, masks: _MasksOfBoth = None
    ) -> tuple[PaddedSequence, _Pair]: ...
    def __call__(
        self, input: Float[Array, "... in"] | PaddedSequence, hx: _Pair | None = None,
        *, masks: _MasksOfBoth = None,
    ) -> tuple[Float[Array, "... d_out"] | PaddedSequence, _Pair]:  # fmt: skip
        """Return ``(output, (h_n, c_n))``; ``masks`` as in :meth:`RNN.__call__`."""
        output, (h_n, c_n) = self._run(input, hx, masks)
        return output, (h_n, c_n)
