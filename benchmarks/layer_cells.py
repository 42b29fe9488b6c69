"""Prepare and time cells of ``benchmarks.layers`` in this process. Requests are read from standard input.

A request is one line, a JSON list: ``["prepare", row, form, direction]`` or ``["time", row, form, direction, seconds,
statistic]``. Each answer is one line of JSON. No process imports both frameworks.
"""

import argparse
import functools
import inspect
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.layer_rows import ROWS, Array, Row
from benchmarks.worker import limit_threads

Call = Callable[[], Any]


# The framework of each variant. Each framework has its own process.
FORMS = {"torch": "torch", "torch_channels_last": "torch", "plain": "jax", "engine": "jax"}
DIRECTIONS = ("forward", "both")
STATISTICS: dict[str, Callable[[list[float]], float]] = {"median": statistics.median, "minimum": min}


def is_training(row: Row, direction: str) -> bool:
    """Return whether a layer is in training mode: for gradients, and for dropout (the identity in evaluation mode)."""
    return direction == "both" or "Dropout" in row.name


def prepare(row: Row, form: str, direction: str) -> Call | None:
    """Return a function that computes a cell and waits for the result. None if the cell does not exist."""
    return {"torch": _torch, "jax": _jax}[FORMS[form]](row, form, direction)


def _make(row: Row) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [array.make(rng) for array in row.arrays()]


def _build(row: Row, construct: Callable[..., Any]) -> Any:
    """Build the layer of a row with ``construct(name, args, kwargs)``. Arguments that are rows are built first."""
    args = [_build(arg, construct) if isinstance(arg, Row) else arg for arg in row.args]
    return construct(row.name, args, row.kwargs)


def _has_gradient(array: Array, value: np.ndarray) -> bool:
    return value.dtype == np.float32 and not array.is_constant


def _torch(row: Row, form: str, direction: str) -> Call | None:
    import torch

    torch.manual_seed(0)
    formats = {4: torch.channels_last, 5: torch.channels_last_3d} if form == "torch_channels_last" else {}
    values = _make(row)
    if formats and not any(value.ndim in formats for value in values):
        return None

    def arrange(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.contiguous(memory_format=formats.get(tensor.ndim, torch.contiguous_format))

    inputs = [
        arrange(torch.from_numpy(value)).requires_grad_(_has_gradient(array, value))
        for array, value in zip(row.arrays(), values, strict=True)
    ]
    differentiated = [tensor for tensor in inputs if tensor.requires_grad]
    if row.is_function:
        function = functools.partial(getattr(torch.nn.functional, row.name), **row.kwargs)
    else:
        module = _build(row, lambda name, args, kwargs: getattr(torch.nn, name)(*args, **kwargs))
        module.train(is_training(row, direction))
        for parameter in module.parameters():
            parameter.data = arrange(parameter.data)
        differentiated += module.parameters()
        function = functools.partial(module, **row.call)

    def forward() -> None:
        with torch.inference_mode():
            function(*inputs)

    if direction == "forward":
        return forward
    outputs = [each for each in _flat(function(*inputs)) if each.requires_grad] if differentiated else []
    cotangents = [torch.randn_like(output) for output in outputs]

    def both() -> None:
        outputs = [each for each in _flat(function(*inputs)) if each.requires_grad]
        # Not every output depends on every parameter: attention weights do not depend on the output projection.
        torch.autograd.grad(outputs, differentiated, cotangents, allow_unused=True)

    return both if outputs else None


def _flat(outputs: Any) -> list[Any]:
    if isinstance(outputs, (tuple, list)):
        return [leaf for output in outputs for leaf in _flat(output)]
    return [] if outputs is None else [outputs]


def _jax(row: Row, form: str, direction: str) -> Call | None:
    import jax
    import jax.numpy as jnp

    from flaxnets import kernels

    arrays_of_row = _make(row)
    values = [jnp.asarray(value, jnp.int32 if value.dtype == np.int64 else None) for value in arrays_of_row]
    is_differentiated = [_has_gradient(array, value) for array, value in zip(row.arrays(), arrays_of_row, strict=True)]
    differentiated = [value for value, has_gradient in zip(values, is_differentiated, strict=True) if has_gradient]
    constant = [value for value, has_gradient in zip(values, is_differentiated, strict=True) if not has_gradient]
    apply, params, state = _module(row, direction)

    def forward(params: Any, differentiated: list[Any], constant: list[Any], state: Any) -> tuple[Any, Any]:
        sources = {True: iter(differentiated), False: iter(constant)}
        return apply(params, state, [next(sources[has_gradient]) for has_gradient in is_differentiated])

    def both(cotangents: list[Any], params: Any, differentiated: list[Any], constant: list[Any], state: Any) -> Any:
        def floats(params: Any, differentiated: list[Any]) -> tuple[list[Any], Any]:
            outputs, after = forward(params, differentiated, constant, state)
            return [each for each in jax.tree.leaves(outputs) if each.dtype == jnp.float32], (outputs, after)

        _, back, results = jax.vjp(floats, params, differentiated, has_aux=True)
        return results, back(cotangents)

    backend = "plain" if form == "plain" else kernels.choose()
    with kernels.use(backend):
        function, arguments = forward, (params, differentiated, constant, state)
        if direction == "both":
            outputs = [each for each in jax.tree.leaves(jax.eval_shape(forward, *arguments)[0])]
            shapes = [each.shape for each in outputs if each.dtype == jnp.float32]
            if not shapes or not jax.tree.leaves((params, differentiated)):
                return None
            cotangents = [jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)]
            function, arguments = both, (cotangents, *arguments)
        compiled, arrays = (_compile if backend == "plain" else _compile_physical)(function, arguments)
    return lambda: jax.block_until_ready(compiled(*arrays))


def _module(row: Row, direction: str) -> tuple[Callable[..., Any], Any, Any]:
    """Return ``(apply, params, state)``, where ``apply(params, state, inputs)`` returns outputs and the new state."""
    import jax
    from flax import nnx

    from flaxnets import nn

    if row.is_function:
        function = getattr(nn.functional, row.name)
        state = {"key": jax.random.key(0)} if row.name == "gumbel_softmax" else {}
        return lambda params, state, inputs: (function(*inputs, **row.kwargs, **state), state), (), state

    def construct(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        layer_class = getattr(nn, name)
        rngs = {"rngs": nnx.Rngs(0)} if "rngs" in inspect.signature(layer_class.__init__).parameters else {}
        return layer_class(*args, **kwargs, **rngs)

    module = _build(row, construct)
    module.train() if is_training(row, direction) else module.eval()
    graphdef, params, state = nnx.split(module, nnx.Param, ...)

    def apply(params: Any, state: Any, inputs: list[Any]) -> Any:
        merged = nnx.merge(graphdef, params, state, copy=True)
        outputs = merged(*inputs, **row.call)
        return outputs, nnx.state(merged, nnx.Not(nnx.Param))

    return apply, params, state


def _compile(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Callable[..., Any], list[Any]]:
    """Compile a function with plain ``jax.jit``, and return it with its flat arguments."""
    import jax

    leaves, structure = jax.tree.flatten(arguments)
    compiled = jax.jit(lambda *leaves: jax.tree.leaves(function(*structure.unflatten(leaves)))).lower(*leaves).compile()
    return compiled, leaves


def _compile_physical(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Callable[..., Any], list[Any]]:
    """Compile a function as the engine does: arguments have the layouts that the kernels prefer, results any layout."""
    import jax

    from flaxnets.training.layout._interpreter import arrays_of, evaluate, values_of
    from flaxnets.training.layout._values import Order, Value
    from flaxnets.training.step import jit_options

    leaves, structure = jax.tree.flatten(arguments)
    closed = jax.make_jaxpr(lambda *leaves: jax.tree.leaves(function(*structure.unflatten(leaves))))(*leaves)
    orders: list[Order] = []

    def run(values: list[Any]) -> list[Any]:
        return [value.native for value in evaluate(closed.jaxpr, closed.consts, values)]

    def record(*leaves: Any) -> None:
        values = [Value(leaf) for leaf in leaves]
        run(values)
        orders[:] = [value.requested for value in values]

    jax.eval_shape(record, *leaves)
    physical = jax.jit(lambda *leaves: arrays_of([Value(leaf) for leaf in leaves], orders))(*leaves)
    compiled = jax.jit(lambda *arrays: run(values_of(arrays, orders)), **jit_options()).lower(*physical).compile()
    return compiled, physical


def measure(call: Call, seconds: float, statistic: str) -> float:
    """Call repeatedly for ``seconds`` (at least once). Return the median or minimum of the seconds per call."""
    times, until = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < until:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return STATISTICS[statistic](times)


def answer(calls: dict[tuple[str, str], Call], command: str, row: str, form: str, direction: str, *rest: Any) -> Any:
    """Answer one request: prepare a cell and store it in ``calls``, or time a cell of ``calls``."""
    if command == "time":
        return {"seconds": measure(calls[form, direction], *rest)}
    started = time.perf_counter()
    try:
        call = prepare(ROWS[row], form, direction)
        if call is None:
            return {"absent": True}
        call()
    except Exception as error:  # any exception: a cell that fails must not end the other cells
        return {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    calls[form, direction] = call
    return {"prepare_seconds": time.perf_counter() - started}


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer the requests on standard input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layer_cells", description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    limit_threads(parser.parse_args(arguments).threads)
    warnings.simplefilter("ignore")  # torch warns about shapes and deprecations
    calls: dict[tuple[str, str], Call] = {}
    last = None
    for line in sys.stdin:
        request = json.loads(line)
        if request[1] != last:
            calls.clear()
            last = request[1]
        print(json.dumps(answer(calls, *request)), flush=True)


if __name__ == "__main__":
    main()
