"""Translate the source of a torch call to a JAX expression, with the rows of :mod:`flaxnets.port.operator_table`.

This module does not import torch. A callable is identified by its name, such as ``"torch.mean"``,
``"torch.Tensor.mean"`` or ``"torch.nn.functional.relu"``. Arguments are source text.

>>> call = Call("torch.Tensor.mean", ["x", "(2, 3)"], {"keepdim": "True"})
>>> translate(call).expression
'x.mean(axis=(2, 3), keepdims=True)'
"""

import ast
import dataclasses
import functools
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence

from flaxnets.port._filling import RANDOM_KEY, Bound, atom, fill
from flaxnets.port.operator_table import ATTRIBUTES, FUNCTIONAL, ROWS
from flaxnets.port.refused import REFUSED

NOT_IN_TABLE = "not in the operator table"

# Arguments that do not affect values, and are dropped unless a row has them in its signature.
DROPPED = frozenset({
    "device", "layout", "pin_memory", "memory_format", "non_blocking", "requires_grad", "generator", "inplace",
    "sparse_grad", "names", "copy",
})  # fmt: skip
# torch also accepts NumPy's parameter names.
NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim", "x": "input", "a": "input", "x1": "input", "x2": "other"}

# Functions with boolean results. Their in-place methods convert the result to the dtype of the tensor.
_TESTS = frozenset({
    "eq", "ne", "lt", "le", "gt", "ge", "not_equal", "less", "less_equal", "greater", "greater_equal",
    "logical_and", "logical_or", "logical_xor", "logical_not",
})  # fmt: skip

# The torch functions of Python's operators, by the names of the nodes in ``ast``.
PYTHON_OPERATORS = {
    "Add": "torch.add",
    "Sub": "torch.sub",
    "Mult": "torch.mul",
    "Div": "torch.div",
    "FloorDiv": "torch.floor_divide",
    "Mod": "torch.remainder",
    "Pow": "torch.pow",
    "MatMult": "torch.matmul",
    "BitAnd": "torch.bitwise_and",
    "BitOr": "torch.bitwise_or",
    "BitXor": "torch.bitwise_xor",
    "LShift": "torch.bitwise_left_shift",
    "RShift": "torch.bitwise_right_shift",
    "Eq": "torch.eq",
    "NotEq": "torch.ne",
    "Lt": "torch.lt",
    "LtE": "torch.le",
    "Gt": "torch.gt",
    "GtE": "torch.ge",
    "USub": "torch.neg",
    "UAdd": "torch.positive",
    "Invert": "torch.bitwise_not",
}

# Builtin functions of Python, and the torch functions that they call for tensors.
PYTHON_FUNCTIONS = {"abs": "torch.abs", "pow": "torch.pow", "round": "torch.round"}

# int, float and complex have 64 bits with jax_enable_x64 and 32 bits without. jnp.int64 would warn without.
DTYPES = {
    "torch.bool": "bool",
    "torch.uint8": "jnp.uint8",
    "torch.uint16": "jnp.uint16",
    "torch.uint32": "jnp.uint32",
    "torch.int8": "jnp.int8",
    "torch.int16": "jnp.int16",
    "torch.short": "jnp.int16",
    "torch.int32": "jnp.int32",
    "torch.int": "jnp.int32",
    "torch.int64": "int",
    "torch.long": "int",
    "torch.float16": "jnp.float16",
    "torch.half": "jnp.float16",
    "torch.bfloat16": "jnp.bfloat16",
    "torch.float32": "jnp.float32",
    "torch.float": "jnp.float32",
    "torch.float64": "float",
    "torch.double": "float",
    "torch.complex64": "jnp.complex64",
    "torch.cfloat": "jnp.complex64",
    "torch.complex128": "complex",
    "torch.cdouble": "complex",
}


class UntranslatableError(LookupError):
    """Raised for a call that no row of the table accepts.

    >>> translate(Call("torch.unique", ["x"]))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    flaxnets.port.operators.UntranslatableError: torch.unique: the shape of its result depends on values. Fix: ...
    """


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """A call in source.

    Attributes:
        name: The qualified name of the callable; for a method ``torch.Tensor.`` and the method's name.
        args: The text of the positional arguments; for a method, the receiver comes first.
        kwargs: The text of the keyword arguments, without ``out``, which the caller must handle.
        kinds: The known kinds of arguments, by position or by name: ``"Tensor"``, ``"int"``, ``"float"``, ``"bool"``,
            ``"dtype"``, ``"device"``, ``"str"``, ``"list"`` or ``"tuple"``. Rows for one kind require that the kind is
            known.
        is_plain: Whether JAX's own type promotion gives torch's result dtype (:func:`is_plain`).
        key: The text of a random key, for callables that draw random numbers.

    >>> translate(Call("torch.add", ["x", "2"])).expression
    'x + 2'
    """

    name: str
    args: Sequence[str] = ()
    kwargs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    kinds: Mapping[int | str, str] = dataclasses.field(default_factory=dict)
    is_plain: bool = True
    key: str | None = None


@dataclasses.dataclass(frozen=True)
class Translation:
    """A JAX expression for a call.

    Attributes:
        expression: The text of the expression.
        modules: The modules that the expression names: ``jnp``, ``jax``, ``ops`` (``flaxnets.ops``) or ``F``
            (``flaxnets.nn.functional``).
        is_inplace: Whether torch writes the value into the first argument. The caller must assign the value to it.
        operator: The row of the table.

    >>> sorted(translate(Call("torch.Tensor.relu_", ["x"])).modules)
    ['F']
    """

    expression: str
    modules: frozenset[str]
    is_inplace: bool
    operator: "Operator"

    @property
    def atom(self) -> str:
        """The expression as an operand of an operator or attribute: in parentheses if necessary."""
        return atom(self.expression)


@dataclasses.dataclass(frozen=True, eq=False)
class Operator:
    """A row of the table: one signature of a torch callable, and the expressions for it.

    Attributes:
        names: The qualified names of the callables.
        signature: torch's parameters.
        kinds: The parameters that accept only arguments of one kind, with this kind.
        plain: The expression for operands that JAX promotes to the same dtype as torch.
        exact: The expression for other operands. Rows without such an expression use ``plain``.
        text: The row as written in the table.

    >>> find("torch.Tensor.flatten")[0].text
    'flatten(input, start_dim=0, end_dim=-1) -> ops.flatten(...)'
    """

    names: tuple[str, ...]
    signature: inspect.Signature
    kinds: Mapping[str, str]
    plain: ast.expr
    exact: ast.expr
    text: str


def is_plain(operands: Iterable[str | complex], result: str | None = None) -> bool:
    """Return whether JAX's own type promotion gives torch's result dtype.

    Args:
        operands: The dtypes of tensors, such as ``"float32"``, and Python numbers.
        result: The dtype of torch's result, if the result is a tensor.

    >>> is_plain(["float32", 2], "float32"), is_plain(["int64", 0.5], "float32"), is_plain(["float32", "float64"])
    (True, False, False)
    """
    operands = list(operands)
    tensors = {each for each in operands if isinstance(each, str) and each != "bool"}
    dtype = min(tensors, default="bool")
    if len(tensors) > 1 or result not in (None, "bool", dtype, _OTHER_PART.get(dtype)):
        return False
    numbers = {"c": (complex, float, int), "f": (float, int)}.get(dtype[0], (int,))
    return all(isinstance(each, (str, *numbers)) for each in operands)


# The complex dtype of each floating-point dtype (for Fourier transforms), and the other way round.
_OTHER_PART = {"float32": "complex64", "float64": "complex128", "complex64": "float32", "complex128": "float64"}


@functools.cache
def operators() -> tuple[Operator, ...]:
    """Return all rows of the table.

    >>> len(operators()) > 500
    True
    """
    rows = [*_lines(ROWS), *_lines(ATTRIBUTES)]
    rows += [f"F.{name}(*args, **kwargs) -> F.{name}(...)" for name in FUNCTIONAL.split()]
    return tuple(_parse(row) for each in rows for row in _named(each))


def _lines(text: str) -> list[str]:
    """Split text into logical lines. An indented line continues the line before."""
    return re.sub(r"\n +", " ", text).strip().splitlines()


def _named(row: str) -> list[str]:
    """Return the row, or one row per name if the expression contains ``{name}``."""
    names, _, rest = row.partition("(")
    if "{name}" not in rest:
        return [row]
    return [f"{name}({rest.replace('{name}', name.rpartition('.')[2])}" for name in names.split(", ")]


_SPACES = {"F": "torch.nn.functional", "Tensor": "torch.Tensor"} | {
    name: f"torch.{name}" for name in ("linalg", "fft", "special")
}


def _qualified(name: str) -> tuple[str, ...]:
    """Return the qualified names of a name in the table: function and method, or one of them if there is a prefix."""
    space, _, last = name.rpartition(".")
    if not space:
        return f"torch.{last}", f"torch.Tensor.{last}"
    return (f"{_SPACES.get(space, space)}.{last}",)


def _parse(row: str) -> Operator:
    head, _, body = row.partition(" -> ")
    names, _, parameters = head.partition("(")
    function = ast.parse(f"def row({parameters or 'self)'}: pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    expressions = [ast.parse(text.strip(), mode="eval").body for text in body.split(" || ")]
    return Operator(
        tuple(qualified for name in names.split(", ") for qualified in _qualified(name.strip())),
        *_signature(function.args),
        expressions[0],
        expressions[-1],
        row,
    )


def _signature(arguments: ast.arguments) -> tuple[inspect.Signature, Mapping[str, str]]:
    parameter = inspect.Parameter
    positional = arguments.args
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    parameters_with_defaults = [
        (each, default, parameter.POSITIONAL_OR_KEYWORD) for each, default in zip(positional, defaults, strict=True)
    ]
    if arguments.vararg:
        parameters_with_defaults.append((arguments.vararg, None, parameter.VAR_POSITIONAL))
    parameters_with_defaults += [
        (each, d, parameter.KEYWORD_ONLY) for each, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    if arguments.kwarg:
        parameters_with_defaults.append((arguments.kwarg, None, parameter.VAR_KEYWORD))
    parameters = [
        parameter(each.arg, kind, default=parameter.empty if default is None else ast.unparse(default))
        for each, default, kind in parameters_with_defaults
    ]
    kinds = {each.arg: ast.unparse(each.annotation) for each, _, _ in parameters_with_defaults if each.annotation}
    return inspect.Signature(parameters), kinds


@functools.cache
def _by_name() -> dict[str, tuple[Operator, ...]]:
    rows_by_name: dict[str, tuple[Operator, ...]] = {}
    for operator in operators():
        for name in operator.names:
            rows_by_name[name] = (*rows_by_name.get(name, ()), operator)
    return rows_by_name


def find(name: str) -> tuple[Operator, ...]:
    """Return the rows of a callable or an attribute. For ``add_``, return the rows of ``add``.

    >>> len(find("torch.Tensor.add_")), find("torch.unique")
    (2, ())
    """
    if name in REFUSED:
        return ()
    return _by_name().get(name) or (_by_name().get(name[:-1], ()) if name.endswith("_") else ())


def draws(name: str) -> bool:
    """Return whether a callable draws random numbers.

    >>> draws("torch.rand"), draws("torch.add")
    (True, False)
    """
    return any(RANDOM_KEY in _names(row.plain) for row in find(name))


def _names(expression: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}


def reason(name: str) -> str | None:
    """Return why a callable is refused; None if the callable is in the table.

    >>> reason("torch.unique")
    'the shape of its result depends on values. Fix: use torch.where or a mask, which keep the shape'
    """
    if name in REFUSED:
        return REFUSED[name]
    if find(name):
        return None
    return REFUSED.get(name.removesuffix("_"), NOT_IN_TABLE)


def translate(call: Call) -> Translation:
    """Return the JAX expression for a call, from the first row that accepts its arguments.

    Raises:
        UntranslatableError: If the callable is refused or unknown, or if no row accepts the arguments.

    >>> translate(Call("torch.Tensor.add", ["x", "y"], is_plain=False)).expression
    'ops.add(x, y)'
    """
    candidates = find(call.name)
    if not candidates:
        raise UntranslatableError(f"{call.name}: {reason(call.name)}")
    for operator in candidates:
        arguments = _bind(operator, call)
        if arguments is not None:
            return _translation(operator, call, arguments)
    passed = ", ".join([*call.args, *(f"{name}={text}" for name, text in call.kwargs.items())])
    rows = "; ".join(operator.text.partition(" -> ")[0] for operator in candidates)
    raise UntranslatableError(f"{call.name}({passed}): no row takes these arguments. Expected those of {rows}")


def _translation(operator: Operator, call: Call, arguments: Bound) -> Translation:
    template = operator.plain if call.is_plain else operator.exact
    try:
        expression, modules = fill(template, operator.signature.parameters, arguments)
    except KeyError as error:
        raise UntranslatableError(
            f"{call.name}: draws random numbers, got no key. Expected a key. Fix: pass rngs to this call"
        ) from error
    is_inplace = call.name.endswith("_") and not call.name.endswith("__")
    if is_inplace and (not call.is_plain or call.name.rpartition(".")[2][:-1] in _TESTS):
        # An in-place method of torch keeps the dtype of the tensor.
        expression = f"{atom(expression)}.astype({atom(call.args[0])}.dtype)"
    return Translation(expression, modules, is_inplace, operator)


def _bind(operator: Operator, call: Call) -> Bound | None:
    parameters = operator.signature.parameters
    kwargs = {}
    for name, text in call.kwargs.items():
        known = NUMPY_NAMES.get(name, name) if name not in parameters else name
        if known in parameters or name not in DROPPED:
            kwargs[known] = text
    variadic = next((p.name for p in parameters.values() if p.kind is p.VAR_POSITIONAL), None)
    args = [*call.args, *([kwargs.pop(variadic)] if variadic in kwargs else [])]
    try:
        arguments = operator.signature.bind(*args, **kwargs)
    except TypeError:
        return None
    if any(isinstance(t, str) and t.startswith("*") for n, t in arguments.arguments.items() if n != variadic):
        return None
    position = {name: i for i, name in enumerate(parameters)}
    for name, expected in operator.kinds.items():
        texts = arguments.arguments.get(name)
        if texts is None:
            continue
        known = _kind(call, name, position[name])
        if known not in expected.split("_or_"):
            return None
    values = dict(arguments.arguments)
    for name in _AXES & values.keys():
        values[name] = _as_tuple(values[name], _kind(call, name, position[name]) == "list")
    if call.key is not None:
        values[RANDOM_KEY] = call.key
    return Bound(values, call.args, kwargs)


# Parameters for axes and shapes. JAX accepts no lists for them.
_AXES = frozenset({"dim", "dims", "s"})


def _kind(call: Call, name: str, position: int) -> str | None:
    return call.kinds.get(name, call.kinds.get(position))


def _as_tuple(text: str | tuple[str, ...], is_list: bool) -> str | tuple[str, ...]:
    if not isinstance(text, str) or not (is_list or text.startswith("[")):
        return text
    node = ast.parse(text, mode="eval").body
    if not isinstance(node, ast.List):
        return f"tuple({text})"
    return ast.unparse(ast.Tuple(node.elts, ast.Load()))
