"""Identify objects: whether torch or a library defines them, and their qualified names."""

import contextlib
import functools
import inspect
import keyword
import types
from collections.abc import Container
from typing import Any

from flaxnets import ops
from flaxnets.nn import functional as F
from flaxnets.port import operators
from flaxnets.port._torch import torch

_FALSE_CALLS = (
    "torch.jit.is_scripting", "torch.jit.is_tracing", "torch.compiler.is_compiling", "torch.compiler.is_exporting",
    "torch.compiler.is_dynamo_compiling", "torch._dynamo.external_utils.is_compiling", "torch.onnx.is_in_onnx_export",
    "torch.is_autocast_enabled", "torch.is_inference_mode_enabled", "torch.cuda.is_available",
    "torch.cuda.is_initialized", "torch.cuda.is_bf16_supported", "torch.xpu.is_available", "torch.mps.is_available",
    "torch.backends.mps.is_available", "torch.distributed.is_available",
    "torch.distributed.distributed_c10d.is_initialized", "torch._C._has_torch_function",
    "torch._C._has_torch_function_unary", "torch._C._has_torch_function_variadic",
)  # fmt: skip

# Calls that query torch's compilers, devices and processes, and the expressions that replace them.
CONSTANT_CALLS = {
    **dict.fromkeys(_FALSE_CALLS, "False"),
    **dict.fromkeys(("torch._C._get_tracing_state", "torch._C._log_api_usage_once"), "None"),
    "torch.is_grad_enabled": "True",
    "torch.cuda.device_count": "0",
    "torch.nn.utils.parametrize.cached": "nn.utils.parametrize.cached()",
}

_RUNTIMES = (
    "torch.cuda", "torch.xpu", "torch.mps", "torch.mtia", "torch.accelerator", "torch.backends", "torch.distributed",
    "torch.compiler", "torch.jit", "torch.onnx", "torch._dynamo", "torch._C",
)  # fmt: skip

# Calls that return one of their arguments.
IDENTITY_CALLS = {"torch.jit.annotate": 1}

_MODULES_OF_TORCH = (
    "torch", "torch.nn.functional", "torch.fft", "torch.linalg", "torch.special", "torch.jit", "torch.onnx",
    "torch.compiler", "torch.cuda", "torch._C", "torch.nn.init",
)  # fmt: skip


@functools.cache
def _qualified_names() -> dict[int, str]:
    names: dict[int, str] = {}
    for path in _MODULES_OF_TORCH:
        module = functools.reduce(getattr, path.split(".")[1:], torch)
        for name, value in vars(module).items():
            if not callable(value) or isinstance(value, torch.dtype):
                continue
            # Some functions have several names. Prefer a name that the operator table contains.
            if id(value) not in names or not operators.find(names[id(value)]):
                names[id(value)] = f"{path}.{name}"
    return names


def qualified_name(callee: Any) -> str:
    """Return the path of a torch function, such as ``torch.nn.functional.relu``, or method (``torch.Tensor.relu``)."""
    receiver = getattr(callee, "__self__", None)
    if isinstance(receiver, torch.Tensor):
        return f"torch.Tensor.{callee.__name__}"
    known = _qualified_names().get(id(callee))
    if known is None and getattr(torch.Tensor, getattr(callee, "__name__", ""), None) is callee:
        return f"torch.Tensor.{callee.__name__}"
    return known or f"{getattr(callee, '__module__', '')}.{getattr(callee, '__name__', callee)}"


def asks_for_runtime(name: str) -> bool:
    """Whether a function queries torch's devices or compilers, such as ``torch.cuda.is_available``."""
    module, _, function = name.rpartition(".")
    return function.startswith("is_") and any(f"{module}.".startswith(f"{each}.") for each in _RUNTIMES)


def dtype_text(dtype: torch.dtype) -> str:
    """Return an expression for a dtype."""
    return operators.DTYPES.get(str(dtype), f"jnp.{str(dtype).removeprefix('torch.')}")


def is_torchs(value: Any) -> bool:
    """Whether torch defines a function, class or module, or the class of an object."""
    module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
    if isinstance(module, str):
        return module.split(".")[0] == "torch"
    return isinstance(value, (types.BuiltinFunctionType, types.MethodDescriptorType)) and "torch" in repr(value)


def is_function_apply(value: Any) -> bool:
    """Whether a value is the method ``apply`` of a ``torch.autograd.Function``."""
    owner = getattr(value, "__self__", None)
    is_method = isinstance(value, types.MethodType) and value.__func__.__name__ == "apply"
    return is_method and isinstance(owner, type) and issubclass(owner, torch.autograd.Function)


def is_torchs_definition(value: Any) -> bool:
    """Whether torch defines a function, class or Python module. False for tensors and ``torch.nn.Module`` objects."""
    return not isinstance(value, (torch.nn.Module, torch.Tensor)) and is_torchs(value)


def is_library(module: types.ModuleType) -> bool:
    """Whether generated code may use a Python module unchanged."""
    return module.__name__.split(".")[0] in (
        "math",
        "numpy",
        "functools",
        "itertools",
        "operator",
        "einops",
        "typing",
        "random",
        "copy",
        "warnings",
        "collections",
        "enum",
        "abc",
        "os",
        "sys",
        "re",
        "string",
        "contextlib",
        "dataclasses",
        "logging",
    )


def is_operator(callee: Any) -> bool:
    """Whether calls of a callee are translated by the operator table."""
    if isinstance(callee, type):
        return is_torchs(callee) and bool(operators.find(qualified_name(callee)))
    return is_torchs_definition(callee)


def function_text(value: Any) -> str | None:
    """Return an expression for a torch function that is used as a value; None if there is no counterpart."""
    name = qualified_name(value)
    rows = operators.find(name)
    if not rows:
        return None
    plain = name.rpartition(".")[2]
    for module, alias in ((F, "F"), (ops, "ops")):
        if name.startswith("torch.nn.functional") == (module is F) and hasattr(module, plain):
            return f"{alias}.{plain}"
    parameters = rows[0].signature.parameters.values()
    required = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    expression = operators.translate(operators.Call(name, required)).expression
    function, _, arguments = expression.partition("(")
    if arguments == f"{', '.join(required)})":
        return function
    return f"(lambda {', '.join(required)}: {expression})"


def free_name(hint: str, taken: Container[str], separator: str = "") -> str:
    """Return the hint, with a number appended if the name is taken.

    >>> free_name("block", {"block", "block2"})
    'block3'
    """
    name, number = hint, 1
    while name in taken or keyword.iskeyword(name):
        number += 1
        name = f"{hint}{separator}{number}"
    return name


def inner_function(callee: Any) -> Any:
    """Return the function inside a method and its decorators; any other callee unchanged."""
    function = getattr(callee, "__func__", callee)
    with contextlib.suppress(ValueError):
        function = inspect.unwrap(function) if callable(function) else function
    return function
