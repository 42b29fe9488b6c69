"""Translate one function of a torch model: keep its source, and replace torch operations by JAX operations."""

import builtins
import dataclasses
import types
from collections.abc import Sequence
from typing import Any, Protocol

from flaxnets.port import expressions as ex
from flaxnets.port import operators
from flaxnets.port._torch import libcst as cst
from flaxnets.port._torch import torch
from flaxnets.port.calling import Calls
from flaxnets.port.errors import Refusal
from flaxnets.port.formatted import formatted
from flaxnets.port.inplace import InPlace
from flaxnets.port.memos import Memos
from flaxnets.port.names import (
    dtype_text,
    function_text,
    is_function_apply,
    is_library,
    is_torchs,
    is_torchs_definition,
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


class Namespace(Protocol):
    """The global names of the translated functions of a port."""

    def name(self, value: Any, hint: str) -> str:
        """Return the global name of a function, class or constant of the model."""
        ...

    def draws(self, function: Any) -> bool:
        """Return whether a function of the model draws random numbers."""
        ...

    def takes_rngs(self, function: Any) -> bool:
        """Return whether a function of the model has a parameter ``rngs``."""
        ...

    def recorded(self, function: Any) -> RecordedFunction | None:
        """Return the record of a function; None if the function did not run."""
        ...


@dataclasses.dataclass
class Translation:
    """A translated function.

    Attributes:
        node: The new syntax tree of the function.
        globals: The objects of the user's source that its global names refer to.
        refusals: The places that cannot be translated.
    """

    node: Any
    globals: dict[str, Any]
    refusals: list[Refusal]


def translate(
    recorded: RecordedFunction, function: types.FunctionType, namespace: Namespace, module_class: type | None
) -> Translation:
    """Translate a recorded function.

    Args:
        recorded: The source of the function and the record of its runs.
        function: The function.
        namespace: The global names of other objects of the port.
        module_class: The module class, if the function is a method of one.
    """
    translator = Translator(recorded, function, namespace, module_class)
    tree = recorded.source.tree.node
    translated = tree.visit(translator)
    translator.check_names(translated)
    node = ex.with_parentheses(translated)
    return Translation(node, translator.used, translator.refusals)


class Translator(InPlace, Refusing, Statements, Calls, Memos, cst.CSTTransformer):
    """Rewrite the tree of one function. See :func:`translate`."""

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
        # Expressions that use whole tensors instead of the elements that a mask selects.
        self.unmasked: set[int] = set()
        self.done: dict[int, Any] = {}  # small statements after translation, by their originals; None if removed
        self.variable_names = self._variable_names() | recorded.references
        self.memos: dict[str, str] = {}  # local names of the dicts that are caches, by the dicts' expressions
        self.stopped = 0  # number of enclosing blocks without gradients, such as torch.no_grad()
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

    # Records and refusals.

    def site(self, what: str, node: Any) -> Site:
        """Return the record of a node."""
        try:
            return self.recorded.site(what, self.tree.span(node))
        except KeyError:
            return EMPTY

    def refuse(self, node: Any, cause: str, fix: str) -> None:
        """Add a refusal: a place that cannot be translated."""
        span = self.tree.span(node)
        source = self.recorded.source
        refusal = Refusal(source.path, span[0], source.text(span), cause, fix)
        if refusal not in self.refusals:
            self.refusals.append(refusal)

    def is_tensor(self, attribute: Any) -> bool:
        """Return whether an attribute was only read from tensors."""
        return self.site("attribute", attribute).receivers == {"tensor"}

    def _variable_names(self) -> set[str]:
        """Return the names of loop variables that iterate over parameters of a container."""
        names: set[str] = set()
        site = self.site

        class Loops(cst.CSTVisitor):
            def visit_CompFor(self, node: Any) -> None:
                target = node.target
                parts = [e.value for e in target.elements] if isinstance(target, cst.Tuple) else [target]
                for kinds in site("iterate", node.iter).arguments:
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
            return updated_node  # a variable of the enclosing function, which the port sets
        return self.value(value, original_node, updated_node)

    def value(self, value: Any, original: Any, updated: Any) -> Any:
        """Return an expression for the object of a name or path."""
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
        """Return the name of an object of the model."""
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
        """Whether a torch class is an argument of an ``isinstance`` call that no object matched."""
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
        """Translate a path such as ``torch.float32``, ``math.pi`` or ``layers.swish``."""
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
        """Compare dtypes by ``==`` instead of ``is``, and replace comparisons of devices by their result."""
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
        )  # jnp.float32 and jnp.dtype("float32") have different hashes

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


_AST_NAMES: dict[type, str] = {
    cst.Subtract: "Sub", cst.Multiply: "Mult", cst.Divide: "Div", cst.FloorDivide: "FloorDiv", cst.Modulo: "Mod",
    cst.Power: "Pow", cst.MatrixMultiply: "MatMult", cst.LeftShift: "LShift", cst.RightShift: "RShift",
}  # fmt: skip


def _computes_in_float32(left: str, right: str, result: str) -> bool:
    """Return whether PyTorch promotes integers and a Python float to float32."""
    if result != "float32":
        return False
    whole = ("int", "uint", "bool")
    return all(d.startswith((*whole, "python")) for d in (left, right))
