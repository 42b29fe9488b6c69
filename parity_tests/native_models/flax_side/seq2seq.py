"""GRU encoder and decoder with attention (arXiv:1508.04025)."""

import jax
import jax.numpy as jnp
from flax import nnx


class GRUCell(nnx.GRUCell):
    """PyTorch's GRU cell: the hidden product also has a bias, which the reset gate multiplies."""

    def __init__(self, in_features, hidden, *, rngs):
        super().__init__(in_features, hidden, rngs=rngs)
        self.dense_h = nnx.Linear(hidden, 3 * hidden, rngs=rngs)

    def __call__(self, carry, inputs):
        x_r, x_z, x_n = jnp.split(self.dense_i(inputs), 3, axis=-1)
        h_r, h_z, h_n = jnp.split(self.dense_h(carry), 3, axis=-1)
        r = nnx.sigmoid(x_r + h_r)
        z = nnx.sigmoid(x_z + h_z)
        n = nnx.tanh(x_n + r * h_n)
        h = (1 - z) * n + z * carry
        return h, h


class Seq2Seq(nnx.Module):
    def __init__(self, source_vocab=20, target_vocab=24, features=8, hidden=10, *, rngs):
        self.source = nnx.Embed(source_vocab, features, rngs=rngs)
        self.reader = nnx.RNN(GRUCell(features, hidden, rngs=rngs), return_carry=True, rngs=rngs)
        self.target = nnx.Embed(target_vocab, features, rngs=rngs)
        self.query = nnx.Linear(hidden, hidden, use_bias=False, rngs=rngs)
        self.writer = GRUCell(features + hidden, hidden, rngs=rngs)
        self.logits = nnx.Linear(2 * hidden, target_vocab, rngs=rngs)

    def attend(self, state, memory):
        scores = jnp.einsum("bth,bh->bt", memory, self.query(state))
        weights = jax.nn.softmax(scores, axis=1)
        return jnp.einsum("bt,bth->bh", weights, memory)

    def __call__(self, source, target):
        state, memory = self.reader(self.source(source))
        outputs = []
        for t in range(target.shape[1]):
            context = self.attend(state, memory)
            inputs = jnp.concatenate([self.target(target[:, t]), context], axis=-1)
            state, _ = self.writer(state, inputs)
            outputs.append(self.logits(jnp.concatenate([state, context], axis=-1)))
        return jnp.stack(outputs, axis=1)
