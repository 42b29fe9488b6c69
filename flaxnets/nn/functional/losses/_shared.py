"""Shared parts of the losses: reductions, torch's deprecated flags, and checks of shapes, dtypes and values."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from flaxnets import kernels

# Torch writes 1e-12 in single precision, even in double-precision computations.
EPSILON = float(np.float32(1e-12))


def legacy_reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """Return the reduction that torch's deprecated flags select, with torch's warning."""
    if size_average is None and reduce is None:
        return reduction
    whole = "sum" if size_average is not None and not size_average else "mean"
    meant = "none" if reduce is not None and not reduce else whole
    warnings.warn(
        f"size_average and reduce are deprecated, please use reduction={meant!r} instead.", UserWarning, stacklevel=3
    )
    return meant


def current_reduction(reduction: str, name: str) -> str:
    """Map torch's deprecated name of the mean to ``"mean"``, with torch's warning.

    Raises:
        ValueError: for an unknown reduction.
    """
    if reduction == "elementwise_mean":
        warnings.warn(
            "reduction='elementwise_mean' is deprecated, please use reduction='mean' instead.",
            UserWarning,
            stacklevel=4,
        )
        return "mean"
    check_reduction(reduction, name)
    return reduction


def check_reduction(reduction: str, name: str) -> None:
    """Raise ValueError for an unknown reduction."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{name}: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")


def reduced(loss: jax.Array, reduction: str, name: str) -> jax.Array:
    """Reduce the elements' losses: unchanged, mean or sum.

    Raises:
        ValueError: for an unknown reduction.
        RuntimeError: for the mean of integers.
    """
    reduction = current_reduction(reduction, name)
    if reduction == "none":
        return loss
    implementation = kernels.sum_implementation(loss)
    if reduction == "sum":
        return implementation(loss) if implementation else loss.sum()
    if not jnp.issubdtype(loss.dtype, jnp.inexact):
        raise RuntimeError(f"{name}: the mean requires floating-point inputs, got {loss.dtype}")
    return implementation(loss) / loss.size if implementation else loss.mean()


def broadcast(name: str, *arrays: ArrayLike) -> list[jax.Array]:
    """Broadcast the arrays to one shape.

    Raises:
        RuntimeError: if the arrays do not broadcast.
    """
    shapes = [jnp.shape(array) for array in arrays]
    try:
        shape = jnp.broadcast_shapes(*shapes)
    except ValueError:
        raise RuntimeError(
            f"{name}: the inputs must broadcast to one shape, got the shapes {', '.join(map(str, shapes))}"
        ) from None
    return [jnp.broadcast_to(array, shape) for array in arrays]


def expand(array: ArrayLike, shape: tuple[int, ...], what: str, name: str) -> jax.Array:
    """Broadcast the array to exactly this shape.

    Raises:
        RuntimeError: if the array does not broadcast to the shape.
    """
    try:
        return jnp.broadcast_to(array, shape)
    except ValueError:
        raise RuntimeError(
            f"{name}: {what} must broadcast to the input's shape {shape}, got the shape {jnp.shape(array)}"
        ) from None


def warn_of_sizes(name: str, input: jax.Array, target: jax.Array) -> None:
    """Warn, as torch does, that different shapes of input and target are probably a mistake."""
    if input.shape != target.shape:
        warnings.warn(
            f"{name}: the target's shape {target.shape} differs from the input's {input.shape}, so they are broadcast, "
            "which is probably not intended. Fix: use equal shapes",
            UserWarning,
            stacklevel=3,
        )


def check_floating(name: str, *arrays: jax.Array, error: type[Exception] = NotImplementedError) -> None:
    """Raise unless all arrays are real floating-point."""
    for array in arrays:
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise error(f"{name}: expected real floating-point numbers, got {array.dtype}")


def check_integer(name: str, target: jax.Array) -> None:
    """Raise RuntimeError unless the target has an integer dtype."""
    if not jnp.issubdtype(target.dtype, jnp.integer):
        raise RuntimeError(f"{name}: expected class indices of an integer dtype as the target, got {target.dtype}")


def concrete(array: ArrayLike) -> np.ndarray | None:
    """Return the values as a numpy array, or None if jit, grad or vmap traces the array."""
    return None if isinstance(array, Tracer) else np.asarray(array)


def offenders(array: ArrayLike, low: float, high: float) -> str:
    """Return the first known values outside ``[low, high]`` as text; empty if there are none."""
    values = concrete(array)
    if values is None:
        return ""
    outside = values[~((values >= low) & (values <= high))]
    return ", ".join(map(str, outside[:3].tolist()))


@jax.custom_jvp
def at_least_zero(x: jax.Array) -> jax.Array:
    """Return ``max(x, 0)`` with torch's derivative of 1 at 0."""
    return jnp.maximum(x, 0)


@at_least_zero.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    return at_least_zero(x), jnp.where(x >= 0, tangent, 0)
