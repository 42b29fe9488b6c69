"""One dropout mask on both sides: torch's layers use what the Flax layers of the same names are about to draw."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from flax import nnx

from flaxnets import state
from flaxnets.parity._torch import torch

DrawMask = Callable[[tuple[int, ...]], Any]


@contextlib.contextmanager
def shared_masks(torch_module: torch.nn.Module, flax_module: nnx.Module) -> Iterator[None]:
    """Within this context the dropout layers of ``torch_module`` and of its copies use the masks of ``flax_module``."""
    twins = dict(state.named_modules(nnx.clone(flax_module), remove_duplicate=False))
    handles = []
    for name, module in torch_module.named_modules():
        draw_mask = getattr(twins.get(name), "draw_mask", None)
        if draw_mask is None:
            continue
        if isinstance(module, torch.nn.RNNBase):
            if module.dropout > 0:
                handles.append(module.register_forward_hook(_recurrent(draw_mask), with_kwargs=True))
        elif getattr(module, "p", 0):
            handles.append(module.register_forward_hook(_masked(draw_mask)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _drop(input: torch.Tensor, p: float, draw_mask: DrawMask) -> torch.Tensor:
    mask = torch.from_numpy(np.array(draw_mask(tuple(input.shape))))
    return torch.where(mask, input / (1 - p), 0) if p < 1 else torch.zeros_like(input)


def _masked(draw_mask: DrawMask) -> Any:
    def hook(module: Any, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return _drop(args[0], module.p, draw_mask) if module.training else output

    return hook


def _recurrent(draw_mask: DrawMask) -> Any:
    """Torch drops between the layers inside its kernel, so the layers are called one by one, with masks between."""

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
    parameters = {name: getattr(module, own) for name, own in names.items()}
    hx = None
    if states is not None:
        own = [h[layer * directions : (layer + 1) * directions].contiguous() for h in states]
        hx = own[0] if len(own) == 1 else tuple(own)
    output, new = torch.func.functional_call(single, parameters, (x, hx))
    return output, new if isinstance(new, tuple) else (new,)
