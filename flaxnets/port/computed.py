"""Weights that torch computes from other parameters: parametrizations, weight norm, spectral norm and pruning."""

import importlib
from typing import Any

from flax import nnx
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm as TorchSpectralNorm
from torch.nn.utils.weight_norm import WeightNorm as TorchWeightNorm

from flaxnets.nn.utils._computed import Computation, Masked, become_computed
from flaxnets.nn.utils.spectral_norm import SpectralNorm
from flaxnets.nn.utils.weight_norm import WeightNorm
from flaxnets.port._torch import torch


def computation(hook: Any) -> Computation | None:
    """Return the flaxnets counterpart of a forward pre-hook that computes a weight; None for other hooks."""
    if isinstance(hook, TorchWeightNorm):
        return WeightNorm(hook.name, hook.dim)
    if isinstance(hook, TorchSpectralNorm):
        return SpectralNorm(hook.name, hook.n_power_iterations, hook.eps, hook.dim)
    if isinstance(hook, prune.BasePruningMethod):
        return Masked(hook._tensor_name)
    return None


def twin(kind: type) -> type | None:
    """Return the flaxnets class with the same name; None if there is none."""
    for path in ("", ".utils.parametrize", ".utils.parametrizations", ".utils.orthogonal"):
        module = importlib.import_module(f"flaxnets.nn{path}")
        if hasattr(module, kind.__name__):
            return getattr(module, kind.__name__)
    return None


def class_before(module: torch.nn.Module) -> type:
    """Return the class that a module had before it was parametrized."""
    return parametrize.type_before_parametrizations(module)


def computed_names(module: torch.nn.Module) -> set[str]:
    """Return the names of attributes that are computed from other parameters."""
    return {result.name for hook in module._forward_pre_hooks.values() if (result := computation(hook))}


def make_computed(module: torch.nn.Module, port: nnx.Module) -> None:
    """Make the port compute the weights that the torch module computes."""
    computations = tuple(c for hook in module._forward_pre_hooks.values() if (c := computation(hook)))
    if computations:
        object.__setattr__(port, "_computations", computations)
    if computations or parametrize.is_parametrized(module):
        become_computed(port)
    if isinstance(module, parametrizations._Orthogonal):
        has_base = hasattr(module, "base")
        attributes = {"orthogonal_map": module.orthogonal_map.name, "use_trivialization": has_base}
        for name, value in (attributes if has_base else attributes | {"base": None}).items():
            setattr(port, name, value)
