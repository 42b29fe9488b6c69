"""Group, layer and RMS normalisation."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from flaxnets.kernels._primitives import with_materialized_gradient
from flaxnets.kernels.reductions import spread_columns
from flaxnets.nn.functional.normalization import as_wide, check_floating, check_vectors, normalize_rows


def group_norm(
    input: Float[Array, "n c *spatial"],
    num_groups: int,
    weight: Float[Array, " c"] | None = None,
    bias: Float[Array, " c"] | None = None,
    eps: float = 1e-5,
) -> Float[Array, "n c *spatial"]:
    """Normalise each group of channels of each example over its channels and the spatial axes.

    Raises:
        ValueError: for an input of only one value in one group.
        RuntimeError: if the number of groups is negative or does not divide the channels, the input has fewer than
            two axes, or the parameters do not match the input.
        ZeroDivisionError: for zero groups.
        NotImplementedError: for a non-floating-point input.

    See "Group normalization" (arXiv:1803.08494) and `torch.nn.functional.group_norm
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.group_norm.html>`_.

    >>> group_norm(jnp.array([[1.0, 3.0, 5.0, 9.0]]), 2, eps=0.0).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """
    input = jnp.asarray(input)
    if input.ndim < 2:
        raise RuntimeError(f"group_norm: expected at least 2 axes, got an input of shape {input.shape}")
    if num_groups == 0:
        raise ZeroDivisionError("group_norm: num_groups must be positive, got 0")
    examples, channels, *spatial = input.shape
    if examples * channels // num_groups * math.prod(spatial) == 1:
        raise ValueError(
            f"group_norm: expected more than 1 value per channel when training, got an input of shape {input.shape} "
            f"for num_groups={num_groups}"
        )
    check_vectors("group_norm", input, (channels,), {"weight": weight, "bias": bias})
    check_floating("group_norm", input)
    if num_groups < 0 or channels % num_groups:
        raise RuntimeError(
            f"group_norm: num_groups must be positive and divide the channels, got num_groups={num_groups} for "
            f"{channels} channels"
        )
    size = channels // num_groups
    rows = as_wide(input).reshape(examples, num_groups, size, math.prod(spatial))
    output, _, _ = normalize_rows(rows, weight, bias, (2, 3), eps)
    return with_materialized_gradient(output.reshape(input.shape)).astype(input.dtype)


def _trailing_axes(name: str, input: jax.Array, shape: Sequence[int], too_few: type[Exception]) -> tuple[int, ...]:
    """Return the axes that ``normalized_shape`` covers."""
    if not isinstance(shape, Sequence):
        raise TypeError(f"{name}: normalized_shape must be a sequence of ints, got {shape!r}")
    if len(shape) == 0:
        raise RuntimeError(f"{name}: normalized_shape must have at least one axis, got {shape!r}")
    if input.ndim < len(shape) or input.shape[-len(shape) :] != tuple(shape):
        error = too_few if input.ndim < len(shape) else RuntimeError
        raise error(f"{name}: expected an input of shape (*, {', '.join(map(str, shape))}), got {input.shape}")
    return tuple(range(-len(shape), 0))


def layer_norm(
    input: Float[Array, "*shape"],
    normalized_shape: Sequence[int],
    weight: Float[Array, "*features"] | None = None,
    bias: Float[Array, "*features"] | None = None,
    eps: float = 1e-5,
) -> Float[Array, "*shape"]:
    """Normalise over the last axes, whose shape is ``normalized_shape``.

    Raises:
        TypeError: if ``normalized_shape`` is not a sequence.
        RuntimeError: if the input's last axes or the parameters do not have this shape, the shape is empty, or the
            dtypes are incompatible.
        NotImplementedError: for a non-floating-point input.

    See "Layer normalization" (arXiv:1607.06450) and `torch.nn.functional.layer_norm
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.layer_norm.html>`_.

    >>> layer_norm(jnp.array([[1.0, 3.0]]), (2,), eps=0.0).tolist()
    [[-1.0, 1.0]]
    """
    input = jnp.asarray(input)
    axes = _trailing_axes("layer_norm", input, normalized_shape, RuntimeError)
    check_vectors("layer_norm", input, tuple(normalized_shape), {"weight": weight, "bias": bias})
    check_floating("layer_norm", input)
    count, features = math.prod(input.shape[: -len(axes)]), math.prod(normalized_shape)
    rows = as_wide(input).reshape(count, 1, 1, features)
    output = normalize_rows(rows, None, None, (3,), eps)[0].reshape(count, features)
    if weight is not None:
        output = output * spread_columns(weight.ravel().astype(rows.dtype), count)
    if bias is not None:
        output = output + spread_columns(bias.ravel().astype(rows.dtype), count)
    return with_materialized_gradient(output.reshape(input.shape)).astype(input.dtype)


def rms_norm(
    input: Inexact[Array, "*shape"],
    normalized_shape: Sequence[int],
    weight: Inexact[Array, "*features"] | None = None,
    eps: float | None = None,
) -> Inexact[Array, "*shape"]:
    """Divide by the root mean square over the last axes, whose shape is ``normalized_shape``.

    ``eps`` is added to the mean square. The default is the machine epsilon of the input's dtype (half precision: of
    float32). As in torch, the square of a complex number is used, not its squared magnitude.

    Raises:
        TypeError: if ``normalized_shape`` is not a sequence.
        RuntimeError: if the input's last axes or the weight do not have this shape, or the shape is empty.
        ValueError: if the input has fewer axes than ``normalized_shape``.
        NotImplementedError: for an input of integers.

    See "Root mean square layer normalization" (arXiv:1910.07467) and `torch.nn.functional.rms_norm
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.rms_norm.html>`_.

    >>> rms_norm(jnp.array([3.0, 3.0]), (2,), eps=0.0).tolist()
    [1.0, 1.0]
    """
    input = jnp.asarray(input)
    axes = _trailing_axes("rms_norm", input, normalized_shape, ValueError)
    if weight is not None and weight.shape != tuple(normalized_shape):
        raise RuntimeError(f"rms_norm: expected a weight of shape {tuple(normalized_shape)}, got {weight.shape}")
    if not jnp.issubdtype(input.dtype, jnp.inexact):
        raise NotImplementedError(f"rms_norm: expected a floating-point or complex input, got {input.dtype}; cast it")
    x = as_wide(input)
    eps = float(jnp.finfo(x.dtype).eps) if eps is None else eps
    output = x * jax.lax.rsqrt(jnp.square(x).mean(axes, keepdims=True) + eps)
    if weight is not None:
        output = output * weight.reshape(*(1,) * (input.ndim - len(axes)), *weight.shape)
    return output.astype(input.dtype)
