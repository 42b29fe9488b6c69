"""The comparison itself: :func:`check` reports, :func:`assert_parity` raises."""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx

from flaxnets import state
from flaxnets.parity._torch import torch
from flaxnets.parity.masks import shared_masks
from flaxnets.parity.measures import relative_error, scaled_error
from flaxnets.parity.report import Difference, Location, Report
from flaxnets.parity.run import Call, Constant, Outcome, is_float, run_flax, run_torch
from flaxnets.parity.state import compare_names, randomize, transfer

# The largest errors that pass: of outputs and buffers, relative to their own maximum; of gradients, relative to the
# norm over all parameters' gradients, or over all inputs'.
GATES: Mapping[str, tuple[float, float]] = {"float64": (1e-12, 1e-10), "float32": (1e-5, 1e-4)}


@dataclasses.dataclass(frozen=True)
class _Options:
    modes: Sequence[str]
    dtypes: Sequence[str]
    runs: Sequence[str]
    gates: Mapping[str, tuple[float, float]]
    float32_gradients: str
    compiler_options: dict[str, Any] | None


def check(
    torch_module: torch.nn.Module,
    flax_module: nnx.Module,
    *inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    modes: Sequence[str] = ("train", "eval"),
    dtypes: Sequence[str] = ("float64", "float32"),
    runs: Sequence[str] = ("eager", "jit"),
    weights: Literal["random", "torch"] = "random",
    seed: int = 0,
    gates: Mapping[str, tuple[float, float]] = GATES,
    float32_gradients: Literal["torch", "float64"] = "torch",
    compiler_options: dict[str, Any] | None = None,
) -> Report:
    """Compares two modules in names, shapes, outputs, gradients and buffers. Neither is changed.

    The weights are copied from torch to Flax, both sides are called on the same inputs, and both are differentiated
    with the same random cotangent. Dropout layers of torch use the masks that the Flax layers draw.

    Args:
        torch_module: the reference.
        flax_module: what must be the same function, under the same names.
        *inputs: numpy arrays (or nested tuples of them), the arguments of the call.
        kwargs: keyword arguments of the call.
        modes: of ``"train"`` and ``"eval"``.
        dtypes: of ``"float64"`` (the proof) and ``"float32"`` (the product).
        runs: of ``"eager"`` and ``"jit"``.
        weights: ``"random"`` also draws biases, running means and variances anew, so that no zero hides a fault;
            ``"torch"`` takes torch's values as they are.
        seed: of all that is random here.
        gates: for each dtype, the largest error of outputs and buffers, and of gradients.
        float32_gradients: ``"torch"`` measures float32 gradients against torch's; ``"float64"`` measures both sides
            against torch's float64 gradients, and lets Flax be twice as far off as torch. For deep networks, whose
            float32 gradients torch's own memory formats do not agree on.
        compiler_options: of ``jax.jit``.

    Returns:
        A report; ``report.passed`` says whether the two are one function.

    >>> import numpy as np
    >>> import torchref, flaxnets
    >>> images = np.random.default_rng(0).normal(size=(2, 1, 28, 28))
    >>> check(torchref.create_model("mlp"), flaxnets.create_model("mlp"), images).passed
    True
    """
    title = f"{type(torch_module).__name__} / {type(flax_module).__name__}"
    problems = compare_names(torch_module, flax_module)
    if problems:
        return Report(title, tuple(problems))
    options = _Options(modes, dtypes, runs, gates, float32_gradients, compiler_options)
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True), jax.default_matmul_precision("float32"):
        torch_module, flax_module = copy.deepcopy(torch_module).double(), nnx.clone(flax_module)
        state.cast(flax_module, "float64")
        if weights == "random":
            randomize(torch_module, rng)
        transfer(torch_module, flax_module)
        arguments = jax.tree.map(_rounded, (inputs, dict(kwargs or {})))
        report = _compare(title, torch_module, flax_module, arguments, options, rng)
        if not report.passed:
            location = _locate(report, torch_module, flax_module, arguments, options, rng)
            report = dataclasses.replace(report, location=location)
    return report


def assert_parity(torch_module: torch.nn.Module, flax_module: nnx.Module, *inputs: Any, **options: Any) -> Report:
    """As :func:`check`, and raises AssertionError with the report if the two modules differ.

    >>> import numpy as np
    >>> from torch import nn as torch_nn
    >>> from flaxnets import nn
    >>> print(assert_parity(torch_nn.ReLU(), nn.ReLU(), np.array([-1.0, 0.0, 2.0])).passed)
    True
    """
    report = check(torch_module, flax_module, *inputs, **options)
    if not report.passed:
        raise AssertionError(str(report))
    return report


def _rounded(leaf: Any) -> Any:
    """An input that float32 and float64 both hold exactly."""
    if isinstance(leaf, Constant):
        return Constant(_rounded(leaf.array))
    if not isinstance(leaf, (np.ndarray, np.generic, jax.Array, torch.Tensor)):
        return leaf
    array = np.asarray(leaf)
    if array.dtype.kind == "f":
        return array.astype(np.float32).astype(np.float64)
    return array.astype(np.complex64).astype(np.complex128) if array.dtype.kind == "c" else array


def _compare(
    title: str,
    torch_module: torch.nn.Module,
    flax_module: nnx.Module,
    arguments: tuple[Sequence[Any], Mapping[str, Any]],
    options: _Options,
    rng: np.random.Generator,
) -> Report:
    problems: list[str] = []
    differences: list[Difference] = []
    for mode in options.modes:
        cotangents, truth = None, None
        for dtype in options.dtypes:
            call = Call(*arguments, training=mode == "train", dtype=dtype)
            with shared_masks(torch_module, flax_module):
                expected, cotangents = run_torch(torch_module, call, cotangents, rng)
                if dtype == "float32" and options.float32_gradients == "float64":
                    exact = dataclasses.replace(call, dtype="float64")
                    truth = run_torch(torch_module, exact, cotangents, rng)[0]
            for run in options.runs:
                setting = f"{mode} {dtype} {run}"
                found = run_flax(flax_module, call, cotangents, run == "jit", options.compiler_options)
                problems += _structure_problems(expected, found, setting)
                differences += _differences(expected, found, truth, setting, options.gates[dtype])
    return Report(title, tuple(problems), tuple(differences))


def _structure_problems(expected: Outcome, found: Outcome, setting: str) -> list[str]:
    def describe(arrays: list[np.ndarray]) -> list[str]:
        return [f"{a.dtype if is_float(a) else a.dtype.kind}{list(a.shape)}" for a in arrays]

    if describe(expected.outputs) == describe(found.outputs):
        return []
    return [f"outputs ({setting}): torch gives {describe(expected.outputs)}, Flax {describe(found.outputs)}"]


def _differences(
    expected: Outcome, found: Outcome, truth: Outcome | None, setting: str, gates: tuple[float, float]
) -> list[Difference]:
    value_gate, gradient_gate = gates
    result = []

    def add(kind: str, name: str, error: float, gate: float) -> None:
        result.append(Difference(kind, name, setting, error, gate))

    for i, (a, b) in enumerate(zip(expected.outputs, found.outputs, strict=False)):
        add("output", str(i), relative_error(a, b), value_gate)
    for name, a in expected.buffers.items():
        add("buffer", name, relative_error(a, found.buffers[name]), value_gate)

    scales = expected.gradient_scales()

    def errors(reference: Outcome, measured: Mapping[tuple[str, str], np.ndarray]) -> dict[tuple[str, str], float]:
        return {key: scaled_error(a, measured[key], scales[key[0]]) for key, a in reference.gradients().items()}

    if truth is not None:
        # Both sides against float64; Flax may be twice as far off as torch's own float32.
        gradient_gate = max(gradient_gate, 2 * max(errors(truth, expected.gradients()).values(), default=0.0))
    for (kind, name), error in errors(truth or expected, found.gradients()).items():
        add(kind, name, error, gradient_gate)
    return result


def _locate(
    report: Report,
    torch_module: torch.nn.Module,
    flax_module: nnx.Module,
    arguments: tuple[Sequence[Any], Mapping[str, Any]],
    options: _Options,
    rng: np.random.Generator,
) -> Location | None:
    """Feeds each Flax submodule what its torch twin was fed, innermost first, and names the first that differs."""
    if not report.failures and not report.problems:
        return None
    mode, dtype, run = report.failures[0].setting.split() if report.failures else (options.modes[0], "float64", "eager")
    options = dataclasses.replace(options, modes=(mode,), dtypes=(dtype,), runs=(run,))
    twins = dict(state.named_modules(flax_module, remove_duplicate=False))
    calls: list[tuple[str, tuple, dict]] = []

    def record(name: str) -> Any:
        def hook(module: Any, args: tuple, kwargs: dict, output: Any) -> None:
            calls.append((name, *jax.tree.map(_detached, (args, kwargs))))

        return hook

    spied = copy.deepcopy(torch_module)
    for name, module in spied.named_modules():
        module.register_forward_hook(record(name), with_kwargs=True)
    call = Call(*arguments, training=mode == "train", dtype="float64")
    with shared_masks(spied, flax_module):
        run_torch(spied, call, None, rng)
    for name, args, kwargs in calls:
        if name not in twins:
            continue
        module = torch_module.get_submodule(name)
        local = _compare(name, module, twins[name], (args, kwargs), options, rng)
        if not local.passed:
            details = [*local.problems, *map(str, local.failures)][:1]
            return Location(name, type(module).__name__, name, type(twins[name]).__name__, "".join(details))
    return None


def _detached(leaf: Any) -> Any:
    return leaf.detach().numpy().copy() if isinstance(leaf, torch.Tensor) else leaf
