"""Find objects, calls and operations of a recorded run that cannot be ported, each with its cause and a fix."""

import dataclasses
import functools
import inspect
import random
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer

from flaxnets import nn
from flaxnets.port._torch import torch
from flaxnets.port.names import is_function_apply


class Problem(NamedTuple):
    """The cause of a refusal, and how to fix the source."""

    cause: str
    fix: str


_PLAIN = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
_MODULES: dict[str, Problem] = {
    **dict.fromkeys(
        ("threading", "_thread", "multiprocessing", "concurrent", "asyncio", "subprocess"),
        Problem("This runs code in another thread or process.", "call it directly, one call after the other."),
    ),
    **dict.fromkeys(
        ("ctypes", "_ctypes", "cffi"),
        Problem("ctypes runs code outside of Python and PyTorch.", "write it with tensor operations."),
    ),
    "random": Problem(
        "Python's random numbers are constants in a compiled program.",
        "draw with torch.rand, and select by torch.where.",
    ),
}
_NUMPYS_RANDOM = Problem(
    "NumPy's random numbers are constants in a compiled program.", "draw with torch.rand, and select by torch.where."
)
_GENERATOR = Problem(
    "This draws from a separate generator (torch.Generator), whose numbers JAX cannot reproduce.",
    "omit generator=, or draw the numbers in __init__ and register them as a buffer.",
)
_NO_SOURCE = "define it as a Python function in a file."
_READS_VALUES = {int, float, bool, complex, range, str, divmod}
_READS_ITEMS = {max, min, sorted, any, all}
_MUTATES = {
    "append", "extend", "insert", "pop", "remove", "clear", "update", "setdefault", "add", "discard", "sort",
    "reverse", "appendleft", "popleft", "popitem", "__setitem__", "__delitem__", "extendleft", "rotate",
}  # fmt: skip
OUTLIVES = Problem(
    "This changes an object that outlives the call. A compiled program does this only when it is traced.",
    "return the value, or register a buffer for it in __init__ and assign it in forward.",
)
CARRIED = Problem(
    "This keeps a value for another call, whose result depends on it.",
    "register a buffer for it in __init__, or take it as an argument and return the new one.",
)

MEMBERSHIP = Problem(
    "This tests whether a collection contains the value of a tensor, which is known only when the program runs.",
    "compare the elements with (x == y).any(), and select by torch.where.",
)
CHAINED = Problem(
    "This compares three values in one chain, which branches on the value of a tensor.",
    "write two comparisons: (a < x) & (x < b).",
)


def tensor_problem(value: Any) -> Problem | None:
    """Return why a tensor has no counterpart in JAX; None for supported tensors and all other objects.

    >>> tensor_problem(torch.eye(2).to_sparse()).cause
    'This is a sparse tensor. JAX has no arrays that behave like torch.sparse_coo.'
    """
    if not isinstance(value, torch.Tensor):
        return None
    if type(value) not in _PLAIN and not torch.nn.parameter.is_lazy(value):
        name = type(value).__name__
        return Problem(
            f"This is a tensor of the subclass {name} of torch.Tensor, which can redefine any operation.",
            "use a plain tensor: x.as_subclass(torch.Tensor) before the model.",
        )
    if value.is_quantized:
        return Problem("JAX has no quantized tensors.", "port the model before it is quantized.")
    if value.layout is not torch.strided:
        return Problem(
            f"This is a sparse tensor. JAX has no arrays that behave like {value.layout}.",
            "use dense tensors: x.to_dense().",
        )
    return None


def first_problem(values: Iterable[Any]) -> Problem | None:
    """Return the first problem of a tensor among the values, including tensors in lists and tuples."""
    for value in values:
        items = value if isinstance(value, (list, tuple)) else (value,)
        for item in items:
            if (problem := tensor_problem(item)) is not None:
                return problem
    return None


def index_problem(index: Any) -> Problem | None:
    """Return why the shape of an indexed result is not known at compile time; None if it is known."""
    for part in index if isinstance(index, tuple) else (index,):
        bounds = (part.start, part.stop, part.step) if isinstance(part, slice) else ()
        if any(isinstance(bound, torch.Tensor) for bound in bounds):
            return Problem(
                "A bound of this slice is a tensor, so the shape of the result depends on values.",
                "keep all elements and a mask, or use torch.where.",
            )
    return None


def repeated_index_problem(index: Any) -> Problem | None:
    """Return a problem if the index of an in-place operator contains an element twice.

    In torch, the gradient of such an element counts twice.
    """
    for part in index if isinstance(index, tuple) else (index,):
        values = part.tolist() if isinstance(part, torch.Tensor) and part.dtype in (torch.int64, torch.int32) else part
        if isinstance(values, list) and len({*map(str, values)}) < len(values):
            return Problem("An index names an element twice.", "use index_add or scatter_add.")
    return None


def call_problem(callee: Any, arguments: Sequence[Any], keywords: Mapping[str, Any], result: Any) -> Problem | None:
    """Return why a call cannot be ported, by its callee, arguments and result; None if it can."""
    values = [*arguments, *keywords.values()]
    if any(isinstance(value, torch.Generator) for value in values):
        return _GENERATOR
    for find in (_library_problem, _text_problem, _type_problem, _reading_problem):
        problem = find(callee, values, keywords)
        if problem is not None:
            return problem
    if is_function_apply(callee) and callee.__self__.backward is torch.autograd.Function.backward:
        return Problem(
            f"{callee.__self__.__name__} has no backward, so its gradient is unknown.",
            "define backward, or call the operations without a torch.autograd.Function.",
        )
    if isinstance(result, torch.nn.Module) and inspect.isclass(callee):
        return _creation_problem(result)
    return first_problem([getattr(callee, "__self__", None), *values, result])


def _library_problem(callee: Any, values: Sequence[Any], keywords: Any) -> Problem | None:
    owner = getattr(callee, "__self__", None)
    if getattr(callee, "__name__", "") == "mark_dirty":
        return Problem("mark_dirty() says that forward changes its argument.", "return a new tensor.")
    if isinstance(owner, (random.Random, np.random.RandomState, np.random.Generator)):
        return _MODULES["random"] if isinstance(owner, random.Random) else _NUMPYS_RANDOM
    module = str(getattr(callee, "__module__", None) or getattr(type(owner), "__module__", ""))
    return _MODULES.get(module.split(".")[0])


def _text_problem(callee: Any, values: Sequence[Any], keywords: Any) -> Problem | None:
    """Return a problem for the text of a dtype or device, and for ``hasattr`` and ``getattr`` of tensors."""
    if not values:
        return None
    is_device = isinstance(values[0], torch.device) and callee is not str
    is_text = callee is str or callee is repr or callee is format
    if is_text and (is_device or isinstance(values[0], torch.dtype)):
        return Problem(
            f"The text of a {type(values[0]).__name__} is different in JAX.",
            "compare the object itself, as in x.dtype == torch.float32.",
        )
    if (
        (callee is hasattr or callee is getattr)
        and isinstance(values[0], torch.Tensor)
        and not _is_alike(values[0], values[1])
    ):
        name = callee.__name__
        return Problem(
            f"{name}() of a tensor depends on the attributes of torch's tensors.",
            "write the attribute, or use isinstance.",
        )
    return None


def _is_alike(tensor: torch.Tensor, name: str) -> bool:
    """Whether an attribute is missing in tensors and arrays, or is the same in both."""
    is_absent = not hasattr(tensor, name) and not hasattr(jax.Array, name) and not hasattr(Tracer, name)
    return is_absent or name in ("shape", "ndim", "dtype")


def _type_problem(callee: Any, values: Sequence[Any], keywords: Any) -> Problem | None:
    is_type = callee is type and len(values) == 1
    if is_type and isinstance(values[0], torch.Tensor) and type(values[0]) is not torch.Tensor:
        return Problem(
            f"type() of a {type(values[0]).__name__} is another class in JAX.", "use isinstance(x, torch.Tensor)."
        )
    return None


def _reading_problem(callee: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Problem | None:
    """Return a problem for functions that read the values of tensors."""
    if any(callee is each for each in (torch.equal, torch.allclose, torch.is_nonzero)) or _is_equal_method(callee):
        return Problem(
            f"{callee.__name__}() of a tensor needs its value, which is known only when the program runs.",
            "compare the elements, as in (x == y).all(), and select by torch.where.",
        )
    if not _reads_values(callee):
        return None
    values = [arguments] if callee in _READS_VALUES or not arguments else [arguments, arguments[0]]
    is_numpys = callee not in _READS_VALUES | _READS_ITEMS
    if "key" in keywords and not is_numpys:
        return None
    items = [each for value in (arguments if is_numpys else values) for each in _items(value)]
    if not any(isinstance(item, torch.Tensor) for item in items):
        return None
    name = getattr(callee, "__name__", str(callee))
    return Problem(
        f"{name}() of a tensor needs its value, which is known only when the program runs.",
        f"use the operation of torch instead of {name}, which keeps the tensor.",
    )


def _is_equal_method(callee: Any) -> bool:
    is_method = isinstance(getattr(callee, "__self__", None), torch.Tensor)
    return is_method and callee.__name__ in ("equal", "allclose", "is_nonzero")


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else (value,)


def _reads_values(callee: Any) -> bool:
    if isinstance(callee, Callable) and _is_hashable(callee) and callee in _READS_VALUES | _READS_ITEMS:
        return True
    module = str(getattr(callee, "__module__", None))
    return module == "math" or isinstance(callee, np.ufunc) or module.split(".")[0] == "numpy"


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def layer_problem(module: torch.nn.Module, path: str = "") -> Problem | None:
    """Return why a module has no counterpart; None if it has one.

    >>> layer_problem(torch.ao.nn.qat.Linear(1, 1, qconfig=torch.ao.quantization.default_qconfig), "head").fix
    'write the layer as your own module.'
    """
    where = f" (the module {path!r})" if path else ""
    if isinstance(module, torch.jit.ScriptModule):
        return Problem(
            f"A ScriptModule has no Python source{where}.",
            "port the module before torch.jit converts it to a ScriptModule.",
        )
    kind = torch.nn.utils.parametrize.type_before_parametrizations(module)
    if kind.__module__.split(".")[0] == "torch" and not has_twin(kind):
        name = f"{kind.__module__}.{kind.__qualname__}"
        return Problem(f"flaxnets.nn has no layer of the class {name}{where}.", "write the layer as your own module.")
    return None


def has_twin(kind: type) -> bool:
    """Whether a module class of torch has a counterpart."""
    if kind is torch.nn.Module or kind.__name__ in (
        "NonDynamicallyQuantizableLinear",
        "OptimizedModule",
        "DistributedDataParallel",
    ):
        return True
    if kind.__module__.startswith(("torch.ao", "torch.nn.qat", "torch.nn.quant", "torch.nn.intrinsic", "torch.fx")):
        return False
    if kind.__module__.startswith("torch.nn.utils.param"):
        return True
    return hasattr(nn, kind.__name__)


def _creation_problem(module: torch.nn.Module) -> Problem | None:
    """Return why a module cannot be created in forward; None if it can."""
    kind = type(module)
    twin = getattr(nn, kind.__name__, None)
    is_torchs = kind.__module__.split(".")[0] == "torch"
    if is_torchs and twin is not None and "rngs" not in inspect.signature(twin.__init__).parameters:
        return None
    return Problem(
        f"This makes a layer with random parameters or a random stream in forward: {kind.__name__}.",
        "make it in __init__.",
    )


def changed_container(callee: Any) -> Any:
    """Return the list, dict, set or deque that a method call changes; None for other calls."""
    owner = getattr(callee, "__self__", None)
    is_method = isinstance(callee, types.BuiltinMethodType) and getattr(callee, "__name__", "") in _MUTATES
    return owner if is_method and not isinstance(owner, types.ModuleType) else None


def unwrapped(callee: Any) -> Any:
    """Return the function inside ``functools.cache``. A port computes the result in each call."""
    if isinstance(callee, types.MethodType) and isinstance(callee.__func__, functools._lru_cache_wrapper):
        return types.MethodType(callee.__func__.__wrapped__, callee.__self__)
    return callee.__wrapped__ if isinstance(callee, functools._lru_cache_wrapper) else callee


def source_problem(callee: Any, is_known: Callable[[Any], bool], arguments: Sequence[Any]) -> Problem | None:
    """Return a problem if the source of a function is not available; None if it is.

    Args:
        callee: The callee.
        is_known: Whether the source of a Python function is available, or the function belongs to a library.
        arguments: The arguments.
    """
    function = getattr(callee, "__func__", callee)
    name = getattr(function, "__qualname__", str(function))
    if isinstance(function, types.FunctionType):
        if is_known(function) or _is_of_dataclass(function, getattr(callee, "__self__", next(iter(arguments), None))):
            return None
        return Problem(f"There is no source of {name}, which is not defined in a file.", _NO_SOURCE)
    owner = getattr(function, "__self__", None)
    if not isinstance(function, types.BuiltinFunctionType) or not isinstance(owner, (types.ModuleType, type(None))):
        return None
    takes_tensors = any(isinstance(item, torch.Tensor) for value in arguments for item in _items(value))
    if takes_tensors and str(function.__module__ or "builtins").split(".")[0] not in _KNOWN_ROOTS:
        return Problem(f"There is no source of {name}, which is compiled code.", _NO_SOURCE)
    return None


def _is_of_dataclass(function: types.FunctionType, owner: Any) -> bool:
    """Whether ``dataclasses`` generated a method, which only reads and sets the fields."""
    is_generated = function.__code__.co_filename == "<string>" and function.__name__.startswith("__")
    return is_generated and dataclasses.is_dataclass(owner)


_KNOWN_ROOTS = {
    "torch", "builtins", "math", "numpy", "_operator", "operator", "_functools", "functools", "itertools",
    "_collections", "collections", "copy", "time", "typing", "einops",
}  # fmt: skip
