"""Computations that both interfaces of weight and spectral normalisation share."""

import jax
import jax.numpy as jnp
from flax import nnx

from flaxnets.nn.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d


def _norm(array: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    wide = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    return jnp.linalg.vector_norm(wide, axis=axes, keepdims=True).astype(array.real.dtype)


def magnitude(weight: jax.Array, dim: int) -> jax.Array:
    """Return the norm of a weight for each index of the axis ``dim``, or of the whole weight for -1."""
    if dim == -1:
        return _norm(weight, tuple(range(weight.ndim))).reshape(())
    if not -weight.ndim <= dim < weight.ndim:
        raise IndexError(
            f"weight_norm: expected a dim from {-weight.ndim} to {weight.ndim - 1} for a weight of shape "
            f"{weight.shape}, got {dim}"
        )
    return _norm(weight, tuple(axis for axis in range(weight.ndim) if axis != dim % weight.ndim))


def from_magnitude(weight_g: jax.Array, weight_v: jax.Array, dim: int) -> jax.Array:
    """Return the weight of this magnitude and direction."""
    return weight_v * (weight_g / magnitude(weight_v, dim)).reshape(weight_g.shape or (1,) * weight_v.ndim)


def unit_vector(vector: jax.Array, eps: float) -> jax.Array:
    """Return a vector divided by its norm, or by ``eps`` if that is larger."""
    return vector / jnp.maximum(_norm(vector, (0,)), eps)


def as_matrix(weight: jax.Array, dim: int) -> jax.Array:
    """Reshape a weight to a matrix with one row per index of the axis ``dim``."""
    return jnp.moveaxis(weight, dim, 0).reshape(weight.shape[dim], -1)


def default_dim(module: nnx.Module) -> int:
    """Return the weight's axis of the layer's outputs."""
    return int(isinstance(module, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)))
