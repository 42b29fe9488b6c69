"""Compare a port with its torch module: outputs, buffers and gradients, on the example and on random inputs."""

import contextlib
import dataclasses
import traceback
from collections.abc import Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxnets import state
from flaxnets.parity.masks import shared_masks
from flaxnets.parity.measures import deviation, largest
from flaxnets.parity.state import compare_names, named_tensors
from flaxnets.port._torch import torch
from flaxnets.port.errors import PortError
from flaxnets.port.locating import locate
from flaxnets.port.outcomes import Arguments, FlaxRunner, Outcome, Rounding, Setting, run_torch, to_numpy
from flaxnets.port.untouched import in_double

# The largest errors that pass: of outputs and buffers relative to their largest value, of gradients to their norm.
GATE, GRADIENT_GATE = 1e-12, 1e-10
# A model that is sensitive to rounding may be off by this many times what single rounding errors change in torch.
ROUNDINGS = 10
LARGER = "a larger batch"


def check_port(
    module: torch.nn.Module,
    port: nnx.Module,
    arguments: Arguments,
    settings: Sequence[Setting] = (Setting(training=True), Setting(training=False)),
    seed: int = 0,
) -> None:
    """Compare a port with its torch module in float64; neither is changed.

    Args:
        module: the torch module.
        port: the Flax module made of it.
        arguments: the example, which is followed by one drawn at random like it.
        settings: how the two run.
        seed: of the random input.

    Raises:
        PortError: if names, outputs, buffers or gradients differ; it names the first module whose output does.
    """
    problems = compare_names(module, port)
    if problems:
        raise PortError(message="The port has other names or shapes than the torch module:\n" + "\n".join(problems))
    examples = {"the example": arguments, "a random input": _like(arguments, np.random.default_rng(seed))}
    for setting in settings:
        _check(module, port, examples, setting)


@dataclasses.dataclass
class _Pair:
    """A torch module and its port in one setting.

    Attributes:
        holds_on_larger: whether the two agree on a larger batch; None before the first comparison.
    """

    module: torch.nn.Module
    candidate: nnx.Module
    setting: Setting
    runner: FlaxRunner
    holds_on_larger: bool | None = None


class _TorchFailedError(Exception):
    """The torch module does not run."""


def _check(module: torch.nn.Module, port: nnx.Module, examples: Mapping[str, Arguments], setting: Setting) -> None:
    """Compare the two models; without gradients, or in float32, if PyTorch supports nothing more.

    Operations in place can make gradients impossible, and tensors that are no buffers stay in float32.
    """
    weaker = [
        dataclasses.replace(setting, gradients=gradients, double=double)
        for double in (True, False)
        for gradients in (True, False)
        if gradients <= setting.gradients
    ]
    for each in weaker:
        try:
            with _precise(module, port, each.double) as candidate:
                pair = _Pair(module, candidate, each, FlaxRunner(candidate, examples["the example"], each))
                for kind, example in examples.items():
                    _compare(pair, example, kind)
            return
        except _TorchFailedError as error:
            if each is weaker[-1]:
                raise error.__cause__ or error from None


@contextlib.contextmanager
def _precise(module: torch.nn.Module, port: nnx.Module, double: bool) -> Iterator[nnx.Module]:
    """Yield a copy of the port in float64. The torch module is in float64 within this context, too."""
    candidate = nnx.clone(port)
    with jax.default_matmul_precision("float32"), jax.numpy_rank_promotion("allow"):
        if not double:
            yield candidate
            return
        with jax.enable_x64(True), in_double(module):
            _transfer(module, candidate)
            yield candidate


def _transfer(module: torch.nn.Module, port: nnx.Module) -> None:
    """Copy values and precision of a torch module to a port, without compiling programs.

    Arrays have memory of their own, because a forward pass may change torch's parameters in place.
    """
    tensors = named_tensors(module)
    for name, variable in state.named_variables(port, remove_duplicate=True):
        value = to_numpy(tensors[name])
        is_whole = jnp.issubdtype(variable.dtype, jnp.integer)
        variable.set_value(jax.device_put(value.astype(variable.dtype) if is_whole else value))


def _like(arguments: Arguments, rng: np.random.Generator) -> Arguments:
    """Return random arguments: floats with the example's mean and deviation, or the example's numbers permuted."""

    def draw(tensor: torch.Tensor) -> torch.Tensor:
        values = tensor.detach().numpy()
        if tensor.is_floating_point() and values.size > 1 and values.min() < 0:
            drawn = rng.normal(values.mean(), values.std(), values.shape)
            return torch.from_numpy(drawn.astype(values.dtype))
        return torch.from_numpy(rng.permutation(values.reshape(-1)).reshape(values.shape))

    return arguments.mapped(draw)


def _compare(pair: _Pair, example: Arguments, kind: str) -> bool:
    """Raise an error if the two models differ; return whether the torch module accepts the example."""
    setting = pair.setting
    with shared_masks(pair.module, pair.candidate):
        try:
            expected, cotangents = run_torch(pair.module, example, setting, np.random.default_rng(0))
        except Exception as error:
            if kind == "the example":
                raise _TorchFailedError from error
            return False  # the model takes no such input
    try:
        found = pair.runner(example, cotangents)
    except Exception as error:
        text = f"{type(error).__name__}: {error}{_place(error)}"
        raise PortError(message=f"The port does not run in {setting} on {kind}. It raised {text}") from error
    fault = find_fault(expected, found)
    if fault and not _is_rounding(pair, example, (expected, found, cotangents), kind):
        location = locate(pair.module, pair.candidate, example, setting, find_fault)
        raise PortError(message=f"The port differs from the torch module in {setting} on {kind}: {fault}.{location}")
    return True


def _place(error: Exception) -> str:
    """Describe the translated line that raised an error."""
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename.startswith("<port of ")]
    if not frames:
        return ""
    title = frames[-1].filename.removeprefix("<port of ").rpartition(", ")[0]
    return f"\nin {frames[-1].name}, the translation of {title}: {frames[-1].line}"


def find_fault(expected: Outcome, found: Outcome) -> str | None:
    """Return a description of the first difference above the gates; None if there is none."""
    if expected.structure != found.structure:
        return f"the output is {found.structure}, and torch's {expected.structure}"
    for i, (a, b) in enumerate(zip(expected.outputs, found.outputs, strict=True)):
        if a.shape != b.shape:
            return f"output {i} has the shape {b.shape}, and torch's {a.shape}"
        if a.dtype.kind != b.dtype.kind:
            return f"output {i} has the dtype {b.dtype}, and torch's {a.dtype}"
    errors = _errors(expected, found)
    return next((f"{name} is off by {error:.1e}, allowed {gate:.0e}" for name, (error, gate, _) in errors.items()
                 if not error <= gate), None)  # fmt: skip


def _errors(expected: Outcome, found: Outcome) -> dict[str, tuple[float, float, float]]:
    """Return for each array its relative error, its gate, and the scale of the error."""
    values = {f"output {i}": pair for i, pair in enumerate(zip(expected.outputs, found.outputs, strict=True))}
    values |= {f"the buffer {n}": (b, found.buffers[n]) for n, b in expected.buffers.items()}
    errors = {}
    for name, (a, b) in values.items():
        scale = largest(a) or 1.0
        errors[name] = deviation(a, b) / scale, GATE, scale
    scale = sum(float(np.sum(np.abs(g) ** 2)) for g in expected.gradients.values()) ** 0.5 or 1.0
    for name, gradient in expected.gradients.items():
        errors[name] = deviation(gradient, found.gradients[name]) / scale, GRADIENT_GATE, scale
    return errors


def _is_rounding(
    pair: _Pair, example: Arguments, outcomes: tuple[Outcome, Outcome, list[np.ndarray]], kind: str
) -> bool:
    """Return whether PyTorch's own result changes about as much after one more rounding error per operation."""
    expected, found, cotangents = outcomes
    if expected.structure != found.structure or any(
        a.shape != b.shape or a.dtype.kind != b.dtype.kind for a, b in zip(expected.outputs, found.outputs, strict=True)
    ):
        return False
    errors = _errors(expected, found)
    large = {name: error * scale for name, (error, gate, scale) in errors.items() if not error <= gate}
    moved = dict.fromkeys(large, 0.0)
    epsilon, is_explained = 0.0, False
    for seed in range(3):
        rounding = Rounding(seed)
        with shared_masks(pair.module, pair.candidate):
            other, _ = run_torch(pair.module, example, pair.setting, cotangents, rounding)
        epsilon, changes = rounding.epsilon, _errors(expected, other)
        moved = {name: max(moved[name], changes[name][0] * changes[name][2]) for name in large}
        if is_explained := all(error <= ROUNDINGS * moved[name] for name, error in large.items()):
            break
    # What rounding changes much may be anything, and shows nothing: the value of a tie, for example.
    most = max(map(largest, [*expected.outputs, *expected.buffers.values()]), default=1.0)
    if not is_explained or all(moved[name] <= epsilon**0.5 * max(most, errors[name][2]) for name in large):
        return is_explained
    return kind != LARGER and _holds_on_larger(pair, example)


def _holds_on_larger(pair: _Pair, example: Arguments) -> bool:
    """Whether the two agree on a larger batch: normalization over two values is hardly more than a sign."""
    if pair.holds_on_larger is None:
        larger = _enlarged(example)
        runner = FlaxRunner(pair.candidate, larger, pair.setting)
        pair.holds_on_larger = _compare(dataclasses.replace(pair, runner=runner), larger, LARGER)
    return pair.holds_on_larger


def _enlarged(example: Arguments) -> Arguments:
    """Join the example and random examples in one batch."""
    size = next((len(tensor) for tensor in example.tensors() if tensor.ndim), 0)
    others = [iter(_like(example, np.random.default_rng(seed)).tensors()) for seed in range(1, 8)]

    def join(tensor: torch.Tensor) -> torch.Tensor:
        parts = [tensor, *map(next, others)]
        return torch.cat(parts) if tensor.ndim and len(tensor) == size else tensor

    return example.mapped(join)
