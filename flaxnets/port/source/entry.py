"""Write the source for the builder of a torch model: record, write, check."""

import functools
import types
from collections.abc import Callable, Mapping
from typing import Any

from flaxnets.port._torch import torch
from flaxnets.port.errors import PortError
from flaxnets.port.outcomes import Arguments, Setting
from flaxnets.port.source.building import SourceRecorder, same_random_state
from flaxnets.port.source.proving import prove
from flaxnets.port.source.writing import Writer, is_class_method
from flaxnets.port.untouched import empty_caches


def to_source(
    builder: Callable[[], torch.nn.Module],
    example_inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    *,
    state_dict: Mapping[str, torch.Tensor] | None = None,
    check: bool = True,
) -> str:
    """Write the source of a Flax model for a torch model, with its classes, functions and comments.

    The builder runs, and the model is called in training and in evaluation mode. The source of all functions that ran
    is translated. The file defines ``build(*, rngs)``, which builds the same model with parameters from the same
    distributions, and does not import torch. Before the source is returned, it is executed, and its model is compared
    with torch's.

    Args:
        builder: A class, a function, a class method, or a ``functools.partial`` of one. It is called without
            arguments.
        example_inputs: The arguments of a call of the model: a tuple of tensors and other objects, or a single tensor.
        kwargs: Keyword arguments of the call.
        state_dict: Weights for the comparison. Default: the weights that the builder draws.
        check: Execute the source, and compare initial values, outputs and buffers in float64.

    Returns:
        The text of the file.

    Raises:
        TypeError: If the builder is another object.
        PortError: If places of the source cannot be translated (all places are listed), or if the values differ.

    >>> source = to_source(torch.nn.Identity, torch.ones(2))
    >>> "def build" in source
    True
    """
    target = builder
    while isinstance(target, functools.partial):
        target = target.func
    if not isinstance(target, (type, types.FunctionType)) and not is_class_method(target):
        raise TypeError(f"expected a class, a function, a class method or a partial, got {builder!r}")
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
