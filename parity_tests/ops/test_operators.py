"""Tests of the operator table and flaxnets.ops against torch: values, dtypes, shapes and gradients."""

import ast
import dataclasses
import functools
import inspect
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from cases.operators import CASES, DRAWN, EAGER, INPUTS
from operator_calls import Case, dtype_name, evaluated, leaves, torch_value, translated

from flaxnets import ops
from flaxnets.nn import functional as F
from flaxnets.port.coverage import page, public_names
from flaxnets.port.operator_table import FUNCTIONAL
from flaxnets.port.operators import NOT_IN_TABLE, Call, UntranslatableError, find, operators, reason, translate
from flaxnets.port.refused import REFUSED

VALUE, GRADIENT = 1e-12, 1e-10
KEY = "jax.random.key(0)"
# torch computes the derivative of digamma with an error of about 1e-10.
LOOSE = {"polygamma": 1e-9, "digamma": 1e-9, "psi": 1e-9}
# The accepted errors of float32 and narrower results.
NARROW = {"float32": 3e-6, "complex64": 3e-6, "float16": 2e-3, "bfloat16": 2e-2}


@dataclasses.dataclass
class Outcome:
    """The leaves of a result, and the gradients by input name."""

    leaves: list[Any]
    gradients: dict[str, np.ndarray]


def numbers(value: Any) -> Any:
    """Return a leaf in comparable form: a NumPy array, or the object if it is not an array."""
    if isinstance(value, torch.Tensor):
        return value.numpy(force=True)
    if isinstance(value, type):  # jnp.float32 is a type
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
    outputs = leaves(torch_value(case.source, {**inputs, **tracked}))
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
    """Return the arrays of the result and the gradients. Other leaves of the result are stored in ``static``."""
    chosen = [name for name in case.inputs if with_gradients and is_differentiable(arrays[name])]

    def compute(tracked: list[jax.Array]) -> list[jax.Array]:
        result = leaves(evaluated(case.expression, {**arrays, **dict(zip(chosen, tracked, strict=True))}))
        static[:] = [None if isinstance(each, jax.Array) else each for each in result]
        return [each for each in result if isinstance(each, jax.Array)]

    outputs, pull_back = jax.vjp(compute, [arrays[name] for name in chosen])
    # For complex numbers, torch's gradient is the conjugate of JAX's gradient.
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
    """Compare values, dtypes, shapes, and gradients for random cotangents. A family of calls is compiled together."""
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


def test_every_name_of_torch_is_in_the_table_or_refused_with_a_reason():
    names = [f"{space}.{name}" for space, names in public_names().items() for name in names]
    assert [name for name in names if not find(name) and reason(name) == NOT_IN_TABLE] == []


def test_the_page_of_operators_is_up_to_date():
    """Check docs/operators.md. ``python -m flaxnets.port.coverage`` writes this page."""
    assert (Path(__file__).parents[2] / "docs" / "operators.md").read_text() == page()


def test_no_name_is_both_in_the_table_and_refused_nor_unknown_to_torch():
    names = {f"{space}.{name}" for space, names in public_names().items() for name in names}
    names |= {f"{module.__name__}.{name}" for module in (torch, torch.autograd, torch.random) for name in vars(module)}
    exists = names | {name.removesuffix("_") for name in names}
    assert [operator.text for operator in operators() if not exists & set(operator.names)] == []
    assert [name for name in REFUSED if name not in exists and name.replace(".Tensor", "") not in exists] == []
    both = {name for operator in operators() for name in operator.names} & REFUSED.keys()
    assert both & names == set()


@functools.cache
def cases_of(family: str) -> dict[str, Case]:
    tensors = {name: torch.as_tensor(np.copy(value)) for name, value in INPUTS.items()}
    lines = [line for line in (CASES | DRAWN | {"eager": EAGER})[family].strip().splitlines() if line.strip()]
    return {line: translated(line.lstrip("~ ").strip(), tensors, KEY) for line in lines}


def test_every_row_of_the_table_has_a_case():
    """Check that every row has a case. Functions of F with torch's parameters have cases in the tables of layers."""
    cases = [case for family in (*CASES, *DRAWN, "eager") for case in cases_of(family).values()]
    reached = {operator.text for case in cases for operator in case.operators}
    reached |= {translate(call).operator.text for call in OF_UNKNOWN_KINDS}
    passed = {operator.text for name in FUNCTIONAL.split() for operator in find(f"torch.nn.functional.{name}")}
    assert [operator.text for operator in operators() if operator.text not in reached | passed] == []


@pytest.mark.parametrize("line", [line for lines in DRAWN.values() for line in lines.strip().splitlines()])
def test_random_calls_draw_from_torchs_distributions(line):
    """Compare shapes and dtypes with torch. Mean and standard deviation must agree within five standard errors."""
    case = cases_of("random")[line]
    torch.manual_seed(0)
    tensors = {name: torch.as_tensor(np.copy(INPUTS[name])) for name in case.inputs}
    expected = numbers(torch_value(case.source, tensors))
    with jax.enable_x64(True):
        actual = np.asarray(evaluated(case.expression, {name: jnp.asarray(INPUTS[name]) for name in case.inputs}))
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    if "cauchy" in line:  # the Cauchy distribution has no mean and deviation
        actual, expected = np.arctan(actual), np.arctan(expected)
    actual, expected = actual.astype(float), expected.astype(float)
    error = 5 * (expected.std() + 1e-9) / np.sqrt(expected.size)
    assert abs(actual.mean() - expected.mean()) <= error * 1.5
    assert abs(actual.std() - expected.std()) <= error * 3


# The expressions in generated source.
TRANSLATIONS = {
    "x.mean(1)": "x.mean(axis=1)",
    "x.mean((0, 2), keepdim=True)": "x.mean(axis=(0, 2), keepdims=True)",
    "x.mean([0, 2])": "x.mean(axis=(0, 2))",
    "x.mean(axis=1, keepdims=True)": "x.mean(axis=1, keepdims=True)",
    "torch.add(a, b) * 2": "(a + b) * 2",
    "(a + b).sum()": "(a + b).sum()",
    "(-a).exp()": "jnp.exp(-a)",
    "torch.mul(a + b, a - b)": "(a + b) * (a - b)",
    "x.view(x.size(0), -1)": "x.reshape(x.shape[0], -1)",
    "x.view(*x.shape[:1], -1)": "x.reshape(*x.shape[:1], -1)",
    "x.permute(2, 0, 1)": "x.transpose(2, 0, 1)",
    "a.repeat(2, 1)": "jnp.tile(a, (2, 1))",
    "v.repeat(2)": "jnp.tile(v, 2)",
    "x.flip(0, 1)": "jnp.flip(x, (0, 1))",
    "torch.zeros(2, 3, device='cpu')": "jnp.zeros((2, 3), jnp.float32)",
    "torch.zeros(*a.shape)": "jnp.zeros((*a.shape,), jnp.float32)",
    "torch.ones(3, dtype=torch.int64)": "jnp.ones(3, int)",
    "torch.arange(4)": "jnp.arange(4)",
    "torch.cat([a, b], dim=1)": "jnp.concatenate([a, b], axis=1)",
    "x.chunk(3, dim=-1)": "ops.chunk(x, 3, dim=-1)",
    "x.split(2, dim=1)": "ops.split(x, 2, dim=1)",
    "x.flatten(1)": "ops.flatten(x, 1)",
    "torch.max(a, 1)": "ops.max(a, 1)",
    "torch.max(a, b)": "jnp.maximum(a, b)",
    "a.max()": "ops.amax(a)",
    "a.to(torch.float32)": "a.astype(jnp.float32)",
    "a.to('cpu')": "a",
    "i.to(a)": "i.astype(a.dtype)",
    "a.masked_fill(t == 0, -1e9)": "jnp.where(t == 0, -1000000000.0, a)",
    "i / 2": "ops.div(i, 2)",
    "i + 1": "i + 1",
    "t.sum()": "t.sum()",
    "a.add_(b)": "a + b",
    "i.add_(k)": "i + k",
    "a.gt_(0)": "(a > 0).astype(a.dtype)",
    "torch.nn.functional.relu(a, inplace=True)": "F.relu(a)",
    "a.T @ b": "a.T @ b",
    "torch.einsum('ij,kj->ik', a, b)": "jnp.einsum('ij,kj->ik', a, b)",
    "torch.rand(2, 3)": "jax.random.uniform(jax.random.key(0), (2, 3), jnp.float32)",
    "a.softmax(dim=-1)": "F.softmax(a, dim=-1)",
}


@pytest.mark.parametrize(("source", "expression"), TRANSLATIONS.items(), ids=TRANSLATIONS)
def test_source_reads_as_written_by_hand(source, expression):
    tensors = {name: torch.as_tensor(np.copy(value)) for name, value in INPUTS.items()}
    assert translated(source, tensors, KEY).expression == expression


# Calls with arguments of unknown kinds: only their text is known.
OF_UNKNOWN_KINDS = {
    Call("torch.Tensor.to", ["x", "target"]): "ops.to(x, target)",
    Call("torch.Tensor.to", ["x"], {"device": "device"}): "x",
    Call("torch.Tensor.cuda", ["x", "device"]): "x",
    Call("torch.max", ["x", "y"]): "ops.max(x, y)",
    Call("torch.sum", ["x", "dims"], kinds={1: "list"}): "x.sum(axis=tuple(dims))",
    Call("torch.zeros", ["n", "m"], {"dtype": "x.dtype"}): "jnp.zeros((n, m), x.dtype)",
    Call("torch.Tensor.expand", ["x if y else z", "-1", "2"]): "ops.expand(x if y else z, -1, 2)",
    Call("torch.Tensor.mean", ["x if y else z"]): "(x if y else z).mean()",
    Call("torch.add", ["x or y", "lambda: 1"]): "(x or y) + (lambda: 1)",
}


@pytest.mark.parametrize(("call", "expression"), OF_UNKNOWN_KINDS.items(), ids=lambda value: str(value)[:40])
def test_calls_are_translated_without_knowing_what_their_arguments_are(call, expression):
    assert translate(call).expression == expression


@pytest.mark.parametrize("line", EAGER.strip().splitlines())
def test_results_that_are_no_arrays_are_torchs(line):
    case = cases_of("eager")[line]
    expected = torch_value(line, {name: torch.as_tensor(np.copy(INPUTS[name])) for name in case.inputs})
    with jax.enable_x64(True):
        actual = evaluated(case.expression, {name: jnp.asarray(INPUTS[name]) for name in case.inputs})
    assert type(actual) is type(expected) or isinstance(expected, torch.Tensor)
    np.testing.assert_allclose(actual, expected, rtol=VALUE)


NAMED = """
a.max(1); a.min(0); a.sort(); a.topk(1); a.median(1); a.nanmedian(1); a.mode(); a.kthvalue(1); a.cummax(1)
a.cummin(0); torch.aminmax(a); torch.frexp(a); torch.histogram(a, 2); torch.slogdet(m); torch.svd(a)
torch.linalg.svd(a); torch.linalg.eigh(m); torch.linalg.qr(a); torch.linalg.slogdet(m); torch.linalg.eig(m)
""".replace("\n", ";")


@pytest.mark.parametrize("source", [each.strip() for each in NAMED.split(";") if each.strip()])
def test_named_results_have_torchs_names(source):
    tensors = {name: torch.as_tensor(np.copy(INPUTS[name])) for name in ("a", "m")}
    case, expected = translated(source, tensors, KEY), torch_value(source, tensors)
    names = [name for name in dir(expected) if not name.startswith(("_", "n_")) and not hasattr(tuple, name)]
    fields = evaluated(case.expression, {name: jnp.asarray(INPUTS[name]) for name in ("a", "m")})._fields
    assert sorted(fields) == sorted(names)
    for index, field in enumerate(fields):
        assert getattr(expected, field) is expected[index]


UNTRANSLATABLE = {
    "refused": (Call("torch.Tensor.nonzero", ["x"]), r"torch\.Tensor\.nonzero: the shape of its result depends on val"),
    "in place": (Call("torch.Tensor.resize_", ["x", "2"]), r"torch\.Tensor\.resize_: accesses the memory"),
    "unknown": (Call("torch.nowhere", ["x"]), r"torch\.nowhere: not in the operator table"),
    "arguments": (
        Call("torch.mean", ["x"], {"width": "2"}),
        r"torch\.mean\(x, width=2\): no row takes these .* mean",
    ),
    "out": (Call("torch.add", ["x", "y"], {"out": "z"}), r"torch\.add\(x, y, out=z\): no row takes these arguments"),
    "starred": (Call("torch.transpose", ["x", "*dims"]), r"torch\.transpose\(x, \*dims\): no row takes these arg"),
    "no key": (Call("torch.rand", ["2"]), r"torch\.rand: draws random numbers, got no key"),
    "unknown kind": (Call("torch.Tensor.type", ["x", "kind"]), r"torch\.Tensor\.type\(x, kind\): no row takes"),
}


@pytest.mark.parametrize(("call", "message"), UNTRANSLATABLE.values(), ids=UNTRANSLATABLE)
def test_calls_that_are_not_known_are_refused(call, message):
    with pytest.raises(UntranslatableError, match=message):
        translate(call)


def test_functions_that_get_arguments_as_they_were_passed_have_torchs_names():
    for operator in operators():
        called = re.match(r"(ops|F)\.(\w+)\(\.\.\.", ast.unparse(operator.plain))
        parameters = operator.signature.parameters
        if not called or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            continue
        function = getattr({"ops": ops, "F": F}[called[1]], called[2])
        names = [*inspect.signature(function).parameters]
        theirs = [name for name, p in parameters.items() if p.kind is not p.VAR_POSITIONAL and name != "self"]
        ours = names if "self" not in parameters else names[1:]
        assert set(theirs) <= set(ours), operator.text


NARROWED = {"int64": "int32", "float64": "float32", "complex128": "complex64"}


@pytest.mark.parametrize("family", CASES)
def test_without_x64_dtypes_are_narrower_and_nothing_warns(family):
    """Check that int64 becomes int32, float64 becomes float32, and complex128 becomes complex64."""
    arrays = {name: jnp.asarray(value) for name, value in INPUTS.items()}
    differing = {}
    for line, case in cases_of(family).items():
        tensors = {name: torch.as_tensor(np.copy(INPUTS[name])) for name in case.inputs}
        expected = [each for each in leaves(torch_value(case.source, tensors)) if isinstance(each, torch.Tensor)]

        def results(given: dict[str, jax.Array], case: Case = case) -> list[jax.Array]:
            return [each for each in leaves(evaluated(case.expression, given)) if isinstance(each, jax.Array)]

        with jax.numpy_rank_promotion("allow"):
            actual = jax.eval_shape(results, {name: arrays[name] for name in case.inputs})
        ours = [(each.dtype.name, each.shape) for each in actual]
        theirs = [(NARROWED.get(dtype_name(each), dtype_name(each)), tuple(each.shape)) for each in expected]
        if theirs and ours != theirs:
            differing[line] = (case.expression, ours, theirs)
    assert differing == {}


# Calls of flaxnets.ops that torch rejects, too, with the type and message of the exception.
REFUSED_ARGUMENTS: dict[str, tuple[type[Exception], str]] = {
    "ops.expand(a, 4)": (RuntimeError, r"sizes \(4,\) for shape \(3, 4\)"),
    "ops.flatten(a, 1, 0)": (RuntimeError, r"start_dim=1 after end_dim=0"),
    "ops.flatten(a, 2)": (IndexError, r"dim=2. Expected an axis from -2 to 1"),
    "ops.unflatten(a, 1, (3, -1))": (RuntimeError, r"sizes \(3, -1\). Expected a product of 4"),
    "ops.split(a, [1, 1])": (RuntimeError, r"sizes \[1, 1\]. Expected a sum of 3"),
    "ops.split(a, 0)": (RuntimeError, r"got 0. Expected a positive size"),
    "ops.chunk(a, 0)": (RuntimeError, r"chunks=0"),
    "ops.squeeze(a, 5)": (IndexError, r"dim=5"),
    "ops.unfold(a, 1, 5, 1)": (RuntimeError, r"size=5, step=1 for an axis of size 4"),
    "ops.narrow(a, 0, 2, 2)": (RuntimeError, r"start=2, length=2"),
    "ops.select(a, 0, 3)": (IndexError, r"index=3"),
    "ops.topk(a, 5)": (RuntimeError, r"k=5. Expected a number from 0 to 4"),
    "ops.kthvalue(a, 0)": (RuntimeError, r"k=0. Expected a number from 1 to 4"),
    "ops.clamp(a)": (ValueError, r"min=None and max=None"),
    "ops.div(a, b, rounding_mode='up')": (RuntimeError, r"rounding_mode='up'"),
    "ops.gather(a, 1, jnp.zeros((4, 1), int))": (RuntimeError, r"index of shape \(4, 1\)"),
    "ops.scatter(a, 1, along, b, reduce='max')": (RuntimeError, r"reduce='max'"),
    "ops.scatter_reduce(a, 1, along, b, 'max')": (RuntimeError, r"reduce='max'"),
    "ops.var(a, (0, 0))": (RuntimeError, r"dim=\(0, 0\), which repeats an axis"),
    "ops.norm(a, 'two')": (RuntimeError, r"p='two'"),
    "ops.matrix_norm(a, 3)": (RuntimeError, r"ord=3"),
    "ops.linalg_norm(x, 2)": (RuntimeError, r"ord=2 for axes \(0, 1, 2\)"),
    "ops.cross(v, v)": (RuntimeError, r"shape \(4,\)"),
    "ops.cross(a, a, 1)": (RuntimeError, r"axis of size 4. Expected 3"),
    "ops.view_as_complex(a)": (RuntimeError, r"shape \(3, 4\)"),
    "ops.view_as_real(a)": (RuntimeError, r"dtype float"),
    "ops.arange(0, 3, -1)": (RuntimeError, r"step=-1"),
    "ops.arange(0, 3, 0)": (RuntimeError, r"step=0"),
    "ops.stft(signal, 8, window=v)": (RuntimeError, r"window of shape \(4,\)"),
    "ops.hann_window(-1)": (RuntimeError, r"length of -1"),
    "ops.multinomial(jax.random.key(0), v, 9)": (RuntimeError, r"num_samples=9 of 4"),
    "ops.result_type()": (ValueError, r"got \(\)"),
}


@pytest.mark.parametrize(("call", "error"), REFUSED_ARGUMENTS.items(), ids=REFUSED_ARGUMENTS)
def test_arguments_that_torch_rejects_are_rejected(call, error):
    with pytest.raises(error[0], match=error[1]):
        evaluated(call, {name: jnp.asarray(INPUTS[name]) for name in ("a", "b", "x", "v", "along", "signal")})
