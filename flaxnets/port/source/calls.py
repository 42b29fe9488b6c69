"""Translate calls in constructors: initializers, random numbers and buffers. A part of the source translator."""

import ast
import copy
import enum
import functools
import itertools
from collections.abc import Sequence
from typing import Any

from flaxnets.port import expressions as ex
from flaxnets.port import operators
from flaxnets.port._torch import libcst as cst
from flaxnets.port._torch import torch
from flaxnets.port.calling import variable
from flaxnets.port.names import is_torchs
from flaxnets.port.scope import MISSING
from flaxnets.port.sites import Site
from flaxnets.port.source.constants import READS
from flaxnets.port.source.needs import initialiser, utility

_CALLS_ARGUMENT = (map, itertools.starmap, torch.nn.Module.apply)
_STATE_DICT_HOOKS = {
    getattr(torch.nn.Module, name) for name in dir(torch.nn.Module) if "register" in name and "state_dict" in name
}
_FILLED = {"zeros": "jnp.zeros_like(x)", "ones": "jnp.ones_like(x)"}
COMMA = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
# The arguments of initializers after the tensor, in torch's order.
INITIALISER_ARGUMENTS = {
    "normal": ("mean", "std"), "uniform": ("a", "b"), "trunc_normal": ("mean", "std", "a", "b"), "constant": ("val",),
    "orthogonal": ("gain",), "sparse": ("sparsity", "std"), "dirac": ("groups",), "xavier_normal": ("gain",),
    "xavier_uniform": ("gain",), "kaiming_normal": ("a", "mode", "nonlinearity"),
    "kaiming_uniform": ("a", "mode", "nonlinearity"),
}  # fmt: skip


class BuildingCalls:
    """Translate calls in constructors. A part of the source translator."""

    # Attributes and methods that the translator defines.
    builds: bool
    references: Any
    unmet: Any
    reads: Any
    scope: Any
    site: Any
    is_tensor: Any
    statements: dict[Any, list[Any]]
    rebound: Any

    def is_nothing(self, callee: Any, site: Site) -> bool:
        """Whether a call has no effect in Flax: the base constructor, logging, or a weights enum that returns None."""
        if _is_empty_constructor(callee):
            return True
        recorded = self.references.space.recorded(callee)
        inner = [c for (what, _), s in recorded.sites.items() if what == "call" for c in s.callees] if recorded else []
        if getattr(callee, "__func__", None) in _STATE_DICT_HOOKS:
            return True
        if any(getattr(c, "__name__", "") == "_log_api_usage_once" and is_torchs(c) for c in inner):
            return True
        return site.results == {"none"} and isinstance(getattr(callee, "__self__", None), enum.EnumMeta)

    def _registered(self, original: Any, updated: Any) -> bool:
        """Translate ``self.register_buffer("name", value)`` to an assignment. Returns False for other calls."""
        arguments = list(updated.args)
        is_statement = (
            isinstance(self.reads.parent(original), cst.Expr) and ex.code(original.func) == "self.register_buffer"
        )
        names = [a.keyword.value if a.keyword else None for a in arguments]
        if not is_statement or len(arguments) < 2 or names[:2] != [None, None] or {*names[2:]} - {None, "persistent"}:
            return False
        name, value = arguments[0].value, arguments[1].value
        literal = name.raw_value if isinstance(name, cst.SimpleString) else ""
        if not literal.isidentifier() or self.site("call", original).kinds.get(1) != "Tensor":
            return False
        persistent = [keyword("persistent", a.value) for a in arguments[2:]]
        call = cst.Call(ex.parse("nn.Buffer"), [cst.Arg(value), *persistent])
        assignment = cst.Assign([cst.AssignTarget(ex.parse(f"self.{literal}"))], call)
        self.statements[id(self.reads.parent(original))] = [assignment]
        return True

    def building_call(self, site: Site, original: Any, updated: Any) -> Any:
        if self._registered(original, updated):
            return updated
        callee = self.scope.static(original.func)
        if initialiser(callee):
            value = self._initialised(initialiser(callee), original, updated)
            if site.hits:
                return self.rebound(site, original, value)
            target = ex.parse(f"{ex.code(variable(updated.args[0].value))}[...]")
            self.statements[id(self.reads.parent(original))] = [cst.Assign([cst.AssignTarget(target)], value)]
            return updated
        if callee is torch.nn.init.calculate_gain:
            return updated.with_changes(func=ex.parse("nn.init.calculate_gain"))
        if callee in (torch.as_tensor, torch.asarray) and site.returned == {0}:
            return updated.args[0].value
        if callee in (torch.Tensor, torch.FloatTensor) and site.kinds and "Tensor" not in site.kinds.values():
            return _legacy_tensor(site, updated)
        if callee is copy.deepcopy and set(site.arguments) == {("module",)}:
            return updated.with_changes(func=ex.parse("nnx.clone"))
        if path := utility(callee):
            return self._with_rngs([callee], updated.with_changes(func=ex.parse(path)))
        if isinstance(original.func, cst.Attribute) and self.is_tensor(original.func):
            return _building_method(original.func.attr.value, updated)
        return None

    def _initialised(self, name: str | None, original: Any, updated: Any) -> Any:
        """Return the new value of ``nn.init.f_(x, ...)`` as an expression."""
        arguments = {a.keyword.value: a for a in updated.args if a.keyword}
        positional = [a for a in updated.args if not a.keyword]
        tensor = (arguments.pop("tensor", None) or positional.pop(0)).value
        arguments.pop("generator", None)
        site = self.site("call", original)
        is_parameter = not site.hits or bool(site.parameters & {0, "tensor"})
        value = ex.subscript(variable(tensor), "...") if is_parameter else tensor
        if name in _FILLED:
            return ex.fill(_FILLED[name], {"x": value})
        names = INITIALISER_ARGUMENTS.get(str(name), ())
        values = {
            **dict(zip(names, (a.value for a in positional), strict=False)),
            **{k: a.value for k, a in arguments.items()},
        }
        if name == "constant":
            return ex.fill("jnp.full_like(x, v)", {"x": value, "v": values["val"]})
        key = "rngs.params()" if self.references.needs.of(self.scope.static(original.func)) else "None"
        call = ex.fill(f"nn.init.{name}({key}, x.shape, x.dtype)", {"x": variable(tensor)})
        return call.with_changes(args=[*call.args, *[keyword(k, v) for k, v in values.items()]])

    def _other_call(self, site: Site, callee: Any, original: Any, updated: Any) -> Any:
        if not self.builds:
            return super()._other_call(site, callee, original, updated)  # type: ignore[misc]
        if callee in (getattr, setattr):
            return updated
        callees = site.callees or ([callee] if callee is not MISSING else self.unmet.callees(original))
        updated = self._with_passed(site, callees, updated)
        return self._with_rngs(callees, updated)

    def _with_passed(self, site: Site, callees: Sequence[Any], updated: Any) -> Any:
        """Bind ``rngs`` with ``functools.partial`` to functions that are passed to ``apply`` or ``map``."""
        if not any(getattr(c, "__func__", c) in _CALLS_ARGUMENT for c in callees):
            return updated
        arguments = list(updated.args)
        for key, value in site.passed.items():
            if isinstance(key, int) and self.references.needs.of(value):
                self.references.use_module("functools", functools)
                bound = ex.fill("functools.partial(f, rngs=rngs)", {"f": arguments[key].value})
                arguments[key] = arguments[key].with_changes(value=bound)
        return updated.with_changes(args=arguments)

    def _with_rngs(self, callees: Sequence[Any], updated: Any) -> Any:
        needs = [self.references.needs.of(callee) for callee in callees]
        if not any(needs):
            return updated
        added = appended(updated, keyword("rngs", cst.Name("rngs")))
        if all(needs):
            return added
        helper = cst.Name(self.references.use_helper("_make"))
        return added.with_changes(func=helper, args=[cst.Arg(updated.func, comma=COMMA), *added.args])


def _building_method(name: str, call: Any) -> Any:
    """Return a tensor method that is translated differently in constructors; None for other methods."""
    if name in READS and not call.args:
        return ex.fill(READS[name], {"x": call.func.value})
    return {"requires_grad_": call, "detach": call.func.value}.get(name)


def _legacy_tensor(site: Site, call: Any) -> Any:
    """Return the translation of ``torch.Tensor(...)``, whose arguments are sizes or numbers."""
    sizes = cst.Tuple([cst.Element(a.value) for a in call.args])
    template = "jnp.empty(size, jnp.float32)" if set(site.kinds.values()) == {"int"} else "jnp.array(x, jnp.float32)"
    return ex.fill(template, {"size": ex.parenthesized(sizes), "x": call.args[0].value})


def pass_through(name: str) -> str | None:
    """Return the function that accepts the same arguments as a torch function; None if there is none."""
    for row in operators.find(name):
        template = row.plain
        if (
            isinstance(template, ast.Call)
            and [ast.unparse(a) for a in template.args] == ["..."]
            and not template.keywords
        ):
            return ast.unparse(template.func)
    return None


def keyword(name: str, value: Any) -> Any:
    """Return an argument ``name=value``."""
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    return cst.Arg(value, keyword=cst.Name(name), equal=equal)


def appended(call: Any, argument: Any) -> Any:
    """Return the call with an additional argument, formatted like the others."""
    arguments = list(call.args)
    if not arguments:
        return call.with_changes(args=[argument])
    last, between = arguments[-1], COMMA
    if len(arguments) > 1 and isinstance(arguments[-2].comma, cst.Comma):
        between = arguments[-2].comma
    elif isinstance(call.whitespace_before_args, cst.ParenthesizedWhitespace):
        between = cst.Comma(whitespace_after=call.whitespace_before_args)
    arguments[-1] = last.with_changes(comma=between, whitespace_after_arg=cst.SimpleWhitespace(""))
    return call.with_changes(
        args=[*arguments, argument.with_changes(comma=last.comma, whitespace_after_arg=last.whitespace_after_arg)]
    )


def _is_empty_constructor(callee: Any) -> bool:
    function = getattr(callee, "__func__", callee)
    is_object_init = type(callee).__name__ == "method-wrapper" and callee.__name__ == "__init__"
    return is_object_init or function is torch.nn.Module.__init__
