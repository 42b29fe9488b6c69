"""Norms, distances and similarities of vectors."""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad
from jaxtyping import Array, Float, Inexact, Num

from flaxnets.kernels._primitives import batch_in_front, materialized, primitive


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _norm(x: jax.Array, p: float | int, axes: tuple[int, ...], share_ties: bool) -> jax.Array:
    """Return the p-norm over ``axes``, which are kept with size 1."""
    size = jnp.abs(x)
    if p == 0:
        return (x != 0).astype(size.dtype).sum(axes, keepdims=True)
    if p == 1:
        return size.sum(axes, keepdims=True)
    if p == 2:
        return jnp.sqrt(jnp.square(size).sum(axes, keepdims=True))
    if math.isinf(p):
        return (size.max if p > 0 else size.min)(axes, keepdims=True)
    return (size**p).sum(axes, keepdims=True) ** (1 / p)


@_norm.defjvp
def _norm_jvp(p: float | int, axes: tuple[int, ...], share_ties: bool, primals: tuple, tangents: tuple) -> tuple:
    (x,), (tangent,) = primals, tangents
    norm = _norm(x, p, axes, share_ties)
    slopes = jnp.conj(_slopes(x, norm, p, axes, share_ties))
    return norm, (slopes * tangent).real.sum(axes, keepdims=True).astype(norm.dtype)


def _slopes(x: jax.Array, norm: jax.Array, p: float | int, axes: tuple[int, ...], share_ties: bool) -> jax.Array:
    """Return the derivative of the norm by each element; at kinks as in torch: 0 at 0, shared among tied maxima."""
    size, sign = jnp.abs(x), jnp.sign(x)
    if p == 0:
        return jnp.zeros_like(x)
    if p == 1:
        return sign
    if p == 2:
        return jnp.where(norm == 0, 0, x / norm)
    if math.isinf(p):
        ties = (size == norm) | (jnp.isnan(size) & jnp.isnan(norm))
        return sign * ties / (ties.sum(axes, keepdims=True) if share_ties else 1)
    if p < 1:
        return sign * jnp.where(x == 0, 0, size ** (p - 1)) * norm ** (1 - p)
    return jnp.where(norm == 0, 0, sign * size ** (p - 1) / norm ** (p - 1))


def _vector_norm(name: str, x: jax.Array, p: float | int, axes: tuple[int, ...]) -> jax.Array:
    if (p < 0 or math.isinf(p)) and any(x.shape[axis] == 0 for axis in axes):
        raise RuntimeError(f"{name}: the norm of p={p} is undefined for zero elements, got the shape {x.shape}")
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    norm = _norm(wide, float(p), axes, True)
    return norm if wide.dtype == x.dtype else norm.astype(x.dtype)


def _axis(name: str, dim: int, ndim: int) -> int:
    if not -max(ndim, 1) <= dim < max(ndim, 1):
        raise IndexError(f"{name}: dim={dim} is out of range for an input of {ndim} axes")
    return dim % max(ndim, 1)


def _broadcast(name: str, a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise RuntimeError(f"{name}: the shapes {a.shape} and {b.shape} do not broadcast") from None
    return jnp.broadcast_to(a, shape), jnp.broadcast_to(b, shape)


def normalize(
    input: Inexact[Array, "*shape"],
    p: float | int = 2.0,
    dim: int | Sequence[int] | None = 1,
    eps: float = 1e-12,
    out: None = None,
) -> Inexact[Array, "*shape"]:
    """Divide by the norm along ``dim``, or by ``eps`` where the norm is smaller.

    Args:
        input: of any shape.
        p: exponent of the norm.
        dim: one axis or several. None and ``()`` mean all axes.
        eps: the smallest divisor.
        out: must be None: JAX arrays are immutable.

    Raises:
        IndexError: if the input lacks the axis.
        RuntimeError: for a repeated axis, an input of integers, or an undefined norm of zero elements.
        TypeError: for ``out``.

    See `torch.nn.functional.normalize
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.normalize.html>`_.

    >>> normalize(jnp.array([[3.0, 4.0]]))
    Array([[0.6, 0.8]], dtype=float32)
    """
    if out is not None:
        raise TypeError(f"normalize: out must be None, got {type(out).__name__}. Fix: use the returned array")
    input = jnp.asarray(input)
    dims = tuple(range(input.ndim)) if dim is None or dim == () else (dim,) if isinstance(dim, int) else tuple(dim)
    axes = tuple(_axis("normalize", d, input.ndim) for d in dims)
    if len(set(axes)) != len(axes):
        raise RuntimeError(f"normalize: the axes of dim must be different, got dim={dim}")
    if not jnp.issubdtype(input.dtype, jnp.inexact):
        raise RuntimeError(f"normalize: expected a floating-point or complex input, got {input.dtype}; cast it")
    norm = _vector_norm("normalize", input, p, axes if input.ndim else ())
    return input / jnp.where(norm < eps, eps, norm)


def cosine_similarity(
    x1: Num[Array, "..."], x2: Num[Array, "..."], dim: int = 1, eps: float = 1e-8
) -> Float[Array, "..."]:
    """Cosine similarity along ``dim`` of the inputs, which broadcast.

    Vectors shorter than ``eps`` are divided by ``eps`` instead of their length; the gradient ignores the clamping.

    Raises:
        IndexError: if the broadcast shape lacks the axis.
        RuntimeError: for shapes that do not broadcast, or if neither input is floating-point.

    See `torch.nn.functional.cosine_similarity
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cosine_similarity.html>`_.

    >>> cosine_similarity(jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 1.0]]))
    Array([0.70710677], dtype=float32)
    """
    x1, x2 = jnp.asarray(x1), jnp.asarray(x2)
    common = jnp.promote_types(x1.dtype, x2.dtype)
    if not jnp.issubdtype(common, jnp.floating):
        raise RuntimeError(
            f"cosine_similarity: expected floating-point inputs, got {x1.dtype} and {x2.dtype}; cast them"
        )
    x1, x2 = _broadcast("cosine_similarity", x1, x2)
    axis = _axis("cosine_similarity", dim, x1.ndim)
    axes = (axis,) if x1.ndim else ()

    def direction(x: jax.Array) -> jax.Array:
        x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(common)
        norm = _vector_norm("cosine_similarity", x, 2, axes)
        return x / jnp.where(norm < eps, norm - jax.lax.stop_gradient(norm) + eps, norm)

    return (direction(x1) * direction(x2)).sum(axes)


def pairwise_distance(
    x1: Num[Array, "..."], x2: Num[Array, "..."], p: float | int = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Float[Array, "..."]:
    """Norm of ``x1 - x2 + eps`` along the last axis of the inputs, which broadcast.

    Raises:
        RuntimeError: for shapes that do not broadcast, or an undefined norm of zero elements.

    See `torch.nn.functional.pairwise_distance
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pairwise_distance.html>`_.

    >>> pairwise_distance(jnp.array([[3.0, 4.0]]), jnp.zeros(2), eps=0.0).tolist()
    [5.0]
    """
    x1, x2 = _broadcast("pairwise_distance", jnp.asarray(x1), jnp.asarray(x2))
    axes = (x1.ndim - 1,) if x1.ndim else ()
    norm = _vector_norm("pairwise_distance", x1 - x2 + eps, p, axes)
    return norm if keepdim else norm.squeeze(axes)


def pdist(input: Float[Array, "n m"], p: float | int = 2.0) -> Float[Array, " pairs"]:
    """Norms of the differences of all pairs of rows: first with second, first with third, and so on.

    If several elements tie for the maximum (``p`` infinite), each gets the whole gradient, as in torch.

    Raises:
        RuntimeError: for an input that is not 2D or not floating-point, or a negative ``p``.
        NotImplementedError: for half precision.

    See `torch.nn.functional.pdist
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pdist.html>`_.

    >>> pdist(jnp.array([[0.0, 0.0], [3.0, 4.0], [0.0, 4.0]])).tolist()
    [5.0, 4.0, 3.0]
    """
    input = jnp.asarray(input)
    if input.ndim != 2:
        raise RuntimeError(f"pdist: expected 2D input, got {input.ndim}D input of shape {input.shape}")
    if not jnp.issubdtype(input.dtype, jnp.floating):
        raise RuntimeError(f"pdist: expected a floating-point input, got {input.dtype}; cast it")
    if p < 0:
        raise RuntimeError(f"pdist: p must not be negative, got {p}")
    if jnp.finfo(input.dtype).bits < 32:
        raise NotImplementedError(f"pdist: expected float32 or float64, got {input.dtype}; cast it")
    if input.shape[0] < 2 or input.shape[1] == 0:
        return jnp.zeros(input.shape[0] * (input.shape[0] - 1) // 2, input.dtype)
    return _pair_norms(materialized(input), float(p))  # the loops below read contiguous rows


FEATURES = 16  # number of features that one loop over all pairs adds


def _accumulated(x: jax.Array, term: Callable[[jax.Array], jax.Array], combine: Callable[..., jax.Array]) -> jax.Array:
    """Combine ``term`` of the differences of all pairs of rows, feature by feature, into ``(n, n)``."""

    def block(total: jax.Array, features: jax.Array) -> tuple[jax.Array, None]:
        for feature in features:
            total = combine(total, term(feature[:, None] - feature[None, :]))
        return total, None

    rows, count = x.shape
    x = materialized(x.T)  # makes each feature contiguous
    whole = count - count % FEATURES
    total, _ = block(jnp.zeros((rows, rows), x.dtype), x[whole:])
    blocks = x[:whole].reshape(whole // FEATURES, FEATURES, rows)
    return jax.lax.scan(block, total, blocks)[0] if whole else total


def _all_norms(x: jax.Array, p: float) -> jax.Array:
    """Return the norms of the differences of all pairs of rows, ``(n, n)``."""
    if p == 0:  # a sum propagates NaN
        return _accumulated(x, lambda d: jnp.minimum(jnp.ceil(jnp.abs(d)), 1), jnp.add)
    if p == 1:
        return _accumulated(x, jnp.abs, jnp.add)
    if p == 2:
        return jnp.sqrt(_accumulated(x, jnp.square, jnp.add))
    if math.isinf(p):
        return _accumulated(x, jnp.abs, jnp.maximum)
    return _accumulated(x, lambda d: jnp.abs(d) ** p, jnp.add) ** (1 / p)


def _pair_slopes(x: jax.Array, p: float) -> tuple[jax.Array | float, jax.Array]:
    """Return the derivative of each pair's norm by the first row: a factor ``(n, n, 1)`` and an array ``(n, n, m)``."""
    # Nothing reads the diagonal; ones give it finite derivatives of any order.
    itself = np.eye(len(x), dtype=bool)[:, :, None]
    difference = jnp.where(itself, 1, x[:, None] - x[None])
    norm = jnp.where(itself, 1, _symmetric_p.bind(_pair_norms(x, p), size=len(x))[:, :, None])
    if p != 2:
        return 1.0, _slopes(difference, norm, p, (2,), False)
    return jnp.where(norm == 0, 0, 1 / jnp.where(norm == 0, 1, norm)), difference


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _pair_norms(x: jax.Array, p: float) -> jax.Array:
    return _all_norms(x, p)[np.triu_indices(len(x), 1)]


@_pair_norms.defjvp
def _pair_norms_jvp(p: float, primals: tuple, tangents: tuple) -> tuple:
    (x,), (tangent,) = primals, tangents
    factor, slopes = _pair_slopes(x, p)
    return _pair_norms(x, p), _both_orders_p.bind((factor * (slopes * tangent[:, None])).sum(2))


def _both_orders(matrix: jax.Array) -> jax.Array:
    """Add the elements above the diagonal to their mirror images."""
    first, second = np.triu_indices(matrix.shape[-1], 1)
    return matrix[..., first, second] + matrix[..., second, first]


def _symmetric(pairs: jax.Array, *, size: int) -> jax.Array:
    """Return the symmetric matrix with these elements above the diagonal, and zeros on the diagonal."""
    pair_indices = np.zeros((size, size), int)
    pair_indices[np.triu_indices(size, 1)] = np.arange(pairs.shape[-1])
    return jnp.where(np.eye(size, dtype=bool), 0, pairs[..., pair_indices + pair_indices.T])


_both_orders_p, _symmetric_p = primitive("both_orders", _both_orders), primitive("symmetric", _symmetric)
ad.deflinear2(_both_orders_p, lambda ct, matrix: [_symmetric_p.bind(ct, size=matrix.aval.shape[-1])])
ad.deflinear2(_symmetric_p, lambda ct, pairs, *, size: [_both_orders_p.bind(ct)])
batch_in_front(_both_orders_p)
batch_in_front(_symmetric_p)
