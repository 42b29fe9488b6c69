"""Compare two modules: :func:`check` returns a report, :func:`assert_parity` raises."""

import copy
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx

from flaxnets import nn
from flaxnets.parity._torch import torch
from flaxnets.parity.draws import SharedDraws
from flaxnets.parity.locating import locate, record, rows
from flaxnets.parity.matching import Matching, Names, match
from flaxnets.parity.pairs import Pair, pair_of_equal_names, pair_of_matching, with_layout
from flaxnets.parity.preconditions import require_call, require_comparable, require_module
from flaxnets.parity.report import Difference, Report
from flaxnets.parity.run import Call, Constant, Outcome, is_float, outcome_errors, prepare_flax
from flaxnets.parity.state import compare_names, randomize_parameters
from flaxnets.parity.wrapping import as_nnx

# The largest errors that pass, for each dtype. First number: outputs and buffers, relative to the maximum of the array.
# Second number: gradients, relative to the norm of all parameter gradients or of all input gradients.
GATES: Mapping[str, tuple[float, float]] = {"float64": (1e-12, 1e-10), "float32": (1e-5, 1e-4)}


# How often a failed float32 comparison is repeated with other weights.
_REPEATS = 3

_ANY = Call((), {}, training=True, dtype="float64")


@dataclasses.dataclass(frozen=True)
class CheckOptions:
    """Options of :func:`check` and :func:`assert_parity`.

    Attributes:
        modes: Any of ``"train"`` and ``"eval"``.
        dtypes: Any of ``"float64"`` (the proof) and ``"float32"`` (the product). If the float64 comparison passes and
            the float32 comparison fails, the float32 comparison is repeated with other weights: float32 can round the
            input of a ReLU to the other side of zero, which changes a gradient.
        runs: Any of ``"eager"`` and ``"jit"``.
        weights: ``"random"`` adds noise to all parameters, biases and running statistics, so that no zero hides a
            fault; ``"torch"`` uses torch's values.
        seed: Seed of weights, cotangents and dropout.
        gates: For each dtype, the largest error that passes: of outputs and buffers, and of gradients.
        float32_gradients: ``"torch"`` measures float32 gradients against torch's; ``"float64"`` measures both sides
            against torch's float64 gradients, and Flax's error may be twice torch's. Use ``"float64"`` for deep
            networks: their float32 gradients differ even between two memory formats of torch.
        compiler_options: Compiler options of ``jax.jit``.
        gradients: Whether to compare gradients. Large models need less memory and time without gradients.
        modules: Whether the report of equal modules lists the error of each submodule.
        progress: Function that is called with the name of each phase when the phase begins.

    >>> CheckOptions(modes=("eval",)).seed
    0
    """

    modes: Sequence[str] = ("train", "eval")
    dtypes: Sequence[str] = ("float64", "float32")
    runs: Sequence[str] = ("eager", "jit")
    weights: Literal["random", "torch"] = "random"
    seed: int = 0
    gates: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=lambda: GATES)
    float32_gradients: Literal["torch", "float64"] = "torch"
    compiler_options: dict[str, Any] | None = None
    gradients: bool = True
    modules: bool = False
    progress: Callable[[str], None] | None = None

    def say(self, phase: str) -> None:
        """Report the beginning of a phase."""
        if self.progress is not None:
            self.progress(phase)


def check(
    torch_module: torch.nn.Module,
    flax_module: nnx.Module,
    *inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    matching: Matching | Names | None = None,
    **options: Any,
) -> Report:
    """Compare the names, shapes, outputs, gradients and buffers of two modules. Neither module is changed.

    The check copies the weights from torch to Flax, calls both modules on the same inputs, and differentiates both with
    the same random cotangent. Dropout keeps the same elements on both sides. If the modules differ, the report names
    the first wrong submodule and, for a known mistake, the cause.

    Args:
        torch_module: the reference.
        flax_module: the module to compare: of NNX or Linen, or a callable pytree as in Equinox.
        *inputs: the arguments of the call: numpy arrays or nested tuples of numpy arrays, in torch's axis order.
        kwargs: keyword arguments of the call.
        matching: a matching that :func:`flaxnets.parity.match` returned, or the value of its argument ``names``. By
            default a :class:`flaxnets.nn.Module` must have torch's names, and other modules get a suggested matching.
        **options: Fields of :class:`CheckOptions`.

    Returns:
        A report; ``report.passed`` says whether the two modules compute the same function.

    >>> import numpy as np
    >>> import torchref, flaxnets
    >>> images = np.random.default_rng(0).normal(size=(2, 1, 28, 28))
    >>> check(torchref.create_model("mlp"), flaxnets.create_model("mlp"), images).passed
    True
    """
    started = time.perf_counter()
    title = f"{type(torch_module).__name__} / {type(flax_module).__name__}"
    require_module(torch_module)
    flax_module = as_nnx(flax_module, torch_module, *inputs)
    settings = CheckOptions(**options)
    with jax.enable_x64(True), jax.default_matmul_precision("float32"):
        torch_module, flax_module = copy.deepcopy(torch_module).double(), prepare_flax(flax_module, _ANY)
        rng = np.random.default_rng(settings.seed) if settings.weights == "random" else None
        if rng is not None:
            randomize_parameters(torch_module, rng)
        arguments = jax.tree.map(_rounded, (inputs, dict(kwargs or {})))
        call = Call(*arguments, training="eval" not in settings.modes, dtype="float64", gradients=settings.gradients)
        try:
            problems, pair = _pair(torch_module, flax_module, call, matching, settings, rng)
            report = Report(title) if pair is None else _compare(title, pair, call, settings)
        except Exception:
            require_call(torch_module, call)
            raise
        if pair is None:
            return dataclasses.replace(report, problems=tuple(problems))
        report = dataclasses.replace(report, problems=(*problems, *report.problems))
        if report.problems or report.failures:
            call = _failing_call(report, call, settings)
            require_comparable(pair, call)
            settings.say("locating the first module that differs")
            location, table = locate(pair, call, settings.gates.get("float64", GATES["float64"]))
            report = dataclasses.replace(report, location=location, modules=table)
        elif settings.modules:
            settings.say("comparing the submodules")
            report = dataclasses.replace(report, modules=rows(record(pair, call), None, GATES["float64"][0]))
    layouts = pair.layout.describe() if pair.layout else ()
    seconds = time.perf_counter() - started
    return dataclasses.replace(report, matching=pair.matching, layouts=layouts, seconds=seconds)


def assert_parity(torch_module: torch.nn.Module, flax_module: nnx.Module, *inputs: Any, **options: Any) -> Report:
    """Call :func:`check`, and raise ``AssertionError`` with the report if the two modules differ.

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
    """Round an input to values that float32 and float64 both represent exactly."""
    if isinstance(leaf, Constant):
        return Constant(_rounded(leaf.array))
    if not isinstance(leaf, (np.ndarray, np.generic, jax.Array, torch.Tensor)):
        return leaf
    array = np.asarray(leaf)
    if array.dtype.kind == "f":
        return array.astype(np.float32).astype(np.float64)
    return array.astype(np.complex64).astype(np.complex128) if array.dtype.kind == "c" else array


def _pair(
    torch_module: torch.nn.Module,
    flax_module: nnx.Module,
    call: Call,
    matching: Any,
    options: CheckOptions,
    rng: np.random.Generator | None,
) -> tuple[list[str], Pair | None]:
    """Copy torch's weights to the Flax module; return the differences of names, and the pair or None.

    The pair is None if the modules cannot be compared. With an ``rng``, the buffers that both sides have get noise
    before the copy.
    """
    problems = compare_names(torch_module, flax_module) if matching is None else []
    if matching is None and not problems:
        return [], pair_of_equal_names(torch_module, flax_module, rng, SharedDraws(options.seed))
    if not isinstance(flax_module, nn.Module):
        problems = []  # Names need not be torch's in a module that the user wrote.
    options.say("matching names")
    if not isinstance(matching, Matching):
        matching = match(torch_module, flax_module, *call.args, kwargs=call.kwargs, names=matching)
    problems += [problem for problem in matching.problems() if problem not in problems]
    if matching.ambiguous or not matching.entries:
        return problems, None
    pair = pair_of_matching(torch_module, flax_module, matching, rng, SharedDraws(options.seed))
    options.say("finding axis orders")
    try:
        return problems, with_layout(pair, call)
    except ValueError:
        if not problems:
            raise
        return problems, None  # The differences of names explain why the module does not run.


def _compare(title: str, pair: Pair, call: Call, options: CheckOptions) -> Report:
    problems: list[str] = []
    differences: list[Difference] = []
    for mode in options.modes:
        cotangents: list[np.ndarray] | None = None
        is_proved = False
        for dtype in options.dtypes:
            call = dataclasses.replace(call, training=mode == "train", dtype=dtype)
            of_structure, of_values, cotangents = _compare_runs(pair, call, cotangents, options)
            if is_proved and dtype == "float32" and not of_structure and not _all_pass(of_values):
                of_values = _repeat_with_other_weights(pair, call, cotangents, options) or of_values
            problems += of_structure
            differences += of_values
            is_proved = dtype == "float64" and not problems and _all_pass(differences)
    return Report(title, tuple(problems), tuple(differences))


def _compare_runs(
    pair: Pair, call: Call, cotangents: list[np.ndarray] | None, options: CheckOptions
) -> tuple[list[str], list[Difference], list[np.ndarray]]:
    """Compare eager and jit runs of one mode and dtype; return problems, differences and the cotangents."""
    mode, dtype, truth = "train" if call.training else "eval", call.dtype, None
    options.say(f"torch, {mode} {dtype}")
    expected, cotangents = pair.run_torch(call, cotangents, options.seed)
    if dtype == "float32" and options.float32_gradients == "float64":
        exact = dataclasses.replace(call, dtype="float64")
        truth = pair.to_flax(pair.run_torch(exact, cotangents)[0])
    expected = pair.to_flax(expected)
    problems: list[str] = []
    differences: list[Difference] = []
    for run in options.runs:
        setting = f"{mode} {dtype} {run}"
        options.say(f"Flax, {setting}")
        observed = pair.run_flax(call, cotangents, run == "jit", options.compiler_options)
        problems += _structure_problems(expected, observed, setting)
        differences += [
            Difference(kind, name, mode, dtype, run, error, gate)
            for kind, name, error, gate in outcome_errors(expected, observed, options.gates[dtype], truth)
        ]
    return problems, differences, cotangents


def _all_pass(differences: Sequence[Difference]) -> bool:
    return all(each.passed for each in differences)


def _repeat_with_other_weights(
    pair: Pair, call: Call, cotangents: list[np.ndarray], options: CheckOptions
) -> list[Difference] | None:
    """Repeat a failed float32 comparison with other weights until it passes; return None if it never passes.

    In float32, two modules that agree in float64 can round the input of a ReLU to different sides of zero, which
    changes a gradient. A fault shows with all weights.
    """
    for attempt in range(_REPEATS):
        options.say("repeating the float32 comparison with other weights")
        with pair.other_weights(np.random.default_rng((options.seed, attempt))):
            problems, differences, _ = _compare_runs(pair, call, cotangents, options)
        if not problems and _all_pass(differences):
            return differences
    return None


def _structure_problems(expected: Outcome, observed: Outcome, setting: str) -> list[str]:
    def describe(arrays: list[np.ndarray]) -> list[str]:
        return [f"{a.dtype if is_float(a) else a.dtype.kind}{list(a.shape)}" for a in arrays]

    if describe(expected.outputs) == describe(observed.outputs):
        return []
    return [f"outputs ({setting}): torch returns {describe(expected.outputs)}, Flax {describe(observed.outputs)}"]


def _failing_call(report: Report, call: Call, options: CheckOptions) -> Call:
    """Return the call in the mode whose difference is the largest, in float64."""
    mode = report.failures[0].mode if report.failures else options.modes[0]
    return dataclasses.replace(call, training=mode == "train", dtype="float64")
