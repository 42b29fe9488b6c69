"""Weight and spectral normalisation as parametrisations."""

from collections.abc import MutableMapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Inexact

from flaxnets.nn.module import Buffer, Module
from flaxnets.nn.utils._computed import rename
from flaxnets.nn.utils._norms import as_matrix, default_dim, from_magnitude, magnitude, unit_vector
from flaxnets.nn.utils.orthogonal import orthogonal as orthogonal
from flaxnets.nn.utils.parametrize import register_parametrization

M = TypeVar("M", bound=nnx.Module)


class _WeightNorm(Module):
    """Weight from its magnitude and direction."""

    def __init__(self, dim: int | None = 0):
        self.dim = -1 if dim is None else dim

    def __call__(self, weight_g: Inexact[Array, "..."], weight_v: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """Return the weight."""
        return from_magnitude(weight_g, weight_v, self.dim)

    def right_inverse(self, weight: Inexact[Array, "..."]) -> tuple[Inexact[Array, "..."], Inexact[Array, "..."]]:
        """Return magnitude and direction."""
        return magnitude(weight, self.dim), weight

    def _rename_old(self, state_dict: MutableMapping[str, Any], prefix: str, name: str) -> None:
        """Rename ``weight_g`` and ``weight_v``, the names of torch's older ``nn.utils.weight_norm``."""
        new = f"{prefix}parametrizations.{name}.original"
        rename(state_dict, {f"{prefix}{name}_g": f"{new}0", f"{prefix}{name}_v": f"{new}1"})


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """Split a weight into a magnitude ``g`` and a direction ``v``, so that it equals ``g * v / |v|``.

    The parameters are ``parametrizations.weight.original0`` (``g``) and ``parametrizations.weight.original1`` (``v``).
    As in torch, state dicts of :func:`flaxnets.nn.utils.weight_norm`, with ``weight_g`` and ``weight_v``, load as well.

    Args:
        module: the layer; changed in place.
        name: name of the parameter.
        dim: the axis with one magnitude per index. None (or -1, as in torch) means one magnitude for the whole weight.

    Returns:
        The layer.

    Raises:
        ValueError: for an unknown parameter.
        IndexError: if the parameter lacks the axis.

    See `torch.nn.utils.parametrizations.weight_norm
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrizations.weight_norm.html>`_ and
    arXiv:1602.07868.

    >>> from flaxnets import nn
    >>> list(weight_norm(nn.Linear(3, 2, rngs=nnx.Rngs(0))).state_dict())
    ['bias', 'parametrizations.weight.original0', 'parametrizations.weight.original1']
    """
    return register_parametrization(module, name, _WeightNorm(dim), unsafe=True)


class _SpectralNorm(Module):
    """Weight divided by its largest singular value, which the power method estimates."""

    def __init__(self, weight: jax.Array, n_power_iterations: int, dim: int, eps: float, rngs: nnx.Rngs):
        if not -weight.ndim <= dim < weight.ndim:
            raise IndexError(
                f"spectral_norm: expected a dim from {-weight.ndim} to {weight.ndim - 1} for a weight of shape "
                f"{weight.shape}, got {dim}"
            )
        if n_power_iterations <= 0:
            raise ValueError(f"spectral_norm: n_power_iterations must be positive, got {n_power_iterations}")
        self.dim = dim % weight.ndim
        self.eps = eps
        if weight.ndim > 1:
            self.n_power_iterations = n_power_iterations
            matrix = as_matrix(weight, self.dim)
            u, v = (jax.random.normal(rngs.params(), (size,), weight.dtype) for size in matrix.shape)
            self._u, self._v = Buffer(unit_vector(u, eps)), Buffer(unit_vector(v, eps))
            self._power_method(matrix, 15)

    def _power_method(self, matrix: jax.Array, iterations: int) -> None:
        matrix, u, v = jax.lax.stop_gradient((matrix, self._u[...], self._v[...]))
        for _ in range(iterations):
            u = unit_vector(matrix @ v, self.eps)
            v = unit_vector(matrix.conj().T @ u, self.eps)
        self._u[...], self._v[...] = u, v

    def __call__(self, weight: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """Return the weight; in training mode, first run steps of the power method."""
        if weight.ndim == 1:
            return unit_vector(weight, self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            self._power_method(matrix, self.n_power_iterations)
        return weight / jnp.vdot(self._u[...], matrix @ self._v[...])

    def right_inverse(self, value: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """Return the weight unchanged."""
        return value


def spectral_norm(
    module: M,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
    *,
    rngs: nnx.Rngs,
) -> M:
    """Divide a weight by its largest singular value (spectral normalisation).

    The parameter is ``parametrizations.weight.original``. The buffers ``parametrizations.weight.0._u`` and ``_v`` are
    the singular vectors; in training mode, each read runs ``n_power_iterations`` steps of the power method.

    Args:
        module: the layer; changed in place.
        name: name of the parameter.
        n_power_iterations: number of steps of the power method per read.
        eps: the smallest norm that vectors are divided by.
        dim: the axis of the outputs. Default: 1 for transposed convolutions, else 0.
        rngs: random number generators for the initial vectors.

    Returns:
        The layer.

    Raises:
        ValueError: for an unknown parameter, or a number of steps that is not positive.
        IndexError: if the parameter lacks the axis.

    See `torch.nn.utils.parametrizations.spectral_norm
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrizations.spectral_norm.html>`_ and
    arXiv:1802.05957.

    >>> from flaxnets import nn
    >>> layer = spectral_norm(nn.Linear(3, 2, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
    >>> float(jnp.linalg.norm(layer.weight, 2).round(3))
    1.0
    """
    weight: Any = getattr(module, name, None)
    if not isinstance(weight, (nnx.Variable, jax.Array)):
        raise ValueError(f"{type(module).__name__} has no parameter or buffer {name!r}")
    dim = default_dim(module) if dim is None else dim
    parametrization = _SpectralNorm(weight[...], n_power_iterations, dim, eps, rngs)
    return register_parametrization(module, name, parametrization)
