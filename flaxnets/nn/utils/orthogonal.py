"""Orthogonal parametrisation: weights that stay orthogonal, or unitary, during training."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.core import Tracer
from jax.scipy.linalg import expm, solve_triangular
from jaxtyping import Array, Inexact

from flaxnets.nn.module import Buffer, Module
from flaxnets.nn.utils.parametrize import register_parametrization

M = TypeVar("M", bound=nnx.Module)

_MAPS = ("matrix_exp", "cayley", "householder")


def _adjoint(matrix: jax.Array) -> jax.Array:
    return matrix.mT.conj()


def _skew(x: jax.Array) -> jax.Array:
    """Return the skew-Hermitian square matrix with the lower triangle of a tall matrix."""
    n, k = x.shape[-2:]
    lower = jnp.pad(jnp.tril(x), [(0, 0)] * (x.ndim - 1) + [(0, n - k)])
    return lower - _adjoint(lower)


def _eye_like(x: jax.Array) -> jax.Array:
    return jnp.broadcast_to(jnp.eye(*x.shape[-2:], dtype=x.dtype), x.shape)


def _cayley(a: jax.Array) -> jax.Array:
    identity = _eye_like(a)
    return jnp.linalg.solve(identity - a / 2, identity + a / 2)


def _householder(x: jax.Array) -> jax.Array:
    """Return the product of the Householder reflections below the diagonal, with the signs on the diagonal.

    The compact form I - V T V^T of Schreiber and Van Loan needs one triangular solve instead of a sequence of
    reflections.
    """
    v = jnp.tril(x, -1) + _eye_like(x)
    gram = v.mT @ v
    system = jnp.triu(gram, 1) + gram * _eye_like(gram) / 2
    q = _eye_like(x) - v @ solve_triangular(system, v[..., : x.shape[-1], :].mT)
    signs = jnp.diagonal(x, axis1=-2, axis2=-1).astype(int)  # integers have no gradients
    return q * signs[..., None, :].astype(x.dtype)


def _is_orthogonal(q: jax.Array) -> bool:
    identity = _eye_like(q)
    tolerance = 10 * q.shape[-1] * jnp.finfo(q.dtype).eps + 1e-5 * identity.real
    return not isinstance(q, Tracer) and bool((jnp.abs(_adjoint(q) @ q - identity) <= tolerance).all())


def _make_orthogonal(a: jax.Array) -> jax.Array:
    """Return the orthogonal QR factor with positive diagonal of R, completed to a square matrix."""
    k = a.shape[-1]
    q, r = jnp.linalg.qr(a, mode="complete")
    signs = jnp.sign(jnp.diagonal(r, axis1=-2, axis2=-1))
    return jnp.concatenate([q[..., :k] * signs[..., None, :], q[..., k:]], -1)


class _Orthogonal(Module):
    """Matrix, or batch of matrices, with orthonormal columns, or rows if there are fewer rows."""

    def __init__(self, weight: jax.Array, orthogonal_map: str, use_trivialization: bool):
        if jnp.iscomplexobj(weight) and orthogonal_map == "householder":
            raise ValueError(f"orthogonal: 'householder' requires a real weight, got a weight of dtype {weight.dtype}")
        self.shape = weight.shape
        self.orthogonal_map = orthogonal_map
        self.use_trivialization = use_trivialization
        self.base = None

    def __call__(self, x: Inexact[Array, "*batch n k"]) -> Inexact[Array, "*batch n k"]:
        """Return the orthogonal matrix."""
        is_wide = x.shape[-2] < x.shape[-1]
        tall = x.mT if is_wide else x
        if self.orthogonal_map == "householder":
            q = _householder(tall)
        else:
            square = expm(_skew(tall)) if self.orthogonal_map == "matrix_exp" else _cayley(_skew(tall))
            q = square[..., : tall.shape[-1]]
        if self.base is not None:
            q = self.base[...] @ q
        return q.mT if is_wide else q

    def right_inverse(self, q: Inexact[Array, "*batch n k"]) -> Inexact[Array, "*batch n k"]:
        """Return the parameter that gives ``q``, or the orthogonal factor of its QR decomposition."""
        if q.shape != self.shape:
            raise ValueError(f"orthogonal: expected a matrix or batch of matrices of shape {self.shape}, got {q.shape}")
        is_wide = q.shape[-2] < q.shape[-1]
        tall = q.mT if is_wide else q
        if not self.use_trivialization:
            if self.orthogonal_map != "householder":
                raise NotImplementedError(
                    f"orthogonal: a weight with the map {self.orthogonal_map!r} and use_trivialization=False cannot be "
                    "assigned. Fix: use_trivialization=True"
                )
            reflections = _reflections(tall)
            return reflections.mT if is_wide else reflections
        is_square = tall.shape[-2] == tall.shape[-1]
        base = tall if is_square and _is_orthogonal(tall) else _make_orthogonal(tall)
        if self.base is None:
            self.base = Buffer(base)
        else:
            self.base.set_value(base)
        return -_eye_like(q)


def _reflections(a: jax.Array) -> jax.Array:
    """Return the reflections of a QR decomposition below the diagonal, and the signs of R on it."""
    h, tau = jnp.linalg.qr(a, mode="raw")
    reflections = h.mT  # numpy's raw mode returns the transposed matrix
    diagonal = jnp.sign(jnp.diagonal(reflections, axis1=-2, axis2=-1)) * jnp.where(tau == 0, -1, 1)
    return jnp.where(_eye_like(a) == 1, diagonal[..., None, :].astype(a.dtype), reflections)


def orthogonal(
    module: M, name: str = "weight", orthogonal_map: str | None = None, *, use_trivialization: bool = True
) -> M:
    """Parametrise a weight as an orthogonal matrix (unitary if complex).

    The columns are orthonormal, or the rows if there are fewer rows; further axes are batches. The parameter is
    ``parametrizations.weight.original``; ``use_trivialization`` adds the buffer ``parametrizations.weight.0.base``.

    Args:
        module: the layer; changed in place.
        name: name of the parameter.
        orthogonal_map: map to the orthogonal matrix: ``"matrix_exp"`` or ``"cayley"`` of a skew-Hermitian matrix, or
            ``"householder"``, a product of reflections. Default: ``"matrix_exp"`` for square or complex weights,
            otherwise ``"householder"``.
        use_trivialization: whether to multiply by a base matrix, so that any matrix can be assigned. Torch completes
            the base of a non-square matrix at random; here the completion depends on the matrix only.

    Returns:
        The layer.

    Raises:
        ValueError: for an unknown parameter, a parameter of fewer than two axes, or a map that is unknown or, for
            complex weights, ``"householder"``.

    See `torch.nn.utils.parametrizations.orthogonal
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrizations.orthogonal.html>`_,
    arXiv:1909.09501 and "A storage-efficient WY representation for products of Householder transformations".

    >>> from flaxnets import nn
    >>> weight = orthogonal(nn.Linear(3, 5, rngs=nnx.Rngs(0))).weight
    >>> bool(jnp.allclose(weight.T @ weight, jnp.eye(3), atol=1e-6))
    True
    """
    weight: Any = getattr(module, name, None)
    if not isinstance(weight, (nnx.Variable, jax.Array)):
        raise ValueError(f"{type(module).__name__} has no parameter or buffer {name!r}")
    if weight.ndim < 2:
        raise ValueError(f"orthogonal: expected a matrix or a batch of matrices, got a weight of shape {weight.shape}")
    if orthogonal_map is None:
        is_square = weight.shape[-2] == weight.shape[-1]
        orthogonal_map = "matrix_exp" if is_square or jnp.iscomplexobj(weight[...]) else "householder"
    if orthogonal_map not in _MAPS:
        raise ValueError(f"orthogonal_map must be one of {', '.join(map(repr, _MAPS))}, got {orthogonal_map!r}")
    parametrization = _Orthogonal(weight[...], orthogonal_map, use_trivialization)
    return register_parametrization(module, name, parametrization, unsafe=True)
