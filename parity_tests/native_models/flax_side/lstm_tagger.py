"""Word tagger with a bidirectional LSTM (arXiv:1508.01991)."""

from flax import nnx


class Tagger(nnx.Module):
    def __init__(self, vocab=30, features=8, hidden=6, tags=5, rate=0.3, *, rngs):
        self.embed = nnx.Embed(vocab, features, rngs=rngs)
        self.drop = nnx.Dropout(rate, rngs=rngs)
        forward = nnx.RNN(nnx.OptimizedLSTMCell(features, hidden, rngs=rngs), rngs=rngs)
        backward = nnx.RNN(nnx.OptimizedLSTMCell(features, hidden, rngs=rngs), rngs=rngs)
        self.encoder = nnx.Bidirectional(forward, backward, rngs=rngs)
        self.out = nnx.Linear(2 * hidden, tags, rngs=rngs)

    def __call__(self, tokens):
        x = self.drop(self.embed(tokens))
        x = self.encoder(x)
        return nnx.log_softmax(self.out(x), axis=-1)
