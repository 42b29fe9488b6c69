"""From the builder of a torch model to source: record, write, prove."""

import functools
import types
from collections.abc import Callable, Mapping
from typing import Any

from flaxnets.port._torch import torch
from flaxnets.port.errors import PortError
from flaxnets.port.outcomes import Arguments, Setting
from flaxnets.port.source.building import SourceRecorder, same_random_state
from flaxnets.port.source.proving import prove
from flaxnets.port.source.writing import Writer
from flaxnets.port.untouched import empty_caches


def to_source(
    builder: Callable[[], torch.nn.Module],
    example_inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    *,
    state_dict: Mapping[str, torch.Tensor] | None = None,
    check: bool = True,
) -> str:
    """Write the source of a Flax model for a torch model: classes, functions, comments and all.

    The builder runs, the model is called in training and in evaluation mode, and the source of all that ran is
    translated. The file has ``build(*, rngs)``, which makes the same model with parameters drawn from the same
    distributions, and imports no torch. Before it is returned the source is executed, and the model that it builds is
    compared with torch's.

    Args:
        builder: a class, a function, or a ``functools.partial`` of one, which is called without arguments.
        example_inputs: the arguments of a call of the model, a tuple of tensors and other objects; a single tensor is
            one argument.
        kwargs: keyword arguments of the call.
        state_dict: weights for the comparison; those that the builder draws if not given.
        check: whether the source is executed and compared: initial values, outputs and buffers in float64.

    Raises:
        TypeError: for another builder.
        PortError: with all places of the source that cannot be translated; or if the numbers differ.

    >>> source = to_source(torch.nn.Identity, torch.ones(2))
    >>> "def build" in source
    True
    """
    target = builder
    while isinstance(target, functools.partial):
        target = target.func
    if not isinstance(target, (type, types.FunctionType)):
        raise TypeError(f"expected a class, a function or a partial, got {builder!r}")
    inputs = tuple(example_inputs) if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    arguments = Arguments(inputs, dict(kwargs or {}))
    recorder = SourceRecorder()
    model = recorder.build(builder)
    with empty_caches(model):
        recorder.run(model, arguments.args, arguments.kwargs)
        if refusals := recorder.refusals():
            raise PortError(refusals)
        writer = Writer(recorder, model, builder)
        text = writer.write()
        if check:
            with same_random_state():
                reference = builder()
            if state_dict is not None:
                reference.load_state_dict(state_dict)
            modes = (False,) if writer.definitions.has_random_functions() else (True, False)
            settings = [Setting(training=mode, gradients=recorder.has_functions) for mode in modes]
            try:
                prove(text, reference, builder, arguments, settings)
            finally:
                recorder.lasting.empty_memos()
    return text
