"""Translate one function of a torch model: the same source, with JAX's operations in torch's places."""

import builtins
import dataclasses
import inspect
import types
from collections.abc import Sequence
from typing import Any, Protocol

from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from flaxnets.nn import functional as F
from flaxnets.port import expressions as ex
from flaxnets.port import operators
from flaxnets.port._torch import libcst as cst
from flaxnets.port._torch import torch
from flaxnets.port.errors import Refusal
from flaxnets.port.formatted import formatted
from flaxnets.port.inplace import InPlace
from flaxnets.port.memos import Memos
from flaxnets.port.names import (
    CONSTANT_CALLS,
    IDENTITY_CALLS,
    asks_for_runtime,
    dtype_text,
    function_text,
    is_function_apply,
    is_library,
    is_operator,
    is_torchs,
    is_torchs_definition,
    qualified_name,
)
from flaxnets.port.refusing import Refusing
from flaxnets.port.scope import MISSING, Reads, Scope
from flaxnets.port.sites import EMPTY, RecordedFunction, Site
from flaxnets.port.statements import Statements, literal

# Names that generated code may use without a definition in the user's source.
MODULES = ("jax", "jnp", "np", "math", "nn", "nnx", "F", "ops")

_STATIC_ATTRIBUTES = {"shape", "ndim", "dtype", "itemsize", "nbytes"}
_KEPT_ATTRIBUTES = _STATIC_ATTRIBUTES | {"T", "mT", "real", "imag"}
_FALSE_ATTRIBUTES = {
    "is_cuda", "is_quantized", "is_sparse", "is_mkldnn", "is_nested", "is_mps", "is_xpu", "is_meta", "is_cpu_only",
}  # fmt: skip
_READS_VALUE = {"item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__"}
_CHECKPOINT_OPTIONS = (
    "use_reentrant", "preserve_rng_state", "context_fn", "determinism_check", "debug", "early_stop",
)  # fmt: skip
# Functions that have the same arguments here.
_SAME_ARGUMENTS = {
    **{
        f"torch.nn.utils.rnn.{n}": f"nn.utils.rnn.{n}"
        for n in ("pad_sequence", "unpad_sequence", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence")
    },
    "torch._assert": "ops.assert_values",
    "torch.jit.isinstance": "isinstance",
}


class Namespace(Protocol):
    """Where the translated functions of a port find each other."""

    def name(self, value: Any, hint: str) -> str:
        """The global name of an object of the user's: a function, a class or a constant."""
        ...

    def draws(self, function: Any) -> bool:
        """Whether a function of the user's draws random numbers."""
        ...

    def takes_rngs(self, function: Any) -> bool:
        """Whether a function of the user's has a parameter ``rngs``."""
        ...


@dataclasses.dataclass
class Translation:
    """A translated function.

    Attributes:
        node: the function's new syntax tree.
        globals: what its global names stand for in the user's source.
        refusals: places that cannot be translated.
    """

    node: Any
    globals: dict[str, Any]
    refusals: list[Refusal]


def translate(
    recorded: RecordedFunction, function: types.FunctionType, namespace: Namespace, module_class: type | None
) -> Translation:
    """Translate a recorded function.

    Args:
        recorded: the function's source and what was noted.
        function: the function.
        namespace: the names of other objects of the port.
        module_class: the module class whose method it is.
    """
    translator = Translator(recorded, function, namespace, module_class)
    tree = recorded.source.tree.node
    translated = tree.visit(translator)
    translator.check_names(translated)
    node = ex.with_parentheses(translated)
    return Translation(node, translator.used, translator.refusals)


class Translator(InPlace, Refusing, Statements, Memos, cst.CSTTransformer):
    """Rewrites the tree of one function; see :func:`translate`."""

    def __init__(
        self,
        recorded: RecordedFunction,
        function: types.FunctionType,
        namespace: Namespace,
        module_class: type | None,
    ):
        super().__init__()
        self.recorded, self.namespace, self.module_class = recorded, namespace, module_class
        self.scope = Scope(recorded.source, function)
        self.tree = recorded.source.tree
        self.root = self.tree.node
        self.reads = Reads(self.root, self.tree.span)
        self.refusals: list[Refusal] = []
        self.used: dict[str, Any] = {}
        self.statements: dict[Any, list[Any]] = {}
        self.before: dict[int, list[Any]] = {}  # statements to put before a small statement
        self.unmasked: set[int] = set()  # what computes with whole tensors in the place of what a mask selects
        self.done: dict[int, Any] = {}  # small statements after translation, by their originals; None if removed
        self.variable_names = self._variable_names()
        self.memos: dict[str, str] = {}  # dicts that keep what is computed once: local names by their expressions
        self.stopped = 0  # how many blocks without gradients surround the current place
        self.draws = namespace.draws(function)
        self.has_rngs = namespace.takes_rngs(function)
        self._plain_names: set[int] = set()
        self._tails: dict[int, Sequence[Any]] = {}
        self._suites = {span[:2]: site for (what, span), site in recorded.sites.items() if what == "suite"}

    def on_visit(self, node: Any) -> bool:
        return id(node) not in self._tails and super().on_visit(node)

    def on_leave(self, original_node: Any, updated_node: Any) -> Any:
        if id(original_node) in self._tails:
            tail = self._tails[id(original_node)]
            return self.not_recorded(tail) if tail[0] is original_node else cst.RemoveFromParent()
        left = super().on_leave(original_node, updated_node)
        if isinstance(original_node, cst.BaseSmallStatement):
            self.done[id(original_node)] = left if isinstance(left, cst.BaseSmallStatement) else None
        return left

    # What was noted.

    def site(self, what: str, node: Any) -> Site:
        """What a place met."""
        try:
            return self.recorded.site(what, self.tree.span(node))
        except KeyError:
            return EMPTY

    def refuse(self, node: Any, cause: str, fix: str) -> None:
        """Note that a place cannot be translated."""
        span = self.tree.span(node)
        source = self.recorded.source
        refusal = Refusal(source.path, span[0], source.text(span), cause, fix)
        if refusal not in self.refusals:
            self.refusals.append(refusal)

    def is_tensor(self, attribute: Any) -> bool:
        """Whether an attribute was read from tensors only."""
        return self.site("attribute", attribute).receivers == {"tensor"}

    def _variable_names(self) -> set[str]:
        """Loop variables that stand for parameters of a container."""
        names: set[str] = set()

        class Loops(cst.CSTVisitor):
            def visit_CompFor(visitor, node: Any) -> None:
                target = node.target
                parts = [e.value for e in target.elements] if isinstance(target, cst.Tuple) else [target]
                for kinds in self.site("iterate", node.iter).arguments:
                    for part, what in zip(parts, kinds, strict=False):
                        if what == "parameter" and isinstance(part, cst.Name):
                            names.add(part.value)

            visit_For: Any = visit_CompFor

        self.root.visit(Loops())
        return names

    # Names and values.

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        self._plain_names.add(id(node.attr))
        return not self._is_unreached_attribute(node)

    def _is_unreached_attribute(self, node: cst.Attribute) -> bool:
        return self.is_unreached("attribute", node) and self.scope.static(node) is MISSING

    def visit_Arg(self, node: cst.Arg) -> bool:
        if node.keyword:
            self._plain_names.add(id(node.keyword))
        return True

    def visit_Param(self, node: cst.Param) -> bool:
        self._plain_names.add(id(node.name))
        return True

    def leave_FormattedString(self, original_node: Any, updated_node: Any) -> Any:
        return formatted(updated_node)

    def visit_Assign(self, node: cst.Assign) -> bool:
        self.unmask(node, node.targets[0].target)
        return True

    def visit_AugAssign(self, node: cst.AugAssign) -> bool:
        self.unmask(node, node.target)
        return True

    def visit_AssignTarget(self, node: cst.AssignTarget) -> bool:
        self._keep_targets(node.target)
        return True

    def visit_CompFor(self, node: cst.CompFor) -> bool:
        self._keep_targets(node.target)
        return True

    def visit_For(self, node: cst.For) -> bool:
        self._keep_targets(node.target)
        return True

    def _keep_targets(self, target: Any) -> None:
        if isinstance(target, cst.Name):
            self._plain_names.add(id(target))
        for element in getattr(target, "elements", ()):
            self._keep_targets(element.value)

    def visit_Annotation(self, node: cst.Annotation) -> bool:
        return False

    def leave_Param(self, original_node: cst.Param, updated_node: cst.Param) -> Any:
        return updated_node.with_changes(annotation=None)

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> Any:
        if id(original_node) in self._plain_names:
            return updated_node
        if original_node.value in self.variable_names:
            return ex.subscript(updated_node, "...")
        value = self.scope.lookup(original_node.value)
        if value is MISSING or isinstance(value, types.ModuleType):
            return updated_node
        if original_node.value in self.scope.cells and not is_torchs_definition(value):
            return updated_node  # the enclosing function's variable, which the port makes anew
        return self.value(value, original_node, updated_node)

    def value(self, value: Any, original: Any, updated: Any) -> Any:
        """An expression for an object that a name or path stands for."""
        if isinstance(value, torch.dtype):
            return ex.parse(dtype_text(value))
        if value is torch.Tensor:
            return ex.parse("jax.Array")
        if value is torch.Size:
            return ex.parse("tuple")
        if isinstance(value, type) and issubclass(value, torch.nn.Module) and is_torchs(value):
            return ex.parse(f"nn.{value.__name__}")
        if value is torch.nn.Parameter:
            return ex.parse("nn.Parameter")
        if value is torch.autograd.Function:
            return ex.parse("ops.Function")
        if is_function_apply(value):
            return self.reference(value, original) if isinstance(original, cst.Name) else updated
        if is_torchs_definition(value) and callable(value):
            return self._function_value(value, original, updated)
        text = original.value if isinstance(original, cst.Name) else original.attr.value
        if getattr(builtins, text, MISSING) is value:
            return updated
        return self.reference(value, original)

    def reference(self, value: Any, original: Any) -> Any:
        """The name of an object of the user's."""
        name = self.namespace.name(value, original.value if isinstance(original, cst.Name) else original.attr.value)
        self.used[name] = value
        return cst.Name(name)

    def _function_value(self, value: Any, original: Any, updated: Any) -> Any:
        parent = self.reads.parent(original)
        if isinstance(parent, cst.Call) and parent.func is original:
            return updated  # the call is rewritten as a whole
        text = function_text(value)
        if text is None and isinstance(value, type) and self._matches_nothing(value, original):
            return ex.parse("()")
        if text is None:
            self.refuse(original, f"{getattr(value, '__name__', value)} of torch has no counterpart.", "write it out.")
            return updated
        return ex.parse(text)

    def _matches_nothing(self, kind: type, original: Any) -> bool:
        """Whether a class of torch, in the second argument of ``isinstance``, is one that no object had."""
        call = self.reads.parent(original)
        while isinstance(call, (cst.Arg, cst.Tuple, cst.Element)):
            call = self.reads.parent(call)
        is_test = isinstance(call, cst.Call) and self.scope.static(call.func) is isinstance
        return is_test and kind not in self.site("call", call).matched

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> Any:
        if self._is_unreached_attribute(original_node):
            return self.unreached(original_node)
        updated_node = updated_node.with_changes(attr=original_node.attr)
        value = self.scope.static(original_node)
        if value is not MISSING:
            if isinstance(value, types.ModuleType):
                return updated_node
            return self._static_attribute(value, original_node, updated_node)
        if self._is_store_target(original_node):
            return updated_node
        site = self.site("attribute", original_node)
        if site.receivers == {"tensor"}:
            return self._tensor_attribute(site, original_node, updated_node)
        if "device" in site.receivers:
            return ex.parse({"type": "'cpu'"}.get(original_node.attr.value, "None"))
        if "dtype" in site.receivers and original_node.attr.value == "is_floating_point":
            return ex.fill("jnp.issubdtype(d, jnp.floating)", {"d": updated_node.value})
        if "variable" in site.results:
            return self._read_variable(site, original_node, updated_node)
        return updated_node

    def _static_attribute(self, value: Any, original: Any, updated: Any) -> Any:
        """A path such as ``torch.float32``, ``math.pi`` or ``layers.swish``."""
        root: Any = original
        while isinstance(root, cst.Attribute):
            root = root.value
        module = self.scope.static(root)
        if isinstance(module, types.ModuleType) and is_library(module) and isinstance(root, cst.Name):
            self.used[root.value] = module
            return updated
        return self.value(value, original, updated)

    def _is_store_target(self, node: Any) -> bool:
        parent = self.reads.parent(node)
        if isinstance(parent, (cst.AssignTarget, cst.AugAssign)):
            return parent.target is node
        if isinstance(parent, cst.Element):
            tuples = self.reads.parent(parent)
            return self._is_store_target(tuples) if isinstance(tuples, (cst.Tuple, cst.List)) else False
        return isinstance(parent, (cst.Del, cst.For)) and getattr(parent, "target", node) is node

    def _read_variable(self, site: Site, original: Any, updated: Any) -> Any:
        parent = self.reads.parent(original)
        if isinstance(parent, cst.Attribute) and parent.attr.value in _STATIC_ATTRIBUTES:
            return updated
        is_comparison = isinstance(parent, (cst.Comparison, cst.ComparisonTarget))
        if is_comparison and "is" in ex.code(
            self.reads.parent(original) if isinstance(parent, cst.Comparison) else parent
        ):
            return updated
        read = ex.subscript(updated, "...")
        if "none" not in site.results:
            return read
        return ex.fill("None if a is None else b", {"a": updated, "b": read})

    def _tensor_attribute(self, site: Site, original: Any, updated: Any) -> Any:
        name = original.attr.value
        parent = self.reads.parent(original)
        if isinstance(parent, cst.Call) and parent.func is original:
            return updated
        if name in _KEPT_ATTRIBUTES:
            return updated
        if name == "data":
            return self._data(original, updated)
        if name == "device":
            return ex.parse("None")
        if name in _FALSE_ATTRIBUTES:
            return ex.parse("False")
        if name == "requires_grad" and len(site.outcomes) == 1:
            return ex.parse(str(next(iter(site.outcomes))))
        if name == "H":
            return ex.fill("x.conj().swapaxes(-1, -2)", {"x": updated.value})
        if operators.reason(f"torch.Tensor.{name}") in (None, operators.NOT_IN_TABLE):
            self.refuse(original, f"Tensor.{name} has no counterpart.", "compute it from the shape or from the values.")
        else:
            self.refuse_torchs(original, f"torch.Tensor.{name}")
        return updated

    def _data(self, original: Any, updated: Any) -> Any:
        if "variable" in self.site("attribute", original.value).results:
            base = updated.value
            base = base.value if isinstance(base, cst.Subscript) else base
            return ex.fill("jax.lax.stop_gradient(x[...])", {"x": base})
        return ex.fill("jax.lax.stop_gradient(x)", {"x": updated.value})

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
                original, f"The value of a tensor is read by {name}(), and known only when the program runs.",
                "keep the tensor, and choose by jnp.where or jax.lax.cond.",
            )  # fmt: skip
            return updated
        receiver = cst.Arg(updated.func.value)
        return self.operator(f"torch.Tensor.{name}", [receiver, *updated.args], original, updated, site)

    def _torch_function(self, callee: Any, original: Any, updated: Any) -> Any:
        name = qualified_name(callee)
        if name in CONSTANT_CALLS:
            return ex.parse(CONSTANT_CALLS[name])
        if asks_for_runtime(name) and self.site("call", original).outcomes <= {False}:
            is_answered = bool(self.site("call", original).outcomes)  # without such a runtime it may raise an error
            return ex.parse("False") if is_answered else self.unreached(original)
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
        """The expression of JAX for one of torch's functions or methods."""
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
        """A function with the same keywords, and with a random key where torch draws random numbers."""
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
        """``to`` and ``type``: the device is dropped, the dtype stays."""
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
        """A new random key; in evaluation mode none, if the operation knows its mode."""
        text = f"{self._stream()}()"
        return text if training in (None, "True") else f"{text} if {training} else None"

    def _stream(self) -> str:
        """The random stream: that of the module whose method this is, or the parameter ``rngs``."""
        if self.module_class is None:
            return "rngs"
        parameters = self.recorded.source.node.args
        names = [each.arg for each in (*parameters.posonlyargs, *parameters.args)]
        return f"{names[0] if names else f'{parameters.vararg.arg}[0]'}.rngs"

    def _checkpoint(self, name: str, updated: Any) -> Any:
        kept = [a for a in updated.args if a.keyword is None or a.keyword.value not in _CHECKPOINT_OPTIONS]
        return cst.Call(ex.parse(f"ops.{name}"), _joined(kept))

    def _function_apply(self, callee: Any, original: Any, updated: Any) -> Any:
        """A call of a ``torch.autograd.Function``, whose class is translated."""
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
        self.check_call(callee, original)
        callees = site.callees if callee is MISSING else [callee]
        is_method = any(isinstance(getattr(c, "__self__", None), torch.nn.Module) for c in callees)
        if not is_method and any(self.namespace.draws(c) and self.namespace.takes_rngs(c) for c in callees):
            updated = updated.with_changes(args=_joined([*updated.args, _keyword("rngs", self._stream())]))
        return updated

    def _text_or_type(self, site: Site, callee: Any, updated: Any) -> Any:
        """The class of tensors, and its text."""
        kinds = {kinds[0] for kinds in site.arguments if len(kinds) == 1}
        if callee is type and "tensor" in kinds:
            return updated.with_changes(func=ex.parse("ops.type_of"))
        if callee is str and "device" in kinds:
            return ex.parse("'cpu'")
        return updated.with_changes(func=ex.parse("ops.text_of")) if "_TensorMeta" in kinds else updated

    # Operators.

    def visit_BinaryOperation(self, node: Any) -> bool:
        return not self.is_unreached("operator", node)

    def leave_BinaryOperation(self, original_node: Any, updated_node: Any) -> Any:
        if self.is_unreached("operator", original_node):
            return self.unreached(original_node)
        site = self.site("operator", original_node)
        if site.is_plain:
            return updated_node
        if all(_computes_in_float32(*d) for d in site.dtypes if len(d) == 3):
            side = "left" if all(k[0] == "tensor" for k in site.arguments) else "right"
            operand = getattr(updated_node, side)
            return updated_node.with_changes(**{side: ex.fill("x.astype(jnp.float32)", {"x": operand})})
        name = operators.PYTHON_OPERATORS[
            _AST_NAMES.get(type(original_node.operator), type(original_node.operator).__name__)
        ]
        arguments = [cst.Arg(updated_node.left), cst.Arg(updated_node.right)]
        return self.operator(name, arguments, original_node, updated_node, site)

    def leave_Comparison(self, original_node: Any, updated_node: Any) -> Any:
        """Dtypes are equal, but not identical; devices are known."""
        operands = [original_node.left, *(c.comparator for c in original_node.comparisons)]
        kinds = {k for operand in operands for k in self._kinds_of(operand)}
        if "device" in kinds | self.site("identity", original_node).results:
            outcomes = self.site("compare", original_node).outcomes
            if len(outcomes) == 1:
                return ex.parse(str(next(iter(outcomes))))
        if "dtype" not in kinds:
            return updated_node
        equal = {cst.Is: cst.Equal(), cst.IsNot: cst.NotEqual()}
        return updated_node.with_changes(comparisons=[
            c.with_changes(operator=equal.get(type(c.operator), c.operator)) for c in updated_node.comparisons
        ])  # fmt: skip

    def _kinds_of(self, node: Any) -> set[str]:
        value = self.scope.static(node) if isinstance(node, (cst.Name, cst.Attribute)) else MISSING
        if isinstance(value, (torch.dtype, torch.device)):
            return {type(value).__name__}
        return self.site("attribute", node).results | self.site("call", node).results

    def leave_DictElement(self, original_node: Any, updated_node: Any) -> Any:
        if "dtype" not in self._kinds_of(original_node.key):
            return updated_node
        return updated_node.with_changes(
            key=ex.fill("jnp.dtype(d)", {"d": updated_node.key})
        )  # which has a hash of its own

    def leave_UnaryOperation(self, original_node: Any, updated_node: Any) -> Any:
        if isinstance(updated_node.operator, cst.Not):
            if (known := literal(updated_node.expression)) is not None:
                return cst.Name(str(not known))
            self.check_test(original_node.expression)
        return updated_node

    def leave_BooleanOperation(self, original_node: Any, updated_node: Any) -> Any:
        self.check_test(original_node.left)
        left, right = literal(updated_node.left), literal(updated_node.right)
        stops = isinstance(updated_node.operator, cst.Or)
        if left is not None:
            return updated_node.left if left is stops else updated_node.right
        if right is not None and right is not stops:
            return updated_node.left
        return updated_node

    # Indices.

    def visit_Subscript(self, node: Any) -> bool:
        return not self.is_unreached("subscript", node)

    def leave_Subscript(self, original_node: Any, updated_node: Any) -> Any:
        if self.is_unreached("subscript", original_node):
            return self.unreached(original_node)
        site = self.site("subscript", original_node)
        if (local := self.memos.get(ex.code(original_node.value))) is not None:
            return updated_node.with_changes(value=cst.Name(local))
        if id(original_node) in self.unmasked:
            return updated_node.value
        if "variable" in site.results:
            return ex.subscript(updated_node, "...")
        if "tensor" in site.receivers and any("mask" in kinds for kinds in site.arguments):
            mask, values = (ex.code(part) for part in (original_node.slice[0], original_node.value))
            self.refuse(
                original_node, "A mask as an index gives a result whose shape depends on values.",
                f"keep all elements: torch.where({mask}, {values}, 0), or in JAX jnp.where({mask}, {values}, 0).",
            )  # fmt: skip
        return updated_node

    def leave_Index(self, original_node: Any, updated_node: Any) -> Any:
        if isinstance(updated_node.value, cst.List) and self._indexes_tensor(original_node):
            return updated_node.with_changes(value=ex.fill("np.array(x)", {"x": updated_node.value}))
        return updated_node

    def _indexes_tensor(self, index: Any) -> bool:
        subscript = next(self.reads.enclosing(index, cst.Subscript))
        sites = self.site("subscript", subscript), self.site("store", subscript)
        return any("tensor" in site.receivers for site in sites)


# Helpers.


def _text(node: Any) -> str:
    return ex.code(ex.with_parentheses(node))


def _joined(arguments: Sequence[Any]) -> list[Any]:
    return [a.with_changes(comma=cst.MaybeSentinel.DEFAULT) for a in arguments]


def _keyword(name: str, text: str) -> Any:
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    return cst.Arg(ex.parse(text), keyword=cst.Name(name), equal=equal)


_AST_NAMES: dict[type, str] = {
    cst.Subtract: "Sub", cst.Multiply: "Mult", cst.Divide: "Div", cst.FloorDivide: "FloorDiv", cst.Modulo: "Mod",
    cst.Power: "Pow", cst.MatrixMultiply: "MatMult", cst.LeftShift: "LShift", cst.RightShift: "RShift",
}  # fmt: skip


def _computes_in_float32(left: str, right: str, result: str) -> bool:
    """Whether torch computes in its default dtype where JAX would take its own: integers with a Python float."""
    if result != "float32":
        return False
    whole = ("int", "uint", "bool")
    return all(d.startswith((*whole, "python")) for d in (left, right))
