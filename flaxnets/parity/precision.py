"""Replace functions that always compute in float32 by float64 versions."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from flaxnets.parity._torch import torch


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Return a context in which ``jax.nn.dot_product_attention`` computes in float64 for float64 inputs.

    JAX's function computes the scores and the softmax in float32. ``nnx.MultiHeadAttention`` calls this function.

    >>> with jax.enable_x64(True), full_precision():
    ...     jax.nn.dot_product_attention(*[jnp.ones((1, 2, 1, 3))] * 3).dtype
    dtype('float64')
    """
    with mock.patch.object(jax.nn, "dot_product_attention", _in_float64(jax.nn.dot_product_attention)):
        yield


def _in_float64(original: Any) -> Any:
    @functools.wraps(original)
    def attention(
        query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, *,
        scale: float | None = None, is_causal: bool = False, **others: Any,
    ) -> Any:  # fmt: skip
        arrays = [jnp.asarray(each) for each in (query, key, value)]
        if any(each is not None for each in others.values()) or any(a.dtype != jnp.float64 for a in arrays):
            return original(query, key, value, bias, mask, scale=scale, is_causal=is_causal, **others)
        if arrays[0].ndim == 3:
            batched = [None if each is None else each[None] for each in (bias, mask)]
            return attention(*[a[None] for a in arrays], *batched, scale=scale, is_causal=is_causal)[0]
        q, k, v = arrays
        groups = q.shape[2] // k.shape[2]
        k, v = jnp.repeat(k, groups, axis=2), jnp.repeat(v, groups, axis=2)
        scores = jnp.einsum("btnh,bsnh->bnts", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
        scores = scores if bias is None else scores + bias
        keep = jnp.tril(jnp.ones(scores.shape[-2:], bool)) if is_causal else jnp.ones((), bool)
        keep = keep if mask is None else keep & mask
        weights = jax.nn.softmax(jnp.where(keep, scores, jnp.finfo(jnp.float64).min))
        return jnp.einsum("bnts,bsnh->btnh", weights, v)

    return attention


@contextlib.contextmanager
def exact_constants() -> Iterator[None]:
    """Replace PyTorch's ``hardsigmoid`` and ``celu`` by functions with exact gradients in float64.

    PyTorch rounds the constants of these gradients, 1 / 6 and 1 / alpha, to float32.

    >>> x = torch.zeros((), dtype=torch.float64, requires_grad=True)
    >>> with exact_constants():
    ...     torch.autograd.grad(torch.nn.functional.hardsigmoid(x), x)[0].item() == 1 / 6
    True
    """
    functions: Any = vars(torch._C)["_nn"]
    with (
        mock.patch.multiple(
            functions,
            hardsigmoid=_exact(functions.hardsigmoid, _hardsigmoid),
            hardsigmoid_=_exact(functions.hardsigmoid_, _hardsigmoid),
        ),
        mock.patch.multiple(torch, celu=_exact(torch.celu, _celu), celu_=_exact(torch.celu_, _celu)),
    ):
        yield


def _hardsigmoid(input: torch.Tensor) -> torch.Tensor:
    shifted = (input + 3) / 6
    return torch.where((input > -3) & (input < 3), shifted, shifted.clamp(0, 1).detach())


def _celu(input: torch.Tensor, alpha: float = 1.0) -> torch.Tensor:
    return torch.where(input > 0, input, alpha * torch.expm1(input.clamp(max=0) / alpha))


def _exact(original: Any, function: Any) -> Any:
    @functools.wraps(original)
    def computed(input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if torch.overrides.has_torch_function_unary(input):
            return torch.overrides.handle_torch_function(computed, (input,), input, *args, **kwargs)
        if input.dtype != torch.float64:
            return original(input, *args, **kwargs)
        if original.__name__.endswith("_"):
            return input.copy_(function(input.clone(), *args, **kwargs))
        return function(input, *args, **kwargs)

    return computed
