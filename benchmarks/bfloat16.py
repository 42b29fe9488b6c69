"""Measure the errors of networks in bfloat16 against float64, and compare them with those of ``torch.autocast``.

``python -m benchmarks.bfloat16 resnet18 lstm_lm`` prints these two networks. Without names, all networks are measured
and ``docs/bfloat16.md`` is written. The networks have the small sizes of the tests, training mode without dropout, and
random parameters. An error is the norm of the difference from float64 relative to the norm of the float64 result, over
all outputs or all gradients. Errors are root mean squares over many random draws, because a rounding error that
switches a ReLU on or off increases the error of a draw tenfold.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from flaxnets import autocast, kernels, named_parameters
from flaxnets.parity import randomize, transfer
from flaxnets.training.step import jit_options

ROOT = Path(__file__).parents[1]
DRAWS = 25
BACKENDS: tuple[kernels.Backend, ...] = ("plain", "onednn")


class Errors(NamedTuple):
    """Relative errors of the outputs and of the gradients."""

    outputs: float
    gradients: float


def networks() -> dict[str, Any]:
    """Return the networks of the tests' table by name."""
    folder = str(ROOT / "parity_tests")
    if folder not in sys.path:
        sys.path.append(folder)
    return {case.name: case for case in importlib.import_module("cases").NETWORKS}


def measure(case: Any, backends: Sequence[kernels.Backend] = BACKENDS, draws: int = DRAWS) -> dict[str, Errors]:
    """Return the errors of ``"torch"`` and of each backend, for a network with floating-point outputs."""
    twin, model = case.pair()
    graphdef = _split(model)[0]
    compiled = {backend: _compiled(graphdef, backend) for backend in backends}
    distances: dict[str, list[list[float]]] = {}
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        randomize(twin.float(), rng)
        transfer(twin, model)
        inputs = [x.astype(np.float32) if x.dtype.kind == "f" else x for x in jax.tree.leaves(case.inputs(rng))]
        outputs, _ = _torch(twin, inputs, torch.float64, None)
        cotangents = [rng.normal(size=output.shape).astype(np.float32) for output in outputs]
        exact = _torch(twin, inputs, torch.float64, cotangents)
        results = {"torch": _torch(twin, inputs, torch.float32, cotangents)}
        _, params, rest = _split(model)
        for backend in backends:
            arrays = [jnp.asarray(x) for x in inputs], [jnp.asarray(x) for x in cotangents]
            outputs, gradients = compiled[backend](params, rest, *arrays)
            named = named_parameters(nnx.merge(graphdef, gradients, rest, copy=True))
            results[backend] = [np.asarray(x) for x in outputs], [np.asarray(x[...]) for _, x in named]
        for name, result in results.items():
            errors = [_distance(a, b) for a, b in zip(result, exact, strict=True)]
            distances.setdefault(name, []).append(errors)
    return {name: Errors(*np.sqrt(np.square(each).mean(axis=0)).tolist()) for name, each in distances.items()}


def _distance(arrays: Sequence[np.ndarray], exact: Sequence[np.ndarray]) -> float:
    pairs = [(np.asarray(a, np.float64), b) for a, b in zip(arrays, exact, strict=True)]
    size = sum(np.square(b).sum() for _, b in pairs)
    return float(np.sqrt(sum(np.square(a - b).sum() for a, b in pairs) / size)) if size else 0.0


def _torch(
    module: torch.nn.Module, inputs: Sequence[np.ndarray], dtype: torch.dtype, cotangents: Sequence[np.ndarray] | None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return outputs and gradients: float64 without autocast, float32 within autocast.

    Without cotangents, the list of gradients is empty.
    """
    module = module.to(dtype).train()
    for layer in module.modules():
        if isinstance(layer, torch.nn.modules.dropout._DropoutNd):
            layer.eval()
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    tensors = [torch.from_numpy(x).to(dtype) if x.dtype.kind == "f" else torch.from_numpy(x) for x in inputs]
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
        outputs = [x.to(dtype) for x in jax.tree.leaves(module(*tensors))]
    parameters = list(module.parameters())
    gradients = []
    if cotangents is not None and parameters:
        output_gradients = [torch.from_numpy(x).to(dtype) for x in cotangents]
        parameter_gradients = torch.autograd.grad(outputs, parameters, output_gradients, allow_unused=True)
        gradients = [
            torch.zeros_like(p) if g is None else g for g, p in zip(parameter_gradients, parameters, strict=True)
        ]
    with torch.no_grad():
        for name, buffer in module.named_buffers():  # undo the update of batch statistics
            buffer.copy_(buffers[name])
    return [x.detach().numpy() for x in outputs], [x.numpy() for x in gradients]


def _split(model: nnx.Module) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
    """Turn dropout off, and split the model into graph definition, parameters and other state."""
    model.train()
    for _, module in nnx.iter_modules(model):
        if "Dropout" in type(module).__name__:
            module.eval()
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    return graphdef, params, rest


def _compiled(graphdef: nnx.GraphDef, backend: kernels.Backend) -> Callable[..., Any]:
    """Compile a function of parameters, other state, inputs and cotangents.

    The function returns outputs and gradients, computed within autocast.
    """

    def both(params: nnx.State, rest: nnx.State, inputs: list[jax.Array], cotangents: list[jax.Array]) -> Any:
        def forward(params: nnx.State) -> list[jax.Array]:
            with kernels.use(backend), autocast(jnp.bfloat16):
                outputs = nnx.merge(graphdef, params, rest, copy=True)(*inputs)
            return [x.astype(jnp.float32) for x in jax.tree.leaves(outputs)]

        outputs, back = jax.vjp(forward, params)
        return outputs, back(cotangents)[0]

    return jax.jit(both, **({} if backend == "plain" else jit_options()))


def write_table(results: dict[str, dict[str, Errors]]) -> None:
    """Write ``docs/bfloat16.md``."""
    lines = [
        "# Accuracy of bfloat16",
        "",
        'This page compares the errors of `--precision bfloat16` and `torch.autocast("cpu", torch.bfloat16)` against',
        "float64. An error is the norm of the difference relative to the norm of the float64 result, over all",
        "outputs or over all gradients. The columns *torch* are PyTorch's errors. *plain* (default XLA) and *engine*",
        "(the backend of `flaxnets.training`) are ratios to PyTorch's error.",
        "",
        "Networks have the small sizes of the tests, training mode without dropout, and random parameters. Errors are",
        f"root mean squares of {DRAWS} draws. Networks without any error are omitted.",
        "",
        "Made by `python -m benchmarks.bfloat16`.",
        "",
        "| network | torch, outputs | plain | engine | torch, gradients | plain | engine |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, errors in sorted(results.items()):
        cells = []
        for theirs, *ours in zip(errors["torch"], *(errors[backend] for backend in BACKENDS), strict=True):
            cells += [f"{theirs:.2e}", *(f"{each / theirs:.2f}" if theirs else f"{each:.2e}" for each in ours)]
        if any(any(each) for each in errors.values()):
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
    (ROOT / "docs" / "bfloat16.md").write_text("\n".join(lines) + "\n")


def main(names: Sequence[str]) -> None:
    """Measure the named networks. Without names, measure all networks and write the table."""
    cases = networks()
    results = {}
    for name in names or cases:
        results[name] = measure(cases[name])
        print(name, *(f"{each} {e.outputs:.2e} {e.gradients:.2e}" for each, e in results[name].items()), flush=True)
    if not names:
        write_table(results)


if __name__ == "__main__":
    main(sys.argv[1:])
