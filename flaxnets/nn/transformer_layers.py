"""Transformer encoder and decoder layers: attention and feed-forward blocks with skip connections."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flaxnets.nn import functional as F
from flaxnets.nn.attention import MultiheadAttention
from flaxnets.nn.dropout import Dropout
from flaxnets.nn.functional.attention import Mask
from flaxnets.nn.linear import Linear
from flaxnets.nn.module import Module
from flaxnets.nn.normalization import LayerNorm

Activation = str | Callable[[jax.Array], jax.Array]


class _TransformerLayer(Module):
    """Base class: one attention block per name in ``attentions``, then a feed-forward block."""

    attentions: tuple[str, ...]

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: DTypeLike = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ):
        for name in self.attentions:
            options = {"dropout": dropout, "bias": bias, "batch_first": batch_first}
            setattr(self, name, MultiheadAttention(d_model, nhead, **options, dtype=dtype, rngs=rngs))
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype, rngs=rngs)
        self.dropout = Dropout(dropout, rngs=rngs)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype, rngs=rngs)
        self.norm_first = norm_first
        numbers = range(1, len(self.attentions) + 2)
        for number in numbers:
            setattr(self, f"norm{number}", LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype))
        for number in numbers:
            setattr(self, f"dropout{number}", Dropout(dropout, rngs=rngs))
        if isinstance(activation, str) and activation not in ("relu", "gelu"):
            raise RuntimeError(
                f"{type(self).__name__}: activation must be 'relu', 'gelu' or a function, got {activation!r}"
            )
        self.activation = getattr(F, activation) if isinstance(activation, str) else activation

    def _block(self, x: jax.Array, number: int, function: Callable[[jax.Array], jax.Array]) -> jax.Array:
        """Add ``function(x)`` to ``x``, with dropout; normalise before the function or after the sum."""
        norm, dropout = getattr(self, f"norm{number}"), getattr(self, f"dropout{number}")
        return x + dropout(function(norm(x))) if self.norm_first else norm(x + dropout(function(x)))

    def _feed_forward(self, x: jax.Array) -> jax.Array:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class TransformerEncoderLayer(_TransformerLayer):
    """Transformer encoder layer: self-attention, then a feed-forward network, both with skip connections.

    Maps ``(S, N, d_model)``, or ``(N, S, d_model)`` with ``batch_first``, or unbatched ``(S, d_model)``, to the same
    shape.

    Parameters: those of ``self_attn`` (:class:`MultiheadAttention`), ``linear1``, ``linear2`` (:class:`Linear`),
    ``norm1`` and ``norm2`` (:class:`LayerNorm`).

    Args:
        d_model: number of features of each step.
        nhead: number of heads.
        dim_feedforward: number of features between the two linear layers.
        dropout: dropout probability of attention weights, between the linear layers and after each block.
        activation: ``"relu"``, ``"gelu"``, a function or a module.
        layer_norm_eps: ``eps`` of the layer normalisations.
        batch_first: whether batched inputs and outputs are ``(N, S, d_model)``.
        norm_first: whether each block normalises its input, instead of the sum at its end.
        bias: whether attention, linear layers and norms have biases.
        dtype: parameter dtype. Default: float32.
        rngs: random number generators for the initial weights and the dropout masks.

    Raises:
        RuntimeError: for an unknown activation; also where :class:`MultiheadAttention` raises it.
        ValueError: for a dropout that is not in ``[0, 1]``; also where :class:`MultiheadAttention` raises it.
        AssertionError: if ``nhead`` does not divide ``d_model``; when called, for incompatible shapes.

    See "Attention is all you need" (arXiv:1706.03762), arXiv:2002.04745 for ``norm_first``, and
    `torch.nn.TransformerEncoderLayer
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.TransformerEncoderLayer.html>`_.

    >>> layer = TransformerEncoderLayer(4, 2, 8, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 3, 4))).shape
    (5, 3, 4)
    """

    attentions = ("self_attn",)
    self_attn: MultiheadAttention

    def __call__(
        self,
        src: Float[Array, "*steps d_model"],
        src_mask: Mask | None = None,
        src_key_padding_mask: Mask | None = None,
        is_causal: bool = False,
    ) -> Float[Array, "*steps d_model"]:
        """Return the sequence; masks and ``is_causal`` as in :meth:`MultiheadAttention.__call__`."""

        def attend(x: jax.Array) -> jax.Array:
            return self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)[0]

        return self._block(self._block(jnp.asarray(src), 1, attend), 2, self._feed_forward)


class TransformerDecoderLayer(_TransformerLayer):
    """Transformer decoder layer: self-attention, attention to ``memory``, then a feed-forward network.

    Maps ``tgt (T, N, d_model)`` and ``memory (S, N, d_model)`` to the shape of ``tgt``. With ``batch_first`` all are
    ``(N, ..., d_model)``. Unbatched sequences have no ``N``. Every block has a skip connection.

    Parameters: those of ``self_attn``, ``multihead_attn`` (:class:`MultiheadAttention`), ``linear1``, ``linear2``
    (:class:`Linear`), ``norm1``, ``norm2`` and ``norm3`` (:class:`LayerNorm`). Arguments and errors are those of
    :class:`TransformerEncoderLayer`.

    See "Attention is all you need" (arXiv:1706.03762) and `torch.nn.TransformerDecoderLayer
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.TransformerDecoderLayer.html>`_.

    >>> layer = TransformerDecoderLayer(4, 2, 8, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 3, 4)), jnp.ones((7, 3, 4))).shape
    (5, 3, 4)
    """

    attentions = ("self_attn", "multihead_attn")
    self_attn: MultiheadAttention
    multihead_attn: MultiheadAttention

    def __call__(
        self,
        tgt: Float[Array, "*steps d_model"],
        memory: Float[Array, "*memory_steps d_model"],
        tgt_mask: Mask | None = None,
        memory_mask: Mask | None = None,
        tgt_key_padding_mask: Mask | None = None,
        memory_key_padding_mask: Mask | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Float[Array, "*steps d_model"]:
        """Return the sequence; masks and ``..._is_causal`` as in :meth:`MultiheadAttention.__call__`."""
        memory = jnp.asarray(memory)

        def attend(x: jax.Array) -> jax.Array:
            return self.self_attn(x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal)[0]

        def attend_to_memory(x: jax.Array) -> jax.Array:
            masks = memory_key_padding_mask, False, memory_mask
            return self.multihead_attn(x, memory, memory, *masks, is_causal=memory_is_causal)[0]

        x = self._block(jnp.asarray(tgt), 1, attend)
        return self._block(self._block(x, 2, attend_to_memory), 3, self._feed_forward)
