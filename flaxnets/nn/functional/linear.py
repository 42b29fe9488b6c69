"""Linear maps."""

import jax
from jaxtyping import Array, Float

from flaxnets.nn._arguments import along, as_float_like


def linear(
    input: Float[Array, "*batch in"], weight: Float[Array, "out in"], bias: Float[Array, " out"] | None = None
) -> Float[Array, "*batch out"]:
    """Returns ``input @ weight.T + bias``.

    Raises:
        RuntimeError: if the last axis of the input does not fit the weight, or the dtypes differ.

    See `torch.nn.functional.linear
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.linear.html>`_.

    >>> import jax.numpy as jnp
    >>> linear(jnp.ones((1, 3)), jnp.ones((2, 3)))
    Array([[3., 3.]], dtype=float32)
    """
    input = as_float_like(input, weight, "linear")
    if input.ndim == 0 or input.shape[-1] != weight.shape[-1]:
        raise RuntimeError(
            f"linear: the last axis of the input must have {weight.shape[-1]} features, got an input of shape "
            f"{input.shape} for a weight of shape {weight.shape}"
        )
    output = jax.lax.dot_general(input, weight, (((input.ndim - 1,), (1,)), ((), ())))
    return output if bias is None else output + along(bias, -1, output.ndim)
