"""Multi-head attention."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flaxnets.nn import functional as F
from flaxnets.nn import init
from flaxnets.nn._arguments import check_sizes
from flaxnets.nn.functional.attention import Mask
from flaxnets.nn.linear import Linear
from flaxnets.nn.module import Module
from flaxnets.nn.parameter import Parameter


class NonDynamicallyQuantizableLinear(Linear):
    """The output projection of attention: a :class:`Linear` with the class name that torch prints."""


class MultiheadAttention(Module):
    """Multi-head attention: each query attends to the keys in several heads, whose outputs are joined and projected.

    Maps ``query (L, N, embed_dim)``, ``key (S, N, kdim)`` and ``value (S, N, vdim)`` to the output
    ``(L, N, embed_dim)`` and the attention weights ``(N, L, S)``. With ``batch_first`` inputs and outputs are
    ``(N, L, ...)``. Unbatched inputs have no ``N``.

    Parameters, all but the biases from Xavier's distributions: ``in_proj_weight (3*embed_dim, embed_dim)``, or, if
    ``kdim`` or ``vdim`` differs from ``embed_dim``, ``q_proj_weight (embed_dim, embed_dim)``,
    ``k_proj_weight (embed_dim, kdim)`` and ``v_proj_weight (embed_dim, vdim)``, uniform; ``in_proj_bias
    (3*embed_dim,)``, zeros; ``bias_k`` and ``bias_v (1, 1, embed_dim)``, normal; and those of ``out_proj``, a
    :class:`Linear` whose bias is zero.

    Args:
        embed_dim: size of queries and outputs.
        num_heads: number of heads; must divide ``embed_dim``.
        dropout: probability, in training mode, of zeroing each attention weight.
        bias: whether the projections have biases.
        add_bias_kv: whether to append a learned key and value.
        add_zero_attn: whether to append a key and value of zeros.
        kdim: size of keys. Default: ``embed_dim``.
        vdim: size of values. Default: ``embed_dim``.
        batch_first: whether batched inputs and outputs are ``(N, L, ...)``.
        dtype: parameter dtype. Default: float32.
        rngs: random number generators for the initial weights and the dropout masks.

    Raises:
        ValueError: if ``embed_dim`` or ``num_heads`` is not positive; when called, for a ``dropout`` that is not in
            ``[0, 1]``.
        AssertionError: if ``num_heads`` does not divide ``embed_dim``; when called, for incompatible shapes of query,
            key, value or ``key_padding_mask``, and for masks of integers.
        RuntimeError: for a negative size; when called, for an ``attn_mask`` of the wrong shape or dtype, for
            ``is_causal`` without ``attn_mask``, and for dtypes or batch sizes that differ.

    See "Attention is all you need" (arXiv:1706.03762) and `torch.nn.MultiheadAttention
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html>`_.

    >>> attention = MultiheadAttention(4, 2, rngs=nnx.Rngs(0))
    >>> x = jnp.ones((3, 5, 4))
    >>> output, weights = attention(x, x, x)
    >>> output.shape, weights.shape
    ((3, 5, 4), (5, 3, 3))
    """

    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        dtype: DTypeLike = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ):
        for name, size in (("embed_dim", embed_dim), ("num_heads", num_heads)):
            if size <= 0:
                raise ValueError(f"MultiheadAttention: {name} must be positive, got {size}")
        if embed_dim % num_heads:
            raise AssertionError(
                f"MultiheadAttention: embed_dim={embed_dim} must be divisible by num_heads={num_heads}"
            )
        self.embed_dim = embed_dim
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        check_sizes("MultiheadAttention", kdim=self.kdim, vdim=self.vdim)
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.head_dim = embed_dim // num_heads
        self.add_zero_attn = add_zero_attn
        if dropout > 0:
            self.rngs = rngs.dropout.fork()

        def projection(*shape: int) -> Parameter:
            return Parameter(init.xavier_uniform(rngs.params(), shape, dtype))

        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            self.register_parameter(name, None)
        if self.kdim == self.vdim == embed_dim:
            self.in_proj_weight = projection(3 * embed_dim, embed_dim)
        else:
            self.q_proj_weight = projection(embed_dim, embed_dim)
            self.k_proj_weight = projection(embed_dim, self.kdim)
            self.v_proj_weight = projection(embed_dim, self.vdim)
        self.register_parameter("in_proj_bias", Parameter(jnp.zeros(3 * embed_dim, dtype)) if bias else None)
        for name in ("bias_k", "bias_v"):
            value = init.xavier_normal(rngs.params(), (1, 1, embed_dim), dtype) if add_bias_kv else None
            self.register_parameter(name, None if value is None else Parameter(value))
        self.out_proj = NonDynamicallyQuantizableLinear(embed_dim, embed_dim, bias, dtype, rngs=rngs)
        if self.out_proj.bias is not None:
            self.out_proj.bias[...] = jnp.zeros(embed_dim, dtype)

    def draw_mask(self, shape: tuple[int, ...]) -> Bool[Array, "..."]:
        """Draw the next dropout mask ``(N, num_heads, L, S)``: True for the attention weights to keep."""
        return jax.random.bernoulli(self.rngs(), 1 - self.dropout, shape)

    def __call__(
        self,
        query: Float[Array, "*query embed_dim"],
        key: Float[Array, "*key kdim"],
        value: Float[Array, "*value vdim"],
        key_padding_mask: Mask | None = None,
        need_weights: bool = True,
        attn_mask: Mask | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        *,
        dropout_mask: Bool[Array, "n heads l s"] | None = None,
    ) -> tuple[Float[Array, "*query embed_dim"], Float[Array, "..."] | None]:
        """Return the outputs and the attention weights; without ``need_weights`` the weights are None.

        A query that may attend to no key gets zeros without ``need_weights`` and NaN with ``need_weights``. Torch
        returns the same whenever it records gradients; its inference kernel returns NaN in both cases.

        Args:
            query: the queries.
            key: the keys.
            value: the values.
            key_padding_mask: ``(N, S)`` or ``(S,)``: True for keys to ignore, or numbers to add to their scores.
            need_weights: whether to return the attention weights, after dropout.
            attn_mask: ``(L, S)`` or ``(N*num_heads, L, S)``: True where a query may not attend, or numbers to add.
            average_attn_weights: whether to average the returned weights over the heads, instead of returning
                ``(N, num_heads, L, S)``.
            is_causal: a promise that ``attn_mask`` is the causal mask. Without ``need_weights`` and
                ``key_padding_mask``, a causal mask then replaces ``attn_mask``.
            dropout_mask: the attention weights to keep, instead of a drawn mask. ``add_bias_kv`` and
                ``add_zero_attn`` each add one key.
        """
        query, key, value = jnp.asarray(query), jnp.asarray(key), jnp.asarray(value)
        swapped = self.batch_first and query.ndim == 3
        if swapped:
            query, key, value = (jnp.swapaxes(x, 0, 1) for x in (query, key, value))
        output, weights = F.multi_head_attention_forward(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            _value(self.in_proj_weight),
            _value(self.in_proj_bias),
            _value(self.bias_k),
            _value(self.bias_v),
            self.add_zero_attn,
            self.dropout,
            self.out_proj.weight[...],
            _value(self.out_proj.bias),
            self.training,
            key_padding_mask,
            need_weights,
            attn_mask,
            use_separate_proj_weight=self.in_proj_weight is None,
            q_proj_weight=_value(self.q_proj_weight),
            k_proj_weight=_value(self.k_proj_weight),
            v_proj_weight=_value(self.v_proj_weight),
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
            dropout_key=self.rngs() if self.training and self.dropout > 0 and dropout_mask is None else None,
            dropout_mask=dropout_mask,
        )
        return (jnp.swapaxes(output, 0, 1) if swapped else output), weights


def _value(parameter: nnx.Param | None) -> jax.Array | None:
    return None if parameter is None else parameter[...]
