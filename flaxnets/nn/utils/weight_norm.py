"""Weight normalisation under the names of ``torch.nn.utils.weight_norm``."""

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
    """A weight of its magnitude ``weight_g`` and its direction ``weight_v``."""

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
        """Rename what the newer weight norm has."""
        new = f"{prefix}parametrizations.{self.name}.original"
        rename(state_dict, {f"{new}0": f"{prefix}{self.name}_g", f"{new}1": f"{prefix}{self.name}_v"})


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """Split a weight into a magnitude ``weight_g`` and a direction ``weight_v``: it is ``g * v / |v|`` from then on.

    ``module.weight`` is computed whenever it is read. This is the form of ``torch.nn.utils.weight_norm``, for which
    torch recommends :func:`flaxnets.nn.utils.parametrizations.weight_norm` today; state dicts of either load into both.

    Args:
        module: the layer; it is changed.
        name: of the parameter.
        dim: the axis that keeps a magnitude for each index; None (or -1, as in torch) for one of the whole weight.

    Returns:
        The layer.

    Raises:
        ValueError: if there is no such parameter, or it is uninitialized.
        RuntimeError: if it is computed already.
        IndexError: if it has no such axis.

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
    """Make a weight of :func:`weight_norm` an ordinary parameter with the value that it has.

    Raises:
        ValueError: if the weight is not one of :func:`weight_norm`.

    See `torch.nn.utils.remove_weight_norm
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.remove_weight_norm.html>`_.

    >>> from flaxnets import nn
    >>> layer = weight_norm(nn.Linear(3, 2, rngs=nnx.Rngs(0)))
    >>> list(remove_weight_norm(layer).state_dict())
    ['bias', 'weight']
    """
    stop_computing(module, WeightNorm, name, ("_v", "_g"))
    return module
