"""Linear and bilinear transformations."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from flaxnets import kernels
from flaxnets.autocast import cast_operands
from flaxnets.nn._arguments import along, as_float_like


def linear(
    input: Inexact[Array, "*batch in"], weight: Inexact[Array, "*out in"], bias: Inexact[Array, "..."] | None = None
) -> Inexact[Array, "..."]:
    """Return ``input @ weight.T + bias``.

    Args:
        input: array of any rank; the last axis has the features.
        weight: ``(out, in)``, or ``(in,)`` for one output without an axis, which allows no bias.
        bias: ``(out,)``, or a scalar.

    Raises:
        RuntimeError: if the last axis of the input or the bias does not match the weight, or the dtypes differ.

    See `torch.nn.functional.linear
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.linear.html>`_.

    >>> linear(jnp.ones((1, 3)), jnp.ones((2, 3)))
    Array([[3., 3.]], dtype=float32)
    """
    input, weight, bias = cast_operands(input, weight, bias)
    input, weight = as_float_like(input, weight, "linear"), jnp.asarray(weight)
    if weight.ndim not in (1, 2) or (weight.ndim == 1 and bias is not None):
        raise RuntimeError(
            f"linear: expected a weight of 2 axes, or of 1 and no bias, got a weight of shape {weight.shape}"
        )
    if input.ndim == 0 or input.shape[-1] != weight.shape[-1]:
        raise RuntimeError(
            f"linear: the last axis of the input must have {weight.shape[-1]} features, got an input of shape "
            f"{input.shape} for a weight of shape {weight.shape}"
        )
    implementation = kernels.linear_implementation(input, weight)
    if implementation is None:
        output = jax.lax.dot_general(input, weight, (((input.ndim - 1,), (weight.ndim - 1,)), ((), ())))
    else:
        output = implementation(input, weight)
    if bias is None:
        return output
    bias = as_float_like(bias, weight, "linear")
    if bias.shape not in ((), (1,), weight.shape[:1]):
        raise RuntimeError(f"linear: expected a bias of shape {weight.shape[:1]}, got {bias.shape}")
    return kernels.add_bias(output, bias, output.ndim - 1)


def bilinear(
    input1: Inexact[Array, "*batch in1"],
    input2: Inexact[Array, "*batch in2"],
    weight: Inexact[Array, "out in1 in2"],
    bias: Inexact[Array, " out"] | None = None,
) -> Inexact[Array, "*batch out"]:
    """Return ``input1 @ weight[k] @ input2 + bias[k]`` for each output feature ``k``.

    Raises:
        RuntimeError: for incompatible shapes or dtypes that differ.
        IndexError: for an input without axes.

    See `torch.nn.functional.bilinear
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.bilinear.html>`_.

    >>> bilinear(jnp.ones((1, 2)), jnp.ones((1, 3)), jnp.ones((2, 2, 3)))
    Array([[6., 6.]], dtype=float32)
    """
    input1, input2, weight, bias = cast_operands(input1, input2, weight, bias)
    input1, input2 = as_float_like(input1, weight, "bilinear"), as_float_like(input2, weight, "bilinear")
    if input1.ndim == 0 or input2.ndim == 0:
        raise IndexError(
            f"bilinear: inputs must have at least one axis, got the shapes {input1.shape} and {input2.shape}"
        )
    if input1.shape[:-1] != input2.shape[:-1]:
        raise RuntimeError(
            f"bilinear: inputs must agree in all axes but the last, got the shapes {input1.shape} and {input2.shape}"
        )
    if weight.ndim != 3 or (input1.shape[-1], input2.shape[-1]) != weight.shape[1:]:
        raise RuntimeError(
            f"bilinear: expected a weight of shape (out, {input1.shape[-1]}, {input2.shape[-1]}), got {weight.shape}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise RuntimeError(f"bilinear: expected a bias of shape {weight.shape[:1]}, got {bias.shape}")
    partial = jnp.tensordot(input1, weight, ((-1,), (1,)))
    output = (partial * jnp.expand_dims(input2, -2)).sum(-1)
    return output if bias is None else output + along(bias, -1, output.ndim)
