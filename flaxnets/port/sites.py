"""What the places of a function's source met when it ran."""

import ast
import contextlib
import dataclasses
import functools
import itertools
import types
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flaxnets.port._torch import torch
from flaxnets.port.errors import Refusal
from flaxnets.port.sources import FunctionSource, Span

# Names and dotted paths, each with what it is to a tensor that was changed: the ``"same"`` one, a ``"view"``, the same
# view as another name (``"is y"``), or a container with it ``"inside"``.
Bindings = frozenset[tuple[str, str]]


@dataclasses.dataclass(eq=False)
class Site:
    """What one place of the source met, over all the times that it ran.

    Attributes:
        receivers: kinds of the objects that an attribute was read from, or an index applied to.
        results: kinds of the results; ``"variable"`` for a registered parameter or buffer.
        callees: what was called.
        arguments: kinds of the operands of an operator, or of what was used as an index.
        kinds: the kind of each argument of a call, by position or name; the receiver of a method comes first.
        has_gradient: whether an attribute was a tensor that gradients flow into.
        is_plain: whether JAX's type promotion always gives torch's result.
        outcomes: truth values of a test.
        mutated: the arguments of a call that it changed in place, by position or name.
        returned: the argument that a call returned, by position or name, if it always was the same one.
        changes: for each time that something was changed here, all bindings of what was changed, with how.
        dtypes: those of operands and result, of an operator or a store.
        problems: why what was met cannot be followed.
        parameters: the arguments of a call that were parameters, by position or name; -1 for the receiver.
        passed: functions and classes among the arguments of a call, by position or name.
        is_memo: whether a store keeps what is computed again with the same result.
        matched: classes of torch that objects were found to be instances of.
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
        """What each name and path is to what was changed here; ``"varying"`` if not the same each time."""
        relations: dict[str, str] = {}
        for name, how in itertools.chain(*self.changes):
            relations[name] = how if relations.get(name, how) == how else "varying"
        for change in self.changes:
            names = {name for name, _ in change}
            relations.update({name: "varying" for name in relations if name not in names})
        return relations

    def note_kinds(self, values: Mapping[int | str, Any]) -> None:
        """Note the kinds of a call's arguments, those that were always the same."""
        for key, value in values.items():
            found = argument_kind(value)
            self.kinds[key] = found if self.kinds.get(key, found) == found else ""


EMPTY = Site()


def kind(value: Any) -> str:
    """The word that a site notes for a value."""
    if isinstance(value, torch.Tensor):
        return "tensor"
    if isinstance(value, torch.nn.Module):
        return "module"
    return "none" if value is None else type(value).__name__


def argument_kind(value: Any) -> str:
    """The kind of an argument, in the words of :mod:`flaxnets.port.operators`."""
    for kinds, word in (
        (torch.Tensor, "Tensor"), (bool, "bool"), (int, "int"), (float, "float"), (torch.dtype, "dtype"),
        (torch.device, "device"), (str, "str"), (list, "list"), (tuple, "tuple"),
    ):  # fmt: skip
        if isinstance(value, kinds):
            return word
    return ""


@functools.cache
def promotes_alike(operands: tuple[str, ...], result: str) -> bool:
    """Whether JAX gives operands of these dtypes torch's result dtype, also where it has 64 bits."""
    scalars = {"python bool": True, "python int": 1, "python float": 1.0, "python complex": 1j}
    known = [o for o in operands if o in scalars or not o.startswith("python")]
    with jax.enable_x64(True), contextlib.suppress(TypeError):  # dtypes that JAX has not
        values = [scalars[o] if o in scalars else jnp.dtype(o) for o in known]
        return jnp.result_type(*values) == jnp.dtype(result)
    return False


def dtype_of(value: Any) -> str:
    """The dtype of a tensor or of one of Python's numbers, as text; with the mark ``scalar`` where torch has it."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype).removeprefix("torch.")
    return f"python {type(value).__name__}"


class RecordedFunction:
    """A function's source, and the sites of its places.

    Args:
        source: the function's source.
    """

    def __init__(self, source: FunctionSource):
        self.source = source
        self.sites: dict[tuple[str, Span], Site] = {}
        self.functions: list[types.FunctionType] = []
        self.entered = False

    def site(self, what: str, span: Span) -> Site:
        """The site of a place; an empty one if the place never ran."""
        return self.sites.get((what, span), EMPTY)

    def callees(self, function: types.FunctionType) -> Iterator[Any]:
        """What a function calls: a decorator's, which several functions share, calls the one that it decorates."""
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
        """Whether the function, or a part of it, met tensors or dtypes."""
        for (_, span), site in self.sites.items():
            if within is None or (within[:2] <= span[:2] and span[2:] <= within[2:]):
                kinds = {k for each in site.arguments for k in each}
                if {"tensor", "dtype", "variable"} & (site.receivers | site.results | kinds) or site.on_tensor:
                    return True
        return False

    def refusals(self, span: Span, site: Site) -> list[Refusal]:
        """What a place met that cannot be followed."""
        text = self.source.text(span)
        return [Refusal(self.source.path, span[0], text, cause, fix) for cause, fix in sorted(site.problems)]


def is_registered(module: torch.nn.Module, name: str) -> bool:
    """Whether a name of a module is that of a parameter or buffer."""
    tables = (vars(module).get("_parameters", {}), vars(module).get("_buffers", {}))  # none before torch's constructor
    return any(table.get(name) is not None for table in tables)
