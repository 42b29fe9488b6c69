"""Products and decompositions of matrices that differ from ``jnp``."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flaxnets.ops._axes import resolve


def _weighted(input: jax.Array, product: jax.Array, beta: complex, alpha: complex) -> jax.Array:
    """Return ``beta * input + alpha * product``; with ``beta=0``, NaN and infinities of the input are ignored."""
    product = product if alpha == 1 else product * jnp.asarray(alpha, product.dtype)
    if isinstance(beta, (int, float)) and beta == 0:
        return product
    input = input if beta == 1 else input * jnp.asarray(beta, input.dtype)
    return jnp.broadcast_to(input, product.shape) + product


def addmm(input: jax.Array, mat1: jax.Array, mat2: jax.Array, *, beta: complex = 1, alpha: complex = 1) -> jax.Array:
    """Return ``beta * input + alpha * (mat1 @ mat2)``.

    See `torch.addmm <https://docs.pytorch.org/docs/stable/generated/torch.addmm.html>`_.

    >>> addmm(jnp.ones(2), jnp.eye(2), jnp.eye(2), alpha=2).tolist()
    [[3.0, 1.0], [1.0, 3.0]]
    """
    return _weighted(input, mat1 @ mat2, beta, alpha)


def addmv(input: jax.Array, mat: jax.Array, vec: jax.Array, *, beta: complex = 1, alpha: complex = 1) -> jax.Array:
    """Return ``beta * input + alpha * (mat @ vec)``.

    See `torch.addmv <https://docs.pytorch.org/docs/stable/generated/torch.addmv.html>`_.

    >>> addmv(jnp.ones(2), jnp.eye(2), jnp.array([1.0, 2.0])).tolist()
    [2.0, 3.0]
    """
    return _weighted(input, mat @ vec, beta, alpha)


def addr(input: jax.Array, vec1: jax.Array, vec2: jax.Array, *, beta: complex = 1, alpha: complex = 1) -> jax.Array:
    """Return ``beta * input + alpha * outer(vec1, vec2)``.

    See `torch.addr <https://docs.pytorch.org/docs/stable/generated/torch.addr.html>`_.

    >>> addr(jnp.zeros((1, 2)), jnp.array([2.0]), jnp.array([1.0, 2.0])).tolist()
    [[2.0, 4.0]]
    """
    return _weighted(input, jnp.outer(vec1, vec2), beta, alpha)


def baddbmm(
    input: jax.Array, batch1: jax.Array, batch2: jax.Array, *, beta: complex = 1, alpha: complex = 1
) -> jax.Array:
    """Return ``beta * input + alpha * (batch1 @ batch2)`` for batches of matrices.

    See `torch.baddbmm <https://docs.pytorch.org/docs/stable/generated/torch.baddbmm.html>`_.

    >>> baddbmm(jnp.ones((1, 1, 1)), jnp.ones((2, 1, 3)), jnp.ones((2, 3, 1)), beta=0.5).tolist()
    [[[3.5]], [[3.5]]]
    """
    return _weighted(input, batch1 @ batch2, beta, alpha)


def addbmm(
    input: jax.Array, batch1: jax.Array, batch2: jax.Array, *, beta: complex = 1, alpha: complex = 1
) -> jax.Array:
    """Return ``beta * input + alpha * (batch1 @ batch2).sum(0)``.

    See `torch.addbmm <https://docs.pytorch.org/docs/stable/generated/torch.addbmm.html>`_.

    >>> addbmm(jnp.ones((1, 1)), jnp.ones((2, 1, 3)), jnp.ones((2, 3, 1))).tolist()
    [[7.0]]
    """
    return _weighted(input, jnp.einsum("bij,bjk->ik", batch1, batch2), beta, alpha)


def cross(input: jax.Array, other: jax.Array, dim: int | None = None) -> jax.Array:
    """Return the cross product of vectors of three elements. Default ``dim``: the first axis of size 3.

    See `torch.cross <https://docs.pytorch.org/docs/stable/generated/torch.cross.html>`_.

    >>> cross(jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, 1.0, 0.0])).tolist()
    [0.0, 0.0, 1.0]
    """
    shape = jnp.broadcast_shapes(input.shape, other.shape)
    if dim is None:
        if 3 not in shape:
            raise RuntimeError(f"cross: got shape {shape}. Expected an axis of size 3")
        dim = shape.index(3)
    axis = resolve(dim, len(shape), "cross")
    if shape[axis] != 3:
        raise RuntimeError(f"cross: got an axis of size {shape[axis]}. Expected 3")
    return jnp.cross(jnp.broadcast_to(input, shape), jnp.broadcast_to(other, shape), axis=axis)


def tensordot(a: jax.Array, b: jax.Array, dims: int | Sequence[Sequence[int]] = 2) -> jax.Array:
    """Sum the products over axes: the last ``dims`` of ``a`` and the first of ``b``, or two lists of axes.

    See `torch.tensordot <https://docs.pytorch.org/docs/stable/generated/torch.tensordot.html>`_.

    >>> tensordot(jnp.ones((2, 3)), jnp.ones((3, 2)), 1).tolist()
    [[3.0, 3.0], [3.0, 3.0]]
    """
    return jnp.tensordot(a, b, axes=dims if isinstance(dims, int) else tuple(map(tuple, dims)))


def solve(A: jax.Array, B: jax.Array, *, left: bool = True) -> jax.Array:
    """Solve ``A @ X = B`` or ``X @ A = B``; ``B`` may be vectors, whose shape is that of ``A`` without one axis.

    See `torch.linalg.solve <https://docs.pytorch.org/docs/stable/generated/torch.linalg.solve.html>`_.

    >>> solve(2 * jnp.eye(2), jnp.array([2.0, 4.0])).tolist()
    [1.0, 2.0]
    """
    is_vector = B.ndim == 1 or (A.ndim - 1 == B.ndim and A.shape[:-1] == B.shape)
    matrix = B[..., None] if is_vector else B
    if left:
        result = jnp.linalg.solve(A, matrix)
        return result[..., 0] if is_vector else result
    if is_vector:
        return jnp.linalg.solve(A.mT, matrix)[..., 0]
    return jnp.linalg.solve(A.mT, matrix.mT).mT


class LeastSquares(NamedTuple):
    """Results of :func:`lstsq`, with torch's names.

    >>> int(lstsq(jnp.ones((3, 2)), jnp.ones((3, 1))).rank)
    1
    """

    solution: jax.Array
    residuals: jax.Array
    rank: jax.Array
    singular_values: jax.Array


def lstsq(A: jax.Array, B: jax.Array) -> LeastSquares:
    """Return the matrix ``X`` of smallest norm that minimizes the norm of ``A @ X - B``.

    Residuals and singular values are empty, as with torch's default driver.

    See `torch.linalg.lstsq <https://docs.pytorch.org/docs/stable/generated/torch.linalg.lstsq.html>`_.

    >>> lstsq(jnp.array([[1.0], [1.0]]), jnp.array([[1.0], [3.0]])).solution.round(4).tolist()
    [[2.0]]
    """
    rows, columns = A.shape[-2:]
    is_vector = B.ndim == 1 or (A.ndim - 1 == B.ndim and A.shape[:-1] == B.shape)
    matrix = B[..., None] if is_vector else B
    rtol = float(jnp.finfo(A.dtype).eps) * max(rows, columns)
    solution = jnp.linalg.pinv(A, rtol=rtol) @ matrix
    empty = jnp.zeros(0, solution.dtype)
    squeezed = solution[..., 0] if is_vector else solution
    return LeastSquares(squeezed, empty, jnp.linalg.matrix_rank(A, rtol=rtol), empty)


def solve_triangular(
    A: jax.Array, B: jax.Array, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> jax.Array:
    """Solve ``A @ X = B`` or ``X @ A = B`` with triangular matrices ``A``.

    See `torch.linalg.solve_triangular
    <https://docs.pytorch.org/docs/stable/generated/torch.linalg.solve_triangular.html>`_.

    >>> solve_triangular(jnp.array([[2.0, 1.0], [0.0, 1.0]]), jnp.array([[3.0], [1.0]]), upper=True).tolist()
    [[1.0], [1.0]]
    """
    batch = jnp.broadcast_shapes(A.shape[:-2], B.shape[:-2])
    A, B = (jnp.broadcast_to(each, (*batch, *each.shape[-2:])) for each in (A, B))
    return jax.lax.linalg.triangular_solve(A, B, left_side=left, lower=not upper, unit_diagonal=unitriangular)


def cholesky_solve(B: jax.Array, L: jax.Array, upper: bool = False) -> jax.Array:
    """Solve ``A @ X = B`` with the Cholesky factor of ``A``.

    See `torch.cholesky_solve <https://docs.pytorch.org/docs/stable/generated/torch.cholesky_solve.html>`_.

    >>> cholesky_solve(jnp.ones((2, 1)), 2 * jnp.eye(2)).tolist()
    [[0.25], [0.25]]
    """
    lower = L.mT.conj() if upper else L
    half = solve_triangular(jnp.tril(lower), B, upper=False)
    return solve_triangular(jnp.tril(lower).mT.conj(), half, upper=True)


def cholesky_inverse(L: jax.Array, upper: bool = False) -> jax.Array:
    """Return the inverse of ``A`` from its Cholesky factor.

    See `torch.cholesky_inverse <https://docs.pytorch.org/docs/stable/generated/torch.cholesky_inverse.html>`_.

    >>> cholesky_inverse(2 * jnp.eye(2)).tolist()
    [[0.25, 0.0], [0.0, 0.25]]
    """
    return cholesky_solve(jnp.broadcast_to(jnp.eye(L.shape[-1], dtype=L.dtype), L.shape), L, upper)


def logdet(input: jax.Array) -> jax.Array:
    """Return the logarithm of the determinant; NaN if the determinant is negative.

    See `torch.logdet <https://docs.pytorch.org/docs/stable/generated/torch.logdet.html>`_.

    >>> logdet(jnp.eye(2)).item()
    0.0
    """
    sign, logarithm = jnp.linalg.slogdet(input)
    if jnp.iscomplexobj(input):
        return logarithm + jnp.log(sign)
    return jnp.where(sign < 0, jnp.nan, logarithm)


class SVD(NamedTuple):
    """The three factors from :func:`svd`.

    >>> svd(jnp.eye(2)).S.tolist()
    [1.0, 1.0]
    """

    U: jax.Array
    S: jax.Array
    V: jax.Array


def svd(input: jax.Array, some: bool = True) -> SVD:
    """Return the singular value decomposition like ``torch.svd``: ``U``, ``S`` and ``V`` (not transposed).

    See `torch.svd <https://docs.pytorch.org/docs/stable/generated/torch.svd.html>`_.

    >>> [factor.shape for factor in svd(jnp.ones((3, 2)))]
    [(3, 2), (2,), (2, 2)]
    """
    U, S, Vh = jnp.linalg.svd(input, full_matrices=not some)
    return SVD(U, S, Vh.mT.conj())


def vander(x: jax.Array, *, N: int | None = None) -> jax.Array:
    """Return matrices whose columns are the powers of a vector, starting with 0.

    See `torch.linalg.vander <https://docs.pytorch.org/docs/stable/generated/torch.linalg.vander.html>`_.

    >>> vander(jnp.array([2, 3])).tolist()
    [[1, 2], [1, 3]]
    """
    size = x.shape[-1] if N is None else N
    ones = jnp.ones((*x.shape, 1), x.dtype)
    powers = jnp.cumprod(jnp.broadcast_to(x[..., None], (*x.shape, max(size - 1, 0))), axis=-1)
    return jnp.concatenate([ones, powers], axis=-1)[..., :size]
