"""Execute a written file, and compare its model with the torch model."""

import itertools
import linecache
import os
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxnets import state
from flaxnets.parity.measures import relative_error
from flaxnets.port._torch import torch
from flaxnets.port.checking import check_port
from flaxnets.port.errors import PortError
from flaxnets.port.outcomes import Arguments, Setting, array
from flaxnets.port.source.building import same_random_state
from flaxnets.port.source.initial import computed, traced

_NUMBERS = itertools.count()
INITIAL_GATE = 1e-5  # the largest accepted relative error of initial values, which are computed in float32


def execute(text: str) -> types.ModuleType:
    """Execute the text of a file as a new module."""
    name = f"flaxnets_ported_source_{next(_NUMBERS)}"
    module = types.ModuleType(name)
    path = f"<{name}>"
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    sys.modules[name] = module  # dataclasses look up their module
    try:
        exec(compile(text, path, "exec", dont_inherit=True), vars(module))
    finally:
        del sys.modules[name]
    return module


def check_source(
    path: str | os.PathLike,
    builder: Callable[[], torch.nn.Module],
    example_inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
) -> None:
    """Compare a written file with the torch model: initial values, outputs and buffers, in float64.

    Args:
        path: The file, which defines ``build(*, rngs)``.
        builder: Builds the torch model.
        example_inputs: The arguments of a call: a tuple of tensors and other objects, or a single tensor.
        kwargs: Keyword arguments of the call.

    Raises:
        PortError: If the file does not run, or if anything differs.
    """
    inputs = tuple(example_inputs) if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    text = Path(path).read_text(encoding="utf-8")
    with jax.numpy_rank_promotion("allow"):
        port = execute(text).build(rngs=nnx.Rngs(0))
    # The random masks of layers are shared with torch, but not the random numbers of the model's functions.
    draws = any("rngs" in vars(m) and not _is_layer(m) for _, m in state.named_modules(port))
    settings = [Setting(training=mode) for mode in ((False,) if draws else (True, False))]
    prove(text, builder(), builder, Arguments(inputs, dict(kwargs or {})), settings)


def _is_layer(module: nnx.Module) -> bool:
    return type(module).__module__.startswith("flaxnets.")


def prove(
    text: str,
    reference: torch.nn.Module,
    builder: Callable[[], torch.nn.Module],
    arguments: Arguments,
    settings: Sequence[Setting],
) -> None:
    """Build the model of a written file, and compare it with torch's: initial values, outputs and buffers.

    Args:
        text: The text of the file.
        reference: The torch model whose weights are used for the comparison.
        builder: Builds the torch model again, to distinguish drawn values from computed values.
        arguments: The arguments of a call.
        settings: How the two models run.

    Raises:
        PortError: If the file does not run, or if anything differs.
    """
    try:
        _prove(text, traced, reference, builder, arguments, settings)
    except PortError as error:
        if not isinstance(error.__cause__, jax.errors.JAXTypeError):
            raise
        _prove(text, computed, reference, builder, arguments, settings)


def _prove(text: str, make: Any, reference: Any, builder: Any, arguments: Arguments, settings: Any) -> None:
    try:
        with jax.numpy_rank_promotion("allow"):  # torch's broadcasting
            port, drawn = make(execute(text).build)
    except Exception as error:
        raise PortError(
            message=f"The written source raised an error: {type(error).__name__}: {error}\n\n{text}"
        ) from error
    _compare_initial(port, drawn, builder)
    _copy_values(reference, port)
    check_port(reference, port, arguments, settings)


def _compare_initial(port: nnx.Module, drawn: nnx.Module, builder: Callable[[], torch.nn.Module]) -> None:
    """Compare the initial values that torch computes, and check that the same values are drawn at random."""
    with same_random_state(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = dict(_tensors(builder()))
        torch.manual_seed(2)
        second = dict(_tensors(builder()))
    ported, is_drawn = _variables(port), _variables(drawn)
    for name, tensor in first.items():
        if name not in ported:
            continue  # check_port compares the names
        value = np.asarray(ported[name].get_value())
        expected = np.asarray(array(tensor))
        if value.shape != expected.shape:
            continue
        if value.dtype.kind != expected.dtype.kind:
            raise PortError(message=f"{name} has the dtype {value.dtype}, but {expected.dtype} in torch.")
        is_trained = bool(getattr(ported[name], "requires_grad", False))
        if isinstance(tensor, torch.nn.Parameter) and is_trained != tensor.requires_grad:
            raise PortError(message=f"{name} has requires_grad={is_trained}, but {tensor.requires_grad} in torch.")
        draws, torch_draws = is_drawn[name].get_raw_value(), not torch.equal(tensor, second[name])
        if value.size == 1 and draws:
            continue  # one drawn value may be equal for both seeds, such as the sign of a direction
        if draws != torch_draws:
            which = "in torch, not in the written model" if torch_draws else "in the written model, not in torch"
            raise PortError(message=f"{name} is drawn at random {which}: {_few(value)}. torch has {_few(expected)}.")
        if not draws and not relative_error(expected, value) <= INITIAL_GATE:
            raise PortError(
                message=f"The initial values of {name} differ from torch's: {_few(value)}. torch has {_few(expected)}."
            )


def _variables(port: nnx.Module) -> dict[str, nnx.Variable]:
    return {**dict(state.named_parameters(port)), **dict(state.named_buffers(port))}


def _tensors(model: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _few(values: np.ndarray) -> str:
    return np.array2string(values.reshape(-1)[:4], precision=4) + ("..." if values.size > 4 else "")


def _copy_values(reference: torch.nn.Module, port: nnx.Module) -> None:
    """Copy torch's values to parameters, buffers and float attributes. Attributes must agree up to rounding before."""
    tensors = dict(_tensors(reference))
    for name, variable in _variables(port).items():
        if name in tensors and variable.shape == tensors[name].shape:
            variable.set_value(array(tensors[name]))
    ported = dict(state.named_modules(port))
    for name, module in reference.named_modules():
        for attribute, value in vars(module).items():
            ours = vars(ported[name]).get(attribute) if name in ported else None
            is_array = isinstance(value, torch.Tensor)
            if not (isinstance(ours, jax.Array) if is_array else type(value) is type(ours) is float):
                continue
            expected = np.asarray(array(value) if is_array else value)
            if not relative_error(expected, np.asarray(ours)) <= INITIAL_GATE:
                raise PortError(message=f"The attribute {name}.{attribute} differs from torch's.")
            object.__setattr__(
                ported[name], attribute, jnp.asarray(expected, np.asarray(ours).dtype) if is_array else value
            )
