"""Translate calls: functions and methods of torch, and functions of the model. A part of the translator."""

import inspect
from collections.abc import Sequence
from typing import Any

from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from flaxnets.nn import functional as F
from flaxnets.port import expressions as ex
from flaxnets.port import operators
from flaxnets.port._torch import libcst as cst
from flaxnets.port._torch import torch
from flaxnets.port.names import (
    CONSTANT_CALLS,
    IDENTITY_CALLS,
    asks_for_runtime,
    inner_function,
    is_function_apply,
    is_operator,
    qualified_name,
)
from flaxnets.port.scope import MISSING
from flaxnets.port.sites import Site

_READS_VALUE = {"item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__"}
_CHECKPOINT_OPTIONS = (
    "use_reentrant", "preserve_rng_state", "context_fn", "determinism_check", "debug", "early_stop",
)  # fmt: skip
# Functions of torch with the same arguments in flaxnets or Python.
_SAME_ARGUMENTS = {
    **{
        f"torch.nn.utils.rnn.{n}": f"nn.utils.rnn.{n}"
        for n in ("pad_sequence", "unpad_sequence", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence")
    },
    "torch.func.functional_call": "nn.utils.stateless.functional_call",
    "torch.nn.utils.stateless.functional_call": "nn.utils.stateless.functional_call",
    "torch._assert": "ops.assert_values",
    "torch.jit.isinstance": "isinstance",
}


class Calls:
    """Translate calls. A part of the translator."""

    # Attributes and methods that the translator defines.
    check_call: Any
    is_tensor: Any
    is_unreached: Any
    module_class: Any
    namespace: Any
    rebound: Any
    recorded: Any
    refuse: Any
    scope: Any
    site: Any
    unreached: Any

    # Calls.

    def visit_Call(self, node: cst.Call) -> bool:
        return not self.is_unreached("call", node)

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> Any:
        if self.is_unreached("call", original_node):
            return self.unreached(original_node)
        site = self.site("call", original_node)
        function = original_node.func
        callee = self.scope.static(function)
        if isinstance(function, cst.Name) and function.value == "super":
            return updated_node
        is_numel = isinstance(function, cst.Attribute) and function.attr.value == "numel"
        if is_numel and self.site("attribute", function).receivers == {"Size"}:
            return ex.fill("math.prod(s)", {"s": cst.ensure_type(updated_node.func, cst.Attribute).value})
        if callee is MISSING and isinstance(function, cst.Attribute) and self.is_tensor(function):
            result = self._tensor_method(site, original_node, updated_node)
        elif callee is not MISSING and is_operator(callee):
            result = self._torch_function(callee, original_node, updated_node)
        else:
            result = self._other_call(site, callee, original_node, updated_node)
        return self.rebound(site, original_node, result)

    def _tensor_method(self, site: Site, original: Any, updated: Any) -> Any:
        name = original.func.attr.value
        if name in _READS_VALUE:
            self.refuse(
                original, f"The value of a tensor is read by {name}(), and is known only when the program runs.",
                "keep the tensor, and select by jnp.where or jax.lax.cond.",
            )  # fmt: skip
            return updated
        receiver = cst.Arg(updated.func.value)
        return self.operator(f"torch.Tensor.{name}", [receiver, *updated.args], original, updated, site)

    def _torch_function(self, callee: Any, original: Any, updated: Any) -> Any:
        name = qualified_name(callee)
        if name in CONSTANT_CALLS:
            return ex.parse(CONSTANT_CALLS[name])
        if asks_for_runtime(name) and self.site("call", original).outcomes <= {False}:
            has_returned = bool(self.site("call", original).outcomes)  # the call may raise without this runtime
            return ex.parse("False") if has_returned else self.unreached(original)
        if callee is checkpoint or callee is checkpoint_sequential:
            return self._checkpoint(callee.__name__, updated)
        if name in _SAME_ARGUMENTS:
            return updated.with_changes(func=ex.parse(_SAME_ARGUMENTS[name]))
        if is_function_apply(callee):
            return self._function_apply(callee, original, updated)
        if name in IDENTITY_CALLS:
            return updated.args[IDENTITY_CALLS[name]].value
        return self.operator(name, list(updated.args), original, updated, self.site("call", original))

    def operator(self, name: str, arguments: Sequence[Any], original: Any, updated: Any, site: Site) -> Any:
        """Return JAX's expression for a function or method of torch."""
        converted = self._conversion(name.rpartition(".")[2], arguments)
        if converted is not None:
            return converted
        named = {a.keyword.value: _text(a.value) for a in arguments if a.keyword and a.keyword.value != "out"}
        if any(a.star == "**" for a in arguments):
            plain = name.rpartition(".")[2]
            if name == f"torch.nn.functional.{plain}" and hasattr(F, plain):
                return self._same_keywords(name, plain, updated)
            self.refuse(original, f"{name} is called with **keywords.", "write its keywords out.")
            return updated
        positional = [a.star + _text(a.value) for a in arguments if not a.keyword]
        training = named.get("training", positional[2] if len(positional) > 2 and "dropout" in name else None)
        kinds = {key: kind for key, kind in site.kinds.items() if kind}
        call = operators.Call(name, positional, named, kinds, site.is_plain, self.key(training))
        try:
            return ex.parse(operators.translate(call).expression)
        except operators.UntranslatableError as error:
            cause, _, fix = str(error).partition(" Fix: ")
            fix = fix or self._missing_row(name, positional)
            self.refuse(original, f"{cause.rstrip('.')}.", f"{fix}.")
            return updated

    def _same_keywords(self, name: str, plain: str, updated: Any) -> Any:
        """Return a call with the same keywords; functions that draw random numbers get a key."""
        arguments = list(updated.args)
        if operators.draws(name):
            takes_dropout = "dropout_key" in inspect.signature(getattr(F, plain)).parameters
            arguments.append(_keyword("dropout_key" if takes_dropout else "key", self.key(None)))
        return updated.with_changes(func=ex.parse(f"F.{plain}"), args=_joined(arguments))

    def _missing_row(self, name: str, arguments: Sequence[str]) -> str:
        if name == "torch.where" and len(arguments) == 1:
            return "the shape of its result depends on values: use torch.where(condition, a, b), which keeps the shape"
        return "write it with supported operations"

    def _conversion(self, name: str, arguments: Sequence[Any]) -> Any:
        """Translate ``to`` and ``type``: drop the device, keep the dtype."""
        if name not in ("to", "type") or not arguments or (name == "type" and len(arguments) == 1):
            return None
        receiver, targets = arguments[0].value, []
        for argument in arguments[1:]:
            text = ex.code(argument.value)
            keyword = argument.keyword.value if argument.keyword else ""
            if keyword in ("device", "non_blocking", "copy", "memory_format") or text in ("None", "True", "False"):
                continue
            targets.append((text, argument.value))
        if not targets:
            return receiver
        text, target = targets[-1]
        if text.startswith("jnp.") or text.endswith("dtype") or text in ("int", "float", "bool", "complex"):
            return ex.method(receiver, "astype", target)
        return ex.parse(f"ops.to(x, {text})").with_changes(
            args=_joined([cst.Arg(receiver), *[cst.Arg(t) for _, t in targets]])
        )

    def key(self, training: str | None) -> str:
        """Return a new random key; None in evaluation mode, if the operation has a mode."""
        text = f"{self._stream()}()"
        return text if training in (None, "True") else f"{text} if {training} else None"

    def _stream(self) -> str:
        """Return the random stream: the module's attribute in methods, else the parameter ``rngs``."""
        if self.module_class is None:
            return "rngs"
        parameters = self.recorded.source.node.args
        names = [each.arg for each in (*parameters.posonlyargs, *parameters.args)]
        return f"{names[0] if names else f'{parameters.vararg.arg}[0]'}.rngs"

    def _checkpoint(self, name: str, updated: Any) -> Any:
        arguments = [a for a in updated.args if a.keyword is None or a.keyword.value not in _CHECKPOINT_OPTIONS]
        return cst.Call(ex.parse(f"ops.{name}"), _joined(arguments))

    def _function_apply(self, callee: Any, original: Any, updated: Any) -> Any:
        """Translate a call of a ``torch.autograd.Function``."""
        if self.namespace.draws(callee.__self__.forward):
            self.refuse(
                original, f"{callee.__self__.__name__} draws random numbers in forward.",
                "draw them outside, and pass them as an argument.",
            )  # fmt: skip
        return updated

    def _other_call(self, site: Site, callee: Any, original: Any, updated: Any) -> Any:
        if callee is torch.nn.Parameter or callee is torch.Size:
            return updated
        if callee in (getattr, setattr) and "variable" in site.results:
            return ex.subscript(updated, "...")
        if callee is torch.device:
            return ex.parse("None")
        if callee is str or callee is repr or callee is type:
            updated = self._text_or_type(site, callee, updated)
        if site.is_memo:
            return updated.with_changes(func=updated.func.with_changes(attr=cst.Name("get")))
        updated = self._with_variables(original, updated)
        self.check_call(callee, original)
        callees = site.callees if callee is MISSING else [callee]
        is_method = any(isinstance(getattr(c, "__self__", None), torch.nn.Module) for c in callees)
        if not is_method and any(self.namespace.draws(c) and self.namespace.takes_rngs(c) for c in callees):
            updated = updated.with_changes(args=_joined([*updated.args, _keyword("rngs", self._stream())]))
        return updated

    def by_reference(self, original: Any) -> set[int | str]:
        """Return the positions and names of the arguments whose variables the called function changes."""
        found: list[set[int | str]] = []
        for callee in self.site("call", original).callees:
            recorded = self.namespace.recorded(inner_function(callee))
            names = recorded.source.parameters if recorded else []
            changed = recorded.references if recorded else set()
            offset = inspect.ismethod(callee)
            found.append({*changed, *(i - offset for i, name in enumerate(names) if name in changed)})
        return set.intersection(*found) if found else set()

    def _with_variables(self, original: Any, updated: Any) -> Any:
        """Return the call with variables in place of values, for arguments that the called function changes."""
        references = self.by_reference(original)
        if not references:
            return updated
        keys = [a.keyword.value if a.keyword else i for i, a in enumerate(updated.args)]
        arguments = [
            a.with_changes(value=variable(a.value)) if key in references else a
            for key, a in zip(keys, updated.args, strict=True)
        ]
        return updated.with_changes(args=arguments)

    def _text_or_type(self, site: Site, callee: Any, updated: Any) -> Any:
        """Translate ``type(x)`` of a tensor, ``str(device)``, and the text of a tensor class."""
        kinds = {kinds[0] for kinds in site.arguments if len(kinds) == 1}
        if callee is type and "tensor" in kinds:
            return updated.with_changes(func=ex.parse("ops.type_of"))
        if callee is str and "device" in kinds:
            return ex.parse("'cpu'")
        return updated.with_changes(func=ex.parse("ops.text_of")) if "_TensorMeta" in kinds else updated


def variable(tensor: Any) -> Any:
    """Return the variable ``x`` of ``x[...]``; any other expression unchanged."""
    return tensor.value if isinstance(tensor, cst.Subscript) and ex.code(tensor).endswith("[...]") else tensor


def _text(node: Any) -> str:
    return ex.code(ex.with_parentheses(node))


def _joined(arguments: Sequence[Any]) -> list[Any]:
    return [a.with_changes(comma=cst.MaybeSentinel.DEFAULT) for a in arguments]


def _keyword(name: str, text: str) -> Any:
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    return cst.Arg(ex.parse(text), keyword=cst.Name(name), equal=equal)
