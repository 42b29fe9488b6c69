"""Hold a port against its torch module: outputs and buffers, in both modes, on the example and on random inputs."""

import contextlib
import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from torch.utils._python_dispatch import TorchDispatchMode

from flaxnets import parity, state, xla
from flaxnets.parity.check import relative_error
from flaxnets.parity.masks import shared_masks
from flaxnets.parity.state import compare_names, transfer
from flaxnets.port._torch import torch
from flaxnets.port.errors import PortError
from flaxnets.port.untouched import copied, untouched

GATE = 1e-12
SINGLE_GATE = 1e-5  # of a model that computes parts in float32, whatever its parameters are


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The arguments of one call, with torch tensors."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]


def check_port(
    module: torch.nn.Module, port: nnx.Module, arguments: Arguments, modes: Sequence[str], seed: int = 0
) -> None:
    """Compare a port with its torch module in float64; neither is changed.

    Args:
        module: the torch module.
        port: the Flax module made of it.
        arguments: the example, which is followed by one drawn at random like it.
        modes: of ``"train"`` and ``"eval"``.
        seed: of the random input.

    Raises:
        PortError: if names, outputs or buffers differ.
    """
    problems = compare_names(module, port)
    if problems:
        raise PortError(message="The port has other names or shapes than the torch module:\n" + "\n".join(problems))
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"), jax.default_matmul_precision("float32"):
        reference, candidate = _double(module), nnx.clone(port)
        state.cast(candidate, "float64")
        transfer(reference, candidate)
        rng = np.random.default_rng(seed)
        for example in (arguments, _like(arguments, rng)):
            for mode in modes:
                _compare(reference, candidate, example, mode, is_given=example is arguments)


def _double(module: torch.nn.Module) -> torch.nn.Module:
    def cast(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_complex():
            return tensor.to(torch.complex128)
        return tensor.double() if tensor.is_floating_point() else tensor

    return copy.deepcopy(module)._apply(cast)


def _like(arguments: Arguments, rng: np.random.Generator) -> Arguments:
    """Random arguments like the example: numbers of the same distribution, or the same numbers in another order."""

    def draw(tensor: torch.Tensor) -> torch.Tensor:
        values = tensor.detach().numpy()
        if tensor.is_floating_point() and values.size > 1:
            drawn = rng.normal(values.mean(), values.std(), values.shape)
            if values.min() >= 0:
                drawn = rng.permutation(values.reshape(-1)).reshape(values.shape)
            return torch.from_numpy(drawn.astype(values.dtype))
        return torch.from_numpy(rng.permutation(values.reshape(-1)).reshape(values.shape))

    return Arguments(*(_mapped(part, draw) for part in (tuple(arguments.args), dict(arguments.kwargs))))


def _mapped(tree: Any, function: Any) -> Any:
    return jax.tree.map(lambda leaf: function(leaf) if isinstance(leaf, torch.Tensor) else leaf, tree)


def _as_double(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor


class _SeesFloat32(TorchDispatchMode):
    """Notes whether an operation gave a result in float32."""

    seen = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        leaves = result if isinstance(result, (tuple, list)) else [result]
        self.seen |= any(isinstance(r, torch.Tensor) and r.dtype is torch.float32 for r in leaves)
        return result


def _compare(
    reference: torch.nn.Module, candidate: nnx.Module, arguments: Arguments, mode: str, is_given: bool
) -> None:
    example = Arguments(_mapped(arguments.args, _as_double), _mapped(arguments.kwargs, _as_double))
    training = mode == "train"
    sees = _SeesFloat32()
    with untouched(reference), shared_masks(reference, candidate), torch.no_grad():
        reference.train(training)
        try:
            with sees:
                outputs = reference(*copied(example.args), **copied(example.kwargs))
        except Exception:
            if is_given:
                raise
            return  # the model takes no such input
        expected = [_numpy(leaf) for leaf in leaves(outputs)]
        buffers = {name: _numpy(buffer) for name, buffer in reference.named_buffers()}
    found, found_buffers = _run(candidate, example, training)
    gate = SINGLE_GATE if sees.seen else GATE
    fault = _first_difference(expected, found, gate) or next(
        (f"the buffer {n} is off by {error:.1e}" for n, b in buffers.items()
         if not (error := relative_error(b, found_buffers[n])) <= gate), None,
    )  # fmt: skip
    if fault:
        kind = "the example" if is_given else "a random input"
        location = _locate(reference, candidate, example, mode)
        raise PortError(message=f"The port differs from the torch module in {mode} mode on {kind}: {fault}.{location}")


def _first_difference(expected: list[Any], found: list[Any], gate: float) -> str | None:
    if len(expected) != len(found):
        return f"it has {len(found)} outputs, and torch {len(expected)}"
    for i, (a, b) in enumerate(zip(expected, found, strict=True)):
        if a.shape != b.shape:
            return f"output {i} has the shape {b.shape}, and torch's {a.shape}"
        if a.dtype.kind != b.dtype.kind:
            return f"output {i} has the dtype {b.dtype}, and torch's {a.dtype}"
        error = relative_error(a, b)
        if not error <= gate:
            return f"output {i} is off by {error:.1e}, allowed {gate:.0e}"
    return None


def leaves(tree: Any) -> list[Any]:
    """The arrays of an output: of tuples, lists, dicts, dataclasses and other objects that hold them."""
    if isinstance(tree, (torch.Tensor, jax.Array, np.ndarray)):
        return [tree]
    if isinstance(tree, Mapping):
        return [leaf for value in tree.values() for leaf in leaves(value)]
    if isinstance(tree, (tuple, list)):
        return [leaf for value in tree for leaf in leaves(value)]
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [leaf for field in dataclasses.fields(tree) for leaf in leaves(getattr(tree, field.name))]
    if isinstance(tree, (bool, int, float, complex)):
        return [np.asarray(tree)]
    return []


def _numpy(leaf: Any) -> np.ndarray:
    if isinstance(leaf, torch.Tensor):
        leaf = leaf.detach().resolve_conj().resolve_neg()
        return leaf.float().numpy() if leaf.dtype is torch.bfloat16 else leaf.numpy().copy()
    return np.asarray(leaf)


def _run(candidate: nnx.Module, example: Arguments, training: bool) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    model = nnx.clone(candidate)
    model.train() if training else model.eval()
    graphdef, variables = nnx.split(model)
    flat, structure = jax.tree.flatten((tuple(example.args), dict(example.kwargs)))
    arrays = [jnp.asarray(_numpy(leaf)) for leaf in flat if isinstance(leaf, torch.Tensor)]

    def forward(variables: Any, arrays: list[jax.Array]) -> Any:
        merged = nnx.merge(graphdef, variables, copy=True)
        remaining = iter(arrays)
        filled = [next(remaining) if isinstance(leaf, torch.Tensor) else leaf for leaf in flat]
        args, kwargs = jax.tree.unflatten(structure, filled)
        outputs = [jnp.asarray(leaf) for leaf in leaves(merged(*args, **kwargs))]
        return outputs, {name: buffer.get_value() for name, buffer in state.named_buffers(merged)}

    options = xla.compiler_options({"xla_backend_optimization_level": 0})
    outputs, buffers = jax.jit(forward, compiler_options=options)(variables, arrays)
    return [np.asarray(o) for o in outputs], {name: np.asarray(b) for name, b in buffers.items()}


def _locate(reference: torch.nn.Module, candidate: nnx.Module, example: Arguments, mode: str) -> str:
    """The first module that answers differently, as a sentence."""
    with contextlib.suppress(Exception):
        args, kwargs = (_mapped(part, _numpy) for part in (example.args, example.kwargs))
        report = parity.check(
            reference, candidate, *args, kwargs=kwargs, modes=(mode,), dtypes=("float64",), runs=("eager",),
            weights="torch",
        )  # fmt: skip
        if report.location:
            return f" The first module that differs is {report.location}."
    return ""
