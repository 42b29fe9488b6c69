"""Base class of the recurrent layers over whole sequences."""

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
from jaxtyping import Array, Bool

from flaxnets.nn import functional as F
from flaxnets.nn import init
from flaxnets.nn._arguments import changed
from flaxnets.nn.functional.recurrent import scan_layers
from flaxnets.nn.functional.recurrent_steps import RECURRENCES, LayerWeights, State
from flaxnets.nn.module import Module
from flaxnets.nn.parameter import redraw, reserved
from flaxnets.nn.utils.rnn import PaddedSequence


class RNNBase(Module):
    """Base class of recurrent layers: arguments, parameters and dropout, but no computation.

    Args:
        mode: ``"RNN_TANH"``, ``"RNN_RELU"``, ``"GRU"`` or ``"LSTM"``; determines the shapes of the parameters.
        input_size: size of the input's last axis.
        hidden_size: size of the hidden state.
        num_layers: number of layers.
        bias: whether to add biases.
        batch_first: whether batched inputs and outputs, but not states, are ``(N, T, ...)``.
        dropout: probability, in training mode, of zeroing each output of every layer except the last.
        bidirectional: whether each layer also reads the sequence in reverse.
        proj_size: size of the projected hidden state. 0 means no projection.
        dtype: parameter dtype. Default: float32.
        rngs: random number generators for the initial weights and the dropout masks.

    Raises:
        ValueError: for an unknown mode, sizes that are not positive, a dropout that is not in ``[0, 1]``, or a
            ``proj_size`` that is negative or not smaller than ``hidden_size``.
        TypeError: for sizes that are not ints, and for a ``bias`` or ``batch_first`` that is not a bool.
        NotImplementedError: when called; call :class:`RNN`, :class:`GRU` or :class:`LSTM` instead.

    See `torch.nn.RNNBase <https://docs.pytorch.org/docs/stable/generated/torch.nn.RNNBase.html>`_.

    >>> {name: array.shape for name, array in RNNBase("GRU", 3, 4, bias=False, rngs=nnx.Rngs(0)).state_dict().items()}
    {'weight_ih_l0': (12, 3), 'weight_hh_l0': (12, 4)}
    """

    def __init__(
        self, mode: str, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
        dtype: DTypeLike = jnp.float32, *, rngs: nnx.Rngs,
    ):  # fmt: skip
        name = type(self).__name__
        _check_dropout(name, dropout, num_layers)
        _check_types(name, bool, bias=bias, batch_first=batch_first)
        _check_types(name, int, input_size=input_size, hidden_size=hidden_size)
        _check_types(name, numbers.Integral, num_layers=num_layers, proj_size=proj_size)
        _check_sizes(name, hidden_size, proj_size, input_size=input_size, num_layers=num_layers)
        if mode not in RECURRENCES:
            raise ValueError(f"{name}: mode must be one of {list(RECURRENCES)}, got {mode!r}")
        self.mode = mode
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
                self._add_weights(layer, suffix, dtype)
        self.reset_parameters(rngs=rngs)

    def reset_parameters(self, *, rngs: nnx.Rngs) -> None:
        """Reinitialise the parameters."""
        bound = 1 / math.sqrt(self.hidden_size)
        for names in self._weight_names():
            for name in names:
                redraw(self, name, lambda shape, dtype: init.uniform(rngs.params(), shape, dtype, a=-bound, b=bound))

    def extra_repr(self) -> str:
        """Return the sizes and the non-default options for ``repr``."""
        sizes = changed(self, proj_size=0, num_layers=1)
        options = changed(self, bias=True, batch_first=False, dropout=0, bidirectional=False)
        return f"{self.input_size}, {self.hidden_size}{sizes}{options}"

    @property
    def all_weights(self) -> list[list[nnx.Param]]:
        """The parameters of each layer and direction, as in torch."""
        return [[getattr(self, name) for name in names] for names in self._weight_names()]

    def flatten_parameters(self) -> None:
        """Do nothing: XLA chooses the memory layout of the parameters."""

    def _weight_names(self) -> list[list[str]]:
        suffixes = [suffix for layer in range(self.num_layers) for suffix in self._suffixes(layer)]
        names = LayerWeights._fields
        return [[f"{name}_{suffix}" for name in names if hasattr(self, f"{name}_{suffix}")] for suffix in suffixes]

    def _suffixes(self, layer: int) -> tuple[str, ...]:
        return (f"l{layer}", f"l{layer}_reverse") if self.bidirectional else (f"l{layer}",)

    def _add_weights(self, layer: int, suffix: str, dtype: DTypeLike) -> None:
        gates, out_size = RECURRENCES[self.mode].gates * self.hidden_size, self.proj_size or self.hidden_size
        in_size = self.input_size if layer == 0 else out_size * len(self._suffixes(layer))
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (gates, in_size), "weight_hh": (gates, out_size)}
        if self.bias:
            shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        for name, shape in shapes.items():
            setattr(self, f"{name}_{suffix}", reserved(*shape, dtype=dtype))

    def _weights(self, suffix: str) -> LayerWeights:
        names = [name for name in LayerWeights._fields if hasattr(self, f"{name}_{suffix}")]
        return LayerWeights(**{name: getattr(self, f"{name}_{suffix}")[...] for name in names})

    def draw_mask(self, shape: tuple[int, ...]) -> Bool[Array, "..."]:
        """Draw the next dropout mask of this shape: True for the elements of a layer's output to keep."""
        return jax.random.bernoulli(self.rngs(), 1 - self.dropout, shape)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raise NotImplementedError: the base class computes nothing."""
        raise NotImplementedError(
            f"{type(self).__name__} of mode {self.mode!r} cannot be called. Fix: use RNN, GRU or LSTM"
        )

    def _run(
        self, input: jax.Array | PaddedSequence, hx: Sequence[jax.Array] | None, masks: Sequence[jax.Array] | None
    ) -> tuple[Any, State]:
        layer, sizes = type(self).__name__, (self.proj_size or self.hidden_size, self.hidden_size)
        recurrence = RECURRENCES[self.mode]
        weights = [[self._weights(suffix) for suffix in self._suffixes(k)] for k in range(self.num_layers)]
        states = dict(zip(recurrence.states, sizes, strict=False))
        drop = functools.partial(self._drop, masks=masks)
        return scan_layers(layer, recurrence, input, hx, weights, states, self.batch_first, drop)

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
        # Torch converts to float before checking the range; only values that cannot be converted raise TypeError.
        error = ValueError if isinstance(dropout, (numbers.Real, str)) else TypeError
        raise error(f"{layer}: dropout must be a number between 0 and 1, got {dropout!r}")
    if dropout > 0 and num_layers == 1:
        message = "dropout acts between layers and not after the last layer, so it has no effect with num_layers=1"
        # The caller is seven frames up: three frames of this module, three of NNX.
        warnings.warn(f"{layer}: {message}, got dropout={dropout}", UserWarning, stacklevel=7)


def _check_types(layer: str, expected: type, **values: Any) -> None:
    for name, value in values.items():
        if not isinstance(value, expected):
            raise TypeError(f"{layer}: {name} must be {'a bool' if expected is bool else 'an int'}, got {value!r}")


def _check_sizes(layer: str, hidden_size: int, proj_size: int, **sizes: int) -> None:
    for name, size in {"hidden_size": hidden_size, **sizes}.items():
        if size <= 0:
            raise ValueError(f"{layer}: {name} must be positive, got {size}")
    if not 0 <= proj_size < hidden_size:
        raise ValueError(
            f"{layer}: proj_size must be 0 (no projection) or positive and smaller than hidden_size={hidden_size}, "
            f"got {proj_size}"
        )
