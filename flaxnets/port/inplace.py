"""Translate in-place operations into new values under the same names. A part of the translator."""

from collections.abc import Iterable
from typing import Any

from flaxnets.port import expressions as ex
from flaxnets.port._torch import libcst as cst
from flaxnets.port.aliasing import Aliasing, nodes
from flaxnets.port.scope import MISSING
from flaxnets.port.sites import Site

_AT_METHODS = {"AddAssign": "add", "SubtractAssign": "subtract", "MultiplyAssign": "multiply", "DivideAssign": "divide"}
_METHODS_AT = {"add_": "add", "sub_": "subtract", "mul_": "multiply", "div_": "divide"}
# Functions that compute element by element.
_ELEMENTWISE = {
    "abs", "add", "ceil", "clamp", "clip", "cos", "div", "exp", "expm1", "floor", "log", "log1p", "mul", "neg", "pow",
    "reciprocal", "relu", "round", "rsqrt", "sigmoid", "sign", "sin", "sqrt", "square", "sub", "tan", "tanh", "trunc",
}  # fmt: skip
# Compound statements with expressions that run before the block.
_HEADS = (cst.If, cst.While, cst.For, cst.With, cst.Try)
_ADVANCED = {"tensor", "mask", "list", "ndarray"}


class InPlace(Aliasing):
    """Translate operations that change a tensor. A part of the translator."""

    # Attributes and methods that the translator defines.
    refuse: Any
    statements: dict[Any, list[Any]]
    before: dict[int, list[Any]]
    unmasked: set[int]
    store_memo: Any
    store_memos: Any
    done: dict[int, Any]
    stopped: int
    by_reference: Any

    # Calls.

    def rebound(self, site: Site, original: Any, result: Any) -> Any:
        """Return the translated call, and add the statements that assign the new values of changed tensors."""
        parent = self.reads.parent(original)
        if site.mutated and site.mutated <= self.by_reference(original):
            passed = {self.owner(self.base(self._argument(key, original))) for key in site.mutated}
            others = {name: how for name, how in self.relations(site, original).items() if name not in passed}
            if others := [name for name, how in others.items() if "." not in name or how != "same"]:
                self._refuse_change(original, others)
            return result  # the function changes variables
        if not site.mutated or self._continues(original, parent):
            self._check_hidden_changes(site, original)
            return result  # the last operation of a chain assigns the new value
        relations = self.relations(site, original)
        target = self._mutated_expression(site, original)
        if isinstance(parent, cst.Expr):
            self.statements[id(parent)] = self._changed_statements(site, target, original, result)
            return result
        assigned = self._assigned_names(parent)
        relations = {name: how for name, how in relations.items() if name not in assigned}
        if not relations:
            return result
        if any(self.reads.read_before(name, original) for name in relations) or not self._gives_changed(site):
            self._refuse_change(original, relations)
            return result
        is_simple = set(relations.values()) == {"same"} and not any("." in name for name in relations)
        if is_simple and isinstance(parent, (cst.Assign, cst.AnnAssign)):
            extra = [cst.AssignTarget(cst.Name(name)) for name in sorted(relations)]
            self.statements.setdefault(("targets", id(parent)), []).extend(extra)  # type: ignore[call-overload]
            return result
        return self._hoisted(site, target, original, result)

    def _hoisted(self, site: Site, target: Any, original: Any, result: Any) -> Any:
        """Move the change into statements before the current statement, and return the changed tensor."""
        statement = self._statement(original)
        if statement is None or target is None or not self._is_assignable(self.base(target)):
            self._refuse_change(original, self.relations(site, original))
            return result
        self.before.setdefault(id(statement), []).extend(self.store(site, target, result, original, _method(original)))
        return self._translated(target)

    def _statement(self, node: Any) -> Any:
        """Return the simple statement that contains a node; None if the node does not run in each run of it."""
        optional = (cst.IfExp, cst.BooleanOperation, cst.Lambda, cst.CompFor, cst.BaseComp, cst.Comparison)
        for each in self.reads.enclosing(node, cst.BaseSmallStatement, cst.BaseSuite, *optional, *_HEADS):
            return each if isinstance(each, cst.BaseSmallStatement) else None
        return None

    def _refuse_change(self, original: Any, names: Iterable[str]) -> None:
        listed = ", ".join(sorted(name.removesuffix("[...]") for name in names))
        self.refuse(
            original, f"This changes in place a tensor that {listed} also refers to and that is read later.",
            "compute a new tensor under a new name (inplace=False, x = x + y).",
        )  # fmt: skip

    def _continues(self, original: Any, parent: Any) -> bool:
        """Whether another in-place method is called on the result."""
        call = self.reads.parent(parent)
        is_receiver = isinstance(parent, cst.Attribute) and parent.value is original
        return (
            is_receiver and isinstance(call, cst.Call) and call.func is parent and -1 in self.site("call", call).mutated
        )

    def _gives_changed(self, site: Site) -> bool:
        """Whether a call returns the tensor that it changes."""
        return bool(site.returned) and site.returned <= site.mutated

    def _check_hidden_changes(self, site: Site, original: Any) -> None:
        """Refuse a call in which a called function changed the tensor of a local name."""
        if site.mutated:
            return
        names = [name for name in site.aliases() if "." not in name and self.reads.is_live(name, original)]
        if names:
            self._refuse_change(original, names)

    def _assigned_names(self, parent: Any) -> set[str]:
        if isinstance(parent, cst.Assign):
            return {t.target.value for t in parent.targets if isinstance(t.target, cst.Name)}
        return set()

    # A call as a statement.

    def _changed_statements(self, site: Site, target: Any, original: Any, result: Any) -> list[Any]:
        """Return the statements for a call whose result is not used, such as ``x.add_(y)``."""
        is_function = -1 not in site.mutated and not self._gives_changed(site)
        if target is None or is_function or not self._is_assignable(self.base(target)):
            if relations := self.relations(site, original):
                self._refuse_change(original, relations)
            return [cst.Expr(result)]
        return self.store(site, target, result, original, _method(original))

    def _is_assignable(self, base: Any) -> bool:
        if isinstance(base, cst.Name):
            return base.value in self.scope.locals and base.value not in self.scope.cells
        if isinstance(base, cst.Subscript):
            return isinstance(base.value, (cst.Name, cst.Attribute))
        return isinstance(base, cst.Attribute)

    def _mutated_expression(self, site: Site, original: Any) -> Any:
        """Return the expression of the tensor that a call changed (receiver or argument); None if it is not unique."""
        expressions = {}
        for key in site.mutated:
            node = self._argument(key, original)
            expressions[ex.code(node) if node is not None else None] = node
        return next(iter(expressions.values())) if len(expressions) == 1 else None

    def _argument(self, key: int | str, original: Any) -> Any:
        if key == -1:
            node = original.func.value
            while (
                isinstance(node, cst.Call)
                and isinstance(node.func, cst.Attribute)
                and -1 in self.site("call", node).mutated
            ):
                node = node.func.value
            return node
        if isinstance(key, str):
            return next((a.value for a in original.args if a.keyword and a.keyword.value == key), None)
        positional = [a for a in original.args if a.keyword is None]
        if any(a.star for a in positional) or key >= len(positional):
            return None
        return positional[key].value

    # Stores.

    def store(self, site: Site, target: Any, value: Any, original: Any, method: str = "") -> list[Any]:
        """Return the statements that assign a new value to ``target`` (the user's expression) and to its aliases."""
        root = self.base(target)
        if not self._is_assignable(root):
            self._refuse_change(original, [ex.code(root)])
            return []
        relations, owner = self.relations(site, original), self.owner(root)
        how = site.aliases().pop(owner, None)
        relations.pop(owner, None)
        if how is None and target is not root:  # the changed tensor is a copy
            if relations:
                self._refuse_change(original, relations)
            return [cst.Expr(value)]
        if how in ("varying", "inside twice"):
            self._refuse_change(original, [owner, *relations])
        statements = self._assign(target, value, original, method)
        is_whole = how == "same" or (how == "inside" and _changed(original, target) is root)
        assignments = self.derived(relations, root, is_whole, original)
        if assignments is None:
            self._refuse_change(original, relations)
            return statements
        known = {owner}
        for name, definition in assignments:
            if definition is None:
                view, definition = self.changed_view(name, known, original) or ("", None)
                statements += self._assign(definition, ex.parse(view), original, "")
            else:
                statements.append(_assignment(name, self._translated(definition)))
            known.add(name)
        return statements

    def _translated(self, node: Any) -> Any:
        return node.visit(self) if id(node) in self.reads.parents else node

    def _assign(self, target: Any, value: Any, original: Any, method: str) -> list[Any]:
        """Return the statements that assign to a name, an attribute, an element, or a view of one of these."""
        base, is_cut = self.base(target), self.is_cut(target)
        target = self.without_cut(target)
        if self.is_part(base):
            return self._assign_part(base, target, value, original, method)
        is_attribute = isinstance(base, cst.Attribute)
        read = ex.parse(self.target_text(base)) if is_attribute else self._translated(base)
        if base is target:
            whole = value
        elif isinstance(target, cst.Subscript) and self.without_cut(target.value) is base:
            index = self._translated(target).slice
            whole = self._at(read, index, value, method, original)
        else:
            view = ex.parse(f"lambda x: {_replaced(self._translated(target), read)}")
            whole = ex.fill("ops.set_view(b, f, v)", {"b": read, "f": view, "v": value})
        if is_cut or (self.stopped and self._in_block(original)):
            whole = self._without_gradient_of_change(base, read, whole)
        return [_assignment(self.target_text(base), whole)]

    def _assign_part(self, part: Any, target: Any, value: Any, original: Any, method: str) -> list[Any]:
        """Return the statements that assign a new real or imaginary part."""
        if target is not part:
            self.refuse(
                original, "A view of the real or imaginary part is changed.", "make the tensor with torch.complex."
            )
            return []
        parts = "v, b.imag" if part.attr.value == "real" else "b.real, v"
        whole = ex.fill(f"jax.lax.complex({parts})", {"b": self._translated(part.value), "v": value})
        return self._assign(part.value, whole, original, "")

    def _without_gradient_of_change(self, base: Any, read: Any, whole: Any) -> Any:
        """Return the new value with the gradient of the tensor before the change, as in torch."""
        is_attribute = isinstance(base, cst.Attribute)
        if is_attribute and not (self.site("attribute", base).has_gradient or self.site("store", base).has_gradient):
            return ex.fill("jax.lax.stop_gradient(x)", {"x": whole})
        return ex.fill("ops.with_value(b, v)", {"b": read, "v": whole})

    def _at(self, base: Any, index: Any, value: Any, method: str, original: Any) -> Any:
        arguments = original.args if isinstance(original, cst.Call) else ()
        simple = {"zero_": "0", "fill_": None, "copy_": None}
        at = cst.Subscript(cst.Attribute(base, cst.Name("at")), index)
        is_plain = not isinstance(original, cst.Call) or not _is_chain(original)
        if method == "zero_" and is_plain:
            return ex.method(at, "set", ex.parse("0"))
        if method in simple and is_plain and len(arguments) == 1:
            return ex.method(at, "set", self._translated(arguments[0].value))
        if method in _METHODS_AT and is_plain and len(arguments) == 1:
            return ex.method(at, _METHODS_AT[method], self._translated(arguments[0].value))
        return ex.method(at, "set", value)

    # Assignments.

    def leave_AnnAssign(self, original_node: Any, updated_node: Any) -> Any:
        """Drop the annotation, which may name classes of torch."""
        if updated_node.value is None:
            return cst.RemoveFromParent()
        extra = self.statements.pop(("targets", id(original_node)), [])  # type: ignore[call-overload]
        return cst.Assign([cst.AssignTarget(updated_node.target), *extra], updated_node.value)

    def leave_Assign(self, original_node: Any, updated_node: Any) -> Any:
        extra = self.statements.pop(("targets", id(original_node)), None)  # type: ignore[call-overload]
        if extra:
            known = {ex.code(t.target) for t in updated_node.targets}
            added = [t for t in extra if t.target.value not in known]
            updated_node = updated_node.with_changes(targets=[*updated_node.targets, *added])
        updated_node = self._without_gradient(original_node, updated_node)
        target = original_node.targets[0].target
        self._check_targets(original_node)
        if len(original_node.targets) == 1:
            special = self._assigned(target, original_node, updated_node)
        else:
            special = self.store_memos(original_node, updated_node)
        if special is not None:
            self.statements[id(original_node)] = special
        return updated_node

    def _check_targets(self, original: Any) -> None:
        """Refuse an assignment to several targets if one of them is an element of a tensor."""
        is_single = len(original.targets) == 1 and isinstance(original.targets[0].target, cst.Subscript)
        for target in () if is_single else original.targets:
            if any(self._is_element(node) for node in nodes(target)):
                self.refuse(
                    original, "One of several targets is an element of a tensor.", "use one assignment per target."
                )

    def _is_element(self, node: Any) -> bool:
        return isinstance(node, cst.Subscript) and "tensor" in self.site("store", node).receivers

    def _without_gradient(self, original: Any, updated: Any) -> Any:
        results = self.site("call", original.value).results | self.site("operator", original.value).results
        if not self.stopped or not results & {"tensor", "tuple", "list"} or not self._in_block(original):
            return updated
        return updated.with_changes(value=ex.fill("jax.lax.stop_gradient(x)", {"x": updated.value}))

    def _in_block(self, node: Any) -> bool:
        return any(self._stops_gradients(each) for each in self.reads.enclosing(node, cst.With))  # type: ignore[attr-defined]

    def _assigned(self, target: Any, original: Any, updated: Any) -> list[Any] | None:
        """Return the statements for an assignment to an element or an attribute of a tensor; None for others."""
        site = self.site("store", target)
        if isinstance(target, cst.Subscript) and "tensor" in site.receivers:
            return self._store_element(site, target, original, updated)
        if isinstance(target, cst.Subscript) and site.is_memo:
            return [self.store_memo(target, updated.value)]
        if isinstance(target, cst.Attribute) and "tensor" in site.receivers:
            return self._store_attribute(site, target, original, updated)
        return None

    def _store_attribute(self, site: Site, target: Any, original: Any, updated: Any) -> list[Any]:
        is_variable = "variable" in self.site("attribute", target.value).results
        if target.attr.value == "data" and is_variable:
            text = f"{ex.code(target.value)}[...]"
            return [_assignment(text, ex.fill("ops.with_value(b, v)", {"b": ex.parse(text), "v": updated.value}))]
        flag = ex.code(original.value) if target.attr.value == "requires_grad" else ""
        if flag == "True" or (flag == "False" and not site.has_gradient):
            return []  # JAX needs no flag: gradients are taken with respect to parameters and inputs
        self.refuse(original, f"The attribute {target.attr.value} of a tensor is set.", "assign a new tensor instead.")
        return [updated]

    def _store_element(self, site: Site, target: Any, original: Any, updated: Any) -> list[Any]:
        kinds = {k for each in site.arguments for k in each}
        value = self._cast(site, updated.value, target)
        if "mask" in kinds:
            return self._store_masked(site, target, original, value)
        return self.store(site, target, value, original)

    def _cast(self, site: Site, value: Any, target: Any) -> Any:
        needs = any(
            (not right.startswith("python") and left != right) or (right == "python float" and "int" in left)
            for left, right, *_ in site.dtypes
        )
        if not needs:
            return value
        base = self._translated(self.base(target))
        return ex.fill("jnp.asarray(v, b.dtype)", {"v": value, "b": base})

    def _store_masked(self, site: Site, target: Any, original: Any, value: Any) -> list[Any]:
        """Translate ``x[mask] = value`` to ``jnp.where``."""
        base = target.value
        ranks = {(int(rank), int(mask), int(new)) for _, _, rank, mask, new in (d for d in site.dtypes if len(d) == 5)}
        if len(ranks) != 1 or len(target.slice) != 1:
            self.refuse(original, "Elements are set by a mask among other indices.", "use jnp.where.")
            return [cst.Pass()]
        ((rank, mask_rank, value_rank),) = ranks
        mask = self._translated(target).slice[0].slice.value
        if value_rank and id(original) not in self.unmasked:
            self.refuse(original, "Elements are set by a mask to a tensor.", "use jnp.where with a full tensor.")
        if mask_rank < rank:
            mask = ex.subscript(mask, "(...," + " None," * (rank - mask_rank) + ")")
        chosen = ex.fill("jnp.where(m, v, b)", {"m": mask, "v": value, "b": self._translated(base)})
        return self.store(site, base, chosen, original)

    def unmask(self, statement: Any, target: Any) -> None:
        """Replace ``y[mask]`` by ``y`` in ``x[mask] = f(y[mask])`` with an element-wise ``f``."""
        if not isinstance(target, cst.Subscript) or len(target.slice) != 1:
            return
        mask = ex.code(target.slice[0].slice)
        if not any("mask" in kinds for kinds in self.site("store", target).arguments):
            return
        selections: list[Any] = []
        if self._is_elementwise(statement.value, mask, selections) and selections:
            self.unmasked |= {id(statement), *map(id, selections)}

    def _is_elementwise(self, node: Any, mask: str, selections: list[Any]) -> bool:
        """Whether an expression is element-wise in numbers and in selections by ``mask``. Collects the selections."""
        match node:
            case cst.Subscript() if len(node.slice) == 1 and ex.code(node.slice[0].slice) == mask:
                selections.append(node)
                return True
            case cst.BinaryOperation():
                is_product = isinstance(node.operator, cst.MatrixMultiply)
                sides = node.left, node.right
                return not is_product and all(self._is_elementwise(side, mask, selections) for side in sides)
            case cst.UnaryOperation():
                return self._is_elementwise(node.expression, mask, selections)
            case cst.Call(func=cst.Attribute(attr=cst.Name(value=name))) if name in _ELEMENTWISE:
                function: Any = node.func
                is_function = self.scope.static(function) is not MISSING
                operands = [] if is_function else [function.value]
                operands += [argument.value for argument in node.args]
                return all(self._is_elementwise(operand, mask, selections) for operand in operands)
        return isinstance(node, (cst.Integer, cst.Float))

    def leave_AugAssign(self, original_node: Any, updated_node: Any) -> Any:
        target = original_node.target
        symbol = type(original_node.operator).__name__
        if isinstance(target, cst.Subscript):
            site = self.site("store", target)
            if "tensor" in site.receivers:
                self.statements[id(original_node)] = self._augmented_element(site, symbol, original_node, updated_node)
        elif isinstance(target, cst.Name):
            site = self.site("operator", original_node)
            special = self._augmented_name(site, symbol, original_node, updated_node)
            if special is not None:
                self.statements[id(original_node)] = special
        elif isinstance(target, cst.Attribute):
            special = self._augmented_attribute(self.site("store", target), symbol, original_node, updated_node)
            if special is not None:
                self.statements[id(original_node)] = special
        return updated_node

    def _augmented_element(self, site: Site, symbol: str, original: Any, updated: Any) -> list[Any]:
        target = original.target
        kinds = {k for each in site.arguments for k in each}
        value = self._cast(site, updated.value, target)
        operator = ex.parse(f"a {_OPERATORS[symbol]} b")
        element = self._translated(target)
        if "mask" in kinds:
            element = self._translated(target.value)
            return self._store_masked(site, target, original, operator.with_changes(left=element, right=value))
        is_plain = isinstance(target.value, (cst.Name, cst.Attribute)) and self.base(target) is target.value
        if symbol in _AT_METHODS and not kinds & _ADVANCED and is_plain:
            base = self._translated(target.value)
            at = cst.Subscript(cst.Attribute(base, cst.Name("at")), element.slice)
            whole = ex.method(at, _AT_METHODS[symbol], value)
            return self.store(site, target.value, whole, original)
        return self.store(site, target, operator.with_changes(left=element, right=value), original)

    def _augmented_name(self, site: Site, symbol: str, original: Any, updated: Any) -> list[Any] | None:
        """Return statements for ``x += y``; None to keep it, if the dtype stays and no other name is affected."""
        if not site.changes:
            return None
        target = original.target
        dtypes = [d for d in site.dtypes if len(d) == 3 and not d[0].startswith("python")]
        widened = [d for d in dtypes if d[0] != d[1] and not d[1].startswith("python")]
        read = ex.parse(self.target_text(target))
        whole = ex.parse(f"a {_OPERATORS[symbol]} b").with_changes(left=read, right=updated.value)
        if widened:
            whole = ex.fill("x.astype(a.dtype)", {"x": whole, "a": read})
        statements = self.store(site, target, whole, original)
        if widened or (self.stopped and self._in_block(original)):
            return statements
        return None if len(statements) == 1 else [updated, *statements[1:]]

    def _augmented_attribute(self, site: Site, symbol: str, original: Any, updated: Any) -> list[Any] | None:
        """Return statements for ``self.x += y``; None to keep it, if gradients and other names are not affected."""
        is_stopped = self.stopped and self._in_block(original)
        others = {name for name in self.relations(site, original) if name != self.owner(original.target)}
        if not site.changes or not (is_stopped or others):
            return None
        read = ex.parse(self.target_text(original.target))
        whole = ex.parse(f"a {_OPERATORS[symbol]} b").with_changes(left=read, right=updated.value)
        return self.store(site, original.target, whole, original)

    def small_statements(self, original: Any) -> list[Any]:
        """Return the translated statements of a line."""
        translated = []
        for small in original.body:
            translated += self.before.get(id(small), [])
            translated += [s for s in self.statements.get(id(small), [self.done.get(id(small), small)]) if s]
        single = [s.with_changes(semicolon=cst.MaybeSentinel.DEFAULT) for s in translated]
        return [s for s in single if not _is_constant(s)]

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        changed = any(id(small) in self.statements or id(small) in self.before for small in original_node.body)
        lines = self.small_statements(original_node)
        if not lines:
            return cst.RemoveFromParent()
        if not changed:
            return updated_node.with_changes(body=lines)
        first = updated_node.with_changes(body=[lines[0]])
        rest = [cst.SimpleStatementLine([s]) for s in lines[1:]]
        return cst.FlattenSentinel([first, *rest])


_OPERATORS = {
    "AddAssign": "+", "SubtractAssign": "-", "MultiplyAssign": "*", "DivideAssign": "/", "FloorDivideAssign": "//",
    "ModuloAssign": "%", "PowerAssign": "**", "MatrixMultiplyAssign": "@", "BitAndAssign": "&", "BitOrAssign": "|",
    "BitXorAssign": "^", "LeftShiftAssign": "<<", "RightShiftAssign": ">>",
}  # fmt: skip


def _assignment(target: str, value: Any) -> Any:
    return cst.Assign([cst.AssignTarget(ex.parse(target))], value)


def _method(original: Any) -> str:
    """Return the name of the called method; empty for other nodes."""
    function: Any = original.func if isinstance(original, cst.Call) else None
    return function.attr.value if isinstance(function, cst.Attribute) else ""


def _changed(original: Any, target: Any) -> Any:
    """Return the expression of the changed tensor. For an assignment to an element, this is the indexed tensor."""
    if isinstance(original, cst.Assign) and isinstance(original.targets[0].target, cst.Subscript):
        return original.targets[0].target.value
    if isinstance(original, cst.AugAssign) and isinstance(original.target, cst.Subscript):
        return original.target.value
    return target


def _is_chain(call: Any) -> bool:
    receiver = call.func.value if isinstance(call.func, cst.Attribute) else None
    return (
        isinstance(receiver, cst.Call)
        and isinstance(receiver.func, cst.Attribute)
        and receiver.func.attr.value.endswith("_")
    )


def _is_constant(statement: Any) -> bool:
    constants = (cst.SimpleString, cst.Integer, cst.Name, cst.ConcatenatedString)
    return (
        isinstance(statement, cst.Expr)
        and isinstance(statement.value, constants)
        and ex.code(statement) in ("None", "True", "False")
    )


def _is_docstring(line: Any) -> bool:
    return (
        len(line.body) == 1 and isinstance(line.body[0], cst.Expr) and isinstance(line.body[0].value, cst.SimpleString)
    )


def _replaced(tree: Any, base: Any) -> str:
    """Return the text of a view of ``base`` with ``base`` replaced by ``x``."""
    text = ex.code(base)

    class Replace(cst.CSTTransformer):
        def on_leave(self, original_node: Any, updated_node: Any) -> Any:
            is_base = (
                isinstance(original_node, (cst.Name, cst.Attribute, cst.Subscript)) and ex.code(original_node) == text
            )
            return cst.Name("x") if is_base else updated_node

    return ex.code(ex.with_parentheses(tree.visit(Replace())))
