"""In-place operations of torch as new values under the same names: a part of the translator."""

from typing import Any

from flaxnets.port import expressions as ex
from flaxnets.port._torch import libcst as cst
from flaxnets.port.sites import Site

# Methods whose result shows the elements of their receiver.
_VIEWS = {
    "view", "transpose", "permute", "t", "unsqueeze", "squeeze", "narrow", "select", "diagonal", "flatten", "reshape",
    "unfold", "swapaxes", "swapdims", "movedim", "expand", "view_as", "detach", "unflatten",
}  # fmt: skip
_VIEW_ATTRIBUTES = {"T", "mT", "data", "real", "imag"}
_AT_METHODS = {"AddAssign": "add", "SubtractAssign": "subtract", "MultiplyAssign": "multiply", "DivideAssign": "divide"}
_METHODS_AT = {"add_": "add", "sub_": "subtract", "mul_": "multiply", "div_": "divide"}
_ADVANCED = {"tensor", "mask", "list", "ndarray"}


class InPlace:
    """What the translator does about operations that change a tensor."""

    # The translator has these.
    site: Any
    refuse: Any
    reads: Any
    is_tensor: Any
    statements: dict[Any, list[Any]]
    done: dict[int, Any]
    stopped: int

    def rebound(self, site: Site, original: Any, result: Any) -> Any:
        """The result of a call, with new values for what the call changed."""
        if not site.mutated:
            self._check_hidden_changes(site, original)
            return result
        parent = self.reads.parent(original)
        if self._continues(original, parent):
            return result  # the last operation of a chain rebinds
        if isinstance(parent, cst.Expr):
            self.statements[id(parent)] = self._changed_statements(site, original, result)
            return result
        names, others = self._to_rebind(site, original)
        if not names and not others:
            return result
        is_mutated_result = site.returned <= site.mutated and site.returned
        if others or not is_mutated_result or any(self.reads.read_before(n, original) for n in names):
            self._refuse_change(original, [*names, *others])
            return result
        if isinstance(parent, (cst.Assign, cst.AnnAssign)):
            extra = [cst.AssignTarget(cst.Name(name)) for name in names]
            self.statements.setdefault(("targets", id(parent)), []).extend(extra)  # type: ignore[call-overload]
            return result
        for name in names:
            result = cst.NamedExpr(cst.Name(name), result)
        return result

    def _refuse_change(self, original: Any, names: list[str]) -> None:
        self.refuse(
            original, f"This changes in place what {', '.join(sorted(names))} also stands for and is read later.",
            "compute a new tensor under a name of its own (inplace=False, x = x + y).",
        )  # fmt: skip

    def _continues(self, original: Any, parent: Any) -> bool:
        """Whether the result is the receiver of another in-place method."""
        call = self.reads.parent(parent)
        is_receiver = isinstance(parent, cst.Attribute) and parent.value is original
        return (
            is_receiver and isinstance(call, cst.Call) and call.func is parent and -1 in self.site("call", call).mutated
        )

    def _check_hidden_changes(self, site: Site, original: Any) -> None:
        """Refuse where a function deeper down changed what a local name stands for."""
        names = [n for n, how in site.aliases if "." not in n and how != "inside" and self.reads.is_live(n, original)]
        if names:
            self._refuse_change(original, names)

    def _to_rebind(self, site: Site, original: Any) -> tuple[list[str], list[str]]:
        """The names that get the new value, and other bindings, which cannot."""
        names, others = [], []
        targets = self._assigned_names(original)
        for name, how in sorted(site.aliases):
            if "." in name:
                if how == "same" and self._passes(original, name):
                    others.append(name)
            elif name in targets or not self.reads.is_live(name, original):
                continue
            else:
                (names if how == "same" else others).append(name)
        return names, others

    def _passes(self, original: Any, path: str) -> bool:
        arguments = [ex.code(a.value) for a in original.args]
        return path in arguments or ex.code(original.func).startswith(path + ".")

    def _assigned_names(self, original: Any) -> set[str]:
        parent = self.reads.parent(original)
        if isinstance(parent, cst.Assign):
            return {t.target.value for t in parent.targets if isinstance(t.target, cst.Name)}
        return set()

    # A call as a statement.

    def _changed_statements(self, site: Site, original: Any, result: Any) -> list[Any]:
        """The statements for ``x.add_(y)`` and the like."""
        target = self._mutated_expression(site, original)
        if target is None:
            names, others = self._to_rebind(site, original)
            if names or others:
                self._refuse_change(original, [*names, *others])
            return [cst.Expr(result)]
        if -1 not in site.mutated and not (site.returned and site.returned <= site.mutated):
            names, others = self._to_rebind(site, original)
            if names or others:
                self._refuse_change(original, [*names, *others])
            return [cst.Expr(result)]
        method = original.func.attr.value if isinstance(original.func, cst.Attribute) else ""
        return self.store(site, target, result, original, method)

    def _mutated_expression(self, site: Site, original: Any) -> Any:
        """The expression of what a call changed: its receiver, or one of its arguments."""
        keys = site.mutated
        if len(keys) != 1:
            return None
        key = next(iter(keys))
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

    def store(self, site: Site, target: Any, value: Any, original: Any, method: str = "") -> list[Any]:
        """Statements that give ``target``, an expression of the user's, a new value; its aliases too."""
        statements = self._assign(target, value, original, method)
        root = self._root(target)
        names = {n for n, how in site.aliases if "." not in n and self.reads.is_live(n, original)} - {ex.code(root)}
        definitions = []
        for name in sorted(names):
            relation = self._alias_statement(name, dict(site.aliases)[name], target, root, original)
            if relation is None:
                self._refuse_change(original, [name])
            else:
                definitions += relation
        for path, how in sorted(site.aliases):
            if "." in path and how == "same" and isinstance(root, cst.Name) and root is target:
                definitions.append(_assignment(f"{path}[...]", root))
        return statements + definitions

    def _root(self, target: Any) -> Any:
        """What a view is of."""
        while True:
            if isinstance(target, cst.Subscript) and "tensor" in self._subscript_site(target).receivers:
                target = target.value
            elif (
                isinstance(target, cst.Call)
                and isinstance(target.func, cst.Attribute)
                and target.func.attr.value in _VIEWS
            ):
                target = target.func.value
            elif isinstance(target, cst.Attribute) and target.attr.value in _VIEW_ATTRIBUTES and self.is_tensor(target):
                target = target.value
            else:
                return target

    def _subscript_site(self, node: Any) -> Site:
        site = self.site("subscript", node)
        return site if site.hits else self.site("store", node)

    def _alias_statement(self, name: str, how: str, target: Any, root: Any, original: Any) -> list[Any] | None:
        """A statement after which ``name`` shows the change too."""
        if how == "same":
            return [_assignment(name, root)] if root is target else None
        if how != "view" or not isinstance(root, cst.Name):
            return None
        definition = self._definition(name)
        if definition is not None and ex.code(self._root(definition)) == root.value:
            return [_assignment(name, self._translated(definition))]
        mine = self._definition(root.value) if root is target else None
        if mine is not None and ex.code(self._root(mine)) == name:
            return self._assign(mine, root, original, "")
        return None

    def _definition(self, name: str) -> Any:
        """The expression of the only assignment to a name."""
        found = []

        class Assignments(cst.CSTVisitor):
            def visit_Assign(self, node: Any) -> None:
                if any(isinstance(t.target, cst.Name) and t.target.value == name for t in node.targets):
                    found.append(node.value if len(node.targets) == 1 else None)

        self.root.visit(Assignments())  # type: ignore[attr-defined]
        views = [value for value in found if value is not None and self._root(value) is not value]
        return views[0] if len(views) == 1 and len(found) == 1 else None

    def _translated(self, node: Any) -> Any:
        return node.visit(self)

    def _assign(self, target: Any, value: Any, original: Any, method: str) -> list[Any]:
        """Statements for a new value of a name, an attribute, an element, or a view of one of these."""
        base = self._root(target)
        if base is target:
            return [_assignment(self._target_text(base), value)]
        text = self._target_text(base)
        read = self._translated(base)
        if isinstance(target, cst.Subscript) and target.value is base:
            index = self._translated(target).slice
            whole = self._at(read, index, value, method, original)
        else:
            view = ex.parse(f"lambda x: {_replaced(self._translated(target), read)}")
            whole = ex.fill("ops.set_view(b, f, v)", {"b": read, "f": view, "v": value})
        return [_assignment(text, whole)]

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

    def _target_text(self, base: Any) -> str:
        text = ex.code(base)
        if isinstance(base, cst.Attribute) and "variable" in self.site("attribute", base).results:
            return f"{text}[...]"
        return text

    # Assignments.

    def leave_Assign(self, original_node: Any, updated_node: Any) -> Any:
        extra = self.statements.pop(("targets", id(original_node)), None)  # type: ignore[call-overload]
        if extra:
            known = {ex.code(t.target) for t in updated_node.targets}
            added = [t for t in extra if t.target.value not in known]
            updated_node = updated_node.with_changes(targets=[*updated_node.targets, *added])
        updated_node = self._without_gradient(original_node, updated_node)
        target = original_node.targets[0].target
        if len(original_node.targets) == 1:
            special = self._assigned(target, original_node, updated_node)
            if special is not None:
                self.statements[id(original_node)] = special
        return updated_node

    def _without_gradient(self, original: Any, updated: Any) -> Any:
        results = self.site("call", original.value).results | self.site("operator", original.value).results
        if not self.stopped or not results & {"tensor", "tuple", "list"} or not self._in_block(original):
            return updated
        return updated.with_changes(value=ex.fill("jax.lax.stop_gradient(x)", {"x": updated.value}))

    def _in_block(self, node: Any) -> bool:
        return any(self._stops_gradients(each) for each in self.reads.enclosing(node, cst.With))  # type: ignore[attr-defined]

    def _assigned(self, target: Any, original: Any, updated: Any) -> list[Any] | None:
        """The statements for an assignment to an element of a tensor, or to an attribute of one."""
        site = self.site("store", target)
        if isinstance(target, cst.Subscript) and "tensor" in site.receivers:
            return self._store_element(site, target, original, updated)
        if isinstance(target, cst.Attribute) and "tensor" in site.receivers:
            return self._store_attribute(site, target, original, updated)
        return None

    def _store_attribute(self, site: Site, target: Any, original: Any, updated: Any) -> list[Any]:
        is_variable = "variable" in self.site("attribute", target.value).results
        if target.attr.value == "data" and is_variable:
            return [_assignment(f"{ex.code(target.value)}[...]", updated.value)]
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
        base = self._translated(self._root(target))
        return ex.fill("jnp.asarray(v, b.dtype)", {"v": value, "b": base})

    def _store_masked(self, site: Site, target: Any, original: Any, value: Any) -> list[Any]:
        """``x[mask] = value`` chooses between the elements."""
        base = target.value
        ranks = {(int(rank), int(mask), int(new)) for _, _, rank, mask, new in (d for d in site.dtypes if len(d) == 5)}
        if len(ranks) != 1 or len(target.slice) != 1:
            self.refuse(original, "Elements are set by a mask among other indices.", "use jnp.where.")
            return [cst.Pass()]
        ((rank, mask_rank, value_rank),) = ranks
        mask = self._translated(target).slice[0].slice.value
        selected = self._same_mask(original.value, target) if isinstance(original, cst.Assign) else None
        if selected is not None:
            value = selected
        elif value_rank:
            self.refuse(original, "Elements are set by a mask to a tensor.", "use jnp.where with a full tensor.")
        if mask_rank < rank:
            mask = ex.subscript(mask, "(...," + " None," * (rank - mask_rank) + ")")
        chosen = ex.fill("jnp.where(m, v, b)", {"m": mask, "v": value, "b": self._translated(base)})
        if isinstance(original, cst.Assign):
            return self.store(site, base, chosen, original)
        return self.store(site, base, chosen, original)

    def _same_mask(self, value: Any, target: Any) -> Any:
        """For ``x[mask] = y[mask]`` the whole ``y``."""
        if isinstance(value, cst.Subscript) and ex.code(value.slice[0]) == ex.code(target.slice[0]):
            return self._translated(value.value)
        return None

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
        is_plain = isinstance(target.value, (cst.Name, cst.Attribute)) and self._root(target) is target.value
        if symbol in _AT_METHODS and not kinds & _ADVANCED and is_plain:
            base = self._translated(target.value)
            at = cst.Subscript(cst.Attribute(base, cst.Name("at")), element.slice)
            whole = ex.method(at, _AT_METHODS[symbol], value)
            return self.store(site, target.value, whole, original)
        return self.store(site, target, operator.with_changes(left=element, right=value), original)

    def _augmented_name(self, site: Site, symbol: str, original: Any, updated: Any) -> list[Any] | None:
        """``x += y`` stays as it is, unless its dtype or other names need more."""
        if not site.aliases:
            return None
        target = original.target
        widened = [d for d in site.dtypes if len(d) == 3 and d[0] != d[1] and not d[1].startswith("python")]
        whole = ex.parse(f"a {_OPERATORS[symbol]} b").with_changes(left=cst.Name(target.value), right=updated.value)
        if widened:
            whole = ex.fill("x.astype(a.dtype)", {"x": whole, "a": cst.Name(target.value)})
        statements = self.store(site, target, whole, original)
        if len(statements) == 1 and not widened:
            return None
        return statements if widened else [updated, *statements[1:]]

    def small_statements(self, original: Any) -> list[Any]:
        """The translated statements of a line."""
        found = [s for small in original.body for s in self.statements.get(id(small), [self.done[id(small)]]) if s]
        return [s.with_changes(semicolon=cst.MaybeSentinel.DEFAULT) for s in found if not _is_constant(s)]

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        changed = any(id(small) in self.statements for small in original_node.body)
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
    """The text of a view of ``base``, as a view of ``x``."""
    text = ex.code(base)

    class Replace(cst.CSTTransformer):
        def on_leave(self, original_node: Any, updated_node: Any) -> Any:
            is_base = (
                isinstance(original_node, (cst.Name, cst.Attribute, cst.Subscript)) and ex.code(original_node) == text
            )
            return cst.Name("x") if is_base else updated_node

    return ex.code(ex.with_parentheses(tree.visit(Replace())))
