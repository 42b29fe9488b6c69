"""Find the calls where the two sides first differ: soon after the last values that both sides share."""

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from torch.utils import _pytree as pytree

from flaxnets.parity.causes.sites import Described, Key, Site, fingerprint

if TYPE_CHECKING:
    from flaxnets.parity.isolation import Isolated

# The largest number of calls between a shared value and a suspicious call.
_NEAR = 6

# Functions that only rearrange values: even a wrong result contains the same numbers.
_REARRANGING = frozenset(
    {
        "view", "reshape", "flatten", "unflatten", "transpose", "permute", "moveaxis", "cat", "stack", "chunk", "split",
        "roll", "flip", "unbind", "pixel_shuffle", "pixel_unshuffle", "unfold",
    }
)  # fmt: skip


def suspicious(isolated: "Isolated", sites: Sequence[Site]) -> set[Key]:
    """Return the calls that probably include the first wrong call.

    A torch value is shared if an input or output of a Flax submodule contains the same numbers in any order.
    """
    calls = [(call.args, call.kwargs, call.outputs) for call in isolated.flax_calls]
    pool = _Pool([*jax.tree.leaves(calls), *isolated.observed.outputs])
    steps: dict[int, int] = {}  # Number of calls from the last shared value to a tensor.
    suspects = set()
    makers: dict[int, list[Key]] = {}
    for position, site in enumerate(sites):  # In order of completion, so that arguments are computed before their use.
        results = [leaf for leaf in pytree.tree_leaves(site.result) if isinstance(leaf, Described)]
        inputs = [leaf for leaf in pytree.tree_leaves((site.args, site.kwargs)) if isinstance(leaf, Described)]
        before = max((0 if leaf in pool else steps.get(leaf.token, 0) for leaf in inputs), default=0)
        is_shared = bool(results) and all(leaf in pool for leaf in results)
        for leaf in results:
            # The result of a module is the result of its last inner call, which is already counted.
            steps.setdefault(leaf.token, 0 if leaf in pool else before + 1)
        if before < _NEAR and (not is_shared or site.function in _REARRANGING):
            suspects.add(site.key)
            if before == 0:  # A call may be missing between a shared value and this call.
                suspects.update(key for leaf in inputs for key in makers.get(leaf.token, ()))
        for leaf in results:
            makers.setdefault(leaf.token, []).append(site.key)
        if is_shared and site.is_module:
            inner = itertools.takewhile(lambda s, depth=site.depth: s.depth > depth, reversed(sites[:position]))
            suspects.difference_update(s.key for s in inner)
    return suspects


class _Pool:
    """A set of arrays that compares arrays by their values, independent of their axis order."""

    def __init__(self, arrays: Iterable[Any]):
        self._prints: dict[int, list[np.ndarray]] = {}
        for array in arrays:
            if isinstance(array, np.ndarray) and array.dtype.kind == "f":
                self._prints.setdefault(array.size, []).append(np.array(fingerprint(array)))

    def __contains__(self, leaf: Described) -> bool:
        if leaf.fingerprint is None or leaf.name is not None:
            return leaf.name is not None  # Weights are equal on both sides.
        numbers = np.array(leaf.fingerprint)
        tolerance = 1e-8 * (numbers[-1] + 1e-12)
        size = int(np.prod(leaf.shape))
        return any(np.all(np.abs(numbers - other) <= tolerance) for other in self._prints.get(size, ()))
