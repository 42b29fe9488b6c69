"""Character language models: one-hot characters, a recurrent layer, and logits for the next character.

RNN: "Finding structure in time" (Elman, 1990). GRU: arXiv:1406.1078. LSTM: Hochreiter and Schmidhuber, 1997.
"""

from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float, Int

from flaxnets import nn
from flaxnets.registry import Recipe, register

RECIPE = Recipe(epochs=5, batch_size=32, lr=0.003, optimizer="adam")


class LanguageModel(nn.Module):
    """Character language model: maps ids and a state to logits of the next characters and the new state."""

    def __init__(self, rnn: nn.Module, vocab_size: int, num_outputs: int, *, rngs: nnx.Rngs):
        self.rnn = rnn
        self.vocab_size = vocab_size
        self.dense = nn.Linear(num_outputs, vocab_size, rngs=rngs)

    def __call__(self, inputs: Int[Array, "t n"], state: Any = None) -> tuple[Float[Array, "tn vocab"], Any]:
        """Return the logits of all steps, step by step, and the state after the last step."""
        x = jax.nn.one_hot(inputs, self.vocab_size, dtype=self.dense.weight.dtype)
        y, state = self.rnn(x, state)
        # Logits before the reshape: a reshape of the features would gather a batch that is sharded over devices.
        return self.dense(y).reshape(-1, self.vocab_size), state


@register(input_shape=(35,), task="language", dataset="topics", paper="Elman 1990", recipe=RECIPE)
def rnn_lm(
    *,
    vocab_size: int = 28,
    num_hiddens: int = 256,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    rngs: nnx.Rngs,
) -> LanguageModel:
    """A language model with Elman's recurrent layers."""
    rnn = nn.RNN(vocab_size, num_hiddens, num_layers, bidirectional=bidirectional, dropout=dropout, rngs=rngs)
    return LanguageModel(rnn, vocab_size, num_hiddens * (1 + bidirectional), rngs=rngs)


@register(input_shape=(35,), task="language", dataset="topics", paper="arXiv:1406.1078", recipe=RECIPE)
def gru_lm(
    *,
    vocab_size: int = 28,
    num_hiddens: int = 256,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    rngs: nnx.Rngs,
) -> LanguageModel:
    """A language model with gated recurrent units."""
    rnn = nn.GRU(vocab_size, num_hiddens, num_layers, bidirectional=bidirectional, dropout=dropout, rngs=rngs)
    return LanguageModel(rnn, vocab_size, num_hiddens * (1 + bidirectional), rngs=rngs)


@register(
    input_shape=(35,),
    task="language",
    dataset="topics",
    paper="Hochreiter et al. 1997",
    recipe=RECIPE,
)
def lstm_lm(
    *,
    vocab_size: int = 28,
    num_hiddens: int = 256,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    rngs: nnx.Rngs,
) -> LanguageModel:
    """A language model with long short-term memory."""
    rnn = nn.LSTM(vocab_size, num_hiddens, num_layers, bidirectional=bidirectional, dropout=dropout, rngs=rngs)
    return LanguageModel(rnn, vocab_size, num_hiddens * (1 + bidirectional), rngs=rngs)
