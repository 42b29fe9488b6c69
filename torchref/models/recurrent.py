"""Character language models: one-hot characters, a recurrent layer, and logits for the next character.

RNN: "Finding structure in time" (Elman, 1990). GRU: arXiv:1406.1078. LSTM: Hochreiter and Schmidhuber, 1997.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from torchref.registry import register


class LanguageModel(nn.Module):
    """Character language model: maps ids and a state to logits of the next characters and the new state."""

    def __init__(self, rnn: nn.Module, vocab_size: int, num_outputs: int):
        super().__init__()
        self.rnn = rnn
        self.vocab_size = vocab_size
        self.dense = nn.Linear(num_outputs, vocab_size)

    def forward(self, inputs: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return the logits of all steps, step by step, and the state after the last step."""
        x = F.one_hot(inputs.long(), self.vocab_size).to(self.dense.weight.dtype)
        y, state = self.rnn(x, state)
        return self.dense(y.reshape(-1, y.shape[-1])), state


@register
def rnn_lm(
    *,
    vocab_size: int = 28,
    num_hiddens: int = 256,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
) -> LanguageModel:
    """A language model with Elman's recurrent layers."""
    rnn = nn.RNN(vocab_size, num_hiddens, num_layers, bidirectional=bidirectional, dropout=dropout)
    return LanguageModel(rnn, vocab_size, num_hiddens * (1 + bidirectional))


@register
def gru_lm(
    *,
    vocab_size: int = 28,
    num_hiddens: int = 256,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
) -> LanguageModel:
    """A language model with gated recurrent units."""
    rnn = nn.GRU(vocab_size, num_hiddens, num_layers, bidirectional=bidirectional, dropout=dropout)
    return LanguageModel(rnn, vocab_size, num_hiddens * (1 + bidirectional))


@register
def lstm_lm(
    *,
    vocab_size: int = 28,
    num_hiddens: int = 256,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
) -> LanguageModel:
    """A language model with long short-term memory."""
    rnn = nn.LSTM(vocab_size, num_hiddens, num_layers, bidirectional=bidirectional, dropout=dropout)
    return LanguageModel(rnn, vocab_size, num_hiddens * (1 + bidirectional))
