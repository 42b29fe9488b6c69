"""The operator table and flaxnets.ops against torch: values, dtypes, shapes and gradients."""

import dataclasses
import typing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from cases.operators import CASES, INPUTS
from operator_calls import Case, dtype_name, evaluated, leaves, translated

from flaxnets.port.operators import NOT_IN_TABLE, find, operators, reason
from flaxnets.port.refused import REFUSED

VALUE, GRADIENT = 1e-12, 1e-10
KEY = "jax.random.key(0)"
# torch computes the derivative of digamma with an error of some 1e-10.
LOOSE = {"polygamma": 1e-9, "digamma": 1e-9, "psi": 1e-9}
# What float32 and narrower results may differ by.
NARROW = {"float32": 3e-6, "complex64": 3e-6, "float16": 2e-3, "bfloat16": 2e-2}


@dataclasses.dataclass
class Outcome:
    """Leaves of a result, and gradients by the names of inputs."""

    leaves: list[Any]
    gradients: dict[str, np.ndarray]


def numbers(value: Any) -> Any:
    """A leaf as it is compared: an array of numpy, or what is no array."""
    if isinstance(value, torch.Tensor):
        return value.numpy(force=True)
    if isinstance(value, type):  # jnp.float32, the dtype that arguments have
        return np.dtype(value).name
    if isinstance(value, (torch.dtype, np.dtype)):
        return str(value).removeprefix("torch.")
    return np.asarray(value) if isinstance(value, (jax.Array, np.ndarray, np.generic)) else value


def is_differentiable(value: Any) -> bool:
    return hasattr(value, "dtype") and dtype_name(value) in ("float64", "complex128")


def cotangent(name: str, index: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    rng = np.random.default_rng((len(name), sum(map(ord, name)), index))
    return np.asarray(rng.normal(size=shape) + (1j * rng.normal(size=shape) if "complex" in dtype else 0))


def run_torch(case: Case, with_gradients: bool) -> Outcome:
    inputs = {name: torch.as_tensor(np.copy(INPUTS[name])) for name in case.inputs}
    chosen = [name for name in case.inputs if with_gradients and is_differentiable(inputs[name])]
    tracked = {name: inputs[name].clone().requires_grad_() for name in chosen}
    names = {"torch": torch, "inf": np.inf, "nan": np.nan, **inputs, **tracked}
    outputs = leaves(eval(case.source, names))
    summands = [
        (torch.as_tensor(cotangent(case.source, i, tuple(out.shape), dtype_name(out))).conj() * out).real.sum()
        for i, out in enumerate(outputs)
        if isinstance(out, torch.Tensor) and out.requires_grad and is_differentiable(out)
    ]
    gradients = dict.fromkeys(chosen)
    if summands and chosen:
        found = torch.autograd.grad(sum(summands), list(tracked.values()), allow_unused=True)
        gradients = dict(zip(chosen, found, strict=True))
    zero = {name: torch.zeros_like(inputs[name]) if g is None else g for name, g in gradients.items()}
    return Outcome([numbers(each) for each in outputs], {name: numbers(g) for name, g in zero.items()})


def trace_jax(case: Case, arrays: dict[str, jax.Array], with_gradients: bool, static: list[Any]) -> Any:
    """Arrays of the result and gradients; what else the result holds goes to ``static``."""
    chosen = [name for name in case.inputs if with_gradients and is_differentiable(arrays[name])]

    def compute(tracked: list[jax.Array]) -> list[jax.Array]:
        result = leaves(evaluated(case.expression, {**arrays, **dict(zip(chosen, tracked, strict=True))}))
        static[:] = [None if isinstance(each, jax.Array) else each for each in result]
        return [each for each in result if isinstance(each, jax.Array)]

    outputs, pull_back = jax.vjp(compute, [arrays[name] for name in chosen])
    # torch's gradient is the conjugate of JAX's, by its convention for complex numbers.
    cotangents = [
        jnp.asarray(cotangent(case.source, i, out.shape, dtype_name(out)), out.dtype).conj()
        if is_differentiable(out)
        else np.zeros(out.shape, jax.dtypes.float0)
        if not jnp.issubdtype(out.dtype, jnp.inexact)
        else jnp.zeros_like(out)
        for i, out in enumerate(outputs)
    ]
    (gradients,) = pull_back(cotangents)
    return outputs, {name: g.conj() for name, g in zip(chosen, gradients, strict=True)}


def difference(actual: Any, expected: Any) -> float:
    with np.errstate(invalid="ignore"):
        differs = np.abs(actual.astype(np.complex128) - expected.astype(np.complex128))
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    finite = np.abs(expected[np.isfinite(expected)])
    return float(np.max(np.where(same, 0, differs), initial=0) / max(1.0, np.max(finite, initial=0)))


def compare(source: str, actual: Outcome, expected: Outcome) -> list[str]:
    if len(actual.leaves) != len(expected.leaves):
        return [f"{len(actual.leaves)} results, expected {len(expected.leaves)}"]
    problems = []
    loose = max((gate for name, gate in LOOSE.items() if name in source), default=0.0)
    for ours, theirs in zip(actual.leaves, expected.leaves, strict=True):
        if not isinstance(theirs, np.ndarray):
            if not (np.array_equal(ours, theirs) if np.isscalar(theirs) else ours == theirs):
                problems.append(f"{ours!r}, expected {theirs!r}")
        elif not isinstance(ours, np.ndarray):
            problems.append(f"{ours!r}, expected an array")
        elif (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
            problems.append(f"{ours.dtype}{list(ours.shape)}, expected {theirs.dtype}{list(theirs.shape)}")
        elif not (error := difference(ours, theirs)) <= max(loose, NARROW.get(theirs.dtype.name, VALUE)):
            problems.append(f"values differ by {error:.1e}: {ours.tolist()}, expected {theirs.tolist()}")
    for name, theirs in expected.gradients.items():
        ours = actual.gradients[name]
        if not (error := difference(np.asarray(ours), np.asarray(theirs))) <= max(loose, GRADIENT):
            problems.append(f"gradients of {name} differ by {error:.1e}: {ours.tolist()}, expected {theirs.tolist()}")
    return problems


@pytest.mark.parametrize("family", CASES)
def test_translated_calls_are_torchs(family):
    """Values, dtypes, shapes, and gradients by random cotangents; all calls of a family in one compiled program."""
    lines = [line for line in CASES[family].strip().splitlines() if line.strip()]
    tensors = {name: torch.as_tensor(np.copy(value)) for name, value in INPUTS.items()}
    problems: dict[str, list[str]] = {}
    cases: dict[str, tuple[Case, bool, list[Any]]] = {}
    for line in lines:
        try:
            case = translated(line.lstrip("~ ").strip(), tensors, KEY)
            cases[line] = case, not line.startswith("~"), []
        except Exception as error:
            problems[line] = [repr(error)]

    @jax.jit
    def program(arrays: dict[str, jax.Array]) -> dict[str, Any]:
        traced = {}
        for line, (case, with_gradients, static) in cases.items():
            try:
                traced[line] = trace_jax(case, arrays, with_gradients, static)
            except Exception as error:
                problems[line] = [case.expression, repr(error)]
        return traced

    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        results = program({name: jnp.asarray(value) for name, value in INPUTS.items()})
        for line, (outputs, gradients) in results.items():
            case, with_gradients, static = cases[line]
            remaining = iter(outputs)
            merged = [numbers(next(remaining)) if each is None else numbers(each) for each in static]
            actual = Outcome(merged, {name: np.asarray(g) for name, g in gradients.items()})
            try:
                found = compare(line, actual, run_torch(case, with_gradients))
            except RuntimeError as error:
                found = [f"torch: {error!r}"]
            if found:
                problems[line] = [case.expression, *found]
    text = "\n".join(f"{line}\n    " + "\n    ".join(found) for line, found in problems.items())
    assert not problems, f"{len(problems)} of {len(lines)} calls differ from torch:\n{text}"


def public_names() -> list[str]:
    """What torch's namespaces of functions, and torch.Tensor, have without an underscore in front."""
    modules = (torch, torch.nn.functional, torch.linalg, torch.fft, torch.special)
    functions = [
        f"{module.__name__}.{name}"
        for module in modules
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and not isinstance(value, type) and name not in typing.__all__
    ]
    return [*functions, *(f"torch.Tensor.{name}" for name in dir(torch.Tensor) if not name.startswith("_"))]


def test_every_name_of_torch_is_in_the_table_or_refused_with_a_reason():
    unknown = [name for name in public_names() if not find(name) and reason(name) == NOT_IN_TABLE]
    assert unknown == []


def test_no_name_is_both_in_the_table_and_refused_nor_unknown_to_torch():
    names = {*public_names(), *(f"torch.{name}" for name in vars(torch))}
    exists = names | {name.removesuffix("_") for name in names}
    assert [operator.text for operator in operators() if not exists & set(operator.names)] == []
    assert [name for name in REFUSED if name not in exists and name.replace(".Tensor", "") not in exists] == []
    both = {name for operator in operators() for name in operator.names} & REFUSED.keys()
    assert both & names == set()
