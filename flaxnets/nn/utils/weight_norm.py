"""Weight normalisation with the interface of ``torch.nn.utils.weight_norm``."""

import dataclasses
from collections.abc import Mapping, MutableMapping
from typing import Any, TypeVar

import jax
from flax import nnx

from flaxnets.nn.utils._computed import Computation, check_parameter, compute, rename, stop_computing
from flaxnets.nn.utils._norms import from_magnitude, magnitude

M = TypeVar("M", bound=nnx.Module)


@dataclasses.dataclass(frozen=True)
class WeightNorm(Computation):
    """Weight from its magnitude ``weight_g`` and its direction ``weight_v``."""

    dim: int

    def __call__(self, layer: Any) -> jax.Array:
        """Return the weight."""
        g, v = (getattr(layer, f"{self.name}_{part}")[...] for part in "gv")
        return from_magnitude(g, v, self.dim)

    def before_load(
        self,
        layer: Any,
        state_dict: MutableMapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        missing_keys: list[str],
    ) -> None:
        """Rename the entries of the newer parametrised weight norm."""
        new = f"{prefix}parametrizations.{self.name}.original"
        rename(state_dict, {f"{new}0": f"{prefix}{self.name}_g", f"{new}1": f"{prefix}{self.name}_v"})


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """Split a weight into a magnitude ``weight_g`` and a direction ``weight_v``, so that it equals ``g * v / |v|``.

    ``module.weight`` is computed on every read. This function follows ``torch.nn.utils.weight_norm``; torch recommends
    :func:`flaxnets.nn.utils.parametrizations.weight_norm` instead. State dicts of either load into both.

    Args:
        module: the layer; changed in place.
        name: name of the parameter.
        dim: the axis with one magnitude per index. None (or -1, as in torch) means one magnitude for the whole weight.

    Returns:
        The layer.

    Raises:
        ValueError: for an unknown or uninitialized parameter.
        RuntimeError: if the parameter is already computed.
        IndexError: if the parameter lacks the axis.

    See `torch.nn.utils.weight_norm <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.weight_norm.html>`_
    and arXiv:1602.07868.

    >>> from flaxnets import nn
    >>> {key: v.shape for key, v in weight_norm(nn.Linear(3, 2, rngs=nnx.Rngs(0))).state_dict().items()}
    {'bias': (2,), 'weight_g': (2, 1), 'weight_v': (2, 3)}
    """
    weight = check_parameter(module, name, "weight_norm")
    dim = -1 if dim is None else dim
    compute(module, WeightNorm(name, dim), {"_g": weight.copy(magnitude(weight[...], dim)), "_v": weight})
    return module


def remove_weight_norm(module: M, name: str = "weight") -> M:
    """Turn a weight of :func:`weight_norm` into an ordinary parameter with its current value.

    Raises:
        ValueError: if the weight has no :func:`weight_norm`.

    See `torch.nn.utils.remove_weight_norm
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.remove_weight_norm.html>`_.

    >>> from flaxnets import nn
    >>> layer = weight_norm(nn.Linear(3, 2, rngs=nnx.Rngs(0)))
    >>> list(remove_weight_norm(layer).state_dict())
    ['bias', 'weight']
    """
    stop_computing(module, WeightNorm, name, ("_v", "_g"))
    return module
