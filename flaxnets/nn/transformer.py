"""Transformer encoder and decoder stacks, and the encoder-decoder transformer."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flaxnets.nn import functional as F
from flaxnets.nn import init
from flaxnets.nn._arguments import check_sizes
from flaxnets.nn.containers import ModuleList
from flaxnets.nn.functional.attention import Mask
from flaxnets.nn.module import Module
from flaxnets.nn.normalization import LayerNorm
from flaxnets.nn.transformer_layers import Activation, TransformerDecoderLayer, TransformerEncoderLayer


class _Stack(Module):
    """Base class of stacks: copies of one layer in sequence, followed by an optional norm."""

    def _stack(self, layer: nnx.Module, num_layers: int, norm: nnx.Module | None) -> None:
        self.layers = ModuleList([_copy(layer, number) for number in range(num_layers)])
        self.num_layers = num_layers
        self.norm = norm

    def _run(self, x: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
        if len(self.layers) == 0:
            raise IndexError(f"{type(self).__name__}: expected at least one layer, got num_layers={self.num_layers}")
        for layer in self.layers:
            x = layer(x, *args, **kwargs)
        return x if self.norm is None else self.norm(x)


def _copy(layer: nnx.Module, number: int) -> nnx.Module:
    """Copy a layer: the same weights, but separate random streams, so that the copies draw different dropout masks."""
    copy = nnx.clone(layer)
    keys = nnx.state(copy, nnx.RngKey)
    nnx.update(copy, jax.tree.map(lambda key: jax.random.fold_in(key, number), keys))
    return copy


class TransformerEncoder(_Stack):
    """Stack of copies of an encoder layer, followed by an optional norm.

    The copies are named ``layers.0``, ``layers.1``, ... They start with equal weights and draw separate dropout masks.
    The outputs at padded steps are whatever the layers compute there. Torch returns the same whenever it records
    gradients; its inference kernel (with ``enable_nested_tensor`` and padding only at the end) writes zeros there,
    before ``norm``, and returns the same values at all other steps.

    Args:
        encoder_layer: the layer to copy.
        num_layers: number of copies.
        norm: applied to the output of the last copy. None means no norm.
        enable_nested_tensor: no effect; an optimisation of torch for evaluation.
        mask_check: no effect; an option of ``enable_nested_tensor``.

    Raises:
        IndexError: when called, if there are no layers.

    See `torch.nn.TransformerEncoder
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.TransformerEncoder.html>`_.

    >>> encoder = TransformerEncoder(TransformerEncoderLayer(4, 2, 8, rngs=nnx.Rngs(0)), 3, LayerNorm(4))
    >>> encoder(jnp.ones((5, 2, 4))).shape
    (5, 2, 4)
    """

    def __init__(
        self,
        encoder_layer: nnx.Module,
        num_layers: int,
        norm: nnx.Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ):
        self._stack(encoder_layer, num_layers, norm)
        self.enable_nested_tensor = enable_nested_tensor
        self.mask_check = mask_check

    def __call__(
        self,
        src: Float[Array, "*steps d_model"],
        mask: Mask | None = None,
        src_key_padding_mask: Mask | None = None,
        is_causal: bool | None = None,
    ) -> Float[Array, "*steps d_model"]:
        """Return the sequence; masks and ``is_causal`` as in :meth:`MultiheadAttention.__call__`."""
        masks = {"src_mask": mask, "src_key_padding_mask": src_key_padding_mask}
        return self._run(src, is_causal=bool(is_causal), **masks)


class TransformerDecoder(_Stack):
    """Stack of copies of a decoder layer, which also reads a memory, followed by an optional norm.

    Args:
        decoder_layer: the layer to copy.
        num_layers: number of copies.
        norm: applied to the output of the last copy. None means no norm.

    Raises:
        IndexError: when called, if there are no layers.

    See `torch.nn.TransformerDecoder
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.TransformerDecoder.html>`_.

    >>> decoder = TransformerDecoder(TransformerDecoderLayer(4, 2, 8, rngs=nnx.Rngs(0)), 3)
    >>> decoder(jnp.ones((5, 2, 4)), jnp.ones((7, 2, 4))).shape
    (5, 2, 4)
    """

    def __init__(self, decoder_layer: nnx.Module, num_layers: int, norm: nnx.Module | None = None):
        self._stack(decoder_layer, num_layers, norm)

    def __call__(
        self,
        tgt: Float[Array, "*steps d_model"],
        memory: Float[Array, "*memory_steps d_model"],
        tgt_mask: Mask | None = None,
        memory_mask: Mask | None = None,
        tgt_key_padding_mask: Mask | None = None,
        memory_key_padding_mask: Mask | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Float[Array, "*steps d_model"]:
        """Return the sequence; masks and ``..._is_causal`` as in :meth:`MultiheadAttention.__call__`."""
        return self._run(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=bool(tgt_is_causal),
            memory_is_causal=memory_is_causal,
        )


class Transformer(Module):
    """Encoder-decoder transformer: encode ``src``, then decode ``tgt``, which attends to the encoded ``src``.

    Maps ``src (S, N, d_model)`` and ``tgt (T, N, d_model)`` to ``(T, N, d_model)``. With ``batch_first`` all are
    ``(N, ..., d_model)``. Unbatched sequences have no ``N``.

    Parameters: those of ``encoder`` (:class:`TransformerEncoder`) and ``decoder`` (:class:`TransformerDecoder`), each
    with a final norm. All parameters of two or more axes are drawn from Xavier's uniform distribution.

    Args:
        d_model: number of features of each step.
        nhead: number of heads of each attention.
        num_encoder_layers: number of encoder layers.
        num_decoder_layers: number of decoder layers.
        dim_feedforward: number of features between the linear layers of each feed-forward block.
        dropout: dropout probability of attention weights, between the linear layers and after each block.
        activation: ``"relu"``, ``"gelu"``, a function or a module.
        custom_encoder: replaces the default encoder; its matrices are reinitialised, too.
        custom_decoder: replaces the default decoder; its matrices are reinitialised, too.
        layer_norm_eps: ``eps`` of the layer normalisations.
        batch_first: whether batched inputs and outputs are ``(N, ..., d_model)``.
        norm_first: whether each block normalises its input, instead of the sum at its end.
        bias: whether attentions, linear layers and norms have biases.
        dtype: parameter dtype. Default: float32.
        rngs: random number generators for the initial weights and the dropout masks.

    Raises:
        RuntimeError: when called, if the features of ``src`` or ``tgt`` are not ``d_model``, or the batch sizes differ.
        IndexError: when called, if there are no layers.
        Also raises the errors of :class:`TransformerEncoderLayer`.

    See "Attention is all you need" (arXiv:1706.03762) and `torch.nn.Transformer
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.Transformer.html>`_.

    >>> model = Transformer(4, 2, 1, 1, 8, rngs=nnx.Rngs(0))
    >>> mask = Transformer.generate_square_subsequent_mask(5)
    >>> model(jnp.ones((7, 2, 4)), jnp.ones((5, 2, 4)), tgt_mask=mask).shape
    (5, 2, 4)
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        custom_encoder: Any | None = None,
        custom_decoder: Any | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: DTypeLike = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ):
        sizes = d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)

        if custom_encoder is None:
            layer = TransformerEncoderLayer(*sizes, dtype=dtype, rngs=rngs)
            custom_encoder = TransformerEncoder(layer, num_encoder_layers, norm())
        self.encoder = custom_encoder
        if custom_decoder is None:
            layer = TransformerDecoderLayer(*sizes, dtype=dtype, rngs=rngs)
            custom_decoder = TransformerDecoder(layer, num_decoder_layers, norm())
        self.decoder = custom_decoder
        for parameter in self.parameters():
            if parameter.ndim > 1:
                parameter[...] = init.xavier_uniform(rngs.params(), parameter.shape, parameter.dtype)
        self.d_model = d_model
        self.nhead = nhead
        self.batch_first = batch_first

    def __call__(
        self,
        src: Float[Array, "*src_steps d_model"],
        tgt: Float[Array, "*steps d_model"],
        src_mask: Mask | None = None,
        tgt_mask: Mask | None = None,
        memory_mask: Mask | None = None,
        src_key_padding_mask: Mask | None = None,
        tgt_key_padding_mask: Mask | None = None,
        memory_key_padding_mask: Mask | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Float[Array, "*steps d_model"]:
        """Return the decoded sequence; masks and ``..._is_causal`` as in :meth:`MultiheadAttention.__call__`."""
        src, tgt = jnp.asarray(src), jnp.asarray(tgt)
        axis = 0 if self.batch_first else 1
        if src.ndim == 3 and src.shape[axis] != tgt.shape[axis]:
            raise RuntimeError(
                f"Transformer: src and tgt must have the same batch size, got the shapes {src.shape} and {tgt.shape}"
            )
        if src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model:
            raise RuntimeError(
                f"Transformer: src and tgt must have d_model={self.d_model} features, got the shapes {src.shape} and "
                f"{tgt.shape}"
            )
        memory = self.encoder(src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal)
        return self.decoder(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal,
            memory_is_causal=memory_is_causal,
        )

    @staticmethod
    def generate_square_subsequent_mask(sz: int, dtype: DTypeLike = jnp.float32) -> Float[Array, "{sz} {sz}"]:
        """Return the causal mask to add to scores, ``(sz, sz)``: ``-inf`` above the diagonal, 0 elsewhere.

        Raises:
            RuntimeError: for a negative size.
        """
        check_sizes("Transformer.generate_square_subsequent_mask", sz=sz)
        return jnp.triu(jnp.full((sz, sz), -jnp.inf, dtype), 1)
