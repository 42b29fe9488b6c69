"""Port a torch module to a Flax module: record, translate, mirror, check."""

from collections.abc import Mapping
from typing import Any

from flax import nnx

from flaxnets.port._torch import torch
from flaxnets.port.checking import check_port
from flaxnets.port.errors import PortError
from flaxnets.port.mirroring import Mirror
from flaxnets.port.outcomes import Arguments, Setting
from flaxnets.port.recording import Recorder
from flaxnets.port.untouched import empty_caches
from flaxnets.port.wrappers import unwrapped_module, without_compilation


def from_torch(
    module: torch.nn.Module, example_inputs: Any, kwargs: Mapping[str, Any] | None = None, *, check: bool = True
) -> nnx.Module:
    """Port a torch module to a Flax module with the same parameter names, values and outputs.

    The torch module runs in training and in evaluation mode. Its source is translated with the types and values that
    were recorded in these runs. The torch module is not changed: weights, buffers, hooks, code and random generators
    are restored.

    Args:
        module: The torch module.
        example_inputs: The arguments of a call: a tuple of tensors and other objects, or a single tensor.
        kwargs: Keyword arguments of the call.
        check: Compare outputs and buffers with torch's in float64, for the example and for a random input. Training
            mode is compared only if all random numbers are drawn by layers, whose masks both modules share.

    Returns:
        A module that works with ``nnx.jit``, ``nnx.grad``, ``nnx.split``, torch's state dict and
        :func:`flaxnets.training.fit`.

    Raises:
        PortError: If places of the source cannot be translated (all places are listed), or if the values differ.

    >>> class Scaled(torch.nn.Linear):
    ...     def forward(self, x):
    ...         return super().forward(x).mul_(2).transpose(0, 1)
    >>> port = from_torch(Scaled(3, 2), torch.ones(4, 3))
    >>> port(torch.ones(4, 3).numpy()).shape, list(port.state_dict())
    ((2, 4), ['weight', 'bias'])
    """
    module = unwrapped_module(module)
    inputs = tuple(example_inputs) if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    arguments = Arguments(inputs, dict(kwargs or {}))
    with without_compilation(), empty_caches(module):
        recorder = Recorder()
        recorder.run(module, arguments.args, arguments.kwargs)
        mirror = Mirror(recorder, module)
        port = mirror.module(module)
        refusals = [*recorder.refusals(), *mirror.space.refusals]
        if refusals:
            raise PortError(refusals)
        if check:
            modes = (False,) if mirror.space.has_random_functions() else (True, False)
            settings = [Setting(training=mode, gradients=recorder.has_functions) for mode in modes]
            try:
                check_port(module, port, arguments, settings)
            finally:
                recorder.lasting.empty_memos()
    return port
