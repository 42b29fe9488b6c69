"""Linear and bilinear layers."""

import math
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Inexact

from flaxnets.nn import functional as F
from flaxnets.nn import init
from flaxnets.nn._arguments import check_sizes
from flaxnets.nn.module import Module
from flaxnets.nn.parameter import Parameter, redraw, reserved


class Identity(Module):
    """Return its input unchanged.

    Args:
        *args: ignored, so that ``Identity`` can replace any layer.
        **kwargs: ignored.

    See `torch.nn.Identity <https://docs.pytorch.org/docs/stable/generated/torch.nn.Identity.html>`_.

    >>> Identity(54, unused=True)(jnp.ones(2)).tolist()
    [1.0, 1.0]
    """

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __call__(self, input: Any) -> Any:
        """Return the input."""
        return input


def _redraw_uniformly(module: Module, fan_in: int, rngs: nnx.Rngs) -> None:
    bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
    for name in ("weight", "bias"):
        redraw(module, name, lambda shape, dtype: init.uniform(rngs.params(), shape, dtype, a=-bound, b=bound))


class Linear(Module):
    """Apply ``input @ weight.T + bias``.

    Parameters: ``weight (out_features, in_features)`` and ``bias (out_features,)``, both drawn from the uniform
    distribution on ``+-1/sqrt(in_features)``.

    Args:
        in_features: size of the input's last axis.
        out_features: size of the output's last axis.
        bias: whether to add a bias.
        dtype: parameter dtype, floating-point or complex. Default: float32.
        rngs: random number generators for the initial weights.

    Raises:
        RuntimeError: for a negative size; when called, for an input of the wrong last size or dtype.

    See `torch.nn.Linear <https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html>`_.

    >>> layer = Linear(3, 2, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((4, 3))).shape
    (4, 2)
    """

    bias: Parameter | Any

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
        self.weight = reserved(out_features, in_features, dtype=dtype)
        self.register_parameter("bias", reserved(out_features, dtype=dtype) if bias else None)
        self.reset_parameters(rngs=rngs)

    def reset_parameters(self, *, rngs: nnx.Rngs) -> None:
        """Reinitialise the parameters."""
        _redraw_uniformly(self, self.weight.shape[1], rngs)

    def extra_repr(self) -> str:
        """Return the sizes for ``repr``."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    def __call__(self, input: Inexact[Array, "*batch in"]) -> Inexact[Array, "*batch out"]:
        """Map the last axis from ``in_features`` to ``out_features``."""
        return F.linear(input, self.weight[...], None if self.bias is None else self.bias[...])


class Bilinear(Module):
    """Apply ``input1 @ weight[k] @ input2 + bias[k]`` for each output feature ``k``.

    Parameters: ``weight (out_features, in1_features, in2_features)`` and ``bias (out_features,)``, both drawn from the
    uniform distribution on ``+-1/sqrt(in1_features)``.

    Args:
        in1_features: size of the first input's last axis.
        in2_features: size of the second input's last axis.
        out_features: size of the output's last axis.
        bias: whether to add a bias.
        dtype: parameter dtype, floating-point or complex. Default: float32.
        rngs: random number generators for the initial weights.

    Raises:
        RuntimeError: for a negative size; when called, for inputs of the wrong last sizes or dtypes.
        ValueError: if ``in1_features`` is zero.

    See `torch.nn.Bilinear <https://docs.pytorch.org/docs/stable/generated/torch.nn.Bilinear.html>`_.

    >>> layer = Bilinear(3, 4, 2, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 3)), jnp.ones((5, 4))).shape
    (5, 2)
    """

    bias: Parameter | Any

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        dtype: DTypeLike = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ):
        check_sizes("Bilinear", in1_features=in1_features, in2_features=in2_features, out_features=out_features)
        if in1_features == 0:
            raise ValueError(f"Bilinear: in1_features must be positive, got {in1_features}")
        self.in1_features = in1_features
        self.in2_features = in2_features
        self.out_features = out_features
        self.weight = reserved(out_features, in1_features, in2_features, dtype=dtype)
        self.register_parameter("bias", reserved(out_features, dtype=dtype) if bias else None)
        self.reset_parameters(rngs=rngs)

    def reset_parameters(self, *, rngs: nnx.Rngs) -> None:
        """Reinitialise the parameters."""
        _redraw_uniformly(self, self.weight.shape[1], rngs)

    def extra_repr(self) -> str:
        """Return the sizes for ``repr``."""
        inputs = f"in1_features={self.in1_features}, in2_features={self.in2_features}"
        return f"{inputs}, out_features={self.out_features}, bias={self.bias is not None}"

    def __call__(
        self, input1: Inexact[Array, "*batch in1"], input2: Inexact[Array, "*batch in2"]
    ) -> Inexact[Array, "*batch out"]:
        """Combine the last axes of the two inputs."""
        return F.bilinear(input1, input2, self.weight[...], None if self.bias is None else self.bias[...])
