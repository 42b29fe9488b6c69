"""Linear layers."""

import math

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flaxnets.nn import functional as F
from flaxnets.nn import init
from flaxnets.nn._arguments import check_sizes
from flaxnets.nn.module import Module


class Linear(Module):
    """Applies ``input @ weight.T + bias``.

    Parameters: ``weight (out_features, in_features)`` and ``bias (out_features,)``, both drawn from the uniform
    distribution on ``+-1/sqrt(in_features)``.

    Args:
        in_features: size of the input's last axis.
        out_features: size of the output's last axis.
        bias: whether to add a bias.
        dtype: of the parameters; float32 if not given.
        rngs: the source of the initial weights.

    Raises:
        RuntimeError: for a negative size, and at the call for an input that does not fit.

    See `torch.nn.Linear <https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html>`_.

    >>> layer = Linear(3, 2, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((4, 3))).shape
    (4, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        dtype: DTypeLike = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ):
        check_sizes("Linear", in_features=in_features, out_features=out_features)
        self.in_features = in_features
        self.out_features = out_features
        shape = (out_features, in_features)
        self.weight = nnx.Param(init.kaiming_uniform(rngs.params(), shape, dtype, a=math.sqrt(5)))
        self.bias = None
        if bias:
            bound = 1 / math.sqrt(in_features) if in_features else 0.0
            self.bias = nnx.Param(init.uniform(rngs.params(), (out_features,), dtype, a=-bound, b=bound))

    def __call__(self, input: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Maps the last axis from ``in_features`` to ``out_features``."""
        return F.linear(input, self.weight[...], None if self.bias is None else self.bias[...])
