"""Share dropout masks between modules with different names: the n-th dropout call of a run uses the n-th draw."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from torch.nn import functional as torch_functional
from torch.overrides import TorchFunctionMode

from flaxnets import nn
from flaxnets.parity._torch import torch
from flaxnets.parity.layouts import fitting_orders
from flaxnets.parity.trees import named_modules

# torch's dropout functions, and how many leading axes of the input the mask has. None stands for all axes.
_FUNCTIONS: dict[Any, int | None] = {
    torch_functional.dropout: None,
    torch_functional.dropout1d: 2,
    torch_functional.dropout2d: 2,
    torch_functional.dropout3d: 2,
}


class SharedDraws:
    """Uniform random numbers from which both sides compute their dropout masks, in the order of the dropout calls.

    A layer keeps an element if the element's number is at least the layer's own rate, so that a wrong rate shows as a
    difference. If a Flax mask has the shape of torch's mask in another axis order, the numbers are transposed.
    """

    def __init__(self, seed: int):
        self._seed = seed
        self._shapes: list[tuple[int, ...]] = []

    @contextlib.contextmanager
    def torch_side(self) -> Iterator[None]:
        """Return a context in which torch's dropout uses the draws, beginning with the first draw."""
        with _TorchDropout(self._begin()):
            yield

    def _begin(self) -> Callable[[Sequence[int]], np.ndarray]:
        self._shapes = []

        def draw(shape: Sequence[int]) -> np.ndarray:
            self._shapes.append(tuple(shape))
            return self._numbers(len(self._shapes) - 1, shape)

        return draw

    def _numbers(self, index: int, shape: Sequence[int]) -> np.ndarray:
        return np.random.default_rng((self._seed, index)).random(tuple(shape))

    @contextlib.contextmanager
    def flax_side(self) -> Iterator[None]:
        """Return a context in which Flax's dropout layers use the draws of torch's last run."""
        count = 0

        def draw(shape: Sequence[int]) -> np.ndarray:
            nonlocal count
            index, count = count, count + 1
            torch_shape = self._shapes[index] if index < len(self._shapes) else tuple(shape)
            fitting = fitting_orders(torch_shape, tuple(shape))
            # If several axis orders fit, a Flax model more likely has channels last than torch's order.
            order = fitting[-1] if len(shape) > 3 and len(fitting) > 1 else (fitting or [None])[0]
            if order is None:
                return self._numbers(index, shape)
            return np.transpose(self._numbers(index, torch_shape), order)

        def call(layer: nnx.Dropout, inputs: Any, *, deterministic: bool | None = None, rngs: Any = None) -> Any:
            is_off = layer.deterministic if deterministic is None else deterministic
            if is_off or layer.rate == 0:
                return inputs
            if layer.rate == 1:
                return jnp.zeros_like(inputs)
            axes = [axis % inputs.ndim for axis in layer.broadcast_dims]
            shape = [1 if axis in axes else size for axis, size in enumerate(inputs.shape)]
            keep = jnp.asarray(draw(shape) >= layer.rate)
            return jnp.where(keep, inputs / (1 - layer.rate), jnp.zeros_like(inputs))

        def draw_mask(layer: Any, shape: tuple[int, ...]) -> Any:
            return jnp.asarray(draw(layer._mask_shape(shape)) >= layer.p)

        def bernoulli(key: Any, p: Any = 0.5, shape: Sequence[int] | None = None, *args: Any, **kwargs: Any) -> Any:
            return jnp.asarray(draw(np.shape(p) if shape is None else shape) >= 1 - np.asarray(p))

        with (
            mock.patch.object(nnx.Dropout, "__call__", call),
            mock.patch.object(jax.random, "bernoulli", bernoulli),
            mock.patch.object(nn.Dropout.__mro__[1], "draw_mask", draw_mask),
        ):
            yield


class _TorchDropout(TorchFunctionMode):
    def __init__(self, draw: Callable[[Sequence[int]], np.ndarray]):
        super().__init__()
        self._draw = draw

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.Tensor.bernoulli_, torch.bernoulli, torch.Tensor.bernoulli):
            return self._bernoulli(func, *args, **kwargs)
        if func not in _FUNCTIONS and func is not torch.dropout:
            return func(*args, **kwargs)
        names = ("input", "p", "training", "inplace") if func in _FUNCTIONS else ("input", "p", "train")
        arguments = dict(zip(names, args, strict=False)) | kwargs
        x, p = arguments["input"], arguments.get("p", 0.5)
        if not arguments.get("training", arguments.get("train", True)) or p == 0:
            return x
        leading = _FUNCTIONS.get(func)
        shape = x.shape if leading is None else (*x.shape[:leading], *[1] * (x.ndim - leading))
        keep = torch.from_numpy(self._draw(shape) >= p)
        scaled = x * (keep.to(x.dtype) / (1 - p)) if p < 1 else torch.zeros_like(x)
        return x.copy_(scaled) if arguments.get("inplace") else scaled

    def _bernoulli(self, func: Any, input: torch.Tensor, p: Any = None, **options: Any) -> torch.Tensor:
        """Return the zeros and ones that ``jax.random.bernoulli`` returns for the same draw, as in stochastic depth."""
        is_in_place = func is torch.Tensor.bernoulli_
        probability = torch.as_tensor((0.5 if is_in_place else input) if p is None else p)
        ones = (torch.from_numpy(self._draw(input.shape)) >= 1 - probability).to(input.dtype)
        return input.copy_(ones) if is_in_place else ones


def switch_off_inner_dropout(torch_module: torch.nn.Module, flax_module: nnx.Module) -> tuple[str, ...]:
    """Set the dropout rates of recurrent and attention layers to zero on both sides; return the changed attributes.

    Torch draws these masks inside its kernels, where the masks cannot be shared.
    """
    changed = []
    for name, module in torch_module.named_modules():
        if isinstance(module, (torch.nn.RNNBase, torch.nn.MultiheadAttention)) and module.dropout > 0:
            changed.append(f"{name}.dropout={module.dropout:g}")
            module.dropout = 0.0
    for name, layer in named_modules(flax_module).items():
        attribute = "dropout_rate" if isinstance(layer, nnx.MultiHeadAttention) else "dropout"
        is_inner = isinstance(layer, (nnx.MultiHeadAttention, nn.MultiheadAttention, nn.RNN, nn.LSTM, nn.GRU))
        if is_inner and not math.isclose(rate := getattr(layer, attribute), 0):
            changed.append(f"{name}.{attribute}={rate:g}")
            setattr(layer, attribute, 0.0)
    return tuple(changed)
