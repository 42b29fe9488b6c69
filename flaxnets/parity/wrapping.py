"""Convert models of Flax Linen, Equinox and other callable pytrees to NNX modules."""

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

# The largest number of combinations of axis orders to try.
_LIMIT = 24


def as_nnx(module: Any, torch_module: torch.nn.Module, *inputs: Any, seed: int = 0) -> nnx.Module:
    """Convert a model of Flax NNX, Flax Linen or Equinox to an NNX module, for :func:`flaxnets.parity.check`.

    A Linen module is wrapped in ``nnx.bridge.ToNNX`` and initialised. A callable pytree becomes a
    :class:`flaxnets.parity.matching.functions.FunctionModule`. An Equinox model is called on each example of a batch.

    Args:
        module: the model.
        torch_module: the reference. A Linen module is initialised in the axis order in which it has as many weights as
            the reference.
        *inputs: arguments of a call, as numpy arrays in torch's axis order.
        seed: seed of a Linen module's weights.

    Raises:
        TypeError: if ``module`` is not a model of these libraries.
        ValueError: if a Linen module runs on the inputs in no axis order, or if a layer overwrites its weights when it
            is called.

    >>> torch_module = torch.nn.Conv2d(3, 4, 1)
    >>> flax_module = as_nnx(linen.Conv(4, (1, 1)), torch_module, np.ones((2, 3, 8, 9)))
    >>> flax_module.kernel.shape
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
        f"{type(module).__name__} is not a JAX model. Expected a flax.nnx.Module, a flax.linen.Module or a callable "
        "pytree, such as an Equinox module. Fix: wrap a function of weights and inputs in "
        "flaxnets.parity.FunctionModule"
    )


def _require_lasting_weights(module: nnx.Module) -> None:
    for name, child in named_modules(module).items():
        if isinstance(child, (nnx.WeightNorm, nnx.SpectralNorm)):
            kind = type(child).__name__
            raise ValueError(
                f"{name or 'the Flax module'} is an nnx.{kind}, which overwrites the weights of its layer when it is "
                "called. Expected layers that do not change their weights. Fix: check the models without the "
                "reparametrization: torch.nn.utils.parametrize.remove_parametrizations in PyTorch, and the layer "
                f"inside nnx.{kind} in Flax"
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
        except Exception as error:  # Another axis order may fit.
            first_error = first_error or error
    if not running:
        shapes = ", ".join(str(np.shape(each)) for each in inputs)
        raise ValueError(
            f"{type(module).__name__} cannot be initialised on inputs of the shapes {shapes} in any axis order: "
            f"{type(first_error).__name__}: {' '.join(str(first_error).split())}"
        ) from first_error
    _, arrays = min(running, key=lambda each: each[0])
    wrapped = nnx.bridge.ToNNX(module, rngs=nnx.Rngs(seed))
    wrapped.lazy_init(*arrays)
    return wrapped


def _orders(ndim: int) -> list[Order]:
    """Return axis orders, channels last first: Linen infers the number of channels and accepts any axis order."""
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
