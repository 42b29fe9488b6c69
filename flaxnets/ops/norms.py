"""Norms and distances; where a norm is zero, its gradient is zero, as in torch."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from flaxnets.ops._axes import Dim, resolve, resolve_all
from flaxnets.ops.complex_numbers import abs as absolute
from flaxnets.ops.statistics import root


def vector_norm(
    x: jax.Array, ord: float = 2, dim: Dim = None, keepdim: bool = False, *, dtype: DTypeLike | None = None
) -> jax.Array:
    """Return the norm of order ``ord`` (any number or infinity) of all elements or along axes.

    See `torch.linalg.vector_norm
    <https://docs.pytorch.org/docs/stable/generated/torch.linalg.vector_norm.html>`_.

    >>> vector_norm(jnp.array([[3.0, 4.0], [0.0, 0.0]]), dim=1).tolist()
    [5.0, 0.0]
    """
    x = x if dtype is None else x.astype(dtype)
    axes = resolve_all(dim, x.ndim, "vector_norm")

    def total(values: jax.Array) -> jax.Array:
        return values.sum(axis=axes, keepdims=keepdim)

    if ord == 2:
        return root(total(jnp.square(x.real) + jnp.square(x.imag) if jnp.iscomplexobj(x) else jnp.square(x)))
    if ord == 0:
        return total((x != 0).astype(x.real.dtype))
    size = absolute(x)
    if ord == 1:
        return total(size)
    if ord in (float("inf"), -float("inf")):
        return (size.max if ord > 0 else size.min)(axis=axes, keepdims=keepdim)
    is_zero = size == 0
    # At zero, the power has no gradient for orders below 1, and the root has none at all.
    powers = jnp.where(is_zero, 0.0 if ord > 0 else jnp.inf, jnp.where(is_zero, 1, size) ** ord)
    sums = total(powers)
    return jnp.where(sums == 0, 0, jnp.where(sums == 0, 1, sums) ** (1 / ord))


def matrix_norm(
    A: jax.Array,
    ord: float | str = "fro",
    dim: Sequence[int] = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: DTypeLike | None = None,
) -> jax.Array:
    """Return the norm of matrices.

    Args:
        A: array with matrices in two of its axes.
        ord: ``"fro"``, ``"nuc"``, an infinity, 1, 2, -1 or -2.
        dim: the axes of rows and columns.
        keepdim: whether to keep the axes, with size 1.
        dtype: dtype that the matrices are cast to first.

    Raises:
        RuntimeError: for another order.

    See `torch.linalg.matrix_norm
    <https://docs.pytorch.org/docs/stable/generated/torch.linalg.matrix_norm.html>`_.

    >>> matrix_norm(jnp.array([[1.0, -2.0], [3.0, 4.0]]), 1).item()
    6.0
    """
    A = A if dtype is None else A.astype(dtype)
    if ord == "fro":
        return vector_norm(A, 2, dim, keepdim)
    matrices = jnp.moveaxis(A, tuple(dim), (-2, -1))
    if ord in ("nuc", 2, -2):
        singular = jnp.linalg.svd(matrices, compute_uv=False)
        result = {"nuc": singular.sum, 2: singular.max, -2: singular.min}[ord](axis=-1)
    elif ord in (1, -1, float("inf"), -float("inf")):
        sums = absolute(matrices).sum(axis=-2 if abs(float(ord)) == 1 else -1)
        result = (sums.max if float(ord) > 0 else sums.min)(axis=-1)
    else:
        raise RuntimeError(f"matrix_norm: got {ord=}. Expected 'fro', 'nuc', inf, -inf, 1, -1, 2 or -2")
    return jnp.expand_dims(result, sorted(resolve(each, A.ndim, "matrix_norm") for each in dim)) if keepdim else result


def linalg_norm(
    A: jax.Array,
    ord: float | str | None = None,
    dim: Dim = None,
    keepdim: bool = False,
    *,
    dtype: DTypeLike | None = None,
) -> jax.Array:
    """Return a vector or matrix norm, chosen as in ``torch.linalg.norm``: two axes with an order mean a matrix.

    See `torch.linalg.norm <https://docs.pytorch.org/docs/stable/generated/torch.linalg.norm.html>`_.

    >>> linalg_norm(jnp.array([[3.0, 4.0]])).item(), linalg_norm(jnp.array([[3.0, 4.0]]), 1).item()
    (5.0, 4.0)
    """
    A = A if dtype is None else A.astype(dtype)
    if ord is None:
        return vector_norm(A, 2, dim, keepdim)
    axes = tuple(range(A.ndim)) if dim is None else tuple(dim) if isinstance(dim, Sequence) else (dim,)
    if len(axes) == 2:
        return matrix_norm(A, ord, axes, keepdim)
    if isinstance(ord, str) or len(axes) != 1:
        raise RuntimeError(f"linalg.norm: got {ord=} for axes {axes}. Expected one axis for a number, two for a matrix")
    return vector_norm(A, ord, axes, keepdim)


def norm(
    input: jax.Array,
    p: float | str | None = "fro",
    dim: Dim = None,
    keepdim: bool = False,
    dtype: DTypeLike | None = None,
) -> jax.Array:
    """Return the norm of all elements or along axes; a number ``p`` always means a vector norm, unlike in ``jnp``.

    See `torch.norm <https://docs.pytorch.org/docs/stable/generated/torch.norm.html>`_.

    >>> norm(jnp.array([[3.0, 4.0]])).item(), norm(jnp.array([[3.0, 4.0]]), 1, dim=1).tolist()
    (5.0, [7.0])
    """
    input = input if dtype is None else input.astype(dtype)
    if p == "nuc":
        return matrix_norm(input, "nuc", (0, 1) if dim is None else resolve_all(dim, input.ndim, "norm"), keepdim)
    if isinstance(p, str) and p != "fro":
        raise RuntimeError(f"norm: got {p=}. Expected 'fro', 'nuc' or a number")
    return vector_norm(input, 2 if p is None or p == "fro" else p, dim, keepdim)


def dist(input: jax.Array, other: jax.Array, p: float = 2) -> jax.Array:
    """Return the norm of order ``p`` of the difference of two arrays.

    See `torch.dist <https://docs.pytorch.org/docs/stable/generated/torch.dist.html>`_.

    >>> dist(jnp.array([1.0, 1.0]), jnp.array([4.0, 5.0])).item()
    5.0
    """
    return vector_norm(input - other, p)


# With more vectors than this, torch computes distances by a matrix product.
_PRODUCT_FROM = 25


def cdist(
    x1: jax.Array, x2: jax.Array, p: float = 2.0, compute_mode: str = "use_mm_for_euclid_dist_if_necessary"
) -> jax.Array:
    """Return the distances of order ``p`` between all pairs of rows.

    Args:
        x1: of shape ``(..., n, d)``.
        x2: of shape ``(..., m, d)``.
        p: the order of the norm.
        compute_mode: whether to compute Euclidean distances by a matrix product, which is faster and less exact:
            ``"use_mm_for_euclid_dist"``, ``"donot_use_mm_for_euclid_dist"``. Default: only for more than 25 rows.

    Returns:
        The distances, of shape ``(..., n, m)``.

    See `torch.cdist <https://docs.pytorch.org/docs/stable/generated/torch.cdist.html>`_.

    >>> cdist(jnp.array([[0.0, 0.0], [3.0, 4.0]]), jnp.array([[0.0, 0.0]])).tolist()
    [[0.0], [5.0]]
    """
    many = max(x1.shape[-2], x2.shape[-2]) > _PRODUCT_FROM
    by_product = {"use_mm_for_euclid_dist": True, "donot_use_mm_for_euclid_dist": False}.get(compute_mode, many)
    if p == 2 and by_product:
        squares1 = jnp.square(x1).sum(axis=-1, keepdims=True)
        squares2 = jnp.square(x2).sum(axis=-1, keepdims=True)
        squares = squares1 + squares2.swapaxes(-1, -2) - 2 * x1 @ x2.swapaxes(-1, -2)
        return root(jnp.where(squares < 0, 0, squares))
    return vector_norm(x1[..., :, None, :] - x2[..., None, :, :], p, -1)


def renorm(input: jax.Array, p: float, dim: int, maxnorm: float) -> jax.Array:
    """Scale slices along an axis down to the norm ``maxnorm``, if their norm is larger.

    See `torch.renorm <https://docs.pytorch.org/docs/stable/generated/torch.renorm.html>`_.

    >>> renorm(jnp.array([[3.0, 4.0], [0.3, 0.4]]), 2, 0, 1).round(3).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.30000001192092896, 0.4000000059604645]]
    """
    axis = resolve(dim, input.ndim, "renorm")
    norms = vector_norm(input, p, [each for each in range(input.ndim) if each != axis], keepdim=True)
    return input * jnp.where(norms > maxnorm, maxnorm / (norms + 1e-7), 1)
