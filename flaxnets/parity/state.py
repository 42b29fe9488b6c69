"""Compare the names of parameters and buffers, and copy their values from torch to Flax."""

from collections.abc import Collection
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxnets import state
from flaxnets.parity._torch import torch


def _kind(dtype: Any) -> str:
    for kind in ("complex", "float", "bool"):
        if kind in str(dtype):
            return kind
    return "integer"


def _describe(named: Any) -> list[tuple[str, tuple[int, ...], str]]:
    return [(name, tuple(array.shape), _kind(array.dtype)) for name, array in named]


def compare_names(torch_module: torch.nn.Module, flax_module: nnx.Module) -> list[str]:
    """Return a sentence for each difference in keys, order, shapes and kinds of dtype.

    The comparison includes aliases and buffers outside the state dict.
    """
    problems: list[str] = []
    for collection, expected, observed in (
        ("state dict", torch_module.state_dict().items(), state.state_dict(flax_module).items()),
        ("parameters", torch_module.named_parameters(), state.named_parameters(flax_module)),
        ("buffers", torch_module.named_buffers(), state.named_buffers(flax_module)),
    ):
        expected, observed = _describe(expected), _describe(observed)
        if expected == observed:
            continue
        expected_names, observed_names = [name for name, *_ in expected], [name for name, *_ in observed]
        missing = [name for name in expected_names if name not in observed_names]
        extra = [name for name in observed_names if name not in expected_names]
        if missing:
            problems.append(f"{collection}: missing in Flax: {', '.join(missing)}")
        if extra:
            problems.append(f"{collection}: only in Flax, not in torch: {', '.join(extra)}")
        if not missing and not extra and expected_names != observed_names:
            problems.append(f"{collection}: the order differs: torch {expected_names}, Flax {observed_names}")
        by_name = {name: rest for name, *rest in observed}
        for name, *rest in expected:
            if name in by_name and by_name[name] != rest:
                problems.append(f"{collection}: {name} is {rest} in torch and {by_name[name]} in Flax")
    return problems


def named_tensors(torch_module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return all parameters and buffers of a torch module by name; a shared tensor appears under each of its names.

    >>> list(named_tensors(torch.nn.Linear(3, 2)))
    ['weight', 'bias']
    """
    parameters = torch_module.named_parameters(remove_duplicate=False)
    return {**dict(parameters), **dict(torch_module.named_buffers(remove_duplicate=False))}


def randomize(torch_module: torch.nn.Module, rng: np.random.Generator) -> None:
    """Add noise to every parameter and buffer, so that no zero bias or unit variance hides a fault.

    Matrices and kernels get noise of the scale of a usual initialisation, and vectors noise of standard deviation 0.3.
    Floating-point buffers get positive noise, so that a variance stays positive, and counters a few counts. The noise
    is rounded to float32, so that both precisions start from the same numbers.
    """
    randomize_parameters(torch_module, rng)
    randomize_buffers(torch_module, rng, [name for name, _ in torch_module.named_buffers()])


def randomize_parameters(torch_module: torch.nn.Module, rng: np.random.Generator) -> None:
    """Add noise to every parameter; see :func:`randomize`."""
    with torch.no_grad():
        for parameter in torch_module.parameters():
            fan_in = parameter.numel() / max(parameter.shape[0], 1) if parameter.ndim > 1 else 0
            scale = 0.5 / fan_in**0.5 if fan_in else 0.3
            parameter.add_(_noise(rng.normal(0, scale, tuple(parameter.shape)), parameter))


def randomize_buffers(torch_module: torch.nn.Module, rng: np.random.Generator, names: Collection[str]) -> None:
    """Add noise to the named buffers; see :func:`randomize`.

    Args:
        torch_module: the module.
        rng: random generator of the noise.
        names: names of the buffers to change. Other buffers may be constants, such as masks, that the Flax module
            computes.
    """
    with torch.no_grad():
        for name, buffer in torch_module.named_buffers():
            if name not in names:
                continue
            if buffer.dtype.is_floating_point:
                buffer.add_(_noise(rng.uniform(0.1, 0.6, tuple(buffer.shape)), buffer))
            elif buffer.ndim == 0:
                buffer.add_(int(rng.integers(1, 6)))


def _noise(values: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, np.float32)).to(like.dtype)


def transfer(torch_module: torch.nn.Module, flax_module: nnx.Module) -> None:
    """Copy all parameters and buffers from torch to Flax, including buffers outside the state dict.

    Raises:
        RuntimeError: for the same reasons as :func:`flaxnets.state.load_state_dict`; then nothing is assigned.

    >>> from torch import nn as torch_nn
    >>> from flaxnets import nn
    >>> norm = nn.BatchNorm1d(2)
    >>> transfer(torch_nn.BatchNorm1d(2), norm)
    """
    state.load_state_dict(flax_module, torch_module.state_dict())
    variables = dict(state.named_buffers(flax_module))
    for name, buffer in torch_module.named_buffers():
        variables[name].set_value(jnp.array(buffer.numpy().copy(), variables[name].dtype))
