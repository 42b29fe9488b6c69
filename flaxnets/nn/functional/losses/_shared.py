"""What the losses share: reductions, torch's old flags for them, and checks of sizes, dtypes and values."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from flaxnets import kernels

# Torch writes 1e-12 in single precision, also where it computes in double.
EPSILON = float(np.float32(1e-12))


def legacy_reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction that torch's two old flags mean if one of them is given, with torch's warning."""
    if size_average is None and reduce is None:
        return reduction
    whole = "sum" if size_average is not None and not size_average else "mean"
    meant = "none" if reduce is not None and not reduce else whole
    warnings.warn(
        f"size_average and reduce are deprecated, please use reduction={meant!r} instead.", UserWarning, stacklevel=3
    )
    return meant


def current_reduction(reduction: str, name: str) -> str:
    """Map torch's old name of the mean to the present one, with torch's warning.

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
    """The elements' losses unchanged, their mean or their sum.

    Raises:
        ValueError: for an unknown reduction.
        RuntimeError: for the mean of integers.
    """
    reduction = current_reduction(reduction, name)
    if reduction == "none":
        return loss
    form = kernels.sum_form(loss)
    if reduction == "sum":
        return form(loss) if form else loss.sum()
    if not jnp.issubdtype(loss.dtype, jnp.inexact):
        raise RuntimeError(f"{name}: the mean needs floating-point inputs, got {loss.dtype}")
    return form(loss) / loss.size if form else loss.mean()


def broadcast(name: str, *arrays: ArrayLike) -> list[jax.Array]:
    """The arrays in one common shape.

    Raises:
        RuntimeError: if they have none.
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
    """The array in exactly this shape.

    Raises:
        RuntimeError: if it does not broadcast to it.
    """
    try:
        return jnp.broadcast_to(array, shape)
    except ValueError:
        raise RuntimeError(
            f"{name}: {what} must broadcast to the input's shape {shape}, got the shape {jnp.shape(array)}"
        ) from None


def warn_of_sizes(name: str, input: jax.Array, target: jax.Array) -> None:
    """Torch's warning that a loss of inputs of two shapes is probably a mistake."""
    if input.shape != target.shape:
        warnings.warn(
            f"{name}: the target's shape {target.shape} is not the input's {input.shape}; they are broadcast, which "
            "is probably not what you want. Please give both the same shape.",
            UserWarning,
            stacklevel=3,
        )


def check_floating(name: str, *arrays: jax.Array, error: type[Exception] = NotImplementedError) -> None:
    """Raise if one of the arrays is not of real floating-point numbers."""
    for array in arrays:
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise error(f"{name}: expected real floating-point numbers, got {array.dtype}")


def check_integer(name: str, target: jax.Array) -> None:
    """Raise RuntimeError if the target is not of class indices."""
    if not jnp.issubdtype(target.dtype, jnp.integer):
        raise RuntimeError(f"{name}: expected class indices, of an integer dtype, as the target, got {target.dtype}")


def concrete(array: ArrayLike) -> np.ndarray | None:
    """The values, where they are known: not while jit, grad or vmap trace."""
    return None if isinstance(array, Tracer) else np.asarray(array)


def offenders(array: ArrayLike, low: float, high: float) -> str:
    """The first values that are known to lie outside ``[low, high]``, as text; empty if there are none."""
    values = concrete(array)
    if values is None:
        return ""
    outside = values[~((values >= low) & (values <= high))]
    return ", ".join(map(str, outside[:3].tolist()))


@jax.custom_jvp
def at_least_zero(x: jax.Array) -> jax.Array:
    """``max(x, 0)``, whose derivative at 0 is 1, as that of torch's clamp is."""
    return jnp.maximum(x, 0)


@at_least_zero.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    return at_least_zero(x), jnp.where(x >= 0, tangent, 0)
