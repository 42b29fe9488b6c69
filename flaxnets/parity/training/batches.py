"""Batches and losses for a comparison of trainings."""

import copy
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxnets import nn
from flaxnets.parity._torch import torch
from flaxnets.parity.training.runs import Batch, Loss


def random_batches(
    torch_module: torch.nn.Module, inputs: Sequence[Any], steps: int, seed: int = 0
) -> tuple[list[tuple[tuple[Any, ...], np.ndarray]], str]:
    """Draw random batches with the shapes and dtypes of an example, and choose a loss for the module's outputs.

    Floating-point inputs are normally distributed. Integers are between the smallest and the largest integer of the
    example. If the first output of the module has the shape (batch, classes), the targets are random classes, otherwise
    normally distributed numbers.

    Args:
        torch_module: the module. A copy is called once to find the shape of its output.
        inputs: example arguments of a call: numpy arrays, or nested tuples of numpy arrays.
        steps: number of batches.
        seed: seed of the random numbers.

    Returns:
        The batches, pairs of inputs and targets, and the name of the loss: ``"cross_entropy"`` or ``"mse"``.

    >>> batches, loss = random_batches(torch.nn.Linear(3, 5), [np.ones((4, 3))], steps=2)
    >>> loss, batches[0][0][0].shape, batches[0][1].shape
    ('cross_entropy', (4, 3), (4,))
    """
    rng = np.random.default_rng(seed)
    twin = copy.deepcopy(torch_module).double().eval()
    with torch.no_grad():
        shape = tuple(_first(twin(*jax.tree.map(_example, tuple(inputs)))).shape)
    classes = shape[1] if len(shape) == 2 and shape[1] > 1 else None

    def like(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray):
            return leaf
        if leaf.dtype.kind == "f":
            return rng.normal(size=leaf.shape).astype(np.float32).astype(np.float64)
        if leaf.dtype.kind == "b" or not leaf.size:
            return leaf
        return rng.integers(leaf.min(), leaf.max() + 1, leaf.shape).astype(leaf.dtype)

    batches = []
    for _ in range(steps):
        target = rng.integers(0, classes, shape[:1]) if classes else rng.normal(size=shape)
        batches.append((jax.tree.map(like, tuple(inputs)), target))
    return batches, "cross_entropy" if classes else "mse"


def _example(leaf: Any) -> Any:
    if not isinstance(leaf, np.ndarray):
        return leaf
    tensor = torch.from_numpy(leaf.copy())
    return tensor.double() if tensor.is_floating_point() else tensor


def _first(outputs: Any) -> Any:
    """Return the first floating-point output, to which the named losses apply."""
    for leaf in jax.tree.leaves(outputs):
        floating = (
            leaf.is_floating_point() if isinstance(leaf, torch.Tensor) else jnp.issubdtype(leaf.dtype, jnp.floating)
        )
        if floating:
            return leaf
    raise ValueError(
        f"no output is floating-point: {outputs!r}. Expected a floating-point output for the loss. "
        "Fix: pass a pair of loss functions"
    )


_LOSSES: dict[str, tuple[Loss, Loss]] = {
    "cross_entropy": (
        lambda outputs, targets: torch.nn.functional.cross_entropy(_first(outputs), targets),
        lambda outputs, targets: nn.functional.cross_entropy(_first(outputs), targets),
    ),
    "mse": (
        lambda outputs, targets: torch.nn.functional.mse_loss(_first(outputs), targets),
        lambda outputs, targets: nn.functional.mse_loss(_first(outputs), targets),
    ),
}


def losses(loss: Any) -> tuple[Loss, Loss]:
    """Return the loss functions of torch and of Flax, from a name or from a pair of functions.

    Raises:
        ValueError: if ``loss`` is neither a known name nor a pair of functions.

    >>> losses("hinge")
    Traceback (most recent call last):
    ValueError: loss: 'hinge'. Expected 'cross_entropy' or 'mse', or a pair of functions of outputs and targets, ...
    """
    if isinstance(loss, str) and loss in _LOSSES:
        return _LOSSES[loss]
    if isinstance(loss, (tuple, list)) and len(loss) == 2 and all(map(callable, loss)):
        return loss[0], loss[1]
    raise ValueError(
        f"loss: {loss!r}. Expected {' or '.join(map(repr, _LOSSES))}, or a pair of functions of outputs and targets, "
        "the first for torch, the second for Flax"
    )


def as_batch(given: Any, n: int) -> Batch:
    """Convert batch ``n`` to numpy arrays, with floating-point arrays in float64.

    Raises:
        ValueError: if the batch is not a pair of inputs and targets.

    >>> as_batch((np.ones(2, np.float32), 0), 0).inputs[0].dtype
    dtype('float64')
    """
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise ValueError(
            f"batch {n + 1} is {_described(given)}. Expected a pair of inputs and targets. Fix: ((x, y), targets) for "
            "two inputs x and y"
        )
    inputs = tuple(given[0]) if isinstance(given[0], (tuple, list)) else (given[0],)
    return jax.tree.map(_array, Batch(inputs, given[1]))


def _described(given: Any) -> str:
    size = f" of {len(given)}" if isinstance(given, (tuple, list)) else ""
    return f"a {type(given).__name__}{size}"


def _array(leaf: Any) -> Any:
    if not isinstance(leaf, (np.ndarray, np.generic, jax.Array, torch.Tensor)):
        return leaf
    array = np.asarray(leaf)
    return array.astype(np.float64) if array.dtype.kind == "f" else array
