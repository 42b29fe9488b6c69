"""Gradient clipping: functions that return new gradients, where torch changes them in place."""

import math
from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from flaxnets.nn.utils import _refused

Gradients = TypeVar("Gradients")

_REASON = "gradients are immutable values in JAX. Fix: {}(gradients, {})"
clip_grad_norm_: Any = _refused.refused(
    "clip_grad_norm_", _REASON.format("gradients, norm = clip_grad_norm", "max_norm")
)
clip_grad_value_: Any = _refused.refused(
    "clip_grad_value_", _REASON.format("gradients = clip_grad_value", "clip_value")
)
clip_grads_with_norm_: Any = _refused.refused(
    "clip_grads_with_norm_", _REASON.format("gradients = clip_grads_with_norm", "max_norm, total_norm")
)


def _norm(array: jax.Array, norm_type: float) -> jax.Array:
    if array.size == 0 and math.isinf(norm_type):
        raise RuntimeError(
            f"the norm of order {norm_type} is undefined for an empty array, got the shape {array.shape}"
        )
    wide = array.reshape(-1).astype(jnp.promote_types(array.dtype, jnp.float32))
    return jnp.linalg.norm(wide, norm_type).astype(array.real.dtype)


def _checked(gradients: Gradients) -> Gradients:
    """Return the gradients; raise TypeError for parameters, which torch's functions of these names accept."""
    if isinstance(gradients, Iterator):
        raise TypeError(
            f"expected a tree of gradients, got a {type(gradients).__name__}, as from model.parameters(). Fix: "
            "gradients = nnx.grad(loss)(model)"
        )
    return gradients


def get_total_norm(tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Float[Array, ""]:
    """Return the norm of the norms of all arrays in a tree; zero for an empty tree.

    Args:
        tensors: an array, or a tree of arrays or variables.
        norm_type: exponent of the norm, possibly ``inf``.
        error_if_nonfinite: whether to raise for an infinite or NaN norm. No effect under ``jax.jit``, where values are
            unknown.

    Raises:
        RuntimeError: for a non-finite norm, and for an infinite exponent and an empty array.
        TypeError: for an iterator, for example ``model.parameters()``.

    See `torch.nn.utils.get_total_norm
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.get_total_norm.html>`_.

    >>> float(get_total_norm({"weight": jnp.array([[3.0]]), "bias": jnp.array([4.0])}))
    5.0
    """
    norm_type = float(norm_type)
    norms = [_norm(jnp.asarray(leaf), norm_type) for leaf in jax.tree.leaves(_checked(tensors))]
    if not norms:
        return jnp.zeros(())
    dtype = jnp.result_type(*norms)
    total = _norm(jnp.stack([norm.astype(dtype) for norm in norms]), norm_type)
    if error_if_nonfinite and not isinstance(total, Tracer) and not jnp.isfinite(total):
        raise RuntimeError(
            f"the norm of order {norm_type} of the gradients must be finite to clip them, got {total}. "
            "Fix: use error_if_nonfinite=False to scale them anyway"
        )
    return total


def clip_grads_with_norm(gradients: Gradients, max_norm: float, total_norm: Float[Array, ""]) -> Gradients:
    """Return the gradients times ``max_norm / (total_norm + 1e-6)``, or unchanged where that factor is above one.

    See `torch.nn.utils.clip_grads_with_norm_
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grads_with_norm_.html>`_.

    >>> clipped = clip_grads_with_norm(jnp.array([6.0, 8.0]), 2.0, jnp.array(10.0))
    >>> float(jnp.linalg.norm(clipped).round(3))
    2.0
    """
    factor = jnp.minimum(float(max_norm) / (total_norm + 1e-6), 1.0)
    return jax.tree.map(lambda gradient: gradient * factor.astype(gradient.real.dtype), gradients)


def clip_grad_norm(
    gradients: Gradients, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> tuple[Gradients, Float[Array, ""]]:
    """Clip the gradients to the norm ``max_norm``; return the gradients and their norm before clipping.

    Args:
        gradients: an array, or a tree of arrays or variables, for example from ``nnx.grad``.
        max_norm: the largest norm.
        norm_type: exponent of the norm, possibly ``inf``.
        error_if_nonfinite: as in :func:`get_total_norm`.

    Raises:
        RuntimeError: for a non-finite norm, with ``error_if_nonfinite``.

    See `torch.nn.utils.clip_grad_norm_
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html>`_.

    >>> gradients, norm = clip_grad_norm([jnp.array([3.0]), jnp.array([4.0])], max_norm=1.0)
    >>> float(norm), float(gradients[0][0].round(3))
    (5.0, 0.6000000238418579)
    """
    total = get_total_norm(gradients, norm_type, error_if_nonfinite)
    return clip_grads_with_norm(gradients, max_norm, total), total


def clip_grad_value(gradients: Gradients, clip_value: float) -> Gradients:
    """Return the gradients with every element clamped to ``[-clip_value, clip_value]``.

    See `torch.nn.utils.clip_grad_value_
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_value_.html>`_.

    >>> clip_grad_value(jnp.array([-3.0, 0.5]), 1.0).tolist()
    [-1.0, 0.5]
    """
    bound = float(clip_value)
    return jax.tree.map(lambda gradient: jnp.minimum(jnp.maximum(gradient, -bound), bound), _checked(gradients))
