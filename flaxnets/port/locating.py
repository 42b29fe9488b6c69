"""Find the first module of a port whose values differ from torch's."""

import contextlib
import dataclasses
from collections.abc import Callable

import numpy as np
from flax import nnx

from flaxnets import state
from flaxnets.parity.masks import shared_masks
from flaxnets.port._torch import torch
from flaxnets.port.outcomes import Arguments, FlaxRunner, Outcome, Setting, run_torch

FindFault = Callable[[Outcome, Outcome], str | None]


@dataclasses.dataclass
class _Call:
    """A call of a submodule, and the calls inside it."""

    name: str
    arguments: Arguments
    inner: list["_Call"] = dataclasses.field(default_factory=list)


def locate(
    module: torch.nn.Module, candidate: nnx.Module, example: Arguments, setting: Setting, find_fault: FindFault
) -> str:
    """Call submodules with PyTorch's inputs, and descend into the first submodule that differs.

    Args:
        module: The torch module.
        candidate: Its port, in the same precision.
        example: The arguments for which the two differ.
        setting: How the two modules run.
        find_fault: Returns how two outcomes differ; None if they are equal.

    Returns:
        A sentence that names the innermost module that differs first. Empty if every module alone agrees.
    """
    twins = dict(state.named_modules(candidate, remove_duplicate=False))

    def compare(call: _Call) -> str | None:
        child, twin = module.get_submodule(call.name), twins[call.name]
        with shared_masks(child, twin):
            expected, cotangents = run_torch(child, call.arguments, setting, np.random.default_rng(0))
        eager = dataclasses.replace(setting, jit=False)
        return find_fault(expected, FlaxRunner(twin, call.arguments, eager)(call.arguments, cotangents))

    def search(calls: list[_Call]) -> str:
        for call in calls:
            fault = None
            # Some modules run only inside the whole model, which prepares their state.
            with contextlib.suppress(Exception):
                fault = compare(call)
                if fault is None:
                    continue
            if inner := search(call.inner):
                return inner
            if fault:
                kind = type(module.get_submodule(call.name)).__name__
                title = f"{call.name} ({kind})" if call.name else f"the outermost ({kind})"
                return f" The first module that differs is {title}: {fault}."
        return ""

    return search(_record(module, candidate, example, setting))


def _record(module: torch.nn.Module, candidate: nnx.Module, example: Arguments, setting: Setting) -> list[_Call]:
    """Run the torch module, and return the outermost calls of submodules."""
    outermost = _Call("", example)
    running = [outermost]
    handles = []
    for name, child in module.named_modules():

        def begins(_: object, args: tuple, kwargs: dict, name: str = name) -> None:
            call = _Call(name, Arguments(args, kwargs).mapped(lambda tensor: tensor.detach().clone()))
            running[-1].inner.append(call)
            running.append(call)

        def ends(_: object, args: tuple, output: object) -> None:
            running.pop()

        handles += [child.register_forward_pre_hook(begins, with_kwargs=True), child.register_forward_hook(ends)]
    try:
        with shared_masks(module, candidate):
            run_torch(module, example, setting, np.random.default_rng(0))
    finally:
        for handle in handles:
            handle.remove()
    return outermost.inner
