"""Share dropout masks between modules with equal names: torch's layers use the masks that the Flax layers will draw."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import numpy as np
from flax import nnx

from flaxnets import state
from flaxnets.parity._torch import torch

DrawMask = Callable[[tuple[int, ...]], Any]


@contextlib.contextmanager
def shared_masks(torch_module: torch.nn.Module, flax_module: nnx.Module) -> Iterator[None]:
    """Return a context in which ``torch_module`` and its copies use the dropout masks of ``flax_module``."""
    twins = dict(state.named_modules(nnx.clone(flax_module), remove_duplicate=False))
    handles: list[Any] = []
    for name, module in torch_module.named_modules():
        draw_samples = getattr(twins.get(name), "draw_samples", None)
        draw_mask = getattr(twins.get(name), "draw_mask", None)
        handles += _sample_hooks(module, draw_samples) if draw_samples is not None else []
        handles += _mask_hooks(module, draw_mask) if draw_mask is not None else []
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _sample_hooks(module: Any, draw_samples: Callable[..., Any]) -> list[Any]:
    if isinstance(module, torch.nn.RReLU):
        return _attach(module, _sloped(draw_samples))
    return [module.register_forward_hook(_sampled(draw_samples))] if module._random_samples is None else []


def _mask_hooks(module: Any, draw_mask: DrawMask) -> list[Any]:
    if isinstance(module, torch.nn.RNNBase):
        hook, is_random = _recurrent(draw_mask), module.dropout > 0
        return [module.register_forward_hook(hook, with_kwargs=True)] if is_random else []
    if isinstance(module, torch.nn.MultiheadAttention):
        hook, is_random = _attention(draw_mask), 0 < module.dropout < 1
        return [module.register_forward_hook(hook, with_kwargs=True)] if is_random else []
    is_alpha = isinstance(module, (torch.nn.AlphaDropout, torch.nn.FeatureAlphaDropout))
    hook, is_random = (_alpha if is_alpha else _masked)(draw_mask), 0 < getattr(module, "p", 0) < 1
    return _attach(module, hook) if is_random else []


def _attach(module: torch.nn.Module, hook: Callable[..., torch.Tensor]) -> list[Any]:
    """Register a forward hook. An in-place layer overwrites its input, so that its hook gets a copy of the input."""
    if not getattr(module, "inplace", False):
        return [module.register_forward_hook(hook)]
    inputs: list[torch.Tensor] = []

    def keep(module: Any, args: tuple[torch.Tensor, ...]) -> None:
        inputs.append(args[0].clone())

    def overwrite(module: Any, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return output.copy_(hook(module, (inputs.pop(),), output))

    return [module.register_forward_pre_hook(keep), module.register_forward_hook(overwrite)]


def _drop(input: torch.Tensor, p: float, draw_mask: DrawMask) -> torch.Tensor:
    mask = torch.from_numpy(np.array(draw_mask(tuple(input.shape))))
    return input * (mask.to(input.dtype) / (1 - p)) if p < 1 else torch.zeros_like(input)


def _masked(draw_mask: DrawMask) -> Any:
    def hook(module: Any, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return _drop(args[0], module.p, draw_mask) if module.training else output

    return hook


def _alpha(draw_mask: DrawMask) -> Any:
    def hook(module: Any, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        if not module.training:
            return output
        lowest = -1.7580993408473766  # The limit of selu(x) for x to minus infinity.
        mask = torch.from_numpy(np.array(draw_mask(tuple(args[0].shape))))
        dropped = torch.where(mask, args[0], lowest)
        # This keeps a mean of 0 and a variance of 1.
        mean, variance = module.p * lowest, (1 - module.p) * (1 + module.p * lowest**2)
        return (dropped - mean) / variance**0.5

    return hook


def _sloped(draw_samples: Callable[[tuple[int, ...], str], Any]) -> Any:
    def hook(module: Any, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        if not module.training:
            return output
        slopes = torch.from_numpy(np.array(draw_samples(tuple(args[0].shape), str(args[0].dtype).split(".")[-1])))
        return torch.where(args[0] > 0, args[0], args[0] * slopes)

    return hook


def _attention(draw_mask: DrawMask) -> Any:
    """Run the attention layer again with a given dropout mask: torch's own functions accept no such mask."""

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if not module.training:
            return output

        def dropout(weights: torch.Tensor, p: float) -> torch.Tensor:
            return _drop(weights.unflatten(0, (-1, module.num_heads)), p, draw_mask).flatten(0, 1)

        def attention(q: Any, k: Any, v: Any, mask: Any, p: float, is_causal: bool) -> torch.Tensor:
            keep = torch.from_numpy(np.array(draw_mask((*q.shape[:-1], k.shape[-2]))))
            return torch.ops.aten._scaled_dot_product_attention_math(q, k, v, mask, p, is_causal, keep)[0]

        replaced = {"dropout": dropout, "scaled_dot_product_attention": attention}
        with mock.patch.multiple(torch.nn.functional, **replaced):
            return module.forward(*args, **kwargs)

    return hook


def _sampled(draw_samples: Callable[[Any], Any]) -> Any:
    """Run fractional max pooling again with the window positions that the Flax layer draws."""

    def hook(module: Any, args: tuple[torch.Tensor, ...], output: Any) -> Any:
        pool = {2: torch.nn.functional.fractional_max_pool2d, 3: torch.nn.functional.fractional_max_pool3d}
        samples = torch.from_numpy(np.array(draw_samples(jax.numpy.asarray(args[0].detach().numpy()))))
        sizes = module.kernel_size, module.output_size, module.output_ratio
        return pool[len(module.kernel_size)](args[0], *sizes, module.return_indices, _random_samples=samples)

    return hook


def _recurrent(draw_mask: DrawMask) -> Any:
    """Run the recurrent layers one by one with shared masks between them: torch draws its masks inside its kernel."""

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if not module.training:
            return output
        x: Any = args[0] if args else kwargs["input"]
        hx: Any = args[1] if len(args) > 1 else kwargs.get("hx")
        batched, is_pair = x.ndim == 3, isinstance(hx, tuple)
        x = x if batched else x[:, None]
        x = x.transpose(0, 1) if module.batch_first and batched else x
        states = None if hx is None else [h if batched else h[:, None] for h in (hx if is_pair else (hx,))]
        last: list[tuple[torch.Tensor, ...]] = []
        for layer in range(module.num_layers):
            if layer > 0:
                x = _drop(x, module.dropout, draw_mask)
            x, new = _one_layer(module, layer, x, states)
            last.append(new)
        x = x.transpose(0, 1) if module.batch_first and batched else x
        joined = [torch.cat(parts) for parts in zip(*last, strict=True)]
        if not batched:
            x, joined = x[:, 0], [h[:, 0] for h in joined]
        return x, joined[0] if len(joined) == 1 else tuple(joined)

    return hook


def _one_layer(
    module: Any, layer: int, x: torch.Tensor, states: list[torch.Tensor] | None
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    directions = 2 if module.bidirectional else 1
    options = {"bias": module.bias, "bidirectional": module.bidirectional}
    if module.proj_size:
        options["proj_size"] = module.proj_size
    if isinstance(module, torch.nn.RNN):
        options["nonlinearity"] = module.nonlinearity
    with torch.device("meta"):
        single = type(module)(x.shape[-1], module.hidden_size, 1, **options)
    names = {name: name.replace("_l0", f"_l{layer}") for name, _ in single.named_parameters()}
    parameters = {name: getattr(module, layer_name) for name, layer_name in names.items()}
    hx = None
    if states is not None:
        layer_states = [h[layer * directions : (layer + 1) * directions].contiguous() for h in states]
        hx = layer_states[0] if len(layer_states) == 1 else tuple(layer_states)
    output, new = torch.func.functional_call(single, parameters, (x, hx))
    return output, new if isinstance(new, tuple) else (new,)
