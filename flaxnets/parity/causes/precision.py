"""Known mistakes in precision: values that are rounded to fewer bits on one side.

To find the roundings of a Flax module, its program runs again without any rounding.
"""

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from flaxnets.parity._torch import torch
from flaxnets.parity.causes.sites import Described, Site
from flaxnets.parity.causes.variants import COMMON, Cause, Hints, Option, left_out

if TYPE_CHECKING:
    from flaxnets.parity.isolation import Isolated

_PRODUCTS = ("dot_general", "conv_general_dilated")


@dataclasses.dataclass(frozen=True)
class Narrowing:
    """One operation of a Flax program that rounds values.

    Attributes:
        dtype: the dtype of the rounded values.
        line: file and line of the operation; empty if unknown.
        is_operand: whether the rounded values are operands of a matrix product or a convolution.
    """

    dtype: str
    line: str
    is_operand: bool


def find_narrow(isolated: "Isolated", before: float) -> Cause | None:
    """Return the roundings of a Flax module as the cause, if the module agrees with torch without these roundings."""
    observe: Callable[[nnx.Module], Any] | None = getattr(isolated, "observe", None)
    if observe is None:
        return None
    narrowings: list[Narrowing] = []
    try:
        outcome = observe(_wide(isolated.flax_module, narrowings))
    except Exception:  # Some programs, such as loops, cannot run in this way.
        return None
    if not narrowings:
        return None
    wide = copy.copy(isolated)
    object.__setattr__(wide, "observed", outcome)
    after = wide.error(isolated.expected)
    if after > 1:
        return None
    dtypes = ", ".join(dict.fromkeys(n.dtype for n in narrowings))
    lines = ", ".join(dict.fromkeys(n.line for n in narrowings if n.line))
    if all(n.is_operand for n in narrowings):
        text = f"Flax computes a matrix product in {dtypes}; torch computes it in the precision of its operands."
        return Cause("matmul-precision", text, f"dtype=None, preferred_element_type=None{_at(lines)}", before, after)
    text = f"Flax rounds values to {dtypes}; torch does not."
    return Cause("dtype-cast", text, f"no astype({dtypes}), or dtype=None{_at(lines)}", before, after)


def _at(lines: str) -> str:
    return f" ({lines})" if lines else ""


def _wide(module: nnx.Module, narrowings: list[Narrowing]) -> nnx.Module:
    """Return a copy of a module that computes without rounding and appends each omitted rounding to the list."""
    module = nnx.clone(module)
    kind = type(module)

    @functools.wraps(kind.__call__)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        graphdef, state = nnx.split(self)
        leaves, structure = jax.tree.flatten((args, kwargs))
        is_array = [isinstance(leaf, jax.Array) for leaf in leaves]
        arrays = [leaf for leaf, array in zip(leaves, is_array, strict=True) if array]

        def function(state: Any, arrays: Sequence[Any]) -> Any:
            inner, remaining = nnx.merge(graphdef, state), iter(arrays)
            filled = [next(remaining) if array else leaf for leaf, array in zip(leaves, is_array, strict=True)]
            args, kwargs = jax.tree.unflatten(structure, filled)
            outputs = kind.__call__(inner, *args, **kwargs)  # type: ignore[operator]
            return outputs, nnx.split(inner)[1]

        program, shapes = jax.make_jaxpr(function, return_shape=True)(state, arrays)
        results = _evaluate(program.jaxpr, program.consts, jax.tree.leaves((state, arrays)), narrowings)
        outputs, new = jax.tree.unflatten(jax.tree.structure(shapes), results)
        nnx.update(self, new)
        return outputs

    module.__class__ = type(kind.__name__, (kind,), {"__call__": __call__})
    return module


def _is_narrow(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 64


def _evaluate(jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any], narrowings: list[Narrowing]) -> list[Any]:
    """Evaluate a jaxpr operation by operation in float64."""
    values: dict[Any, Any] = {}

    def read(variable: Any) -> Any:
        value = variable.val if hasattr(variable, "val") else values[variable]
        return jnp.asarray(value, jnp.float64) if hasattr(value, "dtype") and _is_narrow(value.dtype) else value

    values.update(zip(jaxpr.constvars, constants, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))
    consumers: dict[Any, list[str]] = {}
    for equation in jaxpr.eqns:
        for variable in equation.invars:
            if not hasattr(variable, "val"):
                consumers.setdefault(variable, []).append(equation.primitive.name)
    for equation in jaxpr.eqns:
        inputs = [read(variable) for variable in equation.invars]
        values.update(zip(equation.outvars, _apply(equation, inputs, consumers, narrowings), strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _apply(
    equation: Any, inputs: Sequence[Any], consumers: Mapping[Any, Any], narrowings: list[Narrowing]
) -> list[Any]:
    name, params = equation.primitive.name, dict(equation.params)
    if name == "reduce_precision":
        bits = f"{params['mantissa_bits']} bits of mantissa"
        narrowings.append(Narrowing(bits, _line(equation), _feeds_products(equation, consumers)))
        return [inputs[0]]
    if name == "convert_element_type" and _is_narrow(params["new_dtype"]):
        if jnp.issubdtype(inputs[0].dtype, jnp.floating):
            if not _is_narrow(equation.invars[0].aval.dtype):
                dtype = str(jnp.dtype(params["new_dtype"]))
                narrowings.append(Narrowing(dtype, _line(equation), _feeds_products(equation, consumers)))
            return [inputs[0]]
        params["new_dtype"] = jnp.dtype("float64")
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if key in params and name not in ("scan", "while", "cond"):
            inner = params[key]
            jaxpr, constants = (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())
            return _evaluate(jaxpr, constants, inputs, narrowings)
    for key, value in params.items():
        if key in ("preferred_element_type", "dtype", "new_dtype") and value is not None and _is_narrow(value):
            params[key] = jnp.dtype("float64")
    if name in _PRODUCTS and isinstance(params.get("precision"), jax.lax.DotAlgorithmPreset):
        narrowings.append(Narrowing(str(params["precision"].name), _line(equation), True))
        params["precision"] = None
    result = equation.primitive.bind(*inputs, **params)
    return list(result) if equation.primitive.multiple_results else [result]


def _feeds_products(equation: Any, consumers: Mapping[Any, Sequence[str]]) -> bool:
    after = consumers.get(equation.outvars[0], ["output"])
    return all(name in (*_PRODUCTS, "transpose", "pjit", "jit") for name in after)


def _line(equation: Any) -> str:
    """Return the file and line of an operation in the user's code; empty if unknown."""
    frames = getattr(getattr(equation.source_info, "traceback", None), "frames", ())
    for frame in frames:
        path = Path(frame.file_name)
        if not {"jax", "flax", "flaxnets"} & set(path.parts):
            return f"{path.name}, line {frame.line_num}"
    return ""


def torch_casts(site: Site, hints: Hints) -> Iterator[Option]:
    """Yield casts to fewer bits that are in torch and missing in Flax."""
    if site.is_module or not isinstance(site.result, Described) or site.input is None:
        return
    narrow = site.result.is_float and site.input.is_float and site.result.dtype.itemsize < site.input.dtype.itemsize
    dtype = str(site.result.dtype).removeprefix("torch.")
    text = f"Flax computes in the precision of its inputs; torch's {{where}} computes in {dtype}."
    if narrow and site.function in ("to", "float", "half", "bfloat16", "type_as"):
        yield Option("dtype-cast", text, f"x.astype(jnp.{dtype})", left_out, COMMON)
    elif isinstance(site.kwargs.get("dtype"), torch.dtype) and narrow:

        def change(original: Any, args: tuple, kwargs: dict) -> Any:
            return original(*args, **{k: v for k, v in kwargs.items() if k != "dtype"})

        yield Option("dtype-cast", text, f"x.astype(jnp.{dtype})", change, COMMON)


SITE_RULES = (torch_casts,)
