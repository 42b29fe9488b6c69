"""Preconditions of a comparison: without them, a difference between two models means nothing."""

import copy
from typing import Any

import jax
import numpy as np

from flaxnets.parity._torch import torch
from flaxnets.parity.locating import run_torch_forward
from flaxnets.parity.measures import relative_error
from flaxnets.parity.pairs import Pair
from flaxnets.parity.run import Call


def require_module(module: Any) -> None:
    """Raise a TypeError if the reference is not a PyTorch module.

    >>> require_module(torch.nn.ReLU())
    """
    if not isinstance(module, torch.nn.Module):
        raise TypeError(
            f"the first module is a {type(module).__name__}. Expected a torch.nn.Module. "
            "Fix: pass the PyTorch model first and the Flax model second"
        )


def require_call(module: torch.nn.Module, call: Call) -> None:
    """Raise a ValueError if PyTorch's module cannot be called on the inputs.

    >>> require_call(torch.nn.ReLU(), Call((np.ones(2),), {}, training=False, dtype="float64"))
    """
    try:
        run_torch_forward(copy.deepcopy(module).train(call.training), call)
    except Exception as error:
        leaves = jax.tree.leaves((call.args, call.kwargs))
        shapes = ", ".join(str(np.shape(getattr(leaf, "array", leaf))) for leaf in leaves)
        raise ValueError(
            f"{type(module).__name__} in PyTorch cannot be called on inputs of the shapes {shapes}: "
            f"{type(error).__name__}: {' '.join(str(error).split())}. "
            "Fix: pass the arguments of a call of the PyTorch model, in the axis order of PyTorch"
        ) from error


def require_comparable(pair: Pair, call: Call) -> None:
    """Raise an error if PyTorch's outputs cannot be compared: NaN, or outputs that change from call to call.

    Args:
        pair: two modules that differ.
        call: a call on which the modules differ.

    Raises:
        ValueError: if PyTorch's outputs contain NaN, or if PyTorch's module is not deterministic.

    >>> from flaxnets import nn
    >>> call = Call((np.array([-1.0]),), {}, training=False, dtype="float64")
    >>> require_comparable(Pair(torch.nn.ReLU(), nn.ReLU()), call)
    """
    name = type(pair.torch_module).__name__
    mode = "training" if call.training else "evaluation"
    first, second = (_outputs(pair, call) for _ in range(2))
    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        if a.dtype.kind in "fc" and np.isnan(a).any():
            raise ValueError(
                f"{name} in PyTorch returns NaN in {mode} mode: output {i} has {int(np.isnan(a).sum())} NaN in "
                f"{a.size} elements. Expected numbers. Fix: use other inputs, or torch's weights with weights='torch'"
            )
        if a.shape != b.shape or relative_error(a, b) > 0:
            raise ValueError(
                f"{name} in PyTorch is not deterministic in {mode} mode: called twice on the same inputs, output {i} "
                f"changes by {relative_error(a, b):.0e}. Expected equal outputs. Fix: remove the random numbers from "
                "forward; dropout must be a module, or have rate 0"
            )


def _outputs(pair: Pair, call: Call) -> list[np.ndarray]:
    module = copy.deepcopy(pair.torch_module).train(call.training)
    with pair.torch_masks(module):
        leaves = jax.tree.leaves(run_torch_forward(module, call))
    return [leaf.resolve_conj().numpy() for leaf in leaves if isinstance(leaf, torch.Tensor)]
