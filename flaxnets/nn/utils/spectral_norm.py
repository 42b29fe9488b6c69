"""Spectral normalisation with the interface of ``torch.nn.utils.spectral_norm``."""

import dataclasses
from collections.abc import Mapping, MutableMapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from flaxnets._conversion import check_convertible, to_array
from flaxnets.nn.module import Buffer
from flaxnets.nn.utils._computed import Computation, check_parameter, compute, stop_computing
from flaxnets.nn.utils._norms import as_matrix, default_dim, unit_vector

M = TypeVar("M", bound=nnx.Module)


@dataclasses.dataclass(frozen=True)
class SpectralNorm(Computation):
    """Weight divided by its largest singular value."""

    n_power_iterations: int
    eps: float
    dim: int

    def _parts(self, layer: Any) -> tuple[Any, Any, Any]:
        return tuple(getattr(layer, f"{self.name}_{part}") for part in ("orig", "u", "v"))

    def __call__(self, layer: Any) -> jax.Array:
        """Return the weight."""
        weight, u, v = (part[...] for part in self._parts(layer))
        return weight / jnp.dot(u, as_matrix(weight, self.dim) @ v)

    def before_call(self, layer: Any) -> None:
        """Run steps of the power method in training mode."""
        if not layer.training:
            return
        weight, left, right = self._parts(layer)
        matrix, u, v = jax.lax.stop_gradient((as_matrix(weight[...], self.dim), left[...], right[...]))
        for _ in range(self.n_power_iterations):
            v = unit_vector(matrix.T @ u, self.eps)
            u = unit_vector(matrix @ v, self.eps)
        left[...], right[...] = u, v

    def before_load(
        self,
        layer: Any,
        state_dict: MutableMapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        missing_keys: list[str],
    ) -> None:
        """Solve for ``v``, which state dicts of torch before 1.0 lack; they contain the normalised weight instead."""
        version = local_metadata.get("spectral_norm", {}).get(f"{self.name}.version")
        key = prefix + self.name
        is_new = (
            version is None and key not in state_dict and all(f"{key}_{p}" in state_dict for p in ("orig", "u", "v"))
        )
        if is_new or (version is not None and version >= 1):
            return
        if key not in state_dict:
            missing_keys.append(key)
        names = (f"{key}_orig", key, f"{key}_u")
        if all(name in state_dict and _is_convertible(state_dict[name]) for name in names):
            orig, normalized, u = (jnp.asarray(to_array(state_dict[name])) for name in names)
            del state_dict[key]
            matrix = as_matrix(orig, self.dim)
            v = jnp.linalg.pinv(matrix.T @ matrix) @ (matrix.T @ u)
            state_dict[f"{key}_v"] = v * (orig / normalized).mean() / jnp.dot(u, matrix @ v)


def _is_convertible(value: Any) -> bool:
    try:
        check_convertible(value)
    except TypeError:  # the load reports the key and the reason
        return False
    return True


def spectral_norm(
    module: M,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
    *,
    rngs: nnx.Rngs,
) -> M:
    """Divide a weight by its largest singular value, which the power method estimates.

    The parameter is ``weight_orig``; the buffers ``weight_u`` and ``weight_v`` are the singular vectors. Every call in
    training mode runs ``n_power_iterations`` steps. This function follows ``torch.nn.utils.spectral_norm``.
    :func:`flaxnets.nn.utils.parametrizations.spectral_norm` uses other names, and runs steps on each read.

    Args:
        module: the layer; changed in place.
        name: name of the parameter.
        n_power_iterations: number of steps of the power method per call.
        eps: the smallest norm that vectors are divided by.
        dim: the axis of the outputs. Default: 1 for transposed convolutions, else 0.
        rngs: random number generators for the initial vectors.

    Returns:
        The layer.

    Raises:
        ValueError: for an unknown or uninitialized parameter, or a number of steps that is not positive.
        RuntimeError: if the parameter is already computed.

    See `torch.nn.utils.spectral_norm
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.spectral_norm.html>`_ and arXiv:1802.05957.

    >>> from flaxnets import nn
    >>> layer = spectral_norm(nn.Linear(3, 2, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
    >>> list(layer.state_dict())
    ['bias', 'weight_orig', 'weight_u', 'weight_v']
    """
    if n_power_iterations <= 0:
        raise ValueError(f"spectral_norm: n_power_iterations must be positive, got {n_power_iterations}")
    weight = check_parameter(module, name, "spectral_norm")
    dim = default_dim(module) if dim is None else dim
    shape = as_matrix(weight[...], dim).shape
    u, v = (unit_vector(jax.random.normal(rngs.params(), (size,), weight.dtype), eps) for size in shape)
    variables = {"_orig": weight, "_u": Buffer(u), "_v": Buffer(v)}
    compute(module, SpectralNorm(name, n_power_iterations, eps, dim), variables)
    return module


def remove_spectral_norm(module: M, name: str = "weight") -> M:
    """Turn a weight of :func:`spectral_norm` into an ordinary parameter with its current value.

    Raises:
        ValueError: if the weight has no :func:`spectral_norm`.

    See `torch.nn.utils.remove_spectral_norm
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.remove_spectral_norm.html>`_.

    >>> from flaxnets import nn
    >>> layer = spectral_norm(nn.Linear(3, 2, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
    >>> list(remove_spectral_norm(layer).state_dict())
    ['bias', 'weight']
    """
    stop_computing(module, SpectralNorm, name, ("_orig", "_u", "_v"))
    return module
