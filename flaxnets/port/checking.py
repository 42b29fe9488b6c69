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

# The largest accepted errors: of outputs and buffers relative to their largest value, of gradients relative to their
# norm.
GATE, GRADIENT_GATE = 1e-12, 1e-10
# The accepted error of models that amplify rounding, as a multiple of the change in torch's own result after one more
# rounding error per operation.
ROUNDINGS = 10
LARGER = "a larger batch"


def check_port(
    module: torch.nn.Module,
    port: nnx.Module,
    arguments: Arguments,
    settings: Sequence[Setting] = (Setting(training=True), Setting(training=False)),
    seed: int = 0,
) -> None:
    """Compare a port with its torch module in float64. Neither module is changed.

    Args:
        module: The torch module.
        port: The Flax module that was ported from it.
        arguments: The example. A random input of the same shapes is compared as well.
        settings: How the two modules run.
        seed: Seed of the random input.

    Raises:
        PortError: If names, outputs, buffers or gradients differ. The message names the first module that differs.
    """
    problems = compare_names(module, port)
    if problems:
        raise PortError(message="Names or shapes of the port and the torch module differ:\n" + "\n".join(problems))
    examples = {"the example": arguments, "a random input": _like(arguments, np.random.default_rng(seed))}
    for setting in settings:
        _check(module, port, examples, setting)


@dataclasses.dataclass
class _Pair:
    """A torch module and its port in one setting.

    Attributes:
        holds_on_larger: Whether the two modules agree on a larger batch; None before the first comparison.
    """

    module: torch.nn.Module
    candidate: nnx.Module
    setting: Setting
    runner: FlaxRunner
    holds_on_larger: bool | None = None


class _TorchFailedError(Exception):
    """Raised if the torch module does not run in this setting."""


def _check(module: torch.nn.Module, port: nnx.Module, examples: Mapping[str, Arguments], setting: Setting) -> None:
    """Compare the two models: without gradients, or in float32, if PyTorch cannot run the model otherwise.

    In-place operations can make gradients impossible, and tensors that are not buffers stay in float32.
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
    """Yield a copy of the port in float64. Within this context the torch module is in float64, too."""
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

    The arrays do not share memory with torch, because a forward pass may change torch's parameters in place.
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
            return False  # the model does not accept this input
    try:
        actual = pair.runner(example, cotangents)
    except Exception as error:
        text = f"{type(error).__name__}: {error}{_place(error)}"
        raise PortError(message=f"The port does not run in {setting} on {kind}. It raised {text}") from error
    fault = find_fault(expected, actual)
    if fault and not _is_rounding(pair, example, (expected, actual, cotangents), kind):
        location = locate(pair.module, pair.candidate, example, setting, find_fault)
        raise PortError(message=f"The port differs from the torch module in {setting} on {kind}: {fault}.{location}")
    return True


def _place(error: Exception) -> str:
    """Describe the line of translated code that raised an error; empty if no translated code is in the traceback."""
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename.startswith("<port of ")]
    if not frames:
        return ""
    title = frames[-1].filename.removeprefix("<port of ").rpartition(", ")[0]
    return f"\nin {frames[-1].name}, the translation of {title}: {frames[-1].line}"


def find_fault(expected: Outcome, found: Outcome) -> str | None:
    """Return a description of the first difference above the gates; None if there is none.

    Args:
        expected: The outcome of torch.
        found: The outcome of the port.
    """
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


def _errors(expected: Outcome, actual: Outcome) -> dict[str, tuple[float, float, float]]:
    """Return the relative error, the gate and the scale of the error for each array."""
    values = {f"output {i}": pair for i, pair in enumerate(zip(expected.outputs, actual.outputs, strict=True))}
    values |= {f"the buffer {n}": (b, actual.buffers[n]) for n, b in expected.buffers.items()}
    errors = {}
    for name, (a, b) in values.items():
        scale = largest(a) or 1.0
        errors[name] = deviation(a, b) / scale, GATE, scale
    scale = sum(float(np.sum(np.abs(g) ** 2)) for g in expected.gradients.values()) ** 0.5 or 1.0
    for name, gradient in expected.gradients.items():
        errors[name] = deviation(gradient, actual.gradients[name]) / scale, GRADIENT_GATE, scale
    return errors


def _is_rounding(
    pair: _Pair, example: Arguments, outcomes: tuple[Outcome, Outcome, list[np.ndarray]], kind: str
) -> bool:
    """Return whether one more rounding error per operation changes PyTorch's own result about as much."""
    expected, actual, cotangents = outcomes
    if expected.structure != actual.structure or any(
        a.shape != b.shape or a.dtype.kind != b.dtype.kind
        for a, b in zip(expected.outputs, actual.outputs, strict=True)
    ):
        return False
    errors = _errors(expected, actual)
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
    # A large change by rounding proves nothing: a value that rounding decides, such as a tie, may be anything. Require
    # agreement on a larger batch.
    most = max(map(largest, [*expected.outputs, *expected.buffers.values()]), default=1.0)
    if not is_explained or all(moved[name] <= epsilon**0.5 * max(most, errors[name][2]) for name in large):
        return is_explained
    return kind != LARGER and _holds_on_larger(pair, example)


def _holds_on_larger(pair: _Pair, example: Arguments) -> bool:
    """Whether the two modules agree on a larger batch. (Normalization over two values returns little but the sign.)"""
    if pair.holds_on_larger is None:
        larger = _enlarged(example)
        runner = FlaxRunner(pair.candidate, larger, pair.setting)
        pair.holds_on_larger = _compare(dataclasses.replace(pair, runner=runner), larger, LARGER)
    return pair.holds_on_larger


def _enlarged(example: Arguments) -> Arguments:
    """Concatenate the example and seven random examples to one batch."""
    size = next((len(tensor) for tensor in example.tensors() if tensor.ndim), 0)
    others = [iter(_like(example, np.random.default_rng(seed)).tensors()) for seed in range(1, 8)]

    def join(tensor: torch.Tensor) -> torch.Tensor:
        parts = [tensor, *map(next, others)]
        return torch.cat(parts) if tensor.ndim and len(tensor) == size else tensor

    return example.mapped(join)
