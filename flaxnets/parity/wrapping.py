"""Models that are no NNX modules, as NNX modules: Flax Linen, and callable pytrees such as Equinox has."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from flaxnets.parity._torch import torch
from flaxnets.parity.layouts import Order, orders
from flaxnets.parity.matching.functions import FunctionModule
from flaxnets.parity.trees import named_modules

# More combinations of axis orders than this are not tried.
_LIMIT = 24


def as_nnx(module: Any, torch_module: torch.nn.Module, *inputs: Any, seed: int = 0) -> nnx.Module:
    """Return a model of Flax NNX, Flax Linen or Equinox as an NNX module, for :func:`flaxnets.parity.check`.

    A Linen module is initialised within ``nnx.bridge.ToNNX``. A callable pytree becomes a
    :class:`flaxnets.parity.matching.functions.FunctionModule`; one of Equinox is called on each example of a batch.

    Args:
        module: the model.
        torch_module: its reference, whose number of weights tells which axis order a Linen module expects.
        *inputs: arguments of a call, as numpy arrays in torch's axis order.
        seed: of a Linen module's weights.

    Raises:
        TypeError: for anything else.
        ValueError: for a Linen module that runs on the inputs in no axis order, and for a layer that overwrites its
            weights when it is called.

    >>> theirs = torch.nn.Conv2d(3, 4, 1)
    >>> ours = as_nnx(linen.Conv(4, (1, 1)), theirs, np.ones((2, 3, 8, 9)))
    >>> ours.kernel.shape
    (1, 1, 3, 4)
    """
    if isinstance(module, nnx.Module):
        _require_lasting_weights(module)
        return module
    if isinstance(module, linen.Module):
        return _from_linen(module, torch_module, inputs, seed)
    if callable(module) and not jax.tree_util.all_leaves([module]):
        return _from_pytree(module)
    raise TypeError(
        f"{type(module).__name__} is no model in JAX. Expected a flax.nnx.Module, a flax.linen.Module or a callable "
        "pytree, as Equinox has them. Fix: wrap a function of weights and inputs in flaxnets.parity.FunctionModule"
    )


def _require_lasting_weights(module: nnx.Module) -> None:
    for name, child in named_modules(module).items():
        if isinstance(child, (nnx.WeightNorm, nnx.SpectralNorm)):
            kind = type(child).__name__
            raise ValueError(
                f"{name or 'the Flax module'} is an nnx.{kind}, which overwrites the weights of its layer when it is "
                "called. Expected layers that keep their weights. Fix: check the models without the reparametrization: "
                "torch.nn.utils.parametrize.remove_parametrizations in PyTorch, and the layer inside of "
                f"nnx.{kind} in Flax"
            )


def _from_linen(module: linen.Module, torch_module: torch.nn.Module, inputs: Sequence[Any], seed: int) -> nnx.Module:
    def size(arrays: Sequence[Any]) -> int:
        shapes = jax.eval_shape(lambda: module.init({"params": key, "dropout": key}, *arrays))
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))

    key = jax.random.key(seed)
    numbers = [*torch_module.parameters(), *(b for b in torch_module.buffers() if b.is_floating_point())]
    expected = sum(each.numel() for each in numbers)
    running, first_error = [], None
    for combination in itertools.islice(itertools.product(*(_orders(np.ndim(each)) for each in inputs)), _LIMIT):
        arrays = [jnp.transpose(jnp.asarray(each), order) for each, order in zip(inputs, combination, strict=True)]
        try:
            running.append((size(arrays) != expected, arrays))
        except Exception as error:  # another axis order may fit
            first_error = first_error or error
    if not running:
        shapes = ", ".join(str(np.shape(each)) for each in inputs)
        raise ValueError(
            f"{type(module).__name__} cannot be initialised on inputs of the shapes {shapes}, in no axis order: "
            f"{type(first_error).__name__}: {' '.join(str(first_error).split())}"
        ) from first_error
    _, arrays = min(running, key=lambda each: each[0])
    wrapped = nnx.bridge.ToNNX(module, rngs=nnx.Rngs(seed))
    wrapped.lazy_init(*arrays)
    return wrapped


def _orders(ndim: int) -> list[Order]:
    """Axis orders, channels last first: Linen takes the number of channels from the input, whatever the order is."""
    same, *others = orders(ndim)
    return [*others[:1], same, *others[1:]] if ndim > 2 else [same, *others]


def _from_pytree(module: Any) -> FunctionModule:
    leaves, structure = jax.tree_util.tree_flatten_with_path(module)
    paths = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    pairs = zip(paths, (leaf for _, leaf in leaves), strict=True)
    state = {path: leaf for path, leaf in pairs if isinstance(leaf, (jax.Array, np.ndarray))}
    is_equinox = any(each.__module__.split(".")[0] == "equinox" for each in type(module).__mro__)

    def function(values: dict[str, Any], *inputs: Any) -> Any:
        filled = [values.get(path, leaf) for path, (_, leaf) in zip(paths, leaves, strict=True)]
        model = jax.tree.unflatten(structure, filled)
        return jax.vmap(model)(*inputs) if is_equinox else model(*inputs)

    return FunctionModule(function, state)
