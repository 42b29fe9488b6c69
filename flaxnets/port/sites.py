"""Records of a run: the objects, results and changes at each place (site) of a function's source."""

import ast
import contextlib
import dataclasses
import functools
import itertools
import types
from collections.abc import Container, Iterator, Mapping
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp

from flaxnets.port._torch import torch
from flaxnets.port.errors import Refusal
from flaxnets.port.sources import FunctionSource, Span

# Names and dotted paths that refer to a changed tensor or share its memory, each with the relation: the ``"same"``
# tensor, a ``"view"``, the same view as another name (``"is y"``), or a container with the tensor ``"inside"``.
Bindings = frozenset[tuple[str, str]]


@dataclasses.dataclass(eq=False)
class Site:
    """The record of one place of the source, over all runs of it.

    Attributes:
        receivers: Kinds of the objects whose attribute was read, or that were indexed.
        results: Kinds of the results; ``"variable"`` for a registered parameter or buffer.
        callees: The callees.
        arguments: Kinds of the operands of an operator, of the parts of an index, or of the positional arguments.
        kinds: The kind of each argument of a call, by position or name. The receiver of a method comes first.
        has_gradient: Whether an attribute was a tensor that requires gradients.
        is_plain: Whether JAX's type promotion always gives torch's result.
        outcomes: Truth values of a test.
        mutated: The arguments that a call changed in place, by position or name; -1 for the receiver.
        returned: The arguments that a call returned, by position or name; None for another result.
        changes: The bindings of the changed tensor, for each change at this place.
        dtypes: Dtypes of operands and result of an operator or a store.
        problems: Causes and fixes, if this place cannot be ported.
        parameters: The arguments of a call that were parameters, by position or name; -1 for the receiver.
        passed: Functions and classes among the arguments of a call, by position or name.
        is_memo: Whether a store fills a cache: the stored value is computed again with the same result.
        matched: Classes of torch of which an object was an instance, according to ``isinstance``.
    """

    receivers: set[str] = dataclasses.field(default_factory=set)
    results: set[str] = dataclasses.field(default_factory=set)
    callees: list[Any] = dataclasses.field(default_factory=list)
    arguments: set[tuple[str, ...]] = dataclasses.field(default_factory=set)
    outcomes: set[bool] = dataclasses.field(default_factory=set)
    mutated: set[int | str] = dataclasses.field(default_factory=set)
    returned: set[int | str | None] = dataclasses.field(default_factory=set)
    changes: set[Bindings] = dataclasses.field(default_factory=set)
    dtypes: set[tuple[str, ...]] = dataclasses.field(default_factory=set)
    owners: set[type] = dataclasses.field(default_factory=set)
    parameters: set[int | str] = dataclasses.field(default_factory=set)
    passed: dict[int | str, Any] = dataclasses.field(default_factory=dict)
    matched: set[type] = dataclasses.field(default_factory=set)
    kinds: dict[int | str, str] = dataclasses.field(default_factory=dict)
    problems: set[tuple[str, str]] = dataclasses.field(default_factory=set)
    is_plain: bool = True
    has_gradient: bool = False
    on_tensor: bool = False
    is_memo: bool = False
    hits: int = 0

    def aliases(self) -> dict[str, str]:
        """Return the relation of each name and path to the changed tensor; ``"varying"`` if it was not always equal."""
        relations: dict[str, str] = {}
        for name, how in itertools.chain(*self.changes):
            relations[name] = how if relations.get(name, how) == how else "varying"
        for change in self.changes:
            names = {name for name, _ in change}
            relations.update({name: "varying" for name in relations if name not in names})
        return relations

    def note_kinds(self, values: Mapping[int | str, Any]) -> None:
        """Record the kinds of the arguments of a call. A kind that varies between calls becomes empty."""
        for key, value in values.items():
            current = argument_kind(value)
            self.kinds[key] = current if self.kinds.get(key, current) == current else ""


EMPTY = Site()


def kind(value: Any) -> str:
    """Return the kind of a value as a site records it: tensor, module, none or the name of its class."""
    if isinstance(value, torch.Tensor):
        return "tensor"
    if isinstance(value, torch.nn.Module):
        return "module"
    return "none" if value is None else type(value).__name__


def argument_kind(value: Any) -> str:
    """Return the kind of an argument as :mod:`flaxnets.port.operators` uses it; empty for other objects."""
    for kinds, word in (
        (torch.Tensor, "Tensor"), (bool, "bool"), (int, "int"), (float, "float"), (torch.dtype, "dtype"),
        (torch.device, "device"), (str, "str"), (list, "list"), (tuple, "tuple"),
    ):  # fmt: skip
        if isinstance(value, kinds):
            return word
    return ""


@functools.cache
def promotes_alike(operands: tuple[str, ...], result: str) -> bool:
    """Whether JAX promotes these dtypes to torch's result dtype, including 64-bit dtypes."""
    scalars = {"python bool": True, "python int": 1, "python float": 1.0, "python complex": 1j}
    known = [o for o in operands if o in scalars or not o.startswith("python")]
    with jax.enable_x64(True), contextlib.suppress(TypeError):  # JAX does not have all dtypes of torch
        values = [scalars[o] if o in scalars else jnp.dtype(o) for o in known]
        return jnp.result_type(*values) == jnp.dtype(result)
    return False


def dtype_of(value: Any) -> str:
    """Return the dtype of a tensor as text, or ``python`` with the class of another object, such as ``python int``."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype).removeprefix("torch.")
    return f"python {type(value).__name__}"


class RecordedFunction:
    """The source of a function, and the sites of its places.

    Args:
        source: The source of the function.
    """

    def __init__(self, source: FunctionSource):
        self.source = source
        self.sites: dict[tuple[str, Span], Site] = {}
        self.functions: list[types.FunctionType] = []
        self.entered = False
        self.passed: dict[str, set[str]] = {}  # by parameter: whether tensors were registered ones, or others
        self.changed: set[str] = set()  # parameters whose tensors the function changed in place

    def site(self, what: str, span: Span) -> Site:
        """Return the site of a place; an empty site if there is none."""
        return self.sites.get((what, span), EMPTY)

    def note_arguments(self, tensors: Mapping[str, torch.Tensor], variables: Container[int]) -> None:
        """Record the tensors of a call, and whether they are registered."""
        for name, tensor in tensors.items():
            self.passed.setdefault(name, set()).add("variable" if id(tensor) in variables else "tensor")

    @property
    def references(self) -> set[str]:
        """The parameters that receive variables, because the function changes registered tensors in place."""
        changing = {id(node.target) for node in ast.walk(self.source.node) if isinstance(node, ast.AugAssign)}
        stored = {node.id for node in ast.walk(self.source.node) if _rebinds(node) and id(node) not in changing}
        return {name for name in self.changed - stored if self.passed[name] == {"variable"}}

    def callees(self, function: types.FunctionType) -> Iterator[Any]:
        """Yield the callees of a function.

        The wrappers of several decorated functions share one record. Each wrapper calls the function in its closure.
        """
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
        for (what, span), site in self.sites.items():
            if what == "call":
                name = self._called_names.get(span)
                yield from [cells[name].cell_contents] if name in cells and site.hits else site.callees

    @functools.cached_property
    def _called_names(self) -> dict[Span, str]:
        calls = [each for each in ast.walk(self.source.node) if isinstance(each, ast.Call)]
        return {self.source.span(call): call.func.id for call in calls if isinstance(call.func, ast.Name)}

    def touches_tensors(self, within: Span | None = None) -> bool:
        """Whether the function, or the part within a span, uses tensors or dtypes."""
        for (_, span), site in self.sites.items():
            if within is None or (within[:2] <= span[:2] and span[2:] <= within[2:]):
                kinds = {k for each in site.arguments for k in each}
                if {"tensor", "dtype", "variable"} & (site.receivers | site.results | kinds) or site.on_tensor:
                    return True
        return False

    def refusals(self, span: Span, site: Site) -> list[Refusal]:
        """Return the refusals of a place."""
        text = self.source.text(span)
        return [Refusal(self.source.path, span[0], text, cause, fix) for cause, fix in sorted(site.problems)]


def _rebinds(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del))


def is_registered(module: torch.nn.Module, name: str) -> bool:
    """Whether a name of a module is a registered parameter or buffer."""
    tables = (
        vars(module).get("_parameters", {}),
        vars(module).get("_buffers", {}),
    )  # missing before super().__init__()
    return any(table.get(name) is not None for table in tables)
